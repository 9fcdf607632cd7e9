"""Run folders: one network or closed-form head per fold, their scores and records.

Fold 0 is the holdout of every run: nothing is fitted on it and nothing chosen by it. It is
scored once, by the finished run.
"""

from pathlib import Path

import numpy as np

from imetlib.delivery.records import read_record
from imetlib.scores import Scores, load_scores, mean_scores, save_scores
from imetlib.training.clock import TimeUpError
from imetlib.training.fold_runs import (
    exclusive_groups,
    holdout_name,
    inner_folds,
    rest_of,
    train_closed_form,
    train_fold,
)
from imetlib.training.metrics import crossfit_groups
from imetlib.training.predict import count_batches
from imetlib.training.run_files import identity_of, make_record, read_same_run, write_run
from imetlib.training.scoring import answer_unreadable, score_crossfitted, score_with_threshold


def train_all_folds(
    data, folder, *, method="network", session=None, on_network=None, seed=0, verbose=0
):
    """Leave out each fold but the holdout once: out-of-fold scores, and scores of the rest.

    The holdout and the test set get the mean of the networks of all folds; a closed-form head is
    fitted once more, on all folds but the holdout, since it needs no rows to stop at. (Within
    the inner folds of the watercolours that is worth .004 F2 over the mean of the folds' heads.)
    An interrupted run goes on in its unfinished fold.

    Args:
        data, method, seed, verbose: see `train_fold`.
        folder: run folder; fold k goes to `fold<k>` in it.
        session: `imetlib.training.session.Session`, or None for no limit of time; for networks.
        on_network: function called after each network, with out-of-fold `Scores`, those of the
            test pictures (of the first of them alone, where time was up) and the number of
            networks, if there are test pictures.

    Returns:
        the record of the whole, a dict: its score is that of the holdout, decided with the
        threshold of the out-of-fold scores; `selection` holds the out-of-fold figures, each
        fold decided with the threshold of the others. Where time was up before all networks were
        finished, it is of those that were ("folds") and stands in no file: the call repeated goes
        on.

    Raises:
        ValueError: a session for another method, or see `train_fold`.
        TimeUpError: time was up before the first network was finished.
    """
    folder = Path(folder)
    numbers = inner_folds(data)
    if session is not None and method != "network":
        raise ValueError(f"A limit of time is for networks. Received: method={method!r}")
    timed = {} if session is None else {"timed": True}
    identity = identity_of(data, method, seed, folds=numbers, **timed)
    if (folder / "record.json").is_file():
        return read_same_run(folder, identity)
    records = []
    for position, fold in enumerate(numbers, start=1):
        if verbose:
            print(f"{folder.name}: fold {position} of {len(numbers)}", flush=True)
        budget = None
        if session is not None:
            batches = sum(count_batches(len(ids)) for _, ids in rest_of(data).values())
            budget = session.budget(len(numbers) - position + 1, batches)
        try:
            record = train_fold(
                data,
                folder / f"fold{fold}",
                fold,
                method=method,
                splits=("holdout", "test") if method == "network" else ("holdout",),
                budget=budget,
                seed=seed,
                verbose=verbose,
            )
        except TimeUpError:
            if not records:
                raise
            break
        if record is not None:
            records.append(record)
        if on_network is not None and (record is not None or position == 1):
            _show_network(data, [folder / f"fold{fold}" for fold in numbers[:position]], on_network)
        if record is None or record.get("goes_on"):
            break
    if not records:
        raise TimeUpError(f"Time was up in the predictions of {folder / 'fold1'}: run it again")
    numbers = numbers[: len(records)]
    finished = len(records) == len(inner_folds(data)) and not records[-1].get("goes_on")
    folders = [folder / f"fold{fold}" for fold in numbers]
    out_of_fold = _out_of_fold(data, folders)
    if method == "network":
        facts = {name: records[0][name] for name in ("normalisation", "weights_sha256")}
        facts["best_epochs"] = [record["best_epoch"] for record in records]
        facts["diverged_at"] = [record.get("diverged_at") for record in records]
        facts |= _sums(records)
        if session is not None:
            facts["hours"] = session.hours
            facts["stopped_in_time"] = [
                record["time_budget"]["stopped_in_time"] for record in records
            ]
        if not finished:
            facts["folds"] = numbers
        scores = _mean_of(data, folders)
    else:
        rows = data.rows_of_folds(*numbers)
        exclusive = exclusive_groups(data, rows)
        wanted = rest_of(data)
        scores, facts = train_closed_form(data, rows, folder, method, wanted, exclusive, seed)
        scores = answer_unreadable(data, scores, rows)
        facts["exclusive_groups"] = exclusive
        facts["seconds"] += sum(record["seconds"] for record in records)
    scores = {"oof": out_of_fold, **scores}
    return _finish(data, folder, scores, identity, facts, numbers, finished=finished)


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
    return _finish(data, folder, scores, identity, facts, inner_folds(data))


def _out_of_fold(data, folders):
    """`Scores` of each validation fold by the network that left it out, in the table's order."""
    members = [load_scores(path / "scores-val.npz") for path in folders]
    ids = np.concatenate([member.ids for member in members])
    joined = Scores(
        ids, np.concatenate([member.logits for member in members]), data.collection.class_names
    )
    return joined.take(data.collection.train.ids[np.isin(data.collection.train.ids, ids)])


def _show_network(data, folders, on_network):
    """Tell what the networks so far say together."""
    if data.test_pictures is None or not (folders[-1] / "scores-test.npz").is_file():
        return
    tests = [load_scores(path / "scores-test.npz") for path in folders]
    on_network(_out_of_fold(data, folders), mean_scores(tests), len(folders))


def _mean_of(data, folders):
    return {
        split: mean_scores([load_scores(path / f"scores-{split}.npz") for path in folders])
        for split in rest_of(data)
    }


def _sums(records):
    """Costs of several networks that answer together."""
    kept = ("num_params", "trainable_params", "macs", "seconds")
    return {name: sum(record[name] for record in records) for name in kept}


def _finish(data, folder, scores, identity, facts, numbers, *, finished=True):
    """Scores of a run that has out-of-fold scores, of some folds, and its record."""
    for split, split_scores in scores.items():
        save_scores(folder / f"scores-{split}.npz", split_scores)
    # From the files: what they round is what anyone can compute again.
    out_of_fold, holdout = (load_scores(folder / f"scores-{x}.npz") for x in ("oof", "holdout"))
    rows = data.rows_of_folds(*numbers)
    groups = crossfit_groups(data, rows, identity["seed"])
    chosen = score_crossfitted(data.collection, out_of_fold, groups)
    facts = {**facts, "selection": {"split": "out-of-fold", **chosen}}
    result = score_with_threshold(data.collection, holdout, chosen["threshold"])
    write = write_run if finished else make_record
    return write(data, folder, holdout_name(data), identity, result, facts)
