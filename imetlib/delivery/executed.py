"""Executed notebooks: true cell states, short outputs, and the clean copy that is committed."""

from __future__ import annotations

import copy
from typing import Any

EXIT_OK = 0
EXIT_CELL_RAISED = 1
EXIT_BAD_CALL = 2
EXIT_TIMEOUT = 3
EXIT_KERNEL_DIED = 4

_ERROR_MARKER = "papermill-error-cell-tag"
# In the metadata of an output: nbconvert writes its pictures to files of these names.
_FILE_NAMES = ("filename", "filenames")


def settle_running(notebook: Any, last_started: int) -> None:
    """Makes the states in a copy that is saved while a cell runs true.

    Args:
        notebook: node, changed in place.
        last_started: int. Index of the cell that runs; those before it ended.
    """
    for index, cell in enumerate(notebook.cells):
        state = "running" if index == last_started else "pending"
        if index < last_started:
            state = "completed"
        cell.metadata.papermill.update(status=state)
        drop_file_names(cell)


def settle(notebook: Any, last_started: int, exit_code: int, reason: str) -> tuple[int, str]:
    """Makes the states in the executed notebook true; returns the exit code and its reason.

    papermill marks every cell completed when the kernel dies or a cell times out, calls a
    notebook that left early a success, and one with an expected exception a failure.

    Args:
        notebook: node, changed in place.
        last_started: int. Index of the last cell that started, -1 for none.
        exit_code: int. What papermill's exception says.
        reason: str. The same in words.
    """
    notebook.cells = [cell for cell in notebook.cells if _ERROR_MARKER not in tags_of(cell)]
    cells = notebook.cells
    for cell in cells:
        coalesce_streams(cell)
        drop_file_names(cell)
    if exit_code == EXIT_CELL_RAISED and not any(map(_raised_unexpectedly, cells)):
        exit_code, reason = EXIT_OK, ""
    left = [cell for cell in cells[last_started + 1 :] if is_code(cell)]
    if exit_code == EXIT_OK and left:
        exit_code = EXIT_CELL_RAISED
        reason = f"left the notebook; later cells that did not run: {len(left)}"
    if reason:
        reason = f"cell {last_started + 1} of {len(cells)}: {reason}"
    for index, cell in enumerate(cells):
        state = "completed" if index <= last_started or exit_code == EXIT_OK else "pending"
        if index == last_started and exit_code != EXIT_OK:
            state = "failed"
        exception = {"completed": False, "failed": True, "pending": None}[state]
        cell.metadata.papermill.update(status=state, exception=exception)
    notebook.metadata.papermill["exception"] = exit_code != EXIT_OK
    if exit_code > EXIT_CELL_RAISED:
        # A reader of the notebook sees what stopped it where it stopped.
        import nbformat

        output = nbformat.v4.new_output("error", ename="Stopped", evalue=reason, traceback=[reason])
        cells[last_started].outputs.append(output)
    return exit_code, reason


def clean_notebook(notebook: Any) -> Any:
    """A copy without what changes from run to run: for the notebooks that are committed.

    Outputs and execution counts stay, because nbval compares nothing without them. Timings,
    papermill's entries, the version of Python and names of files in outputs' metadata go.

    Args:
        notebook: `nbformat` node. It is left as it is.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        coalesce_streams(cell)
        drop_file_names(cell)
    return notebook


def _raised_unexpectedly(cell: Any) -> bool:
    return "raises-exception" not in tags_of(cell) and any(
        output.output_type == "error" for output in cell.get("outputs", [])
    )


def is_code(cell: Any) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def tags_of(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def drop_file_names(cell: Any) -> None:
    """Takes file names out of outputs' metadata: nbconvert would write there, also to `../`."""
    for output in cell.get("outputs", []):
        for name in _FILE_NAMES:
            output.get("metadata", {}).pop(name, None)


def coalesce_streams(cell: Any) -> None:
    """Joins the pieces of a stream and keeps of a progress bar its last state.

    nbclient's own option moves all text of a cell before its first figure, and cannot help a
    cell whose kernel died.
    """
    joined: list[Any] = []
    for output in cell.get("outputs", []):
        last = joined[-1] if joined else None
        if output.output_type == "stream" and last and last.get("name") == output.name:
            last.text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            lines = output.text.replace("\r\n", "\n").split("\n")
            output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)
    if "outputs" in cell:
        cell.outputs = joined
