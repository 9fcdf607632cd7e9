"""Run folders: what is left out stays out, nothing is trained twice or written over."""

import dataclasses
import json
import os

import numpy as np
import pytest
from sklearn.metrics import fbeta_score

from imetlib.decisions.thresholds import crossfit_threshold, decide, search_threshold
from imetlib.delivery.records import compare_records
from imetlib.scores import Scores, load_scores, mean_scores
from imetlib.training import runs
from imetlib.training.fit import split_halves
from imetlib.training.load import load_run

needs_weights = pytest.mark.skipif(
    "IMETLIB_WEIGHTS" not in os.environ, reason="IMETLIB_WEIGHTS is not set"
)


def f2_samples(y_true, y_pred):
    return fbeta_score(y_true, y_pred, beta=2, average="samples", zero_division=0)


def with_settings(data, **settings):
    return dataclasses.replace(data, profile=dataclasses.replace(data.profile, **settings))


def refuse_to_train(*arguments, **settings):
    raise AssertionError("trained again")


def pictures_of(data, split, ids):
    return [data.collection.picture_path(split, name) for name in ids]


@dataclasses.dataclass(frozen=True)
class Trained:
    folder: object
    record: dict
    train_rows: np.ndarray
    val_rows: np.ndarray


@pytest.fixture(scope="module")
def held_out(prepared, tmp_path_factory):
    """A small network: fold 1 for validation, fold 0 held out."""
    folder = tmp_path_factory.mktemp("runs") / "network"
    seen = []
    original = runs.train_network

    def train_network(profile, data, train_rows, val_rows, *arguments, **settings):
        seen.append((train_rows, val_rows))
        return original(profile, data, train_rows, val_rows, *arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "train_network", train_network)
        record = runs.train_fold(prepared, folder, 1, holdout_fold=0)
    return Trained(folder, record, *seen[0])


@pytest.fixture(scope="module")
def blend(prepared, tmp_path_factory):
    """Two runs over all folds, of two seeds, untrained but for the bias, and their mean."""
    folder = tmp_path_factory.mktemp("runs") / "blend"
    data = with_settings(prepared, epochs=0, mirror_view=True)
    for seed in (0, 1):
        runs.train_all_folds(data, folder / f"seed{seed}", seed=seed)
    record = runs.blend_runs(data, folder, ["seed0", "seed1"])
    return data, folder, record


# One fold -------------------------------------------------------------------------------------


def test_what_is_held_out_is_never_trained_on(prepared, held_out):
    assert set(prepared.folds[held_out.train_rows]) == {2}
    assert set(prepared.folds[held_out.val_rows]) == {1}
    specimens = prepared.collection.specimens
    left_out = np.setdiff1d(np.arange(len(specimens)), held_out.train_rows)
    assert not np.isin(specimens[left_out], specimens[held_out.train_rows]).any()
    ids = load_scores(held_out.folder / "scores-holdout.npz").ids
    assert ids.tolist() == prepared.collection.train.ids[prepared.folds == 0].tolist()


def test_score_is_that_of_the_holdout_with_the_threshold_of_the_validation_fold(prepared, held_out):
    val, holdout = (load_scores(held_out.folder / f"scores-{x}.npz") for x in ("val", "holdout"))
    y_val = prepared.collection.train.dense(prepared.folds == 1)
    threshold = search_threshold(y_val, val.y_prob).threshold
    assert held_out.record["threshold"] == pytest.approx(threshold)
    y_true = prepared.collection.train.dense(prepared.folds == 0)
    y_pred = decide(holdout.y_prob, threshold)
    assert held_out.record["score"] == pytest.approx(f2_samples(y_true, y_pred), abs=1e-9)
    micro = fbeta_score(y_true, y_pred, beta=2, average="micro", zero_division=0)
    assert held_out.record["micro_f2"] == pytest.approx(micro, abs=1e-9)
    low, high = held_out.record["interval"]
    assert low < held_out.record["score"] < high
    assert held_out.record["num_samples"] == len(holdout.ids)


def test_the_record_says_how_the_figure_came_about(prepared, held_out):
    record = held_out.record
    assert record == json.loads((held_out.folder / "record.json").read_text())
    assert record["run"] == "network" and record["method"] == "network"
    assert record["split"] == "held-out fold 0" and record["profile"] == "fast"
    assert record["parameters"] == prepared.profile.to_dict()
    assert record["collection_sha256"] == prepared.collection.sha256
    assert len(record["folds_sha256"]) == 64
    num_classes = prepared.collection.num_classes
    assert record["num_params"] == 661_896 + (384 + 1) * num_classes
    assert 0 < record["trainable_params"] < record["num_params"]
    assert record["best_epoch"] in (0, 1) and record["seconds"] > 0
    assert record["normalisation"] == "unit" and record["weights_sha256"] is None
    assert record["device_details"]["threads"] >= 1
    assert {"keras", "numpy"} <= set(record["environment"]["versions"])
    assert str(held_out.folder.parent) not in json.dumps(record)
    assert len(compare_records([record])) == 1


def test_a_finished_run_is_not_trained_again(prepared, held_out, monkeypatch):
    monkeypatch.setattr(runs, "train_network", refuse_to_train)
    assert runs.train_fold(prepared, held_out.folder, 1, holdout_fold=0) == held_out.record


@pytest.mark.parametrize(
    ("settings", "arguments", "named"),
    [
        ({"learning_rate": 0.5, "epochs": 9}, {}, r"\(.*epochs.*, .*learning_rate.*\)"),
        ({}, {"seed": 1}, r"\(seed\)"),
        ({}, {"holdout_fold": 2}, r"\(holdout_fold\)"),
        ({}, {"holdout_fold": None}, r"\(holdout_fold\)"),
    ],
)
def test_a_run_of_other_settings_is_not_written_over(
    prepared, held_out, monkeypatch, settings, arguments, named
):
    monkeypatch.setattr(runs, "train_network", refuse_to_train)
    before = {file.name: file.read_bytes() for file in held_out.folder.iterdir()}
    data = with_settings(prepared, **settings)
    with pytest.raises(ValueError, match=named + ".*nothing was overwritten"):
        runs.train_fold(data, held_out.folder, 1, **{"holdout_fold": 0} | arguments)
    assert {file.name: file.read_bytes() for file in held_out.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_fold": 0, "method": "forest"}, "Known: network, ridge, kernel"),
        ({"val_fold": 0, "method": "ridge"}, "need pretrained weights"),
        ({"val_fold": 3}, r"folds are 0, 1, 2\. Received: val_fold=3"),
        ({"val_fold": 1, "holdout_fold": 1}, "val_fold=1, holdout_fold=1"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    prepared, tmp_path, arguments, message
):
    with pytest.raises(ValueError, match=message):
        runs.train_fold(prepared, tmp_path / "run", **arguments)
    assert not (tmp_path / "run" / "record.json").exists()


def test_a_loaded_run_predicts_what_it_predicted(prepared, held_out):
    scores = load_scores(held_out.folder / "scores-holdout.npz")
    run = load_run(held_out.folder)
    assert run.class_names == prepared.collection.class_names
    assert run.threshold == held_out.record["threshold"]
    paths = pictures_of(prepared, "train", scores.ids)
    again = run.predict(paths, ids=scores.ids)
    np.testing.assert_allclose(again.logits, scores.logits, atol=1e-4)
    assert again.ids.tolist() == scores.ids.tolist()
    with pytest.raises(ValueError, match="at least one picture"):
        run.predict([])
    with pytest.raises(ValueError, match=r"no-such\.png"):
        run.predict([paths[0], "no-such.png"])
    with pytest.raises(ValueError, match="no such record"):
        load_run(held_out.folder / "deeper")


# All folds ------------------------------------------------------------------------------------


def test_out_of_fold_scores_stand_in_the_order_of_the_table(blend):
    data, folder, _ = blend
    scores = load_scores(folder / "seed0/scores-oof.npz")
    assert scores.ids.tolist() == data.collection.train.ids.tolist()
    for fold in range(3):
        own = load_scores(folder / f"seed0/fold{fold}/scores-val.npz")
        np.testing.assert_array_equal(scores.logits[data.folds == fold], own.logits)
    test = load_scores(folder / "seed0/scores-test.npz")
    assert test.ids.tolist() == data.collection.test_ids.tolist()
    members = [load_scores(folder / f"seed0/fold{fold}/scores-test.npz") for fold in range(3)]
    np.testing.assert_array_equal(test.logits, mean_scores(members).logits)


def test_score_over_all_folds_takes_each_threshold_from_the_others(blend):
    data, folder, record = blend
    blended = load_scores(folder / "scores-oof.npz")
    members = [load_scores(folder / f"seed{seed}/scores-oof.npz") for seed in (0, 1)]
    np.testing.assert_allclose(
        blended.logits, (members[0].logits + members[1].logits) / 2, rtol=1e-5, atol=1e-6
    )
    y_true = data.collection.train.dense()
    y_pred = np.empty_like(y_true)
    for fold in range(3):
        others = data.folds != fold
        threshold = search_threshold(y_true[others], blended.y_prob[others]).threshold
        y_pred[~others] = decide(blended.y_prob[~others], threshold)
    assert record["score"] == pytest.approx(f2_samples(y_true, y_pred), abs=1e-9)
    assert record["split"] == "out-of-fold" and record["members"] == ["seed0", "seed1"]
    assert record["num_samples"] == len(y_true)


def test_an_interrupted_run_goes_on_with_its_next_fold(blend, monkeypatch):
    data, folder, _ = blend
    monkeypatch.setattr(runs, "train_network", refuse_to_train)
    before = load_scores(folder / "seed1/scores-oof.npz")
    record = runs.train_all_folds(data, folder / "seed1", seed=1)
    assert len(record["best_epochs"]) == 3
    after = load_scores(folder / "seed1/scores-oof.npz")
    np.testing.assert_array_equal(after.logits, before.logits)
    (folder / "seed1/fold2/record.json").rename(folder / "seed1/fold2/away.json")
    with pytest.raises(AssertionError, match="trained again"):
        runs.train_all_folds(data, folder / "seed1", seed=1)
    (folder / "seed1/fold2/away.json").rename(folder / "seed1/fold2/record.json")


def test_a_loaded_blend_is_the_mean_of_folds_members_and_mirror_views(blend):
    data, folder, _ = blend
    run = load_run(folder)
    assert len(run.members) == 6
    scores = load_scores(folder / "scores-test.npz")
    paths = pictures_of(data, "test", scores.ids[:9])
    np.testing.assert_allclose(run.predict(paths).logits, scores.logits[:9], atol=1e-4)


def test_members_of_other_folds_or_another_blend_are_refused(blend):
    data, folder, _ = blend
    shifted = dataclasses.replace(data, folds=(data.folds + 1) % 3)
    with pytest.raises(ValueError, match=r"seed0 .*other folds"):
        runs.blend_runs(shifted, folder, ["seed0", "seed1"])
    before = (folder / "scores-oof.npz").read_bytes()
    with pytest.raises(ValueError, match=r"members.*nothing was overwritten"):
        runs.blend_runs(data, folder, ["seed0"])
    assert (folder / "scores-oof.npz").read_bytes() == before


# Figures --------------------------------------------------------------------------------------


def test_figures_agree_with_scikit_learn(prepared):
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(prepared.folds))[:80]
    y_true = prepared.collection.train.dense(rows)
    logits = rng.normal(size=y_true.shape) + 3.0 * y_true - 3.0
    scores = Scores(
        prepared.collection.train.ids[rows],
        logits.astype(np.float32),
        prepared.collection.class_names,
    )
    halves = split_halves(prepared.collection, rows, 0)
    figures = runs.score_crossfitted(prepared.collection, scores, halves)
    y_pred = crossfit_threshold(y_true, scores.y_prob, halves).y_pred
    assert figures["score"] == pytest.approx(f2_samples(y_true, y_pred), abs=1e-9)
    fixed = runs.score_with_threshold(prepared.collection, scores, 0.4)
    assert fixed["score"] == pytest.approx(f2_samples(y_true, decide(scores.y_prob, 0.4)), abs=1e-9)
    assert fixed["threshold"] == 0.4
    order = np.lexsort((np.arange(y_true.shape[1]), -y_true.sum(axis=0)))
    constants = []
    for count in range(1, 30):
        answer = np.zeros_like(y_true)
        answer[:, order[:count]] = True
        constants.append(f2_samples(y_true, answer))
    assert fixed["constant_score"] == pytest.approx(max(constants), abs=1e-9)


# Closed form ----------------------------------------------------------------------------------


@needs_weights
@pytest.mark.parametrize("method", ["ridge", "kernel"])
def test_closed_form_runs_load_and_predict_the_same(prepared, tmp_path, method):
    data = with_settings(prepared, backbone="mobilenet_v2", weights="imagenet")
    record = runs.train_fold(data, tmp_path / "run", 1, method=method)
    assert record["method"] == method and record["penalty"] > 0
    assert record["normalisation"] == "torch" and record["weights_sha256"].startswith("eff2015d")
    scores = load_scores(tmp_path / "run/scores-test.npz")
    paths = pictures_of(data, "test", scores.ids[:9])
    again = load_run(tmp_path / "run").predict(paths)
    # Features and landmarks are kept in half precision.
    np.testing.assert_allclose(again.logits, scores.logits[:9], atol=0.05)
