"""Pictures per second on a GPU, as a share of what its matrix products reach.

    KERAS_BACKEND=jax python -m benchmarks.gpu [--models NAME ...] [--out FILE]

Needs keras with jax or torch, no TensorFlow. Each network learns at 256 px in mixed precision from
batches of random pictures in uint8, with `fit` as users call it; its share is the operations of
three multiply-adds a weight and place, forward and backward, over the peak of bfloat16 products of
8,192 x 8,192 measured in the same run. Where timm is installed, its ResNet-50 learns beside ours.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import keras
import numpy as np

from benchmarks.records import write_figures
from imetlib.models.backbones import build_backbone
from imetlib.models.costs import count_macs
from imetlib.models.multi_attention import multi_attention_logits
from imetlib.models.residual_attention import ResidualAttention56, ResidualAttention92
from imetlib.training.devices import describe_devices, dtype_policy, set_seed

NUM_CLASSES = 1103
PRODUCT_SIDE = 8192
# Forward, gradients of the weights, gradients of the maps; a multiply-add is two operations.
OPERATIONS = 3 * 2


def main(arguments=None):
    """Measure, print the table, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--side", type=int, default=256, help="of the pictures, in pixels")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="counted steps of each network")
    parser.add_argument("--precision", default="mixed_bfloat16", help="or mixed_float16 on a T4")
    parser.add_argument("--cpu", action="store_true", help="without a GPU all the same, as a trial")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if min(options.side - 63, options.batch_size, options.steps) < 1:
        parser.error("--side must be at least 64, --batch-size and --steps at least 1")
    devices = describe_devices()
    if not devices["accelerators"] and not options.cpu:
        print(f"{devices['backend']} finds no GPU here: nothing was measured, nothing is written.")
        return
    set_seed(0)
    peak = measure_products(512 if options.cpu else PRODUCT_SIDE)
    print(f"{', '.join(devices['accelerators']) or 'a processor'}, {devices['backend']}")
    print(f"  products of bfloat16: {peak / 1e12:.1f} T operations a second")
    print(f"  {'':28s}{'pictures/s':>12s}{'G macs':>9s}{'share':>8s}{'first step':>12s}")
    rates = {}
    for name in options.models:
        rates[name] = measure_network(name, options, peak)
        print_rate(name, rates[name])
    if importlib.util.find_spec("timm") is None:
        print("  timm is not installed: no peer was measured")
    elif not options.cpu:
        rates["timm resnet50"] = measure_timm(options, peak, rates.get("resnet50"))
        print_rate("timm resnet50", rates["timm resnet50"])
    if options.out:
        record = {"side": options.side, "batch_size": options.batch_size, "steps": options.steps}
        record |= {"precision": options.precision, "operations_a_second": peak}
        write_figures(options.out, {**record, "networks": rates, "devices": devices})


def print_rate(name, rate):
    """A line of the table."""
    print(
        f"  {name:28s}{rate['pictures_per_second']:12.0f}{rate['macs'] / 1e9:9.2f}"
        f"{rate['share_of_peak']:8.1%}{rate['first_seconds']:10.1f} s",
        flush=True,
    )


# Networks -------------------------------------------------------------------------------------


def _backbone(name):
    def build(shape):
        network = build_backbone(name, shape)
        pooled = keras.layers.GlobalAveragePooling2D()(network.output)
        return keras.Model(network.input, keras.layers.Dense(NUM_CLASSES, dtype="float32")(pooled))

    return build


def _residual(builder):
    def build(shape):
        images = keras.Input(shape, dtype="uint8")
        network = builder(input_shape=shape, num_classes=NUM_CLASSES)
        return keras.Model(images, network(keras.layers.Rescaling(1 / 127.5, -1)(images)))

    return build


def _multi_attention(shape):
    network = build_backbone("vgg19", shape)
    return keras.Model(network.input, multi_attention_logits(network.output, NUM_CLASSES))


MODELS = {
    "resnet50": _backbone("resnet50"),
    "inception_resnet_v2": _backbone("inception_resnet_v2"),
    "residual_attention_56": _residual(ResidualAttention56),
    "residual_attention_92": _residual(ResidualAttention92),
    "multi_attention_vgg19": _multi_attention,
}


def measure_network(name, options, peak):
    """Pictures per second of `fit`, its first epoch left out."""
    keras.utils.clear_session()
    shape = (options.side, options.side, 3)
    with dtype_policy(options.precision):
        model = MODELS[name](shape)
    macs = count_macs(model)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-4), loss, jit_compile="auto")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (options.batch_size, *shape), np.uint8)
    labels = (rng.random((options.batch_size, *model.output_shape[1:])) < 0.003).astype(np.float32)
    clock = EpochClock()
    batches = Repeated(pictures, labels, options.steps)
    model.fit(batches, epochs=3, verbose=0, callbacks=[clock])
    return _rate_of(min(clock.seconds[1:]), clock.seconds[0], macs, options, peak)


def _rate_of(seconds, first_seconds, macs, options, peak):
    rate = options.steps * options.batch_size / seconds
    return {
        "pictures_per_second": rate,
        "macs": macs,
        "share_of_peak": rate * macs * OPERATIONS / peak,
        "first_seconds": first_seconds,
    }


class Repeated(keras.utils.PyDataset):
    """One batch again and again, from the host each time, as a pipeline would bring it."""

    def __init__(self, pictures, labels, steps):
        super().__init__(workers=1)
        self.batch, self.steps = (pictures, labels), steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return self.batch


class EpochClock(keras.callbacks.Callback):
    """Seconds of each epoch."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        # The loss that `logs` holds was waited for: the device is done.
        self.seconds.append(time.perf_counter() - self._start)


# What the device reaches -----------------------------------------------------------------------


def measure_products(side, repeats=10):
    """Operations per second of a product of two bfloat16 matrices, the best of some."""
    product, wait = _make_product(side)
    wait(product())
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        wait(product())
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _make_product(side):
    """A function that multiplies, and one that waits until it has."""
    numbers = np.random.default_rng(0).random((side, side), np.float32)
    if keras.backend.backend() == "jax":
        import jax

        matrix = jax.numpy.asarray(numbers, jax.numpy.bfloat16)
        multiply = jax.jit(jax.numpy.matmul)
        return lambda: multiply(matrix, matrix), lambda result: result.block_until_ready()
    if keras.backend.backend() == "torch":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        matrix = torch.as_tensor(numbers, dtype=torch.bfloat16, device=device)
        return lambda: matrix @ matrix, lambda result: float(result[0, 0])
    matrix = keras.ops.convert_to_tensor(numbers, "bfloat16")
    return lambda: keras.ops.matmul(matrix, matrix), lambda result: result[0, 0].numpy()


def measure_timm(options, peak, ours):
    """ResNet-50 of timm, in torch's own mixed precision."""
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = timm.create_model("resnet50", num_classes=NUM_CLASSES).to(device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    shape = (options.batch_size, 3, options.side, options.side)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8)
    labels = (torch.rand(options.batch_size, NUM_CLASSES) < 0.003).float().to(device)
    half = torch.float16 if options.precision == "mixed_float16" else torch.bfloat16
    scaler = torch.amp.GradScaler(device, enabled=half is torch.float16)

    def epoch():
        for _ in range(options.steps):
            batch = pictures.to(device, non_blocking=True).float() / 127.5 - 1
            batch = batch.to(memory_format=torch.channels_last)
            with torch.autocast(device, half):
                loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch), labels)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return float(loss)

    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - start)
    # The same network: its multiply-adds are those of Keras's, the first stride apart.
    macs = ours["macs"] if ours else 5.4e9
    return _rate_of(min(seconds[1:]), seconds[0], macs, options, peak)


if __name__ == "__main__":
    sys.exit(main())
