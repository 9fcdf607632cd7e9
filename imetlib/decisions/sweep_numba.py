"""The exact sweep in compiled code: one pass over the scores, two threads, few events kept.

The same search as in `imetlib.decisions.sweep`. What makes it cheap is that the whole curve is
never sorted: the gains of the events are added up in buckets of the score, and the positive
gains once more by themselves. The sum of all gains from a bucket upwards is the score at the
lowest event of that bucket; with the positive gains alone it is a bound on the scores within.
Only the few buckets whose bound reaches the best of these scores are sorted.

Import it inside functions: loading numba takes about half a second, compiling some seconds (once;
the result is cached beside this file). Threads are Python's own, over kernels that release the
interpreter, so that searches may run side by side and in forked processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numba
import numpy as np

from imetlib.decisions.cases import Case, check_scores
from imetlib.decisions.sweep import ROUNDING, Sweep, sort_order

NUM_THREADS = 2
# Few enough to stay near the processor while rows are read.
NUM_BUCKETS = 1 << 11
# Rows that one kernel call takes: a copy of them in float32 (for other types) stays small.
_ROWS_TOGETHER = 8192
_ROWS_FOR_TOP = 64
_COUNTED = 96


def sweep(case: Case, floor: float, lower: float, beta: float) -> Sweep:
    """As `imetlib.decisions.sweep.sweep`, with part of the thresholds.

    They are the lowest event of each bucket and every event of the scanned ones.
    """
    y_prob, num_rows = case.y_prob, len(case.y_prob)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(case.rows, minlength=num_rows))])
    columns = (case.positions - case.rows * y_prob.shape[1]).astype(np.int32)
    start = floor if floor > -np.inf else float(np.min(y_prob))
    # Higher scores than these share the last bucket, which costs time only.
    top = float(y_prob[:: -(-num_rows // _ROWS_FOR_TOP)].max())
    scale = NUM_BUCKETS / (top - start) if top > start else 1.0

    def run(rows: slice) -> tuple[Any, ...]:
        return _sweep_rows(
            np.ascontiguousarray(y_prob[rows], np.float32),
            indptr[rows.start : rows.stop + 1], columns, case.num_true[rows], case.missed[rows],
            np.float32(floor), np.float32(lower), start, scale, beta**2,
        )  # fmt: skip

    parts = in_threads(run, num_rows)
    if any(part[5] for part in parts):
        check_scores(y_prob)
    tables = np.array([part[3] for part in parts])
    gains, positive = tables[:, :, 0].sum(axis=0), tables[:, :, 1].sum(axis=0)
    lowest = tables[:, :, 2].min(axis=0)
    bound = np.sum([part[4] for part in parts], axis=0).max() / num_rows
    used = np.flatnonzero(lowest < np.inf)
    if not len(used):  # no row reaches the floor
        return Sweep(np.empty(0, np.float32), np.empty(0), bound)
    above = np.append(np.cumsum(gains[used][::-1])[::-1], 0.0) / num_rows
    scanned = above[1:] + positive[used] / num_rows >= above.max() - ROUNDING
    chosen = np.zeros(NUM_BUCKETS, bool)
    chosen[used[scanned]] = True
    kept = map_in_threads(lambda part: _pick(part[0], part[1], chosen, start, scale), parts)
    values = np.concatenate([part[0] for part in kept])
    order = sort_order(values)[::-1]
    values = values[order]
    sums = np.cumsum(np.concatenate([part[1] for part in kept])[order])
    # Between two scanned buckets the sum goes on from the exact one at the edge above.
    ends = np.searchsorted(-values, -lowest[used[scanned]][::-1], side="right")
    starts = np.concatenate([[0], ends[:-1]])
    offset = above[1:][scanned][::-1] * num_rows - np.where(starts > 0, sums[starts - 1], 0.0)
    scanned_curve = (sums + np.repeat(offset, ends - starts)) / num_rows
    last_of_run = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
    thresholds, position = np.unique(
        np.concatenate([values[last_of_run], lowest[used].astype(np.float32)]), return_index=True
    )
    curve = np.concatenate([scanned_curve[last_of_run], above[:-1]])[position]
    found = Sweep(thresholds, curve, bound)
    best = thresholds[found.best]
    num_pred = map_in_threads(lambda part: _count_by_row(part[0], part[2], best), parts)
    hits = case.rows[np.concatenate([part[6] for part in parts]) >= best]
    return replace(
        found, num_pred=np.concatenate(num_pred), hits=np.bincount(hits, minlength=num_rows)
    )


def in_threads(
    run: Callable[[slice], Any], num_rows: int, rows_together: int = _ROWS_TOGETHER
) -> list[Any]:
    """Results of `run` on blocks of rows, in order."""
    blocks = [
        slice(start, min(start + rows_together, num_rows))
        for start in range(0, num_rows, rows_together)
    ]
    return map_in_threads(run, blocks)


def map_in_threads(run: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Results of `run` on items, in order."""
    if len(items) == 1:
        return [run(items[0])]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(run, items))


@numba.njit(nogil=True, cache=True)
def _sweep_rows(  # type: ignore[no-untyped-def]
    scores, indptr, columns, num_true, missed, floor, lower, start, scale, weight
):
    """Events of some rows with their gains, sums by bucket, and the sums of both bounds."""
    num_rows, num_classes = scores.shape
    values = np.empty(max(num_classes, 16 * num_rows), np.float32)
    weights = np.empty(len(values))
    size = 0
    num_events_of = np.empty(num_rows, np.int64)
    true_scores = np.empty(indptr[-1] - indptr[0], np.float32)
    # Sum of gains, of positive gains, lowest score: side by side, for one look at memory.
    buckets = np.zeros((NUM_BUCKETS, 4))
    buckets[:, 2] = np.inf
    bounds = np.zeros(2)
    not_finite = False
    is_true = np.zeros(num_classes, np.bool_)
    row_values, row_columns = np.empty(num_classes, np.float32), np.empty(num_classes, np.int32)
    spare_values, spare_columns = row_values.copy(), row_columns.copy()
    for row in range(num_rows):
        # Of finite scores the sum may be infinite: only then they are looked at one by one.
        if not np.isfinite(_sum(scores[row])) and not np.isfinite(scores[row]).all():
            not_finite = True
            break
        if size + num_classes > len(values):
            values, weights = _grow(values, size + num_classes), _grow(weights, size + num_classes)
        num_events, num_lower = find_events(scores[row], floor, lower, row_values, row_columns)
        sort_events(row_values, row_columns, num_events, spare_values, spare_columns)
        true_at_lower = 0
        for label in range(indptr[row], indptr[row + 1]):
            is_true[columns[label]] = True
            true_scores[label - indptr[0]] = scores[row, columns[label]]
            true_at_lower += scores[row, columns[label]] >= lower
        num_events_of[row] = num_events
        hits, score = 0, 0.0
        for event in range(num_events):
            hits += is_true[row_columns[event]]
            reached = (1 + weight) * hits / (weight * num_true[row] + event + 1)
            gain, score = reached - score, reached
            value = row_values[event]
            values[size], weights[size] = value, gain
            size += 1
            bucket = _bucket_of(value, start, scale)
            buckets[bucket, 0] += gain
            buckets[bucket, 1] += max(gain, 0.0)
            buckets[bucket, 2] = min(buckets[bucket, 2], value)
        for label in range(indptr[row], indptr[row + 1]):
            is_true[columns[label]] = False
        # As in `imetlib.decisions.sweep.bound_below`.
        false_at_lower = num_lower - true_at_lower
        true_at_lower += missed[row]
        total = weight * num_true[row] + num_events - hits + true_at_lower
        if total > 0:
            bounds[0] += (1 + weight) * true_at_lower / total
        total = weight * num_true[row] + false_at_lower + num_true[row]
        if total > 0:
            bounds[1] += (1 + weight) * num_true[row] / total
    return values[:size], weights[:size], num_events_of, buckets, bounds, not_finite, true_scores


@numba.njit(nogil=True, cache=True)
def collect_rows(scores, floor):  # type: ignore[no-untyped-def]
    """Scores >= `floor` with their columns, each row highest first; how many; all finite?"""
    num_rows, num_classes = scores.shape
    values = np.empty(max(num_classes, 16 * num_rows), np.float32)
    columns = np.empty(len(values), np.int32)
    counts = np.zeros(num_rows, np.int64)
    row_values, row_columns = np.empty(num_classes, np.float32), np.empty(num_classes, np.int32)
    spare_values, spare_columns = row_values.copy(), row_columns.copy()
    size = 0
    for row in range(num_rows):
        if not np.isfinite(_sum(scores[row])) and not np.isfinite(scores[row]).all():
            return values[:size], columns[:size], counts, False
        count = find_events(scores[row], floor, floor, row_values, row_columns)[0]
        sort_events(row_values, row_columns, count, spare_values, spare_columns)
        if size + count > len(values):
            values, columns = _grow(values, size + count), _grow(columns, size + count)
        values[size : size + count] = row_values[:count]
        columns[size : size + count] = row_columns[:count]
        counts[row] = count
        size += count
    return values[:size], columns[:size], counts, True


@numba.njit(nogil=True, cache=True)
def _pick(values, weights, chosen, start, scale):  # type: ignore[no-untyped-def]
    """Events of the chosen buckets."""
    size = 0
    picked = np.empty(len(values), np.int64)
    for event in range(len(values)):
        picked[size] = event
        size += chosen[_bucket_of(values[event], start, scale)]
    return values[picked[:size]], weights[picked[:size]]


@numba.njit(nogil=True, cache=True)
def _count_by_row(values, num_events_of, threshold):  # type: ignore[no-untyped-def]
    """How many events of each row reach a threshold."""
    counts = np.empty(len(num_events_of), np.int64)
    first = 0
    for row in range(len(num_events_of)):
        counts[row] = _count_from(values[first : first + num_events_of[row]], threshold)
        first += num_events_of[row]
    return counts


@numba.njit(nogil=True, cache=True)
def find_events(row, floor, lower, values, columns):  # type: ignore[no-untyped-def]
    """Writes the scores >= `floor` and their columns; how many there are, and how many >= `lower`.

    `values` and `columns` are as long as the row: that many events always fit.
    """
    num_events, num_lower = 0, 0
    whole = len(row) - len(row) % 16
    for start in range(0, whole, 16):  # of known length, for the sake of vector instructions
        count = _count_from(row[start : start + 16], lower)
        if count:
            num_lower += count
            num_events = _append(row, start, start + 16, floor, values, columns, num_events)
    num_lower += _count_from(row[whole:], lower)
    return _append(row, whole, len(row), floor, values, columns, num_events), num_lower


@numba.njit(nogil=True, cache=True)
def _append(row, start, end, floor, values, columns, num_events):  # type: ignore[no-untyped-def]
    # Without a branch: where the next event comes cannot be foretold.
    for column in range(start, end):
        value = row[column]
        values[num_events] = value
        columns[num_events] = column
        num_events += value >= floor
    return num_events


@numba.njit(nogil=True, cache=True)
def _count_from(values, level):  # type: ignore[no-untyped-def]
    count = 0
    for place in range(len(values)):
        count += values[place] >= level
    return count


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"})
def _sum(values):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for place in range(len(values)):
        total += values[place]
    return total


@numba.njit(nogil=True, cache=True)
def sort_events(values, columns, size, spare_values, spare_columns):  # type: ignore[no-untyped-def]
    """Highest score first, of equal ones the smaller column, in place; columns ascend before.

    Few are placed by how many stand above them, which needs no branch that cannot be foretold;
    of many that count is too long, and a shell sort takes over. The spare arrays are as long.
    """
    if size <= _COUNTED:
        for place in range(size):
            value, above = values[place], 0
            for other in range(place):
                above += values[other] >= value
            for other in range(place + 1, size):
                above += values[other] > value
            spare_values[above], spare_columns[above] = value, columns[place]
        values[:size], columns[:size] = spare_values[:size], spare_columns[:size]
        return
    for gap in (701, 301, 132, 57, 23, 10, 4, 1):
        for place in range(gap, size):
            value, column = values[place], columns[place]
            hole = place
            while hole >= gap and (
                values[hole - gap] < value
                or (values[hole - gap] == value and columns[hole - gap] > column)
            ):
                values[hole], columns[hole] = values[hole - gap], columns[hole - gap]
                hole -= gap
            values[hole], columns[hole] = value, column


@numba.njit(nogil=True, cache=True)
def _bucket_of(value, start, scale):  # type: ignore[no-untyped-def]
    place = (np.float64(value) - start) * scale
    return NUM_BUCKETS - 1 if place >= NUM_BUCKETS - 1 else int(place)


@numba.njit(nogil=True, cache=True)
def _grow(values, size):  # type: ignore[no-untyped-def]
    grown = np.empty(2 * size, values.dtype)
    grown[: len(values)] = values
    return grown
