"""The audit of a figure: the mistakes behind most published F2 of iMet, looked for one by one.

Every `audit_*` returns a list of `Finding`, empty where nothing is wrong, and keeps no state.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.collection.csvfiles import CollectionError
from imetlib.decisions.averages import fbeta_macro
from imetlib.decisions.fbeta import fbeta_micro, fbeta_samples
from imetlib.delivery.records import COMPARED, METRIC

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels
    from imetlib.decisions.thresholds import ThresholdSearch


class AuditError(CollectionError):
    """Figures that are not what they say; `faults` holds every reason."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with a figure.

    Args:
        rule: what was broken: the last word of the `audit_*` that saw it, or "record".
        severity: "error": the figure is not what it says; "warning": it deserves doubt.
        message: what, where, and what would mend it.
    """

    rule: str
    severity: str
    message: str


def refuse(findings: Iterable[Finding], where: str = "audit") -> None:
    """Raises `AuditError` with every error among the findings; warnings pass."""
    faults = [f"{found.rule}: {found.message}" for found in findings if found.severity == "error"]
    if faults:
        raise AuditError(where, faults)


def audit_rows(scored_ids: Iterable[str], expected_ids: Iterable[str]) -> list[Finding]:
    """Whether every row that should be scored is scored, once, and no other.

    Example:
        >>> [found.message for found in audit_rows(["a", "b", "a"], ["a", "b"])]
        ['1 of 3 rows are counted again, first a: predict each id once']
    """
    counts, expected = Counter(scored_ids), dict.fromkeys(expected_ids)
    again, total = counts.total() - len(counts), f"{counts.total():,} rows"
    twice = [name for name, count in counts.items() if count > 1]
    absent = [name for name in expected if name not in counts]
    foreign = [name for name in counts if name not in expected]
    return _found(
        "rows",
        twice and f"{again:,} of {total} are counted again{_first(twice)}: predict each id once",
        absent and f"{len(absent):,} of {len(expected):,} rows are not scored{_first(absent)}",
        foreign and f"{len(foreign):,} of {total} belong to another split{_first(foreign)}",
    )


def audit_threshold(
    chosen_on: Iterable[str],
    scored_on: Iterable[str],
    *,
    specimens: Mapping[str, Any] | None = None,
    search: ThresholdSearch | None = None,
) -> list[Finding]:
    """Whether a threshold (or weights, or an epoch) was chosen on other rows than are scored.

    Args:
        chosen_on, scored_on: ids.
        specimens: id to specimen; an id that is not in it has no siblings.
        search: how the threshold was found; an optimum at the edge of a grid is a warning.
    """
    chosen, scored = dict.fromkeys(chosen_on), dict.fromkeys(scored_on)
    of = specimens or {}
    seen = {of[name] for name in chosen if name in of}
    shared = [name for name in scored if name in chosen]
    cut = [name for name in scored if name not in chosen and name in of and of[name] in seen]
    found = []
    if shared:
        found += _found("threshold", f"fitted where it is scored, on {len(shared):,} of "
                        f"{len(scored):,} rows{_first(shared)}: fit on other folds")  # fmt: skip
    if cut:
        found += _found("threshold", f"{len(cut):,} of {len(scored):,} scored rows have a picture "
                        f"of the same specimen among those fitted on{_first(cut)}: make folds of "
                        "whole specimens")  # fmt: skip
    if search is not None and search.at_edge and not search.certified:
        low, high = search.thresholds[[0, -1]]
        found += _found("threshold", f"the best, {search.threshold:.4g}, is at the edge of the "
                        f"grid {low:.4g} to {high:.4g}: the optimum may lie outside; use "
                        "search_threshold", severity="warning")  # fmt: skip
    return found


def audit_checkpoint(
    history: Sequence[Mapping[str, Any]], scored_epoch: int, *, metric: str = "val_f2"
) -> list[Finding]:
    """Whether the epoch that is scored is the best one: `metric` is largest, and a number.

    Args:
        history: one mapping an epoch with `epoch` and `metric`, as numbers or text.
    """
    values = {int(row["epoch"]): float(row.get(metric, "nan")) for row in history}
    finite = {epoch: value for epoch, value in values.items() if np.isfinite(value)}
    if scored_epoch not in finite:
        return _found("checkpoint", f"epoch {scored_epoch} has no {metric} in the history; epochs "
                      f"that have: {', '.join(map(str, finite)) or 'none'}")  # fmt: skip
    best, score = max(finite, key=lambda epoch: finite[epoch]), finite[scored_epoch]
    if finite[best] <= score:
        return []
    last = ", the last," if scored_epoch == max(values) else ""
    return _found("checkpoint", f"epoch {scored_epoch}{last} is scored, {metric} {score:.4f}: load "
                  f"the weights of the best, {best}, {finite[best]:.4f}")  # fmt: skip


def audit_preprocessing(train: Mapping[str, Any], test: Mapping[str, Any]) -> list[Finding]:
    """Whether training (or pretrained weights) and prediction prepare pictures alike.

    Args:
        train, test: `Preprocessing.to_dict()` and what else is done, such as `normalisation`.
    """
    messages = [
        f"{name} is {train.get(name)!r} in training and {test.get(name)!r} in prediction: use "
        "one for both"
        for name in {**train, **test}
        if json.dumps(train.get(name)) != json.dumps(test.get(name))
    ]
    return _found("preprocessing", *messages)


def audit_pictures(first: np.ndarray, second: np.ndarray) -> list[Finding]:
    """Whether two arrays, of any shape and dtype, of the same rows are equal bit for bit."""
    if first.shape == second.shape and first.dtype == second.dtype and (first == second).all():
        return []
    kinds = (f"{a.shape} {a.dtype} {a.min():.4g} to {a.max():.4g}" for a in (first, second))
    return _found("preprocessing", f"the same rows differ: {' and '.join(kinds)}; prepare them "
                  "by one function, without augmentation")  # fmt: skip


def average_scores(y_true: Labels, y_pred: Labels) -> dict[str, float]:
    """F2 in [0, 1] by the name of its average: per sample (the score), micro, macro (classes).

    Args:
        y_true, y_pred: as in `fbeta_samples`.
    """
    return {
        METRIC: fbeta_samples(y_true, y_pred),
        "F2 micro": fbeta_micro(y_true, y_pred),
        "F2 macro": fbeta_macro(y_true, y_pred),
    }


def name_metric(
    claimed: float, y_true: Labels, y_pred: Labels, *, tolerance: float = 5e-4
) -> tuple[str, ...]:
    """The averages of `average_scores` that a figure agrees with.

    Example:
        >>> name_metric(0.5, [[1, 1, 0, 0], [0, 1, 0, 1]], [[1, 0, 1, 1], [0, 1, 0, 0]])
        ('F2 micro',)
    """
    scores = average_scores(y_true, y_pred).items()
    return tuple(name for name, score in scores if abs(score - claimed) <= tolerance)


def audit_metric(
    claimed: float, y_true: Labels, y_pred: Labels, *, tolerance: float = 5e-4
) -> list[Finding]:
    """Whether a figure is the mean per-sample F2 of the decisions, and which it is if not."""
    names = name_metric(claimed, y_true, y_pred, tolerance=tolerance)
    if METRIC in names:
        return []
    what = f"the {' or '.join(names)}" if names else "no F2 of these decisions"
    known = (f"{name} {score:.6f}" for name, score in average_scores(y_true, y_pred).items())
    return _found("metric", f"{claimed:.6f} is {what}: {', '.join(known)}")


def audit_floor(
    score: float, constant_score: float, interval: Sequence[float] | None = None
) -> list[Finding]:
    """Whether a score says more than the best constant answer on the same rows.

    Example:
        >>> audit_floor(0.202, 0.2084)[0].message
        'F2 0.2020 is not above the constant answer, 0.2084: nothing was learned from pictures'
    """
    low, floor = interval[0] if interval else score, f"the constant answer, {constant_score:.4f}"
    if score <= constant_score:
        message = f"F2 {score:.4f} is not above {floor}: nothing was learned from pictures"
        return _found("floor", message, severity="warning")
    near = low <= constant_score and f"the interval of F2 {score:.4f} holds {floor}"
    return _found("floor", near, severity="warning")


def audit_blend(
    blend: np.ndarray, members: Sequence[np.ndarray], *, tolerance: float = 1e-5
) -> list[Finding]:
    """Whether scores, `(num_samples, num_classes)` float, are the mean of those of members."""
    mean = np.mean(members, axis=0)
    if blend.shape == mean.shape and np.allclose(blend, mean, rtol=1e-6, atol=tolerance):
        return []
    what = f"shape {blend.shape} instead of {mean.shape}"
    if blend.shape == mean.shape:
        what = f"up to {np.abs(blend - mean).max():.4g} off"
        for number, member in enumerate(members, start=1):
            for divisor in (1, len(members)):
                if np.allclose(blend, member / divisor, rtol=1e-6, atol=tolerance):
                    what = f"member {number} alone" + f", divided by {divisor}" * (divisor > 1)
    return _found("blend", f"not the mean of {len(members)} members but {what}: use mean_scores")


def audit_columns(class_names: Sequence[str], wanted: Sequence[str]) -> list[Finding]:
    """Whether column j of scores is attribute id j.

    Args:
        class_names: names of the columns.
        wanted: names of the attributes, that of id j in place j: `Collection.class_names`.
    """
    class_names, wanted = list(class_names), list(wanted)
    if class_names == wanted:
        return []
    if class_names == [wanted[column] for column in sorted(range(len(wanted)), key=str)]:
        what = 'ids are sorted as text, "1059" before "195"'
    elif sorted(class_names) == sorted(wanted):
        what = "attributes stand in another order"
    else:
        unknown = [name for name in class_names if name not in wanted]
        what = f"{len(class_names)} columns for {len(wanted)} attributes{_first(unknown)}"
    return _found("columns", f"{what}: put attribute id j into column j")


def audit_comparison(
    records: Sequence[Mapping[str, Any]],
    *,
    claims: Mapping[str, Mapping[str, Any]] | None = None,
    allow: Sequence[str] = (),
) -> list[Finding]:
    """Whether runs can be ranked, and a table says what their records say.

    Args:
        records: as from `read_record`.
        claims: what a table says, by run: "score", "epochs", "batch_size", ... A number agrees
            with the record when it is that number rounded.
        allow: fields of `records.COMPARED`, or "trainable_part", that differ on purpose.
    """
    found, by_run = [], {record["run"]: record for record in records}
    for field in (*COMPARED, "trainable_part"):
        values = [json.dumps(_look_up(record, field)) for record in records]
        if len(set(values)) > 1 and field not in allow:
            pairs = zip(records, values, strict=True)
            shown = "; ".join(f"{record['run']} {value}" for record, value in pairs)
            found.append(f"{field} differs: {shown}; leave some out, or say that it differs")
    copies = Counter(json.dumps({**record, "run": ""}, sort_keys=True) for record in records)
    if len(copies) < len(records):
        found.append("one run stands under several names: keep one of them")
    for run, claimed in (claims or {}).items():
        if run not in by_run:
            found.append(f"{run} has no record: run it, or take the row out")
            continue
        for name, value in claimed.items():
            said, digits = _look_up(by_run[run], name), len(str(value).partition(".")[2])
            if said != value and (not isinstance(said, float) or round(said, digits) != value):
                found.append(f"{run}: {name} {value!r} is claimed, its record says {said!r}")
    if {_look_up(record, "trainable_part") for record in records} == {"head"}:
        found.append(
            "only heads were trained: this ranks frozen features, not backbones; add fine-tuned "
            "rows"
        )
    return _found("comparison", *found)


def _look_up(record: Mapping[str, Any], name: str) -> Any:
    """An entry of a record or of its parameters; without a picture phase only the head learns."""
    parameters = record.get("parameters", {})
    if name == "trainable_part":
        closed = record.get("method") in ("ridge", "kernel") or parameters.get("epochs") == 0
        return "head" if closed else parameters.get("trainable_from")
    return record.get(name, parameters.get(name))


def _found(rule: str, *messages: Any, severity: str = "error") -> list[Finding]:
    return [Finding(rule, severity, message) for message in messages if message]


def _first(names: Sequence[str]) -> str:
    return f", first {', '.join(names[:3])}" if names else ""
