"""Several ways of learning one collection: compared on a holdout, or joined for an answer."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from imetlib.models.backbones import BACKBONES, find_weights
from imetlib.training.runs import METHODS, blend_runs, train_all_folds, train_fold

# What a notebook trains unless told otherwise, by profile.
COMPARED = {
    "fast": "small_convnet:network mobilenet_v2:network",
    "report": "mobilenet_v2:network xception:network",
    "full": "mobilenet_v2:ridge mobilenet_v2:kernel mobilenet_v2:network "
    "xception:ridge xception:kernel",
}
SUBMITTED = {
    "fast": "small_convnet:network",
    "report": "mobilenet_v2:network",
    "full": "mobilenet_v2:kernel xception:kernel",
}


@dataclass(frozen=True)
class Member:
    """One way of learning: a backbone and what is done with it.

    Args:
        backbone: key of `imetlib.models.backbones.BACKBONES`.
        method: "network" trains the layers, "ridge" and "kernel" are heads in closed form on
            the frozen, pretrained backbone.
    """

    backbone: str
    method: str

    @property
    def name(self):
        """Name of its run folder."""
        return f"{self.backbone}-{self.method}"


def parse_members(text, profile, defaults):
    """Members from a notebook's parameter, checked before any work begins.

    Args:
        text: "backbone:method" separated by blanks; "" takes the default.
        profile: `Profile`.
        defaults: `COMPARED` or `SUBMITTED`.

    Returns:
        list of `Member`.

    Raises:
        ValueError: unknown backbone or method, a member twice, or a closed-form head without
            pretrained weights.
        FileNotFoundError: a weights file is missing (see `find_weights`).

    Example:
        >>> from imetlib.profiles import get_profile
        >>> parse_members("small_convnet:network", get_profile("fast"), COMPARED)[0].name
        'small_convnet-network'
    """
    members = []
    for word in (text or defaults[profile.name]).split():
        backbone, _, method = word.partition(":")
        if backbone not in BACKBONES or method not in METHODS:
            raise ValueError(
                f"`members` must be backbone:method, of {', '.join(BACKBONES)} and "
                f"{', '.join(METHODS)}. Received: {word!r}"
            )
        member = Member(backbone, method)
        if member in members:
            raise ValueError(f"`members` names {word!r} twice")
        weights = weights_of(member, profile)
        if method != "network" and not weights:
            raise ValueError(
                f"{word} needs pretrained weights, and the profile {profile.name} has none for "
                f"{backbone}: use {backbone}:network, or give `weights`"
            )
        find_weights(backbone, weights or None)
        members.append(member)
    return members


def weights_of(member, profile):
    """The profile's weights, or "" for a backbone that has no pretrained ones."""
    return profile.weights if BACKBONES[member.backbone].weights_name else ""


def with_member(data, member):
    """The same collection with the profile set to a member's backbone and weights."""
    profile = replace(
        data.profile, backbone=member.backbone, weights=weights_of(member, data.profile)
    )
    if profile.trainable_from not in ("all", "head") and member.backbone != data.profile.backbone:
        profile = replace(profile, trainable_from="all")
    return replace(data, profile=profile)


def compare_members(data, members, folder, *, seed=0, verbose=0):
    """Train every member on the same rows and score it once on the holdout, fold 0.

    Fold 1 chooses epochs and thresholds. See `train_fold`.

    Args:
        data: `PreparedCollection`.
        members: list of `Member`.
        folder: where the run folders go, one a member.
        seed, verbose: see `train_fold`.

    Returns:
        list of records, in the order of the members.
    """
    records = []
    for member in members:
        if verbose:
            print(member.name, flush=True)
        records.append(
            train_fold(
                with_member(data, member),
                Path(folder) / member.name,
                1,
                method=member.method,
                holdout_fold=0,
                seed=seed,
                verbose=verbose,
            )
        )
    return records


def train_members(data, members, folder, *, seed=0, verbose=0):
    """Train every member on all folds and join them by the mean of their logits.

    Args:
        data, members, seed, verbose: see `compare_members`.
        folder: run folder of the whole; `load_run` opens it.

    Returns:
        the record of the whole; its score is out of fold.
    """
    for member in members:
        train_all_folds(
            with_member(data, member),
            Path(folder) / member.name,
            method=member.method,
            seed=seed,
            verbose=verbose,
        )
    return blend_runs(data, folder, [member.name for member in members])


def verbosity(profile):
    """How much training says: 0 in `fast`, 1 (a bar with time left) where a person watches.

    Elsewhere, in batch runs, 2: one line an epoch, since a bar there makes a notebook of
    hundreds of kilobytes.
    """
    if profile.name == "fast":
        return 0
    # The Jupyter server names its sessions; a kernel that papermill started has no such name.
    return 1 if "JPY_SESSION_NAME" in os.environ or sys.stdout.isatty() else 2
