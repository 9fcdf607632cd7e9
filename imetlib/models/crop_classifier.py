"""Classifiers of a feature map that average over its windows, and their controls."""

import math

import keras
import numpy as np

from imetlib.models.feature_crops import VIEWS, TenCrop, crop_indices

MAP_VIEWS = (*VIEWS, "whole", "mean")
AVERAGES = ("probabilities", "logits")


def full_net(crop_shape, num_classes, *, hidden=(), dropout=0.0):
    """FullNet: dense layers on one window of a map.

    Args:
        crop_shape: (height, width, channels) of the window.
        num_classes: int >= 1.
        hidden: int >= 1 each, units of the hidden layers with ReLU. Without any it is linear.
        dropout: float in [0, 1), of what each dense layer reads.

    Returns:
        `keras.Model` "full_net" from `(batch, *crop_shape)` to logits `(batch, num_classes)`,
        float32 also under a mixed policy. A linear one of 3 x 3 x 256 cells and ten classes has
        23,050 parameters.
    """
    crops = keras.Input(tuple(crop_shape), dtype=_compute_dtype(), name="crops")
    x = keras.layers.Flatten(name="flat")(crops)
    for index, units in enumerate(hidden, start=1):
        x = keras.layers.Dropout(dropout, name=f"dropout{index}")(x)
        x = keras.layers.Dense(units, activation="relu", name=f"dense{index}")(x)
    x = keras.layers.Dropout(dropout, name="logits_dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(crops, logits, name="full_net")


def crop_classifier(
    map_shape,
    num_classes,
    *,
    views="ten",
    crop_size=3,
    hidden=(),
    dropout=0.0,
    average="probabilities",
):
    """A classifier of a feature map: one FullNet on its windows, and the mean of what it says.

    All windows of all maps are one batch for FullNet. The loss is taken on the mean; gradients
    go no further than the map where what makes it is frozen. `costs.count_macs` counts FullNet
    once, not once a window.

    Averaging logits, a linear FullNet gains nothing that one dense layer on the map could not
    have: see `equivalent_dense`.

    Args:
        map_shape: (height, width, channels).
        num_classes: int >= 1.
        views: "ten" windows, "five" without the mirror images, or the "centre" window (see
            `TenCrop`); "whole", the map as one window; "mean", the mean of its cells.
        crop_size: int or (height, width), of the windows. The last two views have none.
        hidden, dropout: see `full_net`.
        average: "probabilities", the mean of the windows' softmax, or "logits", their mean. One
            view has no mean: its logits are what comes out.

    Returns:
        `keras.Model` from `(batch, *map_shape)` to float32 scores `(batch, num_classes)` for a
        softmax loss with `from_logits=True`: logits, or the logarithm of the mean probabilities.
        The layer "full_net" is `full_net`, the layer "crops" a `TenCrop` (not with "mean").

    Raises:
        ValueError: unknown views or average, a map of another rank or an open size, or a window
            larger than the map.

    Reference:
        Averaged probabilities: Krizhevsky et al., 2012, section 4.1, of windows of the picture.
    """
    if views not in MAP_VIEWS:
        raise ValueError(f"Unknown views {views!r}. Known: {', '.join(MAP_VIEWS)}")
    _check_average(average)
    if len(map_shape) != 3 or None in map_shape:
        raise ValueError(
            "`map_shape` must be (height, width, channels), all known. "
            f"Received: {tuple(map_shape)}"
        )
    if views == "whole":
        crop_size, views = map_shape[:2], "centre"
    # Not float32 under a mixed policy, as a map would be cast only after it is cut into ten.
    features = keras.Input(tuple(map_shape), dtype=_compute_dtype(), name="map")
    if views == "mean":
        x = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name="mean")(
            features
        )
        crop_shape, num_views = (1, 1, map_shape[-1]), 1
    else:
        x = TenCrop(crop_size, views=views, name="crops")(features)
        num_views, *crop_shape = x.shape[1:]
        x = keras.ops.reshape(x, (-1, *crop_shape))
    scores = full_net(crop_shape, num_classes, hidden=hidden, dropout=dropout)(x)
    if num_views > 1:
        scores = _mean_of_views(scores, num_views, average)
    return keras.Model(features, scores, name="crop_classifier")


def equivalent_dense(classifier):
    """The one linear map that a linear FullNet makes of the whole map, whatever its windows.

    The mean of linear logits is linear: each cell meets the mean of FullNet's kernels for the
    places that it has in the windows. So ten windows of 3 x 3 x 256 cells are a dense layer on the
    5 x 5 x 256 map that has 23,050 free parameters instead of 64,010: regularisation at most.

    Args:
        classifier: `keras.Model` from `crop_classifier`, without hidden layers, with
            average="logits" or a single view. Dropout does not count: it is off in inference.

    Returns:
        kernel: `(height * width * channels, num_classes)` float32.
        bias: `(num_classes,)` float32. The logits are `map.reshape(len(map), -1) @ kernel + bias`.

    Raises:
        ValueError: a FullNet with hidden layers, or averaged probabilities.
    """
    height, width, channels = classifier.input_shape[1:]
    names = {layer.name for layer in classifier.layers}
    if "crops" in names:
        layer = classifier.get_layer("crops")
        cells = crop_indices(height, width, layer.crop_size)[VIEWS[layer.views]]
        averaged = len(cells) > 1
    else:
        # The logits of the mean cell are the mean of the cells' logits.
        cells, averaged = np.arange(height * width), False
    net = classifier.get_layer("full_net")
    num_dense = sum(isinstance(layer, keras.layers.Dense) for layer in net.layers)
    if num_dense != 1 or (averaged and "mean_logits" not in names):
        received = f"{num_dense - 1} hidden layers" if num_dense > 1 else "averaged probabilities"
        raise ValueError(
            "Only the mean logits of a FullNet without hidden layers are one linear map. "
            f"Received: {received}"
        )
    crop_kernel, bias = (
        keras.ops.convert_to_numpy(weight) for weight in net.get_layer("logits").weights
    )
    num_classes = len(bias)
    cells = cells.reshape(len(cells), -1)
    kernel = np.zeros((height * width, channels, num_classes), np.float32)
    np.add.at(kernel, cells, crop_kernel.reshape(cells.shape[1], channels, num_classes))
    return kernel.reshape(-1, num_classes) / np.float32(len(cells)), bias


def image_views_model(model, image_shape, *, padding, average="probabilities"):
    """A trained network on ten windows of the padded picture, mirror images among them.

    The windows have the picture's own size; what they see of the border is black, as in the
    random crops of training. Weights are shared. It costs ten times the network.

    Args:
        model: `keras.Model` from pictures of `image_shape`, 0 to 255, to scores
            `(batch, num_classes)` for a softmax loss with `from_logits=True`.
        image_shape: (height, width, 3).
        padding: int >= 0, pixels on each side, as in the random crops of training. At 0 the
            windows are the picture five times, and its mirror image five times.
        average: "probabilities" or "logits", see `crop_classifier`.

    Returns:
        `keras.Model` from uint8 pictures `(batch, *image_shape)` to float32 scores
        `(batch, num_classes)`.

    Raises:
        ValueError: another size than the network's, an unknown average, or a negative padding.
    """
    image_shape = tuple(image_shape)
    own = model.input_shape[1:]
    if len(image_shape) != len(own) or any(
        side not in (None, given) for side, given in zip(own, image_shape, strict=True)
    ):
        raise ValueError(f"{model.name} takes pictures of {own}. Received: {image_shape}")
    if padding < 0:
        raise ValueError(f"`padding` must not be negative. Received: {padding}")
    _check_average(average)
    images = keras.Input(image_shape, dtype="uint8", name="images")
    x = keras.ops.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    x = TenCrop(image_shape[:2], name="image_crops")(x)
    scores = model(keras.ops.reshape(x, (-1, *image_shape)))
    scores = _mean_of_views(scores, 10, average)
    return keras.Model(images, scores, name=f"{model.name}_image_views")


def _mean_of_views(scores, num_views, average):
    """Mean of `num_views` rows each, `(batch * num_views, num_classes)`, in float32."""
    scores = keras.ops.reshape(scores, (-1, num_views, scores.shape[-1]))
    if average == "logits":
        return keras.layers.GlobalAveragePooling1D(dtype="float32", name="mean_logits")(scores)
    # In logarithms, as a softmax in float32 turns what is unlikely into zero.
    log_prob = keras.ops.log_softmax(keras.ops.cast(scores, "float32"), axis=-1)
    return keras.ops.logsumexp(log_prob, axis=1) - math.log(num_views)


def _check_average(average):
    if average not in AVERAGES:
        raise ValueError(f"Unknown average {average!r}. Known: {', '.join(AVERAGES)}")


def _compute_dtype():
    return keras.config.dtype_policy().compute_dtype
