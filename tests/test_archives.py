"""Archives: a good one is unpacked whole, a bad one refused before a byte is written."""

import io
import os
import stat
import tarfile
import zipfile

import pytest

from imetlib import archives
from imetlib.__main__ import main
from imetlib.archives import ArchiveError, unpack

GOOD = {"train.csv": b"id,attribute_ids\n1,2\n", "train/1.png": b"\x89PNG" * 99, "empty/e": b""}
NFC, NFD = "caf\u00e9.csv", "cafe\u0301.csv"


def make_zip(path, members, **more):
    """`members`: list of (name or ZipInfo, bytes)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **more) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def make_tar(path, members, mode="w:gz"):
    """`members`: list of (name or TarInfo, bytes)."""
    with tarfile.open(path, mode) as file:
        for name, data in members:
            entry = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return path


def tar_entry(name, kind, target=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def zip_link(name):
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def listed(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.zip", ""), ("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tar.bz2", "w:bz2"),
     ("a.tar.xz", "w:xz"), ("named-otherwise.bin", "w:gz")],
)  # fmt: skip
def test_a_good_archive_is_unpacked_whole(tmp_path, name, mode):
    members = [*GOOD.items(), ("./dot.txt", b"5"), ("folder/", b"")]
    if mode:
        members[-1] = (tar_entry("folder", tarfile.DIRTYPE), b"")
        archive = make_tar(tmp_path / name, members, mode)
    else:
        archive = make_zip(tmp_path / name, members)
    out = tmp_path / "new" / "collection"
    assert unpack(archive, out) == out
    assert listed(out) == {**GOOD, "dot.txt": b"5"}
    assert (out / "folder").is_dir()
    assert names(out.parent) == ["collection"]


CRAFTED = {
    "zip-parent": ("zip", [("a", b"1"), ("x/../../escape", b"2")], "leaves the folder"),
    "tar-parent": ("tar", [("a", b"1"), ("../escape", b"2")], "leaves the folder"),
    "zip-absolute": ("zip", [("a", b"1"), ("/{tmp}/escape", b"2")], "absolute path"),
    "tar-absolute": ("tar", [("a", b"1"), ("/{tmp}/escape", b"2")], "absolute path"),
    "zip-drive": ("zip", [("C:/escape", b"2")], "absolute path"),
    "zip-backslash": ("zip", [("..\\escape", b"2")], "backslash"),
    "zip-symlink": ("zip", [(zip_link("a"), b"../"), ("a/escape", b"2")], "symbolic link"),
    "tar-symlink": ("tar", [(tar_entry("a", tarfile.SYMTYPE, ".."), b"")], "symbolic link"),
    "tar-hard-link": ("tar", [(tar_entry("a", tarfile.LNKTYPE, "../secret"), b"")], "hard link"),
    "tar-device": ("tar", [(tar_entry("a", tarfile.CHRTYPE), b"")], "device"),
    "tar-pipe": ("tar", [(tar_entry("a", tarfile.FIFOTYPE), b"")], "device"),
    "zip-bomb": ("zip", [("a", bytes(70 * 2**20))], "taken for a bomb"),
    "tar-bomb": ("tar", [("a", bytes(70 * 2**20))], "taken for a bomb"),
    "tar-twice": ("tar", [("a", b"1"), ("a", b"2")], "is there already"),
    "zip-case": ("zip", [("Train/a", b"1"), ("train/b", b"2")], "'Train' is there already"),
    "zip-unicode": ("zip", [(NFC, b"1"), (NFD, b"2")], "is there already"),
    "tar-file-and-folder": ("tar", [("a", b"1"), ("a/b", b"2")], "is there already"),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_archive_is_refused_and_nothing_written(tmp_path, name):
    kind, members, message = CRAFTED[name]
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "secret").write_text("kept")
    members = [
        (n.replace("{tmp}", str(inside)) if isinstance(n, str) else n, data) for n, data in members
    ]
    make = make_zip if kind == "zip" else make_tar
    archive = make(tmp_path / f"crafted.{kind}", [("good", b"first"), *members])
    with pytest.raises(ArchiveError, match=message) as raised:
        unpack(archive, inside / "out")
    assert f"crafted.{kind}" in str(raised.value)
    assert listed(tmp_path).keys() == {f"crafted.{kind}", "inside/secret"}
    assert names(inside) == ["secret"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_in_a_zip(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("a", b"1"), ("a", b"2")])
    with pytest.raises(ArchiveError, match="is there already"):
        unpack(archive, tmp_path / "out")


def test_a_header_that_is_a_bomb(tmp_path):
    entry = tarfile.TarInfo("a")
    entry.pax_headers = {"comment": "0" * 70 * 2**20}
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as file:
        file.addfile(entry)
    with pytest.raises(ArchiveError, match="taken for a bomb"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_a_zip_that_lies_about_its_size(tmp_path):
    """The list says 5 bytes, the packed data holds 100,000: no more than 5 are written."""
    path = make_zip(tmp_path / "a.zip", [("a", bytes(100_000))])
    size = (100_000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (5).to_bytes(4, "little")))
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(path, tmp_path / "out")
    assert names(tmp_path) == ["a.zip"]


def test_more_than_there_is_room_for(tmp_path):
    for archive in (make_zip(tmp_path / "a.zip", [("a", b"12345")] ),
                    make_tar(tmp_path / "a.tar", [("a", b"12345")])):  # fmt: skip
        with pytest.raises(ArchiveError, match="more than the 4 bytes"):
            unpack(archive, tmp_path / "out", max_bytes=4)
        unpack(archive, tmp_path / f"out-{archive.suffix}", max_bytes=5)


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    archive = make_zip(tmp_path / "a.zip", [(str(number), b"") for number in range(4)])
    with pytest.raises(ArchiveError, match="more than 3 members"):
        unpack(archive, tmp_path / "out")


def test_a_zip_under_a_password(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("a", b"1")])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="under a password"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_every_cut_is_refused_and_leaves_nothing(tmp_path, name):
    make = make_zip if name.endswith("zip") else make_tar
    whole = make(tmp_path / name, list(GOOD.items())).read_bytes()
    for length in {0, 1, 2, 50, len(whole) // 2, len(whole) - 9, len(whole) - 1}:
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(ArchiveError, match=r"damaged|no zip or tar"):
            unpack(tmp_path / name, tmp_path / "out")
        assert names(tmp_path) == [name]


def test_a_flipped_byte_of_a_zip_is_found(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("a", os.urandom(5000))])
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(path, tmp_path / "out")
    assert names(tmp_path) == ["a.zip"]


def test_a_full_folder_is_left_alone(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("a", b"1")])
    with pytest.raises(ValueError, match="not an empty folder"):
        unpack(archive, tmp_path)
    (tmp_path / "empty").mkdir()
    assert listed(unpack(archive, tmp_path / "empty")) == {"a": b"1"}
    with pytest.raises(FileNotFoundError, match="No archive at"):
        unpack(tmp_path / "none.zip", tmp_path / "out")


def test_command(tmp_path, capsys):
    archive = make_zip(tmp_path / "a.zip", list(GOOD.items()))
    out = tmp_path / "out"
    assert main(["unpack", str(archive), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 3 files\n"
    assert main(["unpack", str(archive), str(out)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    make_zip(tmp_path / "b.zip", [("../escape", b"")])
    assert main(["unpack", str(tmp_path / "b.zip"), str(tmp_path / "b")]) == 1
    assert "leaves the folder" in capsys.readouterr().err
