"""Rules picture by picture, against loops, full enumeration and the vectors of the literature."""

import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imetlib.decisions.fbeta import fbeta_per_sample
from imetlib.decisions.limits import mark_highest
from imetlib.decisions.per_image import (
    expected_fbeta_curve,
    expected_fbeta_sets,
    keep_near_maximum,
    keep_top,
    threshold_for_count,
)
from imetlib.decisions.thresholds import decide

DATA = os.environ.get("IMETLIB_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="IMETLIB_DATA is not set")

FOUR = [0.9, 0.6, 0.3, 0.1]
TWELVE = [0.5, 0.4, 0.35, 0.33, 0.31, 0.3, 0.29, 0.27, 0.25, 0.2, 0.15, 0.1]
# Row, beta, expected F-beta of the 1, 2, ... highest.
VECTORS = [
    (FOUR, 1.0, "0.638880 0.750720 0.706106 0.618451"),
    (FOUR, 2.0, "0.563334 0.776743 0.815176 0.777512"),
    (
        TWELVE,
        1.0,
        "0.222382 0.319538 0.372000 0.406110 0.428215 0.444059 "
        "0.455335 0.461468 0.463651 0.458409 0.447279 0.431395",
    ),
    (
        TWELVE,
        2.0,
        "0.172241 0.283159 0.364093 0.429949 0.483484 0.529271 "
        "0.568489 0.599827 0.624370 0.636958 0.639176 0.632328",
    ),
]


def enumerate_states(p, groups):
    """Every possible label vector and its probability: units are independent of each other.

    `groups[j]` is the number of the exclusive group of label j, or -1 where it stands alone.
    """
    units = [[j for j in range(len(p)) if groups[j] == g] for g in sorted(set(groups) - {-1})]
    units += [[j] for j in range(len(p)) if groups[j] < 0]
    choices = []
    for unit in units:
        total = sum(p[j] for j in unit)
        scale = 1 / max(total, 1.0)
        choices.append([((), 1 - total * scale)] + [((j,), p[j] * scale) for j in unit])
    states, probabilities = [], []
    for combination in itertools.product(*choices):
        state = np.zeros(len(p), bool)
        probability = 1.0
        for true, chance in combination:
            state[list(true)] = True
            probability *= chance
        states.append(state)
        probabilities.append(probability)
    return np.array(states), np.array(probabilities)


def expectations(p, groups, beta):
    """Expected F-beta of every subset of the labels: `(subsets, values)`."""
    states, probabilities = enumerate_states(p, groups)
    subsets = np.array(list(itertools.product([False, True], repeat=len(p))))[1:]
    values = np.array(
        [
            probabilities @ fbeta_per_sample(states, np.tile(subset, (len(states), 1)), beta=beta)
            for subset in subsets
        ]
    )
    return subsets, values


# Few levels make ties; the ends are sure labels, where a quotient could be 0 / 0.
levels = st.sampled_from([0.0, 1e-4, 0.1, 0.25, 0.5, 0.5000001, 0.75, 0.97, 1.0])
probabilities = st.one_of(levels, st.floats(0, 1, width=32))


@st.composite
def tied_scores(draw, elements=probabilities):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 9)))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    return draw(arrays(np.float64, shape, elements=elements)).astype(dtype)


# The simple rules -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(tied_scores(), st.data())
def test_the_highest_are_those_of_a_stable_sort(y_prob, data):
    num_classes = y_prob.shape[1]
    size = data.draw(st.integers(0, num_classes))
    marked = mark_highest(y_prob, size)
    for scores, row in zip(y_prob.astype(np.float32), marked, strict=True):
        best_first = sorted(range(num_classes), key=lambda column: (-scores[column], column))
        assert np.flatnonzero(row).tolist() == sorted(best_first[:size])
    if size:
        np.testing.assert_array_equal(keep_top(y_prob, size), marked)
        np.testing.assert_array_equal(decide(y_prob, 2.0, min_labels=size), marked)


@settings(deadline=None, max_examples=200)
@given(tied_scores(), st.floats(0.05, 1), st.integers(0, 3), st.integers(0, 3))
def test_near_the_maximum(y_prob, ratio, min_labels, extra):
    num_classes = y_prob.shape[1]
    min_labels = min(min_labels, num_classes)
    max_labels = min(min_labels + extra, num_classes)
    y_pred = keep_near_maximum(y_prob, ratio, min_labels=min_labels, max_labels=max_labels)
    for scores, row in zip(y_prob.astype(np.float32), y_pred, strict=True):
        wanted = sum(score >= max(scores) * np.float32(ratio) for score in scores)
        size = int(np.clip(wanted, min_labels, max_labels))
        best_first = sorted(range(num_classes), key=lambda column: (-scores[column], column))
        assert np.flatnonzero(row).tolist() == sorted(best_first[:size])


@settings(deadline=None, max_examples=300)
@given(tied_scores(), st.floats(0.01, 1))
def test_threshold_for_a_count_comes_nearest(y_prob, share):
    mean_labels = share * y_prob.shape[1]
    threshold = threshold_for_count(y_prob, mean_labels)
    scores = y_prob.astype(np.float32)
    counts = {float(level): (scores >= level).sum() for level in np.unique(scores)}
    wanted = mean_labels * len(y_prob)
    distances = {level: abs(count - wanted) for level, count in counts.items()}
    assert distances[threshold] == pytest.approx(min(distances.values()), abs=1e-9)
    assert decide(y_prob, threshold, min_labels=0).sum() == counts[threshold]


def test_threshold_for_a_count_where_the_first_floor_is_too_high():
    """One row in 4 holds nearly all high scores: the sample that the floor is taken from lies."""
    generator = np.random.default_rng(0)
    y_prob = generator.random((6000, 40)).astype(np.float32)
    y_prob[::5] += 100
    threshold = threshold_for_count(y_prob, 12.5)
    assert (y_prob >= threshold).sum() == 12.5 * 6000
    logits = -1 / np.maximum(y_prob, 1e-3)
    assert (logits >= threshold_for_count(logits, 3.0)).sum() == 3 * 6000


# Expected F-beta ------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "beta", "curve"), VECTORS)
def test_known_vectors(row, beta, curve):
    curve = np.array(curve.split(), np.float64)
    np.testing.assert_allclose(expected_fbeta_curve(row, beta=beta), curve, atol=1e-6)
    for method in ("exact", "ratio"):
        sets = expected_fbeta_sets(np.array([row]), beta=beta, method=method)
        assert np.flatnonzero(sets.y_pred[0]).tolist() == list(range(np.argmax(curve) + 1))
        if method == "exact":
            assert sets.expected[0] == pytest.approx(max(curve), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, st.integers(1, 7), elements=probabilities), st.sampled_from([1.0, 2.0]))
def test_reference_curve_equals_full_enumeration(p, beta):
    subsets, values = expectations(p, [-1] * len(p), beta)
    curve = expected_fbeta_curve(p, beta=beta)
    order = np.argsort(-p, kind="stable")
    for k in range(1, len(p) + 1):
        top = np.isin(np.arange(len(p)), order[:k])
        assert curve[k - 1] == pytest.approx(values[(subsets == top).all(axis=1)][0], abs=1e-12)
    assert curve.max() == pytest.approx(values.max(), abs=1e-12)


@settings(deadline=None, max_examples=150)
@given(
    arrays(np.float32, st.integers(1, 7), elements=probabilities.map(np.float32)),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.data(),
)
def test_no_subset_is_better(p, beta, data):
    """Independent and exclusive labels, groups that sum to more than 1 and to exactly 1."""
    groups = data.draw(st.lists(st.integers(-1, 2), min_size=len(p), max_size=len(p)))
    names = [f"{'free' if group < 0 else group}::{j}" for j, group in enumerate(groups)]
    exclusive = sorted({str(group) for group in groups if group >= 0})
    subsets, values = expectations(p.astype(np.float64), groups, beta)
    sets = expected_fbeta_sets(p[None], beta=beta, class_names=names, exclusive=exclusive)
    chosen = values[(subsets == sets.y_pred[0]).all(axis=1)][0]
    assert sets.expected[0] == pytest.approx(values.max(), abs=2e-7)
    assert chosen == pytest.approx(values.max(), abs=2e-7)


@settings(deadline=None, max_examples=100)
@given(
    arrays(np.float32, st.integers(2, 7), elements=probabilities.map(np.float32)),
    st.integers(1, 3),
    st.booleans(),
)
def test_no_small_subset_is_better(p, max_labels, grouped):
    groups = [j % 2 if grouped else -1 for j in range(len(p))]
    names = [f"{group}::{j}" for j, group in enumerate(groups)]
    subsets, values = expectations(p.astype(np.float64), groups, 2.0)
    small = subsets.sum(axis=1) <= max_labels
    sets = expected_fbeta_sets(
        p[None], max_labels=max_labels, class_names=names, exclusive=["0", "1"] if grouped else []
    )
    assert 1 <= sets.y_pred.sum() <= max_labels
    assert sets.expected[0] == pytest.approx(values[small].max(), abs=2e-7)


def test_an_exclusive_group_changes_the_set():
    """One of four artists is the painter with .68: naming all four pays only if that is known."""
    p = np.array([[0.17, 0.17, 0.17, 0.17, 0.9]])
    names = ["artist::a", "artist::b", "artist::c", "artist::d", "tag::e"]
    alone = expected_fbeta_sets(p, class_names=names)
    together = expected_fbeta_sets(p, class_names=names, exclusive=["artist"])
    assert alone.y_pred.tolist() == [[False, False, False, False, True]]
    assert together.y_pred.all()
    # Both true, or one of the two kinds: by hand.
    by_hand = 0.68 * 0.9 * 10 / (8 + 5) + (0.68 * 0.1 + 0.32 * 0.9) * 5 / (4 + 5)
    assert together.expected[0] == pytest.approx(by_hand, abs=1e-7)


def test_groups_of_one_label_are_independent_labels():
    generator = np.random.default_rng(1)
    p = generator.random((200, 12)).astype(np.float32) ** 3
    names = [f"{j}::x" for j in range(12)]
    alone = expected_fbeta_sets(p)
    grouped = expected_fbeta_sets(p, class_names=names, exclusive=[str(j) for j in range(12)])
    np.testing.assert_array_equal(alone.y_pred, grouped.y_pred)
    np.testing.assert_allclose(alone.expected, grouped.expected, atol=1e-12)


def make_probabilities(num_samples, num_classes, mean, seed=0):
    """Rows of many small and a few large probabilities, at most about `mean` positives each."""
    weights = np.random.default_rng(seed).pareto(0.7, size=(num_samples, num_classes))
    p = np.minimum(weights * mean / weights.sum(axis=1, keepdims=True), 0.98)
    return p.astype(np.float32)


def test_many_classes_against_the_reference():
    """Cut off at 24 labels, the rest a Poisson number: nothing is lost that counts."""
    p = make_probabilities(80, 600, 3.2)
    sets = expected_fbeta_sets(p)
    curves = np.array([expected_fbeta_curve(row) for row in p])
    sizes = sets.y_pred.sum(axis=1)
    assert curves.argmax(axis=1).max() + 1 < 24
    reached = curves[np.arange(len(p)), sizes - 1]
    assert (curves.max(axis=1) - reached).max() < 1e-5
    np.testing.assert_allclose(sets.expected, curves.max(axis=1), atol=1e-3)
    for row, size, decided in zip(p, sizes, sets.y_pred, strict=True):
        np.testing.assert_array_equal(decided, mark_highest(row[None], size)[0])
    ratio = expected_fbeta_sets(p, method="ratio")
    reached = curves[np.arange(len(p)), ratio.y_pred.sum(axis=1) - 1]
    assert (curves.max(axis=1) - reached).mean() < 0.01
    assert abs(ratio.expected.mean() - sets.expected.mean()) < 0.03


@pytest.mark.parametrize("level", [1.0, 0.9, 0.5, 1e-3, 0.0])
@pytest.mark.parametrize("grouped", [False, True])
def test_hundreds_of_equal_probabilities(level, grouped):
    """Counts far beyond 30 positives: buffers hold them and nothing overflows or underflows."""
    p = np.full((3, 1500), level, np.float32)
    names = ["artist::a"] * 2 + ["tag::b"] * 1498
    sets = expected_fbeta_sets(
        p, class_names=names, exclusive=["artist"] if grouped else [], max_labels=10
    )
    positives = max(1500 * level, 1e-9)
    size = int(sets.y_pred[0].sum())
    assert np.isfinite(sets.expected).all()
    if level >= 0.5:
        assert size == 10
        assert sets.expected[0] == pytest.approx(50 * level / (4 * positives + 10), rel=3e-3)
    if level == 0:
        assert size == 1 and sets.expected[0] == 0
    if not grouped:
        np.testing.assert_array_equal(sets.y_pred, mark_highest(p, size))


def test_the_ratio_rule_is_one_cumulative_sum():
    p = make_probabilities(50, 90, 3.2, seed=2)
    sets = expected_fbeta_sets(p, method="ratio", max_labels=90)
    for row, decided, expected in zip(
        p.astype(np.float64), sets.y_pred, sets.expected, strict=True
    ):
        ratios = 5 * np.cumsum(np.sort(row)[::-1]) / (4 * row.sum() + np.arange(1, 91))
        assert decided.sum() == ratios.argmax() + 1
        assert expected == pytest.approx(ratios.max(), abs=1e-6)


def test_realised_score_is_the_expected_one_where_the_model_is_true():
    generator = np.random.default_rng(3)
    p = make_probabilities(4000, 60, 3.2, seed=3)
    y_true = generator.random(p.shape) < p
    sets = expected_fbeta_sets(p)
    realised = fbeta_per_sample(y_true, sets.y_pred)
    assert realised.mean() == pytest.approx(sets.expected.mean(), abs=0.012)
    assert realised.mean() > fbeta_per_sample(y_true, decide(p, realised.mean() / 5)).mean()


@settings(deadline=None, max_examples=100)
@given(tied_scores(), st.sampled_from(["exact", "ratio"]))
def test_equal_probabilities_go_by_column(y_prob, method):
    sets = expected_fbeta_sets(y_prob, method=method)
    for scores, row in zip(y_prob, sets.y_pred, strict=True):
        assert row.any()
        np.testing.assert_array_equal(row, mark_highest(scores[None], int(row.sum()))[0])


def test_rows_come_back_in_their_blocks():
    """More rows than are worked on together, not contiguous, in float64."""
    p = make_probabilities(9000, 8, 2.0, seed=4).astype(np.float64)
    order = np.random.default_rng(0).permutation(9000)
    whole = expected_fbeta_sets(p)
    mixed = expected_fbeta_sets(np.asfortranarray(p[order]))
    np.testing.assert_array_equal(whole.y_pred[order], mixed.y_pred)
    np.testing.assert_array_equal(whole.expected[order], mixed.expected)


# What is refused ------------------------------------------------------------------------------

GOOD = np.array([[0.5, 0.25], [0.125, 0.75]])
RULES = {
    "near": lambda y_prob: keep_near_maximum(y_prob, 0.5),
    "expected": expected_fbeta_sets,
    "ratio": lambda y_prob: expected_fbeta_sets(y_prob, method="ratio"),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize(
    ("y_prob", "message"),
    [
        (np.array([[0.1, np.nan]]), "finite. Received: nan in row 0, column 1"),
        (np.array([[0.1, np.inf]]), "finite. Received: inf in row 0, column 1"),
        (np.array([[0.1, 1.5]]), r"probabilities in \[0, 1\].* values from 0.1 to 1.5"),
        (np.array([[-0.1, 0.5]]), r"probabilities in \[0, 1\]"),
        (np.zeros((0, 3)), r"must be \(num_samples, num_classes\)"),
        (np.zeros(3), r"must be \(num_samples, num_classes\)"),
    ],
)
def test_scores_that_are_no_probabilities(rule, y_prob, message):
    with pytest.raises(ValueError, match=message):
        rule(y_prob)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keep_near_maximum(GOOD, 0.0), r"`ratio` must be in \(0, 1\]. Received: ratio=0"),
        (lambda: keep_near_maximum(GOOD, 0.5, min_labels=3), r"`min_labels` must be in 0\.\.2"),
        (lambda: keep_top(GOOD, 3), r"`k` must be in 1\.\.2. Received: k=3"),
        (lambda: keep_top(GOOD, 0), r"`k` must be in 1\.\.2"),
        (lambda: keep_top(np.array([[np.nan]]), 1), "must be finite"),
        (lambda: threshold_for_count(GOOD, 2.5), r"`mean_labels` must be in \(0, 2\]"),
        (lambda: threshold_for_count(GOOD, 0.0), r"`mean_labels` must be in \(0, 2\]"),
        (lambda: expected_fbeta_sets(GOOD, method="best"), "'best'. Known: exact, ratio"),
        (lambda: expected_fbeta_sets(GOOD, beta=0.0), "`beta` must be positive"),
        (lambda: expected_fbeta_sets(GOOD, max_labels=0), "`max_labels` must be at least 1"),
        (lambda: expected_fbeta_sets(GOOD, exclusive=["a"]), "`exclusive` needs `class_names`"),
        (
            lambda: expected_fbeta_sets(GOOD, class_names=["a::b"], exclusive=["a"]),
            "one for each of 2 classes. Received: 1",
        ),
        (
            lambda: expected_fbeta_sets(GOOD, class_names=["a::b", "a::c"], exclusive=["d"]),
            "Unknown groups: d. Known: a",
        ),
        (
            lambda: expected_fbeta_sets(
                GOOD, method="ratio", class_names=["a::b", "a::c"], exclusive=["a"]
            ),
            "ratio rule looks at sums alone",
        ),
        (lambda: expected_fbeta_curve([0.5, 0.5], beta=1.5), "must be a whole number"),
        (lambda: expected_fbeta_curve([0.5, 1.5]), r"probabilities in \[0, 1\]"),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
