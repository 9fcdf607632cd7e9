"""Least versions without known security holes, and what is installed below them.

The floors are for where one develops, reads mail and opens notebooks of others. Kaggle's image lies
below some; there a notebook runs alone, and opens files of its own only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from imetlib.delivery.machine import versions_of


@dataclass(frozen=True)
class Floor:
    """A least version.

    Args:
        version: the first without the holes named.
        holes: numbers of the holes that it, or one before it, closed; the latest first.
    """

    version: str
    holes: str


# State of November 2026. No numbered hole of the last two years was found for papermill, nbval
# and TensorFlow.
FLOORS = {
    "keras": Floor(
        "3.15.1",
        "pickles (3.15.1), GHSA-hqp4-2352-xf5r and CVE-2026-1462 (3.14.0), CVE-2026-1669 and "
        "CVE-2026-0897 (3.13.2), CVE-2025-12060 and CVE-2025-12058 (3.12.0), CVE-2025-49655 and "
        "CVE-2025-9905 (3.11.3), CVE-2025-9906 and CVE-2025-8747 (3.11.0), CVE-2025-1550 (3.9.0)",
    ),
    "pillow": Floor(
        "12.3.0",
        "CVE-2026-59197 to -59200, -59203 to -59205, -54058 to -54060, -55379 and -55798 (12.3.0), "
        "CVE-2026-40192 and -42308 to -42311 (12.2.0), CVE-2026-25990 (12.1.1), CVE-2025-48379 "
        "(11.3.0)",
    ),
    "jupyter-server": Floor(
        "2.20.0",
        "CVE-2026-44727 (2.20.0), CVE-2025-61669, CVE-2026-35397, -40110 and -40934 (2.18.2)",
    ),
    "jupyterlab": Floor(
        "4.6.2",
        "CVE-2026-73415, -73417 and -73627 (4.6.2), CVE-2026-40171, -42266 and -42557 (4.5.7)",
    ),
    "nbconvert": Floor("7.17.1", "CVE-2026-39377 and -39378 (7.17.1), CVE-2025-53000 (7.17.0)"),
}


def installed_versions() -> dict[str, str]:
    """Versions of the packages of `FLOORS` that are installed."""
    return versions_of(FLOORS)


def below_floors(versions: Mapping[str, str] | None = None) -> list[str]:
    """What lies below its floor.

    Args:
        versions: package to version; None: the installed ones.

    Returns:
        A line a package, with its version, the floor and the holes.

    Example:
        >>> below_floors({"nbconvert": "7.17.0", "keras": "3.15.1"})[0][:53]
        'nbconvert 7.17.0 is below floor 7.17.1: CVE-2026-3937'
    """
    versions = installed_versions() if versions is None else versions
    return [
        f"{package} {versions[package]} is below floor {floor.version}: {floor.holes}"
        for package, floor in FLOORS.items()
        if package in versions and _numbers(versions[package]) < _numbers(floor.version)
    ]


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version; what stands behind it, "rc1" or "+cpu", does not count."""
    found = re.match(r"\d+(\.\d+)*", version)
    if found is None:
        raise ValueError(f"a version must begin with a number. Received: {version!r}")
    numbers = [int(part) for part in found.group().split(".")]
    while numbers and numbers[-1] == 0:
        del numbers[-1]  # 2.20 is 2.20.0
    return tuple(numbers)
