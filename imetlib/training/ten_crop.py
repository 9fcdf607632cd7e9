"""The networks of the ten-crop experiment, trained: whole ones, and heads on a frozen map."""

import itertools
import json
import time

import keras
import numpy as np

from imetlib.collection.shifts import mirror_pictures, shift_pictures
from imetlib.files import replacing
from imetlib.models.cifar_alexnet import cifar_alexnet
from imetlib.models.costs import count_trainable
from imetlib.models.crop_classifier import crop_classifier
from imetlib.training.data_parallel import use_devices
from imetlib.training.devices import accelerator_names, dtype_policy, set_seed
from imetlib.training.metrics import weights_only, write_history
from imetlib.training.optimizers import StopOnNaN
from imetlib.training.predict import clear_memory
from imetlib.training.schedules import warmup_cosine
from imetlib.training.ten_crop_run import BASE, HEADS, WHOLE

CROP_SIZE = 3


def train_whole(run, name, *, verbose=0):
    """Train a network of `WHOLE` on shifted and mirrored pictures; one that is done is read.

    Args:
        run: `TenCropRun`; its base is trained, unless `name` is the base.
        name: key of `WHOLE`.
        verbose: as in `keras.Model.fit`.

    Returns:
        dict of facts: "held_out" (top-1 of the held-out pictures after the last epoch),
        "seconds", "num_params", "trainable_params", "device".

    Raises:
        ValueError: the loss became infinite or no number, or the base is missing.
    """
    if is_trained(run, name):
        return read_facts(run, name)
    settings, images = run.settings, run.pictures.train_images

    def read(rows, generator):
        return mirror_pictures(shift_pictures(images[rows], generator, settings.padding), generator)

    epochs, learning_rate = settings.epochs, settings.learning_rate
    if name != BASE:
        epochs, learning_rate = settings.joint_epochs, settings.joint_learning_rate
    steps = len(run.rows) // settings.batch_size
    set_seed(run.seed, deterministic=True)
    model = build_whole(run, name)
    if name != BASE:
        for layer in feature_network(load_network(run, BASE)).layers:
            model.get_layer(layer.name).set_weights(layer.get_weights())
    optimizer = keras.optimizers.SGD(
        _cosine(learning_rate, steps * epochs),
        momentum=0.9,
        nesterov=True,
        weight_decay=settings.weight_decay,
    )
    _compile(model, optimizer, settings.label_smoothing)
    batches = _endless(read, run.labels, run.rows, settings.batch_size, run.seed)
    held_out = images[run.held_out]
    return _fit(run, name, model, batches, steps, epochs, held_out, verbose)


def frozen_views(run):
    """What the frozen base makes of the training pictures, plain and mirrored.

    A cache is right only without random changes of the pictures: these two views are all that
    the heads see.

    Args:
        run: `TenCropRun` whose base is trained.

    Returns:
        `(2, num_train, height, width, channels)` float16.

    Raises:
        ValueError: the base is not trained yet.
    """
    network = feature_network(load_network(run, BASE))
    images = run.pictures.train_images
    return np.stack([features_of(network, view) for view in (images, images[:, :, ::-1])])


def train_head(run, name, views, *, verbose=0):
    """Train a head of `HEADS` on the frozen map of the base; one that is done is read.

    Args:
        run: `TenCropRun`.
        name: key of `HEADS`.
        views: `frozen_views`; of a head that is done None will do.
        verbose: as in `keras.Model.fit`.

    Returns:
        dict of facts, see `train_whole`.

    Raises:
        ValueError: the loss became infinite or no number.
    """
    if is_trained(run, name):
        return read_facts(run, name)
    settings = run.settings

    def read(rows, generator):
        return views[generator.integers(0, len(views), len(rows)), rows]

    steps = len(run.rows) // settings.head_batch_size
    set_seed(run.seed, deterministic=True)
    model = build_head(run, name, views.shape[2:])
    optimizer = keras.optimizers.AdamW(
        _cosine(settings.head_learning_rate, steps * settings.head_epochs),
        weight_decay=settings.head_weight_decay,
    )
    _compile(model, optimizer, settings.label_smoothing)
    batches = _endless(read, run.labels, run.rows, settings.head_batch_size, run.seed)
    held_out = views[0][run.held_out]
    return _fit(run, name, model, batches, steps, settings.head_epochs, held_out, verbose)


def is_trained(run, name):
    """Whether a network or head is done: its facts are written last."""
    return run.path(name, ".json").is_file()


def read_facts(run, name):
    """Facts of a network or head that is done, see `train_whole`."""
    return json.loads(run.path(name, ".json").read_text(encoding="utf-8"))


def build_whole(run, name):
    """A network of `WHOLE`, untrained: `keras.Model` from pictures to scores."""
    settings = run.settings
    with dtype_policy(settings.precision):
        trunk = cifar_alexnet(
            run.pictures.train_images.shape[1:],
            filters=settings.filters,
            batch_normalization=True,
            dropout=settings.conv_dropout,
        )
        head = _classifier(run, trunk.output.shape[1:], WHOLE[name])
        return keras.Model(trunk.input, head(trunk.output), name=name.replace(" ", "_"))


def build_head(run, name, map_shape):
    """A head of `HEADS`, untrained: `keras.Model` from a map of `map_shape` to scores."""
    with dtype_policy(run.settings.precision):
        return _classifier(run, map_shape, HEADS[name])


def load_network(run, name):
    """A trained network of `WHOLE`, from pictures to scores.

    Raises:
        ValueError: it is not trained yet.
    """
    return _with_weights(run, name, build_whole(run, name))


def load_head(run, name, map_shape):
    """A trained head of `HEADS`, from the base's map to scores.

    Raises:
        ValueError: it is not trained yet.
    """
    return _with_weights(run, name, build_head(run, name, map_shape))


def feature_network(model):
    """From pictures to the map that a whole network classifies."""
    return keras.Model(model.input, model.get_layer("pool5").output, name="features")


def features_of(network, images, batch_size=512):
    """Maps of pictures, `(num_pictures, height, width, channels)` float16."""
    return predict(network, images, batch_size).astype(np.float16)


def predict(model, inputs, batch_size=512):
    """Outputs of a model; every batch has one size, so that it is compiled once.

    Args:
        model: `keras.Model` with one input and one output.
        inputs: `(num_samples, ...)` array of pictures or maps, one at least. The last batch is
            filled up with copies, whose outputs are left out.
        batch_size: int >= 1.

    Returns:
        `(num_samples, ...)` float32.
    """
    found = []
    for start in range(0, len(inputs), batch_size):
        part = inputs[start : start + batch_size]
        missing = batch_size - len(part)
        if missing and start:
            part = np.concatenate([part, np.repeat(part[:1], missing, axis=0)])
        outputs = keras.ops.cast(model.predict_on_batch(part), "float32")
        found.append(keras.ops.convert_to_numpy(outputs)[: len(inputs) - start])
    return np.concatenate(found)


def _with_weights(run, name, model):
    path = run.path(name, ".weights.h5")
    # Not the weights: they are there before the run says that it is done.
    if not is_trained(run, name):
        raise ValueError(f"{path}: no weights of a finished run; train {name!r} first")
    model.load_weights(path)
    return model


def _classifier(run, map_shape, arguments):
    settings = run.settings
    hidden = arguments.get("hidden")
    return crop_classifier(
        map_shape,
        run.num_classes,
        **{**arguments, "hidden": settings.hidden if hidden else ()},
        crop_size=CROP_SIZE,
        dropout=settings.dropout if hidden else 0.0,
    )


def _compile(model, optimizer, label_smoothing):
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        ),
        metrics=["accuracy"],
    )


@use_devices(1)
def _fit(run, name, model, batches, steps, epochs, held_out, verbose):
    """Train, and write weights, history and, last, the facts that mark a network as done."""
    start = time.perf_counter()
    history = model.fit(
        batches,
        steps_per_epoch=steps,
        epochs=epochs,
        shuffle=False,
        validation_data=(held_out, run.labels[run.held_out]),
        validation_batch_size=500,
        verbose=verbose,
        callbacks=[StopOnNaN()],
    ).history
    if len(history["loss"]) < epochs or not np.isfinite(history["loss"]).all():
        raise ValueError(f"{name} diverged: start a run with a lower learning rate")
    with replacing(run.path(name, ".weights.h5")) as temporary:
        weights_only(model).save_weights(temporary)
    rows = [
        {"epoch": epoch, **{key: values[epoch - 1] for key, values in history.items()}}
        for epoch in range(1, epochs + 1)
    ]
    write_history(run.path(name, ".csv"), rows)
    facts = {
        "held_out": float(history["val_accuracy"][-1]),
        "seconds": time.perf_counter() - start,
        "num_params": int(model.count_params()),
        "trainable_params": count_trainable(model),
        "device": accelerator_names() or "CPU",
    }
    with replacing(run.path(name, ".json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    clear_memory()
    return facts


def _endless(read, labels, rows, batch_size, seed):
    """Batches without end; order and all that `read` draws are functions of (seed, epoch)."""
    for epoch in itertools.count():
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(rows)
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            yield read(chosen, generator), labels[chosen]


def _cosine(learning_rate, steps):
    warmup = max(1, steps // 10)
    return warmup_cosine(learning_rate, steps, warmup, floor=0.001)
