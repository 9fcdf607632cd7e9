"""Following a notebook as it runs: progress for a person, and a whole copy for after a kill."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imetlib.delivery.executed import coalesce_streams, is_code, settle_running
from imetlib.delivery.parameters import read_notebook
from imetlib.files import replacing

if TYPE_CHECKING:
    from imetlib.delivery.notebooks import RunResult

AUTOSAVE_SECONDS = 30
_LONG_CELL_SECONDS = 1.0


class RunProgress:
    """Follows the cells of one run: which one is running, and since when; tells it on stderr, and
    saves the notebook so far.

    Args:
        source: the notebook.
        progress: as in `run_notebook`.
        working: what papermill writes, in place.
        target: the output, replaced as a whole by copies of `working`.
        num_injected: int. Cells that papermill adds.
    """

    def __init__(
        self, source: Path, progress: bool, working: Path, target: Path, num_injected: int
    ):
        self.source = source
        self.working = working
        self.target = target
        self.cell_index = -1
        self.notebook: Any = None
        self.num_cells = len(read_notebook(source).cells) + num_injected
        self.started = time.monotonic()
        self.progress = progress
        self.bar: Any = None
        self.saving = threading.Lock()
        self.stop_ticking = threading.Event()
        if progress and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.num_cells, desc=source.stem, unit="cell", leave=False)
        self.ticking = threading.Thread(target=self._tick, daemon=True)
        self.ticking.start()

    def start_cell(self, cell: Any, cell_index: int) -> None:
        self.started = time.monotonic()
        if is_code(cell):
            self.cell_index = cell_index
            self.save()
        elif self.bar and cell.source.startswith("#"):
            self.bar.set_postfix_str(cell.source.splitlines()[0].lstrip("# ")[:40])
        if self.bar:
            self.bar.n = cell_index
            self.bar.refresh()

    def end_cell(self, cell: Any, cell_index: int, **reply: Any) -> None:
        coalesce_streams(cell)
        seconds = time.monotonic() - self.started
        if self.progress and not self.bar and seconds >= _LONG_CELL_SECONDS:
            self._say(f"  cell {cell_index + 1} of {self.num_cells}  {seconds:.1f} s")

    def save(self) -> None:
        """Replaces the output by papermill's working copy, with true states."""
        with self.saving:
            running = self.cell_index
            try:
                self.notebook = read_notebook(self.working)
            except ValueError:
                return  # papermill is just writing it
            settle_running(self.notebook, running)
            # A full disk ends no run of hours here: the end of the run tells it.
            with suppress(OSError):
                save_notebook(self.notebook, self.source, self.target)

    def close(self) -> None:
        self.stop_ticking.set()
        self.ticking.join()
        if self.bar:
            self.bar.close()

    def finish(self, result: RunResult) -> None:
        if self.progress:
            outcome = f"exit {result.exit_code}: {result.error}" if result.error else "ok"
            self._say(f"{self.source.stem}  {result.seconds:.1f} s  {outcome}")

    def _tick(self) -> None:
        seconds = 0
        # A bar that stands still through a long cell looks dead.
        while not self.stop_ticking.wait(1):
            seconds += 1
            if self.bar:
                self.bar.refresh()
            if seconds % AUTOSAVE_SECONDS == 0 and self.cell_index >= 0:
                self.save()

    @staticmethod
    def _say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def save_notebook(notebook: Any, source: Path, target: Path) -> None:
    """Replaces the output by a notebook, as a whole."""
    import nbformat

    # The names alone: a path would publish whose machine this was.
    notebook.metadata.papermill.update(input_path=source.name, output_path=target.name)
    with replacing(target) as temporary:
        nbformat.write(notebook, temporary)
