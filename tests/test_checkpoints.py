"""Checkpoints: a run that was ended goes on bit for bit, and no damage is ever loaded."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from imetlib.scores import Scores
from imetlib.training import checkpoint_files
from imetlib.training.checkpoint_files import list_checkpoints, load_checkpoint, save_checkpoint
from imetlib.training.checkpoints import Checkpoints
from imetlib.training.fit import train_network
from imetlib.training.fold_runs import train_fold
from imetlib.training.metrics import EpochScores
from imetlib.training.optimizers import LearningRate, compile_model


class Interrupted(Exception):
    """The process was ended here."""


@pytest.fixture
def rows(prepared):
    """Few rows, so that a fit takes a second: 40 to learn from, 33 to score."""
    return prepared.rows_of_folds(0)[:40], prepared.rows_of_folds(1)[:33]


def interrupt(monkeypatch, epoch, batch):
    """Raise after a batch of an epoch, both counted from 0."""

    def on_train_batch_end(self, index, logs=None):
        if len(self.history) == epoch + 1 and index == batch:
            raise Interrupted

    monkeypatch.setattr(EpochScores, "on_train_batch_end", on_train_batch_end)


def messages_of(caught):
    """Texts of the warnings that are not Keras's own."""
    return [str(one.message) for one in caught if one.category is UserWarning]


def last_state(folder):
    return load_checkpoint(list_checkpoints(folder / "checkpoints")[0])


def assert_same_run(folder, other):
    """All variables, history, threshold, best scores and weights are equal bit for bit."""
    ours, theirs = last_state(folder), last_state(other)
    assert ours.epoch == theirs.epoch and ours.arrays.keys() == theirs.arrays.keys()
    for name, array in ours.arrays.items():
        assert array.dtype == theirs.arrays[name].dtype
        np.testing.assert_array_equal(array, theirs.arrays[name], err_msg=name)
    for state in (ours.state, theirs.state):
        state["parts"]["scores"].pop("timing")
    assert json.dumps(ours.state["parts"]) == json.dumps(theirs.state["parts"])
    assert (folder / "history.csv").read_bytes() == (other / "history.csv").read_bytes()


def assert_same_network(trained, other):
    for weight, wanted in zip(trained.model.weights, other.model.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (weight, wanted)))
    np.testing.assert_array_equal(trained.val_scores.logits, other.val_scores.logits)
    assert trained.val_scores.ids.tolist() == other.val_scores.ids.tolist()
    assert trained.best_epoch == other.best_epoch


# Runs that are ended --------------------------------------------------------------------------

# Averages and accumulation stand in the test after this one.
VARIANTS = {
    "dropout, sizes": {
        "dropout": 0.3,
        "mixup": 0.2,
        "image_shape": (64, 64, 3),
        "small_epochs": 1,
        "small_scale": 0.5,
    },
    "splc": {"loss": "splc"},
    # The channels are grouped before epoch 2.
    "multi": {"attention": "multi", "attention_stride": 8, "epochs": 3},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_ended_run_goes_on_bit_for_bit(variant, prepared, rows, tmp_path, monkeypatch):
    settings = {"epochs": 2, "batch_size": 20, **VARIANTS[variant]}
    profile = dataclasses.replace(prepared.profile, **settings)
    whole, again = tmp_path / "whole", tmp_path / "again"
    trained = train_network(profile, prepared, *rows, whole, seed=5)
    with monkeypatch.context() as patch:
        interrupt(patch, settings["epochs"] - 1, 0)
        with pytest.raises(Interrupted):
            train_network(profile, prepared, *rows, again, seed=5)
    assert last_state(again).epoch == settings["epochs"] - 1
    assert_same_network(train_network(profile, prepared, *rows, again, seed=5), trained)
    assert_same_run(again, whole)


def test_the_rest_is_the_same_from_every_state(prepared, rows, tmp_path, monkeypatch):
    """Averages, accumulation over the ends of epochs, dropout, mirror view: all of it restored."""
    monkeypatch.setattr(checkpoint_files, "KEPT", 99)
    profile = dataclasses.replace(
        prepared.profile, epochs=2, batch_size=10, ema=0.9, accumulation=3, dropout=0.2
    )
    whole = tmp_path / "whole"
    trained = train_network(profile, prepared, *rows, whole)
    saved = list_checkpoints(whole / "checkpoints")
    assert [path.name[-1] for path in saved] == ["2", "1", "0"]
    before = load_checkpoint(saved[0]).arrays
    for path in saved:
        again = tmp_path / path.name
        shutil.copytree(path, again / "checkpoints" / path.name)
        assert_same_network(train_network(profile, prepared, *rows, again), trained)
        assert_same_run(again, whole)
    # The states differ, or nothing was tested; so do the seeds, which `save_weights` leaves out and
    # which torch does not use in Dropout.
    names = [name for name, *_ in last_state(whole).state["variables"]["network"]]
    seeds = [number for number, name in enumerate(names) if name.endswith("seed_generator_state")]
    assert seeds
    seeds = [] if keras.backend.backend() == "torch" else seeds
    for path in saved[1:]:
        arrays = load_checkpoint(path).arrays
        for name in ("network/0000", *(f"network/{number:04d}" for number in seeds)):
            assert not np.array_equal(before[name], arrays[name])


def test_a_finished_run_keeps_no_checkpoints(prepared, tmp_path, monkeypatch):
    from imetlib.collection.prepared import with_settings

    data = with_settings(prepared, epochs=2)
    more = {"splits": (), "seed": 2}
    whole = train_fold(data, tmp_path / "whole", 1, **more)
    folder = tmp_path / "again"
    save = Checkpoints.save

    def end_in_the_second(self, epoch):
        if epoch == 2:
            raise Interrupted
        return save(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", end_in_the_second)
        with pytest.raises(Interrupted):
            train_fold(data, folder, 1, **more)
    assert not (folder / "record.json").exists()
    record = train_fold(data, folder, 1, **more)
    for run in (folder, tmp_path / "whole"):
        assert {path.name for path in run.iterdir()} == {
            "best.weights.h5",
            "history.csv",
            "metrics.json",
            "record.json",
            "scores-val.npz",
            "timing.csv",
        }
    for key in ("score", "threshold", "best_epoch", "log_loss"):
        assert record[key] == whole[key], key
    assert record["diverged_at"] is None and record["rate_halved"] is False
    # A run that was ended between its record and the removal.
    shutil.copytree(tmp_path / "whole", folder / "checkpoints" / "epoch-0002")
    assert train_fold(data, folder, 1, **more) == record
    assert not (folder / "checkpoints").exists()


def test_other_settings_do_not_go_on(prepared, rows, tmp_path):
    profile = dataclasses.replace(prepared.profile, batch_size=20)
    train_network(profile, prepared, *rows, tmp_path)
    changed = dataclasses.replace(profile, learning_rate=1e-4, weight_decay=0.5)
    with pytest.warns() as caught:
        trained = train_network(changed, prepared, *rows, tmp_path)
    messages = messages_of(caught)
    assert len(messages) == 3 and len(trained.history) == 2
    for message, epoch in zip(messages, (1, 0), strict=False):
        assert f"epoch-000{epoch} is not used, and kept as refused-epoch-000{epoch}-" in message
        assert message.endswith("it is of a run of other settings (learning_rate, weight_decay)")
    assert "None of 2 checkpoints" in messages[2] and "training starts again" in messages[2]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert [name[:18] for name in names] == [
        "epoch-0000",
        "epoch-0001",
        "refused-epoch-0000",
        "refused-epoch-0001",
    ]


# Numbers that are none ------------------------------------------------------------------------


def poison(monkeypatch, epoch, times=1):
    """NaN in the last layer's weights as an epoch begins, counted from 0."""
    left = [times]

    def on_epoch_begin(self, number, logs=None):
        begin(self, number, logs)
        if number == epoch and left[0]:
            left[0] -= 1
            logits = self.network.get_layer("logits")
            logits.set_weights([weight * np.nan for weight in logits.get_weights()])

    begin = EpochScores.on_epoch_begin
    monkeypatch.setattr(EpochScores, "on_epoch_begin", on_epoch_begin)


def test_what_diverged_is_not_saved_and_not_the_best(prepared, rows, tmp_path, monkeypatch):
    profile = dataclasses.replace(prepared.profile, epochs=4, batch_size=20)
    poison(monkeypatch, epoch=2)
    trained = train_network(profile, prepared, *rows, tmp_path)
    assert trained.diverged_at == 3 and not trained.rate_halved
    assert [row["epoch"] for row in trained.history] == [0, 1, 2, 3]
    assert math.isnan(trained.history[3]["loss"]) and math.isnan(trained.history[3]["val_f2"])
    assert trained.best_epoch <= 2 and np.isfinite(trained.val_scores.logits).all()
    assert [path.name[-1] for path in list_checkpoints(tmp_path / "checkpoints")] == ["2", "1"]
    assert all(np.isfinite(weight).all() for weight in trained.model.get_weights())


def test_half_the_rate_from_the_last_finite_epoch(prepared, rows, tmp_path, monkeypatch):
    profile = dataclasses.replace(
        prepared.profile, epochs=4, batch_size=20, divergence="halve", warmup_fraction=0.25
    )
    with monkeypatch.context() as patch:
        poison(patch, epoch=2)
        halved = train_network(profile, prepared, *rows, tmp_path / "halved")
    assert halved.diverged_at == 3 and halved.rate_halved and len(halved.history) == 5
    # Eight updates, two of them of the warm-up; epochs end after two.
    cosine = 0.01 + 0.99 * (1 + np.cos(np.pi * np.arange(0, 7, 2) / 6)) / 2
    np.testing.assert_allclose(
        [row["learning_rate"] for row in halved.history[1:]],
        profile.learning_rate * cosine * [1, 1, 0.5, 0.5],
        rtol=1e-5,
    )
    # Ended after it: the rate stays halved, and is not halved again.
    with monkeypatch.context() as patch:
        poison(patch, epoch=2)
        interrupt(patch, epoch=3, batch=0)
        with pytest.raises(Interrupted):
            train_network(profile, prepared, *rows, tmp_path / "again")
    again = train_network(profile, prepared, *rows, tmp_path / "again")
    assert again.diverged_at == 3 and again.rate_halved
    assert_same_network(again, halved)
    assert_same_run(tmp_path / "again", tmp_path / "halved")


def test_a_second_divergence_stops(prepared, rows, tmp_path, monkeypatch):
    profile = dataclasses.replace(prepared.profile, epochs=3, batch_size=20, divergence="halve")
    poison(monkeypatch, epoch=1, times=2)
    trained = train_network(profile, prepared, *rows, tmp_path)
    assert trained.diverged_at == 2 and trained.rate_halved
    assert [row["epoch"] for row in trained.history] == [0, 1, 2]
    assert trained.best_epoch < 2


def test_numbers_from_weights_that_are_none_are_not_the_best(tmp_path):
    """A ReLU can turn NaN into 0: the answers look fine."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    perfect = np.where(np.eye(2), 5.0, -5.0).astype(np.float32)
    scores = Scores(np.array(["a", "b"], object), perfect, ("x", "y"))
    watcher = EpochScores(
        model, lambda network: scores, np.eye(2, dtype=bool), np.array([0, 1]), tmp_path / "w.h5", 0
    )
    watcher.set_model(model)
    for loss, value in ((math.nan, 1.0), (math.inf, 1.0), (0.5, math.nan)):
        model.layers[0].set_weights([np.full((2, 2), value), np.zeros(2)])
        watcher.history, watcher.diverged_at, model.stop_training = [], None, False
        watcher.on_epoch_end(0, {"loss": loss})
        assert watcher.best is None and watcher.diverged_at == 1 and model.stop_training
    assert not (tmp_path / "w.h5").exists()


# State of a small model -----------------------------------------------------------------------


def small_run(folder, profile, *, units=3, identity=None):
    """A compiled model with a random layer, and its checkpoints."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dropout(0.5, name="dropped")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(units, name="out")(x))
    _, schedule = compile_model(model, profile, 10)
    rate = LearningRate(model, schedule)
    identity = identity or {"settings": {"epochs": 2}, "seed": 0}
    return model, Checkpoints(model, folder, identity, parts={"rate": rate})


def values_of(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def fit_small(model, units=3):
    rng = np.random.default_rng(0)
    model.fit(
        rng.normal(size=(16, 4)),
        rng.integers(0, 2, (16, units)),
        epochs=1,
        shuffle=False,
        verbose=0,
    )


@pytest.fixture
def saved(tmp_path, tiny_profile):
    """A folder with the checkpoints of epochs 1 and 2, and the values at both."""
    model, checkpoints = small_run(tmp_path, tiny_profile)
    values = {}
    for epoch in (1, 2):
        fit_small(model)
        checkpoints.save(epoch)
        values[epoch] = values_of(model)
    return tmp_path, values


def assert_restored(folder, profile, epoch, values, match, **settings):
    """The one warning that there is names the last checkpoint; the one before is in use."""
    model, checkpoints = small_run(folder, profile, **settings)
    with pytest.warns() as caught:
        assert checkpoints.restore() == epoch
    (message,) = messages_of(caught)
    assert "epoch-0002 is not used, and kept as refused-epoch-0002-" in message
    assert re.search(match, message), message
    for value, wanted in zip(values_of(model), values, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_the_last_state_is_restored(saved, tiny_profile):
    folder, values = saved
    model, checkpoints = small_run(folder, tiny_profile)
    assert checkpoints.restore() == 2
    assert len(values[2]) == len(values[1]) == 8  # kernel, bias, seed; iteration and 2 x 2 moments
    for value, wanted in zip(values_of(model), values[2], strict=True):
        np.testing.assert_array_equal(value, wanted)
    assert checkpoints.elapsed() > checkpoints.seconds > 0
    # Going back to a state that the process saved itself gives no time back.
    before = checkpoints.seconds
    checkpoints.save(3)
    assert checkpoints.restore() == 3 and checkpoints.seconds == before
    state = load_checkpoint(folder / "checkpoints" / "epoch-0002").state
    assert state["environment"]["versions"]["keras"] == keras.__version__
    assert state["environment"]["cores"] >= 1


def change(path, old, new):
    """Change a state file in a way that its sums do not show."""
    file = path / "state.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    (path / "SHA256SUMS").write_bytes(checkpoint_files._sums(path))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"seed": 0', '"seed": 1', r"a run of other settings \(seed\)"),
        ('"epochs": 2', '"epochs": 3', r"a run of other settings \(epochs\)"),
        ('"epoch": 2', '"epoch": 7', r"of epoch 7 in format 1; expected epoch-0002"),
        ('"format": 1', '"format": 9', r"in format 9"),
        ('"parts": {"rate"', '"parts": {"pace"', r"the state of \['pace'\]; expected \['rate'\]"),
        ('["out/bias", [3]', '["out/bias", [4]', r"variable 2 of the network is another"),
        ('"identity"', '"who"', "identity"),
    ],
)
def test_a_foreign_state_is_refused_by_name(old, new, match, saved, tiny_profile):
    folder, values = saved
    change(folder / "checkpoints" / "epoch-0002", old, new)
    assert_restored(folder, tiny_profile, 1, values[1], match)


def test_numbers_that_are_none_are_refused(saved, tiny_profile):
    folder, values = saved
    path = folder / "checkpoints" / "epoch-0002"
    arrays = load_checkpoint(path).arrays
    arrays["network/0001"][1] = np.inf
    np.savez(path / "arrays.npz", **arrays)
    assert_restored(folder, tiny_profile, 1, values[1], r"files are not those .*: arrays\.npz$")
    # Sums that fit do not help.
    path = folder / "checkpoints" / "epoch-0001"
    shutil.copytree(path, path.with_name("epoch-0002"))
    path = path.with_name("epoch-0002")
    change(path, '"epoch": 1', '"epoch": 2')
    np.savez(path / "arrays.npz", **arrays)
    (path / "SHA256SUMS").write_bytes(checkpoint_files._sums(path))
    assert_restored(folder, tiny_profile, 1, values[1], "`network/0001` .* is not finite")


def test_weights_that_are_no_numbers_are_not_saved(saved, tiny_profile):
    folder, _ = saved
    model, checkpoints = small_run(folder, tiny_profile)
    checkpoints.on_epoch_end(2, {"loss": math.nan})
    model.get_layer("out").set_weights([np.full((4, 3), np.nan), np.zeros(3)])
    checkpoints.on_epoch_end(2, {"loss": 0.5})
    assert [path.name for path in list_checkpoints(checkpoints.folder)] == [
        "epoch-0002",
        "epoch-0001",
    ]


def test_another_network_starts_again(saved, tiny_profile):
    folder, _ = saved
    model, checkpoints = small_run(folder, tiny_profile, units=5)
    before = values_of(model)
    with pytest.warns() as caught:
        assert checkpoints.restore() is None
    messages = messages_of(caught)
    assert "expected ['out/kernel', [4, 5], 'float32'], found ['out/kernel', [4, 3]" in messages[0]
    assert len(messages) == 3 and "training starts again" in messages[2]
    for value, wanted in zip(values_of(model), before, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_another_machine_goes_on_and_says_so(saved, tiny_profile):
    folder, _ = saved
    path = folder / "checkpoints" / "epoch-0002"
    versions = load_checkpoint(path).state["environment"]["versions"]
    change(path, f'"numpy": "{versions["numpy"]}"', '"numpy": "1.0"')
    _, checkpoints = small_run(folder, tiny_profile)
    with pytest.warns(UserWarning, match="written with another versions: .*not bit for bit"):
        assert checkpoints.restore() == 2


def test_files_of_the_run_folder_are_put_back(tmp_path, tiny_profile):
    """Ended after its best weights were replaced and before its checkpoint."""
    model, checkpoints = small_run(tmp_path, tiny_profile)
    checkpoints.files = ("best.weights.h5", "never written")
    best = tmp_path / "best.weights.h5"
    best.write_bytes(b"of epoch 1")
    checkpoints.save(1)
    best.write_bytes(b"of epoch 2")
    assert checkpoints.restore() == 1
    assert best.read_bytes() == b"of epoch 1" and not (tmp_path / "never written").exists()


def test_no_checkpoints_no_words(tmp_path, tiny_profile):
    _, checkpoints = small_run(tmp_path, tiny_profile)
    assert checkpoints.restore() is None and not (tmp_path / "checkpoints").exists()


# Files ----------------------------------------------------------------------------------------


def made_of(epoch):
    return {
        "network/0000": np.full((20, 30), epoch, np.float32),
        "scores/ids": np.array([f"picture {epoch}"]),
    }


def write(folder, epoch, source):
    with source.open("wb") as file:
        file.write(bytes([epoch]) * 500)
    return save_checkpoint(folder, epoch, {"history": [epoch, math.nan]}, made_of(epoch), [source])


def check_whole(checkpoint):
    """Everything in a checkpoint is of its epoch."""
    epoch = checkpoint.epoch
    assert checkpoint.state["history"][0] == epoch and math.isnan(checkpoint.state["history"][1])
    assert (checkpoint.arrays["network/0000"] == epoch).all()
    assert checkpoint.arrays["scores/ids"].tolist() == [f"picture {epoch}"]
    assert (checkpoint.path / "best").read_bytes() == bytes([epoch]) * 500


class Killed(BaseException):
    """Not an error that the code under test may catch and go on from."""


def end_at(monkeypatch, step, error):
    """Raise at one of the steps of a save, and at every later one: no clean-up happens either.

    A write leaves the first half. Returns the list of the steps that were begun.
    """
    begun = []

    def patch(owner, name, half=None):
        original = getattr(owner, name)

        def call(*arguments, **more):
            begun.append(name)
            if len(begun) == step and half is not None:
                half(*arguments, **more)
            if len(begun) >= step:
                raise error
            return original(*arguments, **more)

        monkeypatch.setattr(owner, name, call)

    for name in ("mkdir", "fsync", "replace", "unlink", "rmdir"):
        patch(os, name)
    write_text, write_bytes = Path.write_text, Path.write_bytes
    patch(Path, "write_text", lambda path, text, **more: write_text(path, text[: len(text) // 2]))
    patch(Path, "write_bytes", lambda path, data: write_bytes(path, data[: len(data) // 2]))
    patch(np, "savez", lambda file, **arrays: file.write(b"PK"))
    patch(shutil, "copyfile", lambda source, target: write_bytes(target, b"half"))
    return begun


@pytest.mark.parametrize("error", [Killed(), OSError(28, "No space left on device")])
def test_an_end_at_any_step_of_a_save(error, tmp_path, monkeypatch):
    """The epoch before the save can be loaded, or the new one, always whole; nothing is left over
    after the next save."""
    source, seen = tmp_path / "best", set()
    for step in itertools.count(1):
        folder = tmp_path / str(step)
        for epoch in (1, 2):
            write(folder, epoch, source)
        with monkeypatch.context() as patch:
            begun = end_at(patch, step, error)
            with contextlib.suppress(type(error)):
                write(folder, 3, source)
        if len(begun) < step:
            break
        seen.add(begun[step - 1])
        found = list_checkpoints(folder)
        newest = found[0].name
        assert newest in ("epoch-0002", "epoch-0003") and len(found) >= 2, (step, begun)
        for path in found:
            check_whole(load_checkpoint(path))
        write(folder, 4, source)
        names = sorted(path.name for path in folder.iterdir())
        assert names == [min(newest, "epoch-0003"), "epoch-0004"], (step, names)
    assert step > 15 and seen == {
        "mkdir", "write_text", "savez", "copyfile", "write_bytes", "fsync", "replace", "unlink",
        "rmdir",
    }  # fmt: skip
    assert [path.name for path in list_checkpoints(folder)] == ["epoch-0003", "epoch-0002"]


def test_no_bit_flip_is_loaded(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path, 1, tmp_path / "best")
    contents = {file.name: file.read_bytes() for file in path.iterdir()}
    assert contents.keys() == {"state.json", "arrays.npz", "best", "SHA256SUMS"}
    for flip in range(200):
        name = sorted(contents)[flip % 4]
        damaged = bytearray(contents[name])
        bit = int(rng.integers(8 * len(damaged)))
        damaged[bit // 8] ^= 1 << bit % 8
        (path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match="files are not those of SHA256SUMS"):
            load_checkpoint(path)
        (path / name).write_bytes(contents[name])
    check_whole(load_checkpoint(path))


def test_no_cut_is_loaded(tmp_path):
    path = write(tmp_path, 1, tmp_path / "best")
    contents = {file.name: file.read_bytes() for file in path.iterdir()}
    for name, content in contents.items():
        for length in np.linspace(0, len(content) - 1, 15).astype(int):
            (path / name).write_bytes(content[:length])
            with pytest.raises(ValueError, match="files are not those of SHA256SUMS"):
                load_checkpoint(path)
        (path / name).unlink()
        with pytest.raises(ValueError, match=f"it has no {name}|SHA256SUMS: {name}$"):
            load_checkpoint(path)
        (path / name).write_bytes(content)
    (path / "more").write_bytes(b"")
    with pytest.raises(ValueError, match=r"SHA256SUMS: more$"):
        load_checkpoint(path)


def test_arrays_of_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        save_checkpoint(tmp_path, 1, {}, {"evil": np.array([{}])})
    assert not list(tmp_path.iterdir())
    path = write(tmp_path, 1, tmp_path / "best")
    np.savez(path / "arrays.npz", evil=np.array([{}], object))
    (path / "SHA256SUMS").write_bytes(checkpoint_files._sums(path))
    with pytest.raises(ValueError, match=r"it is no checkpoint: .*allow_pickle"):
        load_checkpoint(path)


def test_a_full_disk_never_costs_a_good_checkpoint(tmp_path):
    """No file may grow beyond a size: the error of a full disk, at ten places of a save."""
    resource = pytest.importorskip("resource")
    folder, source = tmp_path / "checkpoints", tmp_path / "best"
    largest = write(folder, 1, source).joinpath("arrays.npz").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    for size in np.linspace(0, largest, 10).astype(int):
        with source.open("wb") as file:
            file.write(bytes([2]) * 500)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), before[1]))
        try:
            save_checkpoint(folder, 2, {"history": [2, math.nan]}, made_of(2), [source])
        except OSError:
            refused += 1
            assert [path.name for path in folder.iterdir()] == ["epoch-0001"]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        check_whole(load_checkpoint(folder / "epoch-0001"))
    # The last size is just enough.
    assert refused == 9
    check_whole(load_checkpoint(folder / "epoch-0002"))
