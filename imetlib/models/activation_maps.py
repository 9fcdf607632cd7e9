"""Looking into a trained model: activation maps of its classes, and outputs of named layers."""

import keras
import numpy as np


def activation_maps(model, columns=None, *, maxima=False):
    """Class activation maps of a classifier with a pooling head, without any gradient.

    Where a logit is a weighted sum of a map's pooled channels, the same sum of the channels at
    each place says how much the place speaks for the attribute: the mean of a map over its
    places is the part of the logit that the mean pooling gives. Maxima are no sum over places,
    but each stands at one: with `maxima` it counts there, and the mean of a map with the bias is
    the whole logit.

    Args:
        model: `keras.Model` with the head of `attach_head`, on means or on means and maxima. The
            weights are copied: train first.
        columns: sequence of int, attributes in the order wanted; None for all.
        maxima: bool. Whether the maxima count, each at the places where its channel has it.

    Returns:
        `keras.Model` from uint8 pictures to float32 `(batch, height, width, num_columns)`, maps
        of the last feature map's size; negative where a place speaks against the attribute.

    Raises:
        ValueError: the model has another head.

    Reference:
        Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016,
        section 2; of maxima Oquab et al., "Is Object Localization for Free?", CVPR 2015.
    """
    names = {layer.name for layer in model.layers}
    if not {"pooled_mean", "head_scale", "logits"} <= names:
        raise ValueError(
            "Activation maps need a head of mean pooling and one dense layer, as `attach_head` "
            f"makes it. Received: {model.name} without its layers"
        )
    features = model.get_layer("pooled_mean").input
    kernel = model.get_layer("logits").get_weights()[0] * model.get_layer("head_scale").scale
    if columns is not None:
        kernel = kernel[:, list(columns)]
    parts = [keras.ops.cast(features, "float32")]
    if maxima and "pooled_max" in names:
        parts.append(_at_their_places(parts[0]))
    # The means stand before the maxima.
    kernel = kernel[: len(parts) * features.shape[-1]]
    maps = keras.layers.Dense(
        kernel.shape[1], use_bias=False, name="activation_maps", dtype="float32"
    )
    found = keras.Model(
        model.input, maps(keras.ops.concatenate(parts, axis=-1)), name=f"{model.name}_maps"
    )
    maps.set_weights([kernel])
    return found


def layer_outputs(model, names, images, *, batch_size=64):
    """What named layers give for pictures: masks, parts, glimpses.

    Args:
        model: `keras.Model`.
        names: names of layers with one output each.
        images: `(num_pictures, height, width, 3)` uint8.
        batch_size: int >= 1. Pictures that go through the model at once.

    Returns:
        dict of name to array `(num_pictures, ...)`, in the layer's dtype.

    Raises:
        ValueError: the model has no such layer.

    Example:
        >>> inputs = keras.Input((4, 4, 3), dtype="uint8")
        >>> scaled = keras.layers.Rescaling(0.5, name="halves")(inputs)
        >>> model = keras.Model(inputs, keras.layers.Flatten()(scaled))
        >>> layer_outputs(model, ["halves"], np.full((2, 4, 4, 3), 3, "uint8"))["halves"].shape
        (2, 4, 4, 3)
    """
    tensors = {name: model.get_layer(name).output for name in names}
    return tensor_values(model, tensors, images, batch_size=batch_size)


def tensor_values(model, tensors, images, *, batch_size=64):
    """What tensors inside a model are for pictures, in one pass.

    Args:
        model: `keras.Model`.
        tensors: dict of name to `keras.KerasTensor` computed from the model's input.
        images, batch_size: see `layer_outputs`.

    Returns:
        dict of name to array `(num_pictures, ...)`.
    """
    part = keras.Model(model.input, tensors)
    batches = [
        part.predict_on_batch(images[start : start + batch_size])
        for start in range(0, len(images), batch_size)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in tensors}


def _at_their_places(features):
    """Zero but where a channel has its maximum; the mean over the places is the maximum."""
    peaks = keras.ops.equal(features, keras.ops.amax(features, axis=(1, 2), keepdims=True))
    peaks = keras.ops.cast(peaks, features.dtype)
    return features * peaks / keras.ops.mean(peaks, axis=(1, 2), keepdims=True)
