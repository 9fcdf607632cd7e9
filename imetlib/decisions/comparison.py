"""Two answers for the same pictures: which is better, and whether the draw of pictures says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.fbeta import bootstrap_interval, fbeta_per_sample

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels


@dataclass(frozen=True)
class PairedComparison:
    """Result of `paired_comparison`.

    Args:
        difference: float in [-1, 1]. Mean score of the first less that of the second.
        interval: (low, high), floats. Percentile bootstrap interval of the difference.
        first, second: floats in [0, 1]. The two mean scores.
        better, worse: floats in [0, 1]. Shares of the samples on which the first scores more, or
            less; on the rest they are equal.
        num_samples: int.
        level: float in (0, 1), of the interval.
    """

    difference: float
    interval: tuple[float, float]
    first: float
    second: float
    better: float
    worse: float
    num_samples: int
    level: float

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval[0] > 0 or self.interval[1] < 0


def paired_comparison(
    first: Any,
    second: Any,
    *,
    y_true: Labels | None = None,
    beta: float = 2.0,
    groups: np.ndarray | None = None,
    seed: int = 0,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> PairedComparison:
    """Difference of two answers, picture by picture.

    Most of what makes a score vary, hard and easy pictures, is common to both and drops out: an
    interval of the difference is a fraction as wide as those of the two scores, and the only one
    that says whether one is better.

    Args:
        first, second: with `y_true` decisions, as in `fbeta_samples`; without it
            `(num_samples,)` float in [0, 1], as from `fbeta_per_sample`.
        y_true: as in `fbeta_samples`, or None.
        beta: float > 0. Used with `y_true` alone.
        groups, seed, level, num_resamples: as in `bootstrap_interval`; `groups` are the
            specimens.

    Returns:
        `PairedComparison`. It says nothing about other seeds of a training.

    Raises:
        ValueError: the shapes differ, a score is not in [0, 1], or as `fbeta_samples` and
            `bootstrap_interval`.

    Example:
        >>> found = paired_comparison([1.0, 0.5, 0.75], [0.5, 0.5, 0.5])
        >>> found.difference, round(found.better, 3), found.worse
        (0.25, 0.667, 0.0)
    """
    scores = []
    for name, answer in (("first", first), ("second", second)):
        if y_true is not None:
            values = fbeta_per_sample(y_true, answer, beta=beta)
        else:
            values = np.asarray(answer, np.float64)
            if values.ndim != 1 or not len(values):
                raise ValueError(
                    f"`{name}` must be (num_samples,) scores; give `y_true` beside decisions. "
                    f"Received: shape {values.shape}"
                )
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError(
                    f"`{name}` must hold scores in [0, 1]. "
                    f"Received: values from {values.min()} to {values.max()}"
                )
        scores.append(values)
    if len(scores[0]) != len(scores[1]):
        raise ValueError(
            "`first` and `second` must be answers for the same samples. "
            f"Received: {len(scores[0])} and {len(scores[1])}"
        )
    difference = scores[0] - scores[1]
    return PairedComparison(
        difference=float(difference.mean()),
        interval=bootstrap_interval(
            difference, groups=groups, seed=seed, level=level, num_resamples=num_resamples
        ),
        first=float(scores[0].mean()),
        second=float(scores[1].mean()),
        better=float((difference > 0).mean()),
        worse=float((difference < 0).mean()),
        num_samples=len(difference),
        level=level,
    )
