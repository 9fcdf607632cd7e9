"""What is committed under results/ is whole, and the README says what it says."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imetlib.delivery import results
from imetlib.delivery.audit import AuditError, audit_comparison
from imetlib.delivery.records import compare_records, new_record, read_record, write_record
from imetlib.delivery.results import (
    committed_runs,
    committed_table,
    comparison_table,
    has_committed_table,
    markdown_table,
    phase_of,
    publish_results,
    repeat_command,
)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "pomological"


def record(run, score, *, method="network", weights_sha256="e" * 64, **more):
    entries = {
        "profile": "full",
        "seed": 0,
        "split": "held-out sixth",
        "image_shape": (8, 6, 3),
        "collection_sha256": "c",
        "folds_sha256": "f",
        "constant_score": 0.2,
        "num_samples": 10,
        "interval": [score - 0.1, score + 0.1],
        "num_params": 2_000_000,
        "seconds": 120.0,
        "macs": 3_210_000_000,
        "selection": {"split": "val fold 1", "score": 0.9},
    }
    return new_record(
        run, score=score, method=method, weights_sha256=weights_sha256, **(entries | more)
    )


def write_runs(folder, *, compared=("ridge", "network")):
    for run, score, method in zip("ab", (0.5, 0.6), compared, strict=True):
        (folder / "comparison" / run).mkdir(parents=True)
        write_record(folder / "comparison" / run, record(run, score, method=method))
    (folder / "submission" / "b").mkdir(parents=True)
    write_record(folder / "submission" / "b", record("b", 0.6))
    out_of_fold = {"split": "out-of-fold", "score": 0.65}
    blend = record("submission", 0.7, method="blend", members=["b"], selection=out_of_fold)
    write_record(folder / "submission", blend)
    (folder / "submission" / "submission.csv").write_text("id,attribute_ids\nx,1\n")


def test_published_records_and_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "runs")
    records = publish_results("runs", "results")
    assert [item["run"] for item in records] == ["a", "b", "submission", "b"]
    assert read_record(tmp_path / "results" / "comparison" / "a")["score"] == 0.5
    assert (tmp_path / "results" / "submission.csv").read_text() == "id,attribute_ids\nx,1\n"
    with (tmp_path / "results" / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["phase"], row["low"], row["high"]) for row in rows] == [
        ("b", "fine-tuned", "0.5", "0.7"),
        ("a", "frozen", "0.4", "0.6"),
    ]
    assert rows[1]["command"] == ("python -m imetlib repeat results/comparison/a --collection DIR")
    # Again, over what is there.
    assert publish_results("runs", "results") == records


def test_the_table_of_the_readme():
    out_of_fold = {"split": "out-of-fold", "score": 0.6543}
    records = [
        record("a", 0.5, method="ridge", trainable_params=1_500_000, features_seconds=180.0),
        record("blend", 0.7, method="blend", selection=out_of_fold, num_samples=1_013),
    ]
    head, _, *rows = markdown_table(records).splitlines()
    assert [word.strip() for word in head.strip("|").split("|")] == [
        "run", "phase", "split", "F2 (95 % interval)", "out of fold", "constant answer",
        "pictures", "size", "multiply-adds", "fitted", "training",
    ]  # fmt: skip
    assert rows == [
        "| blend | blend | held-out sixth | **0.700** (0.600 to 0.800) | 0.654 | 0.200 | 1,013 "
        "|  | 3.21 G | 2.0 M | 2 min |",
        "| a | frozen | held-out sixth | **0.500** (0.400 to 0.600) |  | 0.200 | 10 | 8 x 6 "
        "| 3.21 G | 1.5 M | 5 min |",
    ]


@pytest.mark.parametrize(
    ("entries", "phase"),
    [
        ({"method": "ridge"}, "frozen"),
        ({"method": "kernel"}, "frozen"),
        ({"method": "network"}, "fine-tuned"),
        ({"method": "network", "weights_sha256": None}, "from scratch"),
        ({"method": "blend", "weights_sha256": None}, "blend"),
    ],
)
def test_phases(entries, phase):
    assert phase_of(record("a", 0.5, **entries)) == phase


@pytest.mark.parametrize("compared", [("ridge", "ridge"), ("ridge", "kernel")])
def test_frozen_backbones_alone_are_not_published(tmp_path, compared):
    write_runs(tmp_path / "runs", compared=compared)
    with pytest.raises(AuditError, match="comparison: only heads were trained"):
        publish_results(tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("where", ["comparison/a", "submission/b", "submission"])
def test_what_names_a_person_or_a_machine_is_not_published(tmp_path, where):
    write_runs(tmp_path / "runs")
    path = tmp_path / "runs" / where / "record.json"
    content = json.loads(path.read_text())
    content["parameters"]["weights"] = "/ho" + "me/ann/mine.h5"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"publish: record\.json, parameters\.weights, .* folder"):
        publish_results(tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_runs_of_other_folds_are_not_published(tmp_path):
    write_runs(tmp_path / "runs")
    write_record(tmp_path / "runs/comparison/a", record("a", 0.5, folds_sha256="other"))
    with pytest.raises(AuditError, match="folds_sha256 differs"):
        publish_results(tmp_path / "runs", tmp_path / "results")


def test_sizes_may_differ_and_stand_in_the_table():
    records = [record("a", 0.5, method="ridge"), record("b", 0.6, image_shape=(4, 4, 3))]
    table = comparison_table(records, Path("results") / "museum")
    assert table["image_shape"].tolist() == ["4 x 4 x 3", "8 x 6 x 3"]
    assert table["macs"].tolist() == [3_210_000_000] * 2
    assert table["command"].tolist() == [repeat_command(f"results/museum/{run}") for run in "ba"]


def test_the_command_that_repeats_a_run():
    assert repeat_command("results/watercolours/record.json") == (
        "python -m imetlib repeat results/watercolours/record.json --collection DIR"
    )
    assert repeat_command(Path("a") / "b") == "python -m imetlib repeat a/b --collection DIR"


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such record"):
        publish_results(tmp_path, tmp_path / "results")


@pytest.mark.skipif(not RESULTS.is_dir(), reason="no committed results")
def test_tables_are_made_of_the_committed_records():
    readme = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    compared = [read_record(path) for path in RESULTS.glob("comparison/*/record.json")]
    answered = [read_record(path) for path in RESULTS.glob("submission/*/record.json")]
    assert compared and answered
    for line in markdown_table([*compared, *answered]).splitlines():
        assert line in readme
    compare_records(compared, allow=("image_shape",))
    assert all(item["score"] > item["constant_score"] for item in [*compared, *answered])
    # What the first page says is among them.
    summary = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Results\n")[1]
    said = re.findall(r"\| (\*\*0\.\d+\*\* \([\d. to]+\)) \| (0\.\d+) \|", summary)
    assert len(said) == 4
    for score, floor in said:
        assert f"| {score} |" in readme and f"| {floor} |" in readme


def test_a_table_that_is_not_committed_is_named():
    with pytest.raises(FileNotFoundError, match=r"No comparison\.csv of atlantis"):
        committed_table("atlantis")
    with pytest.raises(FileNotFoundError, match=r"No rules\.csv of atlantis"):
        committed_table("atlantis", "rules")
    assert not has_committed_table("atlantis", "rules")


def test_committed_runs_are_folders_with_a_record(tmp_path, monkeypatch):
    place = tmp_path / "results" / "atlantis"
    for name in ("seed1", "seed0", "notes"):
        (place / name).mkdir(parents=True)
    for name in ("seed1", "seed0"):
        (place / name / "record.json").write_text("{}")
    monkeypatch.setattr(results, "__file__", str(tmp_path / "imetlib" / "delivery" / "results.py"))
    assert committed_runs("atlantis") == [place / "seed0", place / "seed1"]
    assert committed_runs("utopia") == []


def test_any_committed_table_is_read_with_its_intervals(tmp_path, monkeypatch):
    place = tmp_path / "results" / "atlantis"
    place.mkdir(parents=True)
    (place / "steps.csv").write_text("step,score,low,high\nfirst,0.5,0.4,0.6\n")
    monkeypatch.setattr(results, "__file__", str(tmp_path / "imetlib" / "delivery" / "results.py"))
    assert has_committed_table("atlantis", "steps")
    assert not has_committed_table("atlantis")
    assert committed_table("atlantis", "steps").to_dict("list") == {
        "step": ["first"],
        "score": [0.5],
        "low": [0.4],
        "high": [0.6],
        "interval": [[0.4, 0.6]],
    }


@pytest.mark.skipif(not RESULTS.is_dir(), reason="no committed results")
def test_committed_comparison_stands_the_audit_and_its_commands_can_be_run():
    records = {
        path.parent.name: read_record(path) for path in RESULTS.glob("comparison/*/record.json")
    }
    assert not audit_comparison([*records.values()], allow=("trainable_part", "image_shape"))
    with (RESULTS / "comparison.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(records)
    for run, row in rows.items():
        place = f"{RESULTS.relative_to(ROOT).as_posix()}/comparison/{run}"
        assert row["command"] == repeat_command(place)
        assert read_record(ROOT / place)["run"] == run
        assert float(row["score"]) == pytest.approx(records[run]["score"], abs=5e-5)
        assert row["phase"] == phase_of(records[run])
    table = committed_table(RESULTS.name).set_index("run")
    for run, interval in table["interval"].items():
        assert interval == pytest.approx(records[run]["interval"], abs=5e-5)


STUDIES = sorted(
    path
    for name in ("residual", "multi", "recurrent")
    for path in (Path(__file__).parents[1] / "results").glob(f"*/{name}.csv")
)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_committed_study_says_what_its_records_say(path):
    """One row a network and seed, on the same rows and epochs, with the record's own figures."""
    table = pd.read_csv(path)
    records = [
        read_record(path.parent / "attention" / f"{name.replace(' ', '-')}-seed{seed}")
        for name, seed in zip(table["network"], table["seed"], strict=True)
    ]
    assert len(table) == len(table.drop_duplicates(["network", "seed"]))
    for record, (_, row) in zip(records, table.iterrows(), strict=True):
        assert row["score"] == pytest.approx(record["score"], abs=1e-4)
        assert row["constant_score"] == pytest.approx(record["constant_score"], abs=1e-4)
        assert (row["num_params"], row["macs"]) == (record["num_params"], record["macs"])
        assert row["seed"] == record["seed"]
    for key in ("folds_sha256", "collection_sha256", "split", "num_samples", "image_shape"):
        assert len({str(record[key]) for record in records}) == 1
    assert len({record["parameters"]["epochs"] for record in records}) == 1
    reference = table[table["network"] == table["network"].iloc[0]].set_index("seed")["score"]
    gains = table["score"] - table["seed"].map(reference)
    np.testing.assert_allclose(table["difference"], gains, atol=2e-4)
    assert (table["low"] <= table["difference"]).all()
    assert (table["difference"] <= table["high"]).all()
