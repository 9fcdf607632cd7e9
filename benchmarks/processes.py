"""Two processes against one, each on a core of its own: training, reading and tagging on jax.

    python -m benchmarks.processes [--rows N] [--batch N] [--side N] [--turns N]
                                   [--trainable-from all|late] [--kind train|larger|tag]
                                   [--out FILE]

A MobileNetV2, of which all layers learn or the late ones, from a cache of JPEG. Ways are measured
in turns, all processes stay; compiling is not counted. The limit is what the machine gives two
processes that do the same and exchange nothing. What two processes lose beyond that is compared
with the sum of as many numbers as learn over both, and with what one process needs for half the
batch.
"""

import argparse
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.process_worker import BACKBONE, SHARDS, profile_of
from benchmarks.records import write_figures

EXCHANGES = 10


def main(arguments=None):
    """Measure, print the table, and add it to a record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("--rows", type=int, default=128, help="pictures of a turn")
    parser.add_argument("--batch", type=int, default=32, help="pictures of one process's batch")
    parser.add_argument("--side", type=int, default=96, help="of a picture in pixels")
    parser.add_argument(
        "--trainable-from", default="all", help='"all" layers learn, or "late" ones'
    )
    parser.add_argument("--turns", type=int, default=3, help="each median is taken over these")
    parser.add_argument("--kind", choices=("train", "larger", "tag"), default="train")
    parser.add_argument("--quiet", action="store_true", help="drop what processes say on stderr")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.rows % (2 * options.batch) or options.batch % 2 or options.turns < 1:
        parser.error("--rows must be a multiple of twice --batch, --batch even, --turns at least 1")
    reason = why_not()
    if reason:
        print(f"Two processes are not measured here: {reason}")
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options)
    print_table(figures, options)
    if options.out:
        names = ("rows", "batch", "side", "turns", "trainable_from")
        sizes = {name: getattr(options, name) for name in names}
        before = json.loads(options.out.read_text()) if options.out.is_file() else {}
        name = f"{options.kind}, {options.trainable_from}, {options.side} px, batches of "
        write_figures(options.out, {**before, f"{name}{options.batch}": {**sizes, **figures}})


def why_not():
    """What is missing here, or None."""
    if importlib.util.find_spec("jax") is None:
        return "jax is not installed (make bench-processes installs it)"
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return "they want a core each"
    return None


def measure(folder, options):
    """Rates of all ways, ratios, and what an exchange takes; see `print_table`."""
    from imetlib.collection.prepared import prepare_collection

    prepare_collection(profile_of(options.side, options.batch), out=folder)
    # Compiling is most of the start: what two compile alike, the second finds done.
    rows, tags = options.rows, options.kind == "tag"
    single = wait_for(start(folder, options, options.batch, count=1, tags=tags))
    if options.kind == "larger":
        half = start(folder, options, options.batch // 2, count=1)
        both = start(folder, options, 2 * options.batch, count=2)
        wait_for([*half, *both])
        ways = {
            "train, one": (single, ["train"], rows),
            "train, one with half the batch": (half, ["train"], rows),
            "train, two with twice the batch": (both, ["train"] * 2, rows),
        }
        return run_ways(ways, options.turns)
    alone = [*single, *wait_for(start(folder, options, options.batch, count=1, core=1, tags=tags))]
    if tags:
        tagged = folder_size(folder)
        ways = {
            "tag, one": (single, [f"tag 0 {SHARDS}"], tagged),
            "tag, two": (alone, ["tag 0 2", f"tag 2 {SHARDS}"], tagged),
        }
        return run_ways(ways, options.turns)
    both = wait_for(start(folder, options, options.batch, count=2))
    # Name to (processes, their commands, pictures of all).
    ways = {
        "train, one": (single, ["train"], rows),
        "train, two": (both, ["train"] * 2, rows),
        "train, two alone": (alone, ["train"] * 2, 2 * rows),
        "read, one": (single, ["read"], rows),
        "read, two": (both, ["read"] * 2, rows),
        "read, two alone": (alone, ["read"] * 2, 2 * rows),
        # The mean of several; counts as one picture.
        "exchange": (both, [f"exchange {EXCHANGES}"] * 2, 1),
    }
    figures = run_ways(ways, options.turns)
    rates = figures["pictures_per_second"]
    step = {
        "one": options.batch / rates["train, one"],
        "two": options.batch / rates["train, two"],
        "exchange": 1 / rates.pop("exchange"),
    }
    figures["step_ms"] = {name: 1000 * seconds for name, seconds in step.items()}
    return {**figures, "exchange_bytes": 4 * single[0].facts["num_params"]}


def run_ways(ways, turns):
    """Rates of ways, one turn of each after the other; their processes end."""
    found = {name: [] for name in ways}
    try:
        for _ in range(turns):
            for name, (processes, commands, _) in ways.items():
                found[name].append(turn(processes, commands))
                print(f"{name}: {found[name][-1]:.2f} s", file=sys.stderr)
    finally:
        for process in {id(p): p for way in ways.values() for p in way[0]}.values():
            process.kill()
            process.communicate()
    seconds = {name: float(np.median(values)) for name, values in found.items()}
    rates = {name: pictures / seconds[name] for name, (_, _, pictures) in ways.items()}
    return {
        "pictures_per_second": rates,
        "spread": {n: (max(v) - min(v)) / seconds[n] for n, v in found.items()},
        "ratios": ratios_of(rates),
    }


def ratios_of(rates):
    """Ways of two processes as multiples of one, and as shares of two that exchange nothing."""
    found = {}
    for name in rates:
        kind, _, way = name.partition(", ")
        if not way.startswith("two"):
            continue
        found[name] = {"of_one": rates[name] / rates[f"{kind}, one"]}
        if f"{kind}, two alone" in rates and way != "two alone":
            found[name]["of_limit"] = rates[name] / rates[f"{kind}, two alone"]
    return found


def folder_size(folder):
    """Pictures that are tagged."""
    return len(list(next(folder.glob("museum*/train")).iterdir()))


def start(folder, options, batch_size, *, count, core=0, tags=False):
    """Processes of one network on cores from `core` on; they are ready after `wait_for`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "folder": str(folder),
        "side": options.side,
        "rows": options.rows,
        "batch_size": batch_size,
        "tags": tags,
        "trainable_from": options.trainable_from,
    }
    cores, running = sorted(os.sched_getaffinity(0)), []
    for number in range(count):
        own = {
            "KERAS_BACKEND": "jax",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        if count > 1:
            own |= {"IMETLIB_COORDINATOR": address, "IMETLIB_PROCESSES": f"{count}",
                    "IMETLIB_PROCESS": f"{number}"}  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.process_worker"]
        process = subprocess.Popen(
            [*command, f"{cores[core + number]}", json.dumps(settings)],
            env={**os.environ, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if options.quiet else None,
            text=True,
        )
        running.append(process)
    return running


def wait_for(processes):
    """Processes that have compiled everything."""
    begun = time.perf_counter()
    for process in processes:
        process.facts = answer_of(process)
    seconds = time.perf_counter() - begun
    print(f"{len(processes)} processes ready after {seconds:.0f} s", file=sys.stderr)
    return processes


def turn(processes, commands):
    """Seconds until the last of some processes has done its command."""
    for process, command in zip(processes, commands, strict=True):
        process.stdin.write(f"{command}\n")
        process.stdin.flush()
    return max(answer_of(process)["seconds"] for process in processes)


def answer_of(process):
    """The next answer of a process.

    Raises:
        RuntimeError: it died.
    """
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"A process ended with {process.wait()}; its words are above")
    return json.loads(line)


def print_table(figures, options):
    """Pictures per second, as multiples of one process and shares of the limit, and the steps."""
    print(
        f"\nProcesses on a core each: {BACKBONE} at {options.side} px, batches of {options.batch}, "
        f"{options.turns} turns of {options.rows} pictures"
    )
    print(f"  {'':36s}{'pictures/s':>12s}{'spread':>9s}{'of one':>9s}{'of limit':>10s}")
    for name, rate in figures["pictures_per_second"].items():
        ratios = figures["ratios"].get(name, {})
        line = f"  {name:36s}{rate:12.1f}{figures['spread'][name]:9.0%}"
        for key, width in (("of_one", 9), ("of_limit", 10)):
            line += f"{ratios[key]:{width}.2f}" if key in ratios else " " * width
        print(line)
    if "step_ms" in figures:
        steps = ", ".join(f"{name} {value:.0f} ms" for name, value in figures["step_ms"].items())
        print(f"  a step: {steps} (of {figures['exchange_bytes'] / 1e6:.1f} MB)")


if __name__ == "__main__":
    sys.exit(main())
