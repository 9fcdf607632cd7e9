"""From a folder to what training needs: folds and caches made once and used again."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from imetlib.collection import prepared as module
from imetlib.collection.images import ImageError
from imetlib.collection.prepared import locate_collection, prepare_collection
from imetlib.precision import find_precision
from imetlib.profiles import get_profile


@pytest.fixture
def full_profile():
    return get_profile("full", image_shape=(32, 32, 3), epochs=1, num_folds=3)


def test_rows_of_cache_folds_and_table_agree(prepared):
    collection = prepared.collection
    assert prepared.train_pictures.ids.tolist() == collection.train.ids.tolist()
    assert prepared.test_pictures.ids.tolist() == collection.test_ids.tolist()
    assert prepared.folds.shape == (len(collection.train),)
    assert set(prepared.folds) == {0, 1, 2}
    rows = prepared.rows_of_folds(0, 2)
    assert (np.diff(rows) > 0).all() and set(prepared.folds[rows]) == {0, 2}
    assert min(prepared.train_pictures.read(0).shape[:2]) == 32


def test_folds_and_pictures_are_made_once(prepared, tiny_profile, monkeypatch):
    monkeypatch.setattr(module, "make_folds", None)
    monkeypatch.setattr(module, "draw_museum", None)
    monkeypatch.setattr(module, "decode_image", None)
    again = prepare_collection(tiny_profile, out=prepared.workspace.parent)
    np.testing.assert_array_equal(again.folds, prepared.folds)
    assert again.workspace == prepared.workspace != prepared.collection.root


def test_fast_takes_its_museum_whatever_is_asked(museum, tiny_profile):
    assert locate_collection(tiny_profile, "elsewhere", museum.parent) == museum


def test_other_profiles_take_the_folder_and_leave_it_alone(museum, full_profile, tmp_path):
    before = sorted(path.name for path in museum.iterdir())
    data = prepare_collection(full_profile, museum, tmp_path)
    assert data.workspace == tmp_path / museum.name
    # Nothing is changed but what "auto" stands for here.
    assert data.profile == replace(full_profile, precision=find_precision())
    assert sorted(path.name for path in museum.iterdir()) == before


def test_full_takes_its_size_from_the_pictures(museum, tmp_path):
    data = prepare_collection(get_profile("full", num_folds=3), museum, tmp_path)
    height, width, channels = data.profile.image_shape
    assert channels == 3 and data.profile.epochs > 0
    # The museum's pictures have a shorter side of 48 pixels.
    assert 32 <= min(height, width) <= 64


@pytest.fixture
def damaged(museum, tmp_path):
    """The museum with three pictures that cannot be read."""
    root = shutil.copytree(museum, tmp_path / "damaged")
    bad = sorted((root / "train").iterdir())[3:6]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])
    return root, [path.stem for path in bad]


def test_unreadable_pictures_are_all_named(damaged, tmp_path):
    root, bad = damaged
    with pytest.raises(ImageError) as error:
        prepare_collection(get_profile("full", num_folds=3), root, tmp_path / "out")
    for name in bad:
        assert name in str(error.value)


def test_a_missing_folder_is_named(full_profile, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No collection folder at .*nowhere"):
        prepare_collection(full_profile, tmp_path / "nowhere", tmp_path / "out")


def test_a_workspace_never_lies_in_the_collection(museum, full_profile):
    data = prepare_collection(full_profile, museum, museum.parent)
    assert museum not in (data.workspace, *data.workspace.parents)
