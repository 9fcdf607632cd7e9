"""What a search over settings draws, checked before any work."""

from dataclasses import fields

import numpy as np

from imetlib.models.backbones import backbone_row, check_image_shape
from imetlib.profiles import Profile, get_profile

# "size" multiplies the sides of `image_shape`, "augmentation" the amounts named below it. Three
# sizes and not a range: each one needs a cache of the whole collection.
SPACE = {
    "learning_rate": (1e-4, 1e-2, "log"),
    "size": (0.5, 0.75, 1.0),
    "loss": ("bce", "focal"),
    "trainable_from": ("head", "late", "all"),
    "augmentation": (0.0, 2.0),
    "dropout": (0.0, 0.5),
}
AMOUNTS = ("scale", "shift", "rotate", "brightness", "contrast")
# What belongs to the collection, or is a question for a comparison of members.
_FIXED = {
    *("name", "museum_size", "museum_side", "num_folds", "image_shape", "deterministic"),
    *("backbone", "weights", "normalisation"),
}
_TYPES = {field.name: field.type for field in fields(Profile) if field.name not in _FIXED}
KNOWN = ("size", "augmentation", *_TYPES)
# Closed-form heads are not trained; only this reaches them.
CLOSED_FORM = ("size", "resize_mode", "precision")
_RANDOM_TRIALS = 5


def parse_space(space, profile, method="network"):
    """What is drawn, as optuna's distributions by name in a fixed order; every bound checked.

    Args:
        space, method: see `search_settings`.
        profile: `Profile`.

    Raises:
        ValueError: an unknown setting, or a value that it cannot have.

    Example:
        >>> parse_space({"loss": ("bce", "focal")}, get_profile("fast"))
        {'loss': CategoricalDistribution(choices=('bce', 'focal'))}
    """
    distributions = import_optuna().distributions
    known = KNOWN if method == "network" else CLOSED_FORM
    unknown = sorted(set(space) - set(known))
    if unknown or not space:
        raise ValueError(
            f"`space` cannot draw {', '.join(unknown) or 'nothing'}. Known: {', '.join(known)}"
        )
    twice = sorted(set(space) & set(AMOUNTS)) if "augmentation" in space else []
    if twice:
        raise ValueError(f"`augmentation` scales {', '.join(twice)}: draw one or the other")
    parsed = {}
    for name in sorted(space):
        values = list(space[name])
        log = len(values) == 3 and values[2] == "log"
        bounds = values[:2] if log else values
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in bounds)
        is_range = numbers and len(bounds) == 2 and not isinstance(space[name], list)
        if not bounds or (log and not is_range) or (name == "size" and not min(bounds) > 0):
            raise ValueError(
                "`space` holds (low, high), (low, high, 'log') or choices, sizes above 0. "
                f"Received: {name}={space[name]}"
            )
        for value in bounds:
            changed = settings_of(profile, {name: value})
            get_profile(profile.name, **changed)
            check_image_shape(profile.backbone, changed.get("image_shape", profile.image_shape))
        whole = _TYPES.get(name) in (int, int | None)
        number = distributions.IntDistribution if whole else distributions.FloatDistribution
        try:
            parsed[name] = (
                number(*bounds, log=log)
                if is_range
                else distributions.CategoricalDistribution(bounds)
            )
        except ValueError as error:  # low above high, or 0 with "log"
            raise ValueError(f"`space` of {name}={space[name]}: {error}") from None
    return parsed


def settings_of(profile, drawn):
    """Settings of a profile from what was drawn; "size" and "augmentation" become their own.

    Sides are rounded to multiples of 16 and to no less than the backbone takes.

    Example:
        >>> settings_of(get_profile("fast"), {"size": 0.75, "dropout": 0.1})
        {'dropout': 0.1, 'image_shape': (32, 32, 3)}
    """
    settings = {name: v for name, v in drawn.items() if name not in ("size", "augmentation")}
    if drawn.get("size", 1.0) != 1.0:
        least = backbone_row(profile.backbone).min_size
        sides = (round(side * drawn["size"] / 16) * 16 for side in profile.image_shape[:2])
        settings["image_shape"] = (*(max(least, side) for side in sides), 3)
    strength = drawn.get("augmentation", 1.0)
    if strength != 1.0:
        settings |= {name: getattr(profile, name) * strength for name in AMOUNTS}
        settings["contrast"] = min(1.0, settings["contrast"])
    return settings


def next_trial(optuna, study, space, profile, seed):
    """(number, what was drawn) of the trial that was under way, or of a new one."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if "drawn" in trial.user_attrs:
            return trial.number, trial.user_attrs["drawn"]
        # Cut off between two draws.
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    number = len(study.trials)
    if not any("drawn" in trial.user_attrs for trial in study.trials):
        # Not by `ask`: a profile's own value may lie outside the space.
        own = {name: getattr(profile, name, 1.0) for name in space}
        inside = {name: value for name, value in own.items() if _holds(space[name], value)}
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=inside,
                distributions={name: space[name] for name in inside},
                user_attrs={"drawn": own},
            )
        )
        return number, own
    # A function of seed and number, so that a search goes on as if it had not been cut off.
    state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=state, n_startup_trials=_RANDOM_TRIALS)
    trial = study.ask(space)
    trial.set_user_attr("drawn", trial.params)
    return trial.number, trial.params


def _holds(distribution, value):
    choices = getattr(distribution, "choices", None)
    return distribution.low <= value <= distribution.high if choices is None else value in choices


def import_optuna():
    try:
        import optuna
        import optuna.storages.journal
    except ImportError as error:
        raise ImportError("A search needs optuna 4: pip install 'imetlib[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its own line a trial
    return optuna
