"""The pocket museum: a collection drawn by code, so that everything runs without a download.

The folder has the form of any collection (`train.csv`, `labels.csv`, `sample_submission.csv`,
`specimens.csv`, `train/`, `test/`) and two tables that only a drawn museum can have: the truth of
the test pictures and the position of every motif.
"""

import csv
from pathlib import Path

import cv2
import numpy as np

from imetlib.collection.images import map_in_threads
from imetlib.collection.museum_catalogue import ATTRIBUTE_IDS, CLASS_NAMES
from imetlib.collection.museum_drawing import draw_picture, motif_boxes
from imetlib.collection.museum_specs import (
    MAX_PICTURES,
    MIN_PICTURES,
    PictureSpec,
    check_integer,
    forced_names,
    is_test_picture,
    picture_id,
    picture_spec,
)
from imetlib.files import making_folder

__all__ = ["CLASS_NAMES", "PictureSpec", "draw_museum", "draw_picture", "motif_boxes",
           "picture_id", "picture_spec"]  # fmt: skip

MAX_TEST_FRACTION = 0.5
# Raised when the drawing changes, so that a museum drawn before is not taken for a new one.
DRAWING_VERSION = 1
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 32, 1024


def draw_museum(
    folder: str | Path,
    *,
    size: int = 1_200,
    image_size: int = 300,
    seed: int = 0,
    test_fraction: float = 0.25,
    label_noise: float = 0.0,
    progress: bool = False,
    workers: int = 2,
) -> Path:
    """Draw a collection of museum objects into a new folder.

    Picture i depends on `seed` and i alone: a museum of 400 pictures holds the first 400 of one
    of 1,200, whatever the number of workers. The folder appears when it is complete, never in
    part.

    Args:
        folder: path that does not exist, or an empty folder.
        size: int from 200 to 109,237. Pictures of both splits together.
        image_size: int from 32 to 1,024. The shorter side in pixels.
        seed: int >= 0.
        test_fraction: float from 0 to 0.5. At 0 there is no test split.
        label_noise: float, 0 <= noise < 1. Probability with which a true label of a train picture
            is missing from `train.csv`; one label always stays, and each attribute keeps a picture.
        progress: bool. Show a bar.
        workers: int >= 1. Threads that draw.

    Returns:
        `Path` of the folder, with `train.csv`, `labels.csv`, `sample_submission.csv`,
        `test_labels.csv` (the truth of the test pictures), `specimens.csv` (train pictures; two
        views of one object share a specimen), `motifs.csv` (`id,attribute_id,x0,y0,x1,y1`, the
        box of every motif in pixels, x1 and y1 exclusive), and PNG pictures in `train/`, `test/`.

    Raises:
        ValueError: an argument is out of range, or the folder is not empty.
    """
    folder = Path(folder)
    _check_arguments(folder, size, image_size, seed, test_fraction, label_noise, workers)
    splits = (
        ("train", "test")
        if any(is_test_picture(i, test_fraction) for i in range(size))
        else ("train",)
    )
    with making_folder(folder) as partial:
        for split in splits:
            (partial / split).mkdir(parents=True)

        def draw(index):
            split = "test" if is_test_picture(index, test_fraction) else "train"
            return _write_picture(partial / split, seed, index, image_size)

        indices = range(size)
        drawn = list(
            map_in_threads(
                draw, indices, workers=workers, progress=progress, label="drawing the museum"
            )
        )
        _write_tables(partial, drawn, test_fraction, label_noise)
    return folder


def noisy_labels(spec: PictureSpec, label_noise: float) -> list[int]:
    """The labels that `train.csv` gives a picture when each is missing with some probability.

    Args:
        spec: the picture.
        label_noise: float, 0 <= noise < 1.

    Returns:
        Attribute ids, ascending, at least one. Two views of an object miss the same labels.
    """
    labels = np.array(spec.labels)
    rng = np.random.default_rng([spec.seed, spec.object_index, 1])
    chance = rng.random(len(labels))
    kept = chance >= label_noise
    kept |= np.isin(labels, [ATTRIBUTE_IDS[name] for name in forced_names(spec.object_index)])
    kept[chance.argmax()] = True
    return labels[kept].tolist()


def _check_arguments(folder, size, image_size, seed, test_fraction, label_noise, workers):
    check_integer("size", size, MIN_PICTURES, MAX_PICTURES)
    check_integer("image_size", image_size, MIN_IMAGE_SIZE, MAX_IMAGE_SIZE)
    check_integer("seed", seed, 0)
    check_integer("workers", workers, 1)
    if not 0 <= test_fraction <= MAX_TEST_FRACTION:
        raise ValueError(
            f"`test_fraction` must be from 0 to {MAX_TEST_FRACTION}. "
            f"Received: test_fraction={test_fraction!r}"
        )
    if not 0 <= label_noise < 1:
        raise ValueError(
            f"`label_noise` must be at least 0 and below 1. Received: label_noise={label_noise!r}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists and is not an empty folder; nothing was written. "
            "Give a new folder, or delete this one."
        )


def _write_picture(folder, seed, index, image_size):
    """Draw one picture into `folder`; returns its spec and motif boxes."""
    spec = picture_spec(seed, index)
    picture = draw_picture(spec, image_size)
    if picture.ndim == 3:
        picture = picture[..., ::-1]
    # Level 1 makes files about a tenth larger than level 9, five to fifteen times as fast.
    _, code = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    (folder / f"{picture_id(seed, index)}.png").write_bytes(code)
    return spec, motif_boxes(spec, image_size)


def _write_tables(folder, drawn, test_fraction, label_noise):
    """Write all tables; `drawn` has the spec and the motif boxes of each picture."""
    rows = [(picture_id(spec.seed, spec.index), spec, boxes) for spec, boxes in drawn]
    rows.sort(key=lambda row: row[0])
    train, test = [], []
    for key, spec, _ in rows:
        (test if is_test_picture(spec.index, test_fraction) else train).append((key, spec))
    _write_csv(folder / "labels.csv", ("attribute_id", "attribute_name"), enumerate(CLASS_NAMES))
    _write_csv(
        folder / "train.csv",
        ("id", "attribute_ids"),
        ((key, _joined(noisy_labels(spec, label_noise))) for key, spec in train),
    )
    _write_csv(
        folder / "specimens.csv",
        ("id", "specimen"),
        ((key, spec.object_index) for key, spec in train),
    )
    _write_csv(
        folder / "motifs.csv",
        ("id", "attribute_id", "x0", "y0", "x1", "y1"),
        ((key, *box) for key, _, boxes in rows for box in boxes),
    )
    if test:
        header = ("id", "attribute_ids")
        _write_csv(folder / "sample_submission.csv", header, ((key, "0 1 2") for key, _ in test))
        truth = ((key, _joined(spec.labels)) for key, spec in test)
        _write_csv(folder / "test_labels.csv", header, truth)


def _joined(labels):
    return " ".join(map(str, labels))


def _write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
