"""Figures of windows draw the cells that they are given, and their titles count them."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from imetlib.figures_ten_crop import (
    plot_accuracies,
    plot_changed_examples,
    plot_coverage,
    plot_crop_geometry,
)

pytestmark = pytest.mark.usefixtures("figure_style")

COVERAGE = [[1, 1, 2, 1, 1], [1, 2, 3, 2, 1], [2, 3, 5, 3, 2], [1, 2, 3, 2, 1], [1, 1, 2, 1, 1]]


def windows(height, width, crop_height, crop_width):
    """Cells of the ten windows."""
    cells = np.arange(height * width).reshape(height, width)
    down, right = height - crop_height, width - crop_width
    starts = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = [cells[y : y + crop_height, x : x + crop_width] for y, x in starts]
    return np.array(crops + [crop[:, ::-1] for crop in crops])


def title(ax):
    return ax.get_title(loc="left").replace("\n", " ")


@pytest.mark.parametrize("sizes", [(5, 5, 3, 3), (4, 6, 2, 4)])
def test_geometry_numbers_the_cells_in_reading_order(sizes):
    height, width, crop_height, crop_width = sizes
    crops = windows(*sizes)
    ax = plot_crop_geometry(crops, (height, width))
    ax.figure.canvas.draw()
    texts = [text for text in ax.texts if text.get_text().isdigit()]
    assert len(texts) == crops.size
    names = [text.get_text() for text in ax.texts if not text.get_text().isdigit()]
    assert len(names) == 10 and all("mirrored" in name for name in names[5:])
    assert not any("mirrored" in name for name in names[:5])
    # Where a window's map begins is read off its border, the patch after the cells.
    for number, crop in enumerate(crops):
        patches = ax.patches[number * (height * width + 1) : (number + 1) * (height * width + 1)]
        *cells, border = patches
        left, top = cells[0].get_xy()
        drawn = [index for index, cell in enumerate(cells) if cell.get_alpha() < 1]
        assert drawn == sorted(crop.ravel())
        assert (border.get_height(), border.get_width()) == (crop_height, crop_width)
        numbered = {}
        for text in texts[number * crop.size : (number + 1) * crop.size]:
            x, y = text.get_position()
            numbered[int(text.get_text())] = int(y - top) * width + int(x - left)
        assert [numbered[place] for place in sorted(numbered)] == crop.ravel().tolist()
    share = crop_height * crop_width / (height * width)
    assert title(ax).startswith(
        f"A {crop_height} x {crop_width} window sees {share:.0%} of the map"
    )


def test_large_windows_have_no_numbers():
    ax = plot_crop_geometry(windows(8, 8, 6, 6), (8, 8))
    assert not [text for text in ax.texts if text.get_text().isdigit()]


def test_coverage_of_the_reference():
    _, ax = plt.subplots()
    assert plot_coverage(windows(5, 5, 3, 3)[:5], (5, 5), ax=ax) is ax
    np.testing.assert_array_equal(ax.images[0].get_array(), COVERAGE)
    written = {text.get_position(): int(text.get_text()) for text in ax.texts}
    assert written == {(x, y): COVERAGE[y][x] for x in range(5) for y in range(5)}
    assert title(ax) == "Of 5 windows, a cell lies in 1 to 5, 1.8 on average"


def test_cells_that_no_window_covers():
    ax = plot_coverage(windows(7, 5, 2, 2), (7, 5))
    assert title(ax) == "Of 10 windows, a cell lies in 0 to 2, 1.1 on average"
    assert ax.images[0].get_array().shape == (7, 5)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"must be ten windows. Received: 5"):
        plot_crop_geometry(windows(5, 5, 3, 3)[:5], (5, 5))
    for draw in (plot_crop_geometry, plot_coverage):
        with pytest.raises(ValueError, match=r"map of 4 x 5. Received: .*, cells from 0 to 24"):
            draw(windows(5, 5, 3, 3), (4, 5))


def accuracies(num_seeds):
    tests = {"dense": (0.7, 0.72), "ten crops": (0.75, 0.81), "flip": (0.69, 0.71)}
    return pd.DataFrame(
        {
            "answer": list(tests),
            "kind": ["whole network", "whole network", "transform"],
            "test": [np.mean(values[:num_seeds]) for values in tests.values()],
            "test_error": [0.01, 0.03, 0.01] if num_seeds > 1 else [np.nan] * 3,
            "num_seeds": num_seeds,
            "tests": [values[:num_seeds] for values in tests.values()],
        }
    )


def test_accuracies_stand_beside_their_names():
    ax = plot_accuracies(accuracies(2))
    assert title(ax) == "Best: ten crops, 78.0 %; dense (dashed), 71.0 %"
    names = [text.get_text() for text in ax.get_yticklabels()]
    places = dict(zip(names, ax.get_yticks(), strict=True))
    assert list(places) == ["dense", "ten crops", "flip"]
    means = {line.get_ydata()[0]: line.get_xdata() for line in ax.lines if line.get_marker() == "D"}
    seeds = {line.get_ydata()[0]: line.get_xdata() for line in ax.lines if line.get_marker() == "o"}
    assert means[places["ten crops"]] == pytest.approx([78.0])
    assert seeds[places["ten crops"]] == pytest.approx([75.0, 81.0])
    bars = [bar.get_segments()[0] for bar in ax.collections]
    assert bars[1][:, 0] == pytest.approx([75.0, 81.0])
    assert ax.lines[-1].get_xdata() == pytest.approx([71.0, 71.0])
    # Names of kinds stand above their groups, away from every answer.
    kinds = {text.get_text(): text.xy[1] for text in ax.texts}
    assert places["dense"] < kinds["whole network"]
    assert places["flip"] < kinds["transform"] < places["ten crops"]


def test_accuracies_of_one_seed_have_no_bars():
    ax = plot_accuracies(accuracies(1), reference="flip")
    assert not ax.collections and title(ax).endswith("flip (dashed), 69.0 %")
    assert ax.get_xlabel().endswith("one seed")
    with pytest.raises(ValueError, match="Received: 'plain'; it has dense, ten crops, flip"):
        plot_accuracies(accuracies(1), reference="plain")


def test_changed_examples():
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    answers_a = np.array([0, 0, 2, 1, 0, 1, 0])
    answers_b = np.array([0, 1, 1, 0, 1, 1, 0])
    images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1) * 30 + np.zeros(
        (1, 4, 4, 3), np.uint8
    )
    axes = plot_changed_examples(
        images, labels, answers_a, answers_b, ["cup", "hat", "tree"], names=("one", "ten"),
        num_examples=2,
    )  # fmt: skip
    assert axes.shape == (2, 2)
    texts = [ax.get_title(loc="center") for ax in axes.flat]
    assert texts == ["hat\nnot cup", "cup\nnot hat", "tree\nnot hat", ""]
    # Pictures are drawn in steps of 16 grey levels.
    shown = [int(ax.images[0].get_array()[0, 0, 0]) // 16 for ax in axes.flat]
    assert shown == [30 // 16, 90 // 16, 60 // 16, 255 // 16]
    finding = axes[0, 0].figure.get_suptitle()
    assert finding == "Above: right with ten alone, 3 of 7;\nbelow: right with one alone, 1"
    with pytest.raises(ValueError, match=r"equally many. Received: 7, 7, 7, 6"):
        plot_changed_examples(images, labels, answers_a, answers_b[:6], ["cup", "hat", "tree"])


def test_figures_load_no_keras():
    code = "import sys, imetlib.figures_ten_crop; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
