"""Run folders: one network or closed-form head per fold, their scores and records."""

import time
from pathlib import Path

import numpy as np

from imetlib.collection.folds import hash_folds
from imetlib.delivery.records import new_record, read_record, write_record
from imetlib.models.backbones import file_sha256, find_normalisation, find_weights
from imetlib.scores import Scores, load_scores, mean_scores, save_scores
from imetlib.training.closed_form import fit_closed_form, save_head, score_closed_form
from imetlib.training.devices import describe_devices
from imetlib.training.fit import preprocessing_of, split_halves, train_network
from imetlib.training.predict import clear_memory, predict_scores
from imetlib.training.scoring import score_crossfitted, score_with_threshold

METHODS = ("network", "ridge", "kernel")


def train_fold(data, folder, val_fold, *, method="network", holdout_fold=None, seed=0, verbose=0):
    """Train on all folds but one (or two), score on what was left out, write a run folder.

    Without a holdout the record's score is that of the validation fold, each half decided
    with the other half's threshold; the best epoch was chosen on the same rows. With one, the
    validation fold chooses epoch and threshold, and the score is that of the holdout, which
    nothing was fitted on. A folder that holds this very run already is not trained again.

    Args:
        data: `PreparedCollection`; its profile decides everything else.
        folder: run folder.
        val_fold: int, the fold that is left out of training.
        method: "network" (fine-tuned, or from scratch), "ridge" or "kernel" (closed-form heads
            on the frozen backbone).
        holdout_fold: int or None, another fold that is left out and scored once.
        seed: int >= 0.
        verbose: see `train_network`.

    Returns:
        the record, a dict.

    Raises:
        ValueError: unknown method or fold, or the folder holds a run of other settings;
            nothing is written over it.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. Known: {', '.join(METHODS)}")
    known = np.unique(data.folds).tolist()
    if val_fold not in known or holdout_fold not in (None, *known) or val_fold == holdout_fold:
        raise ValueError(
            f"The folds are {', '.join(map(str, known))}. Received: val_fold={val_fold}, "
            f"holdout_fold={holdout_fold}, which must be two of them"
        )
    folder = Path(folder)
    identity = _identity(data, method, seed) | {"val_fold": val_fold, "holdout_fold": holdout_fold}
    if (folder / "record.json").is_file():
        return _same_run(folder, identity)
    folder.mkdir(parents=True, exist_ok=True)
    collection = data.collection
    val_rows = data.rows_of_folds(val_fold)
    left_out = data.rows_of_folds(*{val_fold, val_fold if holdout_fold is None else holdout_fold})
    train_rows = np.setdiff1d(np.arange(len(data.folds)), left_out)

    wanted = {"val": ("train", collection.train.ids[val_rows])}
    if holdout_fold is not None:
        wanted["holdout"] = ("train", collection.train.ids[data.rows_of_folds(holdout_fold)])
    elif data.test_pictures is not None:
        wanted["test"] = ("test", collection.test_ids)
    train = _train_network if method == "network" else _train_closed_form
    scores, facts = train(data, train_rows, val_rows, folder, method, wanted, seed, verbose)
    for split, split_scores in scores.items():
        save_scores(folder / f"scores-{split}.npz", split_scores)

    halves = split_halves(collection, val_rows, seed)
    result = score_crossfitted(collection, scores["val"], halves)
    split = f"val fold {val_fold}"
    if holdout_fold is not None:
        result = score_with_threshold(collection, scores["holdout"], result["threshold"])
        split = "held-out sixth" if data.profile.num_folds == 6 else f"held-out fold {holdout_fold}"
    record = _record(data, folder.name, split, identity, result, facts)
    write_record(folder, record)
    clear_memory()
    return record


def train_all_folds(data, folder, *, method="network", seed=0, verbose=0):
    """Leave out each fold once; out-of-fold scores of all rows, mean scores of the test set.

    An interrupted run goes on with its next fold.

    Args:
        data, method, seed, verbose: see `train_fold`.
        folder: run folder; fold k goes to `fold<k>` in it.

    Returns:
        the record of the whole, a dict: its score is out of fold, each fold decided with the
        threshold of the others.
    """
    folder = Path(folder)
    numbers = range(data.profile.num_folds)
    records = []
    for fold in numbers:
        if verbose:
            print(f"{folder.name}: fold {fold + 1} of {len(numbers)}", flush=True)
        records.append(
            train_fold(
                data, folder / f"fold{fold}", fold, method=method, seed=seed, verbose=verbose
            )
        )
    members = [load_scores(folder / f"fold{fold}" / "scores-val.npz") for fold in numbers]
    out_of_fold = Scores(
        np.concatenate([member.ids for member in members]),
        np.concatenate([member.logits for member in members]),
        data.collection.class_names,
    ).take(data.collection.train.ids)
    save_scores(folder / "scores-oof.npz", out_of_fold)
    if data.test_pictures is not None:
        tests = [load_scores(folder / f"fold{fold}" / "scores-test.npz") for fold in numbers]
        save_scores(folder / "scores-test.npz", mean_scores(tests))
    result = score_crossfitted(data.collection, out_of_fold, data.folds)
    facts = {name: records[0][name] for name in ("num_params", "normalisation", "weights_sha256")}
    facts["seconds"] = sum(record["seconds"] for record in records)
    if method == "network":
        facts["best_epochs"] = [record["best_epoch"] for record in records]
    record = _record(data, folder.name, "out-of-fold", _identity(data, method, seed), result, facts)
    write_record(folder, record)
    return record


def blend_runs(data, folder, names):
    """Mean of the logits of finished runs below one folder, scored out of fold.

    Args:
        data: `PreparedCollection`.
        folder: run folder; the members are subfolders of it, made by `train_all_folds`.
        names: names of the subfolders.

    Returns:
        the record of the blend, a dict.

    Raises:
        ValueError: a member is missing or was made on other tables or folds, or the folder
            holds a blend of others; nothing is written over it.
    """
    folder = Path(folder)
    members = [read_record(folder / name) for name in names]
    identity = _identity(data, "blend", members[0]["seed"]) | {"members": list(names)}
    for name, member in zip(names, members, strict=True):
        for key in ("collection_sha256", "folds_sha256"):
            if member[key] != identity[key]:
                raise ValueError(
                    f"{folder / name} was made on other folds or tables: train it again"
                )
    if (folder / "record.json").is_file():
        _same_run(folder, identity)
    blended = mean_scores([load_scores(folder / name / "scores-oof.npz") for name in names])
    save_scores(folder / "scores-oof.npz", blended)
    if data.test_pictures is not None:
        tests = [load_scores(folder / name / "scores-test.npz") for name in names]
        save_scores(folder / "scores-test.npz", mean_scores(tests))
    result = score_crossfitted(data.collection, blended, data.folds)
    facts = {
        "members": list(names),
        "num_params": sum(member["num_params"] for member in members),
        "seconds": sum(member["seconds"] for member in members),
    }
    record = _record(data, folder.name, "out-of-fold", identity, result, facts)
    write_record(folder, record)
    return record


def _train_network(data, train_rows, val_rows, folder, method, wanted, seed, verbose):
    profile = data.profile
    trained = train_network(profile, data, train_rows, val_rows, folder, seed=seed, verbose=verbose)
    scores = {"val": trained.val_scores}
    for name, (split, ids) in wanted.items():
        if name != "val":
            pictures = data.train_pictures if split == "train" else data.test_pictures
            scores[name] = predict_scores(
                trained.model,
                pictures,
                ids,
                preprocessing_of(profile),
                data.collection.class_names,
                mirror_view=profile.mirror_view,
            )
    facts = {
        "best_epoch": trained.best_epoch,
        "num_params": int(trained.model.count_params()),
        "trainable_params": trained.trainable_params,
        "normalisation": trained.normalisation,
        "weights_sha256": _weights_sha256(profile),
        "seconds": trained.seconds,
    }
    return scores, facts


def _train_closed_form(data, train_rows, val_rows, folder, method, wanted, seed, verbose):
    start = time.perf_counter()
    head = fit_closed_form(method, data, train_rows, seed=seed)
    save_head(folder, head)
    scores = {
        name: score_closed_form(head, data, split, ids) for name, (split, ids) in wanted.items()
    }
    weights_sha256 = _weights_sha256(data.profile)
    facts = {
        "penalty": head.penalty,
        "num_params": int(head.kernel.size + head.bias.size),
        "trainable_params": int(head.kernel.size + head.bias.size),
        "normalisation": find_normalisation(data.profile.backbone, weights_sha256),
        "weights_sha256": weights_sha256,
        "seconds": time.perf_counter() - start,
    }
    return scores, facts


def _weights_sha256(profile):
    path = find_weights(profile.backbone, profile.weights or None)
    return None if path is None else file_sha256(path)


def _identity(data, method, seed):
    """What makes two runs the same run."""
    return {
        "method": method,
        "seed": seed,
        "settings": data.profile.to_dict(),
        "collection_sha256": data.collection.sha256,
        "folds_sha256": hash_folds(data.collection.train.ids, data.folds),
    }


def _same_run(folder, identity):
    record = read_record(folder)
    before = record.get("identity", {})
    changed = [key for key in identity if before.get(key) != identity[key]]
    if "settings" in changed:
        old, new = before.get("settings", {}), identity["settings"]
        changed.remove("settings")
        changed += [key for key in new if old.get(key) != new[key]]
    if changed:
        raise ValueError(
            f"{folder} holds a run of other settings ({', '.join(changed)}). Give another run "
            "name, or remove the folder; nothing was overwritten."
        )
    return record


def _record(data, name, split, identity, result, facts):
    result = dict(result)
    return new_record(
        name,
        profile=data.profile.name,
        seed=identity["seed"],
        split=split,
        image_shape=data.profile.image_shape,
        collection_sha256=identity["collection_sha256"],
        folds_sha256=identity["folds_sha256"],
        parameters=identity["settings"],
        score=result.pop("score"),
        constant_score=result.pop("constant_score"),
        num_samples=result.pop("num_samples"),
        method=identity["method"],
        identity=identity,
        collection=data.name,
        device_details=describe_devices(),
        **result,
        **facts,
    )
