import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imetlib.collection.labels import make_label_table
from imetlib.decisions import cases, sweep
from imetlib.decisions.fbeta import fbeta_micro, fbeta_samples
from imetlib.decisions.stability import trace_thresholds
from imetlib.decisions.thresholds import (
    ENGINES,
    crossfit_threshold,
    decide,
    grid_search,
    search_threshold,
)
from imetlib.decisions.top_scores import top_scores


def search_naively(y_true, y_prob, beta=2.0):
    """Every distinct score, one evaluation each."""
    thresholds = np.unique(y_prob.astype(np.float32))
    scores = [fbeta_samples(y_true, y_prob >= threshold, beta=beta) for threshold in thresholds]
    return thresholds, np.array(scores)


def make_scores(num_samples, num_classes, seed=0, strength=3.0):
    """Long-tailed labels and scores that follow them, about three labels a sample."""
    generator = np.random.default_rng(seed)
    prior = np.arange(1, num_classes + 1) ** -1.1
    prior *= 3 / prior.sum()
    y_true = generator.random((num_samples, num_classes)) < np.minimum(prior, 0.6)
    logits = np.log(np.minimum(prior, 0.6)) - 1 + 1.4 * generator.normal(size=y_true.shape)
    logits[y_true] += strength + generator.normal(size=y_true.sum())
    return y_true, (1 / (1 + np.exp(-logits))).astype(np.float32)


def skip_without(engine):
    if engine == "numba":
        pytest.importorskip("numba")


@st.composite
def labels_and_tied_scores(draw):
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 9)))
    levels = draw(
        st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=6, unique=True).map(np.float32)
    )
    chosen = draw(arrays(np.int8, shape, elements=st.integers(0, len(levels) - 1)))
    return draw(arrays(bool, shape)), levels[chosen]


@given(labels_and_tied_scores(), st.sampled_from([0.5, 1.0, 2.0]))
@settings(deadline=None, max_examples=300)
def test_equals_the_full_sort_with_ties(case, beta):
    y_true, y_prob = case
    search = search_threshold(y_true, y_prob, beta=beta)
    thresholds, scores = search_naively(y_true, y_prob, beta)
    assert search.certified
    assert search.score == pytest.approx(scores.max(), abs=1e-12)
    assert search.score == fbeta_samples(y_true, y_prob >= np.float32(search.threshold), beta=beta)
    evaluated = np.searchsorted(thresholds, search.thresholds)
    np.testing.assert_array_equal(thresholds[evaluated], search.thresholds)
    np.testing.assert_allclose(search.scores, scores[evaluated], atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES[1:])
@pytest.mark.parametrize("strength", [0.0, 1.0, 3.0, 6.0])
def test_equals_the_full_sort_where_a_floor_is_used(strength, engine):
    skip_without(engine)
    y_true, y_prob = make_scores(300, 400, strength=strength)
    y_prob = np.round(y_prob, 3)
    search = search_threshold(y_true, y_prob, engine=engine)
    scores = search_naively(y_true, y_prob)[1]
    assert search.score == pytest.approx(scores.max(), abs=1e-12)
    if strength >= 3:
        assert search.thresholds[0] > y_prob.min(), "no floor was used: nothing is tested"


def test_floor_is_lowered_until_the_certificate_closes(monkeypatch):
    y_true, y_prob = make_scores(200, 300, strength=0.5)
    y_prob = np.round(y_prob, 3)
    floors = []

    def start_too_high(scores, per_row, choose=sweep.choose_levels):
        floors.append(per_row)
        return choose(scores, per_row / 64)

    monkeypatch.setattr("imetlib.decisions.sweep.choose_levels", start_too_high)
    search = search_threshold(y_true, y_prob)
    assert len(floors) > 2
    assert search.score == pytest.approx(search_naively(y_true, y_prob)[1].max(), abs=1e-12)


@given(labels_and_tied_scores(), st.sampled_from([0.5, 1.0, 2.0]))
@settings(deadline=None, max_examples=200)
def test_numba_equals_the_full_sort_with_ties(case, beta):
    pytest.importorskip("numba")
    y_true, y_prob = case
    search = search_threshold(y_true, y_prob, beta=beta, engine="numba")
    plain = search_threshold(y_true, y_prob, beta=beta, engine="numpy")
    thresholds, scores = search_naively(y_true, y_prob, beta)
    assert search.certified and not search.complete
    assert (search.threshold, search.score) == (plain.threshold, plain.score)
    evaluated = np.searchsorted(thresholds, search.thresholds)
    np.testing.assert_array_equal(thresholds[evaluated], search.thresholds)
    np.testing.assert_allclose(search.scores, scores[evaluated], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("form", ["probabilities", "logits", "huge", "negative", "columns first"])
def test_engines_agree_at_some_size(form, dtype):
    """More rows than the sample and a thread's block; every range and layout."""
    pytest.importorskip("numba")
    y_true, y_prob = make_scores(18_000, 60, strength=2.0)
    y_prob = {
        "probabilities": lambda: y_prob,
        "logits": lambda: np.log(y_prob) - np.log1p(-y_prob),
        "huge": lambda: y_prob * np.where(np.arange(len(y_prob)) % 7, 1, 60_000)[:, None],
        "negative": lambda: y_prob - 2,
        "columns first": lambda: np.asfortranarray(y_prob),
    }[form]().astype(dtype)
    found = search_threshold(y_true, y_prob, engine="numba")
    plain = search_threshold(y_true, y_prob, engine="numpy")
    assert (found.threshold, found.score) == (plain.threshold, plain.score)
    assert found.certified and plain.certified
    # What one engine says of a threshold, the other says as well.
    shared = np.isin(found.thresholds, plain.thresholds)
    np.testing.assert_allclose(
        found.scores[shared],
        plain.scores[np.searchsorted(plain.thresholds, found.thresholds[shared])],
        atol=1e-11,
    )


@pytest.mark.parametrize("level", [0.0, 0.004, 0.9])
def test_numba_takes_as_many_events_as_there_are(level):
    """Scores so even that nearly all of them are events, and rows that are all equal."""
    pytest.importorskip("numba")
    generator = np.random.default_rng(0)
    y_true = generator.random((300, 700)) < 0.01
    y_prob = (level + 1e-4 * generator.random((300, 700))).astype(np.float32)
    y_prob[::3] = level
    y_prob[1, :5] = -0.0
    found = search_threshold(y_true, y_prob, engine="numba")
    plain = search_threshold(y_true, y_prob, engine="numpy")
    assert (found.threshold, found.score) == (plain.threshold, plain.score)


def test_what_a_part_of_the_curve_does_not_know():
    pytest.importorskip("numba")
    y_true, y_prob = make_scores(3000, 60)
    found = search_threshold(y_true, y_prob, engine="numba")
    assert found.score_at(found.threshold) == found.score
    between = next(
        score
        for score in np.unique(y_prob)
        if score > found.thresholds[0] and score not in found.thresholds
    )
    for threshold in (between, 2.0):
        with pytest.raises(ValueError, match="Not every threshold was evaluated, and this one"):
            found.score_at(threshold)
    with pytest.raises(ValueError, match="No threshold below"):
        found.score_at(-1.0)


def test_engine_is_chosen_by_size(monkeypatch):
    pytest.importorskip("numba")
    y_true, y_prob = make_scores(50, 20)
    assert search_threshold(y_true, y_prob).complete
    monkeypatch.setattr("imetlib.decisions.thresholds.NUMBA_FROM", 1000)
    assert not search_threshold(y_true, y_prob).complete
    monkeypatch.setattr("imetlib.decisions.thresholds.find_spec", lambda name: None)
    assert search_threshold(y_true, y_prob).complete
    with pytest.raises(ValueError, match="`engine` must be one of auto, numba, numpy"):
        search_threshold(y_true, y_prob, engine="gpu")


def test_finite_scores_with_an_infinite_sum_are_taken():
    y_prob = np.array([[3e38, 3e38, -3e38], [3e38, 1.0, 3e38]], np.float32)
    for engine in ENGINES[1:]:
        skip_without(engine)
        found = search_threshold([[1, 1, 0], [1, 0, 1]], y_prob, engine=engine)
        assert (found.threshold, found.score) == (float(np.float32(3e38)), 1.0)


@pytest.mark.parametrize("place", [(0, 0), (299, 40), (150, 32)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numba_refuses_what_is_not_finite(place, value):
    pytest.importorskip("numba")
    y_true, y_prob = make_scores(300, 41)
    y_prob[place] = value
    with pytest.raises(ValueError, match=f"finite. Received: {value} in row {place[0]}, column"):
        search_threshold(y_true, y_prob, engine="numba")


@given(labels_and_tied_scores(), st.integers(1, 9))
@settings(deadline=None)
def test_bound_holds_below_any_floor(case, per_row):
    y_true, y_prob = case
    made = cases.make_case(y_true, y_prob)
    floor, lower = sweep.choose_levels(y_prob, per_row / 3)
    events, counts = sweep.collect_events(made, floor, lower)
    bound = sweep.bound_below(made, events, counts, lower, 2.0)
    thresholds, scores = search_naively(y_true, y_prob)
    assert (scores[thresholds < floor] <= bound + 1e-12).all()


def test_comparison_is_in_float32():
    y_true = np.array([[1, 0], [1, 1]])
    y_prob = np.array([[0.1, 0.05], [0.1, 0.1]], np.float32)
    search = search_threshold(y_true, y_prob)
    assert search.threshold == float(np.float32(0.1)) != 0.1
    assert search.score == 1.0
    np.testing.assert_array_equal(decide(y_prob, search.threshold), y_true)
    np.testing.assert_array_equal(decide(y_prob, 0.1), y_true)
    assert grid_search(y_true, y_prob, num_thresholds=5).score == 1.0


def test_every_form_of_labels_and_scores():
    y_true, y_prob = make_scores(60, 20)
    columns = [np.flatnonzero(row) for row in y_true]
    table = make_label_table([str(row) for row in range(60)], columns, 20)
    expected = search_threshold(y_true, y_prob).score
    for form in (table, columns, y_true.tolist()):
        assert search_threshold(form, y_prob).score == expected
        assert crossfit_threshold(form, y_prob, np.arange(60) % 3).in_sample.score == expected
    assert search_threshold(y_true, y_prob.astype(np.float64)).score == expected
    coarse = y_prob.astype(np.float16)
    assert search_threshold(y_true, coarse).threshold in np.unique(coarse.astype(np.float32))
    # Any rising function of the scores leaves the decisions alone: no range is assumed.
    assert search_threshold(y_true, np.log(y_prob)).score == expected


def test_score_at_any_threshold():
    y_true, y_prob = make_scores(80, 30)
    search = search_threshold(y_true, y_prob)
    for threshold in (search.threshold, search.threshold + 0.05, 0.5):
        expected = fbeta_samples(y_true, y_prob >= np.float32(threshold))
        assert search.score_at(threshold) == pytest.approx(expected, abs=1e-12)
    assert search.score_at(2.0) == 0.0
    with pytest.raises(ValueError, match="No threshold below"):
        search.score_at(-1.0)


@pytest.mark.parametrize(
    ("y_true", "y_prob", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 2)), r"same shape. Received: \(2, 3\) and \(2, 2\)"),
        (np.ones((2, 3)), np.ones(3), r"`y_prob` must be \(num_samples, num_classes\)"),
        (np.ones((1, 2)), np.array([[0.1, np.nan]]), "finite. Received: nan in row 0, column 1"),
        (np.ones((1, 2)), np.array([[np.inf, 0.2]]), "finite. Received: inf in row 0, column 0"),
        ([np.array([2])], np.ones((1, 2)), "same shape"),
    ],
)
@pytest.mark.parametrize("function", [search_threshold, grid_search])
def test_what_is_refused(function, y_true, y_prob, message):
    with pytest.raises(ValueError, match=message):
        function(y_true, y_prob)


def test_grid_is_the_one_of_2019():
    y_true, y_prob = make_scores(100, 40)
    grid = grid_search(y_true, y_prob)
    np.testing.assert_allclose(grid.thresholds, np.arange(0, 0.5, 0.01), atol=1e-7)
    for threshold, score in zip(grid.thresholds, grid.scores, strict=True):
        assert score == fbeta_samples(y_true, y_prob >= threshold)
    assert not grid.certified
    assert grid.score <= search_threshold(y_true, y_prob).score


def test_grid_warns_at_its_edges():
    y_true, y_prob = make_scores(100, 40)
    with pytest.warns(UserWarning, match="is the last of the grid: the optimum may lie outside"):
        grid = grid_search(y_true, y_prob, stop=0.01)
    assert grid.at_edge
    with pytest.warns(UserWarning, match="is the first of the grid"):
        assert grid_search(y_true, y_prob * 0.001).at_edge
    assert not grid_search(y_true, y_prob).at_edge
    with pytest.raises(ValueError, match="`num_thresholds` >= 2 and `stop` > 0"):
        grid_search(y_true, y_prob, num_thresholds=1)


def test_crossfit_never_shows_a_row_its_own_threshold():
    y_true, y_prob = make_scores(150, 30, strength=2.0)
    folds = np.arange(150) % 3
    result = crossfit_threshold(y_true, y_prob, folds)
    for fold in range(3):
        others, own = folds != fold, folds == fold
        expected = search_threshold(y_true[others], y_prob[others]).threshold
        assert result.thresholds[fold] == expected
        np.testing.assert_array_equal(result.y_pred[own], decide(y_prob[own], expected))
    assert result.score == fbeta_samples(y_true, result.y_pred)
    assert result.in_sample.score == search_threshold(y_true, y_prob).score


def test_crossfit_score_is_below_the_in_sample_score_on_noise():
    generator = np.random.default_rng(3)
    y_true = generator.random((40, 6)) < 0.3
    y_prob = generator.random((40, 6))
    crossfit = crossfit_threshold(y_true, y_prob, np.arange(40) % 4, min_labels=0)
    assert crossfit.score <= crossfit.in_sample.score


@pytest.mark.parametrize("groups", [np.zeros(4), np.arange(3), np.zeros((4, 1))])
def test_crossfit_needs_two_groups_and_one_a_row(groups):
    with pytest.raises(ValueError, match="`groups` must name at least two groups"):
        crossfit_threshold(np.eye(4), np.eye(4), groups)


@given(labels_and_tied_scores(), st.floats(-4, 4), st.integers(0, 3), st.integers(0, 3))
@settings(deadline=None)
def test_decide_keeps_its_limits(case, threshold, min_labels, extra):
    y_prob = case[1]
    num_classes = y_prob.shape[1]
    min_labels = min(min_labels, num_classes)
    max_labels = min(min_labels + extra, num_classes)
    y_pred = decide(y_prob, threshold, min_labels=min_labels, max_labels=max_labels)
    for scores, row in zip(y_prob, y_pred, strict=True):
        wanted = np.count_nonzero(scores >= np.float32(threshold))
        size = int(np.clip(wanted, min_labels, max_labels))
        best_first = sorted(range(num_classes), key=lambda column: (-scores[column], column))
        assert sorted(best_first[:size]) == np.flatnonzero(row).tolist()


def test_decide_gives_an_empty_row_its_highest_score():
    y_prob = np.array([[0.1, 0.3, 0.3]])
    assert decide(y_prob, 0.5).tolist() == [[False, True, False]]
    assert decide(y_prob, 0.5, min_labels=0).tolist() == [[False, False, False]]
    assert decide(y_prob, np.array([0.05, 0.5, 0.5])).tolist() == [[True, False, False]]
    with pytest.raises(ValueError, match=r"`min_labels` must be in 0\.\.1"):
        decide(y_prob, 0.5, min_labels=2, max_labels=1)
    with pytest.raises(ValueError, match="must be finite"):
        decide(np.array([[np.nan, 0.1]]), 0.5)


def test_costs_no_more_than_a_grid_of_fifty():
    y_true, y_prob = make_scores(4000, 500)
    search_threshold(y_true[:200], y_prob[:200])
    seconds = {}
    for function in (search_threshold, grid_search):
        start = time.process_time()
        function(y_true, y_prob)
        seconds[function] = time.process_time() - start
    assert seconds[search_threshold] < 2 * seconds[grid_search]


def test_check_figures_of_corel5k(corel5k):
    y_true, y_prob, *_ = corel5k
    for engine in ENGINES[1:]:
        skip_without(engine)
        search = search_threshold(y_true, y_prob, engine=engine)
        assert search.threshold == pytest.approx(0.051452637, abs=1e-9)
        assert search.score == pytest.approx(0.302882, abs=5e-7)
    kept = search_threshold(y_true, top_scores(y_prob, 64))
    assert kept.certified and (kept.threshold, kept.score) == (search.threshold, search.score)
    grid = grid_search(y_true, y_prob)
    assert grid.threshold == pytest.approx(0.05)
    assert grid.score == pytest.approx(0.302117, abs=5e-7)
    y_pred = decide(y_prob, grid.threshold, min_labels=0)
    assert fbeta_micro(y_true, y_pred) == pytest.approx(0.30825, abs=5e-6)
    micro = trace_thresholds(y_true, y_prob, np.unique(y_prob[y_prob > 0.04])).micro
    assert micro.max() == pytest.approx(0.309167, abs=5e-7)
    by_size = [fbeta_samples(y_true, decide(y_prob, 2.0, min_labels=size)) for size in (9, 10, 11)]
    assert by_size[1] == max(by_size) == pytest.approx(0.303137, abs=5e-7)
