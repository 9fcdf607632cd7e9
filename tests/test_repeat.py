"""A run made again from its record: the same figures, or a refusal before any work."""

import dataclasses
import hashlib
import json
import shutil

import keras
import numpy as np
import pytest

from imetlib import profiles
from imetlib.collection.prepared import with_settings
from imetlib.delivery.records import read_record
from imetlib.models.backbones import build_backbone
from imetlib.profiles import LATER_SETTINGS, get_profile
from imetlib.scores import load_scores
from imetlib.training import repeat
from imetlib.training.fold_runs import train_fold
from imetlib.training.load import load_run
from imetlib.training.members import Member, train_members
from imetlib.training.repeat import repeat_run
from imetlib.training.run_files import metrics_of, profile_of, read_same_run


@pytest.fixture(scope="module")
def single(prepared, tmp_path_factory):
    """A run of one fold, an epoch long, with dropout and a running mean of the weights."""
    folder = tmp_path_factory.mktemp("runs") / "repeat-single"
    data = with_settings(prepared, batch_size=60, dropout=0.2, ema=0.5)
    train_fold(data, folder, 2, seed=7)
    return folder


@pytest.fixture(scope="module")
def blend(prepared, tmp_path_factory):
    """Two members, one of them of another size, over all folds; untrained but for the bias."""
    folder = tmp_path_factory.mktemp("runs") / "repeat-blend"
    data = with_settings(prepared, epochs=0)
    members = [Member("small_convnet", "network"), Member("small_convnet", "network", "16x24")]
    train_members(data, members, folder, seed=3)
    return folder


def altered(folder, tmp_path, **changes):
    """The record of a run with other entries, in a folder of its own."""
    record = json.loads((folder / "record.json").read_text()) | changes
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    return path


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_repeated(folder, new, names):
    for name in names:
        assert (folder / name).read_bytes() == (new / name).read_bytes(), name


def newest(prepared, name):
    """Folder of the last repetition of a run."""
    folders = (prepared.workspace / "repeated").glob(f"{name}-[0-9]*")
    numbers = sorted(int(folder.name.removeprefix(f"{name}-")) for folder in folders)
    assert numbers == list(range(1, len(numbers) + 1))
    return prepared.workspace / "repeated" / f"{name}-{numbers[-1]}" / name


def refuse_to_train(*arguments, **settings):
    raise AssertionError("trained")


@pytest.fixture
def no_training(monkeypatch):
    for name in ("train_fold", "train_all_folds", "blend_runs"):
        monkeypatch.setattr(repeat, name, refuse_to_train)


# The same again -------------------------------------------------------------------------------


def test_a_single_run_repeats(prepared, single):
    before, out = files_of(single), prepared.workspace.parent
    again = repeat_run(single, out=out)
    assert again.changed == {}
    new = newest(prepared, "repeat-single")
    assert again.record == read_record(new)
    assert again.record["created"] and again.record["seed"] == 7
    assert again.record["identity"] == read_record(single)["identity"]
    # Equal figures in files of their own: the run that was repeated is as it was.
    assert files_of(single) == before
    names = ["metrics.json", "history.csv", "scores-val.npz", "scores-holdout.npz"]
    assert_repeated(single, new, names)
    assert json.loads((new / "metrics.json").read_text()) == metrics_of(again.record)


def test_a_second_repetition_trains_again(prepared, single, monkeypatch):
    trained = []

    def train_fold(data, folder, *arguments, **settings):
        trained.append(folder)
        assert not folder.exists(), "a finished run would be read back"
        return read_record(single)

    monkeypatch.setattr(repeat, "train_fold", train_fold)
    for _ in range(2):
        assert repeat_run(single, out=prepared.workspace.parent).changed == {}
        trained[-1].mkdir(parents=True)
    assert len({*trained}) == 2 and {path.name for path in trained} == {"repeat-single"}
    assert trained[-1] == newest(prepared, "repeat-single")
    for folder in trained:
        shutil.rmtree(folder.parent)


def test_a_run_over_all_folds_repeats(prepared, blend):
    again = repeat_run(blend / "small_convnet-network/record.json", out=prepared.workspace.parent)
    assert again.changed == {} and again.record["selection"]["split"] == "out-of-fold"
    new = newest(prepared, "small_convnet-network")
    names = ["metrics.json", "scores-oof.npz", "scores-holdout.npz", "scores-test.npz"]
    assert_repeated(blend / "small_convnet-network", new, names)
    assert sorted(path.name for path in new.glob("fold*")) == ["fold1", "fold2"]


def test_a_blend_repeats_with_its_members(prepared, blend):
    again = repeat_run(blend, out=prepared.workspace.parent)
    assert again.changed == {}
    members = ["small_convnet-network", "small_convnet-network-16x24"]
    assert again.record["members"] == members
    new = newest(prepared, "repeat-blend")
    parts = ["metrics.json", "scores-oof.npz", "scores-holdout.npz", "scores-test.npz"]
    assert_repeated(blend, new, [*parts, *(f"{name}/{part}" for name in members for part in parts)])
    sizes = [read_record(new / name)["image_shape"] for name in members]
    assert sizes == [[32, 32, 3], [16, 24, 3]]


def test_figures_that_differ_or_are_missing_are_named(prepared, single, tmp_path, monkeypatch):
    record = read_record(single)
    monkeypatch.setattr(repeat, "train_fold", lambda *arguments, **settings: record)
    selection = record["selection"] | {"score": 0.75}
    path = altered(
        single, tmp_path, score=0.9, selection=selection, penalty=30.0, seconds=1e6, device="none"
    )
    assert repeat_run(path, out=prepared.workspace.parent).changed == {
        "penalty": (30.0, None),
        "score": (0.9, record["score"]),
        "selection": (selection, record["selection"]),
    }


# Refused --------------------------------------------------------------------------------------


def test_another_collection_is_refused_before_training(prepared, single, tmp_path, no_training):
    path = altered(single, tmp_path, collection_sha256="0" * 64)
    with pytest.raises(ValueError, match=r"is not the collection that repeat-single was made on"):
        repeat_run(path, out=prepared.workspace.parent)


def test_other_weights_are_refused_before_any_work(single, tmp_path, no_training, monkeypatch):
    monkeypatch.setattr(repeat, "prepare_collection", refuse_to_train)
    identity = read_record(single)["identity"]
    path = altered(single, tmp_path, identity=identity | {"weights_sha256": "0" * 64})
    message = (
        r"^small_convnet is not the file that repeat-single started from \(SHA-256 0{64}\): give "
        "that one by IMETLIB_WEIGHTS$"
    )
    with pytest.raises(ValueError, match=message):
        repeat_run(path, out=tmp_path)


def test_a_weights_file_that_has_changed_is_refused(single, tmp_path, no_training, monkeypatch):
    """The same name, other bytes: also for a member of a blend."""
    monkeypatch.setattr(repeat, "prepare_collection", refuse_to_train)
    monkeypatch.setenv("IMETLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    file = tmp_path / "mobilenet_v2_imagenet_notop.weights.h5"
    file.write_bytes(b"one")
    identity = read_record(single)["identity"]
    settings = identity["settings"] | {"backbone": "mobilenet_v2", "weights": "imagenet"}
    wanted = hashlib.sha256(b"one").hexdigest()
    identity |= {"settings": settings, "weights_sha256": wanted}
    for entries in (identity, identity | {"member_identities": [identity]}):
        path = altered(single, tmp_path, identity=entries)
        file.write_bytes(b"one")
        with pytest.raises(AssertionError, match="trained"):  # the weights are as they were
            repeat_run(path, out=tmp_path)
        file.write_bytes(b"two")
        with pytest.raises(ValueError, match=f"SHA-256 {wanted}.*IMETLIB_WEIGHTS"):
            repeat_run(path, out=tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="No ImageNet weights of mobilenet_v2"):
        repeat_run(path, out=tmp_path)


def test_other_folds_are_refused_before_training(prepared, single, tmp_path, no_training):
    path = altered(single, tmp_path, folds_sha256="0" * 64)
    with pytest.raises(ValueError, match=r"folds .* are not those of repeat-single"):
        repeat_run(path, out=prepared.workspace.parent)


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such record"):
        repeat_run(tmp_path)


# Files of the user's own ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_weights(prepared, tmp_path_factory):
    """A ridge run on weights that a path names; the file stands above the run, by its name."""
    runs_folder = tmp_path_factory.mktemp("runs")
    keras.utils.set_random_seed(5)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "museum.weights.h5"
    build_backbone("small_convnet", (32, 32, 3)).save_weights(elsewhere)
    data = with_settings(prepared, weights=str(elsewhere))
    folder = runs_folder / "comparison" / "own-weights"
    record = train_fold(data, folder, 1, method="ridge", splits=("holdout", "test"))
    assert record["parameters"]["weights"] == "museum.weights.h5"
    assert str(elsewhere.parent) not in (folder / "record.json").read_text()
    shutil.move(elsewhere, runs_folder)
    return folder


@pytest.fixture
def no_weights_elsewhere(monkeypatch, tmp_path):
    for name in ("IMETLIB_WEIGHTS", "KERAS_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


def test_a_run_on_a_weights_file_predicts_and_repeats(prepared, own_weights, no_weights_elsewhere):
    scores = load_scores(own_weights / "scores-test.npz")
    paths = [prepared.collection.picture_path("test", name) for name in scores.ids[:9]]
    again = load_run(own_weights).predict(paths)
    # Features are kept in half precision.
    np.testing.assert_allclose(again.logits, scores.logits[:9], atol=0.05)
    assert repeat_run(own_weights, out=prepared.workspace.parent).changed == {}
    new = newest(prepared, "own-weights")
    assert_repeated(own_weights, new, ["metrics.json", "scores-val.npz", "scores-holdout.npz"])


def test_another_file_of_the_same_name_is_refused(
    prepared, own_weights, tmp_path, no_training, no_weights_elsewhere
):
    path = altered(own_weights, tmp_path / "copy")
    with pytest.raises(FileNotFoundError, match=r"No weights file at museum\.weights\.h5"):
        repeat_run(path, out=prepared.workspace.parent)
    (tmp_path / "museum.weights.h5").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"museum\.weights\.h5 is not the file that own-weights"):
        repeat_run(path, out=prepared.workspace.parent)


def test_a_run_of_a_model_file_repeats(prepared, tmp_path, no_weights_elsewhere):
    """A frozen backbone of one convolution; the run folder holds the file."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "own.keras"
    keras.Model(inputs, x).save(path)
    settings = {"backbone": str(path), "normalisation": "unit"}
    train_fold(with_settings(prepared, **settings), tmp_path / "own-model", 1, method="ridge")
    shutil.rmtree(path.parent)
    again = repeat_run(tmp_path / "own-model", out=prepared.workspace.parent)
    assert again.changed == {} and again.record["parameters"]["backbone"] == "own.keras"
    assert (newest(prepared, "own-model") / "own.keras").is_file()
    (tmp_path / "own-model" / "own.keras").unlink()
    with pytest.raises(FileNotFoundError, match=r"own\.keras"):
        repeat_run(tmp_path / "own-model", out=prepared.workspace.parent)


# Settings -------------------------------------------------------------------------------------


def test_settings_of_a_record_are_a_profile_again(prepared, single):
    settings = read_record(single)["parameters"]
    expected = with_settings(prepared, batch_size=60, dropout=0.2, ema=0.5).profile
    assert profile_of(settings, single) == expected
    # A record of an earlier version lacks what came later.
    del settings["small_scale"], settings["exclusive"]
    assert profile_of(settings, single) == expected
    with pytest.raises(ValueError, match="Unknown settings: colour"):
        profile_of(settings | {"colour": "blue"}, single)


def test_a_setting_that_came_later_is_part_of_a_run_only_where_it_differs(single, tmp_path):
    identity = read_record(single)["identity"]
    assert not LATER_SETTINGS.keys() & identity["settings"].keys()
    assert read_same_run(single, identity) == read_record(single)
    other = identity | {"settings": identity["settings"] | {"head": "csra"}}
    with pytest.raises(ValueError, match=r"a run of other settings \(head\)"):
        read_same_run(single, other)
    path = altered(single, tmp_path, identity=other)
    with pytest.raises(ValueError, match=r"a run of other settings \(head\)"):
        read_same_run(path.parent, identity)


def test_an_old_record_keeps_the_value_of_its_days(single, monkeypatch):
    """Also where the profile of its name has another one by now."""
    fast = dataclasses.replace(get_profile("fast"), head="csra")
    monkeypatch.setitem(profiles._PROFILES, "fast", fast)
    assert get_profile("fast").head == "csra"
    assert profile_of(read_record(single)["parameters"], single).head == "mean_max"


@pytest.mark.parametrize("place", [".", "fold2", "..", "../.."])
def test_files_are_looked_for_in_the_run_its_folds_and_above(tmp_path, place, no_weights_elsewhere):
    folder = tmp_path / "museum" / "comparison" / "run"
    (folder / "fold2").mkdir(parents=True)
    plain = get_profile("fast", weights="my.weights.h5", backbone="my.keras")
    settings = json.loads(json.dumps(plain.to_dict()))
    assert profile_of(settings, folder) == plain, "what is not found keeps its name"
    files = [folder / place / name for name in ("my.weights.h5", "my.keras")]
    for file in files:
        file.touch()
    found = profile_of(settings, folder)
    assert found.weights == str(files[0].resolve()) and found.backbone == str(files[1].resolve())
    assert dataclasses.replace(found, weights=plain.weights, backbone=plain.backbone) == plain


def test_files_are_looked_for_where_weights_are(tmp_path, monkeypatch):
    monkeypatch.setenv("IMETLIB_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "my.weights.h5").touch()
    settings = get_profile("fast", weights="my.weights.h5").to_dict()
    found = profile_of(settings, tmp_path / "run")
    assert found.weights == str(tmp_path / "weights" / "my.weights.h5")
