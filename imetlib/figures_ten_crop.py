"""Figures of ten crops: which cells each window of a map covers, how well networks answer that
average over windows, and which pictures change. Style: `imetlib.figures`."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle

from imetlib.figures import BLUE, PALETTE, RED, new_axes, plot_pictures, set_finding
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


def plot_accuracies(table, *, reference="dense", ax=None):
    """Test accuracy of each answer, seed by seed, in groups by kind.

    Args:
        table: DataFrame as from `imetlib.delivery.ten_crop_tables.accuracy_table`.
        reference: the answer whose mean is a line across all others.
        ax: Axes or None.

    Returns:
        Axes; bars are standard errors over seeds.

    Raises:
        ValueError: no such answer.
    """
    if reference not in set(table["answer"]):
        raise ValueError(
            f"`reference` must be an answer of the table. Received: {reference!r}; it has "
            f"{', '.join(table['answer'])}"
        )
    means = table.set_index("answer")["test"]
    groups = table.groupby("kind", sort=False)
    ax = new_axes(ax, (7.4, 0.9 + 0.21 * (len(table) + groups.ngroups)))
    place, places = 0.0, []
    for number, (kind, rows) in enumerate(groups):
        colour = PALETTE[number % len(PALETTE)]
        place -= 1.0
        ax.annotate(
            kind, (0.0, place), xycoords=("axes fraction", "data"), xytext=(4, 0), va="center",
            textcoords="offset points", fontsize=8, fontweight="bold", color=colour,
        )  # fmt: skip
        for row in rows.itertuples():
            place -= 1.0
            places.append(place)
            if row.num_seeds > 1:
                tests = [100 * test for test in row.tests]
                ax.plot(tests, [place] * len(tests), "o", color=colour, ms=3.5, alpha=0.4, mew=0)
                reach = 100 * row.test_error
                ax.hlines(place, 100 * row.test - reach, 100 * row.test + reach, color=colour, lw=2)
            ax.plot(100 * row.test, place, "D", color=colour, ms=5, mec="white", mew=0.6)
            ax.annotate(
                f"{100 * row.test:.1f}", (1.0, place), xycoords=("axes fraction", "data"),
                xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=DARK,
            )  # fmt: skip
    ax.axvline(100 * means[reference], color="#3c4048", lw=1, ls="--")
    ordered = [name for _, rows in groups for name in rows["answer"]]
    ax.set_yticks(places, ordered)
    seeds = int(table["num_seeds"].iloc[0])
    bars = f", mean of {seeds} seeds; bars: standard error" if seeds > 1 else ", one seed"
    ax.set(xlabel=f"test pictures classified rightly (%){bars}", ylim=(place - 0.8, -0.3))
    ax.grid(axis="y", visible=False)
    # The names take what they need of the width; the title is broken to what is left.
    ax.figure.draw_without_rendering()
    best = means.idxmax()
    set_finding(
        ax,
        f"Best: {best}, {100 * means[best]:.1f} %; {reference} (dashed), "
        f"{100 * means[reference]:.1f} %",
    )
    return ax


def plot_changed_examples(
    images, labels, answers_a, answers_b, class_names, *, names=("a", "b"), num_examples=6
):
    """Pictures that one answer has right and the other wrong, the first of either kind.

    Args:
        images: `(num_pictures, height, width, 3)` uint8.
        labels: `(num_pictures,)` int, the true classes.
        answers_a, answers_b: `(num_pictures,)` int, the classes that are given to them.
        class_names: sequence of str.
        names: what the two answers are called.
        num_examples: int >= 1, pictures of either kind at most.

    Returns:
        `(2, num_examples)` array of Axes: what b alone has right above, what a alone has right
        below, each with its class and the wrong one of the other answer.

    Raises:
        ValueError: labels and answers differ in number.
    """
    labels, answers_a, answers_b = map(np.asarray, (labels, answers_a, answers_b))
    if not len(images) == len(labels) == len(answers_a) == len(answers_b):
        raise ValueError(
            "Pictures, labels and answers must be equally many. Received: "
            f"{len(images)}, {len(labels)}, {len(answers_a)}, {len(answers_b)}"
        )
    right_a, right_b = answers_a == labels, answers_b == labels
    shown, titles = [], []
    for rows, wrong in (
        (np.flatnonzero(right_b & ~right_a), answers_a),
        (np.flatnonzero(right_a & ~right_b), answers_b),
    ):
        for row in rows[:num_examples]:
            shown.append(images[row])
            titles.append(f"{class_names[labels[row]]}\nnot {class_names[wrong[row]]}")
        missing = num_examples - len(rows[:num_examples])
        shown += [np.full_like(images[0], 255)] * missing
        titles += [""] * missing
    only_b, only_a = (right_b & ~right_a).sum(), (right_a & ~right_b).sum()
    return plot_pictures(
        shown,
        titles,
        columns=num_examples,
        finding=f"Above: right with {names[1]} alone, {only_b} of {len(labels):,};\n"
        f"below: right with {names[0]} alone, {only_a}",
    )


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
