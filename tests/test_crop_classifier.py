"""Windows of a map through one FullNet: a slow loop in NumPy, the linear map, counts, errors."""

import keras
import numpy as np
import pytest

from imetlib.models.crop_classifier import (
    AVERAGES,
    MAP_VIEWS,
    crop_classifier,
    equivalent_dense,
    full_net,
    image_views_model,
)
from imetlib.training.devices import dtype_policy

# Map and window: the report's sizes, one that is not square, an odd border, the whole map.
SIZES = [((5, 5), 3), ((4, 6), (2, 5)), ((6, 7), 3), ((3, 3), 3), ((2, 9), (1, 4))]
CHANNELS = 6
CLASSES = 4


def noise(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def to_numpy(x):
    return keras.ops.convert_to_numpy(x)


def stirred(map_shape, seed=0, **settings):
    """A classifier whose weights are noise, biases too."""
    model = crop_classifier(map_shape, CLASSES, **settings)
    for index, weight in enumerate(model.weights):
        scale = 1.5 / np.sqrt(np.prod(weight.shape[:-1]))
        weight.assign(noise(*weight.shape, seed=100 * seed + index, scale=scale))
    return model


def slow_views(maps, views, crop_size):
    """List of windows, cut one after the other."""
    if views == "whole":
        return [maps]
    if views == "mean":
        return [maps.mean(axis=(1, 2), keepdims=True)]
    height, width = maps.shape[1:3]
    crop_height, crop_width = np.broadcast_to(crop_size, 2)
    down, right = height - crop_height, width - crop_width
    starts = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = [
        maps[:, top : top + crop_height, left : left + crop_width]
        for top, left in (starts[4:] if views == "centre" else starts)
    ]
    return crops + [crop[:, :, ::-1] for crop in crops] if views == "ten" else crops


def slow_net(model, crops):
    """FullNet in NumPy."""
    x = crops.reshape(len(crops), -1).astype(np.float64)
    weights = model.get_layer("full_net").get_weights()
    for index, (kernel, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        x = x @ kernel + bias
        if 2 * index + 2 < len(weights):
            x = np.maximum(x, 0)
    return x


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


# Windows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", MAP_VIEWS)
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(("sides", "crop_size"), SIZES)
def test_one_pass_is_the_loop_over_views(views, average, sides, crop_size):
    settings = {"views": views, "average": average, "crop_size": crop_size, "hidden": (9, 7)}
    model = stirred((*sides, CHANNELS), **settings)
    maps = noise(3, *sides, CHANNELS)
    logits = [slow_net(model, crops) for crops in slow_views(maps, views, crop_size)]
    if average == "logits" or len(logits) == 1:
        wanted = np.mean(logits, axis=0)
    else:
        wanted = np.log(np.mean([softmax(one) for one in logits], axis=0))
    assert len(logits) == {"ten": 10, "five": 5}.get(views, 1)
    scores = model.predict_on_batch(maps)
    assert scores.shape == (3, CLASSES) and scores.dtype == np.float32
    assert np.ptp(wanted, axis=0).min() > 1e-2
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-5)


def test_probabilities_and_logits_average_differently():
    maps = noise(3, 5, 5, CHANNELS)
    both = [
        softmax(stirred((5, 5, CHANNELS), hidden=(9,), average=average).predict_on_batch(maps))
        for average in AVERAGES
    ]
    assert np.abs(both[0] - both[1]).max() > 1e-2


def test_mean_probabilities_of_logits_far_apart():
    """A softmax in float32 would be zero here, and its logarithm infinite."""
    model = stirred((5, 5, CHANNELS), crop_size=5)
    net = model.get_layer("full_net")
    net.set_weights([np.zeros((150, CLASSES)), np.array([0.0, -300.0, -3e4, -1.0])])
    scores = model.predict_on_batch(noise(2, 5, 5, CHANNELS))
    wanted = np.array([0.0, -300.0, -3e4, -1.0]) - np.log1p(np.exp(-1.0))
    np.testing.assert_allclose(scores, [wanted] * 2, rtol=1e-6, atol=1e-5)


def test_constant_maps():
    """All views of a constant map are the same: the mean is what one says."""
    maps = np.broadcast_to(noise(2, 1, 1, CHANNELS), (2, 5, 5, CHANNELS))
    for average in AVERAGES:
        model = stirred((5, 5, CHANNELS), hidden=(9,), average=average)
        logits = slow_net(model, maps[:, :3, :3])
        scores = model.predict_on_batch(maps)
        np.testing.assert_allclose(softmax(scores), softmax(logits), rtol=1e-5, atol=1e-6)
        if average == "logits":
            np.testing.assert_allclose(scores, logits, rtol=1e-5, atol=1e-5)
    # The identity as head: class k is channel k of the middle cell.
    model = crop_classifier((5, 5, CLASSES), CLASSES, average="logits")
    kernel = np.zeros((9, CLASSES, CLASSES), np.float32)
    kernel[4] = np.eye(CLASSES)
    model.get_layer("full_net").set_weights([kernel.reshape(-1, CLASSES), np.zeros(CLASSES)])
    values = noise(2, 1, 1, CLASSES)
    scores = model.predict_on_batch(np.broadcast_to(values, (2, 5, 5, CLASSES)))
    np.testing.assert_allclose(scores, values[:, 0, 0], rtol=1e-6)


# The linear map ---------------------------------------------------------------------------------


@pytest.mark.parametrize("views", MAP_VIEWS)
@pytest.mark.parametrize(("sides", "crop_size"), SIZES)
def test_linear_full_net_is_one_dense_layer(views, sides, crop_size):
    model = stirred((*sides, CHANNELS), views=views, crop_size=crop_size, average="logits")
    maps = noise(3, *sides, CHANNELS, seed=1)
    kernel, bias = equivalent_dense(model)
    assert kernel.shape == (sides[0] * sides[1] * CHANNELS, CLASSES) and bias.shape == (CLASSES,)
    assert kernel.dtype == bias.dtype == np.float32
    found = maps.reshape(3, -1) @ kernel + bias
    np.testing.assert_allclose(found, model.predict_on_batch(maps), rtol=1e-5, atol=1e-5)
    logits = [slow_net(model, crops) for crops in slow_views(maps, views, crop_size)]
    np.testing.assert_allclose(found, np.mean(logits, axis=0), rtol=1e-5, atol=1e-5)


def test_linear_map_of_a_loaded_model(tmp_path):
    model = stirred((5, 5, CHANNELS), average="logits", dropout=0.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for found, wanted in zip(equivalent_dense(loaded), equivalent_dense(model), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_what_is_no_linear_map():
    with pytest.raises(ValueError, match=r"one linear map. Received: 2 hidden layers"):
        equivalent_dense(stirred((5, 5, CHANNELS), hidden=(9, 7), average="logits"))
    with pytest.raises(ValueError, match=r"one linear map. Received: averaged probabilities"):
        equivalent_dense(stirred((5, 5, CHANNELS)))


# Counts, training, files ------------------------------------------------------------------------


def test_parameters_of_the_reference():
    counts = {
        views: crop_classifier((5, 5, 256), 10, views=views).count_params() for views in MAP_VIEWS
    }
    windows = dict.fromkeys(("ten", "five", "centre"), 23_050)
    assert counts == {**windows, "whole": 64_010, "mean": 2_570}
    net = full_net((3, 3, 256), 10, hidden=(1024, 1024))
    assert net.count_params() == (2304 + 1) * 1024 + 1025 * 1024 + 1025 * 10


@pytest.mark.parametrize("average", AVERAGES)
def test_step_is_that_of_the_loss_on_the_mean(average):
    """The gradient of FullNet's last bias, against differences of the loss of the mean."""
    model = stirred((5, 5, CHANNELS), hidden=(9,), average=average)
    maps, labels = noise(5, 5, 5, CHANNELS), np.arange(5) % CLASSES
    bias = model.get_layer("full_net").get_layer("logits").bias
    start = to_numpy(bias).copy()

    def loss(values):
        bias.assign(values)
        prob = softmax(model.predict_on_batch(maps).astype(np.float64))
        return -np.log(prob[np.arange(5), labels]).mean()

    slopes = [
        (loss(start + step) - loss(start - step)) / 0.02
        for step in 0.01 * np.eye(CLASSES, dtype="f4")
    ]
    bias.assign(start)
    model.compile(
        keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.train_on_batch(maps, labels)
    np.testing.assert_allclose(start - to_numpy(bias), slopes, atol=2e-4)
    assert np.abs(slopes).max() > 0.01


def test_learns():
    """Maps whose class is the channel of a bright column on the left; mirrored they still are."""
    labels = np.arange(64) % CLASSES
    maps = noise(64, 5, 5, CLASSES, scale=0.3)
    maps[np.arange(64), :, 0, labels] += 1
    keras.utils.set_random_seed(0)
    model = crop_classifier((5, 5, CLASSES), CLASSES, hidden=(16,), dropout=0.1)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(maps, labels, epochs=30, batch_size=16, verbose=0)
    assert model.evaluate(maps, labels, verbose=0)[1] > 0.9


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("views", MAP_VIEWS)
def test_saved_and_loaded(views, average, tmp_path):
    model = stirred((5, 4, CHANNELS), views=views, hidden=(9,), average=average, dropout=0.2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    maps = noise(3, 5, 4, CHANNELS)
    np.testing.assert_array_equal(loaded.predict_on_batch(maps), model.predict_on_batch(maps))


@pytest.mark.parametrize("views", ["ten", "whole", "mean"])
def test_half_precision(views):
    settings = {"views": views, "hidden": (16,)}
    with dtype_policy("mixed_bfloat16"):
        half = crop_classifier((5, 5, CHANNELS), CLASSES, **settings)
    full = stirred((5, 5, CHANNELS), **settings)
    half.set_weights(full.get_weights())
    net = half.get_layer("full_net")
    assert net.get_layer("dense1").compute_dtype == "bfloat16"
    assert net.get_layer("logits").compute_dtype == half.output.dtype == "float32"
    if views != "mean":
        assert half.get_layer("crops").output.dtype == "bfloat16"
    maps = noise(3, 5, 5, CHANNELS)
    scores = half.predict_on_batch(maps)
    assert scores.dtype == np.float32
    error = np.abs(scores - full.predict_on_batch(maps)).max()
    assert 0 < error < 0.1


# Windows of the picture -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture_model():
    """Scores that depend on where in the picture something is."""
    images = keras.Input((6, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Dense(9, activation="relu")(keras.layers.Flatten()(x))
    model = keras.Model(images, keras.layers.Dense(CLASSES)(x), name="tiny")
    for index, weight in enumerate(model.weights):
        scale = 2 / np.sqrt(np.prod(weight.shape[:-1]))
        weight.assign(noise(*weight.shape, seed=index, scale=scale))
    return model


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_ten_windows_of_the_padded_picture(picture_model, padding, average, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    model = image_views_model(picture_model, (6, 8, 3), padding=padding, average=average)
    padded = np.zeros((3, 6 + 2 * padding, 8 + 2 * padding, 3), np.uint8)
    padded[:, padding : padding + 6, padding : padding + 8] = images
    views = [picture_model.predict_on_batch(x) for x in slow_views(padded, "ten", (6, 8))]
    if average == "logits":
        wanted = np.mean(views, axis=0)
    else:
        wanted = np.log(np.mean([softmax(view) for view in views], axis=0))
    assert np.std(views, axis=0).mean() > 0.1
    scores = model.predict_on_batch(images)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-5)
    assert model.get_layer("image_crops").output.dtype == "uint8"
    assert {id(weight) for weight in model.weights} == {id(w) for w in picture_model.weights}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(images), scores)


# Errors -----------------------------------------------------------------------------------------


def test_what_is_refused(picture_model):
    with pytest.raises(ValueError, match=r"from 1 x 1 to the map's 5 x 4 cells.*\(5, 5\)"):
        crop_classifier((5, 4, 8), 10, crop_size=5)
    for shape in [(5, 5), (None, 5, 8), (1, 5, 5, 8)]:
        with pytest.raises(ValueError, match=r"\(height, width, channels\), all known. Received"):
            crop_classifier(shape, 10)
    with pytest.raises(ValueError, match=r"views 'six'. Known: ten, five, centre, whole, mean"):
        crop_classifier((5, 5, 8), 10, views="six")
    with pytest.raises(ValueError, match=r"average 'max'. Known: probabilities, logits"):
        crop_classifier((5, 5, 8), 10, average="max")
    with pytest.raises(ValueError, match=r"tiny takes pictures of \(6, 8, 3\).*\(8, 6, 3\)"):
        image_views_model(picture_model, (8, 6, 3), padding=4)
    with pytest.raises(ValueError, match=r"tiny takes pictures of \(6, 8, 3\).*\(6, 8\)"):
        image_views_model(picture_model, (6, 8), padding=4)
    with pytest.raises(ValueError, match=r"`padding` must not be negative. Received: -1"):
        image_views_model(picture_model, (6, 8, 3), padding=-1)
    with pytest.raises(ValueError, match=r"average 'max'. Known: probabilities, logits"):
        image_views_model(picture_model, (6, 8, 3), padding=4, average="max")
