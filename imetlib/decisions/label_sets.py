"""Label sets from scores and a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.cases import blocks, check_scores, kept_scores
from imetlib.decisions.fbeta import is_ragged, label_pairs
from imetlib.decisions.limits import apply_limits, check_limits
from imetlib.decisions.top_scores import TopScores

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels


def decide(
    y_prob: np.ndarray | TopScores,
    threshold: float | np.ndarray,
    *,
    min_labels: int = 1,
    max_labels: int | None = None,
) -> np.ndarray:
    """Label sets from scores: all at or above the threshold, and never fewer than `min_labels`.

    Args:
        y_prob: `(num_samples, num_classes)` float, any range; or `TopScores`, of which only kept
            scores become labels.
        threshold: float, or `(num_classes,)` float. Compared in float32.
        min_labels: int >= 0. A row with fewer gets its highest scores.
        max_labels: int or None. A row with more keeps its highest scores.

    Returns:
        `(num_samples, num_classes)` bool. Of equal scores the smaller column is taken.

    Raises:
        ValueError: not a matrix, a score is not finite, or the limits contradict each other.

    Example:
        >>> decide(np.array([[0.6, 0.2, 0.7], [0.1, 0.3, 0.2]]), 0.5).astype(int)
        array([[1, 0, 1],
               [0, 1, 0]])
    """
    y_prob = check_scores(y_prob)
    scores = kept_scores(y_prob)
    highest = check_limits(min_labels, max_labels, scores.shape[1])
    levels = np.asarray(threshold, np.float32)
    chosen = np.empty(scores.shape, bool)
    for start, block in blocks(scores):
        own = slice(start, start + len(block))
        if isinstance(y_prob, TopScores) and levels.ndim:
            chosen[own] = block >= levels[y_prob.columns[own]]
        else:
            chosen[own] = block >= levels
    apply_limits(chosen, scores, min_labels, highest)
    if not isinstance(y_prob, TopScores):
        return chosen
    y_pred = np.zeros(y_prob.shape, bool)
    rows, places = np.nonzero(chosen)
    y_pred[rows, y_prob.columns[rows, places]] = True
    return y_pred


def take_labels(labels: Labels, rows: np.ndarray) -> Labels:
    """Labels of some rows, in the form they come in."""
    if hasattr(labels, "take") and hasattr(labels, "indptr"):
        return labels.take(rows)
    if is_ragged(labels):
        return [labels[row] for row in rows]
    return np.asarray(labels)[rows]


def dense_labels(labels: Labels, shape: tuple[int, ...]) -> np.ndarray:
    """Labels of any form as a bool matrix of a shape that they are known to fit."""
    rows, columns, _ = label_pairs(labels)
    dense = np.zeros(shape, bool)
    dense[rows, columns] = True
    return dense


def check_folds(
    groups: np.ndarray, num_rows: int, name: str = "groups"
) -> tuple[np.ndarray, np.ndarray]:
    """The fold of each row, and the names of the folds; refuses fewer than two."""
    groups = np.asarray(groups)
    names = np.unique(groups)
    if groups.shape != (num_rows,) or len(names) < 2:
        raise ValueError(
            f"`{name}` must name at least two {name}, one for each of {num_rows} rows. "
            f"Received: shape {groups.shape} with {len(names)} {name}"
        )
    return groups, names


def find_torn_groups(groups: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The groups, ascending, whose rows lie in more than one fold."""
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    numbers = np.unique(folds, return_inverse=True)[1]
    pairs = np.unique(np.stack([codes, numbers]), axis=1)
    return names[np.bincount(pairs[0]) > 1]
