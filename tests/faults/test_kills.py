"""SIGKILL: at random moments of training, and at every system call of a save."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imetlib.training.checkpoint_files import list_checkpoints, load_checkpoint

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CALLS = ("write", "fsync", "rename", "close", "mkdir", "unlinkat", "rmdir", "openat")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def run(*command, **more):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # strace sees the first thread alone.
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=environment, **more
    )


@pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow",
    reason="jax and torch start threads as they are imported, and are not forked",
)
@pytest.mark.parametrize(
    "kills",
    [pytest.param(2, id="few"), pytest.param(60, marks=[pytest.mark.slow, pytest.mark.faults])],
)
def test_training_goes_on_after_kills(kills, tmp_path):
    done = run(sys.executable, HERE / "kills.py", tmp_path, "--kills", kills, timeout=1500)
    assert done.stdout, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["resumed"] == result["same"] == kills, (result, done.stderr[-3000:])
    assert done.returncode == 0
    # Some were killed after a checkpoint: otherwise nothing was resumed.
    assert any(epoch for one in result["outcomes"] for epoch in one["epochs"]), result


def earlier(folder):
    """Checkpoints of epochs 1 and 2, written once and copied."""
    if not folder.exists():
        for epoch in (1, 2):
            done = run(sys.executable, HERE / "save.py", folder, epoch)
            assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.faults
def test_a_save_killed_at_every_system_call(tmp_path):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: Debian has it as a package")
    if run(strace, "-o", "/dev/null", "true").returncode:
        pytest.skip("strace may not trace here (ptrace)")
    first, killed = earlier(tmp_path / "earlier" / "checkpoints"), dict.fromkeys(CALLS, 0)
    for call in CALLS:
        # Calls of the import come first: those are counted and left alone.
        log = tmp_path / f"{call}.log"
        shutil.copytree(first, tmp_path / call / "0" / "checkpoints")
        folder = tmp_path / call / "0" / "checkpoints"
        done = run(strace, "-y", "-o", log, "-e", f"trace={call}",
                   sys.executable, HERE / "save.py", folder, 3)  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = [line for line in log.read_text().splitlines() if re.match(rf"{call}\(", line)]
        for when, line in enumerate(lines, start=1):
            if str(tmp_path) not in line:
                continue
            folder = tmp_path / call / str(when) / "checkpoints"
            shutil.copytree(first, folder)
            done = run(strace, "-o", "/dev/null", "-e", f"trace={call}",
                       "-e", f"inject={call}:signal=SIGKILL:when={when}",
                       sys.executable, HERE / "save.py", folder, 3)  # fmt: skip
            assert done.returncode in (137, -9), (call, when, done.stderr)
            killed[call] += 1
            check_whole(folder)
            # The next save finds its way, and leaves nothing over.
            assert run(sys.executable, HERE / "save.py", folder, 4).returncode == 0
            assert len(list(folder.iterdir())) == 2
            check_whole(folder)
    print(killed)
    assert all(killed[call] for call in ("write", "fsync", "rename", "close")), killed


def check_whole(folder):
    """The last two checkpoints are whole: all parts of one are of its epoch."""
    found = list_checkpoints(folder)
    assert len(found) >= 2, [path.name for path in folder.iterdir()]
    for path in found[:2]:
        checkpoint = load_checkpoint(path)
        assert checkpoint.state["said"] == checkpoint.epoch
        assert (checkpoint.arrays["network/0000"] == checkpoint.epoch).all()
        assert (path / "best").read_bytes() == bytes([checkpoint.epoch]) * 100_000
