"""The submission: written whole or not at all, and verified against the sample's ids.

The form is the competition's: `id,attribute_ids`, the ids of the labels separated by blanks, one
row for each id of `sample_submission.csv`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imetlib.collection.csvfiles import CollectionError, TextTable, find_id_faults, read_table
from imetlib.collection.labels import LABEL_COLUMNS, parse_labels
from imetlib.decisions.fbeta import label_pairs
from imetlib.files import replacing

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

_IDS_SHOWN = 5


class SubmissionError(CollectionError):
    """A submission that is refused; `faults` holds every reason."""


@dataclass(frozen=True)
class SubmissionCheck:
    """What `check_submission` found.

    Args:
        faults: one sentence each: what is wrong, on which line, with which id. Any of them
            makes the submission worthless.
        notes: what is unusual and harmless: another order of the rows, blanks at an edge.
        num_rows: int. Rows that could be read.
        num_labels: int. Labels in them.
    """

    faults: tuple[str, ...]
    notes: tuple[str, ...]
    num_rows: int
    num_labels: int


def write_submission(
    path: str | Path,
    ids: Sequence[str],
    y_pred: Labels,
    sample: str | Path | Sequence[str],
    *,
    num_classes: int | None = None,
    overwrite: bool = False,
) -> SubmissionCheck:
    """Writes a submission in the order of the sample; it is read back before it gets its name.

    Args:
        path: the csv file.
        ids: `(num_samples,)` str. The pictures that `y_pred` belongs to, in any order.
        y_pred: `(num_samples, num_classes)` array of 0/1, `LabelTable`, or one array of columns
            a picture: decisions, at least one label each.
        sample: `sample_submission.csv`, or its ids. `ids` must be the same set.
        num_classes: int. Needed only where `y_pred` is a sequence of arrays.
        overwrite: whether a file of that name may be replaced.

    Returns:
        `SubmissionCheck` of the file, without faults.

    Raises:
        SubmissionError: the file exists, or with every fault of the answer; nothing is written.
        ValueError: `y_pred` holds something other than decisions.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise SubmissionError(
            path, ["exists already; give another name, or overwrite=True to replace it"]
        )
    sample_ids = read_sample_ids(sample)
    rows, columns, shape = label_pairs(y_pred, "y_pred")
    if len(ids) != shape[0]:
        raise SubmissionError(
            path, [f"{len(ids)} ids for {shape[0]} rows of `y_pred`: which row is whose?"]
        )
    if num_classes is None:
        if isinstance(y_pred, (list, tuple)):
            raise ValueError(
                "`num_classes` is needed where `y_pred` is a sequence: it tells the labels that "
                "exist from those that do not."
            )
        num_classes = shape[1]
    ids = [str(sample_id) for sample_id in ids]
    faults = _find_answer_faults(ids, rows, columns, num_classes, sample_ids)
    if faults:
        raise SubmissionError(path, faults)
    starts = np.searchsorted(rows, np.arange(len(ids) + 1))
    row_of = {sample_id: row for row, sample_id in enumerate(ids)}
    with replacing(path) as temporary:
        with temporary.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(LABEL_COLUMNS)
            for sample_id in sample_ids:
                row = row_of[sample_id]
                labels = np.sort(columns[starts[row] : starts[row + 1]])
                writer.writerow((sample_id, " ".join(map(str, labels.tolist()))))
        check = check_submission(temporary, sample_ids, num_classes)
        if check.faults:
            raise SubmissionError(path, check.faults)
    return check


def verify_submission(
    path: str | Path, sample: str | Path | Sequence[str], num_classes: int
) -> list[str]:
    """The faults of a submission, empty where it is good; `check_submission` says more."""
    return list(check_submission(path, sample, num_classes).faults)


def check_submission(
    path: str | Path, sample: str | Path | Sequence[str], num_classes: int
) -> SubmissionCheck:
    """Verifies any submission, whoever wrote it.

    Args:
        path: the csv file.
        sample: `sample_submission.csv`, or its ids.
        num_classes: int. Labels must lie in `[0, num_classes)`.

    Returns:
        `SubmissionCheck`. A missing or unreadable submission is a fault, not an error.

    Raises:
        CollectionError: the sample cannot be read.
    """
    sample_ids = read_sample_ids(sample)
    try:
        table = read_table(path, LABEL_COLUMNS)
    except CollectionError as error:
        return SubmissionCheck(tuple(error.faults), (), 0, 0)
    labels, faults = parse_labels(table, num_classes)
    if table.byte_order_mark:
        faults.insert(0, "line 1: a byte order mark before the header; save as plain UTF-8")
    places = {sample_id: table.place(row) for row, sample_id in enumerate(table.columns["id"])}
    faults += _compare_ids(places, sample_ids, num_unread=len(table.faults))
    return SubmissionCheck(
        faults=tuple(faults),
        notes=tuple(_find_notes(table, sample_ids)),
        num_rows=len(table),
        num_labels=len(labels.indices),
    )


def read_sample_ids(sample: str | Path | Sequence[str]) -> list[str]:
    """Ids of `sample_submission.csv`, or those given, in their order.

    Raises:
        CollectionError: the file cannot be read, or an id is in it twice.
    """
    if not isinstance(sample, (str, Path)):
        return [str(sample_id) for sample_id in sample]
    table = read_table(sample, LABEL_COLUMNS)
    faults = [*table.faults, *find_id_faults(table)]
    if faults:
        raise CollectionError(sample, faults)
    return table.columns["id"]


def _find_answer_faults(
    ids: list[str],
    rows: np.ndarray,
    columns: np.ndarray,
    num_classes: int,
    sample_ids: list[str],
) -> list[str]:
    """What would be wrong with the file, found before it is written."""
    faults = []
    seen: set[str] = set()
    for sample_id in ids:
        if sample_id in seen:
            faults.append(f"id {sample_id} twice in `ids`; answer each picture once")
        seen.add(sample_id)
    for row in np.flatnonzero(np.bincount(rows, minlength=len(ids)) == 0):
        faults.append(f"id {ids[row]}: no labels; decide with min_labels=1")
    for entry in np.flatnonzero((columns < 0) | (columns >= num_classes)):
        faults.append(
            f"id {ids[rows[entry]]}: label {columns[entry]} is not in 0..{num_classes - 1}"
        )
    return faults + _compare_ids({i: f"id {i}" for i in ids}, sample_ids)


def _compare_ids(
    places: dict[str, str], sample_ids: Sequence[str], num_unread: int = 0
) -> list[str]:
    """Faults of the set of ids.

    Args:
        places: id to how it is called in an error, with its line where there is one.
        sample_ids: the ids wanted.
        num_unread: rows that could not be read: that many missing ids are no news.
    """
    wanted = set(sample_ids)
    missing = [sample_id for sample_id in sample_ids if sample_id not in places]
    extra = [sample_id for sample_id in places if sample_id not in wanted]
    by_case = {sample_id.lower(): sample_id for sample_id in missing}
    if extra and all(sample_id.lower() in by_case for sample_id in extra):
        first = extra[0]
        return [
            f"{len(extra)} ids differ from the sample by case, first {places[first]}: the sample "
            f"has {by_case[first.lower()]}"
        ]
    faults = []
    if len(missing) > num_unread:
        faults.append(f"{_count(missing)} of the sample missing: {_shorten(missing)}")
    if extra:
        shown = _shorten([places[sample_id] for sample_id in extra])
        faults.append(f"{_count(extra)} not in the sample: {shown}")
    if faults and len(missing) == len(extra):
        faults.append("the count of the ids is right, the set is not")
    return faults


def _find_notes(table: TextTable, sample_ids: Sequence[str]) -> list[str]:
    notes = []
    ids = table.columns["id"]
    if ids != list(sample_ids) and sorted(ids) == sorted(sample_ids):
        notes.append("row order differs from the sample; accepted, because rows are told by id")
    lines = [
        str(line)
        for line, cell in zip(table.lines, table.columns["attribute_ids"], strict=True)
        if cell != " ".join(cell.split())
    ]
    if lines:
        where = f"line{'s' * (len(lines) > 1)} {_shorten(lines)}"
        notes.append(f"{where}: more blanks than one between labels; accepted")
    with table.path.open("rb") as file:
        file.seek(-1, 2)
        if file.read(1) not in b"\r\n":
            notes.append("the last line has no end: if the file was cut there, nothing shows it")
    return notes


def _count(ids: Sequence[str]) -> str:
    return f"{len(ids):,} id{'s' * (len(ids) != 1)}"


def _shorten(words: Sequence[str]) -> str:
    more = f" and {len(words) - _IDS_SHOWN:,} more" if len(words) > _IDS_SHOWN else ""
    return ", ".join(words[:_IDS_SHOWN]) + more
