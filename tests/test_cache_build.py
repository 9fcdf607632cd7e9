"""A build of a cache that was ended goes on; what it gives is what one that was not ended gives."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from imetlib.collection import cache_build
from imetlib.collection.cache import build_cache
from imetlib.collection.cachefiles import open_with_index
from imetlib.collection.images import ImageError
from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection

SCRIPT = """
import os, signal, sys
from imetlib.collection import cache_build
from imetlib.collection.cache import build_cache
from imetlib.collection.tables import read_collection

encode, calls = cache_build.encode_picture, []

def killing(image):
    calls.append(0)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(image)

cache_build.encode_picture = killing
cache_build._TOGETHER = 8
build_cache(read_collection(sys.argv[1]), "train", sys.argv[2], min_side=24, workers=1)
print(len(calls))
"""


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    return draw_museum(tmp_path_factory.mktemp("m") / "museum", size=200, image_size=32)


@pytest.fixture(scope="module")
def whole(museum, tmp_path_factory):
    """Files of a cache that was made at once."""
    folder = tmp_path_factory.mktemp("whole") / "train"
    build_cache(read_collection(museum), "train", folder, min_side=24)
    return folder


def build(museum, folder, dies_at=0):
    """Pictures that a process of its own encoded, or the signal that ended it."""
    command = [sys.executable, "-c", SCRIPT, str(museum), str(folder), str(dies_at)]
    result = subprocess.run(command, capture_output=True, text=True)
    return int(result.stdout) if result.returncode == 0 else result.returncode


def assert_same(folder, whole):
    assert (folder / "pictures.bin").read_bytes() == (whole / "pictures.bin").read_bytes()
    (_, index), (_, wanted) = open_with_index(folder), open_with_index(whole)
    assert index.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(index[name], values)
    assert sorted(path.name for path in folder.iterdir()) == ["index.npz", "pictures.bin"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_killed_again_and_again_it_ends_as_if_it_never_was(museum, whole, tmp_path):
    folder = tmp_path / "train"
    for dies_at in (1, 60, 45):
        assert build(museum, folder, dies_at) == -signal.SIGKILL
        assert not folder.exists()
    encoded = build(museum, folder)
    assert 40 < encoded < 150 - 40, "most of what was done before is not done again"
    assert_same(folder, whole)
    assert build(museum, folder) == 0, "and a whole cache is opened"


@pytest.mark.parametrize("damage", ["cut", "flipped bit", "journal cut", "journal gone", "origin"])
def test_what_a_crash_left_damaged_is_written_again(museum, whole, tmp_path, damage):
    folder = tmp_path / "train"
    assert build(museum, folder, 100) == -signal.SIGKILL
    part = tmp_path / ".train.part"
    pictures, journal = part / "pictures.bin", part / "journal.bin"
    data = bytearray(pictures.read_bytes())
    if damage == "cut":
        pictures.write_bytes(data[: len(data) // 2])
    elif damage == "flipped bit":
        data[len(data) // 2] ^= 4
        pictures.write_bytes(data)
    elif damage == "journal cut":
        journal.write_bytes(journal.read_bytes()[:-7])
    elif damage == "journal gone":
        journal.unlink()
    else:
        (part / "origin.npz").write_bytes(b"PK no archive")
    build(museum, folder)
    assert_same(folder, whole)


def test_a_picture_that_was_mended_is_read_again(museum, tmp_path):
    """And all before it are not: a refused build costs no second hour."""
    copied = shutil.copytree(museum, tmp_path / "museum")
    collection = read_collection(copied)
    bad = collection.picture_path("train", collection.train.ids[100])
    good = bad.read_bytes()
    bad.write_bytes(b"bad")
    folder = tmp_path / "caches" / "train"
    with pytest.raises(ImageError, match="not a picture"):
        build_cache(collection, "train", folder, min_side=24)
    with pytest.raises(ImageError, match="not a picture"):
        build_cache(collection, "train", folder, min_side=24)
    bad.write_bytes(good)
    os.utime(bad, ns=(1, 1))
    assert build(copied, folder) == 50
    cache = build_cache(collection, "train", folder, min_side=24)
    assert cache.readable.all() and not cache.faults


def test_another_size_begins_anew(museum, tmp_path):
    folder = tmp_path / "train"
    assert build(museum, folder, 100) == -signal.SIGKILL
    cache = build_cache(read_collection(museum), "train", folder, min_side=16)
    assert min(cache.heights.min(), cache.widths.min()) == 16


def test_two_builders_do_not_write_into_one_file(museum, whole, tmp_path, monkeypatch):
    folder = tmp_path / "train"
    (tmp_path / ".train.part").mkdir()
    with (tmp_path / ".train.part" / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert build(museum, folder) == 150
    assert sorted(path.name for path in tmp_path.iterdir()) == [".train.part", "train"]
    assert (folder / "pictures.bin").read_bytes() == (whole / "pictures.bin").read_bytes()


def test_the_journal_has_one_row_a_picture(museum, tmp_path):
    assert build(museum, tmp_path / "train", 100) == -signal.SIGKILL
    rows = np.fromfile(tmp_path / ".train.part" / "journal.bin", cache_build.ROW)
    assert 88 <= len(rows) < 100 and (rows["height"] > 0).all()
