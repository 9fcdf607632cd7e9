"""Prepared pictures are the very ones that a batch prepares, on the disk whole or going on."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from imetlib.collection import pixels as module
from imetlib.collection.batches import Batches
from imetlib.collection.cache import cache_of_images
from imetlib.collection.geometry import Augmentation, Preprocessing, prepare
from imetlib.collection.pixels import build_pixels, hold_pictures, verify_pixels

MODES = ("squash", "pad", "crop")
SMALL = Preprocessing((24, 32, 3))


@pytest.fixture(scope="module")
def cache():
    """Twenty pictures of noise in all shapes, a strip among them."""
    rng = np.random.default_rng(0)
    shapes = [(40, 40), (60, 33), (25, 90), (31, 200), *rng.integers(24, 80, (16, 2)).tolist()]
    images = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    return cache_of_images(images, [f"p{number}" for number in range(20)], 32)


@pytest.fixture(autouse=True)
def blocks_of_six(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 6)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_the_same_bit_for_bit(cache, mode, flip, tmp_path):
    preprocessing = replace(SMALL, resize_mode=mode)
    rows = np.array([3, 0, 19, 7, 7])
    settings = {"batch_size": 3, "flip": flip}
    wanted = Batches(cache, rows, preprocessing, **settings)
    held = hold_pictures(cache, rows, preprocessing)
    built = build_pixels(cache, preprocessing, tmp_path / "pixels")
    assert verify_pixels(tmp_path / "pixels") == []
    for found in (
        Batches(held, np.arange(5), preprocessing, **settings),
        Batches(built, rows, preprocessing, **settings),
    ):
        for index in range(2):
            np.testing.assert_array_equal(found[index], wanted[index])
    assert list(built.rows_of(["p3", "p0"])) == [3, 0]


def test_augmentation_warps_what_is_prepared(cache):
    held = hold_pictures(cache, np.arange(20), SMALL)
    rotation = Augmentation(rotate=10.0)
    batch = Batches(held, np.array([4]), SMALL, augmentation=rotation, seed=3)[0]
    rng = np.random.default_rng([3, 0, 4])
    by_hand = prepare(prepare(cache.read(4), SMALL), SMALL, augmentation=rotation, rng=rng)
    np.testing.assert_array_equal(batch[0], by_hand)


def test_what_takes_too_much_memory_is_not_held(cache):
    assert hold_pictures(cache, np.arange(20), SMALL, max_bytes=20 * 24 * 32 * 3 - 1) is cache
    assert len(hold_pictures(cache, np.arange(20), SMALL, max_bytes=20 * 24 * 32 * 3)) == 20


def test_another_size_is_refused_by_name(cache):
    held = hold_pictures(cache, np.arange(20), SMALL)
    other = Preprocessing((32, 32, 3))
    with pytest.raises(
        ValueError, match=r"prepared for .*\(24, 32, 3\).*asked for .*\(32, 32, 3\)"
    ):
        Batches(held, np.arange(4), other)[0]
    with pytest.raises(ValueError, match="1 of the ids are not among these pictures: q1"):
        held.rows_of(["p1", "q1"])


def test_a_build_that_was_killed_goes_on(cache, tmp_path, monkeypatch):
    reads = []

    class Counting:
        ids, checksums, buffer_bytes = cache.ids, cache.checksums, cache.buffer_bytes

        def __len__(self):
            return 20

        def read(self, row, buffer):
            reads.append(row)
            if len(reads) == 15:
                raise KeyboardInterrupt
            return cache.read(row, buffer)

    with pytest.raises(KeyboardInterrupt):
        build_pixels(Counting(), SMALL, tmp_path, workers=1)
    with pytest.raises(ValueError, match="left half made: build it again, it goes on"):
        verify_pixels(tmp_path)
    before = len(reads)
    built = build_pixels(Counting(), SMALL, tmp_path, workers=1)
    assert sorted(reads[before:]) == list(range(12, 20)), "two whole blocks were kept"
    np.testing.assert_array_equal(built.data, hold_pictures(cache, np.arange(20), SMALL).data)
    build_pixels(Counting(), SMALL, tmp_path, workers=1)
    assert len(reads) == before + 8, "what is whole is opened"


def test_a_real_kill_leaves_whole_blocks(cache, tmp_path):
    """SIGKILL in the middle of a block, in a process of its own."""
    script = f"""
import os, signal
import numpy as np
from imetlib.collection import pixels
from imetlib.collection.cache import cache_of_images
from imetlib.collection.geometry import Preprocessing

pixels.BLOCK = 6
images = [np.full((30, 30, 3), value, np.uint8) for value in range(20)]
cache = cache_of_images(images, [str(value) for value in range(20)], 30)
fill, calls = pixels._fill, []

def killed(*arguments):
    calls.append(0)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    fill(*arguments)

if os.environ.get("KILL"):
    pixels._fill = killed
built = pixels.build_pixels(cache, Preprocessing((16, 16, 3)), {str(tmp_path)!r})
print(built.data[:, 0, 0, 0].tolist(), pixels.verify_pixels({str(tmp_path)!r}))
"""
    first = subprocess.run([sys.executable, "-c", script], env={**os.environ, "KILL": "1"})
    assert first.returncode == -signal.SIGKILL
    assert len(json.loads((tmp_path / "pixels.json").read_text())["checksums"]) == 2
    second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert second.stdout.strip() == f"{list(range(20))} []", second.stderr


def test_what_is_of_another_cache_or_damaged_is_made_anew(cache, tmp_path):
    build_pixels(cache, SMALL, tmp_path)
    other = cache_of_images([np.full((30, 30, 3), 9, np.uint8)] * 20, cache.ids, 32)
    assert (build_pixels(other, SMALL, tmp_path).data == 9).all()
    smaller = Preprocessing((16, 16, 3))
    assert build_pixels(cache, smaller, tmp_path).data.shape == (20, 16, 16, 3)
    data = np.load(tmp_path / "pixels.npy", mmap_mode="r+")
    data[13, 0, 0, 0] ^= 1
    data.flush()
    assert verify_pixels(tmp_path) == ["rows 12 to 17"]
    built = build_pixels(cache, smaller, tmp_path)
    assert verify_pixels(tmp_path) == []
    np.testing.assert_array_equal(built.data, hold_pictures(cache, np.arange(20), smaller).data)
    with pytest.raises(ValueError, match="holds no prepared pictures"):
        verify_pixels(tmp_path / "none")
