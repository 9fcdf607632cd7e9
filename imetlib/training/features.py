"""Features of a frozen backbone, computed once for a collection and kept beside it."""

import hashlib
import json

import numpy as np

from imetlib.files import replacing
from imetlib.models.backbones import BACKBONES, build_backbone, file_sha256, find_weights
from imetlib.models.heads import pool_layers
from imetlib.training.devices import dtype_policy
from imetlib.training.fit import preprocessing_of
from imetlib.training.predict import predict_views


def build_extractor(profile):
    """Network from uint8 pictures to the pooled maps of a profile's pretrained backbone.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: the profile asks for a backbone without pretrained weights.
        FileNotFoundError: no weights file (see `find_weights`).
    """
    if not profile.weights:
        raise ValueError(
            f"Frozen features need pretrained weights; {profile.backbone} has none here. "
            'Give `weights`, or train the network itself (method "network").'
        )
    with dtype_policy(profile.precision):
        backbone = build_backbone(profile.backbone, profile.image_shape, weights=profile.weights)
        row = BACKBONES[profile.backbone]
        return pool_layers(backbone, row.pooled_layers, row.grid_layers)


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
    profile, row = data.profile, BACKBONES[data.profile.backbone]
    pictures = data.train_pictures if split == "train" else data.test_pictures
    weights = find_weights(profile.backbone, profile.weights or None)
    # Everything that the numbers depend on: other pictures, weights or layers, another file.
    identity = [
        None if weights is None else file_sha256(weights),
        [row.pooled_layers, row.grid_layers],
        profile.precision,
        preprocessing_of(profile).to_dict(),
        pictures.ids.tolist(),
        pictures.checksums.tolist(),
    ]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    path = data.workspace / f"features-{split}-{profile.backbone}-{key}.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r", allow_pickle=False)
    model = build_extractor(profile)
    rows, preprocessing = np.arange(len(pictures)), preprocessing_of(profile)
    views = predict_views(model, pictures, rows, preprocessing, mirror_view=True)
    features = np.stack(views).astype(np.float16)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, features)
    return features
