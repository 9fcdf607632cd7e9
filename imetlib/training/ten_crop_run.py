"""One seed of the ten-crop experiment: its settings, its networks by name, its split and folder."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from imetlib.collection.classified import ClassifiedPictures
from imetlib.files import replacing
from imetlib.profiles import override_settings

# The network that is frozen for the heads, and the plain one of every comparison.
BASE = "dense"
# Whole networks, name to arguments of `crop_classifier`; "hidden" here: whether FullNet has
# hidden layers. All but the base start from its convolutions and train them on, jointly with a new
# FullNet.
WHOLE = {
    BASE: {"views": "whole"},
    "hidden dense": {"views": "whole", "hidden": True},
    "ten crops": {"views": "ten", "hidden": True},
}
# Heads on the base's frozen map.
HEADS = {
    f"{views} {'hidden' if hidden else 'linear'}": {"views": views, "hidden": hidden}
    for views in ("whole", "mean", "centre", "five", "ten")
    for hidden in (False, True)
} | {
    f"ten {'hidden' if hidden else 'linear'}, logits": {
        "views": "ten",
        "hidden": hidden,
        "average": "logits",
    }
    for hidden in (False, True)
}


@dataclass(frozen=True)
class TenCropSettings:
    """What decides a run of the experiment.

    Args:
        profile: "fast" or "full".
        filters: five int, of `cifar_alexnet`.
        hidden: int each, units of FullNet's hidden layers.
        epochs: int >= 1, of the base, from scratch.
        joint_epochs: int >= 1, of the other whole networks, from the base's convolutions on.
        head_epochs: int >= 1, of a head on the frozen map.
        num_held_out: training pictures for every choice, the same share of each class.
        batch_size, head_batch_size: int >= 1, pictures in a batch. What fills no batch is left out
            of an epoch; the next one has another order.
        learning_rate, joint_learning_rate: greatest rate of the base, and of the other whole
            networks (SGD, Nesterov momentum 0.9, cosine).
        head_learning_rate: greatest rate of a head (AdamW, cosine).
        weight_decay: of a whole network's kernels, decoupled from the gradient: with momentum 0.9
            as strong as a tenth of it in the loss.
        head_weight_decay: of a head's kernels, decoupled too.
        conv_dropout: of what convolutions 3 to 5 read.
        dropout: of what FullNet's layers read.
        label_smoothing: float in [0, 1).
        precision: dtype policy, see `imetlib.training.devices.dtype_policy`.
        padding: pixels of black around a picture in the random crops of training.

    Raises:
        ValueError: no epoch, or a batch without pictures.
    """

    profile: str
    filters: tuple[int, ...]
    hidden: tuple[int, ...]
    epochs: int
    joint_epochs: int
    head_epochs: int
    num_held_out: int
    batch_size: int = 128
    head_batch_size: int = 512
    learning_rate: float = 0.05
    joint_learning_rate: float = 0.02
    head_learning_rate: float = 1e-3
    weight_decay: float = 5e-3
    head_weight_decay: float = 0.01
    conv_dropout: float = 0.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    precision: str = "float32"
    padding: int = 4

    def __post_init__(self):
        for key in ("epochs", "joint_epochs", "head_epochs", "batch_size", "head_batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"`{key}` must be 1 at least. Received: {getattr(self, key)}")


SETTINGS = {
    "fast": TenCropSettings(
        "fast", (16, 32, 48, 32, 32), (64,), 6, 3, 4, 500, batch_size=32, head_batch_size=64
    ),
    "full": TenCropSettings(
        "full",
        (64, 192, 384, 256, 256),
        (1024, 1024),
        14,
        4,
        8,
        5_000,
        conv_dropout=0.2,
        dropout=0.5,
        label_smoothing=0.1,
        precision="mixed_bfloat16",
    ),
}


@dataclass(frozen=True, eq=False)
class TenCropRun:
    """One seed of the experiment: data, split and folder. Made by `start_run`.

    Args:
        pictures: `ClassifiedPictures`.
        settings: `TenCropSettings`.
        seed: int.
        folder: `pathlib.Path`; gets "<network>.weights.h5", "<network>.json", "<network>.csv".
        rows, held_out: ascending int arrays, training pictures to learn from and to choose by.
    """

    pictures: ClassifiedPictures
    settings: TenCropSettings
    seed: int
    folder: Path
    rows: np.ndarray
    held_out: np.ndarray

    @property
    def num_classes(self):
        return len(self.pictures.class_names)

    @cached_property
    def labels(self):
        """`(num_train, num_classes)` float32, one 1 a row."""
        return np.eye(self.num_classes, dtype=np.float32)[self.pictures.train_labels]

    def path(self, name, suffix):
        """File of a network: "ten hidden, logits" has "ten-hidden-logits" + `suffix`."""
        return self.folder / f"{name.replace(', ', '-').replace(' ', '-')}{suffix}"


def start_run(pictures, settings, seed, folder):
    """The run of a folder, new or begun.

    Args:
        pictures: `ClassifiedPictures`.
        settings: `TenCropSettings`.
        seed: int >= 0; decides split, order, augmentation and initial weights.
        folder: run folder, made where missing.

    Returns:
        `TenCropRun`.

    Raises:
        ValueError: the folder holds a run of other settings, seed or pictures, the pictures are
            too few for a batch, or the held-out ones for the classes.
    """
    from sklearn.model_selection import train_test_split

    rows, held_out = train_test_split(
        np.arange(len(pictures.train_labels)),
        test_size=settings.num_held_out,
        stratify=pictures.train_labels,
        random_state=seed,
    )
    for key in ("batch_size", "head_batch_size"):
        if getattr(settings, key) > len(rows):
            raise ValueError(
                f"`{key}` must not exceed the {len(rows):,} pictures to learn from. "
                f"Received: {getattr(settings, key):,}"
            )
    folder = Path(folder)
    _claim_folder(folder, pictures, settings, seed)
    return TenCropRun(pictures, settings, seed, folder, np.sort(rows), np.sort(held_out))


def pictures_sha256(pictures):
    """Hash of labels and source: decoders of JPEG differ by a grey level.

    Args:
        pictures: `ClassifiedPictures`.
    """
    digest = hashlib.sha256(pictures.source.encode())
    for labels in (pictures.train_labels, pictures.test_labels):
        digest.update(labels.astype(np.uint8).tobytes())
    return digest.hexdigest()


def settings_of(profile, **changes):
    """Settings of a profile with some replaced; None leaves one as it is.

    Args:
        profile: "fast" or "full".
        **changes: fields of `TenCropSettings` by name.

    Raises:
        ValueError: an unknown profile or setting, or a value out of its range.
    """
    if profile not in SETTINGS:
        raise ValueError(f"Unknown profile {profile!r}. Known: {', '.join(SETTINGS)}")
    return override_settings(SETTINGS[profile], changes)


def _claim_folder(folder, pictures, settings, seed):
    """Write down whose folder this is, or check it."""
    identity = {
        "seed": seed,
        "pictures": pictures.source,
        "pictures_sha256": pictures_sha256(pictures),
        **asdict(settings),
    }
    identity = json.loads(json.dumps(identity))
    path = folder / "settings.json"
    if not path.is_file():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in {**identity, **known} if known.get(key) != identity.get(key)]
    if differing:
        raise ValueError(
            f"{folder} holds a run of other settings ({', '.join(differing)}). Take another "
            "folder, or remove this one; nothing was overwritten."
        )
