"""Honest figures of scores: mean per-sample F2 with its interval, threshold and floor."""

from imetlib.decisions.fbeta import (
    bootstrap_interval,
    constant_answer,
    fbeta_micro,
    fbeta_per_sample,
)
from imetlib.decisions.label_sets import decide
from imetlib.decisions.thresholds import crossfit_threshold, search_threshold
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
