"""A plan of `own` told in lines, and carried out: a new folder that appears whole or not at all."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from imetlib.collection.own import OwnPlan
from imetlib.collection.own_pictures import PictureIndex
from imetlib.collection.own_table import OwnTable
from imetlib.collection.tables import read_collection
from imetlib.files import link_or_copy, making_folder

SHOWN = 6
# A look at so many rows tells what a column holds.
ROWS_LOOKED_AT = 1000


def describe_columns(table: OwnTable, index: PictureIndex) -> list[str]:
    """What each column holds, for somebody who has to say what it means.

    Args:
        table: `OwnTable`.
        index: `PictureIndex`.

    Returns:
        list of str, one line a column: filled cells, different values, cells that name a picture
        (of the first 1,000 rows), the most frequent values.
    """
    lines = [f"{table.path.name}: {len(table):,} rows; {len(index.pictures):,} pictures"]
    for name, cells in table.columns.items():
        filled = [text for cell in cells if (text := cell.strip())]
        counts = Counter(filled)
        named = sum(bool(index.find(cell)[0]) for cell in cells[:ROWS_LOOKED_AT])
        examples = ", ".join(f"{_cut(text)} {count:,}" for text, count in counts.most_common(3))
        lines.append(
            f"  {name}: {len(filled):,} filled, {len(counts):,} different"
            + (f", {named:,} name a picture" if named else "")
            + (f": {examples}" if examples else "")
        )
    return lines


def describe_plan(plan: OwnPlan) -> list[str]:
    """What would be written and what would not.

    Returns:
        list of str.
    """
    columns = plan.columns
    lines = [
        f"{plan.table.name}: {plan.num_rows:,} rows, pictures by the column {columns.picture}",
        *(f"  {column} -> {group}::" for column, group in columns.groups.items()),
        *(f"  {column} -> {group}::, or the names' own" for column, group in columns.lists.items()),
        *(
            f"  {column} -> {', '.join(f'{group}::' for group in groups)} of its dates"
            for column, groups in columns.years.items()
        ),
        f"{len(plan.train):,} training and {len(plan.test):,} test pictures",
        f"{len(plan.kept):,} attributes kept, {len(plan.dropped):,} dropped (fewer than "
        f"{plan.min_count:,} training pictures)",
    ]
    for group in dict.fromkeys(name.split("::")[0] for name in (*plan.kept, *plan.dropped)):
        kept, dropped = (
            Counter({name: n for name, n in some.items() if name.split("::")[0] == group})
            for some in (plan.kept, plan.dropped)
        )
        lines.append(f"  {group}: {len(kept):,} kept{_examples(kept)}")
        if dropped:
            lines.append(f"  {group}: {len(dropped):,} dropped{_examples(dropped)}")
    if plan.num_approximate:
        lines.append(f"dates with ca. or a doubt, taken at their word: {plan.num_approximate:,}")
    lines += _some("dates not understood", _dates(plan.unread_dates))
    lines += _some("dates in no single decade or century", _dates(plan.vague_dates))
    lines += _some("rows without any attribute", map(_line, plan.lines_without_attribute))
    lines += _some("rows whose attributes are all dropped", map(_line, plan.lines_left_empty))
    without = [
        f"line {line}: {_cut(cell)} ({why})" for line, cell, why in plan.rows_without_picture
    ]
    lines += _some("rows without picture", without)
    lines += _some("pictures without row", plan.pictures_without_row)
    changed = [f"{wanted} -> {sample_id}" for sample_id, wanted in plan.changed_ids.items()]
    lines += _some("ids that had to change", changed)
    lines += _some("specimens in both training and test set", plan.cut_specimens)
    return lines


def write_collection(plan: OwnPlan, folder: str | Path, *, copy: bool = False) -> Path:
    """Carries a plan out.

    The result has been read as a collection before it appears. Pictures stay where they are: each
    gets a second name (a hard link), or a copy where the disk has no such links.

    Args:
        plan: `OwnPlan`.
        folder: a path that does not exist, or an empty folder, and not within the pictures'.
        copy: whether pictures are copied in any case. A change to one of two links changes both.

    Returns:
        Path of the folder, with `train.csv`, `labels.csv`, `train/`, `id_map.csv`
        (`id,original_id,picture`), and where there are any, `specimens.csv`, `test/`,
        `sample_submission.csv` and `test_labels.csv`, what the table says of the test pictures.

    Raises:
        ValueError: `folder` is not new and empty, or lies within the pictures.
        OSError: a picture cannot be read, or the disk is full; nothing is left behind.
    """
    folder = Path(folder)
    check_target(folder, plan.pictures)
    with making_folder(folder) as partial:
        for split, rows in (("train", plan.train), ("test", plan.test)):
            if rows:
                (partial / split).mkdir(parents=True)
            for row in rows:
                suffix = PurePosixPath(row.picture).suffix.lower()
                target = partial / split / f"{row.id}{suffix}"
                link_or_copy(plan.pictures / row.picture, target, copy=copy)
        _write_tables(plan, partial)
        read_collection(partial)
    return folder


def check_target(folder: Path, pictures: Path) -> None:
    """Refuses a folder that holds something, or lies where the pictures are looked for."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists and is not an empty folder; nothing was written. Name another."
        )
    if folder.resolve().is_relative_to(pictures.resolve()):
        raise ValueError(
            f"{folder} lies within the folder of pictures, which would then hold each of them "
            "twice; name one outside."
        )


def _write_tables(plan: OwnPlan, folder: Path) -> None:
    id_of = {name: number for number, name in enumerate(plan.kept)}

    def answers(rows):
        return [(row.id, " ".join(map(str, sorted(map(id_of.get, row.names))))) for row in rows]

    _write_csv(folder / "labels.csv", ("attribute_id", "attribute_name"), enumerate(plan.kept))
    header = ("id", "attribute_ids")
    _write_csv(folder / "train.csv", header, answers(plan.train))
    if plan.test:
        most = str(max(range(len(id_of)), key=list(plan.kept.values()).__getitem__))
        sample = [(row.id, most) for row in plan.test]
        _write_csv(folder / "sample_submission.csv", header, sample)
        if any(row.names for row in plan.test):
            _write_csv(folder / "test_labels.csv", header, answers(plan.test))
    if plan.columns.specimen:
        numbers: dict[str, int] = {}
        # A picture's path stands for one that is alone; a blank in front keeps the two apart.
        keys = [f" {row.specimen}" if row.specimen else row.picture for row in plan.train]
        specimens = [numbers.setdefault(key, len(numbers)) for key in keys]
        ids = [row.id for row in plan.train]
        _write_csv(folder / "specimens.csv", ("id", "specimen"), zip(ids, specimens, strict=True))
    _write_csv(
        folder / "id_map.csv",
        ("id", "original_id", "picture"),
        [(row.id, row.wanted_id, row.picture) for row in plan.train + plan.test],
    )


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _some(title: str, items: Iterable[str]) -> list[str]:
    """A title with the count and the first few; nothing where there is none."""
    items = list(items)
    if not items:
        return []
    more = f", and {len(items) - SHOWN:,} more" if len(items) > SHOWN else ""
    return [f"{title}: {len(items):,} ({', '.join(items[:SHOWN])}{more})"]


def _examples(counts: Counter) -> str:
    if not counts:
        return ""
    names = [f"{_cut(name.split('::', 1)[1])} {n:,}" for name, n in counts.most_common(SHOWN)]
    return f": {', '.join(names)}" + (", ..." if len(counts) > SHOWN else "")


def _dates(dates: dict[str, list[int]]) -> list[str]:
    return [
        f"{_cut(text)} {len(lines):,} times, first on line {lines[0]}"
        if len(lines) > 1
        else f"{_cut(text)} on line {lines[0]}"
        for text, lines in sorted(dates.items(), key=lambda item: (-len(item[1]), item[1][0]))
    ]


def _line(number: int) -> str:
    return f"line {number}"


def _cut(text: str, length: int = 40) -> str:
    """At most so many characters of one line, with quotes where it is more than one word."""
    text = " ".join(text.split())
    text = text if len(text) <= length else f"{text[: length - 3]}..."
    return repr(text) if not text or "," in text or " " in text else text
