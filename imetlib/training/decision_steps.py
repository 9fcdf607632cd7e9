"""From one network with one threshold to the whole decision layer, step by step on the holdout."""

from pathlib import Path

import numpy as np

from imetlib.collection.folds import hash_folds
from imetlib.collection.prepared import prepare_collection
from imetlib.decisions.blend import search_blend
from imetlib.decisions.exclusive import share_in_groups
from imetlib.decisions.neighbours import nearest_neighbours
from imetlib.decisions.rules import GlobalThreshold
from imetlib.decisions.steps import Step
from imetlib.decisions.transfer_fit import fit_transfer
from imetlib.delivery.records import FILE_NAME, read_record
from imetlib.scores import Scores, load_scores, logits_of, mean_scores
from imetlib.training.closed_form import apply_head, load_head, mean_view
from imetlib.training.features import frozen_features
from imetlib.training.fit import preprocessing_of
from imetlib.training.fold_runs import HOLDOUT, inner_folds
from imetlib.training.kernel import signed_root
from imetlib.training.networks import load_classifier
from imetlib.training.predict import clear_memory, predict_views
from imetlib.training.run_files import profile_of
from imetlib.training.scoring import answer_unreadable

_NEIGHBOURS = 80


def find_fold_run(folder):
    """The run over all folds that steps are taken from: a run folder itself, or its best member.

    Args:
        folder: run folder of any kind.

    Returns:
        `pathlib.Path` of a run made by `train_all_folds`; of several members of a blend the one
        with the best out-of-fold score. None for a single network or head.
    """
    folder = Path(folder)
    members = read_record(folder).get("members", [])
    places = [folder, *(folder / name for name in members)]
    found = [place for place in places if any(place.glob(f"fold*/{FILE_NAME}"))]
    return max(found, key=lambda place: read_record(place)["selection"]["score"], default=None)


def prepare_run(folder, collection="", out=""):
    """The collection under the settings, folds and weights of a finished run.

    Args:
        folder: run folder.
        collection, out: see `imetlib.collection.prepared.locate_collection`.

    Returns:
        `PreparedCollection`.

    Raises:
        ValueError: other tables or folds than those of the run: its holdout would not be one.
        FileNotFoundError: no collection.
    """
    record = read_record(folder)
    data = prepare_collection(profile_of(record["parameters"], folder), collection, out)
    found = {
        "collection_sha256": data.collection.sha256,
        "folds_sha256": hash_folds(data.collection.train.ids, data.folds),
    }
    for key, what in (("collection_sha256", "tables"), ("folds_sha256", "folds")):
        if found[key] != record[key]:
            raise ValueError(
                f"{folder} was made on other {what} than {data.workspace} has: give the "
                "`collection` and `out` of the run"
            )
    return data


def decision_steps(data, folder, rule, *, neighbours=None):
    """Steps from a single network's plain view to the run over all folds and a chosen rule.

    Args:
        data: `PreparedCollection` with the settings of the run.
        folder: run folder made by `train_all_folds`.
        rule: unfitted rule of `imetlib.decisions.rules`, for the last step.
        neighbours: dict as from `neighbour_scores`, or None to leave that step out.

    Returns:
        list of `Step`s for `imetlib.decisions.steps.score_steps`: one network, one view and one
        threshold; the mirrored view and exclusive groups, where the run has them; all folds;
        neighbours; the rule.
        Thresholds of the first ones are fitted on the fold that their network left out, of the
        others on all folds, out of fold.
    """
    folder, threshold = Path(folder), GlobalThreshold()
    fold = inner_folds(data)[0]
    single = folder / f"fold{fold}"
    exclusive = read_record(single)["exclusive_groups"]
    rows = {"fit": data.rows_of_folds(fold), "held_out": data.rows_of_folds(HOLDOUT)}
    views = {name: _views_of(data, single, own) for name, own in rows.items()}
    ids = {name: data.collection.train.ids[own] for name, own in rows.items()}
    names = data.collection.class_names

    def single_scores(num_views, groups):
        return {
            name: Scores(
                ids[name],
                share_in_groups(np.mean(views[name][:num_views], axis=0), names, groups),
                names,
            )
            for name in rows
        }

    steps = [Step("one network, one view, one threshold", **single_scores(1, ()), rule=threshold)]
    both = len(views["fit"])
    if both > 1:
        steps.append(Step("mirrored view", **single_scores(both, ()), rule=threshold))
    if exclusive:
        steps.append(Step("exclusive groups", **single_scores(both, exclusive), rule=threshold))
    scores = {
        name: load_scores(folder / f"scores-{part}.npz")
        for name, part in (("fit", "oof"), ("held_out", "holdout"))
    }
    steps.append(Step("all folds", **scores, rule=threshold))
    if neighbours is not None:
        scores = blend_neighbours(data, scores["fit"], scores["held_out"], neighbours)[:2]
        steps.append(Step("neighbours", *scores, rule=threshold))
    last = steps[-1]
    steps.append(Step("calibration and rule", last.fit, last.held_out, rule))
    return steps


def neighbour_scores(data, *, k=_NEIGHBOURS):
    """What the nearest training pictures say, in the features of the frozen backbone.

    Signed roots of all pooled maps, standardised. A training picture finds its neighbours out of
    its fold, so that nothing of its specimen votes; the holdout and test pictures find them in
    all inner folds. How fast a vote fades is fitted on the inner folds.

    Args:
        data: `PreparedCollection` whose profile has a pretrained backbone.
        k: int >= 1, most neighbours that vote.

    Returns:
        dict "oof", "holdout" and, with test pictures, "test" to `Scores`; "similarities" to the
        `(num_held_out, k)` float32 cosines of the holdout; "fit" to the `TransferFit`.

    Raises:
        ValueError, FileNotFoundError: as `imetlib.training.features.frozen_features`.
    """
    inner = data.rows_of_folds(*inner_folds(data))
    labels = data.collection.train.take(inner)
    train = _embeddings(data, "train")
    mean, scale = train[inner].mean(axis=0), train[inner].std(axis=0) + 1e-3
    train = (train - mean) / scale
    near, cosines = nearest_neighbours(None, train[inner], k=k, groups=data.folds[inner])
    fit = fit_transfer(labels, near, cosines, labels)
    ids, held = data.collection.train.ids, data.rows_of_folds(HOLDOUT)
    found = {"oof": (ids[inner], near, cosines)}
    found["holdout"] = (ids[held], *nearest_neighbours(train[held], train[inner], k=k))
    if data.test_pictures is not None:
        test = (_embeddings(data, "test") - mean) / scale
        found["test"] = (data.test_pictures.ids, *nearest_neighbours(test, train[inner], k=k))
    scores = {
        part: Scores(own, logits_of(fit.apply(near, cosines, labels)), data.collection.class_names)
        for part, (own, near, cosines) in found.items()
    }
    scores = answer_unreadable(data, scores, inner)
    return {**scores, "similarities": found["holdout"][2], "fit": fit}


def blend_neighbours(data, out_of_fold, others, neighbours, part="holdout"):
    """Scores of a run and of its neighbours, with the weight that helps out of fold.

    Args:
        data: `PreparedCollection`.
        out_of_fold: `Scores` of the run, inner folds.
        others: `Scores` of the run, of the pictures of `part`.
        neighbours: dict as from `neighbour_scores`.
        part: "holdout" or "test".

    Returns:
        (out-of-fold `Scores`, `Scores` of `part`, weight of the neighbours). The weight is 0 where
        no weight beats the run alone on folds that it was not chosen on.
    """
    rows = data.collection.train.rows_of(out_of_fold.ids)
    near = neighbours["oof"].take(out_of_fold.ids)
    found = search_blend(data.collection.train.take(rows), [out_of_fold, near], data.folds[rows])
    weights = found.over_first
    return (
        mean_scores([out_of_fold, near], weights=weights),
        mean_scores([others, neighbours[part].take(others.ids)], weights=weights),
        weights[1],
    )


def _views_of(data, folder, rows):
    """Logits of training pictures from a single network: plain and, if it has it, mirrored."""
    record = read_record(folder)
    profile = profile_of(record["parameters"], folder)
    if record["method"] != "network":
        head = load_head(folder, record["method"])
        views = frozen_features(data, "train")
        return [apply_head(head, view[rows].astype(np.float32)) for view in views]
    model = load_classifier(
        folder, profile, data.collection.num_classes, normalisation=record["normalisation"]
    )
    views = predict_views(
        model,
        data.train_pictures,
        rows,
        preprocessing_of(profile),
        mirror_view=profile.mirror_view,
    )
    clear_memory()
    return views


def _embeddings(data, split):
    return signed_root(mean_view(frozen_features(data, split), slice(None)))
