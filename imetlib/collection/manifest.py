"""A list of SHA-256 digests of a collection, in the form of `sha256sum`.

A decoder finds a file that was cut, not a bit that was flipped among the pixels: of 300 such flips
in JPEGs hardly one is refused, and a third can be seen. Digests find every one.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from imetlib.collection.csvfiles import CollectionError
from imetlib.collection.images import SUFFIXES, map_in_threads
from imetlib.files import replacing

MANIFEST_FILE = "SHA256SUMS"
TABLES = ("labels.csv", "train.csv", "sample_submission.csv", "specimens.csv")
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def write_manifest(root: str | Path, *, workers: int = 2, progress: bool = False) -> Path:
    """Writes `SHA256SUMS` over the tables and pictures of a collection.

    `sha256sum --check SHA256SUMS` in the folder reads it as well.

    Args:
        root: the collection's folder.
        workers: int >= 1. Threads that read.
        progress: bool. Whether to show a bar.

    Returns:
        Path of the file.

    Raises:
        CollectionError: a manifest stands there already, there is nothing to list, or a file
            has a name that such a list cannot hold.
        OSError: a file cannot be read.
    """
    root = Path(root)
    path = root / MANIFEST_FILE
    if path.exists():
        mend = "`check` compares with it; remove it to write another"
        raise CollectionError(root, [f"{MANIFEST_FILE} exists already; {mend}"])
    names = _files_of(root)
    if not names:
        raise CollectionError(root, ["neither tables nor pictures; is it a collection's folder?"])
    odd = [name for name in names if "\\" in name or not name.isprintable()]
    if odd:
        raise CollectionError(
            root, [f"{name!r}: a backslash or no printable character; rename it" for name in odd]
        )
    paths = [root / name for name in names]
    digests = map_in_threads(_digest, paths, workers=workers, progress=progress, label="sha256")
    text = "".join(f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True))
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())
    return path


def verify_manifest(root: str | Path, *, workers: int = 2, progress: bool = False) -> list[str]:
    """Compares a collection with its `SHA256SUMS`.

    Args:
        root, workers, progress: see `write_manifest`.

    Returns:
        list of str, one sentence for each file that is not what it was, is missing, or is not
        in the list; empty when all is well.

    Raises:
        CollectionError: there is no manifest, or its lines are not those of one.
    """
    root = Path(root)
    listed = _read_manifest(root / MANIFEST_FILE)
    there = [name for name in listed if (root / name).is_file()]
    paths = [root / name for name in there]
    digests = map_in_threads(_try_digest, paths, workers=workers, progress=progress, label="sha256")
    found = dict(zip(there, digests, strict=True))
    faults = []
    for name, digest in listed.items():
        if name not in found:
            faults.append(f"{name}: missing, though {MANIFEST_FILE} lists it")
        elif found[name] is None:
            faults.append(f"{name}: cannot be read; may you read it, is the disk whole?")
        elif found[name] != digest:
            faults.append(
                f"{name}: its bytes are not those of {MANIFEST_FILE}; damaged or changed since"
            )
    return faults + [
        f"{name}: not in {MANIFEST_FILE}; added since"
        for name in _files_of(root)
        # Other tables beside them, such as a submission, are nobody's damage.
        if name not in listed and ("/" in name or name in TABLES)
    ]


def _read_manifest(path: Path) -> dict[str, str]:
    """Name to digest in lower case, in the order of the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CollectionError(path, ["the file is missing"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CollectionError(path, [f"cannot be read: {error}"]) from None
    digests: dict[str, str] = {}
    faults = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line)
        name = match[2].removeprefix("./") if match else ""
        if not match:
            faults.append(f"line {number}: not a digest of 64 hex digits, two blanks and a name")
        elif ".." in name.split("/") or Path(name).is_absolute():
            faults.append(f"line {number}: {name[:80]} lies outside the collection")
        elif name in digests:
            faults.append(f"line {number}: {name[:80]} stands above already; keep one line")
        else:
            digests[name] = match[1].lower()
    if not digests and not faults:
        faults.append("no line in it; remove it, or write it again")
    if faults:
        raise CollectionError(path, faults)
    return digests


def _files_of(root: Path) -> list[str]:
    """Tables, then pictures, below the folder of a collection, with slashes on every system."""
    tables = sorted(path.name for path in root.glob("*.csv") if not path.name.startswith("."))
    pictures = sorted(
        f"{split}/{path.name}"
        for split in ("train", "test")
        for path in (root / split).glob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    return tables + pictures


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _try_digest(path: Path) -> str | None:
    try:
        return _digest(path)
    except OSError:
        return None
