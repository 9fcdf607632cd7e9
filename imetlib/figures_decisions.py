"""Figures of decisions: whether probabilities are what they say. One style: `imetlib.figures`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from imetlib.decisions.reliability import calibration_error
from imetlib.figures import new_axes, set_finding

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


def _join(parts):
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
