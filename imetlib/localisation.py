"""Does attention look at what it names? Maps and glimpses measured against the motifs' boxes.

One map belongs to one case of `imetlib.collection.motifs.Motifs` and lies evenly over its
picture (see `imetlib.localisation_grids`). Values are compared within a map only, so any scale
will do.

A network's cells look only about where they lie: Keras's "same" padding at stride 2 moves a map
to the upper left, training moves what filters weigh most, and shifts of half a cell and more are
usual. No map finds motifs better than that, whatever it is enlarged to.

Every measure stands beside what chance gives. Motifs are large and near the middle: who always
points at the centre of the picture (`hits_of_points`) is the reference to beat, not chance.
`imetlib.decisions.fbeta.bootstrap_interval` and `imetlib.decisions.comparison.paired_comparison`
give intervals, with `groups=motifs.pictures`: cases of one picture do not vary independently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imetlib.localisation_grids import any_box, box_coverage, cells_inside

if TYPE_CHECKING:
    import pandas as pd

    from imetlib.collection.motifs import Motifs

CENTRE = (0.5, 0.5)


@dataclass(frozen=True, eq=False)
class Pointing:
    """Result of `pointing_game`.

    Args:
        hits: `(num_cases,)` or `(num_cases, num_parts)` float64 in [0, 1]. 1 where the map's
            maximum lies in a box; where cells tie for it, the share of them that does.
        chance: `(num_cases,)` float64 in [0, 1]. Share of the map's cells whose middle lies in
            a box: what a cell drawn blindly hits. 0 where the grid is too coarse for the boxes.
    """

    hits: np.ndarray
    chance: np.ndarray

    @property
    def possible(self) -> np.ndarray:
        """`(num_cases,)` bool. Whether any cell could hit."""
        return self.chance > 0


@dataclass(frozen=True, eq=False)
class Overlap:
    """Result of `overlap`; each array `(num_cases,)` or `(num_cases, num_parts)` float64.

    Args:
        share: in [0, 1]. Share of the map's mass inside the boxes; a map without preference
            has `area`.
        area: in [0, 1], `(num_cases,)`. Share of the picture inside the boxes.
        iou: in [0, 1]. Intersection over union of the boxes and the highest cells of the map,
            as many of them as have the boxes' area.
    """

    share: np.ndarray
    area: np.ndarray
    iou: np.ndarray

    @property
    def lift(self) -> np.ndarray:
        """How many times denser the map's mass is inside the boxes than over the picture."""
        return self.share / _beside(self.area, self.share)

    @property
    def chance_iou(self) -> np.ndarray:
        """`(num_cases,)` float64. `iou` of a map without preference."""
        return self.area / (2 - self.area)


def pointing_game(maps, motifs: Motifs) -> Pointing:
    """Whether the maximum of each map lies in a box of its case.

    The original averages the rates of the categories and forgives 15 pixels; here every case
    counts once and there is no margin.

    Args:
        maps: `(num_cases, height, width)` float, or `(num_cases, height, width, num_parts)` for
            several maps a case. Of models with maps `(num_pictures, height, width,
            num_classes)` these are `maps[motifs.pictures, :, :, motifs.columns]`.
        motifs: `Motifs`.

    Returns:
        `Pointing`. With parts, `hits.max(axis=1)` says whether one of them hits, for which
        blind points have `1 - (1 - chance) ** num_parts`.

    Raises:
        ValueError: another shape, another number of cases, or a value that is not finite.

    Reference:
        Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016.
    """
    maps = _checked(maps, motifs)
    inside = cells_inside(motifs, maps.shape[1:3])
    peaks = maps == maps.max(axis=(1, 2), keepdims=True)
    hits = (peaks & _beside(inside, peaks)).sum(axis=(1, 2)) / peaks.sum(axis=(1, 2))
    return Pointing(hits, inside.mean(axis=(1, 2)))


def overlap(maps, motifs: Motifs) -> Overlap:
    """How much of each map lies in the boxes of its case, whatever its maximum.

    Values below zero count as zero: an activation map speaks against the attribute there. A map
    without a positive value counts as one without preference.

    Args:
        maps, motifs: see `pointing_game`.

    Returns:
        `Overlap`. Cells that a box cuts count with the share that it covers; cells that tie for
        the last of the highest places share them.

    Raises:
        ValueError: see `pointing_game`.

    Reference:
        `share` is the energy-based pointing game of Wang et al., "Score-CAM", CVPR Workshops
        2020.
    """
    maps = _checked(maps, motifs)
    coverage = box_coverage(motifs, maps.shape[1:3])
    area = coverage.mean(axis=(1, 2))
    mass = np.maximum(maps, 0.0)
    mass += mass.sum(axis=(1, 2), keepdims=True) == 0
    inside = (mass * _beside(coverage, mass)).sum(axis=(1, 2))
    flat = maps.reshape(len(maps), -1, *maps.shape[3:])
    taken = _highest_cells(flat, area * flat.shape[1])
    both = (taken * _beside(coverage.reshape(len(maps), -1), taken)).mean(axis=1)
    total = _beside(area, both)
    return Overlap(inside / mass.sum(axis=(1, 2)), area, both / (2 * total - both))


def hits_of_points(points, motifs: Motifs) -> np.ndarray:
    """Whether points lie in a box of their case.

    Args:
        points: `(2,)`, one point (x, y) for all cases such as `CENTRE`, or `(num_cases, 2)`;
            fractions of the picture.
        motifs: `Motifs`.

    Returns:
        `(num_cases,)` bool.

    Raises:
        ValueError: another shape.
    """
    points = one_a_case("points", points, 2, motifs)[motifs.cases]
    inside = (motifs.boxes[:, :2] <= points) & (points < motifs.boxes[:, 2:])
    return any_box(inside.all(axis=1), motifs)


def one_a_case(name, values, size, motifs: Motifs) -> np.ndarray:
    """`values` as `(num_cases, size)` float64, given so or as one `(size,)` for all cases.

    Raises:
        ValueError: another shape; the message calls the values `name`.
    """
    values = np.asarray(values, np.float64)
    if values.shape not in ((size,), (len(motifs), size)):
        raise ValueError(
            f"`{name}` must be ({size},) or ({len(motifs)}, {size}). Received: shape {values.shape}"
        )
    return np.broadcast_to(values, (len(motifs), size))


def best_point(motifs: Motifs, map_shape=(48, 48)) -> tuple[float, float]:
    """The one point that lies in a box most often: the best that a blind pointer can learn.

    Args:
        motifs: `Motifs`, of training pictures.
        map_shape: (height, width) of the grid whose middles are tried.

    Returns:
        (x, y) in fractions of the picture; the middle of the best ones where several tie.
    """
    counts = cells_inside(motifs, map_shape).sum(axis=0)
    rows, columns = np.nonzero(counts == counts.max())
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    height, width = map_shape
    return float((columns[nearest] + 0.5) / width), float((rows[nearest] + 0.5) / height)


def summarise_seeds(scores) -> pd.DataFrame:
    """Mean and spread over the seeds of a training.

    Args:
        scores: dict of name to the scores of its seeds, one float or a sequence of them.

    Returns:
        `pandas.DataFrame`, a row a name: `name`, `mean`, `std` (with n - 1; NaN of one seed),
        `num_seeds`, `scores` (tuple of floats).
    """
    import pandas as pd

    rows = []
    for name, values in scores.items():
        values = np.atleast_1d(np.asarray(values, np.float64))
        std = float(values.std(ddof=1)) if len(values) > 1 else np.nan
        rows.append((name, float(values.mean()), std, len(values), tuple(values.tolist())))
    return pd.DataFrame(rows, columns=["name", "mean", "std", "num_seeds", "scores"])


def _checked(maps, motifs):
    maps = np.asarray(maps)
    if maps.ndim not in (3, 4) or len(maps) != len(motifs) or not len(maps):
        raise ValueError(
            "`maps` must be (num_cases, height, width) or (num_cases, height, width, num_parts) "
            f"with {len(motifs)} cases. Received: shape {maps.shape}"
        )
    maps = maps.astype(np.float64)
    if not np.isfinite(maps).all():
        raise ValueError("`maps` must hold finite numbers. Received: NaN or infinity")
    return maps


def _beside(values, other):
    """One array of a case for all of its parts."""
    return values[..., None] if other.ndim > values.ndim else values


def _highest_cells(values, number):
    """How far each cell is among the highest `number` of its map; cells that tie share.

    Args:
        values: `(num_cases, num_cells, ...)`.
        number: `(num_cases,)` float, cells to take.
    """
    taken = np.empty_like(values)
    for case in np.ndindex(len(values), *values.shape[2:]):
        row = values[case[0], :, *case[1:]]
        ordered = np.sort(row)
        above = len(row) - np.searchsorted(ordered, row, "right")
        equal = len(row) - np.searchsorted(ordered, row, "left") - above
        taken[case[0], :, *case[1:]] = np.clip((number[case[0]] - above) / equal, 0, 1)
    return taken
