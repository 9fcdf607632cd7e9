"""SIGKILL at every system call that touches a submission: no file, the old one, or the new one.

A short form, a kill before each line of the writer, is in tests/test_submission.py.
"""

import collections
import re
import shutil
import sys
from pathlib import Path

import pytest
from test_kills import HERE, run

SCRIPT = HERE / "submit.py"


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("before", [None, 1], ids=["no file", "old file"])
def test_a_submission_killed_at_every_system_call(before, tmp_path):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: Debian has it as a package")
    if run(strace, "-o", "/dev/null", "true").returncode:
        pytest.skip("strace may not trace here (ptrace)")
    first = tmp_path / "first"
    first.mkdir()
    assert run(sys.executable, SCRIPT, first, 2).returncode == 0
    new = (first / "submission.csv").read_bytes()
    (first / "submission.csv").unlink()
    old = None
    if before is not None:
        assert run(sys.executable, SCRIPT, first, before).returncode == 0
        old = (first / "submission.csv").read_bytes()
    assert old != new

    # Which calls there are, in a run that is left alone.
    whole, log = shutil.copytree(first, tmp_path / "whole"), tmp_path / "log"
    done = run(strace, "-y", "-o", log, sys.executable, SCRIPT, whole, 2)
    assert done.returncode == 0, done.stderr
    assert (whole / "submission.csv").read_bytes() == new
    counts, kills = collections.Counter(), []
    for line in log.read_text(errors="replace").splitlines():
        name = re.match(r"[a-z_0-9]+(?=\()", line)
        if name:
            counts[name[0]] += 1
            # The first time that the folder is named is the command itself.
            if str(whole) in line and name[0] != "execve":
                kills.append((name[0], counts[name[0]]))
    seen = collections.Counter()
    for call, when in kills:
        folder = shutil.copytree(first, tmp_path / f"{call}-{when}")
        done = run(strace, "-o", "/dev/null", "-e", f"trace={call}",
                   "-e", f"inject={call}:signal=SIGKILL:when={when}",
                   sys.executable, SCRIPT, folder, 2)  # fmt: skip
        assert done.returncode in (137, -9), (call, when, done.stderr)
        found = read(folder)
        assert found in (old, new), (call, when)
        seen["new" if found == new else "old"] += 1
        # The next one finds its way.
        assert run(sys.executable, SCRIPT, folder, 2).returncode == 0
        assert read(folder) == new
    print(f"{len(kills)} kills, {dict(seen)}: {sorted({call for call, _ in kills})}")
    assert {"openat", "write", "fsync", "rename", "close"} <= {call for call, _ in kills}
    assert seen["old"] and seen["new"], "before and after the rename"


def read(folder: Path):
    path = folder / "submission.csv"
    return path.read_bytes() if path.exists() else None
