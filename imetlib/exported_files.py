"""The folder of an exported run: what it holds, and opening it with OpenVINO.

`imetlib.export` makes it. Digests find files that were cut or changed by accident, no more: open
folders only of people whom you trust.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from imetlib.collection.geometry import Preprocessing
from imetlib.exported_run import ExportedRun

EXPORT_FILE = "export.json"
FORMAT = 1
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
_NEEDED = ("format", "sha256", "class_names", "threshold", "networks", "members")
_AGAIN = "export the run again"


def is_export(folder: str | Path) -> bool:
    """Whether a folder was made by `imetlib export`."""
    return (Path(folder) / EXPORT_FILE).is_file()


def open_export(folder: str | Path, *, precision: str = "float32", threads: int = 0) -> ExportedRun:
    """Open what `imetlib.export.export_run` wrote.

    Args:
        folder: the folder with `export.json`.
        precision: "float32", or "bfloat16" for processors that compute in it: faster, but labels
            near the threshold change (`make bench-export` counts them).
        threads: int >= 0, pictures are decoded and answered by so many; 0: as many as this
            process has processors.

    Returns:
        `ExportedRun`.

    Raises:
        ValueError: no export or one of another version, a file is missing, cut or changed, it is
            of other pictures or classes than `export.json` says, OpenVINO is not installed, or the
            precision is unknown here.
    """
    folder = Path(folder)
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {', '.join(PRECISIONS)}. Received: precision={precision!r}"
        )
    if threads < 0:
        raise ValueError(f"`threads` must be 0 (all) or greater. Received: threads={threads}")
    record = _read_export(folder)
    threads = threads or num_processors()
    class_names = tuple(record["class_names"])
    networks, heads = [], {}
    for entry in record["networks"]:
        network = compile_network(folder / entry["file"], precision, threads)
        preprocessing = Preprocessing.from_dict(entry["preprocessing"])
        _check_axes(folder / entry["file"], network.input(0), preprocessing.image_shape)
        networks.append((network, preprocessing, entry["mirror_view"]))
    for member in record["members"]:
        answering = networks[member["network"]][0]
        if member["head"]:
            answering = heads[member["head"]] = compile_network(
                folder / member["head"], "float32", threads
            )
        _check_axes(folder, answering.output(0), (len(class_names),))
    return ExportedRun(
        folder, record, class_names, float(record["threshold"]), networks, heads, threads
    )


def compile_network(path: Path, precision: str, threads: int) -> Any:
    """A network's file, ready to answer as many requests at a time as there are threads.

    Args:
        path: `.xml`.
        precision: see `open_export`.
        threads: int >= 1.

    Returns:
        `openvino.CompiledModel`.

    Raises:
        ValueError: OpenVINO is not installed, cannot open the file, or the processor does not
            compute in this precision.
    """
    openvino = import_openvino()
    core = openvino.Core()
    can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bfloat16" and "BF16" not in can:
        raise ValueError("This processor does not compute in bfloat16: predict in float32.")
    # Without the first, OpenVINO chooses bfloat16 by itself where the processor has it.
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": threads,
        "INFERENCE_NUM_THREADS": threads,
    }
    try:
        return core.compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: OpenVINO {openvino.__version__} cannot open it: {_AGAIN}"
        ) from error


def write_export(folder: Path, record: dict[str, Any]) -> None:
    """Write `export.json` with the digests of all other files of the folder."""
    names = sorted(path.name for path in folder.iterdir() if path.name != EXPORT_FILE)
    record["sha256"] = {name: file_digest(folder / name) for name in names}
    text = json.dumps(record, indent=1, allow_nan=False)
    (folder / EXPORT_FILE).write_text(text + "\n", encoding="utf-8")


def import_openvino() -> Any:
    """The package `openvino`, without what it tells its makers.

    Its package `openvino-telemetry` sends events over the network from the import on, and asks
    nobody. What cannot be imported is replaced by a stub of OpenVINO's own.

    Raises:
        ValueError: OpenVINO is not installed.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise ValueError(
            'OpenVINO is not installed here: pip install "imetlib[export]" adds it, or '
            "pip install openvino"
        ) from error
    return openvino


def num_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def file_digest(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_export(folder: Path) -> dict[str, Any]:
    path = folder / EXPORT_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is no exported run (no {EXPORT_FILE})")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, digests, *_ = [record[name] for name in _NEEDED]
        digests = dict(digests)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): {_AGAIN}") from error
    if version != FORMAT:
        raise ValueError(f"{path} was written by another version of imetlib: {_AGAIN}")
    for name, digest in digests.items():
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing: {_AGAIN}")
        if file_digest(folder / name) != digest:
            raise ValueError(f"{folder / name} was cut or changed after the export: {_AGAIN}")
    return record


def _check_axes(path: Path, port: Any, axes: tuple[int, ...]) -> None:
    """Refuses a network of another picture size, or another number of classes."""
    shape = [-1 if axis.is_dynamic else axis.get_length() for axis in port.partial_shape][1:]
    if shape != list(axes):
        raise ValueError(
            f"{path}: {EXPORT_FILE} says {' x '.join(map(str, axes))}, the network "
            f"{' x '.join(map(str, shape))}: the files are of different exports, {_AGAIN}"
        )
