import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import fbeta_score

from imetlib.collection.labels import LabelTable, make_label_table, read_label_table
from imetlib.decisions.fbeta import (
    bootstrap_interval,
    constant_answer,
    fbeta_micro,
    fbeta_per_sample,
    fbeta_samples,
    label_pairs,
)

DATA = os.environ.get("IMETLIB_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="IMETLIB_DATA is not set")


def read_train(name: str, num_classes: int) -> LabelTable:
    return read_label_table(Path(DATA or "") / name / "train.csv", num_classes)


def as_table(matrix: np.ndarray) -> LabelTable:
    ids = [f"id{row}" for row in range(len(matrix))]
    return make_label_table(ids, [np.flatnonzero(row) for row in matrix], matrix.shape[1])


@st.composite
def two_matrices(draw):
    # scikit-learn takes a single column for a binary problem, which has no samples.
    shape = draw(st.tuples(st.integers(1, 8), st.integers(2, 7)))
    return draw(arrays(bool, shape)), draw(arrays(bool, shape))


def test_vectors_of_the_definition():
    y_true = np.array([[1, 1, 0, 0], [0, 1, 0, 1]])
    y_pred = np.array([[1, 0, 1, 1], [0, 1, 0, 0]])
    np.testing.assert_allclose(fbeta_per_sample(y_true, y_pred), [5 / 11, 5 / 9])
    assert fbeta_samples(y_true, y_pred) == pytest.approx(0.505051, abs=1e-6)
    assert fbeta_micro(y_true, y_pred) == 0.5


@given(two_matrices(), st.sampled_from([0.5, 1.0, 2.0, 3.0]))
@settings(deadline=None)
def test_equals_scikit_learn(matrices, beta):
    y_true, y_pred = matrices
    for function, average in ((fbeta_samples, "samples"), (fbeta_micro, "micro")):
        expected = fbeta_score(y_true, y_pred, beta=beta, average=average, zero_division=0)
        assert function(y_true, y_pred, beta=beta) == pytest.approx(expected, abs=1e-12)


@given(two_matrices())
@settings(deadline=None)
def test_every_form_of_labels_gives_the_same_score(matrices):
    y_true, y_pred = matrices
    expected = fbeta_per_sample(y_true, y_pred)
    columns = [np.flatnonzero(row) for row in y_pred]
    for true_form in (as_table(y_true), y_true.astype(np.int64), y_true.tolist()):
        for pred_form in (as_table(y_pred), y_pred.astype(np.float32), columns):
            np.testing.assert_array_equal(fbeta_per_sample(true_form, pred_form), expected)


def test_samples_and_micro_are_different_numbers():
    generator = np.random.default_rng(0)
    y_true = generator.random((200, 30)) < generator.random((200, 1)) * 0.3
    y_pred = y_true ^ (generator.random((200, 30)) < 0.1)
    assert abs(fbeta_samples(y_true, y_pred) - fbeta_micro(y_true, y_pred)) > 0.01


@pytest.mark.parametrize("value", [0, 1])
def test_edge_matrices(value):
    same = np.full((3, 4), value)
    assert fbeta_samples(same, same) == value
    assert fbeta_samples(same, 1 - same) == 0.0
    assert fbeta_micro(same, 1 - same) == 0.0


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"same shape. Received: \(2, 3\) and \(2, 4\)"),
        (np.ones((2, 3)), [np.array([0])], "same shape"),
        (np.ones((1, 3)), [np.array([3])], r"same shape. Received: \(1, 3\) and \(1, 4\)"),
        (np.ones((1, 3)), np.full((1, 3), 0.4), "decide with a threshold first"),
        (np.ones(3), np.ones(3), r"must be \(num_samples, num_classes\). Received: shape \(3,\)"),
        (np.ones((0, 3)), np.ones((0, 3)), "holds no samples"),
        (np.ones((1, 3)), [np.array([1, 1])], "sample 0 has column 1 twice"),
        (np.ones((1, 3)), [np.array([-1])], "columns must be >= 0"),
    ],
)
def test_what_is_refused(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        fbeta_samples(y_true, y_pred)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_beta_must_be_positive(beta):
    with pytest.raises(ValueError, match=r"`beta` must be positive. Received: beta="):
        fbeta_samples([[1]], [[1]], beta=beta)


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 6))))
@settings(deadline=None)
def test_constant_answer_is_the_best_prefix(matrix):
    answer = constant_answer(matrix)
    order = sorted(range(matrix.shape[1]), key=lambda column: (-matrix[:, column].sum(), column))
    for size in range(1, matrix.shape[1] + 1):
        y_pred = np.zeros_like(matrix)
        y_pred[:, order[:size]] = True
        assert answer.scores[size - 1] == pytest.approx(fbeta_samples(matrix, y_pred), abs=1e-12)
    assert answer.score == answer.scores.max()
    assert answer.columns.tolist() == order[: len(answer.columns)]
    np.testing.assert_array_equal(constant_answer(as_table(matrix)).scores, answer.scores)


def test_constant_answer_fitted_on_other_rows():
    fit = np.array([[0, 1, 0], [0, 1, 0], [1, 1, 0]])
    labels = np.array([[1, 0, 0], [1, 0, 1]])
    answer = constant_answer(labels, fit_labels=fit)
    assert answer.columns.tolist() == constant_answer(fit).columns.tolist() == [1, 0]
    expected = fbeta_samples(labels, [answer.columns] * 2)
    assert answer.score == pytest.approx(expected)
    assert answer.score < constant_answer(labels).score


def test_constant_answer_with_counts_takes_the_order_from_them():
    labels = np.array([[1, 0, 0], [1, 0, 1]])
    answer = constant_answer(labels, fit_counts=np.array([0, 1, 5], np.uint8))
    assert answer.columns.tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match="`labels` has 3 classes, what the answer"):
        constant_answer(labels, fit_counts=np.ones(4))
    with pytest.raises(ValueError, match="not both"):
        constant_answer(labels, fit_labels=labels, fit_counts=np.ones(3))


def test_bootstrap_interval():
    per_sample = np.random.default_rng(1).random(400)
    low, high = bootstrap_interval(per_sample)
    half_width = 1.96 * per_sample.std() / 20
    assert low == pytest.approx(per_sample.mean() - half_width, abs=0.01)
    assert high == pytest.approx(per_sample.mean() + half_width, abs=0.01)
    assert bootstrap_interval(per_sample) == (low, high)
    assert bootstrap_interval(per_sample, seed=1) != (low, high)
    assert bootstrap_interval(per_sample, level=0.5)[0] > low


def test_bootstrap_draws_whole_groups():
    values = np.repeat(np.random.default_rng(2).random(50), 8)
    low, high = bootstrap_interval(values)
    wide_low, wide_high = bootstrap_interval(values, groups=np.repeat(np.arange(50), 8))
    # Eight copies hold no more than one: the interval is sqrt(8) times as wide.
    assert (wide_high - wide_low) / (high - low) == pytest.approx(8**0.5, rel=0.15)
    names = np.repeat([f"specimen {number:02}" for number in range(50)], 8)
    assert bootstrap_interval(values, groups=names) == (wide_low, wide_high)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_sample": np.empty(0)}, r"`per_sample` must be \(num_samples,\)"),
        ({"per_sample": np.ones(3), "level": 1.0}, r"`level` must be in \(0, 1\)"),
        ({"per_sample": np.ones(3), "groups": np.ones(2)}, "one entry a sample, 3"),
    ],
)
def test_bootstrap_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(**arguments)


@needs_data
def test_constant_answer_of_imet_2019():
    labels = read_train("imet2019", 1103)
    answer = constant_answer(labels)
    assert len(answer.columns) == 16
    for size, score in {1: 0.0589, 5: 0.1629, 10: 0.2013, 16: 0.2084, 30: 0.1814}.items():
        assert answer.scores[size - 1] == pytest.approx(score, abs=5e-5)
    micro = fbeta_micro(labels, [answer.columns] * len(labels))
    assert micro == pytest.approx(0.2163, abs=5e-5)


@needs_data
def test_constant_answer_of_the_watercolours():
    answer = constant_answer(read_train("pomological", 358))
    assert answer.score == pytest.approx(0.5005, abs=5e-5)
    wanted = [0, 6, 7, 11, 16, 17, 18, 19, 23, 54, 83, 89, 114, 122]
    assert sorted(answer.columns.tolist()) == wanted


def test_label_pairs_of_a_ragged_sequence():
    rows, columns, shape = label_pairs([np.array([3, 1]), np.array([], int)])
    assert rows.tolist() == [0, 0]
    assert columns.tolist() == [3, 1]
    assert shape == (2, 4)
