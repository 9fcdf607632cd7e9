"""Where numbers were made: the part of a record that says what may not repeat elsewhere."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "imetlib",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
    "numpy",
    "pandas",
    "pillow",
    "opencv-python-headless",
    "opencv-python",
    "scikit-learn",
    "numba",
    "openvino",
)


def environment(device: str | None = None) -> dict[str, Any]:
    """Where the numbers come from, without a host name or a path.

    Args:
        device: description of what computed, as `training.devices` gives it; the processor when
            None.

    Returns:
        dict: `device`, `cores` that this process may use, `threads` set by the environment,
        `backend` and `onednn` (None: the default of the library), `python`, `system`,
        `versions` of the installed packages, and `commit`: of the git checkout this package
        lies in, with "+" where files differ from it, None elsewhere.
    """
    threads = {
        name: os.environ[name]
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        if name in os.environ
    }
    # Looked up, not imported: this room works without Keras.
    keras = sys.modules.get("keras")
    return {
        "device": device or _processor(),
        "cores": _num_cores(),
        "threads": threads,
        "backend": keras.config.backend() if keras else os.environ.get("KERAS_BACKEND"),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions_of(_PACKAGES),
        "commit": _git_commit(),
    }


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _git_commit() -> str | None:
    """None unless the package itself lies in a checkout: a virtual environment inside another
    project's checkout must not lend that project's commit."""
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    answers = []
    for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            answer = subprocess.run(
                [git, "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        answers.append(answer.stdout.strip())
    return answers[0] + "+" * bool(answers[1])
