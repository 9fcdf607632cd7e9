"""The dtype policy that a machine's devices get."""

import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from imetlib import precision
from imetlib.collection.prepared import prepare_tables
from imetlib.precision import find_precision
from imetlib.profiles import get_profile
from imetlib.training.devices import dtype_policy


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [
        ([], "float32"),
        ([(6, 0)], "float32"),  # P100
        ([(7, 0)], "mixed_float16"),  # V100
        ([(7, 5), (7, 5)], "mixed_float16"),  # two T4
        ([(8, 0)], "mixed_bfloat16"),  # A100
        ([(9, 0), (7, 5)], "mixed_float16"),
        ([(9, 0), (6, 1)], "float32"),
        ([(10, 0)], "mixed_bfloat16"),
        ([None], "float32"),
        ([(9, 0), None], "float32"),
    ],
)
def test_oldest_device_decides(monkeypatch, capabilities, policy):
    monkeypatch.setattr(precision, "_capabilities", lambda: capabilities)
    assert find_precision("auto") == policy
    assert find_precision("mixed_bfloat16") == "mixed_bfloat16"
    with dtype_policy("auto"):
        assert keras.config.dtype_policy().name == policy


def device(platform, **more):
    return SimpleNamespace(platform=platform, **more)


@pytest.mark.parametrize(
    ("devices", "policy"),
    [
        ([device("cpu")], "float32"),
        ([device("gpu", compute_capability="7.5")], "mixed_float16"),
        ([device("gpu", compute_capability="9.0"), device("cpu")], "mixed_bfloat16"),
        ([device("gpu", compute_capability="gfx90a")], "float32"),
        ([device("gpu")], "float32"),
        ([device("tpu")], "mixed_bfloat16"),
    ],
)
def test_as_jax_names_devices(monkeypatch, devices, policy):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(devices=lambda: devices))
    assert find_precision() == policy


@pytest.mark.parametrize(
    ("hip", "capability", "policy"),
    [(None, (7, 5), "mixed_float16"), (None, (9, 0), "mixed_bfloat16"), ("6.2", (9, 4), "float32")],
)
def test_as_torch_names_devices(monkeypatch, hip, capability, policy):
    torch = SimpleNamespace(
        version=SimpleNamespace(hip=hip),
        cuda=SimpleNamespace(
            device_count=lambda: 2, get_device_capability=lambda index: capability
        ),
    )
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert find_precision() == policy


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="as tensorflow names devices")
def test_as_tensorflow_names_devices(monkeypatch):
    import tensorflow as tf

    details = {"one": {"compute_capability": (8, 9)}, "two": {"compute_capability": (7, 5)}}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(details))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert find_precision() == "mixed_float16"
    details["two"] = {}
    assert find_precision() == "float32"


def test_records_name_what_was_used(museum, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_capabilities", lambda: [(7, 5)])
    full = get_profile("full", weights="", image_shape=(48, 48, 3), epochs=1)
    assert full.precision == "auto"
    data = prepare_tables(full, museum, tmp_path)
    assert data.profile.to_dict()["precision"] == "mixed_float16"
    assert np.isfinite(data.folds).all()
