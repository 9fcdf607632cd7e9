"""What is installed has no known security hole; on Kaggle, where it has, that is said."""

import os
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from imetlib.__main__ import main
from imetlib.delivery import floors
from imetlib.delivery.floors import FLOORS, below_floors, installed_versions

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in found}


@pytest.mark.parametrize("package", FLOORS)
def test_installed_version_is_no_lower_than_its_floor(package):
    versions = installed_versions()
    if package not in versions:
        pytest.skip(f"{package} is not installed")
    below = below_floors({package: versions[package]})
    if below and "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        pytest.skip(below[0])
    assert below == []


def test_kaggle_image_is_below_and_every_line_names_a_hole():
    below = below_floors(pins("tests/kaggle/pins.txt"))
    assert [line.split()[0] for line in below] == ["keras", "pillow", "jupyter-server", "nbconvert"]
    assert below[0].startswith("keras 3.13.2 is below floor 3.15.1: ")
    assert all("CVE-" in line for line in below)


@pytest.mark.parametrize("package", FLOORS)
@pytest.mark.parametrize("installed", ["0.9", "2.20", "4.6.10", "12.2.9", "99", "3.15.1+local"])
def test_versions_compare_as_packaging_does(package, installed):
    wanted = Version(installed) < Version(FLOORS[package].version)
    assert bool(below_floors({package: installed})) == wanted


def test_the_lock_keeps_to_the_floors():
    locked = pins("constraints.txt")
    assert set(FLOORS) <= set(locked)
    assert below_floors(locked) == []


def test_extras_of_development_allow_nothing_below():
    """The base does, for Kaggle; `make` and conda install these beside it."""
    lowest = {}
    for extra in ("notebooks", "test"):
        for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
            lowest[requirement.name] = next(
                part.version for part in requirement.specifier if part.operator == ">="
            )
    assert set(FLOORS) <= set(lowest)
    for package, floor in FLOORS.items():
        assert Version(lowest[package]) >= Version(floor.version), package


@pytest.mark.parametrize(("on_kaggle", "exit_code"), [(False, 1), (True, 0)])
def test_command_says_what_is_below(monkeypatch, capsys, on_kaggle, exit_code):
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    if on_kaggle:
        monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setattr(floors, "installed_versions", lambda: {"nbconvert": "6.4.5"})
    assert main(["versions"]) == exit_code
    out = capsys.readouterr().out
    assert "nbconvert: 6.4.5\n" in out and "nbconvert 6.4.5 is below floor 7.17.1: CVE-" in out
    monkeypatch.setattr(floors, "installed_versions", lambda: {"nbconvert": "7.17.1"})
    assert main(["versions", "--json"]) == 0
    assert '"below_floor": []' in capsys.readouterr().out
