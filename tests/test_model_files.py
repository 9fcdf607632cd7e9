"""Model files made to run code, read other files or fill the memory: refused, nothing done."""

import hashlib
import inspect
import io
import json
import pickle
import re
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from imetlib.models.backbone_table import BACKBONES
from imetlib.models.backbones import backbone_row, build_backbone
from imetlib.models.model_files import check_model_file
from imetlib.scores import load_scores

SMALL = "small_convnet_16"
SHAPE = (32, 32, 3)


class Touch:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (Path(self.path), "ran"))


@pytest.fixture
def canary(tmp_path):
    """A file that code in a model would write, and one that it would read."""
    (tmp_path / "private.bin").write_bytes(b"\x01\x02\x03\x04" * 100_000)
    yield tmp_path / "canary"
    assert not (tmp_path / "canary").exists(), "code from a file ran"
    assert not (tmp_path.parent / "escape").exists(), "a file outside was written"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A model file and a weights file that open."""
    folder = tmp_path_factory.mktemp("good")
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2D(4, 3, strides=4, name="conv")(images))
    model.save(folder / "good.keras")
    build_backbone(SMALL, SHAPE).save_weights(folder / "good.weights.h5")
    return folder


def changed_zip(good, path, change):
    """`change(members)` works on a dict of name to bytes."""
    with zipfile.ZipFile(good / "good.keras") as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def changed_hdf5(good, path, change):
    """`change(group, name)` works on the first dataset of the weights."""
    path.write_bytes((good / "good.weights.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(item) if hasattr(item, "shape") else None)
        dataset = max(found, key=lambda item: item.size)
        change(dataset.parent, dataset.name.rsplit("/", 1)[1], dataset.shape)
    return path


def replaced(make):
    def change(group, name, shape):
        del group[name]
        make(group, name, shape)

    return change


def refused(path, message):
    """As a backbone of the user's, or as the weights of one; nothing but a ValueError."""
    with pytest.raises(ValueError, match=message) as raised:
        if path.suffix == ".keras":
            build_backbone(str(path), SHAPE, normalisation="unit")
        else:
            build_backbone(SMALL, SHAPE, weights=path)
    assert path.name in str(raised.value)


def test_good_files_open(good):
    assert backbone_row(str(good / "good.keras")).channels == 4
    build_backbone(SMALL, SHAPE, weights=good / "good.weights.h5")


def lambda_model(canary):
    code = f"__import__('pathlib').Path({str(canary)!r}).write_text('ran')"
    function = eval(f"lambda x: ({code}, x)[1]")
    images = keras.Input((None, None, 3))
    layer = keras.layers.Lambda(function, output_shape=(None, None, 3))
    return keras.Model(images, layer(images))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_in_a_lambda_layer(tmp_path, canary):
    model = lambda_model(canary)
    canary.unlink(missing_ok=True)  # building it called it
    model.save(tmp_path / "lambda.keras")
    model.save(tmp_path / "lambda.h5")
    canary.unlink(missing_ok=True)
    refused(tmp_path / "lambda.keras", "does not open as a Keras model")
    refused(tmp_path / "lambda.h5", "does not hold weights")
    with pytest.raises(ValueError, match="Unknown backbone"):
        backbone_row(str(tmp_path / "lambda.h5"))


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("subprocess", "Popen"), ("builtins", "exec"), ("pathlib", "Path")],
)
def test_a_class_that_is_no_layer(tmp_path, good, canary, module, name):
    def change(members):
        config = json.loads(members["config.json"])
        first, layer = config["config"]["layers"]
        layer.update(module=module, class_name=name, registered_name=None)
        layer["config"] = {"command": f"touch {canary}", "args": ["touch", str(canary)]}
        members["config.json"] = json.dumps(config).encode()

    path = changed_zip(good, tmp_path / "class.keras", change)
    refused(path, "does not open as a Keras model")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("escape", lambda m: m.update({"../escape": b"x"}), "leaves the folder"),
        ("absolute", lambda m: m.update({"/tmp/escape": b"x"}), "absolute path"),
        ("bomb", lambda m: m.update({"assets/a": bytes(70 * 2**20)}), "taken for a bomb"),
        ("headless", lambda m: m.pop("config.json"), "does not open as a Keras model"),
    ],
)
def test_members_of_a_model_file(tmp_path, good, canary, name, change, message):
    refused(changed_zip(good, tmp_path / f"{name}.keras", change), message)


def test_weights_inside_a_model_file_are_looked_through(tmp_path, good, canary):
    def change(members):
        file = io.BytesIO(members["model.weights.h5"])
        with h5py.File(file, "r+") as opened:
            opened["more"] = h5py.ExternalLink(str(good / "good.weights.h5"), "/")
        members["model.weights.h5"] = file.getvalue()

    path = changed_zip(good, tmp_path / "inside.keras", change)
    refused(path, r"inside\.keras, model\.weights\.h5: /more is a link")


def external(group, name, shape):
    private = Path(group.file.filename).parent / "private.bin"
    group.create_dataset(name, shape, "float32", external=[(str(private), 0, h5py.h5f.UNLIMITED)])


def virtual(group, name, shape):
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource("other.h5", "x", shape)
    group.create_virtual_dataset(name, layout)


HDF5 = {
    "external": (external, "takes its numbers from another file"),
    "virtual": (virtual, "takes its numbers from another file"),
    "soft": (lambda g, n, s: g.__setitem__(n, h5py.SoftLink("/layers")), "is a link"),
    "link": (lambda g, n, s: g.__setitem__(n, h5py.ExternalLink("a.h5", "/x")), "is a link"),
    "shape": (
        lambda g, n, s: g.create_dataset(n, (2**40,), "float32", chunks=(2**10,)),
        "that unpack to 4,398,",
    ),
}


@pytest.mark.parametrize("name", HDF5)
def test_weights_that_reach_outside_or_far(tmp_path, good, canary, name):
    make, message = HDF5[name]
    path = changed_hdf5(good, tmp_path / f"{name}.weights.h5", replaced(make))
    refused(path, message)
    with pytest.raises(ValueError, match=message):
        check_model_file(path)


@pytest.mark.parametrize("name", ["pickle.keras", "pickle.weights.h5"])
def test_a_renamed_pickle(tmp_path, canary, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Touch(canary)))
    refused(path, "no model file, or a damaged one")
    pickle.loads(path.read_bytes())
    assert canary.read_text() == "ran", "the trap would not have shut"
    canary.unlink()


@pytest.mark.parametrize("name", ["good.keras", "good.weights.h5"])
def test_a_cut_file(tmp_path, good, name):
    whole = (good / name).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:length])
        refused(tmp_path / name, "no model file, or a damaged one")


def test_scores_that_are_a_pickle(tmp_path, canary):
    """The other files that a run folder holds."""
    path = tmp_path / "scores-test.npz"
    np.savez(path, ids=np.array([Touch(canary)], dtype=object), class_names=np.array(["a"]))
    with pytest.raises(ValueError, match="scores-test"):
        load_scores(path)
    with np.load(path, allow_pickle=True) as arrays:
        assert arrays["ids"] is not None and canary.read_text() == "ran", "no trap"
    canary.unlink()


# Known files ------------------------------------------------------------------------------------


def published(name):
    """Digest of a backbone's file in the source of Keras; None where it has none."""
    row = BACKBONES[name]
    module = inspect.getmodule(row.builder)
    if not module.__name__.startswith("keras"):
        module = __import__("keras.src.applications.convnext", fromlist=["x"])
    hashes = getattr(module, "WEIGHTS_HASHES", None)
    if hashes:
        key = {"efficientnet_v2_b0": "b0", "efficientnet_v2_s": "-s"}.get(name, name)
        return hashes.get(key, hashes.get(key.lstrip("-")))[1]
    after = inspect.getsource(module).split("NO_TOP", 1)[-1].split("include_top", 1)[-1]
    text = after.split(row.weights_name, 1)[-1] if row.weights_name in after else after
    return (re.findall(r'file_hash="(\w+)"', text) or [None])[-1]


@pytest.mark.parametrize("name", [name for name, row in BACKBONES.items() if row.weights_name])
def test_digests_are_those_of_keras(name):
    assert (BACKBONES[name].weights_digest or None) == published(name)


def test_a_known_file_with_another_digest_is_refused_before_it_is_opened(tmp_path):
    """Even a sound file of another network; under a name of its own it is looked into."""
    for name, row in BACKBONES.items():
        if row.weights_digest:
            path = tmp_path / row.weights_name
            path.write_bytes(b"no HDF5")
            kind = "sha256" if len(row.weights_digest) == 64 else "md5"
            with pytest.raises(ValueError, match=f"{kind} is .* that of Keras's") as raised:
                check_model_file(path)
            assert row.weights_name in str(raised.value), name
    path.rename(tmp_path / "mine.h5")
    with pytest.raises(ValueError, match="no model file"):
        check_model_file(tmp_path / "mine.h5")


def test_a_known_file_with_its_digest_passes(tmp_path, good, monkeypatch):
    data = (good / "good.weights.h5").read_bytes()
    row = BACKBONES["vgg16"]
    path = tmp_path / row.weights_name
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not the file that Keras publishes"):
        check_model_file(path)
    for kind in (hashlib.md5, hashlib.sha256):
        changed = {**vars(row), "weights_digest": kind(data).hexdigest()}
        monkeypatch.setitem(BACKBONES, "vgg16", type(row)(**changed))
        check_model_file(path)
