"""Attributes found by a piece of their name, and what stands beside them in a table of labels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

from imetlib.collection.labels import LabelTable

_NEAR = 5


def find_attributes(
    class_names: Sequence[str], text: str, counts: np.ndarray | None = None
) -> np.ndarray:
    """Columns of the attributes whose name holds every word of a text, whatever the case.

    First the names that are the text, then those that begin with it, then those that hold it.

    Args:
        class_names: `num_classes` names `group::name`.
        text: str; "" finds all. A group is searched as well: "culture french", "tag::".
        counts: `(num_classes,)` int or None. Within each of the three kinds the most frequent
            come first; None: in the order of the columns.

    Returns:
        `(num_found,)` int64, at least one.

    Raises:
        ValueError: no name holds all words; names that are nearly the text are listed.

    Example:
        >>> find_attributes(["culture::roman", "tag::romans", "tag::women", "tag::men"], "men")
        array([3, 2])
    """
    wanted, words = text.strip().casefold(), text.casefold().split()
    found = []
    for column, name in enumerate(class_names):
        whole = name.casefold()
        short = whole.partition("::")[2]
        if all(word in whole for word in words):
            kind = 0 if wanted in (whole, short) else 1 if short.startswith(wanted) else 2
            found.append((kind, 0 if counts is None else -int(counts[column]), column))
    if not found:
        raise ValueError(
            f"No attribute is named {text!r}. {say_near(text, class_names)} The names stand in "
            "labels.csv."
        )
    return np.array([column for *_, column in sorted(found)], np.int64)


def say_near(text: str, names: Iterable[str]) -> str:
    """A sentence with the names that are nearly a text, with or without their group.

    Example:
        >>> say_near("brids", ["tag::birds", "tag::plates"])
        'Near: tag::birds.'
        >>> say_near("xyz", ["tag::birds"])
        'No name is near it.'
    """
    whole = {name.casefold(): name for name in names}
    short: dict[str, list[str]] = {}
    for name in whole.values():
        short.setdefault(name.casefold().rpartition("::")[2], []).append(name)
    wanted = text.strip().casefold()
    near = [whole[key] for key in difflib.get_close_matches(wanted, whole, _NEAR)]
    for key in difflib.get_close_matches(wanted.rpartition("::")[2], short, _NEAR):
        near += short[key]
    near = list(dict.fromkeys(near))[:_NEAR]
    return f"Near: {', '.join(near)}." if near else "No name is near it."


def rows_with(labels: LabelTable, column: int) -> np.ndarray:
    """`(num_found,)` int64, ascending: the rows that have an attribute."""
    rows = np.repeat(np.arange(len(labels)), labels.labels_per_sample())
    return rows[labels.indices == column]


def count_companions(labels: LabelTable, column: int) -> np.ndarray:
    """`(num_classes,)` int64: pictures that have an attribute and each other one; its own is 0.

    Example:
        >>> from imetlib.collection.labels import make_label_table
        >>> count_companions(make_label_table(["a", "b"], [[0, 1], [0, 1, 2]], 3), 1)
        array([2, 0, 1])
    """
    counts = labels.take(rows_with(labels, column)).counts()
    counts[column] = 0
    return counts
