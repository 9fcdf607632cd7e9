"""How sure a threshold is: what lies around the optimum, and how the draw of pictures moves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.cases import blocks, make_case
from imetlib.decisions.fbeta import fbeta_of_counts

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels
    from imetlib.decisions.thresholds import ThresholdSearch


@dataclass(frozen=True, eq=False)
class ThresholdCurves:
    """What each threshold of a list gives; made by `trace_thresholds`.

    Args:
        thresholds: `(num_thresholds,)` float32, ascending.
        per_sample: `(num_samples, num_thresholds)` float32. F-beta of each sample.
        precision, recall: `(num_thresholds,)` float64, means over samples. A sample without
            decisions has precision 0, one without labels recall 0.
        micro: `(num_thresholds,)` float64. F-beta of the summed counts.
        num_labels: `(num_thresholds,)` float64. Mean number of labels decided for.
        unanswered: `(num_thresholds,)` float64. Share of samples left without a label.
    """

    thresholds: np.ndarray
    per_sample: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    micro: np.ndarray
    num_labels: np.ndarray
    unanswered: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """`(num_thresholds,)` float64. Mean per-sample F-beta."""
        return self.per_sample.mean(axis=0, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ThresholdBootstrap:
    """How the best threshold varies with the draw of the pictures; see `bootstrap_threshold`.

    Args:
        thresholds: `(num_resamples,)` float32. The best one of each resample.
        scores: `(num_resamples,)` float64. Its score on that resample.
        threshold_interval: (low, high), floats.
        score_interval: (low, high), floats.
        level: float in (0, 1). Share of the resamples in each interval.
    """

    thresholds: np.ndarray
    scores: np.ndarray
    threshold_interval: tuple[float, float]
    score_interval: tuple[float, float]
    level: float


def trace_thresholds(
    y_true: Labels, y_prob: np.ndarray, thresholds: np.ndarray, *, beta: float = 2.0
) -> ThresholdCurves:
    """Precision, recall and F-beta of every sample at each of some thresholds, in one pass.

    Args:
        y_true: `LabelTable` or `(num_samples, num_classes)` array of 0/1.
        y_prob: `(num_samples, num_classes)` float, any range.
        thresholds: `(num_thresholds,)` float, ascending.
        beta: float > 0.

    Returns:
        `ThresholdCurves`. No label is added where a sample is left without one.

    Raises:
        ValueError: the shapes differ, a score is not finite, or the thresholds do not ascend.

    Example:
        >>> y_prob = np.array([[0.9, 0.4], [0.2, 0.8]])
        >>> curves = trace_thresholds(np.array([[1, 1], [0, 1]]), y_prob, [0.3, 0.6])
        >>> curves.recall.tolist(), curves.precision.tolist()
        ([1.0, 0.75], [1.0, 1.0])
    """
    case = make_case(y_true, y_prob)
    levels = np.asarray(thresholds, np.float32)
    if levels.ndim != 1 or not len(levels) or (np.diff(levels) < 0).any():
        raise ValueError(
            f"`thresholds` must be one or more, ascending. Received: shape {levels.shape}"
        )
    num_samples = len(case.num_true)
    decided = np.empty((num_samples, len(levels)), np.int64)
    for start, block in blocks(case.y_prob):
        decided[start : start + len(block)] = _count_reaching(
            np.repeat(np.arange(len(block)), block.shape[1]), block.ravel(), levels, len(block)
        )
    hits = _count_reaching(case.rows, case.true_scores, levels, num_samples)
    num_true = case.num_true[:, None]
    return ThresholdCurves(
        thresholds=levels,
        per_sample=fbeta_of_counts(hits, num_true, decided, beta).astype(np.float32),
        precision=(hits / np.maximum(decided, 1)).mean(axis=0),
        recall=(hits / np.maximum(num_true, 1)).mean(axis=0),
        micro=fbeta_of_counts(hits.sum(axis=0), num_true.sum(), decided.sum(axis=0), beta),
        num_labels=decided.mean(axis=0),
        unanswered=(decided == 0).mean(axis=0),
    )


def find_plateau(search: ThresholdSearch, *, loss: float = 0.005) -> tuple[float, float]:
    """Lowest and highest threshold around the best that cost less than `loss`.

    Args:
        search: `ThresholdSearch`.
        loss: float > 0. Points of the score.

    Returns:
        (low, high), two of `search.thresholds`: none of those between them scores below
        `search.score - loss`.

    Raises:
        ValueError: `loss` is not positive.
    """
    if not loss > 0:
        raise ValueError(f"`loss` must be positive. Received: loss={loss}")
    best = int(np.searchsorted(search.thresholds, np.float32(search.threshold)))
    bad = np.flatnonzero(search.scores < search.score - loss)
    low = bad[bad < best].max(initial=-1) + 1
    high = bad[bad > best].min(initial=len(search.scores)) - 1
    return float(search.thresholds[low]), float(search.thresholds[high])


def bootstrap_threshold(
    curves: ThresholdCurves,
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> ThresholdBootstrap:
    """Searches the threshold again on resampled pictures: percentile intervals.

    Args:
        curves: `ThresholdCurves`; its thresholds are the candidates, some hundred points.
        groups: `(num_samples,)` int or str, or None. Samples of one group (one specimen) are
            drawn together.
        seed: int. The same seed gives the same intervals.
        level: float in (0, 1).
        num_resamples: int >= 1.

    Returns:
        `ThresholdBootstrap`. The scores are in-sample: each threshold is the best for the
        pictures it is scored on.

    Raises:
        ValueError: `level` is out of range, or `groups` has another length.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1). Received: level={level}")
    num_samples = len(curves.per_sample)
    if groups is None:
        groups = np.arange(num_samples)
    if np.shape(groups) != (num_samples,):
        raise ValueError(
            f"`groups` must have one entry a sample, {num_samples}. "
            f"Received: shape {np.shape(groups)}"
        )
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    num_groups = int(codes.max()) + 1
    sums = np.zeros((num_groups, len(curves.thresholds)))
    np.add.at(sums, codes, curves.per_sample)
    sizes = np.bincount(codes)
    generator = np.random.default_rng(seed)
    best, scores = np.empty(num_resamples, np.int64), np.empty(num_resamples)
    for resample in range(num_resamples):
        drawn = np.bincount(generator.integers(num_groups, size=num_groups), minlength=num_groups)
        curve = drawn @ sums / (drawn @ sizes)
        best[resample] = int(np.argmax(curve))
        scores[resample] = curve[best[resample]]
    share = [(1 - level) / 2, (1 + level) / 2]
    found = curves.thresholds[best]
    low, high = np.quantile(found, share)
    return ThresholdBootstrap(
        thresholds=found,
        scores=scores,
        threshold_interval=(float(low), float(high)),
        score_interval=tuple(np.quantile(scores, share).tolist()),
        level=level,
    )


def _count_reaching(
    rows: np.ndarray, values: np.ndarray, levels: np.ndarray, num_rows: int
) -> np.ndarray:
    """`(num_rows, num_levels)` int64: how many values of each row are at or above each level."""
    reached = np.searchsorted(levels, values, side="right")
    some = reached > 0
    width = len(levels)
    counts = np.bincount(
        rows[some] * width + reached[some] - 1, minlength=num_rows * width
    ).reshape(num_rows, width)
    return counts[:, ::-1].cumsum(axis=1)[:, ::-1]
