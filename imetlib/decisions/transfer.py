"""Labels carried over from the nearest pictures: a second opinion that needs no training.

Each neighbour answers "yes, almost surely" for its labels and "almost surely not" for the others,
and the nearer it is, the more its answer weighs (TagProp with weights by distance; Guillaumin,
Mensink, Verbeek and Schmid, ICCV 2009). The weights fall with the cosine distance, as the fourth
place of iMet 2019 had them, where the mean with a network's probabilities gained more than a
further network. The neighbours come from `imetlib.decisions.neighbours`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.distance import check_cosines
from imetlib.decisions.fbeta import label_pairs

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

# What Guillaumin et al. keep a picture from being impossible with.
SMOOTHING = 1e-5
_CELLS_TOGETHER = 1 << 20


def transfer_labels(
    indices: np.ndarray,
    similarities: np.ndarray,
    labels: Labels,
    *,
    scale: float,
    smoothing: float = SMOOTHING,
) -> np.ndarray:
    """Probabilities of the labels from the labels of the nearest pictures.

    p(label) = sum over neighbours of weight * (1 - smoothing if it has the label else smoothing),
    with weights softmax(-scale * (1 - cosine)).

    Args:
        indices: `(num_samples, k)` int. Rows of `labels`, as from `nearest_neighbours`.
        similarities: `(num_samples, k)` float in [-1, 1]. Their cosines.
        labels: `LabelTable` or `(num_candidates, num_classes)` array of 0/1. Kept sparse.
        scale: float >= 0. 0 is the plain share of the neighbours, large values the nearest alone.
        smoothing: float in [0, 0.5).

    Returns:
        `(num_samples, num_classes)` float32 in [smoothing, 1 - smoothing].

    Raises:
        ValueError: the shapes differ, an index is out of range, a cosine is not in [-1, 1], or
            `scale` or `smoothing` is out of range.

    Example:
        >>> rows, cosines = np.array([[0, 1]]), np.array([[1.0, 1.0]])
        >>> transfer_labels(rows, cosines, np.array([[1, 0], [1, 1]]), scale=10, smoothing=0.0)
        array([[1. , 0.5]], dtype=float32)
    """
    columns, indptr, num_classes = rows_of_labels(labels)
    indices, similarities = check_neighbours(indices, similarities, len(indptr) - 1)
    check_settings([scale], smoothing)
    num_samples = len(indices)
    y_prob = np.empty((num_samples, num_classes), np.float32)
    step = max(1, _CELLS_TOGETHER // max(num_classes, indices.shape[1]))
    for start in range(0, num_samples, step):
        part = slice(start, start + step)
        voters, cells = count_votes(indices[part], columns, indptr, num_classes)
        weights = weigh_neighbours(similarities[part], scale).ravel()[voters]
        size = len(indices[part])
        voted = np.bincount(cells, weights, minlength=size * num_classes)
        y_prob[part] = smooth_votes(voted, smoothing).reshape(size, num_classes)
    return y_prob


def count_votes(
    indices: np.ndarray, columns: np.ndarray, indptr: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each label of each neighbour: the place of the neighbour in `indices`, and the cell voted.

    A cell is row * num_classes + column of the result.
    """
    flat = indices.ravel()
    counts = indptr[flat + 1] - indptr[flat]
    ends = np.cumsum(counts)
    within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    voters = np.repeat(np.arange(len(flat)), counts)
    voted = columns[np.repeat(indptr[flat], counts) + within]
    return voters, voters // indices.shape[1] * num_classes + voted


def weigh_neighbours(similarities: np.ndarray, scale: float) -> np.ndarray:
    """Softmax over the neighbours of each row, float64."""
    cosines = np.asarray(similarities, np.float64)
    weights = np.exp(scale * (cosines - cosines.max(axis=1, keepdims=True)))
    return weights / weights.sum(axis=1, keepdims=True)


def smooth_votes(votes: np.ndarray, smoothing: float) -> np.ndarray:
    # Weights sum to 1 only up to rounding.
    return smoothing + (1.0 - 2.0 * smoothing) * np.minimum(votes, 1.0)


def rows_of_labels(labels: Labels) -> tuple[np.ndarray, np.ndarray, int]:
    rows, columns, (num_rows, num_classes) = label_pairs(labels, "labels")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_rows))])
    return columns, indptr, num_classes


def check_settings(scales: Sequence[float] | np.ndarray, smoothing: float) -> None:
    if not len(scales) or not (np.isfinite(scales).all() and np.min(scales) >= 0):
        raise ValueError(f"A scale must be finite and >= 0. Received: {list(scales)}")
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"`smoothing` must be in [0, 0.5). Received: smoothing={smoothing}")


def check_neighbours(
    indices: np.ndarray, similarities: np.ndarray, num_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    indices, similarities = np.asarray(indices), check_cosines(similarities)
    if indices.shape != similarities.shape or indices.dtype.kind not in "iu":
        raise ValueError(
            "`indices` must be whole numbers of the shape of `similarities`, "
            f"{similarities.shape}. Received: {indices.shape}, {indices.dtype}"
        )
    if indices.min() < 0 or indices.max() >= num_rows:
        raise ValueError(
            f"`indices` must be rows of `labels`, 0..{num_rows - 1}. "
            f"Received: {indices.min()} to {indices.max()}"
        )
    return indices, similarities
