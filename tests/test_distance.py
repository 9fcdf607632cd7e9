import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.decisions.distance import nearest_distance, score_by_distance


def test_distance_is_one_less_the_largest_cosine():
    found = nearest_distance(np.array([[0.5, 0.9], [-1.0, -1.0], [1.0, 0.0]], np.float16))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0.1, 2.0, 0.0], atol=1e-3)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.data())
@settings(deadline=None)
def test_every_picture_is_in_one_bin_and_none_is_empty(distances, data):
    num_bins = data.draw(st.integers(1, len(distances)))
    per_sample = np.arange(len(distances)) / 7
    profile = score_by_distance(distances, per_sample, num_bins=num_bins)
    assert profile.num_samples.sum() == len(distances) and (profile.num_samples > 0).all()
    assert len(profile.scores) == len(profile.num_samples) == len(profile.edges) - 1 <= num_bins
    total = (profile.scores * profile.num_samples).sum()
    assert total == pytest.approx(per_sample.sum())
    for place, (low, high) in enumerate(zip(profile.edges[:-1], profile.edges[1:], strict=True)):
        last = place == len(profile.scores) - 1
        own = [
            score
            for distance, score in zip(distances, per_sample, strict=True)
            if low <= distance and (distance < high or last)
        ]
        assert profile.scores[place] == pytest.approx(np.mean(own))


def test_bins_hold_equally_many():
    distances = np.random.default_rng(0).random(1000) ** 3
    profile = score_by_distance(distances, 1 - distances, num_bins=8)
    assert profile.num_samples.tolist() == [125] * 8
    assert (np.diff(profile.scores) < 0).all()


@pytest.mark.parametrize(
    ("distances", "per_sample", "num_bins", "message"),
    [
        ([], [], 1, r"must be \(num_samples,\)"),
        ([0.1], [0.1, 0.2], 1, r"Received: shapes \(1,\) and \(2,\)"),
        ([np.nan], [0.1], 1, "must be finite"),
        ([0.1], [np.inf], 1, "must be finite"),
        ([0.1], [0.1], 2, r"`num_bins` must be in 1\.\.1. Received: num_bins=2"),
    ],
)
def test_what_is_refused(distances, per_sample, num_bins, message):
    with pytest.raises(ValueError, match=message):
        score_by_distance(distances, per_sample, num_bins=num_bins)


@pytest.mark.parametrize("cosines", [[[1.1]], [[np.nan]], [[-1.5]]])
def test_what_is_no_cosine_is_refused(cosines):
    with pytest.raises(ValueError, match=r"must be cosines in \[-1, 1\]"):
        nearest_distance(np.array(cosines))
    with pytest.raises(ValueError, match=r"must be \(num_samples, k\)"):
        nearest_distance(np.array(cosines)[0])
