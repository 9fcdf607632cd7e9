"""The parameters of a notebook: read from its parameters cell, judged before anything runs.

papermill only warns about a misspelt name, and passes a text where a number is meant.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imetlib.delivery.executed import tags_of

_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "str": str,
    "bool": bool,
    "list": list,
    "tuple": (list, tuple),
    "dict": dict,
}
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Parameter:
    """One line `name: type = default  # help` of a parameters cell.

    Args:
        name: str.
        type: str. The annotation; without one, the type of the default.
        default: the literal.
        help: str. The comment at the end of the line.
    """

    name: str
    type: str
    default: Any
    help: str


def read_parameters(path: str | Path) -> dict[str, Parameter]:
    """The parameters that a notebook knows, in their order; empty where it has none.

    Args:
        path: the notebook. Its parameters stand in the cell tagged `parameters`.

    Raises:
        ValueError: not a notebook, or that cell holds something else than assignments of
            literals: values given from outside arrive after it, so nothing may be computed there.
    """
    cells = [cell for cell in read_notebook(path).cells if "parameters" in tags_of(cell)]
    if not cells:
        return {}
    # Not papermill.inspect_notebook: it overlooks annotations such as `str | None`.
    try:
        statements = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise ValueError(f"{path}: the parameters cell is not Python: {error}") from None
    lines = cells[0].source.splitlines()
    parameters = {}
    for statement in statements:
        target: ast.expr
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, kind = statement.target, ast.unparse(statement.annotation)
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, kind = statement.targets[0], ""
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        else:
            raise ValueError(_not_literal(path, lines, statement))
        try:
            default = ast.literal_eval(statement.value)
        except ValueError:
            raise ValueError(_not_literal(path, lines, statement)) from None
        if not isinstance(target, ast.Name):
            raise ValueError(_not_literal(path, lines, statement))
        after = lines[statement.end_lineno - 1].encode()[statement.end_col_offset :].decode()
        parameters[target.id] = Parameter(
            name=target.id,
            type=kind or type(default).__name__,
            default=default,
            help=after.strip().lstrip("#").strip(),
        )
    return parameters


def check_parameters(path: str | Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters unchanged, or says everything that is wrong with them.

    Args:
        path: the notebook.
        parameters: name to value. A whole number passes as a float, True not as a number.

    Raises:
        ValueError: a name that the notebook does not know, or a value of another type.
    """
    known = read_parameters(path)
    faults = _find_unknown(known, parameters)
    for name, value in parameters.items():
        if name in known and not _fits(known[name].type, value):
            faults.append(
                f"`{name}` must be {known[name].type}. "
                f"Received: {name}={value!r} ({type(value).__name__})"
            )
    if faults:
        raise ValueError(f"{Path(path).name}: {'; '.join(faults)}")
    return dict(parameters)


def parse_parameters(path: str | Path, assignments: Iterable[str]) -> dict[str, Any]:
    """Reads `NAME=VALUE` of a command line with the types that the notebook declares.

    Args:
        path: the notebook.
        assignments: str each. Of a parameter declared `str` the value is taken as it stands,
            so `fold=08` keeps its zero.

    Raises:
        ValueError: as `check_parameters`, or there is no `=`.
    """
    known = read_parameters(path)
    parameters = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign or not name:
            raise ValueError(f"A parameter is written NAME=VALUE. Received: {assignment}")
        value = _read_literal(text)
        is_known = name in known
        if is_known and not _fits(known[name].type, value) and _fits(known[name].type, text):
            value = text
        parameters[name] = value
    return check_parameters(path, parameters)


def read_notebook(path: str | Path) -> Any:
    """Reads a notebook as an `nbformat` node of the current version.

    Raises:
        ValueError: there is no such file, or it is not a notebook.
    """
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells  # noqa: B018 - other JSON has none
    except FileNotFoundError:
        raise ValueError(f"{path}: no such notebook.") from None
    except (OSError, ValueError, AttributeError, nbformat.ValidationError) as error:
        reason = str(error).strip().splitlines()[:1]
        raise ValueError(f"{path}: not a notebook: {''.join(reason)[:100]}") from None
    return notebook


def _find_unknown(known: Mapping[str, Parameter], names: Iterable[str]) -> list[str]:
    unknown = [name for name in names if name not in known]
    if not unknown:
        return []
    listed = ", ".join(f"{parameter.name}: {parameter.type}" for parameter in known.values())
    return [
        f"no parameter {', '.join(f'`{name}`' for name in unknown)}. "
        f"Known: {listed or 'none (no cell is tagged `parameters`)'}"
    ]


def _not_literal(path: str | Path, lines: list[str], statement: ast.stmt) -> str:
    return (
        f"{path}: the parameters cell may only hold `name: type = literal`, because values from "
        f"outside arrive after it. Received: {lines[statement.lineno - 1].strip()}"
    )


def _read_literal(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _fits(annotation: str, value: Any) -> bool:
    """Whether a value is of the type that an annotation names; unknown names let all pass."""
    return _fits_node(ast.parse(annotation, mode="eval").body, value)


def _fits_node(node: ast.expr, value: Any) -> bool:
    if isinstance(node, ast.BinOp):
        return _fits_node(node.left, value) or _fits_node(node.right, value)
    if isinstance(node, ast.Constant):
        return _fits(node.value, value) if isinstance(node.value, str) else value is node.value
    if isinstance(node, ast.Subscript):
        base = ast.unparse(node.value)
        if base == "Optional":
            return value is None or _fits_node(node.slice, value)
        if not _fits_node(node.value, value):
            return False
        if base == "list":
            return all(_fits_node(node.slice, item) for item in value)
        return True
    name = ast.unparse(node)
    if name == "NoneType":
        return value is None
    if name not in _TYPES:
        return True
    if isinstance(value, bool):
        return name == "bool"
    return isinstance(value, _TYPES[name])
