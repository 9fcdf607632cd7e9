"""Figure of one inspected picture: probabilities, labels, maps, nearest training pictures.

One style: `imetlib.figures`.
"""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from imetlib.decisions.fbeta import fbeta_of_counts
from imetlib.decisions.inspection import shown_columns
from imetlib.figures import BLUE, GREY, new_axes, set_finding, show_picture
from imetlib.figures_attention import show_map
from imetlib.figures_decisions import VERDICTS

# Colour, sign and marker: no verdict is told by colour alone.
_LOOKS = {
    kind: (*VERDICTS[kind], marker)
    for kind, marker in (("right", "o"), ("missing", "D"), ("wrong", "X"))
}
_LOOKS |= {"chosen": (BLUE, "+", "o"), "": (GREY, " ", ".")}
_COLUMNS = 5
_ROW_INCHES = {"map": 1.75, "neighbour": 2.0}
_NAME_CHARACTERS = 26
_LEAST_PROBABILITY = 1e-4
_TICKS = [1e-4, 1e-3, 0.01, 0.1, 1.0]


def plot_inspection(inspection, *, num_attributes=12):
    """All that is known of one picture: what a network sees in it and what became of it.

    Args:
        inspection: `imetlib.decisions.inspection.Inspection`.
        num_attributes: int >= 1. Most attributes whose probabilities are shown.

    Returns:
        dict of Axes: "picture", "probabilities", and for each map and neighbour "map 1",
        "neighbour 1" and so on.
    """
    maps, neighbours = inspection.maps, inspection.neighbours
    kind = "chosen" if inspection.y_true is None else "true"
    headings = {
        "map": "Where the network looks, each map on a scale of its own",
        "neighbour": f"Nearest training pictures, and {kind} attributes that they share",
    }
    axes = _make_axes({"map": len(maps), "neighbour": len(neighbours)}, headings)
    show_picture(axes["picture"], inspection.picture, inches=2.8)
    axes["picture"].set_title(
        textwrap.fill(inspection.id, 40), fontsize=8, fontweight="normal", loc="center"
    )
    for place, (name, values) in enumerate(maps.items(), start=1):
        show_map(axes[f"map {place}"], inspection.seen, values)
        title = f"speaks for {_short(name)}" if "::" in name else name
        _set_small_title(axes[f"map {place}"], textwrap.fill(title, 24))
    for place, neighbour in enumerate(neighbours, start=1):
        show_picture(axes[f"neighbour {place}"], neighbour.picture)
        _set_small_title(axes[f"neighbour {place}"], _say_neighbour(inspection, neighbour))
    # A title is broken to the width that the layout leaves: it has to be known before.
    axes["picture"].figure.draw_without_rendering()
    plot_probabilities(inspection, num_attributes=num_attributes, ax=axes["probabilities"])
    return axes


def plot_probabilities(inspection, *, num_attributes=12, ax=None):
    """The most probable attributes of a picture, with what was chosen and what is true.

    Args:
        inspection: `imetlib.decisions.inspection.Inspection`.
        num_attributes: int >= 1. Chosen and true ones come before others.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax, (5.0, 3.2))
    columns = shown_columns(inspection, num_attributes)
    places = np.arange(len(columns))[::-1]
    y_prob = np.asarray(inspection.y_prob, np.float64)[columns]
    low = max(_LEAST_PROBABILITY, min(0.01, 0.5 * y_prob.min(initial=1.0)))
    kinds = [inspection.verdict(column) for column in columns]
    names = []
    for place, column, value, kind in zip(places, columns, y_prob, kinds, strict=True):
        colour, sign, marker = _LOOKS[kind]
        ax.hlines(place, low, max(value, low), color=colour, lw=2)
        ax.plot(max(value, low), place, marker, color=colour, ms=7, mew=0)
        ax.annotate(
            f"{value:.3f}", (1.0, place), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=8, color=colour,
        )  # fmt: skip
        names.append(f"{sign} {_short(inspection.class_names[column])}")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(plt.FixedLocator([tick for tick in _TICKS if tick >= low]))
    ax.xaxis.set_minor_locator(plt.NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(places, names, fontsize=8)
    for label, kind in zip(ax.get_yticklabels(), kinds, strict=True):
        label.set_color(_LOOKS[kind][0])
    ax.set(xlabel="probability (logarithmic)", xlim=(low, 1.0), ylim=(-0.7, len(columns) - 0.3))
    ax.grid(axis="y", visible=False)
    signs = [f"{_LOOKS[kind][1]} {kind}" for kind in _LOOKS if kind and kind in kinds]
    if signs:
        ax.set_xlabel(f"probability (logarithmic); {', '.join(signs)}")
    ax.figure.draw_without_rendering()
    set_finding(ax, _say_finding(inspection))
    return ax


def _make_axes(counts, headings):
    """Axes of `plot_inspection`: the upper two, then rows of pictures below their headings."""
    rows = {kind: -(-number // _COLUMNS) for kind, number in counts.items()}
    heights = [2.9]
    for kind, number in rows.items():
        heights += [0.25, *[_ROW_INCHES[kind]] * number] if number else []
    figure = plt.figure(figsize=(8.6, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    top = grid[0].subgridspec(1, 2, width_ratios=[1.0, 1.5]).subplots()
    axes, row = dict(zip(("picture", "probabilities"), top, strict=True)), 1
    for kind, number in rows.items():
        if not number:
            continue
        heading = figure.add_subplot(grid[row])
        heading.axis("off")
        heading.text(0, 0, headings[kind], fontsize=9, fontweight="bold", in_layout=False)
        places = grid[row + 1 : row + 1 + number].subgridspec(number, _COLUMNS).subplots()
        row += 1 + number
        for ax in places.flat:
            ax.axis("off")
        axes |= {f"{kind} {at + 1}": ax for at, ax in enumerate(places.flat[: counts[kind]])}
    return axes


def _say_finding(inspection):
    if inspection.y_true is None:
        surest = int(np.argmax(inspection.y_prob))
        return (
            f"{inspection.count('chosen')} attributes chosen; the surest is "
            f"{_short(inspection.class_names[surest])}, {inspection.y_prob[surest]:.2f}"
        )
    right, missing, wrong = (inspection.count(kind) for kind in ("right", "missing", "wrong"))
    score = float(fbeta_of_counts(right, right + missing, right + wrong, 2.0))
    return f"{right} of {right + missing} true attributes found, {wrong} wrong: F2 {score:.2f}"


def _say_neighbour(inspection, neighbour):
    """Cosine, and the neighbour's attributes that the picture is given too, or has."""
    own = np.asarray(inspection.y_pred if inspection.y_true is None else inspection.y_true, bool)
    shared = [column for column in neighbour.columns if own[column]]
    names = [_short(inspection.class_names[column], 14) for column in shared[:2]]
    more = f" +{len(shared) - 2}" if len(shared) > 2 else ""
    text = f"{len(shared)} of {len(neighbour.columns)} shared"
    return f"cosine {neighbour.cosine:.2f}, {text}\n{', '.join(names)}{more}"


def _set_small_title(ax, text):
    ax.set_title(text, fontsize=7, fontweight="normal", loc="center", pad=3)


def _short(name, longest=_NAME_CHARACTERS):
    short = name.partition("::")[2] or name
    return short if len(short) <= longest else short[: longest - 1].rstrip(" ,") + "…"
