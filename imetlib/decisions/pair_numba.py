"""The mixed differences of `imetlib.decisions.pair_search` in compiled code."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def add_rows(  # type: ignore[no-untyped-def]
    indptr, values, is_true, edges, end,
    other_indptr, other_values, other_is_true, other_edges, other_end,
    num_true, labels, hits, weight,
):  # fmt: skip
    """Positive and negative mixed differences of some rows, by cell."""
    shape = (len(edges) + 1, len(other_edges) + 1)
    gains, losses = np.zeros(shape), np.zeros(shape)
    longest = int(np.max(np.diff(indptr))) + 1
    other_longest = int(np.max(np.diff(other_indptr))) + 1
    places, found = np.empty(longest, np.int64), np.empty(longest, np.int64)
    other_places = np.empty(other_longest, np.int64)
    other_found = np.empty(other_longest, np.int64)
    factors = np.empty(longest + other_longest)
    above = np.empty(other_longest)
    always, score_of_all = len(edges), 0.0
    for row in range(len(num_true)):
        sure, sure_hits, size = _read_row(
            values, is_true, indptr[row], indptr[row + 1], edges, end, places, found
        )
        other_sure, other_sure_hits, other_size = _read_row(
            other_values, other_is_true, other_indptr[row], other_indptr[row + 1],
            other_edges, other_end, other_places, other_found,
        )  # fmt: skip
        first_labels = labels[row] + sure + other_sure
        first_hits = hits[row] + sure_hits + other_sure_hits
        for step in range(size + other_size - 1):
            total = weight * num_true[row] + first_labels + step
            factors[step] = (1 + weight) / total if total > 0 else 0.0
        if size == 1 and other_size == 1:
            score_of_all += first_hits * factors[0]
            continue
        above[:other_size] = 0.0
        for step in range(size):
            before = 0.0
            place = places[step]
            row_hits = first_hits + found[step]
            for other_step in range(other_size):
                score = (row_hits + other_found[other_step]) * factors[step + other_step]
                gain = (score - above[other_step]) - before
                before = score - above[other_step]
                above[other_step] = score
                if gain > 0:
                    gains[place, other_places[other_step]] += gain
                else:
                    losses[place, other_places[other_step]] += gain
    gains[always, len(other_edges)] += score_of_all
    return gains, losses


@numba.njit(nogil=True, cache=True)
def _read_row(values, is_true, start, stop, edges, end, places, found):  # type: ignore[no-untyped-def]
    """Labels and hits from `end` up; then, from none on, cell and hits of every event below."""
    event = start
    sure_hits = 0
    while event < stop and values[event] >= end:
        sure_hits += is_true[event]
        event += 1
    sure = event - start
    places[0], found[0], size = len(edges), 0, 1
    while event < stop and values[event] >= edges[0]:
        low, high = 0, len(edges)
        while high - low > 1:
            middle = (low + high) // 2
            if edges[middle] <= values[event]:
                low = middle
            else:
                high = middle
        places[size] = low
        found[size] = found[size - 1] + is_true[event]
        size += 1
        event += 1
    return sure, sure_hits, size
