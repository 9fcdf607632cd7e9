"""Features of a frozen backbone, computed once for a collection and kept beside it."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np

from imetlib.files import replacing
from imetlib.models.backbones import backbone_row, build_backbone, find_normalisation
from imetlib.models.heads import pool_layers
from imetlib.processes import check_alone
from imetlib.training.data_parallel import data_parallel
from imetlib.training.devices import dtype_policy
from imetlib.training.fit import preprocessing_of
from imetlib.training.networks import start_of
from imetlib.training.predict import predict_views


def build_extractor(profile):
    """Network from uint8 pictures to the pooled maps of a profile's pretrained backbone.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: the profile asks for a backbone without pretrained weights.
        FileNotFoundError: no weights file (see `find_weights`).
    """
    if not profile.weights and backbone_row(profile.backbone).builder:
        raise ValueError(
            f"Frozen features need pretrained weights; {profile.backbone} has none here. "
            'Give `weights`, or train the network itself (method "network").'
        )
    with dtype_policy(profile.precision):
        backbone = build_backbone(
            profile.backbone,
            profile.image_shape,
            weights=profile.weights or None,
            normalisation=profile.normalisation or None,
        )
        row = backbone_row(profile.backbone)
        return pool_layers(backbone, row.pooled_layers, row.grid_layers)


@data_parallel()
def frozen_features(data, split):
    """Mean and max pooled maps of the plain and the mirrored pictures.

    Args:
        data: `PreparedCollection`; its profile names backbone, weights and picture size.
        split: "train" or "test".

    Returns:
        `(2, num_samples, num_features)` float16, in the order of the split's table; the last
        columns belong to the last layer (see `pool_layers`).

    Raises:
        ValueError, FileNotFoundError: see `build_extractor`.
    """
    path = _features_file(data, split)
    if path.is_file():
        return np.load(path, mmap_mode="r", allow_pickle=False)
    check_alone("What frozen backbones see of a collection")
    start = time.perf_counter()
    pictures = _pictures_of(data, split)
    model = build_extractor(data.profile)
    rows, preprocessing = np.arange(len(pictures)), preprocessing_of(data.profile)
    views = predict_views(model, pictures, rows, preprocessing, mirror_view=True)
    features = np.stack(views).astype(np.float16)
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"seconds": time.perf_counter() - start}) + "\n")
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, features)
    return features


def features_seconds(data, split):
    """Seconds that `frozen_features` took when it computed them."""
    path = _features_file(data, split).with_suffix(".json")
    return json.loads(path.read_text())["seconds"]


def normalisation_of(profile):
    """Name of the normalisation that a profile's backbone gets."""
    return profile.normalisation or find_normalisation(profile.backbone, start_of(profile))


def _pictures_of(data, split):
    return data.train_pictures if split == "train" else data.test_pictures


def _features_file(data, split):
    """A file named by everything that the numbers depend on: pictures, weights, layers, size."""
    profile, row = data.profile, backbone_row(data.profile.backbone)
    pictures = _pictures_of(data, split)
    identity = [
        start_of(profile),
        normalisation_of(profile),
        [row.pooled_layers, row.grid_layers],
        profile.precision,
        preprocessing_of(profile).to_dict(),
        pictures.ids.tolist(),
        pictures.checksums.tolist(),
    ]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    name = Path(profile.backbone).stem
    return data.workspace / f"features-{split}-{name}-{key}.npy"
