"""Figures of training and of comparisons between runs."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np


def read_history(path):
    """Rows of a `history.csv` as a list of dicts of floats."""
    with Path(path).open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def plot_history(histories, *, ax=None):
    """F2 on the validation rows after each epoch.

    Args:
        histories: dict of name to the rows of a history; epoch 0 is the start.
        ax: matplotlib Axes or None for new ones.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(7, 3.5))[1] if ax is None else ax
    for name, rows in histories.items():
        ax.plot([row["epoch"] for row in rows], [row["val_f2"] for row in rows], "o-", label=name)
    ax.set(xlabel="epoch", ylabel="F2 on the validation fold")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False)
    return ax


def plot_scores(table, *, ax=None):
    """Score of each run with its interval, above the floor that a constant answer sets.

    Args:
        table: DataFrame with columns run, score, interval (pairs), constant_score.
        ax: matplotlib Axes or None.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(7, 0.6 + 0.45 * len(table)))[1] if ax is None else ax
    table = table.sort_values("score")
    places = np.arange(len(table))
    bounds = np.array(table["interval"].tolist())
    errors = np.abs(bounds.T - table["score"].to_numpy())
    ax.errorbar(table["score"], places, xerr=errors, fmt="o", capsize=3)
    floor = float(table["constant_score"].max())
    ax.axvline(floor, color="0.4", linestyle="--", linewidth=1)
    ax.annotate(
        f"constant answer {floor:.3f}",
        (floor, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -10),
        textcoords="offset points",
        color="0.4",
        fontsize=8,
    )
    ax.set_yticks(places, table["run"])
    ax.set(xlabel="mean per-sample F2, 95 % interval", ylim=(-0.6, len(table) - 0.4))
    return ax


def plot_cost(table, *, ax=None):
    """Score against training time.

    Args:
        table: DataFrame with columns run, score, seconds.
        ax: matplotlib Axes or None.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(7, 3.5))[1] if ax is None else ax
    ax.scatter(table["seconds"] / 60, table["score"])
    for row in table.itertuples():
        ax.annotate(
            row.run, (row.seconds / 60, row.score), xytext=(6, 3), textcoords="offset points"
        )
    ax.set_xscale("log")
    ax.margins(x=0.35, y=0.2)
    ax.set(xlabel="training time in minutes", ylabel="mean per-sample F2")
    return ax
