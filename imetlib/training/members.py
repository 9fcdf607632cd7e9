"""Several ways of learning one collection: compared on the holdout, or joined for an answer."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from imetlib.collection.prepared import with_settings
from imetlib.models.backbones import (
    backbone_row,
    check_image_shape,
    find_normalisation,
    find_weights,
)
from imetlib.profiles import scale_shape
from imetlib.training.fold_runs import METHODS, train_fold
from imetlib.training.runs import blend_runs, train_all_folds

# What a notebook trains unless told otherwise, by profile.
COMPARED = {
    "fast": "small_convnet:ridge small_convnet:network",
    # The four of the 2019 report, each frozen and fine-tuned.
    "report": "resnet50:ridge resnet50:network inception_resnet_v2:ridge "
    "inception_resnet_v2:network vgg19:ridge vgg19:network xception:ridge xception:network",
    "full": "mobilenet_v2:ridge mobilenet_v2:kernel mobilenet_v2:network "
    "xception:ridge xception:kernel xception:network",
}
SUBMITTED = {
    "fast": "small_convnet:network",
    "report": "mobilenet_v2:network",
    "full": "mobilenet_v2:kernel mobilenet_v2:kernel@0.67 xception:kernel",
}
# Within a number of hours it is one network. At equal epochs on the watercolours Xception's is .010
# F2 above MobileNetV2's (.002 to .017, `results/pomological/comparison`).
TIMED = {
    "fast": "small_convnet:network",
    "report": "mobilenet_v2:network",
    "full": "xception:network",
}


@dataclass(frozen=True)
class Member:
    """One way of learning: a backbone, what is done with it, and at which size.

    Args:
        backbone: key of `imetlib.models.backbones.BACKBONES`, or path of a `.keras` file.
        method: "network" trains the layers, "ridge" and "kernel" are heads in closed form on
            the frozen, pretrained backbone.
        size: "HEIGHTxWIDTH" in pixels, or a fraction of the profile's size such as "0.67"; ""
            for the profile's.
    """

    backbone: str
    method: str
    size: str = ""

    @property
    def name(self):
        """Name of its run folder."""
        return "-".join(filter(None, (Path(self.backbone).stem, self.method, self.size)))

    def image_shape(self, shape):
        """(height, width, 3) at this size where the profile has `shape`; None for None."""
        if "x" in self.size:
            return (*map(int, self.size.split("x")), 3)
        return shape if shape is None or not self.size else scale_shape(shape, float(self.size))


def parse_members(text, profile, defaults, *, timed=False):
    """Members from a notebook's parameter, checked before any work begins.

    Args:
        text: "backbone:method", "backbone:method@HEIGHTxWIDTH" or "backbone:method@0.67" (a
            fraction of the profile's size), separated by blanks; "" takes the default.
        profile: `Profile`.
        defaults: `COMPARED` or `SUBMITTED`; a timed run has its own.
        timed: whether they are trained within the hours of a session, which a single network is.

    Returns:
        list of `Member`.

    Raises:
        ValueError: unknown backbone or method, a member twice, a size below the backbone's
            least, a closed-form head without pretrained weights, or in a timed run anything but
            a single network.
        FileNotFoundError: a weights file is missing (see `find_weights`).

    Example:
        >>> from imetlib.profiles import get_profile
        >>> parse_members("small_convnet:network@64x48", get_profile("fast"), COMPARED)[0].name
        'small_convnet-network-64x48'
    """
    words = (text or (TIMED if timed else defaults)[profile.name]).split()
    if timed and (len(words) != 1 or ":network" not in words[0]):
        raise ValueError(
            "Within a number of hours a single network is trained, on all folds. Received: "
            f'members="{" ".join(words)}". Give one, such as members="mobilenet_v2:network", or '
            "hours=0"
        )
    members = []
    for word in words:
        found = re.fullmatch(r"(.+):(\w+?)(?:@(\d+x\d+|[01]?\.\d+))?", word)
        if found is None or found[2] not in METHODS:
            raise ValueError(
                "`members` must be backbone:method, with @HEIGHTxWIDTH or @FRACTION behind it or "
                f"not, the method one of {', '.join(METHODS)}. Received: {word!r}"
            )
        own = found[1].endswith(".keras")
        backbone = str(Path(found[1]).expanduser()) if own else found[1]
        member = Member(backbone, found[2], found[3] or "")
        backbone_row(backbone)
        if own and not profile.normalisation:
            find_normalisation(backbone, None)  # says which ones there are
        if member.name in [other.name for other in members]:
            raise ValueError(f"`members` names {word!r} twice")
        weights = weights_of(member, profile)
        if member.method != "network" and not weights and not own:
            raise ValueError(
                f"{word} needs pretrained weights, and the profile {profile.name} has none for "
                f"{member.backbone}: use {member.backbone}:network, or give `weights`"
            )
        find_weights(member.backbone, weights or None)
        shape = member.image_shape(profile.image_shape)
        if shape is not None:
            check_image_shape(member.backbone, shape)
        members.append(member)
    return members


def weights_of(member, profile):
    """The profile's weights, or "" for a backbone that has no pretrained ones."""
    known = backbone_row(member.backbone).weights_name
    return profile.weights if known or profile.weights != "imagenet" else ""


def with_member(data, member):
    """The same collection with the profile set to a member's backbone, weights and size."""
    settings = {
        "backbone": member.backbone,
        "weights": weights_of(member, data.profile),
        "image_shape": member.image_shape(data.profile.image_shape),
    }
    own = member.backbone.endswith(".keras")  # brings its weights, and its own normalisation
    if not own:
        settings["normalisation"] = ""
    named = data.profile.trainable_from not in ("all", "head", "late")
    if named and member.backbone != data.profile.backbone:
        settings["trainable_from"] = "late"
    if not settings["weights"] and not own and data.profile.trainable_from != "head":
        settings["trainable_from"] = "all"  # a random start has nothing worth freezing
    data = with_settings(data, **settings)
    check_image_shape(member.backbone, data.profile.image_shape)
    return data


def compare_members(data, members, folder, *, seeds=(0,), verbose=0):
    """Train every member on the same rows and score it once on the holdout, fold 0.

    Fold 1 chooses epochs and thresholds. See `train_fold`.

    Args:
        data: `PreparedCollection`.
        members: list of `Member`.
        folder: where the run folders go: `<member>`, and `<member>-seed<n>` for further seeds.
        seeds: int, each trains every member once more.
        verbose: see `train_fold`.

    Returns:
        list of records, member by member, seeds in their order.
    """
    # Every member is checked before the first one is trained.
    prepared = [with_member(data, member) for member in members]
    records = []
    for member, member_data in zip(members, prepared, strict=True):
        for seed in seeds:
            name = member.name if seed == seeds[0] else f"{member.name}-seed{seed}"
            if verbose:
                print(name, flush=True)
            records.append(
                train_fold(
                    member_data,
                    Path(folder) / name,
                    1,
                    method=member.method,
                    seed=seed,
                    verbose=verbose,
                )
            )
    return records


def train_members(data, members, folder, *, session=None, on_network=None, seed=0, verbose=0):
    """Train every member on all folds and join them by the mean of their logits.

    Args:
        data, members, seed, verbose: see `compare_members`.
        folder: run folder of the whole; `load_run` opens it.
        session, on_network: see `train_all_folds`; for a single member, whose run folder it is.

    Returns:
        the record of the whole: scored on the holdout, `selection` is out of fold.
    """
    prepared = [with_member(data, member) for member in members]
    if session is not None:
        return train_all_folds(
            prepared[0], folder, session=session, on_network=on_network, seed=seed, verbose=verbose
        )
    for member, member_data in zip(members, prepared, strict=True):
        path = Path(folder) / member.name
        train_all_folds(member_data, path, method=member.method, seed=seed, verbose=verbose)
    return blend_runs(data, folder, [member.name for member in members])


def seeds_of(profile, first, count):
    """Seeds of a comparison as a list: `count` from `first` on; 0: five in `fast`, else one."""
    return list(range(first, first + (count or (5 if profile.name == "fast" else 1))))


def verbosity(profile):
    """How much training says: 0 in `fast`, 1 (a bar with time left) where a person watches.

    Elsewhere, in batch runs, 2: one line an epoch, since a bar there makes a notebook of
    hundreds of kilobytes.
    """
    if profile.name == "fast":
        return 0
    # The Jupyter server names its sessions; a kernel that papermill started has no such name.
    return 1 if "JPY_SESSION_NAME" in os.environ or sys.stdout.isatty() else 2
