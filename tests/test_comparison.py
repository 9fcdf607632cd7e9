import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imetlib.decisions.comparison import paired_comparison
from imetlib.decisions.fbeta import bootstrap_interval, fbeta_per_sample


def draw_decisions(num_samples=300, seed=0):
    generator = np.random.default_rng(seed)
    y_true = generator.random((num_samples, 12)) < 0.25
    noise = generator.random((2, num_samples, 12))
    return y_true, y_true ^ (noise[0] < 0.1), y_true ^ (noise[1] < 0.2)


def test_decisions_are_compared_by_their_scores():
    y_true, first, second = draw_decisions()
    found = paired_comparison(first, second, y_true=y_true, beta=1.0)
    scores = [fbeta_per_sample(y_true, y_pred, beta=1.0) for y_pred in (first, second)]
    assert found == paired_comparison(*scores)
    assert (found.first, found.second) == tuple(score.mean() for score in scores)
    assert found.difference == pytest.approx(found.first - found.second, abs=1e-12)
    assert found.interval == bootstrap_interval(scores[0] - scores[1])
    assert found.better == sum(a > b for a, b in zip(*scores, strict=True)) / 300
    assert found.worse == sum(a < b for a, b in zip(*scores, strict=True)) / 300
    assert (found.num_samples, found.level) == (300, 0.95)


def test_pairs_narrow_the_interval():
    y_true, first, second = draw_decisions()
    found = paired_comparison(first, second, y_true=y_true)
    assert found.decided and found.difference > 0
    low, high = bootstrap_interval(fbeta_per_sample(y_true, first))
    other_low, other_high = bootstrap_interval(fbeta_per_sample(y_true, second))
    apart = ((high - low) ** 2 + (other_high - other_low) ** 2) ** 0.5
    assert found.interval[1] - found.interval[0] < apart


@given(arrays(np.int64, (2, 9), elements=st.integers(0, 4)))
@settings(deadline=None)
def test_the_other_way_round_it_is_the_opposite(quarters):
    first, second = quarters / 4
    found = paired_comparison(first, second, num_resamples=50)
    back = paired_comparison(second, first, num_resamples=50)
    assert back.difference == -found.difference
    np.testing.assert_allclose(back.interval, [-found.interval[1], -found.interval[0]], atol=1e-12)
    assert (back.better, back.worse) == (found.worse, found.better)
    assert back.decided == found.decided
    same = paired_comparison(first, first, num_resamples=50)
    assert (same.difference, same.interval, same.better, same.worse) == (0.0, (0.0, 0.0), 0, 0)
    assert not same.decided


def test_options_reach_the_bootstrap():
    first, second = np.random.default_rng(0).random((2, 60))
    options = {"groups": np.arange(60) // 6, "seed": 3, "level": 0.8, "num_resamples": 200}
    found = paired_comparison(first, second, **options)
    assert found.interval == bootstrap_interval(first - second, **options)
    assert found.level == 0.8


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([], [], r"`first` must be \(num_samples,\) scores"),
        ([0.5], [[1, 0]], "`second` must be .* give `y_true` beside decisions"),
        ([0.5], [1.5], r"`second` must hold scores in \[0, 1\]. Received: .* 1.5 to 1.5"),
        ([np.nan], [0.5], r"`first` must hold scores in \[0, 1\]"),
        ([0.5], [0.5, 0.5], "answers for the same samples. Received: 1 and 2"),
    ],
)
def test_what_is_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        paired_comparison(first, second)


def test_other_shapes_and_groups_are_refused():
    y_true, first, second = draw_decisions(20)
    with pytest.raises(ValueError, match="must have the same shape"):
        paired_comparison(first, second[:-1], y_true=y_true)
    with pytest.raises(ValueError, match="one entry a sample, 20"):
        paired_comparison(first, second, y_true=y_true, groups=np.arange(3))
