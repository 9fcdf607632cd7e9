"""Several processes that train one network, on jax: each with its GPUs, on one machine or many.

Every process runs the same program. It reads an equal part of every batch, all of them hold the
same network, and what they decide is the same; the first one alone writes files, so that their run
folder must be one that all see. The environment says who takes part, and they meet where imetlib
first imports Keras (`imetlib.quiet`):

    IMETLIB_COORDINATOR=host:port   # of the first process, the same for all
    IMETLIB_PROCESSES=2             # how many there are
    IMETLIB_PROCESS=0               # which one this is, from 0 on
"""

import json
import os
import weakref
import zlib

import keras
import numpy as np

_NAMES = ("IMETLIB_COORDINATOR", "IMETLIB_PROCESSES", "IMETLIB_PROCESS")
# Compiled answers of networks.
_answers: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
# Filled by `join_processes`.
_place = (0, 1)


def join_processes(environment=None):
    """Meet the other processes that the environment names; nothing where it names none.

    Must come before anything is computed: jax counts its devices once. `imetlib.quiet` calls it.

    Args:
        environment: mapping of str to str; None: that of the process.

    Raises:
        ValueError: an entry is missing or no number in its range, or the backend is not jax.
        RuntimeError: the others did not come, or jax has computed already.
    """
    global _place
    found = os.environ if environment is None else environment
    given = {name: found.get(name, "").strip() for name in _NAMES}
    if not any(given.values()):
        return
    missing = [name for name, text in given.items() if not text]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} must be set too: {', '.join(_NAMES)} go together"
        )
    coordinator, count, index = given.values()
    if not (count.isdigit() and index.isdigit() and int(index) < int(count)):
        raise ValueError(
            "IMETLIB_PROCESSES must be a number, and IMETLIB_PROCESS one from 0 to below it. "
            f"Received: {count!r} and {index!r}"
        )
    if ":" not in coordinator:
        raise ValueError(f"IMETLIB_COORDINATOR must be host:port. Received: {coordinator!r}")
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"Several processes train one network on jax alone; Keras's backend is "
            f"{keras.backend.backend()}. Set KERAS_BACKEND=jax, or unset {', '.join(_NAMES)}"
        )
    if int(count) == 1:
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, int(count), int(index))
    _place = int(index), int(count)


def process_part():
    """Which process this is and how many there are, (int, int); (0, 1) where it is the only one."""
    return _place


def is_first():
    """Whether this process writes files and lines."""
    return _place[0] == 0


def wait_for_all(what):
    """Wait until every process is here; `what` names the place and must be the same for all."""
    if _place[1] > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


def answer_part(model, part):
    """What a network on all devices says of a batch of which each process holds its part.

    Args:
        model: `keras.Model` with one output.
        part: `(rows, ...)` array, as many rows in every process, a multiple of its devices.

    Returns:
        array of all rows, in the order of the processes, the same in each.
    """
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    if model not in _answers:
        # Without a reference to the network, which would keep its own entry alive.
        found = weakref.ref(model)

        def answer(trainable, others, images):
            return found().stateless_call(trainable, others, images, training=False)[0]

        _answers[model] = jax.jit(answer, out_shardings=NamedSharding(mesh, PartitionSpec()))
    images = jax.make_array_from_process_local_data(
        NamedSharding(mesh, PartitionSpec("batch")), np.asarray(part)
    )
    variables = (model.trainable_variables, model.non_trainable_variables)
    values = [[variable.value for variable in group] for group in variables]
    return np.asarray(_answers[model](*values, images))


def check_agreement(what, value):
    """Compare a number of all processes.

    Args:
        what: str for the error.
        value: int.

    Raises:
        ValueError: it is not the same in all of them.
    """
    if _place[1] < 2:
        return
    from jax.experimental import multihost_utils

    values = np.ravel(multihost_utils.process_allgather(np.array(value, np.int32))).tolist()
    if len(set(values)) > 1:
        raise ValueError(
            f"The processes differ in {what}: {values}. Their run folder must be one that all of "
            "them see, and they must be called with the same settings"
        )


def check_same(facts):
    """Compare what the processes were called with, before they compute anything together.

    Args:
        facts: dict of str to what JSON can hold; values that are dicts are compared entry by entry.

    Raises:
        ValueError: something is not the same in all of them; it is named.
    """
    if _place[1] < 2:
        return
    from jax.experimental import multihost_utils

    flat = {}
    for name, value in facts.items():
        entries = value.items() if isinstance(value, dict) else [(None, value)]
        flat |= {name if key is None else key: one for key, one in entries}
    names = sorted(flat)
    check_agreement("imetlib's version", _digest_of(names))
    digests = np.array([_digest_of(flat[name]) for name in names], np.int32)
    gathered = np.reshape(multihost_utils.process_allgather(digests), (-1, len(names)))
    differing = [
        name
        for name, same in zip(names, (gathered == gathered[0]).all(axis=0), strict=True)
        if not same
    ]
    if differing:
        raise ValueError(
            f"The processes were called with different {', '.join(differing)}; here: "
            f"{', '.join(f'{name}={flat[name]!r}' for name in differing)}. Nothing was trained"
        )


def _digest_of(value):
    return zlib.crc32(json.dumps(value, sort_keys=True).encode()) >> 1


def check_shareable(profile, budget, num_devices):
    """Raises ValueError where several processes cannot train by a profile; nothing for one."""
    count = _place[1]
    if count == 1:
        return
    refused = {
        "a time budget (each process has a clock of its own)": budget is not None,
        'attention="multi" (its grouping has steps of its own)': profile.attention == "multi",
        f"batch_size={profile.batch_size} (give a multiple of the {num_devices} devices)": (
            profile.batch_size % num_devices
        ),
    }
    reasons = [name for name, is_so in refused.items() if is_so]
    if reasons:
        raise ValueError(f"{count} processes cannot share out {'; '.join(reasons)}")


def check_alone(what):
    """Raises ValueError where several processes would do what one does for all."""
    if _place[1] > 1:
        raise ValueError(
            f"{what} is done by one process: call it once without {', '.join(_NAMES)}, then these "
            f"{_place[1]} again"
        )
