"""Figures of one attribute and of one inspected picture state what their data say."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from imetlib import figures_attributes
from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection
from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.inspection import Inspection, Neighbour, shown_columns
from imetlib.figures_inspection import plot_inspection, plot_probabilities

pytestmark = pytest.mark.usefixtures("figure_style")

NAMES = ("culture::roman", "tag::birds", "tag::men", "tag::vases", "tag::waves")


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    folder = draw_museum(tmp_path_factory.mktemp("drawn") / "museum", size=200, image_size=32)
    return read_collection(folder)


def title(ax):
    return ax.get_title(loc="left").replace("\n", " ")


def make_inspection(**changes):
    picture = np.full((30, 20, 3), 90, np.uint8)
    values = {
        "id": "a1",
        "picture": picture,
        "class_names": NAMES,
        "y_prob": np.array([0.02, 0.9, 0.3, 0.001, 0.05], np.float32),
        "y_pred": np.array([False, True, True, False, False]),
        "y_true": np.array([False, True, False, True, False]),
        "maps": {"tag::birds": np.eye(3), "part 1": np.ones((3, 3))},
        "seen": picture,
        "neighbours": [Neighbour("b2", picture, np.array([1, 2]), 0.75)],
    }
    return Inspection(**{**values, **changes})


# One attribute ----------------------------------------------------------------------------------


def test_attribute_shows_its_pictures_place_and_companions(museum):
    counts = museum.train.counts()
    column = int(np.argmax(counts))
    axes = figures_attributes.plot_attribute(museum, museum.class_names[column], num_pictures=3)
    assert list(axes) == ["picture 1", "picture 2", "picture 3", "place", "companions"]
    assert all(axes[f"picture {number}"].images for number in (1, 2, 3))
    group, short = museum.class_names[column].split("::")
    own = len(museum.groups[group])
    wanted = f"{short} is number 1 of {own} in {group}: {counts[column]} pictures, "
    assert title(axes["place"]).startswith(wanted)
    suptitle = axes["place"].figure.get_suptitle()
    assert suptitle == f"3 of the {counts[column]} pictures with {museum.class_names[column]}"


def test_companions_are_the_counts_of_the_dense_table(museum):
    column = int(np.argmax(museum.train.counts()))
    dense = museum.train.dense(dtype=np.int64)
    together = dense[:, column] @ dense
    together[column] = 0
    ax = figures_attributes.plot_companions(museum, column, num_companions=4)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == sorted(together, reverse=True)[:4]
    best = int(np.argmax(together))
    share = together[best] / dense[:, column].sum()
    lift = share / dense[:, best].mean()
    assert f"{share:.0%} of the pictures with" in title(ax)
    assert f"{lift:.1f} times as many as by chance" in title(ax)


def test_examples_have_the_attribute_and_another_draw_has_others(museum):
    column = int(np.argmax(museum.train.counts()))
    first, again, other = (
        figures_attributes.example_rows(museum, column, 6, draw) for draw in (0, 0, 1)
    )
    assert first.tolist() == again.tolist() != other.tolist()
    assert museum.train.dense(other)[:, column].all()


def test_rare_and_absent_attributes(museum):
    counts = museum.train.counts()
    rare = int(np.argmin(np.where(counts > 0, counts, 10**6)))
    axes = figures_attributes.plot_attribute(museum, rare)
    shown = sum(bool(axes[f"picture {number + 1}"].images) for number in range(6))
    assert shown == min(6, counts[rare])
    without = read_collection(museum.root).without(
        museum.train.ids[figures_attributes.rows_with(museum.train, rare)]
    )
    axes = figures_attributes.plot_attribute(without, rare)
    assert title(axes["companions"]).startswith("No picture has ")
    assert axes["place"].figure.get_suptitle().startswith("No picture with")


def test_matches_are_counted_by_group(museum):
    dense = museum.train.dense()
    columns = np.concatenate([museum.groups["culture"][:2], museum.groups["tag"][:1]])
    have = dense[:, columns].any(axis=1).sum()
    text = figures_attributes.say_matches(museum, columns)
    assert text == f"3 attributes (2 culture, 1 tag) in {have} pictures"


def test_an_unknown_attribute_is_refused_before_anything_is_drawn(museum):
    before = plt.get_fignums()
    with pytest.raises(ValueError, match=r"No attribute is named 'brids'.*Near: "):
        figures_attributes.plot_attribute(museum, "brids")
    with pytest.raises(ValueError, match=r"column in 0\.\.\d+\. Received: -1"):
        figures_attributes.plot_attribute(museum, -1)
    assert plt.get_fignums() == before


# One picture ------------------------------------------------------------------------------------


def test_verdicts_and_score_are_those_of_the_definition():
    inspection = make_inspection()
    verdicts = [inspection.verdict(column) for column in range(5)]
    assert verdicts == ["", "right", "wrong", "missing", ""]
    score = fbeta_samples(inspection.y_true[None], inspection.y_pred[None])
    ax = plot_probabilities(inspection)
    assert title(ax) == f"1 of 2 true attributes found, 1 wrong: F2 {score:.2f}"
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["+ birds", "× men", "  waves", "  roman", "– vases"]


def test_chosen_and_true_attributes_come_before_probable_ones():
    inspection = make_inspection()
    assert shown_columns(inspection, 3).tolist() == [1, 2, 3]
    assert shown_columns(inspection, 4).tolist() == [1, 2, 4, 3]
    assert shown_columns(inspection, 99).tolist() == [1, 2, 4, 0, 3]


def test_without_truth_nothing_is_judged():
    axes = plot_inspection(make_inspection(y_true=None))
    assert title(axes["probabilities"]) == "2 attributes chosen; the surest is birds, 0.90"
    names = [label.get_text() for label in axes["probabilities"].get_yticklabels()]
    assert names[:2] == ["+ birds", "+ men"]


def test_every_map_and_neighbour_has_its_axes():
    axes = plot_inspection(make_inspection())
    assert list(axes) == ["picture", "probabilities", "map 1", "map 2", "neighbour 1"]
    assert axes["map 1"].get_title() == "speaks for birds"
    assert axes["map 2"].get_title() == "part 1"
    assert axes["neighbour 1"].get_title() == "cosine 0.75, 1 of 2 shared\nbirds"
    assert len(axes["map 1"].images) == 2 and len(axes["neighbour 1"].images) == 1
    many = {f"part {part}": np.eye(2) for part in range(1, 8)}
    assert "map 7" in plot_inspection(make_inspection(maps=many))
    assert list(plot_inspection(make_inspection(maps={}, neighbours=()))) == list(axes)[:2]


def test_probabilities_of_zero_have_a_place():
    inspection = make_inspection(y_prob=np.zeros(5, np.float32))
    ax = plot_probabilities(inspection)
    assert np.isfinite(ax.get_xlim()).all() and ax.get_xlim()[0] > 0


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"`y_pred` must have one entry a class, 5\..*\(4,\)"):
        make_inspection(y_pred=np.zeros(4, bool))
    with pytest.raises(ValueError, match="`maps` need `seen`"):
        make_inspection(seen=None)
