"""Settings of a run: `fast`, `report` and `full`, with overrides that are checked."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from imetlib.profile_checks import check_settings

PROFILE_NAMES = ("fast", "report", "full")

# Settings younger than the first records, with the value that runs had before: a record does not
# name one that has it, so an old run is still the same run.
LATER_SETTINGS = {
    "head": "mean_max",
    "attention": "",
    "attention_stride": 16,
    "attention_form": "",
    "num_parts": 4,
    "num_glimpses": 5,
    "plain_head": True,
    "divergence": "stop",
    "bad_pictures": "raise",
}

# What `full` takes from a collection.
MAX_SIDE = 288.0
ENLARGEMENT = 1.5
# (fewer pictures than, epochs)
ROUNDS = ((2_000, 20), (20_000, 10), (math.inf, 6))


@dataclass(frozen=True)
class Profile:
    """Everything that decides what a run does; a run's record holds it whole.

    Args:
        name: "fast", "report" or "full".
        museum_size: pictures of the pocket museum, used by `fast`.
        museum_side: shorter side of the museum's pictures in pixels.
        image_shape: (height, width, 3) that the network sees; None in `full`: from the
            collection (see `for_collection`).
        resize_mode: "squash", "pad" or "crop".
        backbone: key of `imetlib.models.backbones.BACKBONES`, or path of a `.keras` file.
        weights: "imagenet", a path, or "" for a random start.
        normalisation: what a model of the user's own wants (see
            `imetlib.models.backbones.normalisation_layer`); "": as the weights want.
        attention: "", or what looks at an earlier map of the backbone: "residual", "multi" or
            "recurrent" attention (`imetlib.models`).
        attention_stride: stride of that map, one of the backbone's `feature_maps`.
        attention_form: "" for the first of `imetlib.profile_checks.ATTENTION_FORMS`, or another
            one of them.
        num_parts: parts of multi-attention.
        num_glimpses: glimpses of recurrent attention.
        plain_head: the logits of the plain head are added to those of the attention.
        num_folds: folds of the collection; fold 0 is the holdout of the comparison.
        head_epochs: epochs of the head on cached features, after its closed form.
        epochs: epochs with image augmentation; None in `full`: from the collection.
        small_epochs: the first of them that see smaller pictures, which is cheaper (progressive
            resizing).
        small_scale: size of the smaller pictures as a fraction of `image_shape`.
        trainable_from: "all", "head", or the first layer that learns.
        batch_size: pictures in a batch.
        accumulation: batches in one update.
        learning_rate: greatest learning rate, reached after the warm-up.
        warmup_fraction: share of the updates in which the rate rises; cosine after that.
        weight_decay: of AdamW.
        dropout: on the pooled features.
        loss: key of `imetlib.training.losses.LOSSES`: "bce", "focal" (binary, gamma 2), "asl",
            "soft_f2", "hill" or "splc".
        head: one of `imetlib.models.heads.HEADS`: "mean_max", "mean", "max", "csra" or
            "ml_decoder".
        ema: momentum of the running mean of the weights that is scored; 0 for none.
        precision: dtype policy of the backbone; "auto": as the devices here are made for
            (`imetlib.precision.find_precision`), float32 on processors.
        batch_norm: "train" or "frozen" statistics in layers that learn.
        divergence: what follows an epoch whose loss or weights are no numbers: "stop", or "halve":
            once, training goes on from the epoch before it with half the learning rate.
        deterministic: operations that repeat bit for bit on the same machine, where the backend
            has them.
        flip, scale, shift, rotate, brightness, contrast, erase, mixup, cutmix:
            see `imetlib.collection.geometry.Augmentation`.
        exclusive: let attributes of a group share one probability where no training picture has
            two of them (`imetlib.decisions.exclusive`).
        mirror_view: predict the mean of a picture and its mirror image.
        bad_pictures: what pictures that cannot be read do: "raise" stops before training and
            names all of them, "report" goes on without them and the record names them
            (`imetlib.collection.prepared.prepare_collection`).
    """

    name: str
    museum_size: int = 1200
    museum_side: int = 96
    image_shape: tuple[int, int, int] | None = None
    resize_mode: str = "squash"
    backbone: str = "mobilenet_v2"
    weights: str = "imagenet"
    normalisation: str = ""
    attention: str = ""
    attention_stride: int = 16
    attention_form: str = ""
    num_parts: int = 4
    num_glimpses: int = 5
    plain_head: bool = True
    num_folds: int = 6
    head_epochs: int = 0
    epochs: int | None = None
    small_epochs: int = 0
    small_scale: float = 2 / 3
    trainable_from: str = "all"
    batch_size: int = 32
    accumulation: int = 1
    learning_rate: float = 1e-3
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.0
    loss: str = "bce"
    head: str = "mean_max"
    ema: float = 0.0
    precision: str = "float32"
    batch_norm: str = "train"
    divergence: str = "stop"
    deterministic: bool = True
    flip: float = 0.5
    scale: float = 0.1
    shift: float = 0.05
    rotate: float = 3.0
    brightness: float = 0.1
    contrast: float = 0.1
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    exclusive: bool = True
    mirror_view: bool = True
    bad_pictures: str = "raise"

    def to_dict(self):
        """Plain values for a record; of a path only the name: a record is published."""
        values = asdict(self)
        for key, before in LATER_SETTINGS.items():
            if values[key] == before:
                del values[key]
        values["weights"], values["backbone"] = Path(self.weights).name, Path(self.backbone).name
        values["image_shape"] = None if self.image_shape is None else list(self.image_shape)
        return values

    def for_collection(self, heights, widths, num_pictures):
        """Fill in what `full` leaves to the collection: picture size and epochs.

        The shape keeps the median aspect ratio of the pictures (squares where the middle
        half of them is both upright and wide), in multiples of 32. Its shorter side is one and
        a half times the pictures' own, because pretrained networks expect objects of some 200 px
        (on the watercolours, 127 px, worth .01 F2 on frozen features), and at most 288 px.
        A small collection wants more rounds than a large one. All of them are at the full size
        unless `small_epochs` says otherwise.

        Args:
            heights, widths: int, in pixels, of a sample of the pictures.
            num_pictures: int, of the training table.

        Returns:
            `Profile` without None. What was given stays.

        Example:
            >>> full = get_profile("full")
            >>> full.for_collection([192] * 9, [127] * 9, 6_078).image_shape
            (288, 192, 3)
            >>> full.for_collection([300] * 9, [400] * 9, 109_237).epochs
            6
        """
        shape, epochs = self.image_shape, self.epochs
        if shape is None:
            ratios = sorted(h / w for h, w in zip(heights, widths, strict=True))
            low, middle, high = (ratios[int(len(ratios) * share)] for share in (0.25, 0.5, 0.75))
            ratio = 1.0 if low < 1.0 < high else min(2.0, max(0.5, middle))
            shorter = sorted(min(h, w) for h, w in zip(heights, widths, strict=True))
            side = min(MAX_SIDE, ENLARGEMENT * shorter[len(shorter) // 2])
            height, width = side * max(1.0, ratio), side * max(1.0, 1.0 / ratio)
            shape = (max(32, round(height / 32) * 32), max(32, round(width / 32) * 32), 3)
        if epochs is None:
            epochs = next(rounds for most, rounds in ROUNDS if num_pictures < most)
        return replace(self, image_shape=shape, epochs=epochs)

    def small_shape(self):
        """(height, width, 3) of the first `small_epochs`."""
        small = scale_shape(self.image_shape, self.small_scale)
        return tuple(min(sides) for sides in zip(small, self.image_shape, strict=True))


def scale_shape(shape, scale):
    """(height, width, 3) times a factor, in multiples of 32.

    Example:
        >>> scale_shape((288, 192, 3), 0.67)
        (192, 128, 3)
    """
    return (*(max(32, round(side * scale / 32) * 32) for side in shape[:2]), shape[2])


def parameters_as_overrides(epochs, height, width, trainable_from, bad_pictures="raise"):
    """A notebook's parameters as overrides for `get_profile`.

    Papermill knows the type of a parameter only from a literal, so "as the profile says" is
    -1 for `epochs`, 0 for `height` and `width`, "" for `trainable_from`.

    Raises:
        ValueError: only one of `height` and `width` is given.
    """
    if bool(height) != bool(width):
        raise ValueError(
            f"Give both `height` and `width`, or none. Received: height={height}, width={width}"
        )
    return {
        "epochs": None if epochs < 0 else epochs,
        "image_shape": (height, width, 3) if height else None,
        "trainable_from": trainable_from or None,
        "bad_pictures": bad_pictures,
    }


_PROFILES = {
    "fast": Profile(
        name="fast",
        museum_side=64,
        image_shape=(48, 48, 3),
        backbone="small_convnet",
        weights="",
        num_folds=4,
        epochs=6,
        batch_size=24,
        learning_rate=4e-3,
        scale=0.05,
        shift=0.03,
        rotate=0.0,
        brightness=0.0,
        contrast=0.0,
        mirror_view=False,
    ),
    # The setting of the 2019 report: 256 px, maximal learning rate 1e-3, 7 epochs, batch 256.
    "report": Profile(
        name="report",
        image_shape=(256, 256, 3),
        num_folds=6,
        epochs=7,
        batch_size=32,
        accumulation=8,
        learning_rate=1e-3,
    ),
    # The last two stages cost half of all layers and, on the watercolours, score as well.
    "full": Profile(name="full", trainable_from="late", learning_rate=5e-4, precision="auto"),
}


def get_profile(name, **overrides):
    """A profile with some settings replaced.

    Args:
        name: "fast", "report" or "full".
        **overrides: fields of `Profile` by name; None leaves a field as it is, so that a
            notebook can pass its parameters on unchanged.

    Returns:
        `Profile`.

    Raises:
        ValueError: an unknown profile or setting, or a value out of its range; the message
            lists what is known.

    Example:
        >>> get_profile("fast", epochs=2).epochs
        2
    """
    if name not in _PROFILES:
        raise ValueError(f"Unknown profile {name!r}. Known: {', '.join(PROFILE_NAMES)}")
    if overrides.get("image_shape") is not None:
        overrides["image_shape"] = tuple(overrides["image_shape"])
    profile = override_settings(_PROFILES[name], overrides, fixed=("name",))
    check_settings(profile)
    return profile


def override_settings(settings, overrides, *, fixed=()):
    """A dataclass of settings with some replaced; None leaves one as it is.

    Args:
        settings: dataclass instance.
        overrides: dict of field to value.
        fixed: fields that nobody replaces.

    Raises:
        ValueError: an unknown setting.
    """
    known = [field.name for field in fields(settings) if field.name not in fixed]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise ValueError(f"Unknown settings: {', '.join(unknown)}. Known: {', '.join(known)}")
    return replace(
        settings, **{key: value for key, value in overrides.items() if value is not None}
    )
