"""Drawing one picture of the pocket museum: view, colours, surface, ornament, motifs, light."""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from imetlib.collection.museum_motifs import motif_glyph
from imetlib.collection.museum_objects import object_design
from imetlib.collection.museum_ornaments import band_polygon, ornament_polygons
from imetlib.collection.museum_polygons import (
    ACCENT,
    DARK,
    GROUND,
    HOLE,
    LIGHT,
    MAIN,
    TRIM,
    rotation,
)
from imetlib.collection.museum_specs import PictureSpec

_SUBPIXEL_BITS = 4

_PALETTES = {
    "terracotta": ("c8643c", "1e1a18", "e8d2a8", "8c3c28", "d89a5a"),
    "cobalt": ("f0f0ea", "1e3c8c", "6e8cc8", "0f1e46", "d8c8a0"),
    "jade": ("7ea27c", "e6e2c8", "2d4a3c", "b4c8a0", "8a5a3a"),
    "gold": ("d2a83c", "5a3214", "f2e2a2", "8c1e1e", "28231e"),
    "ink": ("efe6d2", "2a2826", "8a8478", "b43228", "5a5a5e"),
    "lapis": ("1e4a96", "d8a03c", "f2ead8", "7a1e28", "3c7a82"),
    "earth": ("8a6a4a", "3c2a1e", "d8c0a0", "a8543c", "6a7050"),
    "madder": ("9c2832", "f0dcc0", "28304a", "d89040", "5a7a50"),
}


class View(NamedTuple):
    """How object coordinates become pixels.

    Attributes:
        shape: (height, width) of the picture.
        matrix: `(2, 3)` float.
    """

    shape: tuple[int, int]
    matrix: np.ndarray

    def pixels(self, points):
        """Map `(..., 2)` object coordinates to pixel coordinates."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]


def draw_picture(spec: PictureSpec, image_size: int = 300, *, without: int | None = None):
    """Draw one picture.

    Args:
        spec: what is in the picture.
        image_size: int. The shorter side in pixels.
        without: number of a motif in `spec.motifs` that is left out while all else stays.

    Returns:
        `(height, width, 3)` uint8 RGB, or `(height, width)` uint8 for a grey photograph.
    """
    view = picture_view(spec, image_size)
    rng = np.random.default_rng([spec.seed, spec.object_index, 2])
    scene = np.random.default_rng([spec.seed, spec.index, 3])
    half_height, half_width = np.array(view.shape) / image_size
    design = object_design(spec.object_name, half_width, half_height, spec.variant)
    colours = _object_colours(spec.palette, rng)

    background, floor = _background(view.shape, scene)
    mask = _silhouette(design.outline, view)
    surface = np.empty((*view.shape, 3), np.uint8)
    surface[:] = colours[GROUND]
    for points, role in design.parts:
        _fill(surface, [points], view, colours[role])
    _paint_ornaments(surface, design.bands, spec.ornaments, view, colours)
    for number, motif in enumerate(spec.motifs):
        if number != without:
            _paint_motif(surface, motif, view, _motif_colours(colours, spec, number))
    light = _light(design.relief, view.shape, spec.medium, scene)
    lit = cv2.multiply(surface, light, scale=1 / 160)

    background = _shadow(background, mask, floor, image_size, scene)
    mask = cv2.merge([mask] * 3)
    picture = cv2.add(
        cv2.multiply(lit, mask, scale=1 / 255),
        cv2.multiply(background, cv2.bitwise_not(mask), scale=1 / 255),
    )
    picture = _photograph(picture, scene)
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if spec.grey else picture


def motif_boxes(spec: PictureSpec, image_size: int = 300) -> list[tuple[int, int, int, int, int]]:
    """Where the motifs of a picture are.

    Args:
        spec: what is in the picture.
        image_size: int. The shorter side in pixels.

    Returns:
        (attribute id, x0, y0, x1, y1) of each motif; pixels, clipped to the picture, x1 and y1
        exclusive.
    """
    view = picture_view(spec, image_size)
    height, width = view.shape
    boxes = []
    for motif in spec.motifs:
        points = view.pixels(_motif_points(motif))
        # Anti-aliasing reaches up to two pixels beyond the outline.
        x0, y0 = np.floor(points.min(axis=0)).astype(int) - 2
        x1, y1 = np.ceil(points.max(axis=0)).astype(int) + 3
        x0, x1 = np.clip((x0, x1), 0, width)
        y0, y1 = np.clip((y0, y1), 0, height)
        boxes.append((motif.attribute_id, int(x0), int(y0), int(x1), int(y1)))
    return boxes


def picture_view(spec: PictureSpec, image_size: int) -> View:
    """Where the camera stands: a second view has another angle, distance and place."""
    width = max(round(image_size * spec.aspect), image_size)
    height = max(round(image_size / spec.aspect), image_size)
    rng = np.random.default_rng([spec.seed, spec.index, 4])
    wild = 2.5 if spec.index != spec.object_index else 1.0
    angle = np.radians(rng.normal(0, 2.0) * wild / max(spec.aspect, 1 / spec.aspect))
    scale = rng.uniform(0.9, 1.0) ** wild * image_size / 2
    stretch = 1 + 0.03 * wild * rng.uniform(-1, 1)
    shift = rng.uniform(-0.03, 0.03, 2) * wild * image_size
    matrix = scale * np.array([[np.cos(angle) * stretch, -np.sin(angle)],
                               [np.sin(angle) * stretch, np.cos(angle)]])  # fmt: skip
    centre = np.array([width / 2, height / 2]) + shift - 0.5
    return View((height, width), np.column_stack([matrix, centre]))


# Colours -------------------------------------------------------------------------------------

_LUMINANCE = np.array([0.299, 0.587, 0.114])


def _object_colours(palette, rng):
    """RGB of ground, trim, dark and light; which colour of a palette is the ground is chance.

    Colour must say little about the labels, hence the shuffle and the wide jitter.
    """
    base = np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in _PALETTES[palette]])
    order = rng.permutation(5)
    if rng.random() < 0.6:
        # Most grounds are lighter than what is painted on them.
        order = np.roll(order, -int((base[order] @ _LUMINANCE).argmax()))
    colours = base[order] + rng.normal(0, 9, (5, 3)) + rng.normal(0, 12)
    ground = np.clip(colours[0], 25, 235)
    return {
        GROUND: ground,
        TRIM: _apart(colours[1], ground, 45),
        DARK: _apart(colours[2], ground, 70),
        LIGHT: _apart(colours[3], ground, 55),
        "motif": _apart(colours[4], ground, 115),
    }


def _motif_colours(colours, spec, number):
    main = colours["motif"]
    if number and number % 2:
        main = _apart(colours[TRIM], colours[GROUND], 105)
    accent = _apart(_apart(colours[LIGHT], colours[GROUND], 60), main, 40)
    return {MAIN: main, ACCENT: accent, HOLE: colours[GROUND]}


def _apart(colour, other, distance):
    """Move a colour in brightness until it differs from another one."""
    here, there = float(colour @ _LUMINANCE), float(other @ _LUMINANCE)
    if abs(here - there) < distance:
        up = there + distance <= 245 and (here >= there or there - distance < 10)
        colour = colour + ((there + distance if up else there - distance) - here)
    return np.clip(colour, 5, 250)


# Painting ------------------------------------------------------------------------------------


def _fill(image, polygons, view, colour):
    corners = [
        np.round(view.pixels(points) * 2**_SUBPIXEL_BITS).astype(np.int32) for points in polygons
    ]
    cv2.fillPoly(image, corners, np.ravel(colour).tolist(), cv2.LINE_AA, _SUBPIXEL_BITS)


def _silhouette(outline, view):
    mask = np.zeros(view.shape, np.uint8)
    # One by one: polygons of one call that overlap would cut holes into each other.
    for points in outline:
        _fill(mask, [points], view, 255)
    return mask


def _paint_ornaments(image, bands, ornaments, view, colours):
    """The bands of an object without ornament stay plain, not empty."""
    for number, band in enumerate(bands):
        ground = colours[TRIM]
        _fill(image, [band_polygon(band)], view, ground)
        if ornaments:
            name = ornaments[number % len(ornaments)]
            ink = _apart(colours["motif"], ground, 95)
            for layer in ornament_polygons(name, band):
                _fill(image, list(layer), view, ink)


def _motif_points(motif):
    points = motif_glyph(motif.name).points * (motif.mirror, 1)
    return motif.radius * points @ rotation(motif.turn).T + motif.centre


def _paint_motif(image, motif, view, colours):
    glyph = motif_glyph(motif.name)
    points = _motif_points(motif)
    start = 0
    for end, role in zip(glyph.ends, glyph.roles, strict=True):
        _fill(image, [points[start:end]], view, colours[role])
        start = end


# Light and matter ----------------------------------------------------------------------------


@cache
def _texture(name):
    """A 512 x 512 uint8 tile around 128, the grain of a medium."""
    rng = np.random.default_rng(20_190_501)
    fine = rng.normal(0, 1, (512, 512)).astype(np.float32)
    y, x = np.mgrid[:512, :512].astype(np.float32)
    soft = _unit(cv2.GaussianBlur(fine, (0, 0), 5, borderType=cv2.BORDER_REFLECT))
    grain = {
        "glaze": 3 * soft + 10 * (np.abs(soft) < 0.03) * -1.0,
        "stone": 6 * _unit(cv2.GaussianBlur(fine, (0, 0), 1.0)) + 3 * soft,
        "weave": 9 * np.sin(x * 1.26) * np.cos(y * 0.3) + 9 * np.sin(y * 1.26) + 2 * soft,
        "oil": 7 * _unit(cv2.blur(fine, (17, 2))) + 3 * soft,
        "ink": 4 * soft + 4 * _unit(cv2.blur(fine, (2, 9))),
        "gold": 16 * (soft > 0.9) + 5 * _unit(cv2.GaussianBlur(fine, (0, 0), 2)),
        "grain": 2.2 * _unit(cv2.GaussianBlur(fine, (0, 0), 0.7)),
    }[name]
    return np.clip(128 + grain, 0, 255).astype(np.uint8)


def _unit(field):
    return (field - field.mean()) / field.std()


def _tile(name, shape, rng):
    """A piece of a texture at a random place, mirrored on where the picture is larger."""
    texture = _texture(name)
    height, width = shape
    x, y = (int(v) for v in rng.integers(0, 128, 2))
    if height > 384 or width > 384:
        repeats = (-(-height // 512), -(-width // 512))
        return np.tile(texture, repeats)[:height, :width]
    return texture[y : y + height, x : x + width]


def _light(relief, shape, medium, rng):
    """What the surface is multiplied with, three equal channels, 160 for no change."""
    side = rng.uniform(-0.5, 0.5)
    y, x = np.mgrid[-1:1:20j, -1:1:20j]
    if relief == "round":
        shade = 1.08 - 0.5 * (x - 0.5 * side) ** 2 + 0.3 * np.exp(-(((x - 0.7 * side) / 0.16) ** 2))
        shade = shade - 0.08 * y
    elif relief == "dome":
        shade = 1.05 - 0.2 * (x**2 + y**2) + 0.3 * (side * x - 0.3 * y)
    else:
        shade = 1.02 + 0.25 * side * x - 0.08 * y
    shade = np.clip(shade * 160, 0, 255).astype(np.uint8)
    shade = cv2.resize(shade, shape[::-1], interpolation=cv2.INTER_CUBIC)
    shade = cv2.multiply(shade, _tile(medium, shape, rng), scale=1 / 128)
    return cv2.merge([shade] * 3)


def _background(shape, rng):
    """A table top, a studio wall or paper; returns it and how far the object stands off it."""
    kind = rng.random()
    colour = rng.uniform(60, 215) + rng.normal(0, 10, 3)
    if kind < 0.25:
        colour = np.array([225, 216, 198]) + rng.normal(0, 12, 3)
    elif kind < 0.4:
        colour = rng.uniform(25, 200, 3)
    y, x = np.mgrid[-1:1:7j, -1:1:7j]
    glow = 1.06 - 0.16 * (x**2 + (y + 0.3) ** 2) + 0.1 * rng.uniform(-1, 1) * x
    if kind > 0.65:
        glow = glow + 0.22 * (y > 0.45)
    field = np.clip(glow[..., None] * colour, 12, 250).astype(np.uint8)
    field = cv2.resize(field, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return field, (0.05 if kind > 0.4 else 0.025)


def _shadow(background, mask, distance, image_size, rng):
    """Darken the background where the object's silhouette throws a soft shadow."""
    height, width = mask.shape
    small = cv2.resize(mask, (max(width // 4, 1), max(height // 4, 1)),
                       interpolation=cv2.INTER_AREA)  # fmt: skip
    small = cv2.GaussianBlur(small, (0, 0), max(0.022 * image_size / 4, 0.5))
    shift = distance * image_size / 4 * np.array([rng.choice((-1, 1)), 1.0])
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    small = cv2.warpAffine(small, matrix, small.shape[::-1])
    dim = cv2.resize(cv2.convertScaleAbs(small, alpha=0.5), (width, height))
    dim = cv2.bitwise_not(dim)
    return cv2.multiply(background, cv2.merge([dim] * 3), scale=1 / 255)


def _photograph(picture, rng):
    """Exposure and the grain of the film."""
    gain = rng.uniform(0.9, 1.1)
    grain = cv2.merge([_tile("grain", picture.shape[:2], rng)] * 3)
    return cv2.addWeighted(picture, gain, grain, 1.0, -128.0)
