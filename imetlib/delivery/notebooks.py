"""Running a notebook in batch: checked parameters, a whole output file, an honest exit code.

papermill runs the cells. What it leaves to the caller is done here: it only warns about unknown
parameters, it calls cells completed that never ran when the kernel dies or a cell times out, and
a run that is killed leaves a cut file.
"""

from __future__ import annotations

import math
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imetlib.delivery.executed import (
    EXIT_BAD_CALL,
    EXIT_CELL_RAISED,
    EXIT_KERNEL_DIED,
    EXIT_OK,
    EXIT_TIMEOUT,
    clean_notebook,
    coalesce_streams,
    is_code,
    settle,
)
from imetlib.delivery.parameters import check_parameters, read_notebook
from imetlib.files import replacing

__all__ = ["RunResult", "clean_notebook", "find_notebook", "run_notebook"]

_ANSI_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONG_CELL_SECONDS = 1.0


@dataclass(frozen=True)
class RunResult:
    """What happened to one notebook.

    Args:
        path: the executed notebook, None where nothing was run. It is there after a failure
            too, with the outputs so far and the true state of every cell in its metadata.
        exit_code: 0 all cells ran, 1 a cell raised (or left the notebook early), 2 bad call or
            parameter, 3 a cell ran past its time, 4 the kernel died.
        error: str. Why, in a sentence; empty after 0.
        seconds: float. Wall time, the start of the kernel included.
    """

    path: Path | None
    exit_code: int
    error: str
    seconds: float


def run_notebook(
    name: str | Path,
    output: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    timeout_seconds: float | None = None,
    progress: bool = True,
) -> RunResult:
    """Executes a notebook in a fresh kernel and saves the executed copy, whatever happens.

    The working directory of the notebook is the folder of `output`: what it writes under a
    relative name lies beside it. The kernel is always `python3`, that of this environment.

    Args:
        name: as in `find_notebook`.
        output: the `.ipynb` to write, or a folder: the notebook keeps its name there.
        parameters: name to value, checked by `check_parameters` before anything starts.
        timeout_seconds: float or None. Time a single cell may take.
        progress: whether to report on stderr: a bar where a person watches, else a line for
            each cell of a second or more and one for the notebook.

    Returns:
        `RunResult`; it tells a failure, nothing is raised for one.

    Raises:
        KeyboardInterrupt, SystemExit: when stopped from outside (Ctrl-C, SIGTERM), after the
            partial notebook is saved.
    """
    import nbformat

    start = time.monotonic()
    try:
        source = find_notebook(name)
        parameters = check_parameters(source, parameters or {})
        target = _resolve_output(source, output)
        if timeout_seconds is not None and not timeout_seconds > 0:
            raise ValueError(
                f"`timeout_seconds` must be positive. Received: timeout_seconds={timeout_seconds}"
            )
    except ValueError as error:
        return RunResult(None, EXIT_BAD_CALL, str(error), time.monotonic() - start)
    reporter = _Reporter(source, progress, num_injected=bool(parameters))
    stopped: BaseException | None = None
    with replacing(target) as temporary:
        try:
            with _sigterm_raises():
                _execute(source, temporary, parameters, timeout_seconds, reporter)
            exit_code, reason = EXIT_OK, ""
        except Exception as raised:
            exit_code, reason = _explain(raised, timeout_seconds)
        except BaseException as raised:
            exit_code, reason = EXIT_KERNEL_DIED, f"stopped by {type(raised).__name__}"
            stopped = raised
        reporter.close()
        nothing_ran = exit_code != EXIT_OK and reporter.cell_index < 0
        if nothing_ran:
            # An older result keeps its place.
            temporary.unlink(missing_ok=True)
        else:
            notebook = read_notebook(temporary)
            exit_code, reason = settle(notebook, reporter.cell_index, exit_code, reason)
            # The names alone: a path would publish whose machine this was.
            notebook.metadata.papermill.update(input_path=source.name, output_path=target.name)
            nbformat.write(notebook, temporary)
    path = None if nothing_ran else target
    result = RunResult(path, exit_code, reason, time.monotonic() - start)
    reporter.finish(result)
    if stopped is not None:
        raise stopped
    return result


def find_notebook(name: str | Path) -> Path:
    """The file of a notebook: `"08"`, `"08_submission"`, or a path.

    Args:
        name: a path to an `.ipynb`, or the beginning of a name in the `notebooks` folder of
            the working directory, of one above it, or of the checkout this package lies in.

    Raises:
        ValueError: no notebook of that name, or several; the known ones are listed.
    """
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    here = Path.cwd()
    roots = [here, *here.parents, Path(__file__).resolve().parents[2]]
    folder = next((root / "notebooks" for root in roots if any(_list(root / "notebooks"))), None)
    known = _list(folder) if folder else []
    stem = path.stem if path.suffix == ".ipynb" else str(name)
    found = [file for file in known if file.stem == stem] or [
        file for file in known if file.stem.split("_")[0] == stem
    ]
    if len(found) != 1:
        listed = ", ".join(file.stem for file in known) or "none (no folder `notebooks` here)"
        what = "several notebooks" if found else "no notebook"
        raise ValueError(f"{what} named {str(name)!r}. Known: {listed}")
    return found[0].resolve()


def _list(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.ipynb"))


def _resolve_output(source: Path, output: str | Path) -> Path:
    target = Path(output)
    if target.suffix != ".ipynb":
        target = target / source.name
    target = target.resolve()
    if target == source:
        raise ValueError(f"{target}: is the notebook itself; give another output.")
    return target


def _execute(
    source: Path,
    output: Path,
    parameters: Mapping[str, Any],
    timeout_seconds: float | None,
    reporter: _Reporter,
) -> None:
    import papermill

    papermill.execute_notebook(
        str(source),
        str(output),
        parameters=dict(parameters),
        kernel_name="python3",
        language="python",
        cwd=str(output.parent),
        progress_bar=False,
        # nbclient counts whole seconds
        execution_timeout=timeout_seconds and math.ceil(timeout_seconds),
        # the kernel's own log would repeat on the terminal what `reporter` says
        extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        on_cell_start=reporter.start_cell,
        on_cell_executed=reporter.end_cell,
    )


def _explain(raised: Exception, timeout_seconds: float | None) -> tuple[int, str]:
    """Exit code and reason of what papermill raised."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(raised, PapermillExecutionError):
        reason = _ANSI_COLOURS.sub("", f"{raised.ename}: {raised.evalue}")
        return EXIT_CELL_RAISED, f"raised {reason}"
    if isinstance(raised, CellTimeoutError):
        return EXIT_TIMEOUT, f"ran past {timeout_seconds:g} s and was stopped"
    if isinstance(raised, NoSuchKernel):
        return EXIT_BAD_CALL, "no kernel `python3` here: pip install ipykernel"
    if isinstance(raised, DeadKernelError):
        return EXIT_KERNEL_DIED, "the kernel died; memory that ran out is the usual reason"
    reason = " ".join(str(raised).split())[:200]
    return EXIT_KERNEL_DIED, f"the kernel failed: {type(raised).__name__}: {reason}"


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM as SystemExit, so that the kernel is shut down and the partial notebook saved."""

    def stop(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Reporter:
    """Follows the cells of one run: which one is running, and since when; tells it on stderr."""

    def __init__(self, source: Path, progress: bool, num_injected: int):
        self.name = source.stem
        self.cell_index = -1
        self.num_cells = len(read_notebook(source).cells) + num_injected
        self.started = time.monotonic()
        self.progress = progress
        self.bar: Any = None
        self.stop_ticking = threading.Event()
        if progress and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.num_cells, desc=self.name, unit="cell", leave=False)
            threading.Thread(target=self._tick, daemon=True).start()

    def start_cell(self, cell: Any, cell_index: int) -> None:
        self.started = time.monotonic()
        if is_code(cell):
            self.cell_index = cell_index
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

    def close(self) -> None:
        self.stop_ticking.set()
        if self.bar:
            self.bar.close()

    def finish(self, result: RunResult) -> None:
        if self.progress:
            outcome = f"exit {result.exit_code}: {result.error}" if result.error else "ok"
            self._say(f"{self.name}  {result.seconds:.1f} s  {outcome}")

    def _tick(self) -> None:
        # A bar that stands still through a long cell looks dead.
        while not self.stop_ticking.wait(1):
            self.bar.refresh()

    @staticmethod
    def _say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
