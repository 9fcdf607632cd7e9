"""The Gaussian head against scikit-learn's kernel ridge regression."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from imetlib.training.kernel import fit_kernel
from imetlib.training.predict import log_loss
from imetlib.training.ridge import fit_ridge


def make_rings(num_samples=160, seed=0):
    """Labels by the distance from the centre: nothing for a linear head."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_samples, 3)).astype(np.float32)
    radius = np.sqrt((features**2).sum(axis=1))
    labels = np.stack([radius < 1.2, (radius > 1.2) & (radius < 2.0), radius > 2.0], axis=1)
    return 2.0 * features + 1.0, labels


def signed_root(features):
    return np.sign(features) * np.abs(features) ** 0.5


def test_with_all_samples_as_landmarks_it_is_kernel_ridge_regression():
    features, labels = make_rings()
    head = fit_kernel(features, labels, penalties=(0.3,))
    standard = np.clip((signed_root(features) - head.mean) / head.scale, -6, 6)
    centre = labels.mean(axis=0)

    def gaussians(left, right):
        distances = ((left[:, None] - right[None]) ** 2).sum(axis=2)
        return np.exp(-distances / head.width)

    inner = gaussians(standard, standard)
    new = (signed_root(make_rings(seed=1)[0]) - head.mean) / head.scale
    # Ridge in the kernel's norm with an intercept: centre the kernel on both sides.
    centred = inner - inner.mean(axis=0)
    centred = centred - centred.mean(axis=1, keepdims=True)
    oracle = KernelRidge(alpha=0.3, kernel="precomputed").fit(centred, labels - centre)
    outside = gaussians(new, standard) - inner.mean(axis=0)
    outside = outside - outside.mean(axis=1, keepdims=True)
    expected = oracle.predict(outside) + centre
    logits = head.logits(make_rings(seed=1)[0])
    slope, offset = np.polyfit(expected.ravel(), logits.ravel(), 1)
    assert slope > 0
    np.testing.assert_allclose(logits, slope * expected + offset, atol=0.02 * np.ptp(logits))


def test_width_is_in_units_of_the_median_squared_distance():
    features, labels = make_rings()
    heads = [fit_kernel(features, labels, width=width) for width in (1.0, 2.0)]
    assert heads[1].width == pytest.approx(2 * heads[0].width)
    roots = signed_root(features)
    standard = (roots - roots.mean(axis=0)) / roots.std(axis=0)
    distances = ((standard[:, None] - standard[None]) ** 2).sum(axis=2)
    assert heads[0].width == pytest.approx(np.median(distances), rel=0.02)


def test_it_finds_what_a_linear_head_misses():
    features, labels = make_rings(300)
    new, truth = make_rings(300, seed=1)
    linear, gaussian = fit_ridge(features, labels), fit_kernel(features, labels)
    assert log_loss(truth, gaussian.logits(new)) < 0.5 * log_loss(truth, linear.logits(new))


def test_few_landmarks_come_near_all_of_them():
    features, labels = make_rings(300)
    new, truth = make_rings(300, seed=1)
    few = fit_kernel(features, labels, max_landmarks=100)
    assert few.landmarks.shape == (100, 3)
    # A distance to each landmark, and a weight of each for every class.
    assert few.macs == 100 * 3 + 100 * 3 and isinstance(few.macs, int)
    whole = log_loss(truth, fit_kernel(features, labels).logits(new))
    assert log_loss(truth, few.logits(new)) < 1.5 * whole


def test_seed_decides_and_far_features_stay_finite():
    features, labels = make_rings()
    first = fit_kernel(features, labels, max_landmarks=50, seed=1)
    again = fit_kernel(features, labels, max_landmarks=50, seed=1)
    np.testing.assert_array_equal(first.logits(features), again.logits(features))
    assert np.isfinite(first.logits(np.full((1, 3), 1e6, np.float32))).all()


def test_errors():
    features, labels = make_rings()
    with pytest.raises(ValueError, match="width=0"):
        fit_kernel(features, labels, width=0)
    with pytest.raises(ValueError, match="160 labels"):
        fit_kernel(features[:50], labels)
