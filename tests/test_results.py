"""What is committed under results/ is whole, and the README says what it says."""

from pathlib import Path

import pytest

from imetlib.delivery.records import compare_records, new_record, read_record, write_record
from imetlib.delivery.results import markdown_table, publish_results

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "pomological"


def record(run, score, **more):
    return new_record(
        run,
        profile="full",
        seed=0,
        split="held-out sixth",
        image_shape=(8, 8, 3),
        collection_sha256="c",
        folds_sha256="f",
        score=score,
        constant_score=0.2,
        num_samples=10,
        interval=[score - 0.1, score + 0.1],
        num_params=2_000_000,
        seconds=120.0,
        **more,
    )


def write_runs(folder):
    for run, score in (("a", 0.5), ("b", 0.6)):
        (folder / "comparison" / run).mkdir(parents=True)
        write_record(folder / "comparison" / run, record(run, score))
    (folder / "submission" / "b").mkdir(parents=True)
    write_record(folder / "submission" / "b", record("b", 0.6))
    write_record(folder / "submission", record("submission", 0.7, members=["b"]))
    (folder / "submission" / "submission.csv").write_text("id,attribute_ids\nx,1\n")


def test_published_records_and_answer(tmp_path):
    write_runs(tmp_path / "runs")
    records = publish_results(tmp_path / "runs", tmp_path / "results")
    assert [item["run"] for item in records] == ["a", "b", "submission", "b"]
    assert read_record(tmp_path / "results" / "comparison" / "a")["score"] == 0.5
    assert (tmp_path / "results" / "submission.csv").read_text() == "id,attribute_ids\nx,1\n"
    table = markdown_table(records).splitlines()
    assert table[2].startswith("| submission | held-out sixth | **0.700** (0.600 to 0.800) | 0.200")
    assert len(table) == 6


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such record"):
        publish_results(tmp_path, tmp_path / "results")


@pytest.mark.skipif(not RESULTS.is_dir(), reason="no committed results")
def test_readme_table_is_made_of_the_committed_records():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    compared = [read_record(path) for path in RESULTS.glob("comparison/*/record.json")]
    answered = [read_record(path) for path in RESULTS.glob("submission/*/record.json")]
    assert compared and answered
    for line in markdown_table([*compared, *answered]).splitlines():
        assert line in readme
    compare_records(compared)
    assert all(item["score"] > item["constant_score"] for item in [*compared, *answered])
