"""Decoding pictures from anywhere, with Pillow; the only place that opens foreign files."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

ALLOWED_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
MAX_PIXELS = 50_000_000
# Of a JPEG. A progressive one has about ten; each further one goes over all the pixels again,
# whether it brings any or not: 100 kB of empty scans would take minutes.
MAX_SCANS = 100

_ORIENTATION_TAG = 0x0112
# How a stored picture is turned, as rows and columns of an array (EXIF 2.3, section 4.6.4).
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.swapaxes(0, 1),
    6: lambda rgb: rgb.swapaxes(0, 1)[:, ::-1],
    7: lambda rgb: rgb.swapaxes(0, 1)[::-1, ::-1],
    8: lambda rgb: rgb.swapaxes(0, 1)[::-1],
}
# Rows that become RGB at a time: several whole copies of a picture would not fit into 1 GB.
_STRIP = 256


@dataclass(frozen=True)
class ImageFault:
    """One picture that cannot be read.

    Args:
        path: str. The file.
        reason: str. What is wrong with it.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class ImageError(ValueError):
    """Pictures that cannot be read, all of them named.

    Args:
        faults: sequence of `ImageFault`.
    """

    def __init__(self, faults: Sequence[ImageFault]):
        super().__init__(tuple(faults))

    @property
    def faults(self) -> tuple[ImageFault, ...]:
        return self.args[0]

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return str(self.faults[0])
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        return f"{len(self.faults)} pictures cannot be read; replace or remove them\n{lines}"


def decode_image(source: str | Path | bytes | BinaryIO, *, name: str | None = None) -> np.ndarray:
    """Decodes a picture to RGB, upright, as a person sees it on a white page.

    Grey, palette and 1-bit pictures become RGB; 16-bit grey is scaled (Pillow alone clips it to
    white); transparency is composed on white; CMYK is converted; the EXIF orientation is
    applied; of an animation the first frame counts.

    Args:
        source: a path, the bytes of a file, or a binary file object.
        name: str or None. What to call the picture in errors; the path by default.

    Returns:
        `(height, width, 3)` uint8 in [0, 255].

    Raises:
        ImageError: the file is missing, cut or damaged, of a kind outside `ALLOWED_FORMATS`, or
            larger than `MAX_PIXELS` or a JPEG of more than `MAX_SCANS` scans, which is checked
            before anything is decoded.
    """
    if isinstance(source, bytes):
        name = name or f"a picture of {len(source)} bytes"
        source = io.BytesIO(source)
    elif not isinstance(source, str | Path):
        name = name or str(getattr(source, "name", "a picture"))
    name = name or str(source)
    try:
        with _pillow_warnings(), Image.open(source, formats=ALLOWED_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels, the limit is {MAX_PIXELS:,}")
            if image.format in ("JPEG", "MPO"):
                _check_scans(image.fp)
            image.load()
            return _turn_upright(_as_array(image), image)
    # Pillow's decoders raise IndexError, SyntaxError, TypeError and more on damaged files.
    except Exception as error:
        raise ImageError([ImageFault(name, _explain(error))]) from error


def name_images(images: Iterable[np.ndarray | str | Path]) -> list[str]:
    """Names of pictures that have none: their numbers, and the file names of paths.

    Example:
        >>> name_images([np.zeros((2, 2, 3), np.uint8), "train/a.png"])
        ['0', '1 a.png']
    """
    return [
        f"{number}" if isinstance(image, np.ndarray) else f"{number} {Path(image).name}"
        for number, image in enumerate(images)
    ]


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a picture in pixels, upright, from its header alone.

    Raises:
        ImageError: as `decode_image`.
    """
    try:
        with _pillow_warnings(), Image.open(path, formats=ALLOWED_FORMATS) as image:
            width, height = image.size
            on_its_side = image.getexif().get(_ORIENTATION_TAG, 1) >= 5
            return (width, height) if on_its_side else (height, width)
    except Exception as error:
        raise ImageError([ImageFault(str(path), _explain(error))]) from error


def check_images(
    paths: Iterable[str | Path], *, workers: int = 2, progress: bool = False
) -> list[ImageFault]:
    """Decodes every picture and says which cannot be read.

    Args:
        paths: the files.
        workers: int. Threads that decode.
        progress: bool. Whether to show a bar.

    Returns:
        list of `ImageFault`, in the order of `paths`; empty when all is well.
    """

    def check(path):
        try:
            decode_image(path)
        except ImageError as error:
            return error.faults[0]
        return None

    results = map_in_threads(check, list(paths), workers=workers, progress=progress)
    return [fault for fault in results if fault]


def shrink(image: np.ndarray, min_side: int) -> np.ndarray:
    """Shrinks a picture so that its shorter side is at most `min_side`; never enlarges.

    Antialiased: every pixel counts, however much smaller the result. The aspect ratio stays, so
    a strip of 300 x 7,531 pixels becomes 160 x 4,017.

    Args:
        image: `(height, width, 3)` uint8.
        min_side: int >= 1. Pixels.

    Returns:
        `(height, width, 3)` uint8; `image` itself where it is small enough.

    Raises:
        ValueError: `min_side` is below 1.

    Example:
        >>> shrink(np.zeros((300, 7531, 3), np.uint8), 160).shape
        (160, 4017, 3)
    """
    if min_side < 1:
        raise ValueError(f"`min_side` must be at least 1. Received: min_side={min_side}")
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter <= min_side:
        return image
    size = (round(width * min_side / shorter), round(height * min_side / shorter))
    # The gap lets Pillow first average whole blocks of pixels of a much larger picture.
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))


def map_in_threads(
    function: Callable, items: Sequence, *, workers: int, progress: bool, label: str = ""
) -> Iterable:
    """Yields `function` of each item, in order, with a bar where one is asked for.

    Threads suffice: Pillow and OpenCV let go of the interpreter while they decode.
    """
    if workers < 1:
        raise ValueError(f"`workers` must be at least 1. Received: workers={workers}")
    if progress:
        # Before the threads: it silences a warning as it is imported, and they undo that.
        from tqdm.auto import tqdm
    pool = ThreadPoolExecutor(workers)
    try:
        results: Iterable = pool.map(function, items)
        if progress:
            results = tqdm(results, total=len(items), desc=label, unit="picture", mininterval=0.5)
        yield from results
    finally:
        # Without this an interrupt waits until all the other pictures are done.
        pool.shutdown(cancel_futures=True)


def _check_scans(file) -> None:
    """Counts the marker SOS, which coded pixels never hold; a preview in the file has some more."""
    file.seek(0)
    scans, last = 0, b""
    while part := file.read(1 << 20):
        scans += (last + part).count(b"\xff\xda")
        last = part[-1:]
    if scans > MAX_SCANS:
        raise ValueError(f"a JPEG of {scans:,} scans, the limit is {MAX_SCANS}; save it anew")


def _as_array(image: Image.Image) -> np.ndarray:
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        end = min(top + _STRIP, height)
        rgb[top:end] = np.asarray(_to_rgb(image.crop((0, top, width, end))))
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _scale_16_bit(image)
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(image, mask=image.getchannel("A"))
        return page
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        raise ValueError("16-bit grey with a transparent value; save it with 8 bits")
    scaled = ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")


def _turn_upright(rgb: np.ndarray, image: Image.Image) -> np.ndarray:
    turn = _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    return rgb if turn is None else np.ascontiguousarray(turn(rgb))


def _explain(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not a picture of the kinds that are read ({', '.join(ALLOWED_FORMATS)})"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be decoded: {text or type(error).__name__}"


_warnings_lock = threading.Lock()
_warnings_state: dict = {"users": 0, "guard": None}


@contextlib.contextmanager
def _pillow_warnings():
    """Pillow's warnings off, its alarm about huge pictures an error; for several threads at once.

    `warnings.catch_warnings` alone is not safe there: threads that overlap restore each other's
    filters. The first one in sets them, the last one out restores.
    """
    state = _warnings_state
    with _warnings_lock:
        if state["users"] == 0:
            state["guard"] = warnings.catch_warnings()
            state["guard"].__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        state["users"] += 1
    try:
        yield
    finally:
        with _warnings_lock:
            state["users"] -= 1
            if state["users"] == 0:
                state["guard"].__exit__(None, None, None)
