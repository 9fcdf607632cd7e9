"""The rule that computes with probabilities: calibrate, then the set of highest expected F2.

It has the methods of the rules in `imetlib.decisions.rules`, and says what it expects of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.calibration import IsotonicScaling, PlattScaling, fit_isotonic, fit_platt
from imetlib.decisions.exclusive import find_exclusive_groups
from imetlib.decisions.label_sets import dense_labels
from imetlib.decisions.per_image import METHODS, ExpectedSets, expected_fbeta_sets
from imetlib.decisions.rules import check_fit, check_predict

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

CALIBRATIONS = ("none", "platt", "platt by group", "isotonic", "isotonic by group")


@dataclass
class ExpectedFBeta:
    """The set of highest expected F2 of each picture, after calibration.

    Args:
        calibration: "none", "platt", "isotonic", or one of the two "by group". An expectation
            over raw scores can lose far more than it gains.
        method: "exact" or "ratio", see `imetlib.decisions.per_image.expected_fbeta_sets`.
        exclusive: let groups of which no row fitted has two labels be exclusive; "exact" only.

    Raises:
        ValueError: an unknown calibration or method, or `exclusive` with "ratio".

    Example:
        >>> y_prob = np.array([[0.9, 0.5, 0.2], [0.8, 0.6, 0.1]])
        >>> rule = ExpectedFBeta("none").fit(y_prob, [[1, 1, 0], [1, 0, 0]], ["a", "b", "c"])
        >>> rule.predict(y_prob).astype(int), rule.expect(y_prob).round(3)
        (array([[1, 1, 1],
               [1, 1, 0]]), array([0.851, 0.875]))
    """

    calibration: str = "platt"
    method: str = "ratio"
    exclusive: bool = False
    fitted: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("calibration", self.calibration, CALIBRATIONS),
            ("method", self.method, METHODS),
        ):
            if value not in known:
                raise ValueError(f"Unknown {name} {value!r}. Known: {', '.join(known)}")
        if self.exclusive and self.method != "exact":
            raise ValueError(
                '`exclusive` needs method="exact": exclusive groups do not change the sums that '
                f"the ratio rule looks at. Received: method={self.method!r}"
            )

    def fit(self, y_prob: np.ndarray, y_true: Labels, class_names: Sequence[str]) -> ExpectedFBeta:
        """As in `GlobalThreshold`; calibration needs true and false labels."""
        y_prob = check_fit(y_prob, y_true, class_names)
        kind, _, by_group = self.calibration.partition(" ")
        names = class_names if by_group else None
        fitted: dict[str, Any] = {"calibration": None, "exclusive": []}
        if kind == "platt":
            platt = fit_platt(y_true, y_prob, class_names=names)
            fitted["calibration"] = {name: list(pair) for name, pair in platt.pairs.items()}
        elif kind == "isotonic":
            lines = fit_isotonic(y_true, y_prob, class_names=names).points
            fitted["calibration"] = {
                name: [side.tolist() for side in line] for name, line in lines.items()
            }
        if self.exclusive:
            dense = dense_labels(y_true, y_prob.shape)
            fitted["exclusive"] = find_exclusive_groups(dense, class_names)
        self.fitted = fitted | {"class_names": list(class_names)}
        return self

    def predict(self, y_prob: np.ndarray) -> np.ndarray:
        """As in `GlobalThreshold`; at least one label a picture."""
        return self._sets(y_prob).y_pred

    def expect(self, y_prob: np.ndarray) -> np.ndarray:
        """`(num_samples,)` float64, the F2 that the rule itself expects of each row.

        Its mean is an estimate of the score without labels, as good as the calibration is and as
        the labels are independent: set it beside the realised score of other rows first.
        """
        return self._sets(y_prob).expected

    def calibrate(self, y_prob: np.ndarray) -> np.ndarray:
        """`(num_samples, num_classes)` float32, the probabilities that the rule believes."""
        y_prob = check_predict(self, y_prob)
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

    def _sets(self, y_prob: np.ndarray) -> ExpectedSets:
        return expected_fbeta_sets(
            self.calibrate(y_prob),
            method=self.method,
            class_names=self.fitted["class_names"],
            exclusive=self.fitted["exclusive"],
        )
