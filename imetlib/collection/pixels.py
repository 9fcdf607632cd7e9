"""Pictures as the model gets them, as one array of uint8: nothing is left to decode or to warp.

An array of n pictures takes n * height * width * 3 bytes: 1.2 GB for 18,000 of 150 x 150 pixels.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imetlib.collection.geometry import Preprocessing, prepare
from imetlib.files import replacing
from imetlib.paths import need_space

PIXELS_FILE = "pixels.npy"
INDEX_FILE = "pixels.json"
# Rows that are written, checked and, after a kill, kept together.
BLOCK = 512


@dataclass(frozen=True, eq=False)
class Pixels:
    """Prepared pictures; stands wherever a `PictureCache` does.

    Args:
        ids: `(num_samples,)` object array of str.
        data: `(num_samples, height, width, 3)` uint8, an array or a memory map.
        preprocessing: `Preprocessing` that they went through.
    """

    ids: np.ndarray
    data: np.ndarray
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int) -> np.ndarray:
        """`(height, width, 3)` uint8 of a row."""
        return self.data[row]

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """`(len(ids),)` int64, rows of some ids in their order.

        Raises:
            ValueError: an id that is not there.
        """
        ids = list(ids)
        missing = [name for name in ids if name not in self._row_of]
        if missing:
            raise ValueError(
                f"{len(missing)} of the ids are not among these pictures: {missing[0]}"
            )
        return np.array([self._row_of[name] for name in ids], np.int64)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    def gather(self, rows, preprocessing: Preprocessing, *, flip: bool = False, out=None):
        """Rows as a batch.

        Args:
            rows: `(batch,)` int.
            preprocessing: what the batch is to have gone through.
            flip: mirror them.
            out: `(batch, height, width, 3)` uint8 that takes them, or None for a new array.

        Returns:
            `(batch, height, width, 3)` uint8.

        Raises:
            ValueError: these pictures went through another preprocessing.
            IndexError: a row that is not there.
        """
        if preprocessing != self.preprocessing:
            raise ValueError(
                f"These pictures were prepared for {self.preprocessing}, and are asked for as "
                f"{preprocessing}: prepare them again."
            )
        rows = np.asarray(rows)
        if out is None:
            out = np.empty((len(rows), *self.data.shape[1:]), np.uint8)
        if flip:
            for slot, row in enumerate(rows):
                cv2.flip(self.data[row], 1, dst=out[slot])
            return out
        if np.any((rows < 0) | (rows >= len(self))):
            raise IndexError(f"Rows must be in [0, {len(self)}). Received: {rows}")
        # With the default mode NumPy fills another array first.
        np.take(self.data, rows, axis=0, out=out, mode="clip")
        return out


def hold_pictures(
    pictures: Any, rows: np.ndarray, preprocessing: Preprocessing, *, max_bytes: int = 2**30
) -> Any:
    """Prepare rows of a picture cache in memory, for those who read them again and again.

    Args:
        pictures: `PictureCache`.
        rows: `(num_samples,)` int.
        preprocessing: `Preprocessing`.
        max_bytes: int. More memory than that is not taken.

    Returns:
        `Pixels` of these rows, in their order; `pictures` itself where they would take more.
    """
    shape = (len(rows), *preprocessing.image_shape)
    if np.prod(shape, dtype=np.int64) > max_bytes:
        return pictures
    data = np.empty(shape, np.uint8)
    _fill(data, pictures, np.asarray(rows), preprocessing, workers=2)
    return Pixels(pictures.ids[rows], data, preprocessing)


def build_pixels(
    pictures: Any, preprocessing: Preprocessing, folder: str | Path, *, workers: int = 2
) -> Pixels:
    """Prepare a whole picture cache on the disk, or open what is there already.

    A build that was ended goes on after the last whole block. What another cache or another
    preprocessing left in the folder is built anew.

    Args:
        pictures: `PictureCache`.
        preprocessing: `Preprocessing`.
        folder: made where missing.
        workers: int >= 1, threads.

    Returns:
        `Pixels`, mapped from the disk.

    Raises:
        OSError: they would not fit on the disk.
        ImageError: a picture of the cache cannot be read.
    """
    folder = Path(folder)
    identity = _identity_of(pictures, preprocessing)
    checksums = _read_index(folder, identity)
    shape = (len(pictures), *preprocessing.image_shape)
    blocks = -(-len(pictures) // BLOCK)
    if not checksums:
        need_space(folder, int(np.prod(shape)), f"{len(pictures):,} pictures as uint8")
        folder.mkdir(parents=True, exist_ok=True)
        # The index first: without one a file of another size is nobody's.
        (folder / INDEX_FILE).unlink(missing_ok=True)
        np.lib.format.open_memmap(folder / PIXELS_FILE, "w+", np.uint8, shape).flush()
    data = np.load(folder / PIXELS_FILE, mmap_mode="r+")
    for block in range(len(checksums), blocks):
        rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(pictures)))
        part = data[rows[0] : rows[-1] + 1]
        _fill(part, pictures, rows, preprocessing, workers)
        data.flush()
        checksums.append(zlib.crc32(part))
        _write_index(folder, identity, checksums)
    return Pixels(pictures.ids, np.load(folder / PIXELS_FILE, mmap_mode="r"), preprocessing)


def verify_pixels(folder: str | Path) -> list[str]:
    """Compare every block on the disk with its checksum.

    Returns:
        list of str, the blocks that have changed; empty where all is well.

    Raises:
        ValueError: the folder holds no prepared pictures, or half of them.
    """
    folder = Path(folder)
    try:
        found = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        data = np.load(folder / PIXELS_FILE, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no prepared pictures ({error})") from None
    starts = range(0, len(data), BLOCK)
    if len(found["checksums"]) != len(starts):
        raise ValueError(f"{folder} was left half made: build it again, it goes on")
    return [
        f"rows {start} to {min(start + BLOCK, len(data)) - 1}"
        for start, checksum in zip(starts, found["checksums"], strict=True)
        if zlib.crc32(data[start : start + BLOCK]) != checksum
    ]


def _fill(data, pictures, rows, preprocessing, workers):
    def fill(first):
        buffer = bytearray(pictures.buffer_bytes)
        for place in range(first, len(rows), workers):
            picture = pictures.read(int(rows[place]), buffer)
            prepare(picture, preprocessing, out=data[place])

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, range(workers)))


def _identity_of(pictures, preprocessing) -> dict[str, Any]:
    """What makes prepared pictures those of a cache."""
    digest = hashlib.sha256("\n".join(pictures.ids).encode())
    digest.update(pictures.checksums.tobytes())
    return {"pictures": digest.hexdigest(), "preprocessing": preprocessing.to_dict()}


def _read_index(folder, identity) -> list[int]:
    """Checksums of the blocks that are done; [] where nothing of this identity is."""
    try:
        found = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        data = np.load(folder / PIXELS_FILE, mmap_mode="r")
    except (OSError, ValueError):
        return []
    if found.get("identity") != json.loads(json.dumps(identity)):
        return []
    done = [int(checksum) for checksum in found["checksums"]]
    for block, checksum in enumerate(done):
        if zlib.crc32(data[block * BLOCK : (block + 1) * BLOCK]) != checksum:
            return done[:block]
    return done


def _write_index(folder, identity, checksums):
    with replacing(folder / INDEX_FILE) as temporary:
        text = json.dumps({"identity": identity, "checksums": checksums})
        temporary.write_text(text, encoding="utf-8")
