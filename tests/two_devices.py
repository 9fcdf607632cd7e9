"""One process with two virtual CPUs: what they compute, beside what one of them computes alone.

    python tests/two_devices.py RUNS SETTINGS FOLDER PART...

RUNS is the folder with the tests' museum, SETTINGS its profile as JSON, PART "steps" or one of
`PARTS`. Findings go to `found.json` in FOLDER. The environment names the backend
(`KERAS_BACKEND`), and on jax asks for the devices:
`XLA_FLAGS=--xla_force_host_platform_device_count=2`.
"""

import dataclasses
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf

    # Before anything of Keras, which starts the devices.
    half = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [half, half]
    )

import keras
import numpy as np

from imetlib.collection.batches import Batches, fill_up
from imetlib.collection.prepared import prepare_collection
from imetlib.models.backbones import build_backbone
from imetlib.profiles import Profile
from imetlib.training.checkpoint_files import list_checkpoints, load_checkpoint
from imetlib.training.clock import TimeBudget
from imetlib.training.data_parallel import data_parallel, num_devices, predict_on_batch, use_devices
from imetlib.training.devices import describe_devices
from imetlib.training.features import build_extractor, frozen_features
from imetlib.training.fit import preprocessing_of, train_network
from imetlib.training.fold_runs import train_fold
from imetlib.training.load import load_run
from imetlib.training.networks import build_classifier
from imetlib.training.optimizers import compile_model

BACKEND = keras.backend.backend()
NAMES = {"tensorflow": ["CPU:0", "CPU:1"], "jax": ["cpu:0", "cpu:1"]}[BACKEND]
FOUND = {}


def arrays_of(variables):
    return [keras.ops.convert_to_numpy(variable).astype(np.float64) for variable in variables]


def difference(ours, theirs):
    """Largest difference of two lists of arrays."""
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.max(np.abs(np.subtract(a, b)), initial=0)) for a, b in pairs)


def copies_agree(variables):
    """Whether every device holds the same numbers."""
    if BACKEND == "jax":
        return all(
            np.array_equal(shard.data, variable.value.addressable_shards[0].data)
            for variable in variables
            for shard in variable.value.addressable_shards
        )
    return all(
        np.array_equal(*(copy.numpy() for copy in variable.value.values)) for variable in variables
    )


class Rows(keras.utils.PyDataset):
    """47 rows in batches of 9 and 10."""

    def __init__(self, x, y, multiple):
        super().__init__()
        self.x, self.y, self.multiple = x, y, multiple

    def __len__(self):
        return 5

    def __getitem__(self, index):
        start, end = np.linspace(0, len(self.x), 6).astype(int)[index : index + 2]
        batch = self.x[start:end], self.y[start:end]
        return batch if self.multiple == 1 else fill_up(self.multiple, *batch)


def drawn_rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(47, 8)).astype("f"), rng.integers(0, 2, (47, 3)).astype("f")


def sgd():
    """A dense layer by SGD: what it learned, for a comparison with NumPy."""
    x, y = drawn_rows()
    with use_devices(NAMES), data_parallel():
        inputs = keras.Input((8,))
        model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="zeros")(inputs))
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.5), loss=loss)
        model.fit(Rows(x, y, num_devices()), epochs=3, shuffle=False, verbose=0)
    answers = {rows: predict_on_batch(model, x[:rows]) for rows in (1, 2, 7, 46, 47)}
    weights = arrays_of(model.weights)
    FOUND["sgd"] = {
        "weights": [array.tolist() for array in weights],
        "shapes": [list(answer.shape) for answer in answers.values()],
        "predicted": difference(
            answers.values(), [x[:rows] @ weights[0] + weights[1] for rows in answers]
        ),
    }


def optimizers(profile):
    """`compile_model` on one device and on two; 15 batches, so that gradients are left over."""
    x, y = drawn_rows()
    for name, changes in {
        "ema": {"ema": 0.5},
        "ema and accumulation": {"ema": 0.5, "accumulation": 4},
        "float16 and accumulation": {"precision": "mixed_float16", "accumulation": 4},
    }.items():
        changed = dataclasses.replace(profile, weight_decay=0.1, learning_rate=1e-2, **changes)
        kept = []
        for devices in (1, NAMES):
            with use_devices(devices), data_parallel():
                keras.utils.set_random_seed(1)
                keras.config.set_dtype_policy(changed.precision)
                inputs = keras.Input((8,))
                hidden = keras.layers.Dense(4, activation="tanh")(inputs)
                model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(hidden))
                keras.config.set_dtype_policy("float32")
                compile_model(model, changed, 15)
                rows = Rows(x, y, num_devices())
                losses = model.fit(rows, epochs=3, shuffle=False, verbose=0).history["loss"]
                variables = [*model.variables, *model.optimizer.variables]
                kept.append((arrays_of(variables), losses, [one.path for one in variables]))
        (one, losses, names), (two, other_losses, other_names) = kept
        FOUND[f"optimizer {name}"] = {
            "weights": difference(one, two),
            "loss": difference([losses], [other_losses]),
            "copies": copies_agree(variables),
            "scaled": isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer),
            "names": [names, other_names],
        }


def overflow(profile):
    """Gradients of float16 that overflow in the rows of one device alone."""
    x, y = drawn_rows()
    x, y, weights = x[:10].copy(), y[:10], np.ones(10, "f")
    profile = dataclasses.replace(profile, precision="mixed_float16")
    for half in (0, 1):
        with use_devices(NAMES), data_parallel():
            keras.config.set_dtype_policy("mixed_float16")
            inputs = keras.Input((8,))
            model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="zeros")(inputs))
            keras.config.set_dtype_policy("float32")
            compile_model(model, profile, 10)
            before = arrays_of(model.weights)
            large = x.copy()
            large[5 * half : 5 * half + 5] = 6e4

            class Once(keras.utils.PyDataset):
                def __len__(self):
                    return 1

                def __getitem__(self, index, rows=large):
                    return rows, y, weights

            model.fit(Once(), shuffle=False, verbose=0)
        FOUND[f"overflow {half}"] = {
            "weights": difference(before, arrays_of(model.weights)),
            "scale": float(keras.ops.convert_to_numpy(model.optimizer.dynamic_scale)),
        }


# Training of the museum -----------------------------------------------------------------------

# A batch of 11 is followed by smaller ones; the gradients of 3 are accumulated over the end of an
# epoch.
EXACT = {
    "batch_norm": "frozen",
    "dropout": 0.0,
    "batch_size": 11,
    "epochs": 3,
    "accumulation": 3,
    "learning_rate": 1e-2,
}
# What must go through; the random numbers of two devices are not those of one.
OPTIONS = {
    "every option": {
        "precision": "mixed_float16",
        "ema": 0.5,
        "loss": "splc",
        "mixup": 0.2,
        "dropout": 0.1,
        "mirror_view": True,
        "batch_norm": "train",
    },
    "multi": {"attention": "multi", "attention_stride": 8, "accumulation": 1},
    "diverged": {
        "learning_rate": 1e30,
        "weight_decay": 0.0,
        "divergence": "halve",
        "image_shape": (64, 64, 3),
        "small_epochs": 1,
        "small_scale": 0.5,
    },
}


def train(data, folder, devices, budget=None, **changes):
    profile = dataclasses.replace(data.profile, **{**EXACT, **changes})
    rows = data.rows_of_folds(0)[:41], data.rows_of_folds(1)[:33]
    with use_devices(devices):
        return train_network(profile, data, *rows, folder, budget=budget, seed=3)


def last_state(folder):
    return load_checkpoint(list_checkpoints(folder / "checkpoints")[0])


def compare(one, two, states):
    columns = ("loss", "val_loss", "val_f2", "learning_rate")
    histories = {
        name: [[row[name] for row in each.history] for each in (one, two)] for name in columns
    }
    arrays = [
        [
            state.arrays[name]
            for name in sorted(state.arrays)
            if name.split("/")[0] in ("network", "optimizer")
        ]
        for state in states
    ]
    return {
        "history": {
            name: difference(*([rows[1:]] for rows in pair)) for name, pair in histories.items()
        },
        "first": abs(histories["val_loss"][0][0] - histories["val_loss"][1][0]),
        "losses": histories["loss"][1][1:],
        "best_epochs": [one.best_epoch, two.best_epoch],
        "state": difference(*arrays),
        "scores": difference([one.val_scores.logits], [two.val_scores.logits]),
        "ids": one.val_scores.ids.tolist() == two.val_scores.ids.tolist(),
    }


def museum(data, folder):
    devices = {"one": 1, "two": NAMES}
    whole = {name: train(data, folder / name, devices[name]) for name in devices}
    states = {name: last_state(folder / name) for name in devices}
    FOUND["one, two"] = compare(*whole.values(), states.values())
    FOUND["one, two"]["copies"] = copies_agree(whole["two"].model.variables)
    for before, after in (("two", "two"), ("two", "one"), ("one", "two")):
        # As after an end in the last epoch.
        place = folder / f"{before}-{after}"
        shutil.copytree(folder / before, place)
        shutil.rmtree(list_checkpoints(place / "checkpoints")[0])
        epoch = last_state(place).epoch
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = train(data, place, devices[after])
        FOUND[f"{before}, then {after}"] = {
            **compare(whole[before], again, (states[before], last_state(place))),
            "epoch": epoch,
            "warnings": [str(one.message) for one in caught if one.category is UserWarning],
        }


def options(data, folder):
    for name, changes in OPTIONS.items():
        budget = None
        if name == "every option":
            budget = TimeBudget(10.0, prediction_batches=1)
            budget.note("writing", 0.1)
        trained = train(data, folder / name, NAMES, budget, **changes)
        FOUND[name] = {
            **{column: [row[column] for row in trained.history] for column in trained.history[0]},
            "copies": copies_agree(trained.model.variables),
            "halved": trained.rate_halved,
        }


def frozen(data, folder):
    """Features of a frozen backbone, the head that learns on them, and a run's record."""
    weights = folder / "start.weights.h5"
    build_backbone("small_convnet", data.profile.image_shape).save_weights(weights)
    profile = dataclasses.replace(data.profile, weights=str(weights), **EXACT)
    profile = dataclasses.replace(profile, head_epochs=2, epochs=0)
    found = []
    for name, devices in {"alone": 1, "shared": NAMES}.items():
        place = dataclasses.replace(data, profile=profile, workspace=folder / name)
        place.workspace.mkdir()
        with use_devices(devices):
            record = train_fold(place, folder / f"{name}-fold", 1)
            found.append((frozen_features(place, "train"), record, describe_devices()))
    with use_devices(NAMES), data_parallel():
        copies = build_extractor(profile).weights
    images = np.random.default_rng(0).integers(0, 256, (7, 48, 40, 3), np.uint8)
    answers = []
    for devices in (1, NAMES):
        with use_devices(devices):
            answers.append(load_run(folder / "shared-fold").predict(images).logits)
    (alone, one, _), (shared, two, details) = found
    FOUND["frozen"] = {
        "features": difference([alone], [shared]),
        "shape": list(shared.shape),
        "copies": copies_agree(copies),
        "log_losses": [one["log_loss"], two["log_loss"]],
        "devices": [record["device_details"]["num_devices"] for record in (one, two)],
        "details": two["device_details"] == details,
        "answers": difference([answers[0]], [answers[1]]),
    }
    # Nothing is left behind: a network built now is on one device.
    model, _ = build_classifier(data.profile, 5)
    images = np.zeros((3, *data.profile.image_shape), np.uint8)
    FOUND["afterwards"] = list(model.predict_on_batch(images).shape)


def batches(data, folder):
    """Which rows the steps of an epoch see on two devices, and with what weight."""
    labels = np.arange(41)[:, None]
    shown = Batches(
        data.train_pictures,
        np.arange(41),
        preprocessing_of(data.profile),
        labels=labels,
        batch_size=11,
        shuffle=True,
        seed=3,
        multiple=2,
    )
    parts = [shown[index] for index in range(len(shown))]
    FOUND["batches"] = [
        [images.shape[0], rows[:, 0].tolist(), weights.tolist()] for images, rows, weights in parts
    ]


PARTS = {part.__name__: part for part in (batches, museum, frozen, options)}


if __name__ == "__main__":
    runs, settings_file, place = sys.argv[1:4]
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    profile = Profile(**{**settings, "image_shape": tuple(settings["image_shape"])})
    for part in sys.argv[4:]:
        if part == "steps":
            sgd()
            optimizers(profile)
            overflow(profile)
        else:
            PARTS[part](prepare_collection(profile, out=runs), Path(place))
    (Path(place) / "found.json").write_text(json.dumps(FOUND), encoding="utf-8")
