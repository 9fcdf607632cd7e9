"""Figures of decisions: probabilities, rules, steps, label sets. Style: `imetlib.figures`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from imetlib.decisions.fbeta import label_pairs
from imetlib.decisions.label_sets import take_labels
from imetlib.decisions.reliability import calibration_error
from imetlib.decisions.stability import trace_thresholds
from imetlib.figures import BLUE, GREEN, GREY, RED, new_axes, set_finding, show_picture

# The palette's gold is too pale for letters.
VERDICTS = {"right": (GREEN, "+"), "missing": ("#a8741a", "–"), "wrong": (RED, "×")}
_DARK = "#3c4048"
_MOST_NAMES = 6
_NAME_CHARACTERS = 24
_TICKS = [1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99]


def plot_reliability(curves, *, ax=None):
    """Observed share of true labels over the probability that was given for them.

    Both axes are logits: labels are sparse, and a linear axis would show one heap near zero.

    Args:
        curves: dict of name to `ReliabilityCurve`, of one number of bins and one spacing.
        ax: Axes or None.

    Returns:
        Axes.

    Raises:
        ValueError: no curves.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one curve. Received: none")
    ax = new_axes(ax, (5.0, 4.2))
    values = np.concatenate([[*c.predicted, *c.observed] for c in curves.values()])
    # A bin without true labels has no place on the axis; its interval reaches in from below.
    lowest = max(values[values > 0].min(initial=0.5) / 2, 1e-7)
    highest = 1 - max((1 - values[values < 1]).min(initial=0.5) / 2, 1e-7)
    diagonal = np.array([lowest, highest])
    ax.plot(diagonal, diagonal, color="#3c4048", lw=1, ls="--", label="as promised")
    for name, curve in curves.items():
        shown = (curve.predicted > 0) & (curve.predicted < 1)
        predicted = curve.predicted[shown]
        low, high = (np.clip(side[shown], lowest, highest) for side in (curve.low, curve.high))
        (line,) = ax.plot(
            predicted, np.clip(curve.observed[shown], lowest, highest), marker="o", ms=4, label=name
        )
        ax.vlines(predicted, low, high, color=line.get_color(), lw=1, alpha=0.6)
    for axis, set_scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
        set_scale("logit")
        axis.set_major_locator(plt.FixedLocator([t for t in _TICKS if lowest <= t <= highest]))
        axis.set_minor_locator(plt.NullLocator())
        axis.set_major_formatter("{x:g}")
    ax.set(
        xlabel="predicted probability (logit scale)",
        ylabel="share of true labels (logit scale)",
        xlim=(lowest, highest),
        ylim=(lowest, highest),
    )
    ax.legend(loc="upper left")
    errors = [f"{calibration_error(c, relative=True):.1%} {name}" for name, c in curves.items()]
    set_finding(ax, f"Misplaced probability as a share of the true labels: {_join(errors)}")
    return ax


def plot_rules(table, *, chosen="", ax=None):
    """What each rule gains over the first one, picture by picture, and what it scores.

    Args:
        table: DataFrame as of `imetlib.decisions.rule_comparison.RuleComparison`.
        chosen: str. Rule whose name is marked, "" for none.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax, (7.0, 0.9 + 0.3 * len(table)))
    first, others = table.iloc[0], table.iloc[1:]
    ordered = table.sort_values("gain", kind="stable").reset_index(drop=True)
    colours = _colours_of_gains(ordered)
    ax.axvline(0.0, color=_DARK, lw=1, ls="--")
    ax.hlines(ordered.index, ordered["gain_low"], ordered["gain_high"], color=colours, lw=2)
    ax.scatter(ordered["gain"], ordered.index, c=colours, s=34, zorder=3)
    for place, score in enumerate(ordered["score"]):
        ax.annotate(
            f"{score:.3f}", (1.0, place), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=_DARK,
        )  # fmt: skip
    names = [f"{name} (chosen)" if name == chosen else name for name in ordered["rule"]]
    ax.set_yticks(ordered.index, names)
    ax.set(xlabel=f"F2 gained over the {first['rule']}, paired 95 % interval; right: F2")
    ax.set_ylim(-0.6, len(ordered) - 0.4)
    ax.grid(axis="y", visible=False)
    if len(others):
        best = others.loc[others["score"].idxmax()]
        better, worse = (others["gain_low"] > 0).sum(), (others["gain_high"] < 0).sum()
        set_finding(
            ax,
            f"{better} of {len(others)} rules are surely better than the {first['rule']}, {worse} "
            f"surely worse; most F2 has {best['rule']}, {best['gain']:+.3f}",
        )
    return ax


def plot_steps(table, *, ax=None):
    """From the first step to the last: what each one adds on the holdout.

    Args:
        table: DataFrame as from `imetlib.decisions.steps.score_steps`.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax, (7.0, 1.2 + 0.34 * len(table)))
    scores, last = table["score"].to_numpy(), len(table)
    before = np.append(scores[0], scores[:-1])
    ends = np.array([scores[0], scores[-1]])
    colours = [GREY, *_colours_of_gains(table.iloc[1:])]
    total = table.iloc[-1]
    for place, (start, end, colour) in enumerate(zip(before, scores, colours, strict=True)):
        ax.barh(place, end - start, left=start, height=0.55, color=colour, alpha=0.45)
        ax.vlines(end, place - 0.28, place + 1.28, color=_DARK, lw=1)
    ax.barh(last, ends[1] - ends[0], left=ends[0], height=0.55, color=BLUE, alpha=0.6)
    # An interval stands around what it belongs to: the first score, then the gains.
    low = np.concatenate([table["low"][:1], before[1:] + table["gain_low"][1:]])
    high = np.concatenate([table["high"][:1], before[1:] + table["gain_high"][1:]])
    ax.hlines(range(last), low, high, color=colours, lw=2)
    ax.hlines(last, ends[0] + total["total_low"], ends[0] + total["total_high"], color=BLUE, lw=2)
    ax.plot([*scores, ends[1]], range(last + 1), "o", color=_DARK, ms=4)
    gains = [f"{scores[0]:.3f}", *(f"{gain:+.3f}" for gain in table["gain"][1:])]
    for place, text in enumerate([*gains, f"{total['total']:+.3f}"]):
        ax.annotate(
            text, (1.0, place), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=_DARK,
        )  # fmt: skip
    ax.set_yticks(range(last + 1), [*table["step"], "all together"])
    ax.set(
        xlabel="F2 on the holdout; lines: 95 % intervals, of gains paired", ylim=(last + 0.6, -0.6)
    )
    ax.grid(axis="y", visible=False)
    largest = table.iloc[1 + int(table["gain"][1:].argmax())]
    set_finding(
        ax,
        f"All steps together change F2 by {total['total']:+.3f} ({total['total_low']:+.3f} to "
        f"{total['total_high']:+.3f}), the most by {largest['step']}, {largest['gain']:+.3f}",
    )
    return ax


def plot_distance_profile(profile, *, ax=None):
    """F2 of pictures near to and far from the nearest training picture.

    Args:
        profile: `imetlib.decisions.distance.DistanceProfile`.
        ax: Axes or None.

    Returns:
        Axes.
    """
    ax = new_axes(ax, (7.0, 3.0))
    widths = np.diff(profile.edges)
    ax.bar(profile.edges[:-1], profile.scores, widths, align="edge", color=BLUE, edgecolor="white")
    for left, width, score, count in zip(
        profile.edges, widths, profile.scores, profile.num_samples, strict=False
    ):
        ax.annotate(
            f"{count:,}", (left + width / 2, score), xytext=(0, 3), textcoords="offset points",
            ha="center", fontsize=8, color=_DARK,
        )  # fmt: skip
    ax.set(
        xlabel="cosine distance to the nearest training picture; above: pictures",
        ylabel="mean per-sample F2",
        ylim=(0, 1.15 * max(profile.scores.max(), 1e-3)),
    )
    ax.grid(axis="x", visible=False)
    set_finding(
        ax,
        f"The nearest pictures score {profile.scores[0]:.3f}, the farthest "
        f"{profile.scores[-1]:.3f}",
    )
    return ax


def plot_label_sets(y_true, y_prob, class_names, thresholds, rows, pictures):
    """The same pictures decided with several thresholds: what is right, wrong and missing.

    Args:
        y_true: labels of all samples, in any form that `fbeta_samples` takes.
        y_prob: `(num_samples, num_classes)` float.
        class_names: `num_classes` names `group::name`.
        thresholds: floats, ascending. A label is decided at or above; none is added.
        rows: samples that are shown.
        pictures: their `(height, width, 3)` uint8 pictures.

    Returns:
        `(len(rows), 1 + len(thresholds))` array of Axes.
    """
    curves = trace_thresholds(y_true, y_prob, thresholds)
    size = (1.2 + 1.9 * len(thresholds), 0.7 + 1.2 * len(rows))
    figure, axes = plt.subplots(
        len(rows), 1 + len(thresholds), figsize=size, squeeze=False,
        width_ratios=[1.2, *[1.9] * len(thresholds)],
    )  # fmt: skip
    for row_axes, row, picture in zip(axes, rows, pictures, strict=True):
        show_picture(row_axes[0], picture)
        for ax, threshold in zip(row_axes[1:], curves.thresholds, strict=True):
            ax.axis("off")
            _write_verdicts(ax, judge_labels(y_true, y_prob, class_names, row, threshold))
    for at, ax in enumerate(axes[0, 1:]):
        ax.set_title(
            f"at {curves.thresholds[at]:.3f}: F2 {curves.scores[at]:.3f}\n"
            f"precision {curves.precision[at]:.2f}, recall {curves.recall[at]:.2f}\n"
            f"{curves.num_labels[at]:.1f} labels a picture",
            fontsize=8, fontweight="normal",
        )  # fmt: skip
    best = int(np.argmax(curves.scores))
    figure.suptitle(
        f"Of these thresholds {curves.thresholds[best]:.3f} serves F2 best: + right, × wrong, "
        "– missing",
        fontsize=10.5, fontweight="bold", x=0.01, ha="left",
    )  # fmt: skip
    return axes


def judge_labels(y_true, y_prob, class_names, row, threshold):
    """Names of one sample's labels: dict "right", "missing", "wrong" to lists, surest first.

    Args:
        y_true, y_prob, class_names: as in `plot_label_sets`.
        row: int, the sample.
        threshold: float, compared in float32.
    """
    scores = np.asarray(y_prob[row], np.float32)
    own = take_labels(y_true, np.array([row]))
    true = np.zeros(len(class_names), bool)
    true[label_pairs(own)[1]] = True
    decided = scores >= np.float32(threshold)
    kinds = {"right": true & decided, "missing": true & ~decided, "wrong": decided & ~true}
    order = np.argsort(-scores, kind="stable")
    return {
        kind: [class_names[column].partition("::")[2] for column in order[chosen[order]]]
        for kind, chosen in kinds.items()
    }


def _write_verdicts(ax, verdicts):
    lines = [(kind, name) for kind, names in verdicts.items() for name in names]
    for place, (kind, name) in enumerate(lines[:_MOST_NAMES]):
        colour, sign = VERDICTS[kind]
        text = f"{sign} {name[:_NAME_CHARACTERS]}"
        ax.text(0.0, 0.97 - 0.14 * place, text, color=colour, fontsize=8, va="top")
    left = len(lines) - _MOST_NAMES
    if left > 0:
        ax.text(0.0, 0.97 - 0.14 * _MOST_NAMES, f"and {left} more", fontsize=8, va="top")


def _colours_of_gains(table):
    """Green where the interval of a gain is above zero, red where below, else grey."""
    surely = [table["gain_low"] > 0, table["gain_high"] < 0]
    return list(np.select(surely, [GREEN, RED], GREY))


def _join(parts):
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
