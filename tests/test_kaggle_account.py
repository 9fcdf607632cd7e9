"""What is missing before the client can push is said before anything is uploaded."""

import json
from pathlib import Path

import pytest

from imetlib.__main__ import main
from imetlib.delivery import kaggle_account
from imetlib.delivery.kaggle_account import list_missing
from imetlib.delivery.kaggle_bundle import write_bundle


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A home without a key, on a machine without the client."""
    for name in ("API_TOKEN", "USERNAME", "KEY", "CONFIG_DIR"):
        monkeypatch.delenv(f"KAGGLE_{name}", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(kaggle_account.shutil, "which", lambda name: None)
    return tmp_path


def test_client_and_key_are_asked_for(machine, monkeypatch):
    client, key = list_missing()
    assert "pip install kaggle six" in client
    assert "kaggle.com/settings" in key and "~/.kaggle/access_token" in key
    monkeypatch.setattr(kaggle_account.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert list_missing() == [key]


@pytest.mark.parametrize(
    "place",
    [".kaggle/access_token", ".kaggle/credentials.json", ".kaggle/kaggle.json",
     ".config/kaggle/kaggle.json"],
)  # fmt: skip
def test_a_key_in_a_file_counts(machine, place):
    (machine / place).parent.mkdir(parents=True)
    (machine / place).write_text("it is not read")
    assert len(list_missing()) == 1


@pytest.mark.parametrize("names", [["API_TOKEN"], ["USERNAME", "KEY"], ["USERNAME"]])
def test_a_key_in_variables_counts(machine, monkeypatch, names):
    for name in names:
        monkeypatch.setenv(f"KAGGLE_{name}", "x")
    assert len(list_missing()) == (2 if names == ["USERNAME"] else 1)


def test_a_folder_of_the_user_s_own_is_looked_into(machine, monkeypatch):
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(machine / "own"))
    assert len(list_missing()) == 2
    (machine / "own").mkdir()
    (machine / "own" / "kaggle.json").write_text("{}")
    assert len(list_missing()) == 1


def test_the_commands_say_it_and_go_on(machine, capsys):
    folder = str(machine / "bundle")
    assert main(["kaggle", "bundle", "01_eda", "--owner", "someone", "--out", folder]) == 0
    assert "before you push, install the client: pip" in capsys.readouterr().out
    assert main(["kaggle", "check", folder]) == 0
    assert "before you push, have a key: make a token" in capsys.readouterr().out
    assert main(["kaggle", "check", folder, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["before_you_push"]) == 2


def test_a_folder_with_faults_has_them_alone(machine, capsys):
    made = write_bundle(machine / "bundle", "01_eda")  # without a user's name
    assert main(["kaggle", "check", str(made.folder)]) == 1
    assert "before you push" not in capsys.readouterr().out
