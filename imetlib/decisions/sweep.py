"""The exact sweep behind `search_threshold`: F-beta at every distinct score, and a certificate.

Only the upper scores of each row ("events") are sorted; 22,000 x 1,103 scores take about as long
as three plain evaluations. The steps:

1. `choose_levels`: a floor that about as many scores reach as the optimum is likely to need.
2. `collect_events`: the scores above the floor, by row, with the flag of their label.
3. `sum_gains`: what each event changes in the score of its row, added up from the top.
4. `bound_below`: no threshold below the floor can score more. If that is not below the best
   found, the caller goes back to 1 with a lower floor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.fbeta import fbeta_of_counts, is_ragged, label_pairs

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

_ROWS_IN_CACHE = 256
_CELLS_SORTED_TOGETHER = 1 << 20


@dataclass(frozen=True, eq=False)
class Case:
    """Scores and labels of one search; `rows` and `true_scores` list the true labels."""

    y_prob: np.ndarray
    positions: np.ndarray
    rows: np.ndarray
    true_scores: np.ndarray
    num_true: np.ndarray


@dataclass(frozen=True, eq=False)
class Events:
    """All scores from a floor up, by row: `(num_events,)` each."""

    rows: np.ndarray
    values: np.ndarray
    is_true: np.ndarray


def make_case(y_true: Labels, y_prob: np.ndarray) -> Case:
    y_prob = check_scores(y_prob)
    rows, columns, shape = label_pairs(y_true, "y_true")
    if is_ragged(y_true):
        shape = (shape[0], max(shape[1], y_prob.shape[1]))
    if shape != y_prob.shape:
        raise ValueError(
            f"`y_true` and `y_prob` must have the same shape. Received: {shape} and {y_prob.shape}"
        )
    return Case(
        y_prob=y_prob,
        positions=rows * shape[1] + columns,
        rows=rows,
        true_scores=y_prob[rows, columns].astype(np.float32),
        num_true=np.bincount(rows, minlength=shape[0]),
    )


def check_scores(y_prob: np.ndarray) -> np.ndarray:
    y_prob = np.asarray(y_prob)
    if y_prob.ndim != 2 or not y_prob.size:
        raise ValueError(
            f"`y_prob` must be (num_samples, num_classes). Received: shape {y_prob.shape}"
        )
    for start, block in blocks(y_prob):
        if not (np.isfinite(block.min()) and np.isfinite(block.max())):
            row, column = np.argwhere(~np.isfinite(block))[0]
            raise ValueError(
                f"`y_prob` must be finite. Received: {block[row, column]} in row {start + row}, "
                f"column {column}"
            )
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


def blocks(y_prob: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """First row and float32 scores of blocks that stay in the processor's cache."""
    for start in range(0, len(y_prob), _ROWS_IN_CACHE):
        yield start, np.asarray(y_prob[start : start + _ROWS_IN_CACHE], np.float32)


def choose_levels(y_prob: np.ndarray, per_row: float) -> tuple[Any, Any]:
    """Scores that about `per_row` and twice as many of a row reach; -inf once that is all."""
    sample = np.asarray(y_prob[:: max(1, len(y_prob) // 1024)], np.float32).ravel()
    levels = []
    for share in (per_row, 2 * per_row):
        size = int(share / y_prob.shape[1] * len(sample))
        if size >= len(sample) // 2:
            levels.append(-np.inf)
        else:
            levels.append(np.partition(sample, len(sample) - 1 - size)[len(sample) - 1 - size])
    return levels[0], levels[1]


def collect_events(case: Case, floor: float, lower: float) -> tuple[Events, np.ndarray]:
    """The scores >= `floor`, and how many of each row are >= `lower`."""
    num_classes = case.y_prob.shape[1]
    positions, values, counts = [], [], []
    for start, block in blocks(case.y_prob):
        found = np.flatnonzero(block >= floor)
        values.append(block.ravel()[found])
        positions.append(found + start * num_classes)
        counts.append(np.count_nonzero(block >= lower, axis=1))
    flat = np.concatenate(positions)
    is_true = np.zeros(len(flat), bool)
    reached = case.positions[case.true_scores >= floor]
    is_true[np.searchsorted(flat, reached)] = True
    return Events(flat // num_classes, np.concatenate(values), is_true), np.concatenate(counts)


def sum_gains(case: Case, events: Events, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Distinct scores, ascending, and the mean F-beta of the threshold at each of them.

    Walking down the scores of a row, each one changes the F-beta of that row by a gain; the
    score of a threshold is the sum of the gains, over all rows, of the scores that reach it.
    """
    num_rows, num_classes = case.y_prob.shape
    counts = np.bincount(events.rows, minlength=num_rows)
    ends = np.cumsum(counts)
    slots = np.arange(len(events.rows)) - np.repeat(ends - counts, counts)
    # A float32 leaves 29 bits of a float64 free: the label travels through the sort in the last.
    keys = events.values.astype(np.float64)
    keys.view(np.int64)[...] |= events.is_true
    values, gains = [], []
    step = max(1, _CELLS_SORTED_TOGETHER // num_classes)
    for start in range(0, num_rows, step):
        rows = slice(start, start + step)
        part = slice(ends[start] - counts[start], ends[rows][-1])
        width = int(counts[rows].max())
        table = np.full((len(counts[rows]), width), np.inf)
        table[events.rows[part] - start, slots[part]] = -keys[part]
        table.sort(axis=1)
        hits = np.cumsum(table.view(np.int64) & 1, axis=1)
        score = fbeta_of_counts(hits, case.num_true[rows, None], np.arange(1, width + 1), beta)
        used = np.arange(width) < counts[rows, None]
        values.append(table[used])
        gains.append(np.diff(score, axis=1, prepend=0.0)[used])
    ranked = np.negative(np.concatenate(values)).astype(np.float32)
    order = np.argsort(ranked)[::-1]
    ranked = ranked[order]
    curve = np.cumsum(np.concatenate(gains)[order]) / num_rows
    last_of_run = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)[::-1]
    return ranked[last_of_run], curve[last_of_run]


def bound_below(
    case: Case, events: Events, counts_at_lower: np.ndarray, lower: float, beta: float
) -> float:
    """No threshold below the floor of `events` scores above this.

    Down to `lower`, a row keeps at least its false labels at the floor and gains at most the true
    ones above `lower`; further down it keeps the false ones at `lower` and gains them all.
    """
    num_rows = len(case.num_true)
    false_at_floor = np.bincount(events.rows[~events.is_true], minlength=num_rows)
    true_at_lower = count_true(case, lower)
    between = fbeta_of_counts(
        true_at_lower, case.num_true, false_at_floor + true_at_lower, beta
    ).mean()
    false_at_lower = counts_at_lower - true_at_lower
    below = fbeta_of_counts(case.num_true, case.num_true, false_at_lower + case.num_true, beta)
    return float(max(between, below.mean()))


def count_true(case: Case, threshold: float) -> np.ndarray:
    """`(num_samples,)` true labels at or above a threshold."""
    return np.bincount(case.rows[case.true_scores >= threshold], minlength=len(case.num_true))
