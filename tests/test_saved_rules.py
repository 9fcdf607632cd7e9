"""A saved rule decides as before, for its own classes and no others."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from imetlib.decisions.expected_rule import CALIBRATIONS, ExpectedFBeta
from imetlib.decisions.rules import (
    ClassThreshold,
    GlobalThreshold,
    GroupThreshold,
    MeanCount,
    NearMaximum,
    TopLabels,
)
from imetlib.decisions.saved_rules import _KNOWN, RULE_FILE, load_rule, save_rule

NAMES = ["artist::a", "artist::b", "artist::c", "tag::d", "tag::e", "tag::é"]
RULES = [
    GlobalThreshold(),
    GlobalThreshold(min_labels=2, max_labels=3),
    GroupThreshold(),
    GroupThreshold(min_labels={"tag": 1}, max_labels={"artist": 1, "tag": 2}),
    ClassThreshold(max_labels=4),
    TopLabels(),
    NearMaximum(max_labels=3),
    MeanCount(),
    ExpectedFBeta("platt", "exact", exclusive=True),
    *[ExpectedFBeta(calibration) for calibration in CALIBRATIONS],
]


def make_case(num_samples=200, seed=0):
    """Labels with at most one artist, the last of whom is never drawn, and probabilities."""
    generator = np.random.default_rng(seed)
    y_true = generator.random((num_samples, 6)) < 0.4
    y_true[:, :3] = np.arange(3) == generator.integers(2, size=(num_samples, 1))
    logits = generator.normal(size=y_true.shape) + 2 * y_true - 1
    return y_true, (1 / (1 + np.exp(-logits))).astype(np.float32)


def fit(rule, seed=0):
    y_true, y_prob = make_case(seed=seed)
    return replace(rule).fit(y_prob, y_true, NAMES)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_saved_rule_decides_as_before(tmp_path, rule):
    rule = fit(rule)
    path = save_rule(tmp_path / "new" / RULE_FILE, rule, tuple(NAMES), score=0.5, split="val")
    again = load_rule(path, tuple(NAMES))
    assert again == rule
    _, y_prob = make_case(500, seed=1)
    for scores in (y_prob, y_prob.astype(np.float16), np.zeros((2, 6))):
        np.testing.assert_array_equal(again.predict(scores), rule.predict(scores))
    if hasattr(rule, "expect"):
        np.testing.assert_array_equal(again.expect(y_prob), rule.expect(y_prob))
    assert json.loads(path.read_text(encoding="utf-8"))["facts"] == {"score": 0.5, "split": "val"}


def test_every_kind_is_tried_here():
    assert {type(rule).__name__ for rule in RULES} == set(_KNOWN)


@pytest.mark.parametrize(
    ("class_names", "message"),
    [
        (NAMES[:5], r"other classes \(6, here 5; one list is the beginning of the other\)"),
        ([*NAMES, "tag::g"], r"other classes \(6, here 7; one list is the beginning"),
        (
            [*NAMES[:3], "tag::e", "tag::d", NAMES[5]],
            r"other classes \(6, here 6; class 3 is 'tag::d', here 'tag::e'\)",
        ),
        ([], r"other classes \(6, here 0"),
    ],
)
def test_other_classes_are_refused(tmp_path, class_names, message):
    rule = fit(NearMaximum())
    with pytest.raises(ValueError, match="This NearMaximum belongs to " + message):
        save_rule(tmp_path / "other.json", rule, class_names)
    assert not list(tmp_path.iterdir())
    path = save_rule(tmp_path / RULE_FILE, rule, NAMES)
    with pytest.raises(ValueError, match="rule.json belongs to " + message):
        load_rule(path, class_names)


def test_what_cannot_be_saved(tmp_path):
    @dataclass
    class Own:
        fitted: dict = field(default_factory=dict)

    Own.__name__ = "GlobalThreshold"  # a name alone does not make it known
    path = tmp_path / RULE_FILE
    with pytest.raises(ValueError, match=r"Cannot save GlobalThreshold\. Known rules: GlobalThr"):
        save_rule(path, Own({"threshold": 0.5}), NAMES)
    with pytest.raises(ValueError, match=r"Cannot save dict\. Known rules: GlobalThreshold, "):
        save_rule(path, {}, NAMES)
    with pytest.raises(ValueError, match="TopLabels is not fitted yet: call `fit` first"):
        save_rule(path, TopLabels(), NAMES)
    for fact in (np.float32(0.5), float("nan"), {1, 2}):
        with pytest.raises(ValueError, match="`facts` must be what JSON can hold"):
            save_rule(path, fit(TopLabels()), NAMES, fact=fact)
    assert not path.exists()


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    path = save_rule(tmp_path / RULE_FILE, fit(TopLabels()), NAMES)
    with pytest.raises(ValueError, match="JSON can hold"):
        save_rule(path, fit(MeanCount()), NAMES, fact=object())
    assert isinstance(load_rule(path, NAMES), TopLabels)
    save_rule(path, fit(MeanCount()), NAMES)
    assert isinstance(load_rule(path, NAMES), MeanCount)


def test_a_missing_file_says_where_one_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No rule at .*: notebook 07_threshold_search"):
        load_rule(tmp_path / RULE_FILE, NAMES)


def change(content, *keys, to):
    """The content with one entry changed, or left out where `to` is None."""
    *above, last = keys
    part = content
    for key in above:
        part = part[key]
    if to is None:
        del part[last]
    else:
        part[last] = to


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_file_that_lost_any_of_its_entries_is_refused(tmp_path, rule):
    path = save_rule(tmp_path / RULE_FILE, fit(rule), NAMES)
    whole = json.loads(path.read_text(encoding="utf-8"))
    lost = [("rule",), ("settings",), ("fitted",), ("fitted", "class_names")]
    lost += [("fitted", key) for key in whole["fitted"] if key != "at_edge"]
    for keys in dict.fromkeys(lost):
        content = json.loads(json.dumps(whole))
        change(content, *keys, to=None)
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match=r"rule\.json is no saved rule"):
            load_rule(path, NAMES)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("rule",), "BestRule"),
        (("settings", "seed"), 3),
        (("settings", "calibration"), "beta"),
        (("fitted",), []),
        (("fitted", "class_names"), 3),
        (("fitted", "calibration"), "platt"),
        (("fitted", "calibration", "all"), [0.5]),
        (("fitted", "calibration", "all"), ["much", "little"]),
        (("fitted", "calibration", "all"), [float("nan"), 0.0]),
        (("fitted", "exclusive"), ["school"]),
    ],
)
def test_a_changed_file_is_refused(tmp_path, keys, value):
    path = save_rule(tmp_path / RULE_FILE, fit(ExpectedFBeta("platt", "exact")), NAMES)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content, *keys, to=value)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"rule\.json is no saved rule"):
        load_rule(path, NAMES)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"rule": "TopLabels"}'])
def test_what_is_no_rule_at_all(tmp_path, content):
    path = tmp_path / RULE_FILE
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rule\.json is no saved rule"):
        load_rule(path, NAMES)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, share):
    path = save_rule(tmp_path / RULE_FILE, fit(ExpectedFBeta("isotonic")), NAMES)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"rule\.json is no saved rule"):
        load_rule(path, NAMES)
