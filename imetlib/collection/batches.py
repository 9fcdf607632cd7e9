"""Batches of uint8 pictures in a known order: one warp, one preprocessing for every split.

Order and augmentation are functions of (seed, epoch, row), never of the number of
workers, so a run can be repeated and resumed. Geometry (resize, flip, scale, shift,
rotation) is one affine map and one call of OpenCV.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from imetlib.quiet import keras

# The reading threads share the cores with training already.
cv2.setNumThreads(1)

RESIZE_MODES = ("squash", "pad", "crop")
_PAD_VALUE = (127, 127, 127)


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


def prepare(picture, preprocessing, *, flip=False, augmentation=None, rng=None):
    """One picture as the model gets it: a single warp, then a look-up table.

    Args:
        picture: `(height, width, 3)` uint8.
        preprocessing: `Preprocessing`.
        flip: mirror view of test time (only without augmentation).
        augmentation: `Augmentation` or None.
        rng: `numpy.random.Generator`, needed with an augmentation.

    Returns:
        `image_shape` uint8.
    """
    height, width = picture.shape[:2]
    target_height, target_width, _ = preprocessing.image_shape
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
    matrix = picture_matrix(height, width, preprocessing, **draw)
    padded = preprocessing.resize_mode == "pad"
    result = cv2.warpAffine(
        picture,
        matrix,
        (target_width, target_height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT if padded else cv2.BORDER_REPLICATE,
        borderValue=_PAD_VALUE,
    )
    if augmentation is not None:
        if augmentation.brightness or augmentation.contrast:
            factor = 1.0 + amount[4] * augmentation.contrast
            offset = 127.5 * (1 - factor) + 255.0 * amount[5] * augmentation.brightness
            levels = np.clip(np.arange(256) * factor + offset, 0, 255)
            result = cv2.LUT(result, np.round(levels).astype(np.uint8))
        if rng.random() < augmentation.erase:
            _erase(result, rng)
    return result


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


class Batches(keras.utils.PyDataset):
    """Batches of `(images, labels)` for `fit`, `evaluate` and `predict` of any backend.

    An epoch holds every row once; batch sizes differ by at most one, so that no
    BatchNormalization layer ever sees a tiny last batch. Give `fit` `shuffle=False`: it would
    shuffle the batches once more, in an order that is not repeated.

    Args:
        pictures: anything with `read(row) -> (height, width, 3) uint8`, a `PictureCache`.
        rows: `(num_samples,)` int. Rows of `pictures`, in the order wanted.
        preprocessing: `Preprocessing`.
        labels: `(num_samples, num_classes)` array aligned with `rows`, or None.
        batch_size: int >= 1. Greatest number of pictures in a batch.
        shuffle: a new order each epoch, drawn from (seed, epoch).
        augmentation: `Augmentation` or None.
        flip: mirror every picture (the second view of test time).
        seed: int >= 0.
        workers: threads that share the pictures of a batch; 0 or 1: the caller's thread reads.

    Returns of `batches[i]`:
        `images` `(batch, *image_shape)` uint8, and `labels` `(batch, num_classes)` float32
        where labels were given.
    """

    def __init__(
        self,
        pictures,
        rows,
        preprocessing,
        *,
        labels=None,
        batch_size=32,
        shuffle=False,
        augmentation=None,
        flip=False,
        seed=0,
        workers=2,
    ):
        # Not Keras's own workers: on jax and torch `fit` stops them once to build the model, and
        # the batches in their queue then come twice in the first epoch, others never.
        super().__init__(workers=1, use_multiprocessing=False)
        self.threads = max(1, workers)
        self.rows = np.asarray(rows, dtype=np.int64)
        if labels is not None and len(labels) != len(self.rows):
            raise ValueError(
                "`labels` and `rows` must have the same length. "
                f"Received: {len(labels)} labels and {len(self.rows)} rows"
            )
        if batch_size < 1 or not len(self.rows):
            raise ValueError(
                "Batches need `batch_size` >= 1 and at least one row. "
                f"Received: batch_size={batch_size}, {len(self.rows)} rows"
            )
        self.pictures, self.labels, self.preprocessing = pictures, labels, preprocessing
        self.batch_size, self.shuffle, self.augmentation = batch_size, shuffle, augmentation
        self.flip, self.seed = flip, seed
        self.epoch, self._complete = 0, False

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def order(self, epoch):
        """Positions in `rows` in the order of an epoch, `(num_samples,)` int."""
        if not self.shuffle:
            return np.arange(len(self.rows))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))

    def __getitem__(self, index):
        epoch = self.epoch
        bounds = np.linspace(0, len(self.rows), len(self) + 1).astype(np.int64)
        positions = self.order(epoch)[bounds[index] : bounds[index + 1]]
        images = np.empty((len(positions), *self.preprocessing.image_shape), np.uint8)

        def read(first):
            for slot in range(first, len(positions), self.threads):
                images[slot] = self._prepare_row(int(self.rows[positions[slot]]), epoch)

        if self.threads == 1:
            read(0)
        else:
            # A share of the batch each: one task a picture is slower than no threads at all.
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(read, range(self.threads)))
        self._complete |= index == len(self) - 1
        if self.labels is None:
            return images
        labels = np.asarray(self.labels[positions], dtype=np.float32)
        return self._mix(images, labels, epoch, index)

    def on_epoch_begin(self):
        self._complete = False

    def on_epoch_end(self):
        # `fit` also ends an epoch before its first one.
        self.epoch += self._complete
        self._complete = False

    def _prepare_row(self, row, epoch):
        rng = None
        if self.augmentation is not None:
            rng = np.random.default_rng([self.seed, epoch, row])
        return prepare(
            self.pictures.read(row),
            self.preprocessing,
            flip=self.flip,
            augmentation=self.augmentation,
            rng=rng,
        )

    def _mix(self, images, labels, epoch, index):
        """MixUp and CutMix of Keras, seeded by the batch and not by the layer's history."""
        if self.augmentation is None or len(images) < 2:
            return images, labels
        seed = int(np.random.default_rng([self.seed, epoch, index]).integers(2**31 - 1))
        for layer, alpha in (
            (keras.layers.MixUp, self.augmentation.mixup),
            (keras.layers.CutMix, self.augmentation.cutmix),
        ):
            if alpha:
                mixed = layer(alpha, seed=seed)(
                    {"images": images.astype(np.float32), "labels": labels}, training=True
                )
                images = np.round(keras.ops.convert_to_numpy(mixed["images"])).astype(np.uint8)
                labels = keras.ops.convert_to_numpy(mixed["labels"])
        return images, labels
