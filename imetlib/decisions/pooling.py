"""Scores pooled by size: what calibration needs of 120 million entries fits into 46,000 bins.

A bin holds the scores that agree in the first 11 bits of p, or of 1 - p above one half; it is
less than .001 wide in the logit (the last one below p = 1, where float32 ends, .2), and its mean
stands for it. Half-precision scores below one half are not merged at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.cases import check_probabilities, make_case

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

SMALLEST = 1e-7
_SHIFT = 13
_FIRST = int(np.float32(SMALLEST).view(np.int32)) >> _SHIFT
_HALF = (int(np.float32(0.5).view(np.int32)) >> _SHIFT) - _FIRST
_NUM_BINS = 2 * _HALF + 2
_CELLS_TOGETHER = 1 << 20


@dataclass(frozen=True, eq=False)
class PooledScores:
    """Entries of equal or nearly equal scores together: `(num_bins,)` each, none empty.

    Args:
        mean_prob: float64 in [0, 1], ascending. Mean score of the entries of a bin.
        counts: float64. Entries in it.
        positives: float64. True labels among them.
    """

    mean_prob: np.ndarray
    counts: np.ndarray
    positives: np.ndarray

    @property
    def logits(self) -> np.ndarray:
        """`(num_bins,)` float64, of the means clipped to [1e-7, 1 - 1e-7]."""
        return clipped_logit(self.mean_prob)

    @property
    def has_both(self) -> bool:
        """Whether there are true and false labels: one kind alone calibrates nothing."""
        return bool(0 < self.positives.sum() < self.counts.sum())


def pool_scores(
    y_true: Labels, y_prob: np.ndarray, groups: np.ndarray | None = None
) -> list[PooledScores]:
    """Pools the entries of a matrix of probabilities, in one pass.

    Args:
        y_true: `LabelTable`, `(num_samples, num_classes)` array of 0/1, or a sequence with one
            array of columns a sample.
        y_prob: `(num_samples, num_classes)` float in [0, 1]. Read as float32.
        groups: `(num_classes,)` int from 0 without gaps, or None for one pool.

    Returns:
        One `PooledScores` a group.

    Raises:
        ValueError: the shapes differ, or `y_prob` holds no probabilities.

    Example:
        >>> pool = pool_scores([[1, 0], [1, 1]], np.array([[0.75, 0.25], [0.5, 0.75]]))[0]
        >>> pool.mean_prob.tolist(), pool.counts.tolist(), pool.positives.tolist()
        ([0.25, 0.5, 0.75], [1.0, 1.0, 2.0], [0.0, 1.0, 2.0])
    """
    case = make_case(y_true, check_probabilities(y_prob))
    num_classes = case.y_prob.shape[1]
    groups = np.zeros(num_classes, np.int64) if groups is None else np.asarray(groups, np.int64)
    num_groups = int(groups.max()) + 1
    num_cells = num_groups * _NUM_BINS
    counts, sums = np.zeros(num_cells), np.zeros(num_cells)
    step = max(1, _CELLS_TOGETHER // num_classes)
    for start in range(0, len(case.y_prob), step):
        block = np.asarray(case.y_prob[start : start + step], np.float32)
        cells = (_find_bins(block) + groups * _NUM_BINS).ravel()
        counts += np.bincount(cells, minlength=num_cells)
        sums += np.bincount(cells, weights=block.ravel(), minlength=num_cells)
    own = groups[case.positions % num_classes]
    cells = _find_bins(case.true_scores) + own * _NUM_BINS
    positives = np.bincount(cells, minlength=num_cells).astype(np.float64)
    pools = []
    for part in range(num_groups):
        cells = part * _NUM_BINS + np.flatnonzero(counts[part * _NUM_BINS :][:_NUM_BINS])
        pools.append(PooledScores(sums[cells] / counts[cells], counts[cells], positives[cells]))
    return pools


def clipped_logit(y_prob: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), float64, of p clipped to [1e-7, 1 - 1e-7]."""
    clipped = np.clip(np.asarray(y_prob, np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(clipped) - np.log1p(-clipped)


def _find_bins(y_prob: np.ndarray) -> np.ndarray:
    """Number of the bin of each float32 score, ascending with the score."""
    clipped = np.clip(y_prob, np.float32(SMALLEST), np.float32(1 - SMALLEST))
    # The bits of a positive float ascend with it; 1 - p keeps the digits that p has lost near 1.
    nearer = np.minimum(clipped, 1 - clipped)
    bins = (nearer.view(np.int32) >> _SHIFT) - _FIRST
    return np.where(clipped <= 0.5, bins, 2 * _HALF + 1 - bins)
