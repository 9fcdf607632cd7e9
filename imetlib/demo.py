"""`make demo`: from nothing to a scored submission on the drawn museum."""

import sys
import time
from pathlib import Path

NOTEBOOKS = ("01", "02", "07", "08")


def run_demo(out="demo"):
    """Draw the pocket museum, run the main path in `fast`, score the submission, write a report.

    A second run draws nothing anew, and what is trained already is used again.

    Args:
        out: folder for everything that is written.

    Returns:
        int, exit code: 0, or that of the notebook that failed.
    """
    from imetlib.collection.prepared import locate_collection
    from imetlib.delivery.notebooks import find_notebook, run_notebook
    from imetlib.paths import runs_folder
    from imetlib.profiles import get_profile

    start = time.monotonic()
    sources = [find_notebook(name) for name in NOTEBOOKS]
    folder = runs_folder(out)
    _say(f"[1/{len(sources) + 2}] the pocket museum")
    museum = locate_collection(get_profile("fast"), out=folder, progress=sys.stderr.isatty())
    executed = []
    for number, source in enumerate(sources, start=2):
        _say(f"[{number}/{len(sources) + 2}] {source.stem}")
        parameters = {"profile": "fast", "out": str(folder)}
        result = run_notebook(source, folder / "notebooks", parameters)
        if result.exit_code:
            _say(f"imetlib demo: {source.stem} failed; its outputs so far: {result.path}")
            return result.exit_code
        executed.append(result.path)
    _say(f"[{len(sources) + 2}/{len(sources) + 2}] score and report")
    submission = max(folder.rglob("submission.csv"), key=lambda path: path.stat().st_mtime)
    score, interval, constant = score_submission(submission, museum)
    report = _write_report(
        folder / "report.html", score, interval, constant, time.monotonic() - start, executed
    )
    print(
        f"F2 of the submission  {score:.3f} (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    )
    print(f"best constant answer  {constant:.3f}")
    print(f"submission            {_shown(submission)}")
    print(f"report                {_shown(report)}")
    print(f"time                  {time.monotonic() - start:.0f} s")
    return 0


def score_submission(submission, museum):
    """What a submission is worth, against the truth that only a drawn museum has.

    Args:
        submission: csv file.
        museum: folder with `test_labels.csv`.

    Returns:
        (F2, its 95 % interval, F2 of the best constant answer, fitted on the training rows).
    """
    from imetlib.collection.tables import read_collection, read_label_table
    from imetlib.decisions.fbeta import bootstrap_interval, constant_answer, fbeta_per_sample

    collection = read_collection(museum)
    truth = read_label_table(Path(museum) / "test_labels.csv", collection.num_classes)
    answer = read_label_table(submission, collection.num_classes)
    row_of = {sample_id: row for row, sample_id in enumerate(answer.ids)}
    answer = answer.take([row_of[sample_id] for sample_id in truth.ids])
    per_sample = fbeta_per_sample(truth, answer)
    constant = constant_answer(truth, fit_labels=collection.train)
    return float(per_sample.mean()), bootstrap_interval(per_sample), constant.score


def _write_report(path, score, interval, constant, seconds, notebooks):
    import pandas as pd

    from imetlib.delivery.report import write_report

    table = pd.DataFrame(
        {
            "answer": ["submission of notebook 08", "best constant answer"],
            "F2 on the test pictures": [score, constant],
            "95 % interval": [f"{interval[0]:.3f} to {interval[1]:.3f}", ""],
        }
    )
    return write_report(
        path,
        title="imetlib on the pocket museum",
        lead=(
            f"Drawn pictures, fast profile, seed 0, {seconds:.0f} s: the whole way from a folder "
            "of pictures to a checked submission. The score is the mean F2 of a test picture, "
            "against the museum's own truth. A constant answer gives every picture the same "
            "attributes; a model is worth what it adds to that."
        ),
        tables={"Result": table},
        notebooks=notebooks,
    )


def _say(line):
    print(line, file=sys.stderr, flush=True)


def _shown(path):
    """A path as one would type it from here."""
    path, here = Path(path), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
