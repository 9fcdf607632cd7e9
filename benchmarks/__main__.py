"""One training step beside reading its batch; the input pipeline has `benchmarks.input`.

    python -m benchmarks [--out FILE]

Both are measured in turns within one run and reported as medians and a ratio: on a busy machine
the ratios repeat, the rates do not.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.records import write_figures
from imetlib.collection.batches import Batches
from imetlib.collection.cache import build_cache
from imetlib.collection.geometry import Augmentation
from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection
from imetlib.profiles import get_profile
from imetlib.training.devices import describe_devices, set_seed
from imetlib.training.fit import preprocessing_of
from imetlib.training.networks import build_classifier
from imetlib.training.optimizers import compile_model

MUSEUM_PICTURES = 400
BATCH_SIZE = 32
STEPS = {"small_convnet": (64, 64, 3), "mobilenet_v2": (192, 128, 3)}


def main(arguments=None):
    """Measure, print the table, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="each median is taken over these")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    set_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = draw_museum(Path(temporary) / "museum", size=MUSEUM_PICTURES, test_fraction=0.0)
        collection = read_collection(folder)
        side = max(min(shape[:2]) for shape in STEPS.values())
        cache = build_cache(collection, "train", Path(temporary) / "cache", min_side=side)
        steps = {
            name: measure_step(name, shape, cache, collection.num_classes, options.repeats)
            for name, shape in STEPS.items()
        }
    print_table(steps)
    if options.out:
        record = {"repeats": options.repeats, "batch_size": BATCH_SIZE, "steps": steps}
        write_figures(options.out, {**record, "devices": describe_devices()})


def measure_step(name, image_shape, cache, num_classes, repeats):
    """Median seconds of a training step and of reading its batch."""
    profile = get_profile(
        "fast", backbone=name, weights="", image_shape=image_shape, batch_size=BATCH_SIZE
    )
    model, _ = build_classifier(profile, num_classes)
    compile_model(model, profile, updates=1000)
    batches = Batches(
        cache,
        np.arange(len(cache)),
        preprocessing_of(profile),
        batch_size=BATCH_SIZE,
        shuffle=True,
        augmentation=Augmentation(),
        workers=0,
    )
    labels = np.zeros((BATCH_SIZE, num_classes), np.float32)
    step_seconds, input_seconds = [], []
    for turn in range(2 * repeats + 2):
        start = time.perf_counter()
        images = batches[turn % len(batches)]
        between = time.perf_counter()
        model.train_on_batch(np.resize(images, (BATCH_SIZE, *image_shape)), labels)
        if turn >= 2:  # the first steps compile
            input_seconds.append(between - start)
            step_seconds.append(time.perf_counter() - between)
    return {
        "image_shape": image_shape,
        "step_ms": 1000 * statistics.median(step_seconds),
        "input_ms": 1000 * statistics.median(input_seconds),
        "input_share": statistics.median(input_seconds) / statistics.median(step_seconds),
    }


def print_table(steps):
    """A line a network."""
    print(f"\nTraining step: {BATCH_SIZE} pictures, and reading them in one thread")
    print(f"  {'':36s}{'step ms':>12s}{'input ms':>10s}{'ratio':>8s}")
    for name, step in steps.items():
        title = f"{name}, {step['image_shape'][0]} x {step['image_shape'][1]} px"
        print(
            f"  {title:36s}{step['step_ms']:12.0f}{step['input_ms']:10.0f}"
            f"{step['input_share']:8.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
