"""Calibrate, then expect: the rule is its two parts, fitted on the rows it is given."""

import numpy as np
import pytest

from imetlib.decisions.calibration import fit_isotonic, fit_platt
from imetlib.decisions.expected_rule import CALIBRATIONS, ExpectedFBeta
from imetlib.decisions.fbeta import fbeta_per_sample
from imetlib.decisions.per_image import expected_fbeta_sets

NAMES = ["culture::a", "culture::b", "culture::c", "tag::d", "tag::e", "tag::f"]


def make_case(num_samples=400, seed=0):
    """At most one culture; probabilities that are true, and the same made too sure."""
    generator = np.random.default_rng(seed)
    p = generator.random((num_samples, 6)) * 0.6
    p[:, :3] /= 2
    draw = generator.random((num_samples, 6))
    y_true = draw < p
    culture = generator.integers(4, size=num_samples)
    y_true[:, :3] = False
    y_true[np.flatnonzero(culture < 3), culture[culture < 3]] = True
    logits = 2 * np.log(p / (1 - p)) + 0.5
    return y_true, (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.mark.parametrize("method", ["exact", "ratio"])
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_the_rule_is_its_parts(calibration, method):
    y_true, y_prob = make_case()
    rule = ExpectedFBeta(calibration, method).fit(y_prob[:300], y_true[:300], NAMES)
    fit = {"platt": fit_platt, "isotonic": fit_isotonic, "none": None}[calibration.split()[0]]
    names = NAMES if calibration.endswith("by group") else None
    believed = y_prob[300:]
    if fit is not None:
        believed = fit(y_true[:300], y_prob[:300], class_names=names).apply(believed)
    np.testing.assert_array_equal(rule.calibrate(y_prob[300:]), believed)
    sets = expected_fbeta_sets(believed, method=method)
    np.testing.assert_array_equal(rule.predict(y_prob[300:]), sets.y_pred)
    np.testing.assert_array_equal(rule.expect(y_prob[300:]), sets.expected)


def test_calibration_is_worth_it_and_its_expectation_holds():
    generator = np.random.default_rng(0)
    p = generator.beta(0.4, 2.0, (4000, 12))
    y_true = generator.random(p.shape) < p
    y_prob = p**3 / (p**3 + (1 - p) ** 3 * 20)
    names = [f"tag::{number}" for number in range(12)]
    scores = {}
    for calibration in ("none", "platt"):
        rule = ExpectedFBeta(calibration, "exact").fit(y_prob[:2000], y_true[:2000], names)
        score = fbeta_per_sample(y_true[2000:], rule.predict(y_prob[2000:])).mean()
        scores[calibration] = score, rule.expect(y_prob[2000:]).mean()
    assert scores["platt"][0] > scores["none"][0] + 0.01
    assert scores["platt"][1] == pytest.approx(scores["platt"][0], abs=0.02)


def test_exclusive_groups_are_those_of_the_rows_fitted():
    y_true, y_prob = make_case()
    rule = ExpectedFBeta("platt", "exact", exclusive=True).fit(y_prob, y_true, NAMES)
    assert rule.fitted["exclusive"] == ["culture"]
    sets = expected_fbeta_sets(rule.calibrate(y_prob), class_names=NAMES, exclusive=["culture"])
    np.testing.assert_array_equal(rule.predict(y_prob), sets.y_pred)
    y_true[0, :2] = True
    assert rule.fit(y_prob, y_true, NAMES).fitted["exclusive"] == []
    # A row that is left out has no say.
    assert rule.fit(y_prob[1:], y_true[1:], NAMES).fitted["exclusive"] == ["culture"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calibration": "beta"}, "Unknown calibration 'beta'. Known: none, platt, "),
        ({"method": "best"}, "Unknown method 'best'. Known: exact, ratio"),
        ({"exclusive": True}, "`exclusive` needs method=\"exact\".* Received: method='ratio'"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ExpectedFBeta(**settings)


def test_what_is_refused_beside_that_of_all_rules():
    y_true, y_prob = make_case(10)
    with pytest.raises(ValueError, match="must hold true and false labels"):
        ExpectedFBeta().fit(y_prob, np.ones_like(y_true), NAMES)
    for method in (ExpectedFBeta().expect, ExpectedFBeta().calibrate):
        with pytest.raises(ValueError, match="ExpectedFBeta is not fitted yet"):
            method(y_prob)
