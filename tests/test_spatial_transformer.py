"""The spatial transformer against a loop over grid points, and its gradient for the box."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.models.spatial_transformer import SpatialTransformer

JIT = keras.backend.backend() != "torch"


def sample_slowly(features, boxes, height, width):
    """Every output cell from its four neighbours, in float64."""
    batch, map_height, map_width, channels = features.shape
    output = np.zeros((batch, height, width, channels))
    for sample, (sx, sy, tx, ty) in enumerate(boxes):
        for i in range(height):
            for j in range(width):
                y = 0.0 if height == 1 else -1 + 2 * i / (height - 1)
                x = 0.0 if width == 1 else -1 + 2 * j / (width - 1)
                row = (sy * y + ty + 1) * (map_height - 1) / 2
                column = (sx * x + tx + 1) * (map_width - 1) / 2
                top, left = int(np.floor(row)), int(np.floor(column))
                for r in (top, top + 1):
                    for c in (left, left + 1):
                        if 0 <= r < map_height and 0 <= c < map_width:
                            weight = (1 - abs(row - r)) * (1 - abs(column - c))
                            output[sample, i, j] += weight * features[sample, r, c]
    return output


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sample(features, boxes, height, width):
    layer = SpatialTransformer(height, width)
    boxes = () if boxes is None else (np.asarray(boxes, np.float32),)
    return keras.ops.convert_to_numpy(layer(features, *boxes))


@pytest.mark.parametrize("boxes", [None, [[1.0, 1.0, 0.0, 0.0]] * 2])
def test_the_whole_map_is_the_map(boxes):
    features = noise(2, 16, 16, 8)
    np.testing.assert_allclose(sample(features, boxes, 16, 16), features, atol=1e-5)


def test_no_box_is_the_whole_map_at_other_sizes():
    features = noise(2, 16, 12, 3)
    whole = sample_slowly(features, [(1, 1, 0, 0)] * 2, 14, 7)
    np.testing.assert_allclose(sample(features, None, 14, 7), whole, atol=1e-5)


SIDE = st.integers(1, 6)
NUMBER = st.floats(-1.5, 1.5, width=32)


@settings(max_examples=40, deadline=None)
@given(st.tuples(SIDE, SIDE), st.tuples(SIDE, SIDE), st.lists(NUMBER, min_size=8, max_size=8))
def test_boxes_against_the_loop(map_size, size, numbers):
    features, boxes = noise(2, *map_size, 3), np.reshape(numbers, (2, 4))
    np.testing.assert_allclose(
        sample(features, boxes, *size), sample_slowly(features, boxes, *size), atol=2e-5
    )


def test_scale_and_shift_by_hand():
    features = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    upper_right = sample(features, [[0.5, 0.5, 0.5, -0.5]], 3, 3)[0, ..., 0]
    np.testing.assert_allclose(upper_right, [[2, 3, 4], [7, 8, 9], [12, 13, 14]], atol=1e-5)
    mirrored = sample(features, [[-1.0, 1.0, 0.0, 0.0]], 5, 5)[0, ..., 0]
    np.testing.assert_allclose(mirrored, features[0, :, ::-1, 0], atol=1e-5)
    middle = sample(features, [[0.3, 0.3, 0.0, 0.0]], 1, 1)
    np.testing.assert_allclose(middle, [[[[12]]]], atol=1e-5)


def test_outside_of_the_map_is_zero():
    features = np.ones((1, 5, 5, 1), np.float32)
    # Right of the map's last column by one cell or more in the output's last two columns.
    half = sample(features, [[1.0, 1.0, 1.0, 0.0]], 5, 5)[0, ..., 0]
    np.testing.assert_allclose(half, [[1, 1, 1, 0, 0]] * 5, atol=1e-6)
    # Half a cell outside, the border cell weighs one half.
    edge = sample(features, [[1.0, 1.0, 0.25, 0.0]], 5, 5)[0, ..., 0]
    np.testing.assert_allclose(edge, [[1, 1, 1, 1, 0.5]] * 5, atol=1e-6)
    assert not sample(features, [[0.5, 0.5, 0.0, -2.1]], 4, 4).any()


def gradient_of_box(features, box, weights):
    """Derivative of sum(weights * sampled), read off a step of gradient descent of size one."""
    maps, one = keras.Input(features.shape[1:]), keras.Input((1,))
    boxes = keras.layers.Dense(4, use_bias=False, name="box")(one)
    sampled = SpatialTransformer(*weights.shape[1:3])(maps, boxes)
    model = keras.Model([maps, one], sampled)
    start = np.array([box], np.float32)
    model.get_layer("box").set_weights([start])
    model.compile(
        keras.optimizers.SGD(1.0), loss=lambda true, pred: keras.ops.sum(true * pred, (1, 2, 3))
    )
    model.train_on_batch([features, np.ones((1, 1), np.float32)], weights)
    return (start - model.get_layer("box").get_weights()[0])[0]


def slope(features, box, weights, step):
    """One-sided differences of the loop in float64."""
    sizes = weights.shape[1:3]
    start = np.array(box, np.float64)
    base = sample_slowly(features, [start], *sizes)
    ends = [sample_slowly(features, [start + step * unit], *sizes) for unit in np.eye(4)]
    return [np.sum(weights * (end - base)) / step for end in ends]


# No grid point of these falls on a cell's centre, where the sampled map has a kink.
@pytest.mark.parametrize("box", [(0.61, 0.47, 0.13, -0.08), (0.9, 0.8, 0.77, -0.61)])
def test_gradient_against_differences(box):
    features, weights = noise(1, 7, 9, 3), noise(1, 4, 5, 3, seed=1)
    both = [slope(features, box, weights, step) for step in (1e-5, -1e-5)]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-3)
    np.testing.assert_allclose(gradient_of_box(features, box, weights), both[0], rtol=1e-3)


def test_boxes_move_away_from_the_whole_map():
    # Every grid point falls on a cell's centre, where the hat function's derivative is 0. (Sides
    # of 2^n + 1 cells: the places are exact.)
    features, weights = noise(1, 5, 5, 3), noise(1, 5, 5, 3, seed=1)
    gradient = gradient_of_box(features, (1, 1, 0, 0), weights)
    assert np.abs(gradient).min() > 0.1
    # To the right and down the derivative is the difference to the next cell.
    expected = slope(features, (1, 1, 0, 0), weights, 1e-6)[2:]
    np.testing.assert_allclose(gradient[2:], expected, rtol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_the_grid_is_float32_under_mixed_policies(policy):
    features, boxes = noise(2, 9, 9, 3), noise(2, 4, seed=1)
    layer = SpatialTransformer(4, 4, dtype=policy)
    output = keras.ops.convert_to_numpy(layer(features, boxes))
    np.testing.assert_allclose(output, sample_slowly(features, boxes, 4, 4), atol=1e-5)
    half = layer(keras.ops.cast(features, policy.removeprefix("mixed_")), boxes)
    assert keras.backend.standardize_dtype(half.dtype) == policy.removeprefix("mixed_")
    half = keras.ops.convert_to_numpy(keras.ops.cast(half, "float32"))
    np.testing.assert_allclose(half, output, atol=0.05)


def test_open_sides_compile_save_and_load(tmp_path):
    maps, boxes = keras.Input((None, None, 3)), keras.Input((4,))
    model = keras.Model([maps, boxes], SpatialTransformer(4, 6, name="map")(maps, boxes))
    assert model.output.shape == (None, 4, 6, 3)
    model.compile(loss="mse", jit_compile=JIT)
    features, numbers = noise(2, 5, 7, 3), noise(2, 4, seed=1)
    expected = sample_slowly(features, numbers, 4, 6)
    np.testing.assert_allclose(model.predict([features, numbers], verbose=0), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("map").get_config() == model.get_layer("map").get_config()
    np.testing.assert_allclose(loaded.predict([features, numbers], verbose=0), expected, atol=1e-5)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"at least 1\. Received: height=0, width=3"):
        SpatialTransformer(0, 3)
    for shapes in [((8, 3), (4,)), ((8, 8, 3), (6,))]:
        maps, boxes = (keras.Input(shape) for shape in shapes)
        with pytest.raises(ValueError, match=r"\(batch, height, width, channels\) and boxes"):
            SpatialTransformer(3, 3)(maps, boxes)
