"""The pictures of a user's own folder: which row names which, and ids that a collection takes."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from imetlib.collection.csvfiles import why_not_an_id
from imetlib.collection.images import SUFFIXES
from imetlib.collection.own_table import clean_text

# Also what Windows refuses in a file name.
_UNSAFE = re.compile(r'[\\/:*?"<>|]+')
_MAX_BYTES = 200


class PictureIndex:
    """The files of a folder and all folders in it, found by what a table calls them.

    Args:
        folder: the folder. Links to other folders are not followed, hidden files not seen.

    `pictures` are those of a kind that is read, as paths below the folder with slashes, sorted.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        names = []
        for place, folders, files in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = Path(place).relative_to(self.folder)
            names += [(below / name).as_posix() for name in files if not name.startswith(".")]
        self.pictures = sorted(name for name in names if _is_picture(name))
        self._by_path: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self.pictures:
            path = PurePosixPath(name)
            self._by_path[_key(name)].append(name)
            self._by_name[_key(path.name)].append(name)
            self._by_stem[_key(path.stem)].append(name)
        self._others = {_key(PurePosixPath(name).name) for name in names if not _is_picture(name)}

    def find(self, cell: str) -> tuple[list[str], str]:
        """What a cell of the picture column means.

        It may be a path (below this folder, or any whose last parts are), a file name, or one
        without suffix; of an address on the web the last part counts. Case does not, unless
        several files differ by it alone.

        Args:
            cell: str.

        Returns:
            (files that it may mean, why there is none).
        """
        text = cell.strip().replace("\\", "/")
        if not text:
            return [], "names no picture"
        if "://" in text:
            text = unquote(text.split("?", 1)[0].split("#", 1)[0])
        parts = [part for part in text.split("/") if part not in ("", ".", "..")]
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        for tail in tails:
            if found := self._by_path.get(_key(tail)):
                return _prefer(found, tail), ""
        last = tails[-1] if tails else ""
        for known in (self._by_name, self._by_stem):
            if found := known.get(_key(last)):
                return _prefer(found, last), ""
        if _key(last) in self._others:
            return [], f"its file is of a kind that is not read ({', '.join(SUFFIXES)} are)"
        return [], "there is no such picture"


def make_ids(wanted: Iterable[str]) -> list[str]:
    """Ids that a collection takes, each near to what was wanted, no two alike.

    What `why_not_an_id` refuses or a file system does is replaced by "_"; of ids that differ by
    their case alone, or not at all, the later ones get "_2", "_3" ....

    Args:
        wanted: str of each picture.

    Returns:
        list of str, in the same order.

    Example:
        >>> make_ids(["a1", "A1", "1999.12/3", "-7", "a1_2"])
        ['a1', 'A1_2', '1999.12_3', '_7', 'a1_2_2']
    """
    made: list[str] = []
    seen: set[str] = set()
    last: dict[str, int] = defaultdict(lambda: 1)
    for text in wanted:
        base = _UNSAFE.sub("_", clean_text(text)).rstrip(". ") or "_"
        if why_not_an_id(base):
            base = "_" + base.lstrip("=+-@.")
        if len(base.encode()) > _MAX_BYTES:
            digest = hashlib.sha256(base.encode()).hexdigest()[:12]
            base = f"{base.encode()[: _MAX_BYTES - 13].decode(errors='ignore')}_{digest}"
        sample_id = base
        while sample_id.casefold() in seen:
            last[base] += 1
            sample_id = f"{base}_{last[base]}"
        seen.add(sample_id.casefold())
        made.append(sample_id)
    return made


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _prefer(found: list[str], name: str) -> list[str]:
    """Those that have exactly this name, with its case, or all."""
    exact = [
        path
        for path in found
        if f"/{path}".endswith(f"/{name}") or PurePosixPath(path).stem == name
    ]
    return exact or found
