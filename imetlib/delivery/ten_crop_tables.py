"""What the seeds of the ten-crop experiment say together: accuracies, and paired differences.

A folder holds what `imetlib.training.ten_crop_study.finish_run` leaves of one seed: `record.json`
and `answers.npz`. Differences are in accuracy, the second answer less the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.comparison import paired_comparison
from imetlib.decisions.paired_test import mcnemar_test, summarise_seeds
from imetlib.delivery.records import read_record

if TYPE_CHECKING:
    import pandas as pd

ANSWERS_FILE = "answers.npz"
KINDS = (
    "whole network",
    "head on the frozen map",
    "views of the picture",
    "transform of the test picture",
)
# Name of a comparison to the two answers, see `named_answers`.
COMPARISONS = {
    "joint: ten crops against hidden layers on the map": ("hidden dense", "ten crops"),
    "joint: ten crops against the plain network": ("dense", "ten crops"),
    "frozen, linear: ten crops against the map": ("whole linear", "ten linear"),
    "frozen, hidden: ten crops against the map": ("whole hidden", "ten hidden"),
    "frozen, hidden: ten crops against five": ("five hidden", "ten hidden"),
    "frozen, hidden: ten crops against the centre": ("centre hidden", "ten hidden"),
    "frozen, linear: probabilities against logits": ("ten linear, logits", "ten linear"),
    "frozen, hidden: probabilities against logits": ("ten hidden, logits", "ten hidden"),
    "picture: ten views against one": ("dense", "ten pictures"),
    "picture: with its mirror image against one": ("dense", "two pictures"),
    "test transform: crop and flip against none": ("dense", "crop and flip"),
    "test transform: flip against none": ("dense", "flip"),
}

_COMPARED = ("pictures", "collection_sha256", "profile", "parameters")
_KIND_PATTERNS = (
    (r".+, draw \d+", KINDS[3]),
    (r"(two|ten) pictures\b.*", KINDS[2]),
    (r"(whole|mean|centre|five|ten) (linear|hidden)(, logits)?", KINDS[1]),
)


def kind_of(name: str) -> str:
    """The one of `KINDS` that an answer is of.

    Example:
        >>> kind_of("ten crops"), kind_of("ten hidden, logits"), kind_of("flip, draw 2")
        ('whole network', 'head on the frozen map', 'transform of the test picture')
    """
    for pattern, kind in _KIND_PATTERNS:
        if re.fullmatch(pattern, name):
            return kind
    return KINDS[0]


def accuracy_table(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Top-1 of each answer on the held-out and on the test pictures, over seeds.

    Args:
        folders: one folder a seed.

    Returns:
        DataFrame in the order of the first record, the draws of one transform in one row:
        `answer`, `kind`; `held_out` and `test`, means over seeds, with `held_out_error` and
        `test_error`, standard errors of these (NaN of one seed); `num_seeds`; `tests`, the test
        accuracies seed by seed, a tuple. Of a transform a seed counts with the mean over its draws.
        A figure that a record lacks is NaN.

    Raises:
        ValueError: no folder, a folder without a record, or seeds of different data, settings or
            answers.
    """
    import pandas as pd

    records = _read_seeds(folders)
    groups: dict[str, list[str]] = {}
    for name in records[0]["scores"]:
        groups.setdefault(name.partition(", draw ")[0], []).append(name)
    rows = []
    for answer, names in groups.items():
        row: dict[str, Any] = {"answer": answer, "kind": kind_of(names[0])}
        for split in ("held_out", "test"):
            # One value a seed.
            values = np.array(
                [
                    np.mean([record["scores"][name].get(split, np.nan) for name in names])
                    for record in records
                ]
            )
            row[split] = float(values.mean())
            row[f"{split}_error"] = _standard_error(values)
        row["num_seeds"] = len(records)
        row["tests"] = tuple(values.tolist())
        rows.append(row)
    return pd.DataFrame(rows)


def comparison_table(
    folders: Iterable[str | Path],
    comparisons: Mapping[str, tuple[str, str]] = COMPARISONS,
) -> pd.DataFrame:
    """The exact McNemar test of pairs of answers, seed by seed, on the same test pictures.

    Args:
        folders: one folder a seed.
        comparisons: dict of a name to two answers, see `named_answers`.

    Returns:
        DataFrame, a row a comparison, seed and draw of a transform: `comparison`, `seed`, `a`, `b`
        (answers), `accuracy_a`, `accuracy_b`, `difference` (of b less that of a), `low` and
        `high` (its 95 % interval over the pictures), `only_a` and `only_b` (pictures that one
        alone has right), `p_value`.

    Raises:
        ValueError: as `accuracy_table`, an answer that a record does not have, or answers that
            do not give the accuracy of their record.
    """
    import pandas as pd

    folders = [Path(folder) for folder in folders]
    rows = []
    for folder, record in zip(folders, _read_seeds(folders), strict=True):
        correct = read_correct(folder, record)
        for comparison, (first, second) in comparisons.items():
            for a, b in _pairs(record, first, second):
                found = mcnemar_test(correct[a], correct[b])
                rows.append(
                    {
                        "comparison": comparison,
                        "seed": record["seed"],
                        "a": a,
                        "b": b,
                        "accuracy_a": found.accuracy_a,
                        "accuracy_b": found.accuracy_b,
                        "difference": found.difference,
                        "low": found.interval[0],
                        "high": found.interval[1],
                        "only_a": found.only_a,
                        "only_b": found.only_b,
                        "p_value": found.p_value,
                    }
                )
    table = pd.DataFrame(rows)
    place = {name: number for number, name in enumerate(comparisons)}
    return table.sort_values(
        "comparison", key=lambda names: names.map(place), kind="stable", ignore_index=True
    )


def difference_table(
    folders: Iterable[str | Path],
    comparisons: Mapping[str, tuple[str, str]] = COMPARISONS,
) -> pd.DataFrame:
    """The same differences, one row each: mean over seeds, and both reasons to doubt it.

    Args:
        folders, comparisons: see `comparison_table`.

    Returns:
        DataFrame: `comparison`; `difference`, mean over seeds, of a transform over its draws
        first; `interval`, 95 % bootstrap interval over the test pictures, each with the share of
        the seeds and draws that classify it rightly; `num_seeds`; `seed_error` and
        `seed_interval`, standard error over the seeds and 95 % t interval, NaN of one seed;
        `differences`, those of the seeds. Intervals are pairs. The first says how far other
        pictures would move the mean, the second how far other seeds would.

    Raises:
        ValueError: see `comparison_table`.
    """
    import pandas as pd

    folders = [Path(folder) for folder in folders]
    records = _read_seeds(folders)
    correct = [
        read_correct(folder, record) for folder, record in zip(folders, records, strict=True)
    ]
    rows = []
    for comparison, (first, second) in comparisons.items():
        # Share of the draws that are right, (num_seeds, 2, num_pictures).
        shares = np.array(
            [
                [
                    np.mean([found[name] for name in named_answers(record, answer)], axis=0)
                    for answer in (first, second)
                ]
                for found, record in zip(correct, records, strict=True)
            ]
        )
        over_pictures = paired_comparison(shares[:, 1].mean(axis=0), shares[:, 0].mean(axis=0))
        differences = (shares[:, 1] - shares[:, 0]).mean(axis=1)
        row: dict[str, Any] = {
            "comparison": comparison,
            "difference": over_pictures.difference,
            "interval": over_pictures.interval,
            "num_seeds": len(records),
            "seed_error": np.nan,
            "seed_interval": (np.nan, np.nan),
            "differences": tuple(differences.tolist()),
        }
        if len(records) > 1:
            over_seeds = summarise_seeds(differences)
            row["seed_error"] = over_seeds.standard_error
            row["seed_interval"] = over_seeds.interval
        rows.append(row)
    return pd.DataFrame(rows)


def named_answers(record: Mapping[str, Any], name: str) -> list[str]:
    """The answers of a record that a name of a comparison stands for.

    Args:
        record: of `finish_run`.
        name: an answer; "ten pictures" for the one with the record's `chosen_padding`; or a
            transform for all its draws.

    Returns:
        list of str, one but for a transform.

    Raises:
        ValueError: the record has no such answer.
    """
    scores = record["scores"]
    for candidate in (name, f"{name}, padding {record.get('chosen_padding')}"):
        if candidate in scores:
            return [candidate]
    draws = [known for known in scores if known.startswith(f"{name}, draw ")]
    if not draws:
        raise ValueError(
            f"{record['run']} has no answer {name!r}. It has: {'; '.join(sorted(scores))}"
        )
    return draws


def read_correct(folder: str | Path, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Which test pictures each answer of a seed has right, `(num_pictures,)` bool by name.

    Raises:
        ValueError: no file of answers, or one that does not give the record's accuracies.
    """
    path = Path(folder) / ANSWERS_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it stands beside the record of a finished seed")
    with np.load(path) as file:
        answers = {name: file[name] for name in file.files}
    labels = answers.pop("labels")
    correct = {name: found == labels for name, found in answers.items()}
    for name, scores in record["scores"].items():
        found = correct[name].mean() if name in correct else None
        if found is None or abs(found - scores["test"]) > 1e-9:
            raise ValueError(
                f"{path} must give the test accuracy of its record, {scores['test']} of {name!r}. "
                f"Received: {found}"
            )
    return correct


def _pairs(record, first, second):
    """Pairs of answers; an answer without draws is paired with each draw of the other."""
    answers_a, answers_b = named_answers(record, first), named_answers(record, second)
    return [(a, b) for a in answers_a for b in answers_b]


def _read_seeds(folders):
    """The records of seeds that differ in nothing but the seed."""
    records = [read_record(folder) for folder in folders]
    if not records:
        raise ValueError("No folders: finish a seed of the experiment first")
    for record in records[1:]:
        differing = [key for key in _COMPARED if record.get(key) != records[0].get(key)]
        if set(record["scores"]) != set(records[0]["scores"]):
            differing.append("scores")
        if differing:
            raise ValueError(
                f"{record['run']} and {records[0]['run']} differ in {', '.join(differing)}: only "
                "seeds of one experiment have a mean"
            )
    seeds = [record["seed"] for record in records]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"Each seed must be given once. Received: seeds {seeds}")
    return records


def _standard_error(values):
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else np.nan
