"""One global threshold on the scores, searched exactly, and what it is worth on other rows.

A label is predicted where `y_prob >= threshold`, compared in float32: a float64 copy of the
threshold can flip `>=`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.fbeta import fbeta_of_counts, fbeta_samples, is_ragged
from imetlib.decisions.limits import apply_limits, check_limits
from imetlib.decisions.sweep import (
    blocks,
    bound_below,
    check_scores,
    choose_levels,
    collect_events,
    count_true,
    make_case,
    sum_gains,
)

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels


@dataclass(frozen=True, eq=False)
class ThresholdSearch:
    """Result of `search_threshold` or `grid_search`.

    Args:
        threshold: float, exactly a float32. The best one; the highest of several equally good.
        score: float in [0, 1]. Mean per-sample F-beta at `threshold`, **on the rows that it was
            chosen on**: report the score of `crossfit_threshold` or of other rows instead.
        thresholds: `(num_thresholds,)` float32, ascending. All that were evaluated.
        scores: `(num_thresholds,)` float64. The score at each of them.
        certified: whether no threshold at all, evaluated or not, can score higher.
        at_edge: whether the best is the first or last of `thresholds`.
    """

    threshold: float
    score: float
    thresholds: np.ndarray
    scores: np.ndarray
    certified: bool
    at_edge: bool

    def score_at(self, threshold: float) -> float:
        """Score at any threshold, evaluated or not; exact for a search over all scores.

        Raises:
            ValueError: `threshold` is below all that were evaluated.
        """
        position = int(np.searchsorted(self.thresholds, np.float32(threshold)))
        if position == 0 and np.float32(threshold) < self.thresholds[0]:
            raise ValueError(
                f"No threshold below {self.thresholds[0]:.6g} was evaluated. "
                f"Received: threshold={threshold}"
            )
        return float(self.scores[position]) if position < len(self.scores) else 0.0


@dataclass(frozen=True, eq=False)
class CrossfitThreshold:
    """Result of `crossfit_threshold`.

    Args:
        score: float in [0, 1]. Mean per-sample F-beta of `y_pred`: each row was decided with a
            threshold that never saw it.
        thresholds: group to the threshold fitted on the other groups.
        y_pred: `(num_samples, num_classes)` bool. The decisions.
        in_sample: `ThresholdSearch` on all rows: its threshold is the one for new pictures,
            its score flatters.
    """

    score: float
    thresholds: dict[int | str, float]
    y_pred: np.ndarray
    in_sample: ThresholdSearch


def search_threshold(y_true: Labels, y_prob: np.ndarray, *, beta: float = 2.0) -> ThresholdSearch:
    """The best global threshold among all that can differ: every distinct score.

    The score changes only where the threshold passes a score of the array, so nothing is lost
    between the points of a grid. Only the upper scores of each row are looked at; an upper bound
    on everything below certifies the result, and the floor is lowered until it does.

    Args:
        y_true: `LabelTable` or `(num_samples, num_classes)` array of 0/1.
        y_prob: `(num_samples, num_classes)` float, any range: probabilities or logits. Read as
            float32.
        beta: float > 0.

    Returns:
        `ThresholdSearch` with `certified` True. Rows may be left without labels: the search
        is about the threshold alone, not about the rescue of empty rows in `decide`.

    Raises:
        ValueError: the shapes differ, or a score is not finite.

    Example:
        >>> y_true = np.array([[1, 0, 0], [1, 1, 0]])
        >>> y_prob = np.array([[0.9, 0.4, 0.1], [0.8, 0.5, 0.2]], np.float32)
        >>> search = search_threshold(y_true, y_prob)
        >>> search.threshold, search.score
        (0.5, 1.0)
    """
    case = make_case(y_true, y_prob)
    # Scores a row that a certificate needs at F2 = .4; doubled until it closes.
    per_row = 8 * max(1.0, case.num_true.mean())
    while True:
        floor, lower = choose_levels(case.y_prob, per_row)
        events, counts_at_lower = collect_events(case, floor, lower)
        thresholds, curve = sum_gains(case, events, beta)
        best = len(curve) - 1 - int(np.argmax(curve[::-1]))
        if (
            floor == -np.inf
            or bound_below(case, events, counts_at_lower, lower, beta) <= curve[best]
        ):
            break
        per_row *= 2
    chosen = events.values >= thresholds[best]
    num_rows = len(case.num_true)
    # The cumulative sum is off in the twelfth digit; the answer itself is counted afresh.
    curve[best] = fbeta_of_counts(
        np.bincount(events.rows[chosen & events.is_true], minlength=num_rows),
        case.num_true,
        np.bincount(events.rows[chosen], minlength=num_rows),
        beta,
    ).mean()
    return ThresholdSearch(
        threshold=float(thresholds[best]),
        score=float(curve[best]),
        thresholds=thresholds,
        scores=curve,
        certified=True,
        at_edge=best in (0, len(curve) - 1),
    )


def grid_search(
    y_true: Labels,
    y_prob: np.ndarray,
    num_thresholds: int = 50,
    stop: float = 0.5,
    *,
    beta: float = 2.0,
) -> ThresholdSearch:
    """The best threshold of an even grid: what the 2019 report did, as a yardstick.

    Args:
        y_true, y_prob, beta: as in `search_threshold`.
        num_thresholds: int >= 2. Points 0, stop / num_thresholds, ... below `stop`.
        stop: float > 0. End of the grid, itself left out.

    Returns:
        `ThresholdSearch` with `certified` False.

    Raises:
        ValueError: as `search_threshold`, or the grid is empty.

    Warns:
        UserWarning: the best point is the first or last: the optimum may lie outside.
    """
    if num_thresholds < 2 or not stop > 0:
        raise ValueError(
            "A grid needs `num_thresholds` >= 2 and `stop` > 0. "
            f"Received: num_thresholds={num_thresholds}, stop={stop}"
        )
    case = make_case(y_true, y_prob)
    thresholds = (np.arange(num_thresholds) * (stop / num_thresholds)).astype(np.float32)
    counts = np.empty((num_thresholds, len(case.num_true)), np.int64)
    for start, block in blocks(case.y_prob):
        for point, threshold in enumerate(thresholds):
            counts[point, start : start + len(block)] = np.count_nonzero(block >= threshold, axis=1)
    curve = np.array(
        [
            fbeta_of_counts(count_true(case, threshold), case.num_true, count, beta).mean()
            for threshold, count in zip(thresholds, counts, strict=True)
        ]
    )
    best = num_thresholds - 1 - int(np.argmax(curve[::-1]))
    at_edge = best in (0, num_thresholds - 1)
    if at_edge:
        warnings.warn(
            f"The best threshold {thresholds[best]:.4g} is the "
            f"{'first' if best == 0 else 'last'} of the grid: the optimum may lie outside. "
            "Change `stop`, or use search_threshold, which assumes no range.",
            stacklevel=2,
        )
    return ThresholdSearch(
        threshold=float(thresholds[best]),
        score=float(curve[best]),
        thresholds=thresholds,
        scores=curve,
        certified=False,
        at_edge=at_edge,
    )


def crossfit_threshold(
    y_true: Labels,
    y_prob: np.ndarray,
    groups: np.ndarray,
    *,
    beta: float = 2.0,
    min_labels: int = 1,
    max_labels: int | None = None,
) -> CrossfitThreshold:
    """Score of a searched threshold on rows it was not searched on.

    Args:
        y_true, y_prob, beta: as in `search_threshold`; `y_prob` out of fold, or of rows that
            no model was trained on.
        groups: `(num_samples,)` int or str. The fold of each row. Rows of one specimen must
            share a group.
        min_labels, max_labels: as in `decide`.

    Returns:
        `CrossfitThreshold`.

    Raises:
        ValueError: as `search_threshold`; fewer than two groups, or not one a row.
    """
    groups = np.asarray(groups)
    names = np.unique(groups)
    if groups.shape != (len(y_prob),) or len(names) < 2:
        raise ValueError(
            f"`groups` must name at least two groups, one for each of {len(y_prob)} rows. "
            f"Received: shape {groups.shape} with {len(names)} groups"
        )
    y_prob = np.asarray(y_prob)
    y_pred = np.empty(y_prob.shape, bool)
    thresholds = {}
    for name in names:
        own = groups == name
        others = np.flatnonzero(~own)
        found = search_threshold(_take_rows(y_true, others), y_prob[others], beta=beta)
        y_pred[own] = decide(
            y_prob[own], found.threshold, min_labels=min_labels, max_labels=max_labels
        )
        thresholds[name.item()] = found.threshold
    return CrossfitThreshold(
        score=fbeta_samples(y_true, y_pred, beta=beta),
        thresholds=thresholds,
        y_pred=y_pred,
        in_sample=search_threshold(y_true, y_prob, beta=beta),
    )


def decide(
    y_prob: np.ndarray,
    threshold: float | np.ndarray,
    *,
    min_labels: int = 1,
    max_labels: int | None = None,
) -> np.ndarray:
    """Label sets from scores: all at or above the threshold, and never fewer than `min_labels`.

    Args:
        y_prob: `(num_samples, num_classes)` float, any range.
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
    highest = check_limits(min_labels, max_labels, y_prob.shape[1])
    y_pred = np.empty(y_prob.shape, bool)
    for start, block in blocks(y_prob):
        y_pred[start : start + len(block)] = block >= np.asarray(threshold, np.float32)
    apply_limits(y_pred, y_prob, min_labels, highest)
    return y_pred


def _take_rows(labels: Labels, rows: np.ndarray) -> Labels:
    if hasattr(labels, "take") and hasattr(labels, "indptr"):
        return labels.take(rows)
    if is_ragged(labels):
        return [labels[row] for row in rows]
    return np.asarray(labels)[rows]
