"""Scores and labels of one search, checked and side by side: dense scores or `TopScores`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.fbeta import is_ragged, label_pairs
from imetlib.decisions.top_scores import TopScores, find_in_rows

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

_ROWS_IN_CACHE = 128


@dataclass(frozen=True, eq=False)
class Case:
    """Scores and labels of one search; `rows` lists the row of each true label.

    Of `TopScores`, `y_prob` holds the kept scores alone: `missed` counts the true labels of each
    row that were left out, and thresholds up to `least` would have met scores left out.
    """

    y_prob: np.ndarray
    positions: np.ndarray
    rows: np.ndarray
    num_true: np.ndarray
    missed: np.ndarray
    least: float = -np.inf

    @cached_property
    def true_scores(self) -> np.ndarray:
        """`(num_labels,)` float32 scores of the true labels; looking them up takes its time."""
        columns = self.positions - self.rows * self.y_prob.shape[1]
        return self.y_prob[self.rows, columns].astype(np.float32)

    @property
    def least_floor(self) -> float:
        """The lowest floor above which every score is known; -inf for dense scores."""
        return float(np.nextafter(np.float32(self.least), np.float32(np.inf)))

    def limit(self, floor: float, lower: float) -> tuple[float, float]:
        """Levels raised to where the scores are known."""
        floor = max(floor, self.least_floor) if self.least > -np.inf else floor
        return floor, min(lower, floor)


def make_case(y_true: Labels, y_prob: np.ndarray | TopScores, *, check: bool = True) -> Case:
    """Refuses what cannot be searched; without `check` NaN and infinity are left to the sweep."""
    y_prob = check_scores(y_prob) if check else check_shape(y_prob)
    rows, columns, shape = label_pairs(y_true, "y_true")
    if is_ragged(y_true):
        shape = (shape[0], max(shape[1], y_prob.shape[1]))
    if shape != y_prob.shape:
        raise ValueError(
            f"`y_true` and `y_prob` must have the same shape. Received: {shape} and {y_prob.shape}"
        )
    num_true = np.bincount(rows, minlength=shape[0])
    missed, least, kept = np.zeros(shape[0], np.int64), -np.inf, kept_scores(y_prob)
    if isinstance(y_prob, TopScores):
        least = y_prob.least
        places, found = find_in_rows(y_prob.columns, rows, columns)
        missed = np.bincount(rows[~found], minlength=shape[0])
        rows, columns = rows[found], places[found]
    return Case(
        y_prob=kept,
        positions=rows * kept.shape[1] + columns,
        rows=rows,
        num_true=num_true,
        missed=missed,
        least=least,
    )


def check_shape(y_prob: np.ndarray | TopScores) -> np.ndarray | TopScores:
    if isinstance(y_prob, TopScores):
        return y_prob
    y_prob = np.asarray(y_prob)
    if y_prob.ndim != 2 or not y_prob.size:
        raise ValueError(
            f"`y_prob` must be (num_samples, num_classes). Received: shape {y_prob.shape}"
        )
    return y_prob


def check_scores(y_prob: np.ndarray | TopScores) -> Any:
    y_prob = check_shape(y_prob)
    for start, block in blocks(kept_scores(y_prob)):
        check_block(block, start)
    return y_prob


def check_probabilities(y_prob: np.ndarray) -> np.ndarray:
    """As `check_scores`, and every score in [0, 1]; one pass where all is well."""
    y_prob = np.asarray(y_prob)
    if (
        y_prob.ndim == 2
        and y_prob.size
        and all(block.min() >= 0 and block.max() <= 1 for _, block in blocks(y_prob))
    ):
        return y_prob
    y_prob = check_scores(y_prob)
    raise ValueError(
        "`y_prob` must be probabilities in [0, 1]; put logits through a sigmoid first. Received: "
        f"values from {y_prob.min():.6g} to {y_prob.max():.6g}"
    )


def kept_scores(y_prob: np.ndarray | TopScores) -> np.ndarray:
    return y_prob.values if isinstance(y_prob, TopScores) else y_prob


def check_block(block: np.ndarray, start: int) -> None:
    # The sum of squares is read once, and fast; that of finite scores may overflow, though.
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.vdot(block, block)
    if not np.isfinite(total) and not np.isfinite(block).all():
        row, column = np.argwhere(~np.isfinite(block))[0]
        raise ValueError(
            f"`y_prob` must be finite. Received: {block[row, column]} in row {start + row}, "
            f"column {column}"
        )


def blocks(y_prob: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """First row and float32 scores of blocks that stay in the processor's cache."""
    for start in range(0, len(y_prob), _ROWS_IN_CACHE):
        yield start, np.asarray(y_prob[start : start + _ROWS_IN_CACHE], np.float32)


def take_rows(case: Case, step: int) -> Case:
    """Every `step`-th row."""
    own = case.rows % step == 0
    rows, num_classes = case.rows[own] // step, case.y_prob.shape[1]
    columns = case.positions[own] - case.rows[own] * num_classes
    return Case(
        np.asarray(case.y_prob[::step], np.float32), rows * num_classes + columns, rows,
        case.num_true[::step], case.missed[::step], case.least,
    )  # fmt: skip


def count_true(case: Case, threshold: float) -> np.ndarray:
    """`(num_samples,)` true labels at or above a threshold."""
    return np.bincount(case.rows[case.true_scores >= threshold], minlength=len(case.num_true))
