"""Figures of attention draw what they are given, and their titles state what the data say."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

from imetlib import figures_attention, figures_networks
from imetlib.collection.motifs import Motifs
from imetlib.figures_diagrams import Arrow, Box, darken, plot_network
from imetlib.localisation import summarise_seeds

pytestmark = pytest.mark.usefixtures("figure_style")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 24, 16, 3), dtype=np.uint8)


def finding(axes):
    figure = axes.flat[0].figure
    figure.canvas.draw()
    return figure.get_suptitle().replace("\n", " ")


def boxes_of(ax):
    return [patch.get_bbox().extents.tolist() for patch in ax.patches]


def test_attention_states_how_many_maxima_hit(images):
    maps = np.zeros((3, 2, 2))
    maps[0, 0, 0] = maps[1, 1, 1] = maps[2, 0, 1] = 1
    left, right = (0, 0, 0.5, 1), (0.5, 0, 1, 1)
    motifs = Motifs(
        np.arange(3), np.arange(3), np.array([0, 1, 2, 2]), np.array([left, left, left, right])
    )
    titles = ["a", "b\nc", "d"]
    axes = figures_attention.plot_attention(images, maps, motifs=motifs, titles=titles, columns=2)
    assert finding(axes) == (
        "The maximum lies in a motif in 2 of 3 pictures; blind points would in 2.0"
    )
    assert axes.shape == (2, 2) and not axes[1, 1].axison
    assert [len(boxes_of(ax)) for ax in axes.flat] == [1, 1, 2, 0]
    assert boxes_of(axes[0, 0]) == [list(left)]
    crosses = [ax.lines[0].get_xydata()[0].tolist() for ax in axes.flat[:3]]
    assert crosses == [[0.25, 0.25], [0.75, 0.75], [0.75, 0.25]]
    assert [ax.get_title() for ax in axes.flat[:3]] == titles
    picture, drawn = axes[0, 0].images
    assert picture.get_array().shape == (24, 16) and drawn.get_array().max() == 1


def test_attention_without_motifs_states_how_narrow_it_is(images):
    narrow, even = np.zeros((4, 5)), np.ones((4, 5))
    narrow[1, 2] = 3
    axes = figures_attention.plot_attention(images[:1], narrow[None], columns=1)
    assert finding(axes) == "Half of the attention lies on 5% of a picture"
    axes = figures_attention.plot_attention(images[:1], even[None], columns=1)
    assert finding(axes) == "Half of the attention lies on 50% of a picture"


def test_pictures_of_different_sizes_and_maps_of_any_scale():
    images = [np.zeros((600, 180, 3), np.uint8), np.full((40, 200, 3), 255, np.uint8)]
    maps = np.random.default_rng(0).normal(-1e3, 1e-2, (2, 3, 3))
    axes = figures_attention.plot_attention(images, maps, columns=2)
    finding(axes)
    assert axes[0, 0].images[0].get_array().shape == (427, 128)
    assert axes[0, 1].images[0].get_array().shape == (40, 200)
    for ax in axes.flat:
        scaled = ax.images[1].get_array()
        assert (scaled.min(), scaled.max()) == (0, 1)


def test_parts_have_a_row_each_and_their_maxima_a_number(images):
    masks = np.zeros((2, 4, 4, 3))
    for picture, places in enumerate([[(0, 0), (0, 2), (0, 0)], [(1, 1), (1, 1), (1, 1)]]):
        for part, place in enumerate(places):
            masks[picture, *place, part] = 1
    axes = figures_attention.plot_parts(images[:2], masks)
    assert axes.shape == (4, 2)
    # Two places and one; the three pairs are 0.5, 0.5 and 0 apart, then not at all.
    assert finding(axes) == (
        "3 parts have their maxima at 1.5 places of a picture, 0.17 of its side apart"
    )
    assert [text.get_text() for text in axes[0, 0].texts] == ["1", "2", "3"]
    assert [text.get_text() for text in axes[2, 1].texts] == ["2"]
    assert axes[2, 0].lines[0].get_xydata().tolist() == [[0.625, 0.125]]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["", "part 1", "part 2", "part 3"]
    one = figures_attention.plot_parts(images[:1], masks[:1, ..., :1] * 0)
    assert finding(one) == "1 parts have their maxima at 1.0 places of a picture"


def test_glimpses_are_numbered_in_order_and_joined(images):
    rectangles = np.array([[(0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1)], [(-1, 0, 0.5, 1), (0, 0, 1, 1)]])
    labels = [["", "birds"], ["fish", ""]]
    axes = figures_attention.plot_glimpses(images[:2], rectangles, labels=labels, columns=2)
    assert finding(axes) == (
        "A glimpse sees 50% of the picture, all 2 together 75%; from one to the next it moves by "
        "0.38 of the side"
    )
    first = axes[0, 0]
    assert boxes_of(first) == rectangles[0].tolist()
    assert boxes_of(axes[0, 1])[0] == [0, 0, 0.5, 1]
    assert [text.get_text() for text in first.texts] == ["1", "", "2", "birds"]
    assert first.lines[0].get_xydata().tolist() == [[0.25, 0.25], [0.25, 0.75]]
    thin, thick = (patch.get_linewidth() for patch in first.patches)
    assert thin < thick
    one = figures_attention.plot_glimpses(images[:1], rectangles[:1, :1], columns=1)
    assert finding(one) == "A glimpse sees 25% of the picture"


def title(ax):
    ax.figure.canvas.draw()
    return ax.get_title(loc="left").replace("\n", " ")


def test_localisation_shows_seeds_and_references():
    table = summarise_seeds({"mask": [0.5, 0.7], "untrained": 0.2})
    ax = figures_attention.plot_localisation(table, references={"centre": 0.8, "chance": 0.25})
    assert title(ax) == "Best: mask, 0.60, above chance in every seed"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["mask", "untrained"]
    points = [line.get_xydata().tolist() for line in ax.lines[:4]]
    assert points == [[[0.5, 1], [0.7, 1]], [[0.6, 1]], [[0.2, 0]], [[0.2, 0]]]
    (bar,) = ax.collections[0].get_segments()
    np.testing.assert_allclose(bar[:, 0], 0.6 + np.array([-1, 1]) * np.sqrt(0.02))
    assert [line.get_xdata()[0] for line in ax.lines[4:]] == [0.25, 0.8]
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["0.60", "0.20", "chance 0.25", "centre 0.80"]
    assert title(figures_attention.plot_localisation(table)) == "Best: mask, 0.60"
    low = figures_attention.plot_localisation(table, references={"centre": 0.9})
    assert title(low) == "Best: mask, 0.60, above no reference in every seed"
    spread = figures_attention.plot_localisation(table, references={"chance": 0.55})
    assert title(spread) == "Best: mask, 0.60, above no reference in every seed"
    given = plt.subplots()[1]
    assert figures_attention.plot_localisation(table, ax=given) is given


def test_arrows_run_from_edge_to_edge():
    boxes = {
        "a": Box(1, 1, "one", width=1, height=0.5),
        "b": Box(3, 1, "two", width=1, height=0.5),
        "c": Box(3, 3, "×", width=0, height=0.4),
    }
    arrows = [Arrow("a", "b", "on"), Arrow("b", "c"), Arrow("a", "c", through=((1, 3),))]
    ax = plot_network(boxes, arrows, title="Three")
    ax.figure.canvas.draw()
    drawn = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    ends = [patch._path_original.vertices.tolist() for patch in drawn]
    np.testing.assert_allclose(ends[0], [(1.5, 1), (2.5, 1)])
    np.testing.assert_allclose(ends[1], [(3, 1.25), (3, 2.8)])
    np.testing.assert_allclose(ends[2], [(1, 1.25), (1, 3), (2.8, 3)])
    assert [text.get_text() for text in ax.texts] == ["on", "one", "two", "×"]
    assert ax.get_xlim() == pytest.approx((0.38, 3.62))
    assert ax.get_ylim() == pytest.approx((0.63, 3.32))
    assert not ax.axison and ax.get_aspect() == 1
    with pytest.raises(ValueError, match=r"Arrows need boxes. Received: d; known are a, b, c"):
        plot_network(boxes, [Arrow("a", "d")])


def test_a_box_may_hold_a_picture():
    boxes = {"a": Box(1, 1, "map", width=1, height=1, image=np.eye(3))}
    ax = plot_network(boxes, [])
    assert ax.images[0].get_extent() == [0.5, 1.5, 0.5, 1.5]
    # The label stands below, so the axes reach further down.
    assert ax.get_ylim() == pytest.approx((0.14, 1.62))
    assert darken("white", 0.25) == (0.75, 0.75, 0.75)


@pytest.mark.parametrize("name", ["residual", "multi", "recurrent"])
def test_networks_fit_a_page_and_nothing_overlaps(name):
    ax = getattr(figures_networks, f"plot_{name}_attention")()
    width, height = ax.figure.get_size_inches()
    assert 7 < width < 9 and height < 4.5
    ax.figure.canvas.draw()
    renderer = ax.figure.canvas.get_renderer()
    texts = [text for text in ax.texts if text.get_text()]
    places = [text.get_window_extent(renderer) for text in texts]
    frame = ax.get_window_extent(renderer).padded(1)
    for number, place in enumerate(places):
        assert frame.contains(place.x0, place.y0) and frame.contains(place.x1, place.y1)
        for other, label in zip(places[:number], texts[:number], strict=True):
            assert not place.shrunk(0.9, 0.7).overlaps(other.shrunk(0.9, 0.7)), (
                texts[number].get_text(), label.get_text(),
            )  # fmt: skip


def test_networks_draw_on_the_axes_they_are_given():
    ax = plt.subplots(figsize=(9, 4))[1]
    assert figures_networks.plot_recurrent_attention(ax=ax) is ax
    regions = [patch for patch in ax.patches if type(patch) is Rectangle]
    # Two frames of pictures and the four motifs of the example.
    assert len(regions) == 6
