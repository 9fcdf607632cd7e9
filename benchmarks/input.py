"""Pictures per second from files and caches to uint8 batches, and what the hardware allows.

    python -m benchmarks.input [--collection DIR] [--pictures N] [--repeats N] [--out FILE]

Without a collection a museum is drawn, 300 px PNG as iMet 2019's pictures are. Every way is
measured in turns within one run. "processor" counts the seconds of all threads, so its rate is
that of one core; "clock" shows what two threads add. `benchmarks.scaling` says which way grows with
cores.
"""

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.clocks import read_clocks
from benchmarks.records import write_figures
from imetlib.collection.batches import Batches
from imetlib.collection.cache import build_cache
from imetlib.collection.geometry import Augmentation, Preprocessing, prepare
from imetlib.collection.museum import draw_museum
from imetlib.collection.pixels import build_pixels
from imetlib.collection.tables import read_collection
from imetlib.quiet import keras

MUSEUM_PICTURES = 512
BATCH_SIZE = 64
SHORTEST = 0.3
SHAPE = (256, 256, 3)
PLAIN = Preprocessing(SHAPE)
# The four of the Keras layers below, and no more.
GEOMETRY = Augmentation(brightness=0.0, contrast=0.0)
ALL = Augmentation()


def main(arguments=None):
    """Measure, print the tables, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input", description=__doc__)
    parser.add_argument("--collection", type=Path, help="folder; a museum is drawn without it")
    parser.add_argument("--pictures", type=int, default=MUSEUM_PICTURES, help="how many at most")
    parser.add_argument("--repeats", type=int, default=5, help="each median is taken over these")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.pictures < 200 or options.repeats < 1:
        parser.error("--pictures must be at least 200 and --repeats at least 1")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.collection
        if folder is None:
            folder = Path(temporary) / "museum"
            draw_museum(folder, size=options.pictures, image_size=300, test_fraction=0.0)
        collection = read_collection(folder)
        rows = np.arange(min(options.pictures, len(collection.train)))
        files = [collection.picture_path("train", name) for name in collection.train.ids[rows]]
        cache = build_cache(collection, "train", Path(temporary) / "cache", min_side=min(SHAPE[:2]))
        pixels = build_pixels(cache, PLAIN, Path(temporary) / "pixels")
        ways, absent = make_ways(files, cache, pixels, rows, Path(temporary))
        rates = measure(ways, len(rows), options.repeats)
        layers = measure_augmentation(cache, options.repeats)
    print_tables(rates, layers, absent, len(rows), files[0].suffix)
    if options.out:
        record = {"pictures": len(rows), "repeats": options.repeats, "image_shape": SHAPE}
        record |= {"batch_size": BATCH_SIZE, "source": files[0].suffix, "not_installed": absent}
        record |= {"pictures_per_second": rates, "milliseconds_of_augmentation": layers}
        write_figures(options.out, record)


def make_ways(files, cache, pixels, rows, folder):
    """Name to function that reads all pictures once; names of what is not installed."""
    encoded = [cache.data[slice(*cache.offsets[row : row + 2])].tobytes() for row in rows]
    ways, absent = {}, []
    try:
        import simplejpeg
    except ImportError:
        absent.append("simplejpeg")
        ways["limit: decoding alone (OpenCV)"] = partial(decode_all, decode_opencv, encoded)
    else:
        ways["limit: decoding alone (libjpeg-turbo)"] = partial(
            decode_all, simplejpeg.decode_jpeg, encoded
        )
    for threads in (1, 2):
        word = f"{threads} thread{'s'[: threads - 1]}"
        for name, augmentation in (
            ("plain", None), ("fused warp", GEOMETRY), ("warp and colours", ALL),
        ):  # fmt: skip
            ways[f"Batches, JPEG cache, {name}, {word}"] = partial(
                read_all, make_batches(cache, rows, threads, augmentation)
            )
    ways["Batches, uint8, plain"] = partial(read_all, make_batches(pixels, rows, 1, None))
    ways["Batches, uint8, fused warp, 1 thread"] = partial(
        read_all, make_batches(pixels, rows, 1, GEOMETRY)
    )
    ways["limit: copy of the same bytes"] = partial(copy_all, pixels.data[: len(rows)])
    ways["PyDataset, Pillow, source files"] = partial(read_all, PillowBatches(files))
    for name, changes in (("plain", {}), ("four changes", LEGACY_CHANGES)):
        ways[f"ImageDataGenerator, source files, {name}"] = make_legacy(files, changes)
    ways["tf.data, source files, all threads"] = make_tf_data(files)
    shrunk = write_files(encoded, folder / "shrunk")
    ways["tf.data, JPEG cache as files, all threads"] = make_tf_data(shrunk)
    return ways, absent


def measure(ways, num_pictures, repeats):
    """Median pictures per second of each way by both clocks."""
    calls = {name: count_calls(way) for name, way in ways.items()}
    taken = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            if calls[name] > 1:
                way()
            start = read_clocks()
            for _ in range(calls[name]):
                way()
            taken[name].append((read_clocks() - start) / calls[name])
    rates = {name: num_pictures / np.median(seconds, axis=0) for name, seconds in taken.items()}
    return {name: {"clock": rate[0], "processor": rate[1]} for name, rate in rates.items()}


def count_calls(way):
    """How many calls of a way take `SHORTEST` seconds: so many make a turn.

    Those who had the caches and pages meanwhile count in the first call: it is left out where a
    turn has several.
    """
    for _ in range(2):
        start = time.perf_counter()
        way()
        taken = time.perf_counter() - start
        if taken > SHORTEST:
            break
    return max(1, round(SHORTEST / taken))


def decode_all(decode, encoded):
    """In one thread, every result dropped."""
    for data in encoded:
        decode(data)


def copy_all(data):
    """Into memory that is there already, a batch at a time: new pages would cost more."""
    batch = np.empty((BATCH_SIZE, *SHAPE), np.uint8)
    for start in range(0, len(data), BATCH_SIZE):
        part = data[start : start + BATCH_SIZE]
        np.copyto(batch[: len(part)], part)


def decode_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def read_all(batches):
    """Every batch of a sequence."""
    for index in range(len(batches)):
        batches[index]


def make_batches(pictures, rows, threads, augmentation):
    """Our pipeline, as training uses it."""
    return Batches(
        pictures,
        rows,
        PLAIN,
        labels=np.zeros((len(rows), 1), np.float32),
        batch_size=BATCH_SIZE,
        shuffle=True,
        augmentation=augmentation,
        workers=threads,
    )


# Peers ----------------------------------------------------------------------------------------


class PillowBatches(keras.utils.PyDataset):
    """What one writes at first: decode and resize the source files, anew in every epoch."""

    def __init__(self, paths):
        super().__init__(workers=1)
        self.paths = paths

    def __len__(self):
        return -(-len(self.paths) // BATCH_SIZE)

    def __getitem__(self, index):
        images = [
            Image.open(path).convert("RGB").resize(SHAPE[1::-1], Image.Resampling.BILINEAR)
            for path in self.paths[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        ]
        return np.stack(images)


LEGACY_CHANGES = {
    "horizontal_flip": True,
    "zoom_range": GEOMETRY.scale,
    "width_shift_range": GEOMETRY.shift,
    "height_shift_range": GEOMETRY.shift,
    "rotation_range": GEOMETRY.rotate,
}


def make_legacy(files, changes):
    """Keras 2's generator, which the students of 2019 used."""
    import tensorflow as tf

    generator = tf.keras.preprocessing.image.ImageDataGenerator(**changes).flow_from_dataframe(
        pd.DataFrame({"file": [str(path) for path in files]}),
        x_col="file",
        class_mode=None,
        target_size=SHAPE[:2],
        batch_size=BATCH_SIZE,
        interpolation="bilinear",
    )
    return partial(read_all, generator)


def make_tf_data(files):
    """tf.data with as many threads as it likes."""
    import tensorflow as tf

    def load(path):
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.cast(tf.image.resize(image, SHAPE[:2]), tf.uint8)

    dataset = tf.data.Dataset.from_tensor_slices([str(path) for path in files])
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE)

    def read():
        for _ in dataset.prefetch(tf.data.AUTOTUNE):
            pass

    return read


def write_files(encoded, folder):
    """The cached JPEG as files, which tf.data reads."""
    folder.mkdir()
    files = [folder / f"{number}.jpg" for number in range(len(encoded))]
    for path, data in zip(files, encoded, strict=True):
        path.write_bytes(data)
    return files


# Augmentation ---------------------------------------------------------------------------------


def measure_augmentation(cache, repeats):
    """Milliseconds of processor time a picture: one warp, and four layers of Keras."""
    pictures = [cache.read(row) for row in range(BATCH_SIZE)]
    batch = np.stack([prepare(picture, PLAIN) for picture in pictures]).astype(np.float32)
    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(GEOMETRY.rotate / 360),
        keras.layers.RandomZoom(GEOMETRY.scale),
        keras.layers.RandomTranslation(GEOMETRY.shift, GEOMETRY.shift),
    ]

    def by_layers():
        images = keras.ops.convert_to_tensor(batch)
        for layer in layers:
            images = layer(images, training=True)
        keras.ops.convert_to_numpy(images)

    def by_warp():
        for row, picture in enumerate(pictures):
            rng = np.random.default_rng([0, 0, row])
            prepare(picture, PLAIN, augmentation=GEOMETRY, rng=rng, out=out)

    out = np.empty(SHAPE, np.uint8)
    ways = {"one warp, resizing included": by_warp, "four layers of Keras": by_layers}
    taken = {name: [] for name in ways}
    for turn in range(repeats + 2):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if turn > 1:
                taken[name].append(1000 * (time.process_time() - start) / BATCH_SIZE)
    return {name: statistics.median(values) for name, values in taken.items()}


def print_tables(rates, layers, absent, num_pictures, source):
    """Rates as ratios to decoding alone, and what augmentation costs."""
    base = next(iter(rates.values()))
    print(f"\n{num_pictures} pictures ({source}) to {SHAPE[0]} x {SHAPE[1]} px, uint8")
    print(f"  {'pictures a second':48s}{'clock':>9s}{'ratio':>8s}{'processor':>11s}{'ratio':>8s}")
    for name, rate in rates.items():
        clock, used = (f"{rate[key]:9.0f}{rate[key] / base[key]:8.2f}" for key in rate)
        print(f"  {name:48s}{clock}  {used}")
    for name in absent:
        print(f"  {name}: not installed (pip install -e '.[dev]')")
    print("\nFlip, rotation, zoom and shift, milliseconds of processor time a picture")
    one, four = layers.values()
    for name, value in layers.items():
        print(f"  {name:48s}{value:9.2f}{value / one:8.1f}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Your input ran out of data")
    sys.exit(main())
