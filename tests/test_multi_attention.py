"""Multi-Attention CNN: masks and features against loops, counts of the reference, ablation."""

import itertools
import math

import keras
import numpy as np
import pytest

from imetlib.models.backbones import build_backbone, feature_map
from imetlib.models.heads import attach_head, classifier, freeze
from imetlib.models.multi_attention import (
    ablate_parts,
    masks_of_map,
    multi_attention_logits,
    training_outputs,
)
from imetlib.models.part_attention import (
    FORMS,
    PartAttention,
    PartPooling,
    channel_grouping,
    part_masks,
)
from imetlib.models.part_crops import PartCropNetwork, PartCrops
from imetlib.training.devices import dtype_policy
from imetlib.training.part_losses import GroupingLoss

SHAPE = (16, 24, 3)
CLASSES = 5


def small_backbone(shape=SHAPE, name="tiny"):
    """Two convolutions on pixels, a map of half the sides with 8 channels."""
    images = keras.Input(shape, dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="conv1")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="early")(x)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="late")(x)
    return keras.Model(images, x, name=name)


def with_parts(shape=SHAPE, **settings):
    backbone = small_backbone(shape)
    early = backbone.get_layer("early").output
    settings = {"num_parts": 3, "gain": 2.0, **settings}
    return classifier(backbone, multi_attention_logits(early, CLASSES, **settings))


def pictures(count=2, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def apart(model, seed=0, name="parts"):
    """Give the grouping layers weights with which the parts differ."""
    rng = np.random.default_rng(seed)
    for part in ("grouping_hidden", "grouping"):
        layer = model.get_layer(f"{name}_{part}")
        layer.set_weights([rng.normal(size=w.shape, scale=2.0) for w in layer.get_weights()])
    return model


def output_of(model, layer):
    return keras.Model(model.input, model.get_layer(layer).output)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return apart(with_parts())


def masks_by_hand(features, weights, form, gain, power):
    masks = np.zeros((*features.shape[:3], weights.shape[1]))
    for b, part in np.ndindex(len(features), weights.shape[1]):
        mask = masks[b, :, :, part]
        for row, column in np.ndindex(mask.shape):
            products = weights[b, part] * features[b, row, column]
            mask[row, column] = sum(map(float, products))
        if form == "sigmoid":
            mask[:] = [[(1 + math.exp(-gain * s)) ** -power for s in row] for row in mask]
        else:
            mask /= features.shape[-1]
            if form == "standardised":
                mask[:] = (mask - mask.mean()) / mask.std()
            mask[:] = [
                [math.log(1 + math.exp(math.tanh(gain * s))) ** power for s in row] for row in mask
            ]
        mask /= mask.sum()
    return masks


@pytest.mark.parametrize(
    ("settings", "gain", "power"),
    [
        ({}, 0.1, 4),
        ({"gain": 3, "power": 2.5}, 3, 2.5),
        ({"form": "sigmoid"}, 1, 1),
        ({"form": "standardised"}, 0.5, 8),
        ({"form": "sigmoid", "gain": 0.5, "power": 3}, 0.5, 3),
    ],
)
def test_masks_are_those_of_a_loop(settings, gain, power):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
    weights = rng.uniform(size=(2, 2, 6)).astype(np.float32)
    layer = PartAttention(**settings)
    masks = keras.ops.convert_to_numpy(layer([features, weights]))
    by_hand = masks_by_hand(features, weights, layer.form, gain, power)
    np.testing.assert_allclose(masks, by_hand, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1e4, -1e4, 0.0])
def test_masks_of_extreme_maps_stay_sums_of_one(form, scale):
    features = scale * np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 4, 1)
    weights = np.ones((1, 1, 1), np.float32)
    masks = keras.ops.convert_to_numpy(PartAttention(form)([features, weights]))
    assert np.isfinite(masks).all() and masks.min() >= 0
    np.testing.assert_allclose(masks.sum(axis=(1, 2)), 1, rtol=1e-5)


def test_released_masks_cannot_be_sharper_than_the_reference_says():
    features = np.zeros((1, 28, 28, 4), np.float32)
    features[0, 5, 9] = 1e6
    masks = keras.ops.convert_to_numpy(PartAttention()([features, np.ones((1, 1, 4), np.float32)]))
    assert masks.max() / masks.min() == pytest.approx(12.9, abs=0.05)
    assert np.unravel_index(masks.argmax(), masks.shape) == (0, 5, 9, 0)
    masks = PartAttention("sigmoid")([features, np.ones((1, 1, 4), np.float32)])
    assert float(keras.ops.max(masks) / keras.ops.min(masks)) == pytest.approx(2, abs=1e-3)


def test_standardised_masks_are_the_same_on_every_scale():
    rng = np.random.default_rng(0)
    features = rng.uniform(size=(2, 5, 6, 4)).astype(np.float32)
    weights = rng.uniform(size=(2, 3, 4)).astype(np.float32)
    masks = [
        keras.ops.convert_to_numpy(PartAttention("standardised")([scale * features, weights]))
        for scale in (1e-3, 1.0, 1e3)
    ]
    assert masks[1].max() > 3 / 30
    np.testing.assert_allclose(masks[0], masks[1], rtol=1e-3)
    np.testing.assert_allclose(masks[2], masks[1], rtol=1e-3)


def test_features_and_logits_are_those_of_a_loop(model):
    images = pictures()
    names = ("early", "parts_masks", "parts_features", "parts_grouping")
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in names])
    features, masks, parts, weights = (np.asarray(x) for x in outputs.predict_on_batch(images))
    by_hand = np.zeros((2, 3, 8))
    for b, row, column, part in np.ndindex(masks.shape):
        by_hand[b, part] += masks[b, row, column, part] * features[b, row, column]
    np.testing.assert_allclose(parts, by_hand, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(masks.sum(axis=(1, 2)), 1, rtol=1e-5)

    hidden, grouping = model.get_layer("parts_grouping_hidden"), model.get_layer("parts_grouping")
    assert hidden.kernel.shape == (3, 8, 8) and grouping.kernel.shape == (3, 8, 8)
    (kernel1, bias1), (kernel2, bias2) = hidden.get_weights(), grouping.get_weights()
    for b, part in itertools.product(range(2), range(3)):
        middle = np.tanh(features[b].mean(axis=(0, 1)) @ kernel1[part] + bias1[part])
        wanted = 1 / (1 + np.exp(-(middle @ kernel2[part] + bias2[part])))
        np.testing.assert_allclose(weights[b, part], wanted, rtol=1e-4, atol=1e-6)

    kernel, bias = model.get_layer("parts_logits").get_weights()
    logits = by_hand.reshape(2, 24) / math.sqrt(24) @ kernel + bias
    np.testing.assert_allclose(model.predict_on_batch(images), logits, rtol=1e-4, atol=1e-5)


def test_start_of_the_grouping_is_the_released_one():
    keras.utils.set_random_seed(0)
    model = with_parts(hidden_units=64, num_parts=8)
    for part in ("grouping_hidden", "grouping"):
        kernel, bias = model.get_layer(f"parts_{part}").get_weights()
        assert kernel.std() == pytest.approx(0.005, rel=0.05) and not bias.any()


# Reference, table 2.4: map, hidden width, parameters of the grouping layers of four parts.
@pytest.mark.parametrize(
    ("shape", "hidden_units", "num_params"),
    [
        ((28, 28, 512), None, 2_101_248),
        ((14, 14, 1088), None, 2_372_928),
        ((14, 14, 1088), 1088, 9_478_656),
        ((6, 6, 1536), None, 4_726_272),
        ((6, 6, 1536), 1536, 18_886_656),
    ],
)
def test_counts_of_the_grouping(shape, hidden_units, num_params):
    features = keras.Input(shape)
    grouping = channel_grouping(features, 4, hidden_units=hidden_units)
    assert keras.Model(features, grouping).count_params() == num_params
    masks = part_masks(features, 4, hidden_units=hidden_units, name="masks")
    assert keras.Model(features, masks).count_params() == num_params


def test_counts_on_inception_resnet_v2():
    backbone = build_backbone("inception_resnet_v2", (256, 256, 3))
    features = feature_map("inception_resnet_v2", backbone, 16)
    assert features.shape == (None, 14, 14, 1088)
    logits = multi_attention_logits(features, 1103, whole=backbone.output)
    model = classifier(backbone, logits)
    # Dense(1103)(concat[P_1 .. P_4, GAP(conv_7b)]) and auxiliary classifiers: table 2.4.
    assert model.get_layer("parts_logits").count_params() == 6_495_567
    assert training_outputs(model).get_layer("parts_part_logits").count_params() == 4_804_668
    grouping = (model.get_layer(f"parts_{x}") for x in ("grouping_hidden", "grouping"))
    assert sum(layer.count_params() for layer in grouping) == 2_372_928
    assert model.count_params() == 54_336_736 + 2_372_928 + 6_495_567
    # Beside the plain head, which pools means and maxima, the parts have a layer of their own.
    beside = multi_attention_logits(features, 1103, kernel_initializer="zeros", name="more")
    both = attach_head(backbone, 1103, beside=[beside])
    assert both.get_layer("more_logits").count_params() == 4 * 1088 * 1103 + 1103
    assert both.get_layer("logits").count_params() == 2 * 1536 * 1103 + 1103


@pytest.mark.parametrize(
    ("name", "side", "where"),
    [
        ("vgg19", 64, "block5_conv4"),
        ("xception", 96, 16),
        ("mobilenet_v2", 64, 16),
        ("small_convnet", 32, 8),
    ],
)
def test_parts_on_maps_of_other_backbones(name, side, where):
    backbone = build_backbone(name, (side, side, 3))
    features = feature_map(name, backbone, where)
    logits = multi_attention_logits(features, CLASSES, kernel_initializer="zeros")
    model = attach_head(backbone, CLASSES, beside=[logits])
    channels = features.shape[-1]
    hidden = channels if channels <= 512 else channels // 4
    grouping = 4 * (2 * channels * hidden + hidden + channels)
    head = (4 * channels + 1) * CLASSES + (2 * backbone.output.shape[-1] + 1) * CLASSES
    assert model.count_params() == backbone.count_params() + grouping + head
    assert model.get_layer("parts_masks").output.shape == (None, *features.shape[1:3], 4)
    freeze(model, "head")
    assert len(model.trainable_weights) == 8


def test_beside_the_plain_head_the_start_is_the_plain_heads():
    backbone = small_backbone()
    plain = attach_head(backbone, CLASSES)
    early = backbone.get_layer("early").output
    logits = multi_attention_logits(early, CLASSES, kernel_initializer="zeros")
    both = attach_head(backbone, CLASSES, beside=[logits])
    both.get_layer("logits").set_weights(plain.get_layer("logits").get_weights())
    np.testing.assert_allclose(
        both.predict_on_batch(pictures()), plain.predict_on_batch(pictures()), atol=1e-6
    )


def test_bias_starts_at_the_frequencies():
    frequency = np.array([0.5, 0.1, 0.01, 0.2, 0.9])
    model = with_parts(class_frequency=frequency, kernel_initializer="zeros")
    first = 1 / (1 + np.exp(-model.predict_on_batch(pictures())))
    np.testing.assert_allclose(first, np.tile(frequency, (2, 1)), rtol=1e-5)
    training = training_outputs(model, class_frequency=frequency)
    bias = training.get_layer("parts_part_logits").get_weights()[1]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), np.tile(frequency, (3, 1)), rtol=1e-5)


def test_training_outputs_are_the_own_logits_and_one_dense_layer_a_part(model):
    images = pictures()
    training = training_outputs(model)
    outputs = training.predict_on_batch(images)
    assert outputs.shape == (2, 4, CLASSES) and outputs.dtype == np.float32
    np.testing.assert_allclose(outputs[:, 0], model.predict_on_batch(images), atol=1e-6)
    parts = output_of(model, "parts_features").predict_on_batch(images)
    kernel, bias = training.get_layer("parts_part_logits").get_weights()
    assert kernel.shape == (3, 8, CLASSES)
    assert 0.5 * math.sqrt(6 / 13) < np.abs(kernel).max() <= math.sqrt(6 / 13)
    for part in range(3):
        wanted = parts[:, part] / math.sqrt(8) @ kernel[part] + bias[part]
        np.testing.assert_allclose(outputs[:, 1 + part], wanted, rtol=1e-4, atol=1e-5)
    assert training.get_layer("conv1") is model.get_layer("conv1")
    assert "parts_part_logits" not in {layer.name for layer in model.layers}
    freeze(training, "head")
    assert not model.get_layer("conv1").trainable and model.get_layer("parts_logits").trainable
    freeze(training, "all")


def test_ablated_parts(model):
    images = pictures()
    logits = model.predict_on_batch(images)
    kernel, bias = model.get_layer("parts_logits").get_weights()
    zero = ablate_parts(model).predict_on_batch(images)
    np.testing.assert_allclose(zero, np.tile(bias, (2, 1)), atol=1e-6)
    uniform = ablate_parts(model, "uniform").predict_on_batch(images)
    mean = output_of(model, "parts_mean").predict_on_batch(images)
    wanted = np.tile(mean, (1, 3)) / math.sqrt(24) @ kernel + bias
    np.testing.assert_allclose(uniform, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(logits - zero).max() > 1e-3 and np.abs(logits - uniform).max() > 1e-3
    # The model itself stays as it was.
    np.testing.assert_array_equal(model.predict_on_batch(images), logits)
    with pytest.raises(ValueError, match=r'"zero" or "uniform".*half'):
        ablate_parts(model, "half")


def test_masks_of_another_map_are_those_of_the_shared_layers(model):
    features = output_of(model, "early").predict_on_batch(pictures())
    maps = keras.Input(features.shape[1:])
    masks = keras.Model(maps, masks_of_map(model, maps)).predict_on_batch(features)
    wanted = output_of(model, "parts_masks").predict_on_batch(pictures())
    np.testing.assert_allclose(masks, wanted, atol=1e-6)


def test_gradients_reach_the_grouping_and_the_backbone(model):
    training = training_outputs(model)
    before = {weight.path: weight.numpy().copy() for weight in training.trainable_weights}
    training.compile(keras.optimizers.SGD(1.0), loss="mean_squared_error")
    training.train_on_batch(pictures(), np.ones((2, 4, CLASSES), np.float32))
    for weight in training.trainable_weights:
        assert np.abs(weight.numpy() - before[weight.path]).max() > 0, weight.path
        weight.assign(before[weight.path])


def test_gradient_of_the_masks_stops_at_the_map():
    changes = {}
    for detach in (True, False):
        keras.utils.set_random_seed(0)
        model = apart(with_parts(detach=detach))
        kernels = [model.get_layer(name).kernel for name in ("conv1", "parts_grouping")]
        outputs = [model.get_layer(name).output for name in ("parts_masks", "early")]
        masks = keras.Model(model.input, outputs)
        # The map has a gradient of 0 by another way, for none at all is a warning.
        losses = [GroupingLoss(), "mean_squared_error"]
        masks.compile(keras.optimizers.SGD(1.0), loss=losses, loss_weights=[1.0, 0.0])
        before = [kernel.numpy().copy() for kernel in kernels]
        masks.train_on_batch(pictures(), [np.zeros((2, 1)), np.zeros((2, 8, 12, 8))])
        changes[detach] = [
            np.abs(kernel.numpy() - old).max() for kernel, old in zip(kernels, before, strict=True)
        ]
    assert changes[True][0] == 0 and min(*changes[False], changes[True][1]) > 0


def test_open_picture_sizes():
    keras.utils.set_random_seed(0)
    model = apart(with_parts((None, None, 3)))
    fixed = apart(with_parts())
    fixed.set_weights(model.get_weights())
    logits = fixed.predict_on_batch(pictures())
    np.testing.assert_allclose(model.predict_on_batch(pictures()), logits, atol=1e-6)
    for mode in ("zero", "uniform"):
        np.testing.assert_allclose(
            ablate_parts(model, mode).predict_on_batch(pictures()),
            ablate_parts(fixed, mode).predict_on_batch(pictures()),
            atol=1e-6,
        )


def test_saved_model_gives_the_same_answers(model, tmp_path):
    for form in FORMS:
        saved = apart(with_parts(form=form, gain=0.5, power=3.0))
        saved.save(tmp_path / "parts.keras")
        loaded = keras.saving.load_model(tmp_path / "parts.keras")
        np.testing.assert_allclose(
            loaded.predict_on_batch(pictures()), saved.predict_on_batch(pictures()), atol=1e-6
        )
        masks = loaded.get_layer("parts_masks")
        assert (masks.form, masks.gain, masks.power) == (form, 0.5, 3.0)
    lines = []
    saved.summary(print_fn=lines.append)
    assert "parts_masks" in lines[0] and "PartAttention" in lines[0]


@pytest.mark.parametrize("layer", [PartAttention("sigmoid", 0.25, 2.0), PartPooling()])
def test_config_round_trip(layer):
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_masks_and_logits_in_float32(policy):
    with dtype_policy(policy):
        model = apart(with_parts())
    assert model.get_layer("conv1").output.dtype == policy.removeprefix("mixed_")
    for layer in ("parts_map", "parts_grouping", "parts_masks", "parts_features", "parts_logits"):
        assert model.get_layer(layer).output.dtype == "float32"
    outputs = output_of(model, "parts_masks").predict_on_batch(pictures())
    np.testing.assert_allclose(outputs.sum(axis=(1, 2)), 1, rtol=1e-5)
    training = training_outputs(model)
    training.compile("sgd", loss="mean_squared_error")
    loss = training.train_on_batch(pictures(), np.zeros((2, 4, CLASSES), np.float32))
    assert np.isfinite(loss)


@pytest.mark.xla
def test_compiled_by_xla(model):
    wanted = model.predict_on_batch(pictures())
    training = training_outputs(model)
    training.compile("sgd", loss="mean_squared_error", jit_compile=True)
    outputs = training.predict_on_batch(pictures())
    np.testing.assert_allclose(outputs[:, 0], wanted, rtol=1e-4, atol=1e-5)
    weights = training.get_weights()
    loss = training.train_on_batch(pictures(), np.zeros((2, 4, CLASSES), np.float32))
    assert np.isfinite(loss)
    training.set_weights(weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_parts": 0}, "`num_parts` must be from 1 to the map's 8 channels. .*num_parts=0"),
        ({"num_parts": 9}, "from 1 to the map's 8 channels. Received: num_parts=9"),
        (
            {"form": "softmax"},
            "`form` must be one of released, sigmoid, standardised. Received: 'softmax'",
        ),
        ({"gain": 0}, "`gain` and `power` must be positive. Received: gain=0, power=None"),
        ({"power": -1}, "must be positive. Received: gain=None, power=-1"),
        ({"hidden_units": 0}, "`hidden_units` must be at least 1. Received: 0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        multi_attention_logits(keras.Input((4, 4, 8)), CLASSES, **settings)


@pytest.mark.parametrize("features", [keras.Input((8,)), [keras.Input((4, 4, 8))]])
def test_features_that_are_no_map(features):
    with pytest.raises(ValueError, match=r"one map \(batch, height, width, channels\)"):
        multi_attention_logits(features, CLASSES)


def test_a_model_without_parts_is_refused():
    with pytest.raises(ValueError, match="No such layer: parts_features"):
        training_outputs(attach_head(small_backbone(), CLASSES))


# The second network ---------------------------------------------------------------------------


def crops_by_hand(image, mask, size, half_side):
    """Bilinear sampling pixel by pixel, the whole picture last."""
    height, width = image.shape[:2]
    half = half_side * min(height, width)
    boxes = []
    for part in range(mask.shape[-1]):
        row, column = np.unravel_index(mask[..., part].argmax(), mask.shape[:2])
        y = (row + 0.5) / mask.shape[0] * height
        x = (column + 0.5) / mask.shape[1] * width
        top = min(max(y - half, 0), height - 2 * half)
        left = min(max(x - half, 0), width - 2 * half)
        boxes.append((top, left, 2 * half, 2 * half))
    boxes.append((0, 0, height, width))
    crops = np.zeros((len(boxes), size, size, image.shape[-1]))
    for index, (top, left, tall, wide) in enumerate(boxes):
        for row, column in np.ndindex(size, size):
            y = min(max(top + (row + 0.5) * tall / size - 0.5, 0), height - 1)
            x = min(max(left + (column + 0.5) * wide / size - 0.5, 0), width - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            upper = (1 - (x - x0)) * image[y0, x0] + (x - x0) * image[y0, x1]
            lower = (1 - (x - x0)) * image[y1, x0] + (x - x0) * image[y1, x1]
            crops[index, row, column] = (1 - (y - y0)) * upper + (y - y0) * lower
    return crops


@pytest.mark.parametrize("half_side", [0.2, 0.5])
@pytest.mark.parametrize("size", [4, 9])
def test_crops_are_those_of_a_loop(size, half_side):
    images = pictures(2, (12, 20, 3)).astype(float)
    masks = np.random.default_rng(1).uniform(size=(2, 3, 5, 4)).astype(np.float32)
    masks[0, 0, 0, 0] = masks[0, 2, 4, 1] = 2.0  # corners: moved inside
    crops = PartCrops(size, half_side)([images.astype(np.uint8), masks])
    assert crops.shape == (2, 5, size, size, 3)
    crops = keras.ops.convert_to_numpy(crops)
    assert crops.dtype == np.uint8
    for image, mask, got in zip(images, masks, crops, strict=True):
        wanted = crops_by_hand(image, mask, size, half_side)
        # Rounded: a value that ends in one half may go either way.
        assert np.abs(got - wanted).max() <= 0.501


def test_a_crop_of_a_pixels_own_size_is_a_copy():
    images = pictures(1, (8, 8, 3))
    masks = np.zeros((1, 4, 4, 1), np.float32)
    masks[0, 1, 2] = 1.0  # centre at row 3, column 5
    crops = keras.ops.convert_to_numpy(PartCrops(4, 0.25)([images, masks]))
    np.testing.assert_array_equal(crops[0, 0], images[0, 1:5, 3:7])
    whole = keras.ops.convert_to_numpy(PartCrops(8, 0.25)([images, masks]))[0, 1]
    np.testing.assert_array_equal(whole, images[0])


@pytest.mark.xla
def test_second_network_in_mixed_precision_compiled_by_xla():
    with dtype_policy("mixed_bfloat16"):
        first = with_parts(num_parts=1)
        network = PartCropNetwork(first, small_backbone((8, 8, 3), "crops"), CLASSES, crop_size=8)
    crops = output_of(network, "parts_crops").predict_on_batch(pictures())
    network.compile("sgd", loss="mean_squared_error", jit_compile=True)
    logits = network.predict_on_batch(pictures())
    assert logits.dtype == np.float32 and np.isfinite(logits).all()
    masks = output_of(first, "parts_masks").predict_on_batch(pictures())
    for image, mask, got in zip(pictures().astype(float), masks, crops, strict=True):
        assert np.abs(got - crops_by_hand(image, mask, 8, 64 / 448)).max() <= 0.501


def test_crops_refuse_what_cannot_be():
    for settings in ({"size": 0}, {"size": 4, "half_side": 0.6}, {"size": 4, "half_side": 0.0}):
        with pytest.raises(ValueError, match="`size` must be at least 1 and `half_side` in"):
            PartCrops(**settings)
    layer = PartCrops(4, 0.3)
    assert PartCrops.from_config(layer.get_config()).get_config() == layer.get_config()


def test_second_network_with_one_backbone(model, tmp_path):
    keras.utils.set_random_seed(0)
    first = apart(with_parts())
    crops = small_backbone((8, 8, 3), "crops")
    network = PartCropNetwork(first, crops, CLASSES, crop_size=8)
    assert network.get_layer("parts_crops").output.shape == (None, 4, 8, 8, 3)
    head = (4 * 8 + 1) * CLASSES
    trainable = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    norms = 2 * 8  # moving means and variances
    assert trainable == crops.count_params() - norms + head
    frozen = first.get_weights()
    before = crops.get_layer("conv1").get_weights()[0]
    network.compile("adam", loss="binary_crossentropy")
    network.fit(pictures(4), np.ones((4, CLASSES), np.float32), batch_size=2, verbose=0)
    for old, new in zip(frozen, first.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.abs(crops.get_layer("conv1").get_weights()[0] - before).max() > 0
    network.save(tmp_path / "crops.keras")
    loaded = keras.saving.load_model(tmp_path / "crops.keras")
    np.testing.assert_allclose(
        loaded.predict_on_batch(pictures()), network.predict_on_batch(pictures()), atol=1e-6
    )


def test_second_network_with_a_backbone_a_stream():
    first = with_parts(num_parts=2)
    several = [small_backbone((8, 8, 3), f"stream{index}") for index in range(3)]
    network = PartCropNetwork(first, several, CLASSES, crop_size=8)
    head = (3 * 8 + 1) * CLASSES
    finder = network.get_layer("parts_finder").count_params()
    assert network.count_params() == 3 * several[0].count_params() + head + finder
    with pytest.raises(ValueError, match=r"or 3 of them: .* Received: 2 with outputs"):
        PartCropNetwork(first, several[:2], CLASSES, crop_size=8)
    pooled = keras.layers.GlobalAveragePooling2D()(several[0].output)
    pooled = keras.Model(several[0].input, pooled)
    with pytest.raises(ValueError, match="one model that ends in a map"):
        PartCropNetwork(first, pooled, CLASSES, crop_size=8)
