"""Honest figures of scores: mean per-sample F2 with its interval, threshold and floor."""

import numpy as np

from imetlib.decisions.fbeta import (
    bootstrap_interval,
    constant_answer,
    fbeta_micro,
    fbeta_per_sample,
)
from imetlib.decisions.label_sets import decide
from imetlib.decisions.thresholds import crossfit_threshold, search_threshold
from imetlib.scores import Scores, logits_of
from imetlib.training.predict import log_loss


def score_crossfitted(collection, scores, groups):
    """Figures of scores where every row is decided with a threshold fitted on other groups.

    Args:
        collection: `Collection`.
        scores: `Scores` of training ids.
        groups: `(num_samples,)` int.

    Returns:
        dict: "score" (mean per-sample F2), its 95 % bootstrap "interval" (pictures of one
        specimen drawn together), "threshold" (fitted on all these rows: for other rows),
        "constant_score" (best constant answer, fitted and scored on these rows), "micro_f2",
        "log_loss", "num_samples".
    """
    rows, truth = truth_of(collection, scores)
    decisions = crossfit_threshold(truth.dense(), scores.y_prob, groups).y_pred
    threshold = search_threshold(truth.dense(), scores.y_prob).threshold
    return _figures(collection, scores, rows, truth, decisions, threshold)


def score_with_threshold(collection, scores, threshold):
    """The figures of `score_crossfitted` for a threshold that was fitted on other rows."""
    rows, truth = truth_of(collection, scores)
    decisions = decide(scores.y_prob, threshold)
    return _figures(collection, scores, rows, truth, decisions, threshold)


def answer_unreadable(data, scores, rows):
    """Scores of all test pictures, those without a readable picture included.

    Args:
        data: `PreparedCollection`.
        scores: dict of split to `Scores`; "test" holds the pictures that can be read.
        rows: `(n,)` int rows of the training table, what the scores were fitted on.

    Returns:
        dict like `scores`, where "test" holds `collection.test_ids` in their order. The probability
        of a label of an unreadable picture is the label's frequency in `rows`: what is known of a
        picture that nobody can see.
    """
    if "test" not in scores or not data.unreadable_test.any():
        return scores
    read, unreadable = scores["test"], data.unreadable_test
    labels = data.collection.train.take(rows)
    logits = np.empty((len(unreadable), len(read.class_names)), np.float32)
    logits[~unreadable] = read.take(data.collection.test_ids[~unreadable]).logits
    logits[unreadable] = logits_of(labels.counts() / len(labels))
    return {**scores, "test": Scores(data.collection.test_ids, logits, read.class_names)}


def truth_of(collection, scores):
    """Rows of the scored pictures in the training table, `(n,)` int, and their `LabelTable`."""
    rows = collection.train.rows_of(scores.ids)
    return rows, collection.train.take(rows)


def _figures(collection, scores, rows, truth, decisions, threshold):
    per_sample = fbeta_per_sample(truth, decisions)
    specimens = None if collection.specimens is None else collection.specimens[rows]
    return {
        "score": float(per_sample.mean()),
        "interval": list(bootstrap_interval(per_sample, groups=specimens)),
        "threshold": float(threshold),
        "constant_score": float(constant_answer(truth).score),
        "micro_f2": float(fbeta_micro(truth, decisions)),
        "log_loss": log_loss(truth.dense(), scores.logits),
        "num_samples": len(truth),
    }
