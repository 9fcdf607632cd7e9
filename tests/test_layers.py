"""Layers of the attention networks: aligned resizing against a loop, safe unit norms."""

import keras
import numpy as np
import pytest

from imetlib.models.layers import AlignedResize, ChannelUnitNorm, aligned_matrix


def resize_loop(maps, new_height, new_width):
    """Bilinear with aligned corners as `interp.cpp` has it, one value after the other."""
    count, height, width, channels = maps.shape
    out = np.zeros((count, new_height, new_width, channels))
    for i in range(new_height):
        for j in range(new_width):
            y = i * (height - 1) / (new_height - 1) if new_height > 1 else 0.0
            x = j * (width - 1) / (new_width - 1) if new_width > 1 else 0.0
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            y, x = y - top, x - left
            out[:, i, j] = (1 - y) * ((1 - x) * maps[:, top, left] + x * maps[:, top, right])
            out[:, i, j] += y * ((1 - x) * maps[:, bottom, left] + x * maps[:, bottom, right])
    return out


def resize(maps, *size, layer=None):
    reference = np.full((len(maps), *size, 1), np.nan, np.float32)
    return keras.ops.convert_to_numpy((layer or AlignedResize())([maps, reference]))


def random_maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "new_size", "matrix"),
    [
        (2, 3, [[1, 0], [0.5, 0.5], [0, 1]]),
        (2, 4, [[1, 0], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0, 1]]),
        (3, 6, [[1, 0, 0], [0.6, 0.4, 0], [0.2, 0.8, 0], [0, 0.8, 0.2], [0, 0.4, 0.6], [0, 0, 1]]),
        (3, 1, [[1, 0, 0]]),
        (1, 3, [[1], [1], [1]]),
        (3, 3, np.eye(3)),
    ],
)
def test_matrices(size, new_size, matrix):
    ours = keras.ops.convert_to_numpy(aligned_matrix(size, new_size))
    np.testing.assert_allclose(ours, matrix, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "new_size"),
    [((7, 9), (14, 18)), ((7, 7), (14, 14)), ((5, 3), (4, 7)), ((1, 4), (3, 1)), ((6, 6), (1, 1))],
)
def test_resize_is_the_loop(size, new_size):
    maps = random_maps(2, *size, 3)
    np.testing.assert_allclose(resize(maps, *new_size), resize_loop(maps, *new_size), atol=3e-6)


def test_whole_factors_between_corners_keep_every_value():
    maps = random_maps(2, 4, 5, 3)
    larger = resize(maps, 10, 13)  # three steps for each old one
    np.testing.assert_allclose(larger[:, ::3, ::3], maps, atol=1e-6)
    thirds = (2 * maps[:, :-1] + maps[:, 1:]) / 3
    np.testing.assert_allclose(larger[:, 1::3, ::3], thirds, atol=1e-6)


def test_resize_is_not_that_of_half_pixel_centres():
    maps = random_maps(1, 7, 9, 64)
    halves = keras.ops.image.resize(maps, (14, 18), interpolation="bilinear")
    difference = np.abs(resize(maps, 14, 18) - keras.ops.convert_to_numpy(halves)).mean()
    assert 0.12 < difference < 0.18  # .15 on such a map


def test_reference_gives_a_size_and_no_values():
    maps = random_maps(2, 3, 4, 5)
    wanted = resize(maps, 6, 8)  # a reference of NaN
    assert np.isfinite(wanted).all()
    inputs = keras.Input((3, 4, 5)), keras.Input((6, 8, 2))
    model = keras.Model(inputs, AlignedResize()(inputs))
    for value in (0.0, 1.0, -1e30):
        reference = np.full((2, 6, 8, 2), value, np.float32)
        np.testing.assert_allclose(model.predict_on_batch([maps, reference]), wanted, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.xla)])
def test_open_sides_take_every_size(jit_compile):
    inputs = keras.Input((None, None, 3)), keras.Input((None, None, 2))
    model = keras.Model(inputs, AlignedResize(name="resize")(inputs))
    assert model.output.shape == (None, None, None, 3)
    model.compile(jit_compile=jit_compile)
    for size, new_size in (((2, 3), (4, 5)), ((3, 4), (1, 9))):
        maps, reference = random_maps(2, *size, 3), np.zeros((2, *new_size, 2), np.float32)
        np.testing.assert_allclose(
            model.predict_on_batch([maps, reference]), resize_loop(maps, *new_size), atol=3e-6
        )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(policy):
    maps = random_maps(2, 5, 4, 3)
    wanted = resize_loop(maps, 9, 8)
    tolerance = 0.05 if policy == "mixed_bfloat16" else 0.005
    layer = AlignedResize(dtype=policy)
    out = layer([maps, np.zeros((2, 9, 8, 1), np.float32)])
    assert keras.backend.standardize_dtype(out.dtype) == policy.removeprefix("mixed_")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(keras.ops.cast(out, "float32")), wanted, atol=tolerance
    )
    norm = ChannelUnitNorm(epsilon=1e-7, dtype=policy)(maps * 1e-4)  # squares below float16
    norm = keras.ops.convert_to_numpy(keras.ops.cast(norm, "float32"))
    np.testing.assert_allclose(np.linalg.norm(norm, axis=-1), 1.0, atol=0.02)


def test_what_a_resize_cannot_take():
    maps = random_maps(2, 4, 4, 3)
    for wrong in (maps, [maps], [maps, maps, maps], [maps, maps[0]]):
        with pytest.raises(ValueError, match=r"a list \[maps, reference\] of two tensors"):
            AlignedResize()(wrong)


def test_unit_norm_of_channels():
    maps = random_maps(2, 5, 4, 6)
    out = keras.ops.convert_to_numpy(ChannelUnitNorm()(maps))
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(
        out, maps / np.linalg.norm(maps, axis=-1, keepdims=True), rtol=1e-4, atol=1e-6
    )


def test_unit_norm_learns_past_positions_of_zeros():
    """The gradient of `keras.layers.UnitNormalization` is NaN there, and so are all weights."""
    inputs = keras.Input((3, 3, 2))
    x = keras.layers.Conv2D(4, 1, name="conv", use_bias=False)(inputs)
    model = keras.Model(inputs, ChannelUnitNorm()(x))
    model.compile("sgd", "mse")
    maps = random_maps(2, 3, 3, 2)
    maps[:, 1] = 0
    before = model.get_weights()[0]
    model.train_on_batch(maps, random_maps(2, 3, 3, 4))
    after = model.get_weights()[0]
    assert np.isfinite(after).all() and np.abs(after - before).max() > 1e-6


def test_layers_survive_saving(tmp_path):
    inputs = keras.Input((3, 3, 2)), keras.Input((5, 4, 1))
    x = ChannelUnitNorm(epsilon=0.5, name="norm")(AlignedResize(name="resize")(inputs))
    model = keras.Model(inputs, x)
    model.save(tmp_path / "layers.keras")
    again = keras.saving.load_model(tmp_path / "layers.keras")
    assert again.get_layer("norm").get_config() == model.get_layer("norm").get_config()
    assert again.get_layer("norm").epsilon == 0.5
    values = [random_maps(2, 3, 3, 2), np.zeros((2, 5, 4, 1), np.float32)]
    np.testing.assert_array_equal(again.predict_on_batch(values), model.predict_on_batch(values))
