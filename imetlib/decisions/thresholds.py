"""One global threshold on the scores, searched exactly, and what it is worth on other rows.

A label is predicted where `y_prob >= threshold`, compared in float32: a float64 copy of the
threshold can flip `>=`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions import sweep
from imetlib.decisions.cases import blocks, check_scores, count_true, make_case
from imetlib.decisions.fbeta import fbeta_of_counts, fbeta_samples
from imetlib.decisions.label_sets import check_folds, decide, take_labels
from imetlib.decisions.top_scores import TopScores

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

ENGINES = ("auto", "numba", "numpy")
# Below this many scores NumPy is done before numba is loaded.
NUMBA_FROM = 30_000_000


@dataclass(frozen=True, eq=False)
class ThresholdSearch:
    """Result of `search_threshold` or `grid_search`.

    Args:
        threshold: float, exactly a float32. The best one; the highest of several equally good.
        score: float in [0, 1]. Mean per-sample F-beta at `threshold`, **on the rows that it was
            chosen on**: report the score of `crossfit_threshold` or of other rows instead.
        thresholds: `(num_thresholds,)` float32, ascending. All that were evaluated one by one.
        scores: `(num_thresholds,)` float64. The score at each of them.
        certified: whether no threshold at all, evaluated or not, can score higher.
        at_edge: whether the best is the first or last of `thresholds`.
        complete: whether `thresholds` are all distinct scores from the first of them up. A grid
            is not, nor are the thresholds that the numba engine evaluates.
    """

    threshold: float
    score: float
    thresholds: np.ndarray
    scores: np.ndarray
    certified: bool
    at_edge: bool
    complete: bool = True

    def score_at(self, threshold: float) -> float:
        """Score at a threshold: any one from the first evaluated up where `complete`.

        Raises:
            ValueError: `threshold` is below all that were evaluated; or it is none of them and
                the search is not `complete`: the score there is not known.
        """
        position = int(np.searchsorted(self.thresholds, np.float32(threshold)))
        if position == 0 and np.float32(threshold) < self.thresholds[0]:
            raise ValueError(
                f"No threshold below {self.thresholds[0]:.6g} was evaluated. "
                f"Received: threshold={threshold}"
            )
        if not self.complete and np.float32(threshold) not in self.thresholds[position:][:1]:
            raise ValueError(
                "Not every threshold was evaluated, and this one was not: use trace_thresholds, or "
                f'search_threshold with engine="numpy". Received: threshold={threshold}'
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


def search_threshold(
    y_true: Labels, y_prob: np.ndarray | TopScores, *, beta: float = 2.0, engine: str = "auto"
) -> ThresholdSearch:
    """The best global threshold among all that can differ: every distinct score.

    The score changes only where the threshold passes a score of the array, so nothing is lost
    between the points of a grid. Only the upper scores of each row are looked at; an upper bound
    on everything below certifies the result, and the floor is lowered until it does.

    Args:
        y_true: `LabelTable` or `(num_samples, num_classes)` array of 0/1.
        y_prob: `(num_samples, num_classes)` float, any range: probabilities or logits. Read as
            float32. Or `TopScores`.
        beta: float > 0.
        engine: "numpy", "numba", or "auto": numba where it is installed and there are at least
            30 million scores. Both find the same threshold; numba is some times faster, takes
            seconds to compile on first use, and evaluates a part of the thresholds one by one
            (`complete` is False).

    Returns:
        `ThresholdSearch`. Rows may be left without labels: the search is about the threshold
        alone, not about the rescue of empty rows in `decide`. Dense scores are always
        `certified`. `TopScores` are where the best threshold of all scores is sure to be above
        what was left out; where it is not, the result is the best for decisions by the kept
        scores alone.

    Raises:
        ValueError: the shapes differ, a score is not finite, or an unknown engine.
        ImportError: numba is asked for and not installed.

    Example:
        >>> y_true = np.array([[1, 0, 0], [1, 1, 0]])
        >>> y_prob = np.array([[0.9, 0.4, 0.1], [0.8, 0.5, 0.2]], np.float32)
        >>> search = search_threshold(y_true, y_prob)
        >>> search.threshold, search.score
        (0.5, 1.0)
    """
    if engine not in ENGINES:
        raise ValueError(f"`engine` must be one of {', '.join(ENGINES)}. Received: {engine!r}")
    fbeta_of_counts(0, 1, 1, beta)
    case = make_case(y_true, y_prob, check=False)
    if engine == "auto":
        engine = "numba" if use_numba(case.y_prob.size) else "numpy"
    if engine == "numba":
        from imetlib.decisions.sweep_numba import sweep as run
    else:
        run = sweep.sweep
    found, certified = sweep.search(case, run, beta)
    if not certified:
        # What was left out may matter. Without it a sweep down to the last score is exact.
        found, _ = sweep.search(replace(case, least=-np.inf), run, beta)
    threshold, best = found.thresholds[found.best], found.best
    curve = found.curve
    # The sum of gains is off in the twelfth digit; the answer itself is counted afresh.
    curve[best] = fbeta_of_counts(found.hits, case.num_true, found.num_pred, beta).mean()
    return ThresholdSearch(
        threshold=float(threshold),
        score=float(curve[best]),
        thresholds=found.thresholds,
        scores=curve,
        certified=certified,
        at_edge=best in (0, len(curve) - 1),
        complete=engine == "numpy",
    )


def use_numba(num_scores: int) -> bool:
    """Whether numba is installed and pays for its loading."""
    return num_scores >= NUMBA_FROM and find_spec("numba") is not None


def grid_search(
    y_true: Labels,
    y_prob: np.ndarray | TopScores,
    num_thresholds: int = 50,
    stop: float = 0.5,
    *,
    beta: float = 2.0,
) -> ThresholdSearch:
    """The best threshold of an even grid: what the 2019 report did, as a yardstick.

    Args:
        y_true, y_prob, beta: as in `search_threshold`. What `TopScores` left out reaches no
            point of the grid.
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
        complete=False,
    )


def crossfit_threshold(
    y_true: Labels,
    y_prob: np.ndarray | TopScores,
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
    groups, names = check_folds(groups, len(y_prob))
    y_prob = check_scores(y_prob)
    y_pred = np.empty(y_prob.shape, bool)
    thresholds = {}
    for name in names:
        own = groups == name
        others = np.flatnonzero(~own)
        found = search_threshold(take_labels(y_true, others), y_prob[others], beta=beta)
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
