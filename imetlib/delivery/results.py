"""Committed results: records and answer of finished runs, and the README's table made of them.

    python -m imetlib.delivery.results RUNS results/NAME

RUNS is a collection's folder in `runs/`, with `comparison/` of notebook 02 and `submission/` of
notebook 08. No picture and no label of the collection is copied.
"""

import csv
import shutil
import sys
from pathlib import Path

from imetlib.delivery.records import compare_records, read_record, write_record
from imetlib.files import replacing

_COLUMNS = ("interval", "micro_f2", "log_loss", "threshold", "best_epoch", "num_params", "seconds")


def publish_results(runs, target):
    """Copy records and submission of a collection's runs, and write their tables.

    Args:
        runs: folder with `comparison/*/record.json` and `submission/`.
        target: folder, for example `results/pomological`; made where missing.

    Returns:
        list of the records of the comparison, then of the submission and its members.

    Raises:
        ValueError: a run is missing or incomplete.
    """
    runs, target = Path(runs), Path(target)
    compared = [read_record(path) for path in sorted(runs.glob("comparison/*/record.json"))]
    blend = read_record(runs / "submission")
    members = [read_record(runs / "submission" / name) for name in blend["members"]]
    for folder, records in (("comparison", compared), ("submission", [blend, *members])):
        for record in records:
            place = target / folder / record["run"]
            place.mkdir(parents=True, exist_ok=True)
            write_record(place, record)
    table = compare_records(compared, columns=_COLUMNS)
    with replacing(target / "comparison.csv") as path:
        table.round(4).to_csv(path, index=False, quoting=csv.QUOTE_MINIMAL)
    with replacing(target / "submission.csv") as path:
        shutil.copyfile(runs / "submission" / "submission.csv", path)
    return [*compared, blend, *members]


def markdown_table(records):
    """Rows of a README table, best first within a split.

    Args:
        records: list of records.

    Returns:
        str, a Markdown table; the floor stands beside each score.
    """
    lines = [
        "| run | split | F2 (95 % interval) | constant answer | pictures | parameters fitted "
        "| training |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in sorted(records, key=lambda item: (item["split"], -item["score"])):
        low, high = record["interval"]
        fitted = record.get("trainable_params", record["num_params"]) / 1e6
        lines.append(
            f"| {record['run']} | {record['split']} | **{record['score']:.3f}** "
            f"({low:.3f} to {high:.3f}) | {record['constant_score']:.3f} "
            f"| {record['num_samples']:,} | {fitted:.1f} M | {record['seconds'] / 60:.0f} min |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(markdown_table(publish_results(*sys.argv[1:])))
