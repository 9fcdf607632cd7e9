"""Figures of training and of comparisons between runs."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np


def read_history(path):
    """Rows of a `history.csv` as a list of dicts of floats."""
    with Path(path).open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def plot_history(histories, *, score="val_f2", label="F2 on the validation fold", ax=None):
    """A score, F2 on the validation rows by default, after each epoch.

    Args:
        histories: dict of name to the rows of a history; epoch 0 is the start.
        score: column of the histories.
        label: str, name of the axis.
        ax: matplotlib Axes or None for new ones.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(7, 3.5))[1] if ax is None else ax
    for name, rows in histories.items():
        ax.plot([row["epoch"] for row in rows], [row[score] for row in rows], "o-", label=name)
    ax.set(xlabel="epoch", ylabel=label)
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
    """Score with its interval against multiply-adds a picture, one colour a phase.

    Args:
        table: DataFrame with columns run, phase, score, interval (pairs), macs, constant_score.
        ax: matplotlib Axes or None.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(7, 4.5))[1] if ax is None else ax
    for number, (phase, rows) in enumerate(table.groupby("phase", sort=True)):
        bounds = np.array(rows["interval"].tolist())
        errors = np.abs(bounds.T - rows["score"].to_numpy())
        ax.errorbar(
            rows["macs"] / 1e6,
            rows["score"],
            yerr=errors,
            fmt="os^D"[number % 4],
            color=f"C{number}",
            capsize=3,
            label=phase,
        )
    # Members are named backbone-method-size: one name a backbone, above its best run.
    names = table["run"].str.split("-").str[0]
    for row in table.loc[table["score"].groupby(names).idxmax()].itertuples():
        high = (row.macs / 1e6, row.interval[1])
        label = row.run.split("-")[0]
        ax.annotate(label, high, xytext=(0, 4), textcoords="offset points", ha="center", fontsize=8)
    _draw_floor(ax, float(table["constant_score"].max()))
    ax.set_xscale("log")
    ax.margins(x=0.3, y=0.15)
    ax.legend(frameon=False, loc="center right")
    ax.set(xlabel="multiply-adds a picture in millions", ylabel="mean per-sample F2")
    return ax


def plot_phases(phases, constant, *, ax=None):
    """Score of each seed in each phase, joined by a line, above the constant answer.

    Args:
        phases: dict of phase to the scores of the seeds, all in one order.
        constant: float, the best constant answer on the same rows.
        ax: matplotlib Axes or None.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(7, 3.5))[1] if ax is None else ax
    places = np.arange(len(phases))
    for seed, scores in enumerate(zip(*phases.values(), strict=True)):
        ax.plot(places, scores, "o-", color="C0", alpha=0.6, label="one seed" if not seed else None)
    means = [np.mean(scores) for scores in phases.values()]
    ax.plot(places, means, "_", color="0.1", markersize=28, markeredgewidth=2, label="mean")
    _draw_floor(ax, constant)
    ax.set_xticks(places, phases)
    ax.set(ylabel="mean per-sample F2", xlim=(-0.5, len(phases) - 0.5))
    ax.legend(frameon=False)
    return ax


def plot_differences(differences, *, ax=None):
    """What each change was worth, with its paired interval.

    Args:
        differences: dict of name to dict with "difference" and "interval".
        ax: matplotlib Axes or None.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(7, 0.8 + 0.4 * len(differences)))[1] if ax is None else ax
    ordered = sorted(differences.items(), key=lambda item: item[1]["difference"])
    values = np.array([item["difference"] for _, item in ordered])
    bounds = np.array([item["interval"] for _, item in ordered])
    places = np.arange(len(ordered))
    ax.errorbar(values, places, xerr=np.abs(bounds.T - values), fmt="o", capsize=3)
    ax.axvline(0.0, color="0.4", linestyle="--", linewidth=1)
    ax.set_yticks(places, [name for name, _ in ordered])
    ax.set(
        xlabel="difference in mean per-sample F2, paired 95 % interval",
        ylim=(-0.6, len(ordered) - 0.4),
    )
    return ax


def plot_reported(reported, floors, *, ax=None):
    """Published figures above the floors that their metric may have had.

    Args:
        reported: dict of name to F2.
        floors: dict of name of a constant answer to its F2.
        ax: matplotlib Axes or None.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(7, 0.8 + 0.4 * len(reported)))[1] if ax is None else ax
    names = sorted(reported, key=reported.get)
    ax.barh(names, [reported[name] for name in names], height=0.55)
    for number, (name, floor) in enumerate(floors.items()):
        label = f"{name}, {floor:.4f}"
        ax.axvline(floor, color="0.3", linestyle=("--", ":")[number % 2], linewidth=1, label=label)
    ax.set(xlabel="reported F2")
    ax.legend(frameon=False, loc="lower right")
    return ax


def _draw_floor(ax, floor):
    """A horizontal line at the score of the constant answer."""
    ax.axhline(floor, color="0.4", linestyle="--", linewidth=1)
    ax.annotate(
        f"constant answer {floor:.3f}",
        (1.0, floor),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        color="0.4",
        fontsize=8,
    )


def plot_search(trials, *, ax=None):
    """F2 of each trial of a search in order, the best so far, and what the profile had itself.

    Args:
        trials: list of dicts with number, state and score, as in a `SearchResult`; the first
            one is the profile's own settings. A trial that failed is a cross at the bottom.
        ax: matplotlib Axes or None for new ones.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(7, 3.5))[1] if ax is None else ax
    numbers = np.array([trial["number"] for trial in trials])
    finished = np.array([trial["state"] == "complete" for trial in trials])
    scores = np.array([trial["score"] for trial in trials], dtype=float)
    best = np.fmax.accumulate(np.where(finished, scores, np.nan))
    ax.step(numbers, best, where="post", color="0.4", linewidth=1, label="best so far")
    ax.plot(numbers[finished], scores[finished], "o", label="trial")
    if finished[0]:
        ax.plot(numbers[:1], scores[:1], "s", color="C1", label="the profile's own settings")
    if not finished.all():
        failed = numbers[~finished]
        ax.plot(
            failed,
            np.full(len(failed), 0.04),
            "x",
            color="C3",
            transform=ax.get_xaxis_transform(),
            label="failed",
        )
    ax.set(xlabel="trial", ylabel="F2 on the inner fold")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False)
    return ax
