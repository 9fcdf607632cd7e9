"""Do a recurrent network's glimpses look at the motifs? They are measured as rectangles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imetlib.localisation import hits_of_points, one_a_case

if TYPE_CHECKING:
    from imetlib.collection.motifs import Motifs

WHOLE_PICTURE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class GlimpseOverlap:
    """Result of `glimpse_overlap`, each array `(num_cases,)`.

    Args:
        hits: bool. Whether the glimpse's centre lies in a box, as in the pointing game.
        iou: float64 in [0, 1]. Intersection over union with the box that fits best.
        covered: float64 in [0, 1]. Share of a box inside the glimpse, of the best covered one.
        area: float64 in [0, 1]. Share of the picture inside the glimpse: a large one covers
            any box, the whole picture all of it.
    """

    hits: np.ndarray
    iou: np.ndarray
    covered: np.ndarray
    area: np.ndarray


def glimpse_rectangles(glimpses, map_shape) -> np.ndarray:
    """Glimpses as rectangles of the picture.

    A glimpse (sx, sy, tx, ty) is the grid at which a spatial transformer reads a map, from t - s
    to t + s in coordinates where -1 and 1 are the middles of the map's corner cells. Its
    rectangle reaches half a cell further, as the cell in which a point stands does: the whole
    map (1, 1, 0, 0) is the whole picture, and no glimpse is smaller than a cell.

    Args:
        glimpses: `(..., 4)` float. A negative scale mirrors and covers the same.
        map_shape: (height, width) of the map that is read.

    Returns:
        `(..., 4)` float64, x0, y0, x1, y1 in fractions of the picture, not clipped to it.

    Raises:
        ValueError: the last axis is not 4.

    Example:
        >>> glimpse_rectangles([1, 1, 0, 0], (4, 4)).tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    glimpses = np.asarray(glimpses, np.float64)
    if glimpses.shape[-1:] != (4,):
        raise ValueError(
            f"`glimpses` must be (..., 4): sx, sy, tx, ty. Received: shape {glimpses.shape}"
        )
    cells = np.array(map_shape[::-1])
    middle = ((glimpses[..., 2:] + 1) * (cells - 1) / 2 + 0.5) / cells
    half = (np.abs(glimpses[..., :2]) * (cells - 1) / 2 + 0.5) / cells
    return np.concatenate([middle - half, middle + half], axis=-1)


def winning_glimpses(scores, motifs: Motifs) -> np.ndarray:
    """The glimpse whose score is the attribute's score: the highest of all glimpses.

    Args:
        scores: `(num_pictures, num_glimpses, num_classes)` float.
        motifs: `Motifs` of single attributes.

    Returns:
        `(num_cases,)` int64. The first one where several tie.

    Raises:
        ValueError: `motifs` are of no single attribute (`by_picture`).
    """
    if (motifs.columns < 0).any():
        raise ValueError("`motifs` must be cases of single attributes. Received: `by_picture`")
    return np.asarray(scores)[motifs.pictures, :, motifs.columns].argmax(axis=1)


def glimpse_overlap(rectangles, motifs: Motifs) -> GlimpseOverlap:
    """How well one glimpse a case fits its boxes.

    A glimpse can hold one of several equal motifs that stand apart, so the box that it fits
    best counts.

    Args:
        rectangles: `(num_cases, 4)` float, as from `glimpse_rectangles`, or one for all cases
            such as `WHOLE_PICTURE`.
        motifs: `Motifs`.

    Returns:
        `GlimpseOverlap`.

    Raises:
        ValueError: another shape.
    """
    rectangles = one_a_case("rectangles", rectangles, 4, motifs)
    hits = hits_of_points((rectangles[:, :2] + rectangles[:, 2:]) / 2, motifs)
    seen = np.clip(rectangles, 0, 1)
    area = _area(seen)
    of_box, boxes = seen[motifs.cases], motifs.boxes
    common = _area(
        np.concatenate(
            [np.maximum(of_box[:, :2], boxes[:, :2]), np.minimum(of_box[:, 2:], boxes[:, 2:])], 1
        )
    )
    iou = common / (area[motifs.cases] + _area(boxes) - common)
    starts = np.searchsorted(motifs.cases, np.arange(len(motifs)))
    return GlimpseOverlap(
        hits,
        np.maximum.reduceat(iou, starts),
        np.maximum.reduceat(common / _area(boxes), starts),
        area,
    )


def _area(boxes):
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
