"""What each part of a decision adds, measured on pictures that chose none of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.comparison import paired_comparison
from imetlib.decisions.fbeta import bootstrap_interval, fbeta_per_sample

if TYPE_CHECKING:
    import pandas as pd

    from imetlib.collection.tables import Collection
    from imetlib.scores import Scores


@dataclass(frozen=True, eq=False)
class Step:
    """One way to decide: scores to fit a rule on, scores to apply it to.

    Args:
        name: what the step adds to the one before it.
        fit: `Scores` of training pictures that no network behind them was trained on.
        held_out: `Scores` of the holdout, from the same networks, folds and views.
        rule: an unfitted rule of `imetlib.decisions.rules`.
    """

    name: str
    fit: Scores
    held_out: Scores
    rule: Any


def score_steps(
    steps: Sequence[Step], collection: Collection, *, seed: int = 0
) -> tuple[pd.DataFrame, list[Any]]:
    """F2 of each step on the holdout, and what it gains over the step before and over the first.

    Args:
        steps: two or more, all with the same holdout.
        collection: `Collection` that the pictures belong to.
        seed: int, of the intervals.

    Returns:
        DataFrame with one row a step: `step`; `fitted_on`, number of pictures; `score` with
        `low` and `high`, mean per-sample F2 and its 95 % interval; `gain`, `gain_low`,
        `gain_high` over the step before; `total`, `total_low`, `total_high` over the first;
        `labels`, mean number a picture. And the fitted rules, in the same order.

    Raises:
        ValueError: fewer than two steps, another holdout or other classes in a step, or a rule
            would be fitted on pictures of the holdout.
    """
    if len(steps) < 2:
        raise ValueError(f"`steps` must hold at least two. Received: {len(steps)}")
    held_ids = steps[0].held_out.ids
    held_rows = collection.train.rows_of(held_ids)
    truth = collection.train.take(held_rows)
    specimens = None if collection.specimens is None else collection.specimens[held_rows]
    lines, fitted, answers = [], [], []
    for step in steps:
        _check_step(step, held_ids, collection)
        rows = collection.train.rows_of(step.fit.ids)
        labels, names = collection.train.take(rows), collection.class_names
        fitted.append(replace(step.rule).fit(step.fit.y_prob, labels, names))
        y_pred = fitted[-1].predict(step.held_out.y_prob)
        answers.append(fbeta_per_sample(truth, y_pred))
        before, first = (
            paired_comparison(answers[-1], other, groups=specimens, seed=seed)
            for other in (answers[max(0, len(answers) - 2)], answers[0])
        )
        low, high = bootstrap_interval(answers[-1], groups=specimens, seed=seed)
        lines.append(
            {
                "step": step.name,
                "fitted_on": len(rows),
                "score": answers[-1].mean(),
                "low": low,
                "high": high,
                "gain": before.difference,
                "gain_low": before.interval[0],
                "gain_high": before.interval[1],
                "total": first.difference,
                "total_low": first.interval[0],
                "total_high": first.interval[1],
                "labels": y_pred.sum(axis=1).mean(),
            }
        )
    import pandas as pd

    return pd.DataFrame(lines), fitted


def _check_step(step: Step, held_ids: np.ndarray, collection: Collection) -> None:
    if step.held_out.ids.tolist() != held_ids.tolist():
        raise ValueError(f"{step.name}: `held_out` must be the pictures of the first step's")
    for scores in (step.fit, step.held_out):
        if tuple(scores.class_names) != tuple(collection.class_names):
            raise ValueError(f"{step.name}: the scores are of other classes than the collection")
    seen = set(step.fit.ids) & set(held_ids)
    if seen:
        raise ValueError(
            f"{step.name}: {len(seen)} pictures of the holdout are among those that the rule is "
            f"fitted on, first {sorted(seen)[0]}"
        )
