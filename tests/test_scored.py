"""Scores of a run with their labels: the right rows, the right groups, clear errors."""

import numpy as np
import pytest

from imetlib.collection.folds import make_folds, write_folds
from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection
from imetlib.delivery.records import new_record, write_record
from imetlib.profiles import get_profile
from imetlib.scored import find_scored_run, read_scored_rows, scores_for_thresholds
from imetlib.scores import Scores, save_scores


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    folder = draw_museum(tmp_path_factory.mktemp("drawn") / "museum", size=200, image_size=32)
    return read_collection(folder)


def write_run(folder, tables, rows, *, split="val", score=0.3, selection=0.3, **changes):
    folder.mkdir(parents=True)
    logits = np.random.default_rng(0).normal(size=(len(rows), tables.num_classes))
    scores = Scores(tables.train.ids[rows], logits.astype(np.float32), tables.class_names)
    save_scores(folder / f"scores-{split}.npz", scores)
    entries = {
        "profile": "full",
        "seed": 0,
        "split": split,
        "image_shape": (32, 32, 3),
        "collection_sha256": tables.sha256,
        "score": score,
        "constant_score": 0.2,
        "num_samples": len(rows),
        "parameters": {"num_folds": 4},
    }
    if selection is not None:  # a search over settings leaves the holdout alone
        entries["selection"] = {"split": "val fold 1", "score": selection}
    write_record(folder, new_record(folder.name, **{**entries, **changes}))
    return folder


def test_rows_keep_their_labels_and_specimens(museum, tmp_path):
    rows = np.array([40, 3, 17, 25, 90, 8])
    scored = read_scored_rows(write_run(tmp_path / "run", museum, rows), museum)
    assert scored.labels.ids.tolist() == scored.scores.ids.tolist()
    assert (scored.labels.dense() == museum.train.dense(rows)).all()
    assert (scored.specimens == museum.specimens[rows]).all()
    assert set(scored.groups) == {0, 1}


def test_out_of_fold_scores_come_with_their_folds(museum, tmp_path):
    folds = make_folds(museum.train, 4, specimens=museum.specimens)
    write_folds(tmp_path / "folds-4.csv", museum.train.ids, folds)
    # The rows of the holdout, fold 0, are never among them.
    rows = np.random.default_rng(0).permutation(np.flatnonzero(folds != 0))
    folder = write_run(tmp_path / "submission" / "member", museum, rows, split="oof")
    scored = read_scored_rows(folder, museum)
    assert (scored.groups == folds[rows]).all() and set(scored.groups) == {1, 2, 3}
    assert (scored.labels.dense() == museum.train.dense(rows)).all()


def test_no_specimen_stands_in_both_halves(museum, tmp_path):
    rows = np.arange(len(museum.train))
    scored = read_scored_rows(write_run(tmp_path / "run", museum, rows), museum)
    assert len(np.unique(np.stack([scored.specimens, scored.groups]), axis=1).T) == len(
        np.unique(scored.specimens)
    )


def test_the_best_comparison_run_of_this_collection_is_found(museum, tmp_path):
    rows = np.arange(10)
    assert find_scored_run(tmp_path, museum) is None
    # What chose decides; the score of the holdout chooses nothing.
    write_run(tmp_path / "a" / "weak", museum, rows, score=0.9, selection=0.3)
    best = write_run(tmp_path / "a" / "strong", museum, rows, score=0.2, selection=0.4)
    other = {"selection": 0.9, "collection_sha256": "0"}
    write_run(tmp_path / "a" / "other", museum, rows, **other)
    write_run(tmp_path / "b" / "trial", museum, rows, score=0.9, selection=None)
    write_run(tmp_path / "b" / "example-0", museum, rows, selection=0.9)
    write_run(tmp_path / "b" / "whole", museum, rows, split="oof", selection=0.9)
    assert find_scored_run(tmp_path, museum) == best


def test_what_is_part_of_another_run_is_not_found(museum, tmp_path):
    rows, places = np.arange(10), tmp_path / "museum"
    whole = write_run(places / "comparison" / "net", museum, rows, selection=0.3)
    write_run(whole / "fold1", museum, rows, selection=0.9)
    write_run(places / "search" / "trial003", museum, rows, selection=0.9)
    write_run(places / "search" / "late" / "trial000" / "fold1", museum, rows, selection=0.9)
    write_run(places / "repeated" / "net-1" / "net", museum, rows, selection=0.9)
    write_run(places / "example-1234", museum, rows, selection=0.9)
    assert find_scored_run(tmp_path, museum) == whole
    # A fold whose whole was never finished is a run like any other.
    alone = write_run(places / "unfinished" / "fold1", museum, rows, selection=0.8)
    assert find_scored_run(str(tmp_path), museum) == alone


@pytest.mark.parametrize("name", ["search", "repeated"])
def test_the_folders_above_the_runs_may_have_any_name(museum, tmp_path, name):
    folder = write_run(tmp_path / name / "runs" / "net", museum, np.arange(10))
    assert find_scored_run(tmp_path / name / "runs", museum) == folder


def test_a_missing_run_names_the_notebook_that_makes_one(museum, tmp_path):
    with pytest.raises(FileNotFoundError, match="02_backbone_comparison"):
        scores_for_thresholds(get_profile("full"), museum.root, out=tmp_path)


def test_a_folder_without_scores_is_refused(museum, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither scores-oof\.npz nor scores-val\.npz"):
        scores_for_thresholds(get_profile("full"), museum.root, run=tmp_path, out=tmp_path)


def test_a_run_of_another_collection_is_refused(museum, tmp_path):
    folder = write_run(tmp_path / "run", museum, np.arange(5), collection_sha256="0")
    with pytest.raises(ValueError, match="another collection"):
        read_scored_rows(folder, museum)
