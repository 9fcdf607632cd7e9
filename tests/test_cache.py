"""A cache holds the very pixels of its sources, shrunk, and notices every change."""

import io
import os
import pickle
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from imetlib.collection.cache import build_cache, cache_of_images, open_cache
from imetlib.collection.images import ImageError, decode_image, shrink
from imetlib.collection.tables import read_collection

SIZES = [(40, 60), (90, 30), (30, 750), (20, 20), (64, 64)]  # heights and widths
MIN_SIDE = 24


def draw(height, width, seed):
    """Smooth and colourful, so that JPEG keeps it nearly as it is."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def museum(tmp_path):
    root = tmp_path / "museum"
    (root / "train").mkdir(parents=True)
    rows = ["id,attribute_ids"]
    for i, (height, width) in enumerate(SIZES):
        Image.fromarray(draw(height, width, i)).save(root / f"train/p{i}.png")
        rows.append(f"p{i},0")
    (root / "train.csv").write_text("\n".join(rows) + "\n")
    (root / "labels.csv").write_text("attribute_id,attribute_name\n0,a::x\n")
    return read_collection(root)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "caches/train"


def build(museum, folder, **arguments):
    return build_cache(museum, "train", folder, **{"min_side": MIN_SIDE, **arguments})


def test_reading_equals_encoding_and_decoding_the_shrunk_source(museum, folder):
    """Pillow as the other JPEG codec: within its rounding of OpenCV's."""
    cache = build(museum, folder)
    assert cache.ids.tolist() == [f"p{i}" for i in range(5)]
    assert len(cache) == 5
    for row, sample_id in enumerate(cache.ids):
        small = shrink(decode_image(museum.picture_path("train", sample_id)), MIN_SIDE)
        file = io.BytesIO()
        Image.fromarray(small).save(file, "JPEG", quality=95, subsampling=0)
        picture = cache.read(row)
        assert picture.dtype == np.uint8
        assert picture.shape == small.shape == (cache.heights[row], cache.widths[row], 3)
        assert np.abs(picture.astype(int) - decode_image(file.getvalue())).max() <= 2
        assert np.abs(picture.astype(int) - small).mean() < 2
    assert cache.heights.tolist() == [24, 72, 24, 20, 24]
    assert cache.widths.tolist() == [36, 24, 600, 20, 24]
    assert cache.readable.all()


def test_memory_and_disk_hold_the_same_pixels(museum, folder):
    cache = build(museum, folder)
    images = (decode_image(museum.picture_path("train", i)) for i in cache.ids)
    in_memory = cache_of_images(images, cache.ids, MIN_SIDE)
    for row in range(len(cache)):
        np.testing.assert_array_equal(in_memory.read(row), cache.read(row))
    assert in_memory.rows_of(["p3"]).tolist() == [3]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(in_memory)).read(2), cache.read(2))


def test_cache_of_images_refuses_other_arrays():
    with pytest.raises(ValueError, match=r"for id a: \(4, 4, 3\) float64"):
        cache_of_images([np.zeros((4, 4, 3))], ["a"], 4)
    with pytest.raises(ValueError, match=r"for id a: \(4, 4\) uint8"):
        cache_of_images([np.zeros((4, 4), np.uint8)], ["a"], 4)
    with pytest.raises(ValueError, match="zip"):
        cache_of_images([np.zeros((4, 4, 3), np.uint8)], ["a", "b"], 4)


def test_threads_do_not_change_the_file(museum, folder):
    build(museum, folder, workers=1)
    build(museum, folder.with_name("other"), workers=4)
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["index.npz", "pictures.bin"]
    first, second = ((f / "pictures.bin").read_bytes() for f in (folder, folder.with_name("other")))
    assert first == second


def test_rows_of_ids(museum, folder):
    cache = build(museum, folder)
    assert cache.rows_of(["p4", "p0", "p4"]).tolist() == [4, 0, 4]
    assert cache.rows_of([]).dtype == np.int64
    with pytest.raises(ValueError, match=r"(?s)lacks 2 of the ids asked for.*nobody\n  none"):
        cache.rows_of(["p0", "nobody", "none"])


def test_pickled_cache_maps_the_file_again(museum, folder):
    cache = build(museum, folder)
    data = pickle.dumps(cache)
    assert len(data) < 1_000
    np.testing.assert_array_equal(pickle.loads(data).read(1), cache.read(1))


def stamp(folder):
    return (folder / "index.npz").stat().st_ino


def test_an_unchanged_cache_is_used_again(museum, folder):
    build(museum, folder)
    before = stamp(folder)
    build(museum, folder)
    assert stamp(folder) == before


@pytest.mark.parametrize("change", ["pixels", "time", "side", "ids", "cut", "index", "version"])
def test_a_changed_cache_is_built_again(museum, folder, change):
    build(museum, folder)
    before = stamp(folder)
    source = museum.picture_path("train", "p0")
    side = MIN_SIDE
    if change == "pixels":
        Image.fromarray(draw(50, 70, 9)).save(source)
    elif change == "time":
        os.utime(source, ns=(1, 1))
    elif change == "side":
        side = 16
    elif change == "ids":
        (museum.root / "train.csv").write_text("id,attribute_ids\np1,0\np0,0\n")
        museum = read_collection(museum.root)
    elif change == "cut":
        with (folder / "pictures.bin").open("r+b") as file:
            file.truncate(100)
    elif change == "index":
        (folder / "index.npz").write_bytes(b"PK\x03\x04 cut")
    else:
        with np.load(folder / "index.npz") as file:
            index = dict(file)
        np.savez(folder / "index.npz", **{**index, "format_version": np.array(0)})
    cache = build(museum, folder, min_side=side)
    assert stamp(folder) != before
    for sample_id in museum.train.ids:
        small = shrink(decode_image(museum.picture_path("train", sample_id)), side)
        picture = cache.read(cache.rows_of([sample_id])[0])
        assert picture.shape == small.shape
        assert np.abs(picture.astype(int) - small).mean() < 3
    assert [file.name for file in folder.parent.iterdir()] == ["train"]


def test_all_bad_pictures_are_named_in_one_error(museum, folder):
    for name in ("p1", "p3"):
        museum.picture_path("train", name).write_bytes(b"bad")
    museum.picture_path("train", "p4").unlink()
    museum = read_collection(museum.root, require_pictures=False)
    with pytest.raises(ImageError, match="3 pictures cannot be read") as caught:
        build(museum, folder)
    assert [fault.path for fault in caught.value.faults] == [
        str(museum.root / "train/p1.png"),
        str(museum.root / "train/p3.png"),
        "train/p4",
    ]
    assert not folder.exists()
    assert [path.name for path in folder.parent.iterdir()] == [".train.part"], "what is done waits"


def test_bad_pictures_keep_their_rows_where_they_are_only_reported(museum, folder):
    museum.picture_path("train", "p1").write_bytes(b"bad")
    cache = build(museum, folder, on_bad="report")
    assert cache.ids.tolist() == museum.train.ids.tolist()
    assert cache.readable.tolist() == [True, False, True, True, True]
    assert [fault.path for fault in cache.faults] == [str(museum.root / "train/p1.png")]
    assert cache.read(2).shape == (24, 600, 3)
    with pytest.raises(ImageError, match=r"id p1: its source could not be read"):
        cache.read(1)
    assert open_cache(folder).faults == cache.faults
    with pytest.raises(ImageError, match=r"p1.png: not a picture"):
        build(museum, folder)


def test_a_failed_build_leaves_the_old_cache(museum, folder):
    build(museum, folder)
    museum.picture_path("train", "p1").write_bytes(b"bad")
    with pytest.raises(ImageError, match=r"p1.png"):
        build(museum, folder)
    assert open_cache(folder).read(1).shape == (72, 24, 3)


def test_damaged_bytes_are_seen(museum, folder):
    build(museum, folder)
    with (folder / "pictures.bin").open("r+b") as file:
        file.seek(int(open_cache(folder).offsets[2]) + 200)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    cache = open_cache(folder)
    cache.read(1)
    with pytest.raises(ImageError, match=r"id p2 in .*the cached picture is damaged"):
        cache.read(2)
    with pytest.raises(IndexError):
        cache.read(5)


def test_sides_too_long_for_a_jpeg_are_named(museum, folder):
    path = museum.picture_path("train", "p0")
    Image.new("RGB", (70_000, 1)).save(path)
    with pytest.raises(ImageError, match=r"p0.png: 70000 x 1 pixels; a JPEG ends at 65,500"):
        build(museum, folder)


def test_wrong_places_and_words_are_refused(museum, folder, tmp_path):
    with pytest.raises(ValueError, match=r"or .report.\. Received: 'skip'"):
        build(museum, folder, on_bad="skip")
    with pytest.raises(ValueError, match="Received: 'val'"):
        build_cache(museum, "val", folder, min_side=8)
    with pytest.raises(ValueError, match="holds other things than a cache"):
        build(museum, museum.root)
    with pytest.raises(ValueError, match="is a file"):
        build(museum, museum.root / "train.csv")
    with pytest.raises(ValueError, match=r"is not a cache of pictures"):
        open_cache(tmp_path)
    with pytest.raises(ValueError, match="min_side=0"):
        build(museum, folder, min_side=0)
    assert read_collection(museum.root).train.ids.tolist() == museum.train.ids.tolist()


def test_building_is_quiet_unless_asked(museum, folder, capfd):
    build(museum, folder)
    assert capfd.readouterr() == ("", "")
    shutil.rmtree(folder)
    build(museum, folder, progress=True)
    assert "5/5" in capfd.readouterr().err


def test_a_cache_that_does_not_fit_is_not_begun(museum, folder, monkeypatch):
    def refuse(place, num_bytes, what):
        assert (place, what) == (
            folder,
            f"The cache of {len(museum.train)} pictures",
        )
        assert num_bytes > 0
        raise OSError("full")

    monkeypatch.setattr("imetlib.collection.cache.need_space", refuse)
    with pytest.raises(OSError, match="full"):
        build(museum, folder, min_side=32)
    assert not folder.exists() and not list(folder.parent.glob(f".{folder.name}*"))


def test_both_decoders_give_the_same_pixels(monkeypatch):
    """simplejpeg is optional: it must change no number."""
    from imetlib.collection import cachefiles

    pytest.importorskip("simplejpeg")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((1, 1), (40, 23), (64, 64))]
    images.append(np.full((50, 70, 3), (200, 30, 90), np.uint8))
    cache = cache_of_images(images, list("abcd"), 48)
    buffer = bytearray(cache.buffer_bytes)
    for row in range(4):
        new, reused = cache.read(row), cache.read(row, buffer).copy()
        with monkeypatch.context() as without:
            without.setattr(cachefiles, "simplejpeg", None)
            for other in (reused, cache.read(row), cache.read(row, buffer)):
                np.testing.assert_array_equal(new, other)
