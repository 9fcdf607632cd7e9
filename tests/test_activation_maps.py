"""Activation maps add up to the logits, and layers give the same by name as in the model."""

import keras
import numpy as np
import pytest

from imetlib.models.activation_maps import activation_maps, layer_outputs
from imetlib.models.heads import attach_head, classifier

CHANNELS, CLASSES = 8, 5


def tiny_backbone(dtype="float32"):
    images = keras.Input((16, 16, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255, name="normalisation")(images)
    for number in (1, 2):
        x = keras.layers.Conv2D(
            CHANNELS, 3, 2, "same", activation="relu", name=f"conv{number}", dtype=dtype
        )(x)
    return keras.Model(images, x, name="tiny")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return attach_head(tiny_backbone(), CLASSES, dropout=0.5)


def test_means_of_the_maps_and_maxima_make_the_logits(model, images):
    """Oracle: the head in NumPy, its maxima and bias beside the means of the maps."""
    maps = activation_maps(model).predict(images, verbose=0)
    assert maps.shape == (5, 4, 4, CLASSES) and maps.dtype == np.float32
    kernel, bias = model.get_layer("logits").get_weights()
    bias = bias + np.arange(CLASSES, dtype=np.float32)
    model.get_layer("logits").set_weights([kernel, bias])
    features = keras.Model(model.input, model.get_layer("conv2").output).predict(images, verbose=0)
    scaled = features.max(axis=(1, 2)) / np.sqrt(2 * CHANNELS)
    expected = model.predict(images, verbose=0) - bias - scaled @ kernel[CHANNELS:]
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), expected, atol=1e-5)
    for row, column in ((0, 3), (2, 1)):
        place = features[4, row, column] @ kernel[:CHANNELS] / np.sqrt(2 * CHANNELS)
        np.testing.assert_allclose(maps[4, row, column], place, atol=1e-5)


def test_with_maxima_the_maps_make_the_whole_logits(model, images):
    maps = activation_maps(model, maxima=True).predict(images, verbose=0)
    bias = model.get_layer("logits").get_weights()[1]
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)) + bias, expected, atol=1e-5)
    # Oracle: each channel's maximum at its place, one by one; zeros have no place and no weight.
    expected = activation_maps(model).predict(images, verbose=0)
    features = layer_outputs(model, ["conv2"], images)["conv2"]
    kernel = model.get_layer("logits").get_weights()[0][CHANNELS:] / np.sqrt(2 * CHANNELS)
    for picture in range(5):
        for channel in range(CHANNELS):
            place = divmod(int(features[picture, ..., channel].argmax()), 4)
            share = 16 * features[picture, *place, channel]
            expected[picture, *place] += share * kernel[channel]
    np.testing.assert_allclose(maps, expected, atol=1e-5)


@pytest.mark.parametrize("maxima", [False, True])
def test_a_head_of_means_alone(images, maxima):
    backbone = tiny_backbone()
    x = keras.layers.GlobalAveragePooling2D(name="pooled_mean")(backbone.output)
    x = keras.layers.Rescaling(0.5, name="head_scale")(x)
    logits = keras.layers.Dense(3, name="logits", bias_initializer="ones")(x)
    model = classifier(backbone, logits)
    maps = activation_maps(model, maxima=maxima).predict(images, verbose=0)
    expected = model.predict(images, verbose=0) - 1
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), expected, atol=1e-5)


def test_maps_of_some_attributes_in_the_order_asked(model, images):
    every = activation_maps(model).predict(images, verbose=0)
    some = activation_maps(model, [3, 0]).predict(images, verbose=0)
    np.testing.assert_allclose(some, every[..., [3, 0]], atol=1e-6)


def test_the_model_stays_as_it_was(model, images):
    layers, before = len(model.layers), model.predict(images, verbose=0)
    activation_maps(model)
    assert len(model.layers) == layers
    np.testing.assert_array_equal(model.predict(images, verbose=0), before)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_maps_are_float32_under_mixed_precision(images, dtype):
    mixed = attach_head(tiny_backbone(dtype), CLASSES)
    maps = activation_maps(mixed)(images)
    assert keras.backend.standardize_dtype(maps.dtype) == "float32"
    features = layer_outputs(mixed, ["conv2"], images)["conv2"].astype(np.float32)
    kernel = mixed.get_layer("logits").get_weights()[0][:CHANNELS] / np.sqrt(2 * CHANNELS)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(maps), features @ kernel, atol=1e-4)


def test_maps_compile_and_are_saved(model, images, tmp_path):
    maps = activation_maps(model)
    before = maps.predict(images, verbose=0)
    # On torch this is no XLA but torch.compile, which needs a C++ compiler.
    maps.compile(jit_compile=keras.backend.backend() != "torch")
    np.testing.assert_allclose(maps.predict(images, verbose=0), before, atol=1e-5)
    maps.save(tmp_path / "maps.keras")
    opened = keras.saving.load_model(tmp_path / "maps.keras", compile=False)
    np.testing.assert_allclose(opened.predict(images, verbose=0), before, atol=1e-5)


def test_another_head_is_refused():
    backbone = tiny_backbone()
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(backbone.output))
    with pytest.raises(ValueError, match=r"need a head of mean pooling .* Received: tiny"):
        activation_maps(classifier(backbone, logits))


@pytest.mark.parametrize("batch_size", [2, 5, 64])
def test_layers_give_the_same_in_batches(model, images, batch_size):
    found = layer_outputs(model, ["conv1", "logits"], images, batch_size=batch_size)
    assert list(found) == ["conv1", "logits"]
    assert found["conv1"].shape == (5, 8, 8, CHANNELS)
    expected = keras.Model(model.input, model.get_layer("conv1").output)(images)
    np.testing.assert_allclose(found["conv1"], keras.ops.convert_to_numpy(expected), atol=1e-6)
    np.testing.assert_allclose(found["logits"], model.predict(images, verbose=0), atol=1e-5)


def test_a_layer_that_is_not_there_is_named(model, images):
    with pytest.raises(ValueError, match="No such layer: mask"):
        layer_outputs(model, ["mask"], images)
