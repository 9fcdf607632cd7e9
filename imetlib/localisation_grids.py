"""Boxes and maps on grids over the picture.

A map of height x width cells lies evenly over the whole picture: cell (i, j) is the rectangle
from (j / width, i / height) to ((j + 1) / width, (i + 1) / height), its point the middle of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from imetlib.collection.motifs import Motifs


def grid_centres(map_shape) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the cells of a map.

    Args:
        map_shape: (height, width) of the map.

    Returns:
        `(height,)` and `(width,)` float64: y of the rows and x of the columns in fractions of
        the picture.
    """
    height, width = ((np.arange(side) + 0.5) / side for side in map_shape)
    return height, width


def enlarge_maps(maps, shape=(48, 48)) -> np.ndarray:
    """Maps on a fine grid, bilinear between the middles of their cells.

    Measures of maps with different cells can be compared only so: on their own grids, coarse
    maps miss small motifs. Beyond the outermost middles the values go on as they are.

    Args:
        maps: `(num_maps, height, width)` or `(num_maps, height, width, num_parts)` float.
        shape: (height, width) of the fine grid.

    Returns:
        `(num_maps, *shape)` or `(num_maps, *shape, num_parts)` float64.

    Example:
        >>> enlarge_maps([[[0.0, 1.0]]], (1, 4))
        array([[[0.  , 0.25, 0.75, 1.  ]]])
    """
    maps = np.asarray(maps, np.float64)
    rows, columns = (
        np.stack([np.interp(points, middles, one) for one in np.eye(len(middles))], axis=1)
        for points, middles in zip(grid_centres(shape), grid_centres(maps.shape[1:3]), strict=True)
    )
    return np.einsum("yh,nhw...,xw->nyx...", rows, maps, columns, optimize=True)


def cells_inside(motifs: Motifs, map_shape) -> np.ndarray:
    """`(num_cases, height, width)` bool: cells whose middle lies in a box of the case."""
    y, x = (
        (motifs.boxes[:, low, None] <= middles) & (middles < motifs.boxes[:, low + 2, None])
        for low, middles in zip((1, 0), grid_centres(map_shape), strict=True)
    )
    return any_box(y[:, :, None] & x[:, None, :], motifs)


def box_coverage(motifs: Motifs, map_shape) -> np.ndarray:
    """Share of each cell that the boxes of a case cover together, boxes that overlap once.

    Args:
        motifs: `Motifs`.
        map_shape: (height, width) of the grid.

    Returns:
        `(num_cases, height, width)` float64 in [0, 1]. Its mean over a map is the exact area of
        the boxes' union.
    """
    place = np.arange(len(motifs.cases)) - np.searchsorted(motifs.cases, motifs.cases)
    # Missing boxes are empty ones.
    boxes = np.zeros((len(motifs), place.max(initial=0) + 1, 4))
    boxes[motifs.cases, place] = motifs.boxes
    # Edges of boxes and cells cut each axis into pieces that lie in a box and a cell, or not.
    (y_inside, y_length), (x_inside, x_length) = (
        _cut_axis(boxes[:, :, (low, low + 2)], cells)
        for low, cells in zip((1, 0), map_shape, strict=True)
    )
    inside = np.zeros((len(motifs), y_length.shape[1], x_length.shape[1]), bool)
    for box in range(boxes.shape[1]):
        inside |= y_inside[:, box, :, None] & x_inside[:, box, None, :]
    covered = y_length.transpose(0, 2, 1) @ inside @ x_length
    return np.minimum(covered * np.prod(map_shape), 1.0)


def any_box(inside, motifs: Motifs) -> np.ndarray:
    """Whether something is true of any box of a case: `(num_boxes, ...)` to `(num_cases, ...)`."""
    starts = np.searchsorted(motifs.cases, np.arange(len(motifs)))
    return np.logical_or.reduceat(inside, starts, axis=0)


def _cut_axis(spans, cells):
    """Pieces of one axis: `(cases, boxes, pieces)` bool, `(cases, pieces, cells)` lengths."""
    edges = np.broadcast_to(np.linspace(0, 1, cells + 1), (len(spans), cells + 1))
    cuts = np.sort(np.concatenate([spans.reshape(len(spans), -1), edges], axis=1), axis=1)
    middles, lengths = (cuts[:, 1:] + cuts[:, :-1]) / 2, np.diff(cuts, axis=1)
    inside = (spans[:, :, None, 0] <= middles[:, None]) & (middles[:, None] < spans[:, :, None, 1])
    own = np.floor(middles * cells)[..., None] == np.arange(cells)
    return inside, lengths[..., None] * own
