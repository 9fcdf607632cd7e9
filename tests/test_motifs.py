"""The motifs of a museum stand where its pictures show them, however the pictures are resized."""

import csv
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from imetlib.collection.geometry import Preprocessing, prepare
from imetlib.collection.images import ImageError, decode_image, read_size
from imetlib.collection.motifs import Motifs, read_motifs
from imetlib.collection.museum import draw_museum, draw_picture, picture_id, picture_spec
from imetlib.collection.tables import CollectionError, read_collection

IMAGE_SIZE = 40


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "museum"
    return read_collection(draw_museum(folder, size=200, image_size=IMAGE_SIZE))


def rows_of(collection):
    with (collection.root / "motifs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_boxes_are_those_of_the_table(museum):
    ids = museum.train.ids[::-1]
    motifs = read_motifs(museum, ids)
    expected = []
    for row in rows_of(museum):
        place = np.flatnonzero(ids == row["id"])
        if len(place):
            height, width = decode_image(museum.picture_path("train", row["id"])).shape[:2]
            x0, y0, x1, y1 = (int(row[name]) for name in ("x0", "y0", "x1", "y1"))
            box = (x0 / width, y0 / height, x1 / width, y1 / height)
            expected.append((int(place[0]), int(row["attribute_id"]), *box))
    found = np.column_stack(
        [motifs.pictures[motifs.cases], motifs.columns[motifs.cases], motifs.boxes]
    )
    np.testing.assert_allclose(found, sorted(expected))
    assert len(motifs) == len({row[:2] for row in expected}) < len(expected)
    labels = museum.train.dense(museum.train.rows_of(ids))
    assert labels[motifs.pictures, motifs.columns].all()


def test_test_pictures_have_motifs_too(museum):
    motifs = read_motifs(museum, museum.test_ids, split="test")
    assert len(motifs) > 20
    with pytest.raises(CollectionError, match="no such picture"):
        read_motifs(museum, museum.test_ids)


def test_a_picture_without_motifs_has_no_case(museum):
    named = {row["id"] for row in rows_of(museum)}
    plain = [sample_id for sample_id in museum.train.ids if sample_id not in named]
    motifs = read_motifs(museum, plain)
    assert plain and len(motifs) == 0 and motifs.boxes.shape == (0, 4)
    assert len(motifs.by_picture()) == 0


@pytest.mark.parametrize("resize_mode", ["squash", "pad", "crop"])
def test_boxes_follow_the_pixels(museum, resize_mode):
    """What changes in the prepared picture when a motif is left out lies in its box."""
    preprocessing = Preprocessing((64, 48, 3), resize_mode)
    checked = 0
    for index in range(200):
        spec = picture_spec(0, index)
        if len(spec.motifs) != 1 or not 0.4 < spec.aspect < 2.6:
            continue
        sample_id = picture_id(0, index)
        split = "train" if sample_id in museum.train.ids else "test"
        motifs = read_motifs(museum, [sample_id], split=split, preprocessing=preprocessing)
        pictures = (draw_picture(spec, IMAGE_SIZE, without=without) for without in (None, 0))
        seen = [
            prepare(cv2.cvtColor(p, cv2.COLOR_GRAY2RGB) if p.ndim == 2 else p, preprocessing)
            for p in pictures
        ]
        change = np.abs(seen[0].astype(int) - seen[1]).max(axis=2)
        rows, columns = np.nonzero(change > 24)
        (box,) = motifs.boxes
        x0, y0, x1, y1 = box * (48, 64, 48, 64)
        assert x0 - 1 <= columns.min() and columns.max() + 1 <= x1 + 1
        assert y0 - 1 <= rows.min() and rows.max() + 1 <= y1 + 1
        # The table's margin of two pixels, and edges that are too faint to count.
        assert (x1 - x0) * (y1 - y0) < 4 * np.ptp(columns) * np.ptp(rows) + 40
        checked += 1
    assert checked > 50


def test_crop_leaves_out_what_it_cuts_off(museum, tmp_path):
    folder = tmp_path / "strip"
    shutil.copytree(museum.root, folder)
    sample_id = museum.train.ids[0]
    Image.new("RGB", (400, 100)).save(folder / "train" / f"{sample_id}.png")
    with (folder / "motifs.csv").open("w") as file:
        file.write("id,attribute_id,x0,y0,x1,y1\n")
        for x0, x1 in ((0, 90), (50, 150), (150, 200)):
            file.write(f"{sample_id},3,{x0},25,{x1},100\n")
    strip = read_collection(folder)

    def boxes(resize_mode):
        preprocessing = Preprocessing((32, 32, 3), resize_mode)
        return read_motifs(strip, [sample_id], preprocessing=preprocessing).boxes.tolist()

    # The middle 200 of 400 columns stay: from 100 to 300.
    np.testing.assert_allclose(boxes("crop"), [[0, 0.25, 0.25, 1], [0.25, 0.25, 0.5, 1]])
    whole = [[0, 0.25, 0.225, 1], [0.125, 0.25, 0.375, 1], [0.375, 0.25, 0.5, 1]]
    np.testing.assert_allclose(boxes("squash"), whole)
    # A quarter of the height is picture, between two bars of three eighths.
    np.testing.assert_allclose(boxes("pad")[0], [0, 0.375 + 0.25 * 0.25, 0.225, 0.625])


def test_cases_of_pictures_and_of_some_rows():
    boxes = np.arange(20).reshape(5, 4) / 20
    motifs = Motifs(
        np.array([0, 0, 3, 4]), np.array([7, 9, 7, 8]), np.array([0, 1, 1, 2, 3]), boxes
    )
    assert motifs.boxes_of(1).tolist() == boxes[1:3].tolist()
    assert motifs.boxes_of(-1).tolist() == boxes[4:].tolist()
    whole = motifs.by_picture()
    assert whole.pictures.tolist() == [0, 3, 4] and whole.columns.tolist() == [-1] * 3
    assert whole.cases.tolist() == [0, 0, 0, 1, 2] and len(whole) == 3
    for rows in ([1, 3], np.array([False, True, False, True]), slice(1, None, 2)):
        part = motifs.take(rows)
        assert part.pictures.tolist() == [0, 4] and part.columns.tolist() == [9, 8]
        assert part.cases.tolist() == [0, 0, 1]
        assert part.boxes.tolist() == boxes[[1, 2, 4]].tolist()


def test_other_collections_have_no_motifs(museum, tmp_path):
    folder = tmp_path / "museum"
    shutil.copytree(museum.root, folder)
    (folder / "motifs.csv").unlink()
    with pytest.raises(CollectionError, match=r"no motifs\.csv; only a museum drawn by"):
        read_motifs(read_collection(folder), museum.train.ids)


def test_rows_that_are_no_boxes_are_named(museum, tmp_path):
    folder = tmp_path / "museum"
    shutil.copytree(museum.root, folder)
    sample_id = museum.train.ids[0]
    rows = ["3,0,0,20,20", "3,9,0,9,20", "999,0,0,20,20", "3,0,0,20,4000", "3,0,-1,20,20"]
    text = "id,attribute_id,x0,y0,x1,y1\n" + "".join(f"{sample_id},{row}\n" for row in rows)
    (folder / "motifs.csv").write_text(text)
    with pytest.raises(CollectionError, match="4 faults") as caught:
        read_motifs(read_collection(folder), [sample_id])
    assert [fault[:18] for fault in caught.value.faults] == [
        f"motifs.csv, line {line}" for line in (3, 4, 5, 6)
    ]


def test_size_is_that_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "plain.png")
    for name in ("turned.jpg", "plain.png"):
        assert read_size(tmp_path / name) == decode_image(tmp_path / name).shape[:2]
    assert read_size(tmp_path / "turned.jpg") == (30, 20)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match="not a picture of the kinds"):
        read_size(tmp_path / "text.png")
