"""The tables of a collection: read as text, verified, kept sparse.

A collection is a folder with `train.csv` (`id,attribute_ids`), `labels.csv`
(`attribute_id,attribute_name`, names written `group::name`), the pictures `train/<id>.jpg`, and
optionally `sample_submission.csv`, `test/` and `specimens.csv` (`id,specimen`).
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from imetlib.collection.csvfiles import (
    CollectionError,
    TextTable,
    find_id_faults,
    read_table,
    why_not_an_id,
)
from imetlib.collection.images import SUFFIXES
from imetlib.collection.labels import (
    LABEL_COLUMNS,
    LabelTable,
    make_label_table,
    parse_labels,
    read_label_table,
)

__all__ = [
    "Collection",
    "CollectionError",
    "LabelTable",
    "TextTable",
    "make_label_table",
    "read_collection",
    "read_label_table",
    "read_table",
]

NAME_COLUMNS = ("attribute_id", "attribute_name")
SPECIMEN_COLUMNS = ("id", "specimen")
_WHERE_FROM = "data/README.md says what a collection folder holds and where to get iMet 2019"
_ONE_PICTURE = f"each id needs one picture <id>{'|'.join(SUFFIXES)}; {_WHERE_FROM}"


@dataclass(frozen=True, eq=False)
class Collection:
    """A verified collection; made by `read_collection`.

    Args:
        root: the folder.
        class_names: `group::name` of each attribute; column j of every label array is id j.
        train: `LabelTable` of the training pictures, in the order of `train.csv`.
        test_ids: `(num_test,)` object array of str, in the order of `sample_submission.csv`,
            else sorted; empty where the collection has no test pictures.
        specimens: `(num_train,)` int64 or None. Pictures with one number share a fold.
        sha256: hex digest over the bytes of the tables.
    """

    root: Path
    class_names: tuple[str, ...]
    train: LabelTable
    test_ids: np.ndarray
    specimens: np.ndarray | None
    sha256: str

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """Group name to its columns, ascending; groups in the order of their first column."""
        columns = defaultdict(list)
        for column, name in enumerate(self.class_names):
            columns[name.split("::", 1)[0]].append(column)
        return {group: np.array(members) for group, members in columns.items()}

    def without(self, ids: Iterable[str]) -> Collection:
        """The same collection without some training pictures; test pictures all stay."""
        gone = set(ids)
        kept = np.array([sample_id not in gone for sample_id in self.train.ids], bool)
        specimens = None if self.specimens is None else self.specimens[kept]
        return replace(self, train=self.train.take(kept), specimens=specimens)

    @cached_property
    def _pictures(self) -> dict[str, dict[str, list[str]]]:
        return {split: _list_pictures(self.root / split) for split in ("train", "test")}

    def picture_path(self, split: str, sample_id: str) -> Path:
        """The file of one picture; each folder is listed once.

        Args:
            split: "train" or "test".
            sample_id: str.

        Raises:
            CollectionError: the folder holds no such picture.
        """
        if split not in self._pictures:
            raise ValueError(f'`split` must be "train" or "test". Received: {split!r}')
        names = self._pictures[split].get(sample_id)
        if not names:
            raise CollectionError(
                self.root, [f"{split}/{sample_id}: no such picture"], _ONE_PICTURE
            )
        return self.root / split / names[0]


def read_collection(root: str | Path, *, require_pictures: bool = True) -> Collection:
    """Reads the tables of a collection folder and verifies all of them.

    Args:
        root: the folder.
        require_pictures: whether every id must have its picture. False where only the tables
            are at hand, as for choosing thresholds.

    Returns:
        `Collection`.

    Raises:
        CollectionError: with every fault of every table, or the pictures that are missing.
    """
    root = Path(root)
    if not root.is_dir():
        raise CollectionError(root, [f"no such folder; {_WHERE_FROM}"])
    faults: list[str] = []
    names = _try_table(root / "labels.csv", NAME_COLUMNS, faults)
    table = _try_table(root / "train.csv", LABEL_COLUMNS, faults)
    sample = _try_table(root / "sample_submission.csv", LABEL_COLUMNS, faults, optional=True)
    siblings = _try_table(root / "specimens.csv", SPECIMEN_COLUMNS, faults, optional=True)

    # Not their truth: a table whose rows are all faulty has none, and is there all the same.
    class_names = None if names is None else _parse_class_names(names, faults)
    train = specimens = None
    if table is not None:
        train, found = parse_labels(table, None if class_names is None else len(class_names))
        faults += found
    if sample is not None:
        faults += [*sample.faults, *find_id_faults(sample)]
        test_ids = sample.columns["id"]
    else:
        test_ids = sorted(_list_pictures(root / "test"))
        faults += [f"test/{i}: {why}" for i in test_ids if (why := why_not_an_id(i))]
    if train is not None:
        faults += _find_shared_ids(train.ids, test_ids)
        if siblings is not None:
            specimens = _parse_specimens(siblings, train.ids, faults)
    if faults or train is None or class_names is None:
        raise CollectionError(root, faults)

    digest = hashlib.sha256()
    for part in (names, table, sample, siblings):
        if part is not None:
            digest.update(f"{part.path.name} {part.sha256}\n".encode())
    collection = Collection(
        root, class_names, train, np.array(test_ids, object), specimens, digest.hexdigest()
    )
    if require_pictures:
        _check_pictures(collection)
    return collection


def _try_table(
    path: Path, columns: Sequence[str], faults: list[str], *, optional: bool = False
) -> TextTable | None:
    if optional and not path.exists():
        return None
    try:
        table = read_table(path, columns)
    except CollectionError as error:
        mend = "" if path.exists() else f"; {_WHERE_FROM}"
        faults += [f"{path.name}, {fault}{mend}" for fault in error.faults]
        return None
    if not len(table) and not table.faults:
        faults.append(f"{path.name}: no rows below the header")
    return table


def _parse_class_names(table: TextTable, faults: list[str]) -> tuple[str, ...] | None:
    """Names in the order of their ids: column j is label id j, whatever the order of the rows."""
    faults += table.faults
    found = len(faults)
    names: dict[int, str] = {}
    lines_of_names: dict[str, int] = {}
    for line, label, name in zip(table.lines, *table.columns.values(), strict=True):
        place = f"{table.path.name}, line {line}"
        if not (label.isascii() and label.isdigit() and label == str(int(label[:9]))):
            faults.append(f"{place}: attribute_id must be a whole number. Received: {label[:40]}")
        elif int(label) in names:
            faults.append(f"{place}: attribute_id {label} twice; keep one")
        else:
            names[int(label)] = name
        group, _, rest = name.partition("::")
        if not (group.strip() and rest.strip()) or name != name.strip() or not name.isprintable():
            faults.append(
                f"{place}: attribute_name must be written group::name. Received: {name[:80]!r}"
            )
        elif name in lines_of_names:
            faults.append(
                f"{place}: attribute_name {name} stands on line {lines_of_names[name]} already"
            )
        lines_of_names.setdefault(name, line)
    if len(faults) > found or table.faults:
        return None
    gaps = [label for label in range(len(names)) if label not in names]
    if gaps:
        faults.append(
            f"{table.path.name}: attribute ids must be 0..{len(names) - 1} without a gap, because "
            f"column j of every array is id j. Missing: {', '.join(map(str, gaps[:20]))}"
        )
        return None
    return tuple(names[label] for label in range(len(names)))


def _parse_specimens(
    table: TextTable, train_ids: np.ndarray, faults: list[str]
) -> np.ndarray | None:
    """`(num_train,)` int64: specimens numbered in the order in which `train_ids` meets them."""
    found = [*table.faults, *find_id_faults(table)]
    specimen_of = dict(zip(table.columns["id"], table.columns["specimen"], strict=True))
    for row, specimen in enumerate(table.columns["specimen"]):
        if not specimen.strip():
            found.append(f"{table.place(row)}: an empty specimen; give each its own number")
    name = table.path.name
    found += [
        f"{name}, id {sample_id}: missing, though train.csv has it; give it a row"
        for sample_id in train_ids
        if sample_id not in specimen_of
    ]
    known = set(train_ids)
    found += [
        f"{table.place(row)}: not in train.csv; remove the row"
        for row, sample_id in enumerate(table.columns["id"])
        if sample_id not in known
    ]
    faults += found
    if found:
        return None
    codes: dict[str, int] = {}
    numbers = [codes.setdefault(specimen_of[i], len(codes)) for i in train_ids]
    return np.array(numbers, np.int64)


def _find_shared_ids(train_ids: Iterable[str], test_ids: Sequence[str]) -> list[str]:
    known = set(test_ids)
    return [
        f"train.csv, id {sample_id}: is a test picture too; remove it from one of the two"
        for sample_id in train_ids
        if sample_id in known
    ]


def _list_pictures(folder: Path) -> dict[str, list[str]]:
    """Id to the names of its files, of the kinds that are read; empty where there is no folder."""
    files: dict[str, list[str]] = {}
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, dot, suffix = entry.name.rpartition(".")
                if dot + suffix.lower() in SUFFIXES and not entry.name.startswith("."):
                    files.setdefault(stem, []).append(entry.name)
    return files


def _check_pictures(collection: Collection) -> None:
    faults = []
    for split, ids in (("train", collection.train.ids), ("test", collection.test_ids)):
        files = collection._pictures[split]
        faults += [f"{split}/{i}: no such picture" for i in ids if i not in files]
        for sample_id in ids:
            if len(files.get(sample_id, ())) > 1:
                names = " and ".join(sorted(files[sample_id]))
                faults.append(f"{split}/, id {sample_id}: {names}; keep one of them")
    if faults:
        raise CollectionError(collection.root, faults, _ONE_PICTURE)
