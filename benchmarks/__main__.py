"""Pictures per second of the input pipeline against decoding alone, and one training step.

    python -m benchmarks [--collection DIR] [--out FILE]

Everything is measured in turns within one run and reported as a median and a ratio: on a busy
machine the ratios repeat, the rates do not.
"""

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.clocks import read_clocks
from benchmarks.records import write_figures
from imetlib.collection.batches import Batches
from imetlib.collection.cache import build_cache
from imetlib.collection.geometry import Augmentation, Preprocessing, prepare
from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection
from imetlib.profiles import get_profile
from imetlib.quiet import keras
from imetlib.training.devices import describe_devices, set_seed
from imetlib.training.fit import preprocessing_of
from imetlib.training.networks import build_classifier
from imetlib.training.optimizers import compile_model

MUSEUM_PICTURES = 400
BATCH_SIZE = 32
PREPROCESSING = Preprocessing((192, 128, 3))
STEPS = {"small_convnet": (64, 64, 3), "mobilenet_v2": (192, 128, 3)}
AUGMENTATION = Augmentation()


def main(arguments=None):
    """Measure, print the table, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--collection", type=Path, help="folder; a museum is drawn without it")
    parser.add_argument("--pictures", type=int, default=MUSEUM_PICTURES, help="how many at most")
    parser.add_argument("--repeats", type=int, default=3, help="each median is taken over these")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.pictures < BATCH_SIZE or options.repeats < 1:
        parser.error(f"--pictures must be at least {BATCH_SIZE} and --repeats at least 1")
    set_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.collection
        if folder is None:
            folder = Path(temporary) / "museum"
            draw_museum(folder, size=MUSEUM_PICTURES, image_size=300, test_fraction=0.0)
        collection = first_pictures(read_collection(folder), options.pictures)
        cache = build_cache(
            collection, "train", Path(temporary) / "cache", min_side=PREPROCESSING.min_side
        )
        rates, absent = measure_input(collection, cache, options.repeats)
        steps = {
            name: measure_step(name, shape, cache, collection.num_classes, options.repeats)
            for name, shape in STEPS.items()
        }
    print_tables(rates, absent, steps, len(cache))
    if options.out:
        record = {
            "pictures": len(cache),
            "repeats": options.repeats,
            "image_shape": PREPROCESSING.image_shape,
            "batch_size": BATCH_SIZE,
            "pictures_per_second": rates,
            "not_installed": absent,
            "steps": steps,
            "devices": describe_devices(),
        }
        write_figures(options.out, record)


def first_pictures(collection, num_pictures):
    """The same collection with fewer training pictures."""
    rows = np.arange(min(num_pictures, len(collection.train)))
    return replace(collection, train=collection.train.take(rows), specimens=None)


# Input ----------------------------------------------------------------------------------------


def measure_input(collection, cache, repeats):
    """Median pictures per second of each way to read the same pictures, and what is absent."""
    encoded = [
        cache.data[start:end].tobytes()
        for start, end in zip(cache.offsets[:-1], cache.offsets[1:], strict=True)
    ]
    ways, absent = {"decoding alone, OpenCV": partial(decode_all, decode_opencv, encoded)}, []
    try:
        import simplejpeg
    except ImportError:
        absent.append("simplejpeg")
    else:
        ways["decoding alone, simplejpeg"] = partial(decode_all, simplejpeg.decode_jpeg, encoded)
    network = network_of_nothing()
    for workers in (1, 2):
        batches = make_batches(cache, workers)
        ways[f"Batches, {workers} thread{'s'[: workers - 1]}"] = partial(epoch, network, batches)
    try:
        import grain
    except ImportError:
        absent.append("grain")
    else:
        # It has no length, which `fit` finds worth a warning.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        for threads in (1, 2):
            dataset = make_grain(grain, cache, threads)
            ways[f"grain, {threads} read thread{'s'[: threads - 1]}"] = partial(
                epoch, network, dataset
            )
    sources = [collection.picture_path("train", name) for name in collection.train.ids]
    ways["PyDataset, Pillow on the sources"] = partial(epoch, network, PillowBatches(sources))
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(way())
    rates = {name: len(cache) / np.median(values, axis=0) for name, values in seconds.items()}
    return {name: {"clock": rate[0], "processor": rate[1]} for name, rate in rates.items()}, absent


def decode_all(decode, encoded):
    """Seconds by the clock and of the processor that decoding takes in one thread."""
    start = read_clocks()
    for data in encoded:
        decode(data)
    return read_clocks() - start


def decode_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def network_of_nothing():
    """A network whose step costs next to nothing: `fit` then runs at the speed of its input."""
    images = keras.Input(PREPROCESSING.image_shape, dtype="uint8")
    corner = keras.layers.Lambda(lambda x: keras.ops.cast(x[:, 0, 0, :], "float32"))(images)
    network = keras.Model(images, keras.layers.Dense(1)(corner))
    network.compile("sgd", "mse")
    return network


def epoch(network, batches):
    """Clocks of the second of two epochs of `fit`: the first one also opens the input."""
    clock = EpochClock()
    network.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[clock])
    return clock.seconds[1]


class EpochClock(keras.callbacks.Callback):
    """Seconds of each epoch."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = read_clocks()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(read_clocks() - self._start)


def make_batches(cache, workers, preprocessing=PREPROCESSING):
    """Our pipeline, as training uses it."""
    return Batches(
        cache,
        np.arange(len(cache)),
        preprocessing,
        labels=np.zeros((len(cache), 1), np.float32),
        batch_size=BATCH_SIZE,
        shuffle=True,
        augmentation=AUGMENTATION,
        workers=workers,
    )


def make_grain(grain, cache, threads):
    """The same pictures, warp and augmentation, read by grain."""

    def load(row, rng):
        image = prepare(cache.read(row), PREPROCESSING, augmentation=AUGMENTATION, rng=rng)
        return image, np.zeros(1, np.float32)

    dataset = grain.MapDataset.source(range(len(cache))).seed(0).shuffle().random_map(load)
    return dataset.batch(BATCH_SIZE).to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=8)
    )


class PillowBatches(keras.utils.PyDataset):
    """What one writes at first: decode and resize the source files, anew in every epoch."""

    def __init__(self, paths):
        super().__init__(workers=1)
        self.paths = paths

    def __len__(self):
        return -(-len(self.paths) // BATCH_SIZE)

    def __getitem__(self, index):
        height, width, _ = PREPROCESSING.image_shape
        images = [
            Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            for path in self.paths[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        ]
        return np.stack(images), np.zeros((len(images), 1), np.float32)


# Training step --------------------------------------------------------------------------------


def measure_step(name, image_shape, cache, num_classes, repeats):
    """Median seconds of a training step and of reading its batch."""
    profile = get_profile(
        "fast", backbone=name, weights="", image_shape=image_shape, batch_size=BATCH_SIZE
    )
    model, _ = build_classifier(profile, num_classes)
    compile_model(model, profile, updates=1000)
    batches = make_batches(cache, workers=0, preprocessing=preprocessing_of(profile))
    labels = np.zeros((BATCH_SIZE, num_classes), np.float32)
    step_seconds, input_seconds = [], []
    for turn in range(2 * repeats + 2):
        start = time.perf_counter()
        images, _ = batches[turn % len(batches)]
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


def print_tables(rates, absent, steps, num_pictures):
    """Both tables, rates as ratios to decoding alone."""
    height, width, _ = PREPROCESSING.image_shape
    base = next(iter(rates.values()))
    print(f"\nInput: {num_pictures} pictures to {height} x {width} px, batches of {BATCH_SIZE}")
    print(f"  {'pictures a second':36s}{'clock':>12s}{'ratio':>8s}{'processor':>12s}{'ratio':>8s}")
    for name, rate in rates.items():
        columns = (f"{rate[key]:12.0f}{rate[key] / base[key]:8.2f}" for key in rate)
        print(f"  {name:36s}{''.join(columns)}")
    for name in absent:
        print(f"  {name}: not installed (pip install -e '.[dev]')")
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
