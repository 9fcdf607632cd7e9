"""The rooms that need no network open fast and load none of the heavy libraries."""

import json
import subprocess
import sys

LIGHT = (
    "imetlib",
    "imetlib.collection.tables",
    "imetlib.collection.folds",
    "imetlib.decisions.averages",
    "imetlib.decisions.blend",
    "imetlib.decisions.calibration",
    "imetlib.decisions.cases",
    "imetlib.decisions.class_thresholds",
    "imetlib.decisions.comparison",
    "imetlib.decisions.distance",
    "imetlib.decisions.distillation",
    "imetlib.decisions.exclusive",
    "imetlib.decisions.fbeta",
    "imetlib.decisions.group_thresholds",
    "imetlib.decisions.label_sets",
    "imetlib.decisions.limits",
    "imetlib.decisions.neighbours",
    "imetlib.decisions.per_image",
    "imetlib.decisions.reliability",
    "imetlib.decisions.rule_comparison",
    "imetlib.decisions.rules",
    "imetlib.decisions.saved_rules",
    "imetlib.decisions.stability",
    "imetlib.decisions.thresholds",
    "imetlib.decisions.top_scores",
    "imetlib.decisions.transfer",
    "imetlib.decisions.transfer_fit",
    "imetlib.delivery.submission",
    "imetlib.delivery.records",
    "imetlib.delivery.notebooks",
    "imetlib.delivery.report",
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


def probe(names):
    """Seconds of processor time for importing `names` afresh, and the heavy modules loaded."""
    arguments = json.dumps([names, HEAVY])
    result = subprocess.run(
        [sys.executable, "-c", PROBE, arguments], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_light_rooms_load_no_heavy_library():
    _, loaded = probe(LIGHT)
    assert loaded == []


def test_light_rooms_open_fast():
    """The aim is under 1 s together; the best of two tries, with slack for slow machines."""
    assert min(probe(LIGHT)[0] for _ in range(2)) < 2.0


def test_help_needs_no_heavy_library():
    script = "import sys\nfrom imetlib.__main__ import build_parser\nbuild_parser().format_help()\n"
    script += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
