"""Two classifiers on the same pictures: is one better, or is it the draw of pictures or seeds?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np


@dataclass(frozen=True)
class McNemarTest:
    """Result of `mcnemar_test`.

    Args:
        accuracy_a, accuracy_b: floats in [0, 1].
        difference: float in [-1, 1]. Accuracy of b less that of a.
        standard_error: float >= 0, of the difference, with the pairing.
        interval: (low, high), floats in [-1, 1]. Interval of the difference.
        only_a, only_b: ints. Pictures that one alone classifies rightly; the others cancel out.
        p_value: float in [0, 1]. Exact and two-sided.
        num_samples: int.
        level: float in (0, 1), of the interval.
    """

    accuracy_a: float
    accuracy_b: float
    difference: float
    standard_error: float
    interval: tuple[float, float]
    only_a: int
    only_b: int
    p_value: float
    num_samples: int
    level: float


@dataclass(frozen=True)
class SeedSummary:
    """Result of `summarise_seeds`.

    Args:
        mean: float. Mean over the seeds.
        standard_error: float >= 0. Standard deviation over the seeds / sqrt(number of seeds).
        interval: (low, high), floats. t interval of the mean.
        num_seeds: int >= 2.
        level: float in (0, 1), of the interval.
    """

    mean: float
    standard_error: float
    interval: tuple[float, float]
    num_seeds: int
    level: float


def mcnemar_test(correct_a: Any, correct_b: Any, *, level: float = 0.95) -> McNemarTest:
    """Exact McNemar test of two classifiers on the same pictures.

    If neither is better, a picture that one alone gets right is as likely to be that of a as that
    of b: the p value is that of a binomial test of their counts against one half.

    Args:
        correct_a, correct_b: `(num_samples,)` bool. Whether each picture is classified rightly, in
            one order.
        level: float in (0, 1).

    Returns:
        `McNemarTest`. The interval is the adjusted Wald interval, which adds half a picture to
        each of the four outcomes: it has a width even where the two never disagree, and its middle
        is `difference` shrunk by `num_samples / (num_samples + 2)`. Test and interval say nothing
        about other seeds of the training: see `summarise_seeds`.

    Raises:
        ValueError: not bool, no samples, different lengths, or `level` out of range.

    Example:
        >>> found = mcnemar_test([True] * 6 + [False] * 8, [True] * 4 + [False] * 2 + [True] * 8)
        >>> found.only_a, found.only_b, round(found.difference, 4), round(found.p_value, 4)
        (2, 8, 0.4286, 0.1094)

    Reference:
        McNemar, Psychometrika 12, 1947. Interval: Agresti and Min, Statistics in Medicine 24,
        2005.
    """
    from scipy.stats import binomtest

    _check_level(level)
    arrays = []
    for name, values in (("correct_a", correct_a), ("correct_b", correct_b)):
        array = np.asarray(values)
        if array.dtype != bool or array.ndim != 1 or not len(array):
            raise ValueError(
                f"`{name}` must be (num_samples,) bool. Received: {array.shape} {array.dtype}"
            )
        arrays.append(array)
    a, b = arrays
    if len(a) != len(b):
        raise ValueError(
            "`correct_a` and `correct_b` must be of the same pictures. "
            f"Received: {len(a)} and {len(b)}"
        )
    num_samples, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    disagree = only_a + only_b
    middle, error = _difference(only_a + 0.5, only_b + 0.5, num_samples + 2)
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    difference, standard_error = _difference(only_a, only_b, num_samples)
    return McNemarTest(
        accuracy_a=float(a.mean()),
        accuracy_b=float(b.mean()),
        difference=difference,
        standard_error=standard_error,
        interval=(max(middle - reach, -1.0), min(middle + reach, 1.0)),
        only_a=only_a,
        only_b=only_b,
        p_value=float(binomtest(only_b, disagree).pvalue) if disagree else 1.0,
        num_samples=num_samples,
        level=level,
    )


def summarise_seeds(differences: Any, *, level: float = 0.95) -> SeedSummary:
    """Mean of one difference a seed, and how far other seeds would move it.

    The t interval takes the differences for a sample of a normal distribution; with three seeds
    it is 4.3 standard errors to either side. All seeds are scored on the same pictures: how far
    other pictures would move the mean is what `comparison.paired_comparison` says, given for each
    picture the share of the seeds that classify it rightly.

    Args:
        differences: `(num_seeds,)` float, at least two, such as `difference` of `mcnemar_test`
            of the two classifiers that share a seed.
        level: float in (0, 1).

    Returns:
        `SeedSummary`.

    Raises:
        ValueError: fewer than two seeds, a value that is not finite, or `level` out of range.

    Example:
        >>> found = summarise_seeds([0.25, 0.5, 0.75])
        >>> found.mean, round(found.standard_error, 4), [round(end, 3) for end in found.interval]
        (0.5, 0.1443, [-0.121, 1.121])
    """
    from scipy.stats import t

    _check_level(level)
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            "`differences` must be (num_seeds,) finite numbers of at least two seeds. "
            f"Received: {differences}"
        )
    mean, standard_error = float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)
    reach = float(t.ppf((1 + level) / 2, len(values) - 1)) * standard_error
    return SeedSummary(mean, standard_error, (mean - reach, mean + reach), len(values), level)


def _difference(only_a: float, only_b: float, num_samples: int) -> tuple[float, float]:
    """Difference of two shares of the same pictures, and its standard error."""
    difference = (only_b - only_a) / num_samples
    variance = (only_a + only_b) / num_samples - difference**2
    return difference, math.sqrt(max(variance, 0.0) / num_samples)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1). Received: level={level}")
