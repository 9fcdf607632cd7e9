"""A finished run answers elsewhere: it is found, it answers as it did at home, or says why not."""

import shutil
import types
from pathlib import Path

import keras
import numpy as np
import pytest

from imetlib import paths
from imetlib.collection.images import ImageFault
from imetlib.collection.tables import read_collection
from imetlib.decisions.fbeta import constant_answer
from imetlib.inference import answer_pictures, find_run
from imetlib.profiles import get_profile
from imetlib.scores import Scores, load_scores
from imetlib.training.load import load_run

FULL = get_profile("full")


@pytest.fixture(scope="module")
def run(untrained_run, tmp_path_factory):
    """Networks of all folds, untrained but for the bias, as notebook 08 leaves them."""
    folder = tmp_path_factory.mktemp("runs") / "imet" / "submission"
    return untrained_run(folder)


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A session on Kaggle with nothing attached."""
    for name in ("input", "working"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(paths, f"KAGGLE_{name.upper()}", tmp_path / name)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    return tmp_path / "input"


# Finding it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mount", ["training", "notebooks/someone/training", "datasets/someone/run", "some/deep/er"]
)
def test_a_run_is_found_wherever_it_is_attached(kaggle, run, mount):
    shutil.copytree(run.parents[1], kaggle / mount / "runs")
    assert find_run(FULL) == kaggle / mount / "runs/imet/submission"


def test_a_run_of_this_session_goes_first(kaggle, run):
    shutil.copytree(run, kaggle / "training/submission")
    shutil.copytree(run, paths.KAGGLE_WORKING / "runs/imet/submission")
    assert find_run(FULL) == paths.KAGGLE_WORKING / "runs/imet/submission"


def test_members_trials_and_halves_are_no_runs(kaggle, run):
    shutil.copytree(run, kaggle / "training/submission")
    # A member with a rule, a run without, and a record of something else.
    shutil.copy(run / "rule.json", kaggle / "training/submission/fold1/rule.json")
    shutil.copytree(run / "fold1", kaggle / "other/network")
    (kaggle / "half").mkdir()
    for name in ("record.json", "rule.json"):
        (kaggle / "half" / name).write_text("{}")
    assert find_run(FULL) == kaggle / "training/submission"


def test_several_runs_are_named_and_none_is_chosen(kaggle, run):
    for name in ("one", "two"):
        shutil.copytree(run, kaggle / name)
    with pytest.raises(FileNotFoundError, match=r"Several runs found: .*one, .*two\. Give one"):
        find_run(FULL)
    assert find_run(FULL, str(kaggle / "two")) == kaggle / "two"


def test_a_missing_run_says_what_to_do(kaggle, monkeypatch, tmp_path):
    (kaggle / "imetlib-weights").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Add Input.*Attached now: imetlib-weights\."):
        find_run(FULL)
    with pytest.raises(FileNotFoundError, match=r"No run at .*nowhere: give the folder"):
        find_run(FULL, str(tmp_path / "nowhere"))
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE")
    with pytest.raises(FileNotFoundError, match="Run notebook 08_submission first"):
        find_run(FULL, out=tmp_path)


# Answering --------------------------------------------------------------------------------------


def test_the_answer_is_that_of_the_run_itself(run, museum):
    """The scores that training left, to rounding, though nothing of its caches is there."""
    tables = read_collection(museum)
    answer = answer_pictures(load_run(run), tables)
    before = load_scores(run / "scores-test.npz").take(tables.test_ids)
    assert list(answer.scores.ids) == list(answer.ids) == list(tables.test_ids)
    assert np.abs(answer.scores.logits - before.logits).max() < 1e-4
    assert (answer.y_pred == load_run(run).decide(answer.scores)).all()
    assert answer.unreadable == () and answer.y_pred.any(axis=1).all()


def test_parts_make_no_difference(run, museum):
    tables, trained = read_collection(museum), load_run(run)
    whole, parts = answer_pictures(trained, tables), answer_pictures(trained, tables, at_once=17)
    assert np.abs(whole.scores.logits - parts.scores.logits).max() < 1e-4
    assert list(parts.scores.ids) == list(tables.test_ids)
    keras.backend.clear_session()


def test_all_pictures_are_decided_together(museum):
    """A rule that looks at the whole population must not see it in parts."""
    tables, calls = read_collection(museum), []
    trained = stand_in(tables, calls)
    answer_pictures(trained, tables, at_once=10)
    assert calls == [10] * (len(tables.test_ids) // 10) + ["decide", len(tables.test_ids)]


def stand_in(tables, calls):
    """A run that counts what it is asked, and gives each picture the attribute of its row."""

    def predict(pictures, ids):
        calls.append(len(ids))
        logits = np.full((len(ids), tables.num_classes), -5, np.float32)
        rows = [list(tables.test_ids).index(name) for name in ids]
        logits[range(len(ids)), np.array(rows) % tables.num_classes] = 5
        return Scores(np.array(ids, object), logits, tables.class_names)

    def decide(scores):
        calls.extend(["decide", len(scores.ids)])
        return scores.logits > 0

    return types.SimpleNamespace(
        predict=predict, decide=decide, class_names=tables.class_names, folder=Path("stand-in")
    )


def test_pictures_that_cannot_be_read_get_the_constant_answer(museum, tmp_path):
    folder = shutil.copytree(museum, tmp_path / "museum")
    tables = read_collection(folder)
    bad = [3, 8]
    for row in bad:
        tables.picture_path("test", tables.test_ids[row]).write_bytes(b"no picture")
    answer = answer_pictures(stand_in(tables, []), tables)
    assert [type(fault) for fault in answer.unreadable] == [ImageFault] * 2
    constant = np.isin(np.arange(tables.num_classes), constant_answer(tables.train).columns)
    wanted = np.zeros((len(tables.test_ids), tables.num_classes), bool)
    wanted[range(len(wanted)), np.arange(len(wanted)) % tables.num_classes] = True
    wanted[bad] = constant
    assert (answer.y_pred == wanted).all()
    assert len(answer.scores.ids) == len(tables.test_ids) - 2


def test_another_collection_is_refused_before_a_picture_is_opened(museum, monkeypatch):
    tables = read_collection(museum)
    trained = stand_in(tables, [])
    trained.class_names = (*tables.class_names[:-1], "tag::new")
    monkeypatch.setattr("imetlib.inference.check_images", None)
    with pytest.raises(ValueError, match=f"{tables.num_classes - 1:,} of them the same"):
        answer_pictures(trained, tables)


def test_nothing_to_answer_and_nothing_to_hold_are_refused(museum, tmp_path):
    tables = read_collection(museum)
    with pytest.raises(ValueError, match="`at_once` must be at least 1"):
        answer_pictures(stand_in(tables, []), tables, at_once=0)
    empty = types.SimpleNamespace(class_names=tables.class_names, root=tmp_path, test_ids=[])
    with pytest.raises(ValueError, match="has no test pictures"):
        answer_pictures(stand_in(tables, []), empty)
