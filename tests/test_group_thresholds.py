"""Thresholds of groups, against all pairs, and against obvious loops."""

import importlib.util
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imetlib.decisions import group_thresholds, pair_search
from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.group_thresholds import search_group_thresholds
from imetlib.decisions.label_sets import decide
from imetlib.decisions.thresholds import search_threshold
from imetlib.decisions.top_scores import top_scores

NAMES = ("culture::a", "tag::b", "culture::c", "tag::d", "tag::e", "culture::f")


@st.composite
def labels_and_tied_scores(draw, dtype=np.float32):
    num_samples = draw(st.integers(1, 6))
    levels = draw(
        st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=7, unique=True).map(np.array)
    )
    chosen = draw(arrays(np.int8, (num_samples, 6), elements=st.integers(0, len(levels) - 1)))
    return draw(arrays(bool, (num_samples, 6))), levels[chosen].astype(dtype)


def make_scores(num_samples, num_classes, seed=0, strength=3.0):
    generator = np.random.default_rng(seed)
    prior = np.arange(1, num_classes + 1) ** -1.0
    prior *= 3 / prior.sum()
    y_true = generator.random((num_samples, num_classes)) < np.minimum(prior, 0.6)
    logits = np.log(np.minimum(prior, 0.6)) - 1 + 1.4 * generator.normal(size=y_true.shape)
    logits[y_true] += strength + generator.normal(size=y_true.sum())
    names = [f"{'culture' if number % 3 else 'tag'}::{number}" for number in range(num_classes)]
    return y_true, (1 / (1 + np.exp(-logits))).astype(np.float32), names


def columns_of(names, group):
    return np.array([place for place, name in enumerate(names) if name.startswith(group + "::")])


def search_naively(y_true, y_prob, names, limits, beta=2.0):
    """Every pair of distinct scores, one evaluation each; limits of (culture, tag)."""
    columns = [columns_of(names, group) for group in ("culture", "tag")]
    levels = [np.append(np.unique(y_prob[:, part]), np.inf) for part in columns]
    best = -1.0
    sets = [
        [decide(y_prob[:, part], level, min_labels=fewest, max_labels=most) for level in own]
        for part, own, (fewest, most) in zip(columns, levels, limits, strict=True)
    ]
    for first, second in itertools.product(*sets):
        y_pred = np.empty(y_true.shape, bool)
        y_pred[:, columns[0]], y_pred[:, columns[1]] = first, second
        best = max(best, fbeta_samples(y_true, y_pred, beta=beta))
    return best


@pytest.fixture(params=["numpy", "numba"])
def engine(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(group_thresholds, "use_numba", lambda size: request.param == "numba")


@settings(deadline=None, max_examples=80)
@given(
    labels_and_tied_scores(),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.tuples(st.integers(0, 2), st.integers(0, 1)),
    st.tuples(st.integers(0, 2), st.integers(0, 1)),
    st.booleans(),
)
def test_pair_is_the_best_of_all_pairs(case, beta, culture, tag, compiled):
    y_true, y_prob = case
    compiled = compiled and importlib.util.find_spec("numba") is not None
    limits = [(culture[0], sum(culture)), (tag[0], sum(tag))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_thresholds, "use_numba", lambda size: compiled)
        found = search_group_thresholds(
            y_true, y_prob, NAMES, beta=beta,
            min_labels={"culture": limits[0][0], "tag": limits[1][0]},
            max_labels={"culture": limits[0][1], "tag": limits[1][1]},
        )  # fmt: skip
    assert found.certified
    assert found.score == pytest.approx(
        search_naively(y_true, y_prob, NAMES, limits, beta), abs=1e-12
    )
    assert found.score == fbeta_samples(y_true, found.decide(y_prob), beta=beta)


@pytest.mark.parametrize("num_cells", [3, 16])
@pytest.mark.parametrize("strength", [0.0, 1.0, 3.0])
def test_pair_is_cut_off_and_refined(engine, monkeypatch, strength, num_cells):
    monkeypatch.setattr(pair_search, "_NUM_CELLS", num_cells)
    y_true, y_prob, names = make_scores(60, 12, strength=strength)
    y_prob = np.round(y_prob, 2)
    found = search_group_thresholds(y_true, y_prob, names)
    expected = search_naively(y_true, y_prob, names, [(0, 8), (0, 4)])
    assert found.certified
    assert found.score == pytest.approx(expected, abs=1e-12)


def test_floor_is_used_and_certified(engine, monkeypatch):
    y_true, y_prob, names = make_scores(250, 120, strength=3.0)
    y_prob = np.round(y_prob, 2)
    floors = []
    collect = group_thresholds.collect_group_events

    def watch(case, groups, limits, floor, compiled):
        floors.append(floor)
        return collect(case, groups, limits, floor, compiled)

    monkeypatch.setattr(group_thresholds, "collect_group_events", watch)
    found = search_group_thresholds(y_true, y_prob, names, max_labels={"culture": 3})
    assert floors[-1] > y_prob.min(), "no floor was used: nothing is tested"
    expected = search_naively(y_true, y_prob, names, [(0, 3), (0, 40)])
    assert found.score == pytest.approx(expected, abs=1e-12)


def test_floor_is_lowered_until_nothing_below_can_win(engine, monkeypatch):
    y_true, y_prob, names = make_scores(120, 60, strength=0.3)
    y_prob = np.round(y_prob, 2)
    expected = search_naively(y_true, y_prob, names, [(0, 40), (0, 20)])
    choose = group_thresholds.choose_levels
    monkeypatch.setattr(
        group_thresholds, "choose_levels", lambda scores, per_row: choose(scores, per_row / 16)
    )
    found = search_group_thresholds(y_true, y_prob, names)
    assert found.score == pytest.approx(expected, abs=1e-12)


def test_a_floor_that_hides_too_much_is_lowered_as_well(monkeypatch):
    """Below the floor only a bound is known: where it never falls, the floor has to."""
    y_true, y_prob, names = make_scores(200, 60, seed=2, strength=1.0)
    expected = search_group_thresholds(y_true, y_prob, names)
    monkeypatch.setattr(pair_search, "_NUM_CELLS", 16)
    monkeypatch.setattr(pair_search, "_MAX_CELLS", 64)
    found = search_group_thresholds(y_true, y_prob, names)
    assert found.certified and expected.certified
    assert found.thresholds == expected.thresholds


@given(labels_and_tied_scores(np.float16), st.integers(0, 2))
@settings(deadline=None, max_examples=60)
def test_more_groups_end_where_no_single_step_helps(case, fewest):
    y_true, y_prob = case
    names = ["a::0", "b::1", "c::2", "a::3", "b::4", "c::5"]
    found = search_group_thresholds(y_true, y_prob, names, min_labels=fewest)
    assert not found.certified
    assert found.score == fbeta_samples(y_true, found.decide(y_prob))
    common = search_threshold(y_true, y_prob)
    if fewest == 0:
        assert found.score >= common.score - 1e-12
    for name in "abc":
        for level in np.append(np.unique(y_prob), np.inf):
            moved = dict(found.thresholds)
            moved[name] = float(level)
            other = group_thresholds.GroupThresholds(
                moved, 0.0, False, found.class_names, found.limits
            )
            assert fbeta_samples(y_true, other.decide(y_prob)) <= found.score + 1e-12


def test_named_groups_leave_the_rest_together():
    y_true, y_prob, _ = make_scores(50, 9)
    names = [f"{'xyz'[number % 3]}::{number}" for number in range(9)]
    found = search_group_thresholds(y_true, y_prob, names, groups=["y"])
    assert list(found.thresholds) == ["y", "others"] and found.certified
    two = [name.replace("z::", "x::") for name in names]
    assert found.score == search_group_thresholds(y_true, y_prob, two).score
    single = search_group_thresholds(y_true, y_prob, names, groups=[])
    assert single.thresholds == {"others": search_threshold(y_true, y_prob).threshold}
    assert single.certified


def test_both_engines_find_the_same(monkeypatch):
    pytest.importorskip("numba")
    y_true, y_prob, names = make_scores(3000, 60)
    found = []
    for compiled in (False, True):
        monkeypatch.setattr(group_thresholds, "use_numba", lambda size, use=compiled: use)
        found.append(
            search_group_thresholds(y_true, y_prob, names, min_labels={"tag": 1}, max_labels=4)
        )
    assert found[0].thresholds == found[1].thresholds
    assert found[0].score == found[1].score
    single = search_threshold(y_true, y_prob)
    assert search_group_thresholds(y_true, y_prob, names).score >= single.score


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"groups": ["culture", "period"]}, r"`groups` must be different names of: culture, tag"),
        ({"groups": ["tag", "tag"]}, "different names"),
        ({"min_labels": {"period": 1}}, "Limits of unknown groups: period. Known: culture, tag"),
        ({"min_labels": 3, "max_labels": 2}, "Limits of culture must be 0 <= fewest <= most <= 3"),
        ({"min_labels": {"tag": 4}}, "Limits of tag .* Received: min_labels=4, max_labels=3"),
        ({"beta": 0.0}, "`beta` must be positive"),
        ({"class_names": NAMES[:5]}, "one name a class, 6. Received: 5"),
        ({"y_prob": np.full((2, 6), np.nan)}, "must be finite. Received: nan in row 0, column 0"),
        ({"y_prob": np.ones((3, 6))}, "same shape"),
        ({"y_prob": top_scores(np.ones((2, 6)), 3)}, "need all scores. Received: TopScores"),
    ],
)
def test_what_is_refused(settings_, message):
    arguments = {"y_true": np.ones((2, 6)), "y_prob": np.ones((2, 6)), "class_names": NAMES}
    with pytest.raises(ValueError, match=message):
        search_group_thresholds(**{**arguments, **settings_})


def test_decide_refuses_other_classes():
    found = search_group_thresholds(np.eye(6), np.eye(6), NAMES)
    with pytest.raises(ValueError, match="must have the 6 classes"):
        found.decide(np.ones((2, 5)))
