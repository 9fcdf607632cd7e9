"""Backbones: counts, normalisation by weights file, check figures, frozen statistics."""

import os
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from imetlib.models.backbones import (
    BACKBONES,
    backbone_row,
    build_backbone,
    check_image_shape,
    feature_map,
    file_sha256,
    find_normalisation,
    find_weights,
    normalisation_layer,
)
from imetlib.models.heads import attach_head, freeze

WEIGHTS = Path(os.environ.get("IMETLIB_WEIGHTS", ""))
DATA = Path(os.environ.get("IMETLIB_DATA", ""))
needs_weights = pytest.mark.skipif(
    "IMETLIB_WEIGHTS" not in os.environ, reason="IMETLIB_WEIGHTS is not set"
)
needs_data = pytest.mark.skipif("IMETLIB_DATA" not in os.environ, reason="IMETLIB_DATA is not set")

# Without top. (1,000 outputs from `channels` features) more make the counts with top of
# https://keras.io/api/applications: 25.6 M for ResNet50, 55.9 M for InceptionResNetV2, 3.5 M for
# MobileNetV2, 22.9 M for Xception, 7.2 M for EfficientNetV2B0, 21.6 M for EfficientNetV2S,
# 28.6 M for ConvNeXtTiny.
NUM_PARAMS = {
    "mobilenet_v2": 2_257_984,
    "xception": 20_861_480,
    "small_convnet": 661_896,
    "small_convnet_16": 294_960,
    "resnet50": 23_587_712,
    "inception_resnet_v2": 54_336_736,
    "vgg16": 14_714_688,
    "vgg19": 20_024_384,
    "efficientnet_v2_b0": 5_919_312,
    "efficientnet_v2_s": 20_331_360,
    "convnext_tiny": 27_820_128,
    # 31,883,432 and 52,599,976 with top: the authors' files, tests/test_residual_attention.py.
    "residual_attention_56": 31_883_432 - 2_049_000,
    "residual_attention_92": 52_599_976 - 2_049_000,
    "residual_attention_small": 304_816,
    "residual_small": 180_144,
}
WITHOUT_BATCH_NORMALISATION = ("vgg16", "vgg19", "convnext_tiny")
FILES = {
    "mobilenet_v2": "mobilenetv2_imagenet_notop.weights.h5",
    "xception": "xception_imagenet_notop_fp16.weights.h5",
}


def test_no_backbone_is_missing_from_the_count_table():
    assert set(NUM_PARAMS) == set(BACKBONES)


@pytest.fixture(scope="module")
def built():
    """Each backbone once, at a small size; a test may freeze one, not change its weights."""
    return lru_cache(lambda name: build_backbone(name, (96, 128, 3)))


@pytest.mark.parametrize("name", BACKBONES)
def test_counts_shapes_and_momentum(name, built):
    backbone = built(name)
    assert backbone.count_params() == NUM_PARAMS[name] == BACKBONES[name].num_params
    assert backbone.input.dtype == "uint8"
    assert backbone.name == name
    norms = [x for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert bool(norms) == (name not in WITHOUT_BATCH_NORMALISATION)
    assert all(layer.momentum <= 0.9 for layer in norms)


@pytest.mark.parametrize("name", BACKBONES)
def test_feature_maps_have_their_strides(name, built):
    backbone, row = built(name), BACKBONES[name]
    for stride in row.feature_maps:
        shape = feature_map(name, backbone, stride).shape
        # "valid" padding in the stems of Xception and InceptionResNetV2 costs up to three rows.
        lost = {"xception": 1, "inception_resnet_v2": 3}.get(name, 0)
        assert abs(96 / stride - shape[1]) <= lost and abs(128 / stride - shape[2]) <= lost
    # Heads in closed form take the last columns of the pooled layers for the last map.
    last = backbone.get_layer(row.pooled_layers[-1]).output
    assert last is backbone.output and last.shape[-1] == row.channels
    for layer in (*row.pooled_layers, *row.grid_layers):
        assert len(backbone.get_layer(layer).output.shape) == 4


@pytest.mark.parametrize("name", BACKBONES)
def test_a_head_fits_and_freezes_on_every_backbone(name, built):
    model = attach_head(built(name), 5)
    assert model.get_layer("logits").output.shape == (None, 5)
    freeze(model, "head")
    assert len(model.trainable_weights) == 2
    stride = sorted(BACKBONES[name].feature_maps)[-2]
    first = BACKBONES[name].feature_maps[stride]
    freeze(model, first)
    assert 2 < len(model.trainable_weights) < len(model.weights)
    freeze(model, "all")


def test_maps_by_name_and_unknown_maps(built):
    assert feature_map("inception_resnet_v2", built("inception_resnet_v2"), 16).shape[-1] == 1088
    vgg = built("vgg19")
    assert feature_map("vgg19", vgg, "block5_conv4") is feature_map("vgg19", vgg, 16)
    assert feature_map("vgg19", attach_head(vgg, 3), "block2_conv1").shape[1:] == (48, 64, 128)
    for where in (64, "block6_conv1", "pooled"):
        with pytest.raises(ValueError, match=r"vgg19 has no feature map .*16 \(block5_conv4\)"):
            feature_map("vgg19", attach_head(vgg, 3), where)


def test_smallest_pictures():
    smallest = {"xception": 71, "inception_resnet_v2": 75, "resnet50": 32}
    for name, side in {**smallest, "residual_attention_small": 17}.items():
        check_image_shape(name, (side, side, 3))
        check_image_shape(name, (None, None, 3))
        with pytest.raises(ValueError, match=rf"{name} takes .* at least {side} x {side} .*16"):
            check_image_shape(name, (side, 16, 3))
        with pytest.raises(ValueError, match=f"at least {side}"):
            build_backbone(name, (side - 1, side, 3))
    for shape in ((64, 64), (64, 64, 1)):
        with pytest.raises(ValueError, match=r"must be \(height, width, 3\)"):
            check_image_shape("resnet50", shape)
    build_backbone("small_convnet", (16, 16, 3))


@pytest.mark.parametrize(
    ("kind", "black", "white"),
    [
        ("tf", -1.0, 1.0),
        ("torch", -0.485 / 0.229, 0.515 / 0.229),
        ("caffe", -103.939, 255 - 103.939),
        ("unit", 0.0, 1.0),
        ("raw", 0.0, 255.0),
        ("tf128", -1.0, 127 / 128),
    ],
)
def test_normalisation(kind, black, white):
    pixels = np.stack([np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)])
    out = keras.ops.convert_to_numpy(normalisation_layer(kind)(pixels))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[:, 0, 0, 0], [black, white], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("mobilenet_v2", keras.applications.mobilenet_v2),
        ("xception", keras.applications.xception),
        ("resnet50", keras.applications.resnet50),
        ("inception_resnet_v2", keras.applications.inception_resnet_v2),
        ("vgg16", keras.applications.vgg16),
        ("vgg19", keras.applications.vgg19),
    ],
)
def test_normalisation_is_that_of_keras_applications(name, module, built):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), dtype=np.uint8)
    model = keras.Model(built(name).input, built(name).get_layer("normalisation").output)
    np.testing.assert_allclose(
        model.predict_on_batch(pixels),
        module.preprocess_input(pixels.astype(np.float32)),
        rtol=1e-6,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["efficientnet_v2_b0", "efficientnet_v2_s", "convnext_tiny"])
def test_normalisation_is_that_inside_the_stock_network(name, built):
    row = BACKBONES[name]
    stock = getattr(keras.applications, row.builder.__name__)(
        include_top=False, weights=None, input_shape=(96, 128, 3), include_preprocessing=True
    )
    wanted, ours = stock.get_weights(), built(name)
    ours.set_weights(wanted)
    if name == "convnext_tiny":  # its branches start at a millionth: let them count
        for model in (stock, ours):
            model.set_weights(
                [np.ones_like(w) if np.all(w == np.float32(1e-6)) else w for w in wanted]
            )
    else:  # the first stages are enough to see the input, and quick
        first = row.feature_maps[4]
        stock = keras.Model(stock.input, stock.get_layer(first).output)
        ours = keras.Model(ours.input, ours.get_layer(first).output)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), dtype=np.uint8)
    # Called, not predicted: the graph of a large network takes seconds to trace.
    features = keras.ops.convert_to_numpy(stock(pixels.astype(np.float32), training=False))
    assert features.std() > 1e-3
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(ours(pixels, training=False)),
        features,
        rtol=1e-4,
        atol=1e-5 * np.abs(features).max(),
    )


def test_caffe_normalisation_survives_saving(tmp_path):
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(inputs, normalisation_layer("caffe")(inputs))
    model.save(tmp_path / "caffe.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "caffe.keras").predict_on_batch(pixels),
        model.predict_on_batch(pixels),
    )


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match=r"Known: mobilenet_v2, .*residual_small, or the path"):
        build_backbone("resnet", (64, 64, 3))
    with pytest.raises(ValueError, match="Known: tf, torch, unit, raw, tf128, caffe"):
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


def test_a_file_of_a_shorter_or_longer_net_of_the_same_kind_is_refused(tmp_path, built):
    for name, other in (("vgg16", "vgg19"), ("vgg19", "vgg16")):
        path = tmp_path / f"{name}.weights.h5"
        built(name).save_weights(path)
        with pytest.raises(ValueError, match=rf"{name}\.weights\.h5 does not hold .* {other}"):
            build_backbone(other, (32, 32, 3), weights=path)


def test_weights_of_the_stock_network_fit_the_named_convnext(tmp_path):
    stock = keras.applications.ConvNeXtTiny(
        include_top=False, weights=None, input_shape=(32, 32, 3), include_preprocessing=True
    )
    stock.save_weights(tmp_path / "stock.weights.h5")
    ours = build_backbone("convnext_tiny", (32, 32, 3), weights=tmp_path / "stock.weights.h5")
    # The third of the process: unnamed layers would have another name in each.
    for layer in BACKBONES["convnext_tiny"].pooled_layers:
        assert ours.get_layer(layer).output.shape[1] >= 1
    for mine, wanted in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, wanted)


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
        model = keras.Model(backbone.input, [layer.input for layer in norms])
        ratios = []
        for layer, values in zip(norms, model.predict_on_batch(crops), strict=True):
            variance = np.asarray(values).var(axis=(0, 1, 2))
            stored = keras.ops.convert_to_numpy(layer.moving_variance)
            ratios.append(np.median(np.sqrt((variance + 1e-3) / (stored + 1e-3))))
        distance[kind] = np.abs(np.log(ratios)).mean()
    right = {"xception": "tf", "mobilenet_v2": "torch"}[name]
    assert min(distance, key=distance.get) == right
    assert distance[right] < 0.15


def own_model(side=None, *, name="own"):
    """Two branches, an adapted normalisation, and a model inside the model."""
    inner = keras.Sequential(
        [
            keras.Input((None, None, 8)),
            keras.layers.Conv2D(8, 3, name="inner_conv"),
            keras.layers.BatchNormalization(name="inner_bn"),
        ],
        name="inner",
    )
    inputs = keras.Input((side, side, 3))
    adapted = keras.layers.Normalization(name="adapted")
    adapted.adapt(np.random.default_rng(0).normal(2.0, 3.0, (2, 8, 8, 3)))
    left = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="left")(adapted(inputs))
    right = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="right")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(left * 2.0 + right)
    return keras.Model(inputs, keras.layers.ReLU(name="last")(inner(x)), name=name)


def test_a_model_of_the_users_as_backbone(tmp_path):
    model = own_model()
    path = tmp_path / "own_net.keras"
    model.save(path)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 24, 20, 3), dtype=np.uint8)
    wanted = model.predict_on_batch(pixels / np.float32(255))
    for name in (path, str(path), model):
        backbone = build_backbone(name, (24, 20, 3), normalisation="unit")
        assert backbone.input.dtype == "uint8" and backbone.normalisation == "unit"
        np.testing.assert_allclose(backbone.predict_on_batch(pixels), wanted, rtol=1e-4, atol=1e-5)
        names = [layer.name for layer in backbone.layers]
        assert {"adapted", "left", "right", "bn", "inner", "last"} < set(names)
        assert names[-1] == "feature_map"
        assert backbone.get_layer("bn").momentum == 0.9
        assert backbone.get_layer("inner").get_layer("inner_bn").momentum == 0.9
        assert feature_map(name, backbone, "left").shape == (None, 12, 10, 8)
        assert feature_map(name, backbone, 2) is backbone.output
    classifier = attach_head(backbone, 4)
    freeze(classifier, "inner")
    assert not classifier.get_layer("left").trainable
    assert len(classifier.trainable_weights) == 2 + 2 + 2
    # A copy: neither weights nor settings of the user's model change.
    assert model.get_layer("left").trainable and model.get_layer("bn").momentum == 0.99
    backbone.set_weights([np.zeros_like(weight) for weight in backbone.get_weights()])
    np.testing.assert_array_equal(model.predict_on_batch(pixels / np.float32(255)), wanted)


def test_row_of_a_model_file(tmp_path):
    path = tmp_path / "own_net.keras"
    own_model().save(path)
    row = backbone_row(str(path))
    assert (row.channels, row.weights_name, row.builder) == (8, "", None)
    assert row.feature_maps == {2: "feature_map"} and row.pooled_layers == ("feature_map",)
    assert find_weights(path, None) is None
    with pytest.raises(ValueError, match=r"no ImageNet weights of .*own_net\.keras"):
        find_weights(path, "imagenet")
    with pytest.raises(ValueError, match="`normalisation`, one of tf, torch"):
        find_normalisation(path, None)
    with pytest.raises(ValueError, match="`normalisation`, one of tf, torch"):
        build_backbone(path, (32, 32, 3))
    own_model(side=16).save(path)  # the file changed: so does the row
    assert backbone_row(path).fixed_shape == (16, 16)


def test_weights_file_for_a_model_of_the_users(tmp_path):
    model, other = own_model(), own_model()
    other.save_weights(tmp_path / "other.weights.h5")
    before = model.get_weights()
    backbone = build_backbone(
        model, (16, 16, 3), weights=tmp_path / "other.weights.h5", normalisation="raw"
    )
    for mine, wanted in zip(backbone.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, wanted)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(
        backbone.predict_on_batch(pixels),
        other.predict_on_batch(pixels.astype(np.float32)),
        rtol=1e-4,
        atol=1e-3,
    )
    small = tmp_path / "small.weights.h5"
    build_backbone("small_convnet", (16, 16, 3)).save_weights(small)
    with pytest.raises(ValueError, match=r"small\.weights\.h5 does not hold weights of own"):
        build_backbone(model, (16, 16, 3), weights=small, normalisation="raw")


def test_models_that_are_no_backbone(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No model file at .*none\.keras\. Give"):
        backbone_row(tmp_path / "none.keras")
    (tmp_path / "cut.keras").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"cut\.keras does not open as a Keras model"):
        check_image_shape(tmp_path / "cut.keras", (32, 32, 3))
    with pytest.raises(ValueError, match=r"fixed to pictures of .*\(16, 16\).*\(32, 32, 3\)"):
        build_backbone(own_model(side=16), (32, 32, 3), normalisation="tf")
    inputs = keras.Input((16, 16, 3))
    grey = keras.Input((16, 16, 1))
    unfit = [
        keras.Model(inputs, keras.layers.Flatten()(inputs)),
        keras.Model(grey, keras.layers.Conv2D(4, 3)(grey)),
        keras.Model([inputs, grey], keras.layers.Concatenate()([inputs, grey])),
        keras.Sequential([keras.layers.Conv2D(4, 3)]),
    ]
    for model in unfit:
        with pytest.raises(ValueError, match="must be a functional or sequential model"):
            build_backbone(model, (16, 16, 3), normalisation="tf")
