"""Scores of rows that a run was not trained on, with their labels: what decisions start from.

Only where nothing is there yet, and the profile is `fast`, is Keras loaded and a head fitted.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imetlib.collection.folds import find_folds, make_folds
from imetlib.collection.tables import Collection, LabelTable, read_collection
from imetlib.delivery.records import FILE_NAME, read_record
from imetlib.paths import runs_folder
from imetlib.scores import Scores, load_scores

# Out-of-fold scores know all rows, so they come first where a run has both.
_FILES = ("scores-oof.npz", "scores-val.npz")
_EXAMPLE = "example"
_HALVES = 2


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Probabilities and labels of pictures that the run did not learn from.

    Args:
        folder: `pathlib.Path` of the run.
        record: dict, its record.
        collection: `Collection` that the rows belong to.
        scores: `Scores` of the rows.
        labels: `LabelTable` of the same rows, in the same order.
        groups: `(num_samples,)` int. A threshold for one group is fitted on the others: the
            folds of out-of-fold scores, else two halves; whole specimens each.
        specimens: `(num_samples,)` int or None.
    """

    folder: Path
    record: dict
    collection: Collection
    scores: Scores
    labels: LabelTable
    groups: np.ndarray
    specimens: np.ndarray | None

    @property
    def run(self) -> str:
        """Name of the run folder."""
        return self.folder.name

    @property
    def y_prob(self) -> np.ndarray:
        """`(num_samples, num_classes)` float32 probabilities."""
        return self.scores.y_prob


def scores_for_thresholds(profile, collection="", run="", out=""):
    """Scores to choose a decision on; `fast` fits a linear head where there are none.

    Args:
        profile: `Profile`.
        collection: folder, see `imetlib.collection.prepared.locate_collection`.
        run: run folder with `scores-oof.npz` or `scores-val.npz`; "" takes the best run of this
            collection below `out` with out-of-fold scores, else the best with scores of a
            validation fold.
        out: folder of the runs, "" for the project's `runs/`.

    Returns:
        `ScoredRows`.

    Raises:
        FileNotFoundError: no such run; outside of `fast` the message names the notebook that
            makes one.
        ValueError: the run belongs to another collection, or has no scores.
    """
    from imetlib.collection.prepared import locate_collection

    root = locate_collection(profile, collection, out)
    tables = read_collection(root, require_pictures=False)
    if run:
        return read_scored_rows(Path(run).expanduser(), tables)
    runs = runs_folder(out)
    folder = find_scored_run(runs, tables, _FILES[0])
    if folder is None and profile.name == "fast":
        folder = _make_example(profile, tables, out)
    folder = folder or find_scored_run(runs, tables, _FILES[1])
    if folder is None:
        raise FileNotFoundError(
            f"No run with validation scores of {root.name} below {runs}. Run notebook "
            "02_backbone_comparison or 08_submission first, or give `run`, the folder of a run."
        )
    return read_scored_rows(folder, tables)


def find_scored_run(runs, tables, file=_FILES[1]):
    """Best run below a folder with scores of one kind, and a holdout that did not choose it.

    Args:
        runs: folder.
        tables: `Collection`; runs of other collections do not count.
        file: "scores-val.npz", as a comparison leaves, or "scores-oof.npz", as a run over all
            folds does.

    Returns:
        `pathlib.Path` of the run folder, or None.
    """
    found = []
    for path in Path(runs).rglob(FILE_NAME):
        folder = path.parent
        # A fold of a larger run, a trial of a search and a repetition are no runs of their own.
        below = {*folder.relative_to(runs).parts}
        part = (folder.parent / FILE_NAME).is_file() or below & {"search", "repeated"}
        scored = (folder / file).is_file()
        if part or not scored or folder.name.startswith(_EXAMPLE):
            continue
        try:
            record = read_record(path)
        except ValueError:  # half a run, or a record of something else
            continue
        if record["collection_sha256"] == tables.sha256 and "selection" in record:
            # Chosen by what the validation fold says: the holdout chooses nothing.
            found.append((record["selection"]["score"], record["created"], str(folder)))
    return Path(max(found)[2]) if found else None


def read_scored_rows(folder, tables):
    """Reads the scores of a run and finds their labels, groups and specimens.

    Args:
        folder: run folder.
        tables: `Collection` that the run was made on.

    Returns:
        `ScoredRows`.

    Raises:
        FileNotFoundError: no folder, or no scores in it.
        ValueError: the run belongs to another collection.
    """
    folder = Path(folder)
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"{folder} holds neither {' nor '.join(_FILES)}. Give the folder of a finished run; "
            "notebooks 02_backbone_comparison and 08_submission make some."
        )
    record, scores = read_record(folder), load_scores(file)
    if record["collection_sha256"] != tables.sha256:
        raise ValueError(
            f"{folder} was made on another collection than {tables.root.name}, or its tables "
            "have changed since; give the run of this one, or train again."
        )
    rows = tables.train.rows_of(scores.ids)
    labels = tables.train.take(rows)
    specimens = None if tables.specimens is None else tables.specimens[rows]
    groups = None
    if file.name == _FILES[0]:
        groups = find_folds(folder, record["parameters"].get("num_folds"), tables.train.ids)
    groups = make_folds(labels, _HALVES, specimens=specimens) if groups is None else groups[rows]
    return ScoredRows(
        folder=folder,
        record=record,
        collection=tables,
        scores=scores,
        labels=labels,
        groups=groups,
        specimens=specimens,
    )


def _make_example(profile, tables, out):
    """Run folder of a linear head over all folds, fitted on first use."""
    # The settings are part of the name: after a change of the profile it is fitted anew.
    settings = json.dumps([profile.to_dict(), tables.sha256], sort_keys=True)
    name = f"{_EXAMPLE}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
    there = next(runs_folder(out).glob(f"*/{name}/{FILE_NAME}"), None)
    if there:
        return there.parent
    from imetlib.collection.prepared import prepare_collection, with_settings
    from imetlib.training.pretrain import starting_weights
    from imetlib.training.runs import train_all_folds

    data = prepare_collection(profile, out=out)
    data = with_settings(data, weights=starting_weights(profile, out))
    train_all_folds(data, data.workspace / name, method="ridge")
    return data.workspace / name
