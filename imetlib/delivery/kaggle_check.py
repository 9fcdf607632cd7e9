"""Is a folder ready for `kaggle kernels push`? Everything that can be told without network.

The client itself checks little: unknown fields, wrong competitions, stored outputs, a package that
was cut and tokens all pass it, and some of them are found hours later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from imetlib.delivery.executed import tags_of
from imetlib.delivery.kaggle_metadata import (
    DATASET_METADATA_FILE,
    DEFAULT_ACCELERATOR,
    FIELDS,
    GPUS,
    ID,
    METADATA_FILE,
    NO_OWNER,
    OPTIONAL,
    RETIRED,
    SOURCES,
    TPUS,
    slugify,
)
from imetlib.delivery.kaggle_package import PACKAGE_TAG, WHEEL_NAME, find_package_faults
from imetlib.delivery.parameters import read_notebook, read_parameters
from imetlib.delivery.privacy import find_secrets_in_file

MAX_BYTES = 1_000_000
MIN_TITLE, MAX_TITLE = 5, 50
_MIN_DATASET_NAME = 6
_JSON = {str: "a text", int: "a number", bool: "true or false", list: "a list of texts"}
_NOTEBOOK_METADATA = {"kernelspec", "language_info"}
_CELL_METADATA = {"tags", "jupyter", "_kg_hide-input"}
_PREFIXES = ("datasets/", "d/", "code/", "c/", "competitions/", "models/", "m/", "kernels/")


class BundleError(ValueError):
    """A bundle that is refused; `faults` holds every reason."""

    def __init__(self, folder: str | Path, faults: Iterable[str]):
        self.faults = list(faults)
        super().__init__("\n  ".join([f"{folder}, faults: {len(self.faults)}", *self.faults]))


def check_bundle(folder: str | Path, *, named: bool = True) -> list[str]:
    """Every fault of a bundle, each with what to do; empty where it can be pushed.

    Args:
        folder: with `kernel-metadata.json` and the notebook; `dataset/` below it is checked, too,
            where there is one.
        named: whether a place that is still free for the user's name is a fault.

    Returns:
        list of str.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return [f"no folder at {folder}: make one with `python -m imetlib kaggle bundle`"]
    metadata, faults = _read_json(folder / METADATA_FILE)
    if metadata is None:
        return faults
    faults += _check_fields(metadata)
    faults += _check_address(metadata, named)
    faults += _check_choices(metadata)
    for field in SOURCES:
        faults += _check_sources(field, metadata.get(field), named)
    faults += _check_code(folder, metadata.get("code_file"))
    if (folder / "dataset").exists():
        faults += check_dataset(folder / "dataset", metadata.get("dataset_sources"))
    for path in sorted(folder.rglob("*.json")):
        faults += _check_secrets(path, folder)
    return faults


def check_dataset(folder: str | Path, attached: Any) -> list[str]:
    """Every fault of the dataset that the package's wheel goes into.

    Args:
        folder: with `dataset-metadata.json` and the wheel.
        attached: `dataset_sources` of the notebook.
    """
    metadata, faults = _read_json(Path(folder) / DATASET_METADATA_FILE)
    if metadata is not None:
        name, title = metadata.get("id"), metadata.get("title")
        if not isinstance(name, str) or not re.fullmatch(ID, name):
            faults.append(f"dataset id must be USER/NAME in small letters. Received: {name!r}")
        elif isinstance(attached, list) and name not in attached:
            faults.append(f"the notebook does not attach {name}: add it to dataset_sources")
        short = name.split("/")[-1] if isinstance(name, str) else ""
        for what, text in (("id", short), ("title", title)):
            if not isinstance(text, str) or not _MIN_DATASET_NAME <= len(text) <= MAX_TITLE:
                faults.append(f"dataset {what} must have 6 to 50 characters. Received: {text!r}")
        licences = metadata.get("licenses")
        if not isinstance(licences, list) or len(licences) != 1:
            faults.append('dataset licenses must be one, such as [{"name": "other"}]')
    if not (Path(folder) / WHEEL_NAME).is_file():
        faults.append(f"the dataset lacks {WHEEL_NAME}: make the bundle again with --wheel")
    return faults


def _read_json(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The object in a file, or None; and the faults."""
    twice: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in dict.fromkeys(names) if names.count(name) > 1)
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=collect)
    except FileNotFoundError:
        return None, [f"no {path.name}: make the bundle with `python -m imetlib kaggle bundle`"]
    except (OSError, ValueError) as error:
        return None, [f"{path.name} is not JSON ({error}): make the bundle again"]
    if not isinstance(content, dict):
        return None, [f"{path.name} must hold one object {{...}}: make the bundle again"]
    return content, [f"{path.name}: {name} stands there twice; keep one" for name in twice]


def _check_fields(metadata: dict[str, Any]) -> Iterator[str]:
    for name, value in metadata.items():
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, n=1)
            meant = f"write {near[0]}" if near else f"remove it; known are {', '.join(FIELDS)}"
            yield f"{name} is no field that Kaggle knows: {meant}"
        # True is an int for Python, and no number for anybody else.
        elif not isinstance(value, FIELDS[name]) or (FIELDS[name] is int and value is True):
            yield f"{name} must be {_JSON[FIELDS[name]]}. Received: {json.dumps(value)}"
    for name in FIELDS:
        if name not in metadata and name not in OPTIONAL:
            default = " Kaggle would take it for true." if name == "enable_internet" else ""
            yield f"{name} is missing: write {_JSON[FIELDS[name]]}.{default}"


def _check_address(metadata: dict[str, Any], named: bool) -> Iterator[str]:
    name, title = metadata.get("id"), metadata.get("title")
    if isinstance(name, str):
        if not re.fullmatch(ID, name):
            yield f"id must be USER/SLUG, small letters, digits and hyphens. Received: {name}"
        elif named and name.startswith(f"{NO_OWNER}/"):
            yield f"id: put your user name on Kaggle in the place of {NO_OWNER} (--owner)"
    if isinstance(title, str):
        if not MIN_TITLE <= len(title) <= MAX_TITLE:
            yield f"title must have 5 to 50 characters, not {len(title)}. Received: {title}"
        if not title.isascii():
            yield f"title: use ASCII letters, whose slug is certain. Received: {title}"
        elif isinstance(name, str) and name.split("/")[-1] != slugify(title):
            owner = name.split("/")[0]
            yield (
                f"id and title do not belong together, and Kaggle goes by the title: write "
                f"{owner}/{slugify(title)}. Received: {name}"
            )


def _check_choices(metadata: dict[str, Any]) -> Iterator[str]:
    wanted = {"language": "python", "kernel_type": "notebook"}
    for name, value in wanted.items():
        if name in metadata and metadata[name] != value:
            yield f"{name} must be {value}. Received: {metadata[name]}"
    if metadata.get("enable_internet") is True and metadata.get("competition_sources"):
        yield (
            "enable_internet must be false: a competition that is answered by notebooks takes "
            "none with internet"
        )
    gpu, tpu = metadata.get("enable_gpu") is True, metadata.get("enable_tpu") is True
    if gpu and tpu:
        yield "enable_gpu and enable_tpu are both true: keep one"
    shape = metadata.get("machine_shape")
    retired = {name.lower(): (name, instead) for name, instead in RETIRED.items()}
    if not isinstance(shape, str) or not shape:
        return
    if shape.lower() in retired:
        name, instead = retired[shape.lower()]
        yield f"machine_shape {name} is retired, Kaggle runs {instead}: write {DEFAULT_ACCELERATOR}"
    elif shape not in (*GPUS, *TPUS):
        yield f"machine_shape must be one of {', '.join((*GPUS, *TPUS))}. Received: {shape}"
    elif shape in GPUS and metadata.get("enable_gpu") is False:
        yield f'machine_shape {shape} is a GPU: set enable_gpu to true, or machine_shape to ""'
    elif shape in TPUS and metadata.get("enable_tpu") is False:
        yield f"machine_shape {shape} is a TPU: set enable_tpu to true, and enable_gpu to false"


def _check_sources(field: str, entries: Any, named: bool) -> Iterator[str]:
    pattern, form = SOURCES[field]
    if not isinstance(entries, list):
        return
    for entry in entries:
        if not isinstance(entry, str):
            yield f"{field} must hold texts. Received: {json.dumps(entry)}"
        elif "kaggle.com" in entry or entry.startswith(_PREFIXES):
            yield f"{field}: write {form} alone, without address or prefix. Received: {entry}"
        elif not re.fullmatch(pattern, entry):
            yield f"{field}: write {form}. Received: {entry}"
        elif named and entry.startswith(f"{NO_OWNER}/"):
            yield f"{field}: put your user name on Kaggle in the place of {NO_OWNER} in {entry}"
    texts = [entry for entry in entries if isinstance(entry, str)]
    for entry in dict.fromkeys(texts):
        if texts.count(entry) > 1:
            yield f"{field}: {entry} stands there twice; keep one"


def _check_code(folder: Path, name: Any) -> Iterator[str]:
    if not isinstance(name, str):
        return
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in name:
        yield f"code_file must be a name in this folder. Received: {name}"
        return
    path = folder / name
    if not path.is_file():
        yield f"code_file {name} is not there: make the bundle again"
        return
    size = path.stat().st_size
    if size > MAX_BYTES:
        yield (
            f"{name} has {size:,} bytes, more than {MAX_BYTES:,}: put the package into a dataset "
            "(--wheel), pictures and weights likewise"
        )
    try:
        notebook = read_notebook(path)
    except ValueError as error:
        yield f"code_file: {error}"
        return
    yield from _check_notebook(name, notebook)
    try:
        if not read_parameters(path):
            yield f"{name} has no cell tagged `parameters`: bundle a notebook of the project"
    except ValueError as error:
        yield str(error)
    yield from _check_secrets(path, folder)


def _check_notebook(name: str, notebook: Any) -> Iterator[str]:
    again = "make the bundle again"
    foreign = set(notebook.metadata) - _NOTEBOOK_METADATA
    if foreign:
        yield f"{name} carries metadata of other programs, {', '.join(sorted(foreign))}: {again}"
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield f"{name} must name the kernel python3, Kaggle's only one. Received: {kernel}"
    packages = 0
    for number, cell in enumerate(notebook.cells, start=1):
        foreign = set(cell.metadata) - _CELL_METADATA
        if foreign:
            yield f"{name}, cell {number}: foreign metadata, {', '.join(sorted(foreign))}: {again}"
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield f"{name}, cell {number}: stored outputs or a count: {again}"
        if cell.get("attachments"):
            yield f"{name}, cell {number}: attachments: remove them"
        if PACKAGE_TAG in tags_of(cell):
            packages += 1
            if "b64decode" in cell.source:
                faults = find_package_faults(cell.source)
                yield from (f"{name}, cell {number}: {fault}" for fault in faults)
    if packages != 1:
        yield f"{name} must have one cell that brings imetlib, not {packages}: {again}"


def _check_secrets(path: Path, folder: Path) -> Iterator[str]:
    for found in find_secrets_in_file(path):
        place = (path.parent.relative_to(folder) / found.place).as_posix()
        yield f"{place}: a secret ({found.kind}, {found.beginning}...): remove it"
