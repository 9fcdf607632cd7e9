"""SIGKILL of the notebook runner at random moments: a whole file, true states, no kernel."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
NUM_CELLS = 6

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def write_notebook(path):
    """Six cells that print 0.5 MB each, and then write their number to a file of their own."""
    code = "print('x' * 500_000)\nimport time; time.sleep(.05)\nopen('done{0}', 'w').close()"
    cells = [new_code_cell(code.format(number)) for number in range(NUM_CELLS)]
    nbformat.write(new_notebook(cells=cells), path)


def start_runner(source, output):
    code = (
        "from imetlib.delivery.notebooks import run_notebook\n"
        f"result = run_notebook({str(source)!r}, {str(output)!r}, progress=False)\n"
        "raise SystemExit(result.exit_code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL
    )


def kernels_of(runner):
    """Process ids of living kernels that a process started, whoever their parent is now."""
    mark = f"JPY_PARENT_PID={runner}\0".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if mark in (folder / "environ").read_bytes() + b"\0" and state != "Z":
                    found.append(int(folder.name))
            except OSError:
                continue  # ended meanwhile, or another user's
    return found


def check_states(path, done):
    """The saved states against the files that the cells themselves left."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    states = [cell.metadata.papermill.status for cell in notebook.cells]
    completed = [number for number, state in enumerate(states) if state == "completed"]
    assert completed == list(range(len(completed))), states
    assert set(completed) <= done, (states, done)
    assert states[len(completed) :].count("running") <= 1, states
    assert set(states[len(completed) + 1 :]) <= {"pending"}, states
    for number in completed:
        assert len(notebook.cells[number].outputs[0].text) == 500_001
    return len(completed)


@pytest.mark.parametrize(
    "kills",
    [pytest.param(2, id="few"), pytest.param(30, marks=[pytest.mark.slow, pytest.mark.faults])],
)
def test_a_killed_runner_leaves_a_whole_notebook_and_no_kernel(tmp_path, kills):
    source = tmp_path / "97_kills.ipynb"
    write_notebook(source)
    folder = tmp_path / "whole"
    start = time.monotonic()
    with start_runner(source, folder) as runner:
        assert runner.wait(120) == 0
    seconds = time.monotonic() - start
    assert check_states(folder / source.name, set(range(NUM_CELLS))) == NUM_CELLS

    draw, completed = random.Random(0), []
    for kill in range(kills):
        folder = tmp_path / f"kill{kill}"
        # The second half is when cells run and files are written.
        moment = draw.uniform(0.4 if kill % 4 else 0.0, 1.0) * seconds
        with start_runner(source, folder) as runner:
            time.sleep(moment)
            runner.send_signal(signal.SIGKILL)
            runner.wait()
        end = time.monotonic() + 10
        while kernels_of(runner.pid) and time.monotonic() < end:
            time.sleep(0.1)
        left = kernels_of(runner.pid)
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert not left, f"kill {kill} after {moment:.2f} s: the kernel goes on"
        output = folder / source.name
        if output.exists():
            done = {int(path.name[4:]) for path in folder.glob("done*")}
            completed.append(check_states(output, done))
    # Some were killed between the first cell and the last: otherwise nothing was tried.
    assert kills < 30 or len(set(completed)) > 3, completed
