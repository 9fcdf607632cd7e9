"""Figures of the notebooks: one style, pictures, and what thresholds do.

Every `plot_` function draws one figure, takes `ax` where it is one pair of axes, and writes as
title the finding, computed from the data that it was given. Figures of a collection's tables are
in `imetlib.figures_collection`.
"""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from imetlib.collection.images import shrink

BLUE, RED, GREY, GOLD, GREEN = "#2b5c8a", "#c4472f", "#8a8f98", "#d9a441", "#4c8c6b"
PALETTE = (BLUE, RED, GOLD, GREEN, "#7d5ba6", GREY)
_CHARACTERS_AN_INCH = 13
_PICTURE_INCHES = 1.0
_THRESHOLD_TICKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
# PNG keeps every speck of a picture: the lower bits are what makes a notebook large.
_DROPPED_BITS = 4


def use_style():
    """The look of all figures: set once, in the Setup of a notebook."""
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.figsize": (7.0, 3.6),
            "figure.constrained_layout.use": True,
            "font.size": 9.5,
            "axes.prop_cycle": plt.cycler(color=PALETTE),
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlepad": 8,
            "axes.labelcolor": "#3c4048",
            "axes.edgecolor": "#3c4048",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": True,
            "grid.color": "#e3e5e8",
            "grid.linewidth": 0.7,
            "xtick.color": "#3c4048",
            "ytick.color": "#3c4048",
            "lines.linewidth": 1.8,
            "legend.frameon": False,
        }
    )


def new_axes(ax, size=(7.0, 3.6)):
    """`ax`, or the axes of a new figure of this size in inches where it is None."""
    return plt.subplots(figsize=size)[1] if ax is None else ax


def set_finding(ax, text, *, characters_an_inch=_CHARACTERS_AN_INCH):
    """Title of the axes, broken into lines that fit their width.

    A line may be somewhat wider than the axes; fewer `characters_an_inch` where there is no room.
    """
    inches = ax.get_position().width * ax.figure.get_figwidth()
    ax.set_title(textwrap.fill(text, max(24, int(inches * characters_an_inch))))


def plot_pictures(images, titles=None, *, columns=6, finding=""):
    """Pictures in rows, each with a few lines of text above it.

    Args:
        images: sequence of `(height, width, 3)` uint8 of any sizes.
        titles: one str a picture, or None.
        columns: int >= 1.
        finding: str. Title of the figure.

    Returns:
        `(num_rows, columns)` array of Axes.
    """
    lines = max((title.count("\n") + 1 for title in titles), default=0) if titles else 0
    num_rows = -(-len(images) // columns)
    highest = float(np.clip(np.median([len(image) / image.shape[1] for image in images]), 0.6, 1.6))
    size = (
        _PICTURE_INCHES * columns,
        num_rows * (_PICTURE_INCHES * highest + 0.14 * lines + 0.1) + 0.3 * bool(finding),
    )
    figure, axes = plt.subplots(num_rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for number, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        show_picture(ax, image)
        if titles:
            ax.set_title(titles[number], fontsize=7, fontweight="normal", loc="center", pad=3)
    if finding:
        figure.suptitle(finding, fontsize=10.5, fontweight="bold", x=0.01, ha="left")
    return axes


def show_picture(ax, image, *, inches=_PICTURE_INCHES):
    """A picture on axes without frame, small enough for a page.

    Args:
        ax: Axes.
        image: `(height, width, 3)` uint8. Larger ones are shrunk to about what is shown.
        inches: float. Its shorter side on the page, about.
    """
    image = shrink(image, round(inches * plt.rcParams["figure.dpi"]))
    step = 1 << _DROPPED_BITS
    coarse = np.clip(image.astype(np.int16) // step * step + step // 2, 0, 255).astype(np.uint8)
    ax.imshow(coarse, interpolation="nearest")
    ax.axis("off")


def plot_threshold_curve(search, plateau, *, grid=None, loss=0.005, ax=None):
    """Mean per-sample F2 over the threshold, and how wide its optimum is.

    Args:
        search: `ThresholdSearch`.
        plateau: (low, high) from `imetlib.decisions.stability.find_plateau`.
        grid: `ThresholdSearch` of a grid, drawn as points; or None.
        loss: float. What a threshold on the plateau costs at most.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax)
    shown = search.thresholds > 0
    ax.axvspan(*plateau, color=GOLD, alpha=0.3, lw=0, label=f"costs less than {loss:g}")
    curve = "every threshold" if search.complete else f"{len(search.thresholds):,} thresholds"
    ax.plot(search.thresholds[shown], search.scores[shown], color=BLUE, label=curve)
    if grid is not None:
        used = (grid.thresholds >= search.thresholds[shown].min()) & (grid.thresholds > 0)
        ax.plot(
            grid.thresholds[used], grid.scores[used], ".", color=RED, ms=6,
            label=f"grid of {len(grid.thresholds)}",
        )  # fmt: skip
    ax.axvline(search.threshold, color="#3c4048", lw=1, ls="--")
    _use_threshold_axis(ax)
    ax.set(ylabel="mean per-sample F2", ylim=(0, None))
    ax.legend(loc="lower left")
    set_finding(
        ax,
        f"F2 peaks at {search.threshold:.3f}; anything from {plateau[0]:.3f} to "
        f"{plateau[1]:.3f} costs less than {loss:g}",
    )
    return ax


def plot_precision_recall(curves, threshold, *, ax=None):
    """Mean precision, recall and F2 of the pictures over the threshold.

    Args:
        curves: `ThresholdCurves`.
        threshold: float. The one that is marked.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax)
    for values, colour, name in (
        (curves.recall, GREEN, "recall"),
        (curves.precision, RED, "precision"),
        (curves.scores, BLUE, "F2"),
    ):
        ax.plot(curves.thresholds, values, color=colour, label=name)
    ax.axvline(threshold, color="#3c4048", lw=1, ls="--")
    at = int(np.argmin(np.abs(curves.thresholds - threshold)))
    _use_threshold_axis(ax)
    ax.set(ylabel="mean over pictures", ylim=(0, 1))
    ax.legend()
    set_finding(
        ax,
        f"At {threshold:.3f} recall is {curves.recall[at]:.2f} and precision "
        f"{curves.precision[at]:.2f}: F2 pays for recall",
    )
    return ax


def plot_threshold_draws(draws, threshold, *, ax=None):
    """Which thresholds are the best ones when the pictures are drawn again.

    Args:
        draws: `ThresholdBootstrap`.
        threshold: float. The one searched on all pictures.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax)
    values, counts = np.unique(draws.thresholds, return_counts=True)
    low, high = draws.threshold_interval
    ax.axvspan(low, high, color=GOLD, alpha=0.3, lw=0, label=f"{draws.level:.0%} of the draws")
    ax.vlines(values, 0, 100 * counts / counts.sum(), color=BLUE, lw=3)
    ax.axvline(threshold, color="#3c4048", lw=1, ls="--", label="all pictures")
    _use_threshold_axis(ax)
    ax.set(ylabel="share of draws (%)", xlim=(low / 3, high * 3), ylim=(0, None))
    ax.grid(axis="x", visible=False)
    ax.legend()
    set_finding(
        ax,
        f"{draws.level:.0%} of the draws choose {low:.3f} to {high:.3f} and score "
        f"{draws.score_interval[0]:.3f} to {draws.score_interval[1]:.3f}",
    )
    return ax


def plot_per_sample_scores(per_sample, floor, *, ax=None):
    """How the F2 of single pictures spreads behind the mean, beside the constant answer's.

    Args:
        per_sample: `(num_samples,)` float in [0, 1].
        floor: `(num_samples,)` float in [0, 1]. The same pictures under the constant answer.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax)
    bins = np.linspace(0, 1, 21)
    weights = np.full(len(per_sample), 100 / len(per_sample))
    ax.hist(per_sample, bins, weights=weights, color=BLUE, label="this run")
    ax.hist(
        floor, bins, weights=weights, histtype="step", color=GREY, lw=1.6, label="constant answer"
    )
    ax.set(xlabel="F2 of a picture", ylabel="share of pictures (%)", xlim=(0, 1))
    ax.legend()
    nothing, lost = np.mean(per_sample == 0), np.mean(floor == 0)
    set_finding(
        ax,
        f"{nothing:.0%} of the pictures get no label right, {lost:.0%} under the constant answer; "
        f"means {np.mean(per_sample):.3f} and {np.mean(floor):.3f}",
    )
    return ax


def plot_label_counts(num_true, num_decided, *, ax=None):
    """How many labels the pictures have, and how many they are given.

    Args:
        num_true, num_decided: `(num_samples,)` int.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax)
    highest = int(np.ceil(max(np.max(num_true), np.quantile(num_decided, 0.995))))
    sizes = np.arange(highest + 1)
    for values, offset, colour, name in (
        (num_true, -0.21, GREY, "true"),
        (num_decided, 0.21, BLUE, "decided"),
    ):
        counts = np.bincount(np.minimum(values, highest), minlength=highest + 1)
        ax.bar(sizes + offset, 100 * counts / len(values), 0.42, color=colour, label=name)
    ax.set(xlabel="labels of a picture", ylabel="share of pictures (%)")
    ax.grid(axis="x", visible=False)
    ax.legend()
    set_finding(
        ax,
        f"{np.mean(num_decided):.1f} labels decided a picture where "
        f"{np.mean(num_true):.1f} are true",
    )
    return ax


def _use_threshold_axis(ax):
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(plt.FixedLocator(_THRESHOLD_TICKS))
    ax.xaxis.set_minor_locator(plt.NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("threshold (logarithmic)")
