"""The rows of a user's own table: each picture's attributes, id, specimen and split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from imetlib.collection.dates import parse_period
from imetlib.collection.own_pictures import PictureIndex
from imetlib.collection.own_table import (
    OwnTable,
    clean_text,
    name_attribute,
    split_cell,
    split_list,
)

DATE_GROUPS = ("decade", "century")


@dataclass(frozen=True)
class OwnColumns:
    """What the columns of a table mean.

    Args:
        picture: the column that names each row's picture, see `PictureIndex.find`.
        groups: column to the group of its values.
        lists: column of names `group::name` to the group of those that bring none.
        years: column of dates to the groups that they give, of "decade" and "century".
        id: column of the ids; "" takes the names of the picture files.
        specimen: column whose equal values are pictures of one object; "" for none.
        test: column, and the value in it that marks a test picture; None for none.
        separators: what stands between several values of a cell.
        ignored: values that say nothing, such as "unknown"; without regard to case.
    """

    picture: str
    groups: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    years: Mapping[str, Sequence[str]] = field(default_factory=dict)
    id: str = ""
    specimen: str = ""
    test: tuple[str, str] | None = None
    separators: Sequence[str] = ("|",)
    ignored: Sequence[str] = ()


@dataclass(frozen=True)
class OwnRow:
    """A picture with what the table says of it.

    Args:
        line: of the table.
        picture: path below the folder of pictures, with slashes.
        names: `group::name` of its attributes, none twice.
        wanted_id: what the table, or the file's name, calls it.
        specimen: "" where it is alone.
        is_test: whether it belongs to the test set.
        id: what the collection calls it; "" until that is known.
    """

    line: int
    picture: str
    names: frozenset[str]
    wanted_id: str
    specimen: str
    is_test: bool
    id: str = ""


def find_columns(table: OwnTable, columns: OwnColumns) -> OwnColumns:
    """The same columns under the names that the table has.

    Raises:
        ValueError: no such column, a group that cannot be one, or no column with attributes.
    """

    def found(mapping):
        return {table.find_column(name): value for name, value in mapping.items()}

    for group in (*columns.groups.values(), *columns.lists.values()):
        if not group or "::" in group or group != clean_text(group):
            raise ValueError(f"A group is a word or some, without ::. Received: {group!r}")
    for groups in columns.years.values():
        if not groups or not set(groups) <= set(DATE_GROUPS):
            known = " and ".join(DATE_GROUPS)
            raise ValueError(f"Dates give {known}. Received: {', '.join(groups)}")
    if not (columns.groups or columns.lists or columns.years):
        raise ValueError("No column was named that holds attributes.")
    if not all(columns.separators):
        raise ValueError("A separator must not be empty.")
    return replace(
        columns,
        picture=table.find_column(columns.picture),
        groups=found(columns.groups),
        lists=found(columns.lists),
        years=found(columns.years),
        id=table.find_column(columns.id) if columns.id else "",
        specimen=table.find_column(columns.specimen) if columns.specimen else "",
        test=columns.test and (table.find_column(columns.test[0]), columns.test[1]),
    )


class RowReading:
    """One pass over the rows of a table, and what is noted on the way.

    Args:
        table: `OwnTable`.
        index: `PictureIndex`.
        columns: `OwnColumns`, as `find_columns` returns them.
        exact_dates: whether a date with "ca." and the like gives its century alone.

    After `read`: `faults`, `named` (pictures that a row names), `without_picture`,
    `unread_dates`, `vague_dates` and `num_approximate`, see `OwnPlan`.
    """

    def __init__(
        self, table: OwnTable, index: PictureIndex, columns: OwnColumns, exact_dates: bool
    ):
        self.table, self.index, self.columns = table, index, columns
        self.exact_dates = exact_dates
        self.ignored = {clean_text(value).casefold() for value in columns.ignored}
        self.faults: list[str] = []
        self.named: set[str] = set()
        self.without_picture: list[tuple[int, str, str]] = []
        self.unread_dates: dict[str, list[int]] = defaultdict(list)
        self.vague_dates: dict[str, list[int]] = defaultdict(list)
        self.num_approximate = 0

    def read(self, merge_rows: bool) -> list[OwnRow]:
        """`OwnRow` of each picture that one row names, or several where they are united."""
        rows: dict[str, OwnRow] = {}
        for row, line in enumerate(self.table.lines):
            place = f"{self.table.path.name}, line {line}"
            cell = self._cell(self.columns.picture, row)
            found, reason = self.index.find(cell)
            self.named.update(found)
            if not found:
                self.without_picture.append((line, cell, reason))
            elif len(found) > 1:
                several = " or ".join(found[:3])
                self.faults.append(f"{place}: {cell} may be {several}; write its path")
            elif found[0] not in rows:
                rows[found[0]] = self._row(row, found[0], place)
            elif merge_rows:
                rows[found[0]] = self._unite(rows[found[0]], self._row(row, found[0], place), place)
            else:
                self.faults.append(
                    f"{place}: {found[0]} stands on line {rows[found[0]].line} already; keep one "
                    "row, or let rows of one picture be united"
                )
        return list(rows.values())

    def _cell(self, column: str, row: int) -> str:
        return self.table.columns[column][row]

    def _row(self, row: int, picture: str, place: str) -> OwnRow:
        columns = self.columns
        wanted = clean_text(self._cell(columns.id, row)) if columns.id else ""
        is_test = False
        if columns.test:
            mark = clean_text(self._cell(columns.test[0], row)).casefold()
            is_test = mark == clean_text(columns.test[1]).casefold()
        return OwnRow(
            line=self.table.lines[row],
            picture=picture,
            names=frozenset(self._names(row, place)),
            wanted_id=wanted or PurePosixPath(picture).stem,
            specimen=clean_text(self._cell(columns.specimen, row)) if columns.specimen else "",
            is_test=is_test,
        )

    def _unite(self, first: OwnRow, second: OwnRow, place: str) -> OwnRow:
        if (first.wanted_id, first.specimen, first.is_test) != (
            second.wanted_id, second.specimen, second.is_test,
        ):  # fmt: skip
            self.faults.append(
                f"{place}: {first.picture} has another id, specimen or split on line {first.line}"
            )
        return replace(first, names=first.names | second.names)

    def _names(self, row: int, place: str) -> Iterator[str]:
        separators = self.columns.separators
        for column, group in self.columns.groups.items():
            for value in split_cell(self._cell(column, row), separators):
                if value.casefold() not in self.ignored:
                    yield name_attribute(group, value)
        for column, group in self.columns.lists.items():
            try:
                values = split_list(self._cell(column, row), separators)
            except ValueError as error:
                self.faults.append(f"{place}, {column}: {error}")
                continue
            for value in values:
                if value.casefold() not in self.ignored:
                    yield name_attribute(group, value, listed=True)
        for column, groups in self.columns.years.items():
            text = clean_text(self._cell(column, row))
            if text and text.casefold() not in self.ignored:
                yield from self._date_names(text, groups, self.table.lines[row])

    def _date_names(self, text: str, groups: Sequence[str], line: int) -> Iterator[str]:
        period = parse_period(text)
        if period is None:
            self.unread_dates[text].append(line)
            return
        found = {"decade": period.decade, "century": period.century}
        self.num_approximate += period.approximate
        if period.approximate and self.exact_dates:
            found["decade"] = ""
        if not any(found[group] for group in groups):
            self.vague_dates[text].append(line)
        yield from (f"{group}::{found[group]}" for group in groups if found[group])
