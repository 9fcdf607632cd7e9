"""Where things are found, at home and under Kaggle's mounts."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from imetlib import paths

MOUNTS = {  # below /kaggle/input, oldest form first
    "by slug": "imet-2019-fgvc6",
    "competitions": "competitions/imet-2019-fgvc6",
    "datasets": "datasets/someone/imet-2019-fgvc6",
    "nested": "datasets/someone/imet2019/collection",
}


def make_collection(folder):
    (folder / "train").mkdir(parents=True)
    for name in ("train.csv", "labels.csv"):
        (folder / name).touch()
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project in a temporary folder, no settings of the user's."""
    project = tmp_path / "project"
    for name in ("imetlib", "notebooks", "data"):
        (project / name).mkdir(parents=True)
    monkeypatch.chdir(project / "notebooks")
    monkeypatch.delenv("IMETLIB_DATA", raising=False)
    monkeypatch.delenv("IMETLIB_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(paths, "KAGGLE_INPUT", tmp_path / "kaggle/input")
    return project


@pytest.mark.parametrize("mount", MOUNTS.values(), ids=MOUNTS)
def test_a_collection_is_found_under_every_mount(home, mount):
    folder = make_collection(paths.KAGGLE_INPUT / mount)
    assert paths.find_collection() == folder


def test_imet_goes_first_among_several(home):
    make_collection(paths.KAGGLE_INPUT / "other-museum")
    folder = make_collection(home / "data/imet2019")
    assert paths.find_collection() == folder


def test_several_candidates_are_named_and_none_is_chosen(home, monkeypatch, tmp_path):
    monkeypatch.setenv("IMETLIB_DATA", str(tmp_path / "elsewhere"))
    folders = [
        make_collection(home / "data/paintings"),
        make_collection(tmp_path / "elsewhere/maps"),
        make_collection(paths.KAGGLE_INPUT / "datasets/someone/coins"),
    ]
    with pytest.raises(FileNotFoundError, match="Several collections") as error:
        paths.find_collection()
    for folder in folders:
        assert str(folder) in str(error.value)


def test_one_folder_seen_through_a_link_is_one_candidate(home):
    folder = make_collection(home / "data/paintings")
    (home / "data/link").symlink_to(folder)
    assert paths.find_collection() == folder


def test_nothing_found_names_the_places(home):
    (home / "data/half").mkdir()
    (home / "data/half/labels.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"data/README\.md") as error:
        paths.find_collection()
    assert str(home / "data") in str(error.value)
    assert str(paths.KAGGLE_INPUT) in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"No collection folder at .*nowhere"):
        paths.find_collection(home / "nowhere")


def test_a_named_folder_is_taken_as_it_is(home, tmp_path):
    assert paths.find_collection(tmp_path) == tmp_path.resolve()


def test_runs_go_to_the_project_or_where_one_says(home, tmp_path, monkeypatch):
    assert paths.project_root() == home
    assert paths.runs_folder() == home / "runs"
    assert paths.runs_folder(tmp_path / "a/b") == tmp_path / "a/b"
    assert (tmp_path / "a/b").is_dir()
    monkeypatch.chdir(tmp_path)
    assert paths.project_root() == tmp_path


def test_weights_are_looked_for_in_a_known_order(home, monkeypatch, tmp_path):
    found, searched = paths.search_weights(["net_notop"])
    assert found is None
    assert searched[0] == "IMETLIB_WEIGHTS (not set)" and len(searched) == 3
    places = [
        paths.KAGGLE_INPUT / "models/someone/net/keras/1",
        tmp_path / "keras/models",
        tmp_path / "own",
    ]
    monkeypatch.setenv("IMETLIB_WEIGHTS", str(places[-1]))
    for place in places:  # each goes before the one made earlier
        place.mkdir(parents=True)
        (place / "net_notop.weights.h5").touch()
        assert paths.search_weights(["net_notop"])[0] == place / "net_notop.weights.h5"
    (places[0] / "better.h5").touch()
    assert paths.search_weights(["better", "net_notop"])[0] == places[0] / "better.h5"


# On Kaggle --------------------------------------------------------------------------------------


@pytest.fixture
def kaggle(home, tmp_path, monkeypatch):
    """A session on Kaggle: working folder, nothing attached, started anywhere."""
    monkeypatch.setattr(paths, "KAGGLE_WORKING", tmp_path / "kaggle/working")
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    paths.KAGGLE_WORKING.mkdir(parents=True)
    paths.KAGGLE_INPUT.mkdir()
    return paths.KAGGLE_WORKING


def test_runs_go_to_the_working_folder_whatever_the_directory(kaggle, monkeypatch):
    monkeypatch.chdir(paths.KAGGLE_INPUT)
    assert paths.runs_folder() == kaggle / "runs"
    assert paths.runs_folder(kaggle / "other") == kaggle / "other"
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE")
    assert not paths.on_kaggle()
    assert paths.runs_folder() == paths.KAGGLE_INPUT / "runs"


def test_read_only_inputs_are_named(kaggle, monkeypatch):
    def refuse(self, **options):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(paths.Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"Nothing can be written at .*working"):
        paths.runs_folder(paths.KAGGLE_INPUT / "museum")


def test_a_disk_that_fails_otherwise_says_so_itself(kaggle, monkeypatch):
    def refuse(self, **options):
        raise OSError(5, "Input/output error", str(self))

    monkeypatch.setattr(paths.Path, "mkdir", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        paths.runs_folder()


def test_a_collection_that_is_not_attached_says_what_is(kaggle):
    with pytest.raises(FileNotFoundError, match=r"Add Input.*Attached now: nothing\."):
        paths.find_collection()
    for place in ("imetlib-weights", "datasets/someone/maps", "competitions/digits",
                  "models/someone/net/keras/base/1"):  # fmt: skip
        (paths.KAGGLE_INPUT / place).mkdir(parents=True)
    names = "competitions/digits, datasets/someone/maps, imetlib-weights, models/someone/net"
    with pytest.raises(FileNotFoundError, match=f"Attached now: {names}"):
        paths.find_collection()


@pytest.mark.parametrize(
    "place",
    ["net", "datasets/someone/net", "datasets/someone/net/deep/er",
     "models/someone/net/keras/base/1", "net/keras/base/1", "competitions/some/extra"],
)  # fmt: skip
def test_weights_are_found_under_every_mount(home, place):
    folder = paths.KAGGLE_INPUT / place
    folder.mkdir(parents=True)
    (folder / "net_notop.h5").touch()
    assert paths.search_weights(["net_notop"])[0] == folder / "net_notop.h5"


def test_pictures_of_a_collection_are_never_listed(home, monkeypatch):
    folder = make_collection(paths.KAGGLE_INPUT / "competitions/imet-2019-fgvc6")
    (folder / "test").mkdir()
    (folder / "models").mkdir()
    (folder / "models" / "net_notop.h5").touch()
    listed = []
    scandir = paths.os.scandir

    def listing(place):
        listed.append(str(place))
        return scandir(place)

    monkeypatch.setattr(paths.os, "scandir", listing)
    assert paths.find_collection() == folder
    assert paths.search_weights(["net_notop"])[0] == folder / "models" / "net_notop.h5"
    assert listed and not [place for place in listed if place.endswith(("/train", "/test"))]


def test_a_folder_called_train_elsewhere_is_looked_into(home):
    folder = make_collection(paths.KAGGLE_INPUT / "datasets/someone/train/museum")
    assert paths.find_collection() == folder


def test_what_does_not_fit_is_refused_before_it_is_begun(kaggle, monkeypatch):
    paths.need_space(kaggle / "new" / "cache", 0, "Nothing")
    free = paths.shutil.disk_usage(kaggle).free
    with pytest.raises(OSError, match=r"The cache would take about .* GB, and .* 20 GB in all"):
        paths.need_space(kaggle / "new" / "cache", free + 10**12, "The cache")
    assert not (kaggle / "new").exists()


def test_the_roots_can_be_moved_for_a_whole_process(tmp_path):
    script = "from imetlib import paths; print(paths.KAGGLE_INPUT, paths.KAGGLE_WORKING)"
    moved = {"IMETLIB_KAGGLE_INPUT": "/a", "IMETLIB_KAGGLE_WORKING": "/b"}
    for variables, wanted in (({}, "/kaggle/input /kaggle/working"), (moved, "/a /b")):
        clean = {name: value for name, value in os.environ.items() if "KAGGLE" not in name}
        result = subprocess.run(
            [sys.executable, "-c", script], env=clean | variables, capture_output=True, text=True
        )
        assert result.stdout.strip() == wanted, result.stderr


FREE = SimpleNamespace(free=100 * 10**9)


def test_the_working_folder_has_a_quota_whatever_its_disk_says(kaggle, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "KAGGLE_WORKING", tmp_path / "working")
    (tmp_path / "working").mkdir()
    with (tmp_path / "working" / "run.h5").open("wb") as file:
        file.truncate(15 * 10**9)  # a hole, which takes no room
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda folder: FREE)
    paths.need_space(tmp_path / "working" / "cache", 4.9e9, "The cache")
    paths.need_space(tmp_path / "elsewhere", 50e9, "The cache")
    with pytest.raises(OSError, match=r"would take about 5\.1 GB, and 5\.0 GB are free.*20 GB"):
        paths.need_space(tmp_path / "working" / "cache", 5.1e9, "The cache")
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE")
    paths.need_space(tmp_path / "working" / "cache", 50e9, "The cache")
