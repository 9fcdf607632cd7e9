"""How far pictures are from all training pictures, and what the far ones score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class DistanceProfile:
    """What pictures near to and far from the training pictures score; see `score_by_distance`.

    Args:
        edges: `(num_bins + 1,)` float64, ascending. Distances between which a bin lies.
        scores: `(num_bins,)` float64. Mean of the pictures of each bin.
        num_samples: `(num_bins,)` int64.
    """

    edges: np.ndarray
    scores: np.ndarray
    num_samples: np.ndarray


def nearest_distance(similarities: np.ndarray) -> np.ndarray:
    """`(num_samples,)` float32 in [0, 2]: cosine distance to the nearest training picture.

    Args:
        similarities: `(num_samples, k)` float, as from `nearest_neighbours`, in any order.

    Raises:
        ValueError: not such an array, or a cosine is not in [-1, 1].
    """
    return (1.0 - check_cosines(similarities).max(axis=1)).astype(np.float32)


def score_by_distance(
    distances: np.ndarray, per_sample: np.ndarray, *, num_bins: int = 5
) -> DistanceProfile:
    """Whether pictures far from all training pictures score less: bins of equally many.

    A fall says that the collection is not covered, and that a lower threshold may suit the far
    ones: the fourth place of iMet 2019 gained .001 to .002 by one that depends on it.

    Args:
        distances: `(num_samples,)` float, as from `nearest_distance`.
        per_sample: `(num_samples,)` float, as from `fbeta_per_sample`.
        num_bins: int >= 1. Fewer come back where many distances are equal.

    Returns:
        `DistanceProfile`, nearest first.

    Raises:
        ValueError: the shapes differ, a value is not finite, or `num_bins` is out of range.

    Example:
        >>> score_by_distance([0.1, 0.4, 0.2, 0.8], [1.0, 0.5, 0.8, 0.1], num_bins=2).scores
        array([0.9, 0.3])
    """
    distances, values = np.asarray(distances, np.float64), np.asarray(per_sample, np.float64)
    if distances.ndim != 1 or not len(distances) or distances.shape != values.shape:
        raise ValueError(
            "`distances` and `per_sample` must be (num_samples,). "
            f"Received: shapes {distances.shape} and {values.shape}"
        )
    if not (np.isfinite(distances).all() and np.isfinite(values).all()):
        raise ValueError("`distances` and `per_sample` must be finite.")
    if not 1 <= num_bins <= len(distances):
        raise ValueError(
            f"`num_bins` must be in 1..{len(distances)}. Received: num_bins={num_bins}"
        )
    # Edges are distances of pictures, so that no bin is empty.
    edges = np.unique(np.quantile(distances, np.linspace(0, 1, num_bins + 1), method="higher"))
    if len(edges) == 1:
        edges = np.repeat(edges, 2)
    bins = np.searchsorted(edges[1:-1], distances, side="right")
    num_samples = np.bincount(bins, minlength=len(edges) - 1)
    sums = np.bincount(bins, weights=values, minlength=len(edges) - 1)
    return DistanceProfile(edges, sums / np.maximum(num_samples, 1), num_samples)


def check_cosines(similarities: np.ndarray) -> np.ndarray:
    """The array, if it is `(num_samples, k)` float in [-1, 1]."""
    similarities = np.asarray(similarities)
    if similarities.ndim != 2 or not similarities.size:
        raise ValueError(
            f"`similarities` must be (num_samples, k). Received: shape {similarities.shape}"
        )
    if not (np.abs(similarities) <= 1.0).all():
        raise ValueError(
            "`similarities` must be cosines in [-1, 1]. Received: "
            f"values from {similarities.min()} to {similarities.max()}"
        )
    return similarities
