"""Every decode ends, within 2 s of a processor and 1 GB, whatever the file."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DATA = os.environ.get("IMETLIB_DATA")
SECONDS, MEGABYTES = 2, 1000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")


def decode(*arguments):
    done = subprocess.run(
        [sys.executable, HERE / "decode.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def say(what, found):
    """Figures for who runs it with `-s` or `-rP`."""
    slow, large = (max(found, key=lambda one: one[key]) for key in ("seconds", "megabytes"))
    print(
        f"{what}: {len(found)} files, at most {slow['seconds']:.2f} s ({Path(slow['file']).name}) "
        f"and {large['megabytes']:.0f} MB ({Path(large['file']).name})"
    )


@pytest.mark.skipif(not DATA, reason="IMETLIB_DATA is not set")
@pytest.mark.parametrize(
    "every",
    [
        pytest.param(12, id="some"),
        pytest.param(1, id="all", marks=[pytest.mark.slow, pytest.mark.faults]),
    ],
)
def test_corpus(every):
    folder = Path(DATA) / "bad_inputs"
    with (folder / "MANIFEST.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = [row for i, row in enumerate(rows) if i % every == 0 or "hang" in row["cls"]]
    found = decode(*(folder / row["cls"] / row["file"] for row in kept))
    assert len(found) == len(kept)
    for row, one in zip(kept, found, strict=True):
        assert one["status"] == 0, one
        if row["cls"] == "must_decode":
            assert one["verdict"] == "decoded", one
        elif row["cls"] != "disputed":
            assert one["verdict"] != "decoded", one
        assert one["seconds"] < SECONDS, one
        assert one["megabytes"] < MEGABYTES, one
    say("corpus", found)


@pytest.mark.slow
@pytest.mark.faults
def test_pictures_at_the_limit_of_pixels(tmp_path):
    found = decode("--at-the-limit", tmp_path)
    assert len(found) == 9
    for one in found:
        assert (one["status"], one["verdict"]) == (0, "decoded"), one
        assert one["megabytes"] < MEGABYTES, one
    say("50 million pixels", found)


def test_what_hangs_dies_or_grows_is_told():
    """Otherwise the tests above could not fail."""
    script = (
        "import decode, os, time, numpy as np\n"
        "def grow():\n"
        "    np.ones(50_000_000)\n"
        "    return {}\n"
        "def image(path):\n"
        "    {'hangs': lambda: time.sleep(30), 'dies': os.abort, 'grows': grow}[path]()\n"
        "decode.decode_image = image\n"
        "print(decode.in_child(lambda: decode.measure('hangs'), guard=1)[0])\n"
        "print(decode.in_child(lambda: decode.measure('dies'))[0])\n"
        "print(decode.in_child(lambda: decode.measure('grows'))[1]['megabytes'] > 350)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=HERE,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.stdout.split() == ["-14", "-6", "True"], done.stderr
