"""Features of a frozen backbone, computed once for a collection and kept beside it."""

import os
from pathlib import Path

import numpy as np

from imetlib.models.backbones import file_sha256, find_weights
from imetlib.models.heads import pooled_features
from imetlib.training.fit import build_classifier, preprocessing_of
from imetlib.training.predict import predict_views


def frozen_features(data, split):
    """Mean and max pooled features of the plain and the mirrored pictures.

    Args:
        data: `PreparedCollection`; its profile names backbone, weights and picture size.
        split: "train" or "test".

    Returns:
        `(2, num_samples, 2 * channels)` float32, in the order of the split's table.

    Raises:
        ValueError: the profile asks for a backbone without pretrained weights.
        FileNotFoundError: no weights file (see `find_weights`).
    """
    profile = data.profile
    weights = find_weights(profile.backbone, profile.weights or None)
    if weights is None:
        raise ValueError(
            f"Frozen features need pretrained weights; {profile.backbone} has none here. "
            'Give `weights`, or train the network itself (method "network").'
        )
    height, width, _ = profile.image_shape
    stem = f"features-{split}-{profile.backbone}-{height}x{width}-{profile.resize_mode}"
    path = data.workspace / f"{stem}-{file_sha256(weights)[:8]}-{data.collection.sha256[:8]}.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r", allow_pickle=False)
    pictures = data.train_pictures if split == "train" else data.test_pictures
    model, _ = build_classifier(profile, 1)
    views = predict_views(
        pooled_features(model),
        pictures,
        np.arange(len(pictures)),
        preprocessing_of(profile),
        mirror_view=True,
    )
    features = np.stack(views)
    partial = Path(f"{path}.partial")
    with partial.open("wb") as file:
        np.save(file, features)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return features
