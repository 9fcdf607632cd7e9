"""Folds in which every label is spread evenly and no specimen is cut.

Pictures of one specimen (several photographs of one object, sister paintings) often have the
same labels: a model that has seen one of them knows the answer for the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from imetlib.collection.csvfiles import CollectionError, find_id_faults, read_table
from imetlib.collection.labels import LabelTable
from imetlib.collection.stratify import StratifyProblem, refine, stratify
from imetlib.files import replacing

FOLD_COLUMNS = ("id", "fold")
_MAX_FOLDS = 127


@dataclass(frozen=True, eq=False)
class FoldReport:
    """How evenly folds share pictures and labels.

    Args:
        sizes: `(num_folds,)` int64. Pictures in each fold.
        counts: `(num_classes, num_folds)` int64. Pictures with each label in each fold.
        mean_deviation: mean over labels and folds of |count - ideal|, the ideal being the
            label's pictures divided by the number of folds.
        max_deviation: the largest of them.
        within_one: share in [0, 1] of the labels with every fold less than 1 from the ideal.
        absent: `(num_folds,)` int64. Labels of the collection that a fold lacks.
        cut_specimens: specimens with pictures in several folds; None without specimens.
    """

    sizes: np.ndarray
    counts: np.ndarray
    mean_deviation: float
    max_deviation: float
    within_one: float
    absent: np.ndarray
    cut_specimens: int | None


def make_folds(
    labels: LabelTable,
    num_folds: int = 5,
    *,
    specimens: np.ndarray | None = None,
    seed: int | None = 0,
) -> np.ndarray:
    """Shares pictures out by sparse iterative stratification, whole specimens at a time.

    The rarest label goes first, each of its specimens to the fold that lacks that label most;
    then specimens move as long as that evens the labels out, or the sizes at no cost to the
    labels. Plain Python on lists: iMet 2019 takes about a second, no longer than importing
    numba and compiling would.

    Args:
        labels: `LabelTable` of the pictures.
        num_folds: int in [2, 127], at most the number of specimens.
        specimens: `(num_samples,)` int or None. Rows with one number share a fold. None: every
            picture is its own specimen.
        seed: int, or None to take the specimens in the order given. Other seeds give other
            folds, as even as these.

    Returns:
        `(num_samples,)` int8 in `[0, num_folds)`.

    Raises:
        ValueError: `num_folds` does not fit, or `specimens` has another length.

    Reference:
        Sechidis et al., On the Stratification of Multi-Label Data, ECML PKDD 2011.
    """
    unit_of_row, unit_sizes = _number_units(len(labels), specimens, seed)
    if not 2 <= num_folds <= min(_MAX_FOLDS, len(unit_sizes)):
        raise ValueError(
            f"`num_folds` must be in 2..{_MAX_FOLDS} and at most the number of specimens "
            f"({len(unit_sizes)}). Received: num_folds={num_folds}"
        )
    unit_of_label = np.repeat(unit_of_row, labels.labels_per_sample())
    cells, counts = np.unique(
        unit_of_label * labels.num_classes + labels.indices, return_counts=True
    )
    units, columns = np.divmod(cells, labels.num_classes)
    problem = StratifyProblem(
        sizes=unit_sizes.tolist(),
        indptr=np.searchsorted(units, np.arange(len(unit_sizes) + 1)).tolist(),
        columns=columns.tolist(),
        counts=counts.tolist(),
        totals=labels.counts().tolist(),
        num_folds=num_folds,
    )
    fold_of_unit = refine(problem, stratify(problem))
    return np.array(fold_of_unit, np.int8)[unit_of_row]


def holdout_rows(
    labels: LabelTable,
    specimens: np.ndarray | None = None,
    *,
    fraction: float = 1 / 6,
    seed: int = 0,
) -> np.ndarray:
    """Rows to hold out and never fit on: whole specimens, stratified by label.

    Args:
        labels: `LabelTable` of the pictures.
        specimens: `(num_samples,)` int or None, as for `make_folds`.
        fraction: float in [1/20, 1/2]. Share of the pictures, rounded to a ratio with a
            denominator of at most 20: that many folds are made and some of them taken.
        seed: int.

    Returns:
        `(num_rows,)` int64, ascending. The rows that are held out.

    Raises:
        ValueError: `fraction` is out of range.
    """
    if not 1 / 20 <= fraction <= 1 / 2:
        raise ValueError(f"`fraction` must be in [1/20, 1/2]. Received: fraction={fraction}")
    ratio = Fraction(fraction).limit_denominator(20)
    folds = make_folds(labels, ratio.denominator, specimens=specimens, seed=seed)
    return np.flatnonzero(folds < ratio.numerator)


def fold_report(
    labels: LabelTable, folds: np.ndarray, *, specimens: np.ndarray | None = None
) -> FoldReport:
    """Measures folds.

    Args:
        labels: `LabelTable` of the pictures.
        folds: `(num_samples,)` int, fold of each row, numbered from 0.
        specimens: `(num_samples,)` int or None.

    Raises:
        ValueError: `folds` has another length than `labels`.
    """
    folds = np.asarray(folds, np.int64)
    if len(folds) != len(labels):
        raise ValueError(
            f"`folds` must have one number a picture. Received: {len(folds)} for {len(labels)}"
        )
    sizes = np.bincount(folds)
    fold_of_label = np.repeat(folds, labels.labels_per_sample())
    counts = np.bincount(
        labels.indices.astype(np.int64) * len(sizes) + fold_of_label,
        minlength=labels.num_classes * len(sizes),
    ).reshape(labels.num_classes, len(sizes))
    deviation = np.abs(counts - counts.sum(axis=1, keepdims=True) / len(sizes))
    cut_specimens = None
    if specimens is not None:
        pairs = np.unique(np.stack([specimens, folds]), axis=1)
        cut_specimens = int(np.sum(np.unique(pairs[0], return_counts=True)[1] > 1))
    return FoldReport(
        sizes=sizes,
        counts=counts,
        mean_deviation=float(deviation.mean()),
        max_deviation=float(deviation.max()),
        within_one=float(np.mean(deviation.max(axis=1) < 1)),
        absent=np.sum(counts == 0, axis=0),
        cut_specimens=cut_specimens,
    )


def hash_folds(ids: Sequence[str], folds: np.ndarray) -> str:
    """SHA-256 in hex of ids and folds in their order: what a run record quotes."""
    return hashlib.sha256(_as_csv(ids, folds).encode()).hexdigest()


def write_folds(
    path: str | Path, ids: Sequence[str], folds: np.ndarray, meta: Mapping | None = None
) -> Path:
    """Writes folds as `id,fold`, and beside it a `.json` with their hash.

    Args:
        path: the file, ending in `.csv`. The same folds may be written again; a file with other
            folds is left as it is.
        ids: one str a picture.
        folds: `(num_samples,)` int, numbered from 0.
        meta: what the `.json` should hold besides, such as seed and hash of the collection.

    Returns:
        Path. The file.

    Raises:
        ValueError: the file holds other folds, or the lengths differ.
    """
    path = Path(path)
    if path.suffix != ".csv":
        raise ValueError(f"`path` must end in .csv. Received: {path}")
    if len(ids) != len(folds):
        raise ValueError(f"`ids` and `folds` differ in length. Received: {len(ids)}, {len(folds)}")
    text = _as_csv(ids, folds)
    if path.exists() and path.read_bytes() != text.encode():
        raise ValueError(f"{path} holds other folds; delete it or write under another name")
    record = {
        **(meta or {}),
        "num_folds": int(np.max(folds)) + 1,
        "num_samples": len(ids),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in (
        (path, text),
        (path.with_suffix(".json"), json.dumps(record, indent=2) + "\n"),
    ):
        with replacing(target) as temporary:
            temporary.write_bytes(content.encode())
    return path


def read_folds(path: str | Path, ids: Sequence[str]) -> np.ndarray:
    """Reads folds and makes sure that they are those of the pictures asked for.

    Args:
        path: the CSV file `id,fold`, its rows in any order. Where `write_folds` left its `.json`
            beside it, the hash is compared; folds from elsewhere do without.
        ids: one str a picture: the order of the answer.

    Returns:
        `(len(ids),)` int8.

    Raises:
        CollectionError: ids are missing, unknown or twice, a fold is not a number, the folds are
            not 0..k-1, or the file was changed since it was written.
    """
    table = read_table(path, FOLD_COLUMNS)
    faults = [*table.faults, *find_id_faults(table)]
    fold_of: dict[str, int] = {}
    for row, (sample_id, fold) in enumerate(zip(*table.columns.values(), strict=True)):
        if fold.isascii() and fold.isdigit() and len(fold) <= 3 and int(fold) < _MAX_FOLDS:
            fold_of[sample_id] = int(fold)
        else:
            faults.append(f"{table.place(row)}: fold must be in 0..{_MAX_FOLDS - 1}: {fold[:40]!r}")
    name = table.path.name
    known, listed = set(ids), set(table.columns["id"])
    faults += [f"{name}, id {i}: missing from the folds" for i in ids if i not in listed]
    faults += [f"{name}, id {i}: not a picture asked for" for i in fold_of if i not in known]
    absent = set(range(max(fold_of.values(), default=0) + 1)) - set(fold_of.values())
    if absent and not faults:
        numbers = ", ".join(map(str, sorted(absent)))
        faults.append(f"{name}: folds must be 0..k-1, each with pictures. Empty: {numbers}")
    sidecar = table.path.with_suffix(".json")
    if not faults and sidecar.exists():
        try:
            recorded = json.loads(sidecar.read_text(encoding="utf-8")).get("sha256")
        except (ValueError, AttributeError):
            recorded = None
        if recorded != table.sha256:
            faults.append(f"{name}: differs from the hash in {sidecar.name}; was it edited?")
    if faults:
        raise CollectionError(
            path, faults, "folds belong to one table: make them again for this one"
        )
    return np.array([fold_of[i] for i in ids], np.int8)


def _number_units(num_samples, specimens, seed) -> tuple[np.ndarray, np.ndarray]:
    """Unit of each row, numbered in the order in which the seed wants them, and unit sizes."""
    if specimens is None:
        specimens = np.arange(num_samples)
    elif len(specimens) != num_samples:
        raise ValueError(
            f"`specimens` must have one number a picture. "
            f"Received: {len(specimens)} for {num_samples}"
        )
    names, unit_of_row = np.unique(specimens, return_inverse=True)
    if seed is not None:
        unit_of_row = np.random.default_rng(seed).permutation(len(names))[unit_of_row]
    return unit_of_row, np.bincount(unit_of_row, minlength=len(names))


def _as_csv(ids: Sequence[str], folds: np.ndarray) -> str:
    def quote(text):
        return f'"{text}"' if "," in text else text

    rows = [f"{quote(i)},{fold}\n" for i, fold in zip(ids, np.asarray(folds).tolist(), strict=True)]
    return ",".join(FOLD_COLUMNS) + "\n" + "".join(rows)


def find_folds(folder, num_folds, ids):
    """The folds of a run, from the file beside it or above it.

    Args:
        folder: run folder; its parents are looked into as well, up to five levels.
        num_folds: int.
        ids: as for `read_folds`.

    Returns:
        as `read_folds`, or None where there is no file.
    """
    folder = Path(folder).resolve()
    for place in (folder, *folder.parents[:5]):
        if (place / f"folds-{num_folds}.csv").is_file():
            return read_folds(place / f"folds-{num_folds}.csv", ids)
    return None
