"""Targets for a student network: the labels, and what a teacher saw where no label is.

Labels of art are incomplete: a picture of a horse without `tag::horses` is a wrong negative. A
teacher's probability softens it, while given labels stay whole. The ninth place of iMet 2019
trained its students on max(label, .7 * teacher).

**The teacher's probabilities must be out of fold**, each from a network that was not trained on
that picture. A network knows the pictures of its training by heart: there it repeats the labels,
wrong negatives included, so the targets would say nothing new; and through its confidence on
them, which it has on no other picture, the student learns to be as sure. Where a fold is held out
for the score, the teachers must not have seen it either.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.decisions.cases import check_scores, make_case
from imetlib.files import replacing
from imetlib.scores import TOP, top_columns

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels


@dataclass(frozen=True, eq=False)
class Targets:
    """What a student is trained on.

    Args:
        ids: `(num_samples,)` object array of str, no id twice.
        values: `(num_samples, num_classes)` float32 in [0, 1].
        class_names: `num_classes` names; column j is attribute id j.
    """

    ids: np.ndarray
    values: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self):
        shape = (len(self.ids), len(self.class_names))
        if self.values.shape != shape:
            raise ValueError(
                f"`values` must have shape {shape} (ids x classes). Received: {self.values.shape}"
            )
        _check_probabilities(self.values, "values")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("`ids` hold an id twice: a picture would be trained on more than once")


def distillation_targets(y_true: Labels, y_prob: np.ndarray, *, share: float = 0.7) -> np.ndarray:
    """The larger of the label and a share of the teacher's probability.

    Args:
        y_true: `LabelTable`, `(num_samples, num_classes)` array of 0/1, or a sequence with one
            array of columns a sample.
        y_prob: `(num_samples, num_classes)` float in [0, 1], **out of fold** (see above).
        share: float in [0, 1]. 0 leaves the labels; with 1 a sure teacher adds whole labels.

    Returns:
        `(num_samples, num_classes)` float32 in [0, 1]: 1 at the labels, at most `share` elsewhere.

    Raises:
        ValueError: the shapes differ, or a probability or `share` is not in [0, 1].

    Example:
        >>> distillation_targets(np.array([[1, 0, 0]]), np.array([[0.2, 0.5, 0.0]]))
        array([[1.  , 0.35, 0.  ]], dtype=float32)
    """
    if not 0 <= share <= 1:
        raise ValueError(f"`share` must be in [0, 1]. Received: share={share}")
    y_prob = _check_probabilities(y_prob, "y_prob")
    case = make_case(y_true, y_prob, check=False)
    targets = np.multiply(y_prob, np.float32(share), dtype=np.float32)
    np.put(targets, case.positions, 1.0)
    return targets


def write_targets(path: str | Path, targets: Targets) -> Path:
    """Writes targets whole or not at all, as `.npz`.

    Up to 512 classes are kept whole; beyond that the 128 largest of each picture, and more where
    a picture has more labels: none is lost.

    Returns:
        Path of the file.
    """
    path = Path(path)
    values = np.asarray(targets.values, np.float32)
    arrays: dict[str, Any] = {
        "ids": np.asarray(targets.ids, np.str_),
        "class_names": np.asarray(targets.class_names, np.str_),
    }
    if values.shape[1] <= 4 * TOP:
        arrays["targets"] = values
    else:
        most = int(np.count_nonzero(values == 1, axis=1).max(initial=0))
        columns = top_columns(values, max(TOP, most))
        arrays["columns"] = columns
        arrays["top_targets"] = np.take_along_axis(values, columns, axis=1)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def read_targets(path: str | Path) -> Targets:
    """Reads what `write_targets` wrote; values that were left out come back as 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no file of targets.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No targets at {path}. Write them with write_targets first.")
    try:
        # Opened here, because `np.load` leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            ids = arrays["ids"].astype(object)
            class_names = tuple(arrays["class_names"].tolist())
            if "targets" in arrays:
                values = arrays["targets"]
            else:
                values = np.zeros((len(ids), len(class_names)), np.float32)
                np.put_along_axis(values, arrays["columns"], arrays["top_targets"], axis=1)
            return Targets(ids, values, class_names)
    except (
        AttributeError,
        IndexError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(f"{path} is no file of targets: {error}") from error


def _check_probabilities(values: np.ndarray, name: str) -> np.ndarray:
    values = check_scores(values)
    low, high = values.min(), values.max()
    if low < 0 or high > 1:
        raise ValueError(f"`{name}` must be in [0, 1]. Received: values from {low} to {high}")
    return values
