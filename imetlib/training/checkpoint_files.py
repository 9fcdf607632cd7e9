"""Checkpoints on the disk: one folder an epoch, whole or absent, verified before it is read.

A save writes into a temporary folder, waits for the disk after every file and renames the folder
into place; only then is the third last one removed. Whatever ends the process, the last two whole
folders are there.
"""

import hashlib
import json
import re
import secrets
import shutil
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imetlib.files import sync

KEPT = 2
STATE_FILE, ARRAYS_FILE, SUMS_FILE = "state.json", "arrays.npz", "SHA256SUMS"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What one folder holds; made by `load_checkpoint`.

    Args:
        path: `pathlib.Path` of the folder, with the further files in it.
        epoch: int, epochs that were finished.
        state: dict of JSON values.
        arrays: dict of name to array.
    """

    path: Path
    epoch: int
    state: dict
    arrays: dict[str, np.ndarray]


def save_checkpoint(folder, epoch, state, arrays, files=()):
    """Write the checkpoint of an epoch, then remove all but the last two.

    Args:
        folder: folder of the checkpoints, made where missing.
        epoch: int >= 0.
        state: dict of what JSON can hold, NaN and infinity included.
        arrays: dict of name to array, none of them of objects.
        files: paths of further files, copied under their names.

    Returns:
        `pathlib.Path` of the new folder, "epoch-0003".

    Raises:
        OSError: the disk is full, or refuses. Earlier checkpoints are as they were.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    clean_folder(folder)
    path = folder / f"epoch-{epoch:04d}"
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        text = json.dumps({"format": FORMAT, "epoch": epoch, **state})
        (temporary / STATE_FILE).write_text(text, encoding="utf-8")
        with (temporary / ARRAYS_FILE).open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        for source in files:
            shutil.copyfile(source, temporary / Path(source).name)
        (temporary / SUMS_FILE).write_bytes(_sums(temporary))
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        # A folder takes the place of an empty one at most.
        if path.exists():
            path.replace(_temporary(path))
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(folder)
    for old in list_checkpoints(folder)[KEPT:]:
        # By its own name a folder is always whole.
        old.replace(_temporary(old))
    clean_folder(folder)
    return path


def load_checkpoint(path):
    """Read a checkpoint whose files are what was written, and whose numbers are numbers.

    Args:
        path: folder of one checkpoint.

    Returns:
        `Checkpoint`.

    Raises:
        ValueError: a file is missing, foreign, cut or changed, or an array is not finite.
    """
    path = Path(path)
    _check_sums(path)
    try:
        state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        epoch = state["epoch"]
        # Opened here, because `np.load` leaves a damaged file open.
        with (path / ARRAYS_FILE).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (AttributeError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is no checkpoint: {error}") from error
    if state.get("format") != FORMAT or path.name != f"epoch-{epoch:04d}":
        raise ValueError(
            f"it is of epoch {epoch} in format {state.get('format')}; expected {path.name} in "
            f"format {FORMAT}"
        )
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise ValueError(f"`{name}` in {ARRAYS_FILE} is not finite")
    return Checkpoint(path, epoch, state, arrays)


def list_checkpoints(folder):
    """Folders of checkpoints, that of the last epoch first."""
    folder = Path(folder)
    found = folder.iterdir() if folder.is_dir() else ()
    found = (path for path in found if re.fullmatch(r"epoch-\d{4,}", path.name) and path.is_dir())
    return sorted(found, key=lambda path: int(path.name.removeprefix("epoch-")), reverse=True)


def set_aside(path):
    """Rename a checkpoint that cannot be used, so that no later one takes its name or removes it.

    Returns:
        `pathlib.Path` of the folder now; the old one where the disk refuses.
    """
    aside = path.with_name(f"refused-{path.name}-{secrets.token_hex(2)}")
    with suppress(OSError):
        return path.replace(aside)
    return path


def clean_folder(folder):
    """Remove what killed saves left."""
    for path in Path(folder).glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _temporary(path):
    return path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")


def _sums(folder):
    """Bytes of the file that `sha256sum --check` reads, for all other files of a folder."""
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name != SUMS_FILE:
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines).encode()


def _check_sums(path):
    file = path / SUMS_FILE
    if not file.is_file():
        raise ValueError(f"it has no {SUMS_FILE}")
    wanted, found = file.read_bytes(), _sums(path)
    if wanted == found:
        return
    lines = {*wanted.splitlines(), *found.splitlines()} - (
        {*wanted.splitlines()} & {*found.splitlines()}
    )
    names = sorted({line[66:].decode(errors="replace") for line in lines})
    raise ValueError(f"its files are not those of {SUMS_FILE}: {', '.join(names) or SUMS_FILE}")
