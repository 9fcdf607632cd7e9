"""A notebook of the project as a folder that `kaggle kernels push` uploads, the package with it.

There a notebook runs without network, in folders and with versions of its own. So the package comes
along, in a cell or as a wheel in a dataset, the parameters cell says `full`, and the whole folder
is checked before it gets its name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imetlib.delivery import kaggle_package
from imetlib.delivery.executed import is_code
from imetlib.delivery.kaggle_check import BundleError, check_bundle
from imetlib.delivery.kaggle_metadata import (
    DATASET_METADATA_FILE,
    DEFAULT_ACCELERATOR,
    METADATA_FILE,
    NO_OWNER,
    kernel_metadata,
    slugify,
)
from imetlib.delivery.kaggle_notebook import check_executed, make_notebook
from imetlib.delivery.notebooks import find_notebook
from imetlib.delivery.parameters import (
    check_parameters,
    parse_parameters,
    read_notebook,
    read_parameters,
)
from imetlib.files import making_folder

# Kind of a bundle to the notebook that it is made of.
KINDS = {"train": "08_submission", "inference": "09_inference", "both": "08_submission"}
# Code competitions stop a notebook after 9 hours.
HOURS = 8.5
COMPETITION = "imet-2019-fgvc6"
WEIGHTS_DATASET = "imetlib-weights"
WHEEL_DATASET = "imetlib-wheel"


@dataclass(frozen=True)
class Bundle:
    """A folder ready for `kaggle kernels push`.

    Args:
        folder: `pathlib.Path`.
        kind: "train", "inference" or "both".
        metadata: dict, content of `kernel-metadata.json`.
        num_bytes: int. Size of the notebook.
        notes: str each. What is still to be done by hand.
    """

    folder: Path
    kind: str
    metadata: dict[str, Any]
    num_bytes: int
    notes: tuple[str, ...]


def write_bundle(
    folder: str | Path,
    notebook: str | Path = "",
    kind: str = "",
    *,
    assignments: Iterable[str] = (),
    hours: float = HOURS,
    owner: str = "",
    title: str = "",
    competitions: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    kernels: Sequence[str] | None = None,
    models: Sequence[str] = (),
    accelerator: str = DEFAULT_ACCELERATOR,
    private: bool = True,
    wheel: bool = False,
) -> Bundle:
    """Write the folder of a bundle, once it is found to be without faults.

    Args:
        folder: new or empty folder, or one that holds a bundle, which is replaced.
        notebook: as in `imetlib.delivery.notebooks.find_notebook`; "" takes that of `KINDS`.
        kind: "train" leaves a run folder for a later notebook, "inference" answers with one,
            "both" trains and answers within `hours`; "" goes by the notebook.
        assignments: `NAME=VALUE` each, parameters of the notebook.
        hours: float > 0. Limit of training, for a notebook with such a parameter.
        owner: user name on Kaggle; "" leaves a place for it.
        title: of the notebook on Kaggle; "" makes one of the notebook's name.
        competitions, datasets, kernels, models: what is attached, see
            `imetlib.delivery.kaggle_metadata.SOURCES`. None: for the profiles `report` and `full`
            iMet 2019, the owner's dataset `imetlib-weights`, and for inference the owner's
            notebook of the kind "train"; for `fast` nothing.
        accelerator: see `imetlib.delivery.kaggle_metadata.GPUS`, or "none".
        private: whether only the owner sees the notebook.
        wheel: put the package into a dataset, `dataset/` in the folder, instead of a cell.

    Returns:
        `Bundle`.

    Raises:
        BundleError: a ValueError, with every fault that `check_bundle` finds; nothing is written.
        ValueError: an unknown notebook, kind or parameter, a notebook that was never executed or
            failed, or a folder that holds other things.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not (folder.is_dir() and _is_free(folder)):
        raise ValueError(f"{folder} holds other things than a bundle; name another folder.")
    source, kind = _choose(notebook, kind)
    parameters = _settings(source, kind, hours, parse_parameters(source, assignments))
    fast = parameters.get("profile", read_parameters(source)["profile"].default) == "fast"
    owner = owner or NO_OWNER
    title = title or _title_of(source.stem, kind)
    datasets, kernels = _sources(kind, fast, owner, datasets, kernels)
    if competitions is None:
        competitions = () if fast else (COMPETITION,)
    original = read_notebook(source)
    check_executed(source.name, original)
    files = _read_package(source, original, wheel)
    if wheel:
        datasets = [*datasets, f"{owner}/{WHEEL_DATASET}"]
    metadata = kernel_metadata(
        owner,
        title,
        f"{slugify(title)}.ipynb",
        datasets=datasets,
        competitions=competitions,
        kernels=kernels,
        models=models,
        accelerator=accelerator,
        private=private,
    )
    with making_folder(folder) as temporary:
        temporary.mkdir(parents=True)
        if wheel:
            packed = kaggle_package.build_wheel(files)
            cell = kaggle_package.install_cell(packed, datasets[-1])
            _write_dataset(temporary / "dataset", packed, datasets[-1])
        else:
            cell = kaggle_package.unpack_cell(kaggle_package.pack(files), len(files))
        made = make_notebook(original, read_parameters(source), parameters, cell, kind)
        _write_notebook(temporary / metadata["code_file"], made)
        _write_json(temporary / METADATA_FILE, metadata)
        faults = check_bundle(temporary, named=False)
        if faults:
            raise BundleError(f"{source.name} as a bundle", faults)
        size = (temporary / metadata["code_file"]).stat().st_size
        shutil.rmtree(folder, ignore_errors=True)
    return Bundle(folder, kind, metadata, size, tuple(_notes(metadata, owner, folder)))


def _choose(notebook: str | Path, kind: str) -> tuple[Path, str]:
    """File and kind of what is to be packed."""
    if kind and kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}. Received: {kind}")
    source = find_notebook(notebook or KINDS[kind or "both"])
    known = read_parameters(source)
    if "profile" not in known:
        raise ValueError(f"{source.name} has no parameter `profile`: it is none of the project's.")
    timed = "hours" in known
    answers = timed or source.stem == KINDS["inference"]
    if not kind:
        kind = "both" if timed else "inference" if answers else "train"
    if kind == "both" and not timed:
        raise ValueError(
            f"{source.name} cannot train and answer within given hours: it has no parameter "
            f"`hours`. Take {KINDS['both']}, or the kind {'inference' if answers else 'train'}."
        )
    if kind == "inference" and (timed or not answers):
        raise ValueError(f"{source.name} trains. For inference take {KINDS['inference']}.")
    if kind == "train" and answers and not timed:
        raise ValueError(f"{source.name} trains nothing: take {KINDS['train']}.")
    return source, kind


def _settings(source: Path, kind: str, hours: float, given: dict[str, Any]) -> dict[str, Any]:
    """Parameters for Kaggle: the real collection, within the hours, without a slider."""
    wanted: dict[str, Any] = {"profile": "full", "hours": hours, "interactive": False}
    if not hours > 0:
        raise ValueError(f"`hours` must be positive. Received: hours={hours}")
    known = read_parameters(source)
    settings = {name: value for name, value in wanted.items() if name in known} | given
    settings = check_parameters(source, settings)
    if kind == "both" and not settings["hours"] > 0:
        raise ValueError(f"`hours` must be positive. Received: hours={settings['hours']}")
    return settings


def _title_of(stem: str, kind: str) -> str:
    name = f"imetlib {stem.replace('_', ' ')}"
    return f"{name} train" if kind == "train" and stem == KINDS["train"] else name


def _sources(
    kind: str,
    fast: bool,
    owner: str,
    datasets: Sequence[str] | None,
    kernels: Sequence[str] | None,
) -> tuple[list[str], list[str]]:
    """Datasets and notebooks to attach, where the caller leaves them open."""
    if kernels is None:
        # A run in a dataset of the caller's needs no notebook.
        trained = slugify(_title_of(KINDS["train"], "train"))
        needed = kind == "inference" and not fast and datasets is None
        kernels = [f"{owner}/{trained}"] if needed else []
    if datasets is None:
        datasets = [] if fast else [f"{owner}/{WEIGHTS_DATASET}"]
    return list(datasets), list(kernels)


def _read_package(source: Path, notebook: Any, wheel: bool) -> dict[str, bytes]:
    shows_results = any("committed_" in cell.source for cell in notebook.cells if is_code(cell))
    if shows_results and wheel:
        raise ValueError(
            f"{source.name} shows the project's results/, which a wheel does not carry: leave out "
            "--wheel."
        )
    files = kaggle_package.package_files(results=shows_results)
    found = kaggle_package.secrets_in(files)
    if found:
        raise BundleError(source.name, [f"a secret, {secret}: remove it" for secret in found])
    return files


def _write_dataset(folder: Path, wheel: bytes, name: str) -> None:
    folder.mkdir()
    (folder / kaggle_package.WHEEL_NAME).write_bytes(wheel)
    # The client's own list of licences is not public; the wheel holds its licence.
    metadata = {"title": "imetlib wheel", "id": name, "licenses": [{"name": "other"}]}
    _write_json(folder / DATASET_METADATA_FILE, metadata)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_notebook(path: Path, notebook: Any) -> None:
    import nbformat

    nbformat.write(notebook, path)


def _is_free(folder: Path) -> bool:
    return not any(folder.iterdir()) or (folder / METADATA_FILE).is_file()


def _notes(metadata: Mapping[str, Any], owner: str, folder: Path) -> Iterable[str]:
    if owner == NO_OWNER:
        yield f"put your user name on Kaggle in the place of {NO_OWNER}: --owner NAME"
    for name in metadata["competition_sources"]:
        yield f"accept the rules of the competition {name} on its page, once"
    for name in metadata["dataset_sources"]:
        what = ""
        if name.endswith(f"/{WEIGHTS_DATASET}"):
            what = ": the weights files of the backbones, by the names that Keras gives them"
        elif name.endswith(f"/{WHEEL_DATASET}"):
            what = f', made by: kaggle datasets create -p "{folder / "dataset"}"'
        yield f"have the dataset {name}{what}"
    for name in metadata["kernel_sources"]:
        yield f"have run the notebook {name}: its output is attached"
