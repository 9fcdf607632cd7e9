"""Settings: three profiles, overrides by name, sizes and epochs from the collection."""

import dataclasses
import json

import numpy as np
import pytest

from imetlib.profiles import LATER_SETTINGS, PROFILE_NAMES, Profile, get_profile, scale_shape


def test_fast_needs_nothing_from_outside():
    profile = get_profile("fast")
    assert profile.weights == "" and profile.image_shape and profile.epochs == 6


def test_report_is_the_setting_of_2019():
    profile = get_profile("report")
    assert profile.image_shape == (256, 256, 3)
    assert (profile.learning_rate, profile.epochs) == (1e-3, 7)
    assert profile.batch_size * profile.accumulation == 256


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_a_profile_survives_a_record(name):
    profile = get_profile(name)
    settings = json.loads(json.dumps(profile.to_dict()))
    if settings["image_shape"]:
        settings["image_shape"] = tuple(settings["image_shape"])
    assert Profile(**settings) == profile


def test_overrides_replace_and_none_leaves():
    profile = get_profile("fast", epochs=2, image_shape=[32, 48, 3], batch_size=None)
    assert profile.epochs == 2 and profile.image_shape == (32, 48, 3)
    assert profile.batch_size == get_profile("fast").batch_size


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": 3}, "Unknown settings: epoch. Known: .*epochs"),
        ({"loss": "hinge"}, "`loss` must be one of bce, focal, .*splc. Received: 'hinge'"),
        ({"batch_norm": "off"}, "one of train, frozen"),
        ({"precision": "float16"}, "one of auto, float32, mixed_bfloat16"),
        ({"resize_mode": "fit"}, "one of squash, pad, crop"),
        ({"num_folds": 1}, "num_folds=1"),
        # Fold 0 is the holdout: two folds leave nothing to choose by.
        ({"num_folds": 2}, "`num_folds` must be from 3 to inf. Received: num_folds=2"),
        ({"small_epochs": -1}, "small_epochs=-1"),
        ({"small_scale": 0.2}, r"small_scale=0\.2"),
        ({"small_scale": 1.5}, r"small_scale=1\.5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": 0.0}, r"learning_rate=0\.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"epochs": -1}, "epochs=-1"),
        ({"head_epochs": -1}, "head_epochs=-1"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"ema": 1.5}, r"ema=1\.5"),
        ({"warmup_fraction": 1.5}, r"warmup_fraction=1\.5"),
        ({"weight_decay": -0.1}, r"weight_decay=-0\.1"),
        ({"image_shape": (32, 32)}, r"image_shape=\(32, 32\)"),
        ({"flip": 2.0}, r"flip=2\.0"),
        (
            {"ema": 0.9, "small_epochs": 2},
            r"`small_epochs` or `ema`, not both. Received: small_epochs=2, ema=0\.9",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(overrides, message):
    with pytest.raises(ValueError, match=message):
        get_profile("fast", **overrides)
    with pytest.raises(ValueError, match=r"Unknown profile 'slow'. Known: fast, report, full"):
        get_profile("slow")


def for_sizes(heights, widths, num_pictures=5000, **overrides):
    return get_profile("full", **overrides).for_collection(heights, widths, num_pictures)


def test_full_takes_its_size_from_the_pictures():
    long, short = np.full(100, 450), np.full(100, 300)
    assert for_sizes(long, short).image_shape == (448, 288, 3)
    assert for_sizes(short, long).image_shape == (288, 448, 3)
    # As many upright as wide ones: a square.
    mixed = np.where(np.arange(100) % 2, 300, 450)
    assert for_sizes(mixed, 750 - mixed).image_shape == (288, 288, 3)
    # One and a half times the pictures' own side and not more, nor a strip.
    assert for_sizes(np.full(10, 100), np.full(10, 100)).image_shape == (160, 160, 3)
    assert for_sizes(np.full(10, 7531), np.full(10, 300)).image_shape == (576, 288, 3)


def test_large_collections_take_fewer_epochs_whatever_the_sample():
    sides = np.full(400, 300)
    assert for_sizes(sides, sides, 109_237).epochs < for_sizes(sides, sides, 5000).epochs


@pytest.mark.parametrize(
    ("num_pictures", "size", "shape", "epochs"),
    [
        (6_078, (192, 127), (288, 192, 3), 10),
        (109_237, (300, 300), (288, 288, 3), 6),
        (1_999, (300, 300), (288, 288, 3), 20),
        (2_000, (300, 300), (288, 288, 3), 10),
        (19_999, (300, 300), (288, 288, 3), 10),
        (20_000, (300, 300), (288, 288, 3), 6),
    ],
)
def test_rounds_and_size_of_known_collections(num_pictures, size, shape, epochs):
    height, width = (np.full(400, side) for side in size)
    profile = for_sizes(height, width, num_pictures)
    assert profile.image_shape == shape
    # All of them at the full size: smaller pictures are for who asks for them.
    assert (profile.epochs, profile.small_epochs) == (epochs, 0)


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ({}, {"image_shape": (288, 192, 3), "epochs": 10}),
        ({"image_shape": (64, 96, 3)}, {"epochs": 10}),
        ({"epochs": 3}, {"image_shape": (288, 192, 3)}),
        ({"epochs": 0}, {"image_shape": (288, 192, 3)}),
        ({"small_epochs": 2}, {"image_shape": (288, 192, 3), "epochs": 10}),
        ({"epochs": 5, "small_epochs": 2}, {"image_shape": (288, 192, 3)}),
        ({"image_shape": (64, 64, 3), "epochs": 3}, {}),
        ({"image_shape": (64, 64, 3), "small_epochs": 1}, {"epochs": 10}),
        ({"image_shape": (64, 64, 3), "epochs": 5, "small_epochs": 1}, {}),
    ],
)
def test_what_is_set_stays(given, filled):
    profile = get_profile("full", **given)
    expected = dataclasses.replace(profile, **filled)
    assert profile.for_collection(np.full(9, 192), np.full(9, 127), 6_078) == expected


@pytest.mark.parametrize(
    ("shape", "scale", "small"),
    [
        ((288, 192, 3), 2 / 3, (192, 128, 3)),
        ((288, 288, 3), 2 / 3, (192, 192, 3)),
        ((64, 48, 3), 0.5, (32, 32, 3)),
        ((96, 64, 3), 1.0, (96, 64, 3)),
        ((64, 128, 3), 0.25, (32, 32, 3)),
    ],
)
def test_small_pictures_are_multiples_of_32(shape, scale, small):
    assert get_profile("fast", image_shape=shape, small_scale=scale).small_shape() == small


@pytest.mark.parametrize(
    ("shape", "scale", "small"),
    [
        ((16, 24, 3), 0.5, (16, 24, 3)),
        ((48, 48, 3), 1.0, (48, 48, 3)),
        ((20, 300, 3), 2 / 3, (20, 192, 3)),
        ((63, 31, 3), 1.0, (63, 31, 3)),
    ],
)
def test_small_pictures_are_never_larger_than_the_whole_ones(shape, scale, small):
    assert get_profile("fast", image_shape=shape, small_scale=scale).small_shape() == small


@pytest.mark.parametrize(
    ("scale", "scaled"),
    [(0.67, (192, 128, 3)), (1.0, (288, 192, 3)), (1.5, (448, 288, 3)), (0.01, (32, 32, 3))],
)
def test_a_scaled_shape_has_sides_of_multiples_of_32(scale, scaled):
    assert scale_shape((288, 192, 3), scale) == scaled


def test_either_small_epochs_or_a_running_mean():
    assert get_profile("fast", ema=0.9).ema == 0.9
    assert get_profile("fast", small_epochs=2).small_epochs == 2
    assert get_profile("fast", ema=0.0, small_epochs=2).small_epochs == 2


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_groups_share_unless_asked_otherwise(name):
    assert get_profile(name).exclusive
    assert not get_profile(name, exclusive=False).exclusive


def test_a_record_names_files_without_their_folders(tmp_path):
    profile = get_profile(
        "fast",
        backbone=str(tmp_path / "own.keras"),
        weights=str(tmp_path / "own.weights.h5"),
        normalisation="unit",
    )
    settings = profile.to_dict()
    assert (settings["backbone"], settings["weights"]) == ("own.keras", "own.weights.h5")
    assert str(tmp_path) not in json.dumps(settings)


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_runs_repeat_unless_asked_otherwise(name):
    assert get_profile(name).deterministic
    assert not get_profile(name, deterministic=False).deterministic


def test_records_name_settings_that_came_later_only_where_they_differ():
    plain = get_profile("fast")
    assert LATER_SETTINGS.keys() <= vars(plain).keys()
    assert vars(plain).keys() - plain.to_dict().keys() == LATER_SETTINGS.keys()
    assert get_profile("fast", head="csra").to_dict() == plain.to_dict() | {"head": "csra"}
