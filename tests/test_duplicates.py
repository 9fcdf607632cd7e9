"""Near duplicates: the hash survives copying, and the search finds every pair that is near."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from imetlib.collection.duplicates import (
    find_closest_pairs,
    find_near_duplicates,
    hash_distances,
    hash_image,
    sibling_pairs,
)
from imetlib.collection.images import ImageError, decode_image
from imetlib.collection.museum import draw_museum, draw_picture, picture_spec
from imetlib.collection.survey import survey_pictures
from imetlib.collection.tables import read_collection


def find_slowly(hashes, max_distance):
    """Every pair, one XOR each."""
    return {
        (i, j): distance
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (
            distance := sum(
                int(a ^ b).bit_count() for a, b in zip(hashes[i], hashes[j], strict=True)
            )
        )
        <= max_distance
    }


def distance(first, second):
    return int(hash_distances(np.array([first, second]), np.array([[0, 1]]))[0])


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    return read_collection(
        draw_museum(tmp_path_factory.mktemp("drawn") / "museum", size=200, image_size=48)
    )


@given(
    arrays(np.uint64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(0, 255)),
    st.integers(0, 15),
)
@settings(deadline=None, max_examples=150)
def test_finds_every_near_pair(hashes, max_distance):
    pairs, distances = find_near_duplicates(hashes, max_distance=max_distance)
    found = dict(zip(map(tuple, pairs.tolist()), distances.tolist(), strict=True))
    assert found == find_slowly(hashes, max_distance)
    assert (np.diff(distances) >= 0).all()


@pytest.mark.parametrize("max_distance", [0, 4, 7, 8, 15])
def test_finds_pairs_whose_bits_are_spread_over_all_parts(max_distance):
    generator = np.random.default_rng(max_distance)
    hashes = generator.integers(0, 2**63, (300, 2)).astype(np.uint64)
    flipped = generator.permutation(128)[:max_distance]
    for bit in flipped:
        hashes[7, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    hashes[250] = hashes[7]
    for bit in flipped:
        hashes[250, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    pairs, distances = find_near_duplicates(hashes, max_distance=max_distance)
    assert pairs.tolist() == [[7, 250]]
    assert distances.tolist() == [max_distance]


def test_many_equal_hashes_are_all_paired():
    pairs, distances = find_near_duplicates(np.zeros((60, 2), np.uint64))
    assert len(pairs) == 60 * 59 // 2
    assert not distances.any()


def test_closest_pairs_are_the_nearest(museum):
    hashes = survey_pictures(museum).hashes
    pairs, distances = find_closest_pairs(hashes, 3)
    everything = sorted(find_slowly(hashes, 15).values())
    assert distances.tolist() == everything[: len(pairs)]


@pytest.mark.parametrize("index", [3, 120, 301])
def test_hash_survives_saving_scaling_and_light(index, tmp_path):
    picture = draw_picture(picture_spec(0, index), 192)
    picture = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
    original = Image.fromarray(picture)
    original.save(tmp_path / "poor.jpg", quality=60)
    original.resize((original.width // 2, original.height // 2)).save(tmp_path / "small.png")
    Image.fromarray((picture * 0.9).astype(np.uint8)).save(tmp_path / "dark.png")
    for name in ("poor.jpg", "small.png", "dark.png"):
        copy = decode_image(tmp_path / name)
        assert distance(hash_image(picture), hash_image(copy)) <= 4, name


def test_a_mirror_image_is_no_copy():
    picture = draw_picture(picture_spec(0, 120), 96)
    assert distance(hash_image(picture), hash_image(picture[:, ::-1].copy())) > 15


def test_strips_can_be_hashed():
    strip = np.zeros((7531, 300, 3), np.uint8)
    strip[3000:] = 200
    assert hash_image(strip).any()


def test_museum_has_siblings_but_no_copies(museum):
    """Second views are other photographs: the hash does not replace `specimens.csv`."""
    survey = survey_pictures(museum)
    siblings = sibling_pairs(museum.specimens)
    assert len(siblings) > 0
    assert (museum.specimens[siblings[:, 0]] == museum.specimens[siblings[:, 1]]).all()
    assert len(find_near_duplicates(survey.hashes)[0]) == 0


def test_a_copy_in_the_collection_is_found(museum):
    survey = survey_pictures(museum)
    path = museum.picture_path("train", survey.ids[5])
    picture = Image.fromarray(decode_image(path))
    copy = np.array(picture.resize((picture.width * 3 // 2, picture.height * 3 // 2)))
    pairs, _ = find_near_duplicates(np.vstack([survey.hashes, hash_image(copy)]))
    assert pairs.tolist() == [[5, len(survey.ids)]]


def test_survey_sees_sizes_and_grey(museum):
    survey = survey_pictures(museum)
    for row in range(0, len(survey.ids), 29):
        image = decode_image(museum.picture_path("train", survey.ids[row]))
        assert image.shape == (survey.heights[row], survey.widths[row], 3)
        assert survey.is_grey[row] == (np.ptp(image, axis=2).max() == 0)
        assert (survey.hashes[row] == hash_image(image)).all()
        assert survey.ratios[row] == image.shape[0] / image.shape[1]


def test_survey_names_all_that_cannot_be_read(tmp_path):
    folder = draw_museum(tmp_path / "museum", size=200, image_size=32)
    collection = read_collection(folder)
    broken = [collection.picture_path("train", name) for name in collection.train.ids[[2, 9]]]
    for path in broken:
        path.write_bytes(b"cut")
    with pytest.raises(ImageError) as raised:
        survey_pictures(collection)
    assert [fault.path for fault in raised.value.faults] == [str(path) for path in broken]


def test_without_specimens_there_are_no_siblings():
    assert sibling_pairs(None).shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hash_image(np.zeros((4, 4), np.uint8)), r"must be \(height, width, 3\) uint8"),
        (lambda: find_near_duplicates(np.zeros((3, 2))), r"must be \(num_samples, 2\) uint64"),
        (
            lambda: find_near_duplicates(np.zeros((3, 2), np.uint64), max_distance=16),
            r"must be in 0\.\.15. Received: max_distance=16",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
