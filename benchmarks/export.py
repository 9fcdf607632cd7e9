"""What a processor says of pictures in a second: Keras against the exported network.

    python -m benchmarks.export [--networks NAME ...] [--batch-size N] [--pictures N] [--repeats N]
                                [--out FILE]

Both answer the same pictures in float32, in turns, on all processors of the machine: Keras by
`model.predict` and by `predict_on_batch`, OpenVINO as `imetlib predict` uses it, one batch a
thread. What counts is the ratio to `model.predict`. The labels that both choose are compared at
the threshold that gives some three labels a picture. bfloat16 is measured where the processor has
it, and is no float32. On a busy machine processor time repeats better than the clock.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from benchmarks.clocks import CLOCKS, measure_in_turns
from benchmarks.records import write_figures
from imetlib.collection.geometry import Preprocessing, prepare
from imetlib.export import convert_network, draw_pictures
from imetlib.exported_files import PRECISIONS, compile_network, num_processors
from imetlib.models.backbones import build_backbone, find_weights
from imetlib.quiet import keras
from imetlib.training.devices import set_seed

NUM_CLASSES = 1103
LABELS_A_PICTURE = 3.2
GOAL = 1.4
PREDICT, ON_BATCH = "Keras predict", "Keras predict_on_batch"
EXPORTED = {name: f"OpenVINO {name}" for name in PRECISIONS}


def with_top(backbone):
    """A backbone with a dense layer that answers as many attributes as iMet 2019 has."""
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(NUM_CLASSES)(x))


def build_mobilenet_v2():
    """MobileNetV2 at 160 px, with ImageNet's weights where they are found."""
    try:
        weights = find_weights("mobilenet_v2", "imagenet")
    except FileNotFoundError:
        weights = None
    backbone = build_backbone("mobilenet_v2", (160, 160, 3), weights=weights and str(weights))
    return with_top(backbone), "random" if weights is None else "ImageNet"


def build_resnet50():
    """ResNet-50 at 256 px with random weights."""
    return with_top(build_backbone("resnet50", (256, 256, 3), weights=None)), "random"


BUILDERS = {"MobileNetV2": build_mobilenet_v2, "ResNet-50": build_resnet50}


def main(arguments=None):
    """Measure, print the tables, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=list(BUILDERS), help="default: all")
    parser.add_argument("--batch-size", type=int, default=16, help="of both")
    parser.add_argument("--pictures", type=int, default=64, help="answered in a turn")
    parser.add_argument("--repeats", type=int, default=7, help="each median is taken over these")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if min(options.batch_size, options.pictures, options.repeats) < 1:
        parser.error("--batch-size, --pictures and --repeats must be at least 1")
    set_seed(0)
    threads, results = num_processors(), {}
    # Above the number of processors, other programs take part of them.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    for name in options.networks or BUILDERS:
        model, weights = BUILDERS[name]()
        with tempfile.TemporaryDirectory() as folder:
            ways = make_ways(model, Path(folder) / "network.xml", options, threads)
            answers = {way: run() for way, run in ways.items()}
            seconds = measure_in_turns(ways, options.repeats)
        results[name] = {
            "side": model.input_shape[1],
            "weights": weights,
            "spread": float(answers[PREDICT].std()),
            "ways": summarise(seconds, answers, options.pictures),
        }
        print_table(name, results[name], threads, options)
        del model, ways
        keras.backend.clear_session()
    if options.out:
        settings = {"batch_size": options.batch_size, "pictures": options.pictures}
        settings |= {"repeats": options.repeats, "threads": threads, "goal": GOAL}
        settings["load_before"] = load
        write_figures(options.out, {**settings, "networks": results})


def make_ways(model, path, options, threads):
    """Dict of name to a function that answers all pictures, `(pictures, classes)` float32."""
    preprocessing = Preprocessing(model.input_shape[1:])
    images = np.stack([prepare(x, preprocessing) for x in draw_pictures(options.pictures)])
    starts = range(0, len(images), options.batch_size)
    batches = [images[start : start + options.batch_size] for start in starts]
    ways = {
        PREDICT: partial(model.predict, images, batch_size=options.batch_size, verbose=0),
        ON_BATCH: lambda: np.concatenate([model.predict_on_batch(batch) for batch in batches]),
    }
    convert_network(model, path)
    for precision, name in EXPORTED.items():
        try:
            network = compile_network(path, precision, threads)
        except ValueError:
            if precision == "float32":
                raise
            continue
        ways[name] = partial(answer_in_threads, network, batches, threads)
    return ways


def answer_in_threads(network, batches, threads):
    """What an exported network says of batches, each answered by one thread."""
    requests = SimpleQueue()
    for _ in range(threads):
        requests.put(network.create_infer_request())

    def answer(batch):
        request = requests.get()
        try:
            return np.array(request.infer({0: batch})[0])
        finally:
            requests.put(request)

    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(answer, batches)))


def summarise(seconds, answers, num_pictures):
    """Pictures per second by both clocks, ratios to `model.predict`, and how far answers differ.

    Returns:
        dict of name to dict: of each clock the rate and the ratio, "difference" the greatest of a
        logit, "same_labels" the share of pictures with the same labels.
    """
    wanted = answers[PREDICT]
    threshold = np.quantile(wanted, 1 - min(0.5, LABELS_A_PICTURE / wanted.shape[1]))
    rows = {}
    for name, costs in seconds.items():
        same = ((answers[name] >= threshold) == (wanted >= threshold)).all(axis=1)
        rows[name] = {
            **{f"pictures_per_{clock[:-1]}": num_pictures / costs[clock] for clock in CLOCKS},
            **{f"{clock}_ratio": seconds[PREDICT][clock] / costs[clock] for clock in CLOCKS},
            "difference": float(np.abs(answers[name] - wanted).max()),
            "same_labels": float(same.mean()),
        }
    return rows


def print_table(name, result, threads, options):
    """Pictures per second, ratios and differences of one network."""
    print(
        f"\n{name} at {result['side']} px, {result['weights']} weights, batches of "
        f"{options.batch_size}, {threads} processors\n"
        f"  pictures per second; logits have a standard deviation of {result['spread']:.2g}"
    )
    print(f"  {'':24s}{'by the clock':>22s}{'of the processor':>20s}{'greatest':>14s}{'same':>9s}")
    columns = f"{'pictures':>12s}{'ratio':>8s}"
    print(f"  {'':24s}{'':2s}{columns}{columns}{'difference':>14s}{'labels':>9s}")
    for way, row in result["ways"].items():
        line = f"  {way:24s}{'':2s}"
        for clock in CLOCKS:
            line += f"{row[f'pictures_per_{clock[:-1]}']:12.1f}{row[f'{clock}_ratio']:8.2f}"
        print(f"{line}{row['difference']:14.1e}{row['same_labels']:9.1%}")
    row = result["ways"][EXPORTED["float32"]]
    reached = min(row[f"{clock}_ratio"] for clock in CLOCKS) >= GOAL and row["same_labels"] == 1
    print(
        f"  float32 at least {GOAL} times model.predict with the same labels: "
        f"{'yes' if reached else 'no'}"
    )


if __name__ == "__main__":
    sys.exit(main())
