"""The devices that a network learns on.

On several devices every one computes its part of each batch (data parallelism): tensorflow by
`MirroredStrategy`, jax by `keras.distribution.DataParallel`, torch not at all. A network learns on
all GPUs of the machine unless the environment's `IMETLIB_DEVICES` or `use_devices` says otherwise.
"""

import contextlib
import functools
import os

import keras
import numpy as np

from imetlib.processes import answer_part, process_part

# What `use_devices` was given, in its block.
_chosen = None


@contextlib.contextmanager
def use_devices(devices=0):
    """Choose what the networks of a block learn on.

    Networks that learn or compute features share every batch out among these devices; what else
    predicts does so on the first. One device computes as if there were no choice, bit for bit.

    Args:
        devices: int >= 0, the first so many accelerators of the machine, 0 for all; or the names
            of at least two devices as the backend writes them (`"GPU:0"` on tensorflow, `"gpu:0"`
            on jax).

    Raises:
        ValueError: the machine has fewer, or the backend uses one only.

    Example:
        >>> with use_devices(1):
        ...     num_devices()
        1
    """
    global _chosen
    _find_devices(devices)
    before, _chosen = _chosen, devices
    try:
        yield
    finally:
        _chosen = before


def num_devices():
    """How many devices a network learns on here: the choice of `use_devices`, the environment's,
    or all GPUs of the machine.

    Raises:
        ValueError: see `use_devices`.
    """
    return max(1, len(_chosen_devices()))


@contextlib.contextmanager
def data_parallel():
    """Build, compile and fit on the devices chosen; also a decorator.

    What is built in the block keeps a copy of its weights on each of them. Each device computes an
    equal part of a batch, so the number of rows of every batch must be a multiple of `num_devices`
    (`imetlib.collection.batches.fill_up`), and gradients are those of the whole batch. On
    tensorflow BatchNormalization normalises each part by its own mean and variance, and keeps the
    mean of the moving ones; Dropout draws the same mask for every part. On jax both see the whole
    batch, as one device does.

    Raises:
        ValueError: see `use_devices`.
    """
    names = tuple(_chosen_devices())
    with _scope_of(names) if len(names) > 1 else contextlib.nullcontext():
        yield


def num_replicas():
    """Copies of a network that tensorflow keeps in step in this scope; 1 on other backends, where
    one program computes on all devices."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(values):
    """Sums of the values that each copy of a network has, for all copies; within a step only.

    Args:
        values: list of tensors.
    """
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def call_across_replicas(function, *args):
    """Call a function once for all copies of a network, within a step: it gets the strategy, then
    the arguments of all copies."""
    import tensorflow as tf

    return tf.distribute.get_replica_context().merge_call(function, args=args)


def predict_on_batch(model, batch, *, num_rows=None):
    """What a model says of a batch, each row once and in order, on all devices it was built for.

    Keras's own would let every copy on tensorflow answer the whole batch, and on jax refuse
    batches that are no multiple of the devices.

    Args:
        model: `keras.Model` with one output.
        batch: `(batch, ...)` array, the same in every process; or the part that `Batches` read.
        num_rows: int, rows of the whole batch where `batch` is a part.

    Returns:
        `(batch, ...)` array, the whole batch in every process.
    """
    num_parts = _num_parts(model)
    if num_parts < 2:
        return model.predict_on_batch(batch)
    process, count = process_part()
    is_part, num_rows = num_rows is not None, num_rows or len(batch)
    rows = np.arange(num_rows + -num_rows % num_parts) % num_rows
    if count > 1:
        part = batch if is_part else batch[np.split(rows, count)[process]]
        return answer_part(model, part)[:num_rows]
    if keras.backend.backend() == "jax":
        with _scope_of(_jax_devices(model)):
            return keras.ops.convert_to_numpy(model.predict_on_batch(batch[rows]))[:num_rows]
    import tensorflow as tf

    parts = np.split(batch[rows], num_parts)
    shared = model.distribute_strategy.experimental_distribute_values_from_function(
        lambda context: tf.convert_to_tensor(parts[context.replica_id_in_sync_group])
    )
    model.make_predict_function()
    return keras.ops.convert_to_numpy(model.predict_function([(shared,)]))[:num_rows]


def _chosen_devices():
    """Names of the devices chosen; empty for the one that the backend takes by itself."""
    count = process_part()[1]
    if count > 1:
        if _chosen or os.environ.get("IMETLIB_DEVICES", "") not in ("", "0", "all"):
            raise ValueError(f"{count} processes take all their devices: choose none of them")
        return keras.distribution.list_devices()
    if _chosen is not None:
        return _find_devices(_chosen)
    text = os.environ.get("IMETLIB_DEVICES", "").strip() or "0"
    if text != "all" and not text.isdigit():
        raise ValueError(f'IMETLIB_DEVICES must be "all" or a number. Received: {text!r}')
    return _find_devices(0 if text == "all" else int(text), "IMETLIB_DEVICES")


def _find_devices(devices, setting="devices"):
    """Names of devices, see `use_devices`."""
    backend = keras.backend.backend()
    if not isinstance(devices, int):
        names, known = list(devices), _device_names(backend)
        if len(names) < 2 or set(names) - set(known):
            raise ValueError(
                f"`devices` must name two or more of {', '.join(known)}, or be a number. "
                f"Received: {names}"
            )
        return names
    if devices < 0:
        raise ValueError(f"`{setting}` must be 0 (all) or greater. Received: {setting}={devices}")
    if backend == "torch":
        if devices > 1:
            raise ValueError(
                f"{setting}={devices}: on torch a network learns on one device. Give 1, or choose "
                'tensorflow or jax as Keras\'s backend (KERAS_BACKEND="tensorflow")'
            )
        return []
    if devices == 1:
        return []
    accelerators = _device_names(backend, accelerators=True)
    if devices > max(1, len(accelerators)):
        raise ValueError(
            f"{setting}={devices}, but {backend} finds {len(accelerators)} GPUs here: give at most "
            f"{max(1, len(accelerators))}, or 0 for all there are"
        )
    return accelerators[: devices or None]


def _device_names(backend, *, accelerators=False):
    """Names of all devices of the machine, or of the accelerators."""
    if backend == "tensorflow":
        import tensorflow as tf

        # Those that are no accelerators are asked for only where someone names them: the answer
        # starts the devices.
        if accelerators:
            return [
                f"GPU:{number}" for number in range(len(tf.config.list_physical_devices("GPU")))
            ]
        return [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    if backend == "jax":
        names = keras.distribution.list_devices()
        if accelerators:
            return [name for name in names if not name.startswith("cpu")]
        return list(dict.fromkeys([*names, *keras.distribution.list_devices("cpu")]))
    return []


def _scope_of(names):
    """Context in which models are built for, and on jax also used on, several devices."""
    if keras.backend.backend() == "jax":
        return keras.distribution.DataParallel(
            devices=list(names), auto_shard_dataset=False
        ).scope()
    return _strategy_of(names).scope()


@functools.cache
def _strategy_of(names):
    # One object for all networks: they share layers.
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(list(names))


def _num_parts(model):
    """How many devices a model was built for."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        strategy = getattr(model, "distribute_strategy", None)
        return 1 if strategy is None else strategy.num_replicas_in_sync
    return len(_jax_devices(model)) if backend == "jax" else 1


def _jax_devices(model):
    """Names of the devices that hold a model's weights."""
    weights = getattr(model, "weights", ())
    devices = weights[0].value.sharding.device_set if weights else ()
    return tuple(sorted(f"{device.platform}:{device.id}" for device in devices))
