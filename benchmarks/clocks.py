"""The two clocks of the benchmarks, and ways measured in turns."""

import time

import numpy as np

CLOCKS = ("seconds", "processor_seconds")
# The first calls compile.
_UNCOUNTED_TURNS = 2


def read_clocks():
    """Seconds by the clock, and of processor time of all threads."""
    return np.array([time.perf_counter(), time.process_time()])


def measure_in_turns(ways, repeats, *, warm=0):
    """Median seconds of each way by both clocks, one call of each after the other.

    Args:
        ways: dict of name to function without arguments.
        repeats: int >= 1, counted calls of each.
        warm: int >= 0, calls just before each counted one. What others did in between has cost a
            way its memory: a step of much memory is up to twice as slow after them as after
            another of its own.

    Returns:
        dict of name to dict with `CLOCKS`.
    """
    clocks = {name: [] for name in ways}
    for turn in range(_UNCOUNTED_TURNS + repeats):
        for name, way in ways.items():
            for _ in range(warm):
                way()
            start = read_clocks()
            way()
            if turn >= _UNCOUNTED_TURNS:
                clocks[name].append(read_clocks() - start)
    medians = {name: np.median(values, axis=0).tolist() for name, values in clocks.items()}
    return {name: dict(zip(CLOCKS, values, strict=True)) for name, values in medians.items()}
