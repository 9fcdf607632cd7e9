"""The files of a picture cache, and reading pictures from them.

A cache is a folder with `pictures.bin`, JPEG files (quality 95, no chroma subsampling) one after
another, and `index.npz`, where each of them lies and which file it came from.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

try:
    import simplejpeg  # a sixth faster than OpenCV
except ImportError:
    simplejpeg = None

from imetlib.collection.csvfiles import list_faults
from imetlib.collection.images import ImageError, ImageFault, shrink

PICTURES_FILE = "pictures.bin"
INDEX_FILE = "index.npz"
MAX_SIDE = 65_500  # of a JPEG, in pixels

# Part of every index. Raise it when the same source would give other pixels.
FORMAT_VERSION = 1
_ENCODING = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


@dataclass(frozen=True, eq=False)
class PictureCache:
    """Pictures of one split, ready to be read in any order and from several threads.

    Args:
        ids: `(num_samples,)` object array of str, in the order of the collection.
        data: `(num_bytes,)` uint8, an array or a memory map of `pictures.bin`.
        offsets: `(num_samples + 1,)` int64. Picture i is `data[offsets[i]:offsets[i + 1]]`.
        heights, widths: `(num_samples,)` int32, pixels of the shrunk pictures; 0 where the
            source could not be read.
        checksums: `(num_samples,)` uint32. CRC-32 of each picture's bytes.
        min_side: int. Pixels; the shorter side of every picture is at most this long.
        faults: the sources that could not be read (only with `on_bad="report"`). Their ids keep
            their rows, except in a cache from `only_readable`.
        folder: Path or None. Where the cache lies, None in memory.
    """

    ids: np.ndarray
    data: np.ndarray
    offsets: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    checksums: np.ndarray
    min_side: int
    faults: tuple[ImageFault, ...] = ()
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def readable(self) -> np.ndarray:
        """`(num_samples,)` bool. False where the source could not be read."""
        return self.heights > 0

    def read(self, row: int, buffer: bytearray | None = None) -> np.ndarray:
        """Decodes one picture.

        Args:
            row: int in `[0, len(cache))`.
            buffer: `buffer_bytes` or more that the pixels may be put into, so that a reader of
                many pictures needs no new memory for each; they last until its next use.

        Returns:
            `(height, width, 3)` uint8, RGB.

        Raises:
            ImageError: the source could not be read when the cache was built, or the bytes have
                changed since.
        """
        row = range(len(self))[row]
        encoded = self.data[self.offsets[row] : self.offsets[row + 1]]
        if not self.heights[row]:
            reason = "its source could not be read when the cache was built"
            raise ImageError([ImageFault(f"id {self.ids[row]}", reason)])
        if zlib.crc32(encoded.data) != self.checksums[row]:
            where = f"id {self.ids[row]} in {self.folder or 'memory'}"
            raise ImageError([ImageFault(where, "the cached picture is damaged; build it again")])
        # Ours, and as it was written. Both libraries give the same pixels.
        if simplejpeg is not None:
            return simplejpeg.decode_jpeg(encoded, buffer=buffer)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
        assert image is not None, "OpenCV wrote it"
        return image

    @cached_property
    def buffer_bytes(self) -> int:
        """Of the largest picture, decoded."""
        return int((self.heights.astype(np.int64) * self.widths).max(initial=1)) * 3

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """`(len(ids),)` int64. Rows of some ids, in their order.

        Raises:
            ValueError: ids that the cache does not hold, the first 20 by name.
        """
        ids = list(ids)
        missing = [sample_id for sample_id in ids if sample_id not in self._row_of]
        if missing:
            raise ValueError(
                f"{self.folder or 'the cache'} lacks {len(missing)} of the ids asked for; build "
                f"it again from the collection they belong to\n{list_faults(missing)}"
            )
        return np.array([self._row_of[sample_id] for sample_id in ids], np.int64)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {sample_id: row for row, sample_id in enumerate(self.ids)}

    def only_readable(self) -> PictureCache:
        """The rows whose source could be read, in their order; `faults` still names the others."""
        kept = self.readable
        return replace(
            self,
            ids=self.ids[kept],
            # A picture that could not be read has no bytes, so its offset is the next one's.
            offsets=self.offsets[np.append(kept, True)],
            heights=self.heights[kept],
            widths=self.widths[kept],
            checksums=self.checksums[kept],
        )

    def __reduce_ex__(self, protocol):
        # Worker processes map the file themselves instead of getting a copy of all pictures.
        if self.folder is not None:
            whole = len(self.faults) == np.sum(~self.readable)
            return (open_cache if whole else _open_readable), (self.folder,)
        return super().__reduce_ex__(protocol)


def open_cache(folder: str | Path) -> PictureCache:
    """Opens a cache; its pictures stay on the disk and are mapped into memory.

    Args:
        folder: what `build_cache` wrote.

    Raises:
        ValueError: there is no cache, it is damaged, or another version wrote it.
    """
    cache, _ = open_with_index(Path(folder))
    return cache


def _open_readable(folder: Path) -> PictureCache:
    return open_cache(folder).only_readable()


def cache_of_images(
    images: Iterable[np.ndarray], ids: Sequence[str], min_side: int
) -> PictureCache:
    """Builds a cache in memory, with the very pixels that `build_cache` would give.

    Args:
        images: `(height, width, 3)` uint8 arrays, RGB.
        ids: one str an image.
        min_side: int >= 1. Pixels.

    Returns:
        `PictureCache`.

    Raises:
        ValueError: the lengths differ, or an image has another shape or dtype.
    """
    encoded, shapes = [], []
    for sample_id, image in zip(ids, images, strict=True):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"`images` must be (height, width, 3) uint8. Received for id {sample_id}: "
                f"{image.shape} {image.dtype}"
            )
        small = shrink(image, min_side)
        encoded.append(encode_picture(small))
        shapes.append(small.shape[:2])
    heights, widths = np.array(shapes, np.int32).reshape(-1, 2).T
    return PictureCache(
        ids=np.array(ids, object),
        data=np.frombuffer(b"".join(encoded), np.uint8),
        offsets=np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        heights=heights,
        widths=widths,
        checksums=np.array([zlib.crc32(picture) for picture in encoded], np.uint32),
        min_side=min_side,
    )


def encode_picture(image: np.ndarray) -> bytes:
    """The JPEG file under which a cache keeps a picture.

    Args:
        image: `(height, width, 3)` uint8, RGB.

    Raises:
        ValueError: a side is longer than a JPEG file can hold.
    """
    if max(image.shape) > MAX_SIDE:
        raise ValueError(f"{image.shape[1]} x {image.shape[0]} pixels; a JPEG ends at {MAX_SIDE:,}")
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _ENCODING)[1].tobytes()


def open_with_index(folder: Path) -> tuple[PictureCache, dict[str, np.ndarray]]:
    """Opens a cache and returns its whole index besides, sizes and times of the sources too."""
    advice = "build it again with `build_cache`"
    if not (folder / INDEX_FILE).exists():
        raise ValueError(f"{folder} is not a cache of pictures (no {INDEX_FILE}); {advice}")
    try:
        # Opened here, because `np.load` leaves a damaged file open.
        with (folder / INDEX_FILE).open("rb") as file:
            index = dict(np.load(file, allow_pickle=False))
        version, end = int(index["format_version"]), int(index["offsets"][-1])
        size = (folder / PICTURES_FILE).stat().st_size
    # A damaged archive shows itself as BadZipFile, ValueError, KeyError, OSError, zlib.error ...
    except Exception as error:
        raise ValueError(f"{folder} is a damaged cache ({error}); {advice}") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{folder} was written by another version of imetlib; {advice}")
    if size != end:
        raise ValueError(f"{folder / PICTURES_FILE} was cut or changed; {advice}")
    faults = zip(index["fault_paths"].tolist(), index["fault_reasons"].tolist(), strict=True)
    cache = PictureCache(
        ids=index["ids"].astype(object),
        # An empty file cannot be mapped.
        data=np.memmap(folder / PICTURES_FILE, np.uint8, "r") if size else np.zeros(0, np.uint8),
        min_side=int(index["min_side"]),
        faults=tuple(ImageFault(path, reason) for path, reason in faults),
        folder=folder,
        **{name: index[name] for name in ("offsets", "heights", "widths", "checksums")},
    )
    return cache, index
