"""What a threshold of its own for each group of classes can change, row by row.

A group's threshold adds labels to a row in the order of their scores. A minimum puts the first of
them there from the start, a maximum ends the order early; both leave a sequence of events, and
the label set of the row is the start of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imetlib.decisions.cases import Case, check_scores
from imetlib.decisions.fbeta import fbeta_of_counts
from imetlib.decisions.sweep import ROUNDING, collect_events, sort_order

_ROWS_TOGETHER = 4096


@dataclass(frozen=True, eq=False)
class GroupEvents:
    """Labels that the threshold of one group adds, each row highest first.

    Below the floor only true labels are listed, with the value -inf: no real threshold down
    there can score more than taking all of them and nothing wrong. `base_hits` of the
    `base_labels` that the minimum sets are true.
    """

    indptr: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    is_true: np.ndarray
    base_labels: np.ndarray
    base_hits: np.ndarray

    def counts_at(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Labels and hits of each row with a threshold: `(num_samples,)` int64 each."""
        chosen = self.values >= threshold
        num_rows = len(self.base_labels)
        labels = np.bincount(self.rows[chosen], minlength=num_rows)
        hits = np.bincount(self.rows[chosen & self.is_true], minlength=num_rows)
        return self.base_labels + labels, self.base_hits + hits


def collect_group_events(
    case: Case,
    groups: list[np.ndarray],
    limits: list[tuple[int, int]],
    floor: float,
    compiled: bool,
) -> list[GroupEvents]:
    """Events of each group; `limits` are the (fewest, most) labels of a row."""
    num_rows, num_classes = case.y_prob.shape
    group_of = np.empty(num_classes, np.int64)
    for number, columns in enumerate(groups):
        group_of[columns] = number
    rows, columns, values = _sorted_events(case, floor, compiled)
    positions = np.sort(case.positions)
    cells = rows * num_classes + columns
    place = np.minimum(np.searchsorted(positions, cells), max(len(positions) - 1, 0))
    is_true = positions[place] == cells if len(positions) else np.zeros(len(cells), bool)
    label_rows, label_columns = np.divmod(positions, num_classes)
    number_of, label_number = group_of[columns], group_of[label_columns]
    found = []
    for number, own in enumerate(groups):
        chosen = number_of == number
        num_true = np.bincount(label_rows[label_number == number], minlength=num_rows)
        part = rows[chosen], values[chosen], is_true[chosen]
        found.append(_take_group(case, own, limits[number], positions, num_true, *part))
    return found


def _sorted_events(
    case: Case, floor: float, compiled: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values, by row, highest first, of equal ones the smaller column."""
    if not compiled:
        events, _ = collect_events(case, floor, floor)
        order = np.lexsort((-events.values, events.rows))
        return events.rows[order], events.columns[order], events.values[order]
    from imetlib.decisions.sweep_numba import collect_rows, in_threads

    parts = in_threads(
        lambda rows: collect_rows(
            np.ascontiguousarray(case.y_prob[rows], np.float32), np.float32(floor)
        ),
        len(case.y_prob),
    )
    if not all(part[3] for part in parts):
        check_scores(case.y_prob)
    values, columns, counts = (np.concatenate([part[at] for part in parts]) for at in range(3))
    return np.repeat(np.arange(len(counts)), counts), columns, values


def _take_group(
    case: Case,
    columns: np.ndarray,
    limits: tuple[int, int],
    positions: np.ndarray,
    num_true: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    is_true: np.ndarray,
) -> GroupEvents:
    num_rows, num_classes = case.y_prob.shape
    fewest, most = limits
    counts = np.bincount(rows, minlength=num_rows)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    below = num_true - np.bincount(rows[is_true], minlength=num_rows)
    base_hits = np.bincount(rows[is_true & (rank < fewest)], minlength=num_rows)
    short = np.flatnonzero(counts < fewest)
    for start in range(0, len(short), _ROWS_TOGETHER):
        part = short[start : start + _ROWS_TOGETHER]
        scores = np.asarray(case.y_prob[part][:, columns], np.float32)
        top = columns[np.argsort(-scores, axis=1, kind="stable")[:, :fewest]]
        hits = np.isin(part[:, None] * num_classes + top, positions).sum(axis=1)
        below[part] -= hits - base_hits[part]
        base_hits[part] = hits
    kept = (rank >= fewest) & (rank < most)
    # As many of the true labels below the floor as the maximum leaves room for.
    added = np.repeat(np.arange(num_rows), np.clip(most - np.maximum(counts, fewest), 0, below))
    all_rows = np.concatenate([rows[kept], added])
    order = np.argsort(all_rows, kind="stable")
    return GroupEvents(
        indptr=np.concatenate([[0], np.cumsum(np.bincount(all_rows, minlength=num_rows))]),
        rows=all_rows[order],
        values=np.append(values[kept], np.full(len(added), -np.inf, np.float32))[order],
        is_true=np.append(is_true[kept], np.ones(len(added), bool))[order],
        base_labels=np.full(num_rows, fewest),
        base_hits=base_hits,
    )


def search_coordinates(
    groups: list[GroupEvents], thresholds: list[float], num_true: np.ndarray, beta: float
) -> list[float]:
    """The best threshold of one group after another, until none improves any more."""
    orders = [sort_order(group.values)[::-1] for group in groups]
    counts = [group.counts_at(level) for group, level in zip(groups, thresholds, strict=True)]
    labels, hits = (np.array([part[at] for part in counts]) for at in range(2))
    score = fbeta_of_counts(hits.sum(axis=0), num_true, labels.sum(axis=0), beta).mean()
    thresholds = list(thresholds)
    unchanged, number = 0, 0
    while unchanged < len(groups):
        others = np.arange(len(groups)) != number
        threshold, reached = _sweep_group(
            groups[number], orders[number], num_true, labels[others].sum(axis=0),
            hits[others].sum(axis=0), beta,
        )  # fmt: skip
        if reached > score + ROUNDING:
            thresholds[number], score, unchanged = threshold, reached, 0
            labels[number], hits[number] = groups[number].counts_at(threshold)
        unchanged += 1
        number = (number + 1) % len(groups)
    return thresholds


def _sweep_group(
    group: GroupEvents,
    order: np.ndarray,
    num_true: np.ndarray,
    other_labels: np.ndarray,
    other_hits: np.ndarray,
    beta: float,
) -> tuple[float, float]:
    """The highest of the best thresholds of a group beside given labels of the others."""
    rows = group.rows
    rank = np.arange(1, len(rows) + 1) - group.indptr[rows]
    hits = np.cumsum(group.is_true)
    hits -= np.append(0, hits)[group.indptr[rows]]
    labels_before = other_labels + group.base_labels
    hits_before = other_hits + group.base_hits
    after = fbeta_of_counts(
        hits_before[rows] + hits, num_true[rows], labels_before[rows] + rank, beta
    )
    none = fbeta_of_counts(hits_before, num_true, labels_before, beta)
    before = np.append(0.0, after[:-1])
    before[rank == 1] = none[rows[rank == 1]]
    values = group.values[order]
    curve = (none.sum() + np.cumsum((after - before)[order])) / len(num_true)
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)[: len(values)]
    levels = np.append(np.inf, values[ends])
    scores = np.append(none.mean(), curve[ends])
    best = int(np.argmax(scores >= scores.max() - ROUNDING))
    return float(levels[best]), float(scores[best])
