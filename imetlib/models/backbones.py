"""Backbones: one table with builder, normalisation, weights file and feature maps."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from imetlib.models.small_convnet import SmallConvNet
from imetlib.paths import search_weights

_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone before it is built.

    Args:
        builder: function of `keras.applications` or of the same form.
        normalisation: "tf" for x / 127.5 - 1, "torch" for (x / 255 - mean) / std of
            ImageNet, "unit" for x / 255: what the stock weights want.
        image_size: side in pixels that the stock weights were trained with.
        weights_name: name of the stock file without top; "" where there is none.
        feature_maps: layer names by the stride of their map, for heads on earlier maps.
        channels: of the last map.
        pooled_layers: layers whose pooled maps the kernel head sees together. Earlier maps
            hold what an object's style and page look like, later ones what it is.
        grid_layers: early layers of which it also sees the means of 3 x 2 parts of the map:
            where on the picture something is.
    """

    builder: Callable[..., keras.Model]
    normalisation: str
    image_size: int
    weights_name: str
    channels: int
    feature_maps: dict[int, str]
    pooled_layers: tuple[str, ...]
    grid_layers: tuple[str, ...] = ()


BACKBONES = {
    "mobilenet_v2": Backbone(
        builder=keras.applications.MobileNetV2,
        normalisation="tf",
        image_size=224,
        weights_name="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        channels=1280,
        feature_maps={8: "block_6_expand_relu", 16: "block_13_expand_relu", 32: "out_relu"},
        pooled_layers=(
            "block_3_expand_relu",
            "block_6_expand_relu",
            "block_10_expand_relu",
            "block_13_expand_relu",
            "block_16_expand_relu",
            "out_relu",
        ),
        grid_layers=(
            "block_1_expand_relu",
            "block_3_expand_relu",
            "block_6_expand_relu",
            "block_10_expand_relu",
        ),
    ),
    "xception": Backbone(
        builder=keras.applications.Xception,
        normalisation="tf",
        image_size=299,
        weights_name="xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        channels=2048,
        feature_maps={
            8: "block4_sepconv2_bn",
            16: "block13_sepconv2_bn",
            32: "block14_sepconv2_act",
        },
        pooled_layers=(
            "block4_sepconv1_act",
            "block8_sepconv1_act",
            "block13_sepconv2_act",
            "block14_sepconv2_act",
        ),
        grid_layers=("block2_sepconv2_act", "block3_sepconv2_act", "block4_sepconv1_act"),
    ),
    "small_convnet": Backbone(
        builder=SmallConvNet,
        normalisation="unit",
        image_size=64,
        weights_name="",
        channels=192,
        feature_maps={4: "stage2_conv2_relu", 8: "stage3_conv2_relu", 16: "stage4_conv2_relu"},
        pooled_layers=("stage3_conv2_relu", "stage4_conv2_relu"),
    ),
}

# Weights files whose own training used another input than the backbone's stock weights.
NORMALISATION_OF_WEIGHTS = {
    "eff2015db9b288efcfee8e7cf80e9b3fab42d188c4fd16795f4f94a0e5f1f678": "torch",
    "912061887db6c21ce5d34c98dc5987eb6727aa5618118e3cd398d8c34bb26539": "tf",
}


def normalisation_layer(kind, *, name="normalisation"):
    """Layer from uint8 pixels to what a backbone's weights expect, in float32.

    Args:
        kind: "tf", "torch" or "unit" (see `Backbone`).
        name: name of the layer.

    Returns:
        `keras.layers.Normalization` with fixed mean and variance, no weights.
    """
    mean_and_std = {
        "tf": ((127.5,) * 3, (127.5,) * 3),
        "torch": (_IMAGENET_MEAN, _IMAGENET_STD),
        "unit": ((0.0,) * 3, (255.0,) * 3),
    }
    if kind not in mean_and_std:
        raise ValueError(
            f"Unknown normalisation {kind!r}. Known: {', '.join(sorted(mean_and_std))}"
        )
    mean, std = mean_and_std[kind]
    return keras.layers.Normalization(
        mean=list(mean), variance=[value**2 for value in std], dtype="float32", name=name
    )


def find_weights(name, weights):
    """Path of a weights file, or None for a random start.

    Args:
        name: key of `BACKBONES`.
        weights: None, "imagenet", or a path. "imagenet" looks into `IMETLIB_WEIGHTS`, the
            Keras cache and attached Kaggle inputs, in this order; nothing is downloaded.

    Returns:
        `pathlib.Path` or None.

    Raises:
        FileNotFoundError: no file; the message names every place that was searched.
        ValueError: "imagenet" for a backbone without such weights.
    """
    if weights is None:
        return None
    row = _row(name)
    if str(weights) != "imagenet":
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"No weights file at {path}. Give the path of a Keras `.weights.h5` or "
                f'`.h5` file of {name} without top, "imagenet", or None for a random start.'
            )
        return path
    if not row.weights_name:
        raise ValueError(
            f"There are no ImageNet weights of {name}: use weights=None, or one of "
            f"{', '.join(key for key, other in BACKBONES.items() if other.weights_name)}"
        )
    stems = (Path(row.weights_name).stem, f"{name}_imagenet_notop", f"{name}_notop")
    stems += tuple(stem.replace(name, name.replace("_", "")) for stem in stems[1:])
    path, searched = search_weights(stems)
    if path is None:
        places = "\n".join(f"  - {place}" for place in searched)
        raise FileNotFoundError(
            f"No ImageNet weights of {name} found. Searched for {row.weights_name} or "
            f"{stems[1]}*.weights.h5 in\n{places}\n"
            "Put the file into one of these folders (with internet, once: "
            f'python -c "import keras; keras.applications.{row.builder.__name__}'
            '(include_top=False)"), give its path as `weights`, or use weights=None.'
        )
    return path


def find_normalisation(name, weights_sha256):
    """Normalisation that a weights file is known to want, else the backbone's own.

    Args:
        name: key of `BACKBONES`.
        weights_sha256: hex digest of the file, or None for a random start.
    """
    return NORMALISATION_OF_WEIGHTS.get(weights_sha256, _row(name).normalisation)


def build_backbone(name, image_shape, *, weights=None, normalisation=None):
    """A backbone from uint8 pixels to its last feature map.

    BatchNormalization layers get a momentum of 0.9: Keras's 0.99 or 0.999 leaves stale
    statistics after a fine-tuning of a few hundred steps, and the score in inference mode
    falls below that of the frozen net.

    Args:
        name: key of `BACKBONES`.
        image_shape: (height, width, 3).
        weights: see `find_weights`.
        normalisation: "tf", "torch" or "unit". None: what the weights file is known to
            want (by its SHA-256), else the backbone's own.

    Returns:
        `keras.Model`, input `(batch, *image_shape)` uint8. Its attribute `normalisation`
        names the normalisation in use.

    Raises:
        ValueError: unknown name, or a file that does not fit the backbone.
        FileNotFoundError: see `find_weights`.
    """
    row = _row(name)
    path = find_weights(name, weights)
    if normalisation is None:
        normalisation = find_normalisation(name, None if path is None else file_sha256(path))
    images = keras.Input(tuple(image_shape), dtype="uint8", name="images")
    normalised = normalisation_layer(normalisation)(images)
    backbone = row.builder(include_top=False, weights=None, input_tensor=normalised)
    if path is not None:
        try:
            with warnings.catch_warnings():
                # Keras only warns where layers of the file are missing or left over.
                warnings.simplefilter("error", UserWarning)
                backbone.load_weights(path)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{path} does not hold weights of {name} without top: {reason}"
            ) from error
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    backbone = keras.Model(images, backbone.output, name=name)
    backbone.normalisation = normalisation
    return backbone


def freeze(model, trainable_from):
    """Set which layers learn; frozen BatchNormalization runs in inference mode.

    Args:
        model: `keras.Model` with a last layer "logits".
        trainable_from: "head" (only what follows the feature map), "all", or the name of
            the first layer that learns; earlier ones in `model.layers` are frozen.

    Raises:
        ValueError: no layer of this name.
    """
    names = [layer.name for layer in model.layers]
    first = {"all": names[0], "head": "pooled"}.get(trainable_from, trainable_from)
    if first not in names:
        raise ValueError(
            f'`trainable_from` must be "head", "all" or the name of a layer. '
            f"Received: {trainable_from!r}; for example {', '.join(names[len(names) // 2 :][:5])}"
        )
    for position, layer in enumerate(model.layers):
        layer.trainable = position >= names.index(first)


def file_sha256(path):
    """SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _row(name):
    if name not in BACKBONES:
        raise ValueError(f"Unknown backbone {name!r}. Known: {', '.join(BACKBONES)}")
    return BACKBONES[name]
