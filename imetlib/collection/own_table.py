"""Tables of the user's own: CSV, TSV or Excel with any columns, read as text, and their names."""

from __future__ import annotations

import ast
import csv
import importlib.util
import io
import itertools
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imetlib.collection.csvfiles import CollectionError, decode_table, read_bytes

TAB_SUFFIXES = (".tsv", ".tab")
EXCEL_SUFFIXES = (".xlsx", ".xlsm")
ROWS_LOOKED_AT = 20
# Where one name ends and the next begins in "culture::italian tag::human figures".
_NEXT_NAME = re.compile(r"\s+(?=[^\s:]+::)")


@dataclass(frozen=True, eq=False)
class OwnTable:
    """The rows of a table, as text.

    Args:
        path: the file.
        lines: line of each row in the file (row of the sheet in Excel), the header being 1.
        columns: name to the cells of that column, one str a row.
        faults: one sentence for each row whose fields do not fit the header.
    """

    path: Path
    lines: list[int]
    columns: dict[str, list[str]]
    faults: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lines)

    def find_column(self, name: str) -> str:
        """A column by its name, with or without its case and the blanks around it.

        Raises:
            ValueError: no such column, or several; the message lists what there is.
        """
        if name in self.columns:
            return name
        wanted = name.strip().casefold()
        found = [column for column in self.columns if column.strip().casefold() == wanted]
        if len(found) == 1:
            return found[0]
        known = ", ".join(self.columns)
        raise ValueError(f"{self.path.name} has no column {name!r}. It has: {known}")


def read_own_table(path: str | Path) -> OwnTable:
    """Reads a table whose columns are not known beforehand; nothing is converted.

    Args:
        path: `.tsv` and `.tab` have tabs, `.xlsx` is Excel's (first sheet), any other is CSV with
            commas, semicolons or tabs: the first rows decide. UTF-8. Blank lines are passed over.

    Returns:
        `OwnTable`.

    Raises:
        CollectionError: the file as a whole cannot be read, see `read_table`, or two columns have
            one name.
        ValueError: Excel without the package openpyxl.
    """
    path = Path(path)
    if path.suffix.lower() in EXCEL_SUFFIXES:
        header, numbered = _read_excel(path)
    else:
        header, numbered = _read_text(path)
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise CollectionError(path, [f"line 1: column {name} twice; rename one" for name in twice])
    lines, rows, faults = [], [], []
    for line, row in numbered:
        if len(row) != len(header):
            faults.append(
                f"{path.name}, line {line}: {len(row)} fields, the header has {len(header)}; is a "
                "delimiter too many, or a value with one not quoted?"
            )
        elif any(cell.strip() for cell in row):
            lines.append(line)
            rows.append(row)
    cells = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
    # A nameless column, such as the index that pandas writes, cannot be asked for.
    named = {name: column for name, column in zip(header, cells, strict=True) if name}
    return OwnTable(path, lines, named, tuple(faults))


def _read_text(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    text = decode_table(path, read_bytes(path))
    delimiter = "\t" if path.suffix.lower() in TAB_SUFFIXES else _find_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, line = [], 0
    # Cells repeat: kept once, the rows of a museum's export take much less memory.
    known: dict[str, str] = {}
    try:
        for row in reader:
            if row:
                rows.append((line + 1, [known.setdefault(cell, cell) for cell in row]))
            line = reader.line_num
    except csv.Error as error:
        reason = str(error)
        if reason == "unexpected end of data":
            reason = "a quote that is not closed; close it or remove it"
        raise CollectionError(path, [f"line {line + 1}: {reason}"]) from None
    return [clean_text(name) for name in rows[0][1]], rows[1:]


def _find_delimiter(text: str) -> str:
    """The one that divides most of the first rows as it divides the header."""

    def fit(mark: str) -> tuple[int, int]:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
            lengths = [len(row) for row in itertools.islice(reader, ROWS_LOOKED_AT) if row]
        except csv.Error:
            return 0, 0
        return (lengths.count(lengths[0]), lengths[0]) if lengths[0] > 1 else (0, 0)

    return max(",;\t", key=fit)


def _read_excel(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    if importlib.util.find_spec("openpyxl") is None:
        raise ValueError(
            f"{path.name}: reading Excel needs the package openpyxl (pip install openpyxl). Or "
            "save the sheet as CSV in UTF-8."
        )
    import pandas as pd

    try:
        sheet = pd.read_excel(path, header=None, dtype=str, na_filter=False)
    except FileNotFoundError:
        raise CollectionError(path, ["the file is missing"]) from None
    except Exception as error:  # of zip, XML or openpyxl: a damaged file meets many
        raise CollectionError(path, [f"cannot be read as Excel: {error}"]) from None
    rows = [(line, row) for line, row in enumerate(sheet.values.tolist(), start=1)]
    if not rows:
        raise CollectionError(path, ["the first sheet is empty"])
    return [clean_text(name) for name in rows[0][1]], rows[1:]


def clean_text(text: str) -> str:
    """One line of printable characters, composed (NFC), with single blanks.

    Example:
        >>> clean_text(" Cafe\\u0301 \\u200b\\n  noir ")
        'Café noir'
    """
    text = unicodedata.normalize("NFC", text)
    if not text.isprintable():
        kept = (c for c in text if unicodedata.category(c) != "Cf")  # marks without any width
        text = "".join(c if c.isprintable() else " " for c in kept)
    return " ".join(text.split())


def split_cell(cell: str, separators: Sequence[str]) -> list[str]:
    """The values of a cell, cleaned; empty ones are left out.

    Example:
        >>> split_cell("Women| Portraits||", ["|"])
        ['Women', 'Portraits']
    """
    parts = [cell]
    for separator in separators:
        parts = [piece for part in parts for piece in part.split(separator)]
    return [value for part in parts if (value := clean_text(part))]


def split_list(cell: str, separators: Sequence[str]) -> list[str]:
    """The names of a cell that holds a list of them.

    A list as JSON or Python writes it, else values between separators; where there is neither,
    names `group::name` with blanks between them.

    Raises:
        ValueError: begins as a list, and is none of str.

    Example:
        >>> split_list("culture::italian tag::human figures", ["|"])
        ['culture::italian', 'tag::human figures']
        >>> split_list("['ship', 'sea']", ["|"])
        ['ship', 'sea']
    """
    text = cell.strip()
    if text.startswith("["):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            try:
                values = ast.literal_eval(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                values = None
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"not a list of names: {text[:60]}")
        return [value for item in values if (value := clean_text(item))]
    values = split_cell(text, separators)
    return [name for value in values for name in _NEXT_NAME.split(value)]


def name_attribute(group: str, value: str, *, listed: bool = False) -> str:
    """`group::value` in lower case, as iMet 2019 writes names.

    Args:
        group: str.
        value: str. The group may stand in front of it already.
        listed: whether a value may bring another group with it.

    Example:
        >>> name_attribute("tag", "Men"), name_attribute("tag", "culture::French", listed=True)
        ('tag::men', 'culture::french')
    """
    value = value.lower()
    own, mark, rest = (part.strip() for part in value.partition("::"))
    if mark and own and rest and (listed or own == group):
        return f"{own}::{rest}"
    return f"{group}::{value}"
