"""Several processes train one network on jax: the losses of one process, going on, refusals.

Two processes on loopback (`tests/two_processes.py`), each with the CPU as its device.
"""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from imetlib import processes
from imetlib.collection.batches import Batches
from imetlib.collection.geometry import Augmentation
from imetlib.processes import check_shareable, join_processes, process_part
from imetlib.training.fit import preprocessing_of

on_jax = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="several processes train on jax alone"
)
# As in `tests/two_devices.py`: what computes the same however a batch is cut.
EXACT = {
    "batch_norm": "frozen",
    "dropout": 0.0,
    "batch_size": 10,
    "epochs": 3,
    "accumulation": 3,
    "learning_rate": 1e-2,
}
NAMES = ("IMETLIB_COORDINATOR", "IMETLIB_PROCESSES", "IMETLIB_PROCESS")


def environment_of(number, count, address):
    """The environment of one of `count` processes."""
    own = dict(zip(NAMES, (address, f"{count}", f"{number}"), strict=True)) if count > 1 else {}
    path = os.pathsep.join(sys.path)
    return {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": path, **own}


@pytest.fixture(scope="module")
def train(museum, tiny_profile, tmp_path_factory):
    """Function that trains in some processes, and what each of them found."""
    place = tmp_path_factory.mktemp("processes")
    (place / "settings.json").write_text(json.dumps(tiny_profile.to_dict()))

    # Half of a short training is compiling, and most trainings here compile the same.
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def train(name, count, *, folder="", failing=False, **changes):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        arguments = [museum.parent, place / "settings.json", place / (folder or name), name]
        running = [
            subprocess.Popen(
                [
                    sys.executable,
                    Path(__file__).with_name("two_processes.py"),
                    *arguments,
                    json.dumps({**EXACT, **changes}),
                ],
                env={**environment_of(n, count, address), **compiled},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for n in range(count)
        ]
        ended = [process.communicate(timeout=400) for process in running]
        if failing:
            return [process.returncode for process in running], [err for _, err in ended]
        for process, (_, errors) in zip(running, ended, strict=True):
            assert process.returncode == 0, errors[-3000:]
        found = [json.loads((place / f"{name}-{n}.json").read_text()) for n in range(count)]
        for one, (output, _) in zip(found, ended, strict=True):
            one["lines"] = output.count("epoch ")
        return found

    train.place = place
    return train


@pytest.fixture(scope="module")
def one_and_two(train):
    return train("one", 1)[0], train("two", 2)


def compare(ours, theirs, *, loss=1e-6):
    """Histories and answers of two trainings; `loss` bounds the mean loss of an epoch."""
    ours_rows, theirs_rows = np.array(ours["history"]), np.array(theirs["history"])
    assert ours_rows.shape == theirs_rows.shape == (4, 5)
    np.testing.assert_allclose(ours_rows[1:, 1], theirs_rows[1:, 1], atol=loss)
    np.testing.assert_allclose(ours_rows[:, 2:4], theirs_rows[:, 2:4], atol=2e-6)
    np.testing.assert_array_equal(ours_rows[:, [0, 4]], theirs_rows[:, [0, 4]])
    np.testing.assert_allclose(ours["logits"], theirs["logits"], atol=1e-5)
    assert ours["best_epoch"] == theirs["best_epoch"]


# Training -------------------------------------------------------------------------------------


@on_jax
def test_two_processes_train_as_one(one_and_two):
    one, two = one_and_two
    assert [found["part"] for found in two] == [[0, 2], [1, 2]] and one["part"] == [0, 1]
    assert [found["devices"] for found in (one, *two)] == [1, 2, 2]
    compare(one, two[0])
    losses = [row[1] for row in two[0]["history"]]
    assert losses[-1] < losses[1], "nothing was learned"


@on_jax
def test_processes_find_the_same_and_the_first_one_says_so(one_and_two):
    _, (first, second) = one_and_two
    assert json.dumps(first["history"][1:]) == json.dumps(second["history"][1:])
    assert first["logits"] == second["logits"]
    assert first["lines"] == 4 and second["lines"] == 0
    assert not first["warnings"] and not second["warnings"]


@on_jax
def test_batches_that_do_not_divide_are_filled_up(train):
    """41 rows: the last of 5 batches has 9. Its copies count nothing but in the mean of losses."""
    (one,), two = train("one-odd", 1, rows=41), train("two-odd", 2, rows=41)
    compare(one, two[0], loss=1e-3)


@on_jax
@pytest.mark.parametrize(
    ("before", "after"), [(2, 2), (2, 1), pytest.param(1, 2, marks=pytest.mark.slow)]
)
def test_an_ended_run_goes_on(train, one_and_two, before, after):
    one, two = one_and_two
    whole = {1: one, 2: two[0]}[before]
    name = f"{before}-{after}"
    shutil.copytree(train.place / {1: "one", 2: "two"}[before], train.place / name)
    # As after an end in the last epoch.
    shutil.rmtree(train.place / name / "checkpoints/epoch-0003")
    found = train(name, after)
    compare(whole, found[0])
    assert found[0]["lines"] == 1, "one epoch was left"
    if before == after:
        assert found[0]["history"] == whole["history"] and found[0]["logits"] == whole["logits"]
        assert not found[0]["warnings"]
    else:
        for each in found:
            (warning,) = each["warnings"]
            assert "was written with another num_devices, num_processes: training" in warning


@on_jax
@pytest.mark.parametrize(
    ("batch_norm", "tolerance"),
    [("frozen", 1e-3), pytest.param("train", None, marks=pytest.mark.slow)],
)
def test_pretrained_network_and_run_folder(train, batch_norm, tolerance):
    """Statistics, closed-form head and head on features in every process; a run that is loaded.

    Rows that fill a batch up count in the statistics of BatchNormalization while it learns.
    """
    how = {"pretrained": True, "fold": True, "head_epochs": 2, "epochs": 1}
    names = [f"{count}-{batch_norm}" for count in ("one", "two")]
    (one,), two = (
        train(name, count, batch_norm=batch_norm, **how) for count, name in enumerate(names, 1)
    )
    assert two[0]["record"] == two[1]["record"] and two[0]["logits"] == two[1]["logits"]
    if tolerance is not None:
        np.testing.assert_allclose(one["logits"], two[0]["logits"], atol=tolerance)
    assert one["record"]["score"] == pytest.approx(two[0]["record"]["score"], abs=0.05)
    ours, theirs = (sorted(p.name for p in (train.place / name).iterdir()) for name in names)
    assert ours == theirs and "record.json" in ours and "checkpoints" not in ours


@on_jax
def test_what_processes_cannot_share_is_refused_in_all_of_them(train):
    codes, errors = train("refused", 2, failing=True, batch_size=11)
    assert all(codes)
    for error in errors:
        assert "2 processes cannot share out batch_size=11 (give a multiple of the 2" in error


@on_jax
@pytest.mark.parametrize(
    ("second", "named"),
    [
        ({"learning_rate": 3e-2}, "learning_rate; here: learning_rate={}"),
        ({"rows": 39}, "train_rows; here: train_rows='"),
    ],
)
def test_processes_that_were_called_differently_are_refused(train, second, named):
    """Each would compute its part of another training, and the sum would be nobody's."""
    codes, errors = train(f"mixed-{min(second)}", 2, failing=True, second=second)
    assert all(codes)
    for error, rate in zip(errors, (1e-2, 3e-2), strict=True):
        assert f"called with different {named.format(rate)}" in error, error[-2000:]
    assert not (train.place / f"mixed-{min(second)}").exists()


@on_jax
@pytest.mark.slow  # the first process waits for 100 seconds of silence
def test_a_process_that_dies_ends_the_others_and_the_run_goes_on(train, one_and_two):
    codes, errors = train("died", 2, failing=True, dies=2)
    assert codes[1] == -signal.SIGKILL and codes[0] not in (0, None)
    assert "Task 1 heartbeat timeout" in errors[0] and "another task died" in errors[0]
    folder = train.place / "died/checkpoints"
    assert "epoch-0003" not in [path.name for path in folder.iterdir()]
    found = train("died", 2)
    assert found[0]["history"][1:] == one_and_two[1][0]["history"][1:]
    assert found[0]["logits"] == one_and_two[1][0]["logits"]


# Batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixup", [0.0, 0.3])
@pytest.mark.parametrize("count", [2, 3])
def test_parts_in_order_are_the_batches_of_one_process(prepared, mixup, count):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (41, 5))

    def batches(**part):
        return Batches(
            prepared.train_pictures,
            np.arange(41),
            preprocessing_of(prepared.profile),
            labels=labels,
            batch_size=11,
            shuffle=True,
            augmentation=Augmentation(flip=0.5, mixup=mixup) if mixup else None,
            seed=3,
            multiple=6,
            **part,
        )

    whole, parts = batches(), [batches(part=(n, count)) for n in range(count)]
    for index in range(len(whole)):
        read = [part[index] for part in parts]
        assert len({len(images) for images, *_ in read}) == 1
        for wanted, *found in zip(whole[index], *read, strict=True):
            np.testing.assert_array_equal(wanted, np.concatenate(found))
        assert whole.num_rows(index) == np.count_nonzero(whole[index][2])


def test_a_process_reads_its_part_alone(prepared):
    read = []

    class Pictures:
        def read(self, row):
            read.append(row)
            return prepared.train_pictures.read(row)

    preprocessing = preprocessing_of(prepared.profile)
    how = {"batch_size": 10, "multiple": 2, "part": (1, 2)}
    images = Batches(Pictures(), np.arange(10), preprocessing, **how)[0]
    assert len(images) == 5 and sorted(read) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(("part", "multiple"), [((2, 2), 2), ((0, 2), 3), ((-1, 2), 2)])
def test_part_must_fit(prepared, part, multiple):
    with pytest.raises(ValueError, match="`part` must be a process and a number of processes"):
        Batches(
            prepared.train_pictures,
            np.arange(9),
            preprocessing_of(prepared.profile),
            multiple=multiple,
            part=part,
        )


# Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("host:1", "2", ""), "IMETLIB_PROCESS must be set too"),
        (("", "2", ""), "IMETLIB_COORDINATOR and IMETLIB_PROCESS must be set too"),
        (("host:1", "2", "2"), "IMETLIB_PROCESS one from 0 to below it. Received: '2' and '2'"),
        (("host:1", "two", "0"), "Received: 'two' and '0'"),
        (("host", "2", "0"), "must be host:port. Received: 'host'"),
    ],
)
def test_half_a_description_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        join_processes(dict(zip(NAMES, values, strict=True)))
    assert process_part() == (0, 1)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="of the other backends")
def test_other_backends_are_refused():
    with pytest.raises(ValueError, match=r"on jax alone; Keras's backend is \w+\. Set KERAS"):
        join_processes(dict(zip(NAMES, ("host:1", "2", "0"), strict=True)))


def test_one_process_meets_nobody(monkeypatch):
    join_processes({})
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    join_processes(dict(zip(NAMES, ("host:1", "1", "0"), strict=True)))
    assert process_part() == (0, 1)


@pytest.mark.parametrize(
    ("changes", "budget", "message"),
    [
        ({"batch_size": 11}, None, r"share out batch_size=11 .give a multiple of the 4 devices"),
        ({"attention": "multi"}, None, 'attention="multi"'),
        ({}, object(), "a time budget"),
    ],
)
def test_what_cannot_be_shared_out(tiny_profile, monkeypatch, changes, budget, message):
    profile = dataclasses.replace(tiny_profile, **{"batch_size": 12, **changes})
    check_shareable(profile, budget, 4)
    monkeypatch.setattr(processes, "_place", (0, 2))
    with pytest.raises(ValueError, match=f"2 processes cannot .*{message}"):
        check_shareable(profile, budget, 4)
