"""Scores of pictures: each id once, in the order asked, mean over mirror views."""

from contextlib import nullcontext

import keras
import numpy as np

from imetlib.collection.batches import Batches
from imetlib.decisions.exclusive import share_in_groups
from imetlib.decisions.top_scores import collect_top_scores, write_top_scores
from imetlib.processes import process_part
from imetlib.scores import TOP, Scores
from imetlib.training.clock import TimeUpError
from imetlib.training.data_parallel import num_devices, predict_on_batch


def predict_views(model, pictures, rows, preprocessing, *, mirror_view, batch_size=64):
    """What a model says of pictures and, if asked, of their mirror images.

    Args:
        model: `keras.Model` from uint8 pictures to `(batch, units)`.
        pictures: `PictureCache`.
        rows: `(num_samples,)` int, rows of the cache.
        preprocessing: `Preprocessing` that the model was trained with.
        mirror_view: also predict mirror images.
        batch_size: int.

    Returns:
        list of one or two `(num_samples, units)` float32 arrays, plain view first.
    """
    views, part = [], process_part()
    shared = {"part": part, "multiple": num_devices()} if part[1] > 1 else {}
    for flip in (False, True) if mirror_view else (False,):
        batches = Batches(pictures, rows, preprocessing, batch_size=batch_size, flip=flip, **shared)
        # predict_on_batch: `predict` would trace anew at each call of a callback.
        parts = [
            predict_on_batch(
                model, batches[index], num_rows=batches.num_rows(index) if shared else None
            )
            for index in range(len(batches))
        ]
        views.append(np.concatenate(parts).astype(np.float32))
    return views


def predict_scores(
    model,
    pictures,
    ids,
    preprocessing,
    class_names,
    *,
    mirror_view,
    exclusive=(),
    batch_size=64,
    within=nullcontext,
):
    """Scores of pictures by id.

    Args:
        model: `keras.Model` from uint8 pictures to logits.
        pictures: `PictureCache` that holds `ids`.
        ids: ids in the order wanted, none twice.
        preprocessing, mirror_view, batch_size: see `predict_views`.
        class_names: names of the model's outputs.
        exclusive: groups whose attributes exclude each other, see
            `imetlib.decisions.exclusive.share_in_groups`.
        within: function that gives a context for each batch with all its views, such as
            `imetlib.training.clock.TimeBudget.predicting`.

    Returns:
        `Scores`, the mean of the views' logits, shared out in the exclusive groups; of the first
        pictures alone where time was up.

    Raises:
        ValueError: an id is missing or doubled, or a logit is not finite.
        TimeUpError: time was up before the first batch.
    """
    rows = pictures.rows_of(ids)
    parts = []
    for start in range(0, len(rows), batch_size):
        try:
            with within():
                views = predict_views(
                    model,
                    pictures,
                    rows[start : start + batch_size],
                    preprocessing,
                    mirror_view=mirror_view,
                    batch_size=batch_size,
                )
        except TimeUpError:
            if not parts:
                raise
            break
        parts.append(share_in_groups(np.mean(views, axis=0), class_names, exclusive))
    logits = np.concatenate(parts)
    return Scores(np.asarray(ids, dtype=object)[: len(logits)], logits, tuple(class_names))


def count_batches(num_samples, batch_size=64):
    """Batches of `predict_scores` for so many pictures."""
    return -(-num_samples // batch_size)


def probe_prediction(budget, model, pictures, rows, preprocessing, *, mirror_view, batch_size=64):
    """Let a `TimeBudget` measure what a batch of `predict_scores` takes.

    Args:
        budget: `imetlib.training.clock.TimeBudget`.
        model, pictures, rows, preprocessing, mirror_view, batch_size: see `predict_views`; what is
            predicted is forgotten.
    """

    def predict_batch(index):
        batch = np.take(rows, np.arange(batch_size) + index * batch_size, mode="wrap")
        predict_views(model, pictures, batch, preprocessing, mirror_view=mirror_view)

    budget.probe(predict_batch)


def predict_top_scores(
    model,
    pictures,
    ids,
    preprocessing,
    class_names,
    path,
    *,
    mirror_view,
    exclusive=(),
    batch_size=64,
    k=TOP,
):
    """Write the highest logits of each picture, batch by batch: no dense scores are ever held.

    For collections of many pictures and classes; `load_scores` and `read_top_scores` read the
    file.

    Args:
        model, pictures, ids, preprocessing, class_names, mirror_view, exclusive, batch_size: see
            `predict_scores`.
        path: file, `.npz`.
        k: int >= 1, logits kept of each picture.

    Returns:
        `imetlib.decisions.top_scores.TopScores` of the logits.

    Raises:
        ValueError: an id is missing or doubled, or a logit is not finite.
    """
    rows = pictures.rows_of(ids)

    def batches():
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            views = predict_views(
                model, pictures, part, preprocessing, mirror_view=mirror_view, batch_size=batch_size
            )
            yield share_in_groups(np.mean(views, axis=0), class_names, exclusive)

    scores = collect_top_scores(batches(), k)
    write_top_scores(path, scores, ids, class_names)
    return scores


def log_loss(y_true, logits):
    """Mean binary cross-entropy over all entries, as a float."""
    return float(np.mean(np.logaddexp(0.0, logits) - np.where(y_true, logits, 0.0)))


def clear_memory():
    """Forget the graphs of models that are no longer used."""
    keras.backend.clear_session(free_memory=True)
