"""One of the processes that train a network together, for tests/test_processes.py.

    python tests/two_processes.py RUNS SETTINGS FOLDER NAME JSON

RUNS is the folder with the tests' museum, SETTINGS its profile as JSON, FOLDER the run folder, JSON
changes to the profile; `rows`, an int, is how many pictures it learns from, `dies` the epoch that
the second process does not live to save, `second` changes for the second process alone. The
environment says who takes part (`imetlib.processes`). Findings go to `NAME-0.json` beside FOLDER
for the first process.
"""

import dataclasses
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

from imetlib.collection.prepared import prepare_collection
from imetlib.models.backbones import build_backbone
from imetlib.processes import check_agreement, is_first, process_part
from imetlib.profiles import Profile
from imetlib.training import fit
from imetlib.training.checkpoints import Checkpoints
from imetlib.training.data_parallel import num_devices
from imetlib.training.devices import describe_devices
from imetlib.training.fit import train_network
from imetlib.training.fold_runs import train_fold
from imetlib.training.load import load_run

COLUMNS = ("epoch", "loss", "val_loss", "val_f2", "learning_rate")


class Dying(Checkpoints):
    """Checkpoints of a process that ends before it saves an epoch."""

    epoch = 0

    def save(self, epoch):
        if epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGKILL)
        super().save(epoch)


if __name__ == "__main__":
    runs, settings_file, folder, name, changes = sys.argv[1:]
    settings, folder = json.loads(Path(settings_file).read_text(encoding="utf-8")), Path(folder)
    changes = json.loads(changes)
    Dying.epoch, second = changes.pop("dies", 0), changes.pop("second", {})
    if process_part()[0] == 1:
        changes |= second
        if Dying.epoch:
            fit.Checkpoints = Dying
    num_rows, fold = changes.pop("rows", 40), changes.pop("fold", False)
    profile = Profile(**{**settings, "image_shape": tuple(settings["image_shape"])})
    data = prepare_collection(profile, out=runs)
    if changes.pop("pretrained", False):
        weights = folder.parent / "start.weights.h5"
        if not weights.is_file():
            build_backbone("small_convnet", profile.image_shape).save_weights(weights)
        changes["weights"] = str(weights)
    data = dataclasses.replace(data, profile=dataclasses.replace(profile, **changes))
    found = {"part": process_part(), "devices": num_devices(), "details": describe_devices()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if fold:
            record = train_fold(data, folder, 1, seed=3)
            images = np.random.default_rng(0).integers(0, 256, (7, 48, 40, 3), np.uint8)
            found["record"] = {key: record[key] for key in ("score", "threshold", "best_epoch")}
            found["logits"] = load_run(folder).predict(images).logits.tolist()
        else:
            rows = data.rows_of_folds(0)[:num_rows], data.rows_of_folds(1)[:33]
            trained = train_network(data.profile, data, *rows, folder, seed=3, verbose=2)
            found["history"] = [[row[key] for key in COLUMNS] for row in trained.history]
            found["logits"] = trained.val_scores.logits.tolist()
            found["best_epoch"] = trained.best_epoch
    found["warnings"] = [str(one.message) for one in caught if one.category is UserWarning]
    check_agreement("what they found", len(found["logits"]))
    (folder.parent / f"{name}-{process_part()[0]}.json").write_text(json.dumps(found))
    assert is_first() == (process_part()[0] == 0)
