"""What decisions cost on scores of the size of iMet 2019, as ratios within one run.

    python -m benchmarks.decisions [--samples N] [--repeats N] [--full] [--out FILE]

Searches, rules for single pictures and calibration take all rows; neighbours a tenth of both sides
(`benchmarks.neighbours`), with `--full` all, which takes minutes more. The scores are synthetic
(`benchmarks.synthetic`): times carry over, gains in F2 do not. Memory is
what a row holds at its peak beyond scores and labels: of arrays that NumPy makes (tracemalloc), and
how far the process grows, which compiled code is seen in too.
"""

import argparse
import resource
import sys
import threading
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import neighbours
from benchmarks.records import write_figures
from benchmarks.synthetic import CLASS_NAMES, make_scores
from imetlib.decisions.calibration import fit_platt
from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.group_thresholds import search_group_thresholds
from imetlib.decisions.per_image import (
    expected_fbeta_curve,
    expected_fbeta_sets,
    keep_near_maximum,
)
from imetlib.decisions.thresholds import search_threshold
from imetlib.decisions.top_scores import top_scores

FULL_SIZE = 109_237
GRID = 50
EXAMPLE_THRESHOLD = np.float32(0.06)
# Rows of scikit-learn's evaluation, which holds several dense copies; scaled to all.
SKLEARN_ROWS = 22_000
# Rows whose sets are compared with the untruncated expectation, milliseconds each.
CHECKED_ROWS = 1_000
SETS = "sets of best expected F2"


def main(arguments=None):
    """Measure, print the table, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__)
    parser.add_argument("--samples", type=int, default=FULL_SIZE, help="rows of the scores")
    parser.add_argument("--repeats", type=int, default=5, help="each median is taken over these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checked", type=int, default=CHECKED_ROWS, help="rows of the sets' check")
    parser.add_argument("--neighbours", type=float, default=0.1, help="share of the neighbours")
    parser.add_argument("--full", action="store_true", help="neighbours of all rows")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.samples < 1000 or options.repeats < 1:
        parser.error("--samples must be at least 1000 and --repeats at least 1")
    if not 0 < options.neighbours <= 1 or options.checked < 1:
        parser.error("--neighbours must be in (0, 1] and --checked at least 1")
    y_true, y_prob = make_scores(options.samples, seed=options.seed)
    rows = measure(make_ways(y_true, y_prob), options.repeats)
    rows["scikit-learn, one threshold"] = measure_sklearn(y_true, y_prob)
    print_table(rows, options.samples)
    check = check_sets(y_prob[: options.checked])
    seconds = rows[f"{SETS}, exact"]["least_processor_seconds"]
    print(
        f"  {SETS}: {seconds:.2f} s of processor time for all rows; of {check['rows']:,} rows "
        f"{100 * check['same']:.1f} %\n  have the size that the untruncated expectation finds "
        f"best, the others lose at most {check['largest_loss']:.1e} of it."
    )
    del y_prob
    scale = 1.0 if options.full else options.neighbours
    found = neighbours.run(scale)
    if options.out:
        record = {
            "samples": options.samples,
            "classes": len(CLASS_NAMES),
            "labels_per_sample": len(y_true.indices) / options.samples,
            "seed": options.seed,
            "repeats": options.repeats,
            "rows": rows,
            "sets_against_exact": check,
            "neighbours": {"scale": scale, "rows": found},
        }
        write_figures(options.out, record)


def make_ways(y_true, y_prob):
    """Name to what is measured."""
    dense = y_true.dense()
    kept = top_scores(y_prob)
    search = partial(search_threshold, y_true)
    return {
        "np.max": partial(np.max, y_prob),
        "NumPy bool, one threshold": partial(evaluate_bool, dense, y_prob),
        "exact threshold, numba": partial(search, y_prob, engine="numba"),
        "exact threshold, NumPy": partial(search, y_prob, engine="numpy"),
        "exact threshold, top 128, numba": partial(search, kept, engine="numba"),
        "exact culture/tag pair": partial(search_group_thresholds, y_true, y_prob, CLASS_NAMES),
        f"{SETS}, exact": partial(expected_fbeta_sets, y_prob, method="exact"),
        f"{SETS}, ratio rule": partial(expected_fbeta_sets, y_prob, method="ratio"),
        "labels near the maximum": partial(keep_near_maximum, y_prob, 1 / 7),
        "Platt fit": partial(fit_platt, y_true, y_prob),
    }


def evaluate_bool(dense, y_prob):
    """Mean F2 of one threshold as one writes it with NumPy."""
    y_pred = y_prob >= EXAMPLE_THRESHOLD
    hits = (y_pred & dense).sum(axis=1)
    return (5 * hits / np.maximum(4 * dense.sum(axis=1) + y_pred.sum(axis=1), 1)).mean()


def measure(ways, repeats):
    """Median seconds of each way, taken in turns, and its memory."""
    rows, clock, processor = {}, {name: [] for name in ways}, {name: [] for name in ways}
    for name, way in ways.items():  # the first time loads and compiles, and is watched
        rows[name] = watch_memory(way)
    for _ in range(repeats):
        for name, way in ways.items():
            start, start_processor = time.perf_counter(), time.process_time()
            way()
            clock[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - start_processor)
    for name, row in rows.items():
        row["seconds"] = float(np.median(clock[name]))
        row["least_seconds"] = min(clock[name])
        row["processor_seconds"] = float(np.median(processor[name]))
        row["least_processor_seconds"] = min(processor[name])
    return rows


def watch_memory(way):
    """Peak of NumPy's arrays and growth of the process during one call; and its answer."""
    way()
    before, peak, done = resident_bytes(), [0], threading.Event()

    def look():
        while not done.wait(0.001):
            peak[0] = max(peak[0], resident_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    answer = way()
    done.set()
    watcher.join()
    tracemalloc.start()
    way()
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    row = {"peak_traced_mb": traced / 1e6, "peak_resident_mb": max(peak[0] - before, 0) / 1e6}
    for name in ("threshold", "thresholds", "score", "certified"):
        value = getattr(answer, name, None)
        if value is not None and not isinstance(value, np.ndarray):
            row[name] = value
    return row


def resident_bytes():
    """Memory of this process in the machine; where /proc is missing its largest so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def measure_sklearn(y_true, y_prob):
    """Seconds of one evaluation, scaled from the first rows to all."""
    from sklearn.metrics import fbeta_score

    rows = min(SKLEARN_ROWS, len(y_prob))
    dense, y_pred = y_true.dense(slice(rows)), y_prob[:rows] >= EXAMPLE_THRESHOLD
    start, start_processor = time.perf_counter(), time.process_time()
    score = fbeta_score(dense, y_pred, beta=2, average="samples", zero_division=0)
    scale = len(y_prob) / rows
    seconds = scale * (time.perf_counter() - start)
    processor_seconds = scale * (time.process_time() - start_processor)
    assert abs(score - fbeta_samples(dense, y_pred)) < 1e-9, "one of the two is another score"
    return {
        "seconds": seconds,
        "least_seconds": seconds,
        "processor_seconds": processor_seconds,
        "least_processor_seconds": processor_seconds,
        "measured_rows": rows,
    }


def check_sets(y_prob):
    """Sets of the compiled, truncated rule against the full expectation of every size."""
    sizes = expected_fbeta_sets(y_prob).y_pred.sum(axis=1)
    curves = [expected_fbeta_curve(row) for row in y_prob]
    losses = [curve.max() - curve[size - 1] for curve, size in zip(curves, sizes, strict=True)]
    same = [int(np.argmax(curve)) + 1 == size for curve, size in zip(curves, sizes, strict=True)]
    return {
        "rows": len(y_prob),
        "same": float(np.mean(same)),
        "largest_loss": float(max(losses)),
    }


def print_table(rows, num_samples):
    """Every row as a ratio to one pass over the scores, and to one NumPy evaluation."""
    sklearn, grid = "scikit-learn, one threshold", f"scikit-learn, {GRID} thresholds (multiplied)"
    scaled = {
        key: GRID * rows[sklearn][key] for key in ("least_seconds", "least_processor_seconds")
    }
    table = {**rows, grid: scaled}
    print(f"\n{num_samples:,} x {len(CLASS_NAMES):,} float32 scores; least of the repeats")
    print("  clk: by the clock; cpu: processor time of all threads, steadier on a busy machine")
    heads = ("clk ms", "cpu ms", "clk/max", "cpu/max", "clk/bool", "cpu/bool", "array MB", "RSS MB")
    print(f"  {'':42s}{''.join(f'{head:>10s}' for head in heads)}")
    base, plain = table["np.max"], table["NumPy bool, one threshold"]
    for name, row in table.items():
        own = [row["least_seconds"], row["least_processor_seconds"]]
        figures = [f"{1000 * seconds:.1f}" for seconds in own]
        for other in (base, plain):
            figures.append(f"{own[0] / other['least_seconds']:.2f}")
            figures.append(f"{own[1] / other['least_processor_seconds']:.2f}")
        for key in ("peak_traced_mb", "peak_resident_mb"):
            figures.append(f"{row[key]:.0f}" if key in row else "")
        print(f"  {name:42s}{''.join(f'{figure:>10s}' for figure in figures)}")
    faster = scaled["least_seconds"] / rows["exact threshold, numba"]["least_seconds"]
    print(f"\n  Exact search: {faster:,.0f} times as fast as {GRID} scikit-learn evaluations:")
    print(f"  one measured on {rows[sklearn]['measured_rows']:,} rows and multiplied, not run.")
    for name, row in rows.items():
        if "score" in row:
            found = row.get("threshold") or row.get("thresholds")
            print(f"  {name}: F2 {row['score']:.6f} at {found}, certified: {row['certified']}")


if __name__ == "__main__":
    sys.exit(main())
