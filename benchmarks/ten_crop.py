"""What ten windows of a feature map cost: one gather in one graph against ten calls through NumPy.

    python -m benchmarks.ten_crop [--batch-size N] [--repeats N] [--out FILE]

The convolutions are frozen, the loss is that of the mean logits, and FullNet learns. The way of
the 2019 report: the convolutions predict into NumPy, which cuts the windows, and FullNet is called
ten times, not compiled. All ways are measured in turns and at several batch sizes, in seconds for
each picture. What counts are the ratios: at the best batch size of each way, and at the same one.
Large batches hide what ten calls cost; products of matrices are the same in all ways but those
with cached maps. On a busy machine processor time repeats better than the clock.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.clocks import CLOCKS, measure_in_turns
from benchmarks.records import write_figures
from imetlib.models.cifar_alexnet import cifar_alexnet
from imetlib.models.crop_classifier import crop_classifier, full_net
from imetlib.models.feature_crops import crop_boxes
from imetlib.quiet import keras
from imetlib.training.devices import describe_devices, dtype_policy, set_seed

NUM_CLASSES = 10
CROP_SIZE = 3
FILTERS = (64, 192, 384, 256, 256)
HIDDEN = (1024, 1024)
# Batch sizes that are tried, in those asked for.
SCALES = (0.5, 1, 2, 4)
REPORT, LOOP, GATHER = "through NumPy, ten calls", "one graph, ten calls", "one graph, one gather"
CACHED = "cached maps, one gather"
# By dtype policy: with the convolutions, and with cached maps.
IN_ONE_GRAPH = {
    "float32": (GATHER, CACHED),
    "mixed_bfloat16": (f"{GATHER}, bfloat16", f"{CACHED}, bfloat16"),
}
# What is to be reached at least: times as fast as the report's way, by the clock.
GOALS = {
    "training": {name: 5 if "cached" in name else 2 for name in sum(IN_ONE_GRAPH.values(), ())},
    "evaluation": {gather: 6 for gather, _ in IN_ONE_GRAPH.values()},
}


def main(arguments=None):
    """Measure, print the table, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ten_crop", description=__doc__)
    parser.add_argument("--batch-size", type=int, default=128, help="pictures of a step")
    parser.add_argument("--hidden", type=int, nargs="*", default=HIDDEN, help="units of FullNet")
    parser.add_argument("--filters", type=int, nargs=5, default=FILTERS, help="of AlexNet")
    parser.add_argument("--repeats", type=int, default=5, help="each median is taken over these")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.batch_size < 2 or options.repeats < 1:
        parser.error("--batch-size must be at least 2 and --repeats at least 1")
    set_seed(0)
    convolutions = {policy: frozen_convolutions(policy, options.filters) for policy in IN_ONE_GRAPH}
    convolutions["mixed_bfloat16"].set_weights(convolutions["float32"].get_weights())
    sizes = [int(scale * options.batch_size) for scale in SCALES]
    pictures = np.random.default_rng(0).integers(0, 256, (max(sizes), 32, 32, 3), np.uint8)
    ways = {
        "training": training_ways(convolutions, pictures, sizes, options),
        "evaluation": evaluation_ways(convolutions, pictures, sizes, options),
    }
    results = {}
    for task, of_task in ways.items():
        seconds = measure_in_turns(of_task, options.repeats)
        results[task] = summarise(seconds, options.batch_size)
        print_table(task, results[task], options.batch_size)
    if options.out:
        record = {
            "batch_size": options.batch_size,
            "hidden": list(options.hidden),
            "filters": list(options.filters),
            "repeats": options.repeats,
            "goals": GOALS,
            **results,
            "devices": describe_devices(),
        }
        write_figures(options.out, record)


def frozen_convolutions(policy, filters):
    """AlexNet's convolutions that do not learn."""
    with dtype_policy(policy):
        convolutions = cifar_alexnet(filters=filters)
    convolutions.trainable = False
    return convolutions


def training_ways(convolutions, pictures, sizes, options):
    """Dict of (name, batch size) to a training step."""
    maps = convolutions["float32"].predict(pictures, verbose=0)
    labels = np.arange(len(pictures)) % NUM_CLASSES
    shape = maps.shape[1:]
    by_ten = compiled(ten_calls(shape, options.hidden), run_eagerly=True)
    steps = {REPORT: partial(report_step, convolutions["float32"], by_ten)}
    looped = on_pictures(convolutions["float32"], cut_in_graph(shape, options.hidden))
    steps[LOOP] = compiled(looped).train_on_batch
    inputs = {REPORT: pictures, LOOP: pictures}
    for policy, (gather, cached) in IN_ONE_GRAPH.items():
        with dtype_policy(policy):
            whole = on_pictures(convolutions[policy], classifier(shape, options.hidden))
            head = classifier(shape, options.hidden)
        steps[gather], inputs[gather] = compiled(whole).train_on_batch, pictures
        steps[cached] = compiled(head).train_on_batch
        inputs[cached] = keras.ops.convert_to_numpy(keras.ops.cast(maps, head.input.dtype))
    return {
        (name, size): partial(step, inputs[name][:size], labels[:size])
        for name, step in steps.items()
        for size in sizes
    }


def evaluation_ways(convolutions, pictures, sizes, options):
    """Dict of (name, batch size) to an evaluation; all have the same weights."""
    shape = convolutions["float32"].output_shape[1:]
    net = full_net((CROP_SIZE, CROP_SIZE, shape[-1]), NUM_CLASSES, hidden=options.hidden)
    answers = {REPORT: partial(report_answer, convolutions["float32"], net)}
    for policy, (gather, _) in IN_ONE_GRAPH.items():
        with dtype_policy(policy):
            head = classifier(shape, options.hidden)
        head.get_layer("full_net").set_weights(net.get_weights())
        answers[gather] = on_pictures(convolutions[policy], head).predict_on_batch
    some = pictures[: sizes[0]]
    np.testing.assert_allclose(answers[GATHER](some), answers[REPORT](some), rtol=1e-3, atol=1e-4)
    return {
        (name, size): partial(answer, pictures[:size])
        for name, answer in answers.items()
        for size in sizes
    }


def report_step(convolutions, by_ten, pictures, labels):
    """The report's training step: maps and windows in NumPy, FullNet called ten times."""
    maps = convolutions.predict(pictures, batch_size=len(pictures), verbose=0)
    return by_ten.train_on_batch(cut(maps), labels)


def report_answer(convolutions, net, pictures):
    """The report's evaluation: mean logits of eleven predictions."""
    batch_size = len(pictures)
    maps = convolutions.predict(pictures, batch_size=batch_size, verbose=0)
    return np.mean([net.predict(crop, batch_size=batch_size, verbose=0) for crop in cut(maps)], 0)


def cut(maps):
    """Ten windows, one slice after the other."""
    boxes = crop_boxes(*maps.shape[1:3], CROP_SIZE).tolist()
    crops = [maps[:, top:bottom, left:right] for top, left, bottom, right in boxes]
    return crops + [crop[:, :, ::-1] for crop in crops]


def classifier(map_shape, hidden):
    """The ten windows as the project cuts them."""
    return crop_classifier(
        map_shape, NUM_CLASSES, crop_size=CROP_SIZE, hidden=hidden, average="logits"
    )


def ten_calls(map_shape, hidden):
    """FullNet on each of ten windows that are its inputs, and the mean of the logits."""
    net = full_net((CROP_SIZE, CROP_SIZE, map_shape[-1]), NUM_CLASSES, hidden=hidden)
    crops = [keras.Input(net.input_shape[1:]) for _ in range(10)]
    return keras.Model(crops, keras.layers.Average()([net(crop) for crop in crops]))


def cut_in_graph(map_shape, hidden):
    """The same from the map, sliced in the graph."""
    maps = keras.Input(map_shape)
    boxes = crop_boxes(*map_shape[:2], CROP_SIZE).tolist()
    crops = [maps[:, top:bottom, left:right] for top, left, bottom, right in boxes]
    crops += [keras.ops.flip(crop, axis=2) for crop in crops]
    return keras.Model(maps, ten_calls(map_shape, hidden)(crops))


def on_pictures(convolutions, network):
    """A network of the map on the convolutions that make it."""
    return keras.Model(convolutions.input, network(convolutions.output))


def compiled(network, *, run_eagerly=False):
    """Ready for training steps. Whether XLA compiles them is up to Keras and the device."""
    network.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=run_eagerly,
    )
    return network


def summarise(seconds, batch_size):
    """One row a way: seconds for a picture, and how many times as fast as the report's way it is.

    Args:
        seconds: dict of (name, number of pictures) to dict with `CLOCKS`, of one call.
        batch_size: int, one of those measured, at which all ways are compared.

    Returns:
        dict of name to dict with "pictures", by number of pictures in a call the `CLOCKS` of one
        picture; "batch_size", the fastest of these by the clock; and for each clock
        "<clock>_ratio", each way at its fastest, and "<clock>_ratio_same", all at `batch_size`.
    """
    rows = {}
    for (name, size), row in seconds.items():
        rows.setdefault(name, {})[size] = {clock: row[clock] / size for clock in CLOCKS}
    best = {
        name: min(pictures, key=lambda size: pictures[size]["seconds"])
        for name, pictures in rows.items()
    }
    report, table = rows[REPORT], {}
    for name, pictures in rows.items():
        table[name] = {"pictures": pictures, "batch_size": best[name]}
        for clock in CLOCKS:
            own, same = pictures[best[name]][clock], pictures[batch_size][clock]
            table[name][f"{clock}_ratio"] = report[best[REPORT]][clock] / own
            table[name][f"{clock}_ratio_same"] = report[batch_size][clock] / same
    return table


def print_table(task, rows, batch_size):
    """Milliseconds for a hundred pictures, and times as fast as the first row."""
    print(f"\n{task.capitalize()}: ms for 100 pictures, and times as fast as the first row")
    print(f"  {'':34s}{'each at its best batch size':>36s}{f'all at {batch_size}':>28s}")
    columns = f"{'clock':>8s}{'times':>6s}{'cpu':>8s}{'times':>6s}"
    print(f"  {'':34s}{'batch':>8s}{columns}{columns}{'goal':>6s}")
    for name, row in rows.items():
        line = f"  {name:34s}{row['batch_size']:8d}"
        for size, suffix in ((row["batch_size"], ""), (batch_size, "_same")):
            for clock in CLOCKS:
                line += (
                    f"{1e5 * row['pictures'][size][clock]:8.1f}{row[f'{clock}_ratio{suffix}']:6.2f}"
                )
        print(f"{line}{GOALS[task].get(name, ''):>6}")


if __name__ == "__main__":
    sys.exit(main())
