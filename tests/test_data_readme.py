"""What data/README.md shows works as it stands there."""

import re
from pathlib import Path

import numpy as np
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


def test_a_folder_and_a_table_become_a_collection(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = re.search(r"(?m)((?:^ {4}.*\n)+)\n```python", TEXT).group(1)
    Path("my-table.csv").write_text(re.sub(r"(?m)^ {4}", "", table))
    for name in ("1999.12.3.jpg", "1999.12.4.jpg"):
        save_picture(tmp_path / "my-pictures" / name)
    code = re.search(r"(?s)```python\n(.*?)```", TEXT).group(1)
    exec(compile(code, "data/README.md", "exec"), {})
    collection = read_collection(tmp_path / "data" / "my-museum")
    assert collection.class_names == (
        "culture::french", "tag::flowers", "tag::men", "tag::portraits"
    )  # fmt: skip
    assert collection.train.ids.tolist() == ["1999.12.3", "1999.12.4"]
    assert [collection.train.row(row).tolist() for row in range(2)] == [[0, 2, 3], [0, 1]]
    assert main(["check", str(collection.root)]) == 0
