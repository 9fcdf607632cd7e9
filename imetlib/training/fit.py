"""Train one network: closed-form head, head on cached features, then the picture phase."""

import itertools
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from imetlib.collection.batches import Batches
from imetlib.collection.geometry import Augmentation, Preprocessing
from imetlib.models.backbones import check_image_shape
from imetlib.models.costs import count_trainable
from imetlib.models.heads import freeze, pooled_features, start_head
from imetlib.models.multi_attention import training_outputs
from imetlib.scores import NotFiniteError, Scores
from imetlib.training.devices import set_seed
from imetlib.training.losses import LOSSES, CorrectLabels
from imetlib.training.metrics import EpochScores, split_halves, weights_only, write_history
from imetlib.training.networks import WEIGHTS_FILE, build_classifier
from imetlib.training.part_grouping import AlternateGrouping
from imetlib.training.part_losses import GroupingLoss, SharedTargets
from imetlib.training.predict import predict_scores, predict_views
from imetlib.training.ridge import fit_ridge
from imetlib.training.schedules import warmup_cosine

# Multi-attention from scratch: epochs before its channels are grouped, as a share of all; and the
# batches in which they are looked at.
WARMUP_SHARE = 0.25
GROUPED_BATCHES = 64
# Weight of each part's own loss.
PART_WEIGHT = 0.1


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
        seconds: float, whole training.
        input_rate: float, pictures a second that the batches alone give.
        training_rate: float, pictures a second of the picture phase's fastest epoch, batches
            included; None without one.
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


def preprocessing_of(profile):
    """`Preprocessing` of a profile: the same for every split."""
    return Preprocessing(profile.image_shape, profile.resize_mode)


def train_network(profile, data, train_rows, val_rows, folder, *, exclusive=(), seed=0, verbose=0):
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

    Args:
        profile: `Profile` without None.
        data: `PreparedCollection`.
        train_rows, val_rows: `(n,)` int rows of the collection's training table, disjoint.
        folder: where `best.weights.h5`, `history.csv` and `timing.csv` go; made where missing.
        exclusive: see `imetlib.training.predict.predict_scores`.
        seed: int >= 0.
        verbose: 0 silent, 1 bar with time left, 2 one line an epoch.

    Returns:
        `TrainedNetwork`.

    Raises:
        ValueError: the rows overlap, an unknown backbone or layer, or training diverged
            before its first scored epoch.
        FileNotFoundError: no weights file (see `find_weights`).
    """
    start = time.perf_counter()
    overlap = np.intersect1d(train_rows, val_rows)
    if len(overlap):
        raise ValueError(
            f"{len(overlap)} rows are in training and in validation, first "
            f"{data.collection.train.ids[overlap[0]]}: split by whole specimens first"
        )
    for shape in (profile.image_shape, profile.small_shape())[: 1 + bool(profile.small_epochs)]:
        check_image_shape(profile.backbone, shape)
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

    def score(network):
        return predict_scores(
            network,
            data.train_pictures,
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
        )

    halves = split_halves(data.collection, val_rows, seed)
    watcher = EpochScores(model, score, y_val, halves, folder / WEIGHTS_FILE, verbose)
    batches = batches_from(0)
    learner, grouping = model, []
    if profile.attention == "multi" and profile.epochs:
        learner = training_outputs(model, class_frequency=labels.mean(axis=0))
        grouping.append(
            AlternateGrouping(
                learner,
                batches_from(0),
                start_epoch=0 if profile.weights else math.ceil(WARMUP_SHARE * profile.epochs),
                num_batches=GROUPED_BATCHES,
                loss=GroupingLoss(distance_weight=0.02, diversity_weight=1.0),
                seed=seed,
            )
        )
    if profile.weights:
        _start_pretrained(model, profile, data, train_rows, labels, batches, seed, verbose)
    watcher.record(0, {"loss": math.nan})
    if profile.epochs:
        loss = compile_model(
            learner, profile, math.ceil(len(batches) * profile.epochs / profile.accumulation)
        )
        callbacks = [keras.callbacks.TerminateOnNaN()]
        if profile.loss == "splc":
            callbacks.append(CorrectLabels(loss))
        if profile.ema:
            callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
        callbacks += [*grouping, watcher]
        stages = [0, min(profile.small_epochs, profile.epochs), profile.epochs]
        for first, last in itertools.pairwise(stages):
            if first < last and not learner.stop_training:
                learner.fit(
                    batches_from(first),
                    initial_epoch=first,
                    epochs=last,
                    # Keras would shuffle the batches again, with a random state of its own.
                    shuffle=False,
                    verbose=int(verbose == 1),
                    callbacks=callbacks,
                )
    if watcher.best is None:
        raise NotFiniteError("No epoch gave finite scores: lower `learning_rate` and run again")
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
        time.perf_counter() - start,
        _input_rate(batches_from(profile.epochs)),
        None if fastest is None else len(train_rows) / fastest,
    )


def _input_rate(batches, most=4):
    """Pictures a second that batches give when nothing else is done."""
    start = time.perf_counter()
    read = sum(len(batches[index][0]) for index in range(min(most, len(batches))))
    return read / (time.perf_counter() - start)


def augmentation_of(profile):
    """`Augmentation` of a profile."""
    names = Augmentation.__dataclass_fields__
    return Augmentation(**{name: getattr(profile, name) for name in names})


def compile_model(model, profile, updates):
    """AdamW with warm-up and cosine over a number of updates; returns the profile's loss."""
    warmup = max(1, round(updates * profile.warmup_fraction))
    optimizer = keras.optimizers.AdamW(
        warmup_cosine(profile.learning_rate, updates, warmup),
        weight_decay=profile.weight_decay,
        use_ema=bool(profile.ema),
        ema_momentum=profile.ema or 0.99,
        gradient_accumulation_steps=profile.accumulation if profile.accumulation > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = LOSSES[profile.loss]()
    # Multi-attention has several logits an attribute while it learns.
    several = len(model.output.shape) == 3
    model.compile(optimizer=optimizer, loss=SharedTargets(loss, PART_WEIGHT) if several else loss)
    return loss


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


def _start_pretrained(model, profile, data, train_rows, labels, batches, seed, verbose):
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
        preprocessing_of(profile),
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
    samples = len(views) * len(labels)
    compile_model(head, profile, math.ceil(samples / 64) * profile.head_epochs)
    head.fit(
        np.concatenate(views),
        np.concatenate([labels] * len(views)).astype(np.float32),
        batch_size=64,
        epochs=profile.head_epochs,
        verbose=int(verbose == 1),
    )
