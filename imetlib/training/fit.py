"""Train one network: closed-form head, head on cached features, then the picture phase."""

import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from imetlib.collection.batches import Augmentation, Batches, Preprocessing
from imetlib.decisions.thresholds import crossfit_threshold, search_threshold
from imetlib.models.backbones import build_backbone, freeze
from imetlib.models.heads import attach_head, pooled_features, start_head
from imetlib.scores import Scores
from imetlib.training.devices import dtype_policy, set_seed
from imetlib.training.predict import log_loss, predict_scores, predict_views
from imetlib.training.ridge import fit_ridge

WEIGHTS_FILE = "best.weights.h5"


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """What `train_network` returns.

    Args:
        model: `keras.Model` with the weights of the best epoch.
        history: one dict an epoch; epoch 0 is the head before the picture phase.
        best_epoch: int, the epoch whose weights are in use and whose scores these are.
        val_scores: `Scores` of the validation rows at the best epoch, all views.
        head_scores: `Scores` of the closed-form head on the frozen backbone, or None for a
            random start.
        trainable_params: int, parameters that learned in the picture phase.
        normalisation: what the weights file wanted.
        seconds: float, whole training.
    """

    model: keras.Model
    history: list[dict]
    best_epoch: int
    val_scores: Scores
    head_scores: Scores | None
    trainable_params: int
    normalisation: str
    seconds: float


def build_classifier(
    profile, num_classes, *, class_frequency=None, weights=None, normalisation=None
):
    """The network of a profile, uint8 pictures to logits.

    Args:
        profile: `Profile` with an image shape.
        num_classes: int.
        class_frequency: `(num_classes,)` or None, see `attach_head`.
        weights: overrides the profile's weights; "" for a random start.
        normalisation: of a network that is loaded afterwards; None: as its weights want.

    Returns:
        (`keras.Model`, name of the normalisation in use).
    """
    weights = profile.weights if weights is None else weights
    with dtype_policy(profile.precision):
        backbone = build_backbone(
            profile.backbone,
            profile.image_shape,
            weights=weights or None,
            normalisation=normalisation,
        )
    model = attach_head(
        backbone, num_classes, dropout=profile.dropout, class_frequency=class_frequency
    )
    return model, backbone.normalisation


def preprocessing_of(profile):
    """`Preprocessing` of a profile: the same for every split."""
    return Preprocessing(profile.image_shape, profile.resize_mode)


def train_network(profile, data, train_rows, val_rows, folder, *, seed=0, verbose=0):
    """Train on some rows of a collection and keep the best epoch on others.

    Phases: (1) with pretrained weights, the head in closed form on cached features of the
    frozen backbone; (2) `head_epochs` of the head on the same features; (3) `epochs` with
    image augmentation from `trainable_from` on, warm-up and cosine. The best epoch is the
    one with the largest mean per-sample F2 on `val_rows`, the threshold cross-fitted
    between two halves of them; choosing it makes that figure slightly optimistic.

    Args:
        profile: `Profile` without None.
        data: `PreparedCollection`.
        train_rows, val_rows: `(n,)` int rows of the collection's training table, disjoint.
        folder: where `best.weights.h5` and `history.csv` go; made where missing.
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
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    set_seed(seed)
    preprocessing = preprocessing_of(profile)
    labels = data.collection.train.dense(train_rows)
    y_val = data.collection.train.dense(val_rows)
    model, normalisation = build_classifier(
        profile, labels.shape[1], class_frequency=labels.mean(axis=0)
    )

    def score(network):
        return predict_scores(
            network,
            data.train_pictures,
            data.collection.train.ids[val_rows],
            preprocessing,
            data.collection.class_names,
            mirror_view=profile.mirror_view,
        )

    head_scores = None
    if profile.weights:
        groups = None
        if data.collection.specimens is not None:
            groups = data.collection.specimens[train_rows]
        views = predict_views(
            pooled_features(model), data.train_pictures, train_rows, preprocessing, mirror_view=True
        )
        head = fit_ridge(views, labels, groups=groups, seed=seed)
        start_head(model, head.kernel, head.bias)
        head_scores = score(model)
        if profile.head_epochs:
            _train_head(model, views, labels, profile, verbose)
        del views

    halves = split_halves(data.collection, val_rows, seed)
    watcher = EpochScores(score, y_val, halves, folder / WEIGHTS_FILE, verbose)
    watcher.set_model(model)
    watcher.record(0, {"loss": math.nan})
    if profile.epochs:
        freeze(model, profile.trainable_from)
        if profile.batch_norm == "frozen":
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.trainable = False
        batches = Batches(
            data.train_pictures,
            train_rows,
            preprocessing,
            labels=labels,
            batch_size=profile.batch_size,
            shuffle=True,
            augmentation=augmentation_of(profile),
            seed=seed,
        )
        compile_model(
            model, profile, math.ceil(len(batches) * profile.epochs / profile.accumulation)
        )
        callbacks = [keras.callbacks.TerminateOnNaN()]
        if profile.ema:
            callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
        callbacks.append(watcher)
        model.fit(batches, epochs=profile.epochs, verbose=int(verbose == 1), callbacks=callbacks)
    if watcher.best is None:
        raise ValueError("No epoch gave finite scores: lower `learning_rate` and run again")
    model.load_weights(folder / WEIGHTS_FILE)
    write_history(folder / "history.csv", watcher.history)
    return TrainedNetwork(
        model,
        watcher.history,
        watcher.best["epoch"],
        watcher.best_scores,
        head_scores,
        int(sum(np.prod(weight.shape) for weight in model.trainable_weights)),
        normalisation,
        time.perf_counter() - start,
    )


class EpochScores(keras.callbacks.Callback):
    """Mean per-sample F2 on the validation rows after every epoch; keeps the best weights.

    Args:
        score: function from the model to the `Scores` of the validation rows.
        y_true: `(num_samples, num_classes)` bool.
        halves: `(num_samples,)` 0 or 1; each half is decided with the other's threshold.
        weights_path: where the best weights go, replaced whole.
        verbose: 1 or 2 prints one line an epoch.
    """

    def __init__(self, score, y_true, halves, weights_path, verbose):
        super().__init__()
        self.score, self.y_true, self.halves = score, y_true, halves
        self.weights_path, self.verbose = Path(weights_path), verbose
        self.history, self.best, self.best_scores = [], None, None
        self._start = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.record(epoch + 1, logs or {})

    def record(self, epoch, logs):
        """Score the model as it is and append a row to the history."""
        train_seconds = time.perf_counter() - self._start
        try:
            scores = self.score(self.model)
        except ValueError:  # logits that are not finite: never the best epoch
            scores = None
        row = {
            "epoch": epoch,
            "loss": float(logs.get("loss", math.nan)),
            "val_loss": math.nan,
            "val_f2": math.nan,
            "threshold": math.nan,
            "learning_rate": self._learning_rate(),
            "train_seconds": train_seconds,
        }
        if scores is not None:
            y_prob = scores.y_prob
            row["val_loss"] = log_loss(self.y_true, scores.logits)
            row["val_f2"] = crossfit_threshold(self.y_true, y_prob, self.halves).score
            row["threshold"] = float(search_threshold(self.y_true, y_prob).threshold)
            if self.best is None or row["val_f2"] > self.best["val_f2"]:
                self.best, self.best_scores = row, scores
                partial = self.weights_path.with_name("partial.weights.h5")
                self.model.save_weights(partial)
                partial.replace(self.weights_path)
        row["seconds"] = time.perf_counter() - self._start
        self.history.append(row)
        if self.verbose:
            print(
                f"epoch {epoch}: loss {row['loss']:.5f}, val loss {row['val_loss']:.5f}, "
                f"val F2 {row['val_f2']:.4f}, {row['seconds']:.0f} s",
                flush=True,
            )

    def _learning_rate(self):
        optimizer = getattr(self.model, "optimizer", None)
        return math.nan if optimizer is None else float(optimizer.learning_rate)


def augmentation_of(profile):
    """`Augmentation` of a profile."""
    names = Augmentation.__dataclass_fields__
    return Augmentation(**{name: getattr(profile, name) for name in names})


def compile_model(model, profile, updates):
    """AdamW with warm-up and cosine over a number of updates, and the profile's loss."""
    warmup = max(1, round(updates * profile.warmup_fraction))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.01 * profile.learning_rate,
        decay_steps=max(1, updates - warmup),
        alpha=0.01,
        warmup_target=profile.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=profile.weight_decay,
        use_ema=bool(profile.ema),
        ema_momentum=profile.ema or 0.99,
        gradient_accumulation_steps=profile.accumulation if profile.accumulation > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if profile.loss == "focal":
        loss = keras.losses.BinaryFocalCrossentropy(gamma=2.0, from_logits=True)
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss)


def write_history(path, history):
    """One row an epoch as csv, replaced whole."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    partial.replace(path)


def split_halves(collection, rows, seed):
    """0 or 1 for each row, `(num_rows,)` int; whole specimens on one side."""
    groups = np.arange(len(rows)) if collection.specimens is None else collection.specimens[rows]
    _, groups = np.unique(groups, return_inverse=True)
    return (np.random.default_rng(seed).permutation(groups.max() + 1) % 2)[groups]


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
