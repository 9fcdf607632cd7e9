"""CIFAR-10 from a local file or from Keras's download."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from imetlib.collection.classified import ClassifiedPictures
from imetlib.collection.images import decode_image
from imetlib.paths import data_folders

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
IMAGE_SHAPE = (32, 32, 3)

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_PACKED = (
    "train_jpeg", "train_offsets", "train_labels",
    "test_jpeg", "test_offsets", "test_labels", "class_names",
)  # fmt: skip
# Upper left pixel of the first train and of the first test picture.
_ORIGINAL_PIXELS = ((59, 62, 63), (158, 112, 49))
# What zipfile, zlib and NumPy raise on a damaged file.
_DAMAGE = (
    EOFError, MemoryError, NotImplementedError, OSError, RuntimeError, ValueError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load_cifar10(path: str | Path = "") -> ClassifiedPictures:
    """Read CIFAR-10; `source` of the result says which copy it is.

    Args:
        path: a `.npz` file, or "" for the only `cifar10/*.npz` below `IMETLIB_DATA`, `data/` of the
            project or Kaggle's inputs, and without one `keras.datasets.cifar10`, which downloads
            170 MB once. The file holds one of two sets of arrays:

            * `x_train`, `x_test` `(num_samples, 32, 32, 3)` uint8 and `y_train`, `y_test` of any
              integer dtype, `(num_samples,)` or `(num_samples, 1)`;
            * `train_jpeg`, `test_jpeg` `(num_bytes,)` uint8, JPEG files of quality 75 one after
              another; `train_offsets`, `test_offsets` `(num_samples + 1,)` int, where each begins
              and the last ends; `train_labels`, `test_labels`; `class_names`. 60,000 pictures are
              decoded in about 8 s; they are not the original pixels.

    Returns:
        `ClassifiedPictures` with images `(num_samples, 32, 32, 3)` and labels 0..9.

    Raises:
        FileNotFoundError: no such file, several to choose from, or none and no download.
        ValueError: the file is cut or damaged, or its arrays are not those of CIFAR-10.

    Reference:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    if path:
        file = Path(path).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"No CIFAR-10 at {file}: `path` must be a .npz file")
        return _read_file(file)
    found = _find_file()
    return _download() if found is None else _read_file(found)


def _find_file():
    """The only file of the first data folder that has one, or None."""
    for root in data_folders():
        files = sorted(root.glob("cifar10/*.npz"))
        if len(files) > 1:
            names = ", ".join(map(str, files))
            raise FileNotFoundError(f"Several copies of CIFAR-10: {names}. Give one as `path`.")
        if files:
            return files[0]
    return None


def _download():
    from imetlib.quiet import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
    # Keras raises plain Exception where it gets no answer.
    except Exception as error:
        folders = ", ".join(str(root / "cifar10") for root in data_folders())
        raise FileNotFoundError(
            f"No .npz file in {folders}, and Keras cannot get CIFAR-10: {error}"
        ) from error
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    return _from_arrays(arrays, "keras.datasets.cifar10", "CIFAR-10, keras.datasets.cifar10")


def _read_file(file):
    try:
        # The list of a zip file stands at its end: half a download has none.
        if not zipfile.is_zipfile(file):
            raise ValueError("no .npz file, or only the beginning of one")
        # Opened here, because `np.load` leaves a damaged file open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            keys = next((keys for keys in (_ARRAYS, _PACKED) if set(keys) <= set(archive)), ())
            present = sorted(archive)
            arrays = {key: archive[key] for key in keys}
    except _DAMAGE as error:
        raise ValueError(f"{file} cannot be read; get it again. {error}") from error
    if not arrays:
        raise ValueError(
            f"{file} must hold the arrays {', '.join(_ARRAYS)}, or {', '.join(_PACKED)}. "
            f"Received: {', '.join(present[:12]) or 'none'}"
        )
    if "x_train" in arrays:
        data = _from_arrays(arrays, file, f"CIFAR-10, {file.name}")
        firsts = (data.train_images[0, 0, 0], data.test_images[0, 0, 0])
        if np.array_equal(firsts, _ORIGINAL_PIXELS):
            return data
        # Such as JPEG files that were unpacked: numbers from them are not those of CIFAR-10.
        return replace(data, source=f"CIFAR-10 (not the original pixels), {file.name}")
    names = tuple(arrays["class_names"].ravel().tolist())
    if names != CLASS_NAMES:
        raise ValueError(
            f"{file}: `class_names` must be {', '.join(CLASS_NAMES)}. "
            f"Received: {', '.join(map(str, names[:12]))}"
        )
    return _from_arrays(
        {
            "x_train": _decode(arrays, "train", file),
            "y_train": arrays["train_labels"],
            "x_test": _decode(arrays, "test", file),
            "y_test": arrays["test_labels"],
        },
        file,
        f"CIFAR-10 (JPEG q75 copy), {file.name}",
    )


def _from_arrays(arrays, file, source):
    """The data set of `x_train`, `y_train`, `x_test` and `y_test`; errors begin with `file`."""
    labels = {}
    for split in ("train", "test"):
        images, given = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if images.shape[1:] != IMAGE_SHAPE or images.dtype != np.uint8:
            raise ValueError(
                f"{file}: `x_{split}` must be (num_samples, 32, 32, 3) uint8. "
                f"Received: {images.shape} {images.dtype}"
            )
        if given.dtype.kind not in "iu" or given.shape not in ((given.size,), (given.size, 1)):
            raise ValueError(
                f"{file}: labels of {split} must be integers, (num_samples,) or (num_samples, 1). "
                f"Received: {given.shape} {given.dtype}"
            )
        labels[split] = given.ravel().astype(np.int64)
    try:
        return ClassifiedPictures(
            arrays["x_train"], labels["train"], arrays["x_test"], labels["test"],
            CLASS_NAMES, source,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _decode(arrays, split, file):
    """The JPEG files of a split as `(num_samples, 32, 32, 3)` uint8."""
    packed, offsets = arrays[f"{split}_jpeg"], arrays[f"{split}_offsets"]
    if packed.ndim != 1 or packed.dtype != np.uint8:
        raise ValueError(
            f"{file}: `{split}_jpeg` must be (num_bytes,) uint8. "
            f"Received: {packed.shape} {packed.dtype}"
        )
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        raise ValueError(
            f"{file}: `{split}_offsets` must be (num_samples + 1,) integers. "
            f"Received: {offsets.shape} {offsets.dtype}"
        )
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(packed) or (np.diff(offsets) <= 0).any():
        raise ValueError(
            f"{file}: `{split}_offsets` must rise from 0 to the {len(packed):,} bytes of "
            f"`{split}_jpeg`. Received: {offsets[0]} to {offsets[-1]}, "
            f"{int((np.diff(offsets) <= 0).sum())} steps not upwards"
        )
    code = packed.tobytes()
    images = np.empty((len(offsets) - 1, *IMAGE_SHAPE), np.uint8)
    for row, (start, stop) in enumerate(pairwise(offsets)):
        name = f"{file}, {split} picture {row}"
        picture = decode_image(code[start:stop], name=name)
        if picture.shape != IMAGE_SHAPE:
            raise ValueError(f"{name} must have shape {IMAGE_SHAPE}. Received: {picture.shape}")
        images[row] = picture
    return images
