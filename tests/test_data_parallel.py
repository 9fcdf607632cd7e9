"""Several devices: the same training as on one, every row once, and a choice that is refused early.

Two virtual CPUs in processes of their own (`tests/two_devices.py`) stand for the GPUs.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from imetlib.collection.batches import fill_up
from imetlib.training import data_parallel
from imetlib.training.data_parallel import num_devices, use_devices
from imetlib.training.devices import describe_devices
from imetlib.training.fit import train_network

BACKEND = keras.backend.backend()
on_several = pytest.mark.skipif(
    BACKEND == "torch", reason="on torch a network learns on one device"
)


@pytest.fixture(scope="session")
def found_of(museum, tiny_profile, tmp_path_factory):
    """Function from names of parts to what a process with two devices found."""

    def found_of(*parts):
        folder = tmp_path_factory.mktemp("devices")
        settings = folder / "settings.json"
        settings.write_text(json.dumps(tiny_profile.to_dict()))
        script = Path(__file__).with_name("two_devices.py")
        flags = (
            {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"} if BACKEND == "jax" else {}
        )
        result = subprocess.run(
            [sys.executable, script, museum.parent, settings, folder, *parts],
            env={**os.environ, **flags, "KERAS_BACKEND": BACKEND},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return json.loads((folder / "found.json").read_text())

    return found_of


@pytest.fixture(scope="session")
def steps(found_of):
    return found_of("steps", "batches")


@pytest.fixture(scope="session")
def trained(found_of):
    return found_of("museum", "frozen")


# Steps ----------------------------------------------------------------------------------------


@on_several
def test_sgd_is_that_of_the_whole_batch(steps):
    """By hand: batches of 9 and 10 rows, the mean over all rows of each."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(47, 8)), rng.integers(0, 2, (47, 3))
    kernel, bias = np.zeros((8, 3)), np.zeros(3)
    bounds = np.linspace(0, 47, 6).astype(int)
    for start, end in 3 * list(itertools.pairwise(bounds)):
        rows, labels = x[start:end], y[start:end]
        slope = (1 / (1 + np.exp(-rows @ kernel - bias)) - labels) / labels.size
        kernel, bias = kernel - 0.5 * rows.T @ slope, bias - 0.5 * slope.sum(axis=0)
    for ours, theirs in zip((kernel, bias), steps["sgd"]["weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@on_several
def test_each_row_is_answered_once_and_in_order(steps):
    assert steps["sgd"]["shapes"] == [[rows, 3] for rows in (1, 2, 7, 46, 47)]
    assert steps["sgd"]["predicted"] < 1e-5


@on_several
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("ema", 1e-6), ("ema and accumulation", 1e-6), ("float16 and accumulation", 1e-3)],
)
def test_optimizer_leaves_what_one_device_leaves(steps, name, tolerance):
    """Weights, means of them, moments, gradients that are still to be used."""
    found = steps[f"optimizer {name}"]
    assert found["weights"] < tolerance and found["copies"]
    assert found["loss"] < 3e-3  # its mean over an epoch counts a filled-up batch as full
    assert found["scaled"] == ("float16" in name)


@on_several
@pytest.mark.parametrize("half", [0, 1])
def test_overflow_on_any_device_leaves_the_step_out(steps, half):
    assert steps[f"overflow {half}"] == {"weights": 0.0, "scale": 2.0**14}


@on_several
def test_each_row_of_an_epoch_counts_once(steps):
    seen = []
    for pictures, rows, weights in steps["batches"]:
        assert pictures % 2 == 0 and pictures == len(rows) == len(weights)
        counted = [row for row, weight in zip(rows, weights, strict=True) if weight]
        assert sum(weights) == pytest.approx(len(rows)) and len(rows) - len(counted) < 2
        seen += counted
    assert sorted(seen) == list(range(41))


# Training -------------------------------------------------------------------------------------


@on_several
def test_two_devices_train_as_one(trained):
    found = trained["one, two"]
    history = found["history"]
    assert history["learning_rate"] == 0 and history["val_f2"] < 1e-6
    assert history["val_loss"] < 1e-6 and history["loss"] < 1e-3
    assert found["first"] < 1e-6 and found["losses"][-1] < found["losses"][0]
    assert found["state"] < 1e-5 and found["copies"]
    assert found["ids"] and found["scores"] < 1e-5
    assert found["best_epochs"][0] == found["best_epochs"][1]


@on_several
@pytest.mark.parametrize("names", ["two, then two", "two, then one", "one, then two"])
def test_an_ended_run_goes_on_on_as_many_devices_as_there_are(trained, names):
    found = trained[names]
    assert found["epoch"] == 2 and found["state"] < 1e-5 and found["scores"] < 1e-5
    assert found["history"]["learning_rate"] == 0 and found["history"]["val_loss"] < 1e-6
    if names == "two, then two":
        assert found["state"] == 0 and not found["warnings"]
    else:
        (warning,) = found["warnings"]
        assert "was written with another num_devices: training goes on from it" in warning


@on_several
def test_features_head_and_record(trained):
    found = trained["frozen"]
    assert found["features"] < 1e-3 and found["copies"]
    # The head's own batches are drawn in another order.
    one, two = found["log_losses"]
    assert one == pytest.approx(two, abs=1e-3)
    assert found["devices"] == [1, 2] and found["details"]
    assert found["answers"] < 1e-5, "of a run that is loaded"
    assert trained["afterwards"] == [3, 5], "a network that is built later is on one device"


@on_several
@pytest.mark.slow
def test_options_go_through(found_of):
    found = found_of("options")
    every, multi, diverged = (found[name] for name in ("every option", "multi", "diverged"))
    for one in (every, multi):
        assert one["epoch"] == [0, 1, 2, 3] and one["copies"]
        assert np.isfinite(one["val_loss"]).all() and np.isfinite(one["loss"][1:]).all()
        rates = one["learning_rate"][1:]
        assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(1e-4, rel=1e-3)
    assert every["loss"][-1] < every["loss"][1]
    assert diverged["halved"] and diverged["epoch"] == [0, 1]


# Choice ---------------------------------------------------------------------------------------


@pytest.fixture
def two_accelerators(monkeypatch):
    """A machine with two GPUs, as far as one asks for names."""
    monkeypatch.delenv("IMETLIB_DEVICES", raising=False)
    names = ["GPU:0", "GPU:1"]
    monkeypatch.setattr(data_parallel, "_device_names", lambda backend, accelerators=False: names)


@on_several
def test_all_accelerators_unless_someone_chooses(two_accelerators, monkeypatch):
    assert num_devices() == 2
    with use_devices(1):
        assert num_devices() == 1
        with use_devices(["GPU:1", "GPU:0"]):
            assert num_devices() == 2
        assert num_devices() == 1
    for text, wanted in {"1": 1, "2": 2, "all": 2, "": 2}.items():
        monkeypatch.setenv("IMETLIB_DEVICES", text)
        assert num_devices() == wanted
    monkeypatch.setenv("IMETLIB_DEVICES", "1")
    with use_devices(0):
        assert num_devices() == 2, "a choice in code counts more than the environment's"


@on_several
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (3, "devices=3, but .* finds 2 GPUs here: give at most 2, or 0 for all"),
        (-1, "must be 0 .all. or greater. Received: devices=-1"),
        (["GPU:0", "GPU:7"], "must name two or more of GPU:0, GPU:1.*Received: .*GPU:7"),
        (["GPU:0"], "must name two or more"),
    ],
)
def test_what_is_not_there_is_refused(two_accelerators, wanted, message):
    with pytest.raises(ValueError, match=message), use_devices(wanted):
        raise AssertionError("work began")


@pytest.mark.parametrize(
    ("text", "message"),
    [("many", 'must be "all" or a number. Received: .many.'), ("64", "IMETLIB_DEVICES=64")],
)
def test_the_environment_is_read_before_any_work(text, message, prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("IMETLIB_DEVICES", text)
    with pytest.raises(ValueError, match=message):
        train_network(prepared.profile, prepared, np.arange(9), np.arange(9, 20), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(BACKEND != "torch", reason="of torch")
def test_torch_uses_one_and_says_so(monkeypatch):
    monkeypatch.delenv("IMETLIB_DEVICES", raising=False)
    assert num_devices() == 1
    with pytest.raises(ValueError, match="on torch a network learns on one device"), use_devices(2):
        pass


def test_the_record_names_how_many_compute():
    with use_devices(1):
        assert describe_devices()["num_devices"] == 1


def test_filled_up_means_are_the_means():
    rng = np.random.default_rng(0)
    for rows in range(1, 9):
        for multiple in (1, 2, 3, 8):
            values, labels = rng.normal(size=(rows, 2)), rng.integers(0, 9, rows)
            filled, filled_labels, weights = fill_up(multiple, values, labels)
            assert len(filled) == -(-rows // multiple) * multiple == len(filled_labels)
            np.testing.assert_allclose((weights[:, None] * filled).mean(0), values.mean(0))
            np.testing.assert_array_equal(filled[weights > 0], values)
            np.testing.assert_array_equal(filled_labels[weights > 0], labels)
