"""One network or closed-form head: its run folder, scores and record."""

import shutil
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from imetlib.decisions.exclusive import find_exclusive_groups
from imetlib.models.backbones import build_backbone
from imetlib.models.costs import count_macs
from imetlib.processes import check_alone, is_first, wait_for_all
from imetlib.scores import save_scores
from imetlib.training.checkpoints import remove_checkpoints
from imetlib.training.clock import TimeUpError
from imetlib.training.closed_form import fit_closed_form, save_head, score_closed_form
from imetlib.training.features import features_seconds, normalisation_of
from imetlib.training.fit import preprocessing_of, split_halves, train_network
from imetlib.training.networks import start_of
from imetlib.training.predict import clear_memory, predict_scores
from imetlib.training.run_files import identity_of, make_record, read_same_run, write_run
from imetlib.training.scoring import answer_unreadable, score_crossfitted, score_with_threshold

METHODS = ("network", "ridge", "kernel")
HOLDOUT = 0


def train_fold(
    data,
    folder,
    val_fold,
    *,
    method="network",
    splits=("holdout",),
    budget=None,
    seed=0,
    verbose=0,
):
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
        budget: see `train_network`; such a run is another run than one without.
        seed: int >= 0.
        verbose: see `train_network`.

    Returns:
        the record, a dict; `selection` holds the figures of the validation fold. Within a budget,
        None where time was up in its predictions. Where a later session will go on with the
        training, the record has "goes_on" and stands in no file.

    Raises:
        ValueError: unknown method or fold, or the folder holds a run of other settings;
            nothing is written over it.
    """
    if method != "network":
        check_alone("A head in closed form")
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. Known: {', '.join(METHODS)}")
    inner = inner_folds(data)
    if val_fold not in inner:
        raise ValueError(
            f"`val_fold` must be one of {', '.join(map(str, inner))}; fold {HOLDOUT} is the "
            f"holdout. Received: val_fold={val_fold}"
        )
    folder = Path(folder)
    timed = {} if budget is None else {"timed": True}
    identity = identity_of(data, method, seed, val_fold=val_fold, splits=list(splits), **timed)
    if (folder / "record.json").is_file():
        record = read_same_run(folder, identity)
        remove_checkpoints(folder)
        return record
    folder.mkdir(parents=True, exist_ok=True)
    collection = data.collection
    val_rows = data.rows_of_folds(val_fold)
    train_rows = np.setdiff1d(np.arange(len(data.folds)), data.rows_of_folds(HOLDOUT, val_fold))
    wanted = {"val": ("train", collection.train.ids[val_rows]), **rest_of(data, splits)}
    exclusive = exclusive_groups(data, train_rows)
    if method == "network":
        scores, facts = _train_network(
            data, train_rows, val_rows, folder, wanted, exclusive, budget, seed, verbose
        )
    else:
        scores, facts = train_closed_form(data, train_rows, folder, method, wanted, exclusive, seed)
    facts["exclusive_groups"] = exclusive
    whole = all(name in scores and len(scores[name].ids) == len(wanted[name][1]) for name in wanted)
    if whole:
        scores = answer_unreadable(data, scores, train_rows)
    if is_first():
        for split, split_scores in scores.items():
            save_scores(folder / f"scores-{split}.npz", split_scores)
    if not whole:
        return None
    if is_first() and data.profile.backbone.endswith(".keras"):
        shutil.copyfile(data.profile.backbone, folder / Path(data.profile.backbone).name)
    split = f"val fold {val_fold}"
    result = score_crossfitted(collection, scores["val"], split_halves(collection, val_rows, seed))
    if "holdout" in splits:
        facts["selection"] = {"split": split, **result}
        result = score_with_threshold(collection, scores["holdout"], result["threshold"])
        split = holdout_name(data)
    if facts.get("goes_on"):
        return make_record(data, folder, split, identity, result, facts)
    if is_first():
        record = write_run(data, folder, split, identity, result, facts)
        # Only a record makes a run that nobody has to repeat.
        remove_checkpoints(folder)
    wait_for_all(f"run {folder.name}")
    if not is_first():
        record = make_record(data, folder, split, identity, result, facts)
    clear_memory()
    return record


def inner_folds(data):
    """Numbers of the folds that training and choosing may use: all but the holdout."""
    return list(range(HOLDOUT + 1, data.profile.num_folds))


def holdout_name(data):
    """How records name the holdout."""
    names = {4: "held-out quarter", 5: "held-out fifth", 6: "held-out sixth"}
    return names.get(data.profile.num_folds, f"held-out fold of {data.profile.num_folds}")


def exclusive_groups(data, rows):
    """Groups of classes that exclude each other in some rows; none where the profile says so."""
    if not data.profile.exclusive:
        return []
    return find_exclusive_groups(data.collection.train.take(rows), data.collection.class_names)


def rest_of(data, splits=("holdout", "test")):
    """Split of `splits` to (table, ids), for what exists here; the test pictures first."""
    rest = {}
    if "test" in splits and data.test_pictures is not None:
        rest["test"] = ("test", data.test_pictures.ids)
    if "holdout" in splits:
        rest["holdout"] = ("train", data.collection.train.ids[data.rows_of_folds(HOLDOUT)])
    return rest


def _train_network(data, train_rows, val_rows, folder, wanted, exclusive, budget, seed, verbose):
    profile = data.profile
    how = {"exclusive": exclusive, "budget": budget, "seed": seed, "verbose": verbose}
    within = nullcontext if budget is None else budget.predicting
    trained = train_network(profile, data, train_rows, val_rows, folder, **how)
    scores = {"val": trained.val_scores}
    for name, (split, ids) in wanted.items():
        if name == "val":
            continue
        pictures = data.train_pictures if split == "train" else data.test_pictures
        try:
            scores[name] = predict_scores(
                trained.model,
                pictures,
                ids,
                preprocessing_of(profile),
                data.collection.class_names,
                mirror_view=profile.mirror_view,
                exclusive=exclusive,
                within=within,
            )
        except TimeUpError:
            break
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
    if budget is not None:
        facts["time_budget"] = {**budget.to_dict(), "stopped_in_time": trained.stopped_in_time}
        if trained.stopped_in_time and budget.later:
            facts["goes_on"] = True
    return scores, facts


def train_closed_form(data, train_rows, folder, method, wanted, exclusive, seed):
    """Fit and save a head in closed form; its `Scores` by split of `wanted`, facts of the record.

    Args:
        data, folder, method, seed: see `train_fold`.
        train_rows: `(n,)` int rows of the training table.
        wanted: dict of split to (table, ids), see `rest_of`.
        exclusive: see `imetlib.training.predict.predict_scores`.
    """
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
