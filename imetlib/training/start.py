"""Before the picture phase: renewed statistics, head in closed form, head on cached features."""

import math

import keras
import numpy as np

from imetlib.collection.batches import fill_up
from imetlib.models.heads import pooled_features, start_head
from imetlib.processes import process_part
from imetlib.training.data_parallel import num_devices
from imetlib.training.optimizers import compile_model
from imetlib.training.predict import predict_views
from imetlib.training.ridge import fit_ridge


def adapt_statistics(model, batches, steps=40):
    """Renew the BatchNormalization statistics of the layers that learn; no weight changes.

    ImageNet's statistics are not a museum's. In training mode the layers use those of the
    batch, so a head that was fitted on features with the old ones meets other features in its
    first step and is thrown away.

    Args:
        model: `keras.Model`; frozen layers keep their statistics.
        batches: `Batches` of training pictures.
        steps: int, batches to look at.
    """
    for index in range(min(steps, len(batches))):
        images = batches[index]
        model(images[0] if isinstance(images, tuple) else images, training=True)


def start_pretrained(
    model, profile, data, train_rows, labels, batches, preprocessing, seed, verbose
):
    """Phases 1 and 2: statistics, head in closed form, head on cached features.

    The head of a network without pooled features keeps its random start.
    """
    if profile.epochs and profile.batch_norm == "train":
        adapt_statistics(model, batches)
    if not any(layer.name == "pooled" for layer in model.layers):
        return
    specimens = data.collection.specimens
    groups = None if specimens is None else specimens[train_rows]
    views = predict_views(
        pooled_features(model),
        data.train_pictures,
        train_rows,
        preprocessing,
        mirror_view=True,
    )
    # A strong penalty: the best ridge has large weights that cancel each other, and any change
    # of the features below it turns them into noise.
    head = fit_ridge(views, labels, groups=groups, penalties=(2.0 * len(labels),), seed=seed)
    start_head(model, head.kernel, head.bias)
    if profile.head_epochs:
        _train_head(model, views, labels, profile, verbose)


def _train_head(model, views, labels, profile, verbose):
    """The head on cached features: every view is a sample, no augmentation beside it."""
    features = keras.Input(views[0].shape[1:])
    scaled = model.get_layer("head_scale")(features)
    dropped = model.get_layer("head_dropout")(scaled)
    head = keras.Model(features, model.get_layer("logits")(dropped))
    # Several processes hold each batch whole, as if it came once for each of them.
    own_devices = num_devices() // process_part()[1]
    samples, batch_size = len(views) * len(labels), 64 + -64 % own_devices
    compile_model(head, profile, math.ceil(samples / batch_size) * profile.head_epochs)
    x, y, weights = np.concatenate(views), np.concatenate([labels] * len(views)), None
    if own_devices > 1:
        # Whole batches only: each device gets an equal part of every one.
        x, y, weights = fill_up(batch_size, x, y)
    head.fit(
        x,
        y.astype(np.float32),
        sample_weight=weights,
        batch_size=batch_size,
        epochs=profile.head_epochs,
        verbose=int(verbose == 1),
    )
