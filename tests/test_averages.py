import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import fbeta_score

from imetlib.collection.labels import make_label_table
from imetlib.decisions.averages import GroupScore, fbeta_by_group, fbeta_macro
from imetlib.decisions.fbeta import fbeta_per_sample, fbeta_samples

NAMES = ("culture::a", "tag::a", "tag::b", "culture::b", "tag::c", "alone")


def as_table(matrix):
    ids = [f"id{row}" for row in range(len(matrix))]
    return make_label_table(ids, [np.flatnonzero(row) for row in matrix], matrix.shape[1])


def ragged(matrix):
    return [np.flatnonzero(row) for row in matrix]


@st.composite
def two_matrices(draw, num_classes):
    shape = (draw(st.integers(1, 8)), draw(num_classes))
    return draw(arrays(bool, shape)), draw(arrays(bool, shape))


@given(two_matrices(st.integers(2, 7)), st.sampled_from([0.5, 1.0, 2.0]))
@settings(deadline=None)
def test_macro_equals_scikit_learn_in_every_form(matrices, beta):
    y_true, y_pred = matrices
    expected = fbeta_score(y_true, y_pred, beta=beta, average="macro", zero_division=0)
    for true_form in (y_true, as_table(y_true), y_true.tolist(), ragged(y_true)):
        for pred_form in (as_table(y_pred), y_pred.astype(int)):
            found = fbeta_macro(true_form, pred_form, beta=beta)
            assert found == pytest.approx(expected, abs=1e-12)
    assert fbeta_macro(y_true, ragged(y_pred), beta=beta) == pytest.approx(expected, abs=1e-12)


@given(two_matrices(st.just(1)))
def test_macro_of_one_class_is_that_of_the_class(matrices):
    y_true, y_pred = matrices
    hits = (y_true & y_pred).sum()
    total = 4 * y_true.sum() + y_pred.sum()
    assert fbeta_macro(y_true, y_pred) == pytest.approx(5 * hits / max(total, 1))


@given(two_matrices(st.just(len(NAMES))))
@settings(deadline=None)
def test_groups_are_scored_on_their_own_columns(matrices):
    y_true, y_pred = matrices
    found = fbeta_by_group(y_true, y_pred, NAMES)
    assert list(found) == ["culture", "tag", "alone"]
    for group, columns in (("culture", [0, 3]), ("tag", [1, 2, 4]), ("alone", [5])):
        own_true, own_pred = y_true[:, columns], y_pred[:, columns]
        some = own_true.any(axis=1) | own_pred.any(axis=1)
        score = fbeta_samples(own_true[some], own_pred[some]) if some.any() else 0.0
        expected = (some.sum(), own_true.sum(), own_pred.sum())
        assert found[group].score == pytest.approx(score, abs=1e-12)
        assert (found[group].num_samples, found[group].num_true, found[group].num_pred) == expected
    for true_form in (as_table(y_true), ragged(y_true)):
        for pred_form in (as_table(y_pred), ragged(y_pred)):
            assert fbeta_by_group(true_form, pred_form, NAMES) == found


def test_one_group_of_all_classes_is_the_score():
    generator = np.random.default_rng(0)
    y_true, y_pred = generator.random((2, 50, 6)) < 0.4
    y_true[:, 0] = True
    found = fbeta_by_group(y_true, y_pred, [f"tag::{column}" for column in range(6)], beta=1.0)
    assert found["tag"].score == pytest.approx(fbeta_per_sample(y_true, y_pred, beta=1.0).mean())
    assert found["tag"].num_samples == 50


def test_a_group_that_nobody_has_scores_nothing():
    found = fbeta_by_group([[1, 0]], [[1, 0]], ["tag::a", "culture::a"])
    assert found["culture"] == GroupScore(0.0, 0, 0, 0)
    assert found["tag"] == GroupScore(1.0, 1, 1, 1)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"must name 2 classes\. Received: 1 names"):
        fbeta_by_group([[1, 0]], [[1, 0]], ["tag::a"])
    with pytest.raises(ValueError, match=r"must name 3 classes\. Received: 2 names"):
        fbeta_by_group([np.array([2])], [np.array([0])], ["tag::a", "tag::b"])
    with pytest.raises(ValueError, match="A mean over classes needs their number"):
        fbeta_macro([np.array([2])], [np.array([0])])
    with pytest.raises(ValueError, match="A mean over classes needs their number"):
        fbeta_macro(np.zeros((2, 0)), np.zeros((2, 0)))
    for function in (
        fbeta_macro,
        lambda *labels, **options: fbeta_by_group(*labels, "ab", **options),
    ):
        with pytest.raises(ValueError, match="must have the same shape"):
            function([[1, 0]], [[1, 0, 1]])
        with pytest.raises(ValueError, match="`beta` must be positive"):
            function([[1, 0]], [[1, 0]], beta=0)
