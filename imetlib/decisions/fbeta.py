"""The score: F-beta of label sets, averaged over pictures, and the floor it must beat.

iMet and this project score the mean over pictures ("samples" in scikit-learn). Micro F-beta,
which sums over the whole matrix first, is another number and is always called micro here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from imetlib.collection.tables import LabelTable

    Labels = LabelTable | np.ndarray | Sequence[Any]


@dataclass(frozen=True, eq=False)
class ConstantAnswer:
    """The best answer that never looks at a picture.

    Args:
        columns: `(k,)` int64. The k most frequent classes, most frequent first.
        score: float in [0, 1]. Mean per-sample F-beta of that answer on the scored rows.
        scores: `(num_classes,)` float64. The same for the 1, 2, ... most frequent classes.
    """

    columns: np.ndarray
    score: float
    scores: np.ndarray


def fbeta_samples(y_true: Labels, y_pred: Labels, *, beta: float = 2.0) -> float:
    """Sample-averaged F-beta of multi-label decisions.

    Equal to scikit-learn's `fbeta_score(average="samples", zero_division=0)`.
    `keras.metrics.FBetaScore` averages over labels and gives another number.

    Args:
        y_true: `LabelTable`, `(num_samples, num_classes)` array of 0/1, or a sequence with one
            array of columns a sample. True labels.
        y_pred: the same. Decisions, not probabilities.
        beta: float > 0. Recall counts `beta**2` times as much as precision.

    Returns:
        float in [0, 1]. A sample with neither true nor predicted labels counts 0.

    Raises:
        ValueError: the shapes differ, a value is neither 0 nor 1, there are no samples, or
            `beta` is not positive.

    Example:
        >>> fbeta_samples([[1, 1, 0, 0], [0, 1, 0, 1]], [[1, 0, 1, 1], [0, 1, 0, 0]])
        0.5050505050505051
    """
    return float(fbeta_per_sample(y_true, y_pred, beta=beta).mean())


def fbeta_per_sample(y_true: Labels, y_pred: Labels, *, beta: float = 2.0) -> np.ndarray:
    """F-beta of each sample: `(num_samples,)` float64 in [0, 1]; arguments of `fbeta_samples`."""
    hits, num_true, num_pred = _count_hits(y_true, y_pred)
    return fbeta_of_counts(hits, num_true, num_pred, beta)


def fbeta_micro(y_true: Labels, y_pred: Labels, *, beta: float = 2.0) -> float:
    """F-beta of the counts summed over all samples: not the competition's score.

    Stands here because published figures often are this one (the rows with many labels weigh
    more, and the figure comes out higher). Arguments and errors of `fbeta_samples`.

    Example:
        >>> fbeta_micro([[1, 1, 0, 0], [0, 1, 0, 1]], [[1, 0, 1, 1], [0, 1, 0, 0]])
        0.5
    """
    hits, num_true, num_pred = _count_hits(y_true, y_pred)
    return float(fbeta_of_counts(hits.sum(), num_true.sum(), num_pred.sum(), beta))


def constant_answer(
    labels: Labels,
    *,
    fit_labels: Labels | None = None,
    fit_counts: np.ndarray | None = None,
    beta: float = 2.0,
) -> ConstantAnswer:
    """The best "same k most frequent labels for every picture": print it beside every score.

    Without `fit_*` the answer is fitted on the rows it is scored on. That favours the floor a
    little, which is the safe side when a model is compared with it.

    Args:
        labels: `LabelTable` or `(num_samples, num_classes)` array of 0/1. The rows scored.
        fit_labels: the same. Rows on which the order of the classes and k are chosen instead.
        fit_counts: `(num_classes,)`. How often each class occurs elsewhere: only the order of
            the classes comes from it, k is still the best one for `labels`.
        beta: float > 0.

    Returns:
        `ConstantAnswer`. Of classes that are equally frequent the smaller column comes first.

    Raises:
        ValueError: the class counts differ, or both `fit_labels` and `fit_counts` are given.

    Example:
        >>> answer = constant_answer(np.array([[0, 1, 0], [0, 1, 0], [1, 1, 0]]))
        >>> answer.columns.tolist(), round(answer.score, 4)
        ([1, 0], 0.8889)
    """
    if fit_labels is not None and fit_counts is not None:
        raise ValueError("Give `fit_labels` or `fit_counts`, not both.")
    rows, columns, shape = label_pairs(labels, "labels")
    if fit_counts is not None:
        order = _most_frequent_first(np.asarray(fit_counts, np.float64))
    elif fit_labels is not None:
        fit_rows, fit_columns, fit_shape = label_pairs(fit_labels, "fit_labels")
        order = _most_frequent_first(np.bincount(fit_columns, minlength=fit_shape[1]))
        fit_scores = _score_prefixes(fit_rows, fit_columns, fit_shape, order, beta)
    else:
        order = _most_frequent_first(np.bincount(columns, minlength=shape[1]))
    if order.shape != (shape[1],):
        raise ValueError(
            f"`labels` has {shape[1]} classes, what the answer is fitted on has {len(order)}: "
            "both must belong to one table of classes."
        )
    scores = _score_prefixes(rows, columns, shape, order, beta)
    size = int(np.argmax(scores if fit_labels is None else fit_scores)) + 1
    return ConstantAnswer(order[:size], float(scores[size - 1]), scores)


def bootstrap_interval(
    per_sample: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> tuple[float, float]:
    """Percentile interval of a mean: how far the score moves with the draw of the pictures.

    Args:
        per_sample: `(num_samples,)` float, as from `fbeta_per_sample`. For the difference of
            two models on the same rows give the difference of their scores.
        groups: `(num_samples,)` int or str, or None. Samples of one group (one specimen) are
            drawn together: pictures of one object do not vary independently.
        seed: int. The same seed gives the same interval.
        level: float in (0, 1).
        num_resamples: int >= 1.

    Returns:
        (low, high), floats. It says nothing about other seeds of the training.

    Raises:
        ValueError: no samples, `level` out of range, or `groups` of another length.

    Example:
        >>> low, high = bootstrap_interval(np.array([0.0, 1.0, 1.0, 0.5]))
        >>> 0.0 <= low <= 0.625 <= high <= 1.0
        True
    """
    values: np.ndarray = np.asarray(per_sample, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"`per_sample` must be (num_samples,). Received: shape {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1). Received: level={level}")
    sizes: np.ndarray = np.ones(len(values))
    if groups is not None:
        if np.shape(groups) != values.shape:
            raise ValueError(
                f"`groups` must have one entry a sample, {len(values)}. "
                f"Received: shape {np.shape(groups)}"
            )
        codes = np.unique(np.asarray(groups), return_inverse=True)[1]
        sizes = np.bincount(codes)
        values = np.bincount(codes, weights=values)
    generator = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    for resample in range(num_resamples):
        rows = generator.integers(len(values), size=len(values))
        means[resample] = values[rows].sum() / sizes[rows].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def fbeta_of_counts(hits: Any, num_true: Any, num_pred: Any, beta: float) -> np.ndarray:
    """The definition on counts, elementwise: float64, 0 where there is nothing true or predicted.

    With weight `beta**2` this is `(1 + weight) * hits / (weight * num_true + num_pred)`.

    Raises:
        ValueError: `beta` is not positive.
    """
    if not beta > 0:
        raise ValueError(f"`beta` must be positive. Received: beta={beta}")
    weight = beta**2
    total = np.asarray(weight * num_true + num_pred, np.float64)
    return (1 + weight) * np.asarray(hits) / np.where(total > 0, total, 1.0)


def label_pairs(
    labels: Labels, name: str = "labels"
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Labels of any form as pairs of row and column: the one form all scores work on.

    Args:
        labels: `LabelTable`, array of 0/1, or a sequence with one array of columns a sample.
        name: str. What an error calls it.

    Returns:
        Rows and columns of the ones, `(num_labels,)` int64 each, by row; and the shape
        `(num_samples, num_classes)`, where a sequence of arrays has its largest column + 1.

    Raises:
        ValueError: not two-dimensional, no samples, a value other than 0 and 1, or a column
            twice in one sample.
    """
    if hasattr(labels, "indptr"):
        table = cast("LabelTable", labels)
        columns = np.asarray(table.indices, np.int64)
        rows = np.repeat(np.arange(len(table)), np.diff(table.indptr))
        shape = (len(table), int(table.num_classes))
    elif is_ragged(labels):
        parts = [np.asarray(row, np.int64).ravel() for row in labels]
        rows = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        columns = np.concatenate(parts)
        shape = (len(parts), int(columns.max(initial=-1)) + 1)
        if columns.min(initial=0) < 0:
            raise ValueError(f"`{name}`: columns must be >= 0. Received: {columns.min()}")
        pairs = np.sort(rows << 32 | columns)
        twice = pairs[1:][pairs[1:] == pairs[:-1]]
        if len(twice):
            row, column = twice[0] >> 32, twice[0] & 0xFFFFFFFF
            raise ValueError(f"`{name}`: sample {row} has column {column} twice.")
    else:
        dense = np.asarray(labels)
        if dense.ndim != 2:
            raise ValueError(
                f"`{name}` must be (num_samples, num_classes). Received: shape {dense.shape}"
            )
        if dense.dtype != bool and not ((dense == 0) | (dense == 1)).all():
            raise ValueError(
                f"`{name}` must hold 0 and 1 only; decide with a threshold first. Received: "
                f"values from {dense.min()} to {dense.max()}"
            )
        shape = dense.shape
        rows, columns = np.divmod(np.flatnonzero(dense), max(shape[1], 1))
    if not shape[0]:
        raise ValueError(f"`{name}` holds no samples; a score of nothing is not defined.")
    return rows, columns, shape


def is_ragged(labels: Any) -> bool:
    """Whether this is a sequence of column arrays, not a (nested list as a) matrix of 0/1."""
    if isinstance(labels, np.ndarray):
        return labels.dtype == object
    return isinstance(labels, (list, tuple)) and any(
        isinstance(row, np.ndarray) and row.dtype != bool for row in labels
    )


def pair_codes(
    y_true: Labels, y_pred: Labels
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """True, predicted and hit labels as one int64 each, `row << 32 | column`, and the shape.

    Raises:
        ValueError: as `fbeta_samples`.
    """
    true_rows, true_columns, true_shape = label_pairs(y_true, "y_true")
    pred_rows, pred_columns, pred_shape = label_pairs(y_pred, "y_pred")
    # A sequence of columns knows its number of samples, and only a least number of classes.
    fits = true_shape == pred_shape
    if is_ragged(y_true) or is_ragged(y_pred):
        fits = true_shape[0] == pred_shape[0]
        fits &= is_ragged(y_true) or pred_shape[1] <= true_shape[1]
        fits &= is_ragged(y_pred) or true_shape[1] <= pred_shape[1]
    if not fits:
        raise ValueError(
            "`y_true` and `y_pred` must have the same shape. "
            f"Received: {true_shape} and {pred_shape}"
        )
    true, pred = true_rows << 32 | true_columns, pred_rows << 32 | pred_columns
    hits = np.intersect1d(true, pred, assume_unique=True)
    return true, pred, hits, (true_shape[0], max(true_shape[1], pred_shape[1]))


def _count_hits(y_true: Labels, y_pred: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, true labels and predicted labels of each sample, `(num_samples,)` int64 each."""
    true, pred, hits, (num_samples, _) = pair_codes(y_true, y_pred)
    return (
        np.bincount(hits >> 32, minlength=num_samples),
        np.bincount(true >> 32, minlength=num_samples),
        np.bincount(pred >> 32, minlength=num_samples),
    )


def _most_frequent_first(counts: np.ndarray) -> np.ndarray:
    return np.argsort(-counts, kind="stable")


def _score_prefixes(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], order: np.ndarray, beta: float
) -> np.ndarray:
    """Mean F-beta of the answers `order[:1]`, `order[:2]`, ...: `(num_classes,)` float64.

    Samples with equally many labels share a denominator, so one histogram of the ranks of
    their labels scores all prefixes at once; no row is ever compared with an answer.
    """
    num_samples, num_classes = shape
    rank = np.argsort(order)
    labels_per_sample = np.bincount(rows, minlength=num_samples)
    sizes = np.arange(1, num_classes + 1)
    total = np.zeros(num_classes)
    for num_true in np.unique(labels_per_sample[labels_per_sample > 0]):
        members = labels_per_sample[rows] == num_true
        hits = np.cumsum(np.bincount(rank[columns[members]], minlength=num_classes))
        total += fbeta_of_counts(hits, num_true, sizes, beta)
    return total / num_samples
