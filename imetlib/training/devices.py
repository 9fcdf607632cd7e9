"""What differs from backend to backend: repeatability, precision, and what computes."""

import contextlib
import os

import keras

from imetlib.precision import find_precision
from imetlib.training.data_parallel import num_devices


def set_seed(seed, *, deterministic=False):
    """Seed Python, NumPy and Keras.

    Args:
        seed: int >= 0.
        deterministic: also choose slower operations that repeat exactly: same bits on the
            same machine class with the same number of threads, no more. torch warns of an
            operation without such a form; jax has them all on a CPU, and on a GPU where
            `XLA_FLAGS` says `--xla_gpu_deterministic_ops=true` before it starts.
    """
    keras.utils.set_random_seed(seed)
    if not deterministic:
        return
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif backend == "torch":
        import torch

        # cuBLAS reads it at its first product.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


@contextlib.contextmanager
def dtype_policy(name):
    """Build layers under a dtype policy, and put the old one back.

    Args:
        name: "float32", "mixed_bfloat16", "mixed_float16", or "auto" (see
            `imetlib.precision.find_precision`).
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(find_precision(name))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def accelerator_names():
    """Kinds of the accelerators that training runs on, as one str; None on a CPU."""
    return ", ".join(describe_devices()["accelerators"]) or None


def describe_devices():
    """What training runs on: backend, accelerators by kind, and threads.

    Returns:
        dict with "backend", "accelerators" (list of str, empty on a CPU), "num_devices" that
        share a batch, and "threads".
    """
    backend = keras.backend.backend()
    accelerators = []
    if backend == "tensorflow":
        import tensorflow as tf

        for device in tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(device)
            accelerators.append(details.get("device_name", "GPU"))
    elif backend == "jax":
        import jax

        accelerators = [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    elif backend == "torch":
        import torch

        count = torch.cuda.device_count()
        accelerators = [torch.cuda.get_device_name(index) for index in range(count)]
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    num = num_devices()
    return {
        "backend": backend,
        "accelerators": accelerators[:num],
        "num_devices": num,
        "threads": threads,
    }
