"""A fitted rule as a file of text, together with the classes it belongs to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imetlib.decisions import rules
from imetlib.decisions.expected_rule import ExpectedFBeta
from imetlib.decisions.label_sets import decide
from imetlib.files import replacing
from imetlib.scores import Scores

RULE_FILE = "rule.json"
_KNOWN = {
    kind.__name__: kind
    for kind in (
        rules.GlobalThreshold,
        rules.GroupThreshold,
        rules.ClassThreshold,
        rules.TopLabels,
        rules.NearMaximum,
        rules.MeanCount,
        ExpectedFBeta,
    )
}


def save_rule(path: str | Path, rule: Any, class_names: Sequence[str], **facts: Any) -> Path:
    """Write a fitted rule.

    Args:
        path: file, by habit `rule.json` in the folder of the run it was fitted on.
        rule: a fitted rule of `imetlib.decisions.rules` or `expected_rule`.
        class_names: `num_classes` names, those that the rule was fitted on; column j is
            attribute id j.
        **facts: what JSON can hold and a reader should know: score, split, run.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        ValueError: the rule is not fitted, was fitted on other classes, or is none of this
            package; or JSON cannot hold the facts.
    """
    kind = type(rule).__name__
    if type(rule) is not _KNOWN.get(kind):
        raise ValueError(f"Cannot save {kind}. Known rules: {', '.join(_KNOWN)}")
    if not rule.fitted:
        raise ValueError(f"{kind} is not fitted yet: call `fit` first")
    _check_classes(f"This {kind}", rule.fitted["class_names"], class_names)
    settings = asdict(rule)
    content = {
        "rule": kind,
        "settings": settings,
        "fitted": settings.pop("fitted"),
        "facts": facts,
    }
    try:
        text = json.dumps(content, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`facts` must be what JSON can hold: {error}") from error
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def load_rule(path: str | Path, class_names: Sequence[str]) -> Any:
    """Read what `save_rule` wrote, for scores of the same classes.

    Args:
        path: the file.
        class_names: classes of the scores that are to be decided.

    Returns:
        the fitted rule.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no saved rule, or belongs to other classes or another order of them.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No rule at {path}: notebook 07_threshold_search saves one.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        rule = _KNOWN[content["rule"]](**content["settings"])
        rule.fitted = content["fitted"]
        own = list(rule.fitted["class_names"])
        # Whatever number is missing or no number: here it is seen while the file is at hand.
        rule.predict(np.full((1, len(own)), 0.5, np.float32))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no saved rule: {error!r}") from error
    _check_classes(str(path), own, class_names)
    return rule


def decide_by_rule(folder: str | Path, threshold: float, scores: Scores) -> np.ndarray:
    """Label sets by the rule of a run's folder, else by the run's threshold.

    Args:
        folder: the folder, with a `rule.json` or without.
        threshold: float in [0, 1].
        scores: `Scores` of the pictures.

    Returns:
        `(num_samples, num_classes)` bool, one label a picture or more.

    Raises:
        ValueError: the rule belongs to other classes.
    """
    path = Path(folder) / RULE_FILE
    if path.is_file():
        return load_rule(path, scores.class_names).predict(scores.y_prob)
    return decide(scores.y_prob, threshold)


def read_facts(path: str | Path) -> dict[str, Any]:
    """The facts that were saved beside a rule."""
    return dict(json.loads(Path(path).read_text(encoding="utf-8"))["facts"])


def find_rule(path: str | Path, folder: str | Path, class_names: Sequence[str]) -> Any | None:
    """The rule of a file, or else the one saved in a folder.

    Args:
        path: file, or "" to look for `rule.json` in `folder`.
        folder: folder of a collection's runs.
        class_names: classes of the scores that are to be decided.

    Returns:
        the fitted rule, or None where `path` is "" and the folder has none.

    Raises:
        FileNotFoundError, ValueError: as `load_rule`.
    """
    if not str(path) and not (Path(folder) / RULE_FILE).is_file():
        return None
    return load_rule(path or Path(folder) / RULE_FILE, class_names)


def _check_classes(what: str, own: Sequence[str], class_names: Sequence[str]) -> None:
    if list(own) == list(class_names):
        return
    first = next(
        (
            f"class {at} is {mine!r}, here {yours!r}"
            for at, (mine, yours) in enumerate(zip(own, class_names, strict=False))
            if mine != yours
        ),
        "one list is the beginning of the other",
    )
    raise ValueError(
        f"{what} belongs to other classes ({len(own)}, here {len(class_names)}; {first}): fit "
        "the rule on scores of these classes"
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number to compute with")
