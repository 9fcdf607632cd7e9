"""A finished run answers the test pictures of a collection, on another machine or another day."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imetlib import paths
from imetlib.collection.images import ImageFault, check_images
from imetlib.decisions.fbeta import constant_answer
from imetlib.decisions.saved_rules import RULE_FILE
from imetlib.delivery.records import FILE_NAME, read_record
from imetlib.scores import Scores

# Shrunk pictures are held in memory: some 2 GB at 288 px. Every part builds the networks anew.
AT_ONCE = 16_384


@dataclass(frozen=True, eq=False)
class TestAnswer:
    """Label sets of test pictures.

    Args:
        ids: `(num_test,)` object array of str, in the order of the collection.
        y_pred: `(num_test, num_classes)` bool, one label a picture or more.
        scores: `Scores` of the pictures that can be read, in the same order.
        unreadable: `ImageFault` of each of the others, which have the constant answer.
    """

    __test__ = False  # no class of tests, whatever pytest thinks of its name

    ids: np.ndarray
    y_pred: np.ndarray
    scores: Scores
    unreadable: tuple[ImageFault, ...] = ()


def find_run(profile, run="", collection="", out=""):
    """Folder of the run that is to answer; `fast` fits a linear head where there is none.

    Args:
        profile: `Profile`.
        run: run folder; "" takes the only finished run with a `rule.json`, as notebook 08 leaves
            one, below `out`, else below Kaggle's inputs.
        collection: folder, see `imetlib.collection.prepared.locate_collection`.
        out: folder of the runs, "" for the usual one.

    Returns:
        `pathlib.Path`.

    Raises:
        FileNotFoundError: no such run, or several and no way to choose.
    """
    if run:
        folder = Path(run).expanduser()
        if not (folder / FILE_NAME).is_file():
            raise FileNotFoundError(
                f"No run at {folder}: give the folder that holds {FILE_NAME}, such as notebook "
                "08_submission leaves one."
            )
        return folder
    if profile.name == "fast":
        from imetlib.scored import scores_for_thresholds

        return scores_for_thresholds(profile, collection, out=out).folder
    places = [paths.runs_folder(out), paths.KAGGLE_INPUT]
    for place in places:
        found = _finished_runs(place)
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(map(str, found))
            raise FileNotFoundError(f"Several runs found: {names}. Give one as `run`.")
    searched = " and ".join(map(str, places))
    if paths.on_kaggle():
        raise FileNotFoundError(
            f"No finished run below {searched}. Attach one to this notebook: Add Input, then the "
            "notebook that trained it or a dataset with its run folder. Attached now: "
            f"{', '.join(paths.attached()) or 'nothing'}."
        )
    raise FileNotFoundError(
        f"No finished run below {searched}. Run notebook 08_submission first, or give `run`."
    )


def answer_pictures(trained, tables, *, at_once=AT_ONCE, progress=None):
    """What a run says of all test pictures of a collection.

    Args:
        trained: `imetlib.training.load.Run`.
        tables: `Collection` with test pictures and the run's attributes.
        at_once: int >= 1. Pictures that are held in memory together.
        progress: bool. Whether to show a bar while the pictures are checked; None: on a terminal.

    Returns:
        `TestAnswer`.

    Raises:
        ValueError: other attributes than the run's, no test pictures, or none that can be read.
    """
    if trained.class_names != tables.class_names:
        shared = len(set(trained.class_names) & set(tables.class_names))
        raise ValueError(
            f"{trained.folder.name} was trained on other attributes than those of {tables.root}: "
            f"{len(trained.class_names):,} and {len(tables.class_names):,}, {shared:,} of them the "
            "same, and they have to be the same in one order. Attach the run of this collection."
        )
    if at_once < 1:
        raise ValueError(f"`at_once` must be at least 1. Received: at_once={at_once}")
    if not len(tables.test_ids):
        raise ValueError(f"{tables.root} has no test pictures: there is nothing to answer.")
    files = {name: tables.picture_path("test", name) for name in tables.test_ids}
    progress = sys.stderr.isatty() if progress is None else progress
    faults = tuple(check_images(files.values(), progress=progress))
    bad = {fault.path for fault in faults}
    ids = [name for name, path in files.items() if str(path) not in bad]
    if not ids:
        raise ValueError(f"None of the test pictures of {tables.root} can be read: {faults[0]}")
    parts = []
    for start in range(0, len(ids), at_once):
        part = ids[start : start + at_once]
        parts.append(trained.predict([files[name] for name in part], ids=part).logits)
    scores = Scores(np.array(ids, object), np.concatenate(parts), tables.class_names)
    # All at once: some rules look at the whole population.
    y_pred = np.zeros((len(tables.test_ids), len(tables.class_names)), bool)
    y_pred[:, constant_answer(tables.train).columns] = True
    y_pred[np.isin(tables.test_ids.astype(str), ids)] = trained.decide(scores)
    return TestAnswer(tables.test_ids, y_pred, scores, faults)


def _finished_runs(place):
    """Runs below a folder that have a rule and are no part of another."""
    found = []
    for folder, names in paths.walk_folders(place, paths.RUN_DEPTH):
        whole = names.get(FILE_NAME) is False and names.get(RULE_FILE) is False
        if whole and not (folder.parent / FILE_NAME).is_file():
            try:
                read_record(folder)
            except ValueError:  # half a run, or a record of something else
                continue
            found.append(folder)
    return found
