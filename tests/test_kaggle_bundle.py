"""Bundles for Kaggle: what is in the folder, that the package comes out of it, what is refused."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import imetlib
from imetlib.__main__ import main
from imetlib.delivery import kaggle_package
from imetlib.delivery.kaggle_bundle import KINDS, write_bundle
from imetlib.delivery.kaggle_check import MAX_BYTES, BundleError, check_bundle
from imetlib.delivery.kaggle_notebook import set_parameters
from imetlib.delivery.parameters import read_parameters

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in ("01_eda", "04_multi_attention")]


def read_bundle(folder):
    metadata = json.loads((folder / "kernel-metadata.json").read_text(encoding="utf-8"))
    return metadata, nbformat.read(folder / metadata["code_file"], as_version=4)


def package_cell(notebook):
    (cell,) = [c for c in notebook.cells if "imetlib-package" in c.metadata.get("tags", [])]
    return cell


def sources(path):
    cells = path.cells if hasattr(path, "cells") else nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folder of the bundle of notebook 08 that trains and answers."""
    return write_bundle(tmp_path_factory.mktemp("kaggle") / "both", owner="someone").folder


@pytest.fixture
def copied(both, tmp_path):
    return shutil.copytree(both, tmp_path / "copied")


def make_notebook(folder, *cells, counts=(1, 2), name="05_tiny"):
    parameters = new_code_cell('profile: str = "fast"  # profile\nout: str = ""  # folder')
    parameters.metadata["tags"] = ["parameters"]
    made = [parameters, *(map(new_code_cell, cells or ["import imetlib"]))]
    for cell, count in zip(made, counts, strict=True):
        cell.execution_count = count
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=made), path)
    return path


# What is written --------------------------------------------------------------------------------


def test_the_folder_has_the_notebook_and_all_that_the_client_reads(both):
    metadata, notebook = read_bundle(both)
    assert metadata == {
        "id": "someone/imetlib-08-submission",
        "title": "imetlib 08 submission",
        "code_file": "imetlib-08-submission.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": False,
        "dataset_sources": ["someone/imetlib-weights"],
        "competition_sources": ["imet-2019-fgvc6"],
        "kernel_sources": [],
        "model_sources": [],
        "machine_shape": "NvidiaTeslaT4",
    }
    assert sorted(path.name for path in both.iterdir()) == [
        "imetlib-08-submission.ipynb", "kernel-metadata.json",
    ]  # fmt: skip
    assert (both / metadata["code_file"]).stat().st_size < MAX_BYTES
    assert check_bundle(both) == []
    assert notebook.metadata.kernelspec.name == "python3"


def test_the_notebook_is_the_projects_own_with_other_parameters(both):
    path = ROOT / "notebooks" / "08_submission.ipynb"
    metadata, notebook = read_bundle(both)
    known = read_parameters(both / metadata["code_file"])
    defaults = read_parameters(path)
    changed = {name for name in known if known[name].default != defaults[name].default}
    assert changed == {"profile", "hours", "interactive"}
    assert (known["profile"].default, known["hours"].default) == ("full", 8.5)
    assert known["interactive"].default is False
    assert [known[name].help for name in known] == [defaults[name].help for name in defaults]
    made, original = sources(notebook), sources(path)
    assert [made[0], *made[2:-1]] == [made[0], *original[1:]], "no other cell is changed"
    assert all(not cell.outputs and cell.execution_count is None
               for cell in notebook.cells if cell.cell_type == "code")  # fmt: skip


def test_the_package_comes_before_its_first_use(both):
    _, notebook = read_bundle(both)
    made = sources(notebook)
    first = next(i for i, source in enumerate(made) if "from imetlib" in source)
    assert made.index(package_cell(notebook).source) == first - 1
    assert "parameters" in notebook.cells[1].metadata.tags


def test_the_cell_gives_the_package_to_a_python_that_has_nothing(both, tmp_path):
    _, notebook = read_bundle(both)
    script = tmp_path / "cell.py"
    asks = "import imetlib, imetlib.paths\nprint(imetlib.__file__)\nprint(package_folder)"
    script.write_text(f"{package_cell(notebook).source}\n{asks}\n", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-I", "-S", script],
        cwd=tmp_path,
        env={"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    file, folder = map(Path, result.stdout.split())
    assert file == folder / "imetlib" / "__init__.py" and folder.parent == tmp_path
    written = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / "imetlib").rglob("*.py")}
    compiled = {name for name in written if name.endswith(".pyc")}
    assert written - compiled == wanted | {"LICENSE"}
    for name in wanted:
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize("change", ["payload", "digest"])
def test_a_package_that_was_changed_is_not_unpacked(both, tmp_path, change):
    source = package_cell(read_bundle(both)[1]).source
    if change == "payload":
        start = source.index('"""') + 2000
        source = source[:start] + ("A" if source[start] != "A" else "B") + source[start + 1 :]
    else:
        source = source.replace('sha256 = "', 'sha256 = "0')
    result = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; exec(sys.stdin.read())"],
        input=source,
        env={"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "was cut or changed: make the bundle again" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_bundles_are_the_same_bytes(both, tmp_path):
    again = write_bundle(tmp_path / "again", "08", "both", owner="someone").folder
    for path in both.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_a_bundle_is_replaced_and_nothing_else_is(copied, tmp_path):
    write_bundle(copied, "09", assignments=["profile=fast"], owner="someone")
    metadata, _ = read_bundle(copied)
    assert metadata["id"] == "someone/imetlib-09-inference"
    assert not (copied / "imetlib-08-submission.ipynb").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "one.txt").write_text("chapter one")
    with pytest.raises(ValueError, match="holds other things than a bundle"):
        write_bundle(tmp_path / "thesis", "09")
    assert (tmp_path / "thesis" / "one.txt").read_text() == "chapter one"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_other_notebooks_can_be_packed(path, tmp_path):
    made = write_bundle(tmp_path / "bundle", path, owner="someone")
    assert check_bundle(made.folder) == [] and made.num_bytes < MAX_BYTES
    shows = any("committed_" in source for source in sources(path))
    cell = package_cell(read_bundle(made.folder)[1]).source
    packed = base64.b64decode(kaggle_package.read_texts(cell)["packed"])
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        names = archive.getnames()
    assert any(name.startswith("results/") for name in names) == shows
    assert "results/pomological/submission.csv" not in names


# Kinds ------------------------------------------------------------------------------------------


def test_training_leaves_a_run_and_inference_attaches_it(tmp_path):
    train = write_bundle(tmp_path / "train", kind="train", owner="someone")
    answer = write_bundle(tmp_path / "answer", kind="inference", owner="someone")
    assert train.metadata["id"] == "someone/imetlib-08-submission-train"
    assert answer.metadata["kernel_sources"] == [train.metadata["id"]]
    assert answer.metadata["dataset_sources"] == ["someone/imetlib-weights"]
    assert sources(read_bundle(train.folder)[1])[-1].count("submit=False") == 1
    assert "submit" not in sources(read_bundle(answer.folder)[1])[-1]
    assert any("have run the notebook someone/imetlib-08" in note for note in answer.notes)


def test_a_run_in_a_dataset_needs_no_notebook(tmp_path):
    options = {"kind": "inference", "owner": "me", "datasets": ["other/run"], "models": []}
    made = write_bundle(tmp_path / "bundle", **options, competitions=[])
    assert made.metadata["dataset_sources"] == ["other/run"]
    assert made.metadata["kernel_sources"] == made.metadata["competition_sources"] == []


def test_the_fast_profile_attaches_nothing(tmp_path):
    made = write_bundle(tmp_path / "bundle", "08", assignments=["profile=fast", "hours=0.1"])
    assert not any(made.metadata[name] for name in made.metadata if name.endswith("_sources"))
    known = read_parameters(made.folder / made.metadata["code_file"])
    assert (known["profile"].default, known["hours"].default) == ("fast", 0.1)
    assert made.notes == ("put your user name on Kaggle in the place of your-user-name: "
                          "--owner NAME",)  # fmt: skip


def test_an_accelerator_can_be_left_out(tmp_path):
    made = write_bundle(tmp_path / "bundle", "09", owner="me", accelerator="none")
    assert (made.metadata["enable_gpu"], made.metadata["machine_shape"]) == (False, "")
    made = write_bundle(tmp_path / "bundle", "09", owner="me", accelerator="TpuV5E8")
    assert (made.metadata["enable_gpu"], made.metadata["enable_tpu"]) == (False, True)


# A wheel beside it ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheeled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kaggle") / "wheel"
    return write_bundle(folder, "08", owner="someone", wheel=True).folder


def test_the_wheel_stands_in_a_dataset_that_is_attached(wheeled):
    metadata, _ = read_bundle(wheeled)
    dataset = json.loads((wheeled / "dataset" / "dataset-metadata.json").read_text())
    assert dataset["id"] in metadata["dataset_sources"] and len(dataset["licenses"]) == 1
    assert check_bundle(wheeled) == []
    (wheeled / "dataset" / kaggle_package.WHEEL_NAME).rename(wheeled / "kept")
    assert any("lacks imetlib-" in fault for fault in check_bundle(wheeled))
    (wheeled / "kept").rename(wheeled / "dataset" / kaggle_package.WHEEL_NAME)


def test_the_record_of_the_wheel_names_every_file(wheeled):
    with zipfile.ZipFile(wheeled / "dataset" / kaggle_package.WHEEL_NAME) as archive:
        names = archive.namelist()
        (record,) = [name for name in names if name.endswith("/RECORD")]
        lines = archive.read(record).decode().splitlines()
    assert [line.split(",")[0] for line in lines] == names
    assert f"imetlib-{imetlib.__version__}.dist-info/METADATA" in names


@pytest.mark.parametrize("place", ["imetlib-wheel", "datasets/someone/imetlib-wheel"])
def test_the_cell_installs_the_wheel_from_any_mount(wheeled, tmp_path, place):
    pytest.importorskip("pip")
    shutil.copytree(wheeled / "dataset", tmp_path / "input" / place)
    (tmp_path / "tmp").mkdir()
    source = package_cell(read_bundle(wheeled)[1]).source
    asks = "\nimport imetlib\nprint(imetlib.__file__)"
    result = run_cell(source + asks, tmp_path)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(tmp_path / "tmp")


def test_a_wheel_that_is_not_attached_or_another_one_is_explained(wheeled, tmp_path):
    source = package_cell(read_bundle(wheeled)[1]).source
    (tmp_path / "tmp").mkdir()
    result = run_cell(source, tmp_path)
    assert "is attached: Add Input, dataset someone/imetlib-wheel" in result.stderr
    (tmp_path / "input" / "imetlib-wheel").mkdir(parents=True)
    (tmp_path / "input" / "imetlib-wheel" / kaggle_package.WHEEL_NAME).write_bytes(b"older")
    assert "is another one than this notebook was made with" in run_cell(source, tmp_path).stderr


def run_cell(source, folder):
    environment = {**os.environ, "IMETLIB_KAGGLE_INPUT": str(folder / "input")}
    environment |= {"TMPDIR": str(folder / "tmp")}
    return subprocess.run(
        [sys.executable, "-I", "-c", source],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_results_do_not_fit_into_a_wheel(tmp_path):
    with pytest.raises(ValueError, match="leave out --wheel"):
        write_bundle(tmp_path / "bundle", "02", wheel=True)


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(None, None), (1, None), (1, 3), (2, 3)])
def test_a_notebook_that_was_never_executed_is_refused(tmp_path, counts):
    path = make_notebook(tmp_path, counts=counts)
    with pytest.raises(ValueError, match=r"was never executed as a whole .*refresh 05_tiny"):
        write_bundle(tmp_path / "bundle", path)
    assert not (tmp_path / "bundle").exists()


def test_a_notebook_that_failed_is_refused(tmp_path):
    path = make_notebook(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    notebook.cells[1].outputs = [error]
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match="code cell 2 failed"):
        write_bundle(tmp_path / "bundle", path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"notebook": "08", "kind": "inference"}, "trains. For inference take 09_inference"),
        ({"notebook": "09", "kind": "train"}, "trains nothing: take 08_submission"),
        ({"notebook": "02", "kind": "both"}, "it has no parameter `hours`"),
        ({"notebook": "08", "kind": "all"}, "`kind` must be one of train, inference, both"),
        ({"notebook": "42"}, "no notebook named '42'"),
        ({"notebook": "08", "assignments": ["epoch=3"]}, r"no parameter `epoch`.*epochs: int"),
        ({"notebook": "08", "assignments": ["epochs=many"]}, "`epochs` must be int"),
        ({"notebook": "08", "hours": 0.0}, "`hours` must be positive"),
        ({"notebook": "08", "assignments": ["hours=0"]}, "`hours` must be positive"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_bundle(tmp_path / "bundle", owner="me", **options)
    assert list(tmp_path.iterdir()) == []


def test_all_faults_come_together_and_nothing_is_left(tmp_path):
    with pytest.raises(BundleError) as error:
        write_bundle(
            tmp_path / "bundle",
            "08",
            owner="Some One",
            title="Œuvre",
            competitions=["https://www.kaggle.com/c/imet-2019-fgvc6"],
            datasets=["weights"],
            accelerator="NvidiaTeslaP100",
        )
    text = str(error.value)
    for part in ("id must be USER/SLUG", "use ASCII", "write OWNER/DATASET", "without address",
                 "is retired, Kaggle runs NvidiaTeslaT4"):  # fmt: skip
        assert part in text
    assert list(tmp_path.iterdir()) == []


def test_a_secret_in_a_notebook_is_not_packed(tmp_path):
    path = make_notebook(tmp_path, 'import imetlib\ntoken = "hf_' + "a" * 30 + '"')
    with pytest.raises(BundleError, match=r"access token, hf_aaa\.\.\.\): remove it"):
        write_bundle(tmp_path / "bundle", path)


def test_parameters_of_any_form_can_be_set():
    source = (
        'name: str = "é"; size: int = 3  # two\n'
        "shape: tuple = (1,\n    2)  # three\nplain = None\nrate: float = 1  # kept: 1\n"
    )
    path = "x"
    known = {}
    from imetlib.delivery.parameters import Parameter

    for name, kind in (("name", "str"), ("size", "int"), ("shape", "tuple"), ("plain", "str"),
                       ("rate", "float")):  # fmt: skip
        known[name] = Parameter(name, kind, None, "")
    values = {"name": 'say "ü"', "size": -4, "shape": (5,), "plain": "p", "rate": 2}
    made = set_parameters(source, known, values)
    space = {}
    exec(made, space)
    assert {name: space[name] for name in values} == values
    assert made.count("# two") == made.count("# three") == made.count("# kept: 1") == 1
    assert isinstance(space["rate"], float) and path


# The command ------------------------------------------------------------------------------------


def test_the_command_writes_checks_and_says_what_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME", raising=False)
    folder = str(tmp_path / "bundle")
    assert main(["kaggle", "bundle", "08_submission", "--out", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "no faults" in lines[0] and lines[-1] == f'push it: kaggle kernels push -p "{folder}"'
    assert any("--owner NAME" in line for line in lines)
    assert main(["kaggle", "check", folder]) == 1
    assert "put your user name on Kaggle in the place" in capsys.readouterr().out
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    assert main(["kaggle", "bundle", "--kind", "train", "--out", folder, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["metadata"]["id"] == "someone/imetlib-08-submission-train"
    assert main(["kaggle", "check", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []


def test_the_command_ends_as_the_others_do(tmp_path, capsys):
    folder = str(tmp_path / "bundle")
    assert main(["kaggle", "bundle", "08", "--out", folder, "-p", "epoch=1"]) == 2
    assert "no parameter `epoch`" in capsys.readouterr().err
    call = ["kaggle", "bundle", "08", "--out", folder, "--competition", "c/imet-2019-fgvc6"]
    assert main(call) == 1
    assert "competition_sources: write" in capsys.readouterr().err
    assert main(["kaggle", "check", folder]) == 1
    assert "no folder at" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["kaggle"])


def test_the_kinds_of_the_command_are_those_of_the_bundle():
    from imetlib.__main__ import build_parser

    for kind in KINDS:
        assert build_parser().parse_args(["kaggle", "bundle", "--kind", kind]).kind == kind
