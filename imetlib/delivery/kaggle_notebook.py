"""A notebook of the project as the one that is uploaded: set for Kaggle, the package in front."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from imetlib.delivery.executed import is_code, tags_of
from imetlib.delivery.kaggle_package import PACKAGE_TAG
from imetlib.delivery.parameters import Parameter

# Attributes of a cell that hide its source: the package is not to be read.
_HIDDEN = {"_kg_hide-input": True, "jupyter": {"source_hidden": True}}


def check_executed(name: str, notebook: Any) -> None:
    """Refuse a notebook of which nobody has seen that it runs.

    Raises:
        ValueError: a cell was not executed in its order, or it raised.
    """
    cells = [cell for cell in notebook.cells if is_code(cell)]
    for number, cell in enumerate(cells, start=1):
        if cell.execution_count != number:
            raise ValueError(
                f"{name} was never executed as a whole (code cell {number} has the count "
                f"{cell.execution_count}): run `python -m imetlib.delivery.refresh {name}`, so "
                "that what is uploaded has been seen to run."
            )
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            raise ValueError(
                f"{name}, code cell {number} failed: mend it, run it again, then pack."
            )


def make_notebook(
    notebook: Any,
    known: Mapping[str, Parameter],
    parameters: Mapping[str, Any],
    package_cell: str,
    kind: str,
) -> Any:
    """The notebook to upload: no outputs, parameters set, the package before its first use.

    Args:
        notebook: node of the project's notebook; it is left as it is.
        known: its parameters.
        parameters: name to value; they take the places of the defaults.
        package_cell: source of the cell that brings the package.
        kind: see `write_bundle`.

    Returns:
        `nbformat` node.
    """
    import nbformat

    cells = []
    for cell in notebook.cells:
        tags = [tag for tag in tags_of(cell) if tag == "parameters"]
        # Not a copy: whatever else an editor left in a cell stays here.
        new = (nbformat.v4.new_code_cell if cell.cell_type == "code" else _new_markdown)(
            cell.source
        )
        new["id"] = cell.get("id", new["id"])
        if tags:
            new.metadata["tags"] = tags
            new["source"] = set_parameters(cell.source, known, parameters)
        cells.append(new)
    package = nbformat.v4.new_code_cell(package_cell, id="imetlib-package")
    package.metadata.update({"tags": [PACKAGE_TAG], **_HIDDEN})
    text = "## The package\n\nThe code behind this notebook; no network is needed."
    first = next(
        index for index, cell in enumerate(cells) if cell.cell_type == "code" and _imports(cell)
    )
    cells[first:first] = [_new_markdown(text, id="imetlib-package-text"), package]
    if kind in ("both", "inference"):
        text = "## Handing over\n\nKaggle looks for `submission.csv` in the working folder."
    else:
        text = "## Handing over\n\nThe run folder stays, for a notebook that answers with it."
    last = nbformat.v4.new_code_cell(_last_cell(kind, known), id="imetlib-hand-over")
    cells += [_new_markdown(text, id="imetlib-hand-over-text"), last]
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    made.metadata["language_info"] = {"name": "python"}
    nbformat.validate(made)
    return made


def set_parameters(
    source: str, known: Mapping[str, Parameter], parameters: Mapping[str, Any]
) -> str:
    """A parameters cell with other literals; types and help stay.

    Example:
        >>> known = {"hours": Parameter("hours", "float", 0.0, "limit")}
        >>> set_parameters("hours: float = 0.0  # limit", known, {"hours": 8})
        'hours: float = 8.0  # limit'
    """
    # ast counts bytes
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    text = source.encode()
    for statement in reversed(ast.parse(source).body):
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
            continue
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        if not isinstance(target, ast.Name) or target.id not in parameters:
            continue
        value = parameters[target.id]
        if known[target.id].type == "float":
            value = float(value)
        place = statement.value
        assert place.end_lineno is not None and place.end_col_offset is not None
        begin = starts[place.lineno - 1] + place.col_offset
        end = starts[place.end_lineno - 1] + place.end_col_offset
        text = text[:begin] + _literal(value).encode() + text[end:]
    return text.decode()


def _literal(value: Any) -> str:
    """As a person would write it: texts in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _imports(cell: Any) -> bool:
    return "imetlib" in cell.source


def _last_cell(kind: str, known: Mapping[str, Parameter]) -> str:
    arguments = ["out"] if "out" in known else []
    if kind == "train":
        arguments.append("submit=False")
    call = f"hand_over({', '.join(arguments)})"
    return f'from imetlib.delivery.kaggle_session import hand_over\n\nprint(*{call}, sep="\\n")'


def _new_markdown(text: str, **more: Any) -> Any:
    import nbformat

    return nbformat.v4.new_markdown_cell(text, **more)
