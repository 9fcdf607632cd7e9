"""The benchmark of the export runs, and its ratios are those to `model.predict`."""

import json

import keras
import numpy as np
import pytest

from benchmarks import export
from imetlib.exported_files import import_openvino


def needs_openvino():
    try:
        import_openvino()
    except ValueError:
        return False
    return keras.backend.backend() == "tensorflow"


@pytest.mark.skipif(not needs_openvino(), reason="needs OpenVINO (extra `export`) and tensorflow")
def test_tiny_run(monkeypatch, tmp_path, capsys):
    def build():
        inputs = keras.Input((16, 16, 3), dtype="uint8")
        x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(inputs))
        return export.with_top(keras.Model(inputs, x)), "random"

    monkeypatch.setattr(export, "BUILDERS", {"tiny": build})
    out = tmp_path / "record.json"
    sizes = ["--batch-size", "2", "--pictures", "5", "--repeats", "1"]
    export.main(["--networks", "tiny", *sizes, "--out", str(out)])
    record = json.loads(out.read_text())
    rows = record["networks"]["tiny"]["ways"]
    assert rows[export.PREDICT]["seconds_ratio"] == 1
    own = rows[export.EXPORTED["float32"]]
    assert own["difference"] < 1e-5 and own["same_labels"] == 1
    assert "OpenVINO float32" in capsys.readouterr().out


def test_rates_ratios_and_labels():
    seconds = {
        export.PREDICT: {"seconds": 4.0, "processor_seconds": 6.0},
        "other": {"seconds": 1.0, "processor_seconds": 4.0},
    }
    logits = np.arange(40, dtype=np.float32).reshape(4, 10)
    moved = logits.copy()
    moved[3, 9] = -1.0  # the highest of all is chosen no more
    rows = export.summarise(seconds, {export.PREDICT: logits, "other": moved}, 8)
    other = rows["other"]
    assert (other["pictures_per_second"], other["pictures_per_processor_second"]) == (8, 2)
    assert (other["seconds_ratio"], other["processor_seconds_ratio"]) == (4.0, 1.5)
    assert (other["difference"], other["same_labels"]) == (40.0, 0.75)
    assert rows[export.PREDICT]["same_labels"] == 1


def test_without_weights_the_benchmark_draws_them(monkeypatch):
    def find_none(*names):
        raise FileNotFoundError

    monkeypatch.setattr(export, "find_weights", find_none)
    model, weights = export.build_mobilenet_v2()
    assert model.output_shape == (None, export.NUM_CLASSES) and weights == "random"


def test_sizes_out_of_range(capsys):
    with pytest.raises(SystemExit):
        export.main(["--pictures", "0"])
    assert "must be at least 1" in capsys.readouterr().err
