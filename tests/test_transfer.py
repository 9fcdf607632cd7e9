"""Labels of neighbours: the formula in a loop, and the two settings that are fitted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imetlib.collection.labels import make_label_table
from imetlib.decisions import transfer
from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.neighbours import nearest_neighbours
from imetlib.decisions.transfer import transfer_labels
from imetlib.decisions.transfer_fit import fit_transfer


def as_table(matrix, prefix="id"):
    ids = [f"{prefix}{row}" for row in range(len(matrix))]
    return make_label_table(ids, [np.flatnonzero(row) for row in matrix], matrix.shape[1])


def vote(indices, similarities, labels, scale, smoothing):
    y_prob = np.zeros((len(indices), labels.shape[1]))
    for row, (neighbours, cosines) in enumerate(zip(indices, similarities, strict=True)):
        weights = [np.exp(-scale * (1 - float(cosine))) for cosine in cosines]
        for neighbour, weight in zip(neighbours, weights, strict=True):
            says = np.where(labels[neighbour], 1 - smoothing, smoothing)
            y_prob[row] += weight / sum(weights) * says
    return y_prob


@st.composite
def voters(draw):
    labels = draw(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 5))))
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    indices = draw(arrays(np.int64, shape, elements=st.integers(0, len(labels) - 1)))
    # Hundredths, so that equal ones are frequent.
    hundredths = draw(arrays(np.int64, shape, elements=st.integers(-100, 100)))
    return labels, indices, (hundredths / 100).astype(np.float32)


@given(voters(), st.sampled_from([0.0, 1.0, 30.0]), st.sampled_from([0.0, 1e-5, 0.1]))
@settings(deadline=None)
def test_equals_the_formula(case, scale, smoothing):
    labels, indices, similarities = case
    expected = vote(indices, similarities, labels, scale, smoothing)
    for form in (labels, as_table(labels), labels.astype(int)):
        y_prob = transfer_labels(indices, similarities, form, scale=scale, smoothing=smoothing)
        assert y_prob.dtype == np.float32
        np.testing.assert_allclose(y_prob, expected, atol=1e-6)
        assert y_prob.min() >= np.float32(smoothing) and y_prob.max() <= 1 - smoothing + 1e-7


def test_large_scales_leave_the_nearest_alone():
    labels = np.eye(3, dtype=bool)
    y_prob = transfer_labels([[2, 0, 1]], [[0.9, 0.5, -1.0]], labels, scale=1e4, smoothing=0.0)
    np.testing.assert_array_equal(y_prob, [[0, 0, 1]])


def test_blocks_of_rows_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    labels = as_table(generator.random((40, 9)) < 0.3)
    indices, similarities = generator.integers(0, 40, (50, 6)), generator.random((50, 6))
    whole = transfer_labels(indices, similarities, labels, scale=5)
    for cells in (1, 20, 100):
        monkeypatch.setattr(transfer, "_CELLS_TOGETHER", cells)
        part = transfer_labels(indices, similarities, labels, scale=5)
        np.testing.assert_array_equal(part, whole)


def test_neighbours_without_any_label_say_no():
    y_prob = transfer_labels([[0, 1]], [[0.5, 0.4]], np.zeros((2, 3)), scale=3, smoothing=0.01)
    np.testing.assert_allclose(y_prob, 0.01, rtol=1e-6)


# Fit ------------------------------------------------------------------------------------------


def mean_log_probability(y_true, y_prob):
    y_prob = y_prob.astype(np.float64)
    return np.log(np.where(y_true, y_prob, 1 - y_prob)).sum(axis=1).mean()


@given(voters(), st.data())
@settings(deadline=None, max_examples=50)
@pytest.mark.filterwarnings("ignore:The best scale")
def test_likelihood_is_that_of_the_probabilities(case, data):
    labels, indices, similarities = case
    y_true = data.draw(arrays(bool, (len(indices), labels.shape[1])))
    ks = range(1, indices.shape[1] + 1)
    fit = fit_transfer(
        y_true, indices, similarities, labels, ks=ks, scales=[8, 0, 2], smoothing=0.01
    )
    assert fit.ks.tolist() == list(ks) and fit.scales.tolist() == [0, 2, 8]
    for row, k in enumerate(ks):
        for column, scale in enumerate(fit.scales):
            y_prob = vote(indices[:, :k], similarities[:, :k], labels, scale, 0.01)
            expected = mean_log_probability(y_true, y_prob)
            assert fit.scores[row, column] == pytest.approx(expected, abs=1e-6)
    assert fit.score == fit.scores.max()
    columns = [np.flatnonzero(row) for row in y_true]
    again = fit_transfer(
        columns, indices, similarities, labels, ks=ks, scales=[8, 0, 2], smoothing=0.01
    )
    np.testing.assert_array_equal(again.scores, fit.scores)
    np.testing.assert_allclose(
        fit.apply(indices, similarities, labels),
        vote(indices[:, : fit.k], similarities[:, : fit.k], labels, fit.scale, 0.01),
        atol=1e-6,
    )


def make_museum(num_samples=400, num_features=6, num_classes=12, seed=0):
    """Embeddings whose directions carry the labels, and noise."""
    generator = np.random.default_rng(seed)
    styles = generator.normal(size=(25, num_features))
    style = generator.integers(25, size=num_samples)
    embeddings = styles[style] + 0.5 * generator.normal(size=(num_samples, num_features))
    labels = (generator.random((25, num_classes)) < 0.25)[style]
    return embeddings, labels ^ (generator.random(labels.shape) < 0.03)


def test_a_fit_on_training_rows_serves_others():
    embeddings, labels = make_museum()
    train, test = embeddings[:300], embeddings[300:]
    rows, cosines = nearest_neighbours(None, train, k=40)
    fit = fit_transfer(labels[:300], rows, cosines, labels[:300])
    assert fit.ks.tolist() == [5, 10, 20, 40] and not fit.at_edge and 1 < fit.scale < 512
    rows, cosines = nearest_neighbours(test, train, k=40)
    fitted = mean_log_probability(labels[300:], fit.apply(rows, cosines, labels[:300]))
    flat = transfer_labels(rows, cosines, labels[:300], scale=0)
    nearest = transfer_labels(rows[:, :1], cosines[:, :1], labels[:300], scale=0)
    assert fitted > mean_log_probability(labels[300:], flat) + 0.1
    assert fitted > mean_log_probability(labels[300:], nearest) + 0.1


def test_fbeta_is_that_of_the_best_threshold():
    embeddings, labels = make_museum()
    rows, cosines = nearest_neighbours(None, embeddings, k=20)
    fit = fit_transfer(labels, rows, cosines, labels, scales=[0, 16, 500], objective="fbeta")
    y_prob = fit.apply(rows, cosines, labels)
    best = max(fbeta_samples(labels, y_prob >= value) for value in np.unique(y_prob)[::7])
    assert best - 1e-9 <= fit.score == fit.scores.max() < best + 0.005
    assert fit.objective == "fbeta"


def test_one_setting_is_no_edge_and_the_ends_are():
    embeddings, labels = make_museum(100)
    rows, cosines = nearest_neighbours(None, embeddings, k=4)
    fit = fit_transfer(labels, rows, cosines, labels, scales=[3.0])
    assert (fit.scale, fit.k, fit.at_edge) == (3.0, 4, False)
    with pytest.warns(UserWarning, match="best scale 2 is the last of those tried"):
        fit = fit_transfer(labels, rows, cosines, labels, scales=[1.0, 2.0])
    assert fit.at_edge


def test_rows_that_are_their_own_neighbours_are_refused():
    labels = as_table(np.eye(3, dtype=bool))
    with pytest.raises(ValueError, match="2 rows are their own neighbours, first id0: search"):
        fit_transfer(labels, [[0], [1], [0]], np.ones((3, 1)), labels)
    other = as_table(np.eye(3, dtype=bool), prefix="test")
    fit_transfer(other, [[0], [1], [0]], np.ones((3, 1)), labels, scales=[1.0])


ROWS, COSINES, LABELS = np.array([[0, 1]]), np.array([[0.9, 0.1]]), np.eye(2, dtype=int)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indices": [[0, 2]]}, r"must be rows of `labels`, 0\.\.1. Received: 0 to 2"),
        ({"indices": [[-1, 0]]}, r"must be rows of `labels`"),
        ({"indices": [[0]]}, r"the shape of `similarities`, \(1, 2\). Received: \(1, 1\)"),
        ({"indices": [[0.0, 1.0]]}, "`indices` must be whole numbers"),
        ({"similarities": [[0.9, 1.2]]}, r"cosines in \[-1, 1\]. Received: .* 0.9 to 1.2"),
        ({"similarities": [[0.9, np.nan]]}, r"cosines in \[-1, 1\]"),
        ({"similarities": [0.9, 0.1]}, r"must be \(num_samples, k\). Received: shape \(2,\)"),
        ({"labels": [[0, 2], [1, 1]]}, "`labels` must hold 0 and 1 only"),
        ({"scale": -1.0}, "scale must be finite and >= 0"),
        ({"scale": np.inf}, "scale must be finite and >= 0"),
        ({"smoothing": 0.5}, r"`smoothing` must be in \[0, 0.5\). Received: smoothing=0.5"),
        ({"smoothing": np.nan}, r"`smoothing` must be in \[0, 0.5\)"),
    ],
)
def test_what_is_refused(arguments, message):
    plain = {"indices": ROWS, "similarities": COSINES, "labels": LABELS, "scale": 1.0}
    with pytest.raises(ValueError, match=message):
        transfer_labels(**{**plain, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y_true": [[1, 0, 0]]}, r"`y_true` must be \(1, 2\), .* Received: \(1, 3\)"),
        ({"y_true": LABELS}, r"Received: \(2, 2\)"),
        ({"ks": [3]}, r"`ks` must be in 1\.\.2. Received: ks=\[3\]"),
        ({"ks": [0, 1]}, r"`ks` must be in 1\.\.2"),
        ({"ks": []}, r"`ks` must be in 1\.\.2"),
        ({"scales": []}, "scale must be finite and >= 0. Received: "),
        ({"objective": "f2"}, "must be 'log_likelihood' or 'fbeta'. Received: objective='f2'"),
        ({"smoothing": 0.0}, "`smoothing` must be positive for a likelihood"),
    ],
)
def test_what_a_fit_refuses(arguments, message):
    plain = {"y_true": [[1, 0]], "indices": ROWS, "similarities": COSINES, "labels": LABELS}
    with pytest.raises(ValueError, match=message):
        fit_transfer(**{**plain, **arguments})


def test_a_fit_is_applied_to_enough_neighbours():
    fit = fit_transfer([[1, 0]], ROWS, COSINES, LABELS, scales=[1.0], ks=[2])
    with pytest.raises(ValueError, match=r"must have 2 neighbours a row. Received: \(1, 1\)"):
        fit.apply(ROWS[:, :1], COSINES[:, :1], LABELS)
