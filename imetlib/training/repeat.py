"""Make a run again from its record, and say whether the figures are the same."""

import json
from dataclasses import dataclass
from pathlib import Path

from imetlib.collection.folds import hash_folds
from imetlib.collection.prepared import prepare_collection, with_settings
from imetlib.delivery.records import read_record
from imetlib.training.fold_runs import train_fold
from imetlib.training.networks import start_of
from imetlib.training.run_files import metrics_of, profile_of
from imetlib.training.runs import blend_runs, train_all_folds


@dataclass(frozen=True)
class Repetition:
    """Result of `repeat_run`.

    Args:
        record: of the new run.
        changed: entry of `metrics.json` to (recorded, repeated) where the two differ.
    """

    record: dict
    changed: dict


def repeat_run(path, collection="", out="", *, verbose=0):
    """Train a run again with the settings, seed and folds of its record.

    Args:
        path: record, or folder with one: a single run, one over all folds, or a blend.
        collection: folder of the collection it was made on; `fast` draws its own.
        out: folder for runs, "" for the project's `runs/`; the run goes below `repeated/` in
            the collection's folder there, each time into a new folder.
        verbose: see `train_fold`.

    Returns:
        `Repetition`.

    Raises:
        ValueError: the collection, its folds or the weights file are not those of the record, or
            the run ended by the clock.
        FileNotFoundError: no collection, or no weights file.
    """
    old = read_record(path)
    identity = old["identity"]
    if identity.get("timed"):
        raise ValueError(
            f"{old['run']} was trained within the hours of a session: how far it came depends on "
            "the clock, so it cannot be repeated. Train it without hours"
        )
    parts = identity.get("member_identities", [identity])
    place = Path(path) if Path(path).is_dir() else Path(path).parent
    places = [place / name for name in old["members"]] if "members" in old else [place]
    profiles = [
        profile_of(part["settings"], folder) for part, folder in zip(parts, places, strict=True)
    ]
    for part, profile in zip(parts, profiles, strict=True):
        _check_start(old, part, profile)
    profile = profile_of(identity["settings"], place)
    data = prepare_collection(profile, collection, out, progress=bool(verbose))
    if data.collection.sha256 != old["collection_sha256"]:
        raise ValueError(
            f"{data.collection.root.name} is not the collection that {old['run']} was made on "
            f"({old.get('collection')}), or its tables have changed since"
        )
    if hash_folds(data.collection.train.ids, data.folds) != old["folds_sha256"]:
        raise ValueError(
            f"The folds of {data.workspace.name} are not those of {old['run']}: give another "
            f"`out`, or remove folds-{profile.num_folds}.csv there"
        )
    folder = _free_folder(data.workspace / "repeated", old["run"])
    if old["method"] == "blend":
        for name, part, own in zip(old["members"], parts, profiles, strict=True):
            _train(data, folder / name, own, part, verbose)
        new = blend_runs(data, folder, old["members"])
    else:
        new = _train(data, folder, profiles[0], identity, verbose)
    was, now = metrics_of(old), metrics_of(new)
    changed = {
        name: (was.get(name), now.get(name))
        for name in sorted({*was, *now})
        if json.dumps(was.get(name)) != json.dumps(now.get(name))
    }
    return Repetition(new, changed)


def _train(data, folder, profile, identity, verbose):
    same = {"method": identity["method"], "seed": identity["seed"], "verbose": verbose}
    data = with_settings(data, **vars(profile))
    if "val_fold" in identity:
        splits = tuple(identity["splits"])
        return train_fold(data, folder, identity["val_fold"], splits=splits, **same)
    return train_all_folds(data, folder, **same)


def _check_start(record, identity, profile):
    """Before any work: the file that a run started from is there, and is the same one."""
    wanted, found = identity.get("weights_sha256"), start_of(profile)
    if wanted != found:
        raise ValueError(
            f"{profile.weights or profile.backbone} is not the file that {record['run']} started "
            f"from (SHA-256 {wanted or 'none'}): give that one by IMETLIB_WEIGHTS"
        )


def _free_folder(parent, name):
    """A folder that does not exist yet: a repetition is trained, never read back."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}" / name
