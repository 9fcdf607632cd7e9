"""Blends: the mean in both spaces, weights judged on rows they were not fitted on."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.collection.labels import make_label_table
from imetlib.decisions import blend
from imetlib.decisions.blend import blend_scores, search_blend
from imetlib.decisions.comparison import paired_comparison
from imetlib.decisions.fbeta import fbeta_per_sample
from imetlib.decisions.thresholds import crossfit_threshold, decide, search_threshold
from imetlib.scores import Scores, logits_of, mean_scores


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def draw_case(noises, num_samples=240, num_classes=8, seed=0):
    """Labels, and one array of probabilities for each size of noise."""
    generator = np.random.default_rng(seed)
    y_true = generator.random((num_samples, num_classes)) < 0.3
    y_true[:, 0] |= ~y_true.any(axis=1)
    members = [
        sigmoid(3.0 * y_true - 2 + noise * generator.normal(size=y_true.shape)) for noise in noises
    ]
    return y_true, members, np.arange(num_samples) % 4


def as_scores(y_prob, names=None):
    ids = np.array([f"0{row}" for row in range(len(y_prob))], object)
    names = names or tuple(f"tag::{column}" for column in range(y_prob.shape[1]))
    return Scores(ids, np.log(y_prob / (1 - y_prob)).astype(np.float32), names)


# Mean -----------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(0, 9), st.booleans())
@settings(deadline=None)
def test_means_in_both_spaces(num_members, seed, weighted):
    generator = np.random.default_rng(seed)
    y_prob = generator.uniform(0.01, 0.99, (num_members, 5, 3))
    weights = generator.dirichlet(np.ones(num_members)) if weighted else None
    used = np.full(num_members, 1 / num_members) if weights is None else weights
    members = [as_scores(y_prob[0]), *y_prob[1:]]
    found = blend_scores(members, weights=weights, space="probability")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.tensordot(used, y_prob, 1), atol=1e-6)
    found = blend_scores(members, weights=weights)
    logits = np.tensordot(used, np.log(y_prob / (1 - y_prob)), 1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, sigmoid(logits), atol=1e-6)
    every = [as_scores(member) for member in y_prob]
    for space in ("logit", "probability"):
        mean = mean_scores(every, weights=weights, space=space).y_prob
        found = blend_scores(every, weights=weights, space=space)
        np.testing.assert_allclose(mean, found, atol=1e-6)


def test_ends_of_the_range_and_half_precision():
    members = [np.array([[0.0, 1.0, 1.0]], np.float16), np.array([[0.0, 1.0, 0.0]])]
    for space in ("logit", "probability"):
        found = blend_scores(members, space=space)
        np.testing.assert_allclose(found, [[0.0, 1.0, 0.5]], atol=1e-8)


# Weights --------------------------------------------------------------------------------------


def refit(y_true, members, folds, space, num_steps):
    """Everything again, each step in its plainest form."""
    if space == "logit":
        members = [np.log(y_prob) - np.log1p(-y_prob) for y_prob in members]
    equal = np.full(len(members), 1 / len(members))
    grid = [
        np.array(point) / num_steps
        for point in itertools.product(range(num_steps + 1), repeat=len(members))
        if sum(point) == num_steps
    ]
    grid = [equal, *sorted(grid, key=lambda point: round(((point - equal) ** 2).sum(), 12))]

    def mean(weights, rows):
        return sum(
            np.float32(weight) * np.float32(member[rows])
            for weight, member in zip(weights, members, strict=True)
        )

    def fit(rows):
        scores = [search_threshold(y_true[rows], mean(weights, rows)).score for weights in grid]
        return grid[int(np.argmax(scores))]

    found = {"weighted": np.empty(len(y_true)), "equal": np.empty(len(y_true))}
    for fold in np.unique(folds):
        own, others = folds == fold, folds != fold
        for name, weights in (("weighted", fit(others)), ("equal", equal)):
            threshold = search_threshold(y_true[others], mean(weights, others)).threshold
            y_pred = decide(mean(weights, own), threshold)
            found[name][own] = fbeta_per_sample(y_true[own], y_pred)
    return fit(np.ones(len(y_true), bool)), found


@pytest.mark.parametrize("space", ["logit", "probability"])
@pytest.mark.parametrize("noises", [(1.0, 2.5), (1.0, 1.5, 3.0)])
def test_equals_the_plain_procedure(space, noises):
    y_true, members, folds = draw_case(noises, num_samples=120)
    search = search_blend(y_true, members, folds, space=space, num_steps=5)
    weights, scores = refit(y_true, members, folds, space, 5)
    np.testing.assert_allclose(search.weights, weights, atol=1e-12)
    assert search.score == pytest.approx(scores["weighted"].mean(), abs=1e-9)
    assert search.equal_score == pytest.approx(scores["equal"].mean(), abs=1e-9)
    expected = paired_comparison(scores["weighted"], scores["equal"])
    np.testing.assert_allclose(search.comparison.interval, expected.interval, atol=1e-9)
    assert search.space == space and set(search.fold_weights) == {0, 1, 2, 3}


def test_a_useless_member_loses_its_weight():
    y_true, members, folds = draw_case((1.0, 30.0), num_samples=400)
    search = search_blend(y_true, members, folds, space="logit")
    assert search.comparison.interval[0] > 0 and search.score > search.equal_score + 0.1
    assert search.chosen == search.weights and search.weights[0] > 0.8
    assert all(weights[0] > 0.8 for weights in search.fold_weights.values())


def test_equal_weights_stand_where_nothing_is_sure():
    y_true, members, folds = draw_case((1.5, 1.5))
    search = search_blend(y_true, members, folds)
    low, high = search.comparison.interval
    assert low <= 0 <= high and search.chosen == (0.5, 0.5)
    # Surely worse is no reason either.
    assert search.equal_score > max(search.member_scores)


def test_equal_members_keep_equal_weights():
    y_true, members, folds = draw_case((1.0,))
    for num_members in (2, 3, 4):
        search = search_blend(y_true, members * num_members, folds, space="probability")
        np.testing.assert_allclose(search.weights, 1 / num_members)
        assert search.chosen == (1 / num_members,) * num_members
        assert search.comparison.difference == 0.0


def test_weights_over_the_first_member_alone():
    y_true, members, folds = draw_case((1.5, 1.5))
    search = search_blend(y_true, members, folds)
    assert search.score > search.member_scores[0] and search.over_first == search.weights
    # Just as good is no reason to ask a second member.
    as_good = replace(search, member_scores=(search.score, search.member_scores[1]))
    assert as_good.over_first == (1.0, 0.0)


def test_members_alone_are_scored_likewise():
    y_true, members, folds = draw_case((1.0, 2.0))
    search = search_blend(y_true, members, folds, space="probability")
    for score, y_prob in zip(search.member_scores, members, strict=True):
        assert score == pytest.approx(crossfit_threshold(y_true, y_prob, folds).score, abs=1e-12)


def test_many_members_climb_to_more_than_equal_weights():
    y_true, members, folds = draw_case((1.0, 1.0, 8.0, 12.0), num_samples=160)
    search = search_blend(y_true, members, folds)
    assert len(search.weights) == 4 and sum(search.weights) == pytest.approx(1.0)
    values = [logits_of(np.float32(y_prob)) for y_prob in members]

    def score(weights):
        return search_threshold(y_true, np.tensordot(weights, values, 1)).score

    assert score(search.weights) > score([0.25] * 4) + 0.05
    assert sum(search.weights[:2]) > 0.75
    assert search.chosen == search.weights


def test_climbing_ends_where_no_step_helps():
    target = np.array([0.1, 0.2, 0.3, 0.4])
    found = blend._ascend(lambda weights: -np.abs(weights - target).sum(), 4, 0.05)
    assert found.sum() == pytest.approx(1.0) and np.abs(found - target).max() < 0.06
    corner = blend._ascend(lambda weights: weights[2], 4, 0.1)
    np.testing.assert_allclose(corner, [0, 0, 1, 0], atol=1e-12)


def test_labels_and_members_of_every_form():
    y_true, members, folds = draw_case((1.0, 2.0), num_samples=60)
    expected = search_blend(y_true, members, folds, num_steps=2)
    scores = [as_scores(member) for member in members]
    rows = [np.flatnonzero(row) for row in y_true]
    table = make_label_table(scores[0].ids.tolist(), rows, y_true.shape[1])
    for labels, given_members in itertools.product(
        (y_true.astype(int), table, rows), (scores, [scores[0], members[1]])
    ):
        names = np.array(["a", "b", "c", "d"])[folds]
        found = search_blend(labels, given_members, names, num_steps=2)
        assert found.weights == expected.weights and list(found.fold_weights) == list("abcd")
        assert found.score == pytest.approx(expected.score, abs=1e-3)


def test_groups_widen_the_interval_and_stay_in_their_fold():
    y_true, members, folds = draw_case((1.0, 2.0))
    groups = np.arange(len(folds)) // 8 * 4 + folds
    search = search_blend(y_true, members, folds, groups=groups, num_steps=4)
    assert (
        search.comparison.interval
        != search_blend(y_true, members, folds, num_steps=4).comparison.interval
    )
    with pytest.raises(ValueError, match=r"Group 0 lies in two folds: .* Make folds of whole"):
        search_blend(y_true, members, folds, groups=np.arange(len(folds)) // 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": []}, "must hold at least one answer"),
        ({"members": [np.ones((4, 2)) / 2]}, "at least two `members`. Received: 1"),
        ({"members": [np.ones((4, 2)), np.ones((4, 3))]}, r"same shape. Received: \[\(4, 2\), "),
        ({"members": [np.ones((4, 2)), np.ones((3, 2))]}, "must have the same shape"),
        ({"members": [np.ones((4, 2)), 2 * np.ones((4, 2))]}, r"Member 1 must .* in \[0, 1\]"),
        ({"members": [np.ones((4, 2)), np.full((4, 2), np.nan)]}, "must be finite"),
        ({"members": [np.ones(4), np.ones(4)]}, r"must be \(num_samples, num_classes\)"),
        ({"y_true": np.ones((4, 3))}, r"`y_true` and `members` .* \(4, 3\) and \(4, 2\)"),
        ({"y_true": [np.array([2])] * 4}, r"Received: \(4, 3\) and \(4, 2\)"),
        ({"folds": np.zeros(4)}, "at least two folds, .* with 1 folds"),
        ({"folds": np.arange(3)}, r"one for each of 4 rows. Received: shape \(3,\)"),
        ({"groups": np.arange(3)}, "`groups` must have one entry a sample, 4"),
        ({"space": "rank"}, "one of logit, probability. Received: space='rank'"),
        ({"num_steps": 0}, "`num_steps` must be >= 1. Received: num_steps=0"),
        ({"beta": 0}, "`beta` must be positive"),
        ({"level": 2.0}, r"`level` must be in \(0, 1\)"),
    ],
)
def test_what_is_refused(arguments, message):
    plain = {
        "y_true": np.eye(2)[[0, 1, 0, 1]],
        "members": [np.ones((4, 2)) / 2] * 2,
        "folds": np.arange(4) // 2,
    }
    with pytest.raises(ValueError, match=message):
        search_blend(**{**plain, **arguments})


def test_other_ids_and_classes_are_refused():
    y_true, members, folds = draw_case((1.0, 2.0), num_samples=8)
    first, second = (as_scores(member) for member in members)
    turned = second.take(second.ids[::-1])
    renamed = as_scores(members[1], tuple(f"tag::{column}" for column in range(8))[::-1])
    for other in (turned, renamed):
        with pytest.raises(ValueError, match="the same ids and classes, in one order"):
            search_blend(y_true, [first, other], folds)
        with pytest.raises(ValueError, match="the same ids and classes, in one order"):
            blend_scores([members[0], first, other])
    rows = [np.flatnonzero(row) for row in y_true]
    table = make_label_table(turned.ids.tolist(), rows, 8)
    with pytest.raises(ValueError, match="`y_true` and `members` must have the same ids"):
        search_blend(table, [first, second], folds)
    with pytest.raises(ValueError, match="must be 2 numbers >= 0 with sum 1"):
        blend_scores(members, weights=[0.5, 0.4])
