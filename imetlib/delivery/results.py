"""Committed results: records and answer of finished runs, and the README's table made of them.

    python -m imetlib.delivery.results RUNS results/NAME

RUNS is a collection's folder in `runs/`, with `comparison/` of notebook 02 and `submission/` of
notebook 08. No picture and no label of the collection is copied.
"""

import csv
import shutil
import sys
from pathlib import Path

from imetlib.decisions.saved_rules import RULE_FILE
from imetlib.delivery.audit import audit_comparison, refuse
from imetlib.delivery.privacy import find_secrets_in_file
from imetlib.delivery.records import FILE_NAME, compare_records, read_record, replace_record
from imetlib.files import replacing

_COLUMNS = (
    "log_loss", "micro_f2", "threshold", "best_epoch", "macs", "num_params", "trainable_params",
    "seconds", "features_seconds",
)  # fmt: skip

_PHASES = ("frozen", "fine-tuned")


def publish_results(runs, target):
    """Copy records and submission of a collection's runs, and write their tables.

    Args:
        runs: folder with `comparison/*/record.json` and `submission/`.
        target: folder, for example `results/pomological`; made where missing.

    Returns:
        list of the records of the comparison, then of the submission and its members.

    Raises:
        ValueError: a run is missing or incomplete, only frozen backbones were compared, or a file
            holds a token, a home folder or the like.
    """
    runs, target = Path(runs), Path(target)
    compared = [read_record(path) for path in sorted(runs.glob(f"comparison/*/{FILE_NAME}"))]
    blend = read_record(runs / "submission")
    members = [read_record(runs / "submission" / name) for name in blend["members"]]
    table = comparison_table(compared, target / "comparison")
    copies = {"submission/submission.csv": "submission.csv"}
    for pattern in (f"submission/{RULE_FILE}", "rules*.csv", "steps*.csv"):
        for path in runs.glob(pattern):
            name = path.relative_to(runs).as_posix()
            copies[name] = name
    published = [*runs.glob(f"comparison/*/{FILE_NAME}"), runs / "submission" / FILE_NAME]
    published += [runs / "submission" / name / FILE_NAME for name in blend["members"]]
    published += [runs / name for name in copies]
    secrets = [str(secret) for path in published for secret in find_secrets_in_file(path)]
    if secrets:
        raise ValueError(f"{runs} holds what nobody should publish: {'; '.join(secrets)}")
    for folder, records in (("comparison", compared), ("submission", [blend, *members])):
        for record in records:
            replace_record(target / folder / record["run"], record)
    with replacing(target / "comparison.csv") as path:
        table.round(4).to_csv(path, index=False, quoting=csv.QUOTE_MINIMAL)
    for source, copy in copies.items():
        with replacing(target / copy) as path:
            shutil.copyfile(runs / source, path)
    return [*compared, blend, *members]


def comparison_table(records, folder):
    """One row a record, best first, with the command that makes it again.

    Args:
        records: list of records of one holdout.
        folder: where their records stand, or will stand.

    Returns:
        DataFrame.

    Raises:
        AuditError: only frozen backbones, or runs that cannot be ranked.
    """
    refuse(audit_comparison(records, allow=("trainable_part", "image_shape")), "comparison")
    table = compare_records(records, allow=("image_shape",), columns=_COLUMNS)
    by_run = {record["run"]: record for record in records}
    low, high = zip(*(by_run[run]["interval"] for run in table["run"]), strict=True)
    table.insert(1, "phase", [phase_of(by_run[run]) for run in table["run"]])
    table.insert(3, "low", low)
    table.insert(4, "high", high)
    place = Path(folder).as_posix()
    table["command"] = [repeat_command(f"{place}/{run}") for run in table["run"]]
    return table


def committed_table(name, table="comparison"):
    """A committed table of a collection, `results/<name>/<table>.csv`.

    Args:
        name: folder in `results/`.
        table: "comparison", as from `comparison_table`; "rules", the table of a
            `RuleComparison`; "steps", as from `score_steps`; or one of a study of attention.

    Returns:
        DataFrame; where it has `low` and `high`, also as pairs in the column `interval`.

    Raises:
        FileNotFoundError: no such table (see `has_committed_table`), or the package was installed
            without the project's `results/`.
    """
    import pandas as pd

    path = _committed_path(name, table)
    if not path.is_file():
        raise FileNotFoundError(f"No {path.name} of {name}: it lies in the project's results/")
    found = pd.read_csv(path)
    if "low" in found:
        found["interval"] = found[["low", "high"]].to_numpy().tolist()
    return found


def has_committed_table(name, table="comparison"):
    """Whether `committed_table` finds one; an installed package may lack `results/`."""
    return _committed_path(name, table).is_file()


def committed_runs(name):
    """Folders with a record directly in `results/<name>/`, in the order of their names.

    Returns:
        list of `pathlib.Path`; empty where there is no such folder, or no record in it.
    """
    return [path.parent for path in sorted((_results_folder() / name).glob(f"*/{FILE_NAME}"))]


def _committed_path(name, table):
    return _results_folder() / name / f"{table}.csv"


def _results_folder():
    return Path(__file__).resolve().parents[2] / "results"


def phase_of(record):
    """What was done with the backbone: "frozen", "fine-tuned", "from scratch" or "blend"."""
    if record["method"] == "blend":
        return "blend"
    if record["method"] in ("ridge", "kernel"):
        return "frozen"
    return "fine-tuned" if record.get("weights_sha256") else "from scratch"


def scores_by_phase(records):
    """Scores of the first backbone that was both frozen (`ridge`) and fine-tuned, seed by seed.

    Args:
        records: list of records.

    Returns:
        dict "frozen", "fine-tuned" to lists of scores in the order of the seeds; empty lists
        where no backbone was trained in both ways.
    """
    found = {}
    for record in records:
        place = (record["parameters"]["backbone"], tuple(record["image_shape"]))
        phase = "frozen" if record["method"] == "ridge" else phase_of(record)
        if record["method"] in ("ridge", "network"):
            found.setdefault(place, {}).setdefault(phase, {})[record["seed"]] = record["score"]
    for phases in found.values():
        seeds = sorted({*phases.get("frozen", {})} & {*phases.get("fine-tuned", {})})
        if seeds:
            return {
                name: [phases[name][seed] for seed in seeds] for name in ("frozen", "fine-tuned")
            }
    return {"frozen": [], "fine-tuned": []}


def repeat_command(path):
    """The command that makes a run again, as text; `path` is that of its record or folder."""
    return f"python -m imetlib repeat {Path(path).as_posix()} --collection DIR"


def markdown_table(records):
    """Rows of a README table, best first within a split.

    Args:
        records: list of records.

    Returns:
        str, a Markdown table; the floor stands beside each score.
    """
    lines = [
        "| run | phase | split | F2 (95 % interval) | out of fold | constant answer | pictures "
        "| size | multiply-adds | fitted | training |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in sorted(records, key=lambda item: (item["split"], -item["score"])):
        low, high = record["interval"]
        fitted = record.get("trainable_params", record["num_params"]) / 1e6
        chosen = record.get("selection", {})
        out_of_fold = chosen.get("split") == "out-of-fold"
        minutes = (record["seconds"] + record.get("features_seconds", 0.0)) / 60
        macs = f"{record['macs'] / 1e9:.2f} G" if "macs" in record else ""
        size = (
            "" if record["method"] == "blend" else " x ".join(map(str, record["image_shape"][:2]))
        )
        lines.append(
            f"| {record['run']} | {phase_of(record)} | {record['split']} "
            f"| **{record['score']:.3f}** ({low:.3f} to {high:.3f}) "
            f"| {format(chosen['score'], '.3f') if out_of_fold else ''} "
            f"| {record['constant_score']:.3f} | {record['num_samples']:,} | {size} | {macs} "
            f"| {fitted:.1f} M | {minutes:.0f} min |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(markdown_table(publish_results(*sys.argv[1:])))
