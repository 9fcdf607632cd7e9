"""Blends of several answers, and weights only where they help on pictures they were not fitted on.

Folds, views, backbones and neighbours err on different pictures, and their mean errs less than
each. Fitted weights look better than equal ones on the rows they are fitted on, always; on other
rows the gain is often nothing. So they are judged out of fold, and equal weights stand unless the
interval of the difference says otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.cases import check_scores
from imetlib.decisions.comparison import PairedComparison, paired_comparison
from imetlib.decisions.fbeta import fbeta_per_sample, is_ragged, label_pairs
from imetlib.decisions.label_sets import check_folds, decide, dense_labels, find_torn_groups
from imetlib.decisions.thresholds import search_threshold
from imetlib.scores import Scores, check_space, logits_of, weighted_mean

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

    Member = Scores | np.ndarray

# Members up to which all weights of a grid are tried.
_MAX_GRID_MEMBERS = 3
_MAX_ROUNDS = 20


@dataclass(frozen=True, eq=False)
class BlendSearch:
    """Result of `search_blend`.

    Args:
        chosen: `num_members` floats with sum 1, the weights to use: `weights` where they are
            surely better than equal ones on rows they were not fitted on, else equal ones.
        weights: `num_members` floats with sum 1. The best on all rows.
        fold_weights: fold to the weights fitted on the other folds.
        comparison: `PairedComparison` of the weighted mean, first, with the equal mean, second:
            each row was decided with weights and a threshold that never saw it.
        member_scores: `num_members` floats in [0, 1]. Each member alone, its threshold fitted
            likewise.
        space: "logit" or "probability".
    """

    chosen: tuple[float, ...]
    weights: tuple[float, ...]
    fold_weights: dict[int | str, tuple[float, ...]]
    comparison: PairedComparison
    member_scores: tuple[float, ...]
    space: str

    @property
    def score(self) -> float:
        """Cross-fitted mean per-sample F-beta of the weighted mean."""
        return self.comparison.first

    @property
    def over_first(self) -> tuple[float, ...]:
        """`weights` where they beat the first member alone, cross-fitted; else all weight on it."""
        if self.score > self.member_scores[0]:
            return self.weights
        return (1.0, *(0.0,) * (len(self.weights) - 1))

    @property
    def equal_score(self) -> float:
        """The same of the equal mean."""
        return self.comparison.second


def blend_scores(
    members: Sequence[Member], *, weights: Sequence[float] | None = None, space: str = "logit"
) -> np.ndarray:
    """Probabilities of a mean of several answers for the same pictures.

    `imetlib.scores.mean_scores` does the same with `Scores` alone and keeps their ids.

    Args:
        members: `Scores`, or `(num_samples, num_classes)` float probabilities, or some of each.
        weights: one float >= 0 a member, with sum 1, or None for equal ones.
        space: what is averaged, "logit" or "probability". As logits, probabilities of 0 and 1
            count like 1e-9 from it.

    Returns:
        `(num_samples, num_classes)` float32 in [0, 1].

    Raises:
        ValueError: no members; they differ in shape, ids or classes; a probability is not in
            [0, 1]; the weights do not fit; or an unknown space.

    Example:
        >>> members = [np.array([[0.9, 0.5]]), np.array([[0.1, 0.5]])]
        >>> blend_scores(members, weights=[0.25, 0.75], space="probability")
        array([[0.3, 0.5]], dtype=float32)
    """
    mean = weighted_mean(_read_members(members, space), weights)
    if space == "probability":
        return np.clip(mean, 0.0, 1.0)
    with np.errstate(over="ignore"):  # 1 / (1 + infinity) is the 0 that is meant
        return 1.0 / (1.0 + np.exp(-mean))


def search_blend(
    y_true: Labels,
    members: Sequence[Member],
    folds: np.ndarray,
    *,
    space: str = "logit",
    groups: np.ndarray | None = None,
    beta: float = 2.0,
    num_steps: int = 10,
    seed: int = 0,
    level: float = 0.95,
) -> BlendSearch:
    """Whether weights beat the equal mean on rows that they were not fitted on, and which.

    Up to three members all weights in steps of 1 / `num_steps` are tried; with more, one weight
    at a time is moved by a step, the others keeping their ratios, until none helps. Each trial
    costs one `search_threshold`. Of equally good weights those nearest to equal ones are taken.

    Args:
        y_true: `LabelTable`, `(num_samples, num_classes)` array of 0/1, or a sequence with one
            array of columns a sample.
        members: two or more, as in `blend_scores`; out of fold, or of rows that no member was
            trained on.
        folds: `(num_samples,)` int or str, at least two. Weights and threshold of a fold are
            fitted on the others.
        space: as in `blend_scores`.
        groups: `(num_samples,)` int or str, or None. Specimens, for the interval; each within
            one fold.
        beta: float > 0.
        num_steps: int >= 1.
        seed, level: of the interval, as in `bootstrap_interval`.

    Returns:
        `BlendSearch`.

    Raises:
        ValueError: as `blend_scores`; fewer than two members or folds; the labels are of other
            ids or another shape; a group lies in two folds.
    """
    values = _read_members(members, space)
    if len(values) < 2:
        raise ValueError(f"A blend needs at least two `members`. Received: {len(values)}")
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be >= 1. Received: num_steps={num_steps}")
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1). Received: level={level}")
    dense = _dense_labels(y_true, members, values[0].shape)
    folds, names = check_folds(folds, len(dense), "folds")
    _check_groups(groups, folds)
    equal = (1.0 / len(values),) * len(values)
    alone = tuple(tuple(row) for row in np.eye(len(values)).tolist())
    per_sample = np.empty((2 + len(values), len(dense)))
    fold_weights = {}
    for name in names:
        own = folds == name
        fitted = _fit_weights(dense[~own], [value[~own] for value in values], num_steps, beta)
        fold_weights[name.item()] = fitted
        for row, weights in enumerate((fitted, equal, *alone)):
            mean = weighted_mean(values, weights)
            threshold = search_threshold(dense[~own], mean[~own], beta=beta).threshold
            y_pred = decide(mean[own], threshold)
            per_sample[row, own] = fbeta_per_sample(dense[own], y_pred, beta=beta)
    comparison = paired_comparison(
        per_sample[0], per_sample[1], groups=groups, seed=seed, level=level
    )
    weights = _fit_weights(dense, values, num_steps, beta)
    return BlendSearch(
        chosen=weights if comparison.interval[0] > 0 else equal,
        weights=weights,
        fold_weights=fold_weights,
        comparison=comparison,
        member_scores=tuple(per_sample[2:].mean(axis=1).tolist()),
        space=space,
    )


def _fit_weights(
    dense: np.ndarray, values: list[np.ndarray], num_steps: int, beta: float
) -> tuple[float, ...]:
    def score(weights: np.ndarray) -> float:
        return search_threshold(dense, weighted_mean(values, weights), beta=beta).score

    if len(values) <= _MAX_GRID_MEMBERS:
        grid = _simplex(len(values), num_steps)
        return tuple(grid[int(np.argmax([score(weights) for weights in grid]))].tolist())
    return tuple(_ascend(score, len(values), 1.0 / num_steps).tolist())


def _simplex(num_members: int, num_steps: int) -> np.ndarray:
    """`(num_points, num_members)` float64: equal weights, then all of the grid, nearest first."""
    equal = np.full(num_members, 1.0 / num_members)
    counts = [
        point
        for point in itertools.product(range(num_steps + 1), repeat=num_members)
        if sum(point) == num_steps
    ]
    grid = np.array(counts) / num_steps
    distance = np.square(grid - equal).sum(axis=1).round(12)
    return np.concatenate([equal[None], grid[np.argsort(distance, kind="stable")]])


def _ascend(score: Callable[[np.ndarray], float], num_members: int, step: float) -> np.ndarray:
    """Moves one weight at a time by a step, up or down, while that helps."""
    weights = np.full(num_members, 1.0 / num_members)
    best = score(weights)
    for _ in range(_MAX_ROUNDS):
        before = best
        for member, move in itertools.product(range(num_members), (step, -step)):
            moved = np.clip(weights[member] + move, 0.0, 1.0)
            others = weights.sum() - weights[member]
            if moved == weights[member] or others <= 0:
                continue
            trial = weights * (1.0 - moved) / others
            trial[member] = moved
            found = score(trial)
            if found > best + 1e-12:
                best, weights = found, trial
        if best == before:
            break
    return weights


def _read_members(members: Sequence[Member], space: str) -> list[np.ndarray]:
    """The members as float32 arrays of the space that is averaged in."""
    check_space(space)
    if not len(members):
        raise ValueError("`members` must hold at least one answer.")
    scores = [member for member in members if isinstance(member, Scores)]
    for other in scores[1:]:
        same = np.array_equal(other.ids, scores[0].ids)
        if not same or other.class_names != scores[0].class_names:
            raise ValueError("`members` must have the same ids and classes, in one order.")
    values = []
    for number, member in enumerate(members):
        if isinstance(member, Scores):
            values.append(member.logits if space == "logit" else member.y_prob)
            continue
        y_prob = check_scores(member)
        if y_prob.min() < 0 or y_prob.max() > 1:
            raise ValueError(
                f"Member {number} must hold probabilities in [0, 1]. "
                f"Received: values from {y_prob.min()} to {y_prob.max()}"
            )
        y_prob = np.asarray(y_prob, np.float32)
        values.append(logits_of(y_prob) if space == "logit" else y_prob)
    shapes = [value.shape for value in values]
    if len(set(shapes)) > 1:
        raise ValueError(f"`members` must have the same shape. Received: {shapes}")
    return values


def _dense_labels(y_true: Labels, members: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    ids = next((member.ids for member in members if isinstance(member, Scores)), None)
    if ids is not None and hasattr(y_true, "ids") and not np.array_equal(ids, y_true.ids):
        raise ValueError("`y_true` and `members` must have the same ids, in one order.")
    own_shape = label_pairs(y_true, "y_true")[2]
    if is_ragged(y_true):
        own_shape = (own_shape[0], max(own_shape[1], shape[1]))
    if own_shape != shape:
        raise ValueError(
            f"`y_true` and `members` must have the same shape. Received: {own_shape} and {shape}"
        )
    return dense_labels(y_true, shape)


def _check_groups(groups: np.ndarray | None, folds: np.ndarray) -> None:
    if groups is None:
        return
    if np.shape(groups) != folds.shape:
        raise ValueError(
            f"`groups` must have one entry a sample, {len(folds)}. "
            f"Received: shape {np.shape(groups)}"
        )
    torn = find_torn_groups(groups, folds)
    if len(torn):
        raise ValueError(
            f"Group {torn[0]} lies in two folds: weights fitted on one picture of a "
            "specimen must not be scored on another. Make folds of whole groups."
        )
