"""Ten windows of a map: the reference's tables, a slow loop, and networks on larger pictures."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.models.feature_crops import (
    TenCrop,
    crop_boxes,
    crop_indices,
    mirror_distance,
    ten_view_model,
)
from imetlib.models.heads import attach_head
from imetlib.models.recurrent_attention import recurrent_attention_logits

# 3 x 3 windows of a 5 x 5 map, cells numbered row by row; window by window.
TABLE = [
    [0, 1, 2, 5, 6, 7, 10, 11, 12],
    [2, 3, 4, 7, 8, 9, 12, 13, 14],
    [10, 11, 12, 15, 16, 17, 20, 21, 22],
    [12, 13, 14, 17, 18, 19, 22, 23, 24],
    [6, 7, 8, 11, 12, 13, 16, 17, 18],
    [2, 1, 0, 7, 6, 5, 12, 11, 10],
    [4, 3, 2, 9, 8, 7, 14, 13, 12],
    [12, 11, 10, 17, 16, 15, 22, 21, 20],
    [14, 13, 12, 19, 18, 17, 24, 23, 22],
    [8, 7, 6, 13, 12, 11, 18, 17, 16],
]
COVERAGE = [[1, 1, 2, 1, 1], [1, 2, 3, 2, 1], [2, 3, 5, 3, 2], [1, 2, 3, 2, 1], [1, 1, 2, 1, 1]]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cut_slowly(features, crop_height, crop_width):
    """One picture, one window, one cell after the other."""
    batch, height, width, channels = features.shape
    tops, lefts = (0, height - crop_height), (0, width - crop_width)
    starts = [(top, left) for top in tops for left in lefts]
    starts.append(((height - crop_height) // 2, (width - crop_width) // 2))
    crops = np.zeros((batch, 10, crop_height, crop_width, channels), features.dtype)
    for index, (top, left) in enumerate(starts):
        for i in range(crop_height):
            for j in range(crop_width):
                crops[:, index, i, j] = features[:, top + i, left + j]
                crops[:, 5 + index, i, j] = features[:, top + i, left + crop_width - 1 - j]
    return crops


def test_tables_of_the_reference():
    np.testing.assert_array_equal(crop_indices(5, 5, 3).reshape(10, 9), TABLE)
    coverage = np.bincount(crop_indices(5, 5, 3)[:5].ravel(), minlength=25).reshape(5, 5)
    np.testing.assert_array_equal(coverage, COVERAGE)
    numbers = np.arange(25, dtype="int32").reshape(1, 5, 5, 1)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(TenCrop(3)(numbers)).reshape(10, 9), TABLE
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.data())
def test_windows_against_the_loop(height, width, data):
    size = data.draw(st.tuples(st.integers(1, height), st.integers(1, width)))
    features = noise(2, height, width, 3)
    crops = keras.ops.convert_to_numpy(TenCrop(size)(features))
    np.testing.assert_array_equal(crops, cut_slowly(features, *size))
    for (top, left, bottom, right), crop in zip(
        crop_boxes(height, width, size), np.moveaxis(crops, 1, 0), strict=False
    ):
        np.testing.assert_array_equal(features[:, top:bottom, left:right], crop)


def test_mirror_images():
    crops = keras.ops.convert_to_numpy(TenCrop((3, 2))(noise(2, 5, 4, 3)))
    np.testing.assert_array_equal(crops[:, 5:, :, ::-1], crops[:, :5])
    assert all(not np.array_equal(crops[:, i], crops[:, 5 + i]) for i in range(5))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_crops_keep_the_dtype_of_the_map(dtype):
    features = np.arange(25).reshape(1, 5, 5, 1).astype(dtype) / np.ones((), dtype)
    features = features.astype(dtype)
    layer = TenCrop(3, dtype="mixed_bfloat16")
    assert layer(keras.Input((5, 5, 1), dtype=dtype)).dtype == dtype
    crops = keras.ops.convert_to_numpy(layer(features))
    assert crops.dtype == dtype
    np.testing.assert_array_equal(crops.reshape(10, 9), TABLE)


def test_fewer_views(tmp_path):
    features = noise(2, 5, 4, 3)
    expected = cut_slowly(features, 3, 2)
    inputs = keras.Input((5, 4, 3))
    outputs = [TenCrop((3, 2), views=views)(inputs) for views in ("five", "centre")]
    assert [output.shape for output in outputs] == [(None, 5, 3, 2, 3), (None, 1, 3, 2, 3)]
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    five, centre = (keras.ops.convert_to_numpy(crops) for crops in loaded(features))
    np.testing.assert_array_equal(five, expected[:, :5])
    np.testing.assert_array_equal(centre, expected[:, 4:5])


def test_config_and_compiled_predictions(tmp_path):
    inputs = keras.Input((5, 4, 3))
    model = keras.Model(inputs, TenCrop((3, 2), name="crops")(inputs))
    assert model.output.shape == (None, 10, 3, 2, 3)
    model.compile(jit_compile=keras.backend.backend() != "torch")
    features = noise(2, 5, 4, 3)
    expected = cut_slowly(features, 3, 2)
    np.testing.assert_array_equal(model.predict(features, verbose=0), expected)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(features, verbose=0), expected)


def test_mirror_distance_of_symmetric_and_other_kernels():
    images = noise(6, 9, 9, 3)
    inputs = keras.Input((9, 9, 3))
    conv = keras.layers.Conv2D(4, 3, padding="same", activation="relu")
    network = keras.Model(inputs, conv(inputs))
    maps, of_mirrored = (
        np.asarray(keras.ops.convert_to_numpy(network(view)))
        for view in (images, images[:, :, ::-1])
    )
    own = sum(((of_mirrored[i] - maps[i, :, ::-1]) ** 2).sum() for i in range(6))
    others = sum(((of_mirrored[i] - maps[i - 1, :, ::-1]) ** 2).sum() for i in range(6))
    assert mirror_distance(network, images) == pytest.approx((own / others) ** 0.5, rel=1e-4)
    assert mirror_distance(network, images) > 0.2
    kernel, bias = conv.get_weights()
    conv.set_weights([kernel + kernel[:, ::-1], bias])
    assert mirror_distance(network, images) < 1e-5
    with pytest.raises(ValueError, match=r"two pictures at least. Received: 1"):
        mirror_distance(network, images[:1])


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"from 1 x 1 to the map's 5 x 4 cells.*\(5, 5\)"):
        TenCrop(5)(keras.Input((5, 4, 3)))
    with pytest.raises(ValueError, match=r"from 1 x 1 to the map's 5 x 4 cells.*\(0, 2\)"):
        crop_boxes(5, 4, (0, 2))
    with pytest.raises(ValueError, match=r"views 'nine'\. Known: ten, five, centre"):
        TenCrop(3, views="nine")
    for shape in [(5, 3), (None, 5, 3)]:
        with pytest.raises(ValueError, match=r"of known height and width\. Received: shape"):
            TenCrop(3)(keras.Input(shape))


def backbone(image_shape):
    """Stride 4, from 8 channels of noise on."""
    images = keras.Input(image_shape, dtype="uint8")
    x = keras.layers.Rescaling(1 / 255, dtype="float32")(images)
    x = keras.layers.Conv2D(8, 4, strides=4, name="patches")(x)
    return keras.Model(images, keras.layers.ReLU(name="map")(x), name="tiny")


@pytest.fixture(scope="module")
def network():
    """Recurrent attention beside a plain head on a 4 x 3 map, all weights noise."""
    tiny = backbone((16, 12, 3))
    logits = recurrent_attention_logits(tiny.output, 5, num_glimpses=2, units=6)
    model = attach_head(tiny, 5, beside=[logits])
    weights = [noise(*weight.shape, seed=index) for index, weight in enumerate(model.get_weights())]
    model.set_weights([0.5 * weight for weight in weights])
    return model


def test_ten_views_are_the_mean_of_ten_calls_of_the_head(network):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 24, 16, 3), dtype=np.uint8)
    larger = ten_view_model(network, "map", (24, 16, 3))
    # The backbone once more at the larger size, and the head once for each window.
    tiny = backbone((24, 16, 3))
    tiny.set_weights(network.get_layer("patches").get_weights())
    head = keras.Model(network.get_layer("map").output, network.output)
    crops = cut_slowly(keras.ops.convert_to_numpy(tiny(pictures)), 4, 3)
    views = [keras.ops.convert_to_numpy(head(crops[:, index])) for index in range(10)]
    assert np.std(views, axis=0).min() > 1e-3
    logits = keras.ops.convert_to_numpy(larger(pictures))
    np.testing.assert_allclose(logits, np.mean(views, axis=0), atol=1e-5)
    # The network itself is untouched, and its weights are shared.
    same = ten_view_model(network, "map", (16, 12, 3))
    small = pictures[:, :16, :12]
    whole = cut_slowly(keras.ops.convert_to_numpy(backbone_map(network, small)), 4, 3)
    both = [keras.ops.convert_to_numpy(head(whole[:, index])) for index in (0, 5)]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(same(small)), np.mean(both, axis=0), atol=1e-5
    )
    assert {id(weight) for weight in larger.weights} == {id(weight) for weight in network.weights}


def backbone_map(model, pictures):
    return keras.Model(model.input, model.get_layer("map").output)(pictures)


def test_ten_views_refuse_other_maps(network):
    with pytest.raises(ValueError, match="`crop_size` must be from 1 x 1 to the map's 3 x 3"):
        ten_view_model(network, "map", (12, 12, 3))
    with pytest.raises(ValueError, match="tiny is not made of glimpse_step1_map alone"):
        ten_view_model(network, "glimpse_step1_map", (24, 16, 3))
    with pytest.raises(ValueError, match=r"pooled of tiny must give a map .* shape \(None, 16\)"):
        ten_view_model(network, "pooled", (24, 16, 3))
    with pytest.raises(ValueError, match=r"of known height and width\. Received: shape"):
        ten_view_model(attach_head(backbone((None, None, 3)), 5), "map", (24, 16, 3))
