"""Whether Kaggle's client could push from this machine, found out without asking anybody."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

SETTINGS = "https://www.kaggle.com/settings"


def list_missing() -> list[str]:
    """What the client needs before it can push, a sentence each; empty where all is there.

    The places are those of the client `kaggle` 2.2.5. That a file is there says nothing of what
    is in it: keys are not read here.

    Returns:
        list of str.
    """
    missing = []
    if shutil.which("kaggle") is None:
        missing.append("install the client: pip install kaggle six")
    if not any(_keys()):
        missing.append(
            f"have a key: make a token on {SETTINGS} and save it as ~/.kaggle/access_token, or run "
            "`kaggle auth login`"
        )
    return missing


def _keys() -> Iterator[bool]:
    home = Path.home()
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or home / ".kaggle")
    other = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
    yield bool(os.environ.get("KAGGLE_API_TOKEN"))
    yield bool(os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"))
    for name in ("access_token", "access_token.txt", "credentials.json"):
        yield (home / ".kaggle" / name).is_file()
    for place in (folder, other):
        yield (place / "kaggle.json").is_file()
