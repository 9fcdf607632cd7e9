"""The museum as ten classes: form, determinism, and what its colours do not give away."""

import numpy as np
import pytest

from imetlib.collection.museum import draw_picture, picture_spec
from imetlib.collection.museum_classes import OBJECT_NAMES, draw_museum_classes
from imetlib.collection.museum_objects import OBJECTS


@pytest.fixture(scope="module")
def drawn():
    return draw_museum_classes(num_train=300, num_test=100)


def test_the_form_is_that_of_cifar10(drawn):
    assert drawn.train_images.shape == (300, 32, 32, 3)
    assert drawn.test_images.shape == (100, 32, 32, 3)
    assert drawn.train_images.dtype == np.uint8
    assert np.bincount(drawn.train_labels).tolist() == [30] * 10
    assert np.bincount(drawn.test_labels).tolist() == [10] * 10
    assert drawn.class_names == OBJECT_NAMES and len(set(OBJECT_NAMES)) == 10
    assert drawn.source == "pocket museum, 10 kinds of object at 32 px, seed 0"


def test_the_same_seed_gives_the_same_bytes(drawn):
    again = draw_museum_classes(num_train=300, num_test=100)
    assert again.train_images.tobytes() == drawn.train_images.tobytes()
    assert again.test_images.tobytes() == drawn.test_images.tobytes()


def test_fewer_pictures_are_the_beginning_of_more(drawn):
    fewer = draw_museum_classes(num_train=47, num_test=23)
    np.testing.assert_array_equal(fewer.train_images, drawn.train_images[:47])
    np.testing.assert_array_equal(fewer.test_images, drawn.test_images[:23])
    np.testing.assert_array_equal(fewer.train_labels, drawn.train_labels[:47])


def test_another_seed_gives_other_pictures(drawn):
    other = draw_museum_classes(num_train=50, num_test=10, seed=1)
    same = (other.train_images == drawn.train_images[:50]).all(axis=(1, 2, 3))
    assert not same.any()


def test_no_picture_stands_twice(drawn):
    pictures = [*drawn.train_images, *drawn.test_images]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_pictures_are_finer_at_a_larger_size(drawn):
    large = draw_museum_classes(num_train=20, num_test=10, image_size=64)
    assert large.train_images.shape[1:] == (64, 64, 3)
    halved = large.train_images.reshape(20, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    own = np.abs(halved - drawn.train_images[:20]).mean()
    others = np.abs(halved - drawn.train_images[20:40]).mean()
    assert own < others / 2


def nearest_class(train, labels, test):
    """Class of the nearest class mean, by the features' own scale."""
    scale = train.std(axis=0) + 1e-9
    means = np.stack([train[labels == label].mean(axis=0) for label in range(10)])
    return (((test[:, None] - means) / scale) ** 2).sum(axis=2).argmin(axis=1)


def test_shapes_tell_the_classes_and_the_mean_colour_does_not():
    data = draw_museum_classes(num_train=600, num_test=300)

    def accuracy(features):
        answer = nearest_class(
            features(data.train_images), data.train_labels, features(data.test_images)
        )
        return float(np.mean(answer == data.test_labels))

    def edges(images):
        grey = images.mean(axis=3)
        rows, columns = (
            np.abs(np.diff(grey, axis=1))[:, :, 1:],
            np.abs(np.diff(grey, axis=2))[:, 1:],
        )
        fields = (rows + columns)[:, :30, :30].reshape(-1, 10, 3, 10, 3).mean(axis=(2, 4))
        return fields.reshape(len(images), -1)

    # Chance is 0.1, with a standard deviation of 0.017.
    assert accuracy(lambda images: images.mean(axis=(1, 2))) < 0.2
    assert accuracy(edges) > 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_train": 9}, "`num_train` must be an integer from 10 to 1,000,000. Received: .*=9"),
        ({"num_test": 1_000_001}, "`num_test` must be an integer"),
        ({"num_test": 20.0}, "Received: num_test=20.0"),
        ({"image_size": 8}, "`image_size` must be an integer from 16 to 256"),
        ({"seed": -1}, "`seed` must be an integer at least 0. Received: seed=-1"),
        ({"seed": True}, "Received: seed=True"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_museum_classes(**arguments)


def test_a_picture_of_any_kind_can_be_asked_for():
    for name in OBJECTS:
        spec = picture_spec(3, 1_000, object_name=name)
        assert spec.object_name == name
        low, high = OBJECTS[name].aspects
        assert low <= spec.aspect <= high
        assert draw_picture(spec, 32).shape[:2] != (0, 0)
    with pytest.raises(ValueError, match=r"`object_name` must be one of vases.*'cups'"):
        picture_spec(3, 1_000, object_name="cups")
