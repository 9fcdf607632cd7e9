"""Learning rates over the updates of a training."""

import keras


def warmup_cosine(learning_rate, updates, warmup, *, floor=0.01):
    """A rise from a hundredth of the rate to all of it, then a cosine down.

    Args:
        learning_rate: float > 0, the greatest rate.
        updates: int >= 1, of the whole training.
        warmup: int >= 1, those of them in which the rate rises.
        floor: float in [0, 1], what is left in the end, as a share of the greatest rate.

    Returns:
        `keras.optimizers.schedules.CosineDecay`.
    """
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.01 * learning_rate,
        # Keras counts them from the end of the warm-up on.
        decay_steps=max(1, updates - warmup),
        alpha=floor,
        warmup_target=learning_rate,
        warmup_steps=warmup,
    )
