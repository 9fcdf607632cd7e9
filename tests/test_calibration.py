"""Calibration against scikit-learn, loops over entries, and real out-of-fold scores."""

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

mpl.use("Agg")

import matplotlib.pyplot as plt

from imetlib.collection.labels import make_label_table
from imetlib.decisions.calibration import fit_isotonic, fit_pair, fit_platt
from imetlib.decisions.fbeta import fbeta_per_sample
from imetlib.decisions.per_image import expected_fbeta_sets
from imetlib.decisions.pooling import clipped_logit, pool_scores
from imetlib.decisions.reliability import (
    calibrate_out_of_fold,
    calibration_error,
    reliability_curve,
)
from imetlib.decisions.thresholds import crossfit_threshold
from imetlib.figures_decisions import plot_reliability


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def make_case(num_samples=400, num_classes=30, slope=1.0, offset=0.0, seed=0):
    """Labels, and distorted probabilities that the pair (slope, offset) puts right."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-3, 2, size=(num_samples, num_classes))
    y_true = generator.random(logits.shape) < sigmoid(logits)
    return y_true, sigmoid((logits - offset) / slope).astype(np.float32)


@st.composite
def labels_and_probabilities(draw):
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 7)))
    elements = st.one_of(
        st.sampled_from([0.0, 1e-8, 1e-7, 0.25, 0.5, 0.75, 1 - 1e-7, 1.0]),
        st.floats(0, 1, width=32),
    )
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    y_prob = draw(arrays(np.float64, shape, elements=elements)).astype(dtype)
    return draw(arrays(bool, shape)), y_prob


# Pooling --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(labels_and_probabilities(), st.booleans())
def test_pools_lose_no_entry_and_keep_the_order(case, grouped):
    y_true, y_prob = case
    num_classes = y_prob.shape[1]
    groups = np.arange(num_classes) % 2 if grouped else np.zeros(num_classes, int)
    pools = pool_scores(y_true, y_prob, groups if grouped else None)
    assert len(pools) == groups.max() + 1
    for number, pool in enumerate(pools):
        scores = y_prob[:, groups == number].astype(np.float32).ravel().astype(np.float64)
        labels = y_true[:, groups == number].ravel()
        assert pool.counts.sum() == len(scores)
        assert pool.positives.sum() == labels.sum()
        assert (pool.counts > 0).all() and (np.diff(pool.mean_prob) > 0).all()
        assert pool.mean_prob @ pool.counts == pytest.approx(scores.sum())
        # Each entry lies by the mean of its bin, measured in the clipped logit.
        nearest = np.abs(clipped_logit(scores)[:, None] - pool.logits).min(axis=1)
        assert (nearest < np.where(scores < 1 - 1e-6, 1.1e-3, 0.2)).all()
        assert pool.has_both == (0 < labels.sum() < len(labels))


def test_half_precision_is_pooled_without_loss():
    values = np.array([[0.1, 0.1001, 0.0999, 0.25, 3e-5]], np.float16)
    pool = pool_scores(np.zeros(values.shape), values)[0]
    np.testing.assert_array_equal(pool.mean_prob, np.unique(values.astype(np.float64)))


def test_pools_of_several_blocks(monkeypatch):
    y_true, y_prob = make_case()
    whole = pool_scores(y_true, y_prob)[0]
    monkeypatch.setattr("imetlib.decisions.pooling._CELLS_TOGETHER", 70)
    parts = pool_scores(y_true, y_prob)[0]
    np.testing.assert_array_equal(whole.counts, parts.counts)
    np.testing.assert_array_equal(whole.positives, parts.positives)
    np.testing.assert_allclose(whole.mean_prob, parts.mean_prob, rtol=1e-12)


# Platt ----------------------------------------------------------------------------------------


def fit_with_sklearn(y_true, logits):
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(np.ravel(logits)[:, None], np.ravel(y_true))
    return model.coef_[0, 0], model.intercept_[0]


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.4, 1.0), (2.5, -2.0)])
def test_platt_is_logistic_regression_and_finds_the_true_pair(slope, offset):
    y_true, y_prob = make_case(slope=slope, offset=offset)
    pair = fit_platt(y_true, y_prob).pairs["all"]
    assert pair == pytest.approx(fit_with_sklearn(y_true, clipped_logit(y_prob)), abs=2e-4)
    assert pair == pytest.approx((slope, offset), abs=0.12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("start", [None, (1.0, 0.0), (60.0, 60.0)])
def test_fit_pair_from_afar(scale, start):
    """Scores of any range, and starts where nearly every weight vanishes."""
    y_true, y_prob = make_case(seed=5)
    scores = clipped_logit(y_prob) * scale
    pair = fit_pair(scores, y_true, start=start, steps=500)
    expected = fit_pair(scores / scale, y_true)
    assert (pair[0] * scale, pair[1]) == pytest.approx(expected, abs=1e-4)


def test_counts_stand_for_repeated_entries():
    scores = np.array([-2.0, -1.0, 0.5, 2.0])
    counts, positives = np.array([5, 4, 3, 6]), np.array([1, 1, 2, 5])
    entries = np.repeat(scores, counts)
    labels = np.concatenate(
        [np.arange(count) < true for count, true in zip(counts, positives, strict=True)]
    )
    assert fit_pair(scores, positives, counts) == pytest.approx(fit_pair(entries, labels), abs=1e-9)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_a_faultless_threshold_gives_a_finite_pair(labels):
    pair = fit_pair(np.array([-3.0, -1.0, 1.0, 4.0]), np.array(labels))
    assert np.isfinite(pair).all()


def test_a_pair_for_each_group():
    a_true, a_prob = make_case(slope=0.5, offset=0.5, seed=1)
    b_true, b_prob = make_case(slope=1.5, offset=-0.5, seed=2)
    y_true = np.stack([a_true, b_true], axis=2).reshape(400, 60)
    y_prob = np.stack([a_prob, b_prob], axis=2).reshape(400, 60)
    names = ["culture::x", "tag::y"] * 30
    scaling = fit_platt(y_true, y_prob, class_names=names)
    assert scaling.pairs["culture"] == fit_platt(a_true, a_prob).pairs["all"]
    assert scaling.pairs["tag"] == fit_platt(b_true, b_prob).pairs["all"]
    scaled = scaling.apply(y_prob)
    np.testing.assert_array_equal(scaled[:, ::2], fit_platt(a_true, a_prob).apply(a_prob))
    np.testing.assert_array_equal(scaled[:, 1::2], fit_platt(b_true, b_prob).apply(b_prob))


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_a_group_of_one_kind_takes_the_map_of_all(fit):
    y_true, y_prob = make_case()
    y_true[:, :3] = False
    names = ["rare::x"] * 3 + ["tag::y"] * 27
    grouped, alone = fit(y_true, y_prob, class_names=names), fit(y_true, y_prob)
    np.testing.assert_array_equal(grouped.apply(y_prob)[:, :3], alone.apply(y_prob)[:, :3])
    assert (grouped.apply(y_prob)[:, 3:] != alone.apply(y_prob)[:, 3:]).any()


def test_platt_applies_the_formula():
    y_true, y_prob = make_case(slope=0.7)
    scaling = fit_platt(y_true, y_prob)
    a, b = scaling.pairs["all"]
    scaled = scaling.apply(y_prob)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, sigmoid(a * clipped_logit(y_prob) + b), rtol=1e-6)
    ends = scaling.apply(np.array([[0.0, 1.0]]))[0]
    np.testing.assert_allclose(ends, sigmoid(a * clipped_logit([0.0, 1.0]) + b), rtol=1e-6)


def test_every_form_of_labels():
    y_true, y_prob = make_case()
    columns = [np.flatnonzero(row) for row in y_true]
    table = make_label_table([str(row) for row in range(400)], columns, 30)
    expected = fit_platt(y_true, y_prob).pairs
    for form in (table, columns, y_true.astype(int)):
        assert fit_platt(form, y_prob).pairs == expected


# Isotonic -------------------------------------------------------------------------------------


@pytest.mark.parametrize("distort", [lambda p: p, np.sqrt, lambda p: p**3, lambda p: p * 0.3])
def test_isotonic_follows_scikit_learn(distort):
    """Between the steps it lies by the steps, at the mean of each step on it."""
    y_true, y_prob = make_case(3000)
    y_prob = distort(y_prob.astype(np.float64))
    scaled = fit_isotonic(y_true, y_prob).apply(y_prob)
    oracle = IsotonicRegression().fit(y_prob.ravel(), y_true.ravel()).predict(y_prob.ravel())
    assert np.abs(scaled.ravel() - oracle).mean() < 4e-3
    assert scaled.mean() == pytest.approx(y_true.mean(), abs=1e-3)


def test_isotonic_by_hand():
    """.3 is true and .7 is not: one step, at logit 0. One entry at its own score joins each."""
    y_prob = np.array([[0.9, 0.7, 0.3, 0.2]])
    scaling = fit_isotonic([[1, 0, 1, 0]], y_prob)
    before, after = scaling.points["all"]
    np.testing.assert_allclose(sigmoid(before), [0.2, 0.5, 0.9], atol=1e-6)
    np.testing.assert_allclose(sigmoid(after), [(0 + 0.2) / 2, (1 + 0.5) / 3, (1 + 0.9) / 2])
    # Half way between two points in the logit, and one unit beyond the last.
    asked = sigmoid([[before[:2].mean(), before[2] + 1]])
    expected = sigmoid([[after[:2].mean(), after[2] + 1]])
    np.testing.assert_allclose(scaling.apply(asked), expected, rtol=1e-5)


@settings(deadline=None, max_examples=200)
@given(labels_and_probabilities(), st.sampled_from([fit_platt, fit_isotonic]))
def test_maps_keep_the_order(case, fit):
    y_true, y_prob = case
    if y_true.all() or not y_true.any():
        with pytest.raises(ValueError, match="must hold true and false labels"):
            fit(y_true, y_prob)
        return
    scaling = fit(y_true, y_prob)
    if fit is fit_platt and scaling.pairs["all"][0] < 0:
        return
    scaled = scaling.apply(y_prob)
    assert np.isfinite(scaled).all() and (scaled >= 0).all() and (scaled <= 1).all()
    order = np.argsort(y_prob.astype(np.float32), axis=None, kind="stable")
    assert (np.diff(scaled.ravel()[order]) >= 0).all()


def test_isotonic_rises_strictly():
    y_true, y_prob = make_case()
    before, after = fit_isotonic(y_true, y_prob).points["all"]
    assert (np.diff(before) > 0).all() and (np.diff(after) > 0).all()
    few = np.array([[0.2, 0.3, 0.4, 0.5, 0.6]])
    scaled = fit_isotonic([[1, 0, 0, 0, 0]], few).apply(few)
    assert (np.diff(scaled[0]) > 0).all(), "one step for all: its offset only"


# Reliability ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["positives", "count", "logit"])
def test_bins_against_a_loop(spacing):
    y_true, y_prob = make_case(300, 40)
    y_prob = np.round(y_prob, 2)
    curve = reliability_curve(y_true, y_prob, num_bins=6, spacing=spacing)
    levels = np.unique(y_prob)
    weights = {
        "positives": [level * (y_prob == level).sum() for level in levels.astype(np.float64)],
        "count": [(y_prob == level).sum() for level in levels],
    }
    rows = []
    if spacing == "logit":
        logits = clipped_logit(levels)
        share = (logits - logits[0]) / (logits[-1] - logits[0])
    else:
        weight = np.array(weights[spacing], np.float64)
        share = (np.cumsum(weight) - weight / 2) / weight.sum()
    for number in range(6):
        inside = np.isin(y_prob, levels[np.minimum((share * 6).astype(int), 5) == number])
        if inside.any():
            rows.append(
                (y_prob[inside].mean(dtype=np.float64), y_true[inside].mean(), inside.sum())
            )
    predicted, observed, counts = np.array(rows).T
    np.testing.assert_allclose(curve.predicted, predicted, atol=1e-7)
    np.testing.assert_allclose(curve.observed, observed)
    np.testing.assert_array_equal(curve.counts, counts)
    assert (curve.low <= curve.observed).all() and (curve.observed <= curve.high).all()
    error = sum(abs(p - o) * n for p, o, n in rows) / y_true.size
    assert calibration_error(curve) == pytest.approx(error)
    assert calibration_error(curve, relative=True) == pytest.approx(error / y_true.mean())


def test_spacings_share_what_they_name():
    y_true, y_prob = make_case(2000)
    for spacing, weight in (("positives", "mass"), ("count", "counts")):
        curve = reliability_curve(y_true, y_prob, num_bins=10, spacing=spacing)
        shares = curve.counts * (curve.predicted if weight == "mass" else 1)
        np.testing.assert_allclose(shares / shares.sum(), 0.1, atol=0.01)


def test_intervals_cover_the_truth_of_a_true_model():
    covered = []
    for seed in range(30):
        y_true, y_prob = make_case(seed=seed)
        curve = reliability_curve(y_true, y_prob, num_bins=10)
        covered.append((curve.low <= curve.predicted) & (curve.predicted <= curve.high))
    assert np.mean(np.concatenate(covered)) == pytest.approx(0.95, abs=0.03)


def test_sparse_labels_need_the_relative_error():
    y_true = np.zeros((500, 200), bool)
    y_true[:, 0] = True
    curve = reliability_curve(y_true, np.zeros(y_true.shape))
    assert calibration_error(curve) == pytest.approx(0.005)
    assert calibration_error(curve, relative=True) == pytest.approx(1.0)
    assert len(curve.counts) == 1


def test_calibration_lowers_the_error_on_other_rows():
    y_true, y_prob = make_case(4000, slope=0.6, offset=-0.5)
    raw = calibration_error(reliability_curve(y_true[2000:], y_prob[2000:]), relative=True)
    for fit in (fit_platt, fit_isotonic):
        scaled = fit(y_true[:2000], y_prob[:2000]).apply(y_prob[2000:])
        error = calibration_error(reliability_curve(y_true[2000:], scaled), relative=True)
        assert error < 0.05 < 0.3 < raw


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_each_fold_is_calibrated_by_the_others(fit):
    generator = np.random.default_rng(5)
    y_prob = generator.random((60, 7)).astype(np.float32)
    y_true = generator.random(y_prob.shape) < y_prob**2
    folds = np.array(["a", "b", "c"])[generator.integers(3, size=60)]
    found = calibrate_out_of_fold(fit, y_true, y_prob, folds)
    assert found.dtype == np.float32
    for fold in "abc":
        own = folds == fold
        expected = fit(y_true[~own], y_prob[~own]).apply(y_prob[own])
        np.testing.assert_array_equal(found[own], expected)
    columns = [np.flatnonzero(row) for row in y_true]
    np.testing.assert_array_equal(found, calibrate_out_of_fold(fit, columns, y_prob, folds))
    with pytest.raises(ValueError, match="at least two groups"):
        calibrate_out_of_fold(fit, y_true, y_prob, np.zeros(60))
    with pytest.raises(ValueError, match="same shape"):
        calibrate_out_of_fold(fit, y_true[:-1], y_prob, folds)
    with pytest.raises(ValueError, match="probabilities in"):
        calibrate_out_of_fold(fit, y_true, y_prob + 1, folds)


def test_figure_states_the_errors():
    y_true, y_prob = make_case(slope=0.6)
    curves = {
        "raw": reliability_curve(y_true, y_prob),
        "Platt": reliability_curve(y_true, fit_platt(y_true, y_prob).apply(y_prob)),
    }
    with plt.rc_context():
        ax = plot_reliability(curves)
        title = ax.get_title(loc="left") or ax.get_title()
        raw = calibration_error(curves["raw"], relative=True)
        assert f"{raw:.1%} raw and" in title.replace("\n", " ")
        assert len(ax.lines) == 3
        ax.figure.canvas.draw()
        # Nothing true, nothing predicted, everything sure: still a figure.
        other = plt.subplots()[1]
        sure = reliability_curve([[1, 0, 0]], np.array([[1.0, 0.0, 0.3]]))
        assert plot_reliability({"sure": sure}, ax=other) is other
        other.figure.canvas.draw()
        with pytest.raises(ValueError, match="at least one curve"):
            plot_reliability({})
        plt.close("all")


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic, reliability_curve, pool_scores])
@pytest.mark.parametrize(
    ("y_true", "y_prob", "message"),
    [
        (np.ones((2, 3)), np.full((2, 2), 0.5), r"same shape. Received: \(2, 3\) and \(2, 2\)"),
        (np.ones((1, 2)), np.array([[0.1, np.nan]]), "finite. Received: nan in row 0, column 1"),
        (np.ones((1, 2)), np.array([[-3.0, 2.0]]), r"in \[0, 1\].* values from -3 to 2"),
        (np.ones((0, 2)), np.ones((0, 2)), r"`y_prob` must be \(num_samples, num_classes\)"),
        (np.full((1, 2), 0.5), np.full((1, 2), 0.5), "must hold 0 and 1 only"),
    ],
)
def test_bad_scores_and_labels(fit, y_true, y_prob, message):
    with pytest.raises(ValueError, match=message):
        fit(y_true, y_prob)


def test_bad_arguments():
    y_true, y_prob = make_case(20, 4)
    names = ["a::b"] * 4
    with pytest.raises(ValueError, match=r"must name 4 classes. Received: 3"):
        fit_platt(y_true, y_prob, class_names=names[:3])
    with pytest.raises(ValueError, match="Received: 0 true of 80"):
        fit_platt(np.zeros_like(y_true), y_prob, class_names=names)
    with pytest.raises(ValueError, match=r"fitted on 4 classes. Received: 3 classes"):
        fit_isotonic(y_true, y_prob, class_names=names).apply(y_prob[:, :3])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        fit_platt(y_true, y_prob).apply(y_prob * 3 - 1)
    with pytest.raises(ValueError, match=r"'width'. Known: positives, count, logit"):
        reliability_curve(y_true, y_prob, spacing="width")
    with pytest.raises(ValueError, match="`num_bins` must be at least 1"):
        reliability_curve(y_true, y_prob, num_bins=0)
    with pytest.raises(ValueError, match=r"`level` must be in \(0, 1\)"):
        reliability_curve(y_true, y_prob, level=1.0)
    with pytest.raises(ValueError, match="needs true labels"):
        calibration_error(reliability_curve(np.zeros((1, 2)), np.ones((1, 2))), relative=True)


# Real scores ----------------------------------------------------------------------------------


def test_pairs_of_corel5k(corel5k):
    y_true, y_prob, folds, _ = corel5k
    assert fit_platt(y_true, y_prob).pairs["all"] == pytest.approx((0.8919, -0.1507), abs=6e-5)
    pairs = [
        fit_platt(y_true[folds != fold], y_prob[folds != fold]).pairs["all"] for fold in range(5)
    ]
    slopes, offsets = np.round(pairs, 3).T
    assert (slopes.min(), slopes.max()) == (0.888, 0.896)
    assert (offsets.min(), offsets.max()) == (-0.166, -0.136)


def test_rules_of_corel5k_on_folds_they_never_saw(corel5k):
    """Calibration and a rule a picture gain .003 here, a third of what simulations promise."""
    y_true, y_prob, folds, _ = corel5k
    calibrated = np.empty(y_prob.shape, np.float32)
    for fold in range(5):
        own = folds == fold
        calibrated[own] = fit_platt(y_true[~own], y_prob[~own]).apply(y_prob[own])
    threshold = fbeta_per_sample(y_true, crossfit_threshold(y_true, y_prob, folds).y_pred)
    assert threshold.mean() == pytest.approx(0.3017, abs=5e-4)
    for scores, method, realised, gain, predicted in (
        (y_prob, "ratio", 0.3025, 0.0008, 0.2972),
        (y_prob, "exact", 0.3021, 0.0003, 0.2751),
        (calibrated, "ratio", 0.3048, 0.0031, 0.2750),
        (calibrated, "exact", 0.3046, 0.0029, 0.2586),
    ):
        sets = expected_fbeta_sets(scores, method=method)
        per_sample = fbeta_per_sample(y_true, sets.y_pred)
        assert per_sample.mean() == pytest.approx(realised, abs=5e-4)
        difference = per_sample - threshold
        assert difference.mean() == pytest.approx(gain, abs=3e-4)
        assert difference.std() / len(difference) ** 0.5 == pytest.approx(0.0009, abs=1e-4)
        # The trap: what a rule predicts for itself is up to .05 off where labels go together.
        assert sets.expected.mean() == pytest.approx(predicted, abs=5e-4)


def test_reliability_of_corel5k(corel5k):
    """A pair helps the rule but bends nothing: the line of many points halves the error."""
    y_true, y_prob, folds, _ = corel5k
    own = folds == 0
    errors = {}
    for name, fit in (("platt", fit_platt), ("isotonic", fit_isotonic)):
        scaled = fit(y_true[~own], y_prob[~own]).apply(y_prob[own])
        errors[name] = calibration_error(reliability_curve(y_true[own], scaled), relative=True)
    raw = calibration_error(reliability_curve(y_true[own], y_prob[own]), relative=True)
    assert errors["isotonic"] < raw / 2
    assert errors["platt"] == pytest.approx(raw, abs=0.03)
