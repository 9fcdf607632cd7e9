"""Biases that make a network's first answer the attributes' frequencies."""

import keras
import numpy as np


def log_odds_initializer(class_frequency, num_classes):
    """Initializer of a bias that makes the first answer the attributes' frequencies.

    Args:
        class_frequency: `(num_classes,)` float in [0, 1], or None for zeros.
        num_classes: int.

    Raises:
        ValueError: the frequencies have another length.
    """
    if class_frequency is None:
        return "zeros"
    frequency = np.asarray(class_frequency, dtype=np.float64)
    if frequency.shape != (num_classes,):
        raise ValueError(
            f"`class_frequency` must have shape ({num_classes},). Received: shape {frequency.shape}"
        )
    frequency = np.clip(frequency, 1e-5, 1 - 1e-5)
    return keras.initializers.Constant(np.log(frequency / (1 - frequency)).astype(np.float32))
