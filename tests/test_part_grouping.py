"""Channel grouping: peaks, k-means, the regression and what happens without it, alternation."""

import itertools

import keras
import numpy as np
import pytest

from imetlib.models.backbones import build_backbone, feature_map
from imetlib.models.heads import attach_head, classifier, freeze
from imetlib.models.multi_attention import multi_attention_logits, training_outputs
from imetlib.training.part_grouping import (
    AlternateGrouping,
    channel_positions,
    group_channels,
    regress_indicators,
    start_grouping,
)
from imetlib.training.part_losses import GroupingLoss, SharedTargets, diversity_loss

SHAPE = (12, 20, 3)
CLASSES = 4


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def labels(count):
    return np.random.default_rng(1).integers(0, 2, (count, CLASSES)).astype(np.float32)


def build(num_parts=2, shape=SHAPE, **settings):
    """Parts on the rectified first map, 6 channels; a BatchNormalization after it."""
    keras.utils.set_random_seed(0)
    images = keras.Input(shape, dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 64)(images)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="conv1")(x)
    x = keras.layers.BatchNormalization(name="norm1")(x)
    features = keras.layers.ReLU(name="map")(x)
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv2")(features)
    backbone = keras.Model(images, keras.layers.BatchNormalization(name="norm2")(x), name="tiny")
    logits = multi_attention_logits(
        features, CLASSES, num_parts=num_parts, gain=5.0, whole=backbone.output, **settings
    )
    return classifier(backbone, logits)


def weights_of(model):
    return {weight.path: weight.numpy().copy() for weight in model.weights}


def changed(before, model):
    return {
        weight.path
        for weight in model.weights
        if np.abs(weight.numpy() - before[weight.path]).max() > 0
    }


def test_positions_are_the_peaks_of_each_channel():
    model = build()
    # Five channels that are never 0, and a constant one.
    gamma, beta = np.array([[1, 1, 1, 1, 1, 0], [20, 20, 20, 20, 20, 0]], np.float32)
    model.get_layer("norm1").set_weights([gamma, beta, np.zeros(6), np.ones(6)])
    images = pictures(5)
    positions, means = channel_positions(model, [images[:3], (images[3:], labels(2)), images])
    assert positions.shape == (6, 10, 2) and means.shape == (10, 6)
    maps = keras.Model(model.input, model.get_layer("map").output).predict_on_batch(images)
    assert maps.shape == (5, 6, 10, 6)
    for picture, channel in np.ndindex(5, 5):
        row, column = np.unravel_index(maps[picture, :, :, channel].argmax(), (6, 10))
        wanted = [(row + 0.5) / 6, (column + 0.5) / 10]
        np.testing.assert_allclose(positions[channel, picture], wanted, rtol=1e-6)
    assert np.isnan(positions[5]).all() and np.isfinite(positions[:5]).all()
    np.testing.assert_allclose(means[:5], maps.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    few, _ = channel_positions(model, [images[:3], images[3:], images], num_batches=1)
    np.testing.assert_array_equal(few, positions[:, :3])


def test_groups_are_the_channels_that_peak_together():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1, (3, 40, 2))  # where three things stand in 40 pictures
    owner = np.array([1, 0, 2, 0, 1, 1, 2, 0])
    positions = corner[owner] + rng.normal(scale=0.02, size=(8, 40, 2))
    positions[4, ::3] = np.nan  # silent on a third of the pictures
    positions = np.concatenate([positions, np.full((1, 40, 2), np.nan)])
    indicators = group_channels(positions, 3)
    assert indicators.dtype == np.float32 and indicators.shape == (3, 9)
    # Groups in the order of their first channels; the silent channel joins none.
    wanted = [[1, 0, 0, 0, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(indicators, wanted)


def test_too_few_channels_for_the_parts():
    positions = np.random.default_rng(0).uniform(size=(5, 7, 2))
    positions[2:4] = positions[1]
    positions[4] = np.nan
    group_channels(positions, 2)
    for num_parts in (3, 0):
        with pytest.raises(ValueError, match=rf"{num_parts} parts need .* Received: 2 of 5"):
            group_channels(positions, num_parts)
    with pytest.raises(ValueError, match=r"2 parts need .* Received: 0 of 5 channels"):
        group_channels(np.full((5, 7, 2), np.nan), 2)


def test_regression_teaches_the_groups_and_nothing_else():
    model = build(num_parts=3)
    rng = np.random.default_rng(0)
    means = rng.uniform(size=(70, 6)).astype(np.float32)
    indicators = np.eye(3, 6, dtype=np.float32)
    before = weights_of(model)
    fresh = regress_indicators(model, means, indicators, steps=0)
    assert fresh == pytest.approx(0.25, abs=1e-3)
    assert not changed(before, model)
    error = regress_indicators(model, means, indicators, steps=150, learning_rate=0.02)
    assert error < 0.01
    assert {path.split("/")[0] for path in changed(before, model)} == {
        "parts_grouping_hidden",
        "parts_grouping",
    }
    layers = [model.get_layer(f"parts_{name}") for name in ("grouping_hidden", "grouping")]
    answer = keras.ops.convert_to_numpy(layers[1](layers[0](means)))
    assert error == pytest.approx(float(np.mean((answer - indicators) ** 2)), rel=1e-4)


def apartness(model, images):
    """Div of the masks, and what it would be if all of them were their mean."""
    masks = keras.Model(model.input, model.get_layer("parts_masks").output)
    masks = masks.predict_on_batch(images)
    alike = np.repeat(masks.mean(axis=-1, keepdims=True), masks.shape[-1], axis=-1)
    return [float(keras.ops.mean(diversity_loss(x, margin=0.0))) for x in (masks, alike)]


def test_without_the_regression_parts_stay_alike():
    images, differences = pictures(16), {}
    for started in (False, True):
        model = build()
        if started:
            groups = start_grouping(model, [images], steps=150, learning_rate=0.02)
            assert groups.num_pictures == 16 and groups.error < 0.02
            assert groups.indicators.shape == (2, 6) and groups.indicators.any(axis=1).all()
        loss = GroupingLoss(0.0, 1.0)
        AlternateGrouping(model, [images], steps=10, learning_rate=1e-3, loss=loss).on_epoch_begin(
            0
        )
        diversity, alike = apartness(model, images)
        differences[started] = abs(diversity - alike)
    assert differences[True] > 100 * differences[False]


def test_masks_differ_after_the_start_only():
    images = pictures(16)
    model = build()
    masks = keras.Model(model.input, model.get_layer("parts_masks").output)
    before = masks.predict_on_batch(images)
    assert np.abs(before[..., 0] - before[..., 1]).max() < 0.01 * before.max()
    start_grouping(model, [images], steps=150, learning_rate=0.02)
    after = masks.predict_on_batch(images)
    assert np.abs(after[..., 0] - after[..., 1]).max() > 0.1 * after.max()


def test_start_is_the_same_each_time():
    images, answers = pictures(16), []
    for _ in range(2):
        model = build()
        start_grouping(model, [images], steps=5)
        answers.append(model.predict_on_batch(images))
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_stages_change_what_they_should():
    model = build()
    images, y_true = pictures(12), labels(12)
    freeze(model, "conv2")  # the first convolution is frozen, and stays so
    flags = {layer.name: layer.trainable for layer in model.layers}
    callback = AlternateGrouping(model, [images[:6], images[6:]], steps=2, learning_rate=0.02)
    grouping = {"parts_grouping_hidden", "parts_grouping"}
    for layer in model.layers:
        assert layer.trainable == (flags[layer.name] and layer.name not in grouping)

    training = training_outputs(model)
    loss = SharedTargets(keras.losses.BinaryCrossentropy(from_logits=True), 0.5)
    training.compile(keras.optimizers.Adam(0.01), loss=loss)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.before = weights_of(model)
            callback.on_epoch_begin(epoch)
            paths = changed(self.before, model)
            seen.append({path.split("/")[0] for path in paths})
            self.before = weights_of(model)

        def on_epoch_end(self, epoch, logs=None):
            paths = changed(self.before, model)
            seen.append({path.split("/")[0] for path in paths})

    training.fit(images, y_true, batch_size=4, epochs=3, verbose=0, callbacks=[Watch()])
    learning = {"conv2", "norm2", "parts_logits"}
    assert seen == [grouping, learning] * 3
    for layer in model.layers:
        assert layer.trainable == (flags[layer.name] and layer.name not in grouping)
    assert [row["epoch"] for row in callback.history] == [0, 1, 2]
    assert all(np.isfinite(list(row.values())).all() for row in callback.history)


def test_grouping_starts_after_some_epochs_of_one_fit():
    model, images = build(), pictures(8)
    callback = AlternateGrouping(
        model, [images[:4], images[4:]], start_epoch=2, num_batches=1, steps=1
    )
    model.compile("sgd", loss="mean_squared_error")
    kernel = model.get_layer("parts_grouping").kernel
    kernels = [kernel.numpy().copy()]
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kernels.append(kernel.numpy().copy())
    )
    model.fit(images, labels(8), epochs=4, verbose=0, callbacks=[callback, watch])
    moved = [np.abs(after - before).max() > 0 for before, after in itertools.pairwise(kernels)]
    assert moved == [False, False, True, True]
    assert [row["epoch"] for row in callback.history] == [2, 3]
    assert callback.groups.num_pictures == 4
    assert not model.get_layer("parts_grouping").trainable


def test_batches_go_on_from_epoch_to_epoch():
    model = build()
    images = pictures(6)

    class Recorder(list):
        asked = ()

        def __getitem__(self, index):
            self.asked = (*self.asked, index)
            return super().__getitem__(index)

    batches = Recorder([images[:2], images[2:4], (images[4:], labels(2))])
    callback = AlternateGrouping(model, batches, steps=2)
    model.compile("sgd", loss="mean_squared_error")
    model.fit(images, labels(6), epochs=3, verbose=0, callbacks=[callback])
    assert batches.asked == (0, 1, 2, 0, 1, 2)


@pytest.mark.parametrize("key", ["distance", "diversity"])
def test_the_grouping_loss_falls(key):
    images = pictures(16)
    model = build()
    start_grouping(model, [images], steps=30, learning_rate=0.02)
    weights = {"distance": (1.0, 0.0), "diversity": (0.0, 100.0)}[key]
    callback = AlternateGrouping(
        model, [images], steps=40, learning_rate=3e-3, loss=GroupingLoss(*weights)
    )
    callback.on_epoch_begin(0)
    (row,) = callback.history
    assert row[f"{key}_after"] < row[f"{key}_before"]


def test_grouping_does_not_touch_statistics_of_the_backbone():
    model = build()
    before = weights_of(model)
    callback = AlternateGrouping(model, [pictures(8)], steps=3, learning_rate=0.02)
    callback.on_epoch_begin(0)
    assert {path.split("/")[0] for path in changed(before, model)} == {
        "parts_grouping_hidden",
        "parts_grouping",
    }


def test_alternation_on_open_picture_sizes():
    model = build(shape=(None, None, 3))
    callback = AlternateGrouping(model, [pictures(4)], steps=1)
    model.compile("sgd", loss="mean_squared_error")
    model.fit(pictures(4), labels(4), verbose=0, callbacks=[callback])
    model.fit(pictures(4)[:, :8, :8], labels(4), verbose=0, callbacks=[callback])
    assert len(callback.history) == 2


def test_alternation_beside_the_plain_head_of_a_backbone():
    keras.utils.set_random_seed(0)
    backbone = build_backbone("small_convnet", (16, 16, 3))
    features = feature_map("small_convnet", backbone, 4)
    logits = multi_attention_logits(features, CLASSES, kernel_initializer="zeros", gain=10.0)
    model = attach_head(backbone, CLASSES, beside=[logits])
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    groups = start_grouping(model, [images], steps=2)
    assert groups.indicators.shape == (4, 48)
    callback = AlternateGrouping(model, [images], steps=1)
    model.compile("adam", loss=keras.losses.BinaryCrossentropy(from_logits=True))
    history = model.fit(images, labels(8), epochs=2, verbose=0, callbacks=[callback]).history
    assert np.isfinite(history["loss"]).all()
