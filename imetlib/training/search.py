"""Search over the settings of a profile within given hours; the holdout is never looked at."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imetlib.collection.prepared import with_settings
from imetlib.delivery.records import read_record
from imetlib.files import replacing
from imetlib.scores import NotFiniteError
from imetlib.training.fold_runs import HOLDOUT, METHODS, train_fold
from imetlib.training.fold_runs import inner_folds as inner_folds_of
from imetlib.training.predict import clear_memory
from imetlib.training.run_files import identity_of
from imetlib.training.search_budget import check_budget, pixels_of, probe_rate, rate_of
from imetlib.training.search_space import (
    SPACE,
    import_optuna,
    next_trial,
    parse_space,
    settings_of,
)

IDENTITY, JOURNAL = "search.json", "trials.log"


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search found.

    Args:
        trials: one dict a finished trial: number, state ("complete" or "failed", where training
            diverged), score (nan if failed), seconds of training, drawn (in the terms of the
            space), settings (for `with_settings`), folder (of its run).
        best_settings: dict for `with_settings` or `get_profile`.
        best_score: float, F2 of the best trial on the inner folds. Optimistic: it is the
            greatest of several. Only the holdout says what the settings are worth.
        baseline_score: float, that of trial 0, the profile as it was; nan if it diverged.
        hours_used: float, wall time of this call.
    """

    trials: list[dict]
    best_settings: dict
    best_score: float
    baseline_score: float
    hours_used: float

    def table(self):
        """DataFrame with a row a trial: trial, state, score, seconds, and what was drawn."""
        import pandas as pd

        shown = ("state", "score", "seconds")
        rows = [
            {"trial": t["number"], **{k: t[k] for k in shown}, **t["drawn"]} for t in self.trials
        ]
        return pd.DataFrame(rows)


def search_settings(
    data, folder, hours, *, space=SPACE, method="network", max_trials=None, inner_folds=(1,),
    seed=0, verbose=0,
):  # fmt: skip
    """Train with other settings again and again, while the time lasts, and name the best.

    Trial 0 is the profile as it is; optuna's TPE draws the others. A trial's score is the F2 of
    the inner validation fold, cross-fitted, never that of the holdout. Every trial is a run
    folder with its record. A search that was cut off goes on when it is called again with the
    same arguments: first with the trial that was under way, then as if nothing had happened.
    One process at a time.

    Args:
        data: `PreparedCollection`.
        folder: of the search; trial k goes to `trial<k>` in it, and with several inner folds
            to `fold<n>` in that.
        hours: float > 0, wall time of this call. A trial begins if the median of those before
            it, scaled by the number of pixels, still fits.
        space: dict of setting to what is drawn: (low, high), (low, high, "log") or choices; a
            list is always choices. Settings are those of `Profile`, "size" and "augmentation"
            (see `SPACE`). From a random start the default leaves `trainable_from` out.
        method: see `train_fold`; closed-form heads take only "size", "resize_mode" and
            "precision", and look up features of all pictures.
        max_trials: int, greatest number of trials in the folder, or None.
        inner_folds: validation folds; a score is the mean over them.
        seed: int >= 0, of the draws and of every training.
        verbose: 0 silent, 1 one line a trial, 2 also one line an epoch.

    Returns:
        `SearchResult`.

    Raises:
        ValueError: bad arguments, hours that do not hold one epoch or one trial (nothing has
            been trained or written then), a folder with another search, or every trial
            diverged.
        ImportError: optuna is not installed.

    Example:
        >>> result = search_settings(data, folder / "search", 3.0)  # doctest: +SKIP
        >>> best = with_settings(data, **result.best_settings)  # doctest: +SKIP
        >>> train_fold(best, folder / "best", 1)["score"]  # the holdout, once # doctest: +SKIP
    """
    start = time.perf_counter()
    optuna = import_optuna()
    folder, profile, folds = Path(folder), data.profile, tuple(inner_folds)
    if space is SPACE and not profile.weights:
        # A random start has nothing worth freezing.
        space = {name: drawn for name, drawn in SPACE.items() if name != "trainable_from"}
    _check_arguments(data, hours, method, max_trials, folds)
    space = parse_space(space, profile, method)
    drawn = {name: optuna.distributions.distribution_to_json(d) for name, d in space.items()}
    identity = identity_of(data, method, seed, space=drawn, inner_folds=list(folds))
    _check_same_search(folder, identity)
    study = _open_study(optuna, folder) if (folder / JOURNAL).is_file() else None
    spent = {}
    trials = _read_trials(study, profile, folder, folds, spent)
    if max_trials is None or len(trials) < max_trials:
        probed = 0.0
        if method == "network" and profile.epochs and not rate_of(trials, profile):
            probed = probe_rate(data, folds, seed)
        left = start + hours * 3600 - time.perf_counter()
        check_budget(hours, left, profile, rate_of(trials, profile) or probed, len(folds))
        with replacing(folder / IDENTITY) as temporary:
            temporary.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
        study = study or _open_study(optuna, folder)
    while max_trials is None or len(trials) < max_trials:
        number, drawn = next_trial(optuna, study, space, profile, seed)
        settings = settings_of(profile, drawn)
        begun = time.perf_counter()
        left = start + hours * 3600 - begun
        if trials and (rate_of(trials, profile) or probed) * pixels_of(profile, settings) > left:
            break  # what was drawn waits for the next call
        paths = _run_folders(folder, number, folds)
        score = _run_trial(data, settings, paths, method, seed, verbose)
        # TPE keeps away from what was pruned, but forgets what failed.
        state = None if score is not None else optuna.trial.TrialState.PRUNED
        study.tell(number, score, state)
        spent[number] = time.perf_counter() - begun
        trials = _read_trials(study, profile, folder, folds, spent)
        if verbose:
            _print_trial(trials, trials[-1], left - spent[number])
    return _result(trials, folder, (time.perf_counter() - start) / 3600)


def _run_trial(data, settings, paths, method, seed, verbose):
    """Mean score over the inner folds, or None where training diverged."""
    data, verbose = with_settings(data, **settings), 2 if verbose > 1 else 0
    more = {"method": method, "splits": (), "seed": seed, "verbose": verbose}
    try:
        records = [train_fold(data, path, fold, **more) for fold, path in paths.items()]
    except NotFiniteError:
        clear_memory()
        return None
    return float(np.mean([record["score"] for record in records]))


def _read_trials(study, profile, folder, folds, spent):
    """Finished trials in order, seconds from their records; `spent` has this call's own."""
    trials = []
    for trial in [] if study is None else study.get_trials(deepcopy=False):
        state = {"COMPLETE": "complete", "PRUNED": "failed"}.get(trial.state.name)
        if state is None:
            continue
        seconds = spent.get(trial.number, 0.0)
        if state == "complete":
            paths = _run_folders(folder, trial.number, folds).values()
            seconds = max(seconds, sum(read_record(path)["seconds"] for path in paths))
        drawn = trial.user_attrs["drawn"]
        trials.append(
            {
                "number": trial.number,
                "state": state,
                "score": math.nan if trial.value is None else trial.value,
                "seconds": seconds,
                "drawn": drawn,
                "settings": settings_of(profile, drawn),
                "folder": _trial_folder(folder, trial.number),
            }
        )
    return trials


def _trial_folder(folder, number):
    return folder / f"trial{number:03d}"


def _run_folders(folder, number, folds):
    """Inner fold to run folder."""
    folder = _trial_folder(folder, number)
    return {fold: folder if len(folds) == 1 else folder / f"fold{fold}" for fold in folds}


def _result(trials, folder, hours_used):
    finished = [trial for trial in trials if trial["state"] == "complete"]
    if not finished:
        raise ValueError(
            f"None of {len(trials)} trials in {folder} gave finite scores: lower `learning_rate` "
            "in the profile and in the space, and search in another folder"
        )
    best = max(finished, key=lambda trial: trial["score"])
    return SearchResult(trials, best["settings"], best["score"], trials[0]["score"], hours_used)


def _print_trial(trials, trial, seconds_left):
    best = max((t["score"] for t in trials if t["state"] == "complete"), default=math.nan)
    drawn = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial["drawn"].items()
    )
    print(
        f"trial {trial['number']}: F2 {trial['score']:.4f}, best {best:.4f}; {drawn}; "
        f"{max(0.0, seconds_left) / 60:.1f} min left",
        flush=True,
    )


def _check_arguments(data, hours, method, max_trials, folds):
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. Known: {', '.join(METHODS)}")
    if not hours > 0 or (max_trials is not None and max_trials < 1):
        raise ValueError(
            "`hours` must be positive, and `max_trials` 1 or more. "
            f"Received: hours={hours}, max_trials={max_trials}"
        )
    known = inner_folds_of(data)
    if not folds or len(set(folds)) < len(folds) or not set(folds) <= set(known):
        raise ValueError(
            f"`inner_folds` must be among {', '.join(map(str, known))}, none twice; fold "
            f"{HOLDOUT} is the holdout. Received: inner_folds={folds}"
        )


def _check_same_search(folder, identity):
    """Refuse a folder with a search of another identity, by the names of what differs."""
    if not (folder / IDENTITY).is_file():
        return
    before = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(identity))
    changed = [name for name in now if name != "settings" and before.get(name) != now[name]]
    old = before.get("settings", {})
    changed += [name for name, value in now["settings"].items() if old.get(name) != value]
    if changed:
        raise ValueError(
            f"{folder} holds a search of other settings ({', '.join(changed)}). Give another "
            "folder, or remove this one; nothing was overwritten."
        )


def _open_study(optuna, folder):
    """The study of a folder, after a kill or a power cut too."""
    path = folder / JOURNAL
    # Left by a kill in the middle of a write: a lock, and half a line that would be read as a
    # damaged file from the next line on.
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    written = path.read_bytes() if path.is_file() else b""
    if not written.endswith(b"\n") and written:
        with replacing(path) as temporary:
            temporary.write_bytes(written[: written.rfind(b"\n") + 1])
    journal = optuna.storages.journal
    # The default lock is a symbolic link, which Windows does not give to everyone.
    backend = journal.JournalFileBackend(str(path), journal.JournalFileOpenLock(str(path)))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.create_study(
        storage=storage, study_name="search", direction="maximize", load_if_exists=True
    )
