"""Figures of windows draw the cells that they are given, and their titles count them."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from imetlib.figures_ten_crop import plot_coverage, plot_crop_geometry

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


def test_figures_load_no_keras():
    code = "import sys, imetlib.figures_ten_crop; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
