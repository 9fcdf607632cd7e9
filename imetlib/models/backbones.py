"""Backbones: from uint8 pictures to feature maps, with the weights and input that fit."""

import hashlib
import warnings
from functools import lru_cache
from pathlib import Path

import keras

from imetlib.models.backbone_table import BACKBONES, Backbone, row_of_model
from imetlib.models.batch_normalization import fuse_batch_normalization
from imetlib.models.model_files import check_model_file
from imetlib.models.normalisation import (
    NORMALISATION_OF_WEIGHTS,
    NORMALISATIONS,
    normalisation_layer,
)
from imetlib.paths import search_weights


def backbone_row(name) -> Backbone:
    """What is known of a backbone, without building it.

    Args:
        name: key of `BACKBONES`, or path of a `.keras` file, which is opened in Keras's safe
            mode; its row has no stock weights and no normalisation, and one map, the output.

    Returns:
        `Backbone`.

    Raises:
        ValueError: unknown name, or a model that is no backbone.
        FileNotFoundError: no such file.
    """
    if isinstance(name, keras.Model):
        return row_of_model(_open_model(name))
    if str(name).endswith(".keras"):
        path = Path(name).expanduser()
        return _row_of_file(path, path.stat().st_mtime_ns if path.is_file() else None)
    if name not in BACKBONES:
        raise ValueError(
            f"Unknown backbone {name!r}. Known: {', '.join(BACKBONES)}, or the path of a "
            ".keras file"
        )
    return BACKBONES[name]


def check_image_shape(name, image_shape):
    """Refuse a picture size that a backbone cannot take, before any work.

    Args:
        name: see `backbone_row`.
        image_shape: (height, width, 3); an open side, None, passes any minimum.

    Raises:
        ValueError: a side below the backbone's minimum, or other sides than those that a
            model file is fixed to.
    """
    row, shape = backbone_row(name), tuple(image_shape)
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"`image_shape` must be (height, width, 3). Received: image_shape={shape}")
    if any(side is not None and side < row.min_size for side in shape[:2]):
        raise ValueError(
            f"{_label(name)} takes pictures of at least {row.min_size} x {row.min_size} pixels. "
            f"Received: image_shape={shape}"
        )
    if any(own not in (None, side) for own, side in zip(row.fixed_shape, shape, strict=False)):
        raise ValueError(
            f"{_label(name)} is fixed to pictures of height and width {row.fixed_shape}. "
            f"Received: image_shape={shape}; a model with Input (None, None, 3) takes any size"
        )


def find_weights(name, weights):
    """Path of a weights file, or None for a random start.

    Args:
        name: see `backbone_row`.
        weights: None (a model file then keeps its own), "imagenet", or a path. "imagenet"
            looks into `IMETLIB_WEIGHTS`, the Keras cache and attached Kaggle inputs, in this
            order; nothing is downloaded.

    Returns:
        `pathlib.Path` or None.

    Raises:
        FileNotFoundError: no file; the message names every place that was searched.
        ValueError: "imagenet" for a backbone without such weights.
    """
    if weights is None:
        return None
    row, label = backbone_row(name), _label(name)
    if str(weights) != "imagenet":
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"No weights file at {path}. Give the path of a Keras `.weights.h5` or "
                f'`.h5` file of {label} without top, "imagenet", or None for a random start.'
            )
        return path
    if not row.weights_name:
        raise ValueError(
            f"There are no ImageNet weights of {label}: use weights=None, or one of "
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
            "Attach it on Kaggle as a dataset, or put it into one of these (with internet, once: "
            f'python -c "import keras; keras.applications.{row.builder.__name__}'
            '(include_top=False)"), give its path as `weights`, or use weights=None.'
        )
    return path


def find_normalisation(name, weights_sha256):
    """Normalisation that a weights file is known to want, else the backbone's own.

    Args:
        name: see `backbone_row`.
        weights_sha256: hex digest of the file, or None for a random start.

    Raises:
        ValueError: a model of the user's, whose input only the user knows.
    """
    kind = NORMALISATION_OF_WEIGHTS.get(weights_sha256, backbone_row(name).normalisation)
    if not kind:
        raise ValueError(
            f"What {_label(name)} takes as input is not known: give `normalisation`, one of "
            f"{', '.join(NORMALISATIONS)}"
        )
    return kind


def build_backbone(name, image_shape, *, weights=None, normalisation=None):
    """A backbone from uint8 pixels to its last feature map.

    BatchNormalization layers get a momentum of 0.9: Keras's 0.99 or 0.999 leaves stale
    statistics after a fine-tuning of a few hundred steps, and the score in inference mode
    falls below that of the frozen net. They learn by the fused kernel
    (`imetlib.models.batch_normalization`).

    A model of the user's is copied: its layers keep names, weights and dtype policies and
    stand flat in the result (models inside it stay whole); the last layer is "feature_map".

    Args:
        name: see `backbone_row`; or a `keras.Model` of the user's, functional or sequential,
            from normalised pictures of three channels to one map.
        image_shape: (height, width, 3).
        weights: see `find_weights`.
        normalisation: see `normalisation_layer`. None: what the weights file is known to
            want (by its SHA-256), else the backbone's own; needed for a model of the user's.

    Returns:
        `keras.Model`, input `(batch, *image_shape)` uint8. Its attribute `normalisation`
        names the normalisation in use.

    Raises:
        ValueError: unknown name, or a picture size or file that does not fit the backbone.
        FileNotFoundError: see `find_weights`.
    """
    row, label = backbone_row(name), _label(name)
    check_image_shape(name, image_shape)
    path = find_weights(name, weights)
    if normalisation is None:
        normalisation = find_normalisation(name, None if path is None else file_sha256(path))
    images = keras.Input(tuple(image_shape), dtype="uint8", name="images")
    normalised = normalisation_layer(normalisation)(images)
    if row.builder is None:
        backbone = _copy_model(_open_model(name), images, normalised, path, label)
    else:
        backbone = row.builder(
            include_top=False, weights=None, input_tensor=normalised, **row.options
        )
        _load_weights(backbone, path, label)
    fuse_batch_normalization(_all_layers(backbone))
    for layer in _all_layers(backbone):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
        elif isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # an adapted one keeps tensors made of its weights
    backbone = keras.Model(images, backbone.output, name=Path(label).stem)
    backbone.normalisation = normalisation
    return backbone


def feature_map(backbone_name, model, where):
    """A map inside a backbone, for heads on earlier maps.

    Args:
        backbone_name: see `backbone_row`.
        model: `keras.Model` that `build_backbone` returned, or one with a head on it.
        where: int, a stride of the backbone's `feature_maps`; or str, the name of any layer
            with output `(batch, height, width, channels)`.

    Returns:
        `keras.KerasTensor`, the layer's output.

    Raises:
        ValueError: no such map.
    """
    maps = backbone_row(backbone_name).feature_maps
    layer = {layer.name: layer for layer in model.layers}.get(maps.get(where, where))
    if layer is None or len(getattr(layer.output, "shape", ())) != 4:
        known = ", ".join(f"{stride} ({name})" for stride, name in maps.items())
        raise ValueError(
            f"{_label(backbone_name)} has no feature map {where!r}. Known strides: {known}; or "
            "the name of a layer with a map (batch, height, width, channels)"
        )
    return layer.output


def file_sha256(path):
    """SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _label(name):
    return name.name if isinstance(name, keras.Model) else str(name)


def _load_weights(model, path, label):
    if path is None:
        return
    try:
        check_model_file(path)
        with warnings.catch_warnings():
            # Keras only warns where layers of the file are missing or left over.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} does not hold weights of {label} without top: {reason}"
        ) from error


def _all_layers(model):
    """Layers of a model and of the models inside it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)


def _open_model(name):
    """A user's model as a graph from one picture to one map."""
    model = name
    if not isinstance(name, keras.Model):
        path = Path(name).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"No model file at {path}. Give one that `model.save` wrote")
        try:
            check_model_file(path)
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # zip, JSON, HDF5, unknown classes, code in a Lambda layer
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} does not open as a Keras model: {reason}") from error
    inputs, outputs = (getattr(model, side, None) or [] for side in ("inputs", "outputs"))
    shapes = [tuple(tensor.shape) for tensor in (*inputs, *outputs)]
    if [len(shape) for shape in shapes] != [4, 4] or shapes[0][3] != 3 or not shapes[1][3]:
        raise ValueError(
            "A backbone must be a functional or sequential model from (batch, height, width, 3) "
            f"to one map (batch, height, width, channels). Received: {_label(name)}, {shapes}"
        )
    return keras.Model(inputs[0], outputs[0])


@lru_cache(maxsize=8)
def _row_of_file(path, modified):
    return row_of_model(_open_model(path))


def _copy_model(model, images, normalised, path, label):
    """Copy of a user's model that reads `normalised`; its layers stay flat."""
    if path is not None:
        model = keras.models.clone_model(model)  # the user's own model keeps its weights
        _load_weights(model, path, label)
    copies = []

    def copy_layer(layer):
        copies.append((layer, type(layer).from_config(layer.get_config())))
        return copies[-1][1]

    def call_layer(layer, *args, **settings):
        # Keras wants an input layer as the copy's input: the first layers are led past it.
        args = keras.tree.map_structure(lambda x: normalised if x is images else x, args)
        return layer(*args, **settings)

    copy = keras.models.clone_model(
        model, input_tensors=images, clone_function=copy_layer, call_function=call_layer
    )
    for layer, new in copies:
        if isinstance(layer, keras.Layer):
            new.set_weights(layer.get_weights())
    return keras.Model(images, keras.layers.Identity(name="feature_map")(copy.output))
