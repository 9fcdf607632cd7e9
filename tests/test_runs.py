"""Run folders: what is left out stays out, nothing is trained twice or written over."""

import dataclasses
import hashlib
import json
import os
import shutil

import keras
import numpy as np
import pytest
from sklearn.metrics import fbeta_score

from imetlib.decisions.thresholds import crossfit_threshold, decide, search_threshold
from imetlib.delivery.audit_run import audit_run
from imetlib.delivery.records import compare_records
from imetlib.scores import Scores, load_scores, mean_scores
from imetlib.training import fold_runs, runs
from imetlib.training.closed_form import fit_closed_form, score_closed_form
from imetlib.training.fit import split_halves
from imetlib.training.fold_runs import train_fold
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


def train_watched(data, folder, **arguments):
    """A run of validation fold 1 with the rows that training was given."""
    seen = []
    original = fold_runs.train_network

    def train_network(profile, data, train_rows, val_rows, *more, **settings):
        seen.append((train_rows, val_rows))
        return original(profile, data, train_rows, val_rows, *more, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_runs, "train_network", train_network)
        record = train_fold(data, folder, 1, **arguments)
    return Trained(folder, record, *seen[0])


class Watched:
    """A cache of pictures that notes which rows are read."""

    def __init__(self, pictures):
        self.pictures, self.read_rows = pictures, set()

    def __len__(self):
        return len(self.pictures)

    def __getattr__(self, name):
        return getattr(self.pictures, name)

    def read(self, row, buffer=None):
        self.read_rows.add(row)
        return self.pictures.read(row, buffer)


def assert_equal_files(folder, other):
    """What must repeat byte for byte; times and dates stand in other files."""
    names = {"metrics.json", "history.csv", "scores-val.npz", "scores-holdout.npz"}
    assert names <= {file.name for file in folder.iterdir()}
    for name in names:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def held_out(prepared, tmp_path_factory):
    """A small network: fold 1 for validation, fold 0 held out."""
    return train_watched(prepared, tmp_path_factory.mktemp("runs") / "network")


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
    assert not (held_out.folder / "scores-test.npz").exists()
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
    # What chose the epoch and the threshold stands beside it: the validation fold.
    selection = held_out.record["selection"]
    assert selection["split"] == "val fold 1"
    assert selection["num_samples"] == len(val.ids) == len(held_out.val_rows)
    halves = split_halves(prepared.collection, held_out.val_rows, 0)
    y_pred = crossfit_threshold(y_val, val.y_prob, halves).y_pred
    assert selection["score"] == pytest.approx(f2_samples(y_val, y_pred), abs=1e-9)
    assert selection["threshold"] == held_out.record["threshold"]


def test_the_record_says_how_the_figure_came_about(prepared, held_out):
    record = held_out.record
    assert record == json.loads((held_out.folder / "record.json").read_text())
    assert record["run"] == "network" and record["method"] == "network"
    assert record["split"] == "held-out fold of 3" and record["profile"] == "fast"
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
    assert record["identity"]["splits"] == ["holdout"] and record["identity"]["val_fold"] == 1
    assert str(held_out.folder.parent) not in json.dumps(record)
    assert len(compare_records([record])) == 1


def test_metrics_are_the_figures_of_the_record_without_times(held_out):
    text = (held_out.folder / "metrics.json").read_text()
    metrics, record = json.loads(text), held_out.record
    assert metrics == {name: record[name] for name in metrics}
    assert {"score", "interval", "threshold", "selection", "best_epoch"} <= set(metrics)
    for word in ("seconds", "created", "environment", "device"):
        assert word not in text


def test_a_record_holds_what_the_network_costs(prepared, held_out):
    record, num_classes = held_out.record, prepared.collection.num_classes
    # Eight 3x3 convolutions, maps from 16 x 16 to 2 x 2, and the logits.
    maps = ((3, 24, 256), (24, 48, 64), (48, 96, 16), (96, 192, 4))
    macs = sum(9 * (first * last + last * last) * places for first, last, places in maps)
    assert record["macs"] == macs + 2 * 192 * num_classes
    rates = record["pictures_per_second"]
    assert set(rates) == {"input", "training"} and min(rates.values()) > 0


def test_a_finished_run_is_not_trained_again(prepared, held_out, monkeypatch):
    monkeypatch.setattr(fold_runs, "train_network", refuse_to_train)
    assert train_fold(prepared, held_out.folder, 1) == held_out.record


@pytest.mark.parametrize(
    ("settings", "arguments", "named"),
    [
        ({"learning_rate": 0.5, "epochs": 9}, {}, r"\(.*epochs.*, .*learning_rate.*\)"),
        ({"small_epochs": 1}, {}, r"\(small_epochs\)"),
        ({}, {"seed": 1}, r"\(seed\)"),
        ({}, {"val_fold": 2}, r"\(val_fold\)"),
        ({}, {"splits": ()}, r"\(splits\)"),
        ({}, {"splits": ("holdout", "test")}, r"\(splits\)"),
    ],
)
def test_a_run_of_other_settings_is_not_written_over(
    prepared, held_out, monkeypatch, settings, arguments, named
):
    monkeypatch.setattr(fold_runs, "train_network", refuse_to_train)
    before = {file.name: file.read_bytes() for file in held_out.folder.iterdir()}
    data = with_settings(prepared, **settings)
    with pytest.raises(ValueError, match=named + ".*nothing was overwritten"):
        train_fold(data, held_out.folder, **{"val_fold": 1} | arguments)
    assert {file.name: file.read_bytes() for file in held_out.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_fold": 1, "method": "forest"}, "Known: network, ridge, kernel"),
        ({"val_fold": 1, "method": "ridge"}, "need pretrained weights"),
        ({"val_fold": 3}, r"must be one of 1, 2; fold 0 is the holdout\. Received: val_fold=3"),
        ({"val_fold": 0}, r"fold 0 is the holdout\. Received: val_fold=0"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    prepared, tmp_path, arguments, message
):
    with pytest.raises(ValueError, match=message):
        train_fold(prepared, tmp_path / "run", **arguments)
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


# Twice the same -------------------------------------------------------------------------------


def test_two_runs_of_one_seed_are_equal_byte_for_byte(prepared, held_out, tmp_path):
    train_fold(prepared, tmp_path / "network", 1)
    assert_equal_files(held_out.folder, tmp_path / "network")


def test_two_runs_with_everything_random_are_equal_byte_for_byte(prepared, tmp_path):
    """Growing pictures, dropout, erasing, the test set."""
    data = with_settings(
        prepared,
        image_shape=(64, 64, 3),
        epochs=2,
        small_epochs=1,
        small_scale=0.5,
        batch_size=25,
        dropout=0.3,
        erase=0.5,
    )
    records = [
        train_fold(data, tmp_path / place / "run", 2, splits=("holdout", "test"), seed=5)
        for place in ("first", "second")
    ]
    assert_equal_files(tmp_path / "first/run", tmp_path / "second/run")
    files = [
        (tmp_path / place / "run/scores-test.npz").read_bytes() for place in ("first", "second")
    ]
    assert files[0] == files[1]
    assert records[0]["macs"] == records[1]["macs"] > 0
    assert records[0]["image_shape"] == [64, 64, 3]


# Without the holdout --------------------------------------------------------------------------


def test_a_search_never_looks_at_the_holdout(prepared, held_out, tmp_path):
    pictures = Watched(prepared.train_pictures)
    data = dataclasses.replace(prepared, train_pictures=pictures)
    record = train_fold(data, tmp_path / "network", 1, splits=())
    inner = np.flatnonzero(prepared.folds != 0)
    assert pictures.read_rows == set(inner.tolist())
    assert not (tmp_path / "network/scores-holdout.npz").exists()
    assert record["split"] == "val fold 1" and "selection" not in record
    # The same network as with the holdout: the figures are those that chose there.
    for name in ("history.csv", "scores-val.npz"):
        ours, theirs = tmp_path / "network" / name, held_out.folder / name
        assert ours.read_bytes() == theirs.read_bytes()
    chosen = held_out.record["selection"]
    assert {name: record[name] for name in chosen if name != "split"} == {
        name: value for name, value in chosen.items() if name != "split"
    }
    assert record["score"] != held_out.record["score"]


# All folds ------------------------------------------------------------------------------------


def test_out_of_fold_scores_stand_in_the_order_of_the_table(blend):
    data, folder, _ = blend
    table = data.collection.train.ids
    for name in ("seed0", "."):
        scores = load_scores(folder / name / "scores-oof.npz")
        # Rows of the holdout never appear.
        assert scores.ids.tolist() == table[data.folds != 0].tolist()
        holdout = load_scores(folder / name / "scores-holdout.npz")
        assert holdout.ids.tolist() == table[data.folds == 0].tolist()
        test = load_scores(folder / name / "scores-test.npz")
        assert test.ids.tolist() == data.collection.test_ids.tolist()
    scores = load_scores(folder / "seed0/scores-oof.npz")
    inner = data.folds[data.folds != 0]
    for fold in (1, 2):
        own = load_scores(folder / f"seed0/fold{fold}/scores-val.npz")
        np.testing.assert_array_equal(scores.logits[inner == fold], own.logits)
    assert not (folder / "seed0/fold0").exists()


@pytest.mark.parametrize("split", ["holdout", "test"])
def test_the_rest_gets_the_mean_of_the_networks_of_all_folds(blend, split):
    _, folder, _ = blend
    name = f"scores-{split}.npz"
    members = [load_scores(folder / f"seed0/fold{fold}" / name) for fold in (1, 2)]
    whole = load_scores(folder / "seed0" / name)
    np.testing.assert_array_equal(whole.logits, mean_scores(members).logits)
    seeds = [load_scores(folder / f"seed{seed}" / name) for seed in (0, 1)]
    np.testing.assert_array_equal(load_scores(folder / name).logits, mean_scores(seeds).logits)


@pytest.mark.parametrize("name", ["seed0", "."])
def test_score_over_all_folds_is_that_of_the_holdout(blend, name):
    """Decided with the threshold of the out-of-fold rows, which hold no holdout row."""
    data, folder, _ = blend
    record = json.loads((folder / name / "record.json").read_text())
    scores = load_scores(folder / name / "scores-oof.npz")
    y_true = data.collection.train.dense(data.folds != 0)
    threshold = search_threshold(y_true, scores.y_prob).threshold
    assert record["threshold"] == pytest.approx(threshold)
    holdout = load_scores(folder / name / "scores-holdout.npz")
    y_held = data.collection.train.dense(data.folds == 0)
    y_pred = decide(holdout.y_prob, record["threshold"])
    assert record["score"] == pytest.approx(f2_samples(y_held, y_pred), abs=1e-9)
    micro = fbeta_score(y_held, y_pred, beta=2, average="micro", zero_division=0)
    assert record["micro_f2"] == pytest.approx(micro, abs=1e-9)
    assert record["split"] == "held-out fold of 3" and record["num_samples"] == len(y_held)


def test_selection_over_all_folds_takes_each_threshold_from_the_others(blend):
    data, folder, record = blend
    blended = load_scores(folder / "scores-oof.npz")
    members = [load_scores(folder / f"seed{seed}/scores-oof.npz") for seed in (0, 1)]
    np.testing.assert_allclose(
        blended.logits, (members[0].logits + members[1].logits) / 2, rtol=1e-5, atol=1e-6
    )
    inner = data.folds != 0
    y_true, folds = data.collection.train.dense(inner), data.folds[inner]
    y_pred = np.empty_like(y_true)
    for fold in (1, 2):
        others = folds != fold
        threshold = search_threshold(y_true[others], blended.y_prob[others]).threshold
        y_pred[~others] = decide(blended.y_prob[~others], threshold)
    selection = record["selection"]
    assert selection["score"] == pytest.approx(f2_samples(y_true, y_pred), abs=1e-9)
    assert selection["split"] == "out-of-fold" and record["members"] == ["seed0", "seed1"]
    assert selection["num_samples"] == len(y_true) == inner.sum()


def test_costs_of_several_runs_add_up(blend):
    _, folder, record = blend
    wholes = [json.loads((folder / f"seed{x}/record.json").read_text()) for x in (0, 1)]
    folds = [json.loads((folder / f"seed0/fold{x}/record.json").read_text()) for x in (1, 2)]
    for name in ("num_params", "trainable_params", "macs", "seconds"):
        assert 0 < wholes[0][name] == pytest.approx(sum(one[name] for one in folds))
        assert record[name] == pytest.approx(sum(one[name] for one in wholes))
    # Without a picture phase there is no rate of training, but one of the batches.
    assert folds[0]["pictures_per_second"]["input"] > 0
    assert folds[0]["pictures_per_second"]["training"] is None


def test_an_interrupted_run_goes_on_with_its_next_fold(blend, monkeypatch):
    data, folder, _ = blend
    monkeypatch.setattr(fold_runs, "train_network", refuse_to_train)
    before = load_scores(folder / "seed1/scores-oof.npz")
    record = runs.train_all_folds(data, folder / "seed1", seed=1)
    assert len(record["best_epochs"]) == 2
    after = load_scores(folder / "seed1/scores-oof.npz")
    np.testing.assert_array_equal(after.logits, before.logits)
    records = [folder / "seed1/record.json", folder / "seed1/fold2/record.json"]
    for path in records:
        path.rename(path.with_name("away.json"))
    with pytest.raises(AssertionError, match="trained again"):
        runs.train_all_folds(data, folder / "seed1", seed=1)
    for path in records:
        path.with_name("away.json").rename(path)


def test_a_loaded_blend_is_the_mean_of_folds_members_and_mirror_views(blend):
    data, folder, _ = blend
    run = load_run(folder)
    assert len(run.members) == 4
    scores = load_scores(folder / "scores-test.npz")
    paths = pictures_of(data, "test", scores.ids[:9])
    np.testing.assert_allclose(run.predict(paths).logits, scores.logits[:9], atol=1e-4)


def test_members_of_other_folds_or_another_blend_are_refused(blend):
    data, folder, _ = blend
    shifted = dataclasses.replace(data, folds=(data.folds + 1) % 3)
    with pytest.raises(ValueError, match=r"seed0 .*other folds"):
        runs.blend_runs(shifted, folder, ["seed0", "seed1"])
    before = (folder / "scores-oof.npz").read_bytes()
    with pytest.raises(ValueError, match=r"members, member_identities\).*nothing was overwritten"):
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
    record = train_fold(data, tmp_path / "run", 1, method=method, splits=("holdout", "test"))
    assert record["method"] == method and record["penalty"] > 0
    assert record["macs"] > 5e6 and record["features_seconds"] > 0
    assert record["split"] == "held-out fold of 3"
    assert record["selection"]["split"] == "val fold 1"
    assert record["normalisation"] == "torch" and record["weights_sha256"].startswith("eff2015d")
    scores = load_scores(tmp_path / "run/scores-test.npz")
    paths = pictures_of(data, "test", scores.ids[:9])
    again = load_run(tmp_path / "run").predict(paths)
    # Features and landmarks are kept in half precision.
    np.testing.assert_allclose(again.logits, scores.logits[:9], atol=0.05)


# A network of the user's own ------------------------------------------------------------------


@pytest.fixture
def own_backbone(prepared, tmp_path):
    """Settings with a `.keras` file, and that file: one convolution, half the sides."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="first")(inputs)
    path = tmp_path / "elsewhere" / "own.keras"
    path.parent.mkdir()
    keras.Model(inputs, keras.layers.ReLU()(x), name="whatever").save(path)
    settings = {"backbone": str(path), "weights": "", "normalisation": "unit"}
    return with_settings(prepared, **settings, batch_size=25), path


@pytest.mark.parametrize("method", ["network", "ridge"])
def test_a_model_file_trains_and_is_kept_with_the_run(own_backbone, tmp_path, method):
    data, path = own_backbone
    record = train_fold(data, tmp_path / "run", 1, method=method, splits=("holdout", "test"))
    assert record["parameters"]["backbone"] == record["identity"]["settings"]["backbone"]
    assert record["parameters"]["backbone"] == "own.keras" and record["normalisation"] == "unit"
    text = (tmp_path / "run/record.json").read_text()
    assert str(tmp_path) not in text and "elsewhere" not in text
    assert record["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    num_classes = data.collection.num_classes
    assert record["macs"] >= 27 * 8 * 16 * 16 + 16 * num_classes
    if method == "network":
        assert record["num_params"] == 28 * 8 + 17 * num_classes == record["trainable_params"]
        assert record["pictures_per_second"]["training"] > 0
    scores = load_scores(tmp_path / "run/scores-test.npz")
    shutil.rmtree(path.parent)
    paths = pictures_of(data, "test", scores.ids[:9])
    again = load_run(tmp_path / "run").predict(paths)
    tolerance = 1e-4 if method == "network" else 0.05  # features are kept in half precision
    np.testing.assert_allclose(again.logits, scores.logits[:9], atol=tolerance)


@pytest.mark.parametrize("method", ["ridge", "kernel"])
def test_a_closed_form_head_over_all_folds_is_fitted_once_more(own_backbone, tmp_path, method):
    """On all rows but the holdout's; out-of-fold scores stay those of the folds' heads."""
    data, path = own_backbone
    record = runs.train_all_folds(data, tmp_path / "run", method=method)
    inner, held = np.flatnonzero(data.folds != 0), np.flatnonzero(data.folds == 0)
    head = fit_closed_form(method, data, inner)
    ids = data.collection.train.ids
    expected = score_closed_form(
        head, data, "train", ids[held], exclusive=record["exclusive_groups"]
    )
    holdout = load_scores(tmp_path / "run/scores-holdout.npz")
    np.testing.assert_allclose(holdout.logits, expected.logits, atol=1e-5)
    # One picture goes through one head.
    assert record["trainable_params"] == head.kernel.size + head.bias.size
    assert record["penalty"] == head.penalty
    own = load_scores(tmp_path / "run/fold2/scores-val.npz")
    whole = load_scores(tmp_path / "run/scores-oof.npz")
    np.testing.assert_array_equal(whole.take(own.ids).logits, own.logits)
    run = load_run(tmp_path / "run")
    assert [folder.name for folder, _ in run.members] == ["run"]
    shutil.copy(data.workspace / f"folds-{data.profile.num_folds}.csv", tmp_path)
    assert [
        one for one in audit_run(tmp_path / "run", data.collection) if one.severity == "error"
    ] == []
    shutil.rmtree(path.parent)
    test = load_scores(tmp_path / "run/scores-test.npz")
    again = run.predict(pictures_of(data, "test", test.ids[:9]))
    np.testing.assert_allclose(again.logits, test.logits[:9], atol=0.05)


def test_a_model_file_without_normalisation_is_refused(own_backbone, tmp_path):
    data = with_settings(own_backbone[0], normalisation="")
    for method in ("network", "ridge"):
        with pytest.raises(ValueError, match="give `normalisation`, one of tf, torch"):
            train_fold(data, tmp_path / "run", 1, method=method)
    assert not (tmp_path / "run" / "record.json").exists()
