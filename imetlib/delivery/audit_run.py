"""The audit of a finished run: every figure of its record computed again from its files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.collection.folds import find_folds, hash_folds
from imetlib.decisions.fbeta import (
    bootstrap_interval,
    constant_answer,
    fbeta_micro,
    fbeta_per_sample,
    fbeta_samples,
)
from imetlib.decisions.label_sets import decide
from imetlib.decisions.saved_rules import RULE_FILE, load_rule, read_facts
from imetlib.decisions.thresholds import crossfit_threshold, search_threshold
from imetlib.delivery.audit import (
    Finding,
    audit_blend,
    audit_checkpoint,
    audit_columns,
    audit_floor,
    audit_metric,
    audit_preprocessing,
    audit_rows,
    audit_threshold,
)
from imetlib.delivery.records import FILE_NAME, METRIC, read_record
from imetlib.scores import FLOOR, Scores, load_scores

if TYPE_CHECKING:
    from imetlib.collection.tables import Collection

HOLDOUT = 0
PARTS = ("val", "oof", "holdout", "test")
_EXACT = 1e-6


def audit_run(folder: str | Path, collection: Collection) -> list[Finding]:
    """All findings about a run folder and the runs below it that it is the mean of.

    Args:
        folder: run folder, the one with `record.json`. Its folds file stands in it or in one of
            the folders above.
        collection: `Collection` that the run was made on.

    Returns:
        list of `Finding`; what a run below says begins with its name.

    Raises:
        ValueError: the folder holds no record.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record["collection_sha256"] != collection.sha256:
        message = f"made on other tables than {collection.root.name}: train again, or name its own"
        return [Finding("record", "error", message)]
    found = audit_floor(record["score"], record["constant_score"], record.get("interval"))
    sizes = ({"image_shape": place["image_shape"]} for place in (record["parameters"], record))
    found += audit_preprocessing(*sizes)
    found += _audit_training(folder, record)
    children = [folder / name for name in record.get("members", [])]
    children = children or sorted(path.parent for path in folder.glob(f"fold[0-9]*/{FILE_NAME}"))
    for child in children:
        try:
            below = audit_run(child, collection)
        except ValueError as error:
            below = [Finding("record", "error", str(error))]
        found += [replace(one, message=f"{child.name}: {one.message}") for one in below]
    try:
        scores, folds = _load_parts(folder), _find_folds(folder, record, collection)
        # A closed-form head was fitted once more, on all folds: it is no mean.
        if "penalty" not in record:
            found += _audit_means(scores, children)
    except ValueError as error:
        return [*found, Finding("record", "error", str(error))]
    # Folds files hold every picture of the table, runs those that could be read.
    gone = [Path(name).stem for name in record.get("identity", {}).get("left_out") or ()]
    kept = ~np.isin(collection.train.ids.astype(str), np.array(gone, str))
    collection = collection.without(collection.train.ids[~kept])
    return found + _audit_scores(folder, record, scores, folds[kept], collection)


def audit_schedule(
    history: Sequence[Mapping[str, Any]], epochs: int, learning_rate: float
) -> list[Finding]:
    """Whether as many epochs ran as claimed, and a schedule up to `learning_rate` was applied.

    Args:
        history: one mapping an epoch with `epoch` and `learning_rate`, as numbers or text;
            epoch 0 is the state before training.
        epochs, learning_rate: what is claimed; the rate is the greatest one.
    """
    rates = [float(row["learning_rate"]) for row in history if int(row["epoch"]) > 0]
    highest, messages = max(rates, default=0.0), []
    if len(rates) != epochs:
        messages.append(f"{epochs} epochs are claimed, the history has {len(rates)}")
    if len(rates) > 1 and len(set(rates)) == 1:
        messages.append(f"the learning rate was {highest:.3g} in every epoch: no schedule ran")
    if highest > 1.001 * learning_rate:
        messages.append(f"the learning rate rose to {highest:.3g}, {learning_rate:.3g} is claimed")
    return [Finding("schedule", "warning", message) for message in messages]


def _audit_training(folder: Path, record: Mapping[str, Any]) -> list[Finding]:
    """History against record: best epoch, its scores, number of epochs, learning rates."""
    if "best_epoch" not in record:
        return []
    path, best = folder / "history.csv", record["best_epoch"]
    if not path.is_file():
        message = f"no {path.name}: nothing shows that epoch {best} is the best"
        return [Finding("checkpoint", "error", message)]
    with path.open(encoding="utf-8", newline="") as file:
        history = list(csv.DictReader(file))
    found = audit_checkpoint(history, best)
    parameters = record["parameters"]
    found += audit_schedule(history, parameters["epochs"], parameters["learning_rate"])
    # Both were computed from the scores that the run folder holds.
    said = {"threshold": record["threshold"]}
    if "selection" in record:
        said["val_f2"] = record["selection"]["score"]
    for row in history:
        for name, value in said.items() if int(row["epoch"]) == best else ():
            if not np.isclose(float(row[name]), value, rtol=1e-5):
                message = (
                    f"{name} is {value} in the record, {row[name]} in the history of epoch {best}: "
                    "the scores are of another epoch"
                )
                found.append(Finding("checkpoint", "error", message))
    return found


def _audit_means(scores: Mapping[str, Scores], children: Sequence[Path]) -> list[Finding]:
    """Scores of a blend, or of a run over all folds, against those of the runs below it."""
    found: list[Finding] = []
    for part, own in scores.items():
        paths = [child / f"scores-{part}.npz" for child in children]
        if not paths or (part == "oof" and paths[0].parent.name.startswith("fold")):
            continue
        absent = [path.parent.name for path in paths if not path.is_file()]
        if absent:
            message = f"no {paths[0].name} in {', '.join(absent)}: the mean cannot be verified"
            found.append(Finding("blend", "warning", message))
            continue
        members = [load_scores(path).take(own.ids).logits for path in paths]
        # Files of many classes keep the largest logits alone.
        kept = own.logits > FLOOR
        off = audit_blend(own.logits[kept], [member[kept] for member in members])
        found += [replace(one, message=f"scores-{part}.npz: {one.message}") for one in off]
    return found


def _audit_scores(
    folder: Path,
    record: Mapping[str, Any],
    scores: Mapping[str, Scores],
    folds: np.ndarray,
    collection,
) -> list[Finding]:
    """Rows, columns, threshold and figures of the files of scores."""
    ids, identity = collection.train.ids, record.get("identity", {})
    held_out = folds == HOLDOUT
    wanted = {
        "val": ids[folds == identity.get("val_fold", -1)],
        "oof": ids[~held_out],
        "holdout": ids[held_out],
        "test": collection.test_ids,
    }
    found, sound = [], {}
    for part, own in scores.items():
        faults = audit_rows(own.ids, wanted[part])
        faults += audit_columns(own.class_names, collection.class_names)
        found += [replace(one, message=f"scores-{part}.npz: {one.message}") for one in faults]
        if not faults:
            sound[part] = own
    if hash_folds(ids, folds) != record["folds_sha256"]:
        message = "the record's folds are not those of the folds file: train again"
        found.append(Finding("record", "error", message))
    if record["metric"] != METRIC:
        message = f"`metric` is {record['metric']}: the collection's score is {METRIC}"
        found.append(Finding("metric", "error", message))
    chooser = "oof" if "oof" in scores else "val"
    if chooser in scores and "holdout" in scores:
        siblings = None
        if collection.specimens is not None:
            siblings = dict(zip(ids, collection.specimens.tolist(), strict=True))
        fitted = [*ids[~held_out], *scores[chooser].ids]
        found += audit_threshold(fitted, scores["holdout"].ids, specimens=siblings)
    if chooser in sound:
        rows = collection.train.rows_of(sound[chooser].ids)
        y_true, y_prob = collection.train.dense(rows), sound[chooser].y_prob
        best = search_threshold(y_true, y_prob)
        threshold = np.float32(record["threshold"])
        score = fbeta_samples(y_true, y_prob >= threshold)
        if score < best.score - _EXACT and not np.isclose(threshold, best.threshold, rtol=_EXACT):
            message = (
                f"{threshold:.6g} gives F2 {score:.4f} on scores-{chooser}.npz, the best is "
                f"{best.threshold:.6g} with {best.score:.4f}: search it there"
            )
            found.append(Finding("threshold", "error", message))
        if chooser == "oof" and "selection" in record:
            y_pred = crossfit_threshold(y_true, y_prob, folds[rows]).y_pred
            found += _audit_figures("selection", record["selection"], y_pred, rows, collection)
    if "holdout" in sound:
        rows = collection.train.rows_of(sound["holdout"].ids)
        y_pred = decide(sound["holdout"].y_prob, record["threshold"])
        found += _audit_figures("record", record, y_pred, rows, collection)
        found += _audit_rule(folder, sound["holdout"], rows, collection)
    elif "holdout" not in scores:
        held = record["split"].startswith("held-out")
        message = f"no scores-holdout.npz: nothing backs the score of the {record['split']}"
        if not held:
            message = f"nothing was held out: {record['split']} chose epoch or threshold as well"
        found.append(Finding("record", "error" if held else "warning", message))
    return found


def _audit_rule(folder: Path, holdout: Scores, rows, collection) -> list[Finding]:
    """What a saved rule says of itself against its decisions on the holdout."""
    path = folder / RULE_FILE
    if not path.is_file():
        return []
    try:
        rule = load_rule(path, holdout.class_names)
    except ValueError as error:
        return [Finding("rule", "error", str(error))]
    said = read_facts(path).get("score")
    score = fbeta_samples(collection.train.take(rows), rule.predict(holdout.y_prob))
    if said is None or abs(said - score) <= _EXACT:
        return []
    message = f"{path.name} says F2 {said} on the holdout, its decisions give {score}"
    return [Finding("rule", "error", message)]


def _audit_figures(where, figures, y_pred, rows, collection) -> list[Finding]:
    """The figures of a record against those of decisions on rows of the training table."""
    truth = collection.train.take(rows)
    groups = None if collection.specimens is None else collection.specimens[rows]
    again: dict[str, Any] = {
        "num_samples": len(truth),
        "micro_f2": fbeta_micro(truth, y_pred),
        "constant_score": constant_answer(truth).score,
        "interval": bootstrap_interval(fbeta_per_sample(truth, y_pred), groups=groups),
    }
    found = audit_metric(figures["score"], truth, y_pred, tolerance=_EXACT)
    for name, value in again.items():
        if name in figures and not np.allclose(figures[name], value, rtol=0, atol=_EXACT):
            message = f"{name} is {figures[name]}, the files of scores give {value}"
            found.append(Finding("record", "error", message))
    return [replace(one, message=f"{where}: {one.message}") for one in found]


def _load_parts(folder: Path) -> dict[str, Scores]:
    paths = {part: folder / f"scores-{part}.npz" for part in PARTS}
    return {part: load_scores(path) for part, path in paths.items() if path.is_file()}


def _find_folds(folder: Path, record: Mapping[str, Any], collection: Collection) -> np.ndarray:
    number = record["parameters"].get("num_folds")
    folds = find_folds(folder, number, collection.train.ids.tolist())
    if folds is None:
        raise ValueError(
            f"no folds-{number}.csv in the run folder or above it: copy it there, it names the rows"
        )
    return folds
