"""McNemar's test, the paired interval and the summary over seeds, against definitions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from imetlib.decisions.comparison import paired_comparison
from imetlib.decisions.paired_test import mcnemar_test, summarise_seeds


def make_correct(both, only_a, only_b, neither):
    """Two bool arrays with these numbers of pictures."""
    a = [True] * both + [True] * only_a + [False] * only_b + [False] * neither
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    order = np.random.default_rng(0).permutation(len(a))
    return np.array(a)[order], np.array(b)[order]


def exact_p(only_a, only_b):
    """Share of all ways to give the discordant pictures to a or b that are as uneven."""
    ways = list(itertools.product((0, 1), repeat=only_a + only_b))
    uneven = abs(only_a - only_b)
    return sum(abs(len(way) - 2 * sum(way)) >= uneven for way in ways) / len(ways)


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0, 0), (0, 1), (1, 0), (3, 3), (2, 8), (9, 1), (0, 6), (5, 6)]
)
def test_p_counts_all_ways_to_share_the_discordant_pictures(only_a, only_b):
    found = mcnemar_test(*make_correct(20, only_a, only_b, 7))
    assert found.p_value == pytest.approx(exact_p(only_a, only_b), rel=1e-9)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.num_samples == 27 + only_a + only_b


def test_p_of_a_large_test_set():
    found = mcnemar_test(*make_correct(7_400, 420, 505, 1_675))
    tail = sum(math.comb(925, k) for k in range(421)) / 2**925
    assert found.p_value == pytest.approx(2 * tail, rel=1e-9)
    assert found.difference == pytest.approx(0.0085)


def test_standard_error_is_that_of_the_mean_of_differences():
    a, b = make_correct(50, 9, 21, 40)
    found = mcnemar_test(a, b)
    differences = b.astype(float) - a.astype(float)
    assert found.difference == pytest.approx(differences.mean())
    assert found.standard_error == pytest.approx(differences.std() / math.sqrt(len(a)))
    assert found.accuracy_a == a.mean() and found.accuracy_b == b.mean()


@given(*[st.integers(0, 40)] * 4)
def test_the_interval_is_walds_with_half_a_picture_more_of_each_kind(both, only_a, only_b, neither):
    a, b = make_correct(both, only_a, only_b, neither + 1)
    found = mcnemar_test(a, b, level=0.9)
    weights = np.array([both, only_a, only_b, neither + 1]) + 0.5
    values = np.array([0.0, -1.0, 1.0, 0.0])
    mean = np.average(values, weights=weights)
    error = math.sqrt(np.average((values - mean) ** 2, weights=weights) / weights.sum())
    low, high = mean - 1.6448536 * error, mean + 1.6448536 * error
    np.testing.assert_allclose(found.interval, (max(low, -1), min(high, 1)), atol=1e-6)
    assert found.interval[0] < found.interval[1]
    assert found.level == 0.9


def test_the_other_way_round_it_is_the_opposite():
    a, b = make_correct(50, 9, 21, 40)
    found, back = mcnemar_test(a, b), mcnemar_test(b, a)
    assert back.difference == -found.difference
    np.testing.assert_allclose(back.interval, (-found.interval[1], -found.interval[0]))
    assert (back.p_value, back.standard_error) == (found.p_value, found.standard_error)


def test_classifiers_that_never_disagree_have_an_interval_all_the_same():
    a, _ = make_correct(30, 0, 0, 10)
    found = mcnemar_test(a, a)
    assert (found.difference, found.standard_error, found.p_value) == (0.0, 0.0, 1.0)
    assert found.interval[0] < 0 < found.interval[1]


def test_the_pairing_matters():
    """The same two accuracies are surely different or not, as the pictures are shared."""
    alike = mcnemar_test(*make_correct(770, 0, 20, 210))
    apart = mcnemar_test(*make_correct(610, 160, 180, 50))
    assert alike.accuracy_a == apart.accuracy_a and alike.accuracy_b == apart.accuracy_b
    assert alike.p_value < 1e-5 < 0.2 < apart.p_value
    assert alike.interval[0] > 0 > apart.interval[0]


def test_the_interval_is_near_that_of_the_bootstrap():
    a, b = make_correct(700, 60, 90, 150)
    found = mcnemar_test(a, b)
    resampled = paired_comparison(b, a, num_resamples=4_000)
    np.testing.assert_allclose(found.interval, resampled.interval, atol=0.004)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1, 0], [True, False], r"`correct_a` must be .* bool. Received: \(2,\) int"),
        ([True], [[True]], r"`correct_b` must be .*Received: \(1, 1\) bool"),
        (np.array([], bool), np.array([], bool), r"Received: \(0,\) bool"),
        ([True, False], [True], "the same pictures. Received: 2 and 1"),
    ],
)
def test_what_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        mcnemar_test(a, b)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, float("nan")])
def test_levels_out_of_range_are_refused(level):
    with pytest.raises(ValueError, match=r"`level` must be in \(0, 1\)"):
        mcnemar_test([True], [False], level=level)
    with pytest.raises(ValueError, match=r"`level` must be in \(0, 1\)"):
        summarise_seeds([0.1, 0.2], level=level)


def test_seeds_are_summarised_by_a_t_interval():
    found = summarise_seeds([0.004, 0.009, 0.002])
    assert found.mean == pytest.approx(0.005)
    assert found.standard_error == pytest.approx(math.sqrt(13e-6) / math.sqrt(3))
    # 4.302653 is the 0.975 quantile of t with two degrees of freedom, sqrt(2 * 0.95**2 / 0.0975).
    reach = math.sqrt(2 * 0.95**2 / (1 - 0.95**2)) * found.standard_error
    np.testing.assert_allclose(found.interval, (0.005 - reach, 0.005 + reach))
    assert found.num_seeds == 3


def test_the_t_interval_excludes_zero_where_the_t_test_does():
    for values in ([0.004, 0.009, 0.002], [0.008, 0.009, 0.01], [-0.01, -0.012, -0.009, -0.002]):
        interval = summarise_seeds(values).interval
        excluded = interval[0] > 0 or interval[1] < 0
        assert excluded == (stats.ttest_1samp(values, 0.0).pvalue < 0.05)


@pytest.mark.parametrize("values", [[], [0.1], [0.1, float("nan")], [[0.1, 0.2]]])
def test_a_summary_needs_several_finite_numbers(values):
    with pytest.raises(ValueError, match=r"`differences` must be .* at least two seeds\."):
        summarise_seeds(values)
