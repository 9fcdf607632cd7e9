"""The benchmark of attention compares steps of as many multiply-adds."""

import json

import keras
import pytest

from benchmarks import attention


def builder(filters):
    """A network whose multiply-adds go with its filters."""

    def build(image_shape):
        inputs = keras.Input(image_shape)
        x = keras.layers.Conv2D(filters, image_shape[:2])(inputs)
        return keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(x)))

    return build


def test_batches_hold_as_many_multiply_adds(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(attention, "BUILDERS", {"thick": builder(12), "thin": builder(4)})
    out = tmp_path / "record.json"
    options = ["--side", "33", "--batch-size", "2", "--repeats", "1", "--out", str(out)]
    attention.main(options)
    record = json.loads(out.read_text())
    thick, thin = record["steps"]["thick"], record["steps"]["thin"]
    assert (thick["pictures"], thin["pictures"]) == (2, 6)
    assert thick["billion_macs"] == pytest.approx(2 * 12 * (33 * 33 * 3 + 5) / 1e9)
    assert thin["billion_macs"] == pytest.approx(thick["billion_macs"])
    printed = capsys.readouterr().out
    assert "thick" in printed and "1.00" in printed.splitlines()[-1]


def test_networks_of_the_benchmark():
    shapes = [build((48, 48, 3)).output_shape for build in attention.BUILDERS.values()]
    assert shapes == [(None, attention.NUM_CLASSES)] * 2


@pytest.mark.parametrize("arguments", [["--side", "32"], ["--repeats", "0"]])
def test_sizes_out_of_range(arguments, capsys):
    with pytest.raises(SystemExit):
        attention.main(arguments)
    assert "must be at least" in capsys.readouterr().err
