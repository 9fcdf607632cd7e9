"""The rooms that need no network open fast and load none of the heavy libraries."""

import json
import subprocess
import sys
from pathlib import Path

# All of them but what is compiled, which is loaded where it is needed.
DECISIONS = tuple(
    f"imetlib.decisions.{path.stem}"
    for path in sorted((Path(__file__).parents[1] / "imetlib" / "decisions").glob("[!_]*.py"))
    if not path.stem.endswith("_numba")
)
LIGHT = (
    "imetlib",
    "imetlib.collection.tables",
    "imetlib.collection.folds",
    *DECISIONS,
    "imetlib.delivery.submission",
    "imetlib.delivery.records",
    "imetlib.delivery.notebooks",
    "imetlib.delivery.kaggle_bundle",
    "imetlib.delivery.report",
    "imetlib.delivery.ten_crop_tables",
    "imetlib.exported_files",
    "imetlib.__main__",
)
HEAVY = ("keras", "tensorflow", "jax", "torch", "numba", "sklearn", "papermill", "matplotlib")

# Processor time, not the clock: other programs on the machine do not count.
PROBE = """
import json, sys, time
names, heavy = json.loads(sys.argv[1])
start = time.process_time()
for name in names:
    __import__(name)
print(json.dumps([time.process_time() - start, [name for name in heavy if name in sys.modules]]))
"""


def probe(names, heavy=HEAVY):
    """Seconds of processor time for importing `names` afresh, and the heavy modules loaded."""
    arguments = json.dumps([names, heavy])
    result = subprocess.run(
        [sys.executable, "-c", PROBE, arguments], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_light_rooms_load_no_heavy_library():
    _, loaded = probe(LIGHT)
    assert loaded == []


def test_decisions_load_no_tables_either():
    assert "imetlib.decisions.rules" in DECISIONS
    assert probe(DECISIONS, (*HEAVY, "pandas", "scipy"))[1] == []


def test_light_rooms_open_fast():
    """The aim is under 1 s together; the best of two tries, with slack for slow machines."""
    assert min(probe(LIGHT)[0] for _ in range(2)) < 2.0


def test_help_needs_no_heavy_library():
    script = "import sys\nfrom imetlib.__main__ import build_parser\nbuild_parser().format_help()\n"
    script += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
