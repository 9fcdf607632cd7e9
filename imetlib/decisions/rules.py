"""Rules from probabilities to label sets, in scikit-learn's habit: `fit`, then `predict`.

A rule takes its numbers from the rows it is fitted on and from nothing else, so that rules can be
compared on rows that none of them has seen (`imetlib.decisions.rule_comparison`). What they
search with stands in modules of its own. `fitted` holds plain numbers: a fitted rule is saved as
text, together with the classes it belongs to (`imetlib.decisions.saved_rules`).

All have the two methods of `GlobalThreshold`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.calibration import IsotonicScaling, PlattScaling, fit_isotonic, fit_platt
from imetlib.decisions.exclusive import find_exclusive_groups
from imetlib.decisions.fbeta import fbeta_samples, label_pairs
from imetlib.decisions.group_thresholds import GroupThresholds, search_group_thresholds
from imetlib.decisions.label_sets import decide
from imetlib.decisions.per_image import (
    expected_fbeta_sets,
    keep_near_maximum,
    keep_top,
    threshold_for_count,
)
from imetlib.decisions.thresholds import search_threshold

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

CALIBRATIONS = ("none", "platt", "platt by group", "isotonic", "isotonic by group")
_MOST_TOP = 30


@dataclass
class GlobalThreshold:
    """All labels at or above one threshold, the best there is on the rows fitted.

    Args:
        min_labels, max_labels: fewest and most labels of a picture.
    """

    min_labels: int = 1
    max_labels: int | None = None
    fitted: dict[str, Any] = field(default_factory=dict, init=False)

    def fit(
        self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]
    ) -> GlobalThreshold:
        """Take the rule's numbers from labelled rows.

        Args:
            y_prob: `(num_samples, num_classes)` float in [0, 1], of rows that the network was
                not trained on.
            y_true: labels of the same rows, in any form that `fbeta_samples` takes.
            class_names: `num_classes` names `group::name`.

        Returns:
            the rule itself.

        Raises:
            ValueError: the shapes differ, or a score is not finite.
        """
        self.fitted = {"threshold": search_threshold(y_true, y_prob).threshold}
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        """`(num_samples, num_classes)` bool of probabilities of that shape."""
        threshold = self.fitted["threshold"]
        return decide(y_prob, threshold, min_labels=self.min_labels, max_labels=self.max_labels)


@dataclass
class GroupThreshold:
    """A threshold, a least and a greatest number of labels for each group of classes.

    Args:
        min_labels, max_labels: of each group, or of the groups named. The winner of iMet 2019
            took 0 to 3 cultures and 1 to 8 tags.
    """

    min_labels: int | Mapping[str, int] = 0
    max_labels: int | Mapping[str, int] | None = None
    fitted: dict[str, Any] = field(default_factory=dict, init=False)

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> GroupThreshold:
        found = search_group_thresholds(
            y_true, y_prob, class_names, min_labels=self.min_labels, max_labels=self.max_labels
        )
        self.fitted = {
            "thresholds": found.thresholds,
            "limits": {name: list(limits) for name, limits in found.limits.items()},
            "class_names": list(class_names),
        }
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        found = GroupThresholds(
            thresholds=self.fitted["thresholds"],
            score=float("nan"),
            certified=False,
            class_names=tuple(self.fitted["class_names"]),
            limits={name: tuple(limits) for name, limits in self.fitted["limits"].items()},
        )
        y_pred = found.decide(y_prob)
        # A picture without any label scores nothing: its highest one cannot lose.
        empty = np.flatnonzero(~y_pred.any(axis=1))
        y_pred[empty, np.asarray(y_prob)[empty].argmax(axis=1)] = True
        return y_pred


@dataclass
class TopLabels:
    """The same number of labels for every picture, the best there is on the rows fitted."""

    fitted: dict[str, Any] = field(default_factory=dict, init=False)

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> TopLabels:
        sizes = range(1, min(_MOST_TOP, len(class_names)) + 1)
        scores = [fbeta_samples(y_true, keep_top(y_prob, k)) for k in sizes]
        best = int(np.argmax(scores))
        self.fitted = {"k": sizes[best], "at_edge": best == len(sizes) - 1 < len(class_names) - 1}
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        return keep_top(y_prob, self.fitted["k"])


@dataclass
class NearMaximum:
    """All labels down to a share of the picture's highest probability, the best such share.

    Args:
        min_labels, max_labels: fewest and most labels of a picture. The sixth team of iMet 2019
            took 1 to 10, and a seventh as the share.
    """

    min_labels: int = 1
    max_labels: int | None = None
    fitted: dict[str, Any] = field(default_factory=dict, init=False)

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> NearMaximum:
        y_prob = np.asarray(y_prob, np.float32)
        # A share of the maximum is one threshold for probabilities divided by it.
        highest = np.maximum(y_prob.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        self.fitted = {"ratio": search_threshold(y_true, y_prob / highest).threshold}
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        return keep_near_maximum(
            y_prob,
            self.fitted["ratio"],
            min_labels=self.min_labels,
            max_labels=self.max_labels,
        )


@dataclass
class MeanCount:
    """The threshold that keeps as many labels a picture as were best on the rows fitted.

    It is set anew for the pictures decided on, all together: where their scores lie higher or
    lower than those of the rows fitted, it moves along. One picture alone is no population.
    """

    fitted: dict[str, Any] = field(default_factory=dict, init=False)

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> MeanCount:
        threshold = search_threshold(y_true, y_prob).threshold
        self.fitted = {"mean_labels": float(np.mean(decide(y_prob, threshold).sum(axis=1)))}
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        return decide(y_prob, threshold_for_count(y_prob, self.fitted["mean_labels"]))


@dataclass
class ExpectedFBeta:
    """The set of highest expected F2 of each picture, after calibration.

    Args:
        calibration: "none", "platt", "isotonic", or one of the two "by group". An expectation
            over raw scores can lose far more than it gains.
        method: "exact" or "ratio", see `imetlib.decisions.per_image.expected_fbeta_sets`.
        exclusive: let groups of which no row fitted has two labels be exclusive; "exact" only.
    """

    calibration: str = "platt"
    method: str = "ratio"
    exclusive: bool = False
    fitted: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.calibration not in CALIBRATIONS:
            raise ValueError(
                f"Unknown calibration {self.calibration!r}. Known: {', '.join(CALIBRATIONS)}"
            )

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> ExpectedFBeta:
        kind, _, by_group = self.calibration.partition(" ")
        names = class_names if by_group else None
        self.fitted = {"calibration": None, "class_names": list(class_names), "exclusive": []}
        if kind == "platt":
            platt = fit_platt(y_true, y_prob, class_names=names)
            self.fitted["calibration"] = {name: list(pair) for name, pair in platt.pairs.items()}
        elif kind == "isotonic":
            lines = fit_isotonic(y_true, y_prob, class_names=names).points
            self.fitted["calibration"] = {
                name: [side.tolist() for side in line] for name, line in lines.items()
            }
        if self.exclusive:
            rows, columns, _ = label_pairs(y_true)
            dense = np.zeros((len(y_prob), len(class_names)), bool)
            dense[rows, columns] = True
            self.fitted["exclusive"] = find_exclusive_groups(dense, class_names)
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        return self._sets(y_prob).y_pred

    def expect(self, y_prob: np.ndarray) -> np.ndarray:
        """`(num_samples,)` float64, the F2 that the rule itself expects of each row.

        Its mean is an estimate of the score without labels, as good as the calibration is and as
        the labels are independent: set it beside the realised score of other rows first.
        """
        return self._sets(y_prob).expected

    def calibrate(self, y_prob: np.ndarray) -> np.ndarray:
        """`(num_samples, num_classes)` float32, the probabilities that the rule believes."""
        maps, names = self.fitted["calibration"], self.fitted["class_names"]
        if maps is None:
            return np.asarray(y_prob, np.float32)
        groups = None
        if self.calibration.endswith("by group"):
            groups = tuple(name.partition("::")[0] for name in names)
        if self.calibration.startswith("platt"):
            pairs = {name: (pair[0], pair[1]) for name, pair in maps.items()}
            return PlattScaling(pairs, groups).apply(y_prob)
        lines = {name: (np.array(line[0]), np.array(line[1])) for name, line in maps.items()}
        return IsotonicScaling(lines, groups).apply(y_prob)

    def _sets(self, y_prob: np.ndarray):
        return expected_fbeta_sets(
            self.calibrate(y_prob),
            method=self.method,
            class_names=self.fitted["class_names"],
            exclusive=self.fitted["exclusive"],
        )
