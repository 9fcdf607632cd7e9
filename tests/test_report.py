import base64
import sys
from html.parser import HTMLParser

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from imetlib.delivery.report import Figure, collect_figures, write_report

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5E"
    "rkJggg=="
)
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Tags in order, text, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def values(self, tag, name):
        pairs = zip(self.tags, self.attributes, strict=True)
        return [attributes[name] for found, attributes in pairs if found == tag]


def write_notebook(path, title="07 · Thresholds", num_figures=1):
    picture = new_output(
        "display_data", data={"image/png": base64.b64encode(PNG).decode(), "text/plain": "<F>"}
    )
    cells = [
        new_markdown_cell(f"# {title}\n\n#tag is no heading"),
        new_code_cell("plot()", outputs=[picture] * num_figures),
        new_markdown_cell("Words.\n\n## How <wide>?\nMore words."),
        new_code_cell("plot()", outputs=[picture]),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_figures_carry_the_heading_they_stand_under(tmp_path):
    figures = collect_figures(write_notebook(tmp_path / "07.ipynb", num_figures=2))
    assert [figure.heading for figure in figures] == ["07 · Thresholds"] * 2 + ["How <wide>?"]
    assert {figure.source for figure in figures} == {"07 · Thresholds"}
    assert all(figure.png == PNG for figure in figures)


def test_page(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    notebook = write_notebook(tmp_path / "my runs" / "07 & co.ipynb")
    table = pd.DataFrame(
        {
            "answer <i>": ["a & b", "constant"],
            "F2": [0.88123, np.nan],
            "above": [True, False],
            "rows": [1500, 7],
            "rate": [2e-5, 163.24],
        }
    )
    path = write_report(
        tmp_path / "out" / "report.html",
        title="Result & <script>alert(1)</script>",
        tables={"Result": table, "Second": table},
        notebooks=[notebook],
        lead="F2 > the floor",
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "i"} & set(page.tags)
    assert "http" not in text, "the page must need no network"
    assert page.tags.index("table") < page.tags.index("img") < page.tags.index("ul")
    for words in ("Result & <script>alert(1)</script>", "F2 > the floor", "a & b", "answer <i>"):
        assert words in page.words
    for words in ("0.8812", "yes", "no", "1,500", "2e-05", "163.2"):
        assert words in page.words
    images = page.values("img", "src")
    assert [base64.b64decode(src.split(",")[1]) for src in images] == [PNG, PNG]
    assert page.values("img", "alt") == ["07 · Thresholds", "How <wide>?"]
    assert page.values("a", "href") == ["../my%20runs/07%20%26%20co.ipynb"]
    assert "width=device-width" in text, "a phone would show the page tiny"


def test_notebooks_are_exported_where_nbconvert_is(tmp_path):
    pytest.importorskip("nbconvert")
    notebook = write_notebook(tmp_path / "runs" / "07.ipynb")
    path = write_report(tmp_path / "report.html", title="t", tables={}, notebooks=[notebook])
    links = Page(path.read_text(encoding="utf-8")).values("a", "href")
    assert links == ["runs/07.html", "runs/07.ipynb"]
    assert all((tmp_path / link).exists() for link in links)
    assert "07 · Thresholds" in (tmp_path / "runs" / "07.html").read_text(encoding="utf-8")


def test_chosen_figures_only(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    notebook = write_notebook(tmp_path / "07.ipynb")
    figures = [Figure("Museum", "01 · EDA", PNG)]
    path = write_report(
        tmp_path / "r.html", title="t", tables={}, notebooks=[notebook], figures=figures
    )
    assert Page(path.read_text(encoding="utf-8")).values("img", "alt") == ["Museum"]


def test_missing_notebook_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"08\.ipynb: no such notebook"):
        write_report(tmp_path / "r.html", title="t", tables={}, notebooks=[tmp_path / "08.ipynb"])
    assert list(tmp_path.iterdir()) == []
