"""The labels of pictures, kept sparse, and the table `id,attribute_ids` they are read from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from imetlib.collection.csvfiles import (
    CollectionError,
    TextTable,
    find_id_faults,
    list_faults,
    read_table,
)

LABEL_COLUMNS = ("id", "attribute_ids")
# Anything but plain whole numbers of up to nine digits; `01` and `1.0` are somebody's accident.
_NOT_LABELS = re.compile(r"[^0-9 ]|(?:^| )0[0-9]|[0-9]{10}")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels of pictures in compressed rows: iMet 2019 takes 4 MB instead of 120.

    Args:
        ids: `(num_samples,)` object array of str.
        indptr: `(num_samples + 1,)` int64. Row i has `indices[indptr[i]:indptr[i + 1]]`.
        indices: `(num_labels,)` int32 in `[0, num_classes)`, ascending within a row, none twice.
        num_classes: int. Number of attributes of the collection.

    Example:
        >>> labels = make_label_table(["a", "b"], [[2, 0], []], num_classes=3)
        >>> labels.row(0), labels.counts()
        (array([0, 2], dtype=int32), array([1, 0, 1]))
    """

    ids: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    num_classes: int

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, i: int) -> np.ndarray:
        """`(num_labels,)` int32. The columns of one picture."""
        i = range(len(self))[i]
        return self.indices[self.indptr[i] : self.indptr[i + 1]]

    def counts(self) -> np.ndarray:
        """`(num_classes,)` int64. Pictures with each attribute."""
        return np.bincount(self.indices, minlength=self.num_classes)

    def labels_per_sample(self) -> np.ndarray:
        """`(num_samples,)` int64. Labels of each picture."""
        return np.diff(self.indptr)

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """`(len(ids),)` int64. Rows of some ids, in their order.

        Raises:
            ValueError: ids that the table does not hold, the first 20 by name.
        """
        ids = list(ids)
        missing = [sample_id for sample_id in ids if sample_id not in self._row_of]
        if missing:
            raise ValueError(
                f"the table lacks {len(missing)} of the ids asked for\n{list_faults(missing)}"
            )
        return np.array([self._row_of[sample_id] for sample_id in ids], np.int64)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {sample_id: row for row, sample_id in enumerate(self.ids)}

    def take(self, rows) -> LabelTable:
        """The table of some rows: a slice, a mask, or row numbers in any order."""
        rows = np.arange(len(self))[rows]
        lengths = self.labels_per_sample()[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
        indices = self.indices[np.repeat(self.indptr[:-1][rows], lengths) + within]
        return LabelTable(self.ids[rows], indptr, indices, self.num_classes)

    def dense(self, rows=None, dtype=bool) -> np.ndarray:
        """`(len(rows), num_classes)` 0/1 matrix of the rows asked for, of all when None."""
        part = self if rows is None else self.take(rows)
        matrix = np.zeros((len(part), self.num_classes), dtype)
        matrix[np.repeat(np.arange(len(part)), part.labels_per_sample()), part.indices] = 1
        return matrix


def make_label_table(
    ids: Sequence[str], labels: Sequence[Iterable[int]], num_classes: int
) -> LabelTable:
    """Builds a `LabelTable` from ids and the label columns of each of them.

    Args:
        ids: one str a picture.
        labels: for each picture its columns, in any order, none twice, each in
            `[0, num_classes)`.
        num_classes: int.

    Raises:
        ValueError: a column is out of range or twice in a row, or the lengths differ.
    """
    if len(ids) != len(labels):
        raise ValueError(
            f"`ids` and `labels` differ in length. Received: {len(ids)}, {len(labels)}"
        )
    rows = [sorted(columns) for columns in labels]
    for sample_id, row in zip(ids, rows, strict=True):
        if row and not (row[0] >= 0 and row[-1] < num_classes and len(set(row)) == len(row)):
            raise ValueError(
                f"`labels` of id {sample_id} must be different columns in 0..{num_classes - 1}. "
                f"Received: {row}"
            )
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    indices = np.array([column for row in rows for column in row], np.int32)
    return LabelTable(np.array(ids, object), indptr, indices, num_classes)


def read_label_table(
    path: str | Path,
    num_classes: int,
    *,
    allow_empty: bool = False,
    expected_rows: int | None = None,
) -> LabelTable:
    """Reads and verifies a table `id,attribute_ids`.

    Args:
        path: the CSV file. Label ids are whole numbers separated by blanks, in any order.
        num_classes: int. Labels must lie in `[0, num_classes)`.
        allow_empty: whether a picture may have no label (true of test tables).
        expected_rows: int or None. The only way to see that whole lines were cut off.

    Returns:
        `LabelTable` in the order of the file.

    Raises:
        CollectionError: naming the line and id of every fault.
    """
    table = read_table(path, LABEL_COLUMNS)
    labels, faults = parse_labels(table, num_classes, allow_empty=allow_empty)
    if expected_rows is not None and len(table) != expected_rows:
        faults.append(
            f"{table.path.name}: {len(table)} rows, wanted {expected_rows}; is the file cut?"
        )
    if faults:
        raise CollectionError(path, faults)
    return labels


def parse_labels(
    table: TextTable, num_classes: int | None, *, allow_empty: bool = False
) -> tuple[LabelTable, list[str]]:
    """Labels of a table already read, and its faults.

    Args:
        table: `TextTable` with the columns `id` and `attribute_ids`.
        num_classes: int, or None where it is not known: the range is then not judged.
        allow_empty: whether a picture may have no label.

    Returns:
        `LabelTable` and the faults of the table; the labels are only good when there are none.
    """
    faults = [*table.faults, *find_id_faults(table)]
    cells = table.columns["attribute_ids"]
    if not allow_empty:
        for row, cell in enumerate(cells):
            if not cell.strip(" "):
                faults.append(f"{table.place(row)}: no labels; give it one or remove the row")
    # One search over all cells is fifty times faster than one a cell, and nearly all are good.
    if _NOT_LABELS.search(" ".join(cells)):
        faults += _find_bad_words(table)
        cells = ["" if _NOT_LABELS.search(cell) else cell for cell in cells]
    words = [cell.split() for cell in cells]
    lengths = np.array([len(row) for row in words], np.int64)
    flat = np.array([int(word) for row in words for word in row], np.int64)
    rows = np.repeat(np.arange(len(cells)), lengths)
    order = np.lexsort((flat, rows))
    flat = flat[order]
    twice = np.flatnonzero((np.diff(rows) == 0) & (np.diff(flat) == 0))
    for row, label in Counter(zip(rows[twice].tolist(), flat[twice].tolist(), strict=True)):
        faults.append(f"{table.place(row)}: label {label} twice; keep one")
    if num_classes is not None:
        for i in np.flatnonzero(flat >= num_classes).tolist():
            faults.append(
                f"{table.place(int(rows[i]))}: label {flat[i]} is not in 0..{num_classes - 1}"
            )
    labels = LabelTable(
        ids=np.array(table.columns["id"], object),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        indices=flat.astype(np.int32),
        num_classes=num_classes if num_classes is not None else int(flat.max(initial=-1)) + 1,
    )
    return labels, faults


def _find_bad_words(table: TextTable) -> list[str]:
    faults = []
    for row, cell in enumerate(table.columns["attribute_ids"]):
        bad = [word for word in cell.split(" ") if _NOT_LABELS.search(word)]
        if bad:
            faults.append(
                f"{table.place(row)}: label {bad[0][:40]} is not a whole number as in labels.csv"
            )
    return faults
