"""The best pair of thresholds of two groups, exactly.

A row with a events of one group and b of the other has a constant score on (a + 1)(b + 1)
rectangles of the plane of both thresholds. The mixed differences of these scores, added up in a
grid of cells, give the mean score at all corners of the grid by two cumulative sums. The same sums
with everything positive of a cell's own row and column, and nothing negative of it, bound the score
within the cell. What cannot reach the best corner is cut off, and the rest gets a finer grid, until
every cell holds a single pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from imetlib.decisions.fbeta import fbeta_of_counts
from imetlib.decisions.group_events import GroupEvents
from imetlib.decisions.sweep import ROUNDING

_NUM_CELLS, _MAX_CELLS = 384, 1536
# Up to this many events the distinct values are counted, beyond that a sample is taken.
_VALUES_COUNTED = 1 << 16
_TABLE_CELLS = 1 << 20


@dataclass(frozen=True, eq=False)
class Axis:
    """Lower edges of the cells of one group, ascending, and the end of the last of them."""

    edges: np.ndarray
    end: float
    single: bool

    @property
    def corners(self) -> np.ndarray:
        """The edges and the end: all of them thresholds to choose from."""
        return np.append(self.edges, np.float32(self.end))

    def cut(self, alive: np.ndarray) -> tuple[float, float]:
        """Lowest and end of the corners that are alive; the end is still a threshold to try."""
        kept = np.flatnonzero(alive)
        return float(self.corners[kept[0]]), float(self.corners[min(kept[-1] + 1, len(self.edges))])


def search_pair(
    first: GroupEvents, second: GroupEvents, num_true: np.ndarray, beta: float, compiled: bool
) -> tuple[float, float] | None:
    """The best thresholds, of equally good ones the highest; None where it gives up.

    It does where so many pairs are equally good that nothing can be cut off. Where what lies
    below the floor of the events cannot be cut off, it returns -inf: the floor has to be lower.
    """
    groups = (first, second)
    bounds: list[tuple[float, float]] = [(-np.inf, np.inf)] * 2
    num_cells = _NUM_CELLS
    while True:
        axes = [make_axis(group.values, *bounds[at], num_cells) for at, group in enumerate(groups)]
        gains, losses = _add_up(groups, axes, num_true, beta, compiled)
        scores = _suffix_sums(gains + losses) / len(num_true)
        best = scores.max()
        if axes[0].single and axes[1].single:
            row, column = np.argwhere(scores >= best - ROUNDING)[-1]
            return float(axes[0].corners[row]), float(axes[1].corners[column])
        certain = _suffix_sums(losses)
        for at, axis in enumerate(axes):
            if not axis.single:  # what stands in a cell's own row may be above its threshold
                own = np.arange(1, len(axis.corners) + 1).clip(max=len(axis.edges))
                certain = certain.take(own, axis=at)
        alive = (_suffix_sums(gains) + certain) / len(num_true) >= best - ROUNDING
        shrunk = [axis.cut(alive.any(axis=1 - at)) for at, axis in enumerate(axes)]
        sizes = [
            np.prod([np.count_nonzero((group.values >= low) & (group.values < end)) + 1
                     for group, (low, end) in zip(groups, limits, strict=True)])
            for limits in (bounds, shrunk)
        ]  # fmt: skip
        if sizes[1] > 0.5 * sizes[0]:
            if num_cells == _MAX_CELLS and sizes[1] > 0.95 * sizes[0]:
                hidden = any(
                    alive.any(axis=1 - at)[0] and np.isneginf(group.values).any()
                    for at, group in enumerate(groups)
                )
                return (-np.inf, -np.inf) if hidden else None
            num_cells = min(2 * num_cells, _MAX_CELLS)
        bounds = shrunk


def make_axis(values: np.ndarray, low: float, end: float, num_cells: int) -> Axis:
    """Edges at every value in [low, end) where these are few, else at evenly chosen ones."""
    inside = values[(values >= low) & (values < end)]
    if not len(inside):
        return Axis(np.array([low], np.float32), end, True)
    step = -(-len(inside) // _VALUES_COUNTED)
    distinct = np.unique(np.append(inside[::step], inside.min()))
    if len(distinct) <= num_cells and step == 1:
        return Axis(distinct, end, True)
    # Every other edge is free to stand anywhere; the lowest must hold all.
    chosen = np.unique(np.linspace(0, len(distinct) - 1, num_cells).astype(np.int64))
    if distinct[0] == -np.inf:
        chosen = np.union1d(chosen, [1]) if len(distinct) > 1 else chosen
    return Axis(distinct[chosen], end, False)


def _suffix_sums(cells: np.ndarray) -> np.ndarray:
    return cells[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]


def _add_up(
    groups: tuple[GroupEvents, GroupEvents],
    axes: list[Axis],
    num_true: np.ndarray,
    beta: float,
    compiled: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Positive and negative mixed differences in cells; the last place of an axis is "always"."""
    shape = tuple(len(axis.edges) + 1 for axis in axes)
    labels = groups[0].base_labels + groups[1].base_labels
    hits = groups[0].base_hits + groups[1].base_hits
    if compiled:
        from imetlib.decisions.pair_numba import add_rows
        from imetlib.decisions.sweep_numba import NUM_THREADS, in_threads

        def run(rows: slice) -> Any:
            arrays = [
                (group.indptr[rows.start : rows.stop + 1], group.values, group.is_true)
                for group in groups
            ]
            return add_rows(
                *arrays[0], axes[0].edges, np.float32(axes[0].end),
                *arrays[1], axes[1].edges, np.float32(axes[1].end),
                num_true[rows], labels[rows], hits[rows], beta**2,
            )  # fmt: skip

        # One part a thread: each has a grid of its own.
        parts = in_threads(run, len(num_true), -(-len(num_true) // NUM_THREADS))
        return sum(part[0] for part in parts), sum(part[1] for part in parts)
    inside = []
    for group, axis in zip(groups, axes, strict=True):
        sure, sure_hits = group.counts_at(axis.end)
        labels = labels + sure - group.base_labels
        hits = hits + sure_hits - group.base_hits
        inside.append(np.flatnonzero((group.values >= axis.edges[0]) & (group.values < axis.end)))
    cells = np.zeros((2, *shape))
    counts = [
        np.bincount(g.rows[i], minlength=len(num_true)) for g, i in zip(groups, inside, strict=True)
    ]
    # Rows of similar size together: tables are as wide as the longest row.
    order = np.argsort(counts[0] + counts[1], kind="stable")
    start = 0
    while start < len(order):
        step = 256
        while step > 1 and _table_size(counts, order[start : start + step]) > _TABLE_CELLS:
            step //= 2
        rows = order[start : start + step]
        tables = [
            _pad(group, axis, chosen, rows, counts[at])
            for at, (group, axis, chosen) in enumerate(zip(groups, axes, inside, strict=True))
        ]
        (taken, found, place), (other_taken, other_found, other_place) = tables
        score = fbeta_of_counts(
            hits[rows, None, None] + found[:, :, None] + other_found[:, None, :],
            num_true[rows, None, None],
            labels[rows, None, None] + taken[:, :, None] + other_taken[:, None, :],
            beta,
        )
        change = np.diff(np.diff(score, axis=1, prepend=0.0), axis=2, prepend=0.0)
        target = (place[:, :, None] * shape[1] + other_place[:, None, :]).ravel()
        for sign, part in enumerate((np.maximum(change, 0.0), np.minimum(change, 0.0))):
            cells[sign] += np.bincount(target, part.ravel(), minlength=shape[0] * shape[1]).reshape(
                shape
            )
        start += step
    return cells[0], cells[1]


def _table_size(counts: list[np.ndarray], rows: np.ndarray) -> int:
    return len(rows) * (int(counts[0][rows].max()) + 1) * (int(counts[1][rows].max()) + 1)


def _pad(
    group: GroupEvents, axis: Axis, inside: np.ndarray, rows: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels taken, hits and cells of 0, 1, 2, ... events of each row, as tables."""
    width = int(counts[rows].max()) + 1
    steps = np.arange(width)
    used = (steps > 0) & (steps <= counts[rows, None])
    # Events of a row stand together, so those inside do as well.
    firsts = np.cumsum(counts) - counts
    events = inside[(firsts[rows, None] + steps - 1)[used]]
    place = np.full(used.shape, len(axis.edges))
    place[used] = np.searchsorted(axis.edges, group.values[events], side="right") - 1
    hits = np.zeros(used.shape, np.int64)
    hits[used] = group.is_true[events]
    return np.minimum(steps, counts[rows, None]), hits.cumsum(axis=1), place
