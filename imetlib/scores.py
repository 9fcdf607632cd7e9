"""The file that rooms exchange: ids, float32 logits and class names of a split."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imetlib.files import replacing

TOP = 128
# Logit of what a sparse file left out: a probability of 1e-9.
FLOOR = -20.7
SPACES = ("logit", "probability")


class NotFiniteError(ValueError):
    """A network gave logits that are no numbers."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What a network said of some pictures.

    Args:
        ids: `(num_samples,)` object array of str, no id twice.
        logits: `(num_samples, num_classes)` float32, finite.
        class_names: `num_classes` names; column j is attribute id j.
    """

    ids: np.ndarray
    logits: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self):
        shape = (len(self.ids), len(self.class_names))
        if self.logits.shape != shape:
            raise ValueError(
                f"`logits` must have shape {shape} (ids x classes). Received: {self.logits.shape}"
            )
        if not np.isfinite(self.logits).all():
            rows = np.flatnonzero(~np.isfinite(self.logits).all(axis=1))
            raise NotFiniteError(
                f"`logits` of {len(rows)} pictures are not finite, first {self.ids[rows[0]]}: "
                "the network has diverged; lower the learning rate"
            )
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("`ids` hold an id twice: a picture would count more than once")

    @property
    def y_prob(self):
        """`(num_samples, num_classes)` float32 probabilities."""
        return sigmoid(self.logits)

    def take(self, ids):
        """The same scores for `ids`, in this order.

        Raises:
            ValueError: an id has no scores.
        """
        position = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in ids if name not in position]
        if missing:
            raise ValueError(f"No scores of {len(missing)} ids, first: {', '.join(missing[:5])}")
        rows = np.array([position[name] for name in ids], dtype=np.int64)
        return Scores(self.ids[rows], self.logits[rows], self.class_names)


def mean_scores(members, *, weights=None, space="logit"):
    """Mean of networks, folds or views of the same pictures.

    Args:
        members: list of `Scores` with equal ids, in equal order, and class names.
        weights: one float >= 0 a member, with sum 1, or None for equal ones.
        space: what is averaged, "logit" or "probability". Logits let a sure member outvote
            doubtful ones, probabilities do not.

    Raises:
        ValueError: nothing to average, the members differ in ids or classes, the weights do not
            fit, or an unknown space.
    """
    if not members:
        raise ValueError("`members` must hold at least one Scores object")
    first = members[0]
    for member in members[1:]:
        if member.class_names != first.class_names or not np.array_equal(member.ids, first.ids):
            raise ValueError("Scores to average must have the same ids and classes, in one order")
    check_space(space)
    if space == "logit":
        logits = weighted_mean([member.logits for member in members], weights)
    else:
        logits = logits_of(weighted_mean([member.y_prob for member in members], weights))
    return Scores(first.ids, logits, first.class_names)


def weighted_mean(arrays, weights=None):
    """Mean of float32 arrays of one shape; `weights` as in `mean_scores`."""
    if weights is None:
        return np.mean(arrays, axis=0)
    given = np.asarray(weights, np.float64)
    if given.shape != (len(arrays),) or not (given >= 0).all() or abs(given.sum() - 1) > 1e-6:
        raise ValueError(
            f"`weights` must be {len(arrays)} numbers >= 0 with sum 1. Received: {weights}"
        )
    total = np.zeros(np.shape(arrays[0]), np.float32)
    for array, weight in zip(arrays, given, strict=True):
        if weight:
            total += np.float32(weight) * array
    return total


def check_space(space):
    """Raises where scores cannot be averaged in a space of this name."""
    if space not in SPACES:
        raise ValueError(f"`space` must be one of {', '.join(SPACES)}. Received: space={space!r}")


def sigmoid(logits):
    """Probabilities of logits, in their shape and dtype."""
    with np.errstate(over="ignore"):  # 1 / (1 + infinity) is the 0 that is meant
        return 1.0 / (1.0 + np.exp(-logits))


def logits_of(y_prob):
    """Float32 logits of probabilities, those of 0 and 1 at -20.7 and 20.7."""
    with np.errstate(divide="ignore"):
        logits = np.log(y_prob) - np.log1p(-y_prob)
    return np.clip(logits, FLOOR, -FLOOR).astype(np.float32, copy=False)


def save_scores(path, scores):
    """Write scores atomically as `.npz`.

    Up to 512 classes are kept whole, beyond that the 128 largest logits of each picture.

    Returns:
        `pathlib.Path` of the file.
    """
    path = Path(path)
    # Fixed-width text needs no pickle to be read back.
    arrays = {
        "ids": np.asarray(scores.ids, dtype=np.str_),
        "class_names": np.asarray(scores.class_names, dtype=np.str_),
    }
    logits = np.asarray(scores.logits, dtype=np.float32)
    if logits.shape[1] <= 4 * TOP:
        arrays["logits"] = logits
    else:
        columns = top_columns(logits, TOP)
        arrays["columns"] = columns
        arrays["top_logits"] = np.take_along_axis(logits, columns, axis=1)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def top_columns(values, size):
    """`(num_samples, size)` int32, ascending: the columns of the largest values of each row."""
    columns = np.argpartition(values, -size, axis=1)[:, -size:]
    return np.sort(columns, axis=1).astype(np.int32)


def load_class_names(path):
    """Class names of a file of scores, without reading the scores."""
    with np.load(path, allow_pickle=False) as arrays:
        return tuple(arrays["class_names"].tolist())


def load_scores(path):
    """Read what `save_scores` wrote; logits that were left out come back as -20.7.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no file of scores.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No scores at {path}. They are written by a training run: run notebook "
            "02_backbone_comparison or 08_submission first."
        )
    try:
        # Opened here, because `np.load` leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            ids = arrays["ids"].astype(object)
            class_names = tuple(arrays["class_names"].tolist())
            if "logits" in arrays:
                logits = arrays["logits"]
            else:
                logits = np.full((len(ids), len(class_names)), FLOOR, np.float32)
                np.put_along_axis(logits, arrays["columns"], arrays["top_logits"], axis=1)
    except (AttributeError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no file of scores: {error}") from error
    return Scores(ids, logits, class_names)
