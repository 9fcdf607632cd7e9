"""Where the motifs of a drawn museum are: the truth that attention is measured against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from imetlib.collection.csvfiles import CollectionError, read_table
from imetlib.collection.geometry import Preprocessing, picture_matrix
from imetlib.collection.images import read_size
from imetlib.collection.tables import Collection

MOTIFS_FILE = "motifs.csv"
MOTIF_COLUMNS = ("id", "attribute_id", "x0", "y0", "x1", "y1")


@dataclass(frozen=True, eq=False)
class Motifs:
    """Boxes of motifs, grouped into cases: one case for each attribute that a picture shows.

    A row of four birds is one case of "birds" with four boxes.

    Args:
        pictures: `(num_cases,)` int64, ascending. The picture of each case: its place in the
            ids that were asked for.
        columns: `(num_cases,)` int64. The attribute of each case, a column of the collection;
            -1 where a case is of no single attribute (`by_picture`).
        cases: `(num_boxes,)` int64, ascending. The case of each box; every case has one.
        boxes: `(num_boxes, 4)` float64 in [0, 1]. x0, y0, x1, y1 in fractions of the width and
            the height of the picture.
    """

    pictures: np.ndarray
    columns: np.ndarray
    cases: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.pictures)

    def boxes_of(self, case: int) -> np.ndarray:
        """`(num_boxes, 4)` float64, the boxes of one case."""
        return self.boxes[self.cases == range(len(self))[case]]

    def by_picture(self) -> Motifs:
        """One case a picture, with the boxes of all its attributes."""
        pictures, case_of = np.unique(self.pictures, return_inverse=True)
        columns = np.full(len(pictures), -1)
        return Motifs(pictures, columns, case_of[self.cases], self.boxes)

    def take(self, rows) -> Motifs:
        """Some of the cases: a slice, a mask, or ascending numbers."""
        rows = np.arange(len(self))[rows]
        kept = np.isin(self.cases, rows)
        cases = np.searchsorted(rows, self.cases[kept])
        return Motifs(self.pictures[rows], self.columns[rows], cases, self.boxes[kept])


def read_motifs(
    collection: Collection,
    ids: Iterable[str],
    *,
    split: str = "train",
    preprocessing: Preprocessing | None = None,
) -> Motifs:
    """The motifs of some pictures of a drawn museum.

    Args:
        collection: `Collection` with a table `motifs.csv` (see `draw_museum`).
        ids: ids of pictures of one split. A picture without motifs has no case.
        split: "train" or "test".
        preprocessing: `Preprocessing`, or None for places in the whole picture. With it, places
            in the picture that a network gets: "pad" moves boxes, and "crop" cuts them off;
            what is cut off whole is left out.

    Returns:
        `Motifs`, by picture in the order of `ids`, then by attribute.

    Raises:
        CollectionError: there is no such table, a row of it is no box inside its picture, or
            the collection lacks a picture.
    """
    path = collection.root / MOTIFS_FILE
    if not path.is_file():
        reason = (
            f"no {MOTIFS_FILE}; only a museum drawn by `draw_museum` knows where its motifs are"
        )
        raise CollectionError(collection.root, [reason])
    table = read_table(path, MOTIF_COLUMNS)
    rows_of_id = defaultdict(list)
    for row, sample_id in enumerate(table.columns["id"]):
        rows_of_id[sample_id].append(row)
    faults = list(table.faults)
    found = []
    for place, sample_id in enumerate(ids):
        picture = collection.picture_path(split, sample_id)
        if sample_id not in rows_of_id:
            continue
        height, width = read_size(picture)
        for row in rows_of_id[sample_id]:
            cells = [table.columns[name][row] for name in MOTIF_COLUMNS[1:]]
            if not _is_box(cells, collection.num_classes, height, width):
                faults.append(
                    f"{table.place(row)}: no box of an attribute in a picture of {width} x "
                    f"{height} pixels. Received: {', '.join(cells)}"
                )
                continue
            column, *corners = map(int, cells)
            box = _relative(corners, height, width, preprocessing)
            if box[0] < box[2] and box[1] < box[3]:
                found.append((place, column, *box))
    if faults:
        raise CollectionError(path, faults)
    values = np.array(sorted(found), np.float64).reshape(-1, 6)
    keys, cases = np.unique(values[:, :2].astype(np.int64), axis=0, return_inverse=True)
    return Motifs(keys[:, 0], keys[:, 1], cases.reshape(-1), values[:, 2:])


def _is_box(cells, num_classes, height, width):
    if not all(cell.isascii() and cell.isdigit() for cell in cells):
        return False
    column, x0, y0, x1, y1 = map(int, cells)
    return column < num_classes and x0 < x1 <= width and y0 < y1 <= height


def _relative(corners, height, width, preprocessing):
    """A box in pixels as fractions of the picture that is seen, clipped to it."""
    edges = np.array(corners, np.float64).reshape(2, 2)
    if preprocessing is None:
        return (edges / (width, height)).ravel()
    matrix = picture_matrix(height, width, preprocessing)
    # The matrix counts from the centre of the first pixel, boxes from its edge.
    edges = (edges - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    seen = edges / preprocessing.image_shape[1::-1]
    return np.clip(seen, 0.0, 1.0).ravel()
