"""The ornaments of the pocket museum: one period of each, and how it fills a band or a ring."""

import numpy as np

from imetlib.collection.museum_objects import Band
from imetlib.collection.museum_polygons import arc, ellipse, polygon


def ornament_polygons(name, band):
    """Polygons of an ornament laid along a band.

    Args:
        name: one of `ORNAMENTS` of the catalogue.
        band: `Band` or `Ring`.

    Returns:
        List of `(num_copies, num_points, 2)` arrays, one a polygon of the period, to be filled one
        after another.
    """
    length = _length(band)
    period = PERIODS[name] * band.half
    copies = max(round(length / period), 1)
    layers = []
    for points, _ in UNITS[name]():
        along = (points[:, 0] + np.arange(copies)[:, None]) * (length / copies)
        across = np.broadcast_to(points[:, 1] * band.half, along.shape)
        layers.append(_bend(band, along, across))
    return layers


def band_polygon(band):
    """The outline of a band or ring, `(num_points, 2)`."""
    along = np.linspace(0, _length(band), 2 if isinstance(band, Band) else 48)
    half = np.full_like(along, band.half)
    return np.concatenate([_bend(band, along, -half), _bend(band, along, half)[::-1]])


def _length(band):
    if isinstance(band, Band):
        return float(np.hypot(band.x1 - band.x0, band.y1 - band.y0))
    return float(np.radians(band.stop - band.start) * band.radius)


def _bend(band, along, across):
    """Points at a distance `along` the band and `across` it."""
    if isinstance(band, Band):
        start, stop = np.array(band[:2]), np.array(band[2:4])
        direction = (stop - start) / np.hypot(*(stop - start))
        side = np.array([-direction[1], direction[0]])
        return start + along[..., None] * direction + across[..., None] * side
    angle = np.radians(band.start) + along / band.radius
    radius = band.radius - across
    return np.stack([band.x + radius * np.cos(angle), band.y + radius * np.sin(angle)], axis=-1)


def _wave():
    x = np.linspace(0, 1, 13)
    crest = np.stack([x, -0.05 - 0.75 * np.cos(2 * np.pi * x)], axis=1)
    return [(np.concatenate([crest, [(1, 1), (0, 1)]]), 0)]


def _braid():
    x = np.linspace(0, 1, 13)
    strands = [np.stack([x, sign * 0.6 * np.cos(2 * np.pi * x)], axis=1) for sign in (1, -1)]
    return [_flat_stroke(0.34, strand) for strand in strands] + [
        ellipse(0.5, 0, 0.08, 0.16), ellipse(0.0, 0, 0.08, 0.16)]  # fmt: skip


def _flat_stroke(width, points):
    shift = np.array([0, width / 2])
    return np.concatenate([points - shift, (points + shift)[::-1]]), 0


def _rosette():
    petals = []
    for angle in np.arange(6) * np.pi / 3:
        petals.append(ellipse(0.5 + 0.23 * np.cos(angle), 0.55 * np.sin(angle), 0.13, 0.31))
    return petals


UNITS = {
    "zigzags": lambda: [polygon((0, 0.75), (0.5, -0.85), (1, 0.75), (1, 0.2), (0.5, -0.3), (0, 0.2),
                                (0, 0.75))],
    "dots": lambda: [ellipse(0.5, 0, 0.33, 0.6)],
    "meanders": lambda: [polygon(
        (0, 0.9), (0, -0.9), (0.86, -0.9), (0.86, 0.45), (0.36, 0.45), (0.36, -0.2), (0.56, -0.2),
        (0.56, 0.1), (0.7, 0.1), (0.7, -0.55), (0.16, -0.55), (0.16, 0.9))],
    "checkers": lambda: [polygon((0, -1), (0.5, -1), (0.5, 0), (0, 0)),
                         polygon((0.5, 0), (1, 0), (1, 1), (0.5, 1))],
    "waves": _wave,
    "lattices": lambda: [
        polygon((0, -1), (0.12, -1), (1, 1), (0.88, 1)), polygon((0.88, -1), (1, -1), (0.12, 1),
                                                               (0, 1)),
        ellipse(0.5, -0.75, 0.1, 0.15), ellipse(0.5, 0.75, 0.1, 0.15)],
    "scallops": lambda: [arc(0.5, -1, 0.47, 0, 180, 0.0, ratio=3.6)],
    "stripes": lambda: [polygon((0.25, -1), (0.75, -1), (0.75, 1), (0.25, 1))],
    "triangles": lambda: [polygon((0.04, 0.9), (0.5, -0.9), (0.96, 0.9))],
    "rosettes": _rosette,
    "arches": lambda: [
        polygon((0.05, 1), (0.05, -0.2), (0.25, -0.75), (0.5, -0.95), (0.75, -0.75), (0.95, -0.2),
                (0.95, 1), (0.72, 1), (0.72, 0), (0.5, -0.45), (0.28, 0), (0.28, 1))],
    "braids": _braid,
}  # fmt: skip

PERIODS = {
    "zigzags": 1.6, "dots": 1.8, "meanders": 2.3, "checkers": 2.0, "waves": 2.2, "lattices": 1.8,
    "scallops": 1.9, "stripes": 1.1, "triangles": 1.7, "rosettes": 2.3, "arches": 1.8,
    "braids": 2.8,
}  # fmt: skip
"""Length of a period in half widths of the band."""
