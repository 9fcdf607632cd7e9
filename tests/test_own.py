"""A table and a folder of the user's own: what becomes of them, and what is refused."""

import csv
import json
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imetlib.__main__ import main
from imetlib.collection.csvfiles import CollectionError
from imetlib.collection.dates import parse_period
from imetlib.collection.own import plan_collection
from imetlib.collection.own_files import write_collection
from imetlib.collection.own_pictures import PictureIndex, make_ids
from imetlib.collection.own_rows import OwnColumns
from imetlib.collection.own_table import clean_text, name_attribute, read_own_table, split_list
from imetlib.collection.prepared import prepare_collection
from imetlib.collection.tables import read_collection
from imetlib.profiles import get_profile


def save_pictures(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 36, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def write_rows(path, *rows, delimiter=",", encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def plan_of(table, pictures, columns, **settings):
    settings = {"min_count": 1} | settings
    return plan_collection(read_own_table(table), PictureIndex(pictures), columns, **settings)


def names_by_id(collection):
    """Id to the set of names, of the training pictures."""
    return {
        sample_id: {collection.class_names[column] for column in collection.train.row(row)}
        for row, sample_id in enumerate(collection.train.ids)
    }


@pytest.fixture
def pictures(tmp_path):
    return save_pictures(tmp_path / "pictures", "a.jpg", "b.png", "c.jpg")


# Dates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "decade", "century"),
    [
        ("1887", "1880s", "19th"),
        ("1887.0", "1880s", "19th"),
        ("ca. 1650", "1650s", "17th"),
        ("c1650", "1650s", "17th"),
        ("1650 (?)", "1650s", "17th"),
        ("1650-1660", "", "17th"),
        ("1650\u201359", "1650s", "17th"),
        ("1899-1901", "", ""),
        ("1650s", "1650s", "17th"),
        ("1600s", "", "17th"),
        ("17th century", "", "17th"),
        ("late 19th c.", "", "19th"),
        ("2nd half of the 17th century", "", "17th"),
        ("17th\u201318th century", "", ""),
        ("1699", "1690s", "17th"),
        ("1700", "1700s", "18th"),
        ("between 1882 and 1889", "1880s", "19th"),
        ("12 May 1887", "1880s", "19th"),
        ("May 12, 1887", "1880s", "19th"),
        ("1887-05-12", "1880s", "19th"),
        ("+1887-00-00T00:00:00Z", "1880s", "19th"),
        ("1887-05", "1880s", "19th"),  # a month
        ("1887-92", "", "19th"),  # a span
        ("1901-12", "", "20th"),  # may be either
        ("500 BC", "", "5th bc"),
        ("5th century B.C.", "", "5th bc"),
        ("1st century", "", "1st"),
        ("A.D. 80", "80s", "1st"),
        ("11th century", "", "11th"),
        ("21st century", "", "21st"),
        ("made 1650", "1650s", "17th"),
    ],
)
def test_date_is_brought_to_decade_and_century(text, decade, century):
    period = parse_period(text)
    assert (period.decade, period.century) == (decade, century)


@pytest.mark.parametrize(
    "text",
    ["", "n.d.", "undated", "before 1650", "after 1700", "12", "9999", "1660-1650", "30 BC-AD 14",
     "Ming dynasty", "1650 and later", "18870", "0", "Edo period (1615-1868)"],
)  # fmt: skip
def test_date_that_is_not_understood_is_none(text):
    assert parse_period(text) is None


def test_every_year_has_its_own_decade_and_century():
    for year in range(100, 2101):
        period = parse_period(str(year))
        assert period.decade == f"{year - year % 10}s"
        assert int(re.match(r"\d+", period.century)[0]) == year // 100 + 1


def test_spans_have_a_decade_only_within_one():
    """The definition, year by year."""
    for first in range(1648, 1662):
        for last in range(first, 1712, 3):
            period = parse_period(f"{first}-{last}")
            decades = {year // 10 for year in range(first, last + 1)}
            centuries = {year // 100 for year in range(first, last + 1)}
            assert bool(period.decade) == (len(decades) == 1)
            assert bool(period.century) == (len(centuries) == 1)


# Tables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "delimiter", "encoding"),
    [("t.csv", ",", "utf-8"), ("t.csv", ";", "utf-8-sig"), ("t.txt", "\t", "utf-8"),
     ("t.tsv", "\t", "utf-8")],
)  # fmt: skip
def test_delimiters_and_byte_order_marks(tmp_path, name, delimiter, encoding):
    rows = [["file", "Titre, \u00e9tat"], ["a.jpg", "x, y; z"], ["", ""], ["b.jpg", "two\nlines"]]
    table = read_own_table(
        write_rows(tmp_path / name, *rows, delimiter=delimiter, encoding=encoding)
    )
    assert list(table.columns) == ["file", "Titre, \u00e9tat"]
    assert table.columns["Titre, \u00e9tat"] == ["x, y; z", "two\nlines"]
    assert table.lines == [2, 4]


def test_lines_count_those_within_quotes(tmp_path, pictures):
    table = write_rows(
        tmp_path / "t.csv", ["file", "tag"], ["a.jpg", "x\ny"], ["b.png", "x"], ["b.png", "y"]
    )
    with pytest.raises(CollectionError, match=r"t\.csv, line 5: b\.png stands on line 4 already"):
        plan_of(table, pictures, OwnColumns("file", groups={"tag": "tag"}))


def test_columns_are_found_without_their_case(tmp_path):
    table = read_own_table(write_rows(tmp_path / "t.csv", ["Object ID ", "Tags"], ["1", "x"]))
    assert table.find_column("object id") == "Object ID"
    with pytest.raises(ValueError, match=r"no column 'medium'\. It has: Object ID, Tags"):
        table.find_column("medium")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "the file is empty"),
        (b"<!doctype html><p>", "looks like a web page"),
        ("file,tag\na.jpg,caf\u00e9\n".encode("cp1252"), "line 2: not UTF-8"),
        (b'file,tag\na.jpg,"x\nb.png,y\n', "a quote that is not closed"),
        (b"file,tag,tag\n", "column tag twice"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, content, match):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(CollectionError, match=match):
        read_own_table(tmp_path / "t.csv")


def test_excel_without_its_package_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install openpyxl\)\. Or save the sheet as CSV"):
        read_own_table(tmp_path / "t.xlsx")


def test_excel_is_read_as_text(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Object ID", "Date", "Note"], [7, 1887, None], ["007", "ca. 1650", "NA"]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    table = read_own_table(tmp_path / "t.xlsx")
    assert table.columns == {
        "Object ID": ["7", "007"], "Date": ["1887", "ca. 1650"], "Note": ["", "NA"]
    }  # fmt: skip
    assert table.lines == [2, 3]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("culture::italian tag::ship", ["culture::italian", "tag::ship"]),
        ("tag::old women  culture::minoan, crete", ["tag::old women", "culture::minoan, crete"]),
        ("tag::ship|culture::french", ["tag::ship", "culture::french"]),
        ("portrait|old woman", ["portrait", "old woman"]),
        ('["ship", "old woman"]', ["ship", "old woman"]),
        ("['ship', 'l\\'eau']", ["ship", "l'eau"]),
        ("", []),
        ("[]", []),
    ],
)  # fmt: skip
def test_lists_of_names(cell, names):
    assert split_list(cell, ["|"]) == names


@pytest.mark.parametrize("cell", ["['ship'", "[1, 2]", "[__import__('os').getcwd()]", "[" * 5000])
def test_what_begins_as_a_list_and_is_none(cell):
    with pytest.raises(ValueError, match="not a list of names"):
        split_list(cell, ["|"])


def test_marks_without_width_do_not_part_a_word():
    assert clean_text("in\u200bside\u00a0out\tside\ufeff") == "inside out side"


def test_a_value_keeps_its_colons_but_not_its_group_twice():
    assert name_attribute("title", "Ship::Model") == "title::ship::model"
    assert name_attribute("culture", "Culture::French") == "culture::french"


# Pictures and ids -------------------------------------------------------------------------------


def test_ways_to_name_a_picture(tmp_path):
    index = PictureIndex(
        save_pictures(tmp_path, "a.jpg", "sub/1999.12.3.JPG", "sub/b.png", "other/b.png", "d.jpeg")
    )
    (tmp_path / "scan.tif").write_bytes(b"II*")
    index = PictureIndex(tmp_path)
    for cell, found in {
        "a.jpg": ["a.jpg"],
        "a": ["a.jpg"],
        "A.JPG": ["a.jpg"],
        "1999.12.3": ["sub/1999.12.3.JPG"],
        "sub\\b.png": ["sub/b.png"],
        "C:\\photos\\sub\\b.png": ["sub/b.png"],
        "/elsewhere/pictures/a.jpg": ["a.jpg"],
        "https://example.org/img/d.jpeg?width=300": ["d.jpeg"],
        "b": ["other/b.png", "sub/b.png"],
        "b.png": ["other/b.png", "sub/b.png"],
    }.items():
        assert index.find(cell) == (found, ""), cell
    assert index.find("scan.tif")[1].startswith("its file is of a kind that is not read")
    for cell in ("../secret.jpg", "missing.jpg", "*", "."):
        assert index.find(cell) == ([], "there is no such picture")
    assert index.find("  ") == ([], "names no picture")


@pytest.mark.skipif(sys.platform != "linux", reason="the file system must tell a.jpg from A.jpg")
def test_case_tells_files_apart_where_it_must(tmp_path):
    index = PictureIndex(save_pictures(tmp_path, "a.jpg", "A.jpg"))
    assert (index.find("A")[0], index.find("a.jpg")[0]) == (["A.jpg"], ["a.jpg"])


def test_ids_become_valid_and_stay_apart():
    wanted = [
        "ok", "OK", "ok", "ok_2", "a/b", "a\\b", "=1+1", ".hidden", "  ", "x" * 400, "x" * 401,
        "caf\u00e9 1", 'he said "x"', "tail.",
    ]  # fmt: skip
    made = make_ids(wanted)
    assert len({sample_id.casefold() for sample_id in made}) == len(wanted)
    assert (made[0], made[4], made[6], made[7], made[11]) == (
        "ok", "a_b", "_1+1", "_hidden", "caf\u00e9 1"
    )  # fmt: skip
    assert max(len(sample_id.encode()) for sample_id in made) < 240
    assert make_ids(made) == made


# A museum's export ------------------------------------------------------------------------------

MET = (
    "Object Number", "Is Highlight", "Object ID", "Department", "Title", "Culture", "Period",
    "Object Date", "Medium", "Tags",
)  # fmt: skip


def met_row(object_id, department, culture, date, tags, title="Untitled"):
    return (
        f"12.{object_id}.1a, b", "False", object_id, department, title, culture, "", date,
        "Oil on canvas", tags,
    )  # fmt: skip


@pytest.fixture
def met(tmp_path):
    """The Met's Open Access form: byte order mark, quotes and lines in titles, tags with bars."""
    rows = [
        met_row(1001, "European Paintings", "French", "ca. 1650", "Men|Portraits"),
        met_row(
            1002, "European Paintings", "French", "1650\u201355", "Women|Portraits", 'A "X"\nY'
        ),
        met_row(1003, "Asian Art", "Japan", "late 17th century", "Flowers"),
        met_row(1004, "Asian Art", "Japan", "n.d.", ""),
        met_row(1005, "Asian Art", "japan", "1887", "Flowers|Boats"),
        met_row(9999, "Asian Art", "China", "1700", "Dragons"),
    ]
    table = write_rows(tmp_path / "MetObjects.csv", MET, *rows, encoding="utf-8-sig")
    folder = save_pictures(tmp_path / "met", *(f"{n}.jpg" for n in range(1001, 1006)), "cover.png")
    return table, folder


def test_museum_export_becomes_a_collection(met, tmp_path, capsys):
    table, folder = met
    before = {path: path.read_bytes() for path in folder.iterdir()}
    out = tmp_path / "made"
    call = [
        "collect", str(table), str(folder), str(out), "--picture", "object id", "--min-count", "2",
        "--group", "Culture", "--group", "Tags=tag", "--years", "Object Date=century",
    ]  # fmt: skip
    assert main(call) == 0
    shown = capsys.readouterr().out
    assert not out.exists()
    for line in (
        "MetObjects.csv: 6 rows, pictures by the column Object ID",
        "  Tags -> tag::",
        "5 training and 0 test pictures",
        "  culture: 2 kept: japan 3, french 2",
        "  tag: 3 dropped: boats 1, men 1, women 1",
        "dates not understood: 1 (n.d. on line 6)",
        "dates with ca. or a doubt, taken at their word: 1",
        "rows without picture: 1 (line 8: 9999 (there is no such picture))",
        "pictures without row: 1 (cover.png)",
        "Nothing is written yet: the same call with --write does.",
    ):
        assert line in shown.splitlines(), f"{line}\n\n{shown}"
    assert main([*call, "--write"]) == 0
    collection = read_collection(out)
    assert names_by_id(collection) == {
        "1001": {"culture::french", "tag::portraits", "century::17th"},
        "1002": {"culture::french", "tag::portraits", "century::17th"},
        "1003": {"culture::japan", "tag::flowers", "century::17th"},
        "1004": {"culture::japan"},
        "1005": {"culture::japan", "tag::flowers"},
    }
    assert collection.class_names == (
        "century::17th", "culture::french", "culture::japan", "tag::flowers", "tag::portraits"
    )  # fmt: skip
    assert main(["check", str(out)]) == 0
    assert "5 pictures opened, faults: 0" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert main([*call, "--write"]) == 2, "written twice"
    assert "not an empty folder" in capsys.readouterr().err


def test_without_columns_the_table_is_shown(met, tmp_path, capsys):
    table, folder = met
    assert main(["collect", str(table), str(folder), str(tmp_path / "made")]) == 0
    shown = capsys.readouterr().out
    assert "Object ID: 6 filled, 6 different, 5 name a picture" in shown
    assert "Culture: 6 filled, 4 different: French 2, Japan 2" in shown
    assert main(["collect", str(table), str(folder), str(tmp_path / "made"), "--write"]) == 2
    assert not (tmp_path / "made").exists()


def test_json_tells_the_same(met, tmp_path, capsys):
    table, folder = met
    call = ["collect", str(table), str(folder), str(tmp_path / "made"), "--json", "--min-count",
            "1", "--picture", "Object ID", "--group", "Culture", "--ignore", "FRENCH"]  # fmt: skip
    assert main(call) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kept"] == {"culture::japan": 3}
    assert facts["lines_without_attribute"] == [2, 3]
    assert (facts["train"], facts["written"], facts["num_rows"]) == (3, False, 6)


# A list column, as of Wikidata ------------------------------------------------------------------


def test_rows_of_one_picture_are_united(tmp_path, pictures):
    """A query's result has one row for each combination of values."""
    table = write_rows(
        tmp_path / "query.tsv",
        ["item", "image", "depicts", "inception"],
        ["Q1", "http://example.org/Special:FilePath/a.jpg", "ship", "1887-01-01T00:00:00Z"],
        ["Q1", "http://example.org/Special:FilePath/a.jpg", "sea", "1887-01-01T00:00:00Z"],
        ["Q2", "http://example.org/Special:FilePath/b.png", "genre::Still Life", "1850s"],
        delimiter="\t",
    )
    columns = OwnColumns(
        "image", lists={"depicts": "depicts"}, years={"inception": ("decade",)}, id="item"
    )
    with pytest.raises(CollectionError, match=r"line 3: a\.jpg stands on line 2 already"):
        plan_of(table, pictures, columns)
    plan = plan_of(table, pictures, columns, merge_rows=True)
    assert [(row.id, set(row.names)) for row in plan.train] == [
        ("Q1", {"depicts::ship", "depicts::sea", "decade::1880s"}),
        ("Q2", {"genre::still life", "decade::1850s"}),
    ]


def test_names_with_their_groups_in_one_column(tmp_path, pictures):
    table = write_rows(
        tmp_path / "t.csv",
        ["file", "labels"],
        ["a", "culture::italian tag::human figures"],
        ["b", "['tag::ship', 'tag::ship']"],
    )
    out = tmp_path / "made"
    write_collection(plan_of(table, pictures, OwnColumns("file", lists={"labels": "label"})), out)
    assert names_by_id(read_collection(out)) == {
        "a": {"culture::italian", "tag::human figures"}, "b": {"tag::ship"}
    }  # fmt: skip


# Rare values, empty rows, test sets, specimens --------------------------------------------------


def test_rare_values_go_and_leave_empty_rows_named(tmp_path, pictures):
    table = write_rows(
        tmp_path / "t.csv", ["file", "tag"], ["a", "x|rare"], ["b", "x"], ["c", "once"]
    )
    plan = plan_of(table, pictures, OwnColumns("file", groups={"tag": "tag"}), min_count=2)
    assert (plan.kept, plan.dropped) == ({"tag::x": 2}, {"tag::once": 1, "tag::rare": 1})
    assert ([row.id for row in plan.train], plan.lines_left_empty) == (["a", "b"], [4])
    with pytest.raises(CollectionError, match="at least 3 pictures"):
        plan_of(table, pictures, OwnColumns("file", groups={"tag": "tag"}), min_count=3)


@pytest.fixture
def sixty(tmp_path):
    """Sixty pictures of forty objects: the first twenty objects have two."""
    folder = save_pictures(tmp_path / "many", *(f"{n:02d}.png" for n in range(60)))
    rows = [
        [f"{n:02d}", f"v{n % 3}|w{n % 2}", f"object {n // 2 if n < 40 else n}", "test" * (n > 49)]
        for n in range(60)
    ]
    return write_rows(tmp_path / "many.csv", ["file", "tag", "object", "split"], *rows), folder


def test_a_share_becomes_the_test_set_whole_objects_at_a_time(sixty, tmp_path):
    table, folder = sixty
    columns = OwnColumns("file", groups={"tag": "tag"}, specimen="object")
    plan = plan_of(table, folder, columns, test_fraction=0.25, seed=3)
    assert len(plan.test) in (14, 15) and len(plan.train) + len(plan.test) == 60
    assert not {row.specimen for row in plan.train} & {row.specimen for row in plan.test}
    counts = Counter(name for row in plan.train for name in row.names)
    assert plan.kept == dict(sorted(counts.items())), "counted on training pictures alone"
    again = plan_of(table, folder, columns, test_fraction=0.25, seed=3)
    other = plan_of(table, folder, columns, test_fraction=0.25, seed=4)
    tests = [{row.id for row in one.test} for one in (plan, again, other)]
    assert tests[0] == tests[1] != tests[2]
    out = write_collection(plan, tmp_path / "made")
    collection = read_collection(out)
    assert set(collection.test_ids) == tests[0]
    numbers = dict(zip(collection.train.ids, collection.specimens, strict=True))
    for row in plan.train:
        for twin in plan.train:
            assert (numbers[row.id] == numbers[twin.id]) == (row.specimen == twin.specimen)
    truth = read_rows(out / "test_labels.csv")[1:]
    wanted = {row.id: row.names for row in plan.test}
    for sample_id, ids in truth:
        assert {collection.class_names[int(i)] for i in ids.split()} == wanted[sample_id]


def test_a_column_becomes_the_test_set(sixty, tmp_path, capsys):
    table, folder = sixty
    out = tmp_path / "made"
    call = ["collect", str(table), str(folder), str(out), "--picture", "file", "--group", "tag",
            "--test-column", "split", "--specimen", "object", "--write"]  # fmt: skip
    assert main(call) == 0
    assert "50 training and 10 test pictures" in capsys.readouterr().out
    assert read_collection(out).test_ids.tolist() == [str(n) for n in range(50, 60)]
    profile = get_profile("report", image_shape=(32, 32, 3), epochs=1, num_folds=3)
    prepared = prepare_collection(profile, str(out), str(tmp_path / "runs"))
    assert (len(prepared.train_pictures), len(prepared.test_pictures)) == (50, 10)
    for specimen in set(prepared.collection.specimens.tolist()):
        assert len(set(prepared.folds[prepared.collection.specimens == specimen])) == 1


def test_test_pictures_without_attributes_stay(tmp_path, pictures):
    table = write_rows(
        tmp_path / "t.csv", ["file", "tag", "split"], ["a", "x", ""], ["b", "", "TEST"]
    )
    columns = OwnColumns("file", groups={"tag": "tag"}, test=("split", "test"))
    out = write_collection(plan_of(table, pictures, columns), tmp_path / "made")
    assert read_collection(out).test_ids.tolist() == ["b"]
    assert not (out / "test_labels.csv").exists(), "nothing is known of them"


def test_an_object_on_both_sides_is_named(tmp_path, pictures):
    table = write_rows(
        tmp_path / "t.csv",
        ["file", "tag", "object", "split"],
        ["a", "x", "7", ""], ["b", "x", "7", "test"],
    )  # fmt: skip
    columns = OwnColumns("file", {"tag": "tag"}, specimen="object", test=("split", "test"))
    assert plan_of(table, pictures, columns).cut_specimens == ["7"]


def test_exact_dates_leave_a_doubted_year_its_century(tmp_path, pictures):
    table = write_rows(tmp_path / "t.csv", ["file", "date"], ["a", "ca. 1650"], ["b", "1651"])
    columns = OwnColumns("file", years={"date": ("decade", "century")})
    names = [
        [set(row.names) for row in plan_of(table, pictures, columns, exact_dates=exact).train]
        for exact in (False, True)
    ]
    both = {"decade::1650s", "century::17th"}
    assert names == [[both, both], [{"century::17th"}, both]]


# Ids and files ----------------------------------------------------------------------------------


def test_ids_that_change_are_written_down(tmp_path):
    folder = save_pictures(tmp_path / "p", "x/1.jpg", "y/1.JPG", "2.png")
    table = write_rows(
        tmp_path / "t.csv",
        ["file", "no", "tag"],
        ["x/1.jpg", "12/3", "a"], ["y/1.jpg", "", "a"], ["2.png", "=2", "a"],
    )  # fmt: skip
    plan = plan_of(table, folder, OwnColumns("file", {"tag": "tag"}, id="no"))
    out = write_collection(plan, tmp_path / "made")
    assert read_rows(out / "id_map.csv") == [
        ["id", "original_id", "picture"],
        ["12_3", "12/3", "x/1.jpg"], ["1", "1", "y/1.JPG"], ["_2", "=2", "2.png"],
    ]  # fmt: skip
    assert plan.changed_ids == {"12_3": "12/3", "_2": "=2"}
    assert (out / "train" / "1.jpg").read_bytes() == (folder / "y/1.JPG").read_bytes()


@pytest.mark.parametrize("way", ["link", "copy", "no links here"])
def test_pictures_are_linked_or_copied_never_moved(tmp_path, pictures, monkeypatch, way):
    if way == "no links here":

        def refuse(*_):
            raise OSError("no links")

        monkeypatch.setattr(os, "link", refuse)
    table = write_rows(tmp_path / "t.csv", ["file", "tag"], ["a", "x"])
    plan = plan_of(table, pictures, OwnColumns("file", {"tag": "tag"}))
    out = write_collection(plan, tmp_path / "made", copy=way == "copy")
    source, target = pictures / "a.jpg", out / "train" / "a.jpg"
    assert source.read_bytes() == target.read_bytes()
    assert source.samefile(target) == (way == "link")


def test_nothing_is_left_behind_when_a_picture_vanishes(tmp_path, pictures):
    table = write_rows(tmp_path / "t.csv", ["file", "tag"], ["a", "x"], ["b", "x"])
    plan = plan_of(table, pictures, OwnColumns("file", {"tag": "tag"}))
    (pictures / "b.png").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        write_collection(plan, tmp_path / "made")
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_within_the_pictures_is_refused(tmp_path, pictures, capsys):
    table = write_rows(tmp_path / "t.csv", ["file", "tag"], ["a", "x"])
    call = ["collect", str(table), str(pictures), str(pictures / "made"), "--picture", "file"]
    assert main([*call, "--group", "tag", "--write"]) == 2
    assert "lies within the folder of pictures" in capsys.readouterr().err


# All faults at once -----------------------------------------------------------------------------


def test_every_fault_in_one_report(tmp_path, capsys):
    folder = save_pictures(tmp_path / "p", "a.jpg", "x/b.jpg", "y/b.jpg", "c.jpg")
    table = tmp_path / "t.csv"
    table.write_text("file,names\na,ok\nb,ok\nc,[1]\na,ok\nc,x,y\n")
    call = ["collect", str(table), str(folder), str(tmp_path / "made"), "--picture", "file"]
    assert main([*call, "--list", "names", "--write"]) == 1
    text = capsys.readouterr().err
    for fault in (
        "t.csv, line 6: 3 fields, the header has 2",
        "t.csv, line 3: b may be x/b.jpg or y/b.jpg; write its path",
        "t.csv, line 4, names: not a list of names: [1]",
        "t.csv, line 5: a.jpg stands on line 2 already",
    ):
        assert fault in text, text
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--picture", "nothing", "--group", "tag"], "no column 'nothing'. It has: file, tag"),
        (["--picture", "file", "--group", "tag", "--min-count", "0"], "must be at least 1"),
        (["--picture", "file", "--group", "tag", "--test-fraction", "1"], "from 0 to below 1"),
        (["--picture", "file", "--years", "tag=year"], "Dates give decade and century"),
        (["--picture", "file", "--group", "tag=a::b"], "without ::"),
        (["--picture", "file", "--group", "tag", "--separator", ""], "must not be empty"),
        (["--picture", "tag", "--group", "tag"], "no cell of the column tag names one of the 3"),
    ],
)
def test_calls_that_cannot_be(tmp_path, pictures, capsys, arguments, match):
    table = write_rows(tmp_path / "t.csv", ["file", "tag"], ["a", "x"])
    call = ["collect", str(table), str(pictures), str(tmp_path / "made"), *arguments]
    assert main(call) in (1, 2)
    assert match in capsys.readouterr().err


def test_missing_files_are_named(tmp_path, pictures, capsys):
    made = str(tmp_path / "made")
    assert main(["collect", "none.csv", str(pictures), made]) == 1
    assert "none.csv: the file is missing" in capsys.readouterr().err
    assert main(["collect", "none.csv", str(Path("no")), made]) == 2
    assert "No folder at no" in capsys.readouterr().err


text_cells = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from("|:;,\"'[]= \n\u200b"), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(text_cells, text_cells, text_cells, text_cells), min_size=1, max_size=4))
def test_whatever_stands_in_a_table_what_is_written_is_a_collection(rows):
    """Ids, names and specimens of any characters: a collection that holds them, or faults."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "p"
        folder.mkdir()
        for number in range(len(rows)):
            (folder / f"{number}.png").write_bytes(b"any")
        table = write_rows(
            Path(place) / "t.csv",
            ["file", "id", "tag", "names", "object"],
            *([str(number), *row] for number, row in enumerate(rows)),
        )
        columns = OwnColumns("file", {"tag": "tag"}, {"names": "n"}, id="id", specimen="object")
        try:
            plan = plan_of(table, folder, columns)
        except CollectionError as error:
            assert all(error.faults)
            return
        out = write_collection(plan, Path(place) / "made")
        found = names_by_id(read_collection(out))
        assert found == {row.id: set(row.names) for row in plan.train}
        assert all(row.wanted_id == row.id for row in plan.train if row.id not in plan.changed_ids)
