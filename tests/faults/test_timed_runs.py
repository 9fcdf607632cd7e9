"""Real sessions, killed at their limit: there is an answer whatever happened until then."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imetlib.delivery.first_submission import read_standing
from imetlib.delivery.submission import verify_submission

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param(1, id="one", marks=pytest.mark.slow),
        pytest.param(5, id="five", marks=[pytest.mark.slow, pytest.mark.faults]),
    ],
)
def test_a_killed_session_leaves_a_valid_submission(runs, tmp_path, limit=30):
    killed = []
    for number in range(runs):
        folder = tmp_path / str(number)
        process = subprocess.Popen(
            [sys.executable, str(HERE / "timed.py"), str(folder), str(limit)],
            env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
        )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed.append(number)
        code = process.wait()
        assert code in (0, -signal.SIGKILL), f"session {number} failed"
        answer = folder / "run" / "submission.csv"
        museum = next(path.parent for path in folder.glob("museum*/labels.csv"))
        num_classes = len((museum / "labels.csv").read_text().splitlines()) - 1
        assert verify_submission(answer, museum / "sample_submission.csv", num_classes) == []
        standing = read_standing(answer)
        # Who ends in time has two networks' answer, if it was better than label frequencies.
        print(f"session {number}: exit {code}, {standing.num_networks} networks")
    print(f"killed at the limit: {len(killed)} of {runs}")
