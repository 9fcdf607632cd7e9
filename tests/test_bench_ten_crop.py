"""The benchmark of ten windows runs, its ways agree, and its ratios are of single pictures."""

import json

import pytest

from benchmarks import ten_crop

TINY = ["--batch-size", "4", "--hidden", "6", "--filters", "4", "4", "4", "4", "4"]


def test_tiny_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ten_crop, "SCALES", (0.5, 1))
    out = tmp_path / "record.json"
    ten_crop.main([*TINY, "--repeats", "1", "--out", str(out)])
    record = json.loads(out.read_text())
    assert (record["batch_size"], record["hidden"]) == (4, [6])
    for task, goals in ten_crop.GOALS.items():
        rows = record[task]
        assert {*goals, ten_crop.REPORT} <= set(rows)
        assert all(sorted(row["pictures"]) == ["2", "4"] for row in rows.values())
        assert rows[ten_crop.REPORT]["seconds_ratio"] == 1
    printed = capsys.readouterr().out
    assert "cached maps, one gather, bfloat16" in printed and "Evaluation" in printed


def test_ratios_are_those_of_pictures():
    seconds = {
        (ten_crop.REPORT, 4): {"seconds": 4.0, "processor_seconds": 2.0},
        (ten_crop.REPORT, 8): {"seconds": 6.0, "processor_seconds": 5.0},
        (ten_crop.GATHER, 4): {"seconds": 1.0, "processor_seconds": 1.25},
        (ten_crop.GATHER, 8): {"seconds": 4.0, "processor_seconds": 1.0},
    }
    table = ten_crop.summarise(seconds, 4)
    report, gather = table[ten_crop.REPORT], table[ten_crop.GATHER]
    assert (report["batch_size"], gather["batch_size"]) == (8, 4)
    assert report["pictures"][8] == {"seconds": 0.75, "processor_seconds": 0.625}
    assert (gather["seconds_ratio"], gather["processor_seconds_ratio"]) == (3.0, 2.0)
    assert (gather["seconds_ratio_same"], gather["processor_seconds_ratio_same"]) == (4.0, 1.6)


@pytest.mark.parametrize("arguments", [["--batch-size", "1"], ["--repeats", "0"]])
def test_sizes_out_of_range(arguments, capsys):
    with pytest.raises(SystemExit):
        ten_crop.main(arguments)
    assert "must be at least" in capsys.readouterr().err
