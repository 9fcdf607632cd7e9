"""How long the trials of a search take: a probe before the first, their median after it."""

import math
import time
from dataclasses import replace

import numpy as np

from imetlib.collection.batches import Batches
from imetlib.models.heads import freeze
from imetlib.training.devices import set_seed
from imetlib.training.fit import augmentation_of, preprocessing_of
from imetlib.training.fold_runs import HOLDOUT
from imetlib.training.networks import build_classifier
from imetlib.training.optimizers import compile_model
from imetlib.training.predict import clear_memory

_PROBE_STEPS = 3


def probe_rate(data, folds, seed):
    """Seconds a pixel from a few steps of the profile's own training; nothing is kept of it.

    Pictures are read and learned in turn, and nothing is scored: about an epoch's time.
    """
    profile = data.profile
    set_seed(seed, deterministic=profile.deterministic)
    left_out = data.rows_of_folds(HOLDOUT, folds[0])
    rows = np.setdiff1d(np.arange(len(data.folds)), left_out)
    labels = data.collection.train.dense(rows)
    model, _ = build_classifier(profile, labels.shape[1])
    freeze(model, profile.trainable_from)
    batches = Batches(
        data.train_pictures,
        rows,
        preprocessing_of(profile),
        labels=labels,
        batch_size=profile.batch_size,
        shuffle=True,
        augmentation=augmentation_of(profile),
        seed=seed,
    )
    compile_model(model, profile, len(batches) * profile.epochs)
    # Batches differ by one picture, and another shape would be compiled anew.
    size = len(rows) // len(batches)
    start = math.nan
    for step in range(1 + _PROBE_STEPS):
        start = time.perf_counter() if step == 1 else start
        pictures, wanted = batches[step % len(batches)]
        model.train_on_batch(pictures[:size], wanted[:size])
    seconds = (time.perf_counter() - start) / _PROBE_STEPS * len(batches)
    clear_memory()
    return seconds * len(folds) / math.prod(profile.image_shape[:2])


def rate_of(trials, profile):
    """Median seconds a pixel (see `pixels_of`) of the finished trials, all folds; 0.0 if none."""
    rates = [
        trial["seconds"] / pixels_of(profile, trial["settings"])
        for trial in trials
        if trial["state"] == "complete"
    ]
    return float(np.median(rates)) if rates else 0.0


def pixels_of(profile, settings):
    """Pixels of one picture over all epochs: what the time of a training goes with."""
    profile = replace(profile, **settings)
    small_epochs = min(profile.small_epochs, profile.epochs)
    area, small_area = (math.prod(s[:2]) for s in (profile.image_shape, profile.small_shape()))
    return (profile.epochs - small_epochs) * area + small_epochs * small_area or area


def check_budget(hours, left, profile, rate, num_folds):
    """Refuse hours that hold no epoch or no whole trial of the profile's own settings."""
    epoch = rate * math.prod(profile.image_shape[:2]) / num_folds
    trial = rate * pixels_of(profile, {})
    if left < epoch:
        raise ValueError(
            f"hours={hours:g} ({left:.3g} s left) is too small for one epoch, which takes about "
            f"{epoch:.3g} s: give more hours, or a smaller `image_shape`"
        )
    if left < trial:
        raise ValueError(
            f"hours={hours:g} ({left:.3g} s left) is too small for one trial of {profile.epochs} "
            f"epochs on {num_folds} inner fold(s), which takes about {trial:.3g} s: lower "
            "`epochs` or give more hours"
        )
