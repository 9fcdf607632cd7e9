"""The report: one HTML page with the results, the figures, and links to the executed notebooks."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from imetlib.delivery.parameters import read_notebook
from imetlib.files import replacing

if TYPE_CHECKING:
    import pandas as pd

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1c1c1c;
  font: 16px/1.55 Georgia, "Times New Roman", serif; }
main { max-width: 56rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid #d8d4cc; }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p { margin: .5rem 0; }
.lead { color: #4a4a4a; max-width: 42rem; white-space: pre-line; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font: 14px/1.45 system-ui, sans-serif; }
th, td { padding: .4rem 1.4rem .4rem 0; text-align: left; border-bottom: 1px solid #e6e2da;
  vertical-align: top; }
th { color: #5a5a5a; font-weight: 600; white-space: nowrap; border-bottom-color: #9a948a; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1rem 0 2rem; }
img { max-width: 100%; height: auto; display: block; }
figcaption { font: 13px/1.45 system-ui, sans-serif; color: #5a5a5a; margin-top: .35rem; }
a { color: #7a2e1d; }
ul { padding-left: 1.2rem; }
li { margin: .35rem 0; }
"""


@dataclass(frozen=True)
class Figure:
    """A picture of the report.

    Args:
        heading: str. The heading of the notebook it stands under.
        source: str. Title of the notebook.
        png: bytes of the PNG file.
    """

    heading: str
    source: str
    png: bytes


def write_report(
    path: str | Path,
    *,
    title: str,
    tables: Mapping[str, pd.DataFrame],
    notebooks: Sequence[str | Path] = (),
    figures: Iterable[Figure] | None = None,
    lead: str = "",
) -> Path:
    """Writes one self-contained HTML page: no other file, no network, no script.

    Args:
        path: the `.html` file.
        title: str.
        tables: heading to table, the result first. Fractions are shown with four digits.
        notebooks: executed notebooks, linked relative to the page. Where nbconvert is installed
            each gets an `.html` beside it, which opens without Jupyter and shows, as Jupyter
            does, whatever HTML the notebook holds.
        figures: from `collect_figures`; None takes all of `notebooks`.
        lead: str. The paragraph under the title.

    Returns:
        Path of the page. Every text on it is escaped.

    Raises:
        ValueError: a notebook is missing or unreadable; nothing is written.
    """
    path = Path(path)
    loaded = [(Path(notebook), read_notebook(notebook)) for notebook in notebooks]
    if figures is None:
        figures = [figure for file, _ in loaded for figure in collect_figures(file)]
    parts = [f"<h1>{escape(title)}</h1>"]
    if lead:
        parts.append(f'<p class="lead">{escape(lead)}</p>')
    parts += [
        f"<h2>{escape(heading)}</h2>\n{_render_table(table)}" for heading, table in tables.items()
    ]
    parts += _render_figures(list(figures))
    if loaded:
        items = "\n".join(_render_link(file, node, path.parent) for file, node in loaded)
        parts.append(f"<h2>Notebooks</h2>\n<ul>\n{items}\n</ul>")
    page = _fill_page(title, "\n".join(parts))
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def collect_figures(notebook: str | Path) -> list[Figure]:
    """The PNG outputs of an executed notebook, in their order, each with its heading.

    Args:
        notebook: path of the `.ipynb`.

    Raises:
        ValueError: it is missing or unreadable.
    """
    path = Path(notebook)
    node = read_notebook(path)
    title = _title(path, node)
    heading, figures = title, []
    for cell in node.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("#") and line.lstrip("#").startswith(" "):
                    heading = line.lstrip("#").strip()
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png:
                figures.append(Figure(heading, title, base64.b64decode("".join(png))))
    return figures


def _title(path: Path, node: Any) -> str:
    for cell in node.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0].lstrip("#").strip()
    return path.stem


def _render_table(table: pd.DataFrame) -> str:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    numeric = [
        is_numeric_dtype(table.iloc[:, column]) and not is_bool_dtype(table.iloc[:, column])
        for column in range(table.shape[1])
    ]
    head = "".join(_render_cell("th", name, n) for name, n in zip(table, numeric, strict=True))
    rows = [
        "".join(_render_cell("td", cell, n) for cell, n in zip(row, numeric, strict=True))
        for row in table.itertuples(index=False, name=None)
    ]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _render_cell(tag: str, value: Any, numeric: bool) -> str:
    kind = ' class="number"' if numeric else ""
    return f"<{tag}{kind}>{escape(_format(value))}</{tag}>"


def _format(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{value:,}"
    if isinstance(value, Real):
        size = abs(float(value))
        if 0 < size < 1e-3:
            return f"{value:.2g}"
        return f"{value:.4f}" if size < 1 else f"{value:,.2f}" if size < 10 else f"{value:,.1f}"
    return str(value)


def _render_figures(figures: list[Figure]) -> list[str]:
    parts = []
    for before, figure in zip([None, *figures], figures, strict=False):
        if before is None or before.source != figure.source:
            parts.append(f"<h2>{escape(figure.source)}</h2>")
        if before is None or before.heading != figure.heading:
            parts.append(f"<h3>{escape(figure.heading)}</h3>")
        data = base64.b64encode(figure.png).decode("ascii")
        parts.append(
            f'<figure><img alt="{escape(figure.heading)}" '
            f'src="data:image/png;base64,{data}"></figure>'
        )
    return parts


def _render_link(path: Path, node: Any, folder: Path) -> str:
    links = [f'<a href="{_relative(path, folder)}">{escape(_title(path, node))}</a>']
    page = _export_html(path, node)
    if page:
        links = [
            f'<a href="{_relative(page, folder)}">{escape(_title(path, node))}</a>',
            f'(<a href="{_relative(path, folder)}">{escape(path.name)}</a>)',
        ]
    return f"<li>{' '.join(links)}</li>"


def _relative(path: Path, folder: Path) -> str:
    return escape(quote(Path(os.path.relpath(path, folder)).as_posix()))


def _export_html(path: Path, node: Any) -> Path | None:
    """The notebook as a page of its own beside it; None without nbconvert."""
    try:
        from nbconvert import HTMLExporter
    except ImportError:
        return None
    # Formulas are the one thing worth fetching a script for; without a network they stay TeX.
    exporter = HTMLExporter(require_js_url="")
    page, _ = exporter.from_notebook_node(node, {"metadata": {"name": _title(path, node)}})
    target = path.with_suffix(".html")
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def _fill_page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
