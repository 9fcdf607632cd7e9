"""A run made again from its record: the same figures, or a refusal before any work."""

import hashlib
import json

import pytest

from imetlib.collection.prepared import with_settings
from imetlib.delivery.records import read_record
from imetlib.training import repeat, runs
from imetlib.training.members import Member, train_members
from imetlib.training.repeat import profile_of, repeat_command, repeat_run
from imetlib.training.run_files import metrics_of


@pytest.fixture(scope="module")
def single(prepared, tmp_path_factory):
    """A run of one fold, an epoch long, that scored validation fold and holdout."""
    folder = tmp_path_factory.mktemp("runs") / "repeat-single"
    data = with_settings(prepared, batch_size=60, dropout=0.2)
    runs.train_fold(data, folder, 2, seed=7)
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
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    return path


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_repeated(folder, new, names):
    for name in names:
        assert (folder / name).read_bytes() == (new / name).read_bytes(), name


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
    new = prepared.workspace / "repeated" / "repeat-single"
    assert again.record == read_record(new)
    assert again.record["created"] and again.record["seed"] == 7
    assert again.record["identity"] == read_record(single)["identity"]
    # Equal figures in files of their own: the run that was repeated is as it was.
    assert files_of(single) == before
    names = ["metrics.json", "history.csv", "scores-val.npz", "scores-holdout.npz"]
    assert_repeated(single, new, names)
    assert json.loads((new / "metrics.json").read_text()) == metrics_of(again.record)


def test_a_run_over_all_folds_repeats(prepared, blend):
    again = repeat_run(blend / "small_convnet-network/record.json", out=prepared.workspace.parent)
    assert again.changed == {} and again.record["selection"]["split"] == "out-of-fold"
    new = prepared.workspace / "repeated/small_convnet-network"
    names = ["metrics.json", "scores-oof.npz", "scores-holdout.npz", "scores-test.npz"]
    assert_repeated(blend / "small_convnet-network", new, names)
    assert sorted(path.name for path in new.glob("fold*")) == ["fold1", "fold2"]


def test_a_blend_repeats_with_its_members(prepared, blend):
    again = repeat_run(blend, out=prepared.workspace.parent)
    assert again.changed == {}
    members = ["small_convnet-network", "small_convnet-network-16x24"]
    assert again.record["members"] == members
    new = prepared.workspace / "repeated/repeat-blend"
    parts = ["metrics.json", "scores-oof.npz", "scores-holdout.npz", "scores-test.npz"]
    assert_repeated(blend, new, [*parts, *(f"{name}/{part}" for name in members for part in parts)])
    sizes = [read_record(new / name)["image_shape"] for name in members]
    assert sizes == [[32, 32, 3], [16, 24, 3]]


def test_a_figure_that_is_not_repeated_is_named(prepared, single, tmp_path):
    record = read_record(single)
    selection = record["selection"] | {"score": 0.75}
    path = altered(single, tmp_path, score=0.9, selection=selection, seconds=1e6)
    changed = repeat_run(path, out=prepared.workspace.parent).changed
    assert changed == {
        "score": (0.9, record["score"]),
        "selection": (selection, record["selection"]),
    }


def test_a_figure_that_is_missing_is_named(prepared, single, tmp_path):
    record = read_record(single)
    path = altered(single, tmp_path, penalty=30.0)
    changed = repeat_run(path, out=prepared.workspace.parent).changed
    assert changed == {"penalty": (30.0, None)} and "penalty" not in record


# Refused --------------------------------------------------------------------------------------


def test_another_collection_is_refused_before_training(prepared, single, tmp_path, no_training):
    path = altered(single, tmp_path, collection_sha256="0" * 64)
    with pytest.raises(ValueError, match=r"is not the collection that repeat-single was made on"):
        repeat_run(path, out=prepared.workspace.parent)


def test_other_weights_are_refused_before_any_work(single, tmp_path, no_training, monkeypatch):
    monkeypatch.setattr(repeat, "prepare_collection", refuse_to_train)
    identity = read_record(single)["identity"]
    path = altered(single, tmp_path, identity=identity | {"weights_sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"not the weights file that repeat-single started from"):
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


def test_other_folds_are_refused(prepared, single, tmp_path):
    path = altered(single, tmp_path, folds_sha256="0" * 64)
    with pytest.raises(ValueError, match=r"folds .* are not those of repeat-single"):
        repeat_run(path, out=prepared.workspace.parent)


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such record"):
        repeat_run(tmp_path)


# Settings and command -------------------------------------------------------------------------


def test_settings_of_a_record_are_a_profile_again(prepared, single):
    settings = read_record(single)["parameters"]
    assert profile_of(settings) == with_settings(prepared, batch_size=60, dropout=0.2).profile
    # A record of an earlier version lacks what came later.
    del settings["small_scale"]
    assert profile_of(settings).small_scale == prepared.profile.small_scale
    with pytest.raises(ValueError, match="Unknown settings: colour"):
        profile_of(settings | {"colour": "blue"})


def test_the_command_that_repeats_a_run(tmp_path):
    assert repeat_command("results/watercolours/record.json") == (
        "python -m imetlib repeat results/watercolours/record.json --collection DIR"
    )
