"""Label sets chosen picture by picture, from probabilities: near the maximum, or best expected.

One threshold for all pictures asks the same of a picture that the network knows and of one that
puzzles it. These rules look at the other probabilities of the picture. Those that compute an
expectation believe the probabilities: calibrate first (`imetlib.decisions.calibration`), on raw
scores they can lose far more than they gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imetlib.decisions.cases import blocks, check_probabilities, check_scores
from imetlib.decisions.exclusive import columns_of_groups
from imetlib.decisions.limits import apply_limits, check_limits, mark_highest
from imetlib.decisions.sweep import choose_levels

# Beyond these a label only adds to the number of positives. More cost more and change nothing
# that is measurable where pictures have three labels.
_CANDIDATES = 24
_ROWS_TOGETHER = 4096
METHODS = ("exact", "ratio")


@dataclass(frozen=True, eq=False)
class ExpectedSets:
    """Result of `expected_fbeta_sets`.

    Args:
        y_pred: `(num_samples, num_classes)` bool. The decisions, at least one label a row.
        expected: `(num_samples,)` float64 in [0, 1]. The F-beta that the rule predicts for each
            row, from the probabilities alone. Its mean estimates the score of unlabelled
            pictures only as far as the probabilities are calibrated and independent: compare it
            with the realised score on labelled rows before it is believed.
    """

    y_pred: np.ndarray
    expected: np.ndarray


def keep_near_maximum(
    y_prob: np.ndarray, ratio: float, *, min_labels: int = 1, max_labels: int | None = None
) -> np.ndarray:
    """Labels whose probability is not far below the highest of their picture.

    The sixth team of iMet 2019 kept 1 to 10 labels above a seventh of the maximum.

    Args:
        y_prob: `(num_samples, num_classes)` float in [0, 1].
        ratio: float in (0, 1]. A label stays where `y_prob >= ratio * maximum of its row`, in
            float32.
        min_labels, max_labels: as in `imetlib.decisions.thresholds.decide`.

    Returns:
        `(num_samples, num_classes)` bool. Of equal scores the smaller column is taken.

    Raises:
        ValueError: not a matrix of probabilities, `ratio` out of range, or the limits contradict
            each other.

    Example:
        >>> keep_near_maximum(np.array([[0.7, 0.1, 0.05], [0.2, 0.1, 0.0]]), 1 / 7).astype(int)
        array([[1, 1, 0],
               [1, 1, 0]])
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"`ratio` must be in (0, 1]. Received: ratio={ratio}")
    y_prob = check_probabilities(y_prob)
    highest = check_limits(min_labels, max_labels, y_prob.shape[1])
    y_pred = np.empty(y_prob.shape, bool)
    for start, block in blocks(y_prob):
        limit = block.max(axis=1, keepdims=True) * np.float32(ratio)
        y_pred[start : start + len(block)] = block >= limit
    apply_limits(y_pred, y_prob, min_labels, highest)
    return y_pred


def keep_top(y_prob: np.ndarray, k: int) -> np.ndarray:
    """The `k` highest scores of every picture.

    Args:
        y_prob: `(num_samples, num_classes)` float, any range.
        k: int in 1..num_classes.

    Returns:
        `(num_samples, num_classes)` bool. Of equal scores the smaller column is taken.

    Raises:
        ValueError: not a matrix, a score is not finite, or `k` is out of range.

    Example:
        >>> keep_top(np.array([[0.1, 0.5, 0.5, 0.2]]), 2).astype(int)
        array([[0, 1, 1, 0]])
    """
    y_prob = check_scores(y_prob)
    if not 1 <= k <= y_prob.shape[1]:
        raise ValueError(f"`k` must be in 1..{y_prob.shape[1]}. Received: k={k}")
    y_pred = np.empty(y_prob.shape, bool)
    for start, block in blocks(y_prob):
        y_pred[start : start + len(block)] = mark_highest(block, k)
    return y_pred


def threshold_for_count(y_prob: np.ndarray, mean_labels: float) -> float:
    """The global threshold that keeps a wanted number of labels a picture on average.

    It needs no labels. The 22nd team of iMet 2019 moved its threshold until the test pictures,
    whose scores lay elsewhere than those of the training pictures, had 5.2 labels each.

    Args:
        y_prob: `(num_samples, num_classes)` float, any range. Read as float32.
        mean_labels: float > 0, at most num_classes.

    Returns:
        float, exactly a float32 and one of the scores. Equal scores stand or fall together; of
        the two counts around the wanted one the nearer is taken, the smaller if equally near. No
        row is rescued as in `decide`.

    Raises:
        ValueError: not a matrix, a score is not finite, or `mean_labels` is out of range.

    Example:
        >>> threshold_for_count(np.array([[0.75, 0.25], [0.5, 0.125]]), 1.5)
        0.25
    """
    y_prob = check_scores(y_prob)
    num_samples, num_classes = y_prob.shape
    if not 0 < mean_labels <= num_classes:
        raise ValueError(
            f"`mean_labels` must be in (0, {num_classes}]. Received: mean_labels={mean_labels}"
        )
    wanted = mean_labels * num_samples
    per_row = 1.5 * mean_labels
    while True:
        floor = choose_levels(y_prob, per_row)[0]
        values = np.concatenate([block[block >= floor] for _, block in blocks(y_prob)])
        if len(values) >= wanted:
            break
        per_row *= 2
    place = len(values) - max(1, int(np.ceil(wanted)))
    lower = np.partition(values, place)[place]
    higher = values[values > lower]
    excess = np.count_nonzero(values >= lower) - wanted
    if len(higher) and wanted - len(higher) <= excess:
        return float(higher.min())
    return float(lower)


def expected_fbeta_sets(
    y_prob: np.ndarray,
    *,
    method: str = "exact",
    beta: float = 2.0,
    max_labels: int = 24,
    class_names: Sequence[str] | None = None,
    exclusive: Sequence[str] = (),
) -> ExpectedSets:
    """The set of highest expected F-beta of each picture, as its probabilities have it.

    `"exact"`: labels are independent, or at most one of an exclusive group is true and the
    groups are independent of each other and of all other labels. The number of positives is then
    a sum of independent coin tosses, and the best set of each size follows from its distribution.
    `"ratio"`: the k highest, where k maximises `(1 + beta**2)` times the sum of their
    probabilities over `beta**2` times the sum of all plus k: a ratio of expectations instead of
    the expectation of a ratio. It loses little; its own estimate is some hundredths off.

    Args:
        y_prob: `(num_samples, num_classes)` float in [0, 1], calibrated. Read as float32.
        method: "exact" or "ratio".
        beta: float > 0.
        max_labels: int >= 1. No set is larger. The labels beyond the `max(24, max_labels)`
            highest of a row only add to the number of positives, as a Poisson number.
        class_names: `num_classes` names `group::name`; needed for `exclusive` alone.
        exclusive: groups of which at most one attribute is true, as from
            `find_exclusive_groups`. Where the probabilities of one sum to more than 1 in a row
            they are divided by the sum; `share_in_groups` is the better remedy.

    Returns:
        `ExpectedSets`. Of equal probabilities the smaller column is taken, of equally good sizes
        the smaller.

    Raises:
        ValueError: not a matrix of probabilities, an unknown method or group, or a number out of
            range.

    Example:
        >>> sets = expected_fbeta_sets(np.array([[0.9, 0.1, 0.6, 0.3]]))
        >>> sets.y_pred.astype(int), sets.expected.round(6)
        (array([[1, 0, 1, 1]]), array([0.815176]))

    Reference:
        Ye, Chai, Lee and Chieu, Optimizing F-measure: a tale of two approaches, ICML 2012, for
        independent labels; Dembczynski, Waegeman, Cheng and Huellermeier, An exact algorithm for
        F-measure maximization, NIPS 2011, whose gain of a label in a set of k serves the groups.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. Known: {', '.join(METHODS)}")
    if not beta > 0:
        raise ValueError(f"`beta` must be positive. Received: beta={beta}")
    if max_labels < 1:
        raise ValueError(f"`max_labels` must be at least 1. Received: max_labels={max_labels}")
    y_prob = check_probabilities(y_prob)
    num_samples, num_classes = y_prob.shape
    groups, num_groups = _number_groups(class_names, exclusive, num_classes)
    if num_groups and method == "ratio":
        raise ValueError(
            "The ratio rule looks at sums alone, which exclusive groups do not change. Leave "
            '`exclusive` out, or use method="exact".'
        )
    # Numba takes longer to load than most of what it is used for here.
    from imetlib.decisions import per_image_numba as compiled

    size = min(max_labels, num_classes)
    num_candidates = min(max(max_labels, _CANDIDATES), num_classes)
    shares = _share_of_a_hit(size, compiled.num_counts(num_classes), beta)
    y_pred = np.zeros(y_prob.shape, bool)
    expected = np.empty(num_samples)
    for start in range(0, num_samples, _ROWS_TOGETHER):
        rows = slice(start, start + _ROWS_TOGETHER)
        part = np.ascontiguousarray(y_prob[rows], np.float32)
        if method == "ratio":
            compiled.decide_ratio(part, size, float(beta**2), y_pred[rows], expected[rows])
        elif num_groups:
            compiled.decide_exclusive(
                part, groups, num_groups, num_candidates, shares, y_pred[rows], expected[rows]
            )
        else:
            compiled.decide_independent(part, num_candidates, shares, y_pred[rows], expected[rows])
    return ExpectedSets(y_pred, np.clip(expected, 0.0, 1.0))


def expected_fbeta_curve(y_prob: np.ndarray, *, beta: float = 2.0) -> np.ndarray:
    """Expected F-beta of the 1, 2, ... highest of one picture's labels, for independent labels.

    The reference for `expected_fbeta_sets`: nothing is cut off and nothing approximated, in time
    quadratic in the number of classes (some 10 ms for 1,103).

    Args:
        y_prob: `(num_classes,)` float in [0, 1].
        beta: float > 0 whose square is a whole number.

    Returns:
        `(num_classes,)` float64. The best set has `argmax + 1` labels.

    Raises:
        ValueError: not a row of probabilities, or `beta**2` is not whole.

    Example:
        >>> expected_fbeta_curve([0.9, 0.6, 0.3, 0.1], beta=1.0).round(6)
        array([0.63888 , 0.75072 , 0.706106, 0.618451])

    Reference:
        Ye, Chai, Lee and Chieu, ICML 2012, algorithm 1.
    """
    row = check_probabilities(np.asarray(y_prob)[None])[0]
    weight = round(beta**2)
    if weight < 1 or abs(beta**2 - weight) > 1e-9:
        raise ValueError(f"`beta**2` must be a whole number >= 1. Received: beta={beta}")
    p = np.sort(row.astype(np.float64))[::-1]
    num_classes = len(p)
    counts = np.zeros((num_classes + 1, num_classes + 1))
    counts[0, 0] = 1.0
    for k in range(1, num_classes + 1):
        counts[k] = counts[k - 1] * (1 - p[k - 1])
        counts[k, 1:] += counts[k - 1, :-1] * p[k - 1]
    # Position j holds the mean of 1 / (j + weight * positives among the labels beyond k).
    share = 1.0 / np.maximum(np.arange((1 + weight) * num_classes + 1), 1)
    curve = np.empty(num_classes)
    for k in range(num_classes, 0, -1):
        hits = np.arange(k + 1)
        curve[k - 1] = (1 + weight) * (hits * counts[k, : k + 1] * share[k + weight * hits]).sum()
        # Beyond this the values are never read again, and would need more that is not there.
        end = (1 + weight) * (k - 1) + 1
        share[:end] = p[k - 1] * share[weight : end + weight] + (1 - p[k - 1]) * share[:end]
    return curve


def _share_of_a_hit(max_labels: int, num_counts: int, beta: float) -> np.ndarray:
    """`[k, n - 1]`: what one hit adds to F-beta in a set of k where n labels are true."""
    sizes = np.arange(max_labels + 1)[:, None]
    return (1 + beta**2) / (beta**2 * np.arange(1, num_counts + 1) + sizes)


def _number_groups(
    class_names: Sequence[str] | None, exclusive: Sequence[str], num_classes: int
) -> tuple[np.ndarray, int]:
    """Number of the exclusive group of each column, -1 where there is none, and their number."""
    groups = np.full(num_classes, -1, np.int64)
    if not len(exclusive):
        return groups, 0
    if class_names is None or len(class_names) != num_classes:
        raise ValueError(
            f"`exclusive` needs `class_names`, one for each of {num_classes} classes. Received: "
            f"{'none' if class_names is None else len(class_names)}"
        )
    columns = columns_of_groups(class_names)
    unknown = sorted(set(exclusive) - set(columns))
    if unknown:
        raise ValueError(f"Unknown groups: {', '.join(unknown)}. Known: {', '.join(columns)}")
    for number, name in enumerate(dict.fromkeys(exclusive)):
        groups[columns[name]] = number
    return groups, len(set(exclusive))
