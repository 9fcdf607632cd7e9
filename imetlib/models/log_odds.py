"""The last dense layer of a head, whose first answer can be the attributes' frequencies."""

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


def scaled_logits(
    features,
    num_classes,
    *,
    name,
    logits_name=None,
    dropout=None,
    kernel_initializer="glorot_uniform",
    class_frequency=None,
):
    """One dense layer of logits on features that are scaled by the root of their number.

    A step of Adam moves each logit by up to learning_rate * sum |features|: without the scale,
    thousands of features throw a started head away in its first steps.

    Args:
        features: `(batch, num_features)` tensor.
        num_classes: int >= 1.
        name: str, start of the names of the layers "<name>_scale" and "<name>_dropout".
        logits_name: str, of the dense layer; None: "<name>_logits".
        dropout: float in [0, 1) on the scaled features, or None for no such layer.
        kernel_initializer: of the dense layer.
        class_frequency: see `log_odds_initializer`.

    Returns:
        `(batch, num_classes)` float32, also under a mixed policy: the logits of rare attributes
        lie around -9.
    """
    scale = 1.0 / np.sqrt(features.shape[-1])
    x = keras.layers.Rescaling(scale, name=f"{name}_scale", dtype="float32")(features)
    if dropout is not None:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout", dtype="float32")(x)
    return keras.layers.Dense(
        num_classes,
        name=logits_name or f"{name}_logits",
        dtype="float32",
        kernel_initializer=kernel_initializer,
        bias_initializer=log_odds_initializer(class_frequency, num_classes),
    )(x)
