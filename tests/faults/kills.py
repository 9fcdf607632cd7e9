"""Kill training at random moments, call it again, and compare with the run that was left alone.

    python tests/faults/kills.py FOLDER [--kills N] [--seed N]

One process imports Keras and what else takes long; every run is a fork of it. Only the forks import
what starts the backend, whose threads do not survive a fork. Prints one JSON object and ends with 1
where a run did not go on by itself or gave other bits.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import cv2  # noqa: F401
import keras  # noqa: F401
import numpy as np
import pandas as pd  # noqa: F401
import sklearn.cluster  # noqa: F401

# Random layers, averages and accumulation over the ends of epochs: all that could be forgotten.
SETTINGS = {
    "museum_size": 200,
    "museum_side": 48,
    "image_shape": (32, 32, 3),
    "num_folds": 3,
    "epochs": 5,
    "batch_size": 10,
    "dropout": 0.2,
    "ema": 0.9,
    "accumulation": 3,
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    whole = options.folder / "whole"
    assert fork_run(options.folder / "first") == 0, "the run that draws the museum failed"
    start = time.monotonic()
    assert fork_run(whole) == 0, "the run that is left alone failed"
    seconds, wanted = time.monotonic() - start, (whole / "digest").read_text()
    rng, outcomes = random.Random(options.seed), []
    for number in range(options.kills):
        folder = options.folder / f"kill{number:02d}"
        moments = [rng.uniform(0.0, 1.1) * seconds]
        if number % 4 == 3:  # and once more, as it goes on
            moments.append(rng.uniform(0.0, 0.7) * seconds)
        epochs = []
        for moment in moments:
            fork_run(folder, kill_after=moment)
            saved = (folder / "checkpoints").glob("epoch-*")
            epochs.append(max((int(path.name[-4:]) for path in saved), default=None))
        resumed = fork_run(folder) == 0
        same = resumed and (folder / "digest").read_text() == wanted
        outcomes.append({"epochs": epochs, "resumed": resumed, "same": same})
    count = {name: sum(one[name] for one in outcomes) for name in ("resumed", "same")}
    print(json.dumps({"kills": options.kills, **count, "outcomes": outcomes}))
    return int(count["same"] < options.kills)


def fork_run(folder, kill_after=None):
    """Exit status of a child that trains; negative where it was killed after some seconds."""
    child = os.fork()
    if not child:
        try:
            from imetlib.collection.prepared import prepare_collection
            from imetlib.profiles import get_profile
            from imetlib.training.fit import train_network

            data = prepare_collection(get_profile("fast", **SETTINGS), out=folder.parent)
            rows = data.rows_of_folds(0)[:40], data.rows_of_folds(1)[:33]
            train_network(data.profile, data, *rows, folder)
            (folder / "digest").write_text(digest(folder))
            status = 0
        except BaseException as error:
            print(f"{folder.name}: {error!r}", file=sys.stderr)
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    if kill_after is not None:
        end = time.monotonic() + kill_after
        while time.monotonic() < end:
            if os.waitpid(child, os.WNOHANG)[0]:
                return 0  # it was faster
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def digest(folder):
    """SHA-256 of all that two equal runs agree in, bit for bit."""
    from imetlib.training.checkpoint_files import list_checkpoints, load_checkpoint

    last = load_checkpoint(list_checkpoints(folder / "checkpoints")[0])
    last.state["parts"]["scores"].pop("timing")
    found = hashlib.sha256(json.dumps([last.epoch, last.state["parts"]]).encode())
    for name, array in sorted(last.arrays.items()):
        found.update(name.encode() + np.ascontiguousarray(array).tobytes())
    found.update((folder / "history.csv").read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
