"""The highest scores of each row: what decisions need of a prediction over many classes.

Of 1,103 scores a row, the top 128 take an eighth of the memory, and the thresholds that F-beta
asks for lie far above the last of them. `search_threshold` says whether they do.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imetlib.files import replacing
from imetlib.scores import FLOOR, TOP

_ROWS_TOGETHER = 256


@dataclass(frozen=True, eq=False)
class TopScores:
    """The k highest scores of each row, with their columns.

    Args:
        columns: `(num_samples, k)` int32 in [0, num_classes), ascending within a row.
        values: `(num_samples, k)` float32, finite, any range. Every score that a row left out
            is at or below its smallest here.
        num_classes: int >= k.

    Raises:
        ValueError: the shapes differ, there are no scores, or columns do not ascend.
    """

    columns: np.ndarray
    values: np.ndarray
    num_classes: int

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.columns.shape != self.values.shape or not self.values.size:
            raise ValueError(
                "`columns` and `values` must both be (num_samples, k). "
                f"Received: shapes {self.columns.shape} and {self.values.shape}"
            )
        ascending = bool((self.columns[:, 1:] > self.columns[:, :-1]).all())
        lowest, highest = int(self.columns[:, 0].min()), int(self.columns[:, -1].max())
        if not ascending or lowest < 0 or highest >= self.num_classes:
            raise ValueError(
                f"`columns` must ascend within a row, in 0..{self.num_classes - 1}. Received: "
                f"{lowest} to {highest}, {'ascending' if ascending else 'not ascending'}"
            )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray | slice) -> TopScores:
        """The scores of some rows: a slice, a mask, or row numbers."""
        return TopScores(self.columns[rows], self.values[rows], self.num_classes)

    @property
    def shape(self) -> tuple[int, int]:
        """(num_samples, num_classes), as of the dense scores."""
        return len(self.values), self.num_classes

    @property
    def least(self) -> float:
        """Above this threshold no score was left out; -inf where all are kept."""
        if self.values.shape[1] == self.num_classes:
            return -np.inf
        return float(self.values.min(axis=1).max())

    def dense(self, fill: float = FLOOR) -> np.ndarray:
        """`(num_samples, num_classes)` float32 with `fill` for what was left out."""
        scores = np.full(self.shape, fill, np.float32)
        np.put_along_axis(scores, self.columns.astype(np.int64), self.values, axis=1)
        return scores


def top_scores(y_prob: np.ndarray, k: int = TOP) -> TopScores:
    """The k highest scores of each row; of equal ones the smaller column.

    Args:
        y_prob: `(num_samples, num_classes)` float, any range. Kept as float32.
        k: int >= 1. All are kept where there are no more classes.

    Returns:
        `TopScores`.

    Raises:
        ValueError: not a matrix, a score is not finite, or `k` < 1.

    Example:
        >>> top_scores(np.array([[0.1, 0.7, 0.2, 0.7]]), k=2).columns
        array([[1, 3]], dtype=int32)
    """
    return collect_top_scores([np.asarray(y_prob)], k)


def collect_top_scores(batches: Iterable[np.ndarray], k: int = TOP) -> TopScores:
    """`top_scores` of rows that arrive in batches: the dense scores are never held together.

    Args:
        batches: arrays `(batch_size, num_classes)`, as a network predicts them; a generator will
            do.
        k: as in `top_scores`.

    Returns:
        `TopScores` of all rows, in order.

    Raises:
        ValueError: as `top_scores`, no batches, or batches of different widths.

    Example:
        >>> collect_top_scores((np.eye(3)[row : row + 1] for row in range(3)), k=1).columns.ravel()
        array([0, 1, 2], dtype=int32)
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1. Received: k={k}")
    columns, values, widths, num_rows = [], [], [], 0
    for batch in batches:
        batch = np.asarray(batch)
        if batch.ndim != 2 or not batch.size:
            raise ValueError(
                f"`y_prob` must be (num_samples, num_classes). Received: shape {batch.shape}"
            )
        widths.append(batch.shape[1])
        if widths[-1] != widths[0]:
            raise ValueError(
                f"Every batch must have {widths[0]} classes. Received: one with {widths[-1]}"
            )
        for start in range(0, len(batch), _ROWS_TOGETHER):
            block = np.asarray(batch[start : start + _ROWS_TOGETHER], np.float32)
            if not np.isfinite(block).all():
                row, column = np.argwhere(~np.isfinite(block))[0]
                raise ValueError(
                    f"`y_prob` must be finite. Received: {block[row, column]} in row "
                    f"{num_rows + row}, column {column}"
                )
            chosen = _choose_columns(block, min(k, widths[0]))
            columns.append(chosen.astype(np.int32))
            values.append(np.take_along_axis(block, chosen, axis=1))
            num_rows += len(block)
    if not widths:
        raise ValueError("`batches` holds no rows: nothing was predicted")
    return TopScores(np.concatenate(columns), np.concatenate(values), widths[0])


def write_top_scores(
    path: Path | str, scores: TopScores, ids: Sequence[str], class_names: Sequence[str]
) -> Path:
    """Write logits as the sparse file that `imetlib.scores.load_scores` reads.

    Args:
        path: file, `.npz`; replaced whole.
        scores: `TopScores` of logits.
        ids: one str a row, none twice.
        class_names: `num_classes` names.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        ValueError: ids or names do not match the scores.
    """
    if (len(ids), len(class_names)) != scores.shape or len(set(ids)) != len(ids):
        raise ValueError(
            f"`scores` of shape {scores.shape} need as many different ids and class names. "
            f"Received: {len(set(ids))} different ids of {len(ids)}, {len(class_names)} names"
        )
    path = Path(path)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            ids=np.asarray(ids, dtype=np.str_),
            class_names=np.asarray(class_names, dtype=np.str_),
            columns=scores.columns,
            top_logits=scores.values,
        )
    return path


def read_top_scores(path: Path | str) -> tuple[TopScores, np.ndarray, tuple[str, ...]]:
    """What `write_top_scores` wrote, or `save_scores` of more than 512 classes.

    Returns:
        `TopScores` of logits, the ids as an object array, and the class names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no sparse file of scores.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            class_names = tuple(arrays["class_names"].tolist())
            scores = TopScores(arrays["columns"], arrays["top_logits"], len(class_names))
            return scores, arrays["ids"].astype(object), class_names
    except FileNotFoundError:
        raise
    except (AttributeError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no sparse file of scores: {error}") from error


def find_in_rows(
    columns: np.ndarray, rows: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places of columns in rows that ascend, and whether they are there at all."""
    width = columns.shape[1]
    places = np.zeros(len(rows), np.int64)
    # Binary search of all at once, by steps of falling powers of two.
    step = 1 << width.bit_length()
    while step := step >> 1:
        ahead = places + step
        inside = ahead <= width
        inside[inside] = columns[rows[inside], ahead[inside] - 1] < wanted[inside]
        places = np.where(inside, ahead, places)
    found = places < width
    found[found] = columns[rows[found], places[found]] == wanted[found]
    return places, found


def _choose_columns(block: np.ndarray, k: int) -> np.ndarray:
    """`(num_rows, k)` int64, ascending: the columns of the k highest."""
    num_rows, num_classes = block.shape
    last = np.partition(block, num_classes - k, axis=1)[:, num_classes - k, None]
    kept = block >= last
    for row in np.flatnonzero(kept.sum(axis=1) > k):
        equal = np.flatnonzero(block[row] == last[row])
        surplus = int(kept[row].sum()) - k
        kept[row, equal[-surplus:]] = False
    return np.flatnonzero(kept).reshape(num_rows, k) % num_classes
