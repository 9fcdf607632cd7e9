import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import fork_killed_at_line

from imetlib.collection.csvfiles import CollectionError
from imetlib.collection.labels import make_label_table, read_label_table
from imetlib.delivery.submission import (
    SubmissionError,
    check_submission,
    verify_submission,
    write_submission,
)

DATA = os.environ.get("IMETLIB_DATA")
IDS = [f"10004830{row:08x}" for row in range(8)]
# Verdicts of the corpus: what the message must say, None where the file is good.
VERDICTS = {
    "good": None,
    "good_other_order": None,
    "missing_id": "1 id of the sample missing: 1000483014d9f0e9",
    "duplicate_id": "id 1000483014d91860: on lines 2 and 10",
    "missing_and_extra": "the count of the ids is right, the set is not",
    "label_twice": "line 2, id 1000483014d91860: label 400 twice",
    "comma_separated_labels": "line 2, id 1000483014d91860: 3 fields",
    "nan_text": "line 2, id 1000483014d91860: label nan",
    "probabilities": "line 2, id 1000483014d91860: label 0.91",
    "wrong_header": "expected the columns id, attribute_ids. Received: Id, Predicted",
    "bom": "byte order mark",
    "cut": "4 ids of the sample missing",
    "empty": "the file is empty",
    "uppercase_ids": "by case, first uppercase_ids.csv, line 2, id 1000483014D91860",
}


def rows_of(ids=IDS):
    return [f"{sample_id},{row} 40{row}" for row, sample_id in enumerate(ids)]


def write_text(path: Path, rows, header="id,attribute_ids", end="\n") -> Path:
    path.write_text("\n".join([header, *rows]) + end, encoding="utf-8")
    return path


@pytest.fixture
def sample(tmp_path):
    return write_text(tmp_path / "sample_submission.csv", [f"{i},0 1 2" for i in IDS])


@pytest.mark.skipif(DATA is None, reason="IMETLIB_DATA is not set")
@pytest.mark.parametrize("name", VERDICTS)
def test_verdicts_of_the_corpus(name):
    folder = Path(DATA or "") / "bad_inputs" / "tables" / "submissions"
    faults = verify_submission(folder / f"{name}.csv", folder / "sample_submission.csv", 1103)
    if VERDICTS[name] is None:
        assert faults == []
    else:
        assert VERDICTS[name] in "\n".join(faults)
    with (folder.parent / "MANIFEST.csv").open(newline="") as file:
        listed = {row[0] for row in csv.reader(file) if row[1] == "submission"}
    assert listed == {f"submissions/{known}.csv" for known in VERDICTS}, "a file has no verdict"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_of()[:-1], f"1 id of the sample missing: {IDS[-1]}"),
        ([*rows_of(), rows_of()[0]], f"id {IDS[0]}: on lines 2 and 10"),
        ([*rows_of()[:-1], "ffff,1"], "1 id not in the sample: answer.csv, line 9, id ffff"),
        ([*rows_of()[:-1], "ffff,1"], "the count of the ids is right, the set is not"),
        ([f"{IDS[0]},400 400", *rows_of()[1:]], f"line 2, id {IDS[0]}: label 400 twice"),
        ([f"{IDS[0]},0,400", *rows_of()[1:]], f"line 2, id {IDS[0]}: 3 fields, wanted 2"),
        ([f"{IDS[0]},nan", *rows_of()[1:]], f"line 2, id {IDS[0]}: label nan"),
        ([f"{IDS[0]},0.91 0.22", *rows_of()[1:]], f"line 2, id {IDS[0]}: label 0.91"),
        ([f"{IDS[0]},1103", *rows_of()[1:]], f"line 2, id {IDS[0]}: label 1103 is not in 0..1102"),
        ([f"{IDS[0]},", *rows_of()[1:]], f"line 2, id {IDS[0]}: no labels"),
        ([f"{IDS[0]} ,1", *rows_of()[1:]], "line 2: an id with a blank at its edge"),
        (rows_of([i.upper() + "A" for i in IDS]), "8 ids not in the sample: answer.csv, line 2"),
        ([*rows_of()[:4], IDS[4][:9]], f"line 6, id {IDS[4][:9]}: 1 field"),
        ([*rows_of()[:4], IDS[4][:9]], "4 ids of the sample missing"),
    ],
)
def test_faults_name_line_and_id(tmp_path, sample, rows, message):
    path = write_text(tmp_path / "answer.csv", rows)
    assert message in "\n".join(verify_submission(path, sample, 1103))


def test_ids_that_differ_by_case(tmp_path):
    wanted = ["aa", "bb"]
    path = write_text(tmp_path / "answer.csv", ["AA,1", "BB,2"])
    assert verify_submission(path, wanted, 3) == [
        "2 ids differ from the sample by case, first answer.csv, line 2, id AA: the sample has aa"
    ]


def test_bad_files(tmp_path, sample):
    path = tmp_path / "answer.csv"
    assert verify_submission(path, sample, 9) == ["the file is missing"]
    path.write_bytes(b"")
    assert "the file is empty" in verify_submission(path, sample, 9)[0]
    write_text(path, rows_of(), header="Id,Predicted")
    assert "Received: Id, Predicted" in verify_submission(path, sample, 999)[0]
    path.write_bytes(b"\xef\xbb\xbf" + write_text(path, rows_of()).read_bytes())
    assert verify_submission(path, sample, 999) == [
        "line 1: a byte order mark before the header; save as plain UTF-8"
    ]
    with pytest.raises(CollectionError, match=r"no_sample\.csv: the file is missing"):
        check_submission(path, tmp_path / "no_sample.csv", 999)


def test_harmless_oddities_are_said(tmp_path, sample):
    rows = rows_of()[::-1]
    rows[2] += " "
    rows[3] = rows[3].replace(" ", "  ")
    check = check_submission(write_text(tmp_path / "a.csv", rows, end=""), sample, 999)
    assert check.faults == ()
    assert (check.num_rows, check.num_labels) == (8, 16)
    order, blanks, end = check.notes
    assert "row order differs from the sample" in order
    assert blanks.startswith("lines 4, 5: more blanks than one")
    assert "the last line has no end" in end
    assert check_submission(write_text(tmp_path / "a.csv", rows_of()), sample, 999).notes == ()


@given(st.permutations(range(8)), st.data())
@settings(deadline=None, max_examples=30)
def test_written_and_read_back(tmp_path_factory, order, data):
    folder = tmp_path_factory.mktemp("submission")
    wanted = write_text(folder / "sample_submission.csv", [f"{i},0" for i in IDS])
    sets = st.sets(st.integers(0, 11), min_size=1)
    columns = [np.array(sorted(data.draw(sets))) for _ in order]
    ids = [IDS[row] for row in order]
    dense = np.zeros((8, 12), bool)
    for row, labels in enumerate(columns):
        dense[row, labels] = True
    path = folder / "submission.csv"
    forms = (dense, make_label_table(ids, columns, 12), columns)
    for y_pred in forms:
        check = write_submission(path, ids, y_pred, wanted, num_classes=12, overwrite=True)
        assert check.notes == check.faults == ()
        table = read_label_table(path, 12)
        assert table.ids.tolist() == IDS, "rows must come in the order of the sample"
        np.testing.assert_array_equal(table.dense()[order], dense)


@pytest.mark.parametrize(
    ("ids", "y_pred", "message"),
    [
        (IDS[:-1], np.ones((7, 3)), "1 id of the sample missing"),
        ([*IDS, "ffff"], np.ones((9, 3)), "1 id not in the sample: id ffff"),
        ([*IDS[:-1], IDS[0]], np.ones((8, 3)), f"id {IDS[0]} twice in `ids`"),
        (IDS, np.ones((7, 3)), "8 ids for 7 rows"),
        (IDS, np.zeros((8, 3)), f"id {IDS[0]}: no labels; decide with min_labels=1"),
        (IDS, np.full((8, 3), 0.3), "decide with a threshold first"),
        (IDS, np.full((8, 3), np.nan), "must hold 0 and 1 only"),
        (IDS, [np.array([0])] * 8, "`num_classes` is needed"),
    ],
)
def test_bad_answers_write_nothing(tmp_path, sample, ids, y_pred, message):
    path = tmp_path / "out" / "submission.csv"
    with pytest.raises(ValueError, match=message):
        write_submission(path, ids, y_pred, sample)
    assert not path.exists()


def test_label_out_of_range_is_named(tmp_path, sample):
    columns = [np.array([0])] * 7 + [np.array([5])]
    with pytest.raises(SubmissionError, match=f"id {IDS[7]}: label 5 is not in 0..4"):
        write_submission(tmp_path / "submission.csv", IDS, columns, sample, num_classes=5)


def test_existing_file_stays_unless_told(tmp_path, sample):
    path = tmp_path / "submission.csv"
    path.write_text("mine")
    with pytest.raises(SubmissionError, match="exists already; give another name"):
        write_submission(path, IDS, np.eye(8), sample)
    assert path.read_text() == "mine"
    write_submission(path, IDS, np.eye(8), sample, overwrite=True)
    assert path.read_text().splitlines()[1] == f"{IDS[0]},0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_line_leaves_the_old_file_or_the_new(tmp_path, sample):
    """SIGKILL before each line of the writer, as a full stop of the machine would."""
    path = tmp_path / "out" / "submission.csv"
    write_submission(path, IDS, np.eye(8), sample)
    old = path.read_bytes()
    new_answer = np.roll(np.eye(8), 1, axis=1)
    write_submission(tmp_path / "new.csv", IDS, new_answer, sample)
    new = (tmp_path / "new.csv").read_bytes()
    seen = set()
    for line in range(1, 1000, 3):
        ended = fork_killed_at_line(
            line,
            ("submission.py", "files.py"),
            lambda: write_submission(path, IDS, new_answer, sample, overwrite=True),
        )
        seen.add(path.read_bytes())
        assert seen <= {old, new}
        if ended:
            break
    assert ended, "the writer never came to its end"
    assert seen == {old, new}


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_full_disk_leaves_the_old_file(tmp_path):
    ids = [f"{row:016x}" for row in range(400)]
    write_text(tmp_path / "sample_submission.csv", [f"{i},0" for i in ids])
    path = tmp_path / "submission.csv"
    path.write_text("old")
    code = (
        "import numpy as np, resource, signal\n"
        "from imetlib.delivery.submission import write_submission\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "ids = [f'{row:016x}' for row in range(400)]\n"
        "write_submission('submission.csv', ids, np.ones((400, 5)), 'sample_submission.csv',"
        " overwrite=True)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert "File too large" in finished.stderr
    assert path.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "sample_submission.csv",
        "submission.csv",
    ]
