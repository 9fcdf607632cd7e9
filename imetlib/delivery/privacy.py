"""Tokens, keys, home folders and addresses in what is about to be published."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_QUOTE = r"\\*[\"']?"
KINDS = {
    "Kaggle key": re.compile(
        rf"\bKGAT_\w{{16,}}|\bkey{_QUOTE}\s*[:=]\s*{_QUOTE}[0-9a-f]{{32}}\b"
        rf"|\bKAGGLE_(?:KEY|API_TOKEN){_QUOTE}\]?\s*[:=]\s*{_QUOTE}[\w.-]{{8,}}",
        re.IGNORECASE,
    ),
    "Jupyter token": re.compile(r"[?&]token=[\w-]{8,}"),
    "access token": re.compile(
        r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}"
        r"|(?:AKIA|ASIA)[0-9A-Z]{16}\b|AIza[\w-]{35}|xox[abpr]-[\w-]{10,}|sk-[\w-]{20,}"
        r"|pypi-[\w-]{30,}|Bearer\s+[\w.~+/-]{20,})"
    ),
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    # `/home/someone` is the example of documentation.
    "home folder": re.compile(
        r"(?<![\w.])/(?:home|Users)/(?!someone\b)\w[\w.-]*|(?<![\w.])/root/[\w.]"
        r"|\b[A-Za-z]:\\+Users\\+\w+"
    ),
    # Addresses below `example` and `invalid` belong to nobody.
    "e-mail address": re.compile(
        r"\b[\w.+-]+@(?!(?:[\w-]+\.)*(?:example\.(?:com|org|net)|example|invalid)\b)"
        r"(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b"
    ),
}


@dataclass(frozen=True)
class Secret:
    """Something that should not be published.

    Args:
        kind: a key of `KINDS`.
        place: where it stands: a line, in JSON after the way to it (`cells[3].outputs[0].text`).
        beginning: its first characters; the rest is not repeated.
    """

    kind: str
    place: str
    beginning: str

    def __str__(self) -> str:
        return f"{self.place}: {self.kind} ({self.beginning}...)"


def find_secrets(text: str, *, place: str = "", allow: Iterable[str] = ()) -> list[Secret]:
    """Secrets in a text.

    Args:
        text: of a log, a program, a table, ...; JSON goes through `find_secrets_in_file`.
        place: what to put before the number of the line.
        allow: str each. What may stand there, such as a public address; whole matches.

    Returns:
        list of `Secret`, in the order of `KINDS`, then of the text.

    Example:
        >>> url = "http://localhost:8888/?token" + "=8f3a92bc01"  # this file is searched, too
        >>> [str(found) for found in find_secrets(url)]
        ['line 1: Jupyter token (?token...)']
    """
    allowed, found = set(allow), []
    for kind, pattern in KINDS.items():
        for match in pattern.finditer(text):
            if match.group() not in allowed:
                line = f"line {text.count(chr(10), 0, match.start()) + 1}"
                where = f"{place}, {line}" if place else line
                found.append(Secret(kind, where, match.group()[:6]))
    return found


def find_secrets_in_file(path: str | Path, *, allow: Iterable[str] = ()) -> list[Secret]:
    """Secrets in a text file; of notebooks and other JSON every text is read by itself.

    Args:
        path: the file.
        allow: as in `find_secrets`.

    Returns:
        list of `Secret`; its places begin with the name of the file.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix in (".ipynb", ".json"):
        try:
            content = json.loads(text)
        except ValueError:
            pass  # cut or damaged, and still readable
        else:
            return [
                found
                for way, part in _texts(content, "")
                for found in find_secrets(part, place=f"{path.name}, {way}", allow=allow)
            ]
    return find_secrets(text, place=path.name, allow=allow)


def _texts(value: Any, way: str) -> Iterator[tuple[str, str]]:
    """Way and content of every text in parsed JSON; lines of a notebook are put together."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        joined = "".join(value) if value[0].endswith("\n") else "\n".join(value)
        yield way, joined
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{way}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            inner = f"{way}.{key}" if way else key
            if isinstance(item, str):
                # With its name: a key of Kaggle is told by it.
                yield inner, f"{key}: {item}"
            else:
                yield from _texts(item, inner)
                yield inner, key
    elif isinstance(value, str):
        yield way, value
