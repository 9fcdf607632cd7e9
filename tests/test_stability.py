"""Curves over thresholds, the plateau and the bootstrap, against plain definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import precision_score, recall_score

from imetlib.decisions.fbeta import fbeta_micro, fbeta_per_sample
from imetlib.decisions.stability import bootstrap_threshold, find_plateau, trace_thresholds
from imetlib.decisions.thresholds import search_threshold


def make_scores(num_samples=200, num_classes=30, seed=0):
    generator = np.random.default_rng(seed)
    y_true = generator.random((num_samples, num_classes)) < 0.1
    y_true[:, 0] |= ~y_true.any(axis=1)
    logits = generator.normal(-2.5, 1, y_true.shape) + 2 * y_true
    return y_true, (1 / (1 + np.exp(-logits))).astype(np.float32)


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 5)).flatmap(
        lambda shape: st.tuples(
            arrays(bool, shape), arrays(np.float32, shape, elements=st.sampled_from([0, 0.25, 0.5]))
        )
    )
)
@settings(deadline=None, max_examples=100)
def test_curves_follow_the_definitions(case):
    y_true, y_prob = case
    thresholds = np.array([0.0, 0.25, 0.4, 0.5, 0.75], np.float32)
    curves = trace_thresholds(y_true, y_prob, thresholds)
    for column, threshold in enumerate(thresholds):
        y_pred = y_prob >= threshold
        scores = fbeta_per_sample(y_true, y_pred)
        assert curves.per_sample[:, column] == pytest.approx(scores, abs=1e-6)
        assert curves.micro[column] == pytest.approx(fbeta_micro(y_true, y_pred))
        assert curves.num_labels[column] == pytest.approx(y_pred.sum(axis=1).mean())
        assert curves.unanswered[column] == pytest.approx((~y_pred.any(axis=1)).mean())
        hits = (y_true & y_pred).sum(axis=1)
        precision = hits / np.maximum(y_pred.sum(axis=1), 1)
        recall = hits / np.maximum(y_true.sum(axis=1), 1)
        assert curves.precision[column] == pytest.approx(precision.mean())
        assert curves.recall[column] == pytest.approx(recall.mean())


def test_precision_and_recall_equal_scikit_learn():
    y_true, y_prob = make_scores(num_samples=700)
    curves = trace_thresholds(y_true, y_prob, [0.1, 0.3])
    for column, threshold in enumerate((0.1, 0.3)):
        y_pred = y_prob >= np.float32(threshold)
        for values, score in ((curves.precision, precision_score), (curves.recall, recall_score)):
            expected = score(y_true, y_pred, average="samples", zero_division=0)
            assert values[column] == pytest.approx(expected)


@given(st.integers(0, 50), st.sampled_from([0.001, 0.01, 0.1]))
@settings(deadline=None, max_examples=30)
def test_plateau_holds_everything_near_and_nothing_else(seed, loss):
    search = search_threshold(*make_scores(40, 12, seed))
    low, high = find_plateau(search, loss=loss)
    inside = (search.thresholds >= low) & (search.thresholds <= high)
    assert low <= search.threshold <= high
    assert (search.scores[inside] >= search.score - loss).all()
    for beside in (
        search.scores[search.thresholds < low][-1:],
        search.scores[search.thresholds > high][:1],
    ):
        assert (beside < search.score - loss).all()


def test_bootstrap_is_seeded_and_surrounds_the_optimum():
    y_true, y_prob = make_scores()
    curves = trace_thresholds(y_true, y_prob, np.linspace(0.01, 0.6, 60))
    first = bootstrap_threshold(curves, seed=3, num_resamples=200)
    again = bootstrap_threshold(curves, seed=3, num_resamples=200)
    assert first.threshold_interval == again.threshold_interval
    low, high = first.threshold_interval
    assert low <= curves.thresholds[np.argmax(curves.scores)] <= high
    assert first.score_interval[0] < curves.scores.max() < first.score_interval[1]


def test_pictures_of_one_specimen_are_drawn_together():
    """Copies of each row must not look like more pictures."""
    y_true, y_prob = make_scores(num_samples=60)
    once = trace_thresholds(y_true, y_prob, np.linspace(0.01, 0.6, 30))
    rows = np.repeat(np.arange(60), 5)
    copied = trace_thresholds(y_true[rows], y_prob[rows], np.linspace(0.01, 0.6, 30))
    grouped = bootstrap_threshold(copied, groups=rows, num_resamples=100)
    assert grouped.scores == pytest.approx(bootstrap_threshold(once, num_resamples=100).scores)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trace_thresholds([[1]], np.ones((1, 1)), [0.5, 0.1]), "ascending"),
        (lambda: trace_thresholds([[1]], np.ones((1, 2)), [0.5]), "same shape"),
        (lambda: find_plateau(search_threshold(*make_scores(9, 4)), loss=0), "must be positive"),
        (
            lambda: bootstrap_threshold(trace_thresholds([[1]], np.ones((1, 1)), [0.5]), level=1),
            r"`level` must be in \(0, 1\)",
        ),
        (
            lambda: bootstrap_threshold(
                trace_thresholds([[1]], np.ones((1, 1)), [0.5]), groups=np.zeros(2)
            ),
            "one entry a sample, 1",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
