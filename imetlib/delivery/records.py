"""The record of a run: what was done, on what, with what result; and the table that compares.

A number without its split, metric, image size and data is not a result. `new_record` refuses to
make one, and `compare_records` refuses to put numbers of different kinds under each other.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.delivery.machine import environment
from imetlib.files import replacing

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "record.json"
FORMAT = 1
METRIC = "F2 per sample"
# Numbers that differ in one of these do not belong into one ranking.
COMPARED = ("split", "metric", "image_shape", "collection_sha256", "folds_sha256")
_NEEDED = ("run", "profile", "seed", "score", "constant_score", "num_samples", *COMPARED)


def new_record(
    run: str,
    *,
    profile: str,
    seed: int,
    split: str,
    image_shape: Sequence[int],
    collection_sha256: str,
    score: float,
    constant_score: float,
    num_samples: int,
    metric: str = METRIC,
    folds_sha256: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    seconds: float | Mapping[str, float] | None = None,
    device: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The record of one run, ready for `write_record`.

    Args:
        run: str. Name of the run, that of its folder.
        profile: "fast", "report" or "full".
        seed: int. Seed of Python, NumPy and Keras.
        split: what was scored: "val", "out-of-fold", "held-out sixth", ...
        image_shape: (height, width, channels) that the model was given.
        collection_sha256: hash of the tables, `Collection.sha256`.
        score: float in [0, 1]. The result, in `metric`, of decisions fitted on other rows.
        constant_score: float in [0, 1]. The best constant answer on the same rows.
        num_samples: int. Rows scored.
        metric: str. Anything but mean per-sample F2 says so here.
        folds_sha256: hash of the folds file, None where there are no folds.
        parameters: what was set: learning rate, epochs, batch size, loss, ...
        scores: further results by name.
        seconds: float, or parts by name.
        device: as in `environment`.
        **more: further entries: `threshold`, `num_params`, `best_epoch`, ...

    Returns:
        dict of what JSON can hold. Of a path only the last part is kept: a record is published.

    Raises:
        ValueError: a number is not finite, or an entry is of a kind that JSON does not have.
    """
    record = {
        "format": FORMAT,
        "run": run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": profile,
        "seed": seed,
        "parameters": dict(parameters or {}),
        "split": split,
        "metric": metric,
        "image_shape": tuple(image_shape),
        "collection_sha256": collection_sha256,
        "folds_sha256": folds_sha256,
        "score": score,
        "constant_score": constant_score,
        "num_samples": num_samples,
        "scores": dict(scores or {}),
        "seconds": seconds,
        "environment": environment(device),
        **more,
    }
    return {name: _to_json(value, name) for name, value in record.items()}


def write_record(folder: str | Path, record: Mapping[str, Any]) -> Path:
    """Writes `record.json` into a run folder, whole or not at all; returns its path.

    Raises:
        ValueError: an entry that every record needs is missing, or the folder holds the record
            of another run.
    """
    path = Path(folder) / FILE_NAME
    _check_record(record, str(path))
    if path.exists():
        other = read_record(path)["run"]
        if other != record["run"]:
            raise ValueError(
                f"{path} is the record of run {other!r}: write {record['run']!r} elsewhere."
            )
    text = json.dumps(_to_json(record, "record"), indent=2, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def replace_record(folder: str | Path, record: Mapping[str, Any]) -> Path:
    """As `write_record`, into a folder that is made where missing, over any record in it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).unlink(missing_ok=True)
    return write_record(folder, record)


def read_record(path: str | Path) -> dict[str, Any]:
    """Reads a record from its file or its run folder.

    Raises:
        ValueError: there is none, it is damaged, or it lacks what every record needs.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such record; train the run first.") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a record: {error}") from None
    _check_record(record, str(path))
    return record


def compare_records(
    records: Iterable[Mapping[str, Any]],
    *,
    allow: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> pd.DataFrame:
    """Runs side by side, best first, each with the floor it has to beat.

    Args:
        records: as from `read_record`.
        allow: fields of `COMPARED` that may differ on purpose; each becomes a column.
        columns: further entries to show, looked up in the record, then in its `parameters`.

    Returns:
        DataFrame with a row a run: `run`, `score`, `constant_score`, `gain` (the difference),
        `above_constant` (False: the run learned nothing that a constant answer does not know),
        `num_samples`, `profile`, `seed`, then `allow` and `columns`. What all runs share stands
        in `attrs`.

    Raises:
        ValueError: no records, or they differ in a field that is not in `allow`: the message
            names it and its values.

    Warns:
        UserWarning: device or number of cores differ: times and last digits do not compare.
    """
    import pandas as pd

    records = list(records)
    if not records:
        raise ValueError("No records to compare: train a run first.")
    unknown = sorted(set(allow) - set(COMPARED))
    if unknown:
        raise ValueError(f"`allow` takes {', '.join(COMPARED)}. Received: {', '.join(unknown)}")
    for record in records:
        _check_record(record, f"record {record.get('run', '?')!r}")
    shared = {}
    for field in COMPARED:
        values = {json.dumps(record[field]): record["run"] for record in records}
        if len(values) == 1:
            shared[field] = records[0][field]
        elif field not in allow:
            shown = "; ".join(f"{value} (run {run})" for value, run in values.items())
            raise ValueError(
                f"Runs that differ in `{field}` cannot be ranked: {shown}. Leave some out, or "
                f"say allow=({field!r},) where the difference is the question."
            )
    machines = {_machine(record) for record in records}
    if len(machines) > 1:
        warnings.warn(
            "The runs were made on different machines: times and last digits do not compare. "
            f"{'; '.join(sorted(machines))}",
            stacklevel=2,
        )
    rows = []
    for record in records:
        row = {
            "run": record["run"],
            "score": record["score"],
            "constant_score": record["constant_score"],
            "gain": record["score"] - record["constant_score"],
            "above_constant": record["score"] > record["constant_score"],
            "num_samples": record["num_samples"],
            "profile": record["profile"],
            "seed": record["seed"],
        }
        row |= {name: _show(record[name]) for name in COMPARED if name in allow}
        row |= {name: _show(_look_up(record, name)) for name in columns}
        rows.append(row)
    table = pd.DataFrame(rows).sort_values(
        ["score", "run"], ascending=[False, True], ignore_index=True
    )
    table.attrs = shared
    return table


def _check_record(record: Mapping[str, Any], where: str) -> None:
    missing = [name for name in _NEEDED if name not in record]
    if missing:
        raise ValueError(
            f"{where} lacks {', '.join(missing)}: without them its numbers compare with nothing. "
            "Make records with new_record."
        )


def _look_up(record: Mapping[str, Any], name: str) -> Any:
    return record.get(name, record.get("parameters", {}).get(name))


def _machine(record: Mapping[str, Any]) -> str:
    place = record.get("environment", {})
    return f"{place.get('device')}, {place.get('cores')} cores"


def _show(value: Any) -> Any:
    return " x ".join(map(str, value)) if isinstance(value, list) else value


def _to_json(value: Any, name: str) -> Any:
    """What JSON can hold, so that a record read back equals the one written."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _to_json(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _to_json(value.tolist(), name)
    if isinstance(value, np.generic):
        return _to_json(value.item(), name)
    if isinstance(value, (list, tuple)):
        return [_to_json(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"`{name}` must be finite. Received: {value}")
        return value
    raise ValueError(f"`{name}` has no place in a record. Received: {type(value).__name__}")
