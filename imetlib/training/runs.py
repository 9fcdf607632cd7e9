"""Run folders: one network or closed-form head per fold, their scores and records.

Fold 0 is the holdout of every run: nothing is fitted on it and nothing chosen by it. It is
scored once, by the finished run.
"""

import shutil
import time
from pathlib import Path

import numpy as np

from imetlib.decisions.exclusive import find_exclusive_groups
from imetlib.delivery.records import read_record
from imetlib.models.backbones import build_backbone
from imetlib.models.costs import count_macs
from imetlib.scores import Scores, load_scores, mean_scores, save_scores
from imetlib.training.checkpoints import remove_checkpoints
from imetlib.training.closed_form import fit_closed_form, save_head, score_closed_form
from imetlib.training.features import features_seconds, normalisation_of
from imetlib.training.fit import preprocessing_of, split_halves, train_network
from imetlib.training.networks import start_of
from imetlib.training.predict import clear_memory, predict_scores
from imetlib.training.run_files import identity_of, read_same_run, write_run
from imetlib.training.scoring import score_crossfitted, score_with_threshold

METHODS = ("network", "ridge", "kernel")
HOLDOUT = 0


def train_fold(data, folder, val_fold, *, method="network", splits=("holdout",), seed=0, verbose=0):
    """Train on all folds but the holdout and one more, write a run folder.

    The validation fold chooses epoch and threshold; the record's score is that of the holdout,
    which nothing was fitted on. A folder that holds this very run already is not trained again;
    one where it was ended goes on from its last checkpoint.

    Args:
        data: `PreparedCollection`; its profile decides everything else.
        folder: run folder.
        val_fold: int >= 1, the fold that is left out of training besides fold 0.
        method: "network" (fine-tuned, or from scratch), "ridge" or "kernel" (closed-form heads
            on the frozen backbone).
        splits: what is scored besides the validation fold: "holdout", "test". Without
            "holdout" the record's score is that of the validation fold, each half decided with
            the other half's threshold: a search over settings must not look at the holdout.
        seed: int >= 0.
        verbose: see `train_network`.

    Returns:
        the record, a dict; `selection` holds the figures of the validation fold.

    Raises:
        ValueError: unknown method or fold, or the folder holds a run of other settings;
            nothing is written over it.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. Known: {', '.join(METHODS)}")
    inner = inner_folds(data)
    if val_fold not in inner:
        raise ValueError(
            f"`val_fold` must be one of {', '.join(map(str, inner))}; fold {HOLDOUT} is the "
            f"holdout. Received: val_fold={val_fold}"
        )
    folder = Path(folder)
    identity = identity_of(data, method, seed, val_fold=val_fold, splits=list(splits))
    if (folder / "record.json").is_file():
        record = read_same_run(folder, identity)
        remove_checkpoints(folder)
        return record
    folder.mkdir(parents=True, exist_ok=True)
    collection = data.collection
    val_rows = data.rows_of_folds(val_fold)
    train_rows = np.setdiff1d(np.arange(len(data.folds)), data.rows_of_folds(HOLDOUT, val_fold))
    wanted = {"val": ("train", collection.train.ids[val_rows]), **_rest_of(data, splits)}
    exclusive = _exclusive_groups(data, train_rows)
    if method == "network":
        scores, facts = _train_network(
            data, train_rows, val_rows, folder, wanted, exclusive, seed, verbose
        )
    else:
        scores, facts = _train_closed_form(
            data, train_rows, folder, method, wanted, exclusive, seed
        )
    facts["exclusive_groups"] = exclusive
    for split, split_scores in scores.items():
        save_scores(folder / f"scores-{split}.npz", split_scores)

    if data.profile.backbone.endswith(".keras"):
        shutil.copyfile(data.profile.backbone, folder / Path(data.profile.backbone).name)
    split = f"val fold {val_fold}"
    result = score_crossfitted(collection, scores["val"], split_halves(collection, val_rows, seed))
    if "holdout" in splits:
        facts["selection"] = {"split": split, **result}
        result = score_with_threshold(collection, scores["holdout"], result["threshold"])
        split = holdout_name(data)
    record = write_run(data, folder, split, identity, result, facts)
    # Only a record makes a run that nobody has to repeat.
    remove_checkpoints(folder)
    clear_memory()
    return record


def train_all_folds(data, folder, *, method="network", seed=0, verbose=0):
    """Leave out each fold but the holdout once: out-of-fold scores, and scores of the rest.

    The holdout and the test set get the mean of the networks of all folds; a closed-form head is
    fitted once more, on all folds but the holdout, since it needs no rows to stop at. (Within
    the inner folds of the watercolours that is worth .004 F2 over the mean of the folds' heads.)
    An interrupted run goes on in its unfinished fold.

    Args:
        data, method, seed, verbose: see `train_fold`.
        folder: run folder; fold k goes to `fold<k>` in it.

    Returns:
        the record of the whole, a dict: its score is that of the holdout, decided with the
        threshold of the out-of-fold scores; `selection` holds the out-of-fold figures, each
        fold decided with the threshold of the others.
    """
    folder = Path(folder)
    numbers = inner_folds(data)
    identity = identity_of(data, method, seed, folds=numbers)
    if (folder / "record.json").is_file():
        return read_same_run(folder, identity)
    records = []
    for position, fold in enumerate(numbers, start=1):
        if verbose:
            print(f"{folder.name}: fold {position} of {len(numbers)}", flush=True)
        records.append(
            train_fold(
                data,
                folder / f"fold{fold}",
                fold,
                method=method,
                splits=("holdout", "test") if method == "network" else ("holdout",),
                seed=seed,
                verbose=verbose,
            )
        )
    folders = [folder / f"fold{fold}" for fold in numbers]
    members = [load_scores(path / "scores-val.npz") for path in folders]
    ids = data.collection.train.ids[data.rows_of_folds(*numbers)]
    out_of_fold = Scores(
        np.concatenate([member.ids for member in members]),
        np.concatenate([member.logits for member in members]),
        data.collection.class_names,
    ).take(ids)
    if method == "network":
        facts = {name: records[0][name] for name in ("normalisation", "weights_sha256")}
        facts["best_epochs"] = [record["best_epoch"] for record in records]
        facts["diverged_at"] = [record.get("diverged_at") for record in records]
        facts |= _sums(records)
        scores = _mean_of(data, folders)
    else:
        rows = data.rows_of_folds(*numbers)
        exclusive = _exclusive_groups(data, rows)
        wanted = _rest_of(data, ("holdout", "test"))
        scores, facts = _train_closed_form(data, rows, folder, method, wanted, exclusive, seed)
        facts["exclusive_groups"] = exclusive
        facts["seconds"] += sum(record["seconds"] for record in records)
    return _finish(data, folder, {"oof": out_of_fold, **scores}, identity, facts)


def blend_runs(data, folder, names):
    """Mean of the logits of finished runs below one folder.

    Args:
        data: `PreparedCollection`.
        folder: run folder; the members are subfolders of it, made by `train_all_folds`.
        names: names of the subfolders.

    Returns:
        the record of the blend, a dict, of the form of `train_all_folds`.

    Raises:
        ValueError: a member is missing or was made on other tables or folds, or the folder
            holds a blend of others; nothing is written over it.
    """
    folder = Path(folder)
    members = [read_record(folder / name) for name in names]
    identity = identity_of(
        data,
        "blend",
        members[0]["seed"],
        members=list(names),
        member_identities=[member["identity"] for member in members],
    )
    for name, member in zip(names, members, strict=True):
        for key in ("collection_sha256", "folds_sha256"):
            if member[key] != identity[key]:
                raise ValueError(
                    f"{folder / name} was made on other folds or tables: train it again"
                )
    if (folder / "record.json").is_file():
        return read_same_run(folder, identity)
    folders = [folder / name for name in names]
    out_of_fold = mean_scores([load_scores(path / "scores-oof.npz") for path in folders])
    facts = {"members": list(names), **_sums(members)}
    scores = {"oof": out_of_fold, **_mean_of(data, folders)}
    return _finish(data, folder, scores, identity, facts)


def inner_folds(data):
    """Numbers of the folds that training and choosing may use: all but the holdout."""
    return list(range(HOLDOUT + 1, data.profile.num_folds))


def holdout_name(data):
    """How records name the holdout."""
    names = {4: "held-out quarter", 5: "held-out fifth", 6: "held-out sixth"}
    return names.get(data.profile.num_folds, f"held-out fold of {data.profile.num_folds}")


def _exclusive_groups(data, rows):
    if not data.profile.exclusive:
        return []
    return find_exclusive_groups(data.collection.train.take(rows), data.collection.class_names)


def _rest_of(data, splits):
    """Split of `splits` to (table, ids), for what exists here."""
    rest = {}
    if "holdout" in splits:
        rest["holdout"] = ("train", data.collection.train.ids[data.rows_of_folds(HOLDOUT)])
    if "test" in splits and data.test_pictures is not None:
        rest["test"] = ("test", data.collection.test_ids)
    return rest


def _mean_of(data, folders):
    return {
        split: mean_scores([load_scores(path / f"scores-{split}.npz") for path in folders])
        for split in _rest_of(data, ("holdout", "test"))
    }


def _sums(records):
    """Costs of several networks that answer together."""
    kept = ("num_params", "trainable_params", "macs", "seconds")
    return {name: sum(record[name] for record in records) for name in kept}


def _finish(data, folder, scores, identity, facts):
    """Scores and record of a run that has out-of-fold scores."""
    for split, split_scores in scores.items():
        save_scores(folder / f"scores-{split}.npz", split_scores)
    # From the files: what they round is what anyone can compute again.
    out_of_fold, holdout = (load_scores(folder / f"scores-{x}.npz") for x in ("oof", "holdout"))
    rows = data.rows_of_folds(*inner_folds(data))
    chosen = score_crossfitted(data.collection, out_of_fold, data.folds[rows])
    facts = {**facts, "selection": {"split": "out-of-fold", **chosen}}
    result = score_with_threshold(data.collection, holdout, chosen["threshold"])
    return write_run(data, folder, holdout_name(data), identity, result, facts)


def _train_network(data, train_rows, val_rows, folder, wanted, exclusive, seed, verbose):
    profile = data.profile
    how = {"exclusive": exclusive, "seed": seed, "verbose": verbose}
    trained = train_network(profile, data, train_rows, val_rows, folder, **how)
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
                exclusive=exclusive,
            )
    facts = {
        "best_epoch": trained.best_epoch,
        "diverged_at": trained.diverged_at,
        "rate_halved": trained.rate_halved,
        "num_params": int(trained.model.count_params()),
        "trainable_params": trained.trainable_params,
        "macs": count_macs(trained.model, profile.image_shape),
        "normalisation": trained.normalisation,
        "weights_sha256": start_of(profile),
        "seconds": trained.seconds,
        "pictures_per_second": {"input": trained.input_rate, "training": trained.training_rate},
    }
    return scores, facts


def _train_closed_form(data, train_rows, folder, method, wanted, exclusive, seed):
    start = time.perf_counter()
    head = fit_closed_form(method, data, train_rows, seed=seed)
    save_head(folder, head)
    scores = {
        name: score_closed_form(head, data, split, ids, exclusive=exclusive)
        for name, (split, ids) in wanted.items()
    }
    profile = data.profile
    backbone = build_backbone(
        profile.backbone, profile.image_shape, normalisation=normalisation_of(profile)
    )
    facts = {
        "penalty": head.penalty,
        "macs": count_macs(backbone) + head.macs,
        "num_params": int(head.kernel.size + head.bias.size),
        "trainable_params": int(head.kernel.size + head.bias.size),
        "normalisation": normalisation_of(profile),
        "weights_sha256": start_of(profile),
        # Features are computed once for all runs of a collection, and count in each.
        "seconds": time.perf_counter() - start,
        "features_seconds": features_seconds(data, "train"),
    }
    return scores, facts
