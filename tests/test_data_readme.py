"""What data/README.md shows works as it stands there."""

import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imetlib.__main__ import main
from imetlib.collection.tables import read_collection

TEXT = (Path(__file__).resolve().parents[1] / "data" / "README.md").read_text(encoding="utf-8")


def block_after(line):
    """The indented block that follows a line."""
    block = TEXT.split(f"\n{line}\n\n", 1)[1].split("\n\n", 1)[0]
    return re.sub(r"(?m)^ {4}", "", block) + "\n"


def save_picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 30, 3), 200, np.uint8)).save(path)


def test_the_tables_shown_are_a_collection(tmp_path):
    tables = ("train.csv", "labels.csv", "sample_submission.csv", "specimens.csv")
    for name in tables:
        (tmp_path / name).write_text(block_after(f"`{name}`"))
    for picture in ("train/a1907_12_b.jpg", "train/00123.png", "test/123e45.webp"):
        save_picture(tmp_path / picture)
    collection = read_collection(tmp_path)
    assert collection.train.ids.tolist() == ["a1907_12_b", "00123"]
    assert collection.class_names[2] == "tag::portraits, group"
    assert collection.test_ids.tolist() == ["123e45"]
    assert main(["check", str(tmp_path)]) == 0


def commands_after(heading, start):
    """The arguments of every command of that beginning in a section, in their order."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(rf"(?m)^ {{4}}({re.escape(start)}.*)$", section)
    return [shlex.split(line, comments=True)[3:] for line in lines]


def test_a_folder_and_a_table_become_a_collection(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = re.search(r"`my-table\.csv`:\n\n((?:^ {4}.*\n)+)", TEXT, re.MULTILINE).group(1)
    Path("my-table.csv").write_text(re.sub(r"(?m)^ {4}", "", table))
    for number in range(3, 7):
        save_picture(tmp_path / "my-pictures" / f"1999.12.{number}.jpg")
    look, show, write, check = commands_after("Your own museum", "python -m imetlib")
    for call in (look, show):
        assert main(call) == 0
        assert not Path("data").exists(), "neither writes anything"
    shown = capsys.readouterr().out
    assert "dates not understood: 1 (n.d. on line 5)" in shown
    assert write == [*show, "--write"]
    assert main(write) == 0
    collection = read_collection(tmp_path / "data" / "my-museum")
    assert collection.class_names == (
        "century::17th", "culture::french", "culture::japan", "decade::1650s", "tag::flowers",
        "tag::portraits",
    )  # fmt: skip
    assert collection.train.ids.tolist() == [f"1999.12.{number}" for number in range(3, 7)]
    assert [collection.train.row(row).tolist() for row in range(4)] == [
        [0, 1, 3, 5], [0, 1, 3, 5], [0, 2, 4], [2, 4]
    ]  # fmt: skip
    assert collection.specimens.tolist() == [0, 0, 1, 2]
    assert main(check) == 0


def test_the_options_that_are_named_exist(capsys):
    section = TEXT.split("\n## Your own museum\n", 1)[1].split("\n## ", 1)[0]
    with pytest.raises(SystemExit, match="0"):
        main(["collect", "--help"])
    help_text = capsys.readouterr().out
    named = set(re.findall(r"--[a-z-]+", section))
    assert len(named) > 10 and [name for name in named if name not in help_text] == []


def test_imet_archive_is_unpacked_and_checked_as_shown(tmp_path, monkeypatch, capsys):
    """All but the download, which needs an account."""
    monkeypatch.chdir(tmp_path)
    unpack, check = commands_after("iMet Collection 2019", "python -m imetlib")
    for name in ("train.csv", "labels.csv", "sample_submission.csv"):
        (tmp_path / name).write_text(block_after(f"`{name}`"))
    for picture in ("train/a1907_12_b.png", "train/00123.png", "test/123e45.png"):
        save_picture(tmp_path / picture)
    Path("data").mkdir()
    with zipfile.ZipFile(unpack[1], "w") as archive:
        for path in [*tmp_path.glob("*.csv"), *tmp_path.glob("t*/*.png")]:
            archive.write(path, path.relative_to(tmp_path))
    assert main(unpack) == 0
    assert main(check) == 0
    assert "2 training and 1 test pictures" in capsys.readouterr().out
    # The archive has the name that the client gives it.
    (download,) = re.findall(r"kaggle competitions download -c (\S+) -p (\S+)", TEXT)
    assert unpack[1] == f"{download[1]}/{download[0]}.zip"
