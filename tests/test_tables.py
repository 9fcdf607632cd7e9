"""Tables are read as text, every fault is named, and labels stay sparse."""

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.collection.csvfiles import read_table
from imetlib.collection.tables import (
    CollectionError,
    make_label_table,
    read_collection,
    read_label_table,
)

DATA = os.environ.get("IMETLIB_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="IMETLIB_DATA is not set")
GOOD = b"id,attribute_ids\na1,147 616 813\nb2,51 616\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.fixture
def collection_folder(tmp_path):
    """Three training pictures, two test pictures, three attributes; the files are empty."""
    root = tmp_path / "museum"
    write(root / "train.csv", "id,attribute_ids\n001,2 0\n002,1\n003,0\n")
    write(root / "labels.csv", 'attribute_id,attribute_name\n0,a::x\n1,"a::y, z"\n2,b::x\n')
    write(root / "sample_submission.csv", "id,attribute_ids\n1e5,0\nNA,0\n")
    write(root / "specimens.csv", "id,specimen\n003,7\n002,vase\n001,7\n")
    for name in ("train/001.jpg", "train/002.PNG", "train/003.webp", "test/1e5.jpg", "test/NA.jpg"):
        write(root / name, "")
    return root


def faults_of(root, **arguments):
    with pytest.raises(CollectionError) as caught:
        read_collection(root, **arguments)
    return caught.value.faults


# Label tables: text, rows that come out (ids and labels).
ACCEPTED = {
    "plain": (GOOD, {"a1": [147, 616, 813], "b2": [51, 616]}),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, {"a1": [147, 616, 813], "b2": [51, 616]}),
    "no last newline": (GOOD[:-1], {"a1": [147, 616, 813], "b2": [51, 616]}),
    "windows lines": (GOOD.replace(b"\n", b"\r\n"), {"a1": [147, 616, 813], "b2": [51, 616]}),
    "quoted": (b'"id","attribute_ids"\n"a1","3 1"\n', {"a1": [1, 3]}),
    "digits": (b"id,attribute_ids\n0012345678901234,1\n", {"0012345678901234": [1]}),
    "like floats": (b"id,attribute_ids\n1e50000000000000,1\n", {"1e50000000000000": [1]}),
    "like nothing": (
        b"id,attribute_ids\nNA,1\nnull,2\nnan,3\n",
        {"NA": [1], "null": [2], "nan": [3]},
    ),
    "double blank": (b"id,attribute_ids\na1,1  2 \n", {"a1": [1, 2]}),
    "other letters": ("id,attribute_ids\nVase ähnlich,1\n".encode(), {"Vase ähnlich": [1]}),
}

# Label tables: text and what the message must say.
REFUSED = {
    "empty": (b"", "the file is empty"),
    "blank": (b"\n \n", "the file is empty"),
    "no header": (GOOD[17:], "line 1: expected the columns id, attribute_ids. Received: a1, 147"),
    "header case": (b"Id,Attribute_Ids\na1,1\n", "Received: Id, Attribute_Ids. Names count"),
    "semicolons": (
        b"id;attribute_ids\na1;1\n",
        "Received: id;attribute_ids. The delimiter is a semi",
    ),
    "three fields": (b"id,attribute_ids\na1,1,2\n", "line 2, id a1: 3 fields, wanted 2"),
    "one field": (b"id,attribute_ids\na1\nb2,3\n", "line 2, id a1: 1 field, wanted 2"),
    "blank line": (b"id,attribute_ids\na1,1\n\nb2,3\n", "line 3: a blank line"),
    "label twice": (b"id,attribute_ids\na1,2 3 2\n", "line 2, id a1: label 2 twice"),
    "label too large": (
        b"id,attribute_ids\na1,1 1103\n",
        "line 2, id a1: label 1103 is not in 0..1102",
    ),
    "huge label": (
        b"id,attribute_ids\na1,99999999999999999999\n",
        "line 2, id a1: label 99999999999",
    ),
    "label word": (b"id,attribute_ids\na1,1 x\n", "line 2, id a1: label x"),
    "label float": (b"id,attribute_ids\na1,1.0 2\n", "line 2, id a1: label 1.0"),
    "label minus": (b"id,attribute_ids\na1,-1\n", "line 2, id a1: label -1"),
    "label zero": (b"id,attribute_ids\na1,01\n", "line 2, id a1: label 01"),
    "label tab": (b"id,attribute_ids\na1,1\t2\n", "line 2, id a1: label 1\t2"),
    "other digits": ("id,attribute_ids\na1,٣\n".encode(), "line 2, id a1: label ٣"),
    "no labels": (b"id,attribute_ids\na1,1\nb2,\n", "line 3, id b2: no labels"),
    "nul": (b"id,attribute_ids\na1,1\x002\n", "line 2: a NUL byte"),
    "utf-16": (GOOD.decode().encode("utf-16"), "line 1: not UTF-8 but UTF-16"),
    "latin-1": (b"id,attribute_ids\na1,1\nm\xfcnze,1\n", "line 3: not UTF-8"),
    "open quote": (b'id,attribute_ids\n"a1,1\nb2,3\n', "line 2: a quote that is not closed"),
    "stray quote": (b'id,attribute_ids\na0,1\n"a"1,1\n', "line 3: ',' expected after"),
    "id empty": (b"id,attribute_ids\n,1\n", "line 2: an empty id"),
    "id blank": (b"id,attribute_ids\n a1,1\n", "line 2: an id with a blank at its edge"),
    "id path": (b"id,attribute_ids\n../a1,1\n", "line 2: an id with a path separator"),
    "id windows path": (b"id,attribute_ids\nb\\a1,1\n", "line 2: an id with a path separator"),
    "id quote": (b'id,attribute_ids\na1",1\n', "line 2: an id with a quote"),
    "id hidden": (b"id,attribute_ids\n.a1,1\n", "line 2: an id that begins with a dot"),
    "id formula": (b"id,attribute_ids\n=1+1,1\n", "line 2: an id that a spreadsheet"),
    "id two lines": (b'id,attribute_ids\n"a\n1",1\n', "line 2: an id with a control character"),
    "id twice": (b"id,attribute_ids\na1,1\nb2,1\na1,2\n", "id a1: on lines 2 and 4"),
    "web page": (b"\n<!DOCTYPE html><html></html>\n", "looks like a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_label_table_is_accepted(name, tmp_path):
    content, rows = ACCEPTED[name]
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    labels = read_label_table(path, 1103)
    assert {i: labels.row(k).tolist() for k, i in enumerate(labels.ids)} == rows


@pytest.mark.parametrize("name", REFUSED)
def test_label_table_is_refused(name, tmp_path):
    content, message = REFUSED[name]
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(CollectionError) as caught:
        read_label_table(path, 1103)
    assert message in str(caught.value)
    assert "t.csv" in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CollectionError, match="missing"):
        read_label_table(tmp_path / "t.csv", 3)
    with pytest.raises(CollectionError, match="cannot be read"):
        read_table(tmp_path, ["id"])


def test_empty_rows_only_where_they_are_allowed(tmp_path):
    path = write(tmp_path / "t.csv", "id,attribute_ids\na1,1\nb2,\n")
    assert read_label_table(path, 3, allow_empty=True).labels_per_sample().tolist() == [1, 0]
    path = write(tmp_path / "t.csv", "id,attribute_ids\na1,1 x\nb2,\nc3,9\n")
    with pytest.raises(CollectionError) as caught:
        read_label_table(path, 3)
    assert len(caught.value.faults) == 3


def test_row_count_finds_a_cut_between_rows(tmp_path):
    path = write(tmp_path / "t.csv", "id,attribute_ids\na1,1\n")
    with pytest.raises(CollectionError, match="1 rows, wanted 2; is the file cut"):
        read_label_table(path, 3, expected_rows=2)


def test_all_faults_in_one_report_and_the_list_is_capped(tmp_path):
    rows = "".join(f"a{i},9\n" for i in range(30))
    path = write(tmp_path / "t.csv", f"id,attribute_ids\n{rows}b,x\nc,1,1\n")
    with pytest.raises(CollectionError) as caught:
        read_label_table(path, 3)
    error = caught.value
    assert len(error.faults) == 32
    assert str(error).startswith(f"{path}: 32 faults\n")
    assert str(error).count("\n") == 21
    assert str(error).endswith("... and 12 more")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_lines_are_those_of_the_file(tmp_path):
    path = write(tmp_path / "t.csv", 'id,note\na,"two\nlines"\nb,one\n')
    table = read_table(path, ["id", "note"])
    assert table.lines == [2, 4]
    assert table.place(1) == "t.csv, line 4, id b"
    assert not table.byte_order_mark


def read_naively(content: bytes):
    lines = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rows = [line.split(",") for line in lines[1:] if line]
    return {row[0].strip('"'): sorted(map(int, row[1].strip('"').split())) for row in rows}


@settings(max_examples=1_000, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)),
            st.integers(0, 2),
            st.sampled_from([bytes([b]) for b in b'\0\t\n\r "+,-./019;=ax\xef\xff']),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_damaged_table_is_read_right_or_refused(tmp_path_factory, edits):
    content = GOOD
    for start, removed, inserted in edits:
        content = content[:start] + inserted + content[start + removed :]
    path = tmp_path_factory.mktemp("damaged") / "t.csv"
    path.write_bytes(content)
    try:
        labels = read_label_table(path, 1103)
    except CollectionError as error:
        assert "t.csv" in str(error)
    else:
        got = {i: labels.row(k).tolist() for k, i in enumerate(labels.ids)}
        assert got == read_naively(content)


@given(
    st.integers(1, 6).flatmap(
        lambda classes: st.tuples(
            st.just(classes), st.lists(st.sets(st.integers(0, classes - 1)), max_size=8)
        )
    ),
    st.data(),
)
def test_label_table_agrees_with_a_dense_matrix(problem, data):
    num_classes, rows = problem
    matrix = np.zeros((len(rows), num_classes), bool)
    for i, columns in enumerate(rows):
        matrix[i, list(columns)] = True
    labels = make_label_table([f"p{i}" for i in range(len(rows))], rows, num_classes)
    assert len(labels) == len(rows)
    np.testing.assert_array_equal(labels.dense(), matrix)
    np.testing.assert_array_equal(labels.counts(), matrix.sum(axis=0))
    np.testing.assert_array_equal(labels.labels_per_sample(), matrix.sum(axis=1))
    if rows:
        chosen = np.array(data.draw(st.lists(st.integers(-len(rows), len(rows) - 1))), int)
        np.testing.assert_array_equal(labels.dense(chosen, np.float32), matrix[chosen])
        assert labels.take(chosen).ids.tolist() == labels.ids[chosen].tolist()
        mask = np.arange(len(rows)) % 2 == 0
        np.testing.assert_array_equal(labels.take(mask).dense(), matrix[mask])
        np.testing.assert_array_equal(labels.row(-1), np.flatnonzero(matrix[-1]))


def test_rows_of_ids_in_their_order_and_a_missing_one_by_name():
    labels = make_label_table(["a", "b", "c"], [[0], [1], [2]], 3)
    assert labels.rows_of(["c", "a", "c"]).tolist() == [2, 0, 2]
    assert labels.take([2, 0]).rows_of(["a"]).tolist() == [1]
    with pytest.raises(ValueError, match=r"lacks 2 of the ids asked for\n  x\n  y"):
        labels.rows_of(["a", "x", "y"])


@pytest.mark.parametrize("row", [[3], [-1], [1, 1]])
def test_make_label_table_refuses_wrong_columns(row):
    with pytest.raises(ValueError, match=r"id a must be different columns in 0..2"):
        make_label_table(["a"], [row], 3)
    with pytest.raises(ValueError, match="differ in length"):
        make_label_table(["a"], [[0], [1]], 3)


def test_collection(collection_folder):
    museum = read_collection(collection_folder)
    assert museum.class_names == ("a::x", "a::y, z", "b::x")
    assert museum.num_classes == 3
    assert {name: columns.tolist() for name, columns in museum.groups.items()} == {
        "a": [0, 1],
        "b": [2],
    }
    assert museum.train.ids.tolist() == ["001", "002", "003"]
    assert museum.train.row(0).tolist() == [0, 2]
    assert museum.test_ids.tolist() == ["1e5", "NA"]
    assert museum.specimens.tolist() == [0, 1, 0]
    assert museum.picture_path("train", "002") == collection_folder / "train/002.PNG"
    with pytest.raises(CollectionError, match="train/nobody: no such picture"):
        museum.picture_path("train", "nobody")
    with pytest.raises(ValueError, match='"train" or "test"'):
        museum.picture_path("val", "001")


def test_hash_follows_the_tables(collection_folder):
    before = read_collection(collection_folder).sha256
    assert read_collection(collection_folder).sha256 == before
    write(collection_folder / "train/004.jpg", "not in the table")
    assert read_collection(collection_folder).sha256 == before
    write(collection_folder / "specimens.csv", "id,specimen\n003,7\n002,6\n001,7\n")
    assert read_collection(collection_folder).sha256 != before


def test_optional_tables_may_be_missing(collection_folder):
    for name in ("sample_submission.csv", "specimens.csv"):
        (collection_folder / name).unlink()
    write(collection_folder / "test/.DS_Store", "")
    write(collection_folder / "test/notes.txt", "")
    museum = read_collection(collection_folder)
    assert museum.test_ids.tolist() == ["1e5", "NA"]
    assert museum.specimens is None
    for picture in (collection_folder / "test").iterdir():
        picture.unlink()
    assert len(read_collection(collection_folder).test_ids) == 0


def test_names_may_have_quotes_that_are_written_twice(collection_folder):
    rows = '0,a::x\n1,"a::5"" plate"\n2,"b::the ""so"""\n'
    write(collection_folder / "labels.csv", f"attribute_id,attribute_name\n{rows}")
    names = read_collection(collection_folder).class_names
    assert names == ("a::x", 'a::5" plate', 'b::the "so"')


def test_column_is_label_id_whatever_the_order(collection_folder):
    write(collection_folder / "labels.csv", "attribute_id,attribute_name\n2,b::x\n0,a::x\n1,a::y\n")
    assert read_collection(collection_folder).class_names == ("a::x", "a::y", "b::x")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,a::x\n1,a::y\n3,b::x\n", "must be 0..2 without a gap"),
        ("0,a::x\n1,a::y\n1,b::x\n", "line 4: attribute_id 1 twice"),
        ("0,a::x\n1,a::x\n2,b::x\n", "line 3: attribute_name a::x stands on line 2 already"),
        ("0,a::x\n1,y\n2,b::x\n", "line 3: attribute_name must be written group::name"),
        ("0,a::x\n1,a::\n2,b::x\n", "line 3: attribute_name must be written group::name"),
        (
            "0,a::x\n1.0,a::y\n2,b::x\n",
            "line 3: attribute_id must be a whole number. Received: 1.0",
        ),
        ("0,a::x\n1,a::y, z\n2,b::x\n", "line 3: 3 fields, wanted 2"),
        ('0,a::x\n1,a::y"\n2,b::x\n', "line 3: a quote in a field; is one missing"),
        ('0,a::x\n1,a::"y"\n2,b::x\n', "line 3: a quote in a field; is one missing"),
        ("", "no rows below the header"),
    ],
)
def test_labels_csv_is_refused(collection_folder, rows, message):
    write(collection_folder / "labels.csv", f"attribute_id,attribute_name\n{rows}")
    faults = faults_of(collection_folder)
    assert message in faults[0]
    assert "labels.csv" in faults[0]


@pytest.mark.parametrize(
    "name", ["train.csv", "labels.csv", "sample_submission.csv", "specimens.csv"]
)
def test_a_table_of_faulty_rows_alone_is_no_missing_table(collection_folder, name):
    header = (collection_folder / name).read_text().splitlines()[0]
    write(collection_folder / name, f"{header}\n001,1,2\n002\n")
    faults = faults_of(collection_folder)
    assert f"{name}, line 2" in faults[0] and "3 fields, wanted 2" in faults[0]
    assert f"{name}, line 3" in faults[1] and "1 field, wanted 2" in faults[1]


@pytest.mark.parametrize("name", ["train.csv", "labels.csv"])
def test_missing_table_names_the_cure(collection_folder, name):
    (collection_folder / name).unlink()
    with pytest.raises(CollectionError, match=rf"{name}, the file is missing; data/README.md"):
        read_collection(collection_folder)


def test_missing_folder_names_the_cure(tmp_path):
    with pytest.raises(CollectionError, match=r"no such folder; data/README.md .* iMet 2019"):
        read_collection(tmp_path / "nothing")


def test_id_in_train_and_test(collection_folder):
    write(collection_folder / "sample_submission.csv", "id,attribute_ids\n002,0\n")
    assert "train.csv, id 002: is a test picture too" in faults_of(collection_folder)[0]


def test_specimens_must_be_the_training_pictures(collection_folder):
    write(collection_folder / "specimens.csv", "id,specimen\n001,7\n009,1\n003,\n")
    faults = faults_of(collection_folder)
    assert [fault.split(";")[0] for fault in faults] == [
        "specimens.csv, line 4, id 003: an empty specimen",
        "specimens.csv, id 002: missing, though train.csv has it",
        "specimens.csv, line 3, id 009: not in train.csv",
    ]


def test_faults_of_all_tables_come_together(collection_folder):
    write(collection_folder / "train.csv", "id,attribute_ids\n001,7\n002,1\n003,0\n")
    write(collection_folder / "sample_submission.csv", "id,attribute_ids\nx/y,0\n")
    (collection_folder / "labels.csv").write_bytes(b"")
    text = "\n".join(faults_of(collection_folder))
    assert "labels.csv, the file is empty" in text
    assert "sample_submission.csv, line 2: an id with a path separator" in text


def test_missing_pictures_are_all_named(collection_folder):
    for name in ("train/001.jpg", "train/003.webp", "test/NA.jpg"):
        (collection_folder / name).unlink()
    write(collection_folder / "train/002.gif", "")
    with pytest.raises(CollectionError) as caught:
        read_collection(collection_folder)
    assert caught.value.faults == (
        "train/001: no such picture",
        "train/003: no such picture",
        "train/, id 002: 002.PNG and 002.gif; keep one of them",
        "test/NA: no such picture",
    )
    assert "data/README.md" in str(caught.value)
    assert len(read_collection(collection_folder, require_pictures=False).train) == 3


def test_test_pictures_have_safe_names(collection_folder):
    (collection_folder / "sample_submission.csv").unlink()
    write(collection_folder / "test/=a.jpg", "")
    assert "test/=a: an id that a spreadsheet" in faults_of(collection_folder)[0]


def label_table_verdicts():
    if not DATA:
        return []
    with (Path(DATA) / "bad_inputs/tables/MANIFEST.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["kind"] == "labels table"]


@needs_data
@pytest.mark.parametrize("row", label_table_verdicts(), ids=lambda row: row["file"])
def test_corpus_of_tables(row):
    path = Path(DATA) / "bad_inputs/tables" / row["file"]
    if row["verdict"].startswith("refuse"):
        with pytest.raises(CollectionError) as caught:
            read_label_table(path, 1103)
        said = str(caught.value).replace(", id", " id")
        start = row["the message must say / the reading must be"].split(":")[0].split(",")[0]
        assert row["file"] in said
        if start.startswith("line 2"):
            assert start in said
    else:
        assert len(read_label_table(path, 1103, allow_empty="test table" in row["verdict"])) > 0
        if "refuse in a train table" in row["verdict"]:
            with pytest.raises(CollectionError, match="line 3, id a000000000000002: no labels"):
                read_label_table(path, 1103)


FULL_SIZE = """
import json, re, resource, sys, time
start = time.process_time()
from imetlib.collection.folds import fold_report, make_folds
from imetlib.collection.tables import read_collection
imet = read_collection(sys.argv[1], require_pictures=False)
folds = make_folds(imet.train, 5)
report = fold_report(imet.train, folds)
try:  # ru_maxrss of a child begins with what its parent held
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({
    "shape": [len(imet.train), imet.num_classes, len(imet.test_ids)],
    "groups": {name: len(columns) for name, columns in imet.groups.items()},
    "labels": int(imet.train.indptr[-1]),
    "mean_deviation": report.mean_deviation,
    "within_one": report.within_one,
    "sizes": report.sizes.tolist(),
    "cpu_seconds": time.process_time() - start,
    "megabytes": peak,
}))
"""


@needs_data
def test_imet_2019_at_full_size():
    """Read, verify and stratify within 10 s and 1 GB, with the label spread that is possible."""
    result = subprocess.run(
        [sys.executable, "-c", FULL_SIZE, str(Path(DATA) / "imet2019")],
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(result.stdout)
    assert figures["shape"] == [109_237, 1_103, 38_801]
    assert figures["groups"] == {"culture": 398, "tag": 705}
    # 0.325512 is the floor for whole counts: the mean over labels of 2 r (5 - r) / 25.
    assert figures["mean_deviation"] == pytest.approx(0.325512, abs=1e-6)
    assert figures["within_one"] == 1.0
    assert sorted(set(figures["sizes"])) == [21_847, 21_848]
    # CPU time with twice the 10 s of slack: a busy machine makes the clock useless.
    assert figures["cpu_seconds"] < 20
    assert figures["megabytes"] < 1024
