"""The submission of the first minute: whole at every moment, replaced only by a better one."""

import functools
import json
import os

import numpy as np
import pytest
from killing import fork_killed_at_line

from imetlib.collection.csvfiles import CollectionError
from imetlib.collection.labels import read_label_table
from imetlib.delivery.first_submission import (
    read_standing,
    replace_if_better,
    write_first_submission,
)
from imetlib.delivery.submission import SubmissionError, verify_submission

IDS = [f"{row:04x}" for row in range(6)]
# Class 2 is the most frequent one, then 0; a third label would be wrong on every row.
TRAIN = np.array([[1, 0, 1, 0], [1, 0, 1, 0], [1, 0, 1, 0], [0, 0, 1, 0]])
VAL = np.array([[1, 0, 1, 0], [0, 0, 1, 1]])


def fbeta(truth, answer):
    """F2 of two sets, from precision and recall."""
    hits = len(truth & answer)
    precision, recall = hits / len(answer), hits / len(truth)
    return 0.0 if not hits else 5 * precision * recall / (4 * precision + recall)


CONSTANT_SCORE = (fbeta({0, 2}, {0, 2}) + fbeta({2, 3}, {0, 2})) / 2


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "submission.csv"


def write_first(path):
    return write_first_submission(path, TRAIN, VAL, IDS)


def answer_with(column):
    y_pred = np.zeros((len(IDS), 4), bool)
    y_pred[:, column] = True
    return y_pred


def replace(path, column, score, **changes):
    settings = {"score": score, "source": f"network {column}", "num_classes": 4, **changes}
    return replace_if_better(path, IDS, answer_with(column), IDS, **settings)


def labels_in(path):
    assert verify_submission(path, IDS, 4) == []
    return [np.flatnonzero(row).tolist() for row in read_label_table(path, 4).dense()]


def test_first_is_the_best_constant_of_the_training_rows(path):
    standing = write_first(path)
    assert labels_in(path) == [[0, 2]] * len(IDS)
    assert standing.score == standing.constant_score == pytest.approx(CONSTANT_SCORE)
    assert standing == read_standing(path)
    assert (standing.source, standing.constant) == ("label frequencies", (0, 2))


def test_only_a_better_answer_replaces(path):
    write_first(path)
    before = path.read_bytes()
    assert not replace(path, 1, CONSTANT_SCORE), "an equal score is not better"
    assert not replace(path, 1, 0.1)
    assert path.read_bytes() == before
    assert replace(path, 3, 0.9)
    assert labels_in(path) == [[3]] * len(IDS)
    assert not replace(path, 1, 0.8), "worse than the network before"
    assert labels_in(path) == [[3]] * len(IDS)
    standing = read_standing(path)
    assert (standing.score, standing.source) == (0.9, "network 3")
    assert standing.constant_score == pytest.approx(CONSTANT_SCORE)


def test_second_session_keeps_what_the_first_wrote(path):
    write_first(path)
    replace(path, 3, 0.9)
    before = path.read_bytes()
    assert write_first(path).score == 0.9
    assert path.read_bytes() == before


def test_pictures_left_over_keep_the_constant_answer(path):
    write_first(path)
    settings = {"source": "cut", "num_classes": 4, "partial": True}
    y_pred = answer_with(3)[:4]
    with pytest.raises(SubmissionError, match="2 ids of the sample missing"):
        replace_if_better(path, IDS[:4], y_pred, IDS, **{**settings, "partial": False}, score=0.9)
    assert replace_if_better(path, IDS[:4], y_pred, IDS, **settings, score=0.9)
    assert labels_in(path) == [[3]] * 4 + [[0, 2]] * 2
    assert read_standing(path).score == pytest.approx(4 / 6 * 0.9 + 2 / 6 * CONSTANT_SCORE)


def test_a_file_of_another_hand_is_not_touched(path):
    path.parent.mkdir()
    path.write_text("mine")
    for action in (lambda: write_first(path), lambda: replace(path, 1, 0.9)):
        with pytest.raises(SubmissionError, match="does not tell by which score it stands"):
            action()
    assert path.read_text() == "mine"
    path.unlink()
    with pytest.raises(SubmissionError, match="write_first_submission makes one"):
        replace(path, 1, 0.9)
    write_first(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(SubmissionError, match="move it away"):
        read_standing(path)


def test_a_submission_of_another_sample_is_refused(path):
    write_first(path)
    with pytest.raises(SubmissionError, match="1 id of the sample missing: ffff"):
        write_first_submission(path, TRAIN, VAL, [*IDS, "ffff"])


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1])
def test_bad_scores_are_refused(path, score):
    write_first(path)
    with pytest.raises(ValueError, match=r"`score` must lie in \[0, 1\]"):
        replace(path, 1, score)


def test_bad_answers_write_nothing(path):
    write_first(path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    empty = answer_with(1)
    empty[2] = False
    with pytest.raises(SubmissionError, match=rf"submission\.csv: id {IDS[2]}: no labels") as error:
        replace_if_better(path, IDS, empty, IDS, score=0.9, source="", num_classes=4)
    assert error.value.where == str(path), "the reader knows no temporary file"
    with pytest.raises(SubmissionError, match="6 ids for 5 rows"):
        replace_if_better(path, IDS, empty[:5], IDS, score=0.9, source="", num_classes=4)
    with pytest.raises(CollectionError, match="the file is missing"):
        write_first_submission(path, TRAIN, VAL, path.with_name("no_sample.csv"))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_json_is_readable_by_anyone(path):
    write_first(path)
    (entry,) = json.loads(path.with_suffix(".json").read_text())["standings"]
    assert set(entry) == {"score", "source", "sha256", "constant_score", "constant", "num_networks"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("first", [True, False])
def test_killed_at_any_line_leaves_a_whole_file_that_tells_its_score(tmp_path, first):
    """SIGKILL before lines of the writers; afterwards the next session goes on by itself."""
    seen = set()
    for line in range(1, 2000, 7):
        path = tmp_path / str(line) / "submission.csv"
        if not first:
            write_first(path)
        ended = fork_killed_at_line(
            line,
            ("first_submission.py", "submission.py", "files.py"),
            functools.partial(write_first, path)
            if first
            else functools.partial(replace, path, 3, 0.9),
        )
        if path.exists():
            score = read_standing(path).score
            assert labels_in(path) == [[3] if score == 0.9 else [0, 2]] * len(IDS)
        else:
            assert first, "the old submission must stay until there is a new one"
            score = None
        seen.add(score)
        write_first(path)
        assert replace(path, 3, 0.9) == (score != 0.9)
        assert read_standing(path).score == 0.9
        if ended:
            break
    assert ended, "the writer never came to its end"
    assert len(seen) == 2
