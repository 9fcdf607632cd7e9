"""Sharing units with labels out evenly: the algorithm under `folds`, on plain lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MAX_SWEEPS = 20
_ROUNDING = 1e-9  # sums of fractions that differ by less are equal


@dataclass(frozen=True)
class StratifyProblem:
    """Units to share out, their labels in compressed rows.

    Lists, not arrays: the loops below read single numbers, which is where arrays are slow.

    Args:
        sizes: pictures of each unit.
        indptr: unit u has the entries `indptr[u]` to `indptr[u + 1]` of the next two.
        columns: label of each entry.
        counts: pictures of the unit that have the label.
        totals: pictures of each label in all.
        num_folds: int.
    """

    sizes: list[int]
    indptr: list[int]
    columns: list[int]
    counts: list[int]
    totals: list[int]
    num_folds: int


def stratify(problem: StratifyProblem) -> list[int]:
    """Sparse iterative stratification: the rarest label first, to the fold that lacks it most.

    Ties go to the fold that lacks most of the unit's other labels, then to the one with more
    room, then to the lower number. Shares are kept in whole numbers, times the number of folds,
    so that equal ones compare as equal.

    Returns:
        list of int in `[0, num_folds)`. Fold of each unit.
    """
    sizes, indptr, columns = problem.sizes, problem.indptr, problem.columns
    counts, totals, folds = problem.counts, problem.totals, range(problem.num_folds)
    units_of: list[list[int]] = [[] for _ in totals]
    # Large specimens first: what they upset, the small ones after them can even out.
    for unit in sorted(range(len(sizes)), key=lambda unit: -sizes[unit]):
        for column in columns[indptr[unit] : indptr[unit + 1]]:
            units_of[column].append(unit)
    want = [[total] * problem.num_folds for total in totals]
    room = [sum(sizes)] * problem.num_folds
    fold_of = [-1] * len(sizes)
    unassigned = np.where(np.array(totals) > 0, totals, np.inf)

    def assign(unit, fold):
        fold_of[unit] = fold
        room[fold] -= problem.num_folds * sizes[unit]
        for j in range(indptr[unit], indptr[unit + 1]):
            want[columns[j]][fold] -= problem.num_folds * counts[j]
            unassigned[columns[j]] -= counts[j]

    while np.isfinite(unassigned.min(initial=np.inf)):
        rarest = int(unassigned.argmin())
        for unit in units_of[rarest]:
            if fold_of[unit] >= 0:
                continue
            most = max(want[rarest])
            best = [fold for fold in folds if want[rarest][fold] == most]
            if len(best) > 1:
                own = columns[indptr[unit] : indptr[unit + 1]]
                score = {f: (sum(want[c][f] / totals[c] for c in own), room[f], -f) for f in best}
                best = [max(best, key=score.__getitem__)]
            assign(unit, best[0])
        unassigned[rarest] = np.inf
    without_labels = [unit for unit, fold in enumerate(fold_of) if fold < 0]
    for unit in sorted(without_labels, key=lambda unit: -sizes[unit]):
        assign(unit, max(folds, key=lambda fold: (room[fold], -fold)))
    return fold_of


def refine(problem: StratifyProblem, fold_of: list[int]) -> list[int]:
    """Moves single units until no move makes the folds more even.

    A move must lower the sum over labels and folds of (count - ideal)^2 / total, or leave it as
    it is and lower the squared deviation of the fold sizes.

    Args:
        problem: `StratifyProblem`.
        fold_of: list of int, changed in place. Fold of each unit.

    Returns:
        list of int. `fold_of`.
    """
    sizes, indptr, totals = problem.sizes, problem.indptr, problem.totals
    labels_of = [
        [
            (problem.columns[j], problem.counts[j], 1 / totals[problem.columns[j]])
            for j in range(indptr[unit], indptr[unit + 1])
        ]
        for unit in range(len(sizes))
    ]
    filled = [[0] * problem.num_folds for _ in totals]
    size = [0] * problem.num_folds
    for unit, fold in enumerate(fold_of):
        size[fold] += sizes[unit]
        for column, count, _ in labels_of[unit]:
            filled[column][fold] += count
    for _ in range(_MAX_SWEEPS):
        moved = False
        for unit, labels in enumerate(labels_of):
            old = fold_of[unit]
            best, best_change, best_growth = old, 0.0, 0
            for new in range(problem.num_folds):
                if new == old:
                    continue
                change = 0.0
                for column, count, weight in labels:
                    row = filled[column]
                    change += count * (row[new] - row[old] + count) * weight
                growth = sizes[unit] * (size[new] - size[old] + sizes[unit])
                gain = best_change - change
                if gain > _ROUNDING or (gain > -_ROUNDING and growth < best_growth):
                    best, best_change, best_growth = new, change, growth
            if best != old:
                moved, new = True, best
                fold_of[unit] = new
                size[old] -= sizes[unit]
                size[new] += sizes[unit]
                for column, count, _ in labels:
                    filled[column][old] -= count
                    filled[column][new] += count
        if not moved:
            break
    return fold_of
