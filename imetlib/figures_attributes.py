"""Figures of one attribute: its pictures, its place among the others, what comes with it.

One style: `imetlib.figures`.
"""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from imetlib.collection.attribute_search import count_companions, find_attributes, rows_with
from imetlib.figures import BLUE, GREY, RED, new_axes, set_finding, show_picture
from imetlib.figures_collection import read_pictures

_DARK = "#3c4048"
_CHARACTERS_AN_INCH = 11
_NAME_CHARACTERS = 30
_MOST_NAMED = 8
# Names of attributes that are nearer to each other than a line of text would cover one another.
_LINE_DECADES = 0.12
_PICTURE_INCHES = 1.25


def plot_attribute(collection, attribute, *, num_pictures=6, num_companions=10, draw=0):
    """All that a collection shows of an attribute: pictures, place in its group, companions.

    Args:
        collection: `Collection`.
        attribute: int, its column; or str, see
            `imetlib.collection.attribute_search.find_attributes`: the first attribute found is
            shown, the others are marked beside it; "" shows the most frequent one alone.
        num_pictures: int >= 1. Examples, drawn at random from the training pictures with it.
        num_companions: int >= 1. Attributes that come with it, most pictures first.
        draw: int >= 0. Another number draws other examples.

    Returns:
        dict of Axes: "picture 1" and so on (left empty where there are fewer), "place" and
        "companions".

    Raises:
        ValueError: no attribute of this name (near names are listed), no such column, or a
            picture that is missing or cannot be read.
    """
    columns = _columns_of(collection, attribute)
    rows = example_rows(collection, columns[0], num_pictures, draw)
    images = read_pictures(collection, rows)
    names = [f"picture {number + 1}" for number in range(num_pictures)]
    size = (_PICTURE_INCHES * max(num_pictures, 6) + 1.2, 5.2)
    figure = plt.figure(figsize=size, layout="constrained")
    above, below = figure.add_gridspec(2, 1, height_ratios=[1.0, 2.6])
    pictures = above.subgridspec(1, num_pictures).subplots(squeeze=False)[0]
    axes = dict(zip(names, pictures, strict=True))
    panels = below.subgridspec(1, 2, width_ratios=[1.0, 1.1]).subplots()
    axes["place"], axes["companions"] = panels
    for ax in pictures:
        ax.axis("off")
    for ax, image in zip(pictures, images, strict=False):
        show_picture(ax, image)
    have = int(collection.train.counts()[columns[0]])
    finding = f"{len(rows)} of the {_say_pictures(have)} with" if have else "No picture with"
    figure.suptitle(
        f"{finding} {collection.class_names[columns[0]]}",
        fontsize=10.5, fontweight="bold", x=0.01, ha="left",
    )  # fmt: skip
    figure.draw_without_rendering()
    # Titles are broken to the width that the layout leaves: it has to be known before.
    plot_place(collection, columns, ax=axes["place"])
    plot_companions(collection, columns[0], num_companions=num_companions, ax=axes["companions"])
    return axes


def example_rows(collection, column, num_pictures, draw=0):
    """`(at most num_pictures,)` int64, ascending: training rows with an attribute, at random."""
    rows = rows_with(collection.train, column)
    generator = np.random.default_rng([draw, column])
    return np.sort(generator.choice(rows, min(num_pictures, len(rows)), replace=False))


def plot_place(collection, columns, *, ax=None):
    """How frequent attributes are, by rank within each group; some of them are marked.

    Args:
        collection: `Collection`.
        columns: sequence of int, the marked ones; the title is about the first. Eight at most
            get a name, where there is room for it.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax, (4.4, 3.4))
    counts = collection.train.counts()
    groups = {column: group for group, own in collection.groups.items() for column in own}
    ranks = np.zeros(len(counts), np.int64)
    for own in collection.groups.values():
        order = own[np.argsort(-counts[own], kind="stable")]
        ranks[order] = np.arange(1, len(order) + 1)
    first, group = columns[0], groups[columns[0]]
    own = collection.groups[group]
    others = np.setdiff1d(np.arange(len(counts)), own)
    for chosen, label, look in (
        (others, "other groups", {"color": GREY, "marker": ".", "ms": 4, "alpha": 0.6}),
        (own, group, {"color": BLUE, "marker": "o", "ms": 4}),
    ):
        there = chosen[counts[chosen] > 0]
        if len(chosen):
            label = f"{label}, {len(chosen):,} attributes"
            ax.loglog(ranks[there], counts[there], ls="none", mew=0, label=label, **look)
    widest = max(len(one) for one in collection.groups.values())
    named: list[float] = []
    for column in (column for column in columns if counts[column]):
        look = {"ms": 8, "mew": 1.8} if column == first else {"ms": 6, "mew": 1.0}
        ax.plot(ranks[column], counts[column], "o", mfc="none", mec=RED, **look)
        height = float(np.log10(counts[column]))
        if len(named) < _MOST_NAMED and all(abs(height - one) > _LINE_DECADES for one in named):
            named.append(height)
            # Above the falling curves there is room to the right, below them to the left.
            left = ranks[column] ** 2 > widest
            ax.annotate(
                _short_name(collection, column), (ranks[column], counts[column]),
                xytext=(-6, -4) if left else (6, 4), textcoords="offset points", fontsize=8,
                color=RED if column == first else _DARK, ha="right" if left else "left",
                va="top" if left else "bottom",
            )  # fmt: skip
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="rank in the group (logarithmic)", ylabel="pictures (logarithmic)")
    ax.legend(loc="lower left", fontsize=8)
    set_finding(
        ax,
        f"{_short_name(collection, first)} is number {ranks[first]:,} of {len(own):,} in {group}: "
        f"{_say_pictures(counts[first])}, {counts[first] / len(collection.train):.1%}",
        characters_an_inch=_CHARACTERS_AN_INCH,
    )
    return ax


def plot_companions(collection, column, *, num_companions=10, ax=None):
    """Which attributes stand beside one most often, and how often they would by chance.

    Args:
        collection: `Collection`.
        column: int, the attribute.
        num_companions: int >= 1.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax, (4.8, 3.4))
    labels, name = collection.train, _short_name(collection, column)
    counts, together = labels.counts(), count_companions(labels, column)
    order = np.argsort(-together, kind="stable")[:num_companions]
    order = order[together[order] > 0]
    own = int(counts[column])
    if not len(order):
        ax.axis("off")
        finding = f"{name} stands alone in its pictures" if own else f"No picture has {name}"
        set_finding(ax, finding)
        return ax
    places = np.arange(len(order))[::-1]
    expected = own * counts[order] / len(labels)
    ax.barh(places, together[order], 0.62, color=BLUE, label="pictures with both")
    ax.vlines(expected, places - 0.38, places + 0.38, color=_DARK, lw=2, label="expected by chance")
    for place, one in zip(places, order, strict=True):
        ax.annotate(
            f"{together[one] / own:.0%}", (1.0, place), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=_DARK,
        )  # fmt: skip
    names = [_cut(collection.class_names[one]) for one in order]
    ax.set_yticks(places, names, fontsize=8)
    ax.set(xlabel=f"pictures; right: share of those with {_cut(name, 18)}")
    ax.set_ylim(-1.7, len(order) - 0.4)  # room for the legend
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower right", ncols=2, fontsize=8)
    often = order[0]
    lift = together[often] / expected[0]
    ax.figure.draw_without_rendering()
    set_finding(
        ax,
        f"{together[often] / own:.0%} of the pictures with {name} have "
        f"{_short_name(collection, often)} too, "
        f"{lift:.1f} times as many as by chance",
        characters_an_inch=_CHARACTERS_AN_INCH,
    )
    return ax


def say_matches(collection, columns):
    """One sentence: how many attributes were found in each group, and in how many pictures.

    Args:
        collection: `Collection`.
        columns: `(num_found,)` int.
    """
    found = {group: int(np.isin(own, columns).sum()) for group, own in collection.groups.items()}
    parts = [f"{number:,} {group}" for group, number in found.items() if number]
    rows = np.repeat(np.arange(len(collection.train)), collection.train.labels_per_sample())
    have = len(np.unique(rows[np.isin(collection.train.indices, columns)]))
    several = "attributes" if len(columns) > 1 else "attribute"
    return f"{len(columns):,} {several} ({', '.join(parts)}) in {_say_pictures(have)}"


def _columns_of(collection, attribute):
    if isinstance(attribute, str):
        found = find_attributes(collection.class_names, attribute, collection.train.counts())
        return found if attribute.strip() else found[:1]
    if not 0 <= attribute < collection.num_classes:
        raise ValueError(
            f"`attribute` must be a name or a column in 0..{collection.num_classes - 1}. "
            f"Received: {attribute}"
        )
    return np.array([attribute])


def _short_name(collection, column):
    return _cut(collection.class_names[column].partition("::")[2])


def _cut(name, longest=_NAME_CHARACTERS):
    return textwrap.shorten(name, longest, placeholder="…") if " " in name else name[:longest]


def _say_pictures(number):
    return f"{number:,} picture{'' if number == 1 else 's'}"
