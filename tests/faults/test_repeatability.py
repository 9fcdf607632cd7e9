"""Every notebook twice, each time in fresh processes: what was measured is equal byte for byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# All that a notebook leaves, but for what tells of time and place.
FILES = (
    "metrics.json",
    "history.csv",
    "submission.csv",
    "scores-*.npz",
    "answers.npz",
    "steps.csv",
)

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def run_all(out):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("0*.ipynb"))]
    return subprocess.Popen(
        [sys.executable, "-m", "imetlib", "run", *names, "--out", str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def measured(out):
    """Relative path to bytes."""
    paths = [path for pattern in FILES for path in out.rglob(pattern)]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def test_all_notebooks_repeat(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    processes = [run_all(folder) for folder in folders]
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-2000:]
    first, second = map(measured, folders)
    assert set(first) == set(second)
    differing = [name for name in first if first[name] != second[name]]
    assert not differing, differing
    parts = ["comparison", "attention", "submission", "ten-crop-fast"]
    for part in parts:
        assert any(part in Path(name).parts for name in first), f"nothing of {part} was compared"
    print(f"{len(first)} files equal")
