"""Backbones: counts, normalisation by weights file, check figures, frozen statistics."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from imetlib.models.backbones import (
    BACKBONES,
    build_backbone,
    file_sha256,
    find_weights,
    freeze,
    normalisation_layer,
)
from imetlib.models.heads import attach_head, pooled_features, start_head

WEIGHTS = Path(os.environ.get("IMETLIB_WEIGHTS", ""))
DATA = Path(os.environ.get("IMETLIB_DATA", ""))
needs_weights = pytest.mark.skipif(
    "IMETLIB_WEIGHTS" not in os.environ, reason="IMETLIB_WEIGHTS is not set"
)
needs_data = pytest.mark.skipif("IMETLIB_DATA" not in os.environ, reason="IMETLIB_DATA is not set")

NUM_PARAMS = {  # without top; the first two as in keras.applications
    "mobilenet_v2": 2_257_984,
    "xception": 20_861_480,
    "small_convnet": 661_896,
}
FILES = {
    "mobilenet_v2": "mobilenetv2_imagenet_notop.weights.h5",
    "xception": "xception_imagenet_notop_fp16.weights.h5",
}


def test_no_backbone_is_missing_from_the_count_table():
    assert set(NUM_PARAMS) == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_counts_shapes_and_momentum(name):
    backbone = build_backbone(name, (64, 96, 3))
    assert backbone.count_params() == NUM_PARAMS[name]
    assert backbone.input.dtype == "uint8"
    for stride, layer in BACKBONES[name].feature_maps.items():
        # "valid" padding in Xception's stem costs up to one row.
        assert abs(backbone.get_layer(layer).output.shape[1] - 64 / stride) <= 1
    norms = [x for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert norms and all(layer.momentum <= 0.9 for layer in norms)


@pytest.mark.parametrize(
    ("kind", "black", "white"),
    [("tf", -1.0, 1.0), ("torch", -0.485 / 0.229, 0.515 / 0.229), ("unit", 0.0, 1.0)],
)
def test_normalisation(kind, black, white):
    pixels = np.stack([np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)])
    out = keras.ops.convert_to_numpy(normalisation_layer(kind)(pixels))
    np.testing.assert_allclose(out[:, 0, 0, 0], [black, white], rtol=1e-5, atol=1e-6)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="Known: mobilenet_v2, xception, small_convnet"):
        build_backbone("resnet", (64, 64, 3))
    with pytest.raises(ValueError, match="Known: tf, torch, unit"):
        normalisation_layer("caffe2")


def test_missing_weights_name_every_place(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("IMETLIB_WEIGHTS", str(tmp_path / "attached"))
    with pytest.raises(FileNotFoundError) as error:
        find_weights("xception", "imagenet")
    for place in (str(tmp_path / "keras" / "models"), str(tmp_path / "attached"), "/kaggle/input"):
        assert place in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"No weights file at .*none\.h5"):
        find_weights("xception", tmp_path / "none.h5")
    with pytest.raises(ValueError, match="no ImageNet weights of small_convnet"):
        find_weights("small_convnet", "imagenet")


def test_weights_are_found_by_name_in_a_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("IMETLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for file in FILES.values():
        (tmp_path / file).touch()
    for name, file in FILES.items():
        assert find_weights(name, "imagenet").name == file


def test_a_file_of_another_net_is_refused_by_name(tmp_path):
    path = tmp_path / "small.weights.h5"
    build_backbone("small_convnet", (32, 32, 3)).save_weights(path)
    with pytest.raises(ValueError, match=r"small\.weights\.h5 does not hold weights of mobilenet"):
        build_backbone("mobilenet_v2", (32, 32, 3), weights=path)
    cut = tmp_path / "cut.weights.h5"
    cut.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut\.weights\.h5 does not hold weights"):
        build_backbone("small_convnet", (32, 32, 3), weights=cut)


@needs_weights
@needs_data
@pytest.mark.parametrize(
    ("name", "mean", "std", "largest", "index", "first"),
    [
        ("xception", 0.20435, 0.27266, 1.62809, 1226, (0.26706, 0.0, 0.04568, 0.11057)),
        ("mobilenet_v2", 0.13657, 0.15264, 0.95020, 1243, (0.03146, 0.01336, 0.0, 0.03077)),
    ],
)
def test_check_figures_of_pretrained_features(name, mean, std, largest, index, first):
    picture = np.asarray(Image.open(DATA / "imet_crops" / "fastai_a_00.png").convert("RGB"))
    # An open shape: MobileNetV2 pads odd sides of a known shape in another way.
    backbone = build_backbone(name, (None, None, 3), weights=WEIGHTS / FILES[name])
    features = np.asarray(backbone.predict_on_batch(picture[None])).mean(axis=(1, 2))[0]
    np.testing.assert_allclose(
        [features.mean(), features.std(), features.max()], [mean, std, largest], atol=1e-3
    )
    assert features.argmax() == index
    np.testing.assert_allclose(features[:4], first, atol=1e-3)


@needs_weights
def test_normalisation_belongs_to_the_weights_file():
    path = WEIGHTS / FILES["mobilenet_v2"]
    assert build_backbone("mobilenet_v2", (64, 64, 3)).normalisation == "tf"
    assert build_backbone("mobilenet_v2", (64, 64, 3), weights=path).normalisation == "torch"
    assert file_sha256(path).startswith("eff2015d")


@needs_weights
@needs_data
@pytest.mark.parametrize("name", FILES)
def test_statistics_tell_the_right_input_from_the_wrong_ones(name):
    """Statistics before a normalisation layer are near the stored ones only for the right input."""
    files = sorted((DATA / "imet_crops").glob("*.png"))[:25]
    crops = np.stack(
        [np.asarray(Image.open(file).convert("RGB").resize((128, 128))) for file in files]
    )
    distance = {}
    for kind in ("tf", "torch", "unit"):
        path = WEIGHTS / FILES[name]
        backbone = build_backbone(name, (128, 128, 3), weights=path, normalisation=kind)
        norms = [x for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
        norms = [norms[number - 1] for number in (1, 2, 3, 5, 9)]
        model = keras.Model(backbone.inputs, [layer.input for layer in norms])
        ratios = []
        for layer, values in zip(norms, model.predict_on_batch(crops), strict=True):
            variance = np.asarray(values).var(axis=(0, 1, 2))
            stored = keras.ops.convert_to_numpy(layer.moving_variance)
            ratios.append(np.median(np.sqrt((variance + 1e-3) / (stored + 1e-3))))
        distance[kind] = np.abs(np.log(ratios)).mean()
    right = {"xception": "tf", "mobilenet_v2": "torch"}[name]
    assert min(distance, key=distance.get) == right
    assert distance[right] < 0.15


def small_classifier(num_classes=5, **settings):
    return attach_head(build_backbone("small_convnet", (32, 32, 3)), num_classes, **settings)


def test_head_starts_at_the_log_odds_of_the_frequencies():
    frequency = np.array([0.5, 0.1, 0.01, 0.9, 0.2])
    model = small_classifier(class_frequency=frequency)
    bias = model.get_layer("logits").get_weights()[1]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), frequency, atol=1e-6)
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        small_classifier(class_frequency=frequency[:3])


def test_started_head_is_the_linear_map_of_the_pooled_features():
    model = small_classifier(dropout=0.5)
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(384, 5)).astype("float32"), rng.normal(size=5)
    start_head(model, kernel, bias.astype("float32"))
    pictures = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    pooled = np.asarray(pooled_features(model).predict_on_batch(pictures))
    np.testing.assert_allclose(
        np.asarray(model.predict_on_batch(pictures)), pooled @ kernel + bias, rtol=1e-3, atol=1e-4
    )


def test_freeze_by_name_and_frozen_statistics_stay():
    model = small_classifier()
    freeze(model, "stage3_conv1")
    assert not model.get_layer("stage2_conv2").trainable
    assert model.get_layer("stage3_conv1").trainable
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    before = model.get_layer("stage2_conv2_bn").get_weights()
    moving = model.get_layer("stage4_conv2_bn").get_weights()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    model.train_on_batch(pictures, rng.integers(0, 2, (8, 5)).astype("float32"))
    for old, new in zip(before, model.get_layer("stage2_conv2_bn").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(moving[2], model.get_layer("stage4_conv2_bn").get_weights()[2])
    freeze(model, "head")
    assert len(model.trainable_weights) == 2
    with pytest.raises(ValueError, match="name of a layer"):
        freeze(model, "stage9")


def test_loss_in_training_and_inference_mode_agree_after_a_short_fit():
    """Keras's own momentum of .99 fails this by far: stale statistics for hundreds of steps."""
    keras.utils.set_random_seed(0)
    model = small_classifier(num_classes=3)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (32, 3)).astype("float32")
    pictures = rng.integers(0, 200, (32, 32, 32, 3)).astype("float32")
    pictures = (pictures + 50 * labels[:, None, None, :]).astype("uint8")
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    for _ in range(60):
        model.train_on_batch(pictures, labels)
    training = float(loss(labels, model(pictures, training=True)))
    inference = float(loss(labels, model(pictures, training=False)))
    assert abs(training - inference) < 0.05
    assert training < 0.4


def test_classifier_takes_any_map_and_refuses_what_is_none():
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(inputs))
    own = keras.Model(inputs, x, name="own")
    assert attach_head(own, 4).output.shape == (None, 4)
    flat = keras.Model(inputs, keras.layers.Flatten()(x))
    with pytest.raises(ValueError, match="one feature map"):
        attach_head(flat, 4)


def test_half_precision_keeps_float32_logits():
    from imetlib.training.devices import dtype_policy

    with dtype_policy("mixed_float16"):
        backbone = build_backbone("small_convnet", (32, 32, 3))
    model = attach_head(backbone, 4)
    assert model.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    out = model.predict_on_batch(np.zeros((2, 32, 32, 3), np.uint8))
    assert np.isfinite(out).all()
