"""Random shifts and mirror images of small pictures."""

import numpy as np

from imetlib.collection.shifts import mirror_pictures, shift_pictures


def pictures(count):
    images = np.arange(1, 5 * 6 * 3 + 1, dtype=np.uint8).reshape(1, 5, 6, 3)
    return np.repeat(images, count, axis=0)


def test_every_shift_is_a_window_of_the_padded_picture_and_all_come():
    images = pictures(600)
    found = shift_pictures(images, np.random.default_rng(0), padding=1)
    assert found.shape == images.shape and found.dtype == np.uint8
    padded = np.pad(images[0], ((1, 1), (1, 1), (0, 0)))
    windows = [padded[top : top + 5, left : left + 6] for top in range(3) for left in range(3)]
    counts = [sum(np.array_equal(picture, window) for picture in found) for window in windows]
    assert sum(counts) == 600 and min(counts) > 30


def test_no_padding_changes_nothing_and_seeds_repeat():
    images = pictures(8)
    np.testing.assert_array_equal(shift_pictures(images, np.random.default_rng(3), 0), images)
    first, again = (shift_pictures(images, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_half_of_the_pictures_are_mirrored():
    images = pictures(400)
    found = mirror_pictures(images, np.random.default_rng(1))
    mirrored = (found == images[:, :, ::-1]).all(axis=(1, 2, 3))
    plain = (found == images).all(axis=(1, 2, 3))
    assert (mirrored ^ plain).all() and 150 < mirrored.sum() < 250
