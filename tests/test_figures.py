"""Figures draw on any axes, and their titles state what the data say."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from imetlib import figures, figures_collection, figures_decisions, figures_training
from imetlib.collection.labels import make_label_table
from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection
from imetlib.decisions.distance import DistanceProfile
from imetlib.decisions.fbeta import constant_answer, fbeta_samples
from imetlib.decisions.stability import bootstrap_threshold, find_plateau, trace_thresholds
from imetlib.decisions.thresholds import grid_search, search_threshold

pytestmark = pytest.mark.usefixtures("figure_style")


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    folder = draw_museum(tmp_path_factory.mktemp("drawn") / "museum", size=200, image_size=32)
    return read_collection(folder)


@pytest.fixture(scope="module")
def scores():
    generator = np.random.default_rng(0)
    y_true = generator.random((50, 12)) < 0.2
    logits = generator.normal(-1.5, 1, y_true.shape) + 2 * y_true
    return y_true, (1 / (1 + np.exp(-logits))).astype(np.float32)


def title(ax):
    return ax.get_title(loc="left").replace("\n", " ")


def test_labels_per_picture():
    labels = make_label_table(["a", "b", "c"], [[0], [0, 1, 2], []], 3)
    ax = figures_collection.plot_labels_per_picture(labels)
    assert title(ax) == "1.3 attributes a picture, at most 3, 33% without any"
    assert [round(bar.get_height()) for bar in ax.patches] == [33, 33, 0, 33]


def test_long_tail_counts_the_rare():
    ax = figures_collection.plot_long_tail(np.array([100, 50, 9, 1, 0]))
    assert title(ax).startswith("3 of 5 attributes have fewer than 10 pictures; 1 hold")


def test_shares_of_groups_sum_to_one(museum):
    for group in museum.groups:
        assert figures_collection.shares_of_group(museum, group).sum() == pytest.approx(1)
    dense = museum.train.dense()[:, museum.groups["culture"]].sum(axis=1)
    shares = figures_collection.shares_of_group(museum, "culture")
    assert shares[1] == pytest.approx((dense == 1).mean())
    assert "have no culture" in title(figures_collection.plot_groups(museum))


def test_counts_together_equal_the_matrix_product(museum):
    columns = np.array([1, 5, 40, 60])
    dense = museum.train.dense(dtype=np.int64)[:, columns]
    assert (figures_collection.count_together(museum.train, columns) == dense.T @ dense).all()


def test_cooccurrence_names_the_strongest_pair(museum):
    ax = figures_collection.plot_cooccurrence(museum, num_attributes=6)
    assert "too," in title(ax)
    assert len(ax.get_xticklabels()) == 6


def test_sizes_state_the_longest_strip():
    ax = figures_collection.plot_sizes(np.array([300, 300, 7531]), np.array([300, 400, 300]))
    assert title(ax).endswith("the longest strip is 1 : 25.1")


def test_pictures_of_any_shape():
    images = [np.zeros((20, 500, 3), np.uint8), np.full((90, 30, 3), 255, np.uint8)] * 2
    axes = figures.plot_pictures(images, ["a", "b\nc", "", "d"], columns=3)
    assert axes.shape == (2, 3)
    assert sum(len(ax.images) for ax in axes.flat) == 4
    assert not any(ax.axison for ax in axes.flat)


def test_labelled_pictures_and_pairs(museum):
    axes = figures_collection.plot_labelled_pictures(museum, [0, 1, 2], columns=2)
    first = museum.class_names[museum.train.row(0)[0]].split("::")[1]
    assert axes[0, 0].get_title().startswith(first[:12])
    pairs = np.array([[0, 1], [2, 3], [4, 5]])
    axes = figures_collection.plot_pairs(museum, pairs, ["x", "y", "z"], finding="three")
    assert axes.shape == (2, 3)
    assert axes[0, 2].get_title() == "z"


def test_constant_answer_marks_both_optima(museum):
    answer = constant_answer(museum.train)
    ax = figures_collection.plot_constant_answer(answer, np.roll(answer.scores, 3))
    best = len(answer.columns)
    assert title(ax).startswith(f"The {best} most frequent")
    assert title(ax).endswith(f"with {best + 3}")


def test_threshold_figures(scores):
    search = search_threshold(*scores)
    plateau = find_plateau(search)
    ax = figures.plot_threshold_curve(search, plateau, grid=grid_search(*scores))
    assert f"peaks at {search.threshold:.3f}" in title(ax)
    curves = trace_thresholds(*scores, np.linspace(0.01, 0.9, 40))
    assert "F2 pays" in title(figures.plot_precision_recall(curves, search.threshold))
    draws = bootstrap_threshold(curves, num_resamples=50)
    low, high = draws.threshold_interval
    ax = figures.plot_threshold_draws(draws, search.threshold)
    assert f"choose {low:.3f} to {high:.3f}" in title(ax)


def test_figures_of_answers():
    ax = figures.plot_per_sample_scores(np.array([0, 0.5, 1, 1]), np.array([0, 0, 0.2, 0.4]))
    assert title(ax).startswith("25% of the pictures get no label right, 50% under")
    ax = figures.plot_label_counts(np.array([1, 3]), np.array([4, 6]))
    assert title(ax) == "5.0 labels decided a picture where 2.0 are true"


def test_figures_use_the_axes_they_are_given(scores):
    ax = plt.subplots()[1]
    assert figures.plot_label_counts(np.array([1]), np.array([2]), ax=ax) is ax


def test_training_figures_show_runs_and_floor(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,val_f2\n0,0.2\n1,0.5\n")
    history = figures_training.read_history(path)
    ax = figures_training.plot_history({"net": history})
    assert ax.lines[0].get_ydata().tolist() == [0.2, 0.5]
    rows = [{"epoch": 1, "val_f2": 0.3, "val_accuracy": 0.9}]
    ax = figures_training.plot_history({"net": rows}, score="val_accuracy", label="top-1")
    assert ax.lines[0].get_ydata().tolist() == [0.9] and ax.get_ylabel() == "top-1"
    table = pd.DataFrame(
        {
            "run": ["a", "b"],
            "phase": ["frozen", "fine-tuned"],
            "score": [0.5, 0.6],
            "interval": [[0.45, 0.55], [0.5, 0.7]],
            "constant_score": [0.3, 0.3],
            "macs": [2e6, 4e8],
        }
    )
    ax = figures_training.plot_scores(table)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert any("constant answer 0.300" in text.get_text() for text in ax.texts)
    ax = figures_training.plot_cost(table)
    assert [text.get_text() for text in ax.texts] == ["a", "b", "constant answer 0.300"]
    assert ax.get_xscale() == "log" and floors(ax) == [0.3]
    assert ax.get_legend_handles_labels()[1] == ["fine-tuned", "frozen"]
    drawn = {}
    for points, _, (bars,) in ax.containers:
        ((macs, score),) = points.get_xydata().tolist()
        drawn[macs] = (score, bars.get_segments()[0][:, 1].tolist())
    assert drawn[2.0][0] == 0.5 and drawn[400.0][0] == 0.6
    np.testing.assert_allclose([drawn[2.0][1], drawn[400.0][1]], table["interval"].tolist())


def floors(ax):
    """Heights of dashed lines across the whole axes."""
    return [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"]


def test_phases_join_the_scores_of_a_seed():
    phases = {"frozen": [0.4, 0.5], "fine-tuned": [0.6, 0.8], "from scratch": [0.3, 0.2]}
    ax = figures_training.plot_phases(phases, 0.25)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(phases)
    drawn = [line.get_ydata() for line in ax.lines[:3]]
    np.testing.assert_allclose(drawn, [[0.4, 0.6, 0.3], [0.5, 0.8, 0.2], [0.45, 0.7, 0.25]])
    assert floors(ax) == [0.25]
    assert ax.get_legend_handles_labels()[1] == ["one seed", "mean"]
    with pytest.raises(ValueError, match=r"shorter|longer"):
        figures_training.plot_phases({"frozen": [0.4, 0.5], "fine-tuned": [0.6]}, 0.25)


def test_differences_stand_in_order_with_their_intervals():
    differences = {
        "pad": {"difference": 0.02, "interval": [-0.01, 0.04]},
        "focal": {"difference": -0.05, "interval": [-0.08, -0.01]},
    }
    ax = figures_training.plot_differences(differences)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["focal", "pad"]
    points, _, (bars,) = ax.containers[0]
    assert points.get_xdata().tolist() == [-0.05, 0.02]
    spans = [segment[:, 0].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(spans, [[-0.08, -0.01], [-0.01, 0.04]])


def test_reported_figures_stand_beside_the_floors():
    floors = {"per sample": 0.2084, "micro": 0.2163}
    ax = figures_training.plot_reported({"ours": 0.55, "theirs": 0.202}, floors)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["theirs", "ours"]
    assert [bar.get_width() for bar in ax.patches] == [0.202, 0.55]
    assert [line.get_xdata()[0] for line in ax.lines] == [0.2084, 0.2163]
    assert ax.get_legend_handles_labels()[1] == ["per sample, 0.2084", "micro, 0.2163"]


def test_a_search_shows_trials_best_and_failures():
    trials = [
        {"number": 0, "state": "complete", "score": 0.5},
        {"number": 1, "state": "failed", "score": float("nan")},
        {"number": 2, "state": "complete", "score": 0.4},
        {"number": 3, "state": "complete", "score": 0.7},
    ]
    ax = figures_training.plot_search(trials)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["best so far"].get_ydata().tolist() == [0.5, 0.5, 0.5, 0.7]
    assert lines["trial"].get_xydata().tolist() == [[0, 0.5], [2, 0.4], [3, 0.7]]
    assert lines["the profile's own settings"].get_xdata().tolist() == [0]
    assert lines["failed"].get_xdata().tolist() == [1]
    whole = figures_training.plot_search([trials[0], trials[3]])
    assert "failed" not in whole.get_legend_handles_labels()[1]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("plot_phases", ({"frozen": [0.4]}, 0.2)),
        ("plot_differences", ({"pad": {"difference": 0.1, "interval": [0.0, 0.2]}},)),
        ("plot_reported", ({"ours": 0.5}, {"floor": 0.2})),
        ("plot_search", ([{"number": 0, "state": "failed", "score": float("nan")}],)),
    ],
)
def test_training_figures_use_the_axes_they_are_given(name, arguments):
    ax = plt.subplots()[1]
    assert getattr(figures_training, name)(*arguments, ax=ax) is ax
    ax.figure.canvas.draw()


def gains(name, *gains, scores):
    """A table of rules or steps: (gain, gain_low, gain_high) each, the first one without."""
    table = pd.DataFrame(gains, columns=["gain", "gain_low", "gain_high"])
    return table.assign(**{name: [*"abcdef"[: len(table)]], "score": scores})


RULES = gains(
    "rule", (0.0, 0.0, 0.0), (-0.03, -0.04, -0.01), (0.02, 0.005, 0.03), (0.03, -0.01, 0.05),
    scores=[0.4, 0.37, 0.42, 0.43],
)  # fmt: skip
STEPS = gains(
    "step", (0.0, 0.0, 0.0), (0.05, 0.02, 0.07), (-0.01, -0.02, 0.01), scores=[0.4, 0.45, 0.44]
).assign(low=0.37, high=0.47, total=0.04, total_low=0.01, total_high=0.06)


def test_rules_stand_in_order_of_their_gains():
    ax = figures_decisions.plot_rules(RULES, chosen="c")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a", "c (chosen)", "d"]
    (points,) = [item for item in ax.collections if len(item.get_offsets()) == 4]
    np.testing.assert_allclose(points.get_offsets()[:, 0], [-0.03, 0, 0.02, 0.03])
    lines = next(item for item in ax.collections if hasattr(item, "get_segments"))
    spans = [segment[:, 0].tolist() for segment in lines.get_segments()]
    np.testing.assert_allclose(spans, [[-0.04, -0.01], [0, 0], [0.005, 0.03], [-0.01, 0.05]])
    assert [text.get_text() for text in ax.texts] == ["0.370", "0.400", "0.420", "0.430"]
    assert title(ax) == (
        "1 of 3 rules are surely better than the a, 1 surely worse; most F2 has d, +0.030"
    )
    assert figures_decisions.plot_rules(RULES[:1]).get_title(loc="left") == ""


def test_steps_start_where_the_one_before_ended():
    ax = figures_decisions.plot_steps(STEPS)
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    np.testing.assert_allclose(spans, [(0.4, 0.4), (0.4, 0.45), (0.45, 0.44), (0.4, 0.44)])
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["a", "b", "c", "all together"]
    intervals = [
        segment[:, 0].tolist()
        for item in ax.collections
        for segment in item.get_segments()
        if segment[0, 1] == segment[1, 1]
    ]
    wanted = [(0.37, 0.47), (0.42, 0.47), (0.43, 0.46), (0.41, 0.46)]
    np.testing.assert_allclose(intervals, wanted)
    assert [text.get_text() for text in ax.texts] == ["0.400", "+0.050", "-0.010", "+0.040"]
    assert title(ax) == (
        "All steps together change F2 by +0.040 (+0.010 to +0.060), the most by b, +0.050"
    )


def test_distances_are_bars_as_wide_as_their_bins():
    profile = DistanceProfile(np.array([0.1, 0.2, 0.6]), np.array([0.5, 0.25]), np.array([7, 1200]))
    ax = figures_decisions.plot_distance_profile(profile)
    assert title(ax) == "The nearest pictures score 0.500, the farthest 0.250"
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [0.1, 0.4])
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.25]
    assert [text.get_text() for text in ax.texts] == ["7", "1,200"]


def test_label_sets_of_some_pictures(scores):
    names = [f"tag::{letter}" for letter in "abcdefghijkl"]
    pictures = [np.zeros((40, 30, 3), np.uint8)] * 2
    axes = figures_decisions.plot_label_sets(*scores, names, [0.001, 0.3, 0.999], [4, 7], pictures)
    assert axes.shape == (2, 4)
    assert [len(ax.images) for ax in axes[:, 0]] == [1, 1]
    y_true, y_prob = scores
    assert f"F2 {fbeta_samples(y_true, y_prob >= 0.3):.3f}" in title(axes[0, 2])
    # All labels are decided: six are shown. None is: only the missing ones are left.
    assert [len(ax.texts) for ax in axes[:, 1]] == [7, 7]
    assert axes[0, 1].texts[-1].get_text() == "and 6 more"
    assert [len(ax.texts) for ax in axes[:, 3]] == y_true[[4, 7]].sum(axis=1).tolist()
    assert all(text.get_text()[0] == "–" for ax in axes[:, 3] for text in ax.texts)
    assert "0.300 serves F2 best" in axes[0, 0].figure.get_suptitle()


@pytest.mark.parametrize("form", ["dense", "ragged", "table"])
def test_labels_are_judged_one_by_one(scores, form):
    y_true, y_prob = scores
    columns = [np.flatnonzero(row) for row in y_true]
    ids = [str(row) for row in range(len(y_true))]
    given = {"dense": y_true, "ragged": columns, "table": make_label_table(ids, columns, 12)}[form]
    names = [f"tag::{column}" for column in range(12)]
    for row in range(len(y_true)):
        found = figures_decisions.judge_labels(given, y_prob, names, row, 0.25)
        decided = {column for column in range(12) if y_prob[row, column] >= np.float32(0.25)}
        true = set(columns[row])
        wanted = {"right": decided & true, "missing": true - decided, "wrong": decided - true}
        for kind, names_found in found.items():
            assert {int(name) for name in names_found} == wanted[kind]
            values = [y_prob[row, int(name)] for name in names_found]
            assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("plot_rules", RULES),
        ("plot_steps", STEPS),
        (
            "plot_distance_profile",
            DistanceProfile(np.array([0.1, 0.2]), np.array([0.5]), np.array([3])),
        ),
    ],
)
def test_decision_figures_use_the_axes_they_are_given(name, argument):
    ax = plt.subplots()[1]
    assert getattr(figures_decisions, name)(argument, ax=ax) is ax
    ax.figure.canvas.draw()
