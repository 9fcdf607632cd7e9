"""Figures of windows of a feature map: what each of them covers. Style: `imetlib.figures`."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle

from imetlib.figures import BLUE, RED, new_axes, set_finding
from imetlib.figures_diagrams import DARK

_NAMES = ("top left", "top right", "bottom left", "bottom right", "centre")
_NUMBERED_CELLS = 25
# Between two maps, as a share of a map's side.
_GAP = 0.28


def plot_crop_geometry(crops, map_shape, *, ax=None):
    """The ten windows of a map, each on a map of its own, numbered as a network reads them.

    Mirrored windows stand in the second row, in another colour: their numbers run from right to
    left. Windows of more than 25 cells are drawn without numbers.

    Args:
        crops: `(10, crop_height, crop_width)` int, cells of the windows, numbered row by row
            (see `imetlib.models.feature_crops.crop_indices`).
        map_shape: (height, width), in cells.
        ax: Axes or None.

    Returns:
        Axes without frame, one unit a cell, y downwards.

    Raises:
        ValueError: not ten windows, or cells outside of the map.
    """
    crops = _checked(crops, map_shape)
    if len(crops) != 10:
        raise ValueError(f"`crops` must be ten windows. Received: {len(crops)}")
    height, width = map_shape
    across, down = width * (1 + _GAP), height * (1 + _GAP) + 0.12 * height
    size = 7.4
    ax = new_axes(ax, (size, 0.55 + size * 2 * down / (5 * across)))
    for number, crop in enumerate(crops):
        row, column = divmod(number, 5)
        name = f"{_NAMES[column]},\nmirrored" if row else _NAMES[column]
        left, top = column * across, row * down
        _draw_window(ax, crop, map_shape, (left, top), RED if row else BLUE)
        ax.text(
            left + width / 2, top - 0.06 * height, name, ha="center", va="bottom", fontsize=8,
            color=RED if row else BLUE, linespacing=1.0,
        )  # fmt: skip
    ax.set(xlim=(-0.1, 4 * across + width + 0.1), ylim=(down + height + 0.1, -0.28 * height))
    ax.set_aspect("equal")
    ax.axis("off")
    share = crops[0].size / (height * width)
    set_finding(
        ax,
        f"A {crops.shape[1]} x {crops.shape[2]} window sees {share:.0%} of the map; mirrored, it "
        "is read right to left",
    )
    return ax


def plot_coverage(crops, map_shape, *, ax=None):
    """In how many windows each cell of a map lies.

    Args:
        crops: `(num_crops, crop_height, crop_width)` int, as in `plot_crop_geometry`; the first
            five for windows without mirror images.
        map_shape: (height, width), in cells.
        ax: Axes or None.

    Returns:
        Axes.

    Raises:
        ValueError: cells outside of the map.
    """
    crops = _checked(crops, map_shape)
    height, width = map_shape
    counts = np.bincount(crops.ravel(), minlength=height * width).reshape(height, width)
    ax = new_axes(ax, (3.6, 0.6 + 3.2 * height / width))
    ax.imshow(counts, cmap="Blues", vmin=0, vmax=1.4 * counts.max())
    for (row, column), count in np.ndenumerate(counts):
        ax.text(
            column, row, count, ha="center", va="center",
            color="white" if count > 0.75 * counts.max() else DARK,
        )  # fmt: skip
    ax.set(xticks=range(width), yticks=range(height), xlabel="column", ylabel="row")
    ax.grid(visible=False)
    set_finding(
        ax,
        f"Of {len(crops)} windows, a cell lies in {counts.min()} to {counts.max()}, "
        f"{counts.mean():.1f} on average",
    )
    return ax


def _draw_window(ax, crop, map_shape, corner, colour):
    """One map with a window of it: its cells, the order in which they are read, its border."""
    height, width = map_shape
    left, top = corner
    for cell in range(height * width):
        row, column = divmod(cell, width)
        ax.add_patch(
            Rectangle(
                (left + column, top + row), 1, 1, lw=0.6, ec="#c9ccd1",
                fc=colour if cell in crop else "white", alpha=0.35 if cell in crop else 1.0,
            )
        )  # fmt: skip
    rows, columns = np.divmod(crop, width)
    ax.add_patch(
        Rectangle(
            (left + columns.min(), top + rows.min()), crop.shape[1], crop.shape[0],
            fill=False, ec=colour, lw=1.6,
        )
    )  # fmt: skip
    if crop.size <= _NUMBERED_CELLS:
        for number, (row, column) in enumerate(zip(rows.flat, columns.flat, strict=True), 1):
            ax.text(
                left + column + 0.5, top + row + 0.52, number, ha="center", va="center",
                fontsize=7, color=DARK,
            )  # fmt: skip


def _checked(crops, map_shape):
    crops = np.asarray(crops)
    height, width = map_shape
    if crops.ndim != 3 or crops.min() < 0 or crops.max() >= height * width:
        raise ValueError(
            "`crops` must be (num_crops, crop_height, crop_width) cells of a map of "
            f"{height} x {width}. Received: shape {crops.shape}, cells from {crops.min()} to "
            f"{crops.max()}"
        )
    return crops
