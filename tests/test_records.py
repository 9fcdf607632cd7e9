import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imetlib.delivery import machine
from imetlib.delivery.machine import environment
from imetlib.delivery.records import (
    COMPARED,
    METRIC,
    compare_records,
    new_record,
    read_record,
    write_record,
)


def make_record(run="run1", **changes):
    entries = {
        "profile": "fast",
        "seed": 0,
        "split": "val",
        "image_shape": (96, 96, 3),
        "collection_sha256": "ab" * 32,
        "folds_sha256": "cd" * 32,
        "score": 0.6,
        "constant_score": 0.4,
        "num_samples": 200,
        "parameters": {"epochs": 7, "loss": "bce"},
    }
    return new_record(run, **(entries | changes))


def test_record_survives_the_file(tmp_path):
    record = make_record(
        score=np.float32(0.5),
        parameters={"epochs": np.int64(7), "weights": Path("/home/someone/weights.h5")},
        scores={"by_group": np.array([0.25, 0.5])},
        seconds={"train": 12.5},
        threshold=0.06,
    )
    path = write_record(tmp_path / "runs" / "run1", record)
    assert path.name == "record.json"
    assert read_record(path) == read_record(path.parent) == record
    assert record["score"] == 0.5
    assert record["parameters"] == {"epochs": 7, "weights": "weights.h5"}
    assert record["scores"] == {"by_group": [0.25, 0.5]}
    assert record["metric"] == METRIC
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


def test_record_says_where_and_what_not_whose():
    place = make_record()["environment"]
    assert set(place) == {
        *("device", "cores", "threads", "backend", "onednn"),
        *("python", "system", "versions", "commit"),
    }
    assert place["device"]
    assert place["cores"] >= 1
    assert place["versions"]["numpy"] == np.__version__
    assert str(Path.home()) not in json.dumps(place)
    assert environment("1 x TPU")["device"] == "1 x TPU"


def test_commit_only_inside_a_checkout_of_the_package(tmp_path, monkeypatch):
    package = tmp_path / "imetlib" / "delivery"
    package.mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", str(package / "machine.py"))
    assert machine._git_commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert machine._git_commit() is None, "a checkout without a commit has none to name"
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    commit = machine._git_commit()
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert machine._git_commit() == commit + "+"
    # The virtual environment of another project's checkout is no checkout of this package.
    installed = tmp_path / ".venv" / "site-packages" / "imetlib" / "delivery"
    monkeypatch.setattr(machine, "__file__", str(installed / "machine.py"))
    assert machine._git_commit() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": float("nan")}, "`score` must be finite. Received: nan"),
        ({"scores": {"a": [1, np.inf]}}, r"`scores.a\[1\]` must be finite"),
        ({"model": object()}, "`model` has no place in a record. Received: object"),
    ],
)
def test_what_no_record_holds(changes, message):
    with pytest.raises(ValueError, match=message):
        make_record(**changes)


@pytest.mark.parametrize("missing", ["split", "metric", "image_shape", "constant_score"])
def test_record_without_its_terms_is_refused(tmp_path, missing):
    record = make_record()
    del record[missing]
    with pytest.raises(ValueError, match=f"lacks {missing}: without them its numbers"):
        write_record(tmp_path, record)
    with pytest.raises(ValueError, match=f"lacks {missing}"):
        compare_records([record])
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"record.json lacks {missing}"):
        read_record(tmp_path)


def test_unreadable_records(tmp_path):
    with pytest.raises(ValueError, match=r"record\.json: no such record; train the run first"):
        read_record(tmp_path)
    (tmp_path / "record.json").write_text('{"run": ')
    with pytest.raises(ValueError, match=r"record\.json: not a record"):
        read_record(tmp_path)


def test_record_of_another_run_is_not_overwritten(tmp_path):
    write_record(tmp_path, make_record("run1"))
    write_record(tmp_path, make_record("run1", score=0.7))
    with pytest.raises(ValueError, match="is the record of run 'run1': write 'run2' elsewhere"):
        write_record(tmp_path, make_record("run2"))
    assert read_record(tmp_path)["score"] == 0.7


def test_comparison_is_sorted_and_shows_the_floor():
    records = [
        make_record("a", score=0.5),
        make_record("b", score=0.7),
        make_record("c", score=0.4),
    ]
    table = compare_records(records, columns=("epochs", "threshold"))
    assert table["run"].tolist() == ["b", "a", "c"]
    np.testing.assert_allclose(table["gain"], [0.3, 0.1, 0.0], atol=1e-12)
    assert table["above_constant"].tolist() == [True, True, False], "equal is not above"
    assert table["epochs"].tolist() == [7, 7, 7]
    assert table["threshold"].isna().all()
    assert list(table.columns[:3]) == ["run", "score", "constant_score"]
    assert table.attrs["metric"] == METRIC


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("split", "test"),
        ("metric", "micro F2"),
        ("image_shape", (128, 128, 3)),
        ("collection_sha256", "00" * 32),
        ("folds_sha256", None),
    ],
)
def test_comparison_refuses_to_mix(field, other):
    records = [make_record("a"), make_record("b", **{field: other})]
    with pytest.raises(ValueError, match=f"differ in `{field}` cannot be ranked.*run a.*run b"):
        compare_records(records)
    table = compare_records(records, allow=(field,))
    assert table[field].nunique(dropna=False) == 2
    assert set(COMPARED) - {field} == set(table.attrs)


def test_bad_calls():
    with pytest.raises(ValueError, match="No records to compare"):
        compare_records([])
    with pytest.raises(ValueError, match=r"`allow` takes split, metric, .* Received: seed"):
        compare_records([make_record()], allow=("seed",))


def test_other_machines_are_said():
    records = [make_record("a"), make_record("b", device="1 x GPU")]
    with pytest.warns(UserWarning, match="different machines: times and last digits"):
        compare_records(records)


def test_room_imports_without_heavy_libraries():
    modules = "decisions.thresholds delivery.submission delivery.records delivery.notebooks"
    code = "import sys\n" + "".join(
        f"import imetlib.{name}\n" for name in [*modules.split(), "delivery.report"]
    )
    heavy = "keras tensorflow numba sklearn papermill matplotlib nbformat nbconvert pandas scipy"
    code += f"print([name for name in {heavy.split()} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.strip() == "[]", finished.stderr
