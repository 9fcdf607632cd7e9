"""The highest scores of each row, and label sets kept between a least and a most of them."""

from __future__ import annotations

import numpy as np

_CELLS_TOGETHER = 1 << 20


def check_limits(min_labels: int, max_labels: int | None, num_classes: int) -> int:
    """The most labels that a set may have, once the limits are found to agree.

    Raises:
        ValueError: `min_labels` is not in 0..`max_labels`, or beyond the number of classes.
    """
    highest = num_classes if max_labels is None else min(max_labels, num_classes)
    if not 0 <= min_labels <= highest:
        raise ValueError(
            f"`min_labels` must be in 0..{highest}. Received: min_labels={min_labels}, "
            f"max_labels={max_labels}, {num_classes} classes"
        )
    return highest


def apply_limits(y_pred: np.ndarray, y_prob: np.ndarray, min_labels: int, max_labels: int) -> None:
    """Changes `y_pred` in place: rows with too few or too many labels get their highest scores.

    Args:
        y_pred: `(num_samples, num_classes)` bool.
        y_prob: `(num_samples, num_classes)` float, finite.
        min_labels, max_labels: int, as `check_limits` found them good.
    """
    num_labels = np.count_nonzero(y_pred, axis=1)
    for rows, size in (
        (np.flatnonzero(num_labels < min_labels), min_labels),
        (np.flatnonzero(num_labels > max_labels), max_labels),
    ):
        step = max(1, _CELLS_TOGETHER // y_pred.shape[1])
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            y_pred[part] = mark_highest(y_prob[part], size)


def mark_highest(scores: np.ndarray, size: int) -> np.ndarray:
    """`(num_samples, num_classes)` bool, the `size` highest of each row, compared in float32.

    Of equal scores the smaller column is taken.

    Args:
        scores: `(num_samples, num_classes)` float, finite.
        size: int in 0..num_classes.
    """
    scores = np.asarray(scores, np.float32)
    if size == 0:
        return np.zeros(scores.shape, bool)
    place = scores.shape[1] - size
    last = np.partition(scores, place, axis=1)[:, place, None]
    marked = scores > last
    equal = scores == last
    missing = size - np.count_nonzero(marked, axis=1, keepdims=True)
    marked |= equal & (np.cumsum(equal, axis=1) <= missing)
    return marked
