"""Which rule to take: each one scored on rows that it was not fitted on.

A rule that is scored where it was fitted always looks better than it is, the more so the more
numbers it has. Here each fold is decided by a rule that saw the other folds alone, and beside the
score stands how much better the rule looks on its own rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.averages import fbeta_by_group
from imetlib.decisions.cases import check_probabilities
from imetlib.decisions.comparison import paired_comparison
from imetlib.decisions.fbeta import bootstrap_interval, constant_answer, fbeta_per_sample
from imetlib.decisions.label_sets import take_labels

if TYPE_CHECKING:
    import pandas as pd

    from imetlib.decisions.fbeta import Labels


@dataclass(frozen=True, eq=False)
class RuleComparison:
    """Result of `compare_rules`.

    Args:
        table: DataFrame with one row a rule, in the order given: `rule`; `score` with `low` and
            `high`, mean per-sample F2 out of fold and its 95 % interval; `gain` with `gain_low`
            and `gain_high`, the paired difference to the first rule; `flatters`, how much more
            the rule scores on the rows it is fitted on; `expected`, the F2 that the rule itself
            predicted, where it does; `labels`, mean number a picture; `F2 <group>` for each
            group; `constant_score`, the floor; `seconds` of one fit and one decision of all rows;
            `flags`, what to be wary of.
        y_pred: rule to its `(num_samples, num_classes)` bool decisions out of fold.
        fitted: rule to the rule fitted on all rows: for new pictures, never for these.
    """

    table: pd.DataFrame
    y_pred: dict[str, np.ndarray]
    fitted: dict[str, Any]


def compare_rules(
    rules: Mapping[str, Any],
    y_true: Labels,
    y_prob: np.ndarray,
    folds: np.ndarray,
    class_names: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    specimens: np.ndarray | None = None,
) -> RuleComparison:
    """Score rules by cross-fitting: every row is decided by a rule that did not see its fold.

    Args:
        rules: name to a rule of `imetlib.decisions.rules`, or anything with their `fit` and
            `predict`. The first is what the others are compared with.
        y_true: labels, in any form that `fbeta_samples` takes.
        y_prob: `(num_samples, num_classes)` float in [0, 1], out of fold, or of rows that the
            network was not trained on.
        folds: `(num_samples,)` int or str. Where the probabilities are out of fold, their folds.
        class_names: `num_classes` names `group::name`.
        ids: `(num_samples,)` ids of the rows, to see that none stands there twice.
        specimens: `(num_samples,)` int or None. Rows of one specimen, which share a fold.

    Returns:
        `RuleComparison`.

    Raises:
        ValueError: the shapes differ; `y_prob` holds no probabilities; fewer than two folds; an
            id stands twice; or a specimen lies in two folds, so that a rule would be scored on
            pictures of the objects that it was fitted on.

    Example:
        >>> from imetlib.decisions.rules import GlobalThreshold, TopLabels
        >>> y_prob = np.array([[0.9, 0.4], [0.8, 0.1], [0.7, 0.6], [0.9, 0.2]])
        >>> found = compare_rules(
        ...     {"threshold": GlobalThreshold(), "top": TopLabels()},
        ...     y_prob > 0.5, y_prob, np.array([0, 0, 1, 1]), ["tag::a", "tag::b"],
        ... )
        >>> found.table["rule"].tolist(), found.table["score"].round(3).tolist()
        (['threshold', 'top'], [1.0, 0.917])
    """
    y_prob = check_probabilities(y_prob)
    folds = _check_rows(rules, y_prob, folds, class_names, ids, specimens)
    floor = constant_answer(y_true).score
    names = list(dict.fromkeys(name.partition("::")[0] for name in class_names))
    rows, decisions, everywhere, first = [], {}, {}, None
    for name, rule in rules.items():
        y_pred = np.zeros(y_prob.shape, bool)
        expected = np.full(len(y_prob), np.nan)
        flags = []
        for fold in np.unique(folds):
            own, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            # A copy of the settings: nothing fitted goes from fold to fold.
            part = replace(rule).fit(y_prob[others], take_labels(y_true, others), class_names)
            y_pred[own] = part.predict(y_prob[own])
            if hasattr(part, "expect"):
                expected[own] = part.expect(y_prob[own])
        start = time.perf_counter()
        whole = replace(rule).fit(y_prob, y_true, class_names)
        flattered = whole.predict(y_prob)
        seconds = time.perf_counter() - start
        if whole.fitted.get("at_edge"):
            flags.append("best value at the edge of its grid")
        per_sample = fbeta_per_sample(y_true, y_pred)
        score = per_sample.mean()
        if score <= floor:
            flags.append("not above the constant answer")
        if first is None:
            first = per_sample
        gain = paired_comparison(per_sample, first, groups=specimens)
        low, high = bootstrap_interval(per_sample, groups=specimens)
        by_group = fbeta_by_group(y_true, y_pred, class_names)
        rows.append(
            {
                "rule": name,
                "score": score,
                "low": low,
                "high": high,
                "gain": gain.difference,
                "gain_low": gain.interval[0],
                "gain_high": gain.interval[1],
                "flatters": fbeta_per_sample(y_true, flattered).mean() - score,
                "expected": expected.mean(),
                "labels": y_pred.sum(axis=1).mean(),
                **{f"F2 {group}": by_group[group].score for group in names},
                "constant_score": floor,
                "seconds": seconds,
                "flags": "; ".join(flags),
            }
        )
        decisions[name], everywhere[name] = y_pred, whole
    import pandas as pd

    return RuleComparison(pd.DataFrame(rows), decisions, everywhere)


def choose_rule(table: pd.DataFrame) -> str:
    """The rule to take: the best one whose gain over the first is no accident, else the first.

    Args:
        table: of `RuleComparison`.

    Returns:
        str, a name of `table["rule"]`. The choice was made on these rows: its score there
        flatters it a little, and belongs to rows that are held out.
    """
    sure = table[table["gain_low"] > 0]
    chosen = sure.loc[sure["score"].idxmax()] if len(sure) else table.iloc[0]
    return str(chosen["rule"])


def _check_rows(rules, y_prob, folds, class_names, ids, specimens) -> np.ndarray:
    folds = np.asarray(folds)
    num_samples, num_classes = y_prob.shape
    if not rules:
        raise ValueError("`rules` must hold at least one rule")
    if len(class_names) != num_classes:
        raise ValueError(
            f"`class_names` must have one name a class, {num_classes}. Received: {len(class_names)}"
        )
    if folds.shape != (num_samples,) or len(np.unique(folds)) < 2:
        raise ValueError(
            f"`folds` must name at least two folds, one for each of {num_samples} rows: a rule "
            f"is not scored on the rows it is fitted on. Received: shape {folds.shape} with "
            f"{len(np.unique(folds))} folds"
        )
    for given, what in ((ids, "ids"), (specimens, "specimens")):
        if given is not None and np.shape(given) != (num_samples,):
            raise ValueError(
                f"`{what}` must have one entry a row, {num_samples}. "
                f"Received: shape {np.shape(given)}"
            )
    if ids is not None:
        values, counts = np.unique(np.asarray(ids, dtype=str), return_counts=True)
        if counts.max() > 1:
            raise ValueError(
                f"`ids` hold {int((counts > 1).sum())} ids more than once, first "
                f"{values[counts > 1][0]}: a row counts once"
            )
    if specimens is not None:
        pairs = np.unique(
            np.stack([np.unique(x, return_inverse=True)[1] for x in (specimens, folds)]), axis=1
        )
        torn = int((np.bincount(pairs[0]) > 1).sum())
        if torn:
            raise ValueError(
                f"{torn} specimens lie in more than one fold: a rule would be scored on objects "
                "that it was fitted on. Make the folds by specimen."
            )
    return folds
