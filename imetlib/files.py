"""Files and folders that are whole or absent: never cut, whatever happens as they are written."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary neighbour of `path` that takes its place when the block ends without an error.

    A reader of `path`, or a process that comes after a crash, sees the old file, the new one
    whole, or none. On an error, or when the block leaves no neighbour, `path` is as it was.

    Args:
        path: the file to write; missing parent folders are made.

    Yields:
        Path of the neighbour: same folder (a rename across disks copies), same suffix.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "record.json"
        >>> with replacing(path) as temporary:
        ...     _ = temporary.write_text("{}")
        >>> path.read_text(), [file.name for file in path.parent.iterdir()]
        ('{}', ['record.json'])
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _neighbour(path)
    try:
        yield temporary
        if not temporary.exists():
            return
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    # The rename itself is safe only once the folder is on the disk.
    sync(path.parent)


@contextmanager
def making_folder(folder: Path) -> Iterator[Path]:
    """A temporary neighbour of a new folder that takes its place when the block ends.

    Args:
        folder: a path that does not exist, or an empty folder; missing parent folders are made.

    Yields:
        Path of the neighbour, for the block to make. On an error nothing of it is left.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _neighbour(folder)
    try:
        yield temporary
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def link_or_copy(source: Path, target: Path, *, copy: bool = False) -> None:
    """A file under a second name, as a hard link, or as a copy where the disk has no such links.

    Args:
        source: the file; of a symbolic link what it leads to.
        target: path that does not exist.
        copy: whether to copy in any case. A change to one of two links changes both.

    Raises:
        FileExistsError: `target` exists.
        OSError: `source` cannot be read, or `target` not be written.
    """
    source = source.resolve(strict=True)
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if not copy:
        with suppress(OSError):  # another disk, or one without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk.

    Raises:
        OSError: a file cannot be written there. A folder on a disk that syncs none is passed over.
    """
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _neighbour(path: Path) -> Path:
    return path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
