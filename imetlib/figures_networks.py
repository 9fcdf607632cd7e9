"""Diagrams of the attention networks: what goes where. Style: `imetlib.figures`.

The pictures and maps in them are examples: a picture of the pocket museum, and maps painted
around its motifs. Nothing in them is computed by a network.
"""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from imetlib.collection.museum import draw_picture, motif_boxes, picture_spec
from imetlib.figures import BLUE, GOLD, GREEN
from imetlib.figures_attention import PART_COLOURS
from imetlib.figures_diagrams import DARK, Arrow, Box, darken, plot_network

# A book with four different motifs.
_EXAMPLE = picture_spec(0, 1654)
_EXAMPLE_SIDE = 96
# The palette's gold is too pale for lines and letters.
_OCHRE = "#a8741a"
_PURPLE = "#7d5ba6"


def plot_residual_attention(*, ax=None):
    """One attention module of the Residual Attention Network: trunk and soft mask branch.

    The mask branch is that of the module with two poolings.

    Returns:
        Axes.
    """
    trunk, mask = {"colour": BLUE}, {"colour": GOLD}
    boxes = {
        "x": Box(0.5, 1.8, "picture", 0.8, 0.8, image=_example()),
        "first": Box(1.6, 1.8, "residual\nunit", 0.8, 0.5, **trunk),
        "trunk1": Box(3.2, 2.55, "residual unit", 1.2, 0.38, **trunk),
        "trunk2": Box(4.8, 2.55, "residual unit", 1.2, 0.38, **trunk),
        "down1": Box(2.75, 0.95, "pool\nunit", 0.62, 0.8, **mask),
        "down2": Box(3.6, 0.95, "pool\n2 units", 0.62, 0.5, **mask),
        "up": Box(4.45, 0.95, "resize\nunit", 0.62, 0.8, **mask),
        "last_up": Box(5.35, 0.95, "resize\n1x1 conv.\n1x1 conv.", 0.74, 1.1, **mask),
        "sigmoid": Box(6.12, 0.95, "σ", 0, 0.34, **mask),
        "m": Box(6.9, 0.95, "mask M", 0.8, 0.8, image=_example_map(range(4)), **mask),
        "times": Box(6.9, 2.55, "×", 0, 0.32),
        "plus": Box(7.5, 2.55, "+", 0, 0.32),
        "last": Box(8.2, 1.8, "residual\nunit", 0.8, 0.5, **trunk),
    }
    masked = ("down1", "down2", "up", "last_up", "sigmoid", "m", "times")
    arrows = [
        Arrow("x", "first"),
        Arrow("first", "trunk1", through=((2.2, 1.8), (2.2, 2.55))),
        Arrow("first", "down1", through=((2.2, 1.8), (2.2, 0.95))),
        Arrow("trunk1", "trunk2", colour=BLUE),
        Arrow("trunk2", "times", "trunk T", colour=BLUE),
        Arrow("trunk2", "plus", through=((6.5, 2.55), (6.5, 3.0), (7.5, 3.0)), colour=BLUE),
        *(Arrow(*pair, colour=_OCHRE) for pair in itertools.pairwise(masked)),
        Arrow(
            "down1", "up", "skip: unit, sum", through=((2.75, 0.28), (4.45, 0.28)), colour=_OCHRE
        ),
        Arrow("times", "plus"),
        Arrow("plus", "last", "(1 + M) T", through=((8.2, 2.55),)),
    ]
    title = (
        "Residual attention: a mask from a wide view strengthens places; the trunk always passes"
    )
    return plot_network(boxes, arrows, title=title, ax=ax)


def plot_multi_attention(*, ax=None):
    """The Multi-Attention CNN: channels grouped into parts, with features of their own.

    Returns:
        Axes.
    """
    channels = [np.pad(_example_map([number]), 4, constant_values=1) for number in (1, 0, 2, 3)]
    boxes = {
        "x": Box(0.5, 1.75, "picture", 0.8, 0.8, image=_example()),
        "cnn": Box(1.5, 1.75, "CNN", 0.62, 0.5, colour=BLUE),
        "f": Box(
            2.55, 1.75, "channels F", 0.86, 0.86, image=np.block([channels[:2], channels[2:]]),
            colour=BLUE,
        ),
        "mean": Box(2.55, 0.4, "mean over\nplaces", 0.86, 0.5, colour=BLUE),
        "all": Box(8.2, 1.75, "logits", 0.66, 0.5, colour=GREEN),
    }  # fmt: skip
    arrows = [Arrow("x", "cnn"), Arrow("cnn", "f"), Arrow("f", "mean")]
    for part, colour in enumerate(PART_COLOURS[:4]):
        y, dark = 3.1 - 0.9 * part, darken(colour, 0.35)
        weights, mask, features = (f"{kind}{part}" for kind in "dmp")
        i = f"$_{part + 1}$"
        boxes[weights] = Box(3.9, y, f"dense, tanh,\ndense, σ: d{i}", 1.0, 0.5, colour=dark)
        image = _example_map([part])
        boxes[mask] = Box(5.35, y, f"M{i} from Σ d{i} F", 0.6, 0.6, image=image, colour=dark)
        boxes[features] = Box(6.7, y, f"P{i} = Σ F M{i}", 1.1, 0.4, colour=dark)
        arrows += [
            Arrow("mean", weights, through=((3.2, 0.4), (3.2, y))),
            Arrow(weights, mask, colour=dark),
            Arrow(mask, features, colour=dark),
            Arrow(features, "all", through=((7.5, y), (7.5, 1.75)), colour=dark),
        ]
    title = "Multi-attention: channels that peak together are a part; each part has its features"
    return plot_network(boxes, arrows, title=title, ax=ax)


def plot_recurrent_attention(*, ax=None):
    """Recurrent attention (RDAR): a spatial transformer and an LSTM in a loop.

    Returns:
        Axes.
    """
    boxes = {
        "x": Box(0.7, 1.9, "picture, 4 regions", 1.2, 1.2, image=_example()),
        "cnn": Box(1.95, 1.9, "CNN", 0.62, 0.5, colour=BLUE),
        "st": Box(3.3, 1.9, "spatial\ntransformer", 1.0, 0.6, colour=GOLD),
        "f": Box(4.6, 1.9, "region f$_k$", 0.72, 0.72, image=_example(1), colour=GOLD),
        "lstm": Box(5.85, 1.9, "LSTM", 0.8, 0.6, colour=_PURPLE),
        "s": Box(7.15, 1.9, "scores s$_k$", 0.9, 0.44, colour=GREEN),
        "max": Box(8.25, 1.9, "largest\nover k", 0.7, 0.5, colour=GREEN),
        "m": Box(4.6, 0.7, "next region (s$_x$, s$_y$, t$_x$, t$_y$)", 2.0, 0.42, colour=GOLD),
    }
    arrows = [
        Arrow("x", "cnn"),
        Arrow("cnn", "st", "map"),
        Arrow("st", "f"),
        Arrow("f", "lstm"),
        Arrow("lstm", "s"),
        Arrow("s", "max"),
        Arrow("lstm", "m", through=((5.85, 0.7),), colour=_OCHRE),
        Arrow("m", "st", through=((3.3, 0.7),), colour=_OCHRE),
        Arrow(
            "lstm", "lstm", "h, c of step k − 1", through=((5.6, 2.6), (6.1, 2.6)), colour=_PURPLE
        ),
    ]
    title = "Recurrent attention: step 0 sees the whole map, each step says where to look next"
    ax = plot_network(boxes, arrows, title=title, ax=ax)
    for number, (_, *corners) in enumerate(motif_boxes(_EXAMPLE, _EXAMPLE_SIDE), start=1):
        _outline_region(ax, boxes["x"], corners, number)
    return ax


def _example(motif=None):
    """The example picture, or one motif of it."""
    picture = draw_picture(_EXAMPLE, _EXAMPLE_SIDE)
    if motif is None:
        return picture
    _, x0, y0, x1, y1 = motif_boxes(_EXAMPLE, _EXAMPLE_SIDE)[motif]
    return picture[y0:y1, x0:x1]


def _example_map(motifs):
    """A map with a soft spot at each of some motifs of the example."""
    height, width = _example().shape[:2]
    y, x = np.mgrid[:height, :width]
    spots = np.zeros((height, width))
    for number in motifs:
        _, x0, y0, x1, y1 = motif_boxes(_EXAMPLE, _EXAMPLE_SIDE)[number]
        distance = (x - (x0 + x1) / 2) ** 2 + (y - (y0 + y1) / 2) ** 2
        spots = np.maximum(spots, np.exp(-distance / (2 * (0.4 * (x1 - x0)) ** 2)))
    return spots


def _outline_region(ax, box, corners, number):
    """A numbered region of the example picture in a box."""
    height, width = _example().shape[:2]
    x0, x1 = (box.x - box.width / 2 + box.width * corners[at] / width for at in (0, 2))
    y0, y1 = (box.y + box.height / 2 - box.height * corners[at] / height for at in (1, 3))
    halo = [withStroke(linewidth=3, foreground=DARK)]
    line = {"ec": PART_COLOURS[0], "lw": 1.4, "zorder": 5, "path_effects": halo}
    ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **line))
    ax.text(
        x1, y0, str(number), fontsize=6.5, color="white", ha="right", va="bottom", zorder=6,
        bbox={"fc": DARK, "ec": "none", "pad": 0.8},
    )  # fmt: skip
