"""Neighbours of the test pictures against the bare matrix product of the same size.

    python -m benchmarks.neighbours [--scale 0.1]

The product alone, in blocks of the same size and thrown away, is what any exact search by cosine
must do. Both are timed in turns within one run: on a busy machine the ratio of processor times
repeats best.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import tracemalloc

import numpy as np

from imetlib.decisions.neighbours import nearest_neighbours
from imetlib.decisions.transfer import transfer_labels

# Test pictures of iMet 2019, training pictures, features of a ResNet-50, classes.
NUM_QUERIES, NUM_CANDIDATES, NUM_FEATURES, NUM_CLASSES = 38_801, 109_237, 2_048, 1_103
LABELS_PER_SAMPLE = 3
BLOCK_BYTES = 1 << 29


def run(scale=0.1, k=50, repeats=1, seed=0):
    """Measures, prints and returns one row a step.

    Args:
        scale: float in (0, 1]. Share of the rows on both sides; time goes with its square.
        k: int >= 1. Neighbours.
        repeats: int >= 1. Each median is taken over these turns.
        seed: int, of the drawn embeddings.

    Returns:
        list of dict: "name"; "seconds" by the clock and "processor_seconds", medians; "ratio" and
        "processor_ratio", those of the product being 1; "peak_bytes" of arrays beyond the inputs,
        measured in a turn of its own on a tenth of the queries, None for the product.
    """
    generator = np.random.default_rng(seed)
    num_queries, num_candidates = round(NUM_QUERIES * scale), round(NUM_CANDIDATES * scale)
    embeddings = draw_embeddings(generator, num_candidates)
    queries = draw_embeddings(generator, num_queries)
    labels = np.sort(
        generator.integers(NUM_CLASSES // LABELS_PER_SAMPLE, size=(num_candidates, 3))
        + np.arange(3) * (NUM_CLASSES // LABELS_PER_SAMPLE)
    )
    found = {}

    def search():
        found["rows"], found["cosines"] = nearest_neighbours(
            queries, embeddings, k=k, block_bytes=BLOCK_BYTES
        )

    def transfer():
        transfer_labels(found["rows"], found["cosines"], list(labels), scale=20.0)

    steps = {
        "matrix product": lambda: multiply(queries, embeddings),
        "nearest_neighbours": search,
        "transfer_labels": transfer,
    }
    clocks = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.perf_counter(), time.process_time()
            step()
            clocks[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    seconds = {
        name: [statistics.median(values) for values in zip(*turns, strict=True)]
        for name, turns in clocks.items()
    }
    base, processor_base = seconds["matrix product"]
    queries = queries[: max(k, num_queries // 10)]
    peaks = {"nearest_neighbours": peak_of(search), "transfer_labels": peak_of(transfer)}
    rows = [
        {
            "name": name,
            "seconds": clock,
            "processor_seconds": processor,
            "ratio": clock / base,
            "processor_ratio": processor / processor_base,
            "peak_bytes": peaks.get(name),
        }
        for name, (clock, processor) in seconds.items()
    ]
    rate = 2e-9 * num_queries * num_candidates * NUM_FEATURES / base
    print(
        f"\n{num_queries:,} queries, {num_candidates:,} x {NUM_FEATURES:,} embeddings, k = {k}; "
        f"the product runs at {rate:.0f} GFLOP a second"
    )
    print(f"  {'':24s}{'seconds':>10s}{'ratio':>8s}{'processor':>12s}{'ratio':>8s}{'peak MB':>10s}")
    for row in rows:
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:10.0f}"
        print(
            f"  {row['name']:24s}{row['seconds']:10.2f}{row['ratio']:8.3f}"
            f"{row['processor_seconds']:12.2f}{row['processor_ratio']:8.3f}{peak}"
        )
    return rows


def draw_embeddings(generator, num_rows):
    """Rows as pooled maps are: no value negative, around 400 common directions."""
    centres = generator.standard_normal((400, NUM_FEATURES), dtype=np.float32)
    embeddings = centres[generator.integers(len(centres), size=num_rows)]
    for start in range(0, num_rows, 4096):  # a second array of this size would double the memory
        block = embeddings[start : start + 4096]
        block += generator.standard_normal(block.shape, dtype=np.float32)
        np.maximum(block, 0, out=block)
    return embeddings


def multiply(queries, embeddings, side=8192):
    """The product of all queries with all embeddings, block by block, into one buffer."""
    buffer = np.empty(min(side, len(queries)) * min(side, len(embeddings)), np.float32)
    for start in range(0, len(embeddings), side):
        candidates = embeddings[start : start + side].T
        for first in range(0, len(queries), side):
            block = queries[first : first + side]
            size = len(block) * candidates.shape[1]
            np.matmul(block, candidates, out=buffer[:size].reshape(len(block), -1))


def peak_of(step):
    """Largest memory of arrays that a step takes beyond what there was, in bytes."""
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1, help="share of the rows, 1 for all")
    parser.add_argument("--repeats", type=int, default=1, help="turns that medians are taken over")
    options = parser.parse_args(arguments)
    if not 0 < options.scale <= 1 or options.repeats < 1:
        parser.error("--scale must be in (0, 1] and --repeats at least 1")
    run(options.scale, repeats=options.repeats)


if __name__ == "__main__":
    sys.exit(main())
