"""What a run folder says of its run: identity, record, and metrics that repeat byte for byte."""

import json
from pathlib import Path

from imetlib.collection.folds import hash_folds
from imetlib.delivery.records import new_record, read_record, write_record
from imetlib.files import replacing
from imetlib.paths import search_weights
from imetlib.profiles import LATER_SETTINGS, get_profile
from imetlib.training.devices import accelerator_names, describe_devices
from imetlib.training.networks import start_of

METRICS_FILE = "metrics.json"
# What two runs of one command on one machine must agree in; times and dates are not among it.
_METRICS = (
    "run", "split", "metric", "score", "interval", "threshold", "constant_score", "micro_f2",
    "log_loss", "num_samples", "best_epoch", "best_epochs", "penalty", "selection",
)  # fmt: skip


def identity_of(data, method, seed, **more):
    """What makes two runs the same run, as a dict of what JSON can hold.

    Args:
        data: `PreparedCollection`.
        method: see `imetlib.training.runs.train_fold`.
        seed: int.
        **more: further entries, `val_fold` for a single fold.
    """
    return {
        "method": method,
        "seed": seed,
        "settings": data.profile.to_dict(),
        "collection_sha256": data.collection.sha256,
        "folds_sha256": hash_folds(data.collection.train.ids, data.folds),
        # None, as in records from before there was such a choice.
        "left_out": [fault.path for fault in data.left_out] or None,
        # A blend starts from its members alone: the profile's own file may not even be here.
        **({} if method == "blend" else {"weights_sha256": start_of(data.profile)}),
        **more,
    }


def read_same_run(folder, identity):
    """The record of a finished run.

    Raises:
        ValueError: the folder holds a run of another identity; the message names the settings.
    """
    record = read_record(folder)
    changed = changes_of(identity, record.get("identity", {}))
    if changed:
        raise ValueError(
            f"{folder} holds a run of other settings ({', '.join(changed)}). Give another run "
            "name, or remove the folder; nothing was overwritten."
        )
    return record


def changes_of(identity, before):
    """Names of what differs between a run's identity and an earlier one, settings by name."""
    changed = [key for key in {**identity, **before} if before.get(key) != identity.get(key)]
    if "settings" in changed:
        old, new = before.get("settings", {}), identity["settings"]
        changed.remove("settings")
        changed += [key for key in {**new, **old} if old.get(key) != new.get(key)]
    return changed


def make_record(data, folder, split, identity, result, facts):
    """The record of a run.

    Args:
        data: `PreparedCollection`.
        folder: run folder.
        split: what `result` is the score of.
        identity: see `identity_of`.
        result: figures of `imetlib.training.scoring`.
        facts: further entries of the record.

    Returns:
        the record, a dict.
    """
    result = dict(result)
    return new_record(
        folder.name,
        profile=data.profile.name,
        seed=identity["seed"],
        split=split,
        image_shape=data.profile.image_shape,
        collection_sha256=identity["collection_sha256"],
        folds_sha256=identity["folds_sha256"],
        parameters=identity["settings"],
        score=result.pop("score"),
        constant_score=result.pop("constant_score"),
        num_samples=result.pop("num_samples"),
        method=identity["method"],
        identity=identity,
        collection=data.name,
        device=accelerator_names(),
        device_details=describe_devices(),
        **({"left_out": [str(fault) for fault in data.left_out]} if data.left_out else {}),
        **result,
        **facts,
    )


def write_run(data, folder, split, identity, result, facts):
    """Write `metrics.json` and, last, `record.json`, which marks a run as finished.

    Args:
        data, folder, split, identity, result, facts: see `make_record`.

    Returns:
        the record, a dict.
    """
    record = make_record(data, folder, split, identity, result, facts)
    with replacing(folder / METRICS_FILE) as temporary:
        temporary.write_text(json.dumps(metrics_of(record), indent=2) + "\n", encoding="utf-8")
    write_record(folder, record)
    return record


def metrics_of(record):
    """The figures of a record: what does not depend on time and place."""
    return {name: record[name] for name in _METRICS if name in record}


def profile_of(settings, folder):
    """The `Profile` of a record's parameters.

    Records know files by name only: a weights file or a model of the user's own is looked for in
    the run folder, its folds, the folders above it and where weights are looked for.

    Args:
        settings: dict, `parameters` of a record.
        folder: the run folder.

    Raises:
        ValueError: an unknown setting or value.
    """
    values = LATER_SETTINGS | settings
    values["image_shape"] = tuple(values["image_shape"])
    folder = Path(folder).resolve()
    for key in ("weights", "backbone"):
        name = values.get(key, "")
        if not name.endswith((".h5", ".keras")) or Path(name).is_file():
            continue
        places = [folder, *sorted(folder.glob("fold*")), *folder.parents[:4]]
        found = next((place / name for place in places if (place / name).is_file()), None)
        found = found or search_weights((Path(name).name.removesuffix(".h5"),))[0]
        values[key] = str(found or name)
    return get_profile(values.pop("name"), **values)
