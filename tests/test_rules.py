"""Rules: their numbers are the best there are on the rows fitted, and they take no other rows."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.collection.labels import make_label_table
from imetlib.decisions.class_thresholds import crossfit_class_thresholds
from imetlib.decisions.expected_rule import ExpectedFBeta
from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.group_thresholds import search_group_thresholds
from imetlib.decisions.label_sets import decide
from imetlib.decisions.per_image import keep_near_maximum, keep_top
from imetlib.decisions.rules import (
    ClassThreshold,
    GlobalThreshold,
    GroupThreshold,
    MeanCount,
    NearMaximum,
    TopLabels,
)

NAMES = ["culture::a", "culture::b", "culture::c", "tag::d", "tag::e", "tag::f"]
RULES = {
    "global": GlobalThreshold(),
    "group": GroupThreshold(),
    "class": ClassThreshold(),
    "top": TopLabels(),
    "near": NearMaximum(),
    "count": MeanCount(),
    "expected": ExpectedFBeta(),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def make_case(num_samples=60, num_classes=6, seed=0):
    """Labels that the probabilities know something about; some rows may have none."""
    generator = np.random.default_rng(seed)
    y_true = generator.random((num_samples, num_classes)) < 0.35
    y_true[0, 0], y_true[0, 1] = True, False
    logits = generator.normal(size=y_true.shape) + 2 * y_true - 1
    return y_true, (1 / (1 + np.exp(-logits))).astype(np.float32)


def best_score(y_true, decisions):
    return max(fbeta_samples(y_true, y_pred) for y_pred in decisions)


def as_ties(y_prob, levels, dtype):
    """The same probabilities on few levels, 0 and 1 among them."""
    return (np.round(y_prob * levels) / levels).astype(dtype)


adversarial = given(
    seed=st.integers(0, 500),
    levels=st.sampled_from([1, 2, 3, 7, 1000]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)


@adversarial
@settings(deadline=None, max_examples=40)
def test_global_threshold_is_the_best_of_all(seed, levels, dtype):
    y_true, y_prob = make_case(12, 6, seed)
    y_prob = as_ties(y_prob, levels, dtype)
    rule = GlobalThreshold(min_labels=0).fit(y_prob, y_true, NAMES)
    every = [decide(y_prob, level, min_labels=0) for level in np.unique(y_prob)]
    assert fbeta_samples(y_true, rule.predict(y_prob)) == pytest.approx(best_score(y_true, every))


@adversarial
@settings(deadline=None, max_examples=40)
def test_share_of_the_maximum_is_the_best_of_all(seed, levels, dtype):
    y_true, y_prob = make_case(12, 6, seed)
    y_prob = as_ties(y_prob, levels, dtype)
    rule = NearMaximum().fit(y_prob, y_true, NAMES)
    single = y_prob.astype(np.float32)
    highest = single.max(axis=1, keepdims=True)
    shares = np.unique(single[highest[:, 0] > 0] / highest[highest[:, 0] > 0])
    # Just below a share, so that rounding leaves no doubt on which side a label is.
    every = [keep_near_maximum(y_prob, float(share) * (1 - 1e-5)) for share in shares[shares > 0]]
    every.append(keep_near_maximum(y_prob, 1.0))
    own = fbeta_samples(y_true, rule.predict(y_prob))
    if not (single[highest[:, 0] > 0] == 0)[y_true[highest[:, 0] > 0]].any():
        assert own == pytest.approx(best_score(y_true, every))
    else:  # it may have hoped for labels of probability 0, which are no share of anything
        assert own <= best_score(y_true, every) + 1e-12


@adversarial
@settings(deadline=None, max_examples=40)
def test_number_of_labels_is_the_best_of_all(seed, levels, dtype):
    y_true, y_prob = make_case(12, 6, seed)
    y_prob = as_ties(y_prob, levels, dtype)
    rule = TopLabels().fit(y_prob, y_true, NAMES)
    scores = [fbeta_samples(y_true, keep_top(y_prob, k)) for k in range(1, 7)]
    assert scores[rule.fitted["k"] - 1] == pytest.approx(max(scores), abs=1e-12)


def test_the_edge_of_the_numbers_tried_is_told():
    names = [f"tag::{number}" for number in range(40)]
    y_prob = np.tile(np.linspace(1, 0, 40, dtype=np.float32), (5, 1))
    for num_true, at_edge in ((35, True), (12, False)):
        rule = TopLabels().fit(y_prob, y_prob >= y_prob[0, num_true - 1], names)
        assert rule.fitted["k"] == min(num_true, 30)
        assert rule.fitted["at_edge"] is at_edge
    # All classes there are is no edge: there is nothing beyond.
    rule = TopLabels().fit(y_prob[:, :3], np.ones((5, 3)), names[:3])
    assert (rule.fitted["k"], rule.fitted["at_edge"]) == (3, False)


@adversarial
@settings(deadline=None, max_examples=40)
def test_mean_count_finds_its_threshold_again(seed, levels, dtype):
    y_true, y_prob = make_case(12, 6, seed)
    y_prob = as_ties(y_prob, levels, dtype)
    rule = MeanCount().fit(y_prob, y_true, NAMES)
    same = GlobalThreshold().fit(y_prob, y_true, NAMES)
    np.testing.assert_array_equal(rule.predict(y_prob), same.predict(y_prob))


def test_mean_count_moves_with_the_scores():
    y_true, y_prob = make_case(200)
    rule = MeanCount().fit(y_prob, y_true, NAMES)
    np.testing.assert_array_equal(rule.predict(y_prob / 2), rule.predict(y_prob))


def test_groups_have_thresholds_and_limits():
    y_true, y_prob = make_case(200)
    limits = {"min_labels": {"tag": 1}, "max_labels": {"culture": 1, "tag": 2}}
    rule = GroupThreshold(**limits).fit(y_prob, y_true, NAMES)
    found = search_group_thresholds(y_true, y_prob, NAMES, **limits)
    np.testing.assert_array_equal(rule.predict(y_prob), found.decide(y_prob))
    assert rule.predict(y_prob)[:, :3].sum(axis=1).max() == 1
    assert set(rule.predict(y_prob)[:, 3:].sum(axis=1)) == {1, 2}


def test_a_group_never_worth_taking_stays_a_number_of_json():
    y_true, y_prob = make_case(200)
    y_true[:, :3] = False
    rule = GroupThreshold().fit(y_prob, y_true, NAMES)
    assert rule.fitted["thresholds"]["culture"] > 1
    json.dumps(rule.fitted, allow_nan=False)
    rule = ClassThreshold().fit(y_prob, y_true, NAMES)
    assert min(rule.fitted["thresholds"][:3]) > 1
    json.dumps(rule.fitted, allow_nan=False)


def test_an_empty_answer_gets_the_highest_allowed():
    y_true, y_prob = make_case(200)
    low = np.array([[0.03, 0.01, 0.02, 0.01, 0.02, 0.02]])
    rule = GroupThreshold().fit(y_prob, y_true, NAMES)
    assert np.flatnonzero(rule.predict(low)).tolist() == [0]
    rule = GroupThreshold(max_labels={"culture": 0}).fit(y_prob, y_true, NAMES)
    assert np.flatnonzero(rule.predict(low)).tolist() == [4]
    assert not GroupThreshold(max_labels=0).fit(y_prob, y_true, NAMES).predict(low).any()


def test_class_thresholds_are_those_of_the_search():
    y_true, y_prob = make_case(200)
    rule = ClassThreshold().fit(y_prob, y_true, NAMES)
    found = crossfit_class_thresholds(y_true, y_prob, np.arange(200) % 2)
    assert fbeta_samples(y_true, rule.predict(y_prob)) == found.in_sample_score
    np.testing.assert_array_equal(rule.predict(y_prob), decide(y_prob, found.thresholds))


@pytest.mark.parametrize("kind", [GlobalThreshold, ClassThreshold, NearMaximum])
def test_limits_of_a_picture_hold(kind):
    y_true, y_prob = make_case(200)
    rule = kind(min_labels=2, max_labels=3).fit(y_prob, y_true, NAMES)
    assert set(rule.predict(y_prob).sum(axis=1)) <= {2, 3}


@each_rule
def test_forms_of_labels_and_scores_agree(rule):
    y_true, y_prob = make_case()
    y_prob = y_prob.astype(np.float16)
    table = make_label_table(
        [f"p{row:02d}" for row in range(60)], list(map(np.flatnonzero, y_true)), num_classes=6
    )
    ragged = list(map(np.flatnonzero, y_true))
    found = replace(rule).fit(y_prob, y_true, NAMES)
    for labels in (table, ragged, y_true.astype(int).tolist()):
        assert replace(rule).fit(y_prob, labels, NAMES).fitted == found.fitted
    for dtype in (np.float32, np.float64):
        other = replace(rule).fit(y_prob.astype(dtype), y_true, tuple(NAMES))
        assert other.fitted == found.fitted
        np.testing.assert_array_equal(other.predict(y_prob.astype(dtype)), found.predict(y_prob))


@each_rule
def test_every_picture_gets_a_label(rule):
    y_true, y_prob = make_case()
    rule = replace(rule).fit(y_prob, y_true, NAMES)
    for scores in (y_prob, np.zeros((3, 6)), np.ones((3, 6)), y_prob[:1]):
        y_pred = rule.predict(scores)
        assert y_pred.dtype == bool and y_pred.shape == scores.shape
        assert y_pred.any(axis=1).all()


@each_rule
def test_one_class_and_equal_scores(rule):
    y_prob = np.full((4, 1), 0.5)
    rule = replace(rule).fit(y_prob, [[1], [0], [1], [0]], ["tag::a"])
    np.testing.assert_array_equal(rule.predict(y_prob), np.ones((4, 1), bool))


@each_rule
def test_fitted_is_plain_and_a_copy_is_fresh(rule):
    y_true, y_prob = make_case()
    rule = replace(rule)
    assert rule.fit(y_prob, y_true, NAMES) is rule
    assert json.loads(json.dumps(rule.fitted, allow_nan=False)) == rule.fitted
    assert rule.fitted["class_names"] == NAMES
    assert replace(rule).fitted == {}


@each_rule
def test_an_unfitted_rule_is_refused(rule):
    with pytest.raises(ValueError, match=f"{type(rule).__name__} is not fitted yet: call `fit`"):
        rule.predict(np.full((1, 6), 0.5))


@each_rule
@pytest.mark.parametrize(
    ("y_prob", "message"),
    [
        (np.full((2, 5), 0.5), "was fitted on 6 classes. Received: 5 classes"),
        (np.full((2, 6), np.nan), "must be finite. Received: nan"),
        (np.full((2, 6), 1.5), r"must be probabilities in \[0, 1\].* 1.5 to 1.5"),
        (np.zeros((0, 6)), r"must be \(num_samples, num_classes\)"),
        (np.zeros(6), r"must be \(num_samples, num_classes\)"),
    ],
)
def test_what_no_rule_decides(rule, y_prob, message):
    y_true, good = make_case()
    with pytest.raises(ValueError, match=message):
        replace(rule).fit(good, y_true, NAMES).predict(y_prob)


@each_rule
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_prob": np.full((4, 2), np.inf)}, "must be finite. Received: inf"),
        ({"y_prob": np.full((4, 2), -0.5)}, r"must be probabilities in \[0, 1\]"),
        ({"y_prob": np.zeros((0, 2))}, r"must be \(num_samples, num_classes\)"),
        ({"y_true": np.eye(4, 3)}, r"same shape. Received: \(4, 3\) and \(4, 2\)"),
        ({"y_true": np.full((4, 2), 2)}, "must hold 0 and 1 only"),
        ({"y_true": np.zeros((4, 2))}, "must hold labels to fit on. Received: none in 4 rows"),
        ({"class_names": ["a::b"]}, "must have one name a class, 2. Received: 1"),
    ],
)
def test_what_no_rule_is_fitted_on(rule, changed, message):
    arguments = {
        "y_prob": np.full((4, 2), 0.5),
        "y_true": np.eye(4, 2),
        "class_names": ["a::b", "a::c"],
    }
    with pytest.raises(ValueError, match=message):
        replace(rule).fit(**{**arguments, **changed})


def test_limits_that_contradict_each_other():
    y_true, y_prob = make_case()
    with pytest.raises(ValueError, match="Limits of unknown groups: artist"):
        GroupThreshold(min_labels={"artist": 1}).fit(y_prob, y_true, NAMES)
    with pytest.raises(ValueError, match=r"`min_labels` must be in 0\.\.2"):
        GlobalThreshold(3, 2).fit(y_prob, y_true, NAMES).predict(y_prob)
