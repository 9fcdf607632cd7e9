"""Members: parsed and refused before any work, compared on a holdout, joined for an answer."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from imetlib.collection.prepared import with_settings
from imetlib.delivery.records import compare_records
from imetlib.profiles import PROFILE_NAMES, get_profile
from imetlib.scores import load_scores
from imetlib.training import members as module
from imetlib.training.load import load_run
from imetlib.training.members import (
    COMPARED,
    SUBMITTED,
    Member,
    compare_members,
    parse_members,
    seeds_of,
    train_members,
    verbosity,
    weights_of,
    with_member,
)

FAST = get_profile("fast")


def test_defaults_and_words():
    assert [member.name for member in parse_members("", FAST, SUBMITTED)] == [
        "small_convnet-network"
    ]
    members = parse_members("small_convnet:network mobilenet_v2:network", FAST, COMPARED)
    assert members == [Member("small_convnet", "network"), Member("mobilenet_v2", "network")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet:network", "Unknown backbone 'resnet'. Known: mobilenet_v2, xception, small_conv"),
        ("small_convnet", "Received: 'small_convnet'"),
        ("small_convnet:svm", "network, ridge, kernel"),
        ("small_convnet:network small_convnet:network", "twice"),
        ("small_convnet:network@64x64 small_convnet:network@64x64", "twice"),
        (
            "small_convnet:network@64",
            "@HEIGHTxWIDTH or @FRACTION.*Received: 'small_convnet:network@64'",
        ),
        ("small_convnet:network@64x", "Received: 'small_convnet:network@64x'"),
        ("small_convnet:network@2", "Received: 'small_convnet:network@2'"),
        ("small_convnet:network@-0.5", "Received: 'small_convnet:network@-0.5'"),
        ("small_convnet:network@0.5 small_convnet:network@0.5", "twice"),
        ("small_convnet:network@0x64", r"at least 16 x 16.*\(0, 64, 3\)"),
        (
            "small_convnet:network@64x15",
            r"small_convnet takes pictures of at least 16.*\(64, 15, 3\)",
        ),
        # Also the profile's own size, where a member names none.
        ("xception:network", r"xception takes pictures of at least 71 x 71.*\(48, 48, 3\)"),
        ("small_convnet:network xception:network@70x96", r"at least 71.*\(70, 96, 3\)"),
        ("mobilenet_v2:kernel", "needs pretrained weights"),
    ],
)
def test_what_cannot_be_trained_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_members(text, FAST, COMPARED)


def test_missing_weights_stop_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setenv("IMETLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="No ImageNet weights of xception"):
        parse_members("xception:kernel", get_profile("full"), COMPARED)


def test_a_layer_name_belongs_to_one_backbone(prepared):
    assert get_profile("full").trainable_from == "late"
    full = get_profile("full", image_shape=(32, 32, 3), trainable_from="block_6_expand")
    data = replace(prepared, profile=full)
    assert with_member(data, Member("mobilenet_v2", "network")).profile.trainable_from == (
        "block_6_expand"
    )
    # Of another backbone the same part learns, by its own names.
    xception = with_member(data, Member("xception", "network", "96x96")).profile
    assert xception.trainable_from == "late" and xception.weights == "imagenet"
    for kept in ("all", "head", "late"):
        other = with_settings(data, trainable_from=kept)
        changed = with_member(other, Member("xception", "network", "96x96"))
        assert changed.profile.trainable_from == kept
    with pytest.raises(ValueError, match="at least 71 x 71"):
        with_member(data, Member("xception", "network"))


@pytest.mark.parametrize("trainable_from", ["late", "all", "block_6_expand"])
def test_a_random_start_learns_in_all_layers(prepared, trainable_from):
    data = replace(prepared, profile=get_profile("full", image_shape=(32, 32, 3)))
    data = with_settings(data, num_folds=6, trainable_from=trainable_from)
    profile = with_member(data, Member("small_convnet", "network")).profile
    assert (profile.weights, profile.trainable_from) == ("", "all")


def test_only_the_head_learns_where_that_is_asked_for(prepared):
    data = with_settings(prepared, trainable_from="head")
    assert with_member(data, Member("small_convnet", "network")).profile.trainable_from == "head"


def test_fast_is_quiet_and_batch_runs_have_lines(monkeypatch):
    full = get_profile("full")
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert (verbosity(FAST), verbosity(full)) == (0, 2)
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    assert (verbosity(FAST), verbosity(full)) == (0, 1)


@pytest.mark.parametrize("name", PROFILE_NAMES)
@pytest.mark.parametrize("defaults", [COMPARED, SUBMITTED], ids=["compared", "submitted"])
def test_defaults_are_well_formed(name, defaults, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_weights", lambda *arguments: None)
    weights = str(tmp_path / "museum.weights.h5") if name == "fast" else "imagenet"
    profile = get_profile(name, weights=weights)
    members = parse_members("", profile, defaults)
    assert len({member.name for member in members}) == len(members) >= 1


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_defaults_compare_frozen_with_fine_tuned(name):
    """Frozen features alone rank no backbones: each backbone is trained as well."""
    words = COMPARED[name].split()
    backbones = {word.split(":")[0] for word in words}
    assert all({f"{backbone}:ridge", f"{backbone}:network"} <= {*words} for backbone in backbones)
    assert len(backbones) == {"fast": 1, "report": 4, "full": 2}[name]


def test_a_backbone_without_stock_weights_starts_at_random():
    full = get_profile("full")
    assert weights_of(Member("xception", "network"), full) == "imagenet"
    assert weights_of(Member("small_convnet", "network"), full) == ""
    own = replace(full, weights="museum.weights.h5")
    assert weights_of(Member("small_convnet", "ridge"), own) == "museum.weights.h5"


def test_seeds_of_a_comparison():
    assert seeds_of(FAST, 3, 0) == [3, 4, 5, 6, 7]
    assert seeds_of(get_profile("full"), 3, 0) == [3]
    for profile in (FAST, get_profile("report")):
        assert seeds_of(profile, 0, 2) == [0, 1]


# Sizes and files ------------------------------------------------------------------------------


def test_a_member_has_a_size_of_its_own():
    sizes = ["", "64x48", "0.67", "1.5"]
    words = [f"small_convnet:network{'@' if size else ''}{size}" for size in sizes]
    members = parse_members(" ".join(words), FAST, COMPARED)
    assert members == [Member("small_convnet", "network", size) for size in sizes]
    names = [f"small_convnet-network{'-' if size else ''}{size}" for size in sizes]
    assert [member.name for member in members] == names
    # A fraction is one of the profile's size, which `full` takes from the collection.
    shapes = [member.image_shape((288, 192, 3)) for member in members]
    assert shapes == [(288, 192, 3), (64, 48, 3), (192, 128, 3), (448, 288, 3)]
    assert [member.image_shape(None) for member in members] == [None, (64, 48, 3), None, None]


def test_a_fraction_that_is_too_small_is_refused_once_the_size_is_known(prepared):
    full = get_profile("full", image_shape=(96, 96, 3), weights="")
    with pytest.raises(ValueError, match=r"at least 71 x 71.*\(64, 64, 3\)"):
        parse_members("xception:network@0.67", full, COMPARED)
    (member,) = parse_members("xception:network@0.67", replace(full, image_shape=None), COMPARED)
    with pytest.raises(ValueError, match=r"at least 71 x 71.*\(64, 64, 3\)"):
        with_member(with_settings(prepared, image_shape=(96, 96, 3)), member)


@pytest.fixture(scope="module")
def own_file(tmp_path_factory):
    """A network of the user's own, fixed to 32 x 48 pixels."""
    path = tmp_path_factory.mktemp("elsewhere") / "own_net.v2.keras"
    inputs = keras.Input((32, 48, 3))
    keras.Model(inputs, keras.layers.Conv2D(4, 3, strides=2)(inputs)).save(path)
    return path


def test_a_member_may_be_a_file(own_file):
    profile = replace(FAST, normalisation="unit")
    (member,) = parse_members(f"{own_file}:network@32x48", profile, COMPARED)
    assert member == Member(str(own_file), "network", "32x48")
    assert member.name == "own_net.v2-network-32x48"
    with pytest.raises(ValueError, match=r"fixed to pictures of height and width \(32, 48\)"):
        parse_members(f"{own_file}:network@48x48", profile, COMPARED)
    with pytest.raises(FileNotFoundError, match=r"No model file at .*none\.keras"):
        parse_members(f"{own_file.with_name('none.keras')}:network", profile, COMPARED)


def test_a_file_without_normalisation_is_refused(own_file):
    with pytest.raises(ValueError, match=r"own_net\.v2\.keras.* give `normalisation`, one of tf"):
        parse_members(f"{own_file}:network@32x48", FAST, COMPARED)


def test_a_file_may_stand_below_the_home_folder(own_file, monkeypatch):
    monkeypatch.setenv("HOME", str(own_file.parent))
    profile = replace(FAST, normalisation="unit")
    (member,) = parse_members(f"~/{own_file.name}:ridge@32x48", profile, COMPARED)
    assert member.backbone == str(own_file)


def test_a_file_keeps_what_only_the_user_knows(prepared, own_file):
    """Its normalisation and its first layer that learns; stock backbones have their own."""
    data = with_settings(
        prepared,
        backbone=str(own_file),
        normalisation="unit",
        trainable_from="conv2d",
        image_shape=(32, 48, 3),
    )
    for kept in ("conv2d", "all", "head", "late"):
        own = with_member(
            with_settings(data, trainable_from=kept), Member(str(own_file), "network")
        ).profile
        assert (own.normalisation, own.trainable_from) == ("unit", kept)
    stock = with_member(data, Member("small_convnet", "network")).profile
    assert (stock.normalisation, stock.trainable_from) == ("", "all")


def test_another_size_gets_its_own_cache(prepared):
    wide = with_settings(prepared, image_shape=(32, 64, 3))
    assert wide.train_pictures is prepared.train_pictures
    small = with_settings(prepared, image_shape=(16, 32, 3))
    assert small.profile.image_shape == (16, 32, 3) and small.profile.epochs == 1
    for mine, other in (
        (small.train_pictures, prepared.train_pictures),
        (small.test_pictures, prepared.test_pictures),
    ):
        assert mine.ids.tolist() == other.ids.tolist()
        assert min(mine.read(0).shape[:2]) == 16 < min(other.read(0).shape[:2])
    assert (prepared.workspace / "pictures-train-16px").is_dir()
    assert small.folds is prepared.folds and small.workspace == prepared.workspace
    # The collection that was given is as it was.
    assert prepared.profile.image_shape == (32, 32, 3)


def test_folds_belong_to_the_collection(prepared):
    with pytest.raises(ValueError, match=r"Folds stay: 3\. Received: num_folds=4"):
        with_settings(prepared, num_folds=4)
    assert with_settings(prepared, num_folds=3).profile == prepared.profile


# Trained --------------------------------------------------------------------------------------


def test_compared_on_the_holdout(prepared, tmp_path, monkeypatch):
    members = parse_members("small_convnet:network small_convnet:network@16x24", FAST, COMPARED)
    data = with_settings(prepared, trainable_from="late", batch_size=100)
    records = compare_members(data, members, tmp_path)
    assert [record["run"] for record in records] == [member.name for member in members]
    assert [record["image_shape"] for record in records] == [[32, 32, 3], [16, 24, 3]]
    table = compare_records(records, columns=["interval"], allow=["image_shape"])
    assert table["num_samples"].tolist() == [len(prepared.rows_of_folds(0))] * 2
    for record in records:
        # From scratch all layers learn, whatever the profile says of pretrained ones.
        statistics = 2 * 2 * (24 + 48 + 96 + 192)
        assert record["trainable_params"] == record["num_params"] - statistics
        assert record["parameters"]["trainable_from"] == "all"
    assert records[0]["macs"] > records[1]["macs"] > 0


def test_further_seeds_get_folders_of_their_own(prepared, tmp_path, monkeypatch):
    asked = []

    def train_fold(data, folder, fold, *, method, seed, verbose):
        asked.append((folder.relative_to(tmp_path).as_posix(), fold, method, seed))
        return {"run": folder.name}

    monkeypatch.setattr(module, "train_fold", train_fold)
    members = [Member("small_convnet", "network"), Member("small_convnet", "network", "16x24")]
    records = compare_members(prepared, members, tmp_path, seeds=(4, 5, 0))
    names = [
        f"small_convnet-network{size}{seed}"
        for size in ("", "-16x24")
        for seed in ("", "-seed5", "-seed0")
    ]
    assert [record["run"] for record in records] == names
    assert asked == [
        (name, 1, "network", seed) for name, seed in zip(names, [4, 5, 0] * 2, strict=True)
    ]


def test_every_member_is_checked_before_the_first_is_trained(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train_fold", None)
    members = [Member("small_convnet", "network"), Member("xception", "network")]
    for train in (compare_members, train_members):
        with pytest.raises(ValueError, match="at least 71 x 71"):
            train(prepared, members, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_joined_on_all_folds(prepared, tmp_path, monkeypatch):
    """Of a profile whose own backbone has no weights here: no member needs them."""
    monkeypatch.setenv("IMETLIB_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "none"))
    data = with_settings(prepared, epochs=0, backbone="mobilenet_v2", weights="imagenet")
    members = parse_members("small_convnet:network", data.profile, SUBMITTED)
    record = train_members(data, members, tmp_path / "submission")
    assert record["members"] == ["small_convnet-network"]
    assert record["num_samples"] == len(prepared.rows_of_folds(0))
    assert record["selection"]["num_samples"] == len(prepared.rows_of_folds(1, 2))
    scores = load_scores(tmp_path / "submission/scores-oof.npz")
    inner = prepared.collection.train.ids[prepared.folds != 0]
    np.testing.assert_array_equal(scores.ids, inner)
    assert len(load_run(tmp_path / "submission").members) == 2
