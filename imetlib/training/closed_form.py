"""Heads in closed form as runs: fit on cached features, score, save, load."""

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from imetlib.decisions.exclusive import share_in_groups
from imetlib.models.backbones import backbone_row
from imetlib.scores import Scores
from imetlib.training.features import frozen_features
from imetlib.training.kernel import KernelHead, fit_kernel
from imetlib.training.ridge import RidgeHead, fit_ridge

HEAD_FILE = "head.npz"
_HEADS = {"ridge": RidgeHead, "kernel": KernelHead}


def fit_closed_form(method, data, train_rows, *, seed=0):
    """Fit a closed-form head on the frozen features of some rows.

    Args:
        method: "ridge" (linear, the pooled last map: what fine-tuning starts from) or
            "kernel" (Gaussian, the pooled maps of several layers).
        data: `PreparedCollection`.
        train_rows: `(n,)` int rows of the training table.
        seed: int.

    Returns:
        `RidgeHead` or `KernelHead`.
    """
    views = frozen_features(data, "train")
    labels = data.collection.train.dense(train_rows)
    specimens = data.collection.specimens
    groups = None if specimens is None else specimens[train_rows]
    if method == "ridge":
        columns = 2 * backbone_row(data.profile.backbone).channels
        stacked = [view[train_rows, -columns:].astype(np.float32) for view in views]
        return fit_ridge(stacked, labels, groups=groups, seed=seed)
    return fit_kernel(mean_view(views, train_rows), labels, groups=groups, seed=seed)


def score_closed_form(head, data, split, ids, *, exclusive=()):
    """`Scores` of pictures of the collection from their cached features.

    Args:
        head: what `fit_closed_form` returned.
        data: `PreparedCollection`.
        split: "train" or "test".
        ids: ids of that split, in the order wanted.
        exclusive: see `imetlib.training.predict.predict_scores`.
    """
    pictures = data.train_pictures if split == "train" else data.test_pictures
    features = mean_view(frozen_features(data, split), pictures.rows_of(ids))
    class_names = data.collection.class_names
    logits = share_in_groups(apply_head(head, features), class_names, exclusive)
    return Scores(np.asarray(ids, dtype=object), logits, class_names)


def apply_head(head, features):
    """Logits of a closed-form head, which takes as many of the last columns as it was fitted on.

    Args:
        head: `RidgeHead` or `KernelHead`.
        features: `(num_samples, num_features)` float32, all layers.

    Returns:
        `(num_samples, num_classes)` float32.
    """
    columns = len(head.mean) if isinstance(head, KernelHead) else len(head.kernel)
    return head.logits(features[:, -columns:])


def save_head(folder, head):
    """Write a head as `head.npz`; landmarks in half precision, which costs 1e-3 of a logit."""
    values = asdict(head)
    if "landmarks" in values:
        values["landmarks"] = values["landmarks"].astype(np.float16)
    np.savez(Path(folder) / HEAD_FILE, **values)


def load_head(folder, method):
    """Read what `save_head` wrote."""
    path = Path(folder) / HEAD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"No head at {path}: the run is not complete; train it again.")
    head = _HEADS[method]
    with np.load(path, allow_pickle=False) as arrays:
        values = {field.name: arrays[field.name] for field in fields(head)}
    for name, value in values.items():
        values[name] = float(value) if value.ndim == 0 else value.astype(np.float32)
    return head(**values)


def mean_view(views, rows):
    """`(len(rows), num_features)` float32, mean of the plain and the mirrored features."""
    return (views[0][rows].astype(np.float32) + views[1][rows].astype(np.float32)) / 2
