"""Other averages of F-beta: over classes, and over pictures within one group of classes.

The score of iMet and of this project is the mean over pictures of `imetlib.decisions.fbeta`. These
two say where it comes from: macro F-beta counts a rare class as much as a frequent one, and the
groups (culture, tag) differ in how hard they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.fbeta import fbeta_of_counts, is_ragged, pair_codes

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

_COLUMN_BITS = 0xFFFFFFFF


@dataclass(frozen=True)
class GroupScore:
    """How well one group of classes is decided.

    Args:
        score: float in [0, 1]. Mean F-beta of the samples counted, on the group's classes alone;
            0 where no sample counts.
        num_samples: int. Samples counted: those with a true or a predicted label of the group.
        num_true, num_pred: int. True and predicted labels of the group in all samples.
    """

    score: float
    num_samples: int
    num_true: int
    num_pred: int


def fbeta_macro(y_true: Labels, y_pred: Labels, *, beta: float = 2.0) -> float:
    """F-beta of each class over all samples, averaged over the classes.

    Equal to scikit-learn's `fbeta_score(average="macro", zero_division=0)`. Not the competition's
    score: on a long tail of rare classes it is far lower.

    Args:
        y_true, y_pred, beta: as in `fbeta_samples`, but one of the labels must be a `LabelTable`
            or an array: sequences of columns do not say how many classes there are.

    Returns:
        float in [0, 1]. A class that is neither true nor predicted anywhere counts 0.

    Raises:
        ValueError: as `fbeta_samples`.

    Example:
        >>> fbeta_macro([[1, 1, 0, 0], [0, 1, 0, 1]], [[1, 0, 1, 1], [0, 1, 0, 0]])
        0.3888888888888889
    """
    true, pred, hits, (_, num_classes) = pair_codes(y_true, y_pred)
    if not num_classes or (is_ragged(y_true) and is_ragged(y_pred)):
        raise ValueError(
            "A mean over classes needs their number: give one of `y_true` and `y_pred` as a "
            "LabelTable or an array with a column a class."
        )
    num_hits, num_true, num_pred = (
        np.bincount(codes & _COLUMN_BITS, minlength=num_classes) for codes in (hits, true, pred)
    )
    return float(fbeta_of_counts(num_hits, num_true, num_pred, beta).mean())


def fbeta_by_group(
    y_true: Labels, y_pred: Labels, class_names: Sequence[str], *, beta: float = 2.0
) -> dict[str, GroupScore]:
    """Per-sample F-beta within each group of classes, as if the other groups did not exist.

    A sample with neither true nor predicted labels of a group says nothing about it and is left
    out, so a group that few pictures have is not drowned by the others. A sample with a predicted
    label and no true one counts 0, one with true labels and no predicted one as well. Which
    samples count thus depends on the decisions too: compare two of them by their `num_samples`.

    Args:
        y_true, y_pred, beta: as in `fbeta_samples`.
        class_names: `num_classes` names `group::name`; a name without "::" is its own group.

    Returns:
        dict of group to `GroupScore`, in the order in which groups first occur.

    Raises:
        ValueError: as `fbeta_samples`, or there are not as many names as classes.

    Example:
        >>> names = ["culture::french", "tag::cats", "tag::dogs"]
        >>> found = fbeta_by_group([[1, 1, 0], [0, 0, 1]], [[1, 1, 1], [0, 0, 1]], names)
        >>> found["culture"].num_samples, round(found["tag"].score, 4)
        (1, 0.9167)
    """
    true, pred, hits, (num_samples, num_classes) = pair_codes(y_true, y_pred)
    groups = [name.partition("::")[0] for name in class_names]
    if is_ragged(y_true) and is_ragged(y_pred):
        num_classes = max(num_classes, len(groups))
    if len(groups) != num_classes:
        raise ValueError(
            f"`class_names` must name {num_classes} classes. Received: {len(groups)} names"
        )
    names = list(dict.fromkeys(groups))
    number = {name: place for place, name in enumerate(names)}
    group_of = np.array([number[name] for name in groups])
    num_hits, num_true, num_pred = (
        np.bincount(
            group_of[codes & _COLUMN_BITS] * num_samples + (codes >> 32),
            minlength=len(names) * num_samples,
        ).reshape(len(names), num_samples)
        for codes in (hits, true, pred)
    )
    scores = fbeta_of_counts(num_hits, num_true, num_pred, beta)
    counted = ((num_true > 0) | (num_pred > 0)).sum(axis=1)
    return {
        name: GroupScore(
            score=float(scores[place].sum() / max(1, counted[place])),
            num_samples=int(counted[place]),
            num_true=int(num_true[place].sum()),
            num_pred=int(num_pred[place].sum()),
        )
        for name, place in number.items()
    }
