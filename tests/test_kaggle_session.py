"""Both ends of a session on Kaggle: a run of an earlier one goes on, and the answer is found."""

import os

import pytest

from imetlib import paths
from imetlib.delivery.kaggle_session import fetch_run, hand_over, publish_submission


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Working folder of a session, with what a run has left in it."""
    working = tmp_path / "working"
    monkeypatch.setattr(paths, "KAGGLE_WORKING", working)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    run = working / "runs" / "imet" / "submission"
    run.mkdir(parents=True)
    (run / "record.json").write_text("{}")
    for name in ("pictures-train-288px", "pictures-test-288px"):
        (working / "runs" / "imet" / name).mkdir()
        (working / "runs" / "imet" / name / "pictures.bin").write_bytes(b"x" * 100)
    return working


def test_the_newest_answer_is_handed_over_and_caches_go(session):
    older, newer = session / "runs" / "imet" / "old", session / "runs" / "imet" / "submission"
    older.mkdir()
    for age, folder in ((100, older), (0, newer)):
        (folder / "submission.csv").write_text(f"id,attribute_ids\na,{age}\n")
        os.utime(folder / "submission.csv", (1e9 - age, 1e9 - age))
    done = hand_over()
    assert (session / "submission.csv").read_text() == "id,attribute_ids\na,0\n"
    assert done[0] == "submission.csv, a copy of imet/submission/submission.csv"
    assert not list(session.rglob("pictures-*")) and (newer / "record.json").is_file()


def test_a_run_without_an_answer_is_kept_for_a_later_notebook(session):
    with pytest.raises(FileNotFoundError, match=r"No submission\.csv below"):
        hand_over()
    assert len(hand_over(submit=False)) == 2
    assert not (session / "submission.csv").exists()
    assert (session / "runs/imet/submission/record.json").is_file()


def test_at_home_nothing_is_copied(tmp_path, monkeypatch):
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    monkeypatch.setattr(paths, "KAGGLE_WORKING", tmp_path)
    assert publish_submission(tmp_path / "run" / "submission.csv") is None
    assert not list(tmp_path.iterdir())


# A run of an earlier session --------------------------------------------------------------------


@pytest.fixture
def attach(session, tmp_path, monkeypatch):
    """Function that attaches the output of a notebook, which holds half a run."""
    monkeypatch.setattr(paths, "KAGGLE_INPUT", tmp_path / "input")

    def attach(place, run="runs/imet/half", content="1"):
        folder = tmp_path / "input" / place / run
        (folder / "fold1" / "checkpoints").mkdir(parents=True)
        (folder / "fold1" / "record.json").write_text(content)
        (folder / "fold1" / "checkpoints" / "state.json").write_text(content)
        for path in (folder / "fold1" / "record.json", folder / "fold1"):
            path.chmod(0o555)
        return folder

    return attach


@pytest.mark.parametrize("place", ["my-notebook", "notebooks/someone/my-notebook"])
def test_a_run_goes_on_where_it_can_be_written(session, attach, place):
    source = attach(place)
    attach("other", run="runs/imet/another-run")
    attach("again", run="runs/another-collection/half")
    folder = session / "runs" / "imet" / "half"
    assert fetch_run(folder) == f"goes on with a run of an earlier session, {source}"
    names = ["fold1/checkpoints/state.json", "fold1/record.json"]
    assert [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*.json"))] == names
    assert all(path.stat().st_mode & 0o200 for path in folder.rglob("*"))
    (folder / "fold1" / "record.json").write_text("2")
    assert fetch_run(folder) == "", "a run that is there stays as it is"
    assert (folder / "fold1" / "record.json").read_text() == "2"
    assert (source / "fold1" / "record.json").read_text() == "1"


def test_no_run_of_the_name_is_no_fault(session, attach, monkeypatch):
    attach("other", run="runs/imet/another-run")
    assert fetch_run(session / "runs" / "imet" / "half") == ""
    attach("my-notebook")
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE")
    assert fetch_run(session / "runs" / "imet" / "half") == "", "at home nothing is attached"
    assert not (session / "runs" / "imet" / "half").exists()


def test_several_runs_of_the_name_are_refused(session, attach):
    attach("first"), attach("second")
    with pytest.raises(FileNotFoundError, match=r"first/runs/imet/half, .*Attach the last one"):
        fetch_run(session / "runs" / "imet" / "half")
    assert not (session / "runs" / "imet" / "half").exists()


def test_a_copy_that_does_not_fit_is_refused_first(session, attach, monkeypatch):
    attach("first")
    usage = type("Usage", (), {"free": 1})
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(OSError, match=r"A copy of .* would take .* 20 GB"):
        fetch_run(session / "runs" / "imet" / "half")
    assert not (session / "runs" / "imet" / "half").exists()
