"""The learning-rate finder on problems whose answer is known."""

import keras
import numpy as np
import pytest

from imetlib.training.finder import find_learning_rate
from imetlib.training.networks import build_classifier
from imetlib.training.optimizers import compile_model


def linear_problem(curvature):
    """Least squares with inputs of equal scale: SGD diverges above a rate of 1 / curvature."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    x *= np.sqrt(curvature) / np.linalg.svd(x, compute_uv=False)[0] * np.sqrt(64)
    y = x @ np.ones((4, 1), "float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    return model, [(x, y)]


@pytest.mark.parametrize("curvature", [1.0, 100.0])
def test_the_suggestion_lies_below_the_rate_that_diverges(curvature):
    model, batches = linear_problem(curvature)
    curve = find_learning_rate(model, batches, start=1e-4 / curvature, stop=1e3 / curvature)
    assert 0.003 / curvature < curve.suggestion < 1.0 / curvature
    # It stopped when the loss rose, soon after the first rate that is too large.
    assert 1.0 / curvature < curve.rates[-1] < 100.0 / curvature
    assert len(curve.rates) == len(curve.losses) < 100
    factors = curve.rates[1:] / curve.rates[:-1]
    np.testing.assert_allclose(factors, factors[0])


def test_nothing_of_the_network_changes(prepared):
    profile = prepared.profile
    model, _ = build_classifier(profile, 3, class_frequency=np.array([0.5, 0.2, 0.1]))
    compile_model(model, profile, updates=10)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    batches = [(pictures, rng.integers(0, 2, (8, 3)).astype("float32"))]
    before = [weight.copy() for weight in model.get_weights()]
    schedule = model.optimizer.get_config()["learning_rate"]
    curve = find_learning_rate(model, batches, start=1e-5, stop=1e-2, steps=12)
    assert len(curve.rates) == 12 and 1e-5 <= curve.suggestion <= 1e-2
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.optimizer.get_config()["learning_rate"] == schedule
    assert int(model.optimizer.iterations) == 0


def test_errors():
    model, batches = linear_problem(1.0)
    with pytest.raises(ValueError, match=r"start=1\.0, stop=0\.1"):
        find_learning_rate(model, batches, start=1.0, stop=0.1)
    with pytest.raises(ValueError, match="steps=5"):
        find_learning_rate(model, batches, steps=5)
    with pytest.raises(ValueError, match="never fell in 1 steps"):
        find_learning_rate(model, batches, start=1e3, stop=1e6)
    with pytest.raises(ValueError, match="call `compile` first"):
        find_learning_rate(keras.Sequential([keras.layers.Dense(1)]), batches)
