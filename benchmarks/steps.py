"""What a training step costs: precision, XLA, several steps in one call, and where its time goes.

    python -m benchmarks.steps [--networks NAME ...] [--scale F] [--repeats N] [--out FILE]

Each network learns on one batch in several ways, in turns; what counts are the ratios to the way
that `imetlib` trains by default, of each clock. Keras's own BatchNormalization is the peer that
`imetlib.models.batch_normalization` replaces on tensorflow. There a trace tells which kinds of
operations take the time. On a busy machine processor time repeats better than the clock.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.clocks import CLOCKS, measure_in_turns
from benchmarks.gpu import Repeated
from benchmarks.records import write_figures
from imetlib.models.batch_normalization import BatchNormalization
from imetlib.models.cifar_alexnet import cifar_alexnet
from imetlib.models.crop_classifier import crop_classifier
from imetlib.models.heads import freeze
from imetlib.models.multi_attention import training_outputs
from imetlib.models.residual_attention import ResidualAttention56
from imetlib.profiles import get_profile
from imetlib.quiet import keras
from imetlib.training.devices import accelerator_names, describe_devices, dtype_policy, set_seed
from imetlib.training.networks import build_classifier
from imetlib.training.optimizers import compile_model

NUM_CLASSES = 1103
DEFAULT = "default"
# What differs from the default: float32, without XLA on tensorflow, the fused kernel.
WAYS = {
    DEFAULT: {},
    "Keras's BatchNormalization": {"fused": False},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "float16": {"precision": "mixed_float16"},
    "XLA": {"jit": True},
}
STEPS_A_CALL = 8
# Kinds of operations by what their names hold; the first that fits counts.
KINDS = {
    "convolutions": "Conv2[dD]",
    "batch normalisation": "FusedBatchNorm",
    "matrix products": "MatMul|Einsum",
    "pooling, resizing, cropping": "Pool|Resize|Gather|Slice|Pad|Concat",
    "activations": "Relu|Sigmoid|Softmax|Tanh",
    "assignments": "Assign|ResourceApply",
    "sums and means": "^(Sum|Mean|AddN|Tile)",
    "other arithmetic": "",
}


def main(arguments=None):
    """Measure, print the tables, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--scale", type=float, default=1.0, help="of the batch sizes")
    parser.add_argument("--repeats", type=int, default=5, help="each median is taken over these")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if not 0 < options.scale <= 8 or options.repeats < 1:
        parser.error("--scale must be in (0, 8] and --repeats at least 1")
    rows = {}
    for name in options.networks:
        rows[name] = measure_network(name, options.scale, options.repeats)
        print_network(name, rows[name])
    calls = measure_calls(options.repeats)
    print(f"\n{STEPS_A_CALL} steps in one call, SmallConvNet at 48 px, 24 pictures a step")
    print(
        "  " + ", ".join(f"{clock.replace('_', ' ')} {calls[clock]:.2f} times" for clock in CLOCKS)
    )
    if options.out:
        record = {"repeats": options.repeats, "scale": options.scale, "networks": rows}
        record |= {"steps_in_one_call": {"steps": STEPS_A_CALL, "times_as_fast": calls}}
        write_figures(options.out, {**record, "devices": describe_devices()})


# Networks -------------------------------------------------------------------------------------


def build_profile_network(backbone, side, attention, trainable_from, precision, batch_size):
    """The network of a `full` profile and its batch, compiled as it is for training."""
    profile = get_profile(
        "full",
        backbone=backbone,
        attention=attention,
        weights="",
        image_shape=(side, side, 3),
        trainable_from=trainable_from,
        precision=precision,
        batch_size=batch_size,
        epochs=1,
    )
    frequency = np.full(NUM_CLASSES, 3.2 / NUM_CLASSES)
    model, _ = build_classifier(profile, NUM_CLASSES, class_frequency=frequency)
    freeze(model, profile.trainable_from)
    if attention == "multi":
        model = training_outputs(model, class_frequency=frequency)
    compile_model(model, profile, updates=1000)
    return model, draw_batch(batch_size, side, NUM_CLASSES, np.uint8)


def build_attention56(precision, batch_size):
    """Attention-56 at half of the paper's size, all of which learns."""
    with dtype_policy(precision):
        model = ResidualAttention56(input_shape=(112, 112, 3), num_classes=NUM_CLASSES)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model, draw_batch(batch_size, 112, NUM_CLASSES, np.float32)


def build_ten_crop(precision, batch_size):
    """The jointly trained ten-crop network of `full`."""
    with dtype_policy(precision):
        trunk = cifar_alexnet((32, 32, 3), batch_normalization=True, dropout=0.2)
        head = crop_classifier(
            trunk.output.shape[1:], 10, hidden=(1024, 1024), crop_size=3, dropout=0.5
        )
        model = keras.Model(trunk.input, head(trunk.output))
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    images, _ = draw_batch(batch_size, 32, 10, np.uint8)
    return model, (images, np.eye(10, dtype=np.float32)[np.arange(batch_size) % 10])


def draw_batch(batch_size, side, num_classes, dtype):
    """Pictures of noise, and labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, side, side, 3)).astype(dtype)
    return images, (rng.random((batch_size, num_classes)) < 3.2 / num_classes).astype(np.float32)


# On processors XLA is some five times as slow: two networks show it.
BY_XLA = ("MobileNetV2, 128 px, all layers", "Ten crops on CIFAR-10, all layers")
# Name to (builder of precision and batch size, pictures in a batch).
NETWORKS = {
    "ResNet-50, 256 px, all layers": (
        partial(build_profile_network, "resnet50", 256, "", "all"), 8,
    ),
    "MobileNetV2, 128 px, all layers": (
        partial(build_profile_network, "mobilenet_v2", 128, "", "all"), 16,
    ),
    "MobileNetV2 with multi-attention, 128 px, all layers": (
        partial(build_profile_network, "mobilenet_v2", 128, "multi", "all"), 16,
    ),
    "Attention-56, 112 px, all layers": (build_attention56, 8),
    "Ten crops on CIFAR-10, all layers": (build_ten_crop, 128),
}  # fmt: skip


# Measuring ------------------------------------------------------------------------------------


def measure_network(name, scale, repeats):
    """Seconds of a step in each way, ratios to the default, and shares of kinds of operations.

    Returns:
        dict with "pictures" of a batch, "ways" (name to `CLOCKS` in seconds and their "_ratio",
        greater is faster), and "shares" (way to kind to share of the time of all operations;
        empty where the backend leaves no trace).
    """
    builder, pictures = NETWORKS[name]
    pictures = max(2, round(scale * pictures))
    steps = {}
    for way, changes in WAYS.items():
        if not fits_here(way, changes) or (changes.get("jit") and name not in BY_XLA):
            continue
        set_seed(0)
        model, batch = builder(changes.get("precision", "float32"), pictures)
        if not changes.get("fused", True) and not unfuse(model):
            continue
        model.jit_compile = changes.get("jit", model.jit_compile)
        steps[way] = partial(model.train_on_batch, *batch)
    seconds = measure_in_turns(steps, repeats, warm=1)
    for way in seconds.values():
        way |= {f"{clock}_ratio": seconds[DEFAULT][clock] / way[clock] for clock in CLOCKS}
    traced = [way for way in (DEFAULT, "Keras's BatchNormalization") if way in steps]
    shares = {way: shares_of(steps[way]) for way in traced}
    return {"pictures": pictures, "ways": seconds, "shares": {k: v for k, v in shares.items() if v}}


def fits_here(way, changes):
    """Whether a way is one of this backend and these devices."""
    if changes.get("precision") == "mixed_float16":
        return accelerator_names() is not None  # many times as slow on processors
    return way == DEFAULT or "precision" in changes or keras.backend.backend() == "tensorflow"


def unfuse(model):
    """Give layers of ours Keras's way to compute, before the first step; how many there are."""
    layers = [layer for layer in model._flatten_layers() if type(layer) is BatchNormalization]
    for layer in layers:
        layer.__class__ = keras.layers.BatchNormalization
    return len(layers)


def shares_of(step, turns=2):
    """Kind of operation to its share of the time of all operations of a step, in descending order.

    Returns:
        dict, empty on other backends than tensorflow and without the reader of its traces.
    """
    if keras.backend.backend() != "tensorflow":
        return {}
    import tensorflow as tf

    try:
        from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace
    except ImportError:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(turns):
            step()
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        trace = XSpace.FromString(path.read_bytes())
    times = Counter()
    for plane in trace.planes:
        names = {key: entry.name for key, entry in plane.event_metadata.items()}
        for line in plane.lines:
            events = [(e.offset_ps, -e.duration_ps, names[e.metadata_id]) for e in line.events]
            times.update(own_times(events))
    total = sum(times.values())
    return {kind: time / total for kind, time in times.most_common()}


def own_times(events):
    """Time of a thread's operations by kind, without that of the operations inside them.

    Args:
        events: list of (start, negative duration, name), which lie in each other or apart. Names
            of operations are "name:type"; all else are functions of the runtime, which count for
            the operation that they serve.
    """
    times, open_operations = Counter(), []
    for start, negative, name in sorted(events):
        operation = re.fullmatch(r"[^:\s]*:(\w+)", name)
        if operation is None:
            continue
        kind = kind_of(operation[1])
        while open_operations and open_operations[-1][0] <= start:
            open_operations.pop()
        if open_operations:
            times[open_operations[-1][1]] += negative
        times[kind] -= negative
        open_operations.append((start - negative, kind))
    return +times


def kind_of(operation):
    """Key of `KINDS` of a type of operation."""
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, operation))


def measure_calls(repeats, steps=4 * STEPS_A_CALL):
    """Times as fast an epoch of `fit` is with several steps in one call, by each clock."""
    images, labels = draw_batch(24, 48, NUM_CLASSES, np.uint8)
    profile = get_profile("fast", precision="float32")
    epochs = {}
    for count in (1, STEPS_A_CALL):
        set_seed(0)
        model, _ = build_classifier(profile, NUM_CLASSES)
        compile_model(model, profile, updates=1000)
        model.steps_per_execution = count
        epochs[count] = partial(model.fit, Repeated(images, labels, steps), verbose=0)
    seconds = measure_in_turns(epochs, repeats)
    return {clock: seconds[1][clock] / seconds[STEPS_A_CALL][clock] for clock in CLOCKS}


def print_network(name, row):
    """A line a way, and a line a kind of operation."""
    print(f"\n{name}: a training step of {row['pictures']} pictures")
    print(f"  {'':32s}{'clock ms':>10s}{'times':>7s}{'processor ms':>14s}{'times':>7s}")
    for way, figures in row["ways"].items():
        line = "".join(
            f"{1000 * figures[clock]:{width}.0f}{figures[f'{clock}_ratio']:7.2f}"
            for clock, width in zip(CLOCKS, (10, 14), strict=True)
        )
        print(f"  {way:32s}{line}")
    for way, shares in row["shares"].items():
        parts = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items() if share > 0.02)
        print(f"  {way}: {parts}")


if __name__ == "__main__":
    sys.exit(main())
