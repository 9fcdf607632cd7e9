"""What one setting is worth: the same run with one thing changed, on the same rows and seed."""

from pathlib import Path

import numpy as np

from imetlib.collection.prepared import with_settings
from imetlib.decisions.comparison import paired_comparison
from imetlib.decisions.fbeta import fbeta_per_sample
from imetlib.decisions.label_sets import decide
from imetlib.delivery.records import read_record
from imetlib.scores import load_scores
from imetlib.training.fold_runs import train_fold
from imetlib.training.scoring import truth_of

NO_AUGMENTATION = dict.fromkeys(
    ("flip", "scale", "shift", "rotate", "brightness", "contrast", "erase", "mixup", "cutmix"), 0.0
)
# Name to the settings that it changes.
ABLATIONS = {
    "no-warmup": {"warmup_fraction": 0.0},
    "no-augmentation": NO_AUGMENTATION,
    "pad": {"resize_mode": "pad"},
    "crop": {"resize_mode": "crop"},
    "focal": {"loss": "focal"},
    "from-scratch": {"weights": "", "trainable_from": "all"},
}


def parse_ablations(text):
    """Names of `ABLATIONS` separated by blanks, checked; "none" for none of them.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    names = [] if text == "none" else text.split()
    unknown = sorted(set(names) - set(ABLATIONS))
    if unknown:
        raise ValueError(
            f"Unknown ablations: {', '.join(unknown)}. Known: {', '.join(ABLATIONS)}, or none"
        )
    return names


def ablate(data, names, folder, *, seed=0, verbose=0):
    """Train the profile's network once for each ablation; see `train_fold`.

    Args:
        data: `PreparedCollection` whose profile is the run that is compared with.
        names: list of names of `ABLATIONS`.
        folder: where the run folders go, named by backbone and ablation.
        seed, verbose: see `train_fold`.

    Returns:
        dict of name to record.
    """
    records = {}
    for name in names:
        if verbose:
            print(name, flush=True)
        records[name] = train_fold(
            with_settings(data, **ABLATIONS[name]),
            Path(folder) / f"{data.profile.backbone}-{name}",
            1,
            seed=seed,
            verbose=verbose,
        )
    return records


def paired_difference(collection, folder, other):
    """Difference of two runs on the holdout, picture by picture.

    Args:
        collection: `Collection` of both.
        folder, other: run folders with `record.json` and `scores-holdout.npz`.

    Returns:
        dict: "difference" (mean F2 of `folder` less that of `other`) and its 95 % "interval",
        pictures of one specimen drawn together. It says nothing about other seeds.

    Raises:
        ValueError: the runs were scored on other pictures.
    """
    per_sample = []
    for path in (Path(folder), Path(other)):
        scores, record = load_scores(path / "scores-holdout.npz"), read_record(path)
        rows, truth = truth_of(collection, scores)
        y_pred = decide(scores.y_prob, record["threshold"])
        per_sample.append((rows, fbeta_per_sample(truth, y_pred)))
    (rows, first), (other_rows, second) = per_sample
    if not np.array_equal(rows, other_rows):
        raise ValueError(f"{folder} and {other} were scored on other pictures: train one again")
    groups = None if collection.specimens is None else collection.specimens[rows]
    found = paired_comparison(first, second, groups=groups)
    return {"difference": found.difference, "interval": list(found.interval)}
