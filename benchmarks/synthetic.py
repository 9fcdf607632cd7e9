"""Synthetic scores with the shape of iMet 2019: 398 cultures, 705 tags, 3.2 labels a row."""

import numpy as np

from imetlib.collection.labels import LabelTable

NUM_CULTURES, NUM_TAGS = 398, 705
CLASS_NAMES = tuple(
    [f"culture::{number}" for number in range(NUM_CULTURES)]
    + [f"tag::{number}" for number in range(NUM_TAGS)]
)
_ROWS_TOGETHER = 4096


def make_scores(num_samples, seed=0, weaker_by=0.0):
    """Labels and float32 probabilities of a network about as good as one of 2019.

    Args:
        num_samples: int >= 1. 109,237 is the size of the training table.
        seed: int.
        weaker_by: float. Taken off the logits of true labels: 0 gives a best F2 near .49,
            1.2 near .38, 2.2 near .28.

    Returns:
        `LabelTable` and `(num_samples, 1103)` float32 in [0, 1].
    """
    generator = np.random.default_rng(seed)
    cultures = np.arange(1, NUM_CULTURES + 1) ** -1.15
    tags = np.arange(1, NUM_TAGS + 1) ** -0.95
    num_cultures = generator.choice(4, size=num_samples, p=[0.08, 0.78, 0.12, 0.02])
    num_tags = 1 + generator.poisson(1.15, size=num_samples)
    rows, columns = [], []
    for counts, weights, first in ((num_cultures, cultures, 0), (num_tags, tags, NUM_CULTURES)):
        drawn_rows = np.repeat(np.arange(num_samples), counts)
        drawn = generator.choice(len(weights), size=len(drawn_rows), p=weights / weights.sum())
        rows.append(drawn_rows)
        columns.append(drawn + first)
    num_classes = NUM_CULTURES + NUM_TAGS
    # A label drawn twice for a row stands once.
    cells = np.unique(np.concatenate(rows) * num_classes + np.concatenate(columns))
    rows, columns = np.divmod(cells, num_classes)
    prior = np.clip(np.bincount(columns, minlength=num_classes) / num_samples, 1e-6, 0.6)
    prior_logits = (np.log(prior) - np.log1p(-prior) - 1.5).astype(np.float32)
    y_prob = np.empty((num_samples, num_classes), np.float32)
    starts = np.searchsorted(rows, np.arange(0, num_samples + _ROWS_TOGETHER, _ROWS_TOGETHER))
    for block, start in enumerate(range(0, num_samples, _ROWS_TOGETHER)):
        logits = y_prob[start : start + _ROWS_TOGETHER]
        generator.standard_normal(dtype=np.float32, out=logits)
        logits *= 1.4
        logits += prior_logits
        own = slice(starts[block], starts[block + 1])
        strength = generator.normal(3.6 - weaker_by, 1.8, size=own.stop - own.start)
        logits[rows[own] - start, columns[own]] += strength.astype(np.float32)
        np.negative(logits, out=logits)
        np.exp(logits, out=logits)
        logits += 1
        np.reciprocal(logits, out=logits)
    indptr = np.searchsorted(rows, np.arange(num_samples + 1))
    ids = np.array([str(row) for row in range(num_samples)], object)
    return LabelTable(ids, indptr, columns.astype(np.int32), num_classes), y_prob
