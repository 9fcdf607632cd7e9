"""What Attention-56 costs: building it, and a training step against ResNet-50.

    python -m benchmarks.attention [--side PX] [--batch-size N] [--repeats N] [--jit] [--out FILE]

Both networks learn on batches of as many multiply-adds, in turns; what counts is the ratio of the
seconds for each of them. On a busy machine processor time repeats better than the clock.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.clocks import CLOCKS, measure_in_turns, read_clocks
from benchmarks.records import write_figures
from imetlib.models.costs import count_macs
from imetlib.models.residual_attention import ResidualAttention56
from imetlib.quiet import keras
from imetlib.training.devices import describe_devices, set_seed

NUM_CLASSES = 1103


def main(arguments=None):
    """Measure, print the table, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention", description=__doc__)
    parser.add_argument("--side", type=int, default=112, help="of the pictures, in pixels")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures for Attention-56")
    parser.add_argument("--repeats", type=int, default=5, help="each median is taken over these")
    parser.add_argument("--jit", action="store_true", help="compile the steps with XLA")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.side < 33 or options.batch_size < 1 or options.repeats < 1:
        parser.error("--side must be at least 33, --batch-size and --repeats at least 1")
    set_seed(0)
    networks, builds = {}, {}
    for name, builder in BUILDERS.items():
        start = read_clocks()
        networks[name] = builder((options.side, options.side, 3))
        builds[name] = dict(zip(CLOCKS, read_clocks() - start, strict=True))
    steps = measure_steps(networks, options.batch_size, options.repeats, options.jit)
    print_table(builds, steps, options)
    if options.out:
        record = {
            "side": options.side,
            "repeats": options.repeats,
            "jit": options.jit,
            "builds": builds,
            "steps": steps,
            "devices": describe_devices(),
        }
        write_figures(options.out, record)


def build_attention56(image_shape):
    """Attention-56 with logits of as many attributes as iMet 2019 has."""
    return ResidualAttention56(input_shape=image_shape, num_classes=NUM_CLASSES)


def build_resnet50(image_shape):
    """ResNet-50 of `keras.applications` with the same top."""
    return keras.applications.ResNet50(
        weights=None, input_shape=image_shape, classes=NUM_CLASSES, classifier_activation=None
    )


BUILDERS = {"Attention-56": build_attention56, "ResNet-50": build_resnet50}


def measure_steps(networks, batch_size, repeats, jit):
    """Median seconds of a training step of each network, by the clock and of the processor.

    The batches of all hold as many multiply-adds as `batch_size` pictures of the first one.
    """
    macs = {name: count_macs(network) for name, network in networks.items()}
    most = batch_size * next(iter(macs.values()))
    rng = np.random.default_rng(0)
    batches = {}
    for name, network in networks.items():
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        network.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=jit)
        count = max(1, round(most / macs[name]))
        images = rng.random((count, *network.input_shape[1:]), dtype=np.float32)
        batches[name] = images, np.zeros((count, network.output_shape[1]), np.float32)
    seconds = measure_in_turns(
        {
            name: partial(network.train_on_batch, *batches[name])
            for name, network in networks.items()
        },
        repeats,
    )
    return {
        name: {
            "pictures": len(batches[name][0]),
            "billion_macs": len(batches[name][0]) * macs[name] / 1e9,
            **seconds[name],
        }
        for name in networks
    }


def print_table(builds, steps, options):
    """Seconds to build, and milliseconds for a billion multiply-adds of a training step."""
    how = "with XLA" if options.jit else "without XLA"
    print(f"\nTraining steps at {options.side} px, {how}; ratios to the last row")
    print(f"  {'':14s}{'by the clock':>54s}{'of the processor':>26s}")
    columns = f"{'build s':>9s}{'ms/GMAC':>10s}{'ratio':>7s}"
    print(f"  {'':14s}{'pictures':>10s}{'GMACs':>8s}{'':10s}{columns}{columns}")
    *_, base = steps.values()
    for name, step in steps.items():
        row = f"  {name:14s}{step['pictures']:10d}{step['billion_macs']:8.1f}{'':10s}"
        for clock in CLOCKS:
            cost, other = (one[clock] / one["billion_macs"] for one in (step, base))
            row += f"{builds[name][clock]:9.1f}{1000 * cost:10.1f}{cost / other:7.2f}"
        print(row)


if __name__ == "__main__":
    sys.exit(main())
