"""Compiled loops behind `expected_fbeta_sets`: one row at a time, nothing kept between rows.

A row's labels fall into units that are independent of one another: a group of which at most one
attribute is true, or a single label. With q the probability that a unit has a positive, the
number of positives is a sum of independent coin tosses, and

    P(label i is true and N positives in all) = p_i * P(N - 1 positives in the other units).

The units of the candidates (the highest scores of the row) and all groups are convolved one by
one. The labels beyond the candidates, a thousand small probabilities, add a Poisson number:
their distribution differs from it by less than the sum of their squares (Le Cam, 1960).
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Sums and maxima may be reordered, or they are not vectorised; there are no NaNs here.
_REORDER = {"reassoc", "nnan", "nsz", "contract"}
_STEP = 32


@njit(cache=True, nogil=True, fastmath=_REORDER)
def _sum_and_max(row, start, stop):
    total, highest = 0.0, np.float32(-1.0)
    for column in range(start, stop):
        total += row[column]
        highest = max(highest, row[column])
    return total, highest


@njit(cache=True, nogil=True)
def _select(row, values, columns):
    """Highest scores, descending, and their columns, smaller first of equals; sum of the row."""
    size = len(values)
    values[:] = -1.0
    total = 0.0
    for start in range(0, len(row), _STEP):
        stop = min(start + _STEP, len(row))
        part, highest = _sum_and_max(row, start, stop)
        total += part
        if not highest > values[size - 1]:
            continue
        for column in range(start, stop):
            value = row[column]
            if value > values[size - 1]:
                place = size - 1
                while place > 0 and value > values[place - 1]:
                    values[place] = values[place - 1]
                    columns[place] = columns[place - 1]
                    place -= 1
                values[place] = value
                columns[place] = column
    return total


@njit(cache=True, nogil=True)
def _fill_poisson(mean, table):
    """Poisson probabilities of 0, 1, ..., from the most likely number outwards: no underflow."""
    mode = min(int(mean), len(table) - 1)
    table[mode] = 1.0
    total = 1.0
    for count in range(mode + 1, len(table)):
        table[count] = table[count - 1] * mean / count
        total += table[count]
    for count in range(mode, 0, -1):
        table[count - 1] = table[count] * count / mean
        total += table[count - 1]
    table *= 1.0 / total


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_unit(table, q):
    """One more coin toss in the distribution of the number of positives."""
    for count in range(len(table) - 1, 0, -1):
        table[count] += q * (table[count - 1] - table[count])
    table[0] *= 1.0 - q


@njit(cache=True, nogil=True, fastmath={"contract"})
def _leave_one_out(q, tail, wanted, base, whole, others):
    """`others[u]`: distribution of the positives outside unit u, for each unit wanted.

    Dividing a unit out of the whole loses digits where q > 1/2 (the error grows by q / (1 - q)
    at each step); there the others are put together again.
    """
    base[:] = tail
    for unit in range(len(q)):
        if q[unit] <= 0.5:
            _add_unit(base, q[unit])
    whole[:] = base
    for unit in range(len(q)):
        if q[unit] > 0.5:
            _add_unit(whole, q[unit])
    for unit in range(len(q)):
        if not wanted[unit]:
            continue
        own = others[unit]
        if q[unit] > 0.5:
            own[:] = base
            for other in range(len(q)):
                if other != unit and q[other] > 0.5:
                    _add_unit(own, q[other])
        else:
            scale = 1.0 / (1.0 - q[unit])
            ratio = q[unit] * scale
            previous = 0.0
            for count in range(len(own)):
                previous = whole[count] * scale - ratio * previous
                own[count] = previous


@njit(cache=True, nogil=True)
def num_counts(mean):
    """Numbers of positives to tell apart: what lies beyond has a probability below 1e-12."""
    return int(np.ceil(mean + 8.0 * np.sqrt(mean) + 8.0)) + 1


@njit(cache=True, nogil=True, fastmath=_REORDER)
def _multiply(shares, others, wanted, size, worth):
    """`worth[k, u]`: what is gained by a sure label of unit u in a set of k."""
    for unit in range(len(wanted)):
        if wanted[unit]:
            for k in range(1, len(shares)):
                total = 0.0
                for count in range(size):
                    total += shares[k, count] * others[unit, count]
                worth[k, unit] = total


@njit(cache=True, nogil=True)
def decide_ratio(y_prob, max_labels, weight, y_pred, expected):
    """Ratio of expectations, (1 + B) sum of the k highest / (B sum of all + k), at its best k."""
    values = np.empty(max_labels, np.float32)
    columns = np.empty(max_labels, np.int64)
    for row in range(len(y_prob)):
        total = _select(y_prob[row], values, columns)
        hits, best, size = 0.0, -1.0, 0
        for k in range(1, max_labels + 1):
            hits += values[k - 1]
            score = (1.0 + weight) * hits / (weight * total + k)
            if score > best:
                best, size = score, k
        expected[row] = best
        for k in range(size):
            y_pred[row, columns[k]] = True


@njit(cache=True, nogil=True, fastmath=_REORDER)
def decide_independent(y_prob, num_candidates, shares, y_pred, expected):
    """The best set of each row where all labels are independent: the k highest for some k.

    `shares[k, n - 1]` is (1 + B) / (B * n + k): what a hit is worth in a set of k labels when n
    are true; it has `num_counts` columns for the largest sum that a row can have.
    """
    max_labels = len(shares) - 1
    values = np.empty(num_candidates, np.float32)
    columns = np.empty(num_candidates, np.int64)
    q = np.empty(num_candidates)
    wanted = np.ones(num_candidates, np.bool_)
    wanted[max_labels:] = False
    tables = np.empty((4, shares.shape[1]))
    others = np.empty((num_candidates, shares.shape[1]))
    for row in range(len(y_prob)):
        total = _select(y_prob[row], values, columns)
        q[:] = values
        size = num_counts(total)
        tail, hits = tables[0, :size], tables[3, :size]
        _fill_poisson(max(total - q.sum(), 0.0), tail)
        _leave_one_out(q, tail, wanted, tables[1, :size], tables[2, :size], others[:, :size])
        hits[:] = 0.0
        best, chosen = -1.0, 0
        for k in range(1, max_labels + 1):
            own = others[k - 1]
            score = 0.0
            for count in range(size):
                hits[count] += q[k - 1] * own[count]
                score += hits[count] * shares[k, count]
            if score > best:
                best, chosen = score, k
        expected[row] = best
        for k in range(chosen):
            y_pred[row, columns[k]] = True


@njit(cache=True, nogil=True)
def decide_exclusive(y_prob, groups, num_groups, num_candidates, shares, y_pred, expected):
    """As `decide_independent`, where a group has at most one true attribute.

    `groups[column]` is the group of a column, or -1. What a label is worth, its gain, depends on
    k and on its group, so each k has its own order of the candidates (Dembczynski et al., 2011).
    """
    max_labels = len(shares) - 1
    values = np.empty(num_candidates, np.float32)
    columns = np.empty(num_candidates, np.int64)
    units = np.empty(num_candidates, np.int64)
    order = np.empty(num_candidates, np.int64)
    chosen = np.empty(max_labels, np.int64)
    gains = np.empty(num_candidates)
    members = np.flatnonzero(groups >= 0)
    scaled = np.empty(y_prob.shape[1], np.float32)
    sums = np.empty(num_groups)
    q = np.empty(num_groups + num_candidates)
    wanted = np.empty(num_groups + num_candidates, np.bool_)
    tables = np.empty((3, shares.shape[1]))
    others = np.empty((num_groups + num_candidates, shares.shape[1]))
    worth = np.empty((len(shares), num_groups + num_candidates))
    for row in range(len(y_prob)):
        scaled[:] = y_prob[row]
        sums[:] = 0.0
        for column in members:
            sums[groups[column]] += scaled[column]
        for column in members:
            if sums[groups[column]] > 1.0:
                scaled[column] /= sums[groups[column]]
        rest = _select(scaled, values, columns)
        wanted[:] = False
        for group in range(num_groups):
            # Less than the sum itself, or an impossible "none of them" is divided by.
            q[group] = min(sums[group], 1.0)
            rest -= q[group]
        num_units = num_groups
        mean = max(rest, 0.0) + q[:num_groups].sum()
        for place in range(num_candidates):
            group = groups[columns[place]]
            if group < 0:
                group = num_units
                q[group] = values[place]
                rest -= q[group]
                num_units += 1
            units[place] = group
            wanted[group] = True
        size = num_counts(mean)
        tail = tables[0, :size]
        _fill_poisson(max(rest, 0.0), tail)
        _leave_one_out(
            q[:num_units], tail, wanted, tables[1, :size], tables[2, :size], others[:, :size]
        )
        _multiply(shares, others, wanted[:num_units], size, worth)
        best, num_chosen = -1.0, 0
        for k in range(1, max_labels + 1):
            for place in range(num_candidates):
                gains[place] = values[place] * worth[k, units[place]]
                order[place] = place
            # By score they are nearly sorted by gain: insertion has little to move.
            for place in range(1, num_candidates):
                moved = order[place]
                # Rounding must not reorder what is equal: ties go by score, then by column.
                limit = gains[moved] * (1.0 - 1e-12)
                target = place
                while target > 0 and gains[order[target - 1]] < limit:
                    order[target] = order[target - 1]
                    target -= 1
                order[target] = moved
            score = 0.0
            for place in range(k):
                score += gains[order[place]]
            if score > best:
                best, num_chosen = score, k
                chosen[:k] = order[:k]
        expected[row] = best
        for place in range(num_chosen):
            y_pred[row, columns[chosen[place]]] = True
