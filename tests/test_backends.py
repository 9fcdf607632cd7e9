"""One model file gives the same outputs on tensorflow, jax and torch."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from imetlib.models.backbones import build_backbone
from imetlib.models.cifar_alexnet import cifar_alexnet
from imetlib.models.crop_classifier import crop_classifier, image_views_model
from imetlib.models.heads import attach_head
from imetlib.profiles import get_profile
from imetlib.training.networks import build_classifier

OWN = keras.config.backend()
OTHERS = sorted({"tensorflow", "jax", "torch"} - {OWN})


def plain_classifier():
    backbone = build_backbone("small_convnet", (32, 32, 3))
    return attach_head(backbone, 5, class_frequency=np.full(5, 0.2))


def residual_attention():
    backbone = build_backbone("residual_attention_small", (32, 32, 3))
    return attach_head(backbone, 5, class_frequency=np.full(5, 0.2))


def with_attention(attention, **settings):
    profile = get_profile(
        "fast",
        image_shape=(32, 32, 3),
        backbone="small_convnet_16",
        attention=attention,
        attention_stride=4,
        plain_head=False,
        **settings,
    )
    return build_classifier(profile, 5, class_frequency=np.full(5, 0.2))[0]


def module_on_a_backbone():
    return with_attention("residual")


def multi_attention():
    return with_attention("multi")


def recurrent_attention():
    return with_attention("recurrent", num_glimpses=3)


def ten_crops_of_the_map(batch_normalization=True):
    trunk = cifar_alexnet(filters=(8, 12, 16, 12, 8), batch_normalization=batch_normalization)
    head = crop_classifier(trunk.output.shape[1:], 5, hidden=(16,))
    return keras.Model(trunk.input, head(trunk.output))


def ten_crops_of_the_picture():
    # `stir` finds the normalisation of layers, not of networks within.
    model = ten_crops_of_the_map(batch_normalization=False)
    return image_views_model(model, (32, 32, 3), padding=2)


# What is compared: functions that build a small model from uint8 pictures (batch, 32, 32, 3).
MODELS = [
    plain_classifier,
    residual_attention,
    module_on_a_backbone,
    multi_attention,
    recurrent_attention,
    ten_crops_of_the_map,
    ten_crops_of_the_picture,
]

# The layers of every module of `models/` have to be known before a file is opened.
PREDICT = """
import importlib, pkgutil, sys
from pathlib import Path
import numpy as np
from imetlib.quiet import keras
import imetlib.models

for module in pkgutil.iter_modules(imetlib.models.__path__, "imetlib.models."):
    importlib.import_module(module.name)
assert keras.config.backend() == sys.argv[2]
folder = Path(sys.argv[1])
pictures = np.load(folder / "pictures.npy")
for path in folder.glob("*.keras"):
    logits = keras.saving.load_model(path).predict_on_batch(pictures)
    np.save(folder / f"{path.stem}-{sys.argv[2]}.npy", logits)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Model files written by this process's backend, and its outputs."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (4, 2, 2, 3), dtype=np.uint8)
    pictures = np.kron(patches, np.ones((1, 16, 16, 1), np.uint8))
    np.save(folder / "pictures.npy", pictures)
    for build in MODELS:
        model = build()
        stir(model, pictures, rng)
        model.save(folder / f"{build.__name__}.keras")
        np.save(folder / f"{build.__name__}-{OWN}.npy", model.predict_on_batch(pictures))
    return folder


def stir(model, pictures, rng):
    """Move every weight: what starts at zero or one would hide a difference."""
    for weight in model.weights:
        noise = rng.normal(0, 0.03, weight.shape).astype("float32")
        weight.assign(keras.ops.convert_to_numpy(weight) + noise)
    # Statistics of these pictures, so that they still differ after many layers.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pictures, training=True)


@pytest.fixture(scope="module", params=OTHERS)
def other(request, folder):
    """Another backend that has opened all files in a process of its own."""
    backend = request.param
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: `make test-backends` installs it")
    result = subprocess.run(
        [sys.executable, "-c", PREDICT, str(folder), backend],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return backend


@pytest.mark.parametrize("name", [build.__name__ for build in MODELS])
def test_one_file_gives_the_same_outputs(folder, other, name):
    own = np.load(folder / f"{name}-{OWN}.npy")
    assert np.ptp(own, axis=0).min() > 1e-2, "outputs that do not depend on the picture"
    np.testing.assert_allclose(np.load(folder / f"{name}-{other}.npy"), own, rtol=0, atol=1e-4)
