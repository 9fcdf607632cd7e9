"""Shrunk copies of a collection's pictures: foreign files are opened once, ours ever after."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from imetlib.collection.cache_build import JOURNAL_FILE, ORIGIN_FILE, write_pictures
from imetlib.collection.cachefiles import (
    FORMAT_VERSION,
    INDEX_FILE,
    PictureCache,
    cache_of_images,
    open_cache,
    open_with_index,
)
from imetlib.collection.csvfiles import CollectionError
from imetlib.collection.images import ImageError
from imetlib.collection.tables import Collection
from imetlib.paths import need_space

# A picture of 3 to 4 shrunk to a shorter side: measured .3 to .55 bytes a pixel.
_BYTES = 0.6 * 4 / 3

LOCK_FILE = "lock"

__all__ = ["PictureCache", "build_cache", "cache_of_images", "open_cache"]


def build_cache(
    collection: Collection,
    split: str,
    folder: str | Path,
    *,
    min_side: int,
    workers: int = 2,
    progress: bool = False,
    on_bad: str = "raise",
) -> PictureCache:
    """Shrinks the pictures of a split into a cache, or opens the one that is there already.

    A cache is used again when ids, `min_side` and the size and time of every source file are
    what they were; else it is built anew. It appears in one piece or not at all; a build that was
    ended, or refused for a picture, goes on from the first picture that is not done or has changed.

    Args:
        collection: `Collection`.
        split: "train" or "test".
        folder: the cache. May exist only as a cache or as an empty folder.
        min_side: int >= 1. Pixels, see `shrink`.
        workers: int. Threads that decode and encode.
        progress: bool. Whether to show a bar.
        on_bad: "raise" refuses the split when a picture cannot be read; "report" goes on and
            lists it in `PictureCache.faults`.

    Returns:
        `PictureCache`, its rows in the order of the collection.

    Raises:
        ImageError: naming every picture that cannot be read (`on_bad="raise"`).
        ValueError: `folder` holds other things, or an argument is unknown.
        OSError: the cache would not fit on the disk; nothing was decoded.
    """
    if on_bad not in ("raise", "report"):
        raise ValueError(f'`on_bad` must be "raise" or "report". Received: {on_bad!r}')
    if split not in ("train", "test"):
        raise ValueError(f'`split` must be "train" or "test". Received: {split!r}')
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not the folder of a cache")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX_FILE).exists():
        raise ValueError(f"{folder} holds other things than a cache; name another folder")
    ids = collection.train.ids if split == "train" else collection.test_ids
    sources = [_find_source(collection, split, sample_id) for sample_id in ids]
    origin = _describe_sources(ids, sources, min_side)
    cache = _open_if_same(folder, origin)
    if cache is None:
        need_space(folder, _BYTES * min_side**2 * len(ids), f"The cache of {len(ids):,} pictures")
        with _unfinished(folder) as temporary:
            faults = write_pictures(
                temporary, origin, sources, workers=workers, progress=progress, label=split
            )
            if not (faults and on_bad == "raise"):
                _put_in_place(temporary, folder)
        if faults and on_bad == "raise":
            raise ImageError(faults)
        cache = open_cache(folder)
    if cache.faults and on_bad == "raise":
        raise ImageError(cache.faults)
    return cache


def _find_source(collection: Collection, split: str, sample_id: str) -> Path | None:
    try:
        return collection.picture_path(split, sample_id)
    except CollectionError:
        return None


def _describe_sources(ids, sources, min_side) -> dict[str, np.ndarray]:
    """What a cache must have in common with its sources to be used again."""
    stats = [source.stat() if source else None for source in sources]
    return {
        "format_version": np.array(FORMAT_VERSION),
        "min_side": np.array(min_side),
        "ids": np.array(ids, str),
        "source_sizes": np.array([stat.st_size if stat else -1 for stat in stats], np.int64),
        "source_times": np.array([stat.st_mtime_ns if stat else -1 for stat in stats], np.int64),
    }


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Folder of a build, beside the cache: that of an earlier build, unless somebody is at it."""
    own = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    kept = folder.with_name(f".{folder.name}.part")
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            own.mkdir()
            try:
                yield own
            finally:
                shutil.rmtree(own, ignore_errors=True)
            return
        yield kept


def _put_in_place(temporary: Path, folder: Path) -> None:
    """A folder cannot be renamed over another: the old cache steps aside first."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    for name in (JOURNAL_FILE, ORIGIN_FILE, LOCK_FILE):
        (temporary / name).unlink(missing_ok=True)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _open_if_same(folder: Path, origin: dict[str, np.ndarray]) -> PictureCache | None:
    try:
        cache, found = open_with_index(folder)
    except ValueError:
        return None
    same = all(np.array_equal(found[name], wanted) for name, wanted in origin.items())
    return cache if same else None
