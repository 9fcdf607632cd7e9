"""JupyterLab opens on a page that lists every notebook in the order to read them."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / "notebooks" / "README.md"
NOTEBOOKS = sorted(path.stem for path in INDEX.parent.glob("*.ipynb"))


def table(path):
    """Name and question of each line of a table of notebooks, in order."""
    text = path.read_text(encoding="utf-8")
    return re.findall(r"(?m)^\| \[(\w+)\]\([\w/]*\1\.ipynb\) \| ([^|]+\?) \|", text)


def test_every_notebook_stands_in_the_index_once_and_the_template_last():
    names = [name for name, _ in table(INDEX)]
    assert names == [name for name in NOTEBOOKS if name != "00_template"] + ["00_template"]


def test_index_and_readme_ask_the_same_questions():
    assert dict(table(INDEX)) == dict(table(ROOT / "README.md"))


def test_links_of_the_index_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", INDEX.read_text(encoding="utf-8"))
    assert len(links) > len(NOTEBOOKS)
    assert all((INDEX.parent / link).exists() for link in links)


def test_lab_opens_on_the_index_as_a_page(monkeypatch, tmp_path):
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlab:")[1].split("\n\n")[0]
    (address,) = re.findall(r"default_url=/lab/tree/(\S+)", recipe)
    assert ROOT / address == INDEX
    assert 'JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter' in recipe
    config = pytest.importorskip("jupyter_server.services.config")
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(ROOT / ".jupyter"))
    manager = config.ConfigManager(config_dir_name="labconfig")
    overrides = manager.get("default_setting_overrides")
    ((plugin, settings),) = overrides.items()
    assert settings["defaultViewers"] == {"markdown": "Markdown Preview"}
    # JupyterLab ignores names that it does not know without a word.
    package, name = plugin.split(":")
    schemas = Path(sys.prefix) / "share" / "jupyter" / "lab" / "schemas"
    if not schemas.is_dir():
        pytest.skip("JupyterLab is not installed")
    schema = json.loads((schemas / package / f"{name}.json").read_text(encoding="utf-8"))
    assert settings.keys() <= schema["properties"].keys()
