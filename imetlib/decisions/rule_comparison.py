"""Which rule to take: each one scored on rows that it was not fitted on.

A rule that is scored where it was fitted always looks better than it is, the more so the more
numbers it has. Here each fold is decided by a rule that saw the other folds alone, and beside the
score stands how much better the rule looks on its own rows.

To find the best of many rules is a search as well, and its winner's score flatters a little: claims
belong to rows that are held out of all this.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.averages import fbeta_by_group
from imetlib.decisions.comparison import paired_comparison
from imetlib.decisions.fbeta import (
    bootstrap_interval,
    constant_answer,
    fbeta_per_sample,
    label_pairs,
)
from imetlib.decisions.label_sets import find_torn_groups, take_labels
from imetlib.decisions.rules import check_fit

if TYPE_CHECKING:
    import pandas as pd

    from imetlib.decisions.fbeta import Labels

# A rule that looks so much better on its own rows has more numbers than these rows support.
_FLATTERS = 0.01


@dataclass(frozen=True, eq=False)
class RuleComparison:
    """Result of `compare_rules`.

    Args:
        table: DataFrame with one row a rule, in the order given: `rule`; `score` with `low` and
            `high`, mean per-sample F2 out of fold and its 95 % interval; `gain` with `gain_low`
            and `gain_high`, the paired difference to the first rule; `flatters`, how much more
            the rule scores on the rows it is fitted on; `expected`, the F2 that the rule itself
            predicted, NaN where it does not; `labels`, mean number a picture; `F2 <group>` of
            each group in names `group::name`; `constant_score`, the floor; `seconds` by the clock
            of one fit and one decision of all rows; `flags`, what to be wary of.
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
        rules: name to a rule of `imetlib.decisions.rules` or `expected_rule`, or any dataclass
            with their `fit` and `predict`. The first is what the others are compared with. They
            are copied, not fitted themselves.
        y_true: labels, in any form that `fbeta_samples` takes, at least one a row.
        y_prob: `(num_samples, num_classes)` float in [0, 1], out of fold, or of rows that the
            network was not trained on.
        folds: `(num_samples,)` int or str. Where the probabilities are out of fold, their folds.
        class_names: `num_classes` names `group::name`.
        ids: `(num_samples,)` ids of the rows, to see that none stands there twice; None takes
            those of a `LabelTable`.
        specimens: `(num_samples,)` int or str, or None. Rows of one specimen, which share a fold.

    Returns:
        `RuleComparison`.

    Raises:
        ValueError: the shapes differ; `y_prob` holds no probabilities; a row has no label; fewer
            than two folds; an id stands twice, or is not that of `y_true`; or a specimen lies in
            two folds, so that a rule would be scored on objects that it was fitted on.

    Example:
        >>> from imetlib.decisions.rules import GlobalThreshold, TopLabels
        >>> y_prob = np.array([[0.9, 0.4], [0.8, 0.1], [0.7, 0.6], [0.9, 0.2]])
        >>> rules = {"threshold": GlobalThreshold(), "top": TopLabels()}
        >>> found = compare_rules(rules, y_prob > 0.5, y_prob, [0, 1, 1, 0], ["tag::a", "tag::b"])
        >>> found.table[["rule", "score", "flatters"]].round(3).values.tolist()
        [['threshold', 0.889, 0.111], ['top', 0.806, 0.083]]
    """
    import pandas as pd

    y_prob, folds = _check_rows(rules, y_true, y_prob, folds, class_names, ids, specimens)
    floor = constant_answer(y_true).score
    groups = dict.fromkeys(name.partition("::")[0] for name in class_names if "::" in name)
    rows, decisions, everywhere, first = [], {}, {}, None
    for name, rule in rules.items():
        y_pred, expected = _cross_fit(rule, y_true, y_prob, folds, class_names)
        start = time.perf_counter()
        whole = replace(rule)
        whole.fit(y_prob, y_true, class_names)
        flattered = whole.predict(y_prob)
        seconds = time.perf_counter() - start
        per_sample = fbeta_per_sample(y_true, y_pred)
        score = per_sample.mean()
        flatters = fbeta_per_sample(y_true, flattered).mean() - score
        if first is None:
            first = per_sample
        gain = paired_comparison(per_sample, first, groups=specimens)
        low, high = bootstrap_interval(per_sample, groups=specimens)
        by_group = fbeta_by_group(y_true, y_pred, class_names)
        flags = {
            "best value at the edge of its grid": getattr(whole, "fitted", {}).get("at_edge"),
            f"looks {flatters:.3f} better on its own rows": flatters > _FLATTERS,
            "not above the constant answer": score <= floor,
        }
        rows.append(
            {
                "rule": name,
                "score": score,
                "low": low,
                "high": high,
                "gain": gain.difference,
                "gain_low": gain.interval[0],
                "gain_high": gain.interval[1],
                "flatters": flatters,
                "expected": expected.mean(),
                "labels": y_pred.sum(axis=1).mean(),
                **{f"F2 {group}": by_group[group].score for group in groups},
                "constant_score": floor,
                "seconds": seconds,
                "flags": "; ".join(flag for flag, raised in flags.items() if raised),
            }
        )
        decisions[name], everywhere[name] = y_pred, whole
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


def _cross_fit(
    rule: Any, y_true: Labels, y_prob: np.ndarray, folds: np.ndarray, class_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Decisions, and the score that the rule expects of each row (NaN where it does not)."""
    y_pred = np.zeros(y_prob.shape, bool)
    expected = np.full(len(y_prob), np.nan)
    for fold in np.unique(folds):
        own, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        # A copy of the settings: nothing fitted goes from fold to fold.
        part = replace(rule)
        part.fit(y_prob[others], take_labels(y_true, others), class_names)
        y_pred[own] = part.predict(y_prob[own])
        if hasattr(part, "expect"):
            expected[own] = part.expect(y_prob[own])
    return y_pred, expected


def _check_rows(
    rules: Mapping[str, Any],
    y_true: Labels,
    y_prob: np.ndarray,
    folds: np.ndarray,
    class_names: Sequence[str],
    ids: Sequence[str] | None,
    specimens: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities as an array, and the fold of each row as a number."""
    if not rules:
        raise ValueError("`rules` must hold at least one rule. Received: none")
    y_prob = check_fit(y_prob, y_true, class_names)
    num_samples = len(y_prob)
    empty = np.flatnonzero(np.bincount(label_pairs(y_true)[0], minlength=num_samples) == 0)
    if len(empty):
        raise ValueError(
            "`y_true` must have a label in every row: no answer to the others can score. "
            f"Received: {len(empty)} rows without, first {empty[0]}"
        )
    shape = np.shape(folds)
    names, folds = np.unique(folds, return_inverse=True)
    if shape != (num_samples,) or len(names) < 2:
        raise ValueError(
            f"`folds` must name at least two folds, one for each of {num_samples} rows: a rule "
            f"is not scored on the rows it is fitted on. Received: shape {shape} with "
            f"{len(names)} folds"
        )
    for given, what in ((ids, "ids"), (specimens, "specimens")):
        if given is not None and np.shape(given) != (num_samples,):
            raise ValueError(
                f"`{what}` must have one entry a row, {num_samples}. "
                f"Received: shape {np.shape(given)}"
            )
    own_ids = getattr(y_true, "ids", None)
    if ids is not None and own_ids is not None and not np.array_equal(ids, own_ids):
        raise ValueError("`ids` and `y_true` must have the same ids, in one order.")
    ids = own_ids if ids is None else ids
    if ids is not None:
        values, counts = np.unique(np.asarray(ids, dtype=str), return_counts=True)
        if counts.max() > 1:
            raise ValueError(
                f"`ids` hold {int((counts > 1).sum())} ids more than once, first "
                f"{values[counts > 1][0]}: a row counts once"
            )
    if specimens is not None:
        torn = len(find_torn_groups(specimens, folds))
        if torn:
            raise ValueError(
                f"{torn} specimens lie in more than one fold: a rule would be scored on objects "
                "that it was fitted on. Make the folds by specimen."
            )
    return y_prob, folds
