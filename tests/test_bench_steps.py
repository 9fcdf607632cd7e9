"""The benchmark of training steps runs, and counts the time of operations once."""

import json

import pytest

from benchmarks import steps
from benchmarks.steps import kind_of, own_times

pytestmark = pytest.mark.keras


def test_own_times_are_without_those_inside():
    events = [
        (0, -100, "ExecutorState::Process"),
        (10, -50, "model/conv:_MklNativeConv2D"),
        (20, -30, "ThreadPool::Run"),
        (25, -10, "model/add:AddV2"),
        (70, -20, "step/Adam:AssignSubVariableOp"),
        (200, -7, "model/bn:_MklNativeFusedBatchNormV3"),
    ]
    assert own_times(events[::-1]) == {
        "convolutions": 50 - 10,
        "other arithmetic": 10,
        "assignments": 20,
        "batch normalisation": 7,
    }


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("_MklNativeDepthwiseConv2dNativeBackpropFilter", "convolutions"),
        ("_MklNativeFusedBatchNormGradV3", "batch normalisation"),
        ("_MklEinsum", "matrix products"),
        ("ResizeBilinearGrad", "pooling, resizing, cropping"),
        ("Relu6Grad", "activations"),
        ("Sum", "sums and means"),
        ("UnsortedSegmentSum", "other arithmetic"),
    ],
)
def test_kinds(operation, kind):
    assert kind_of(operation) == kind


def test_tiny_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(steps, "STEPS_A_CALL", 2)
    name = "Ten crops on CIFAR-10, all layers"
    out = tmp_path / "record.json"
    steps.main(["--networks", name, "--scale", "0.02", "--repeats", "1", "--out", str(out)])
    record = json.loads(out.read_text())
    row = record["networks"][name]
    assert row["pictures"] == 3
    assert row["ways"]["default"]["seconds_ratio"] == 1
    assert {"default", "bfloat16"} <= set(row["ways"])
    for shares in row["shares"].values():
        assert sum(shares.values()) == pytest.approx(1) and shares["convolutions"] > 0
    assert record["steps_in_one_call"]["steps"] == 2
    assert "a training step of 3 pictures" in capsys.readouterr().out
