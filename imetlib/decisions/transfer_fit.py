"""How many neighbours vote on a label, and how fast a vote fades with the distance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.fbeta import is_ragged, label_pairs
from imetlib.decisions.thresholds import search_threshold
from imetlib.decisions.transfer import (
    SMOOTHING,
    check_neighbours,
    check_settings,
    count_votes,
    rows_of_labels,
    smooth_votes,
    transfer_labels,
    weigh_neighbours,
)

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels


@dataclass(frozen=True, eq=False)
class TransferFit:
    """Result of `fit_transfer`.

    Args:
        k: int. Neighbours that vote.
        scale: float. How fast a vote fades: by exp(-scale) for a cosine distance of 1.
        smoothing: float, as given.
        objective: "log_likelihood" or "fbeta".
        score: float. The objective at `k` and `scale`, on the rows that they were chosen on.
        ks: `(num_ks,)` int64, ascending.
        scales: `(num_scales,)` float64, ascending.
        scores: `(num_ks, num_scales)` float64. The objective at each pair.
        at_edge: whether `scale` is the first, unless that is 0, or last of `scales`.
    """

    k: int
    scale: float
    smoothing: float
    objective: str
    score: float
    ks: np.ndarray
    scales: np.ndarray
    scores: np.ndarray
    at_edge: bool

    def apply(self, indices: np.ndarray, similarities: np.ndarray, labels: Labels) -> np.ndarray:
        """`transfer_labels` of other rows with what was chosen.

        Raises:
            ValueError: fewer than `k` neighbours a row.
        """
        if np.shape(indices)[-1] < self.k:
            raise ValueError(
                f"`indices` must have {self.k} neighbours a row. Received: {np.shape(indices)}"
            )
        return transfer_labels(
            indices[:, : self.k],
            similarities[:, : self.k],
            labels,
            scale=self.scale,
            smoothing=self.smoothing,
        )


def fit_transfer(
    y_true: Labels,
    indices: np.ndarray,
    similarities: np.ndarray,
    labels: Labels,
    *,
    scales: Sequence[float] | None = None,
    ks: Sequence[int] | None = None,
    smoothing: float = SMOOTHING,
    objective: str = "log_likelihood",
    beta: float = 2.0,
) -> TransferFit:
    """Chooses how many neighbours vote, and how fast a vote fades, on rows with known labels.

    Those rows must not be among their own neighbours, or the nearest alone would always win:
    take rows of `nearest_neighbours(None, ...)`, or rows that are no candidates. Two tables of
    labels with ids are checked for it.

    Args:
        y_true: `LabelTable` or `(num_samples, num_classes)` array of 0/1.
        indices, similarities, labels, smoothing: as in `transfer_labels`, nearest first.
        scales: float >= 0 each, or None: 19 from 1 to 512.
        ks: int in 1..k each, or None: k, and its halves down to 5.
        objective: "log_likelihood", the mean over samples of the log probability of all labels,
            quick and smooth; or "fbeta", the score of the best global threshold, which is what
            counts where the neighbours decide alone.
        beta: float > 0, for "fbeta".

    Returns:
        `TransferFit`. Of equally good pairs the one of fewer neighbours and smaller scale. Its
        score flatters: it is that of the rows chosen on.

    Raises:
        ValueError: as `transfer_labels`; an unknown objective; `ks` out of range; a row is its
            own neighbour; or log likelihood without smoothing, which is minus infinity as soon
            as a label has no vote.

    Warns:
        UserWarning: the best scale is the first or last: the optimum may lie outside.
    """
    if objective not in ("log_likelihood", "fbeta"):
        raise ValueError(
            f"`objective` must be 'log_likelihood' or 'fbeta'. Received: objective={objective!r}"
        )
    columns, indptr, num_classes = rows_of_labels(labels)
    indices, similarities = check_neighbours(indices, similarities, len(indptr) - 1)
    true_rows, true_columns, shape = label_pairs(y_true, "y_true")
    if is_ragged(y_true):
        shape = (shape[0], max(shape[1], num_classes))
    if shape != (len(indices), num_classes):
        raise ValueError(
            f"`y_true` must be {(len(indices), num_classes)}, neighbours x classes of `labels`. "
            f"Received: {shape}"
        )
    if hasattr(y_true, "ids") and hasattr(labels, "ids"):
        own = np.flatnonzero((labels.ids[indices] == y_true.ids[:, None]).any(axis=1))
        if len(own):
            raise ValueError(
                f"{len(own)} rows are their own neighbours, first {y_true.ids[own[0]]}: search "
                "with `queries=None`"
            )
    sizes, levels = _candidates(ks, scales, indices.shape[1])
    check_settings(levels, smoothing)
    if objective == "fbeta":
        scores = np.empty((len(sizes), len(levels)))
        for place in np.ndindex(scores.shape):
            size, scale = sizes[place[0]], float(levels[place[1]])
            y_prob = transfer_labels(
                indices[:, :size], similarities[:, :size], labels, scale=scale, smoothing=smoothing
            )
            scores[place] = search_threshold(y_true, y_prob, beta=beta).score
    elif smoothing == 0:
        raise ValueError("`smoothing` must be positive for a likelihood. Received: smoothing=0")
    else:
        true_cells = true_rows * num_classes + true_columns
        votes = count_votes(indices, columns, indptr, num_classes)
        scores = _likelihoods(
            true_cells, votes, similarities, num_classes, sizes, levels, smoothing
        )
    best, where = np.unravel_index(int(np.argmax(scores)), scores.shape)
    # Nothing lies below a scale of 0.
    at_edge = len(levels) > 1 and (where == len(levels) - 1 or (where == 0 and levels[0] > 0))
    if at_edge:
        warnings.warn(
            f"The best scale {levels[where]:.4g} is the {'first' if where == 0 else 'last'} of "
            "those tried: the optimum may lie outside. Change `scales`.",
            stacklevel=2,
        )
    return TransferFit(
        k=int(sizes[best]),
        scale=float(levels[where]),
        smoothing=smoothing,
        objective=objective,
        score=float(scores[best, where]),
        ks=sizes,
        scales=levels,
        scores=scores,
        at_edge=bool(at_edge),
    )


def _likelihoods(
    true_cells: np.ndarray,
    votes: tuple[np.ndarray, np.ndarray],
    similarities: np.ndarray,
    num_classes: int,
    sizes: np.ndarray,
    levels: np.ndarray,
    smoothing: float,
) -> np.ndarray:
    """`(num_sizes, num_levels)` float64: mean log probability of the labels of a sample.

    Only cells with a vote are looked at; all others have one probability, whatever the scale.
    """
    voters, cells = votes
    cells, of_vote = np.unique(cells, return_inverse=True)
    is_true = np.isin(cells, true_cells, assume_unique=True)
    missed = len(true_cells) - np.count_nonzero(is_true)
    silent = len(similarities) * num_classes - len(cells) - missed
    rest = missed * np.log(smoothing) + silent * np.log1p(-smoothing)
    scores = np.empty((len(sizes), len(levels)))
    for row, size in enumerate(sizes):
        for column, scale in enumerate(levels):
            weights = np.zeros(similarities.shape)
            weights[:, :size] = weigh_neighbours(similarities[:, :size], scale)
            voted = np.bincount(of_vote, weights.ravel()[voters], minlength=len(cells))
            y_prob = smooth_votes(voted, smoothing)
            total = np.log(np.where(is_true, y_prob, 1.0 - y_prob)).sum() + rest
            scores[row, column] = total / len(similarities)
    return scores


def _candidates(
    ks: Sequence[int] | None, scales: Sequence[float] | None, num_neighbours: int
) -> tuple[np.ndarray, np.ndarray]:
    if ks is None:
        halves = [num_neighbours >> power for power in range(num_neighbours.bit_length())]
        ks = [half for half in halves if half >= 5] or [num_neighbours]
    sizes = np.unique(np.asarray(ks, np.int64))
    if not len(sizes) or sizes[0] < 1 or sizes[-1] > num_neighbours:
        raise ValueError(f"`ks` must be in 1..{num_neighbours}. Received: ks={list(ks)}")
    levels = np.geomspace(1, 512, 19) if scales is None else np.asarray(scales, np.float64)
    return sizes, np.unique(levels)
