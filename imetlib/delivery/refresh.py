"""Run the committed notebooks again and store their outputs: `make notebooks`.

    python -m imetlib.delivery.refresh notebooks/0*.ipynb

Outputs and execution counts are what nbval compares, so they come from a fresh kernel with the
notebook's own defaults, never from a run by hand.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from imetlib.delivery.notebooks import RunResult, clean_notebook, run_notebook
from imetlib.delivery.parameters import read_notebook
from imetlib.files import replacing


def refresh_notebook(path: str | Path, workplace: str | Path) -> RunResult:
    """Executes a notebook with its defaults and stores the outputs in it.

    Args:
        path: the notebook. It is left as it is when a cell fails.
        workplace: folder to run in. What notebooks leave for one another lies there, not in the
            project, where results of older code could show through.

    Returns:
        `RunResult` of the run.
    """
    import nbformat

    path, workplace = Path(path), Path(workplace)
    result = run_notebook(path, workplace)
    if result.exit_code == 0:
        notebook = clean_notebook(read_notebook(workplace / path.name))
        drop_stderr(notebook)
        reduce_colours(notebook)
        with replacing(path) as temporary:
            nbformat.write(notebook, temporary)
    return result


def drop_stderr(notebook: Any) -> None:
    """Takes what cells wrote to stderr out of a notebook and repeats it on ours."""
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for output in outputs:
            if output.get("name") == "stderr":
                print(f"not stored, from stderr: {output.text.strip()}", file=sys.stderr)
        if outputs:
            cell.outputs = [output for output in outputs if output.get("name") != "stderr"]


def reduce_colours(notebook: Any) -> None:
    """Stores figures with a palette of 256 colours: a third of the size, and no eye sees it."""
    from PIL import Image

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                figure = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
                file = io.BytesIO()
                figure.convert("RGB").quantize(256).save(file, "PNG", optimize=True)
                data["image/png"] = base64.b64encode(file.getvalue()).decode("ascii")


def main(arguments: list[str] | None = None) -> int:
    """Refreshes notebooks in the order given until one fails; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m imetlib.delivery.refresh",
        description="Run notebooks again in the fast profile and store their outputs.",
    )
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as workplace:
        for path in parsed.notebooks:
            result = refresh_notebook(path, workplace)
            if result.exit_code:
                print(f"{path}: left as it was: {result.error}", file=sys.stderr)
                return result.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
