"""The page of costs is computed from the committed records, and says where there is none."""

import json
import shutil

import pytest

from benchmarks import plan


def test_the_committed_page_is_that_of_the_committed_records():
    page = (plan.RESULTS.parent / "plan.md").read_text(encoding="utf-8")
    assert page == plan.write_page(plan.RESULTS)


def test_a_machine_without_a_record_has_no_figures(tmp_path):
    for name in ("input.json", "steps.json", "export.json"):
        shutil.copy(plan.RESULTS / name, tmp_path)
    page = plan.write_page(tmp_path)
    assert page.count("not measured") == 2 * 3 and "no record yet (`gpu-h100.json`)" in page
    record = {"networks": {"resnet50": {"pictures_per_second": 1000.0}}}
    (tmp_path / "gpu-h100.json").write_text(json.dumps(record))
    assert plan.write_page(tmp_path).count("not measured") == 3


def test_hours_are_pictures_over_the_slower_rate():
    assert plan.slower(3600, 2.0, 5.0) == (3600, "network", 2.0)
    assert plan.slower(3600, 9.0, 5.0) == (3600, "reading", 5.0)
    assert plan.say(7200, "network", 2.0) == "1.0 h (network)"
    assert plan.say(86400 * 6, "reading", 2.0) == "3.0 days (reading)"
    assert plan.say(1, *plan.slower(1, None, 5.0)[1:]) == "not measured"


def test_missing_records_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"input\.json"):
        plan.write_page(tmp_path)
