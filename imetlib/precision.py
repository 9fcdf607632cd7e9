"""The dtype policy that fits the devices of a machine."""

AUTO = "auto"
# NVIDIA's compute capability from which on matrix products of half precision have units of their
# own: float16 from Volta (T4 has 7.5), bfloat16 from Ampere.
_BFLOAT16, _FLOAT16 = (8, 0), (7, 0)


def find_precision(name=AUTO):
    """The dtype policy that "auto" stands for here; any other name as it is.

    GPUs and TPUs with units for products of bfloat16 get "mixed_bfloat16", NVIDIA's GPUs that have
    them for float16 alone, the T4 and V100, "mixed_float16"; of several devices the oldest
    decides. All else gets "float32": whether bfloat16 pays on a processor depends on its units and
    on the network, with AMX it does for ResNet-50 and not for MobileNetV2 (`benchmarks.steps`).

    Args:
        name: "auto" or a dtype policy.

    Returns:
        name of a Keras dtype policy.
    """
    if name != AUTO:
        return name
    capabilities = _capabilities()
    if not capabilities or None in capabilities:
        return "float32"
    oldest = min(capabilities)
    if oldest >= _BFLOAT16:
        return "mixed_bfloat16"
    return "mixed_float16" if oldest >= _FLOAT16 else "float32"


def _capabilities():
    """Compute capability of every accelerator as (major, minor), None where it is not known."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return [
            tf.config.experimental.get_device_details(device).get("compute_capability")
            for device in tf.config.list_physical_devices("GPU")
        ]
    if backend == "torch":
        import torch

        # AMD's have the same interface and other numbers.
        if torch.version.hip:
            return [None]
        count = torch.cuda.device_count()
        return [torch.cuda.get_device_capability(index) for index in range(count)]
    if backend != "jax":
        return []
    import jax

    # Every TPU multiplies bfloat16. A GPU's version is "7.5", or "gfx90a" for one of AMD.
    return [
        _BFLOAT16 if device.platform == "tpu" else _parse(device)
        for device in jax.devices()
        if device.platform != "cpu"
    ]


def _parse(device):
    major, _, minor = str(getattr(device, "compute_capability", "")).partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
