"""The user's own folder and table: what would become of them in the form of a collection.

`plan_collection` looks and writes nothing; `write_collection` in `own_files` carries a plan out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imetlib.collection.csvfiles import CollectionError
from imetlib.collection.own_pictures import PictureIndex, make_ids
from imetlib.collection.own_rows import OwnColumns, OwnRow, RowReading, find_columns
from imetlib.collection.own_table import OwnTable


@dataclass(frozen=True, eq=False)
class OwnPlan:
    """What would be written, and what would not; made by `plan_collection`.

    Args:
        table: the table's file.
        pictures: the folder of pictures.
        columns: `OwnColumns`.
        num_rows: of the table.
        train, test: `OwnRow` of each picture that is taken, in the order of the table.
        kept: attribute to its training pictures, sorted by group and name; the ids 0, 1, 2 ....
        dropped: attribute to its training pictures, fewer than `min_count`.
        min_count: int >= 1.
        lines_without_attribute: of rows that have a picture and say nothing of it.
        lines_left_empty: of rows whose attributes were all dropped.
        rows_without_picture: (line, cell, reason) of each.
        pictures_without_row: paths below the folder.
        unread_dates: text to the lines where it stands, of dates that were not understood.
        vague_dates: the same, of those that were, and lie in no single decade or century.
        num_approximate: dates taken at their word though the table doubts them ("ca.").
        cut_specimens: specimens with pictures in both train and test.
    """

    table: Path
    pictures: Path
    columns: OwnColumns
    num_rows: int
    train: list[OwnRow]
    test: list[OwnRow]
    kept: dict[str, int]
    dropped: dict[str, int]
    min_count: int
    lines_without_attribute: list[int]
    lines_left_empty: list[int]
    rows_without_picture: list[tuple[int, str, str]]
    pictures_without_row: list[str]
    unread_dates: dict[str, list[int]]
    vague_dates: dict[str, list[int]]
    num_approximate: int
    cut_specimens: list[str]

    @property
    def changed_ids(self) -> dict[str, str]:
        """Id to what was wanted, where it is another."""
        return {row.id: row.wanted_id for row in self.train + self.test if row.id != row.wanted_id}


def plan_collection(
    table: OwnTable,
    index: PictureIndex,
    columns: OwnColumns,
    *,
    min_count: int = 5,
    test_fraction: float = 0.0,
    seed: int = 0,
    merge_rows: bool = False,
    exact_dates: bool = False,
) -> OwnPlan:
    """Goes through a table and a folder of pictures, and writes nothing.

    Attributes are counted on training pictures alone, after the test set was chosen, so that its
    labels do not decide what there is to learn.

    Args:
        table: `OwnTable`.
        index: `PictureIndex`.
        columns: `OwnColumns`, with names that `OwnTable.find_column` finds.
        min_count: int >= 1. Attributes with fewer training pictures are dropped.
        test_fraction: float, 0 <= fraction < 1. Share of the pictures with an attribute that
            becomes the test set, whole specimens at a time.
        seed: int. Another seed, another test set.
        merge_rows: whether several rows of one picture unite their attributes.
        exact_dates: whether a date with "ca." and the like gives its century alone.

    Returns:
        `OwnPlan`.

    Raises:
        CollectionError: every fault of the table with its line, or nothing would be left.
        ValueError: an argument or column that cannot be.
    """
    columns = find_columns(table, columns)
    if min_count < 1 or not 0 <= test_fraction < 1 or (test_fraction and columns.test):
        raise ValueError(
            "`min_count` must be at least 1, `test_fraction` from 0 to below 1, and 0 where a "
            f"column says what the test set is. Received: min_count={min_count}, "
            f"test_fraction={test_fraction}, test={columns.test}"
        )
    reading = RowReading(table, index, columns, exact_dates)
    rows = reading.read(merge_rows)
    faults = [*table.faults, *reading.faults]
    if not rows and not faults:
        reason = f"no cell of the column {columns.picture} names one of the "
        faults.append(f"{reason}{len(index.pictures):,} pictures in {index.folder}")
    if faults:
        raise CollectionError(table.path, faults)

    without = [row.line for row in rows if not row.names and not row.is_test]
    rows = [row for row in rows if row.names or row.is_test]
    if test_fraction:
        drawn = _draw_test(rows, test_fraction, seed)
        rows = [replace(row, is_test=row.picture in drawn) for row in rows]
    counts = Counter(name for row in rows if not row.is_test for name in row.names)
    order = sorted(counts, key=lambda name: name.split("::", 1))
    kept = {name: counts[name] for name in order if counts[name] >= min_count}
    dropped = {name: counts[name] for name in order if counts[name] < min_count}
    rows = [replace(row, names=row.names & kept.keys()) for row in rows]
    # Test pictures that a column names are to be answered, whatever is known of them.
    stay = [bool(row.names) or (row.is_test and columns.test is not None) for row in rows]
    left = [row for row, stays in zip(rows, stay, strict=True) if stays]
    ids = make_ids(row.wanted_id for row in left)
    left = [replace(row, id=sample_id) for row, sample_id in zip(left, ids, strict=True)]
    train, test = ([row for row in left if row.is_test == is_test] for is_test in (False, True))
    if not train:
        raise CollectionError(
            table.path,
            [
                f"no training picture has an attribute with at least {min_count} pictures "
                f"({len(counts):,} attributes, {max(counts.values(), default=0):,} pictures at "
                "most); lower the count, or look at the columns"
            ],
        )
    both = {row.specimen for row in train} & {row.specimen for row in test} - {""}
    return OwnPlan(
        table=table.path,
        pictures=index.folder,
        columns=columns,
        num_rows=len(table),
        train=train,
        test=test,
        kept=kept,
        dropped=dropped,
        min_count=min_count,
        lines_without_attribute=without,
        lines_left_empty=[row.line for row, stays in zip(rows, stay, strict=True) if not stays],
        rows_without_picture=reading.without_picture,
        pictures_without_row=sorted(set(index.pictures) - reading.named),
        unread_dates=dict(reading.unread_dates),
        vague_dates=dict(reading.vague_dates),
        num_approximate=reading.num_approximate,
        cut_specimens=sorted(both),
    )


def _draw_test(rows: list[OwnRow], fraction: float, seed: int) -> set[str]:
    """Pictures of about this share of the rows, whole specimens at a time."""
    specimens: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        # A picture's path has a suffix and a specimen's key a blank in front: never alike.
        specimens[f" {row.specimen}" if row.specimen else row.picture].append(row.picture)
    keys = list(specimens)
    wanted = round(fraction * len(rows))
    drawn: set[str] = set()
    for position in np.random.default_rng(seed).permutation(len(keys)):
        members = specimens[keys[position]]
        if len(drawn) + len(members) <= wanted:
            drawn.update(members)
    return drawn
