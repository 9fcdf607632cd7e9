"""The motifs of the pocket museum: glyphs made of filled polygons.

A glyph is drawn in a square from -1 to 1 with y pointing down, and fitted into it, so that a
motif is as large as its place whatever it shows. `MOTIFS` lists the names in order of frequency:
the first dozen were chosen to be told apart at 20 pixels, because most labels are theirs.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from imetlib.collection.museum_polygons import (
    ACCENT,
    HOLE,
    MAIN,
    arc,
    around,
    blob,
    ellipse,
    mirrored,
    polygon,
    star,
    stroke,
)


class Glyph(NamedTuple):
    """Polygons of one motif.

    Attributes:
        points: `(num_points, 2)` float32 in [-1, 1], the polygons one after another.
        ends: index behind the last point of each polygon.
        roles: `MAIN`, `ACCENT` or `HOLE` of each polygon.
    """

    points: np.ndarray
    ends: tuple[int, ...]
    roles: tuple[int, ...]


@cache
def motif_glyph(name: str) -> Glyph:
    """The glyph of one motif, fitted into the square from -1 to 1.

    Args:
        name: one of `MOTIFS`.

    Returns:
        `Glyph`.

    Raises:
        ValueError: the name is unknown.

    Example:
        >>> float(abs(motif_glyph("fish").points).max())
        1.0
    """
    if name not in MOTIFS:
        raise ValueError(f"Unknown motif. Expected one of {list(MOTIFS)}. Received: {name!r}")
    parts = MOTIFS[name]()
    points = np.concatenate([points for points, _ in parts])
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) / ((high - low).max() / 2)
    ends = np.cumsum([len(points) for points, _ in parts])
    return Glyph(points.astype(np.float32), tuple(ends.tolist()), tuple(r for _, r in parts))


# Families ------------------------------------------------------------------------------------


def _flower(petals, wide, long, *, heart=0.25, first=0.0):
    petal = ellipse(0, -long, wide, 1 - long)
    return [*around(petal, petals, first), ellipse(0, 0, heart, role=ACCENT)]


def _quadruped(*, body=0.27, leg=0.55, neck=(0.22, -0.45), thick=0.22, head=(0.2, 0.13), tail=0.5):
    x, y = 0.38 + neck[0], neck[1]
    feet = body / 2 + leg
    return [
        *(
            stroke(0.13, (at, 0), (at + lean, feet), end=0.1)
            for at, lean in ((-0.48, -0.05), (-0.33, 0.06), (0.27, -0.04), (0.42, 0.07))
        ),
        blob(
            (-0.62, -body),
            (0.55, -body),
            (0.6, 0.1),
            (0.4, body),
            (-0.4, 0.8 * body),
            (-0.65, 0.15),
        ),
        stroke(1.6 * thick, (0.3, 0.05), (0.42, y / 2), (x, y), end=thick),
        ellipse(x + 0.1, y, *head, turn=20),
        arc(-0.6, -body + tail, tail, -90, -170, 0.09, ratio=1.2, end=0.06),
        ellipse(x + 0.08, y - 0.03, 0.03, role=HOLE),
    ]


def _bird(*, neck=(0.15, -0.25), thick=0.3, head=0.15, beak=0.22, leg=0.35, tail=0.0, wing=0.4):
    x, y = 0.3 + neck[0], neck[1]
    return [
        blob((-1, -0.25 - tail), (-0.4, -0.2), (0.35, -0.3), (0.5, 0.1), (0.1, 0.42), (-0.4, 0.3),
             (-1.05, 0.05 - tail)),
        stroke(1.2 * thick, (0.2, 0.05), (0.42, y / 2), (x, y), end=0.7 * thick),
        ellipse(x + 0.03, y, head),
        polygon((x + 0.1, y - 0.1), (x + 0.1 + beak, y + 0.05), (x + 0.1, y + 0.1), role=ACCENT),
        blob((0.25, -0.15), (0.2, 0.2), (-0.3, 0.15), (-0.2 - wing, -0.05), role=ACCENT),
        stroke(0.07, (-0.05, 0.3), (-0.1, 0.35 + leg)), stroke(0.07, (0.1, 0.3), (0.1, 0.35 + leg)),
        ellipse(x + 0.05, y - 0.03, 0.035, role=HOLE),
    ]  # fmt: skip


def _bust(*hair):
    return [
        *hair,
        blob((-0.85, 1), (-0.8, 0.55), (-0.2, 0.35), (0.2, 0.35), (0.8, 0.55), (0.85, 1), (0, 1)),
        stroke(0.3, (0, 0), (0, 0.5), role=ACCENT),
        ellipse(0, -0.2, 0.36, 0.46, role=ACCENT),
        ellipse(-0.14, -0.25, 0.05, role=HOLE),
        ellipse(0.14, -0.25, 0.05, role=HOLE),
        stroke(0.05, (-0.12, 0.02), (0.12, 0.02), role=HOLE),
    ]


def _fruit(*bodies):
    return [
        *bodies,
        stroke(0.1, (0, -0.5), (0.08, -1)),
        blob((0.08, -0.8), (0.4, -1.1), (0.75, -0.9), (0.4, -0.65), role=ACCENT),
    ]


def _wings(upper, lower, body=0.1):
    return [*mirrored((upper, MAIN), (lower, ACCENT)), ellipse(0, 0, body, 0.75, role=MAIN)]


def _roof(*storeys):
    return [
        part
        for x0, x1, y0, y1, eave in storeys
        for part in (
            polygon((x0, y1), (x0, y0), (x1, y0), (x1, y1)),
            polygon((x0 - 0.15, y0), ((x0 + x1) / 2, y0 - eave), (x1 + 0.15, y0), role=ACCENT),
        )
    ]


def _door(x=0.0, y=0.9, wide=0.14, high=0.45):
    return polygon((x - wide, y), (x - wide, y - high), (x + wide, y - high), (x + wide, y),
                   role=HOLE)  # fmt: skip


def _rays(times, inner, outer, width, role=MAIN):
    return around(stroke(width, (0, -inner), (0, -outer), end=0.02, role=role), times)


_ANTLERS = (
    stroke(0.07, (0.62, -0.6), (0.5, -1.1), (0.7, -1.4)),
    stroke(0.06, (0.55, -0.95), (0.85, -1.15)),
    stroke(0.07, (0.7, -0.6), (0.95, -0.9), (1.0, -1.3)),
)
_TRUNK = stroke(0.22, (0, 0), (0.02, 1), end=0.3, role=ACCENT)

MOTIFS = {
    "flowers": lambda: _flower(6, 0.3, 0.66),
    "birds": lambda: _bird(),
    "men": lambda: [
        *_bust(blob((-0.5, -0.3), (-0.45, -0.85), (0.45, -0.85), (0.5, -0.3), (0, -0.5))),
        blob((-0.36, -0.05), (0, 0.1), (0.36, -0.05), (0.2, 0.5), (-0.2, 0.5))],
    "trees": lambda: [_TRUNK, ellipse(0, -0.45, 0.6, 0.5), ellipse(-0.42, -0.1, 0.42),
                      ellipse(0.42, -0.1, 0.42)],
    "fish": lambda: [
        blob((0.95, 0), (0.4, -0.5), (-0.3, -0.35), (-0.6, 0), (-0.3, 0.35), (0.4, 0.5)),
        polygon((-0.4, 0), (-1, -0.5), (-0.8, 0), (-1, 0.5)),
        arc(0.25, 0, 0.35, -60, 60, 0.07, role=HOLE), ellipse(0.6, -0.1, 0.08, role=HOLE),
        polygon((-0.1, -0.3), (0.2, -0.65), (0.35, -0.38), role=ACCENT)],
    "stars": lambda: [star(5)],
    "horses": lambda: [*_quadruped(leg=0.65, neck=(0.3, -0.65), head=(0.26, 0.12)),
                       blob((0.25, -0.25), (0.45, -0.85), (0.7, -0.85), (0.5, -0.2), role=ACCENT)],
    "boats": lambda: [
        blob((-1, 0.3), (-0.9, 0.35), (0.9, 0.35), (1, 0.3), (0.65, 0.85), (-0.65, 0.85)),
        stroke(0.09, (0, 0.5), (0, -1)), polygon((0.08, -0.95), (0.85, 0.15), (0.08, 0.15),
                                                 role=ACCENT),
        polygon((-0.08, -0.7), (-0.65, 0.15), (-0.08, 0.15), role=ACCENT)],
    "leaves": lambda: [
        blob((0, -1.1), (0.7, -0.3), (0.5, 0.4), (0, 0.7), (-0.5, 0.4), (-0.7, -0.3)),
        stroke(0.08, (0, -0.8), (0, 1), role=ACCENT),
        *mirrored(stroke(0.06, (0, 0.3), (0.35, 0.0), role=ACCENT),
                  stroke(0.06, (0, -0.1), (0.35, -0.4), role=ACCENT))],
    "suns": lambda: [*_rays(12, 0.55, 1, 0.22), ellipse(0, 0, 0.5, role=ACCENT)],
    "women": lambda: _bust(blob((-0.75, 0.6), (-0.55, -0.9), (0, -1.1), (0.55, -0.9), (0.75, 0.6),
                                (0.2, 0.4), (-0.2, 0.4))),
    "crosses": lambda: [stroke(0.36, (0, -1), (0, 1)), stroke(0.36, (-0.75, -0.25),
                                                              (0.75, -0.25))],
    "mountains": lambda: [
        polygon((-1, 0.7), (-0.3, -0.75), (0.4, 0.7)), polygon((-0.1, 0.7), (0.45, -0.3),
                                                               (1, 0.7)),
        polygon((-0.3, -0.75), (-0.54, -0.25), (-0.3, -0.38), (-0.06, -0.25), role=ACCENT)],
    "butterflies": lambda: _wings(blob((0, -0.1), (0.5, -1), (1.1, -0.8), (0.9, 0), (0, 0.1))[0],
                                  blob((0, 0), (0.8, 0.05), (0.7, 0.9), (0.2, 0.6))[0]),
    "moons": lambda: [blob((0.35, -1), (-0.5, -0.9), (-0.95, 0), (-0.5, 0.9), (0.35, 1),
                           (-0.15, 0.5), (-0.3, 0), (-0.15, -0.5))],
    "cats": lambda: [
        ellipse(0, 0.1, 0.8, 0.7), *mirrored(polygon((0.1, -0.4), (0.72, -1), (0.75, 0)),
                                             ellipse(0.3, 0, 0.14, 0.18, role=HOLE)),
        *mirrored(stroke(0.05, (0.25, 0.35), (0.95, 0.25), role=HOLE),
                  stroke(0.05, (0.25, 0.42), (0.9, 0.5), role=HOLE)),
        polygon((-0.12, 0.25), (0.12, 0.25), (0, 0.4), role=ACCENT)],
    "houses": lambda: [*_roof((-0.7, 0.7, -0.05, 0.9, 0.75)), _door()],
    "hearts": lambda: [blob((0, 1.1), (-0.9, 0.1), (-1, -0.6), (-0.5, -1), (0, -0.35), (0.5, -1),
                            (1, -0.6), (0.9, 0.1))],
    "snakes": lambda: [
        stroke(0.2, *[(0.45 * np.sin(t), t / 4 - 0.9) for t in np.linspace(0, 7.5, 30)], end=0.08),
        ellipse(0.05, -0.95, 0.22, 0.16), stroke(0.05, (0.2, -0.95), (0.5, -1), role=ACCENT)],
    "crowns": lambda: [
        polygon((-0.9, 0.6), (-1, -0.5), (-0.5, 0), (0, -0.75), (0.5, 0), (1, -0.5), (0.9, 0.6)),
        *(ellipse(x, y, 0.11, role=ACCENT) for x, y in ((-1, -0.5), (0, -0.75), (1, -0.5))),
        stroke(0.14, (-0.85, 0.42), (0.85, 0.42), role=ACCENT)],
    "lions": lambda: [*around(ellipse(0, -0.7, 0.22, 0.3), 11),
                      ellipse(0, 0, 0.68, role=ACCENT),
                      *mirrored(ellipse(0.25, -0.12, 0.09, role=HOLE)),
                      polygon((-0.2, 0.12), (0.2, 0.12), (0, 0.35), role=HOLE),
                      stroke(0.07, (-0.25, 0.45), (0, 0.35), (0.25, 0.45), role=HOLE)],
    "palms": lambda: [arc(0.9, 0.6, 1, 155, 215, 0.2, ratio=1, end=0.13, role=ACCENT),
                      *(arc(x, y, 0.5, a, b, 0.28, end=0.02) for x, y, a, b in (
                          (0.5, 0.1, 180, 350), (-0.35, 0.15, 0, -170), (0.4, -0.25, 200, 350),
                          (-0.25, -0.3, -20, -170), (0.5, 0.5, 190, 300)))],
    "eyes": lambda: [blob((-1.1, 0), (-0.3, -0.65), (0.3, -0.65), (1.1, 0), (0.3, 0.65),
                          (-0.3, 0.65)),
                     ellipse(0, 0, 0.4, role=HOLE), ellipse(0, 0, 0.26, role=ACCENT)],
    "grapes": lambda: [ellipse(x * 0.36, y * 0.33 - 0.25, 0.21)
                       for y in range(4) for x in np.arange(4 - y) - (3 - y) / 2]
    + [stroke(0.1, (0, -0.3), (0.1, -1)),
       blob((0.1, -0.6), (0.2, -1.1), (0.9, -0.9), (0.6, -0.5), role=ACCENT)],
    "hands": lambda: [blob((-0.5, 0), (0.5, -0.1), (0.5, 0.6), (0.2, 1), (-0.3, 1), (-0.5, 0.6)),
                      *(stroke(0.22, (x, 0.2), (1.5 * x, y)) for x, y in (
                          (-0.36, -0.6), (-0.12, -0.9), (0.12, -0.85), (0.36, -0.55))),
                      stroke(0.24, (0.3, 0.6), (0.9, 0)),
                      ellipse(0, 0.45, 0.18, role=ACCENT)],
    "deer": lambda: [*_quadruped(body=0.22, leg=0.7, neck=(0.22, -0.6), thick=0.15, tail=0.15),
                     *_ANTLERS],
    "crabs": lambda: [ellipse(0, 0.15, 0.6, 0.4),
                      *mirrored(*(stroke(0.1, (0.4, 0.2), (0.85, y), (0.95, y + 0.35))
                                  for y in (0.05, 0.3, 0.55)),
                                stroke(0.14, (0.4, 0), (0.75, -0.4)),
                                arc(0.7, -0.65, 0.22, 100, 350, 0.16),
                                ellipse(0.15, -0.3, 0.08, role=ACCENT))],
    "temples": lambda: [polygon((-1, -0.35), (0, -0.9), (1, -0.35)),
                        *(stroke(0.2, (x, -0.3), (x, 0.7), role=ACCENT)
                          for x in (-0.75, -0.25, 0.25, 0.75)),
                        stroke(0.2, (-1, 0.75), (1, 0.75)), stroke(0.12, (-0.95, -0.28),
                                                                   (0.95, -0.28))],
    "swans": lambda: [blob((-1, -0.3), (-0.3, 0), (0.4, 0.1), (0.7, 0.4), (0.3, 0.75),
                           (-0.5, 0.7)),
                      stroke(0.22, (0.45, 0.45), (0.62, 0.1), (0.3, -0.25), (0.2, -0.6),
                             (0.38, -0.9), (0.62, -0.85), end=0.16),
                      ellipse(0.58, -0.82, 0.17, 0.13),
                      polygon((0.68, -0.95), (1.05, -0.68), (0.66, -0.7), role=ACCENT),
                      blob((-0.6, -0.35), (0.3, 0.15), (0.2, 0.5), (-0.4, 0.4), role=ACCENT)],
    "elephants": lambda: [*_quadruped(body=0.42, leg=0.45, neck=(0.15, -0.3), thick=0.4,
                                      head=(0.3, 0.3), tail=0.25),
                          stroke(0.22, (0.8, -0.25), (0.98, 0.2), (0.95, 0.6), end=0.1),
                          ellipse(0.42, -0.22, 0.2, 0.3, role=ACCENT)],
    "keys": lambda: [*around(ellipse(0, -0.25, 0.3), 1), ellipse(0, -0.65, 0.36),
                     ellipse(0, -0.65, 0.17, role=HOLE), stroke(0.18, (0, -0.3), (0, 1)),
                     stroke(0.16, (0, 0.9), (0.4, 0.9)), stroke(0.16, (0, 0.6), (0.35, 0.6))],
    "bells": lambda: [blob((-0.2, -0.9), (0.2, -0.9), (0.55, -0.5), (0.6, 0.3), (0.95, 0.65),
                           (-0.95, 0.65), (-0.6, 0.3), (-0.55, -0.5)),
                      ellipse(0, 0.75, 0.2, role=ACCENT), arc(0, -0.85, 0.15, 180, 360, 0.1)],
    "anchors": lambda: [stroke(0.16, (0, -0.6), (0, 0.9)), arc(0, 0.15, 0.75, 10, 170, 0.18),
                        stroke(0.14, (-0.45, -0.4), (0.45, -0.4)),
                        arc(0, -0.75, 0.18, 0, 360, 0.12),
                        *mirrored(polygon((0.5, 0.3), (0.95, 0), (0.9, 0.5)))],
    "turtles": lambda: [*mirrored(ellipse(0.6, -0.45, 0.32, 0.18, 40),
                                  ellipse(0.6, 0.5, 0.3, 0.16, -40)), ellipse(0, -0.85, 0.22, 0.26),
                        ellipse(0, 0, 0.62, 0.72, role=ACCENT),
                        star(6, 0.8, radius=0.35)],
    "shells": lambda: [*(stroke(0.06, (0, 0.8), (np.sin(a), 0.5 - 1.3 * np.cos(a)), end=0.34)
                         for a in np.linspace(-1, 1, 7)),
                       stroke(0.2, (-0.35, 0.85), (0.35, 0.85), role=ACCENT)],
    "camels": lambda: [*_quadruped(body=0.2, leg=0.75, neck=(0.35, -0.5), thick=0.14, tail=0.25),
                       ellipse(-0.35, -0.3, 0.22, 0.28), ellipse(0.1, -0.3, 0.22, 0.28)],
    "towers": lambda: [stroke(0.75, (0, 1), (0, -0.4), end=0.6),
                       *(stroke(0.2, (x, -0.4), (x, -0.85)) for x in (-0.35, 0, 0.35)),
                       stroke(0.25, (-0.48, -0.45), (0.48, -0.45)), _door(0, 1, 0.13, 0.45),
                       _door(0, 0.2, 0.08, 0.25)],
    "dogs": lambda: [*_quadruped(body=0.2, leg=0.45, neck=(0.25, -0.35), head=(0.28, 0.14),
                                 tail=0.3),
                     blob((0.5, -0.5), (0.62, -0.42), (0.55, -0.05), (0.42, -0.1), role=ACCENT)],
    "wheels": lambda: [arc(0, 0, 0.88, 0, 360, 0.22), *around(stroke(0.12, (0, 0), (0, -0.85)), 8),
                       ellipse(0, 0, 0.24, role=ACCENT)],
    "owls": lambda: [blob((-0.6, -1.1), (0, -0.75), (0.6, -1.1), (0.7, 0.4), (0.3, 1), (-0.3, 1),
                          (-0.7, 0.4)),
                     *mirrored(ellipse(0.27, -0.4, 0.25, role=ACCENT),
                               ellipse(0.27, -0.4, 0.12, role=HOLE)),
                     polygon((-0.1, -0.2), (0.1, -0.2), (0, 0.05), role=HOLE)],
    "roses": lambda: [*around(ellipse(0, -0.55, 0.42), 7), *around(
        ellipse(0, -0.32, 0.26, role=ACCENT), 5), *around(ellipse(0, -0.14, 0.16), 3)],
    "pomegranates": lambda: [ellipse(0, 0.2, 0.75), polygon((-0.3, -0.4), (-0.4, -1), (-0.1, -0.7),
                             (0, -1), (0.1, -0.7), (0.4, -1), (0.3, -0.4)),
                             *(ellipse(x, y, 0.12, role=ACCENT) for x, y in (
                                 (0, 0), (-0.22, 0.2), (0.22, 0.2), (0, 0.4)))],
    "tulips": lambda: [blob((-0.6, -1), (-0.25, -0.6), (0, -1.1), (0.25, -0.6), (0.6, -1),
                            (0.55, -0.2), (0, 0.1), (-0.55, -0.2)),
                       stroke(0.1, (0, -0.1), (0, 1), role=ACCENT),
                       *mirrored(blob((0, 0.9), (0.2, 0.4), (0.7, 0), (0.45, 0.7), role=ACCENT))],
    "rabbits": lambda: [ellipse(-0.15, 0.4, 0.6, 0.48), ellipse(0.45, -0.1, 0.3),
                        ellipse(0.35, -0.65, 0.12, 0.45, -8), ellipse(0.6, -0.6, 0.11, 0.42, 15),
                        ellipse(-0.75, 0.4, 0.18, role=ACCENT), ellipse(0.55, -0.12, 0.06,
                                                                        role=HOLE),
                        ellipse(0.3, 0.8, 0.3, 0.13)],
    "dragonflies": lambda: [stroke(0.2, (0, -0.6), (0, 1), end=0.08), ellipse(0, -0.75, 0.2),
                            *mirrored(ellipse(0.55, -0.4, 0.5, 0.13, -12, role=ACCENT),
                                      ellipse(0.5, -0.05, 0.48, 0.12, 14, role=ACCENT))],
    "pines": lambda: [stroke(0.2, (0, 0.5), (0, 1), role=ACCENT),
                      *(polygon((0, y - 0.7), (w, y), (-w, y)) for w, y in (
                          (0.7, 0.65), (0.55, 0.2), (0.4, -0.25)))],
    "clouds": lambda: [ellipse(-0.5, 0.15, 0.45, 0.35), ellipse(0.5, 0.15, 0.48, 0.35),
                       ellipse(0, -0.1, 0.5), stroke(0.5, (-0.5, 0.25), (0.5, 0.25))],
    "pyramids": lambda: [polygon((-1, 0.6), (0, -0.7), (0.35, 0.75)),
                         polygon((0, -0.7), (1, 0.5), (0.35, 0.75), role=ACCENT)],
    "arrows": lambda: [stroke(0.14, (0, 1), (0, -0.6)), polygon((-0.4, -0.4), (0, -1),
                                                                (0.4, -0.4)),
                       *mirrored(*(stroke(0.1, (0, y), (0.35, y + 0.25), role=ACCENT)
                                   for y in (0.5, 0.7)))],
    "lamps": lambda: [blob((-0.9, -0.1), (0.2, -0.2), (1, -0.35), (0.6, 0.3), (0, 0.6),
                           (-0.6, 0.4)), arc(-0.75, 0.05, 0.3, 60, 300, 0.12),
                      stroke(0.35, (-0.1, 0.5), (-0.1, 0.75), end=0.7),
                      blob((0.85, -0.4), (0.7, -0.65), (0.9, -1.1), (1.1, -0.65), role=ACCENT)],
    "harps": lambda: [arc(-0.6, 0.9, 1.9, -92, -40, 0.2, ratio=0.95),
                      stroke(0.2, (-0.6, -0.9), (-0.6, 0.9)), stroke(0.25, (-0.7, 0.95),
                                                                     (0.9, -0.3)),
                      *(stroke(0.05, (x, -0.75 + 0.25 * x), (x, 0.5 - 0.8 * x), role=ACCENT)
                        for x in (-0.4, -0.15, 0.1, 0.35))],
    "peacocks": lambda: [*(p for a in np.linspace(-80, 80, 9) for p in (
        around(stroke(0.06, (0, 0.1), (0, -0.8), end=0.25), 1, a)
        + around(ellipse(0, -0.82, 0.13, role=ACCENT), 1, a))),
                         ellipse(0, 0.4, 0.25, 0.45), ellipse(0, -0.12, 0.15)],
    "bees": lambda: [*mirrored(ellipse(0.5, -0.35, 0.5, 0.26, -25, role=ACCENT)),
                     ellipse(0, 0.2, 0.42, 0.75), ellipse(0, -0.65, 0.27),
                     *(stroke(0.12, (-0.4, y), (0.4, y), role=HOLE) for y in (0.05, 0.35, 0.65))],
    "pears": lambda: _fruit(blob((-0.25, -0.6), (0.25, -0.6), (0.4, 0), (0.8, 0.6), (0.4, 1),
                                 (-0.4, 1), (-0.8, 0.6), (-0.4, 0))),
    "mushrooms": lambda: [stroke(0.3, (0, 0), (0, 0.9), end=0.45, role=ACCENT),
                          blob((-1, 0.15), (-0.7, -0.7), (0, -1), (0.7, -0.7), (1, 0.15)),
                          *(ellipse(x, y, 0.12, role=HOLE) for x, y in (
                              (-0.4, -0.2), (0.05, -0.5), (0.45, -0.15)))],
    "cacti": lambda: [stroke(0.36, (0, -0.95), (0, 0.6)), stroke(0.24, (0, 0.1), (-0.6, 0.1),
                                                                 (-0.6, -0.45)),
                      stroke(0.24, (0, -0.1), (0.6, -0.1), (0.6, -0.65)),
                      stroke(0.6, (0, 0.55), (0, 1), end=0.4, role=ACCENT)],
    "angels": lambda: [*mirrored(blob((0.1, 0), (0.5, -0.8), (1.05, -0.7), (0.9, 0.1), (0.3, 0.5),
                                      role=ACCENT)),
                       polygon((-0.2, -0.3), (0.2, -0.3), (0.5, 1), (-0.5, 1)),
                       ellipse(0, -0.5, 0.22), arc(0, -0.85, 0.25, 0, 360, 0.07, ratio=0.4)],
    "dancers": lambda: [ellipse(0, -0.8, 0.18), stroke(0.25, (0, -0.6), (0, 0.1)),
                        stroke(0.13, (0, -0.45), (0.5, -0.6), (0.75, -1)),
                        stroke(0.13, (0, -0.45), (-0.5, -0.3), (-0.85, -0.6)),
                        polygon((-0.1, -0.05), (0.1, -0.05), (0.5, 0.5), (-0.4, 0.45),
                                role=ACCENT),
                        stroke(0.14, (0.1, 0.4), (0.15, 1)), stroke(0.14, (-0.1, 0.4),
                                                                    (-0.7, 0.8))],
    "kings": lambda: _bust(polygon((-0.36, -0.4), (-0.5, -1.1), (-0.2, -0.8), (0, -1.2),
                                   (0.2, -0.8), (0.5, -1.1), (0.36, -0.4)),
                           blob((-0.4, -0.2), (0.4, -0.2), (0.4, 0.6), (-0.4, 0.6))),
    "bridges": lambda: [arc(0, 0.9, 1, 180, 360, 0.24, ratio=0.9), arc(0, 0.5, 1, 190, 350, 0.1,
                                                                      ratio=0.8, role=ACCENT),
                        *(stroke(0.08, (x, -0.3 * (1 - x * x)), (x, 0.15 * x * x))
                          for x in (-0.6, -0.3, 0, 0.3, 0.6))],
    "umbrellas": lambda: [blob((-1.1, 0), (-0.8, -0.7), (0, -1), (0.8, -0.7), (1.1, 0),
                               (0.5, -0.2), (0, 0), (-0.5, -0.2)),
                          stroke(0.09, (0, -0.6), (0, 0.8), role=ACCENT),
                          arc(0.15, 0.8, 0.15, 0, 180, 0.09, role=ACCENT)],
    "spiders": lambda: [ellipse(0, 0.25, 0.38, 0.45), ellipse(0, -0.3, 0.24),
                        *mirrored(*(stroke(0.07, (0.15, -0.1), (0.6, y), (0.9, 2 * y + 0.2))
                                    for y in (-0.5, -0.2, 0.15, 0.4)))],
    "frogs": lambda: [*mirrored(stroke(0.18, (0.3, 0.5), (0.9, 0.1), (0.6, 0.9)),
                                stroke(0.14, (0.3, -0.1), (0.75, -0.4), (0.85, -0.05)),
                                ellipse(0.25, -0.75, 0.16)), ellipse(0, 0.2, 0.48, 0.6),
                      ellipse(0, -0.5, 0.42, 0.32), *mirrored(ellipse(0.25, -0.75, 0.07,
                                                                      role=HOLE))],
    "whales": lambda: [blob((1, 0), (0.9, -0.6), (0.2, -0.6), (-0.6, 0.1), (-0.5, 0.5), (0.3, 0.7),
                            (0.9, 0.5)),
                       polygon((-0.5, 0.3), (-0.6, -0.2), (-1, -0.5), (-0.8, -0.5), (-0.6, -0.4),
                               (-0.35, -0.6), (-0.4, 0)),
                       arc(0.35, -0.75, 0.2, 180, 350, 0.06, role=ACCENT),
                       arc(0.75, -0.75, 0.2, 190, 360, 0.06, role=ACCENT),
                       ellipse(0.7, 0, 0.06, role=HOLE)],
    "octopuses": lambda: [ellipse(0, -0.45, 0.5, 0.55),
                          *mirrored(*(stroke(0.2, (0.1, -0.1), (x / 2, 0.3), (x, 0.3 + y),
                                             (x + 0.1, 0.2 + y), end=0.07)
                                      for x, y in ((0.2, 0.7), (0.55, 0.5), (0.85, 0.15))),
                                    ellipse(0.2, -0.35, 0.1, role=HOLE))],
    "goats": lambda: [*_quadruped(body=0.22, leg=0.5, neck=(0.2, -0.4), tail=0.12),
                      arc(0.4, -0.55, 0.35, 0, -150, 0.12, end=0.03, role=ACCENT),
                      polygon((0.68, -0.3), (0.8, -0.3), (0.7, 0))],
    "bulls": lambda: [ellipse(0, 0.2, 0.42, 0.65), ellipse(0, 0.65, 0.32, 0.25, role=ACCENT),
                      *mirrored(arc(0.45, -0.55, 0.45, 120, -60, 0.18, end=0.04),
                                ellipse(0.5, -0.1, 0.25, 0.12, -15),
                                ellipse(0.2, 0.05, 0.07, role=HOLE))],
    "giraffes": lambda: [*_quadruped(body=0.18, leg=0.8, neck=(0.25, -1.3), thick=0.13, tail=0.2),
                         *(ellipse(x, 0, 0.09, role=ACCENT) for x in (-0.4, -0.1, 0.2))],
    "windmills": lambda: [stroke(0.45, (0, -0.3), (0, 1), end=0.8, role=ACCENT),
                          *around(polygon((0, 0), (0.08, -1), (0.38, -1), (0.08, 0)), 4, 30)],
    "candles": lambda: [stroke(0.34, (0, -0.3), (0, 0.8)), stroke(0.2, (-0.6, 0.85), (0.6, 0.85)),
                        blob((0, -1.1), (0.25, -0.6), (0, -0.3), (-0.25, -0.6), role=ACCENT)],
    "ladders": lambda: [*mirrored(stroke(0.13, (0.4, -1), (0.4, 1))),
                        *(stroke(0.12, (-0.4, y), (0.4, y), role=ACCENT)
                          for y in (-0.7, -0.35, 0, 0.35, 0.7))],
    "drums": lambda: [polygon((-0.7, -0.4), (0.7, -0.4), (0.6, 0.7), (-0.6, 0.7)),
                      ellipse(0, 0.7, 0.6, 0.18), ellipse(0, -0.4, 0.7, 0.2, role=ACCENT),
                      stroke(0.07, (-0.65, -0.15), (-0.32, 0.75), (0, -0.15), (0.32, 0.75),
                             (0.65, -0.15), role=HOLE)],
    "axes": lambda: [stroke(0.14, (0, -1), (0, 1), role=ACCENT),
                     *mirrored(blob((-0.3, -0.4), (0.8, -1), (1, -0.4), (0.8, 0.2)))],
    "feathers": lambda: [blob((0.1, -1.1), (0.5, -0.5), (0.35, 0.4), (0, 0.6), (-0.35, 0.3),
                              (-0.3, -0.5)), stroke(0.06, (0.05, -0.7), (-0.1, 1), role=ACCENT),
                         polygon((0.5, -0.1), (0.1, 0.1), (0.5, 0.05), role=HOLE)],
    "spirals": lambda: [stroke(0.2, *[(t / 14 * np.cos(t), t / 14 * np.sin(t))
                                      for t in np.linspace(0.5, 13, 60)])],
}  # fmt: skip
