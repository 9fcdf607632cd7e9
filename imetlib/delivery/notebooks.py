"""Running a notebook in batch: checked parameters, a whole output file, an honest exit code.

papermill runs the cells. What it leaves to the caller is done here: it only warns about unknown
parameters, it calls cells completed that never ran when the kernel dies or a cell times out, and
a run that is killed leaves a cut file, or a kernel that goes on.
"""

from __future__ import annotations

import math
import re
import signal
import sys
import tempfile
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
    settle,
)
from imetlib.delivery.parameters import check_parameters, read_notebook
from imetlib.delivery.run_progress import AUTOSAVE_SECONDS, RunProgress, save_notebook

__all__ = ["RunResult", "clean_notebook", "find_notebook", "run_notebook"]

_ANSI_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


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

    The copy is replaced as a whole when a cell starts and every 30 s in a long one, so that what
    ran before a kill is there too; the cell that was cut is "running" in it. The kernel ends with
    this process. It is always `python3`, that of this environment, and its working directory the
    folder of `output`: what the notebook writes under a relative name lies beside it.

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
        KeyboardInterrupt, SystemExit: when stopped from outside (Ctrl-C; SIGTERM, with 143),
            after the partial notebook is saved.
        OSError: the copy cannot be written.
    """
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
    stopped: BaseException | None = None
    with _sigterm_raises(), tempfile.TemporaryDirectory() as folder:
        # papermill writes in place, so it writes here.
        working = Path(folder) / target.name
        follower = RunProgress(source, progress, working, target, num_injected=bool(parameters))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _execute(source, working, target.parent, parameters, timeout_seconds, follower)
            exit_code, reason = EXIT_OK, ""
        except Exception as raised:
            exit_code, reason = _explain(raised, timeout_seconds)
        except BaseException as raised:
            exit_code, reason = EXIT_KERNEL_DIED, f"stopped by {type(raised).__name__}"
            stopped = raised
        follower.close()
        # Where nothing ran, an older result keeps its place.
        nothing_ran = exit_code != EXIT_OK and follower.notebook is None
        if not nothing_ran:
            try:
                notebook = read_notebook(working)
            except ValueError:
                notebook = follower.notebook  # stopped while papermill wrote
            exit_code, reason = settle(notebook, follower.cell_index, exit_code, reason)
            save_notebook(notebook, source, target)
    path = None if nothing_ran else target
    result = RunResult(path, exit_code, reason, time.monotonic() - start)
    follower.finish(result)
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
    folder: Path,
    parameters: Mapping[str, Any],
    timeout_seconds: float | None,
    follower: RunProgress,
) -> None:
    import papermill

    papermill.execute_notebook(
        str(source),
        str(output),
        parameters=dict(parameters),
        kernel_name="python3",
        language="python",
        cwd=str(folder),
        progress_bar=False,
        # nbclient counts whole seconds
        execution_timeout=timeout_seconds and math.ceil(timeout_seconds),
        autosave_cell_every=AUTOSAVE_SECONDS,
        # the kernel's own log would repeat on the terminal what `follower` says
        extra_arguments=["--IPKernelApp.log_level=CRITICAL", "--ext=imetlib.delivery.orphans"],
        on_cell_start=follower.start_cell,
        on_cell_executed=follower.end_cell,
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
