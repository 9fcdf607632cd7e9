"""Digests of a collection find what no decoder does: a bit that flipped among the pixels."""

import hashlib
import random
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from imetlib.collection.csvfiles import CollectionError
from imetlib.collection.images import ImageError, decode_image
from imetlib.collection.manifest import MANIFEST_FILE, verify_manifest, write_manifest


@pytest.fixture
def folder(museum, tmp_path):
    """The tables of a museum and six pictures of each split."""
    root = tmp_path / "museum"
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for path in sorted((museum / split).iterdir())[:6]:
            shutil.copy(path, root / split)
    for path in museum.glob("*.csv"):
        shutil.copy(path, root)
    return root


def sums(root):
    return (root / MANIFEST_FILE).read_text(encoding="utf-8")


def test_every_file_is_listed_as_sha256sum_does(folder):
    assert write_manifest(folder) == folder / MANIFEST_FILE
    listed = dict(reversed(line.split("  ")) for line in sums(folder).splitlines())
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_FILE]
    names = [path.relative_to(folder).as_posix() for path in files]
    assert sorted(listed) == sorted(names)
    for name, path in zip(names, files, strict=True):
        assert listed[name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert verify_manifest(folder) == []
    if shutil.which("sha256sum"):
        check = ["sha256sum", "--check", "--strict", "--quiet", MANIFEST_FILE]
        assert subprocess.run(check, cwd=folder, capture_output=True).returncode == 0
        with (folder / MANIFEST_FILE).open("wb") as file:
            subprocess.run(["sha256sum", *(f"./{name}" for name in names)], cwd=folder, stdout=file)
        assert verify_manifest(folder) == []


def test_changed_missing_and_added_files_are_named(folder):
    write_manifest(folder)
    first, second = sorted((folder / "train").iterdir())[:2]
    table = folder / "train.csv"
    first.write_bytes(first.read_bytes()[:-1])
    second.rename(folder / "train" / "other.png")
    table.write_bytes(table.read_bytes().replace(b",", b";", 1))
    for name in ("notes.txt", "submission.csv"):
        (folder / name).write_text("no part of a collection")
    changed = f"its bytes are not those of {MANIFEST_FILE}; damaged or changed since"
    assert verify_manifest(folder) == [
        f"train.csv: {changed}",
        f"train/{first.name}: {changed}",
        f"train/{second.name}: missing, though {MANIFEST_FILE} lists it",
        f"train/other.png: not in {MANIFEST_FILE}; added since",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line in it"),
        ("abc  train.csv\n", "line 1: not a digest of 64 hex digits"),
        ("0" * 64 + "  ../train.csv\n", "line 1: ../train.csv lies outside the collection"),
        ("0" * 64 + "  /train.csv\n", "line 1: /train.csv lies outside the collection"),
        (2 * ("0" * 64 + "  train.csv\n"), "line 2: train.csv stands above already"),
    ],
)
def test_what_is_no_manifest_is_refused(folder, text, message):
    (folder / MANIFEST_FILE).write_text(text)
    with pytest.raises(CollectionError, match=f"{MANIFEST_FILE}: {message}"):
        verify_manifest(folder)


def test_what_cannot_be_listed_is_refused(folder, tmp_path):
    with pytest.raises(CollectionError, match=f"{MANIFEST_FILE}: the file is missing"):
        verify_manifest(folder)
    with pytest.raises(CollectionError, match="neither tables nor pictures"):
        write_manifest(tmp_path / "nowhere")
    (folder / "train" / "a\nb.png").write_bytes(b"")
    with pytest.raises(CollectionError, match="no printable character; rename it"):
        write_manifest(folder)
    (folder / "train" / "a\nb.png").unlink()
    write_manifest(folder)
    before = sums(folder)
    with pytest.raises(CollectionError, match=f"{MANIFEST_FILE} exists already"):
        write_manifest(folder)
    assert sums(folder) == before


def test_every_flipped_bit_of_a_scan_is_found(museum, tmp_path):
    """300 of 300; how many of them Pillow decodes, and how many can be seen, is printed."""
    root = tmp_path / "jpegs"
    (root / "train").mkdir(parents=True)
    for path in sorted((museum / "train").iterdir())[:6]:
        pixels = cv2.cvtColor(decode_image(path), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(root / "train" / f"{path.stem}.jpg"), pixels)
    write_manifest(root)
    paths, rng = sorted((root / "train").iterdir()), random.Random(0)
    whole = {path: (path.read_bytes(), decode_image(path).astype(int)) for path in paths}
    found = decoded = visible = 0
    for number in range(300):
        path = paths[number % len(paths)]
        data, pixels = bytearray(whole[path][0]), whole[path][1]
        # The entropy-coded bytes lie between the only SOS marker's header and the EOI marker.
        start = data.rindex(b"\xff\xda") + 14
        data[rng.randrange(start, len(data) - 2)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        faults = verify_manifest(root)
        found += len(faults) == 1 and faults[0].startswith(f"train/{path.name}: its bytes")
        try:
            error = np.abs(decode_image(path) - pixels).mean()
        except ImageError:
            pass
        else:
            decoded, visible = decoded + 1, visible + (error > 2)
        path.write_bytes(whole[path][0])
    assert found == 300
    assert verify_manifest(root) == []
    assert decoded > 200, "flips that every decoder refuses need no manifest"
    print(f"300 flips: {found} found, {decoded} decoded, {visible} with a mean error above 2")
