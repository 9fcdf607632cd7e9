"""Dependencies, the environment file and the Makefile agree with one another."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
TARGETS = (
    "help",
    "demo",
    "test",
    "test-engines",
    "test-backends",
    "test-faults",
    "test-kaggle",
    "check",
    "lab",
    "notebooks",
    "bench",
    "bench-scaling",
    "bench-decisions",
    "bench-attention",
    "bench-ten-crop",
    "bench-checkpoints",
    "bench-size",
    "bench-steps",
    "bench-gpu",
    "bench-export",
    "bench-processes",
    "kaggle",
    "clean",
)


def requirements(path):
    """The requirements of a pip file, comments and blank lines left out."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def base_dependencies():
    return [Requirement(text) for text in PROJECT["dependencies"]]


def all_dependencies():
    """(extra or "base", requirement) of everything that pyproject.toml names."""
    named = [("base", requirement) for requirement in base_dependencies()]
    named += [(extra, Requirement(text)) for extra, texts in EXTRAS.items() for text in texts]
    return named


def locked_versions(python_version):
    """Name to version of constraints.txt on Linux with one Python."""
    system = {
        **default_environment(),
        "python_version": python_version,
        "python_full_version": f"{python_version}.9",
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    locked = {}
    for requirement in requirements(ROOT / "constraints.txt"):
        if requirement.marker is None or requirement.marker.evaluate(system):
            (pin,) = requirement.specifier
            assert pin.operator == "==", requirement
            name = canonicalize_name(requirement.name)
            assert name not in locked, f"{name} is locked twice for Python {python_version}"
            locked[name] = pin.version
    return locked


def environment_file():
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in content["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    return conda, pip


# pyproject.toml ---------------------------------------------------------------------------------


def test_supported_pythons():
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [v for v in ("3.10", "3.11", "3.12", "3.13", "3.14") if v in supported] == [
        "3.11",
        "3.12",
        "3.13",
    ]


def test_tensorflow_is_an_extra_only():
    names = {canonicalize_name(requirement.name) for requirement in base_dependencies()}
    assert not [name for name in names if name.startswith(("tensorflow", "torch", "jax"))]
    known = {"tf", "tf-cpu", "tf-gpu", "notebooks", "search", "export", "backends", "test", "dev"}
    assert known <= set(EXTRAS)
    assert Requirement(EXTRAS["tf-gpu"][0]).extras == {"and-cuda"}


def test_the_search_is_an_extra_that_is_tested():
    assert [Requirement(text).name for text in EXTRAS["search"]] == ["optuna"]
    assert set(EXTRAS["search"]) <= set(EXTRAS["test"])
    assert "optuna" not in {requirement.name for requirement in base_dependencies()}
    assert "optuna" in locked_versions("3.12")


def test_the_export_is_an_extra_that_is_tested():
    assert [Requirement(text).name for text in EXTRAS["export"]] == ["openvino"]
    assert set(EXTRAS["export"]) <= set(EXTRAS["test"])
    assert "openvino" not in {requirement.name for requirement in base_dependencies()}


def test_ray_is_an_extra_that_nothing_else_asks_for():
    assert [Requirement(text).name for text in EXTRAS["ray"]] == ["pyarrow", "ray"]
    others = [r.name for extra, r in all_dependencies() if extra != "ray"]
    assert not {"pyarrow", "ray"} & set(others)


@pytest.mark.parametrize("requirement", base_dependencies(), ids=lambda r: r.name)
def test_kaggle_version_is_accepted(requirement):
    pins = {
        canonicalize_name(pin.name): pin for pin in requirements(ROOT / "tests/kaggle/pins.txt")
    }
    name = canonicalize_name(requirement.name)
    assert name in pins, (
        f"{name} is no package of Kaggle's image, or tests/kaggle/pins.txt lacks it"
    )
    (version,) = [pin.version for pin in pins[name].specifier]
    assert version in requirement.specifier


@pytest.mark.parametrize(("name", "extra"), [("tensorflow", "tf"), ("jax", "backends")])
def test_kaggle_backend_is_accepted(name, extra):
    pins = {pin.name: pin for pin in requirements(ROOT / "tests/kaggle/pins.txt")}
    (version,) = [pin.version for pin in pins[name].specifier]
    (requirement,) = [
        requirement for requirement in map(Requirement, EXTRAS[extra]) if requirement.name == name
    ]
    assert version in requirement.specifier


def test_the_other_backends_are_no_part_of_the_normal_environment():
    assert [Requirement(text).name for text in EXTRAS["backends"]] == ["jax", "torch"]
    assert set(EXTRAS["jax"]) < set(EXTRAS["backends"])
    for extra in ("tf", "tf-cpu", "tf-gpu", "notebooks", "test"):
        names = {Requirement(text).name for text in EXTRAS[extra]}
        assert not names & {"jax", "torch"}


# constraints.txt --------------------------------------------------------------------------------


@pytest.mark.parametrize("python_version", ["3.11", "3.12", "3.13"])
def test_constraints_satisfy_every_requirement(python_version):
    locked = locked_versions(python_version)
    for extra, requirement in all_dependencies():
        name = canonicalize_name(requirement.name)
        assert name in locked, f"{name} ({extra}) is not in constraints.txt"
        assert locked[name] in requirement.specifier, f"{name} ({extra})"


def test_constraints_name_no_host():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|@|\.(com|org|io|net)\b|--(extra-)?index-url|--find-links", text)


# environment.yml --------------------------------------------------------------------------------


def test_environment_takes_only_python_and_graphviz_from_conda():
    conda, _ = environment_file()
    names = {re.split(r"[=<>! ]", entry)[0] for entry in conda}
    assert names == {"python", "pip", "graphviz"}
    (python,) = [entry.removeprefix("python=") for entry in conda if entry.startswith("python=")]
    assert python in SpecifierSet(PROJECT["requires-python"])


def test_environment_lists_the_named_packages():
    _, pip = environment_file()
    named = ["jupyterlab", "tensorflow", "matplotlib", "seaborn", "pandas", "papermill", "nbval"]
    assert pip[0] == "-c constraints.txt"
    assert pip[1:-1] == named
    assert pip[-1].startswith("-e .")


def test_environment_agrees_with_pyproject():
    _, pip = environment_file()
    known = {canonicalize_name(requirement.name) for _, requirement in all_dependencies()}
    for entry in pip[1:-1]:
        requirement = Requirement(entry)
        assert canonicalize_name(requirement.name) in known
        assert not requirement.specifier, f"{entry}: versions belong to constraints.txt"
    extras = re.fullmatch(r"-e \.(?:\[([a-z,-]+)\])?", pip[-1]).group(1)
    assert set(extras.split(",")) <= set(EXTRAS)


# Makefile ---------------------------------------------------------------------------------------


def make(*arguments, cwd=ROOT):
    """Run make as from a terminal, also where this test itself runs below make."""
    own = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VENV", "TF", "PYTHON", "FREE_GB"}
    own |= {"NOTEBOOK", "OWNER", "OPTIONS"}
    clean = {name: value for name, value in os.environ.items() if name not in own}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=clean, capture_output=True, text=True, timeout=60
    )


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_target_can_be_planned(target):
    result = make("-n", target)
    assert result.returncode == 0, result.stderr


@needs_make
def test_help_lists_every_target():
    assert re.findall(r"make ([\w-]+) ", make().stdout) == list(TARGETS)


@needs_make
def test_tensorflow_extra_can_be_chosen():
    assert ".[tf-gpu,notebooks,test]" in make("-n", "demo", "TF=tf-gpu", "VENV=not/there").stdout


@needs_make
def test_a_bundle_needs_a_notebook_alone():
    assert "-m imetlib kaggle bundle 08_submission" in make("-n", "kaggle", "VENV=not/there").stdout
    plan = make("-n", "kaggle", "NOTEBOOK=09", "OWNER=me", "OPTIONS=--wheel").stdout
    assert "kaggle bundle 09 --owner me --wheel" in plan


@needs_make
def test_lab_takes_options_of_its_own():
    plan = make("-n", "lab", "OPTIONS=--no-browser --port 8889", "VENV=not/there").stdout
    assert re.search(r"-m jupyterlab .* --no-browser --port 8889$", plan, re.MULTILINE)


@needs_make
def test_the_other_backends_are_installed_where_they_are_tested_only():
    plan = make("-n", "test", "VENV=not/there").stdout
    assert not re.search(r"backends|pip install .*(jax|ray)", plan)
    plan = make("-n", "engines", "VENV=not/there").stdout
    assert "-c constraints.txt -e '.[jax,ray]'" in plan
    plan = make("-n", "test-backends", "VENV=not/there").stdout
    assert "-c constraints.txt -e '.[backends]'" in plan
    assert "for backend in tensorflow jax torch;" in plan


@needs_make
def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("chapter one")
    result = make("lab", f"VENV={tmp_path}")
    assert result.returncode != 0
    assert "is no Python environment" in result.stderr
    assert (tmp_path / "thesis.txt").read_text() == "chapter one"


@needs_make
def test_clean_keeps_data_runs_and_foreign_environments(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = ["data", "runs", ".venv", "imetlib", "tests", "notebooks", "benchmarks"]
    for folder in [*kept, "demo", "imetlib/__pycache__"]:
        (tmp_path / folder).mkdir()
    result = make("clean", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert all((tmp_path / folder).is_dir() for folder in kept)
    assert not (tmp_path / "demo").exists() and not (tmp_path / "imetlib/__pycache__").exists()
    (tmp_path / ".venv" / "made-by-make").touch()
    make("clean", cwd=tmp_path)
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_missing_python_is_explained(tmp_path):
    result = make("lab", f"VENV={tmp_path / 'venv'}", "PYTHON=python3.99")
    assert result.returncode != 0
    assert "No Python 3.11, 3.12 or 3.13 runs here (tried: python3.99)" in result.stderr
    assert not (tmp_path / "venv").exists()


@needs_make
def test_python_without_venv_is_explained(tmp_path):
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexit 0\n')
    python.chmod(0o755)
    result = make("lab", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}")
    assert result.returncode != 0
    assert "sudo apt install python3-venv" in result.stderr


@needs_make
def test_too_little_disk_is_explained(tmp_path):
    result = make("lab", f"VENV={tmp_path / 'venv'}", "FREE_GB=1000000")
    assert result.returncode != 0
    assert "The environment needs about 1e+06 GB of disk" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_readme_names_only_targets_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?m)(?:^|`|\$ |&& )\s*make ([a-z][a-z-]*)", text))
    assert named <= set(TARGETS)


def test_readme_names_only_commands_that_exist():
    from imetlib.__main__ import build_parser

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"python -m imetlib ([a-z]+)", text)
    help_text = build_parser().format_help()
    assert [command for command in commands if f" {command} " not in help_text] == []


def test_gate_is_executable_and_calls_make_test():
    gate = ROOT / ".ci" / "run"
    assert gate.stat().st_mode & 0o111
    assert "make test" in gate.read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("timeout") is None, reason="timeout is not installed")
def test_gate_goes_on_without_a_browser(tmp_path):
    """Where apt-get fails, a line says what that costs, and the tests still run."""
    for name, text in {"apt-get": "exit 1", "id": "echo 0", "make": "echo made $*"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "sh", "env", "dirname", "mktemp", "rm", "tail", "timeout"):
        (tmp_path / name).symlink_to(shutil.which(name))
    gate = subprocess.run(
        ["bash", ROOT / ".ci" / "run"],
        env={"PATH": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert gate.returncode == 0, gate.stderr
    kaggle, engines, told, made = gate.stdout.splitlines()
    assert kaggle.startswith("made kaggle-environments VENV=")
    assert engines.startswith("made engines VENV=")
    assert told == "No Chromium to be had here: the browser tests will be skipped."
    assert made.startswith("made test VENV=")
