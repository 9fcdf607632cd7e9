"""Make a run again from its record, and say whether the figures are the same."""

import json
from dataclasses import dataclass
from pathlib import Path

from imetlib.collection.prepared import prepare_collection, with_settings
from imetlib.delivery.records import read_record
from imetlib.models.backbones import file_sha256, find_weights
from imetlib.profiles import get_profile
from imetlib.training.run_files import metrics_of
from imetlib.training.runs import blend_runs, train_all_folds, train_fold


@dataclass(frozen=True)
class Repetition:
    """Result of `repeat_run`.

    Args:
        record: of the new run.
        changed: entry of `metrics.json` to (recorded, repeated) where the two differ.
    """

    record: dict
    changed: dict


def repeat_command(path):
    """The command that makes a run again, as text; `path` is that of its record or folder."""
    return f"python -m imetlib repeat {Path(path).as_posix()} --collection DIR"


def repeat_run(path, collection="", out="", *, verbose=0):
    """Train a run again with the settings, seed and folds of its record.

    Args:
        path: record, or folder with one: a single run, one over all folds, or a blend.
        collection: folder of the collection it was made on; `fast` draws its own.
        out: folder for runs, "" for the project's `runs/`; the run goes to `repeated/<name>`
            in the collection's folder there.
        verbose: see `train_fold`.

    Returns:
        `Repetition`.

    Raises:
        ValueError: the collection, its folds or the weights file are not those of the record.
        FileNotFoundError: no collection, or no weights file.
    """
    old = read_record(path)
    identity = old["identity"]
    parts = identity.get("member_identities", [identity])
    _check_weights(old, parts)
    profile = profile_of(identity["settings"])
    data = prepare_collection(profile, collection, out, progress=bool(verbose))
    if data.collection.sha256 != old["collection_sha256"]:
        raise ValueError(
            f"{data.collection.root.name} is not the collection that {old['run']} was made on "
            f"({old.get('collection')}), or its tables have changed since"
        )
    folder = data.workspace / "repeated" / old["run"]
    if old["method"] == "blend":
        for name, part in zip(old["members"], parts, strict=True):
            _train(data, folder / name, part, verbose)
        new = blend_runs(data, folder, old["members"])
    else:
        new = _train(data, folder, identity, verbose)
    if new["folds_sha256"] != old["folds_sha256"]:
        raise ValueError(
            f"The folds of {data.workspace.name} are not those of {old['run']}: remove "
            f"folds-{profile.num_folds}.csv there and repeat"
        )
    was, now = metrics_of(old), metrics_of(new)
    changed = {
        name: (was.get(name), now.get(name))
        for name in sorted({*was, *now})
        if json.dumps(was.get(name)) != json.dumps(now.get(name))
    }
    return Repetition(new, changed)


def profile_of(settings):
    """The `Profile` of a record's parameters; settings of later versions take their default."""
    values = dict(settings)
    values["image_shape"] = tuple(values["image_shape"])
    # Through `get_profile`, so that unknown names and values are refused.
    return get_profile(values.pop("name"), **values)


def _train(data, folder, identity, verbose):
    settings = profile_of(identity["settings"]).__dict__
    same = {"method": identity["method"], "seed": identity["seed"], "verbose": verbose}
    data = with_settings(data, **settings)
    if "val_fold" in identity:
        splits = tuple(identity["splits"])
        return train_fold(data, folder, identity["val_fold"], splits=splits, **same)
    return train_all_folds(data, folder, **same)


def _check_weights(record, parts):
    """Before any work: the weights files are there, and are the same ones."""
    for part in parts:
        settings = part["settings"]
        path = find_weights(settings["backbone"], settings["weights"] or None)
        found = None if path is None else file_sha256(path)
        wanted = part.get("weights_sha256", record.get("weights_sha256"))
        if wanted != found:
            raise ValueError(
                f"{path} is not the weights file that {record['run']} started from (SHA-256 "
                f"{wanted or 'none'}): give that one by IMETLIB_WEIGHTS"
            )
