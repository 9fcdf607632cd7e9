"""The benchmark of decisions runs, and its scores are of the kind it says."""

import json

import numpy as np
import pytest

from benchmarks.decisions import evaluate_bool, main
from benchmarks.synthetic import CLASS_NAMES, make_scores
from imetlib.decisions.fbeta import fbeta_samples


def test_synthetic_scores_look_like_imet():
    y_true, y_prob = make_scores(5000)
    again_true, again = make_scores(5000)
    np.testing.assert_array_equal(y_prob, again)
    np.testing.assert_array_equal(y_true.indices, again_true.indices)
    assert y_prob.shape == (5000, 1103) == (len(y_true), len(CLASS_NAMES))
    assert y_prob.dtype == np.float32 and 0 < y_prob.min() < y_prob.max() <= 1
    assert 3.0 < y_true.labels_per_sample().mean() < 3.3
    assert 0.45 < fbeta_samples(y_true, y_prob >= np.float32(0.065)) < 0.55
    assert evaluate_bool(y_true.dense(), y_prob) == pytest.approx(
        fbeta_samples(y_true, y_prob >= np.float32(0.06))
    )


def test_table_and_record(tmp_path, capsys):
    pytest.importorskip("numba")
    small = ["--samples", "1000", "--repeats", "1", "--checked", "5", "--neighbours", "0.001"]
    main([*small, "--out", str(tmp_path / "record.json")])
    printed = capsys.readouterr().out
    assert "exact culture/tag pair" in printed and "multiplied, not run" in printed
    assert "sets of best expected F2, exact" in printed and "nearest_neighbours" in printed
    record = json.loads((tmp_path / "record.json").read_text())
    rows = record["rows"]
    scores = {rows[f"exact threshold, {engine}"]["score"] for engine in ("numba", "NumPy")}
    assert len(scores) == 1
    assert rows["exact culture/tag pair"]["score"] >= scores.pop()
    check = record["sets_against_exact"]
    assert check["rows"] == 5 and check["largest_loss"] < 1e-4
    assert record["neighbours"]["scale"] == 0.001
    assert record["neighbours"]["rows"][0]["name"] == "matrix product"


@pytest.mark.parametrize(
    "arguments", [["--samples", "10"], ["--neighbours", "0"], ["--checked", "0"]]
)
def test_sizes_out_of_range(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "must be" in capsys.readouterr().err
