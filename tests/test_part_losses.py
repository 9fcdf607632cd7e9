"""Losses on part masks: the reference's check figures, rows and columns, gradients."""

import keras
import numpy as np
import pytest

from imetlib.training.part_losses import (
    GroupingLoss,
    SharedTargets,
    concentration_loss,
    distance_loss,
    diversity_loss,
    squared_distance_to_peak,
)


def one_hot(places, height=28, width=28):
    masks = np.zeros((1, height, width, len(places)), np.float32)
    for part, (row, column) in enumerate(places):
        masks[0, row, column, part] = 1.0
    return masks


def random_masks(shape=(2, 5, 9, 3), seed=0):
    masks = np.random.default_rng(seed).uniform(size=shape).astype(np.float32)
    return masks / masks.sum(axis=(1, 2), keepdims=True)


def total(loss):
    return float(keras.ops.sum(loss))


# Reference, table 2.5: sums over four parts, 28 x 28, margin 0.02.
@pytest.mark.parametrize(
    ("masks", "distance", "diversity"),
    [
        (one_hot([(0, 0), (3, 20), (27, 5), (14, 14)]), 0.0, -0.08),
        (one_hot([(3, 20)] * 4), 0.0, 3.92),
        (np.full((1, 28, 28, 4), 1 / 784, np.float32), 1980.0, 4 * (1 / 784 - 0.02)),
    ],
    ids=["apart", "equal", "uniform"],
)
def test_check_figures(masks, distance, diversity):
    assert total(distance_loss(masks)) == pytest.approx(distance, rel=1e-5)
    assert total(diversity_loss(masks, margin=0.02)) == pytest.approx(diversity, rel=1e-4)
    assert distance_loss(masks).shape == diversity_loss(masks).shape == (1, 4)
    together = GroupingLoss()(np.zeros((1, 1)), masks)
    assert float(together) == pytest.approx(distance + 2 * diversity, rel=1e-5)


def test_rows_and_columns_are_not_mixed_up():
    masks = np.full((1, 4, 9, 1), 0.5 / 35, np.float32)
    masks[0, 1, 7] = 0.5  # far off the diagonal of a map that is no square
    squares = keras.ops.convert_to_numpy(squared_distance_to_peak(masks))[0, :, :, 0]
    for row, column in np.ndindex(4, 9):
        assert squares[row, column] == (row - 1) ** 2 + (column - 7) ** 2
    assert total(distance_loss(masks)) == pytest.approx(float((masks[0, :, :, 0] * squares).sum()))
    # A column compared with rows, as in the layer in circulation: another number.
    swapped = sum(
        masks[0, row, column, 0] * ((row - 7) ** 2 + (column - 1) ** 2)
        for row, column in np.ndindex(4, 9)
    )
    assert abs(total(distance_loss(masks)) - swapped) > 1


def test_losses_are_those_of_a_loop():
    masks = random_masks()
    distance, diversity, concentration = np.zeros((3, 2, 3))
    for b, part in np.ndindex(2, 3):
        mask = masks[b, :, :, part]
        peak = np.unravel_index(mask.argmax(), mask.shape)
        for row, column in np.ndindex(mask.shape):
            value, square = mask[row, column], (row - peak[0]) ** 2 + (column - peak[1]) ** 2
            other = max(masks[b, row, column, k] for k in range(3) if k != part)
            distance[b, part] += value * square
            diversity[b, part] += value * (other - 0.05)
            concentration[b, part] += 0.5 * (value - 2.0 / (2.0 + square)) ** 2
    np.testing.assert_allclose(distance_loss(masks), distance, rtol=1e-5)
    np.testing.assert_allclose(diversity_loss(masks, margin=0.05), diversity, rtol=1e-5)
    np.testing.assert_allclose(concentration_loss(masks, width=2.0), concentration, rtol=1e-5)
    loss = GroupingLoss(0.5, 3.0, margin=0.05)(np.zeros((2, 1)), masks)
    wanted = (0.5 * distance + 3.0 * diversity).sum(axis=1).mean()
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    loss = GroupingLoss(0.5, 0.0, peak_width=2.0)(np.zeros((2, 1)), masks)
    assert float(loss) == pytest.approx(0.5 * concentration.sum(axis=1).mean(), rel=1e-5)


def test_one_part_has_no_other():
    np.testing.assert_allclose(diversity_loss(random_masks((2, 3, 4, 1))), -0.02, rtol=1e-4)


class Masks(keras.layers.Layer):
    """The masks themselves as weights, softmax over the positions."""

    def build(self, input_shape):
        self.scores = self.add_weight(shape=input_shape[1:], initializer="zeros", name="scores")

    def call(self, inputs):
        scores = self.scores + 0.0 * inputs
        return keras.ops.exp(scores - keras.ops.logsumexp(scores, axis=(1, 2), keepdims=True))


def step(loss, start, **settings):
    """What one step of gradient descent takes from a start, learning rate 1: the gradient."""
    inputs = keras.Input(start.shape)
    layer = Masks()
    model = keras.Model(inputs, layer(inputs))
    layer.scores.assign(start)
    model.compile(keras.optimizers.SGD(1.0), loss=loss, **settings)
    model.train_on_batch(np.zeros((1, *start.shape), np.float32), np.zeros((1, 1)))
    return start - layer.scores.numpy()


def test_the_peak_is_constant_for_the_gradient():
    start = np.random.default_rng(1).normal(size=(3, 4, 2)).astype(np.float32)
    masks = np.exp(start) / np.exp(start).sum(axis=(0, 1))
    gradient = step(GroupingLoss(1.0, 0.0), start)
    for part in range(2):
        mask = masks[:, :, part]
        row, column = np.unravel_index(mask.argmax(), mask.shape)
        rows, columns = np.indices(mask.shape)
        square = (rows - row) ** 2 + (columns - column) ** 2
        # Of sum m * square with square constant, through the softmax.
        wanted = mask * (square - (mask * square).sum())
        np.testing.assert_allclose(gradient[:, :, part], wanted, rtol=1e-4, atol=1e-6)


def test_the_margin_gives_no_gradient():
    start = np.random.default_rng(1).normal(size=(3, 4, 2)).astype(np.float32)
    gradients = [step(GroupingLoss(0.0, 1.0, margin=margin), start) for margin in (0.0, 0.5)]
    assert np.abs(gradients[0]).max() > 1e-3
    np.testing.assert_allclose(*gradients, atol=1e-6)


@pytest.mark.xla
def test_gradient_compiled_by_xla():
    start = np.random.default_rng(1).normal(size=(3, 4, 2)).astype(np.float32)
    for loss in (GroupingLoss(), GroupingLoss(peak_width=1.0)):
        gradients = [step(loss, start, jit_compile=jit) for jit in (False, True)]
        np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-6)


def test_shared_targets_add_up_the_loss_of_every_output():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, (3, 4)).astype(np.float32)
    logits = rng.normal(size=(3, 5, 4)).astype(np.float32)
    for loss in (
        keras.losses.BinaryCrossentropy(from_logits=True),
        keras.losses.BinaryFocalCrossentropy(gamma=2.0, from_logits=True),
    ):
        parts = [float(loss(y_true, logits[:, index])) for index in range(5)]
        shared = SharedTargets(loss, part_weight=0.3)
        assert float(shared(y_true, logits)) == pytest.approx(
            parts[0] + 0.3 * sum(parts[1:]), rel=1e-5
        )


def test_config_round_trips():
    losses = [
        GroupingLoss(0.5, 3.0, 0.05, peak_width=2.0),
        SharedTargets(keras.losses.BinaryCrossentropy(from_logits=True), part_weight=0.3),
    ]
    for loss in losses:
        copy = keras.losses.deserialize(keras.losses.serialize(loss))
        assert type(copy) is type(loss) and copy.get_config() == loss.get_config()
    rng = np.random.default_rng(0)
    y_true, logits = np.ones((3, 4)), rng.normal(size=(3, 5, 4)).astype(np.float32)
    assert float(copy(y_true, logits)) == pytest.approx(float(loss(y_true, logits)))
