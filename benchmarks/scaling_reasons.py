"""Why a way of reading grows with cores or not: the interpreter's lock, and copies of batches."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.input import BATCH_SIZE, GEOMETRY, PLAIN, SHAPE
from imetlib.collection.cache import cache_of_images
from imetlib.collection.geometry import Preprocessing, picture_matrix, prepare

NUM_PICTURES = 128
# Decoder and OpenCV let other threads go on. On pictures as small as these they have next to
# nothing to do, and what is left holds the interpreter's lock.
TINY = 8
WHOLE, LOCKED = "all", f"all, of {TINY} x {TINY} pixels"


def measure_steps(cache, repeats):
    """What a picture's steps take in one thread, and how much two threads do more of them.

    Returns:
        dict of step to dict: `ms` of processor time a picture, `speed_up` by the clock.
    """
    num_pictures = min(NUM_PICTURES, len(cache))
    images = np.random.default_rng(0).integers(0, 256, (num_pictures, TINY, TINY, 3), np.uint8)
    tiny = cache_of_images(images, [str(row) for row in range(num_pictures)], TINY)
    steps = make_steps(cache, PLAIN, num_pictures)
    steps[LOCKED] = make_steps(tiny, Preprocessing((TINY, TINY, 3)), num_pictures)[WHOLE]
    taken = {name: [] for name in steps}
    with ThreadPoolExecutor(2) as pool:
        for turn in range(repeats + 1):
            for name, step in steps.items():
                start, used = time.perf_counter(), time.process_time()
                run_step(step, iter(range(num_pictures)))
                one, used = time.perf_counter() - start, time.process_time() - used
                start, rows = time.perf_counter(), iter(range(num_pictures))
                list(pool.map(run_step, [step, step], [rows, rows]))
                two = time.perf_counter() - start
                if turn:
                    taken[name].append((1000 * used / num_pictures, one / two))
    medians = {name: np.median(values, axis=0).tolist() for name, values in taken.items()}
    return {name: {"ms": ms, "speed_up": speed_up} for name, (ms, speed_up) in medians.items()}


def make_steps(cache, preprocessing, num_pictures):
    """Name to function of a row."""
    pictures = [cache.read(row) for row in range(num_pictures)]
    out = np.empty((num_pictures, *preprocessing.image_shape), np.uint8)
    buffers = threading.local()

    def draw(row):
        rng = np.random.default_rng([0, 0, row])
        rng.uniform(-1.0, 1.0, size=6), rng.random(), rng.random(), rng.random()
        picture_matrix(*pictures[row].shape[:2], preprocessing, scale=1.1, rotate=3.0)

    def read(row):
        if not hasattr(buffers, "bytes"):
            buffers.bytes = bytearray(cache.buffer_bytes)
        return cache.read(row, buffers.bytes)

    def warp(row, picture=None):
        prepare(
            pictures[row] if picture is None else picture,
            preprocessing,
            augmentation=GEOMETRY,
            rng=np.random.default_rng([0, 0, row]),
            out=out[row],
        )

    return {
        "decode": read,
        "draw and warp": warp,
        "draw and map alone": draw,
        WHOLE: lambda row: warp(row, read(row)),
    }


def run_step(step, rows):
    """A step for the rows that nobody has taken yet."""
    for row in rows:
        step(row)


def measure_transfer(repeats):
    """What it takes to send a batch through a pipe, as worker processes do.

    Returns:
        dict: `bytes` of a batch, `ms` of processor time a batch, both ends together.
    """
    batch = np.zeros((BATCH_SIZE, *SHAPE), np.uint8)
    sender, receiver = multiprocessing.Pipe()
    taken = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3 * repeats + 1):
            used = time.process_time()
            sending = pool.submit(sender.send, batch)
            receiver.recv()
            sending.result()
            taken.append(1000 * (time.process_time() - used))
    return {"bytes": batch.nbytes, "ms": float(np.median(taken[1:]))}


def explain(limit, steps, batch):
    """What two threads and two processes are expected to gain.

    Args:
        limit: float, what two processes that share nothing gain on two cores.
        steps: what `measure_steps` returned.
        batch: what `measure_transfer` returned.

    Returns:
        dict: for threads Amdahl's law, whose serial part is what holds the lock; for processes
        the limit, less the processor time that copies take.
    """
    whole = steps[WHOLE]["ms"]
    locked, sent = steps[LOCKED]["ms"] / whole, batch["ms"] / BATCH_SIZE
    return {
        "gain_of_two_cores": limit,
        "share_that_holds_the_lock": locked,
        "ms_of_a_picture": whole,
        "ms_of_sending_a_picture": sent,
        "expected_gain_of_threads": 1 / (locked + (1 - locked) / limit),
        "expected_gain_of_processes": limit * whole / (whole + sent),
    }
