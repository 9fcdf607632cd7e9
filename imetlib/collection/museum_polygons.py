"""Filled polygons from which the motifs and objects of the pocket museum are made.

Each function returns a part: `(num_points, 2)` float64 points, y pointing down, and its role, a
small integer that says with which colour the part is painted.
"""

import numpy as np

MAIN, ACCENT, HOLE = 0, 1, 2
"""Roles in a motif: the motif's colour, its second colour, the ground."""

GROUND, TRIM, DARK, LIGHT = 0, 1, 2, 3
"""Roles in an object."""


def polygon(*corners, role=MAIN):
    """Straight edges through `corners`, pairs (x, y)."""
    return np.array(corners, float), role


def blob(*corners, role=MAIN):
    """A closed soft curve near `corners` (two rounds of Chaikin's corner cutting)."""
    points = np.array(corners, float)
    for _ in range(2):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1)
        points = points.reshape(-1, 2)
    return points, role


def ellipse(x, y, radius_x, radius_y=None, turn=0.0, role=MAIN):
    """An ellipse around (x, y), turned clockwise by `turn` degrees."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    points = np.stack([radius_x * np.cos(angle), (radius_y or radius_x) * np.sin(angle)], axis=1)
    return points @ rotation(turn).T + (x, y), role


def stroke(width, *corners, end=None, role=MAIN):
    """A line of `width` through `corners` that tapers to the width `end`."""
    points = np.array(corners, float)
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    half = np.linspace(width, width if end is None else end, len(points))[:, None] / 2
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) * half
    return np.concatenate([points + side, (points - side)[::-1]]), role


def arc(x, y, radius, start, stop, width, *, ratio=1.0, end=None, role=MAIN):
    """A bent line on an ellipse, from `start` to `stop` degrees."""
    angle = np.radians(np.linspace(start, stop, 20))
    points = np.stack([x + radius * np.cos(angle), y + ratio * radius * np.sin(angle)], axis=1)
    return stroke(width, *points, end=end, role=role)


def star(tips, inner=0.45, x=0.0, y=0.0, radius=1.0, role=MAIN):
    """A star with `tips` tips, the first pointing up."""
    angle = np.arange(2 * tips) * np.pi / tips
    length = np.where(np.arange(2 * tips) % 2, inner, 1.0) * radius
    return np.stack([x + length * np.sin(angle), y - length * np.cos(angle)], axis=1), role


def around(part, times, first=0.0):
    """Copies of `part` turned around the origin."""
    points, role = part
    return [(points @ rotation(first + 360 * k / times).T, role) for k in range(times)]


def mirrored(*parts):
    """Each part and its image in the vertical axis."""
    return [p for points, role in parts for p in ((points, role), (points * (-1, 1), role))]


def rotation(degrees):
    """The `(2, 2)` matrix that turns points clockwise, as y points down."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])
