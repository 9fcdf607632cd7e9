"""CSV files read as text and checked line by line; the ground that `tables` stands on.

pandas guesses: ids of digits lose their leading zeros, an id `NA` becomes NaN, one comma too
many moves the ids into the index, all without a word. Nothing is guessed here.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_FAULTS_SHOWN = 20
_PLAIN_ID = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]*")


class CollectionError(ValueError):
    """A collection, or one of its files, that cannot be used as it is.

    Args:
        where: str. The file or folder that was read.
        faults: sequence of str. One sentence a fault: file, line, id, what would mend it.
        mend: str. What would mend all of them, said once at the end.

    The text shows the first 20 faults and how many more there are; `faults` holds them all.
    """

    def __init__(self, where: str | Path, faults: Sequence[str], mend: str = ""):
        super().__init__(str(where), tuple(faults), mend)

    @property
    def where(self) -> str:
        return self.args[0]

    @property
    def faults(self) -> tuple[str, ...]:
        return self.args[1]

    def __str__(self) -> str:
        mend = self.args[2]
        if len(self.faults) == 1:
            return f"{self.where}: {self.faults[0]}" + (f"; {mend}" if mend else "")
        text = f"{self.where}: {len(self.faults)} faults\n{list_faults(self.faults)}"
        return text + (f"\n  {mend}" if mend else "")


@dataclass(frozen=True, eq=False)
class TextTable:
    """The rows of a CSV file as text.

    Args:
        path: the file.
        lines: line number of each row in the file, the header being line 1.
        columns: name to the cells of that column, one str a row.
        faults: one sentence for each row left out because its fields do not fit the columns, or
            one that has no quotes around it has one inside.
        byte_order_mark: whether the file began with the UTF-8 mark (it is not part of the text).
        sha256: of the file's bytes, in hex.
    """

    path: Path
    lines: list[int]
    columns: dict[str, list[str]]
    faults: tuple[str, ...]
    byte_order_mark: bool
    sha256: str

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """`train.csv, line 2, id a1`: where a row stands, for an error message."""
        identity = f", id {self.columns['id'][row]}" if "id" in self.columns else ""
        return f"{self.path.name}, line {self.lines[row]}{identity}"


def read_table(path: str | Path, columns: Sequence[str]) -> TextTable:
    """Reads a CSV file as text: UTF-8, commas, exactly the wanted columns, nothing converted.

    Args:
        path: the file. A byte order mark, quoted fields and any kind of line end are fine.
        columns: the names that the first line must hold, in this order.

    Returns:
        `TextTable`. Rows with a wrong number of fields, or with a quote in a field that is not
        quoted, are in `faults`, not among the rows: the caller adds its own faults and raises one
        `CollectionError` for all.

    Raises:
        CollectionError: the file as a whole cannot be read: missing, empty, not UTF-8, a web
            page, a Git LFS pointer, other columns, a NUL byte, a quote that is not closed.
    """
    path = Path(path)
    data = read_bytes(path)
    text = decode_table(path, data)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines, rows, faults = [], [], []
    line = 0
    try:
        _check_header(path, next(reader), columns)
        line = reader.line_num
        for row in reader:
            if len(row) != len(columns):
                faults.append(_wrong_fields(path, line + 1, row, columns))
            elif '"' in text and _has_stray_quote(row, columns, text):
                place = f"{path.name}, line {line + 1}"
                faults.append(f"{place}: a quote in a field; is one missing at its other end?")
            else:
                lines.append(line + 1)
                rows.append(row)
            line = reader.line_num
    except csv.Error as error:
        reason = str(error)
        if reason == "unexpected end of data":
            reason = "a quote that is not closed; close it or remove it"
        raise CollectionError(path, [*faults, f"line {line + 1}: {reason}"]) from None
    cells = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
    return TextTable(
        path=path,
        lines=lines,
        columns=dict(zip(columns, cells, strict=True)),
        faults=tuple(faults),
        byte_order_mark=data.startswith(b"\xef\xbb\xbf"),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def find_id_faults(table: TextTable) -> list[str]:
    """Faults of the column `id`: empty, unsafe as a file name, or twice in the table.

    Args:
        table: `TextTable` with a column `id`.

    Returns:
        list of str, in the order of the lines. Ids that occur twice come last.
    """
    ids = table.columns["id"]
    faults = []
    for row, sample_id in enumerate(ids):
        if not _PLAIN_ID.fullmatch(sample_id):
            reason = why_not_an_id(sample_id)
            if reason:
                name, line = table.path.name, table.lines[row]
                faults.append(f"{name}, line {line}: {reason}. Received: id {sample_id!r}")
    if len(set(ids)) < len(ids):
        lines = defaultdict(list)
        for sample_id, line in zip(ids, table.lines, strict=True):
            lines[sample_id].append(str(line))
        for sample_id, places in lines.items():
            if len(places) > 1:
                where = f"{', '.join(places[:-1])} and {places[-1]}"
                faults.append(
                    f"{table.path.name}, id {sample_id}: on lines {where}; keep one of them"
                )
    return faults


def why_not_an_id(sample_id: str) -> str:
    """Says what is wrong with an id, or "" for a good one.

    Ids become file names, table cells and log lines: what is unsafe there is refused.

    Example:
        >>> why_not_an_id("../a1")
        'an id with a path separator; ids are the names of picture files'
    """
    if not sample_id:
        return "an empty id"
    if sample_id != sample_id.strip():
        return "an id with a blank at its edge"
    if "/" in sample_id or "\\" in sample_id:
        return "an id with a path separator; ids are the names of picture files"
    if '"' in sample_id:
        return "an id with a quote; is one missing at its other end?"
    if not sample_id.isprintable():
        return "an id with a control character"
    if sample_id[0] in "=+-@":
        return "an id that a spreadsheet takes for a formula; rename it"
    if sample_id[0] == ".":
        return "an id that begins with a dot; rename it"
    return ""


def list_faults(faults: Iterable[str], *, shown: int = MAX_FAULTS_SHOWN) -> str:
    """The first faults, one a line, and the count of the rest.

    Example:
        >>> print(list_faults(["a.png: empty", "b.png: cut", "c.png: cut"], shown=2))
          a.png: empty
          b.png: cut
          ... and 1 more
    """
    faults = list(faults)
    lines = [f"  {fault}" for fault in faults[:shown]]
    if len(faults) > shown:
        lines.append(f"  ... and {len(faults) - shown} more")
    return "\n".join(lines)


def read_bytes(path: Path) -> bytes:
    """The bytes of a table; raises CollectionError where it is missing or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CollectionError(path, ["the file is missing"]) from None
    except OSError as error:
        raise CollectionError(path, [f"cannot be read: {error.strerror}"]) from None


def decode_table(path: Path, data: bytes) -> str:
    """The text of a table's bytes, without a byte order mark.

    Raises:
        CollectionError: empty, a web page, a Git LFS pointer, not UTF-8, or a NUL byte.
    """
    if not data.strip():
        raise CollectionError(path, ["the file is empty; fetch or write it again"])
    if data.startswith(b"version https://git-lfs"):
        raise CollectionError(path, ["a Git LFS pointer, not the file; run `git lfs pull`"])
    if (
        data.lstrip(b"\xef\xbb\xbf \t\r\n")[:9]
        .lower()
        .startswith((b"<!doctype", b"<html", b"<?xml"))
    ):
        raise CollectionError(
            path, ["looks like a web page, not a table; log in and download the file again"]
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        kind = " but UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise CollectionError(
            path, [f"line {line}: not UTF-8{kind}; save the table as UTF-8"]
        ) from None
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise CollectionError(path, [f"line {line}: a NUL byte; the file is damaged"])
    return text


def _check_header(path: Path, header: list[str], columns: Sequence[str]) -> None:
    if header == list(columns):
        return
    wanted, found = ", ".join(columns), ", ".join(header)
    reason = f"line 1: expected the columns {wanted}. Received: {found[:200]}"
    if len(header) == 1:
        for delimiter, name in ((";", "a semicolon"), ("\t", "a tab"), ("|", "a bar")):
            if delimiter in header[0]:
                reason += f". The delimiter is {name}; save the table with commas"
                break
    elif [name.strip().lower() for name in header] == list(columns):
        reason += ". Names count with their case and without blanks"
    raise CollectionError(path, [reason])


def _has_stray_quote(row: list[str], columns: Sequence[str], text: str) -> bool:
    """Whether a field has a quote though it is not quoted itself, which `csv` lets pass.

    Ids are judged by `find_id_faults`, which refuses every quote.
    """
    return any(
        '"' in cell and column != "id" and '"{}"'.format(cell.replace('"', '""')) not in text
        for cell, column in zip(row, columns, strict=True)
    )


def _wrong_fields(path: Path, line: int, row: list[str], columns: Sequence[str]) -> str:
    if not row:
        return f"{path.name}, line {line}: a blank line; remove it"
    identity = f", id {row[0]}" if columns[0] == "id" else ""
    fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
    mend = "is the row cut?" if len(row) < len(columns) else "is there a comma too many?"
    return f"{path.name}, line {line}{identity}: {fields}, wanted {len(columns)}; {mend}"
