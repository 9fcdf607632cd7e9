"""What is in each picture of the pocket museum.

Picture `index` of a museum is a function of (seed, index) alone, so that pictures may be drawn in
any order, and a smaller museum is the beginning of a larger one. Three things besides chance:

* pictures come in pairs that share a split, so that both views of one object do;
* the first `FORCED` pictures go round all attributes, so that each occurs in every train split;
* every 24th picture after those is a second view of the one before it.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

import numpy as np

from imetlib.collection.museum_catalogue import (
    ATTRIBUTE_IDS,
    CULTURES,
    MEDIUMS,
    ORNAMENTS,
    PALETTES,
)
from imetlib.collection.museum_motifs import MOTIFS
from imetlib.collection.museum_objects import OBJECTS, object_design

MIN_PICTURES, MAX_PICTURES = 200, 109_237

# Whole groups of two pairs, because each attribute needs a picture in either pair.
FORCED = 4 * -(-max(len(CULTURES), len(OBJECTS), len(ORNAMENTS), len(MOTIFS)) // 2)


@dataclass(frozen=True)
class PlacedMotif:
    """One motif in a picture.

    Attributes:
        name: one of `MOTIFS`.
        centre: (x, y) in half shorter sides from the middle of the picture.
        radius: half the side of its square, in half shorter sides.
        turn: degrees clockwise.
        mirror: 1 or -1.
    """

    name: str
    centre: tuple[float, float]
    radius: float
    turn: float
    mirror: int

    @property
    def attribute_id(self) -> int:
        return ATTRIBUTE_IDS[f"tag::{self.name}"]


@dataclass(frozen=True)
class PictureSpec:
    """Everything that is decided about a picture before it is drawn.

    Attributes:
        seed: the museum's seed.
        index: number of the picture, from 0.
        object_index: number of the first picture of the same object; `index` but for second views.
        object_name: one of `OBJECTS`.
        cultures: names, 0 to 3.
        ornaments: names, 0 to 2.
        motifs: the motifs, in the order in which they are painted.
        palette: one of `PALETTES`.
        medium: one of `MEDIUMS`.
        aspect: width / height.
        variant: four floats in [0, 1], the object's proportions.
        grey: whether the picture is a grey photograph.
    """

    seed: int
    index: int
    object_index: int
    object_name: str
    cultures: tuple[str, ...]
    ornaments: tuple[str, ...]
    motifs: tuple[PlacedMotif, ...]
    palette: str
    medium: str
    aspect: float
    variant: tuple[float, ...]
    grey: bool

    @property
    def labels(self) -> list[int]:
        """Attribute ids, ascending, before label noise."""
        names = {f"culture::{name}" for name in self.cultures} | {f"tag::{self.object_name}"}
        names |= {f"tag::{name}" for name in self.ornaments}
        names |= {f"tag::{motif.name}" for motif in self.motifs}
        return sorted(ATTRIBUTE_IDS[name] for name in names)


def picture_spec(seed: int, index: int, *, object_name: str = "") -> PictureSpec:
    """Decide what is in picture `index` of the museum with this seed.

    Args:
        seed: int >= 0.
        index: int >= 0.
        object_name: one of `OBJECTS`, whatever the culture likes; "" leaves it to the museum.

    Returns:
        `PictureSpec`. A second view has the content of the picture before it.

    Raises:
        ValueError: an unknown `object_name`.

    Example:
        >>> picture_spec(0, 7) == picture_spec(0, 7)
        True
    """
    if object_name and object_name not in OBJECTS:
        raise ValueError(
            f"`object_name` must be one of {', '.join(OBJECTS)}. Received: {object_name!r}"
        )
    object_index = index - 1 if _is_second_view(index) else index
    rng = np.random.default_rng([seed, object_index, 0])
    forced = forced_attributes(object_index)
    cultures = _choose_cultures(rng, forced)
    first = cultures[0] if cultures else None
    object_name = object_name or forced.get("object") or _choose_object(rng, first)
    ornaments = _choose_ornaments(rng, cultures, forced)
    low, high = OBJECTS[object_name].aspects
    # Strips are rare: three quarters of the pictures are in the squarer half of the range.
    squarer, longer = (np.log(low), np.log(high)) if high * low > 1 else np.log((high, low))
    aspect = float(np.exp(squarer + (longer - squarer) * rng.random() ** 2.4))
    variant = tuple(rng.random(4).tolist())
    half_width, half_height = max(aspect, 1.0), max(1 / aspect, 1.0)
    field = object_design(object_name, half_width, half_height, variant).field
    motifs = _place(rng, _choose_motifs(rng, object_name, forced), field)
    faithful = rng.random(2) < (0.75, 0.95)
    return PictureSpec(
        seed=seed,
        index=index,
        object_index=object_index,
        object_name=object_name,
        cultures=tuple(culture.name for culture in cultures),
        ornaments=ornaments,
        motifs=motifs,
        palette=first.palette if first and faithful[0] else str(rng.choice(PALETTES)),
        medium=first.medium if first and faithful[1] else str(rng.choice(MEDIUMS)),
        aspect=aspect,
        variant=variant,
        grey=bool(rng.random() < 0.04),
    )


def check_integer(name, value, low, high=None):
    """Raise ValueError where an argument is no integer from `low` to `high`."""
    integral = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integral or value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"from {low:,} to {high:,}"
        raise ValueError(f"`{name}` must be an integer {bounds}. Received: {name}={value!r}")


def picture_id(seed: int, index: int) -> str:
    """The id of a picture: 16 hex digits.

    Every 61st has digits only and every 67th reads as a number in scientific notation, because a
    table reader that guesses types destroys such ids.

    Example:
        >>> len(picture_id(0, 0)), picture_id(0, 60).isdigit(), "e" in picture_id(0, 66)
        (16, True, True)
    """
    number = int.from_bytes(blake2b(f"{seed}:{index}".encode(), digest_size=8).digest(), "big")
    if index % 61 == 60:
        return f"{number % 10**16:016d}"
    if index % 67 == 66:
        digits = f"{number % 10**15:015d}"
        return f"{digits[:3]}e{digits[3:]}"
    return f"{number:016x}"


def is_test_picture(index: int, test_fraction: float) -> bool:
    """Whether a picture is in the test split; a pair (2k, 2k + 1) always shares its split."""
    pair = index // 2
    return int((pair + 1) * test_fraction) > int(pair * test_fraction)


def forced_attributes(index: int) -> dict[str, str]:
    """Names of the object, ornament, motif and culture that an early picture must have."""
    if index >= FORCED:
        return {}
    # Slot 2b is in pictures 4b and 4b + 2, slot 2b + 1 in the two others: one of two
    # neighbouring pairs is always in train.
    slot = 2 * (index // 4) + index % 2
    pools = {
        "culture": [culture.name for culture in CULTURES],
        "object": list(OBJECTS),
        "ornament": list(ORNAMENTS),
        "motif": list(MOTIFS),
    }
    # Rare things last in each pool start at different slots, lest all meet in the same pictures.
    starts = {"culture": 0, "object": 36, "ornament": 57, "motif": 0}
    return {
        kind: pool[slot - starts[kind]]
        for kind, pool in pools.items()
        if 0 <= slot - starts[kind] < len(pool)
    }


def forced_names(index: int) -> list[str]:
    """The same as attribute names, `group::name`."""
    forced = forced_attributes(index).items()
    return [f"{'culture' if kind == 'culture' else 'tag'}::{name}" for kind, name in forced]


def _is_second_view(index: int) -> bool:
    return index >= FORCED and index % 24 == 11


@cache
def _zipf(length: int, exponent: float) -> np.ndarray:
    weights = np.cumsum(np.arange(1, length + 1) ** -exponent)
    return weights / weights[-1]


def _draw(rng, names, exponent):
    return names[int(np.searchsorted(_zipf(len(names), exponent), rng.random()))]


def _choose_cultures(rng, forced):
    number = int(np.searchsorted([0.2, 0.9, 0.98], rng.random()))
    if "culture" in forced:
        chosen = [next(c for c in CULTURES if c.name == forced["culture"])]
    else:
        chosen = []
    while len(chosen) < number:
        culture = _draw(rng, CULTURES, 1.1)
        if culture not in chosen:
            chosen.append(culture)
    return chosen


def _choose_object(rng, culture):
    if culture and rng.random() < 0.6:
        return culture.objects[int(3 * rng.random() ** 1.5)]
    return _draw(rng, tuple(OBJECTS), 1.0)


def _choose_ornaments(rng, cultures, forced):
    number = int(np.searchsorted([0.48, 0.96], rng.random()))
    chosen = [forced["ornament"]] if "ornament" in forced else []
    while len(chosen) < number:
        if cultures and rng.random() < 0.9:
            culture = cultures[int(len(cultures) * rng.random())]
            name = culture.ornaments[int(rng.random() < 0.2)]
        else:
            name = _draw(rng, ORNAMENTS, 0.8)
        if name not in chosen:
            chosen.append(name)
        elif rng.random() < 0.5:
            break
    return tuple(chosen)


def _choose_motifs(rng, object_name, forced):
    number = int(np.searchsorted([0.22, 0.87, 0.955, 0.98, 0.992], rng.random()))
    liked = OBJECTS[object_name].motifs
    if object_name == "portraits":
        number = max(number, 1)
    chosen = [forced["motif"]] if "motif" in forced else []
    while len(chosen) < number:
        preferred = rng.random() < (1.0 if object_name == "portraits" and not chosen else 0.35)
        if preferred:
            chosen.append(liked[int(len(liked) * rng.random() ** 1.5)])
        else:
            chosen.append(_draw(rng, tuple(MOTIFS), 1.35))
    return chosen


def _place(rng, names, field):
    """Give each motif a cell of the field; the first often repeats where there is room."""
    if not names:
        return ()
    x, y, half_width, half_height = field
    if len(names) == 1 and max(half_width, half_height) > 2.2 * min(half_width, half_height):
        names = names * min(int(max(half_width, half_height) / min(half_width, half_height)), 4)
    columns, rows = _grid(len(names), half_width, half_height)
    placed = []
    for number, name in enumerate(names):
        row, column = divmod(number, columns)
        cell_x, cell_y = half_width / columns, half_height / rows
        radius = min(cell_x, cell_y) * rng.uniform(0.92, 1.06)
        slack = np.maximum(np.array([cell_x, cell_y]) - radius, 0.03)
        offset = rng.uniform(-0.6, 0.6, 2) * slack
        centre = (
            float(x - half_width + (2 * column + 1) * cell_x + offset[0]),
            float(y - half_height + (2 * row + 1) * cell_y + offset[1]),
        )
        turn, mirror = float(rng.normal(0, 4)), 1 if rng.random() < 0.5 else -1
        placed.append(PlacedMotif(name, centre, float(radius), turn, mirror))
    return tuple(placed)


def _grid(number, half_width, half_height):
    """Columns and rows whose cells are as nearly square as can be."""
    sizes = [
        (min(half_width / columns, half_height / -(-number // columns)), -columns)
        for columns in range(1, number + 1)
    ]
    columns = -max(sizes)[1]
    return columns, -(-number // columns)
