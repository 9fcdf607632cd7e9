"""A pretrained start that nobody downloads: trained once, read ever after."""

import dataclasses

import keras
import numpy as np
import pytest

from imetlib.collection.prepared import with_settings
from imetlib.collection.tables import read_collection
from imetlib.models.backbones import build_backbone
from imetlib.profiles import get_profile
from imetlib.training import pretrain
from imetlib.training.features import frozen_features
from imetlib.training.fold_runs import train_fold
from imetlib.training.members import Member, parse_members
from imetlib.training.pretrain import starting_weights


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def weights(out, tiny_profile):
    """Path of weights of one epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "EPOCHS", 1)
        return starting_weights(tiny_profile, out)


@pytest.fixture
def short(monkeypatch):
    """As `weights` was made, and nothing may be trained again."""

    def refuse(*arguments):
        raise AssertionError("trained")

    monkeypatch.setattr(pretrain, "EPOCHS", 1)
    monkeypatch.setattr(pretrain, "_pretrain", refuse)


@pytest.mark.parametrize("name", ["report", "full"])
@pytest.mark.parametrize("given", ["imagenet", "", "own.weights.h5"])
def test_elsewhere_the_profile_says_what_to_start_from(tmp_path, short, name, given):
    assert starting_weights(get_profile(name, weights=given), tmp_path) == given
    assert list(tmp_path.iterdir()) == []


def test_trained_once(out, weights, tiny_profile, short):
    assert weights.endswith(".weights.h5") and (out / weights).parent == out
    assert (out / weights).name.startswith("small_convnet-museum-")
    assert starting_weights(tiny_profile, out) == weights
    # What the profile starts from now, and how long it trains then, changes nothing.
    started = dataclasses.replace(tiny_profile, weights=weights, epochs=5)
    assert starting_weights(started, out) == weights
    assert not [path for path in out.rglob("*") if path.name.startswith(".") or "tmp" in path.name]


@pytest.mark.parametrize(
    "settings",
    [{"image_shape": (48, 48, 3)}, {"learning_rate": 1e-4}, {"museum_size": 201}, {"flip": 0.0}],
)
def test_other_settings_are_trained_afresh(out, weights, tiny_profile, short, settings):
    with pytest.raises(AssertionError, match="trained"):
        starting_weights(dataclasses.replace(tiny_profile, **settings), out)


def test_the_other_museum_has_other_pictures_and_no_test_split(out, weights, prepared):
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    other = read_collection(folder)
    assert len(other.train) == 200 and len(other.test_ids) == 0
    assert other.sha256 != prepared.collection.sha256
    assert folder.name != prepared.name and folder.name.endswith("-1")


def test_the_backbone_starts_from_it(prepared, weights):
    started = build_backbone("small_convnet", (32, 32, 3), weights=weights)
    other = build_backbone("small_convnet", (32, 32, 3))
    for one in started.get_weights():
        assert np.isfinite(one).all()
    pictures = np.stack([prepared.train_pictures.read(row)[:32, :32] for row in range(4)])
    maps = [model.predict_on_batch(pictures) for model in (started, other)]
    assert maps[0].shape == maps[1].shape == (4, 2, 2, 192)
    assert np.abs(maps[0] - maps[1]).max() > 0.01
    # Moving statistics are those of pictures, not the initial ones.
    moved = [layer for layer in started.layers if layer.name.endswith("_bn")]
    means = [keras.ops.convert_to_numpy(layer.moving_mean) for layer in moved]
    assert len(means) == 8 and all(np.abs(mean).max() > 0 for mean in means)


def test_both_phases_of_a_comparison_start_from_it(prepared, weights, tmp_path):
    data = with_settings(prepared, weights=weights, epochs=0)
    assert parse_members("small_convnet:ridge", data.profile, {}) == [
        Member("small_convnet", "ridge")
    ]
    assert frozen_features(data, "train").shape == (2, len(prepared.folds), 2 * (96 + 192))
    frozen = train_fold(data, tmp_path / "frozen", 1, method="ridge")
    tuned = train_fold(data, tmp_path / "tuned", 1)
    assert frozen["weights_sha256"] == tuned["weights_sha256"] is not None
    assert (
        frozen["parameters"]["weights"]
        == tuned["parameters"]["weights"]
        == (weights.rpartition("/")[2])
    )
