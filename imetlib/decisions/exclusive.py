"""Groups whose attributes exclude each other: one artist, one decade, one species a picture.

A network that scores every attribute by itself spreads its doubt: three artists at .3 each, and
F2's low threshold takes all three. Where no training picture has two attributes of a group, the
scores of the group can share one unit of probability instead. On the watercolours this is worth
about .01 F2, at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from imetlib.collection.labels import LabelTable


def find_exclusive_groups(labels: LabelTable | np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Groups of which no sample has two attributes.

    Args:
        labels: `LabelTable` or `(num_samples, num_classes)` array of 0/1, of the training rows
            alone: what is held out must not say how it is scored.
        class_names: `num_classes` names `group::name`.

    Returns:
        list of groups; those of a single attribute are left out, they have nothing to share.

    Example:
        >>> names = ["artist::amanda", "artist::mary", "tag::leaf", "tag::seed"]
        >>> find_exclusive_groups([[1, 0, 1, 1], [0, 1, 0, 0]], names)
        ['artist']
    """
    dense = labels if isinstance(labels, (np.ndarray, list)) else labels.dense()
    dense = np.asarray(dense, dtype=bool)
    found = []
    for name, columns in columns_of_groups(class_names).items():
        counts = dense[:, columns].sum(axis=1)
        if len(columns) > 1 and counts.max(initial=0) <= 1:
            found.append(name)
    return found


def share_in_groups(
    logits: np.ndarray, class_names: Sequence[str], exclusive: Sequence[str]
) -> np.ndarray:
    """Logits whose probabilities of an exclusive group sum to less than 1.

    The probability of attribute j becomes exp(l_j) / (1 + sum of exp(l) over its group), the 1
    standing for none of them; that is a softmax with one more class of logit 0, and the result
    is its logit. A single attribute of a group keeps its logit where all others are small.

    Args:
        logits: `(num_samples, num_classes)` float32.
        class_names: `num_classes` names `group::name`.
        exclusive: groups that share; the others stay as they are.

    Returns:
        `(num_samples, num_classes)` float32, never above `logits`.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> share_in_groups(np.zeros((1, 2), np.float32), ["a::b", "a::c"], ["a"]).round(3)
        array([[-0.693, -0.693]], dtype=float32)
    """
    groups = columns_of_groups(class_names)
    unknown = sorted(set(exclusive) - set(groups))
    if unknown:
        raise ValueError(f"Unknown groups: {', '.join(unknown)}. Known: {', '.join(groups)}")
    shared = np.array(logits, dtype=np.float32)
    for name in exclusive:
        columns = groups[name]
        own = np.asarray(logits, dtype=np.float64)[:, columns]
        largest = np.maximum(own.max(axis=1, keepdims=True), 0.0)
        weights = np.exp(own - largest)
        rest = np.exp(-largest) + weights.sum(axis=1, keepdims=True) - weights
        # Rounding alone can make the rest of a sure answer zero.
        shared[:, columns] = own - largest - np.log(np.maximum(rest, 1e-12))
    return np.minimum(shared, logits, dtype=np.float32)


def columns_of_groups(class_names: Sequence[str]) -> dict[str, list[int]]:
    """Group to its columns, groups and columns in the order of the names `group::name`."""
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(class_names):
        groups.setdefault(name.partition("::")[0], []).append(column)
    return groups
