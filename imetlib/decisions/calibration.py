"""Scores made probabilities: of the labels given .3, three in ten are to be true.

A threshold does not care, it moves along; rules that compute with probabilities do
(`imetlib.decisions.per_image`). Fit on out-of-fold scores, never on rows that the network was
trained on. Both maps rise strictly, so that the order of the labels of a picture stays, within a
group of classes that share one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.cases import blocks, check_probabilities
from imetlib.decisions.exclusive import columns_of_groups
from imetlib.decisions.pooling import PooledScores, clipped_logit, pool_scores

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

ALL = "all"
_LONGEST_STEP = 10.0


@dataclass(frozen=True, eq=False)
class PlattScaling:
    """Result of `fit_platt`: p becomes sigmoid(a * logit(p) + b).

    Args:
        pairs: group to (a, b), floats; the one key "all" where a single pair serves all classes.
        groups: `num_classes` str, the group of each class; None with a single pair.
    """

    pairs: dict[str, tuple[float, float]]
    groups: tuple[str, ...] | None = None

    def apply(self, y_prob: np.ndarray) -> np.ndarray:
        """`(num_samples, num_classes)` float32 in [0, 1] of probabilities of the same shape.

        Raises:
            ValueError: not probabilities, or of another number of classes than was fitted.
        """
        maps = {name: partial(_scale, pair=pair) for name, pair in self.pairs.items()}
        return _apply_maps(y_prob, maps, self.groups)


@dataclass(frozen=True, eq=False)
class IsotonicScaling:
    """Result of `fit_isotonic`: a rising line through points, logit to logit.

    Args:
        points: group to two `(num_points,)` float64, logits before and after, both ascending;
            the one key "all" where a single line serves all classes. Beyond its ends the line
            goes on with slope 1.
        groups: `num_classes` str, the group of each class; None with a single line.
    """

    points: dict[str, tuple[np.ndarray, np.ndarray]]
    groups: tuple[str, ...] | None = None

    def apply(self, y_prob: np.ndarray) -> np.ndarray:
        """`(num_samples, num_classes)` float32 in [0, 1] of probabilities of the same shape.

        Raises:
            ValueError: not probabilities, or of another number of classes than was fitted.
        """
        maps = {name: partial(_interpolate, points=line) for name, line in self.points.items()}
        return _apply_maps(y_prob, maps, self.groups)


def fit_platt(
    y_true: Labels, y_prob: np.ndarray, *, class_names: Sequence[str] | None = None
) -> PlattScaling:
    """Slope and offset on the logit, least log loss over all entries.

    Two numbers cannot overfit. A slope below 1 says that the scores were too sure of themselves.

    Args:
        y_true: `LabelTable`, `(num_samples, num_classes)` array of 0/1, or a sequence with one
            array of columns a sample.
        y_prob: `(num_samples, num_classes)` float in [0, 1], out of fold. Clipped to
            [1e-7, 1 - 1e-7].
        class_names: `num_classes` names `group::name` for one pair a group; None for one pair.
            A group without true, or without false, labels takes the pair of all classes.

    Returns:
        `PlattScaling`.

    Raises:
        ValueError: the shapes differ, `y_prob` holds no probabilities, or the labels are all
            true or all false.

    Example:
        >>> y_prob = np.array([[0.9, 0.8, 0.2, 0.1], [0.9, 0.8, 0.2, 0.1]])
        >>> scaling = fit_platt([[1, 0, 0, 0], [1, 1, 1, 0]], y_prob)
        >>> scaling.apply(y_prob)[0].round(2)
        array([0.85, 0.74, 0.26, 0.15], dtype=float32)

    Reference:
        Platt, Probabilistic outputs for support vector machines, 1999; without his smoothed
        targets, which matter for few samples only.
    """
    pools, groups = _pool_groups(y_true, y_prob, class_names)
    pairs = {
        name: fit_pair(pool.logits, pool.positives, pool.counts, start=(1.0, 0.0))
        for name, pool in pools.items()
    }
    return PlattScaling(pairs, groups)


def fit_isotonic(
    y_true: Labels, y_prob: np.ndarray, *, class_names: Sequence[str] | None = None
) -> IsotonicScaling:
    """The rising map of least squared error, without flat steps.

    Isotonic regression makes steps, and on a step labels are tied that were not. Here each step
    shrinks to one point, its mean, and lines join the points (Oron and Flournoy, 2017). One entry
    at the step's own mean score is added to it, so that no probability becomes 0 or 1.

    It follows any distortion, but the upper end rests on few entries: with less than some
    hundred positives a group prefer `fit_platt`.

    Args:
        y_true, y_prob, class_names: as in `fit_platt`.

    Returns:
        `IsotonicScaling`.

    Raises:
        ValueError: as `fit_platt`.

    Example:
        >>> y_prob = np.array([[0.9, 0.7, 0.3, 0.2]])
        >>> line = fit_isotonic([[1, 0, 1, 0]], y_prob).points["all"]
        >>> [len(side) for side in line]
        [3, 3]

    Reference:
        Oron and Flournoy, Centered isotonic regression, Statistics in Biopharmaceutical Research
        9, 2017.
    """
    pools, groups = _pool_groups(y_true, y_prob, class_names)
    return IsotonicScaling({name: _fit_line(pool) for name, pool in pools.items()}, groups)


def fit_pair(
    scores: np.ndarray,
    positives: np.ndarray,
    counts: np.ndarray | None = None,
    *,
    start: tuple[float, float] | None = None,
    steps: int = 50,
) -> tuple[float, float]:
    """(a, b) of sigmoid(a * score + b) with the least mean log loss, by Newton's method.

    Args:
        scores: `(num_points,)` or any shape, float, finite, any range.
        positives: the same shape. True labels at each point: 0 or 1 without `counts`.
        counts: the same shape, or None for one entry a point.
        start: (a, b) to begin with; None for (4, logit of the share of positives), which suits
            scores of a regression on 0 and 1.
        steps: int >= 1. Most steps; where a threshold parts the labels without a fault the slope
            would grow for ever.

    Returns:
        (a, b), floats.

    Example:
        >>> a, b = fit_pair(np.array([-1.0, 1.0]), np.array([1, 3]), np.array([4, 4]))
        >>> round(a, 4), abs(round(b, 4))
        (1.0986, 0.0)
    """
    x = np.ravel(scores).astype(np.float64)
    y = np.ravel(positives).astype(np.float64)
    weights = np.ones_like(x) if counts is None else np.ravel(counts).astype(np.float64)
    total = weights.sum()
    if start is None:
        rate = np.clip(y.sum() / total, 1e-6, 1 - 1e-6)
        start = (4.0, float(np.log(rate / (1 - rate))))
    pair = np.array(start)
    design = np.stack([x, np.ones_like(x)])

    def loss(candidate):
        logits = candidate @ design
        return (weights @ np.logaddexp(0.0, logits) - y @ logits) / total

    current = loss(pair)
    for _ in range(steps):
        probability = 1.0 / (1.0 + np.exp(-np.clip(pair @ design, -30, 30)))
        gradient = design @ (weights * probability - y) / total
        curvature = weights * probability * (1 - probability)
        hessian = (design * curvature) @ design.T / total + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        step = step * min(1.0, _LONGEST_STEP / max(np.abs(step).max(), 1e-12))
        # Far from the optimum a full step can jump over it, and back, without end.
        following = loss(pair - step)
        while following > current + 1e-12 and np.abs(step).max() > 1e-6:
            step = step / 2
            following = loss(pair - step)
        pair, current = pair - step, following
        if np.abs(step).max() < 1e-6:
            break
    return float(pair[0]), float(pair[1])


def _pool_groups(
    y_true: Labels, y_prob: np.ndarray, class_names: Sequence[str] | None
) -> tuple[dict[str, PooledScores], tuple[str, ...] | None]:
    """Pool of each group, of all classes where one kind of label is missing, and the groups."""
    if class_names is None:
        names, groups, numbers = [ALL], None, None
    else:
        num_classes = np.shape(y_prob)[-1]
        if len(class_names) != num_classes:
            raise ValueError(
                f"`class_names` must name {num_classes} classes. Received: {len(class_names)}"
            )
        names = list(columns_of_groups(class_names))
        groups = tuple(name.partition("::")[0] for name in class_names)
        numbers = np.array([names.index(name) for name in groups])
    pools = pool_scores(y_true, y_prob, numbers)
    if all(pool.has_both for pool in pools):
        return dict(zip(names, pools, strict=True)), groups
    everything = pool_scores(y_true, y_prob)[0]
    if not everything.has_both:
        raise ValueError(
            "`y_true` must hold true and false labels. Received: "
            f"{int(everything.positives.sum())} true of {int(everything.counts.sum())}"
        )
    usable = [pool if pool.has_both else everything for pool in pools]
    return dict(zip(names, usable, strict=True)), groups


def _fit_line(pool: PooledScores) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.isotonic import isotonic_regression

    steps = isotonic_regression(pool.positives / pool.counts, sample_weight=pool.counts)
    starts = np.append(0, np.flatnonzero(np.diff(steps) > 0) + 1)
    counts = np.add.reduceat(pool.counts, starts)
    before = np.add.reduceat(pool.counts * pool.logits, starts) / counts
    own = 1 / (1 + np.exp(-before))
    after = clipped_logit((np.add.reduceat(pool.positives, starts) + own) / (counts + 1))
    # The added entry can lift a small step above the next one.
    rising = after > np.append(-np.inf, np.maximum.accumulate(after)[:-1])
    return before[rising], after[rising]


def _scale(logits: np.ndarray, pair: tuple[float, float]) -> np.ndarray:
    return pair[0] * logits + pair[1]


def _interpolate(logits: np.ndarray, points: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    before, after = points
    beyond = logits - np.clip(logits, before[0], before[-1])
    return np.interp(logits, before, after) + beyond


def _apply_maps(
    y_prob: np.ndarray,
    maps: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    groups: tuple[str, ...] | None,
) -> np.ndarray:
    y_prob = check_probabilities(y_prob)
    columns: dict[str, slice | np.ndarray] = {ALL: slice(None)}
    if groups is not None:
        if len(groups) != y_prob.shape[1]:
            raise ValueError(
                f"The scaling was fitted on {len(groups)} classes. "
                f"Received: {y_prob.shape[1]} classes"
            )
        columns = {name: np.flatnonzero(np.array(groups) == name) for name in maps}
    scaled = np.empty(y_prob.shape, np.float32)
    for start, block in blocks(y_prob):
        logits = clipped_logit(block)
        rows = slice(start, start + len(block))
        for name, own in columns.items():
            scaled[rows, own] = 1 / (1 + np.exp(-np.clip(maps[name](logits[:, own]), -80, 80)))
    return scaled
