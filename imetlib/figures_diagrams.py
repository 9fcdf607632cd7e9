"""Diagrams of boxes and arrows, in inches. Style: `imetlib.figures`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from imetlib.figures import GREY, new_axes

DARK = "#3c4048"


class Box(NamedTuple):
    """A step or a thing in a diagram.

    Args:
        x, y: its middle, in inches from the lower left.
        label: text inside; below where there is an `image`.
        width, height: inches. A `width` of 0 makes a circle.
        colour: of the border; the ground is a light tint of it.
        image: `(height, width)` float map or `(height, width, 3)` uint8 picture inside; or None.
    """

    x: float
    y: float
    label: str = ""
    width: float = 0.95
    height: float = 0.42
    colour: str = GREY
    image: np.ndarray | None = None


class Arrow(NamedTuple):
    """A line from a box to another.

    Args:
        start, end: names of boxes.
        label: text at the middle of its longest piece.
        through: points (x, y) in inches on the way.
        colour: of line and text.
    """

    start: str
    end: str
    label: str = ""
    through: tuple = ()
    colour: str = DARK


def plot_network(boxes, arrows, *, title="", ax=None):
    """Boxes and arrows.

    Args:
        boxes: dict of name to `Box`.
        arrows: sequence of `Arrow`.
        title: str.
        ax: Axes or None.

    Returns:
        Axes without frame, one unit an inch.

    Raises:
        ValueError: an arrow from or to a box that is not there.
    """
    unknown = {name for arrow in arrows for name in arrow[:2]} - set(boxes)
    if unknown:
        raise ValueError(
            f"Arrows need boxes. Received: {', '.join(sorted(unknown))}; known are "
            f"{', '.join(boxes)}"
        )
    extents = [_extent(box) for box in boxes.values()]
    for arrow in arrows:
        # A label stands above the piece that it belongs to.
        above = 0.2 if arrow.label else 0.0
        extents += [(x, y, x, y + above) for x, y in arrow.through]
    extents = np.array(extents, np.float64)
    low, high = extents[:, :2].min(axis=0) - 0.12, extents[:, 2:].max(axis=0) + 0.12
    width, height = high - low
    ax = new_axes(ax, (width, height + 0.3 * bool(title)))
    for arrow in arrows:
        _draw_arrow(ax, boxes, arrow)
    for box in boxes.values():
        _draw_box(ax, box)
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    ax.axis("off")
    if title:
        ax.set_title(title)
    return ax


def darken(colour, share):
    """A colour with its share of light taken away, as (red, green, blue).

    Args:
        colour: any that matplotlib knows.
        share: float in [0, 1].
    """
    return tuple((1 - share) * np.array(to_rgb(colour)))


def _extent(box):
    """(x0, y0, x1, y1) with the label of an image below it."""
    width = box.width or box.height
    below = 0.24 if box.image is not None and box.label else 0.0
    return (
        box.x - width / 2, box.y - box.height / 2 - below,
        box.x + width / 2, box.y + box.height / 2,
    )  # fmt: skip


def _draw_box(ax, box):
    width, height = box.width or box.height, box.height
    corner = (box.x - width / 2, box.y - height / 2)
    tint = tuple(0.84 + 0.16 * np.array(to_rgb(box.colour)))
    style = {"fc": tint, "ec": darken(box.colour, 0.15), "lw": 1.3, "zorder": 3}
    if not box.width:
        ax.add_patch(Circle((box.x, box.y), height / 2, **style))
    elif box.image is None:
        rounded = "round,pad=0,rounding_size=0.06"
        ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=rounded, **style))
    else:
        extent = (corner[0], corner[0] + width, corner[1], corner[1] + height)
        ax.imshow(box.image, extent=extent, cmap="inferno", zorder=2, interpolation="bilinear")
        ax.add_patch(Rectangle(corner, width, height, **{**style, "fc": "none"}))
    below = box.image is not None
    label_y, va = (corner[1] - 0.05, "top") if below else (box.y, "center")
    size = 11 if not box.width else 8.5
    ax.text(
        box.x, label_y, box.label, ha="center", va=va, fontsize=size, color=DARK, zorder=4,
        linespacing=1.15, bbox={"fc": "white", "ec": "none", "pad": 0.6} if below else None,
    )  # fmt: skip


def _draw_arrow(ax, boxes, arrow):
    start, end = boxes[arrow.start], boxes[arrow.end]
    points = [(start.x, start.y), *arrow.through, (end.x, end.y)]
    points[0] = _edge(start, points[1])
    points[-1] = _edge(end, points[-2])
    ax.add_patch(
        FancyArrowPatch(
            path=Path(points), arrowstyle="-|>", mutation_scale=9, lw=1.3, color=arrow.colour,
            zorder=1, joinstyle="round", shrinkA=0, shrinkB=0,
        )
    )  # fmt: skip
    if arrow.label:
        points = np.array(points)
        longest = np.argmax(np.abs(np.diff(points, axis=0)).sum(axis=1))
        x, y = points[longest : longest + 2].mean(axis=0)
        upright = abs(points[longest + 1, 0] - points[longest, 0]) < 0.05
        ax.text(
            x + 0.06 * upright, y + 0.04 * (not upright), arrow.label, fontsize=8,
            ha="left" if upright else "center", va="center" if upright else "bottom",
            color=arrow.colour,
        )  # fmt: skip


def _edge(box, towards):
    """Where the line from the middle of a box to a point leaves the box."""
    width, height = (box.width or box.height) / 2, box.height / 2
    dx, dy = towards[0] - box.x, towards[1] - box.y
    if abs(dx) < width and abs(dy) > height:
        return towards[0], box.y + np.sign(dy) * height
    reach = min(width / abs(dx) if dx else np.inf, height / abs(dy) if dy else np.inf)
    return box.x + reach * dx, box.y + reach * dy
