"""A submission from label frequencies in the first minute, replaced only by a better one.

Beside `submission.csv` stands `submission.json`: by which validation score it is there. Whatever
ends the session, there is a whole submission, and the next session knows what it is worth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.fbeta import constant_answer, label_pairs
from imetlib.delivery.submission import (
    SubmissionError,
    read_sample_ids,
    verify_submission,
    write_submission,
)
from imetlib.files import replacing

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

FREQUENCIES = "label frequencies"


@dataclass(frozen=True)
class Standing:
    """By what a submission stands.

    Args:
        score: float in [0, 1]. Mean per-sample F2 on the validation rows.
        source: str. What answered.
        sha256: str, of the csv file.
        constant_score: float in [0, 1]. The constant answer on the same rows.
        constant: tuple of int. Labels of the constant answer.
        num_networks: int >= 0. Networks whose mean answered.
    """

    score: float
    source: str
    sha256: str
    constant_score: float
    constant: tuple[int, ...]
    num_networks: int = 0


def write_first_submission(
    path: str | Path,
    train_labels: Labels,
    val_labels: Labels,
    sample: str | Path | Sequence[str],
) -> Standing:
    """The best constant answer for every picture, unless a submission stands already.

    The labels are chosen on the training rows and scored on the validation rows: the score that
    a network must pass.

    Args:
        path: `submission.csv`; `submission.json` is written beside it.
        train_labels, val_labels: `LabelTable` of the rows, or `(num_samples, num_classes)` arrays
            of 0/1. A constant answer never looks at a picture.
        sample: `sample_submission.csv`, or its ids.

    Returns:
        `Standing` of the submission that is there now. One of an earlier session stays: this run
        goes on from there.

    Raises:
        SubmissionError: a file of that name is there which this module did not write, or which
            does not answer this sample.
        ValueError: the classes of the labels differ.
    """
    path = Path(path)
    answer = constant_answer(val_labels, fit_labels=train_labels)
    num_classes = len(answer.scores)
    if path.exists():
        standing = read_standing(path)
        faults = verify_submission(path, sample, num_classes)
        if faults:
            raise SubmissionError(path, [*faults, "move it away to start anew"])
        return standing
    ids = read_sample_ids(sample)
    columns = np.sort(answer.columns)
    standing = Standing(
        answer.score, FREQUENCIES, "", answer.score, tuple(map(int, columns.tolist()))
    )
    return _write(path, ids, [columns] * len(ids), ids, num_classes, standing, before=None)


def replace_if_better(
    path: str | Path,
    ids: Sequence[str],
    y_pred: Labels,
    sample: str | Path | Sequence[str],
    *,
    score: float,
    source: str,
    num_classes: int,
    partial: bool = False,
    num_networks: int = 1,
) -> bool:
    """Write an answer over the submission if it is better.

    Its score must be higher. The mean of more networks than before is scored on the rows that
    all of them left out, others than before: it is better if it passes the constant answer.

    Args:
        path: what `write_first_submission` wrote.
        ids, y_pred, sample, num_classes: as in `write_submission`.
        score: float in [0, 1]. Mean per-sample F2 of the same network and rule on the same
            validation rows that the constant answer was scored on.
        source: str. What answered, for `submission.json`.
        partial: whether `ids` may lack some of the sample: time ran out. They keep the constant
            answer, and the score counts them so.
        num_networks: int >= 1. Networks whose mean answered.

    Returns:
        bool, whether it was replaced. An equal score does not replace.

    Raises:
        SubmissionError: nothing of this module stands there, or with every fault of the answer;
            nothing is written.
        ValueError: `score` is no number in [0, 1].
    """
    path = Path(path)
    if not 0 <= score <= 1:
        raise ValueError(f"`score` must lie in [0, 1]. Received: score={score}")
    before = read_standing(path)
    wanted = read_sample_ids(sample)
    rows, columns, (num_rows, _) = label_pairs(y_pred, "y_pred")
    if len(ids) != num_rows:
        raise SubmissionError(
            path, [f"{len(ids)} ids for {num_rows} rows of `y_pred`: which row is whose?"]
        )
    names = [str(sample_id) for sample_id in ids]
    starts = np.searchsorted(rows, np.arange(len(names) + 1))
    answers = [columns[starts[row] : starts[row + 1]] for row in range(len(names))]
    if partial:
        missing = sorted(set(wanted) - set(names))
        share = 1 - len(missing) / len(wanted)
        score = share * score + (1 - share) * before.constant_score
        names += missing
        answers += [np.array(before.constant)] * len(missing)
    more = num_networks > before.num_networks >= 1
    if not score > (before.constant_score if more else before.score):
        return False
    standing = Standing(score, source, "", before.constant_score, before.constant, num_networks)
    _write(path, names, answers, wanted, num_classes, standing, before=before)
    return True


def read_standing(path: str | Path) -> Standing:
    """By what the submission at `path` stands.

    Raises:
        SubmissionError: it is missing, or `submission.json` does not know it.
    """
    path = Path(path)
    if not path.is_file():
        raise SubmissionError(path, ["the file is missing; write_first_submission makes one"])
    digest = _sha256(path)
    try:
        entries = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["standings"]
        # Two of them where a replacement was interrupted: before and after.
        found = next((entry for entry in entries if entry["sha256"] == digest), None)
        if found is not None:
            return Standing(**{**found, "constant": tuple(found["constant"])})
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise SubmissionError(
        path,
        [
            f"{path.with_suffix('.json').name} does not tell by which score it stands: move it "
            "away, and write_first_submission makes one"
        ],
    )


def _write(
    path: Path,
    ids: Sequence[str],
    answers: Sequence[np.ndarray],
    sample: Sequence[str],
    num_classes: int,
    standing: Standing,
    before: Standing | None,
) -> Standing:
    """Csv and json, such that json knows the csv at every moment."""
    with replacing(path) as temporary:
        try:
            write_submission(temporary, ids, list(answers), sample, num_classes=num_classes)
        except SubmissionError as error:
            raise SubmissionError(path, error.faults) from None
        standing = Standing(**{**asdict(standing), "sha256": _sha256(temporary)})
        _write_standings(path, [standing] if before is None else [before, standing])
    _write_standings(path, [standing])
    return standing


def _write_standings(path: Path, standings: Sequence[Standing]) -> None:
    text = json.dumps({"standings": [asdict(standing) for standing in standings]}, indent=2)
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
