"""Train one network: closed-form head, head on cached features, then the picture phase."""

import hashlib
import itertools
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from imetlib.collection.batches import Batches
from imetlib.collection.geometry import Augmentation, Preprocessing
from imetlib.collection.pixels import hold_pictures
from imetlib.models.backbones import check_image_shape
from imetlib.models.costs import count_trainable
from imetlib.models.heads import freeze
from imetlib.models.multi_attention import training_outputs
from imetlib.processes import check_same, check_shareable, process_part, wait_for_all
from imetlib.scores import NotFiniteError, Scores
from imetlib.training.checkpoints import Checkpoints, SwapAverages
from imetlib.training.data_parallel import data_parallel, num_devices
from imetlib.training.devices import set_seed
from imetlib.training.losses import CorrectLabels
from imetlib.training.metrics import EpochScores, split_halves, weights_only, write_history
from imetlib.training.networks import WEIGHTS_FILE, build_classifier
from imetlib.training.optimizers import LearningRate, StopOnNaN, compile_model
from imetlib.training.pace import input_rate
from imetlib.training.part_grouping import AlternateGrouping
from imetlib.training.part_losses import GroupingLoss
from imetlib.training.predict import predict_scores, probe_prediction
from imetlib.training.run_files import identity_of
from imetlib.training.start import start_pretrained
from imetlib.training.stop_in_time import stop_in_time

# Multi-attention from scratch: epochs before its channels are grouped, as a share of all; and the
# batches in which they are looked at.
WARMUP_SHARE = 0.25
GROUPED_BATCHES = 64


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """What `train_network` returns.

    Args:
        model: `keras.Model` with the weights of the best epoch.
        history: one dict an epoch; epoch 0 is the head before the picture phase.
        best_epoch: int, the epoch whose weights are in use and whose scores these are.
        val_scores: `Scores` of the validation rows at the best epoch, all views.
        trainable_params: int, parameters that learned in the picture phase.
        normalisation: what the weights file wanted.
        seconds: float, whole training; of calls that were ended, up to their last checkpoint.
        input_rate: float, pictures a second that the batches alone give.
        training_rate: float, pictures a second of the picture phase's fastest epoch, batches
            included; None without one.
        diverged_at: int, the first epoch whose loss or weights were no numbers, or None.
        rate_halved: bool, whether training went on from the epoch before it (see
            `imetlib.profiles.Profile.divergence`).
        stopped_in_time: bool, whether a time budget ended the picture phase.
    """

    model: keras.Model
    history: list[dict]
    best_epoch: int
    val_scores: Scores
    trainable_params: int
    normalisation: str
    seconds: float
    input_rate: float
    training_rate: float | None
    diverged_at: int | None = None
    rate_halved: bool = False
    stopped_in_time: bool = False


def preprocessing_of(profile):
    """`Preprocessing` of a profile: the same for every split."""
    return Preprocessing(profile.image_shape, profile.resize_mode)


@data_parallel()
def train_network(
    profile, data, train_rows, val_rows, folder, *, exclusive=(), budget=None, seed=0, verbose=0
):
    """Train on some rows of a collection and keep the best epoch on others.

    Phases: (1) with pretrained weights, fresh BatchNormalization statistics in the layers that
    will learn, then the head in closed form on cached features; (2) `head_epochs` of the head
    on the same features; (3) `epochs` with image augmentation from `trainable_from` on,
    warm-up and cosine, the first `small_epochs` of them on smaller pictures. Multi-attention
    groups its channels before (3), from scratch after a quarter of it, and its grouping layers
    learn in turn with the rest from then on. Epoch 0 of the
    history is the state after (2). The best epoch is the one with the largest mean per-sample
    F2 on `val_rows` at the full size, the threshold cross-fitted between two halves of them;
    choosing it makes that figure slightly optimistic.

    After every epoch of (3) the state goes to `checkpoints/` in the folder. A call that was ended
    is repeated: it goes on from the last checkpoint of the same run and gives, on the same kind of
    machine, the same bits (`imetlib.training.checkpoints`). Who takes the network over removes
    them (`remove_checkpoints`).

    Args:
        profile: `Profile` without None.
        data: `PreparedCollection`.
        train_rows, val_rows: `(n,)` int rows of the collection's training table, disjoint.
        folder: where `best.weights.h5`, `history.csv` and `timing.csv` go; made where missing.
        exclusive: see `imetlib.training.predict.predict_scores`.
        budget: `imetlib.training.clock.TimeBudget`: the picture phase ends, with its schedule,
            while there is time for what must follow (`imetlib.training.stop_in_time`); None trains
            all epochs.
        seed: int >= 0.
        verbose: 0 silent, 1 bar with time left, 2 one line an epoch.

    Returns:
        `TrainedNetwork`.

    Raises:
        ValueError: processes were called differently, the rows overlap, an unknown backbone or
            layer, `small_epochs` within a budget, or training diverged before an epoch was scored.
        TimeUpError: the budget does not hold one step and what must follow it.
        OSError: the disk is full; earlier checkpoints and best weights are as they were.
        FileNotFoundError: no weights file (see `find_weights`).
    """
    start = time.perf_counter()
    check_shareable(profile, budget, num_devices())
    if budget is not None and profile.small_epochs:
        raise ValueError(
            f"small_epochs={profile.small_epochs}: a time budget cannot plan with steps of two "
            "lengths. Give `small_epochs=0`, or no hours"
        )
    overlap = np.intersect1d(train_rows, val_rows)
    if len(overlap):
        raise ValueError(
            f"{len(overlap)} rows are in training and in validation, first "
            f"{data.collection.train.ids[overlap[0]]}: split by whole specimens first"
        )
    for shape in (profile.image_shape, profile.small_shape())[: 1 + bool(profile.small_epochs)]:
        check_image_shape(profile.backbone, shape)
    identity = _identity_of(profile, data, train_rows, val_rows, exclusive, seed, budget)
    check_same(identity)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    set_seed(seed, deterministic=profile.deterministic)
    preprocessing = preprocessing_of(profile)
    labels = data.collection.train.dense(train_rows)
    y_val = data.collection.train.dense(val_rows)
    model, normalisation = build_classifier(
        profile, labels.shape[1], class_frequency=labels.mean(axis=0)
    )
    freeze(model, profile.trainable_from if profile.epochs else "head")
    if profile.batch_norm == "frozen":
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    trainable_params = count_trainable(model)

    # Every epoch is scored on them: prepared once.
    val_pictures = hold_pictures(data.train_pictures, val_rows, preprocessing)

    def score(network):
        if budget is not None and not budget.allows_evaluation():
            return None
        with nullcontext() if budget is None else budget.measure("evaluation"):
            return predict_scores(
                network,
                val_pictures,
                data.collection.train.ids[val_rows],
                preprocessing,
                data.collection.class_names,
                mirror_view=profile.mirror_view,
                exclusive=exclusive,
            )

    def batches_from(epoch):
        shape = profile.small_shape() if epoch < profile.small_epochs else profile.image_shape
        return Batches(
            data.train_pictures,
            train_rows,
            replace(preprocessing, image_shape=shape),
            labels=labels,
            batch_size=profile.batch_size,
            shuffle=True,
            augmentation=augmentation_of(profile),
            seed=seed,
            first_epoch=epoch,
            multiple=num_devices(),
            part=process_part(),
        )

    halves = split_halves(data.collection, val_rows, seed)
    watcher = EpochScores(model, score, y_val, halves, folder / WEIGHTS_FILE, verbose)
    batches = batches_from(0)
    learner, parts = model, {"scores": watcher}
    callbacks, first = [StopOnNaN()], None
    if profile.attention == "multi" and profile.epochs:
        learner = training_outputs(model, class_frequency=labels.mean(axis=0))
        parts["grouping"] = AlternateGrouping(
            learner,
            batches_from(0),
            start_epoch=0 if profile.weights else math.ceil(WARMUP_SHARE * profile.epochs),
            num_batches=GROUPED_BATCHES,
            loss=GroupingLoss(distance_weight=0.02, diversity_weight=1.0),
            seed=seed,
        )
    if profile.epochs:
        updates = math.ceil(len(batches) * profile.epochs / profile.accumulation)
        loss, schedule = compile_model(learner, profile, updates if budget is None else None)
        if budget is None:
            rate = LearningRate(learner, schedule)
        else:
            rate = stop_in_time(budget, profile, len(batches) * profile.epochs)
        parts["rate"] = rate
        if profile.loss == "splc":
            callbacks.append(CorrectLabels(loss))
        if profile.ema:
            parts["averages"] = SwapAverages()
            callbacks.append(parts["averages"])
        if "grouping" in parts:
            callbacks.append(parts["grouping"])
        checkpoints = Checkpoints(
            learner, folder, identity, parts=parts, files=(WEIGHTS_FILE,), budget=budget
        )
        callbacks += [watcher, checkpoints, *([] if budget is None else [rate])]
        first = checkpoints.restore()
    if budget is not None:
        probe_prediction(
            budget,
            model,
            data.train_pictures,
            val_rows,
            preprocessing,
            mirror_view=profile.mirror_view,
        )
    if first is None:
        if profile.weights:
            start_pretrained(
                model, profile, data, train_rows, labels, batches, preprocessing, seed, verbose
            )
        watcher.record(0, {"loss": math.nan})
        if profile.epochs:
            checkpoints.save(0)
    elif budget is not None:
        # How long both take here is not what it was where they were written.
        score(model)
        checkpoints.save(first)
        rate.steps = rate.done + len(batches) * (profile.epochs - first)
    if profile.epochs:
        _fit_pictures(learner, profile, batches_from, callbacks, first or 0, verbose)
        diverged_at = watcher.diverged_at
        if diverged_at is not None and profile.divergence == "halve" and not rate.halved:
            first = checkpoints.restore()
            if first is not None:
                rate.halve()
                watcher.diverged_at = diverged_at
                _fit_pictures(learner, profile, batches_from, callbacks, first, verbose)
    if watcher.best is None:
        raise NotFiniteError("No epoch gave finite scores: lower `learning_rate` and run again")
    wait_for_all("best weights")
    weights_only(model).load_weights(folder / WEIGHTS_FILE)
    write_history(folder / "history.csv", watcher.history)
    write_history(folder / "timing.csv", watcher.timing)
    fastest = min((row["train_seconds"] for row in watcher.timing[1:]), default=None)
    return TrainedNetwork(
        model,
        watcher.history,
        watcher.best["epoch"],
        watcher.best_scores,
        trainable_params,
        normalisation,
        time.perf_counter() - start + (checkpoints.seconds if profile.epochs else 0.0),
        input_rate(batches_from(profile.epochs)),
        None if fastest is None else len(train_rows) / fastest,
        watcher.diverged_at,
        bool(profile.epochs) and rate.halved,
        bool(profile.epochs) and budget is not None and rate.stopped,
    )


def _fit_pictures(learner, profile, batches_from, callbacks, first, verbose):
    """The picture phase from an epoch on, up to its end or to where training is stopped."""
    learner.stop_training = False
    stages = [0, min(profile.small_epochs, profile.epochs), profile.epochs]
    for start, end in itertools.pairwise(stages):
        start = max(start, first)
        if start < end and not learner.stop_training:
            learner.fit(
                batches_from(start),
                initial_epoch=start,
                epochs=end,
                # Keras would shuffle the batches again, with a random state of its own.
                shuffle=False,
                verbose=int(verbose == 1),
                callbacks=callbacks,
            )


def _identity_of(profile, data, train_rows, val_rows, exclusive, seed, budget):
    """What makes two calls of `train_network` the same."""
    rows = {"train_rows": train_rows, "val_rows": val_rows}
    return identity_of(
        replace(data, profile=profile),
        "network",
        seed,
        exclusive=[list(group) for group in exclusive],
        backend=keras.backend.backend(),
        **({} if budget is None else {"timed": True}),
        **{
            name: hashlib.sha256(np.asarray(value, np.int64).tobytes()).hexdigest()
            for name, value in rows.items()
        },
    )


def augmentation_of(profile):
    """`Augmentation` of a profile."""
    names = Augmentation.__dataclass_fields__
    return Augmentation(**{name: getattr(profile, name) for name in names})
