"""What is known of one picture: what was decided, what is true, where the network looked.

`imetlib.training.inspection` gathers it from a run, `imetlib.figures_inspection` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A training picture that is near an inspected one.

    Args:
        id: str.
        picture: `(height, width, 3)` uint8.
        columns: `(num_labels,)` int, its attributes.
        cosine: float in [-1, 1], of the features of both.
    """

    id: str
    picture: np.ndarray
    columns: np.ndarray
    cosine: float


@dataclass(frozen=True, eq=False)
class Inspection:
    """One picture and all that a network and its rule say of it.

    Args:
        id: str.
        picture: `(height, width, 3)` uint8.
        class_names: `num_classes` names `group::name`.
        y_prob: `(num_classes,)` float in [0, 1].
        y_pred: `(num_classes,)` bool, the labels that were chosen.
        y_true: `(num_classes,)` bool, or None where the truth is not known.
        maps: name to `(height, width)` float, evenly over `seen`; empty for a run without.
        seen: `(height, width, 3)` uint8, the picture as the network gets it; None without maps.
        neighbours: `Neighbour`s, nearest first.

    Raises:
        ValueError: the lengths differ, or maps come without the picture they lie on.
    """

    id: str
    picture: np.ndarray
    class_names: Sequence[str]
    y_prob: np.ndarray
    y_pred: np.ndarray
    y_true: np.ndarray | None = None
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    seen: np.ndarray | None = None
    neighbours: Sequence[Neighbour] = ()

    def __post_init__(self) -> None:
        shapes = {"y_prob": np.shape(self.y_prob), "y_pred": np.shape(self.y_pred)}
        if self.y_true is not None:
            shapes["y_true"] = np.shape(self.y_true)
        for name, shape in shapes.items():
            if shape != (len(self.class_names),):
                raise ValueError(
                    f"`{name}` must have one entry a class, {len(self.class_names)}. "
                    f"Received: shape {shape}"
                )
        if self.maps and self.seen is None:
            raise ValueError("`maps` need `seen`, the picture that they lie on")

    def verdict(self, column: int) -> str:
        """ "right", "wrong", "missing" or "" (neither chosen nor true); "chosen" without truth."""
        if self.y_true is None:
            return "chosen" if self.y_pred[column] else ""
        if self.y_pred[column]:
            return "right" if self.y_true[column] else "wrong"
        return "missing" if self.y_true[column] else ""

    def count(self, verdict: str) -> int:
        """Number of attributes with a verdict."""
        return sum(self.verdict(column) == verdict for column in range(len(self.class_names)))


def shown_columns(inspection: Inspection, most: int) -> np.ndarray:
    """The attributes that matter for a picture: chosen or true ones, then the next probable.

    Args:
        inspection: `Inspection`.
        most: int >= 1. Of more chosen or true ones the surest are kept.

    Returns:
        `(at most most,)` int64, highest probability first.

    Example:
        >>> y_prob = np.array([0.1, 0.9, 0.2, 0.01])
        >>> truth = np.array([False, False, False, True])
        >>> names, picture = ["a::b", "a::c", "a::d", "a::e"], np.zeros((2, 2, 3), np.uint8)
        >>> shown_columns(Inspection("x", picture, names, y_prob, y_prob > 0.5, truth), 3)
        array([1, 2, 3])
    """
    matters = np.array(inspection.y_pred, bool)
    if inspection.y_true is not None:
        matters |= np.asarray(inspection.y_true, bool)
    y_prob = np.asarray(inspection.y_prob)
    kept = np.lexsort((np.arange(len(y_prob)), -y_prob, ~matters))[:most]
    return kept[np.argsort(-y_prob[kept], kind="stable")].astype(np.int64)
