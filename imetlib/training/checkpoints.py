"""The state of training, saved after every epoch; a run that was ended goes on from it.

What comes after a restored state is, bit for bit, what would have come without the end: the state
holds all variables of network and optimizer, seeds of random layers among them; global seeds are a
function of (seed, epoch), batches one of (seed, epoch, row). This holds at the ends of epochs, for
the same libraries, machine class and number of threads, with operations that repeat
(`imetlib.training.devices.set_seed`).
"""

import itertools
import json
import math
import re
import shutil
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np

from imetlib.delivery.records import environment
from imetlib.files import replacing
from imetlib.processes import check_agreement, is_first, process_part, wait_for_all
from imetlib.training.checkpoint_files import (
    clean_folder,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    set_aside,
)
from imetlib.training.data_parallel import num_devices
from imetlib.training.run_files import changes_of

FOLDER = "checkpoints"
# Entries of `imetlib.delivery.machine.environment` that the bits depend on.
_MACHINE = ("device", "cores", "threads", "backend", "onednn", "versions")
_SAME = (*_MACHINE, "num_devices", "num_processes")


class Checkpoints(keras.callbacks.Callback):
    """Saves the state of a run after every finite epoch, and finds the last one again.

    The last callback of `fit`, so that the others have done their part of the epoch.

    Args:
        network: `keras.Model`, compiled, that will be fitted.
        folder: run folder; the checkpoints stand in `checkpoints/` in it.
        identity: dict of what JSON can hold, with "seed": a checkpoint of another one is never
            restored.
        parts: dict of name to object with `get_state()`, a dict of JSON values and arrays, and
            `set_state(state)`.
        files: names of files of the run folder that belong to the state.
        budget: `imetlib.training.clock.TimeBudget`, or None: what does not fit is not saved.

    Attributes:
        seconds: float, what earlier processes spent up to the checkpoint restored.
    """

    def __init__(self, network, folder, identity, *, parts, files=(), budget=None):
        super().__init__()
        optimizer = network.optimizer
        if not optimizer.built:
            optimizer.build(network.trainable_variables)
        self._variables = {"network": network.variables, "optimizer": optimizer.variables}
        self.run_folder, self.folder = Path(folder), Path(folder) / FOLDER
        self.identity = json.loads(json.dumps(identity))
        self.parts, self.files, self.budget = parts, files, budget
        self.seconds, self._start, self._has_saved = 0.0, time.perf_counter(), False
        num = num_devices()
        self._environment = {**environment(), **({"num_devices": num} if num > 1 else {})}
        if process_part()[1] > 1:
            self._environment["num_processes"] = process_part()[1]

    def on_epoch_begin(self, epoch, logs=None):
        # torch draws the masks of Dropout from a state of its own, not from the layer's seed.
        seeds = np.random.SeedSequence([self.identity["seed"], epoch])
        keras.utils.set_random_seed(int(seeds.generate_state(1)[0]))

    def on_epoch_end(self, epoch, logs=None):
        fits = self.budget is None or self.budget.allows("checkpoint")
        if fits and math.isfinite((logs or {}).get("loss", math.nan)):
            self.save(epoch + 1)

    def save(self, epoch):
        """Save the state after some epochs; nothing where a number of it is none.

        Raises:
            OSError: the disk is full, or refuses. Earlier checkpoints are as they were.
        """
        arrays, parts = {}, {}
        for group, variables in self._variables.items():
            for number, variable in enumerate(variables):
                array = keras.ops.convert_to_numpy(variable)
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    return
                arrays[f"{group}/{number:04d}"] = array
        for part, owner in self.parts.items():
            parts[part] = {}
            for name, value in owner.get_state().items():
                if isinstance(value, np.ndarray):
                    arrays[f"{part}/{name}"] = value
                else:
                    parts[part][name] = value
        state = {
            "identity": self.identity,
            "environment": self._environment,
            "seconds": self.elapsed(),
            "variables": self._describe_variables(),
            "parts": parts,
        }
        files = [self.run_folder / name for name in self.files]
        files = [path for path in files if path.is_file()]
        with nullcontext() if self.budget is None else self.budget.measure("checkpoint"):
            if is_first():
                save_checkpoint(self.folder, epoch, state, arrays, files)
            wait_for_all(f"checkpoint {epoch}")
        self._has_saved = True

    def restore(self):
        """Take up the last checkpoint that is whole, finite and of this run.

        Warns of each one that is not, and sets it aside; warns too where the one in use was written
        by other libraries or with another number of threads.

        Returns:
            int, the epochs that were finished, or None where training starts.
        """
        if is_first():
            clean_folder(self.folder)
            checkpoint = self._find()
        wait_for_all("checkpoints looked through")
        if not is_first():
            # What cannot be used has been set aside by the first.
            checkpoint = self._find()
        epoch = None if checkpoint is None else checkpoint.epoch
        check_agreement("the epoch that they go on from", -1 if epoch is None else epoch)
        if checkpoint is not None:
            # All at once: arrays of several processes are made by all of them.
            self._apply(checkpoint)
        return epoch

    def _find(self):
        found = list_checkpoints(self.folder)
        for path in found:
            try:
                checkpoint = load_checkpoint(path)
                self._check(checkpoint)
            except (KeyError, OSError, ValueError) as error:
                warnings.warn(
                    f"Checkpoint {path} is not used, and kept as {set_aside(path).name}: {error}",
                    stacklevel=3,
                )
                continue
            return checkpoint
        if found:
            warnings.warn(
                f"None of {len(found)} checkpoints in {self.folder} can be used: training starts "
                "again.",
                stacklevel=3,
            )
        return None

    def elapsed(self):
        """Seconds of the run up to now, those of earlier processes included."""
        return self.seconds + time.perf_counter() - self._start

    def _describe_variables(self):
        """[name, shape, dtype] of each variable; names without numbers that a process gives."""
        return {
            group: [
                [re.sub(r"_\d+", "", one.path), list(one.shape), str(one.dtype)]
                for one in variables
            ]
            for group, variables in self._variables.items()
        }

    def _check(self, checkpoint):
        """Raises ValueError where a checkpoint is not of this run, or not of this network."""
        state = checkpoint.state
        changed = changes_of(self.identity, state["identity"])
        if changed:
            raise ValueError(f"it is of a run of other settings ({', '.join(changed)})")
        for group, wanted in self._describe_variables().items():
            found = state["variables"][group]
            pairs = itertools.zip_longest(wanted, found, fillvalue="none")
            for number, (ours, theirs) in enumerate(pairs):
                if ours != theirs:
                    raise ValueError(
                        f"variable {number} of the {group} is another: expected {ours}, "
                        f"found {theirs}"
                    )
        if set(state["parts"]) != set(self.parts):
            raise ValueError(
                f"it holds the state of {sorted(state['parts'])}; expected {sorted(self.parts)}"
            )
        now = self._environment
        differing = [key for key in _SAME if state["environment"].get(key) != now.get(key)]
        if differing:
            warnings.warn(
                f"{checkpoint.path} was written with another {', '.join(differing)}: training "
                "goes on from it, but not bit for bit as it would have there.",
                stacklevel=4,
            )

    def _apply(self, checkpoint):
        for part, owner in self.parts.items():
            start = f"{part}/"
            arrays = {
                name.removeprefix(start): array
                for name, array in checkpoint.arrays.items()
                if name.startswith(start)
            }
            owner.set_state({**checkpoint.state["parts"][part], **arrays})
        for group, variables in self._variables.items():
            for number, variable in enumerate(variables):
                variable.assign(checkpoint.arrays[f"{group}/{number:04d}"])
        for name in self.files:
            # The run folder may hold that of a later epoch, which was not saved.
            if is_first() and (checkpoint.path / name).is_file():
                with replacing(self.run_folder / name) as temporary:
                    shutil.copyfile(checkpoint.path / name, temporary)
        if not self._has_saved:  # else this process goes back to what it saved itself
            self.seconds = checkpoint.state["seconds"]


class SwapAverages(keras.callbacks.SwapEMAWeights):
    """`SwapEMAWeights` at the ends of epochs, which knows after a restart what was swapped."""

    def __init__(self):
        super().__init__(swap_on_epoch=True)

    def _backend_finalize_ema_values(self, optimizer):
        # Keras's own lets weight and mean share an array, which jax then gives away with the one
        # and misses in the other.
        means = optimizer._model_variables_moving_average
        for variable, mean in zip(optimizer._trainable_variables, means, strict=True):
            mean.assign(keras.ops.copy(variable))

    def get_state(self):
        """What to go on from."""
        return {"swapped": self._ema_weights_in_model}

    def set_state(self, state):
        """Go on from what `get_state` gave."""
        self._ema_weights_in_model = state["swapped"]


def remove_checkpoints(folder):
    """Remove all checkpoints of a run folder: its run is finished."""
    shutil.rmtree(Path(folder) / FOLDER, ignore_errors=True)
