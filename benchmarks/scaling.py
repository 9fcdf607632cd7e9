"""Which way of reading grows with cores, and why: threads, PyDataset's workers, grain, tf.data.

    python -m benchmarks.scaling [--pictures N] [--seconds S] [--repeats N] [--out FILE]

Each way reads the same cache of JPEG through one warp into batches of uint8, without end, in turns
within one run; a turn begins when what its workers had made ahead is used up. Two plain processes,
each on a core of its own, show what the machine allows; the steps of one picture, in one thread and
in two, and a batch sent from process to process, show what the ways lose of it.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.input import BATCH_SIZE, GEOMETRY, PLAIN, SHAPE, make_batches
from benchmarks.records import write_figures
from benchmarks.scaling_reasons import explain, measure_steps, measure_transfer
from imetlib.collection.cache import build_cache, open_cache
from imetlib.collection.geometry import picture_matrix, prepare
from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection
from imetlib.quiet import keras

# Batches that workers make ahead of the reader; more are read before a turn begins.
QUEUE = 4
# Name to its workers; the first of a kind is what the others are compared with.
THREADS = {"Batches, 1 thread": 1, "Batches, 2 threads": 2}
WORKERS = {
    "PyDataset, 1 worker": (1, False),
    "PyDataset, 2 worker threads": (2, False),
    "PyDataset, 2 processes": (2, True),
}
GRAIN = {
    "grain, 1 read thread": (1, 0),
    "grain, 2 read threads": (2, 0),
    "grain, 2 processes": (1, 2),
}
TF_DATA = {"tf.data, 1 call": 1, "tf.data, 2 calls": 2}
ALONE = {"one process on a core": 1, "two processes on two": 2}


def main(arguments=None):
    """Measure, print the tables, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--pictures", type=int, default=512, help="drawn, 300 px")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each way in each turn")
    parser.add_argument("--repeats", type=int, default=3, help="each median is taken over these")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.pictures < 200 or options.repeats < 1 or options.seconds <= 0:
        parser.error("--pictures must be at least 200, --repeats at least 1, --seconds above 0")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_museum(folder / "museum", size=options.pictures, image_size=300, test_fraction=0.0)
        collection = read_collection(folder / "museum")
        cache = build_cache(collection, "train", folder / "cache", min_side=min(SHAPE[:2]))
        # Before TensorFlow has threads, of which a fork would not know.
        pairs = [Alone(cache.folder, core) for core in sorted(os.sched_getaffinity(0))[:2]]
        readers, closers, absent = make_readers(cache)
        try:
            rates = measure(readers, pairs, options.seconds, options.repeats)
        finally:
            for close in (*closers, *(pair.close for pair in pairs)):
                close()
        steps, batch = measure_steps(cache, options.repeats), measure_transfer(options.repeats)
    gains = gains_of(rates)
    reasons = explain(gains.get(list(ALONE)[1], 1.0), steps, batch)
    reasons["seconds_to_start_a_process"] = min(pair.start_seconds for pair in pairs)
    print_tables(rates, gains, steps, reasons, absent)
    if options.out:
        record = {name: getattr(options, name) for name in ("pictures", "seconds", "repeats")}
        record |= {"image_shape": SHAPE, "batch_size": BATCH_SIZE, "not_installed": absent}
        record |= {"pictures_per_second": rates, "gains": gains, "steps": steps}
        write_figures(options.out, record | {"batch_between_processes": batch, "reasons": reasons})


# Ways -----------------------------------------------------------------------------------------


class Endless(keras.utils.PyDataset):
    """Batches again and again, read by Keras's own workers."""

    def __init__(self, batches, **workers):
        super().__init__(max_queue_size=QUEUE, **workers)
        self.batches = batches

    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        return self.batches[index % len(self.batches)]


def make_readers(cache):
    """Name to iterator of batches without end; functions that end them; what is not installed."""
    rows, readers, closers, absent = np.arange(len(cache)), {}, [], []
    for name, threads in THREADS.items():
        readers[name] = loop(make_batches(cache, rows, threads, GEOMETRY))
    for name, workers in WORKERS.items():
        readers[name], close = read_by_workers(make_batches(cache, rows, 1, GEOMETRY), *workers)
        closers.append(close)
    try:
        import grain
    except ImportError:
        absent.append("grain")
    else:
        for name, workers in GRAIN.items():
            readers[name] = make_grain(grain, cache, rows, *workers)
            closers.append(readers[name].close)
    try:
        import tensorflow as tf
    except ImportError:
        absent.append("tensorflow")
    else:
        for name, calls in TF_DATA.items():
            readers[name] = make_tf_data(tf, cache, calls)
    return readers, closers, absent


def loop(batches):
    """Every batch, again and again."""
    for index in itertools.count():
        yield batches[index % len(batches)]


def read_by_workers(batches, workers, use_multiprocessing):
    """Batches of Keras's workers as `fit` reads them, and what ends the workers."""
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    dataset = Endless(batches, workers=workers, use_multiprocessing=use_multiprocessing)
    adapter = PyDatasetAdapter(dataset)
    iterator = iter(adapter.get_numpy_iterator())
    return iterator, adapter.enqueuer.stop if adapter.enqueuer else iterator.close


def make_grain(grain, cache, rows, threads, processes=0):
    """The same pictures and warp, read by grain."""

    def load(row, rng):
        return prepare(cache.read(row), PLAIN, augmentation=GEOMETRY, rng=rng)

    dataset = grain.MapDataset.source(rows.tolist()).seed(0).shuffle().random_map(load)
    dataset = dataset.batch(min(BATCH_SIZE, len(rows))).repeat()
    dataset = dataset.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=QUEUE)
    )
    if processes:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=processes))
    return iter(dataset)


def make_tf_data(tf, cache, calls):
    """TensorFlow's decoder and its warp, in graphs: Python has no part in a picture."""
    encoded = [
        cache.data[slice(*cache.offsets[row : row + 2])].tobytes() for row in range(len(cache))
    ]
    rng = np.random.default_rng(0)
    maps = []
    for height, width in zip(cache.heights.tolist(), cache.widths.tolist(), strict=True):
        scale, rotate = np.exp(rng.uniform(-0.1, 0.1)), rng.uniform(-5, 5)
        maps.append(invert(picture_matrix(height, width, PLAIN, scale=scale, rotate=rotate)))

    def load(data, inverse):
        return warp_by_tensorflow(tf, tf.io.decode_jpeg(data, channels=3), inverse)

    dataset = tf.data.Dataset.from_tensor_slices((encoded, maps)).shuffle(len(encoded), 0).repeat()
    dataset = dataset.map(load, num_parallel_calls=calls).batch(min(BATCH_SIZE, len(encoded)))
    return iter(dataset.prefetch(QUEUE))


def invert(matrix):
    """A map as TensorFlow wants it, `(8,)` float32 from target to picture."""
    return np.linalg.inv(np.vstack([matrix, [0, 0, 1]])).ravel()[:8].astype(np.float32)


def warp_by_tensorflow(tf, picture, inverse):
    """`SHAPE` uint8."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=picture[None],
        transforms=inverse[None],
        output_shape=SHAPE[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )[0]


class Alone:
    """A process of its own on one core, that reads for so many seconds when it is told to."""

    def __init__(self, folder, core):
        start = time.perf_counter()
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=read_alone, args=(folder, core, other), daemon=True)
        self.process.start()
        self.pipe.recv()
        self.start_seconds = time.perf_counter() - start

    def close(self):
        self.pipe.send(0)
        self.process.join()


def read_alone(folder, core, pipe):
    """Read in one thread on a core: a rate for each number of seconds that comes, until a 0."""
    os.sched_setaffinity(0, {core})
    cache = open_cache(folder)
    batches = loop(make_batches(cache, np.arange(len(cache)), 1, GEOMETRY))
    next(batches)
    pipe.send("ready")
    while seconds := pipe.recv():
        pipe.send(rate_of(batches, seconds, warm=1))


# Rates ----------------------------------------------------------------------------------------


def measure(readers, pairs, seconds, repeats):
    """Median pictures per second of each way by both clocks; the first turn does not count."""
    turns = {name: partial(rate_of, reader, seconds) for name, reader in readers.items()}
    for name, number in ALONE.items():
        if number <= len(pairs):
            turns[name] = partial(rate_alone, pairs[:number], seconds)
    rates = {name: [] for name in turns}
    for turn in range(repeats + 1):
        for name, way in turns.items():
            settle()
            rate = way()
            if turn:
                rates[name].append(rate)
    medians = {name: np.median(found, axis=0).tolist() for name, found in rates.items()}
    return {
        name: dict(zip(("clock", "processor"), rate, strict=True)) for name, rate in medians.items()
    }


def settle(pause=0.2, most=50):
    """Wait until workers of ways before have filled their queues and rest."""
    for _ in range(most):
        used = processor_seconds()
        time.sleep(pause)
        if processor_seconds() - used < 0.1 * pause:
            return


def rate_of(batches, seconds, warm=QUEUE + 2):
    """Pictures per second of the clock, and of processor time, workers included."""
    for _ in range(warm):
        next(batches)
    start, used, pictures = time.perf_counter(), processor_seconds(), 0
    while time.perf_counter() - start < seconds:
        batch = next(batches)
        pictures += len(batch[0] if isinstance(batch, tuple) else batch)
    return pictures / (time.perf_counter() - start), pictures / (processor_seconds() - used)


def rate_alone(pairs, seconds):
    """All at once: the sum of their rates by the clock, the mean by processor time."""
    for pair in pairs:
        pair.pipe.send(seconds)
    clock, processor = np.transpose([pair.pipe.recv() for pair in pairs])
    return clock.sum(), processor.mean()


def processor_seconds():
    """Of this process and of the children that it has now."""
    used = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def gains_of(rates):
    """Gain by the clock of each way over the first of its kind that was measured."""
    gains = {}
    for kind in (THREADS, WORKERS, GRAIN, TF_DATA, ALONE):
        first, *others = [name for name in kind if name in rates] or [None]
        gains |= {name: rates[name]["clock"] / rates[first]["clock"] for name in others}
    return gains


def print_tables(rates, gains, steps, reasons, absent):
    """Rates with their gain over the first of their kind, then what explains it."""
    print(f"\nJPEG cache to {SHAPE[0]} x {SHAPE[1]} px through one warp, batches of {BATCH_SIZE}")
    print(f"  {'pictures a second':34s}{'clock':>9s}{'gain':>7s}{'processor':>11s}")
    for name, rate in rates.items():
        gain = f"{gains[name]:7.2f}" if name in gains else " " * 7
        print(f"  {name:34s}{rate['clock']:9.0f}{gain}{rate['processor']:11.0f}")
    for name in absent:
        print(f"  {name}: not installed (pip install -e '.[dev]')")
    print(f"\n  {'a picture':34s}{'ms':>9s}{'gain of two threads':>22s}")
    for name, step in steps.items():
        print(f"  {name:34s}{step['ms']:9.3f}{step['speed_up']:22.2f}")
    print()
    for name, value in reasons.items():
        print(f"  {name.replace('_', ' '):34s}{value:9.3f}")


if __name__ == "__main__":
    sys.exit(main())
