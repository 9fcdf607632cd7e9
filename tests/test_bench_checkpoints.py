"""The benchmark of checkpoints: its shares are of the epoch that a save follows."""

import json

import pytest

from benchmarks import checkpoints


def test_tiny_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(checkpoints, "NETWORKS", {"small_convnet": 32})
    out = tmp_path / "record.json"
    checkpoints.main(
        ["--pictures", "320", "--classes", "7", "--repeats", "1", "--folder", str(tmp_path),
         "--out", str(out)]
    )  # fmt: skip
    row = json.loads(out.read_text())["networks"]["small_convnet"]
    for clock in ("seconds", "processor_seconds"):
        assert row[f"save_{clock}"] > 0 and row[f"decisions_{clock}"] > 0
        both = row[f"save_{clock}"] + row[f"decisions_{clock}"]
        assert row[f"share_{clock}"] == pytest.approx(both / row[f"epoch_{clock}"])
    # Weights, two moments of each, and the best weights once more.
    assert 4 * 4 * 500_000 / 1e6 < row["megabytes"] < 4 * 4 * 2_000_000 / 1e6
    assert "small_convnet, 32 px" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("arguments", [["--pictures", "31"], ["--repeats", "0"]])
def test_sizes_out_of_range(arguments, capsys):
    with pytest.raises(SystemExit):
        checkpoints.main(arguments)
    assert "must be at least" in capsys.readouterr().err
