"""The pocket museum: form of the folder, determinism, positions, label statistics, learnability."""

import csv
import re
from collections import Counter

import cv2
import numpy as np
import pytest

from imetlib.collection.museum import (
    CLASS_NAMES,
    draw_museum,
    draw_picture,
    motif_boxes,
    noisy_labels,
    picture_id,
    picture_spec,
)
from imetlib.collection.museum_catalogue import CULTURES, ORNAMENTS
from imetlib.collection.museum_drawing import _PALETTES, _texture
from imetlib.collection.museum_motifs import MOTIFS, motif_glyph
from imetlib.collection.museum_objects import OBJECTS
from imetlib.collection.museum_ornaments import PERIODS, UNITS
from imetlib.collection.museum_specs import (
    FORCED,
    MAX_PICTURES,
    MIN_PICTURES,
    is_test_picture,
)


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def folder_bytes(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small_museum(tmp_path_factory):
    return draw_museum(
        tmp_path_factory.mktemp("drawn") / "museum", size=MIN_PICTURES, image_size=48
    )


@pytest.fixture(scope="module")
def default_specs():
    return [picture_spec(0, index) for index in range(1_200)]


def test_the_folder_is_a_collection(small_museum):
    names = [row["attribute_name"] for row in read_rows(small_museum / "labels.csv")]
    assert names == sorted(CLASS_NAMES)
    assert names == list(CLASS_NAMES)
    assert all(re.fullmatch(r"(culture|tag)::\w+", name) for name in names)
    train = read_rows(small_museum / "train.csv")
    test = read_rows(small_museum / "sample_submission.csv")
    assert len(train) + len(test) == MIN_PICTURES
    for split, rows in (("train", train), ("test", test)):
        ids = [row["id"] for row in rows]
        assert ids == sorted(set(ids))
        assert {path.name for path in (small_museum / split).iterdir()} == {f"{k}.png" for k in ids}
    truth = read_rows(small_museum / "test_labels.csv")
    assert [row["id"] for row in truth] == [row["id"] for row in test]
    for row in train + truth:
        labels = [int(label) for label in row["attribute_ids"].split()]
        assert labels == sorted(set(labels))
        assert labels[0] >= 0 and labels[-1] < len(CLASS_NAMES)


def test_the_shorter_side_is_image_size(small_museum):
    for path in small_museum.glob("*/*.png"):
        assert min(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[:2]) == 48


def test_even_the_smallest_museum_has_every_attribute_and_second_views(small_museum):
    train = read_rows(small_museum / "train.csv")
    seen = {int(label) for row in train for label in row["attribute_ids"].split()}
    assert set(range(len(CLASS_NAMES))) == seen
    labels = {row["id"]: row["attribute_ids"] for row in train}
    specimens = {}
    for row in read_rows(small_museum / "specimens.csv"):
        specimens.setdefault(row["specimen"], []).append(row["id"])
    assert sorted(labels) == sorted(key for keys in specimens.values() for key in keys)
    views = [keys for keys in specimens.values() if len(keys) > 1]
    assert views
    assert all(labels[first] == labels[second] for first, second in views)


@pytest.mark.parametrize("test_fraction", [0.0, 0.1, 1 / 3, 0.5])
@pytest.mark.parametrize("label_noise", [0.0, 0.9])
def test_every_attribute_is_in_train_whatever_the_split_and_noise(test_fraction, label_noise):
    seen = set()
    for index in range(MIN_PICTURES):
        if not is_test_picture(index, test_fraction):
            seen.update(noisy_labels(picture_spec(3, index), label_noise))
    assert seen == set(range(len(CLASS_NAMES)))


def test_pictures_are_a_function_of_seed_and_index(tmp_path, small_museum):
    again = draw_museum(tmp_path / "again", size=MIN_PICTURES, image_size=48, workers=1)
    assert folder_bytes(again) == folder_bytes(small_museum)
    larger = draw_museum(tmp_path / "larger", size=MIN_PICTURES + 7, image_size=48)
    pictures = {k: v for k, v in folder_bytes(small_museum).items() if k.endswith(".png")}
    assert pictures.items() <= folder_bytes(larger).items()
    assert not np.array_equal(
        draw_picture(picture_spec(0, 5), 32), draw_picture(picture_spec(1, 5), 32)
    )


def test_motifs_are_where_the_table_says():
    """Leaving a motif out changes pixels inside its box and nowhere else."""
    checked = 0
    for index in range(FORCED, FORCED + 60):
        spec = picture_spec(0, index)
        whole = draw_picture(spec, 64).astype(int)
        boxes = motif_boxes(spec, 64)
        assert len(boxes) == len(spec.motifs)
        for number, (attribute_id, x0, y0, x1, y1) in enumerate(boxes):
            assert CLASS_NAMES[attribute_id] == f"tag::{spec.motifs[number].name}"
            assert attribute_id in spec.labels
            assert 0 <= x0 < x1 <= whole.shape[1] and 0 <= y0 < y1 <= whole.shape[0]
            changed = whole != draw_picture(spec, 64, without=number)
            changed = changed.any(axis=2) if changed.ndim == 3 else changed
            assert changed[y0:y1, x0:x1].sum() > 12, (index, spec.motifs[number])
            changed[y0:y1, x0:x1] = False
            assert not changed.any(), (index, spec.motifs[number])
            checked += 1
    assert checked > 50


def test_boxes_of_the_table_are_those_of_the_pictures(small_museum):
    table = Counter(tuple(row.values()) for row in read_rows(small_museum / "motifs.csv"))
    expected = Counter(
        (picture_id(0, index), *map(str, box))
        for index in range(MIN_PICTURES)
        for box in motif_boxes(picture_spec(0, index), 48)
    )
    assert table == expected


def test_labels_have_a_long_tail(default_specs):
    train = [spec for i, spec in enumerate(default_specs) if not is_test_picture(i, 0.25)]
    assert len(train) == 900
    counts = Counter(label for spec in train for label in spec.labels)
    lengths = [len(spec.labels) for spec in train]
    assert len(CLASS_NAMES) >= 120
    assert sorted(counts) == list(range(len(CLASS_NAMES)))
    assert sum(count < 10 for count in counts.values()) >= len(CLASS_NAMES) / 5
    assert 3.0 <= np.mean(lengths) <= 3.6
    assert min(lengths) == 1
    assert max(len(picture_spec(0, index).labels) for index in range(20_000)) <= 11
    cultures = Counter(len(spec.cultures) for spec in train)
    assert set(cultures) == {0, 1, 2, 3} and cultures[1] > 450


def test_shapes_and_channels_are_as_odd_as_in_imet(default_specs):
    shapes = [draw_picture(spec, 32).shape for spec in default_specs[:400]]
    assert any(len(shape) == 2 for shape in shapes)
    assert any(len(shape) == 3 for shape in shapes)
    assert max(shape[0] / shape[1] for shape in shapes) > 4
    assert max(shape[1] / shape[0] for shape in shapes) > 3


def test_some_ids_look_like_numbers():
    ids = [picture_id(0, index) for index in range(5_000)]
    assert all(re.fullmatch("[0-9a-f]{16}", key) for key in ids)
    assert len(set(ids)) == len(ids)
    assert any(key.isdigit() for key in ids)
    assert any(re.fullmatch(r"\d+e\d+", key) for key in ids)


def test_second_views_differ_in_pixels_only():
    index = next(i for i in range(FORCED, 300) if picture_spec(0, i).object_index != i)
    first, second = picture_spec(0, index - 1), picture_spec(0, index)
    assert first.labels == second.labels
    assert is_test_picture(index, 0.25) == is_test_picture(index - 1, 0.25)
    views = [draw_picture(spec, 64) for spec in (first, second)]
    assert views[0].shape == views[1].shape
    assert not np.array_equal(*views)


def test_label_noise_drops_labels_and_leaves_one(tmp_path):
    specs = [picture_spec(0, index) for index in range(FORCED, 1_200)]
    kept = sum(len(noisy_labels(spec, 0.3)) for spec in specs)
    assert 0.68 < kept / sum(len(spec.labels) for spec in specs) < 0.78
    assert min(len(noisy_labels(spec, 0.99)) for spec in specs) == 1
    assert all(set(noisy_labels(spec, 0.5)) <= set(spec.labels) for spec in specs)
    assert all(noisy_labels(spec, 0.0) == spec.labels for spec in specs)


def test_without_a_test_split_there_are_no_test_files(tmp_path, capsys):
    folder = draw_museum(tmp_path / "m", size=200, image_size=32, test_fraction=0, progress=True)
    assert "200/200" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == [
        "labels.csv", "motifs.csv", "specimens.csv", "train", "train.csv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 199}, "`size` must be an integer from 200 to 109,237. Received: size=199"),
        ({"size": MAX_PICTURES + 1}, "`size` must be"),
        ({"size": 300.0}, "`size` must be an integer"),
        ({"image_size": 8}, "`image_size` must be an integer from 32"),
        ({"seed": -1}, "`seed` must be an integer at least 0"),
        ({"workers": 0}, "`workers` must be"),
        ({"test_fraction": 0.6}, "`test_fraction` must be from 0 to 0.5"),
        ({"label_noise": 1.0}, "`label_noise` must be at least 0 and below 1"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw_museum(tmp_path / "m", **arguments)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        draw_museum(tmp_path, size=200)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(spec, image_size):
        raise RuntimeError("no paint")

    monkeypatch.setattr("imetlib.collection.museum.draw_picture", fail)
    with pytest.raises(RuntimeError, match="no paint"):
        draw_museum(tmp_path / "m", size=200)
    assert not list(tmp_path.iterdir())


def test_the_catalogue_names_only_what_can_be_drawn():
    for culture in CULTURES:
        assert set(culture.objects) <= set(OBJECTS)
        assert set(culture.ornaments) <= set(ORNAMENTS)
        assert culture.palette in _PALETTES
        assert _texture(culture.medium).shape == (512, 512)
    assert set(UNITS) == set(PERIODS) == set(ORNAMENTS)
    assert all(set(kind.motifs) <= set(MOTIFS) for kind in OBJECTS.values())
    assert len(set(MOTIFS) | set(OBJECTS) | set(ORNAMENTS)) == len(MOTIFS) + len(OBJECTS) + len(
        ORNAMENTS
    )


@pytest.mark.parametrize("name", MOTIFS)
def test_glyphs_fill_their_square(name):
    glyph = motif_glyph(name)
    assert glyph.ends[-1] == len(glyph.points)
    np.testing.assert_allclose(abs(glyph.points).max(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(glyph.points.min(axis=0) + glyph.points.max(axis=0), 0, atol=1e-5)


def test_an_unknown_motif_is_named():
    with pytest.raises(ValueError, match=r"Unknown motif.*'unicorns'"):
        motif_glyph("unicorns")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_shapes_say_more_than_colours():
    """A colour histogram gains at most half of what a small network gains in a minute."""
    from museum_learnability import constant_score, drawn, histogram_score, network_score

    x, y = drawn(200, 1_600)
    data = x[:1_000], y[:1_000], x[1_000:], y[1_000:]
    constant = constant_score(y[:1_000], y[1_000:])
    colour = histogram_score(*data)
    network, _ = network_score(*data)
    assert network - constant > 0.05
    assert colour - constant <= 0.5 * (network - constant)


def test_contact_sheet_is_full_and_repeats():
    from imetlib.collection.contact_sheet import draw_contact_sheet

    sheet = draw_contact_sheet(num_rows=2, width=300, height=48)
    assert sheet.shape[1:] == (300, 3)
    assert np.array_equal(sheet, draw_contact_sheet(num_rows=2, width=300, height=48))
    assert sheet[:, -1].std() > 0, "a row that ends early leaves white at its end"
