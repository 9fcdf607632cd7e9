"""Mean per-sample F2 in the log of every epoch, and the best weights kept."""

import csv
import math
import time
from pathlib import Path

import keras
import numpy as np

from imetlib.decisions.thresholds import crossfit_threshold, search_threshold
from imetlib.files import replacing
from imetlib.processes import is_first
from imetlib.scores import NotFiniteError, Scores
from imetlib.training.predict import log_loss


class EpochScores(keras.callbacks.Callback):
    """Mean per-sample F2 on the validation rows after every epoch; keeps the best weights.

    Args:
        network: `keras.Model` that answers; what learns may have further outputs.
        score: function from the network to the `Scores` of the validation rows, or to None where
            there is no time for them.
        y_true: `(num_samples, num_classes)` bool.
        halves: `(num_samples,)` 0 or 1; each half is decided with the other's threshold.
        weights_path: where the best weights go, replaced whole.
        verbose: 1 or 2 prints one line an epoch.

    Attributes:
        history, timing: one dict an epoch, from epoch 0 on.
        best: row of the history with the largest F2, or None.
        best_scores: its `Scores`.
        diverged_at: int, the epoch that ended with a loss or weights that are no numbers, or None.
            It is never scored, and training stops after it.
    """

    def __init__(self, network, score, y_true, halves, weights_path, verbose):
        super().__init__()
        self.network, self.score = network, score
        self.y_true, self.halves = y_true, halves
        self.weights_path, self.verbose = Path(weights_path), verbose
        self.history, self.timing, self.best, self.best_scores = [], [], None, None
        self.diverged_at = None
        self._start = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        # A network can answer with numbers though weights are none: some ReLUs turn NaN into 0.
        finite = math.isfinite(logs.get("loss", math.nan)) and all_finite(self.network)
        if not finite:
            self.diverged_at = self.diverged_at or epoch + 1
            self.model.stop_training = True
        self.record(epoch + 1, logs, finite=finite)

    def record(self, epoch, logs, *, finite=True):
        """Score the model as it is, unless it is not finite, and append a row to the history."""
        train_seconds = time.perf_counter() - self._start
        try:
            scores = self.score(self.network) if finite else None
        except NotFiniteError:  # never the best epoch
            scores = None
        row = {
            "epoch": epoch,
            "loss": float(logs.get("loss", math.nan)),
            "val_loss": math.nan,
            "val_f2": math.nan,
            "threshold": math.nan,
            "learning_rate": self._learning_rate(),
        }
        if scores is not None:
            y_prob = scores.y_prob
            row["val_loss"] = log_loss(self.y_true, scores.logits)
            row["val_f2"] = crossfit_threshold(self.y_true, y_prob, self.halves).score
            row["threshold"] = float(search_threshold(self.y_true, y_prob).threshold)
            if self.best is None or row["val_f2"] > self.best["val_f2"]:
                self.best, self.best_scores = row, scores
                if is_first():
                    with replacing(self.weights_path) as temporary:
                        weights_only(self.network).save_weights(temporary)
        self.history.append(row)
        seconds = time.perf_counter() - self._start
        self.timing.append({"epoch": epoch, "train_seconds": train_seconds, "seconds": seconds})
        if self.verbose and is_first():
            print(
                f"epoch {epoch}: loss {row['loss']:.5f}, val loss {row['val_loss']:.5f}, "
                f"val F2 {row['val_f2']:.4f}, {seconds:.0f} s",
                flush=True,
            )

    def get_state(self):
        """What to go on from, as JSON values and arrays."""
        state = {"history": self.history, "timing": self.timing, "diverged_at": self.diverged_at}
        if self.best is not None:
            state["best_epoch"] = self.best["epoch"]
            state["ids"] = np.asarray(self.best_scores.ids, dtype=np.str_)
            state["class_names"] = np.asarray(self.best_scores.class_names, dtype=np.str_)
            state["logits"] = self.best_scores.logits
        return state

    def set_state(self, state):
        """Go on from what `get_state` gave."""
        self.history, self.timing = list(state["history"]), list(state["timing"])
        self.diverged_at, self.best, self.best_scores = state["diverged_at"], None, None
        if "best_epoch" in state:
            self.best = self.history[state["best_epoch"]]
            names = tuple(state["class_names"].tolist())
            self.best_scores = Scores(state["ids"].astype(object), state["logits"], names)

    def _learning_rate(self):
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            return math.nan
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def all_finite(model):
    """Whether all weights of a model are numbers."""
    return all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in model.weights)


def weights_only(model):
    """The same layers as a model without optimizer, to save and load weights with.

    A compiled model saves its optimizer's state too, three times the bytes, and does not load
    a file without it: that of the head before the picture phase.
    """
    return keras.Model(model.inputs, model.outputs, name=model.name)


def write_history(path, history):
    """One row an epoch as csv, replaced whole.

    Times go to a file of their own, so that two runs of one command leave equal histories.
    """
    if not is_first():
        return
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def crossfit_groups(data, rows, seed):
    """Groups of rows that are decided with the thresholds of the others, `(num_rows,)` int.

    Their folds; halves where all are of one fold.
    """
    folds = data.folds[rows]
    return folds if len(np.unique(folds)) > 1 else split_halves(data.collection, rows, seed)


def split_halves(collection, rows, seed):
    """0 or 1 for each row, `(num_rows,)` int; whole specimens on one side."""
    groups = np.arange(len(rows)) if collection.specimens is None else collection.specimens[rows]
    _, groups = np.unique(groups, return_inverse=True)
    return (np.random.default_rng(seed).permutation(groups.max() + 1) % 2)[groups]
