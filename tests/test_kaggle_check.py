"""The offline check of a bundle: each fault is found, says what to do, and no other is claimed."""

import base64
import io
import json
import re
import shutil
import tarfile

import nbformat
import pytest

from imetlib.delivery import kaggle_package
from imetlib.delivery.kaggle_bundle import write_bundle
from imetlib.delivery.kaggle_check import BundleError, check_bundle
from imetlib.delivery.kaggle_metadata import FIELDS, OPTIONAL, RETIRED, SOURCES, slugify


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kaggle") / "good"
    return write_bundle(folder, "09", owner="someone").folder


@pytest.fixture
def bundle(good, tmp_path):
    return shutil.copytree(good, tmp_path / "bundle")


def change(folder, **fields):
    """Write other fields into the metadata; ... takes one away."""
    path = folder / "kernel-metadata.json"
    metadata = json.loads(path.read_text()) | fields
    metadata = {name: value for name, value in metadata.items() if value is not ...}
    path.write_text(json.dumps(metadata))


def change_notebook(folder, how):
    (path,) = folder.glob("*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    how(notebook)
    nbformat.write(notebook, path)


def test_a_good_bundle_has_no_faults(good):
    assert check_bundle(good) == []


# Fields -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"enable_interent": False}, "enable_interent is no field .*: write enable_internet"),
        ({"zzz": 1}, "zzz is no field that Kaggle knows: remove it; known are id, id_no"),
        ({"enable_internet": ...}, r"enable_internet is missing: .* Kaggle would take it for true"),
        ({"enable_gpu": "true"}, 'enable_gpu must be true or false. Received: "true"'),
        ({"dataset_sources": "a/b"}, "dataset_sources must be a list of texts"),
        ({"id_no": True}, "id_no must be a number. Received: true"),
        ({"id": "Someone/imetlib-09-inference"}, "id must be USER/SLUG"),
        ({"id": "imetlib-09-inference"}, "id must be USER/SLUG"),
        ({"id": "someone/imetlib-inference"}, "write someone/imetlib-09-inference. Received"),
        ({"title": "Another title"}, "write someone/another-title"),
        ({"title": "abcd", "id": "someone/abcd"}, "title must have 5 to 50 characters, not 4"),
        ({"title": "a" * 51, "id": "someone/" + "a" * 51}, "5 to 50 characters, not 51"),
        ({"title": "imetlib 09 inférence"}, "title: use ASCII letters"),
        ({"language": "r"}, "language must be python. Received: r"),
        ({"kernel_type": "script"}, "kernel_type must be notebook"),
        ({"enable_internet": True}, "enable_internet must be false: a competition"),
        ({"enable_tpu": True}, "enable_gpu and enable_tpu are both true"),
        ({"machine_shape": "NvidiaTeslaP100"}, "P100 is retired, .*: write NvidiaTeslaT4"),
        ({"machine_shape": "nvidiateslap100"}, "NvidiaTeslaP100 is retired"),
        ({"machine_shape": "GTX"}, "machine_shape must be one of NvidiaTeslaT4, .*: GTX"),
        ({"enable_gpu": False}, "NvidiaTeslaT4 is a GPU: set enable_gpu to true"),
        ({"machine_shape": "TpuV5E8"}, "TpuV5E8 is a TPU: set enable_tpu to true"),
        ({"competition_sources": ["c/imet-2019-fgvc6"]}, "competition_sources: write the name"),
        ({"dataset_sources": ["datasets/a/b"]}, "write OWNER/DATASET alone, without address"),
        ({"dataset_sources": ["https://www.kaggle.com/datasets/a/b"]}, "without address"),
        ({"dataset_sources": ["a/b", "a/b"]}, "dataset_sources: a/b stands there twice"),
        ({"dataset_sources": [3]}, "dataset_sources must hold texts. Received: 3"),
        ({"kernel_sources": ["notebook"]}, "kernel_sources: write OWNER/NOTEBOOK"),
        ({"model_sources": ["a/b/keras/c"]}, "model_sources: write OWNER/MODEL/FRAMEWORK"),
        ({"code_file": "../09.ipynb"}, "code_file must be a name in this folder"),
        ({"code_file": "/09.ipynb"}, "code_file must be a name in this folder"),
        ({"code_file": "other.ipynb"}, "other.ipynb is not there"),
        ({"id": "your-user-name/imetlib-09-inference"}, "id: put your user name"),
        ({"kernel_sources": ["your-user-name/x"]}, "kernel_sources: put your user name"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_the_one_fault(bundle, fields, fault):
    change(bundle, **fields)
    (found,) = check_bundle(bundle)
    assert re.search(fault, found), found


@pytest.mark.parametrize(
    "fields",
    [
        {"dataset_sources": ["a/b/3", "some-one/x-1"]},
        {"model_sources": ["a/b/keras/c_1.5/12"], "keywords": ["art"]},
        {"enable_internet": True, "competition_sources": []},
        {"machine_shape": "", "enable_gpu": False},
        {"docker_image_pinning_type": "original", "id_no": 12},
    ],
)
def test_what_kaggle_takes_is_no_fault(bundle, fields):
    change(bundle, **fields)
    assert check_bundle(bundle) == []


def test_all_faults_come_in_one_report(bundle):
    change(bundle, enable_gpu="yes", title="abc", language="R", extra=1, model_sources=["x"])
    change_notebook(bundle, lambda notebook: notebook.metadata.update(colab={}))
    assert len(check_bundle(bundle)) >= 7  # the title breaks two rules


def test_a_place_for_the_name_can_be_left_open(bundle):
    change(bundle, id="your-user-name/imetlib-09-inference", dataset_sources=["your-user-name/x"])
    assert len(check_bundle(bundle)) == 2
    assert check_bundle(bundle, named=False) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "no kernel-metadata.json: make the bundle with"),
        ("{", "kernel-metadata.json is not JSON"),
        ("[]", "kernel-metadata.json must hold one object"),
    ],
)
def test_metadata_that_is_none_is_the_only_fault(bundle, text, fault):
    path = bundle / "kernel-metadata.json"
    path.unlink() if text is None else path.write_text(text)
    (found,) = check_bundle(bundle)
    assert fault in found


def test_a_field_that_stands_twice_is_named(bundle):
    path = bundle / "kernel-metadata.json"
    path.write_text(path.read_text().replace("{", '{"enable_internet": true,', 1))
    assert check_bundle(bundle) == ["kernel-metadata.json: enable_internet stands there twice; "
                                    "keep one"]  # fmt: skip


def test_the_tables_of_the_module_belong_together():
    assert set(OPTIONAL) <= set(FIELDS) and set(SOURCES) <= set(FIELDS)
    assert "NvidiaTeslaP100" in RETIRED


@pytest.mark.parametrize(
    ("title", "slug"),  # as the client's own slugify has them
    [
        ("imetlib 08 submission", "imetlib-08-submission"),
        ("a--b  c_d", "a-b-c-d"),
        ("I'm 5.5, ok?", "i-m-5-5-ok"),
        ("1,103 attributes", "1103-attributes"),
        (" - ", ""),
    ],
)
def test_slugs_are_those_of_the_client(title, slug):
    assert slugify(title) == slug


# The notebook -----------------------------------------------------------------------------------


def add_output(notebook):
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="42")]


def add_count(notebook):
    notebook.cells[-1].execution_count = 3


def package_of(notebook):
    (cell,) = [c for c in notebook.cells if "imetlib-package" in c.metadata.get("tags", [])]
    return cell


def cut_package(notebook):
    cell = package_of(notebook)
    cell.source = cell.source.replace("/Td6WFo", "/Td6WFp", 1)


def repack(notebook, files, member=None):
    """Put another package into the cell, its SHA-256 right."""
    packed = kaggle_package.pack(files)
    if member:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:xz") as archive:
            archive.addfile(member)
        packed = file.getvalue()
    package_of(notebook).source = kaggle_package.unpack_cell(packed, len(files))


def put_secret(notebook):
    notebook.cells[-1].source += '\nkey = "ghp_' + "b" * 36 + '"'


def pack_secret(notebook):
    repack(notebook, {"imetlib/__init__.py": b"mail = 'someone@" + b"museum.org'"})


def pack_link(notebook):
    link = tarfile.TarInfo("imetlib/link.py")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    repack(notebook, {}, link)


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        (add_output, "stored outputs or a count: make the bundle again"),
        (add_count, "stored outputs or a count"),
        (lambda nb: nb.metadata.update(papermill={}), "metadata of other programs, papermill"),
        (lambda nb: nb.cells[0].metadata.update(colab=1), "cell 1: foreign metadata, colab"),
        (lambda nb: nb.metadata.kernelspec.update(name="mine"), "the kernel python3, .*: mine"),
        (lambda nb: nb.cells.remove(package_of(nb)), "one cell that brings imetlib, not 0"),
        (lambda nb: nb.cells.pop(1), "no cell tagged `parameters`"),
        (
            lambda nb: nb.cells[1].update(source="x: int = y"),
            "may only hold `name: type = literal`",
        ),
        (cut_package, "another SHA-256 than the cell says"),
        (lambda nb: repack(nb, {"other/__init__.py": b""}), "its package is not imetlib"),
        (lambda nb: repack(nb, {"../imetlib.py": b""}), "cannot be unpacked"),
        (pack_link, "cannot be unpacked .*link"),
        (pack_secret, r"holds a secret, imetlib/__init__\.py, line 1: e-mail address \(someon"),
        (put_secret, r"cells\[\d+\]\.source.*a secret \(access token, ghp_bb"),
    ],
)
def test_a_wrong_notebook_is_the_one_fault(bundle, how, fault):
    change_notebook(bundle, how)
    (found,) = check_bundle(bundle)
    assert re.search(fault, found, re.DOTALL), found


def test_a_large_notebook_is_refused(bundle):
    change_notebook(bundle, lambda notebook: notebook.cells[0].update(source="word " * 200_000))
    (found,) = check_bundle(bundle)
    assert "more than 1,000,000: put the package into a dataset (--wheel)" in found


def test_a_file_that_is_no_notebook_is_refused(bundle):
    (path,) = bundle.glob("*.ipynb")
    path.write_text("no notebook")
    assert "not a notebook" in " ".join(check_bundle(bundle))


def test_a_key_file_beside_the_notebook_is_named_and_not_repeated(bundle):
    key = "0123456789abcdef" * 2
    (bundle / "kaggle.json").write_text(json.dumps({"username": "me", "key": key}))
    (found,) = check_bundle(bundle)
    assert "kaggle.json" in found and "Kaggle key" in found and key not in found


def test_nothing_of_a_checked_package_is_executed(bundle, tmp_path):
    trap = tmp_path / "ran"
    code = f"from pathlib import Path; Path({str(trap)!r}).touch()\n"

    def plant(notebook):
        package_of(notebook).source = code + package_of(notebook).source

    change_notebook(bundle, plant)
    check_bundle(bundle)
    assert not trap.exists()


def test_an_error_lists_its_faults():
    error = BundleError("folder", ["one", "two"])
    assert error.faults == ["one", "two"] and str(error) == "folder, faults: 2\n  one\n  two"


def test_a_package_is_read_without_running_it():
    packed = kaggle_package.pack({"imetlib/__init__.py": b""})
    texts = kaggle_package.read_texts(kaggle_package.unpack_cell(packed, 1))
    assert base64.b64decode(texts["packed"]) == packed and len(texts["sha256"]) == 64
