"""Figures of where networks look: maps, parts and glimpses over the pictures, and how often they
find a motif. Style: `imetlib.figures`."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from imetlib.collection.images import shrink
from imetlib.figures import BLUE, new_axes, set_finding
from imetlib.localisation import pointing_game
from imetlib.localisation_grids import grid_centres

# Told apart by colour-blind people (Okabe and Ito) and, in this order, in print without colour.
PART_COLOURS = ("#f0e442", "#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#d55e00")
_MAP_COLOURS = "inferno"
_STEP_COLOURS = "plasma"
_DARK = "#16181d"
_WIDTH_INCHES = 8.0
_PICTURE_PIXELS = 128


def plot_attention(images, maps, *, motifs=None, titles=None, columns=6):
    """Maps over their pictures: bright where the map is high, its maximum a cross.

    Args:
        images: `(num_pictures, height, width, 3)` uint8, or a sequence of pictures of any sizes.
        maps: `(num_pictures, map_height, map_width)` float, one a picture, evenly over it (see
            `imetlib.localisation_grids.enlarge_maps`). Each has a scale of its own, from its
            least value or zero, as `overlap` counts, to its greatest.
        motifs: `imetlib.collection.motifs.Motifs` with one case a map, drawn as thin boxes; or
            None.
        titles: one str a picture, or None.
        columns: int >= 1.

    Returns:
        `(num_rows, columns)` array of Axes.
    """
    maps = np.asarray(maps, np.float64)
    axes = _picture_axes(images, columns, titles)
    for case, ax in enumerate(axes.flat[: len(maps)]):
        _draw_map(ax, maps[case])
        if motifs is not None:
            for box in motifs.boxes_of(case):
                _draw_box(ax, box, "white", lw=1.0)
        y, x = _peak(maps[case])
        ax.plot(x, y, "+", color="white", ms=8, mew=1.6, path_effects=_halo())
    if motifs is None:
        share = np.mean([_smallest_share(one) for one in maps])
        finding = f"Half of the attention lies on {share:.0%} of a picture"
    else:
        game = pointing_game(maps, motifs)
        finding = (
            f"The maximum lies in a motif in {game.hits.sum():.0f} of {len(maps)} pictures; blind "
            f"points would in {game.chance.sum():.1f}"
        )
    _set_figure_finding(axes, finding)
    return axes


def plot_parts(images, masks):
    """The parts that a network attends to: all together by contours, and one by one below.

    Args:
        images: as in `plot_attention`, a column each.
        masks: `(num_pictures, map_height, map_width, num_parts)` float, evenly over the picture.

    Returns:
        `(1 + num_parts, num_pictures)` array of Axes.
    """
    masks = np.asarray(masks, np.float64)
    num_parts = masks.shape[-1]
    axes = _picture_axes(list(images) * (1 + num_parts), len(images))
    peaks = np.array([[_peak(one[..., part]) for part in range(num_parts)] for one in masks])
    y, x = grid_centres(masks.shape[1:3])
    for column, mask in enumerate(masks):
        for part in range(num_parts):
            colour = PART_COLOURS[part % len(PART_COLOURS)]
            values = mask[..., part]
            low, high = values.min(), values.max()
            if high > low:
                axes[0, column].contour(
                    x, y, values, [low + 0.7 * (high - low)], colors=[colour], linewidths=1.6
                )
            _draw_map(axes[1 + part, column], values)
            for ax in (axes[0, column], axes[1 + part, column]):
                _draw_number(ax, peaks[column, part, ::-1], part + 1, colour)
    for part in range(num_parts):
        axes[1 + part, 0].set_ylabel(f"part {part + 1}")
    apart = np.linalg.norm(peaks[:, :, None] - peaks[:, None], axis=-1)
    pairs = apart[:, *np.triu_indices(num_parts, 1)]
    places = np.mean([len(np.unique(found, axis=0)) for found in peaks])
    finding = f"{num_parts} parts have their maxima at {places:.1f} places of a picture"
    if num_parts > 1:
        finding += f", {pairs.mean():.2f} of its side apart"
    _set_figure_finding(axes, finding)
    return axes


def plot_glimpses(images, rectangles, *, labels=None, titles=None, columns=4):
    """What a recurrent network looks at, in the order in which it looks.

    Args:
        images: as in `plot_attention`.
        rectangles: `(num_pictures, num_glimpses, 4)` float, x0, y0, x1, y1 in fractions of the
            picture (see `imetlib.localisation_glimpses.glimpse_rectangles`).
        labels: for each picture one str a glimpse, written below its number, such as the
            attributes that it decides; "" for none, whose lines are thin then. Or None.
        titles, columns: as in `plot_attention`.

    Returns:
        `(num_rows, columns)` array of Axes.
    """
    rectangles = np.clip(np.asarray(rectangles, np.float64), 0, 1)
    num_glimpses = rectangles.shape[1]
    colours = plt.get_cmap(_STEP_COLOURS)(np.linspace(0.15, 0.95, num_glimpses))
    middles = (rectangles[..., :2] + rectangles[..., 2:]) / 2
    axes = _picture_axes(images, columns, titles)
    for picture, ax in enumerate(axes.flat[: len(rectangles)]):
        names = [""] * num_glimpses if labels is None else labels[picture]
        for box, colour, name in zip(rectangles[picture], colours, names, strict=True):
            _draw_box(ax, box, colour, lw=2.4 if name or labels is None else 1.0)
        ax.plot(*middles[picture].T, color="white", lw=1.2, path_effects=_halo(1))
        for glimpse, colour in enumerate(colours):
            middle = middles[picture, glimpse]
            _draw_number(ax, middle, glimpse + 1, colour)
            ax.annotate(
                names[glimpse], middle, xytext=(0, -7), textcoords="offset points",
                ha="center", va="top", fontsize=8, color="white", path_effects=_halo(1.6),
            )  # fmt: skip
    sizes = (rectangles[..., 2:] - rectangles[..., :2]).prod(axis=-1)
    finding = f"A glimpse sees {sizes.mean():.0%} of the picture"
    if num_glimpses > 1:
        steps = np.linalg.norm(np.diff(middles, axis=1), axis=-1)
        together = np.mean([_union_area(boxes) for boxes in rectangles])
        finding += (
            f", all {num_glimpses} together {together:.0%}; from one to the next it moves by "
            f"{steps.mean():.2f} of the side"
        )
    _set_figure_finding(axes, finding)
    return axes


def show_map(ax, image, values):
    """One map over its picture, without a frame; see `plot_attention`.

    Args:
        ax: Axes.
        image: `(height, width, 3)` uint8, the picture as the network gets it.
        values: `(map_height, map_width)` float, evenly over it.
    """
    ax.axis("off")
    _show_grey(ax, _small_grey(image))
    _draw_map(ax, np.asarray(values, np.float64))


def plot_localisation(table, *, references=None, measure="share of motifs hit", ax=None):
    """How well each network finds the motifs, seed by seed, beside fixed references.

    Args:
        table: DataFrame as from `imetlib.localisation.summarise_seeds`, in the order wanted.
        references: dict of name to float, such as chance and the picture's centre: lines across
            all networks.
        measure: str, name of the axis.
        ax: Axes or None.

    Returns:
        Axes.
    """
    references = references or {}
    ax = new_axes(ax, (7.0, 1.5 + 0.36 * len(table)))
    places = np.arange(len(table))[::-1]
    for place, row in zip(places, table.itertuples(), strict=True):
        ax.plot(row.scores, [place] * row.num_seeds, "o", color=BLUE, ms=4, alpha=0.45, mew=0)
        if row.num_seeds > 1:
            ax.hlines(place, row.mean - row.std, row.mean + row.std, color=BLUE, lw=2)
        ax.plot(row.mean, place, "D", color=BLUE, ms=6, mec="white", mew=0.8)
        ax.annotate(
            f"{row.mean:.2f}", (1.0, place), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=8, color="#3c4048",
        )  # fmt: skip
    ordered = sorted(references.items(), key=lambda item: item[1])
    values = [*references.values(), *(score for scores in table["scores"] for score in scores)]
    highest = max([*values, *(table["mean"] + table["std"]).dropna()])
    for number, (name, value) in enumerate(ordered):
        ax.axvline(value, color="#3c4048", lw=1, ls=("--", ":", "-.")[number % 3])
        ax.annotate(
            f"{name} {value:.2f}", (value, 0.0), xycoords=("data", "axes fraction"),
            xytext=(3 if value < 0.6 * highest else -3, 4 + 11 * (number % 2)),
            textcoords="offset points", fontsize=8, color="#3c4048",
            ha="left" if value < 0.6 * highest else "right",
        )  # fmt: skip
    ax.set_yticks(places, table["name"])
    ax.set(xlabel=f"{measure}; bars: standard deviation over seeds", ylim=(-1.3, len(table) - 0.5))
    ax.set_xlim(0, 1.05 * highest)
    ax.grid(axis="y", visible=False)
    best = table.loc[table["mean"].idxmax()]
    # A mean above a line says little where a seed lies below it.
    beaten = [name for name, value in ordered if min(best["scores"]) > value]
    finding = f"Best: {best['name']}, {best['mean']:.2f}"
    if references:
        finding += f", above {_join(beaten) if beaten else 'no reference'}"
        finding += " in every seed" if best["num_seeds"] > 1 else ""
    # The names take what they need of the width; the title is broken to what is left.
    ax.figure.draw_without_rendering()
    set_finding(ax, finding)
    return ax


def _picture_axes(images, columns, titles=None):
    """Axes from 0 to 1 with a grey picture each, in rows."""
    images = [_small_grey(image) for image in images]
    num_rows = -(-len(images) // columns)
    side = _WIDTH_INCHES / columns
    ratio = float(np.clip(np.median([len(image) / image.shape[1] for image in images]), 0.5, 2.0))
    lines = max((title.count("\n") + 1 for title in titles), default=0) if titles else 0
    size = (_WIDTH_INCHES, num_rows * ((side - 0.1) * ratio + 0.17 * lines + 0.04) + 0.3)
    figure, axes = plt.subplots(num_rows, columns, figsize=size, squeeze=False)
    for number, ax in enumerate(axes.flat):
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        if number >= len(images):
            ax.axis("off")
            continue
        _show_grey(ax, images[number])
        if titles:
            ax.set_title(titles[number], fontsize=8, fontweight="normal", loc="center", pad=3)
    return axes


def _show_grey(ax, image):
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0), aspect="auto")
    ax.set_box_aspect(len(image) / image.shape[1])


def _small_grey(image):
    """Grey, so that colour is the map's alone; light, and coarse, for notebooks stay small."""
    image = shrink(np.asarray(image), _PICTURE_PIXELS).astype(np.float32)
    grey = 40 + 0.84 * image @ np.array([0.299, 0.587, 0.114], np.float32)
    return grey // 8 * 8 + 4


def _draw_map(ax, values):
    """A map over a picture; where it is low, or below zero, the picture shows through."""
    high = values.max()
    low = max(values.min(), 0.0) if high > 0 else values.min()
    scaled = np.clip((values - low) / (high - low), 0, 1) if high > low else 0 * values
    ax.imshow(
        scaled, cmap=_MAP_COLOURS, vmin=-0.25, vmax=1.05, alpha=0.75 * scaled,
        extent=(0, 1, 1, 0), aspect="auto", interpolation="bilinear",
    )  # fmt: skip


def _draw_box(ax, box, colour, lw):
    x0, y0, x1, y1 = box
    ax.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour, lw=lw, path_effects=_halo(1.2))
    )


def _draw_number(ax, place, number, colour):
    """A numbered disc that reads on any ground."""
    ax.plot(*place, "o", color=colour, ms=10, mec=_DARK, mew=1)
    light = np.dot(plt.matplotlib.colors.to_rgb(colour), (0.299, 0.587, 0.114)) > 0.45
    ax.annotate(
        str(number), place, ha="center", va="center_baseline", fontsize=7, fontweight="bold",
        color=_DARK if light else "white",
    )  # fmt: skip


def _halo(width=1.5):
    return [withStroke(linewidth=2 * width, foreground=_DARK, alpha=0.8)]


def _peak(values):
    """(y, x) of the maximum in fractions of the picture; the first one where cells tie."""
    row, column = np.unravel_index(values.argmax(), values.shape)
    return (row + 0.5) / values.shape[0], (column + 0.5) / values.shape[1]


def _smallest_share(values):
    """Share of the cells that hold half of a map's mass above its minimum, highest first."""
    ordered = np.sort((values - values.min()).ravel())[::-1]
    if not ordered.any():
        return 0.5
    return (np.searchsorted(np.cumsum(ordered), ordered.sum() / 2) + 1) / len(ordered)


def _union_area(boxes):
    """Area of rectangles together, on a grid of 100 x 100 points."""
    middles = (np.arange(100) + 0.5) / 100
    y, x = (
        (boxes[:, low, None] <= middles) & (middles < boxes[:, low + 2, None]) for low in (1, 0)
    )
    return (y[:, :, None] & x[:, None]).any(axis=0).mean()


def _join(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _set_figure_finding(axes, finding):
    axes[0, 0].figure.suptitle(
        textwrap.fill(finding, 88), fontsize=10.5, fontweight="bold", x=0.01, ha="left"
    )
