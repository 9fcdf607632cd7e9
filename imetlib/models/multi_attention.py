"""Multi-Attention CNN: logits of attributes from several attended parts of a picture.

Zheng, Fu, Mei and Luo, "Learning Multi-Attention Convolutional Neural Network for Fine-Grained
Image Recognition", ICCV 2017.
"""

import keras
from keras import ops

from imetlib.models.log_odds import log_odds_initializer, scaled_logits
from imetlib.models.part_attention import PartPooling, part_masks


def multi_attention_logits(
    features,
    num_classes,
    *,
    num_parts=4,
    form="released",
    gain=None,
    power=None,
    hidden_units=None,
    detach=True,
    whole=None,
    dropout=0.0,
    kernel_initializer="glorot_uniform",
    class_frequency=None,
    name="parts",
):
    """Logits of attributes from the features of several attended parts of a map.

    For each part: descriptor of the channels (`channel_grouping`), mask (`PartAttention`),
    feature (the map's sum under the mask); then one dense layer on all of them. Layers for
    figures and training: "<name>_masks" `(batch, height, width, num_parts)`, "<name>_features"
    `(batch, num_parts, channels)`. Everything is computed in float32 under any dtype policy.

    The masks start alike, and alike they stay: group the channels first
    (`imetlib.training.part_grouping.start_grouping`).

    Args:
        features: `(batch, height, width, channels)` map of a backbone; 14 x 14 or finer.
        num_classes: int >= 1.
        num_parts: int from 1 to `channels`. The paper has 4 (also 2).
        form, gain, power: see `PartAttention`.
        hidden_units: int, width of the grouping's hidden layers. None: `channels` up to 512, as in
            the paper; a quarter of them in wider maps.
        detach: stop the gradient of the masks at the map: the backbone learns what stands under the
            masks and not to move them. Otherwise every part learns the place that serves the
            labels best, and training undoes the grouping. The paper does not say; the
            released files let the gradient pass.
        whole: another map whose mean over the positions joins the parts, or None; the last map
            of the backbone makes this a classifier of its own.
        dropout: float in [0, 1), before the last layer.
        kernel_initializer: of the last layer.
        class_frequency: `(num_classes,)` or None, see `log_odds.log_odds_initializer`.
        name: str, how all layer names begin.

    Returns:
        `(batch, num_classes)` float32 `KerasTensor`. The authors concatenate the parts in their
        second network only; the loss of each part alone is in `training_outputs`.

    Raises:
        ValueError: no map, or a number of parts, a form or a width that cannot be.
    """
    masks = part_masks(
        features,
        num_parts,
        form=form,
        gain=gain,
        power=power,
        hidden_units=hidden_units,
        detach=detach,
        name=name,
    )
    parts = PartPooling(name=f"{name}_features", dtype="float32")([features, masks])
    x = keras.layers.Flatten(name=f"{name}_flat", dtype="float32")(parts)
    if whole is not None:
        mean = keras.layers.GlobalAveragePooling2D(name=f"{name}_whole", dtype="float32")(whole)
        x = keras.layers.Concatenate(name=f"{name}_and_whole", dtype="float32")([x, mean])
    return scaled_logits(
        x,
        num_classes,
        name=name,
        dropout=dropout,
        kernel_initializer=kernel_initializer,
        class_frequency=class_frequency,
    )


def training_outputs(model, *, class_frequency=None, name="parts"):
    """A model's logits and those of each part alone, for a loss on all of them.

    Each part gets a dense layer of its own, "<name>_part_logits", which only this model has: the
    loss of each part (the paper's classification loss) teaches its features to tell the
    attributes alone. The other layers and their weights are the given model's.

    Args:
        model: `keras.Model` to logits with `multi_attention_logits` in it.
        class_frequency: `(num_classes,)` or None, see `log_odds.log_odds_initializer`.
        name: str, that of `multi_attention_logits`.

    Returns:
        `keras.Model` from the model's pictures to float32 `(batch, 1 + num_parts, num_classes)`,
        the model's own logits first; for
        `imetlib.training.part_losses.SharedTargets`.
    """
    parts = model.get_layer(f"{name}_features").output
    num_parts, channels = parts.shape[1:]
    num_classes = model.output.shape[-1]
    limit = (6.0 / (channels + num_classes)) ** 0.5  # Glorot's, of each dense layer alone
    x = keras.layers.Rescaling(channels**-0.5, name=f"{name}_part_scale", dtype="float32")(parts)
    logits = keras.layers.EinsumDense(
        "bpc,pcn->bpn",
        (num_parts, num_classes),
        bias_axes="pn",
        kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
        bias_initializer=log_odds_initializer(class_frequency, num_classes),
        name=f"{name}_part_logits",
        dtype="float32",
    )(x)
    own = keras.layers.Reshape((1, num_classes), name=f"{name}_own_logits", dtype="float32")
    together = keras.layers.Concatenate(axis=1, name=f"{name}_training_logits", dtype="float32")
    training = keras.Model(model.input, together([own(model.output), logits]), name=model.name)
    if hasattr(model, "backbone_layers"):
        training.backbone_layers = model.backbone_layers
    return training


def masks_of_map(model, features, *, name="parts"):
    """The masks that a model's grouping gives on another map, weights shared.

    Args:
        model: `keras.Model` with `multi_attention_logits` in it.
        features: `(batch, height, width, channels)` `KerasTensor`.
        name: str, that of `multi_attention_logits`.

    Returns:
        `(batch, height, width, num_parts)` `KerasTensor`.
    """
    x = features
    for part in ("mean", "grouping_hidden", "grouping"):
        x = model.get_layer(f"{name}_{part}")(x)
    return model.get_layer(f"{name}_masks")([features, x])


def ablate_parts(model, mode="zero", *, name="parts"):
    """A model without what its parts see, weights shared: how much do its answers need it?

    Args:
        model: `keras.Model` with `multi_attention_logits` in it.
        mode: "zero": the features of all parts are 0. "uniform": every mask is the same at all
            positions, so that a part's feature is the map's mean.
        name: str, that of `multi_attention_logits`.

    Returns:
        `keras.Model` with the model's inputs and outputs.

    Raises:
        ValueError: unknown mode, or no layers of this name.
    """
    if mode not in ("zero", "uniform"):
        raise ValueError(f'`mode` must be "zero" or "uniform". Received: {mode!r}')
    changed = model.get_layer(f"{name}_features" if mode == "zero" else f"{name}_masks")

    def call_layer(layer, *args, **settings):
        outputs = layer(*args, **settings)
        if layer is not changed:
            return outputs
        if mode == "zero":
            return ops.zeros_like(outputs)
        even = ops.ones_like(outputs)
        return even / ops.sum(even, axis=(1, 2), keepdims=True)

    # `Model` first: a clone of a compiled model would be compiled as well.
    return keras.models.clone_model(
        keras.Model(model.input, model.output, name=model.name),
        clone_function=lambda layer: layer,
        call_function=call_layer,
    )
