"""Preprocessing and augmentation of one picture: resize, flip, scale, shift and rotation in a
single affine map and one call of OpenCV, then one look-up table. Where nothing but the size
changes, the same map is a resize, which takes a third of the time.
"""

import threading
from dataclasses import asdict, dataclass

import cv2
import numpy as np

# The reading threads share the cores with training already.
cv2.setNumThreads(1)

RESIZE_MODES = ("squash", "pad", "crop")
_PAD_VALUE = (127, 127, 127, 127)
# OpenCV 5 warps four channels faster than three; OpenCV 4 does not. The values are the same.
_FOUR_CHANNELS = int(cv2.__version__.split(".")[0]) >= 5
# Each thread's memory for a picture in four channels, before and after its warp; larger pictures
# keep their three.
_scratch = threading.local()
_MAX_SCRATCH_BYTES = 2**23


@dataclass(frozen=True)
class Preprocessing:
    """What every picture goes through, in training, validation and prediction alike.

    It travels with the model: the run record holds it and `load_run` uses it.

    Args:
        image_shape: (height, width, 3) of the pictures that the model gets, in pixels.
        resize_mode: "squash" changes the aspect ratio; "pad" keeps it and fills up with
            grey 127; "crop" first cuts the longer side to twice the shorter one where it
            is longer, then squashes (the first place of iMet 2019 cut at 2 x 320 px,
            which is about the same for pictures with a shorter side of 300 px).
        min_side: longest allowed shorter side, in pixels, of the cached picture that is
            warped. None: as large as `image_shape` asks for.
    """

    image_shape: tuple[int, int, int]
    resize_mode: str = "squash"
    min_side: int | None = None

    def __post_init__(self):
        shape = tuple(int(side) for side in self.image_shape)
        if len(shape) != 3 or min(shape) < 1 or shape[2] != 3:
            raise ValueError(
                f"`image_shape` must be (height, width, 3). Received: image_shape={shape}"
            )
        if self.resize_mode not in RESIZE_MODES:
            raise ValueError(
                f"`resize_mode` must be one of {', '.join(RESIZE_MODES)}. "
                f"Received: resize_mode={self.resize_mode!r}"
            )
        object.__setattr__(self, "image_shape", shape)
        if self.min_side is None:
            object.__setattr__(self, "min_side", min(shape[:2]))

    def to_dict(self):
        """Plain values for the run record."""
        return {**asdict(self), "image_shape": list(self.image_shape)}

    @classmethod
    def from_dict(cls, values):
        """The object that `to_dict` was called on."""
        return cls(**{**values, "image_shape": tuple(values["image_shape"])})


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training pictures; every amount 0 means none.

    Args:
        flip: float in [0, 1]. Probability of a mirror image.
        scale: float >= 0. Zoom by a factor drawn log-uniformly from [1/(1+s), 1+s].
        shift: float >= 0. Greatest shift as a fraction of the side.
        rotate: float >= 0. Greatest rotation in degrees.
        brightness: float >= 0. Greatest shift of all values as a fraction of 255.
        contrast: float in [0, 1). Contrast factor from [1-c, 1+c].
        erase: float in [0, 1]. Probability that a rectangle is filled with noise.
        mixup: float >= 0. Alpha of `keras.layers.MixUp`.
        cutmix: float >= 0. Alpha of `keras.layers.CutMix`.
    """

    flip: float = 0.5
    scale: float = 0.1
    shift: float = 0.05
    rotate: float = 5.0
    brightness: float = 0.1
    contrast: float = 0.1
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not value >= 0 or (name in ("flip", "contrast", "erase") and value > 1):
                raise ValueError(f"`{name}` is out of its range. Received: {name}={value}")

    def to_dict(self):
        """Plain values for the run record."""
        return asdict(self)


def picture_matrix(
    height, width, preprocessing, *, flip=False, scale=1.0, shift=(0.0, 0.0), rotate=0.0, crop=0.5
):
    """Affine map from a picture's pixel coordinates to the model's.

    Pixel centres are at half integers, as in Pillow's and PyTorch's resizing, so a
    mirror image of the result is the result of the mirror image.

    Args:
        height, width: size of the picture in pixels.
        preprocessing: `Preprocessing`.
        flip: mirror left and right.
        scale: float > 0. Zoom about the centre; above 1 enlarges.
        shift: (x, y) in fractions of the target's sides.
        rotate: degrees, counter-clockwise.
        crop: float in [0, 1]. Where the "crop" mode cuts; 0.5 is the centre.

    Returns:
        `(2, 3)` float64 matrix for `cv2.warpAffine`.
    """
    target_height, target_width, _ = preprocessing.image_shape
    left, top, region_width, region_height = 0.0, 0.0, float(width), float(height)
    if preprocessing.resize_mode == "crop":
        longest = 2.0 * min(height, width)
        if width > longest:
            left, region_width = crop * (width - longest), longest
        elif height > longest:
            top, region_height = crop * (height - longest), longest
    scale_x, scale_y = target_width / region_width, target_height / region_height
    if preprocessing.resize_mode == "pad":
        scale_x = scale_y = min(scale_x, scale_y)
    angle = np.deg2rad(rotate)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    mirror = -1.0 if flip else 1.0
    linear = np.array(
        [
            [cosine * mirror * scale_x, sine * scale_y],
            [-sine * mirror * scale_x, cosine * scale_y],
        ]
    )
    source_centre = np.array([left + region_width / 2, top + region_height / 2]) - 0.5
    target_centre = (
        np.array([target_width * (0.5 + shift[0]), target_height * (0.5 + shift[1])]) - 0.5
    )
    return np.column_stack([linear, target_centre - linear @ source_centre])


def prepare(picture, preprocessing, *, flip=False, augmentation=None, rng=None, out=None):
    """One picture as the model gets it: a single warp, then a look-up table.

    Args:
        picture: `(height, width, 3)` uint8.
        preprocessing: `Preprocessing`.
        flip: mirror view of test time (only without augmentation).
        augmentation: `Augmentation` or None.
        rng: `numpy.random.Generator`, needed with an augmentation.
        out: `image_shape` uint8 that takes the result, contiguous, or None for a new array.

    Returns:
        `image_shape` uint8.
    """
    draw = {"flip": flip}
    if augmentation is not None:
        amount = rng.uniform(-1.0, 1.0, size=6)
        draw = {
            "flip": rng.random() < augmentation.flip,
            "scale": float(np.exp(amount[0] * np.log1p(augmentation.scale))),
            "shift": (amount[1] * augmentation.shift, amount[2] * augmentation.shift),
            "rotate": amount[3] * augmentation.rotate,
            "crop": rng.random(),
        }
    result = _warp(picture, preprocessing, draw, out)
    if augmentation is not None:
        if augmentation.brightness or augmentation.contrast:
            factor = 1.0 + amount[4] * augmentation.contrast
            offset = 127.5 * (1 - factor) + 255.0 * amount[5] * augmentation.brightness
            levels = np.clip(np.arange(256) * factor + offset, 0, 255)
            result = cv2.LUT(result, np.round(levels).astype(np.uint8), dst=result)
        if rng.random() < augmentation.erase:
            _erase(result, rng)
    return result


def _warp(picture, preprocessing, draw, out):
    """The affine map that was drawn, see `picture_matrix`."""
    height, width = picture.shape[:2]
    size = preprocessing.image_shape[1::-1]
    padded = preprocessing.resize_mode == "pad"
    cut = preprocessing.resize_mode == "crop" and max(height, width) > 2 * min(height, width)
    changed = draw.get("rotate") or any(draw.get("shift", ())) or draw.get("scale", 1.0) != 1.0
    # Mirrored last, a picture gives the very pixels of its mirror image.
    flip = draw.pop("flip") if not changed else False
    if padded or cut or changed:
        matrix = picture_matrix(height, width, preprocessing, **draw)
        out = _warp_affine(
            picture, matrix, size, out, cv2.BORDER_CONSTANT if padded else cv2.BORDER_REPLICATE
        )
    else:
        out = cv2.resize(picture, size, dst=out, interpolation=cv2.INTER_LINEAR)
    return cv2.flip(out, 1, dst=out) if flip else out


def _warp_affine(picture, matrix, size, out, border):
    """OpenCV's warp, through four channels where that takes two thirds of the time."""
    (height, width), target = picture.shape[:2], 4 * size[0] * size[1]
    source = 4 * height * width
    settings = {"flags": cv2.INTER_LINEAR, "borderMode": border, "borderValue": _PAD_VALUE}
    if not _FOUR_CHANNELS or source + target > _MAX_SCRATCH_BYTES:
        return cv2.warpAffine(picture, matrix, size, dst=out, **settings)
    memory = getattr(_scratch, "memory", None)
    if memory is None or len(memory) < source + target:
        memory = _scratch.memory = np.empty(source + target, np.uint8)
    before = memory[:source].reshape(height, width, 4)
    after = memory[source : source + target].reshape(*size[::-1], 4)
    cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA, dst=before)
    cv2.warpAffine(before, matrix, size, dst=after, **settings)
    return cv2.cvtColor(after, cv2.COLOR_RGBA2RGB, dst=out)


def _erase(picture, rng):
    """Random erasing (Zhong et al., arXiv 1708.04896): 2-25 % of the area, aspect 1/3 to 3."""
    height, width = picture.shape[:2]
    area, aspect = rng.uniform(0.02, 0.25), np.exp(rng.uniform(-1.0, 1.0) * np.log(3.0))
    rows = min(height, max(1, round(height * np.sqrt(area * aspect))))
    columns = min(width, max(1, round(width * np.sqrt(area / aspect))))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    picture[top : top + rows, left : left + columns] = rng.integers(
        0, 256, size=(rows, columns, 3), dtype=np.uint8
    )
