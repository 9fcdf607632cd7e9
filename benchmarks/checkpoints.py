"""What a checkpoint and a time budget cost, as a share of an epoch.

    python -m benchmarks.checkpoints [--pictures N] [--classes N] [--repeats N] [--folder DIR]
                                     [--out FILE]

A small network and MobileNetV2, 9 MB of weights and a head of 11 MB, with the state of AdamW. A
save includes the wait for the disk, hashes, a copy of the best weights and the scores of a fifth as
many pictures as an epoch has; a time budget decides after every step and sets its learning rate.
Epochs are computed from training steps; reading pictures and scoring, which make them longer, are
left out.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.clocks import CLOCKS, measure_in_turns
from benchmarks.records import write_figures
from imetlib.profiles import get_profile
from imetlib.training.checkpoint_files import list_checkpoints
from imetlib.training.checkpoints import Checkpoints
from imetlib.training.clock import TimeBudget
from imetlib.training.devices import describe_devices, set_seed
from imetlib.training.metrics import weights_only
from imetlib.training.networks import WEIGHTS_FILE, build_classifier
from imetlib.training.optimizers import compile_model
from imetlib.training.stop_in_time import stop_in_time

# Name to side of its pictures in pixels.
NETWORKS = {"small_convnet": 48, "mobilenet_v2": 160}
BATCH_SIZE = 32
MOST = 0.03


def main(arguments=None):
    """Measure, print the table, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoints", description=__doc__)
    parser.add_argument("--pictures", type=int, default=4000, help="of an epoch")
    parser.add_argument("--classes", type=int, default=1103)
    parser.add_argument("--repeats", type=int, default=5, help="each median is taken over these")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.pictures < BATCH_SIZE or options.repeats < 1 or options.classes < 1:
        parser.error(f"--pictures must be at least {BATCH_SIZE}, the others at least 1")
    set_seed(0)
    rows = {}
    for name, side in NETWORKS.items():
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rows[name] = measure(name, side, Path(folder), options)
    print_table(rows, options)
    if options.out:
        record = {"pictures": options.pictures, "repeats": options.repeats, "networks": rows}
        write_figures(options.out, {**record, "devices": describe_devices()})


class Scores:
    """Stands for `EpochScores` with the scores of a fifth as many pictures."""

    def __init__(self, options):
        self.logits = np.zeros((options.pictures // 5, options.classes), np.float32)

    def get_state(self):
        return {"logits": self.logits, "history": [{"epoch": 1, "loss": 0.5}] * 20}


def measure(name, side, folder, options):
    """Seconds of a save, of the decisions and of an epoch by both clocks, megabytes, shares."""
    shape = (side, side, 3)
    profile = get_profile(
        "fast", backbone=name, weights="", image_shape=shape, batch_size=BATCH_SIZE
    )
    model, _ = build_classifier(profile, options.classes)
    compile_model(model, profile, updates=None)
    checkpoints = Checkpoints(
        model, folder, {"seed": 0}, parts={"scores": Scores(options)}, files=(WEIGHTS_FILE,)
    )
    weights_only(model).save_weights(folder / WEIGHTS_FILE)
    images = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, *shape), dtype=np.uint8)
    labels = np.zeros((BATCH_SIZE, options.classes), np.float32)
    epochs = iter(range(10_000))
    stop = stop_in_time(budget_for_long(), profile, steps=1_000_000)
    stop.set_model(model)
    stop.set_params({"steps": options.pictures // BATCH_SIZE})
    stop.on_train_begin()
    ways = {
        "save": lambda: checkpoints.save(next(epochs)),
        "step": lambda: model.train_on_batch(images, labels),
        "decisions": lambda: [stop.on_train_batch_end(0) for _ in range(100)],
    }
    medians = measure_in_turns(ways, options.repeats)
    last = list_checkpoints(folder / "checkpoints")[0]
    row = {"megabytes": sum(file.stat().st_size for file in last.iterdir()) / 1e6}
    for clock in CLOCKS:
        steps = options.pictures / BATCH_SIZE
        epoch, save = medians["step"][clock] * steps, medians["save"][clock]
        decisions = medians["decisions"][clock] / 100 * steps
        row |= {
            f"save_{clock}": save,
            f"decisions_{clock}": decisions,
            f"epoch_{clock}": epoch,
            f"share_{clock}": (save + decisions) / epoch,
        }
    return row


def budget_for_long():
    """A budget that never ends, with everything measured that it must know."""
    budget = TimeBudget(1e6, prediction_batches=100)
    for kind in ("evaluation", "checkpoint", "prediction", "writing"):
        budget.note(kind, 1.0)
    return budget


def print_table(rows, options):
    """Megabytes, seconds of a save, of the decisions and of an epoch, and the share."""
    print(
        f"\nCheckpoints and a time budget, epochs of {options.pictures} pictures, "
        f"{options.classes} classes"
    )
    print(f"  {'':24s}{'':8s}{'by the clock':>37s}{'of the processor':>37s}")
    columns = f"{'save s':>9s}{'budget s':>10s}{'epoch s':>9s}{'share':>9s}"
    print(f"  {'':24s}{'MB':>8s}{columns}{columns}")
    for name, row in rows.items():
        line = f"  {name + f', {NETWORKS[name]} px':24s}{row['megabytes']:8.1f}"
        for clock in CLOCKS:
            line += f"{row[f'save_{clock}']:9.3f}{row[f'decisions_{clock}']:10.3f}"
            line += f"{row[f'epoch_{clock}']:9.1f}"
            line += f"{row[f'share_{clock}']:9.2%}"
        print(line)
    if any(row["share_seconds"] > MOST for row in rows.values()):
        print(f"  They take more than {MOST:.0%} of an epoch here.")


if __name__ == "__main__":
    sys.exit(main())
