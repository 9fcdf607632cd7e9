"""Whether probabilities keep their promise: the reliability diagram and its one number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.cases import check_probabilities, make_case
from imetlib.decisions.label_sets import check_folds, take_labels
from imetlib.decisions.pooling import pool_scores

if TYPE_CHECKING:
    from imetlib.decisions.calibration import IsotonicScaling, PlattScaling
    from imetlib.decisions.fbeta import Labels

SPACINGS = ("positives", "count", "logit")


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Result of `reliability_curve`: `(num_bins,)` float64 each, by ascending score, none empty.

    Args:
        predicted: Mean probability of the entries of a bin.
        observed: Share of true labels among them.
        low, high: Wilson's interval of `observed`, as if entries were drawn independently. The
            labels of one picture are not, so that the interval is rather too narrow.
        counts: Entries of a bin.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray


def reliability_curve(
    y_true: Labels,
    y_prob: np.ndarray,
    *,
    num_bins: int = 15,
    spacing: str = "positives",
    level: float = 0.95,
) -> ReliabilityCurve:
    """Predicted against observed share of true labels, over all entries of the matrix.

    With 3 labels of 1,103 nearly every entry is near zero. Bins of equal width or equal counts
    see nothing but that; the default gives each bin the same share of the expected positives.

    Args:
        y_true: `LabelTable`, `(num_samples, num_classes)` array of 0/1, or a sequence with one
            array of columns a sample.
        y_prob: `(num_samples, num_classes)` float in [0, 1].
        num_bins: int >= 1. Fewer come back where some would be empty: equal scores are never
            parted, nor are scores less than .001 apart in the logit.
        spacing: "positives" (equal sums of `y_prob`), "count" (equal numbers of entries) or
            "logit" (equal widths of log(p / (1 - p)), clipped to p in [1e-7, 1 - 1e-7]).
        level: float in (0, 1), of the intervals.

    Returns:
        `ReliabilityCurve`.

    Raises:
        ValueError: the shapes differ, `y_prob` holds no probabilities, an unknown spacing, or a
            number out of range.

    Example:
        >>> curve = reliability_curve([[1, 0], [0, 0]], np.array([[0.5, 0.25], [0.5, 0.25]]))
        >>> curve.predicted.tolist(), curve.observed.tolist()
        ([0.25, 0.5], [0.0, 0.5])
    """
    if spacing not in SPACINGS:
        raise ValueError(f"Unknown spacing {spacing!r}. Known: {', '.join(SPACINGS)}")
    if num_bins < 1:
        raise ValueError(f"`num_bins` must be at least 1. Received: num_bins={num_bins}")
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1). Received: level={level}")
    pool = pool_scores(y_true, y_prob)[0]
    if spacing == "logit":
        places = pool.logits - pool.logits[0]
        end = places[-1]
    else:
        weights = pool.counts * (pool.mean_prob if spacing == "positives" else 1.0)
        # The middle of a heap of equal scores decides where the heap goes.
        places = np.cumsum(weights) - weights / 2
        end = weights.sum()
    bins = np.minimum(places / (end if end > 0 else 1.0) * num_bins, num_bins - 1).astype(np.int64)
    starts = np.append(0, np.flatnonzero(np.diff(bins)) + 1)
    counts = np.add.reduceat(pool.counts, starts)
    predicted = np.add.reduceat(pool.counts * pool.mean_prob, starts) / counts
    observed = np.add.reduceat(pool.positives, starts) / counts
    low, high = _wilson_interval(observed, counts, level)
    return ReliabilityCurve(predicted, observed, low, high, counts)


def calibration_error(curve: ReliabilityCurve, *, relative: bool = False) -> float:
    """Expected calibration error: mean distance of predicted and observed, weighted by entries.

    Args:
        curve: `ReliabilityCurve`. The value depends on its bins: compare only curves of one
            `num_bins` and spacing.
        relative: divide by the share of true labels among all entries. Without that no model of
            sparse labels can be far off: with 3 of 1,103 an all-zero answer has an error of
            .003; its relative error is 1.

    Returns:
        float >= 0; at most 1 without `relative`.

    Raises:
        ValueError: `relative` where no label is true.

    Example:
        >>> curve = reliability_curve([[1, 0], [0, 0]], np.array([[0.5, 0.25], [0.5, 0.25]]))
        >>> calibration_error(curve), calibration_error(curve, relative=True)
        (0.125, 0.5)

    Reference:
        Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian
        binning, AAAI 2015, with the bins of `curve` instead of equal widths.
    """
    gaps = curve.counts @ np.abs(curve.predicted - curve.observed)
    if not relative:
        return float(gaps / curve.counts.sum())
    num_true = curve.counts @ curve.observed
    if not num_true > 0:
        raise ValueError("A relative error needs true labels. Received: none")
    return float(gaps / num_true)


def calibrate_out_of_fold(
    fit: Callable[[Labels, np.ndarray], PlattScaling | IsotonicScaling],
    y_true: Labels,
    y_prob: np.ndarray,
    folds: np.ndarray,
) -> np.ndarray:
    """Probabilities of each fold, calibrated with a map fitted on the other folds.

    A map always looks well calibrated on the rows it was fitted on: a reliability curve of it
    says something only about other rows.

    Args:
        fit: `fit_platt` or `fit_isotonic` of `imetlib.decisions.calibration`.
        y_true, y_prob: as in `fit_platt`.
        folds: `(num_samples,)` int or str, at least two different ones.

    Returns:
        `(num_samples, num_classes)` float32 in [0, 1].

    Raises:
        ValueError: as `fit`; fewer than two folds, or not one a row.
    """
    y_prob = check_probabilities(y_prob)
    make_case(y_true, y_prob, check=False)
    folds, names = check_folds(folds, len(y_prob))
    calibrated = np.empty(y_prob.shape, np.float32)
    for name in names:
        others = np.flatnonzero(folds != name)
        scaling = fit(take_labels(y_true, others), y_prob[others])
        calibrated[folds == name] = scaling.apply(y_prob[folds == name])
    return calibrated


def _wilson_interval(
    share: np.ndarray, counts: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * counts)) / (1 + z**2 / counts)
    half = z / (1 + z**2 / counts) * np.sqrt(share * (1 - share) / counts + (z / counts / 2) ** 2)
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)
