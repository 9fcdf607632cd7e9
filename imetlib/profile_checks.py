"""What the settings of a profile may be."""

import math

# What "" stands for comes first.
ATTENTION_FORMS = {
    "residual": ("mixed", "channel", "spatial", "naive"),
    "multi": ("standardised", "released", "sigmoid"),
    "recurrent": ("compact", "paper"),
}

_RANGES = {
    **dict.fromkeys(("batch_size", "accumulation", "museum_size", "museum_side"), (1, math.inf)),
    **dict.fromkeys(("num_parts", "num_glimpses", "attention_stride"), (1, math.inf)),
    **dict.fromkeys(("epochs", "small_epochs", "head_epochs", "weight_decay"), (0, math.inf)),
    **dict.fromkeys(("scale", "shift", "rotate", "brightness"), (0, math.inf)),
    **dict.fromkeys(("mixup", "cutmix"), (0, math.inf)),
    **dict.fromkeys(("warmup_fraction", "flip", "contrast", "erase"), (0, 1)),
    **dict.fromkeys(("dropout", "ema"), (0, 0.9999)),
    "small_scale": (0.25, 1),
    "num_folds": (3, math.inf),
    "learning_rate": (1e-9, math.inf),
}


def check_settings(profile):
    """Refuse settings out of their range, or that do not go together.

    Args:
        profile: `imetlib.profiles.Profile`.

    Raises:
        ValueError: what is expected and what came.
    """
    for key, allowed in (
        ("loss", ("bce", "focal", "asl", "soft_f2", "hill", "splc")),
        ("head", ("mean_max", "mean", "max", "csra", "ml_decoder")),
        ("batch_norm", ("train", "frozen")),
        ("divergence", ("stop", "halve")),
        ("precision", ("auto", "float32", "mixed_bfloat16", "mixed_float16")),
        ("resize_mode", ("squash", "pad", "crop")),
        ("bad_pictures", ("raise", "report")),
    ):
        if getattr(profile, key) not in allowed:
            raise ValueError(
                f"`{key}` must be one of {', '.join(allowed)}. Received: {getattr(profile, key)!r}"
            )
    for key, (low, high) in _RANGES.items():
        value = getattr(profile, key)
        if value is not None and not low <= value <= high:
            raise ValueError(f"`{key}` must be from {low:g} to {high:g}. Received: {key}={value}")
    _check_attention(profile)
    if profile.ema and profile.small_epochs:
        raise ValueError(
            "`ema` would forget the small epochs at the change of size: give `small_epochs` or "
            f"`ema`, not both. Received: small_epochs={profile.small_epochs}, ema={profile.ema}"
        )
    shape = profile.image_shape
    if shape is not None and (len(shape) != 3 or shape[2] != 3 or min(shape) < 1):
        raise ValueError(f"`image_shape` must be (height, width, 3). Received: image_shape={shape}")


def _check_attention(profile):
    if not profile.attention:
        return
    forms = ATTENTION_FORMS.get(profile.attention)
    if forms is None:
        raise ValueError(
            f'`attention` must be "" or one of {", ".join(ATTENTION_FORMS)}. '
            f"Received: {profile.attention!r}"
        )
    if profile.attention_form and profile.attention_form not in forms:
        raise ValueError(
            f"`attention_form` of {profile.attention} attention must be one of "
            f"{', '.join(forms)}. Received: {profile.attention_form!r}"
        )
    if profile.small_epochs:
        raise ValueError(
            "Attention needs pictures of one size. "
            f"Received: attention={profile.attention!r}, small_epochs={profile.small_epochs}"
        )
