"""Each rule is scored on rows that it has not seen, and what would break that is refused."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from imetlib.collection.labels import make_label_table
from imetlib.decisions.averages import fbeta_by_group
from imetlib.decisions.class_thresholds import crossfit_class_thresholds
from imetlib.decisions.comparison import paired_comparison
from imetlib.decisions.expected_rule import ExpectedFBeta
from imetlib.decisions.fbeta import (
    bootstrap_interval,
    constant_answer,
    fbeta_per_sample,
    fbeta_samples,
)
from imetlib.decisions.label_sets import decide
from imetlib.decisions.rule_comparison import choose_rule, compare_rules
from imetlib.decisions.rules import (
    ClassThreshold,
    GlobalThreshold,
    GroupThreshold,
    MeanCount,
    NearMaximum,
    TopLabels,
)
from imetlib.decisions.thresholds import crossfit_threshold

NAMES = ["culture::a", "culture::b", "culture::c", "tag::d", "tag::e", "tag::f"]


def make_case(num_samples=90, num_classes=6, seed=0):
    """Labels, at least one a row, the probabilities of a fair network, and three folds."""
    generator = np.random.default_rng(seed)
    y_true = generator.random((num_samples, num_classes)) < 0.3
    y_true[np.arange(num_samples), generator.integers(num_classes, size=num_samples)] = True
    logits = generator.normal(size=y_true.shape) + 2 * y_true - 1
    y_prob = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return y_true, y_prob, generator.permutation(np.arange(num_samples) % 3)


@dataclass
class Recorder:
    """Decides nothing in particular, and remembers which rows it was fitted on and asked for."""

    seen: ClassVar[list] = []
    fitted: dict = field(default_factory=dict, init=False)

    def fit(self, y_prob, y_true, class_names):
        assert self.fitted == {}, "a copy must know nothing"
        self.fitted = {"rows": set(y_prob[:, 0].tolist()), "labels": np.asarray(y_true).copy()}

    def predict(self, y_prob):
        self.seen.append((self.fitted, set(y_prob[:, 0].tolist())))
        return y_prob >= 0.5


@dataclass
class Memory:
    """Knows every row that it has seen by its probabilities, and of the others nothing."""

    known: dict = field(default_factory=dict, init=False)

    def fit(self, y_prob, y_true, class_names):
        labels = np.asarray(y_true, bool)
        self.known = {row.tobytes(): own for row, own in zip(y_prob, labels, strict=True)}

    def predict(self, y_prob):
        nothing = np.arange(y_prob.shape[1]) == 0
        return np.array([self.known.get(row.tobytes(), nothing) for row in y_prob])


# Who saw what ------------------------------------------------------------------------------------


def test_no_row_is_decided_by_a_rule_that_saw_its_fold():
    y_true, y_prob, folds = make_case()
    y_prob[:, 0] = np.linspace(0.1, 0.9, 90)
    Recorder.seen.clear()
    compare_rules({"recorder": Recorder()}, y_true, y_prob, folds, NAMES)
    *parts, (whole, asked) = Recorder.seen
    everything = set(y_prob[:, 0].tolist())
    assert whole["rows"] == asked == everything
    assert len(parts) == 3
    for fold, (fitted, asked) in enumerate(parts):
        assert asked == set(y_prob[folds == fold, 0].tolist())
        assert fitted["rows"] == everything - asked
        np.testing.assert_array_equal(fitted["labels"], y_true[folds != fold])


def test_rules_given_are_copied_and_come_back_fitted_on_all_rows():
    y_true, y_prob, folds = make_case()
    rules = {"threshold": GlobalThreshold(max_labels=2), "expected": ExpectedFBeta()}
    found = compare_rules(rules, y_true, y_prob, folds, NAMES)
    for name, rule in rules.items():
        assert rule.fitted == {}
        assert found.fitted[name] == replace(rule).fit(y_prob, y_true, NAMES)


def test_what_is_learned_by_heart_is_worth_nothing_out_of_fold():
    y_true, y_prob, folds = make_case()
    rules = {"threshold": GlobalThreshold(), "memory": Memory()}
    table = compare_rules(rules, y_true, y_prob, folds, NAMES).table.set_index("rule")
    nothing = fbeta_samples(y_true, np.tile(np.arange(6) == 0, (90, 1)))
    assert table.score["memory"] == pytest.approx(nothing)
    assert table.flatters["memory"] == pytest.approx(1 - nothing)
    assert "better on its own rows" in table["flags"]["memory"]
    assert "not above the constant answer" in table["flags"]["memory"]
    assert choose_rule(table.reset_index()) == "threshold"


def test_a_leak_through_a_second_picture_shows_and_is_refused_by_its_specimen():
    y_true, y_prob, folds = make_case()
    twice = np.concatenate([np.arange(90)] * 2)
    cut = np.concatenate([folds, (folds + 1) % 3])
    leaked = compare_rules({"memory": Memory()}, y_true[twice], y_prob[twice], cut, NAMES)
    assert leaked.table.score[0] == 1.0
    with pytest.raises(ValueError, match="90 specimens lie in more than one fold"):
        compare_rules(
            {"memory": Memory()}, y_true[twice], y_prob[twice], cut, NAMES, specimens=twice
        )
    whole = np.concatenate([folds, folds])
    honest = compare_rules(
        {"memory": Memory()}, y_true[twice], y_prob[twice], whole, NAMES, specimens=twice
    )
    assert honest.table.score[0] < 0.5


# The table ---------------------------------------------------------------------------------------


def test_figures_are_those_of_the_functions_they_come_from():
    y_true, y_prob, folds = make_case(300)
    specimens = np.array([f"s{row}" for row in np.arange(300) // 2])
    folds = (np.arange(300) // 2) % 3
    rules = {"threshold": GlobalThreshold(), "expected": ExpectedFBeta("platt", "exact")}
    found = compare_rules(rules, y_true, y_prob, folds, NAMES, specimens=specimens)
    assert list(found.y_pred) == list(found.fitted) == found.table["rule"].tolist() == list(rules)
    floor = constant_answer(y_true).score
    per_sample = {name: fbeta_per_sample(y_true, y_pred) for name, y_pred in found.y_pred.items()}
    for _, row in found.table.iterrows():
        own, y_pred = per_sample[row["rule"]], found.y_pred[row["rule"]]
        assert row["score"] == own.mean()
        assert (row["low"], row["high"]) == bootstrap_interval(own, groups=specimens)
        gain = paired_comparison(own, per_sample["threshold"], groups=specimens)
        assert (row["gain"], (row["gain_low"], row["gain_high"])) == (
            gain.difference,
            gain.interval,
        )
        again = found.fitted[row["rule"]].predict(y_prob)
        assert row["flatters"] == fbeta_samples(y_true, again) - row["score"]
        assert row["labels"] == y_pred.sum() / 300
        groups = fbeta_by_group(y_true, y_pred, NAMES)
        assert (row["F2 culture"], row["F2 tag"]) == tuple(g.score for g in groups.values())
        assert row["constant_score"] == floor
        assert row["seconds"] > 0
    first, second = found.table["expected"]
    assert np.isnan(first)
    parts = [
        ExpectedFBeta("platt", "exact")
        .fit(y_prob[folds != fold], y_true[folds != fold], NAMES)
        .expect(y_prob[folds == fold])
        for fold in range(3)
    ]
    assert second == pytest.approx(np.concatenate(parts).mean(), abs=1e-12)


def test_single_rules_agree_with_their_own_cross_fitting():
    y_true, y_prob, folds = make_case(200)
    rules = {"threshold": GlobalThreshold(), "class": ClassThreshold()}
    found = compare_rules(rules, y_true, y_prob, folds, NAMES)
    single = crossfit_threshold(y_true, y_prob, folds)
    each = crossfit_class_thresholds(y_true, y_prob, folds)
    np.testing.assert_array_equal(found.y_pred["threshold"], single.y_pred)
    np.testing.assert_array_equal(found.y_pred["class"], each.y_pred)
    assert found.table["flatters"][1] == each.overfit


def test_many_numbers_flatter_and_few_do_not():
    y_true, y_prob, folds = make_case(120, 40, seed=3)
    names = [f"tag::{number}" for number in range(40)]
    rules = {"threshold": GlobalThreshold(), "class": ClassThreshold()}
    table = compare_rules(rules, y_true, y_prob, folds, names).table
    assert table["flatters"][1] > 0.02 > table["flatters"][0]
    assert table["flags"][1] == f"looks {table['flatters'][1]:.3f} better on its own rows"


def test_an_optimum_at_the_edge_is_flagged():
    y_prob = np.tile(np.linspace(1, 0, 40, dtype=np.float32), (6, 1))
    names = [f"tag::{number}" for number in range(40)]
    table = compare_rules(
        {"top": TopLabels()}, y_prob >= y_prob[0, 34], y_prob, np.arange(6) % 2, names
    ).table
    assert "best value at the edge of its grid" in table["flags"][0]


def test_classes_without_groups_add_no_columns():
    y_true, y_prob, folds = make_case()
    found = compare_rules({"threshold": GlobalThreshold()}, y_true, y_prob, folds, list("abcdef"))
    assert not [name for name in found.table if name.startswith("F2 ")]


def test_forms_of_labels_and_names_of_folds_make_no_difference():
    y_true, y_prob, folds = make_case()
    ragged = list(map(np.flatnonzero, y_true))
    table = make_label_table([f"p{row:02d}" for row in range(90)], ragged, num_classes=6)
    rules = {"group": GroupThreshold(), "top": TopLabels()}
    first = compare_rules(rules, y_true, y_prob, folds, NAMES)
    words = np.array(["one", "two", "three"])[folds]
    for labels, names in ((ragged, words), (table, folds.tolist()), (y_true.astype(int), words)):
        other = compare_rules(rules, labels, y_prob.astype(float), names, NAMES)
        for name, y_pred in first.y_pred.items():
            np.testing.assert_array_equal(other.y_pred[name], y_pred)
        pd.testing.assert_frame_equal(
            other.table.drop(columns="seconds"), first.table.drop(columns="seconds")
        )


# The choice --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "lows", "chosen"),
    [
        ([0.5, 0.6, 0.7], [0.0, 0.01, 0.05], "c"),
        ([0.5, 0.6, 0.7], [0.0, 0.01, -0.05], "b"),
        ([0.5, 0.6, 0.7], [0.0, -0.01, 0.0], "a"),
        ([0.5], [0.0], "a"),
    ],
)
def test_the_best_sure_one_is_chosen(scores, lows, chosen):
    table = pd.DataFrame({"rule": list("abc")[: len(scores)], "score": scores, "gain_low": lows})
    assert choose_rule(table) == chosen


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rules": {}}, "`rules` must hold at least one rule"),
        ({"y_prob": np.full((4, 2), np.nan)}, "must be finite. Received: nan"),
        ({"y_prob": np.full((4, 2), 2.0)}, r"must be probabilities in \[0, 1\]"),
        ({"y_true": np.ones((4, 3))}, r"same shape. Received: \(4, 3\) and \(4, 2\)"),
        ({"y_true": [[1, 0], [0, 0], [0, 1], [0, 0]]}, "Received: 2 rows without, first 1"),
        ({"class_names": ["a::b"]}, "must have one name a class, 2. Received: 1"),
        ({"folds": np.zeros(4)}, r"at least two folds, .* shape \(4,\) with 1 folds"),
        ({"folds": np.arange(3)}, r"one for each of 4 rows.* shape \(3,\) with 3 folds"),
        ({"folds": None}, r"Received: shape \(\)"),
        ({"ids": ["a", "b"]}, r"`ids` must have one entry a row, 4. Received: shape \(2,\)"),
        ({"ids": ["a", "b", "a", "c"]}, "`ids` hold 1 ids more than once, first a"),
        ({"specimens": np.arange(5)}, "`specimens` must have one entry a row, 4"),
        ({"specimens": [7, 7, 8, 9]}, "1 specimens lie in more than one fold"),
        ({"specimens": list("aabb")}, "2 specimens lie in more than one fold"),
    ],
)
def test_what_is_refused(changed, message):
    arguments = {
        "rules": {"threshold": GlobalThreshold()},
        "y_true": np.ones((4, 2), int),
        "y_prob": np.full((4, 2), 0.5),
        "folds": np.array([0, 1, 0, 1]),
        "class_names": ["a::b", "a::c"],
    }
    with pytest.raises(ValueError, match=message):
        compare_rules(**{**arguments, **changed})


def test_ids_of_the_label_table_count():
    y_true, y_prob, folds = make_case(4)
    table = make_label_table(list("abcd"), list(map(np.flatnonzero, y_true)), num_classes=6)
    rules = {"threshold": GlobalThreshold()}
    compare_rules(rules, table, y_prob, folds, NAMES, ids=list("abcd"))
    with pytest.raises(ValueError, match="`ids` and `y_true` must have the same ids"):
        compare_rules(rules, table, y_prob, folds, NAMES, ids=list("abdc"))
    rows = np.array([0, 1, 2, 3, 0])
    with pytest.raises(ValueError, match="`ids` hold 1 ids more than once, first a"):
        compare_rules(rules, table.take(rows), y_prob[rows], folds[rows], NAMES)


def test_everything_is_refused_before_any_rule_is_fitted():
    y_true, y_prob, _ = make_case()
    Recorder.seen.clear()
    with pytest.raises(ValueError, match="at least two folds"):
        compare_rules({"recorder": Recorder()}, y_true, y_prob, np.zeros(90), NAMES)
    assert not Recorder.seen


# Real scores -------------------------------------------------------------------------------------


def test_rules_on_corel5k(corel5k):
    y_true, y_prob, folds, class_names = corel5k
    rules = {
        "threshold": GlobalThreshold(),
        "class": ClassThreshold(),
        "top": TopLabels(),
        "near": NearMaximum(),
        "count": MeanCount(),
        "raw": ExpectedFBeta("none", "ratio"),
        "platt": ExpectedFBeta("platt", "ratio"),
        "platt exact": ExpectedFBeta("platt", "exact"),
        "isotonic": ExpectedFBeta("isotonic", "ratio"),
    }
    found = compare_rules(rules, y_true, y_prob, folds, class_names)
    table = found.table.set_index("rule")
    assert table.score["threshold"] == pytest.approx(0.3017, abs=5e-5)
    assert table.score["raw"] == pytest.approx(0.3025, abs=5e-5)
    assert table.score["platt"] == pytest.approx(0.3048, abs=5e-5)
    assert table.score["platt exact"] == pytest.approx(0.3046, abs=5e-5)
    assert table.expected["platt"] == pytest.approx(0.2750, abs=5e-5)
    # No chance of the draw: the lower end of the paired interval is above zero.
    assert table.gain["platt"] == pytest.approx(0.0031, abs=5e-5)
    assert table.gain_low["platt"] > 0.001
    best = choose_rule(found.table)
    assert best == "isotonic" and 0.0025 < table.gain[best] < 0.0045
    # Labels here are words that go together: the rules' own estimate is no score.
    assert table.expected["platt"] < table.low["platt"] - 0.02
    assert table.flatters["class"] > 0.01 > 0.002 > table.flatters["threshold"]
    assert table["flags"]["class"] and not table["flags"]["threshold"]
    assert (table.score > table.constant_score + 0.05).all()
    np.testing.assert_array_equal(
        found.fitted["threshold"].predict(y_prob), decide(y_prob, 0.051452637)
    )
