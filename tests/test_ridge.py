"""The head in closed form against scikit-learn, and what it may not look at."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from imetlib.decisions.thresholds import search_threshold
from imetlib.training.predict import log_loss
from imetlib.training.ridge import fit_ridge


def make_problem(num_samples=300, num_features=12, num_classes=5, noise=1.0, seed=0):
    """Labels from a noisy linear map of features of very unequal scale."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_samples, num_features))
    scores = features @ rng.normal(size=(num_features, num_classes)) - 1.5
    labels = scores + noise * rng.normal(size=scores.shape) > 0
    scale = np.exp(rng.normal(size=num_features))
    return (features * scale + 3.0).astype(np.float32), labels


def standardised(features, mean, scale):
    return (features - mean) / scale


def test_it_is_ridge_regression_up_to_the_calibration():
    features, labels = make_problem()
    head = fit_ridge(features, labels, penalties=(100.0,))
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-3
    oracle = Ridge(alpha=100.0).fit(standardised(features, mean, scale), labels)
    expected = oracle.predict(standardised(features, mean, scale))
    # One slope and one offset for all classes.
    slope, offset = np.polyfit(expected.ravel(), head.logits(features).ravel(), 1)
    np.testing.assert_allclose(head.logits(features), slope * expected + offset, atol=5e-3)
    assert slope > 0
    assert head.kernel.dtype == head.bias.dtype == np.float32
    assert head.macs == 12 * 5 and isinstance(head.macs, int)


def test_views_are_stacked_samples():
    features, labels = make_problem()
    mirrored = features + 0.1 * np.random.default_rng(1).normal(size=features.shape)
    mirrored = mirrored.astype(np.float32)
    head = fit_ridge([features, mirrored], labels, penalties=(100.0,))
    stacked = np.concatenate([features, mirrored])
    mean, scale = stacked.mean(axis=0), stacked.std(axis=0) + 1e-3
    oracle = Ridge(alpha=100.0).fit(
        standardised(stacked, mean, scale), np.concatenate([labels, labels])
    )
    expected = oracle.predict(standardised(features, mean, scale))
    slope, offset = np.polyfit(expected.ravel(), head.logits(features).ravel(), 1)
    np.testing.assert_allclose(head.logits(features), slope * expected + offset, atol=5e-3)


def test_logits_are_calibrated_on_rows_that_were_not_fitted():
    features, labels = make_problem(num_samples=1200)
    head = fit_ridge(features[:600], labels[:600])
    logits = head.logits(features[600:])
    frequency = np.tile(labels[:600].mean(axis=0), (600, 1))
    constant = log_loss(labels[600:], np.log(frequency / (1 - frequency)))
    assert log_loss(labels[600:], logits) < 0.6 * constant
    y_prob = 1 / (1 + np.exp(-logits))
    assert y_prob.mean() == pytest.approx(labels[600:].mean(), abs=0.03)
    for low, high in ((0.1, 0.3), (0.3, 0.7), (0.7, 0.9)):
        inside = (y_prob > low) & (y_prob < high)
        assert y_prob[inside].mean() == pytest.approx(labels[600:][inside].mean(), abs=0.12)


@pytest.mark.parametrize(("noise", "num_samples"), [(0.1, 400), (6.0, 60)])
def test_the_penalty_is_chosen_on_rows_set_aside(noise, num_samples):
    """By hand: fit on the rest, score F2 on the fifth, take the best."""
    penalties = (0.1, 30.0, 1000.0)
    features, labels = make_problem(num_samples, noise=noise, num_features=30)
    aside = np.random.default_rng(0).random(num_samples) < 0.2
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-3
    standard = standardised(features, mean, scale)
    found = {}
    for penalty in penalties:
        centred = labels - labels[~aside].mean(axis=0)
        oracle = Ridge(alpha=penalty, fit_intercept=False).fit(standard[~aside], centred[~aside])
        scores = oracle.predict(standard[aside]) + labels[~aside].mean(axis=0)
        found[penalty] = search_threshold(
            labels[aside], np.clip(scores, 0, 1).astype(np.float32)
        ).score
    head = fit_ridge(features, labels, penalties=penalties)
    assert found[head.penalty] == pytest.approx(max(found.values()), abs=2e-3)


def test_whole_groups_are_set_aside(monkeypatch):
    """Twins across the border would ask for no penalty at all."""
    from imetlib.training import ridge

    features, labels = make_problem(num_samples=200)
    groups = np.repeat(np.arange(100) * 7, 2)
    seen = []
    original = ridge._moments
    monkeypatch.setattr(
        ridge,
        "_moments",
        lambda views, targets, rows, *rest: (
            seen.append(rows) or original(views, targets, rows, *rest)
        ),
    )
    fit_ridge(features, labels, groups=groups)
    fitted = seen[0]
    assert 0.6 < fitted.mean() < 0.95
    np.testing.assert_array_equal(fitted[::2], fitted[1::2])
    assert seen[-1].all()


def test_constant_features_and_empty_classes_do_no_harm():
    features, labels = make_problem(num_samples=100)
    features[:, 0] = 5.0
    labels[:, 0] = False
    head = fit_ridge(features, labels)
    assert np.isfinite(head.logits(features)).all()
    assert (head.logits(features)[:, 0] < head.logits(features)[:, 1:].max(axis=1)).all()


def test_errors():
    features, labels = make_problem(num_samples=30)
    with pytest.raises(
        ValueError, match=r"one length, 10 or more. Received: \[30\] features and 29"
    ):
        fit_ridge(features, labels[:29])
    with pytest.raises(ValueError, match="5 labels"):
        fit_ridge(features[:5], labels[:5])
