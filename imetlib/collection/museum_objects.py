"""The object shapes of the pocket museum: outlines, trimmings, ornament bands, motif fields.

Coordinates are those of the picture: the shorter side runs from -1 to 1, y points down.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from imetlib.collection.museum_polygons import (
    DARK,
    GROUND,
    LIGHT,
    TRIM,
    arc,
    blob,
    ellipse,
    polygon,
    star,
    stroke,
)


class Band(NamedTuple):
    """A straight strip for an ornament, `half` wide on either side of the line."""

    x0: float
    y0: float
    x1: float
    y1: float
    half: float


class Ring(NamedTuple):
    """A bent strip for an ornament, between two angles in degrees."""

    x: float
    y: float
    radius: float
    half: float
    start: float = 0.0
    stop: float = 360.0


class Design(NamedTuple):
    """An object without its colours, ornament and motifs.

    Attributes:
        outline: polygons whose union is the silhouette.
        parts: (polygon, role) painted on the silhouette, clipped by it.
        bands: strips that an ornament may fill.
        field: centre x, y and half width, half height of the place for motifs.
        relief: "round" (a body of revolution), "dome" or "flat".
    """

    outline: list
    parts: list
    bands: list
    field: tuple[float, float, float, float]
    relief: str = "flat"


def object_design(name, half_width, half_height, variant):
    """The design of an object.

    Args:
        name: one of `OBJECTS`.
        half_width: float >= 1. Half the width of the picture in half shorter sides.
        half_height: float >= 1. The same for the height.
        variant: `(4,)` floats in [0, 1] that vary the proportions.

    Returns:
        `Design`.
    """
    return OBJECTS[name].build(half_width, half_height, variant)


class MuseumObject(NamedTuple):
    """One kind of object.

    Attributes:
        build: function (half width, half height, variant) -> `Design`.
        aspects: smallest and largest width / height of its pictures.
        motifs: motifs that this kind prefers.
    """

    build: Callable[..., Design]
    aspects: tuple[float, float]
    motifs: tuple[str, ...] = ()


def _turned(profile, *parts, field, bands, handles=()):
    """A body of revolution from its profile, pairs (y, radius)."""
    y, radius = np.array(profile, float).T
    fine = np.linspace(y[0], y[-1], 40)
    radius = np.convolve(
        np.pad(np.interp(fine, y, radius), 2, mode="edge"), np.ones(5) / 5, mode="valid"
    )
    outline = np.concatenate(
        [np.stack([radius, fine], axis=1), np.stack([-radius, fine], axis=1)[::-1]]
    )
    straight = [Band(-1, at, 1, at, half) for at, half in bands]
    return Design([*handles, outline], list(parts), straight, field, "round")


def _vase(width, height, v):
    belly, neck, low = 0.62 + 0.12 * v[0], 0.2 + 0.12 * v[1], 0.1 * v[2]
    handles = []
    if v[3] > 0.5:
        handles = [arc(side * 0.42, -0.5, 0.3, 0, 360, 0.09, ratio=1.1)[0] for side in (-1, 1)]
    return _turned(
        [(-0.95, neck + 0.12), (-0.88, neck + 0.1), (-0.82, neck), (-0.62, neck), (-0.3, belly),
         (0.1 + low, belly + 0.06), (0.45, belly - 0.08), (0.8, 0.3), (0.86, 0.38), (0.95, 0.38)],
        polygon((-1, -1), (1, -1), (1, -0.84), (-1, -0.84), role=TRIM),
        polygon((-1, 0.84), (1, 0.84), (1, 1), (-1, 1), role=TRIM),
        field=(0, 0.15, 0.54, 0.47), bands=[(-0.46, 0.16), (0.72, 0.13)], handles=handles,
    )  # fmt: skip


def _jug(width, height, v):
    belly = 0.5 + 0.1 * v[0]
    spout = blob((-0.2, -0.75), (-0.75, -0.95), (-0.55, -0.6), (-0.2, -0.4))[0]
    handle = arc(0.42, -0.15, 0.4, -110, 110, 0.13, ratio=1.2)[0]
    return _turned(
        [(-0.9, 0.34), (-0.55, 0.3), (-0.2, belly), (0.4, belly + 0.12), (0.8, 0.4), (0.92, 0.45)],
        polygon((-1, 0.84), (1, 0.84), (1, 1), (-1, 1), role=TRIM),
        field=(-0.02, 0.2, 0.5, 0.44), bands=[(-0.4, 0.15), (0.76, 0.12)], handles=[spout, handle],
    )  # fmt: skip


def _bowl(width, height, v):
    rim = 0.9
    return _turned(
        [(-0.5, rim), (-0.42, rim), (0.0, 0.86), (0.35, 0.62 + 0.1 * v[0]), (0.6, 0.3),
         (0.66, 0.34), (0.78, 0.36)],
        ellipse(0, -0.5, rim, 0.12 + 0.06 * v[1], role=DARK),
        polygon((-1, 0.62), (1, 0.62), (1, 1), (-1, 1), role=TRIM),
        field=(0, 0.19, 0.6, 0.42), bands=[(-0.3, 0.15)],
        handles=[ellipse(0, -0.5, rim, 0.12 + 0.06 * v[1])[0]],
    )  # fmt: skip


def _goblet(width, height, v):
    wide = 0.55 + 0.12 * v[0]
    return _turned(
        [(-0.95, wide), (-0.5, wide), (-0.05, wide - 0.1), (0.2, 0.14), (0.55, 0.1),
         (0.72, 0.16), (0.86, 0.5), (0.95, 0.52)],
        ellipse(0, 0.42, 0.2, 0.1, role=TRIM),
        field=(0, -0.31, 0.46, 0.4), bands=[(-0.82, 0.14), (0.84, 0.12)],
    )  # fmt: skip


def _plate(width, height, v):
    rim = 0.58 + 0.06 * v[0]
    outline = ellipse(0, 0, 0.94)[0] if v[1] < 0.7 else star(12, 0.93, radius=0.97)[0]
    parts = [ellipse(0, 0, 0.9, role=TRIM), ellipse(0, 0, rim, role=GROUND)]
    half = (0.9 - rim) / 2
    bands = [Ring(0, 0, rim + half, 0.9 * half)]
    return Design([outline], parts, bands, (0, 0, 0.52, 0.52), "dome")


def _coin(width, height, v):
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 0.84 + 0.03 * np.cos(3 * angle + 6 * v[0]) + 0.02 * np.cos(5 * angle + 6 * v[1])
    outline = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    letters = []
    for turn in np.radians(np.arange(200 + 60 * v[2], 340, 17)):
        letters.append(ellipse(0.68 * np.cos(turn), 0.68 * np.sin(turn), 0.05, 0.07, role=DARK))
    return Design(
        [outline], [arc(0, 0, 0.79, 0, 360, 0.05, role=DARK), *letters],
        [Ring(0, 0, 0.66, 0.13)], (0, 0.0, 0.52, 0.52), "dome",
    )  # fmt: skip


def _framed(width, height, v, *, thick, parts):
    inner_x, inner_y = 0.93 * width - thick, 0.93 * height - thick
    picture = [polygon(*_box(0, 0, 0.93 * width, 0.93 * height), role=TRIM), *parts]
    half = 0.45 * thick
    x, y = 0.93 * width - thick / 2, 0.93 * height - thick / 2
    bands = [Band(-x, side * y, x, side * y, half) for side in (-1, 1)]
    bands += [Band(side * x, -y, side * x, y, half) for side in (-1, 1)]
    return [_box(0, 0, 0.93 * width, 0.93 * height)], picture, bands, (inner_x, inner_y)


def _portrait(width, height, v):
    thick = 0.24
    x, y = 0.93 * width - thick, 0.93 * height - thick
    ground = (
        ellipse(0, 0, x, y, role=GROUND) if v[0] < 0.4 else polygon(*_box(0, 0, x, y), role=GROUND)
    )
    outline, parts, bands, _ = _framed(width, height, v, thick=thick, parts=[ground])
    return Design(outline, parts, bands, (0, 0, 0.9 * x, 0.9 * y))


def _landscape(width, height, v):
    thick = 0.2
    x, y = 0.93 * width - thick, 0.93 * height - thick
    along = np.linspace(-x, x, 24)
    far = 0.25 + 0.1 * np.sin(4 * along + 7 * v[0]) + 0.06 * np.sin(9 * along + 7 * v[1])
    near = 0.55 + 0.08 * np.sin(3 * along + 7 * v[2])
    hills = [
        (np.concatenate([np.stack([along, rise], axis=1), [(x, y), (-x, y)]]), role)
        for rise, role in ((far, LIGHT), (near, DARK))
    ]
    ground = polygon(*_box(0, 0, x, y), role=GROUND)
    outline, parts, bands, _ = _framed(width, height, v, thick=thick, parts=[ground, *hills])
    return Design(outline, parts, bands, (0, -0.06, 0.9 * x, 0.74 * y))


def _box(x, y, half_width, half_height):
    return np.array([
        (x - half_width, y - half_height), (x + half_width, y - half_height),
        (x + half_width, y + half_height), (x - half_width, y + half_height),
    ])  # fmt: skip


def _textile(width, height, v):
    x, y = 0.9 * width, 0.84 * height
    along = np.linspace(-x, x, 14)
    sag = 0.02 * np.cos(5 * along + 6 * v[0])
    cloth = np.concatenate([np.stack([along, sag - y], axis=1),
                            np.stack([along[::-1], sag[::-1] + y], axis=1)])  # fmt: skip
    fringe = [
        stroke(0.05, (at, side * y * 0.97), (at + 0.02, side * (y + 0.14)))[0]
        for at in np.arange(-x + 0.05, x, 0.12)
        for side in (-1, 1)
    ]
    edge = 0.15 + 0.03 * v[1]
    bands = [Band(-x, side * (y - 0.04 - edge), x, side * (y - 0.04 - edge), edge)
             for side in (-1, 1)]  # fmt: skip
    return Design([cloth, *fringe], [], bands, (0, 0, 0.85 * x, y - 0.06 - 2 * edge))


def _scroll(width, height, v):
    x, y = 0.72 * width, 0.92 * height
    rods = [stroke(0.1, (-0.92, side * y), (0.92, side * y))[0] for side in (-1, 1)]
    paper = _box(0, 0, x, y)
    inner = polygon(*_box(0, 0, 0.84 * x, y - 0.5), role=GROUND)
    bands = [Band(-x, side * (y - 0.28), x, side * (y - 0.28), 0.16) for side in (-1, 1)]
    return Design(
        [paper, *rods],
        [polygon(*_box(0, 0, x, y - 0.06), role=TRIM), inner,
         *(polygon(*_box(0, side * y, 0.95, 0.05), role=DARK) for side in (-1, 1))],
        bands, (0, 0, 0.8 * x, y - 0.55),
    )  # fmt: skip


def _frieze(width, height, v):
    x = 0.96 * width
    jag = np.stack([np.linspace(x, x - 0.1, 5), np.linspace(-0.8, 0.8, 5)], axis=1)
    jag[1::2, 0] -= 0.12 + 0.1 * v[0]
    slab = np.concatenate([[(-x, -0.8)], jag, [(-x, 0.8)]])
    bands = [Band(-x, side * 0.62, x, side * 0.62, 0.15) for side in (-1, 1)]
    return Design([slab], [], bands, (0, 0, 0.9 * x, 0.44))


def _mask(width, height, v):
    chin, brow = 0.85 + 0.1 * v[0], 0.62 + 0.12 * v[1]
    outline = blob((-brow, -1.0), (brow, -1.0), (0.85, -0.2), (0.5, 0.6), (0, 1.1 * chin),
                   (-0.5, 0.6), (-0.85, -0.2))[0]  # fmt: skip
    horns = []
    if v[2] > 0.55:
        horn = arc(0.62, -0.62, 0.3, -90, 90, 0.16, end=0.04)[0]
        horns = [horn, horn * (-1, 1)]
    eyes = [
        part
        for side in (-1, 1)
        for part in (
            blob((side * 0.12, 0.0), (side * 0.32, -0.18), (side * 0.62, -0.02),
                 (side * 0.32, 0.12), role=LIGHT),
            ellipse(side * 0.34, -0.02, 0.1, role=DARK),
        )
    ]  # fmt: skip
    mouth = blob((-0.34, 0.52), (0, 0.42), (0.34, 0.52), (0.2, 0.7), (-0.2, 0.7), role=DARK)
    nose = polygon((0, -0.1), (0.14, 0.34), (-0.14, 0.34), role=TRIM)
    return Design(
        [*horns, outline], [*eyes, nose, mouth], [Ring(0, -0.1, 0.7, 0.11, 20, 160)],
        (0, -0.52, 0.42, 0.36), "dome",
    )  # fmt: skip


def _tile(width, height, v):
    side = 0.88
    outline = _box(0, 0, side, side)
    if v[0] > 0.6:
        outline = star(8, 0.78, radius=1.0)[0]
        return Design([outline], [], [Ring(0, 0, 0.66, 0.12)], (0, 0, 0.5, 0.5))
    bands = [Band(-side, at, side, at, 0.14) for at in (-0.74, 0.74)]
    bands += [Band(at, -0.6, at, 0.6, 0.14) for at in (-0.74, 0.74)]
    return Design([outline], [], bands, (0, 0, 0.52, 0.52))


def _fan(width, height, v):
    angle = np.radians(np.linspace(205, 335, 15))
    radius = np.where(np.arange(15) % 2, 1.42, 1.38)
    rim = np.stack([radius * np.cos(angle), 0.72 + radius * np.sin(angle)], axis=1)
    inner = np.stack([0.45 * np.cos(angle), 0.72 + 0.45 * np.sin(angle)], axis=1)[::-1]
    ribs = [stroke(0.06, (0, 0.78), (at[0], at[1]))[0] for at in inner[::2]]
    folds = [stroke(0.015, a, b, role=DARK) for a, b in zip(inner[::-1], rim, strict=True)]
    return Design([*ribs, np.concatenate([rim, inner])], folds,
                  [Ring(0, 0.72, 1.26, 0.11, 205, 335), Ring(0, 0.72, 0.54, 0.08, 205, 335)],
                  (0, -0.2, 0.8, 0.38))  # fmt: skip


def _book(width, height, v):
    x, y = 0.72, 0.9
    cover = polygon(*_box(0, 0, x, y), role=GROUND)
    spine = polygon(*_box(-x + 0.1, 0, 0.1, y), role=DARK)
    clasps = [polygon(*_box(x - 0.1, at, 0.12, 0.06), role=LIGHT) for at in (-0.4, 0.4)]
    pages = _box(0.05, 0.04, x, y)
    bands = [Band(-x, at, x, at, 0.16) for at in (-0.74, 0.74)]
    return Design([_box(0, 0, x, y), pages],
                  [polygon(*_box(0.05, 0.04, x, y), role=LIGHT), cover, spine, *clasps],
                  bands, (0.1, 0, 0.54, 0.54))  # fmt: skip


def _chest(width, height, v):
    x = 0.9
    lid = blob((-x, -0.2), (-x, -0.75), (-0.4, -0.9), (0.4, -0.9), (x, -0.75), (x, -0.2))[0]
    feet = [_box(side * 0.7, 0.8, 0.14, 0.14) for side in (-1, 1)]
    lock = [polygon(*_box(0, -0.16, 0.13, 0.13), role=LIGHT), ellipse(0, -0.14, 0.05, role=DARK)]
    return Design([lid, _box(0, 0.25, x, 0.48), *feet],
                  [stroke(0.04, (-1, -0.24), (1, -0.24), role=DARK), *lock],
                  [Band(-1, -0.5, 1, -0.5, 0.15)], (0, 0.26, 0.8, 0.42))  # fmt: skip


def _pendant(width, height, v):
    chain = [ellipse(0.52 * np.sin(a), -0.75 - 0.18 * np.cos(a), 0.07)[0]
             for a in np.linspace(-2.2, 2.2, 15)]  # fmt: skip
    drop = blob((0, -0.75), (0.75, -0.25), (0.72, 0.4), (0, 1.0), (-0.72, 0.4), (-0.75, -0.25))[0]
    gems = [ellipse(0, 0.74, 0.1, role=LIGHT)]
    return Design([*chain, drop], [*gems], [Ring(0, 0.1, 0.58, 0.12)], (0, 0.1, 0.46, 0.46),
                  "dome")  # fmt: skip


def _shield(width, height, v):
    if v[0] < 0.5:
        outline = blob((-0.85, -1.0), (0.85, -1.0), (0.85, 0.1), (0, 1.25), (-0.85, 0.1))[0]
        bands = [Band(-1, -0.72, 1, -0.72, 0.16)]
        return Design([outline], [], bands, (0, 0.0, 0.55, 0.52), "dome")
    boss = [ellipse(side * 0.62, y, 0.08, role=LIGHT) for side in (-1, 1) for y in (-0.4, 0.4)]
    outline = blob((-0.55, -1.05), (0.55, -1.05), (0.8, 0), (0.55, 1.05), (-0.55, 1.05),
                   (-0.8, 0))[0]  # fmt: skip
    return Design([outline], boss, [Band(-1, -0.68, 1, -0.68, 0.13), Band(-1, 0.68, 1, 0.68, 0.13)],
                  (0, 0, 0.48, 0.48), "dome")  # fmt: skip


def _sword(width, height, v):
    x = 0.92 * width
    hilt = x - 0.9
    curve = 0.35 * v[0]
    along = np.linspace(-x, hilt, 16)
    bend = curve * ((along - hilt) / (hilt + x)) ** 2 - 0.5 * curve
    wide = np.interp(along, [-x, -x + 0.4, hilt], [0.02, 0.3, 0.42])
    blade = np.concatenate([np.stack([along, bend - wide], axis=1),
                            np.stack([along, bend + wide], axis=1)[::-1]])  # fmt: skip
    y = -0.5 * curve
    guard = stroke(0.16, (hilt, y - 0.75), (hilt, y + 0.75))
    grip = stroke(0.3, (hilt, y), (x - 0.1, y))
    knob = ellipse(x - 0.1, y, 0.2)
    middle = (hilt - x) / 2
    return Design(
        [blade, guard[0], grip[0], knob[0]],
        [(grip[0], DARK), (guard[0], TRIM), (knob[0], TRIM)],
        [Band(middle, y, hilt, y, 0.24)], (0.25 * middle - 0.75 * x + 0.55, 0, 0.4, 0.36),
    )  # fmt: skip


def _screen(width, height, v):
    panels, x, y = 3 + int(2 * v[0]), 0.94 * width, 0.85 * height
    edges = np.linspace(-x, x, panels + 1)
    outline, folds = [], []
    for number, (left, right) in enumerate(pairwise(edges)):
        slant = 0.06 * (-1) ** number
        outline.append(np.array([(left, -y - slant), (right, -y + slant), (right, y + slant),
                                 (left, y - slant)]))  # fmt: skip
        folds.append(stroke(0.045, (right, -1), (right, 1), role=DARK))
    bands = [Band(-x, side * (y - 0.14), x, side * (y - 0.14), 0.14) for side in (-1, 1)]
    return Design(outline, folds[:-1], bands, (0, 0, 0.9 * x, y - 0.3))


OBJECTS = {
    "vases": MuseumObject(_vase, (0.75, 0.95), ("flowers", "horses")),
    "textiles": MuseumObject(_textile, (0.8, 1.3), ("birds", "stars")),
    "plates": MuseumObject(_plate, (1.0, 1.1), ("fish", "flowers")),
    "portraits": MuseumObject(_portrait, (0.72, 0.9), ("men", "women", "kings")),
    "landscapes": MuseumObject(_landscape, (1.25, 1.6), ("trees", "boats", "suns", "houses")),
    "coins": MuseumObject(_coin, (1.0, 1.1), ("men", "horses", "owls")),
    "scrolls": MuseumObject(_scroll, (0.17, 0.62), ("birds", "mountains")),
    "bowls": MuseumObject(_bowl, (1.05, 1.3), ("fish", "leaves")),
    "masks": MuseumObject(_mask, (0.78, 0.95), ("suns", "moons")),
    "tiles": MuseumObject(_tile, (1.0, 1.1), ("stars", "leaves")),
    "fans": MuseumObject(_fan, (1.35, 1.6), ("flowers", "boats")),
    "books": MuseumObject(_book, (0.78, 0.95), ("crosses", "trees")),
    "jugs": MuseumObject(_jug, (0.8, 1.0), ("fish", "leaves")),
    "boxes": MuseumObject(_chest, (1.05, 1.3), ("birds", "hearts")),
    "pendants": MuseumObject(_pendant, (0.78, 1.0), ("crosses", "suns")),
    "shields": MuseumObject(_shield, (0.75, 0.95), ("lions", "crowns")),
    "friezes": MuseumObject(_frieze, (1.7, 6.0), ("horses", "men")),
    "goblets": MuseumObject(_goblet, (0.7, 0.9), ("leaves", "grapes")),
    "screens": MuseumObject(_screen, (1.4, 1.9), ("trees", "birds")),
    "swords": MuseumObject(_sword, (1.9, 4.5), ("stars", "snakes")),
}
"""The kinds of object by name, most frequent first."""
