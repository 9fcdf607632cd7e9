"""Figures of a collection: what its tables and pictures hold. One style: `imetlib.figures`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from imetlib.collection.images import decode_image
from imetlib.figures import (
    BLUE,
    GOLD,
    GREY,
    RED,
    new_axes,
    plot_pictures,
    set_finding,
)

_LONGEST_NAME = 22
_LONGEST_OVER_PICTURE = 16
_NAMES_SHOWN = 5
_LIFT_LIMIT = 8
_SIZE_TICKS = [50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000]


def plot_labelled_pictures(collection, rows, *, columns=6, finding=""):
    """Training pictures with the names of their attributes.

    Args:
        collection: `Collection`.
        rows: `(num_pictures,)` int rows of the training table.
        columns: int >= 1.
        finding: str. Title of the figure.

    Returns:
        `(num_rows, columns)` array of Axes.
    """
    images, titles = read_pictures(collection, rows), []
    for row in rows:
        names = [
            _short_name(collection.class_names[column], _LONGEST_OVER_PICTURE)
            for column in collection.train.row(row)
        ]
        more = [f"and {len(names) - _NAMES_SHOWN + 1} more"] if len(names) > _NAMES_SHOWN else []
        titles.append("\n".join([*names[: _NAMES_SHOWN - len(more)], *more]))
    return plot_pictures(images, titles, columns=columns, finding=finding)


def read_pictures(collection, rows):
    """Training pictures of some rows, a list of `(height, width, 3)` uint8."""
    ids = collection.train.ids
    return [decode_image(collection.picture_path("train", ids[row])) for row in rows]


def plot_labels_per_picture(labels, *, ax=None):
    """Bars: how many pictures have 1, 2, 3 ... attributes.

    Args:
        labels: `LabelTable`.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax)
    sizes = labels.labels_per_sample()
    shares = 100 * np.bincount(sizes) / len(sizes)
    ax.bar(np.arange(len(shares)), shares, 0.75, color=BLUE)
    ax.set(xlabel="attributes of a picture", ylabel="share of pictures (%)")
    ax.set_xticks(np.arange(sizes.min(), len(shares)))
    ax.set_xlim(sizes.min() - 0.6, len(shares) - 0.4)
    ax.grid(axis="x", visible=False)
    without = np.mean(sizes == 0)
    end = f"{without:.0%} without any" if without else "none without"
    set_finding(ax, f"{sizes.mean():.1f} attributes a picture, at most {sizes.max()}, {end}")
    return ax


def plot_long_tail(counts, *, few=10, ax=None):
    """Pictures of each attribute by rank, both axes logarithmic; the rare ones are marked.

    Args:
        counts: `(num_classes,)` int. Pictures with each attribute.
        few: int. Fewer pictures than this are rare.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax)
    ordered = np.sort(np.asarray(counts))[::-1]
    ordered = ordered[ordered > 0]
    ranks = np.arange(1, len(ordered) + 1)
    rare = ordered < few
    ax.loglog(ranks[~rare], ordered[~rare], ".", color=BLUE, ms=5)
    ax.loglog(ranks[rare], ordered[rare], ".", color=RED, ms=5, label=f"fewer than {few}")
    ax.axhline(few, color=GREY, lw=1, ls="--")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="rank of the attribute", ylabel="pictures with it")
    if rare.any():
        ax.legend(loc="lower left")
    half = int(np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)) + 1
    set_finding(
        ax,
        f"{np.sum(np.asarray(counts) < few):,} of {len(counts):,} attributes have fewer than {few} "
        f"pictures; {half} hold half of all labels",
    )
    return ax


def plot_groups(collection, *, ax=None):
    """Stacked bars: share of pictures with 0, 1, 2, 3 or more attributes of each group.

    Args:
        collection: `Collection`.
        ax: Axes or None.

    Returns:
        Axes.
    """
    groups = collection.groups
    ax = new_axes(ax, (7.0, 0.9 + 0.42 * len(groups)))
    shares = np.array([shares_of_group(collection, group) for group in groups]) * 100
    left = np.zeros(len(groups))
    for column, (colour, name) in enumerate(
        ((GREY, "none"), (BLUE, "one"), (GOLD, "two"), (RED, "three or more"))
    ):
        ax.barh(list(groups), shares[:, column], 0.62, left=left, color=colour, label=name)
        left += shares[:, column]
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="share of pictures (%)", xlim=(0, 100))
    ax.legend(ncols=4, loc="upper left", bbox_to_anchor=(0, -0.32 if len(groups) < 4 else -0.18))
    names, several = list(groups), shares[:, 2:].sum(axis=1)
    absent, most = int(np.argmax(shares[:, 0])), int(np.argmax(several))
    end = f"{several[most]:.0f}% have several of {names[most]}"
    if not several[most]:
        end = "none has two of one group"
    set_finding(
        ax, f"{shares[absent, 0]:.0f}% of the pictures have no {names[absent]} attribute, {end}"
    )
    return ax


def shares_of_group(collection, group):
    """`(4,)` float64: share of pictures with 0, 1, 2, and 3 or more attributes of a group."""
    table = collection.train
    rows = np.repeat(np.arange(len(table)), table.labels_per_sample())
    inside = np.isin(table.indices, collection.groups[group])
    sizes = np.bincount(rows[inside], minlength=len(table))
    return np.bincount(np.minimum(sizes, 3), minlength=4) / len(table)


def plot_cooccurrence(collection, *, num_attributes=20, ax=None):
    """Which frequent attributes come together more, or less, often than by chance.

    Args:
        collection: `Collection`.
        num_attributes: int >= 2. The most frequent ones are shown, in the order of their ids, so
            that groups stand together.
        ax: Axes or None.

    Returns:
        Axes.
    """
    import seaborn as sns
    from matplotlib.colors import LogNorm

    counts = collection.train.counts()
    columns = np.sort(np.argsort(-counts, kind="stable")[:num_attributes])
    together = count_together(collection.train, columns)
    alone = np.diag(together).astype(np.float64)
    lift = together * len(collection.train) / np.outer(alone, alone)
    names = [_short_name(collection.class_names[column]) for column in columns]
    ax = new_axes(ax, (6.6, 5.5))
    own = np.eye(len(columns), dtype=bool)
    sns.heatmap(
        np.clip(lift, 1 / _LIFT_LIMIT, _LIFT_LIMIT),
        mask=own,
        norm=LogNorm(1 / _LIFT_LIMIT, _LIFT_LIMIT),
        cmap="RdBu_r",
        square=True,
        linewidths=0.4,
        xticklabels=names,
        yticklabels=names,
        cbar_kws={"label": "times as often as by chance", "shrink": 0.7, "ticks": [0.125, 1, 8]},
        ax=ax,
    )
    bar = ax.collections[0].colorbar.ax
    bar.minorticks_off()
    bar.set_yticklabels(["1/8 or less", "1", "8 or more"])
    ax.grid(visible=False)
    ax.tick_params(length=0, labelsize=7)
    ax.set_xticklabels(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    share = np.where(own, -1, together / alone[:, None])
    first, second = np.unravel_index(np.argmax(share), share.shape)
    set_finding(
        ax,
        f"{share[first, second]:.1%} of the pictures with {names[first]} have {names[second]} "
        f"too, {lift[first, second]:.1f} times as many as by chance",
    )
    return ax


def count_together(labels, columns):
    """`(k, k)` int64: pictures that have both of two attributes; own counts on the diagonal.

    Args:
        labels: `LabelTable`.
        columns: `(k,)` int, ascending.
    """
    place = np.full(labels.num_classes, -1)
    place[columns] = np.arange(len(columns))
    rows = np.repeat(np.arange(len(labels)), labels.labels_per_sample())
    kept = place[labels.indices] >= 0
    chosen = np.zeros((len(labels), len(columns)), np.float32)
    chosen[rows[kept], place[labels.indices[kept]]] = 1
    return np.round(chosen.T @ chosen).astype(np.int64)


def plot_sizes(heights, widths, *, ax=None):
    """Height over width of every picture, with the diagonal of the squares.

    Args:
        heights, widths: `(num_samples,)` int, pixels.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax, (4.8, 4.0))
    ratios = np.asarray(heights) / np.asarray(widths)
    upright = ratios >= 1
    size = 9 if len(ratios) < 5_000 else 3
    kept = dict(s=size, alpha=0.35, linewidths=0, rasterized=True)
    ax.scatter(widths[upright], heights[upright], color=BLUE, label="upright or square", **kept)
    ax.scatter(widths[~upright], heights[~upright], color=RED, label="wide", **kept)
    limits = min(np.min(widths), np.min(heights)) * 0.9, max(np.max(widths), np.max(heights)) * 1.1
    ax.plot(limits, limits, color=GREY, lw=1, ls="--")
    # Strips of 1 : 25 beside squares need a logarithmic scale; shape then shows as distance.
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = [tick for tick in _SIZE_TICKS if limits[0] <= tick <= limits[1]]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(plt.FixedLocator(ticks))
        axis.set_major_formatter("{x:.0f}")
        axis.set_minor_locator(plt.NullLocator())
    ax.set(xlabel="width (px)", ylabel="height (px)")
    legend = ax.legend()
    for handle in legend.legend_handles:
        handle.set(alpha=1, sizes=[20])
    low, high = np.quantile(ratios, [0.25, 0.75])
    longest = np.max(np.maximum(ratios, 1 / ratios))
    set_finding(
        ax,
        f"Half of the pictures are {low:.2f} to {high:.2f} times as high as wide; "
        f"the longest strip is 1 : {longest:.1f}",
    )
    return ax


def plot_pairs(collection, pairs, titles, *, finding=""):
    """Pairs of training pictures, one above the other.

    Args:
        collection: `Collection`.
        pairs: `(num_pairs, 2)` int rows of the training table, at least one.
        titles: one str a pair.
        finding: str. Title of the figure.

    Returns:
        `(2, num_pairs)` array of Axes.
    """
    images = read_pictures(collection, np.transpose(pairs).ravel())
    titles = [*titles, *[""] * len(titles)]
    return plot_pictures(images, titles, columns=len(pairs), finding=finding)


def plot_constant_answer(answer, micro, *, ax=None):
    """F2 of the k most frequent attributes for every picture, over k.

    Args:
        answer: `ConstantAnswer`.
        micro: `(num_classes,)` float. Micro F2 of the same answers.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax)
    best, best_micro = int(np.argmax(answer.scores)), int(np.argmax(micro))
    end = min(len(micro), 4 * max(best, best_micro) + 10)
    sizes = np.arange(1, end + 1)
    ax.plot(sizes, answer.scores[:end], color=BLUE, label="mean per-sample F2 (the score)")
    ax.plot(sizes, micro[:end], color=GREY, ls="--", label="micro F2 (another number)")
    ax.plot(best + 1, answer.scores[best], "o", color=BLUE)
    ax.plot(best_micro + 1, micro[best_micro], "o", color=GREY)
    ax.set(xlabel="attributes in the answer, most frequent first", ylabel="F2", ylim=(0, None))
    ax.legend(loc="lower right")
    set_finding(
        ax,
        f"The {best + 1} most frequent attributes for every picture score {answer.score:.3f}; "
        f"micro F2 would say {micro[best_micro]:.3f} with {best_micro + 1}",
    )
    return ax


def _short_name(name, longest=_LONGEST_NAME):
    """The part behind the group, cut where it would not fit."""
    short = name.split("::", 1)[1]
    return short if len(short) <= longest else short[: longest - 1].rstrip(" ,") + "…"
