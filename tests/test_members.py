"""Members: parsed and refused before any work, compared on a holdout, joined for an answer."""

from dataclasses import replace

import pytest

from imetlib.delivery.records import compare_records
from imetlib.profiles import get_profile
from imetlib.training.load import load_run
from imetlib.training.members import (
    COMPARED,
    SUBMITTED,
    Member,
    compare_members,
    parse_members,
    train_members,
    verbosity,
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
        ("resnet:network", "backbone:method, of mobilenet_v2, xception, small_convnet"),
        ("small_convnet", "Received: 'small_convnet'"),
        ("small_convnet:svm", "network, ridge, kernel"),
        ("small_convnet:network small_convnet:network", "twice"),
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
    full = get_profile("full", image_shape=(32, 32, 3))
    assert full.trainable_from == "block_6_expand"
    data = replace(prepared, profile=full)
    assert with_member(data, Member("mobilenet_v2", "network")).profile.trainable_from == (
        "block_6_expand"
    )
    assert with_member(data, Member("xception", "network")).profile.trainable_from == "all"
    assert with_member(data, Member("small_convnet", "network")).profile.weights == ""


def test_fast_is_quiet_and_batch_runs_have_lines(monkeypatch):
    full = get_profile("full")
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert (verbosity(FAST), verbosity(full)) == (0, 2)
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    assert (verbosity(FAST), verbosity(full)) == (0, 1)


def test_compared_on_the_holdout_and_joined_on_all_folds(prepared, tmp_path):
    members = parse_members("small_convnet:network", FAST, COMPARED)
    records = compare_members(prepared, members, tmp_path / "comparison")
    table = compare_records(records, columns=["interval"])
    assert table["num_samples"].tolist() == [len(prepared.rows_of_folds(0))]
    record = train_members(prepared, members, tmp_path / "submission")
    assert record["members"] == ["small_convnet-network"]
    assert record["num_samples"] == len(prepared.folds)
    assert len(load_run(tmp_path / "submission").members) == 3
