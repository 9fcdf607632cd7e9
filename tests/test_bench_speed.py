"""The page of what is fast is computed from the committed records."""

import json

import pytest

from benchmarks import speed
from benchmarks.plan import RESULTS


def test_the_committed_page_is_that_of_the_committed_records():
    page = (RESULTS.parent / "speed.md").read_text(encoding="utf-8")
    assert page == speed.write_page(RESULTS)


def test_ratios_are_to_the_first_way():
    record = json.loads((RESULTS / "input.json").read_text(encoding="utf-8"))
    rates = record["pictures_per_second"]
    for rate in rates.values():
        rate["processor"] = 100.0
    next(iter(rates.values()))["processor"] = 50.0
    rows = [line for line in speed.write_input(record) if line.startswith("| Batches")]
    assert rows and all(row.endswith("| 100 | 2.00 |") for row in rows)


def test_missing_records_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"input\.json"):
        speed.write_page(tmp_path)
