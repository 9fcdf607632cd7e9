"""Where things are found, at home and under Kaggle's mounts."""

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
