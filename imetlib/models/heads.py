"""Multi-label heads on a feature map."""

import keras

from imetlib.models.backbone_table import BACKBONES
from imetlib.models.class_residual_attention import class_residual_attention_logits
from imetlib.models.log_odds import scaled_logits
from imetlib.models.ml_decoder import ml_decoder_logits

# Linear in the pooled map: these have a layer "pooled" and can start in closed form.
POOLED_HEADS = ("mean_max", "mean", "max")
HEADS = (*POOLED_HEADS, "csra", "ml_decoder")


def attach_head(
    backbone, num_classes, *, head="mean_max", dropout=0.0, class_frequency=None, beside=()
):
    """A classifier of attributes: by default mean and max pooling and one dense layer of logits.

    Max pooling beside the mean keeps a small motif from drowning in a large picture; on
    the watercolours it is worth about .01 F2 on frozen features.

    Args:
        backbone: `keras.Model` with one 4-D output `(batch, height, width, channels)`.
        num_classes: int >= 1.
        head: "mean_max", "mean" or "max" (one dense layer of the pooled map), "csra" (see
            `imetlib.models.class_residual_attention`) or "ml_decoder" (see
            `imetlib.models.ml_decoder`).
        dropout: float in [0, 1), on what the head reads: the pooled features, or the map. A head
            in closed form has large weights that cancel each other: dropout undoes it.
        class_frequency: `(num_classes,)` float in [0, 1] or None. Share of the training
            pictures with each attribute; the last bias starts at its log-odds, so the
            first loss is that of the best constant answer. (Near it: "csra" and "ml_decoder"
            add scores that are not zero at the start.)
        beside: `(batch, num_classes)` float32 tensors computed from the backbone's maps, whose
            values are added to the logits: attention beside the plain head. One that starts at
            zero leaves the plain head's start as it is.

    Returns:
        `keras.Model` from uint8 pictures to float32 logits `(batch, num_classes)`; layers
        "pooled" and "logits" with the heads that pool, and "summed_logits" with something
        `beside`.

    Raises:
        ValueError: an unknown head, the backbone's output is no map, or the frequencies have
            another length.
    """
    if head not in HEADS:
        raise ValueError(f"Unknown head {head!r}. Known: {', '.join(HEADS)}")
    features = backbone.output
    if isinstance(features, (list, tuple)) or len(features.shape) != 4:
        raise ValueError(
            "A backbone must end in one feature map (batch, height, width, channels). "
            f"Received: {backbone.name} with output {features}"
        )
    if head in POOLED_HEADS:
        logits = _pooled_logits(features, num_classes, head, dropout, class_frequency)
    else:
        x = keras.layers.Dropout(dropout, name="head_dropout")(features)
        if head == "csra":
            logits = class_residual_attention_logits(
                x, num_classes, class_frequency=class_frequency
            )
        else:
            logits = ml_decoder_logits(x, num_classes, class_frequency=class_frequency)
    if beside:
        logits = keras.layers.Add(name="summed_logits", dtype="float32")([logits, *beside])
    return classifier(backbone, logits)


def classifier(backbone, logits):
    """The model from a backbone's pictures to logits computed from its maps.

    Its attribute `backbone_layers` holds the names of the backbone's layers: what else it has
    always learns (see `freeze`).
    """
    model = keras.Model(backbone.input, logits, name=backbone.name)
    model.backbone_layers = frozenset(layer.name for layer in backbone.layers)
    return model


def freeze(model, trainable_from):
    """Set which layers learn; frozen BatchNormalization runs in inference mode.

    Args:
        model: what `attach_head` or `classifier` returned. Its heads always learn.
        trainable_from: "head" (only what is not the backbone), "late" (the last two stages: all
            after the map of stride 8), "all", or the name of the backbone's first layer that
            learns; earlier ones in `model.layers` are frozen.

    Raises:
        ValueError: no layer of this name, or "late" for a model that is not in the table.
    """
    names = [layer.name for layer in model.layers if layer.name in model.backbone_layers]
    first = {"all": names[0], "head": None}.get(trainable_from, trainable_from)
    if first == "late":
        if model.name not in BACKBONES:
            raise ValueError(
                f"Which stages of {model.name} are late is not known: give `trainable_from` "
                "the name of the first layer that learns"
            )
        maps = BACKBONES[model.name].feature_maps
        stride = max(stride for stride in sorted(maps)[:-1] if stride <= 8)
        first = names[names.index(maps[stride]) + 1]
    if first is not None and first not in names:
        raise ValueError(
            '`trainable_from` must be "head", "late", "all" or the name of a layer. '
            f"Received: {trainable_from!r}; for example {', '.join(names[len(names) // 2 :][:5])}"
        )
    frozen = names if first is None else names[: names.index(first)]
    for layer in model.layers:
        layer.trainable = layer.name not in frozen


def start_head(model, kernel, bias):
    """Put a linear map of the pooled features into the last layer.

    Args:
        model: what `attach_head` returned, its head one of `POOLED_HEADS`.
        kernel: `(num_features, num_classes)`, 2 * channels features with mean and maximum.
        bias: `(num_classes,)`.
    """
    scale = model.get_layer("head_scale").scale
    model.get_layer("logits").set_weights([kernel / scale, bias])


def pooled_features(model):
    """The part of a classifier up to its pooled features, weights shared.

    Args:
        model: what `attach_head` returned, its head one of `POOLED_HEADS`.

    Returns:
        `keras.Model` from uint8 pictures to float32 `(batch, num_features)`: the means of the
        channels, then their maxima, as far as the head pools them.

    Raises:
        ValueError: another head, which has no closed form.
    """
    if "pooled" not in {layer.name for layer in model.layers}:
        raise ValueError(
            f"Only the heads {', '.join(POOLED_HEADS)} read pooled features and start in closed "
            f'form. Received: {model.name} without a layer "pooled"'
        )
    return keras.Model(model.input, model.get_layer("pooled").output, name=f"{model.name}_pooled")


def pool_layers(backbone, names, grid_names=()):
    """Pooled maps of several layers of a backbone side by side, weights shared.

    Args:
        backbone: `keras.Model`.
        names: layers with 4-D output: the mean and the maximum of each channel.
        grid_names: layers with 4-D output: the mean of each channel in each of 3 x 2 parts.

    Returns:
        `keras.Model` from uint8 pictures to float32 `(batch, num_features)`: first the grid
        layers, then means and maxima layer by layer, so that the last columns belong to the
        last of `names`.
    """
    parts = []
    for name in grid_names:
        features = backbone.get_layer(name).output
        cells = [
            max(1, side // count) for side, count in zip(features.shape[1:3], (3, 2), strict=True)
        ]
        cells = keras.layers.AveragePooling2D(tuple(cells), name=f"{name}_grid")(features)
        parts.append(keras.layers.Flatten(name=f"{name}_flat", dtype="float32")(cells))
    for name in names:
        parts += _pool(backbone.get_layer(name).output, name)
    features = keras.layers.Concatenate(name="pooled_layers", dtype="float32")(parts)
    return keras.Model(backbone.input, features, name=f"{backbone.name}_layers")


def _pooled_logits(features, num_classes, head, dropout, class_frequency):
    parts = _pool(features, "pooled", ("mean", "max") if head == "mean_max" else (head,))
    pooled = keras.layers.Concatenate(name="pooled", dtype="float32")(parts)
    return scaled_logits(
        pooled,
        num_classes,
        name="head",
        logits_name="logits",
        dropout=dropout,
        class_frequency=class_frequency,
    )


_POOLINGS = {
    "mean": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
}


def _pool(features, name, kinds=("mean", "max")):
    return [_POOLINGS[kind](name=f"{name}_{kind}", dtype="float32")(features) for kind in kinds]
