"""Files of pretrained weights: what is listed, what of it is here, and a Kaggle dataset of it."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from imetlib import paths
from imetlib.__main__ import main
from imetlib.models.backbone_table import BACKBONES
from imetlib.models.weights_files import (
    WEIGHTS_BYTES,
    list_weights_files,
    write_weights_dataset,
)

README = Path(__file__).resolve().parents[1] / "data" / "README.md"
VGG, RESNET = BACKBONES["vgg16"].weights_name, BACKBONES["resnet50"].weights_name
CONVNEXT, MOBILENET = (
    BACKBONES["convnext_tiny"].weights_name,
    BACKBONES["mobilenet_v2"].weights_name,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of weights, the only place that is searched."""
    place = tmp_path / "weights"
    place.mkdir()
    monkeypatch.setenv("IMETLIB_WEIGHTS", str(place))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(paths, "KAGGLE_INPUT", tmp_path / "input")
    return place


def publish(monkeypatch, backbone, content, kind):
    """As if Keras published this content under the backbone's name."""
    digest = hashlib.new(kind, content).hexdigest()
    monkeypatch.setitem(BACKBONES, backbone, replace(BACKBONES[backbone], weights_digest=digest))


def verdicts():
    return {file.backbone: file.verdict for file in list_weights_files()}


def test_every_backbone_with_stock_weights_is_listed_with_its_size():
    with_weights = {name: row for name, row in BACKBONES.items() if row.weights_name}
    assert WEIGHTS_BYTES.keys() == with_weights.keys()
    for name, row in with_weights.items():
        # Float32, and what HDF5 and layer names add.
        assert 1 < WEIGHTS_BYTES[name] / (4 * row.num_params) < 1.05, name


def test_digests_are_those_in_the_source_of_keras():
    """The digests stand there as literals beside the file names."""
    import keras.src.applications as applications

    source = "\n".join(
        path.read_text(encoding="utf-8") for path in Path(applications.__file__).parent.glob("*.py")
    )
    published = [file for file in list_weights_files() if file.digest]
    assert len(published) == 8
    for file in published:
        assert f'"{file.digest}"' in source, file.backbone
        assert len(file.digest) == {"md5": 32, "sha256": 64}[file.digest_kind]


def test_what_is_found_is_compared(folder, monkeypatch):
    assert set(verdicts().values()) == {"not found"}
    publish(monkeypatch, "vgg16", b"vgg", "md5")
    publish(monkeypatch, "convnext_tiny", b"convnext", "sha256")
    (folder / VGG).write_bytes(b"vgg")
    (folder / CONVNEXT).write_bytes(b"convnext")
    (folder / RESNET).write_bytes(b"not it")
    (folder / MOBILENET).write_bytes(b"mobile")
    (folder / "vgg19_imagenet_notop.weights.h5").write_bytes(b"of mine")
    found = verdicts()
    assert {name: verdict for name, verdict in found.items() if verdict != "not found"} == {
        "vgg16": "fits", "convnext_tiny": "fits", "resnet50": "differs",
        "mobilenet_v2": "not published", "vgg19": "another name",
    }  # fmt: skip


def test_command_lists_names_sizes_digests_and_places(folder, capsys):
    (folder / MOBILENET).write_bytes(b"x" * 2_000_000)
    assert main(["weights"]) == 0
    text = capsys.readouterr().out
    for file in list_weights_files():
        assert f"{file.backbone}: {file.file_name}, {file.num_bytes / 1e6:.1f} MB, " in text
        assert file.digest in text
    assert f"{folder / MOBILENET}, 2.0 MB: no digest to compare with" in text
    (folder / VGG).write_bytes(b"cut")
    assert main(["weights", "--json"]) == 1, "a file that would be refused"
    facts = json.loads(capsys.readouterr().out)
    (vgg,) = [file for file in facts["files"] if file["backbone"] == "vgg16"]
    assert (vgg["verdict"], vgg["found_bytes"], vgg["path"]) == ("differs", 3, str(folder / VGG))


def test_command_says_where_it_looked(folder, capsys):
    assert main(["weights"]) == 0
    assert f"Looked into {folder}, " in capsys.readouterr().out


def test_dataset_holds_the_files_found_and_its_metadata(folder, tmp_path, monkeypatch, capsys):
    publish(monkeypatch, "vgg16", b"vgg", "md5")
    (folder / VGG).write_bytes(b"vgg")
    (folder / RESNET).write_bytes(b"damaged")
    (folder / MOBILENET).write_bytes(b"mobile")
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"python -m imetlib (weights --dataset.*)", README.read_text("utf-8"))
    call = line.replace("YOUR-NAME", "somebody").split()
    assert main(call) == 1, "one of the files differs from the published one"
    out = Path("kaggle-weights")
    assert f"kaggle datasets create -p {out}" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [VGG, MOBILENET, "dataset-metadata.json"]
    )
    assert (out / VGG).read_bytes() == b"vgg"
    metadata = json.loads((out / "dataset-metadata.json").read_text("utf-8"))
    # As Kaggle's client documents them: docs/datasets_metadata.md of its repository.
    assert 6 <= len(metadata["title"]) <= 50
    assert metadata["id"] == "somebody/imetlib-weights"
    assert metadata["licenses"] == [{"name": "other"}] and metadata["description"]
    assert {resource["path"] for resource in metadata["resources"]} == {VGG, MOBILENET}
    assert main(call) == 2, "never overwrites"
    assert "not an empty folder" in capsys.readouterr().err


def test_dataset_is_found_when_attached(folder, tmp_path, monkeypatch):
    (folder / MOBILENET).write_bytes(b"mobile")
    attached = paths.KAGGLE_INPUT / "datasets" / "somebody" / "imetlib-weights"
    write_weights_dataset(attached, "somebody", list_weights_files(), copy=True)
    assert not (attached / MOBILENET).samefile(folder / MOBILENET)
    (folder / MOBILENET).unlink()
    (found,) = [file for file in list_weights_files() if file.path]
    assert found.path == attached / MOBILENET


@pytest.mark.parametrize("owner", ["", "Some Body", "some/body", "-x", "../x"])
def test_an_owner_that_is_no_name(folder, tmp_path, owner):
    (folder / MOBILENET).write_bytes(b"mobile")
    with pytest.raises(ValueError, match="written as in Kaggle's addresses"):
        write_weights_dataset(tmp_path / "out", owner, list_weights_files())
    assert not (tmp_path / "out").exists()


def test_nothing_to_put_in(folder, tmp_path, capsys):
    assert main(["weights", "--dataset", str(tmp_path / "out"), "--owner", "somebody"]) == 2
    assert "None of the weights files is here" in capsys.readouterr().err
    assert main(["weights", "--dataset", str(tmp_path / "out")]) == 2
    assert "--dataset and --owner go together" in capsys.readouterr().err
