"""The highest scores of each row, and decisions that need no others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.thresholds import (
    crossfit_threshold,
    decide,
    grid_search,
    search_threshold,
)
from imetlib.decisions.top_scores import (
    TopScores,
    collect_top_scores,
    find_in_rows,
    read_top_scores,
    top_scores,
    write_top_scores,
)
from imetlib.scores import Scores, load_scores, save_scores


@st.composite
def labels_and_tied_scores(draw):
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 9)))
    levels = draw(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8, unique=True))
    chosen = draw(arrays(np.int8, shape, elements=st.integers(0, len(levels) - 1)))
    return draw(arrays(bool, shape)), np.array(levels, np.float32)[chosen]


@given(labels_and_tied_scores(), st.integers(1, 10))
@settings(deadline=None)
def test_highest_scores_with_ties(case, k):
    scores = case[1]
    kept = top_scores(scores, k)
    k = min(k, scores.shape[1])
    assert kept.columns.dtype == np.int32 and kept.values.dtype == np.float32
    for row, columns, values in zip(scores, kept.columns, kept.values, strict=True):
        best_first = sorted(range(len(row)), key=lambda column: (-row[column], column))
        assert columns.tolist() == sorted(best_first[:k])
        np.testing.assert_array_equal(values, row[columns])
    np.testing.assert_array_equal(top_scores(scores, scores.shape[1]).dense(), scores)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@given(labels_and_tied_scores(), st.integers(1, 9), st.sampled_from([1.0, 2.0]))
@settings(deadline=None, max_examples=150)
def test_certified_means_the_same_as_with_all_scores(engine, case, k, beta):
    if engine == "numba":
        pytest.importorskip("numba")
    y_true, scores = case
    kept = top_scores(scores, k)
    found = search_threshold(y_true, kept, beta=beta, engine=engine)
    dense = search_threshold(y_true, scores, beta=beta)
    if found.certified:
        assert found.threshold == dense.threshold
        assert found.score == pytest.approx(dense.score, abs=1e-12)
    else:
        # Then it is the best for decisions by what was kept.
        levels = np.unique(kept.values)
        possible = [
            fbeta_samples(y_true, decide(kept, level, min_labels=0), beta=beta) for level in levels
        ]
        assert found.score == pytest.approx(max(possible), abs=1e-12)
    y_pred = decide(kept, found.threshold, min_labels=0)
    assert found.score == fbeta_samples(y_true, y_pred, beta=beta)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_left_out_scores_do_not_matter_on_long_tails(engine):
    if engine == "numba":
        pytest.importorskip("numba")
    generator = np.random.default_rng(0)
    y_true = generator.random((400, 300)) < 3 * np.arange(1, 301) ** -1.1 / 6
    logits = generator.normal(-5, 1.2, y_true.shape) + y_true * generator.normal(4, 2, y_true.shape)
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    kept = top_scores(scores, 60)
    dense = search_threshold(y_true, scores)
    found = search_threshold(y_true, kept, engine=engine)
    assert found.certified
    assert (found.threshold, found.score) == (dense.threshold, dense.score)
    np.testing.assert_array_equal(decide(kept, found.threshold), decide(scores, dense.threshold))
    with_few = search_threshold(y_true, top_scores(scores, 2), engine=engine)
    assert not with_few.certified
    grid = grid_search(y_true, kept, stop=1.0)
    above = grid.thresholds > kept.least
    np.testing.assert_array_equal(
        grid.scores[above], grid_search(y_true, scores, stop=1.0).scores[above]
    )
    folds = np.arange(400) % 4
    expected = crossfit_threshold(y_true, scores, folds, max_labels=9)
    sparse = crossfit_threshold(y_true, kept, folds, max_labels=9)
    assert sparse.score == expected.score
    np.testing.assert_array_equal(sparse.y_pred, expected.y_pred)


@given(labels_and_tied_scores(), st.floats(-4, 4), st.integers(0, 3), st.integers(0, 3))
@settings(deadline=None)
def test_decide_is_that_of_the_dense_scores_within_its_limits(case, level, fewest, extra):
    scores = case[1]
    fewest = min(fewest, scores.shape[1])
    most = min(fewest + extra, scores.shape[1])
    kept = top_scores(scores, max(most, 1))
    levels = np.full(scores.shape[1], level)
    expected = decide(scores, level, min_labels=fewest, max_labels=most)
    for threshold in (level, levels):
        y_pred = decide(kept, threshold, min_labels=fewest, max_labels=most)
        np.testing.assert_array_equal(y_pred, expected)


def test_batches_give_the_same_as_all_at_once():
    scores = np.random.default_rng(0).random((700, 40)).astype(np.float16)
    whole = top_scores(scores, 7)
    parts = collect_top_scores((scores[start : start + 64] for start in range(0, 700, 64)), 7)
    np.testing.assert_array_equal(parts.columns, whole.columns)
    np.testing.assert_array_equal(parts.values, whole.values)
    assert whole.shape == (700, 40) and len(whole[whole.values[:, 0] > 0.9]) < 700
    np.testing.assert_array_equal(whole[3:5].values, whole.values[3:5])


def test_file_is_the_one_of_scores(tmp_path):
    logits = np.random.default_rng(0).normal(size=(5, 700)).astype(np.float32)
    ids = [f"id{row}" for row in range(5)]
    names = [f"tag::{column}" for column in range(700)]
    kept = top_scores(logits)
    path = write_top_scores(tmp_path / "scores.npz", kept, ids, names)
    np.testing.assert_array_equal(load_scores(path).logits, kept.dense())
    saved = save_scores(tmp_path / "other.npz", Scores(np.array(ids, object), logits, tuple(names)))
    for file in (path, saved):
        again, again_ids, again_names = read_top_scores(file)
        np.testing.assert_array_equal(again.columns, kept.columns)
        np.testing.assert_array_equal(again.values, kept.values)
        assert again_ids.tolist() == ids and again_names == tuple(names)
    with pytest.raises(ValueError, match="as many different ids and class names"):
        write_top_scores(path, kept, ids[:4], names)
    with pytest.raises(ValueError, match="no sparse file of scores"):
        few = Scores(np.array(ids, object), logits[:, :9], tuple(names[:9]))
        read_top_scores(save_scores(tmp_path / "dense.npz", few))
    with pytest.raises(FileNotFoundError):
        read_top_scores(tmp_path / "none.npz")


@given(arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 12))), st.data())
@settings(deadline=None)
def test_finding_columns_in_rows(wanted, data):
    k = data.draw(st.integers(1, wanted.shape[1]))
    chooser = np.random.default_rng(data.draw(st.integers(0, 99)))
    columns = np.sort(
        chooser.permuted(np.tile(np.arange(wanted.shape[1]), (len(wanted), 1)), axis=1)[:, :k]
    )
    rows, searched = np.nonzero(wanted)
    places, found = find_in_rows(columns, rows, searched)
    for row, column, place, there in zip(rows, searched, places, found, strict=True):
        assert there == (column in columns[row])
        assert not there or columns[row, place] == column


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: top_scores(np.ones((2, 3)), 0), "`k` must be at least 1"),
        (lambda: top_scores(np.ones(3)), r"must be \(num_samples, num_classes\)"),
        (lambda: top_scores(np.array([[1, np.nan]])), "finite. Received: nan in row 0, column 1"),
        (lambda: collect_top_scores([]), "`batches` holds no rows"),
        (lambda: collect_top_scores([np.ones((1, 2)), np.ones((1, 3))]), "must have 2 classes"),
        (
            lambda: TopScores(np.array([[1, 0]]), np.ones((1, 2), np.float32), 3),
            "must ascend within a row",
        ),
        (lambda: TopScores(np.array([[0, 3]]), np.ones((1, 2), np.float32), 3), r"in 0\.\.2"),
        (
            lambda: TopScores(np.zeros((1, 2), int), np.ones((1, 3), np.float32), 3),
            r"must both be \(num_samples, k\)",
        ),
        (lambda: decide(top_scores(np.eye(4), 2), 0.5, min_labels=3), r"`min_labels` must be in"),
        (lambda: search_threshold(np.ones((3, 4)), top_scores(np.eye(4), 2)), "same shape"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
