"""Scores of pictures, dense and as the highest of each row written batch by batch."""

import keras
import numpy as np
import pytest

from imetlib.collection.cache import cache_of_images
from imetlib.collection.geometry import Preprocessing
from imetlib.decisions.thresholds import search_threshold
from imetlib.decisions.top_scores import read_top_scores
from imetlib.scores import load_scores
from imetlib.training.predict import predict_scores, predict_top_scores

NAMES = tuple([f"culture::{x}" for x in range(5)] + [f"tag::{x}" for x in range(15)])
SETTINGS = {"mirror_view": True, "exclusive": ("culture",), "batch_size": 4}


@pytest.fixture(scope="module")
def asked():
    """A random network, eleven pictures, and their ids in another order."""
    rng = np.random.default_rng(0)
    ids = np.array([f"p{number}" for number in range(11)], dtype=object)
    images = (rng.integers(0, 255, (20, 16, 3), dtype=np.uint8) for _ in ids)
    pictures = cache_of_images(images, ids, 16)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(len(NAMES), kernel_initializer="normal")(x))
    return model, pictures, ids[::-1], Preprocessing((16, 16, 3))


def test_batches_give_the_highest_of_the_dense_scores(asked, tmp_path):
    dense = predict_scores(*asked, NAMES, **SETTINGS)
    top = predict_top_scores(*asked, NAMES, tmp_path / "top.npz", k=6, **SETTINGS)
    kept = np.sort(dense.logits, axis=1)[:, -6:]
    np.testing.assert_allclose(np.sort(top.values, axis=1), kept, atol=1e-5)
    own = np.take_along_axis(dense.logits, top.columns.astype(np.int64), axis=1)
    np.testing.assert_allclose(own, top.values, atol=1e-5)
    again, ids, names = read_top_scores(tmp_path / "top.npz")
    np.testing.assert_array_equal(again.values, top.values)
    assert ids.tolist() == asked[2].tolist() and names == NAMES
    loaded = load_scores(tmp_path / "top.npz")
    np.testing.assert_array_equal(loaded.logits > -20, loaded.logits != loaded.logits.min())


def test_a_threshold_is_found_on_them(asked, tmp_path):
    dense = predict_scores(*asked, NAMES, **SETTINGS)
    y_true = dense.logits >= np.sort(dense.logits, axis=1)[:, -3, None]
    top = predict_top_scores(*asked, NAMES, tmp_path / "top.npz", k=10, **SETTINGS)
    found, wanted = search_threshold(y_true, top), search_threshold(y_true, dense.logits)
    assert found.certified and found.score == pytest.approx(wanted.score)


def test_a_missing_picture_is_named_before_anything_is_written(asked, tmp_path):
    model, pictures, ids, preprocessing = asked
    with pytest.raises(ValueError, match="unknown"):
        predict_top_scores(
            model, pictures, [*ids, "unknown"], preprocessing, NAMES, tmp_path / "x.npz", **SETTINGS
        )
    assert not list(tmp_path.iterdir())
