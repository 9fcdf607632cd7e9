"""Thresholds of every class, only ever shown with their score on other rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.decisions.class_thresholds import crossfit_class_thresholds
from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.label_sets import decide
from imetlib.decisions.thresholds import crossfit_threshold


def make_scores(num_samples, num_classes, seed=0):
    generator = np.random.default_rng(seed)
    y_true = generator.random((num_samples, num_classes)) < 0.2
    # Each class is on a scale of its own: one threshold cannot be right for all.
    logits = generator.normal(size=num_classes) + generator.normal(size=y_true.shape)
    return y_true, (1 / (1 + np.exp(-logits - 2 * y_true))).astype(np.float32)


@given(st.integers(0, 200), st.sampled_from([1.0, 2.0]), st.booleans())
@settings(deadline=None, max_examples=25)
def test_no_single_class_can_be_improved(seed, beta, tied):
    y_true, y_prob = make_scores(12, 5, seed)
    y_prob = np.round(y_prob, 1) if tied else y_prob
    result = crossfit_class_thresholds(
        y_true, y_prob, np.arange(12) % 2, beta=beta, num_passes=50, min_labels=0
    )
    assert result.in_sample_score == fbeta_samples(y_true, y_prob >= result.thresholds, beta=beta)
    for column in range(5):
        for level in np.append(np.unique(y_prob[:, column]), np.inf):
            moved = result.thresholds.copy()
            moved[column] = level
            score = fbeta_samples(y_true, y_prob >= moved, beta=beta)
            assert score <= result.in_sample_score + 1e-12


def test_rows_never_see_their_own_thresholds():
    y_true, y_prob = make_scores(90, 8)
    folds = np.arange(90) % 3
    result = crossfit_class_thresholds(y_true, y_prob, folds)
    for fold in range(3):
        others, own = folds != fold, folds == fold
        fitted = crossfit_class_thresholds(y_true[others], y_prob[others], folds[others])
        np.testing.assert_array_equal(result.y_pred[own], decide(y_prob[own], fitted.thresholds))
    assert result.score == fbeta_samples(y_true, result.y_pred)
    assert result.global_score == crossfit_threshold(y_true, y_prob, folds).score
    assert result.overfit == result.in_sample_score - result.score > 0


def test_scales_of_their_own_are_worth_it_with_rows_enough():
    result = crossfit_class_thresholds(*make_scores(2000, 8), np.arange(2000) % 4)
    assert result.score > result.global_score + 0.01
    assert result.overfit < 0.01


def test_noise_is_learned_by_heart():
    generator = np.random.default_rng(1)
    y_true, y_prob = generator.random((60, 30)) < 0.1, generator.random((60, 30))
    result = crossfit_class_thresholds(y_true, y_prob, np.arange(60) % 3)
    assert result.overfit > 0.1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"groups": np.zeros(4)}, "`groups` must name at least two groups"),
        ({"num_passes": 0}, "`num_passes` must be at least 1"),
        ({"y_prob": np.full((4, 4), np.inf)}, "must be finite"),
        ({"y_true": np.ones((4, 3))}, "same shape"),
    ],
)
def test_what_is_refused(changed, message):
    arguments = {"y_true": np.eye(4), "y_prob": np.eye(4), "groups": np.arange(4)}
    with pytest.raises(ValueError, match=message):
        crossfit_class_thresholds(**{**arguments, **changed})
