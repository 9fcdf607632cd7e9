"""A threshold of its own for every class, and how much of its gain is learned by heart.

With as many thresholds as classes the rows they are fitted on are remembered: the figure to look at
is the one on other rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.cases import check_scores, make_case
from imetlib.decisions.fbeta import fbeta_of_counts, fbeta_samples
from imetlib.decisions.label_sets import check_folds, decide, take_labels
from imetlib.decisions.sweep import ROUNDING, choose_levels, collect_events
from imetlib.decisions.thresholds import search_threshold

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels


@dataclass(frozen=True, eq=False)
class CrossfitClassThresholds:
    """Result of `crossfit_class_thresholds`; all scores are means of per-sample F-beta.

    Args:
        score: float in [0, 1]. Each row decided with thresholds that never saw it.
        in_sample_score: float in [0, 1]. All rows decided with `thresholds`, fitted on them.
        global_score: float in [0, 1]. One threshold for all classes, each row decided with one
            that never saw it: what the others must beat.
        thresholds: `(num_classes,)` float32, fitted on all rows; inf where a class is better
            never taken.
        y_pred: `(num_samples, num_classes)` bool. The decisions of `score`.
    """

    score: float
    in_sample_score: float
    global_score: float
    thresholds: np.ndarray
    y_pred: np.ndarray

    @property
    def overfit(self) -> float:
        """How much the score on the rows fitted promises too much."""
        return self.in_sample_score - self.score


def crossfit_class_thresholds(
    y_true: Labels,
    y_prob: np.ndarray,
    groups: np.ndarray,
    *,
    beta: float = 2.0,
    num_passes: int = 4,
    min_labels: int = 1,
    max_labels: int | None = None,
) -> CrossfitClassThresholds:
    """Thresholds of every class by coordinate ascent, scored on rows that they never saw.

    It starts from the best common threshold; then each class in turn gets its best one beside
    the others, some passes long. That is a local optimum.

    Args:
        y_true: `LabelTable` or `(num_samples, num_classes)` array of 0/1.
        y_prob: `(num_samples, num_classes)` float, any range; out of fold.
        groups: `(num_samples,)` int or str. The fold of each row. Rows of one specimen must
            share a group.
        beta: float > 0.
        num_passes: int >= 1. At most so many; it ends when nothing improves.
        min_labels, max_labels: as in `decide`; they hold for the decisions, the thresholds are
            searched without.

    Returns:
        `CrossfitClassThresholds`.

    Raises:
        ValueError: as `search_threshold`; fewer than two groups, or not one a row.
    """
    if num_passes < 1:
        raise ValueError(f"`num_passes` must be at least 1. Received: num_passes={num_passes}")
    y_prob = np.asarray(check_scores(y_prob))
    groups, names = check_folds(groups, len(y_prob))
    make_case(y_true, y_prob, check=False)

    def choose(rows: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
        return decide(y_prob[rows], threshold, min_labels=min_labels, max_labels=max_labels)

    y_pred, common = np.empty(y_prob.shape, bool), np.empty(y_prob.shape, bool)
    for name in names:
        own, others = groups == name, np.flatnonzero(groups != name)
        start, found = fit_class_thresholds(
            take_labels(y_true, others), y_prob[others], beta=beta, num_passes=num_passes
        )
        y_pred[own] = choose(own, found)
        common[own] = choose(own, start)
    thresholds = fit_class_thresholds(y_true, y_prob, beta=beta, num_passes=num_passes)[1]
    everything = np.arange(len(y_prob))
    return CrossfitClassThresholds(
        score=fbeta_samples(y_true, y_pred, beta=beta),
        in_sample_score=fbeta_samples(y_true, choose(everything, thresholds), beta=beta),
        global_score=fbeta_samples(y_true, common, beta=beta),
        thresholds=thresholds,
        y_pred=y_pred,
    )


def fit_class_thresholds(
    y_true: Labels, y_prob: np.ndarray, *, beta: float = 2.0, num_passes: int = 4
) -> tuple[float, np.ndarray]:
    """The best common threshold, and the `(num_classes,)` float32 ascended to from it.

    For rules that are compared out of fold; arguments as in `crossfit_class_thresholds`, scores
    found finite.
    """
    case = make_case(y_true, y_prob, check=False)
    common = search_threshold(y_true, y_prob, beta=beta).threshold
    # Classes may want less than all together, but hardly less than this.
    floor = min(choose_levels(case.y_prob, 8 * max(1.0, case.num_true.mean()))[0], common)
    events, _ = collect_events(case, floor, floor)
    order = np.lexsort((-events.values, events.columns))
    rows, values, is_true = events.rows[order], events.values[order], events.is_true[order]
    ends = np.searchsorted(events.columns[order], np.arange(y_prob.shape[1] + 1))
    num_rows = len(case.num_true)
    taken = values >= np.float32(common)
    labels = np.bincount(rows[taken], minlength=num_rows)
    hits = np.bincount(rows[taken & is_true], minlength=num_rows)
    thresholds = np.full(y_prob.shape[1], common, np.float32)
    for _ in range(num_passes):
        improved = False
        for column in range(y_prob.shape[1]):
            part = slice(ends[column], ends[column + 1])
            own, scores, true = rows[part], values[part], is_true[part]
            chosen = scores >= thresholds[column]
            # A row has a class once, so plain indexing changes each row once.
            labels[own] -= chosen
            hits[own] -= chosen & true
            num_true = case.num_true[own]
            gains = fbeta_of_counts(hits[own] + true, num_true, labels[own] + 1, beta)
            gains -= fbeta_of_counts(hits[own], num_true, labels[own], beta)
            threshold, gained = _choose(scores, gains)
            if gained > gains[chosen].sum() + ROUNDING * num_rows:
                thresholds[column], improved = threshold, True
            chosen = scores >= thresholds[column]
            labels[own] += chosen
            hits[own] += chosen & true
        if not improved:
            break
    return common, thresholds


def _choose(scores: np.ndarray, gains: np.ndarray) -> tuple[float, float]:
    """The threshold of one class with the largest sum of gains; inf where none is positive."""
    if not len(scores):
        return np.inf, 0.0
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    sums = np.cumsum(gains)[ends]
    best = int(np.argmax(sums))
    return (float(scores[ends[best]]), float(sums[best])) if sums[best] > 0 else (np.inf, 0.0)
