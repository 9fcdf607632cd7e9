"""Unpacking archives of others: checked whole before the first byte is written."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from imetlib.files import making_folder

# Pictures and tables shrink to a twentieth at most; a bomb to a thousandth.
MAX_RATIO = 200
# Below this many bytes no ratio does harm.
HARMLESS_BYTES = 64 * 2**20
MAX_MEMBERS = 2_000_000

_DAMAGE = (
    EOFError, NotImplementedError, OSError, RuntimeError, lzma.LZMAError, tarfile.TarError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Args:
        name: as it stands in the archive.
        kind: "file", "folder", or what else it is: "symbolic link", "hard link", "device", ...
        size: bytes that it unpacks to, as the archive says.
    """

    name: str
    kind: str
    size: int


class ArchiveError(ValueError):
    """An archive that is damaged, or would write where or what it must not.

    Args:
        fault: str.
    """

    def __init__(self, fault: str):
        super().__init__(fault)
        self.faults = [fault]


def unpack(archive: str | Path, folder: str | Path, *, max_bytes: int | None = None) -> Path:
    """Unpack a `.zip`, `.tar`, `.tar.gz`, `.tar.bz2` or `.tar.xz` file into a new folder.

    Every member is checked before the first byte is written; then the archive goes into a
    temporary folder beside `folder`, which takes its place when all is there.

    Args:
        archive: the file; what it is is told by its content.
        folder: new or empty folder.
        max_bytes: int or None. What the members may take together; None: what the disk has free.

    Returns:
        absolute `pathlib.Path` of the folder.

    Raises:
        ArchiveError: a ValueError. No archive, a damaged or encrypted one, or one with a member
            that is absolute, leaves the folder (`..`), is a link or device, has the name of
            another (also by case or Unicode form), or with more bytes than `max_bytes`, or more
            than 64 MB that shrank below a 200th.
        ValueError: `folder` is not empty.
        FileNotFoundError: no such archive.
    """
    archive, folder = Path(archive), Path(folder).absolute()
    if not archive.is_file():
        raise FileNotFoundError(f"No archive at {archive}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder: unpack into a new one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    limit = free if max_bytes is None else min(free, max_bytes)
    with making_folder(folder) as temporary, _damage_named(archive):
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, temporary, limit)
        else:
            _unpack_tar(archive, temporary, limit)
    return folder


def check_members(
    members: Iterable[Member], archive: str | Path, archive_bytes: int, max_bytes: int
) -> None:
    """Refuse an archive by the list of its members.

    Args:
        members: those of the archive; read one after another, so a list without end is stopped.
        archive: the name for messages.
        archive_bytes: int. Size of the packed archive.
        max_bytes: see `unpack`.

    Raises:
        ArchiveError: see `unpack`.
    """
    # What stands at a place, by a key that is one for all spellings a file system may mix up.
    places: dict[str, tuple[str, str]] = {}
    total = 0
    for number, member in enumerate(members, start=1):
        where = f"{archive}: {member.name!r}"
        if member.kind not in ("file", "folder"):
            raise ArchiveError(f"{where} is a {member.kind}; only files and folders are unpacked.")
        total += member.size
        _check_size(total, archive, archive_bytes, max_bytes)
        if number > MAX_MEMBERS:
            raise ArchiveError(f"{archive}: more than {MAX_MEMBERS:,} members.")
        parts = parts_of(member.name, archive)
        if not parts and member.kind == "file":
            raise ArchiveError(f"{where} has no name.")
        for depth in range(1, len(parts) + 1):
            spelled = "/".join(parts[:depth])
            kind = member.kind if depth == len(parts) else "folder"
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", spelled).casefold())
            there = places.setdefault(key, (spelled, ""))
            if there == (spelled, ""):
                places[key] = (spelled, kind)
            elif there != (spelled, "folder") or kind != "folder":
                raise ArchiveError(f"{where}: {there[0]!r} is there already, or is on some disks.")


def parts_of(name: str, archive: str | Path) -> tuple[str, ...]:
    """Folders and file name of a member; raises ArchiveError where they lead out."""
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        raise ArchiveError(f"{archive}: {name!r} holds a backslash or a control character.")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise ArchiveError(f"{archive}: {name!r} is an absolute path.")
    if ".." in parts:
        raise ArchiveError(f"{archive}: {name!r} leaves the folder.")
    return parts


def zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    """`Member` of every entry of an open zip file."""
    for entry in opened.infolist():
        mode = stat.S_IFMT(entry.external_attr >> 16)
        kind = "folder" if entry.is_dir() else "file"
        if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "symbolic link" if mode == stat.S_IFLNK else "device"
        elif entry.flag_bits & 1:
            kind = "file under a password"
        # `filename` is cut at a zero byte; what else is in there is refused.
        yield Member(entry.orig_filename, kind, entry.file_size)


def _unpack_zip(archive: Path, folder: Path, max_bytes: int) -> None:
    with zipfile.ZipFile(archive) as opened:
        check_members(zip_members(opened), archive, archive.stat().st_size, max_bytes)
        folder.mkdir()
        for entry in opened.infolist():
            target = folder.joinpath(*parts_of(entry.filename, archive))
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            # Ends at the declared size, and raises where the sum of the bytes is another.
            with opened.open(entry) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file)


def _unpack_tar(archive: Path, folder: Path, max_bytes: int) -> None:
    # Opened twice, because a packed stream is read in one direction.
    with _open_tar(archive, max_bytes) as opened:
        check_members(map(_tar_member, opened), archive, archive.stat().st_size, max_bytes)
        # The packed stream's own check sum stands at its end.
        while opened.fileobj.read(2**20):
            pass
    folder.mkdir()
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with _open_tar(archive, max_bytes) as opened:
        for entry in opened:
            if entry.isdir():
                folder.joinpath(*parts_of(entry.name, archive)).mkdir(parents=True, exist_ok=True)
            elif entry.isreg():
                opened.extract(entry, folder, set_attrs=False, **options)


def _tar_member(entry: tarfile.TarInfo) -> Member:
    kinds = {tarfile.SYMTYPE: "symbolic link", tarfile.LNKTYPE: "hard link"}
    kind = kinds.get(entry.type, "device")
    if entry.isdir():
        kind = "folder"
    elif entry.isreg():
        kind = "file"
    return Member(entry.name, kind, entry.size)


@contextmanager
def _open_tar(archive: Path, max_bytes: int) -> Iterator[tarfile.TarFile]:
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
    with archive.open("rb") as packed:
        unpacking = openers.get(packed.read(2), open)
    with unpacking(archive, "rb") as stream:
        # Headers are counted, too: they can be bombs like any file.
        counted: Any = _Counted(stream, archive, max_bytes)
        with tarfile.open(fileobj=counted, mode="r|") as opened:
            yield opened


class _Counted:
    """A stream that refuses to give more than an archive may hold."""

    def __init__(self, stream: IO[bytes], archive: Path, max_bytes: int):
        self.stream = stream
        self.archive = archive
        self.archive_bytes = archive.stat().st_size
        # Headers and the blocks that files are filled up to.
        self.max_bytes = 2 * max_bytes + HARMLESS_BYTES
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.given += len(data)
        _check_size(self.given, self.archive, self.archive_bytes, self.max_bytes)
        return data


def _check_size(total: int, archive: str | Path, archive_bytes: int, max_bytes: int) -> None:
    if total > max_bytes:
        raise ArchiveError(f"{archive}: unpacks to more than the {max_bytes:,} bytes there are.")
    if total > HARMLESS_BYTES and total > MAX_RATIO * archive_bytes:
        raise ArchiveError(
            f"{archive}: {archive_bytes:,} bytes that unpack to {total:,} and more; more than "
            f"{MAX_RATIO} times as many are taken for a bomb."
        )


@contextmanager
def _damage_named(archive: Path) -> Iterator[None]:
    try:
        yield
    except ArchiveError:
        raise
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the archive's
        raise ArchiveError(
            f"{archive}: no zip or tar file, or a damaged one; get it again. {error}"
        ) from error
