"""The exact sweep behind `search_threshold`: F-beta at every distinct score, and a certificate.

Only the upper scores of each row ("events") are sorted; 22,000 x 1,103 scores take about as long
as two plain evaluations. `imetlib.decisions.sweep_numba` does the same in compiled code. The
steps:

1. `choose_levels`: a floor that about as many scores reach as the optimum is likely to need.
2. `collect_events`: the scores above the floor, by row, with the flag of their label.
3. `sum_gains`: what each event changes in the score of its row, added up from the top.
4. `bound_below`: no threshold below the floor can score more. If that is not below the best
   found, the search goes back to 1 with a lower floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from imetlib.decisions.cases import Case, blocks, check_block, count_true, take_rows
from imetlib.decisions.fbeta import fbeta_of_counts

# Scores that differ by less count as equal: a sum of a million gains is not more exact.
ROUNDING = 1e-12
_SAMPLE_ROWS = 4096
_LEVEL_CELLS = 1 << 16
_CELLS_SORTED_TOGETHER = 1 << 16


@dataclass(frozen=True, eq=False)
class Sweep:
    """Distinct scores from a floor up, ascending, and the score of the threshold at each.

    No threshold from the floor up scores more than `curve[best]`, none below more than `bound`.
    Of equally good ones `best` is the highest; `num_pred` counts the labels of each row with it.
    """

    thresholds: np.ndarray
    curve: np.ndarray
    bound: float
    num_pred: np.ndarray | None = None
    hits: np.ndarray | None = None

    @property
    def best(self) -> int:
        return int(np.flatnonzero(self.curve >= self.curve.max() - ROUNDING)[-1])

    @property
    def score(self) -> float:
        return float(self.curve[self.best]) if len(self.curve) else -np.inf


@dataclass(frozen=True, eq=False)
class Events:
    """All scores from a floor up, by row: `(num_events,)` each."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    is_true: np.ndarray


def search(case: Case, sweep: Callable[..., Sweep], beta: float) -> tuple[Sweep, bool]:
    """Sweeps from lower and lower floors until nothing below can win, and whether that is so.

    It always is, but for left-out scores: the floor stays above them.
    """
    per_row = 3.7 * max(1.0, float(case.num_true.mean()))
    if len(case.y_prob) > 4 * _SAMPLE_ROWS:
        # A second pass over all rows costs more than some events too many.
        sample = take_rows(case, -(-len(case.y_prob) // _SAMPLE_ROWS))
        per_row = _descend(sample, sweep, per_row, 1.25, 0.005, beta)[0]
    found, certified = _descend(case, sweep, per_row, 2.0, 0.0, beta)[1:]
    return found, certified


def _descend(
    case: Case, sweep: Callable[..., Sweep], per_row: float, factor: float, margin: float,
    beta: float,
) -> tuple[float, Sweep, bool]:  # fmt: skip
    while True:
        floor, lower = case.limit(*choose_levels(case.y_prob, per_row))
        found = sweep(case, floor, lower, beta)
        certified = bool(floor == -np.inf or found.bound <= found.score - margin)
        if certified or floor <= case.least_floor:
            return per_row, found, certified
        per_row *= factor


def sweep(case: Case, floor: float, lower: float, beta: float) -> Sweep:
    """All that scores from `floor` up decide; raises `ValueError` where one is not finite."""
    events, counts_at_lower = collect_events(case, floor, lower)
    thresholds, curve = sum_gains(case, events, beta)
    found = Sweep(thresholds, curve, bound_below(case, events, counts_at_lower, lower, beta))
    if not len(curve):
        return found
    threshold = thresholds[found.best]
    num_pred = np.bincount(events.rows[events.values >= threshold], minlength=len(case.num_true))
    return replace(found, num_pred=num_pred, hits=count_true(case, threshold))


def choose_levels(y_prob: np.ndarray, per_row: float) -> tuple[Any, Any]:
    """Scores that about `per_row` and twice as many of a row reach; -inf once that is all."""
    num_rows, num_classes = y_prob.shape
    step = -(-num_rows * num_classes // max(_LEVEL_CELLS, 64 * num_classes))
    sample = np.sort(np.asarray(y_prob[::step], np.float32), axis=None)
    levels = []
    for share in (per_row, 2 * per_row):
        size = int(share / num_classes * len(sample))
        levels.append(-np.inf if size >= len(sample) // 2 else sample[len(sample) - 1 - size])
    return levels[0], levels[1]


def collect_events(case: Case, floor: float, lower: float) -> tuple[Events, np.ndarray]:
    """The scores >= `floor`, and how many of each row are >= `lower`."""
    num_classes = case.y_prob.shape[1]
    all_rows, positions, values, counts = [], [], [], []
    true_scores = np.empty(len(case.rows), np.float32)
    for start, block in blocks(case.y_prob):
        check_block(block, start)
        first, end = np.searchsorted(case.rows, (start, start + len(block)))
        own = case.positions[first:end] - start * num_classes
        true_scores[first:end] = block.ravel()[own]
        found = _find_set(block >= lower)
        scores = block.ravel()[found]
        rows = found // num_classes
        counts.append(np.bincount(rows, minlength=len(block)))
        upper = np.flatnonzero(scores >= floor)
        values.append(scores[upper])
        all_rows.append(rows[upper] + start)
        positions.append(found[upper] + start * num_classes)
    # Looked up in passing: later they would have to come from memory one by one.
    vars(case).setdefault("true_scores", true_scores)
    flat = np.concatenate(positions)
    is_true = np.zeros(len(flat), bool)
    reached = case.positions[case.true_scores >= floor]
    is_true[np.searchsorted(flat, reached)] = True
    rows = np.concatenate(all_rows)
    events = Events(rows, flat - rows * num_classes, np.concatenate(values), is_true)
    return events, np.concatenate(counts)


def _find_set(flags: np.ndarray) -> np.ndarray:
    """`np.flatnonzero` of a matrix with few set: eight flags are looked at together."""
    flags = flags.ravel()
    if len(flags) % 8:
        return np.flatnonzero(flags)
    words = np.flatnonzero(flags.view(np.uint64))
    place, bit = np.divmod(np.flatnonzero(flags.reshape(-1, 8)[words]), 8)
    return words[place] * 8 + bit


def sum_gains(case: Case, events: Events, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Distinct scores, ascending, and the mean F-beta of the threshold at each of them.

    Walking down the scores of a row, each one changes the F-beta of that row by a gain; the
    score of a threshold is the sum of the gains, over all rows, of the scores that reach it.
    """
    num_rows = len(case.num_true)
    counts = np.bincount(events.rows, minlength=num_rows)
    ends = np.cumsum(counts)
    slots = np.arange(len(events.rows)) - np.repeat(ends - counts, counts)
    # A float32 leaves 29 bits of a float64 free: the label travels through the sort in the last.
    keys = events.values.astype(np.float64)
    keys.view(np.int64)[...] |= events.is_true
    values, gains = [], []
    step = max(1, _CELLS_SORTED_TOGETHER // max(1, int(counts.max())))
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
    if not len(ranked):
        return ranked, np.empty(0)
    order = sort_order(ranked)[::-1]
    ranked = ranked[order]
    curve = np.cumsum(np.concatenate(gains)[order]) / num_rows
    last_of_run = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)[::-1]
    return ranked[last_of_run], curve[last_of_run]


def sort_order(values: np.ndarray) -> np.ndarray:
    """`np.argsort` of float32; sorting the values with their places in one number is faster."""
    if len(values) >= 1 << 31:
        return np.argsort(values)
    keys = (values + np.float32(0)).view(np.int32).astype(np.int64)  # -0 becomes 0
    keys = np.where(keys < 0, keys ^ 0x7FFFFFFF, keys) << 32 | np.arange(len(values))
    keys.sort()
    return keys & 0xFFFFFFFF


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
    false_at_lower = counts_at_lower - true_at_lower
    # Where a true label was left out, its score may be anything: at worst it counts.
    true_at_lower = true_at_lower + case.missed
    between = fbeta_of_counts(
        true_at_lower, case.num_true, false_at_floor + true_at_lower, beta
    ).mean()
    below = fbeta_of_counts(case.num_true, case.num_true, false_at_lower + case.num_true, beta)
    return float(max(between, below.mean()))
