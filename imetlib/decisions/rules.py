"""Rules from probabilities to label sets, in scikit-learn's habit: `fit`, then `predict`.

A rule takes its numbers from the rows it is fitted on and from nothing else, so that rules can be
compared on rows that none of them has seen (`imetlib.decisions.rule_comparison`). What they
search with stands in modules of its own. `fitted` holds plain numbers and the names of the
classes: a fitted rule is saved as text (`imetlib.decisions.saved_rules`).

All have the two methods of `GlobalThreshold`, errors included, and seek the highest mean per-sample
F2. The rule that calibrates and computes expectations is `imetlib.decisions.expected_rule`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.cases import check_probabilities, make_case
from imetlib.decisions.class_thresholds import fit_class_thresholds
from imetlib.decisions.fbeta import fbeta_of_counts
from imetlib.decisions.group_thresholds import GroupThresholds, search_group_thresholds
from imetlib.decisions.label_sets import decide
from imetlib.decisions.per_image import keep_near_maximum, keep_top, threshold_for_count
from imetlib.decisions.thresholds import search_threshold
from imetlib.decisions.top_scores import top_scores

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

_MOST_TOP = 30
# No probability reaches it. Infinity, "never", is no number to JSON.
_NEVER = 2.0


@dataclass
class GlobalThreshold:
    """All labels at or above one threshold, the best there is on the rows fitted.

    Args:
        min_labels, max_labels: fewest and most labels of a picture. They hold for the decisions,
            the threshold is searched without.

    Example:
        >>> y_prob = np.array([[0.9, 0.4, 0.1], [0.8, 0.5, 0.2]])
        >>> rule = GlobalThreshold().fit(y_prob, [[1, 0, 0], [1, 1, 0]], ["a::b", "a::c", "a::d"])
        >>> rule.predict(np.array([[0.7, 0.6, 0.5], [0.1, 0.3, 0.2]])).astype(int)
        array([[1, 1, 1],
               [0, 1, 0]])
    """

    min_labels: int = 1
    max_labels: int | None = None
    fitted: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

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
            ValueError: the shapes differ, `y_prob` holds no probabilities, no row has a label, or
                there are not as many names as classes.
        """
        y_prob = check_fit(y_prob, y_true, class_names)
        found = search_threshold(y_true, y_prob)
        self.fitted = {"threshold": found.threshold, "class_names": list(class_names)}
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        """Label sets of the pictures given.

        Args:
            y_prob: `(num_samples, num_classes)` float in [0, 1], classes in the order fitted.

        Returns:
            `(num_samples, num_classes)` bool.

        Raises:
            ValueError: the rule is not fitted, or fitted on another number of classes; or
                `y_prob` holds no probabilities.
        """
        y_prob = check_predict(self, y_prob)
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
    fitted: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> GroupThreshold:
        y_prob = check_fit(y_prob, y_true, class_names)
        found = search_group_thresholds(
            y_true, y_prob, class_names, min_labels=self.min_labels, max_labels=self.max_labels
        )
        self.fitted = {
            "thresholds": {
                name: float(np.clip(level, 0.0, _NEVER)) for name, level in found.thresholds.items()
            },
            "limits": {name: list(limits) for name, limits in found.limits.items()},
            "class_names": list(class_names),
        }
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        y_prob = check_predict(self, y_prob)
        names, limits = self.fitted["class_names"], self.fitted["limits"]
        found = GroupThresholds(
            thresholds=self.fitted["thresholds"],
            score=float("nan"),
            certified=False,
            class_names=tuple(names),
            limits={name: (fewest, most) for name, (fewest, most) in limits.items()},
        )
        y_pred = found.decide(y_prob)
        # A picture without any label scores nothing: its highest one cannot lose, where allowed.
        allowed = np.array([limits[name.partition("::")[0]][1] > 0 for name in names])
        empty = np.flatnonzero(~y_pred.any(axis=1))
        scores = np.where(allowed, np.asarray(y_prob[empty], np.float32), -1.0)
        y_pred[empty, scores.argmax(axis=1)] = allowed.any()
        return y_pred


@dataclass
class ClassThreshold:
    """A threshold of its own for every class, by coordinate ascent from the best common one.

    Offered to be seen losing: with as many numbers as classes the rows fitted are learned by
    heart. `compare_rules` shows by how much, in its column `flatters`.

    Args:
        min_labels, max_labels: as in `GlobalThreshold`.
    """

    min_labels: int = 1
    max_labels: int | None = None
    fitted: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> ClassThreshold:
        y_prob = check_fit(y_prob, y_true, class_names)
        thresholds = fit_class_thresholds(y_true, y_prob)[1]
        self.fitted = {
            "thresholds": np.clip(thresholds, 0.0, _NEVER).tolist(),
            "class_names": list(class_names),
        }
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        y_prob = check_predict(self, y_prob)
        thresholds = np.array(self.fitted["thresholds"], np.float32)
        return decide(y_prob, thresholds, min_labels=self.min_labels, max_labels=self.max_labels)


@dataclass
class TopLabels:
    """The same number of labels for every picture, the best of 1 to 30 on the rows fitted."""

    fitted: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> TopLabels:
        y_prob = check_fit(y_prob, y_true, class_names)
        kept = top_scores(y_prob, _MOST_TOP)
        num_samples, most = kept.values.shape
        case = make_case(y_true, kept, check=False)
        # Columns ascend in a row, so that of equal scores the smaller column comes first.
        order = np.argsort(-kept.values, axis=1, kind="stable")
        is_true = np.zeros(kept.values.shape, bool)
        is_true.flat[case.positions] = True
        hits = np.take_along_axis(is_true, order, axis=1).cumsum(axis=1)
        scores = fbeta_of_counts(hits, case.num_true[:, None], np.arange(1, most + 1), 2.0)
        k = int(np.argmax(scores.mean(axis=0))) + 1
        self.fitted = {
            "k": k,
            "at_edge": k == most < y_prob.shape[1],
            "class_names": list(class_names),
        }
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        return keep_top(check_predict(self, y_prob), self.fitted["k"])


@dataclass
class NearMaximum:
    """All labels down to a share of the picture's highest probability, the best such share.

    Args:
        min_labels, max_labels: as in `GlobalThreshold`. The sixth team of iMet 2019 took 1 to 10,
            and a seventh as the share.
    """

    min_labels: int = 1
    max_labels: int | None = None
    fitted: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> NearMaximum:
        y_prob = np.asarray(check_fit(y_prob, y_true, class_names), np.float32)
        highest = y_prob.max(axis=1, keepdims=True)
        # A share of the maximum is one threshold for probabilities divided by it.
        shares = np.divide(y_prob, highest, out=np.ones_like(y_prob), where=highest > 0)
        found = search_threshold(y_true, shares).threshold
        # Multiplied back, a share can round to above the probability that it was made of.
        ratio = float(np.clip(found * (1 - 2**-22), np.finfo(np.float32).tiny, 1.0))
        self.fitted = {"ratio": ratio, "class_names": list(class_names)}
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        return keep_near_maximum(
            check_predict(self, y_prob),
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

    fitted: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> MeanCount:
        y_prob = check_fit(y_prob, y_true, class_names)
        threshold = search_threshold(y_true, y_prob).threshold
        # Without the label that `predict` gives to empty rows, which no threshold counts.
        num_labels = int(decide(y_prob, threshold, min_labels=0).sum())
        self.fitted = {
            "mean_labels": num_labels / len(y_prob),
            "class_names": list(class_names),
        }
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        y_prob = check_predict(self, y_prob)
        return decide(y_prob, threshold_for_count(y_prob, self.fitted["mean_labels"]))


def check_fit(y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> np.ndarray:
    """The probabilities as an array, once they, the labels and the names are found to agree."""
    y_prob = check_probabilities(y_prob)
    if len(class_names) != y_prob.shape[1]:
        raise ValueError(
            f"`class_names` must have one name a class, {y_prob.shape[1]}. "
            f"Received: {len(class_names)}"
        )
    if not make_case(y_true, y_prob, check=False).num_true.any():
        raise ValueError(
            f"`y_true` must hold labels to fit on. Received: none in {len(y_prob)} rows"
        )
    return y_prob


def check_predict(rule: Any, y_prob: np.ndarray) -> np.ndarray:
    """The probabilities as an array, once the rule is found fitted and on as many classes."""
    if not rule.fitted:
        raise ValueError(f"{type(rule).__name__} is not fitted yet: call `fit` first")
    y_prob = check_probabilities(y_prob)
    num_classes = len(rule.fitted["class_names"])
    if y_prob.shape[1] != num_classes:
        raise ValueError(
            f"{type(rule).__name__} was fitted on {num_classes} classes. "
            f"Received: {y_prob.shape[1]} classes"
        )
    return y_prob
