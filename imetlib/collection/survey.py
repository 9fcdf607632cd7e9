"""One look at every picture of a split: sizes, grey pictures, hashes for near duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imetlib.collection.duplicates import hash_image
from imetlib.collection.images import ImageError, ImageFault, decode_image, map_in_threads
from imetlib.collection.tables import Collection


@dataclass(frozen=True, eq=False)
class PictureSurvey:
    """What `survey_pictures` saw, in the order of the ids.

    Args:
        ids: `(num_samples,)` object array of str.
        heights, widths: `(num_samples,)` int64. Pixels of the upright picture.
        is_grey: `(num_samples,)` bool. Whether no pixel has a colour.
        hashes: `(num_samples, 2)` uint64, see `imetlib.collection.duplicates.hash_image`.
    """

    ids: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    is_grey: np.ndarray
    hashes: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        """`(num_samples,)` float64. Height / width: above 1 is upright."""
        return self.heights / self.widths


def survey_pictures(
    collection: Collection, split: str = "train", *, workers: int = 2, progress: bool = False
) -> PictureSurvey:
    """Decodes each picture once and keeps only a few numbers of it.

    Args:
        collection: `Collection`.
        split: "train" or "test".
        workers: int >= 1. Threads that decode.
        progress: bool. Whether to show a bar.

    Returns:
        `PictureSurvey`.

    Raises:
        ImageError: naming every picture that cannot be read.
        CollectionError: a picture is missing.
    """
    ids = collection.train.ids if split == "train" else collection.test_ids
    paths = [collection.picture_path(split, sample_id) for sample_id in ids]

    def look(path):
        try:
            image = decode_image(path)
        except ImageError as error:
            return error.faults[0]
        first = image[..., :1]
        return (*image.shape[:2], bool((image == first).all()), hash_image(image))

    seen = list(map_in_threads(look, paths, workers=workers, progress=progress, label=split))
    faults = [one for one in seen if isinstance(one, ImageFault)]
    if faults:
        raise ImageError(faults)
    heights, widths, is_grey, hashes = zip(*seen, strict=True) if seen else ((), (), (), ())
    return PictureSurvey(
        np.asarray(ids, object),
        np.array(heights, np.int64),
        np.array(widths, np.int64),
        np.array(is_grey, bool),
        np.array(hashes, np.uint64).reshape(len(ids), -1) if seen else np.empty((0, 2), np.uint64),
    )
