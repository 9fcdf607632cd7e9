"""The benchmarks of the input: every way reads every picture, and what explains them adds up."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks import input as input_benchmark
from benchmarks import scaling, scaling_reasons
from imetlib.collection.cache import cache_of_images
from imetlib.collection.geometry import Preprocessing

SHAPE = (16, 16, 3)


@pytest.fixture
def tiny(monkeypatch):
    """Pictures of 16 pixels in batches of 8."""
    for module in (input_benchmark, scaling, scaling_reasons):
        monkeypatch.setattr(module, "SHAPE", SHAPE)
        monkeypatch.setattr(module, "PLAIN", Preprocessing(SHAPE))
        monkeypatch.setattr(module, "BATCH_SIZE", 8)
    monkeypatch.setattr(input_benchmark, "SHORTEST", 1e-4)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_tiny_run_of_the_input(tiny, tmp_path, capsys):
    out = tmp_path / "record.json"
    input_benchmark.main(["--pictures", "200", "--repeats", "1", "--out", str(out)])
    record = json.loads(out.read_text())
    rates = record["pictures_per_second"]
    assert {name.split(",")[0] for name in rates} >= {"Batches", "PyDataset", "tf.data"}
    assert all(rate["clock"] > 0 and rate["processor"] > 0 for rate in rates.values())
    assert "one warp, resizing included" in capsys.readouterr().out


def test_a_rate_counts_the_pictures_of_all_calls(monkeypatch):
    ticks = iter(np.array([[0.0, 0.0], [6.0, 12.0]]))
    monkeypatch.setattr(input_benchmark, "read_clocks", lambda: next(ticks))
    monkeypatch.setattr(input_benchmark, "count_calls", lambda way: 3)
    rates = input_benchmark.measure({"way": lambda: None}, 10, 1)
    assert rates == {"way": {"clock": 5.0, "processor": 2.5}}


@pytest.fixture
def cache():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20, 24, 3), np.uint8) for _ in range(20)]
    return cache_of_images(images, [str(number) for number in range(20)], 16)


def test_every_way_reads_without_end(tiny, cache, monkeypatch):
    # No processes: each would import everything anew.
    workers = {name: each for name, each in scaling.WORKERS.items() if not each[1]}
    monkeypatch.setattr(scaling, "WORKERS", workers)
    grain = {name: each for name, each in scaling.GRAIN.items() if not each[1]}
    monkeypatch.setattr(scaling, "GRAIN", grain)
    readers, closers, absent = scaling.make_readers(cache)
    try:
        assert set(readers) >= {*scaling.THREADS, *scaling.WORKERS}
        for reader in readers.values():
            for _ in range(7):
                batch = next(reader)
                images = np.asarray(batch[0] if isinstance(batch, tuple) else batch)
                assert images.shape[1:] == SHAPE and images.dtype == np.uint8
        rates = scaling.measure(readers, [], 1e-3, 1)
    finally:
        for close in closers:
            close()
    assert all(rate["clock"] > 0 and rate["processor"] > 0 for rate in rates.values())


def test_tensorflow_warps_what_we_warp(tiny, cache):
    tf = pytest.importorskip("tensorflow")
    matrix = scaling.picture_matrix(20, 24, Preprocessing(SHAPE), scale=1.2, rotate=4.0)
    found = scaling.warp_by_tensorflow(tf, cache.read(3), scaling.invert(matrix)).numpy()
    wanted = cv2.warpAffine(cache.read(3), matrix, SHAPE[1::-1], borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(found.astype(int) - wanted).max() <= 2


def test_a_process_reads_when_it_is_told_to(tiny, cache, monkeypatch):
    """In this process here: a real one would import everything anew."""
    monkeypatch.setattr(scaling, "open_cache", lambda folder: cache)
    monkeypatch.setattr(scaling.os, "sched_setaffinity", lambda process, cores: None)
    sent, told = [], iter([0.001, 0])
    scaling.read_alone(None, 0, SimpleNamespace(send=sent.append, recv=lambda: next(told)))
    assert sent[0] == "ready" and len(sent) == 2 and min(sent[1]) > 0


def test_steps_and_transfer(tiny, cache):
    steps = scaling_reasons.measure_steps(cache, 1)
    assert all(step["ms"] > 0 and step["speed_up"] > 0 for step in steps.values())
    assert scaling_reasons.measure_transfer(1)["bytes"] == 8 * 16 * 16 * 3


def test_expected_gains_are_amdahls(tiny):
    """A tenth under the lock, two cores worth 1.8; sending takes as long as a quarter picture."""
    steps = {scaling_reasons.WHOLE: {"ms": 1.0}, scaling_reasons.LOCKED: {"ms": 0.1}}
    found = scaling_reasons.explain(1.8, steps, {"bytes": 1, "ms": 8 * 0.25})
    assert found["expected_gain_of_threads"] == pytest.approx(1 / (0.1 + 0.9 / 1.8))
    assert found["expected_gain_of_processes"] == pytest.approx(1.8 / 1.25)


def test_gains_are_over_the_first_of_a_kind():
    one, two = scaling.THREADS
    rates = {one: {"clock": 100.0}, two: {"clock": 150.0}, "tf.data, 2 calls": {"clock": 7.0}}
    assert scaling.gains_of(rates) == {two: 1.5}


@pytest.mark.parametrize("module", [input_benchmark, scaling])
@pytest.mark.parametrize("arguments", [["--pictures", "199"], ["--repeats", "0"]])
def test_sizes_out_of_range(module, arguments, capsys):
    with pytest.raises(SystemExit):
        module.main(arguments)
    assert "must be at least" in capsys.readouterr().err
