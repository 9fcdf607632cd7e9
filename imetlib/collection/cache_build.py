"""Writing the files of a cache, so that a build that was ended goes on where it was.

Beside `pictures.bin` a journal grows, a row a picture; `origin.npz` says what they are of.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imetlib.collection.cachefiles import INDEX_FILE, PICTURES_FILE, encode_picture
from imetlib.collection.images import ImageError, ImageFault, decode_image, map_in_threads, shrink
from imetlib.files import sync

JOURNAL_FILE = "journal.bin"
ORIGIN_FILE = "origin.npz"
ROW = np.dtype([("length", "<i8"), ("height", "<i4"), ("width", "<i4"), ("checksum", "<u4")])
# Both files reach the system together; what a kill leaves between is written again.
_TOGETHER = 64
_PER_PICTURE = ("ids", "source_sizes", "source_times")


def write_pictures(
    folder: Path,
    origin: dict[str, np.ndarray],
    sources: Sequence[Path | None],
    *,
    workers: int,
    progress: bool,
    label: str,
) -> tuple[ImageFault, ...]:
    """Write `pictures.bin` and `index.npz`, going on after the pictures that are there already.

    Args:
        folder: exists; empty, or what an earlier call left.
        origin: what the pictures are of; arrays by name, those of `_PER_PICTURE` a value each.
        sources: files, None where there is none.
        workers: int >= 1, threads.
        progress: whether to show a bar.
        label: of the bar and of missing pictures, the split.

    Returns:
        the pictures that cannot be read.
    """
    done = _find_done(folder, origin)
    _save(folder / ORIGIN_FILE, origin)
    min_side = int(origin["min_side"])

    def convert(item):
        sample_id, source = item
        if source is None:
            return ImageFault(f"{label}/{sample_id}", "no such picture")
        try:
            image = shrink(decode_image(source), min_side)
            return encode_picture(image), *image.shape[:2]
        except ImageError as error:
            return error.faults[0]
        except ValueError as error:
            return ImageFault(str(source), str(error))

    items = list(zip(origin["ids"].tolist(), sources, strict=True))
    # Why a picture could not be read stands in no journal.
    faults = [convert(items[row]) for row in np.flatnonzero(done["height"] == 0)]
    rows = [tuple(row) for row in done.tolist()]
    with (folder / PICTURES_FILE).open("ab") as file, (folder / JOURNAL_FILE).open("ab") as journal:
        results = map_in_threads(
            convert, items[len(done) :], workers=workers, progress=progress, label=label
        )
        for result in results:
            if isinstance(result, ImageFault):
                faults.append(result)
                result = b"", 0, 0
            picture, height, width = result
            file.write(picture)
            rows.append((len(picture), height, width, zlib.crc32(picture)))
            journal.write(np.array(rows[-1], ROW).tobytes())
            if len(rows) % _TOGETHER == 0:
                file.flush()
                journal.flush()
    sync(folder / PICTURES_FILE)
    table = np.array(rows, ROW)
    _save(
        folder / INDEX_FILE,
        {
            **origin,
            "offsets": np.cumsum([0, *table["length"]], dtype=np.int64),
            "heights": table["height"].astype(np.int32),
            "widths": table["width"].astype(np.int32),
            "checksums": table["checksum"].astype(np.uint32),
            "fault_paths": np.array([fault.path for fault in faults], str),
            "fault_reasons": np.array([fault.reason for fault in faults], str),
        },
    )
    return tuple(faults)


def _find_done(folder: Path, origin: dict[str, np.ndarray]) -> np.ndarray:
    """Rows of the journal that still hold, the files cut to them."""
    rows, size = np.zeros(0, ROW), 0
    try:
        with (folder / ORIGIN_FILE).open("rb") as file:
            before = dict(np.load(file, allow_pickle=False))
        journal = (folder / JOURNAL_FILE).read_bytes()
        same = _count_same(before, origin)
        rows = np.frombuffer(journal[: len(journal) // ROW.itemsize * ROW.itemsize], ROW)[:same]
        with (folder / PICTURES_FILE).open("rb") as file:
            for number, row in enumerate(rows):
                picture = file.read(int(row["length"]))
                if len(picture) != row["length"] or zlib.crc32(picture) != row["checksum"]:
                    rows = rows[:number]
                    break
                size += len(picture)
    except Exception:  # nothing there, or a damaged archive: all is written again
        rows, size = np.zeros(0, ROW), 0
    for name, length in ((PICTURES_FILE, size), (JOURNAL_FILE, rows.nbytes)):
        with (folder / name).open("ab") as file:
            file.truncate(length)
    return rows


def _count_same(before, origin) -> int:
    """How many pictures from the first on are the same files, made small in the same way."""
    if before.keys() != origin.keys():
        return 0
    if any(before[name] != origin[name] for name in origin if name not in _PER_PICTURE):
        return 0
    length = min(len(before["ids"]), len(origin["ids"]))
    same = np.ones(length, bool)
    for name in _PER_PICTURE:
        same &= before[name][:length] == origin[name][:length]
    return length if same.all() else int(np.argmin(same))


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    sync(path)
