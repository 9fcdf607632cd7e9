"""Rooms go one way, and the source holds nothing that a stranger's machine would trip over."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "imetlib"
MODULES = sorted(PACKAGE.rglob("*.py"))
BACKENDS = {"tensorflow", "jax", "torch"}
MAX_LINES = 320

# The rooms in their order: a later one may import an earlier one. `decisions` stands before
# `training`, whose log shows the score of every epoch.
ROOMS = ("collection", "models", "decisions", "training", "delivery")
# What these rooms take from earlier ones are files, tables and scores, so that they open
# without Keras.
WITHOUT_KERAS = ("collection", "decisions", "delivery")
LOCALISATION = {"localisation", "localisation_glimpses", "localisation_grids"}
TOP = {
    "archives",
    "files",
    "paths",
    "precision",
    "profile_checks",
    "processes",
    "profiles",
    "scores",
    "quiet",
    *LOCALISATION,
}
# Run records are, like scores, what the rooms exchange: written by training, compared by delivery.
EXCHANGED = ("imetlib.delivery.records",)
# Tables of coordinates and names that the museum is drawn from.
LONG = {"museum_catalogue", "museum_motifs", "museum_objects"}
# `cifar10` loads Keras only where no local file is found, for its download.
KERAS_IN_COLLECTION = {"batches", "cifar10"}


def imports(path):
    """(line, dotted name) of every import of a module, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def modules_of(*rooms):
    return [path for path in MODULES if room_of(path) in rooms]


# What they do of one backend they do otherwise on the others.
NAME_A_BACKEND = (
    "models/batch_normalization", "precision", "processes",
    "training/data_parallel", "training/devices",
)  # fmt: skip


def name_of(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def top_packages(path):
    return {name.split(".")[0] for _, name in imports(path)}


@pytest.mark.parametrize("path", modules_of(*ROOMS), ids=name_of)
def test_room_imports_only_earlier_rooms(path):
    room = room_of(path)
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "imetlib" and len(parts) > 1 and not name.startswith(EXCHANGED):
            allowed = {*ROOMS[: ROOMS.index(room) + 1], *TOP}
            if room in WITHOUT_KERAS:
                allowed -= {"models", "training"}
            assert parts[1] in allowed, f"{name_of(path)}:{line} imports {name}"


@pytest.mark.parametrize("path", modules_of(*WITHOUT_KERAS), ids=name_of)
def test_room_without_network_does_without_keras(path):
    if path.stem not in KERAS_IN_COLLECTION:
        assert not top_packages(path) & ({"keras"} | BACKENDS)
        assert "imetlib.quiet" not in {name for _, name in imports(path)}, "it loads Keras"


@pytest.mark.parametrize("path", modules_of("models"), ids=name_of)
def test_models_run_on_every_backend(path):
    known = set() if name_of(path) in NAME_A_BACKEND else BACKENDS
    assert not top_packages(path) & (known | {"pandas", "cv2", "PIL"})


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_few_name_a_backend(path):
    if name_of(path) not in NAME_A_BACKEND:
        assert not top_packages(path) & BACKENDS


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_has_one_subject(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES or path.stem in LONG
    assert ast.get_docstring(ast.parse("\n".join(lines))), "a module begins with its subject"


def text_files():
    """Files that a reader may open: everything but data, runs, environments and this test."""
    skipped = {".venv", ".git", "runs", "demo", "artefacts", "build", "dist"}
    kinds = {".py", ".ipynb", ".md", ".toml", ".txt", ".yml", ".cfg", ""}
    files = []
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in parts[:-1])
        foreign = (
            hidden or skipped & set(parts) or (parts[0] == "data" and parts[1:] != ("README.md",))
        )
        if path.is_file() and path.suffix in kinds and not foreign and path != Path(__file__):
            files.append(path)
    return files


# `/home/someone` is the example that tests of privacy use.
HOME = re.compile(r"(?<![\w.])/(home(?!/someone\b)|root|Users|work)/\w|C:\\\\+Users")


@pytest.mark.parametrize("path", text_files(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_path_of_one_machine(path):
    text = path.read_text(encoding="utf-8", errors="replace")
    assert not HOME.search(text), HOME.search(text).group(0)
