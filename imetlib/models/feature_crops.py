"""Ten windows of a feature map: corners, centre and their mirror images."""

import keras
import numpy as np

# Which of the ten windows, in the order of `TenCrop`.
VIEWS = {"ten": slice(10), "five": slice(5), "centre": slice(4, 5)}


@keras.saving.register_keras_serializable("imetlib")
class TenCrop(keras.layers.Layer):
    """Cuts a map into ten windows with one gather; no weights.

    In the order of torchvision: top left, top right, bottom left, bottom right, centre, then the
    mirror images (left for right) of these five. A mirrored window of a map is not the window of
    the mirrored picture, unless the kernels before it are symmetric, and their places too: with
    strides a picture's mirror image is seen at other places.

    Args:
        crop_size: int >= 1, or (height, width), in cells of the map.
        views: "ten", "five" (without the mirror images) or "centre" (this window alone).

    Input shape:
        `(batch, height, width, channels)`, any dtype, height and width known.

    Output shape:
        `(batch, num_views, crop_height, crop_width, channels)`, the dtype of the map.

    Raises:
        ValueError: unknown views; when built: another rank, an open side, or a map smaller than the
            window.

    Reference:
        Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
        section 4.1, of pictures.
    """

    def __init__(self, crop_size, *, views="ten", **kwargs):
        super().__init__(autocast=False, **kwargs)
        if views not in VIEWS:
            raise ValueError(f"Unknown views {views!r}. Known: {', '.join(VIEWS)}")
        self.crop_size, self.views = _two_sides(crop_size), views

    def build(self, input_shape):
        if len(input_shape) != 4 or None in input_shape[1:3]:
            raise ValueError(
                "TenCrop takes a map (batch, height, width, channels) of known height and width. "
                f"Received: shape {tuple(input_shape)}"
            )
        crop_boxes(*input_shape[1:3], self.crop_size)  # refuses a map that is too small

    def call(self, features):
        height, width, channels = features.shape[1:]
        indices = crop_indices(height, width, self.crop_size)[VIEWS[self.views]]
        cells = keras.ops.reshape(features, (-1, height * width, channels))
        crops = keras.ops.take(cells, indices.reshape(-1), axis=1)
        return keras.ops.reshape(crops, (-1, *indices.shape, channels))

    def compute_output_shape(self, input_shape):
        num_views = len(range(10)[VIEWS[self.views]])
        return (input_shape[0], num_views, *self.crop_size, input_shape[-1])

    def compute_output_spec(self, features):
        return keras.KerasTensor(self.compute_output_shape(features.shape), dtype=features.dtype)

    def get_config(self):
        return {**super().get_config(), "crop_size": self.crop_size, "views": self.views}


def crop_boxes(height, width, crop_size):
    """Where the five windows lie that `TenCrop` cuts and mirrors.

    Args:
        height, width: int, of the map.
        crop_size: int or (height, width).

    Returns:
        `(5, 4)` int array of (top, left, bottom, right), the last two exclusive. Where the centre
        is not a whole number of cells away from the border, it lies half a cell up or left.

    Raises:
        ValueError: the window is empty or larger than the map.

    Example:
        >>> crop_boxes(5, 5, 3)[:, :2].tolist()
        [[0, 0], [0, 2], [2, 0], [2, 2], [1, 1]]
    """
    crop_height, crop_width = _two_sides(crop_size)
    down, right = height - crop_height, width - crop_width
    if min(crop_height, crop_width) < 1 or min(down, right) < 0:
        raise ValueError(
            f"`crop_size` must be from 1 x 1 to the map's {height} x {width} cells. "
            f"Received: crop_size={(crop_height, crop_width)}"
        )
    starts = np.array([(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)])
    return np.concatenate([starts, starts + np.array([crop_height, crop_width])], axis=1)


def crop_indices(height, width, crop_size):
    """The cells of the ten windows of `TenCrop`, numbered row by row.

    Args:
        height, width, crop_size: see `crop_boxes`.

    Returns:
        `(10, crop_height, crop_width)` int array, values in [0, height * width).

    Example:
        >>> crop_indices(5, 5, 3)[[0, 5]].tolist()
        [[[0, 1, 2], [5, 6, 7], [10, 11, 12]], [[2, 1, 0], [7, 6, 5], [12, 11, 10]]]
    """
    cells = np.arange(height * width).reshape(height, width)
    boxes = crop_boxes(height, width, crop_size)
    crops = np.stack([cells[top:bottom, left:right] for top, left, bottom, right in boxes])
    return np.concatenate([crops, crops[:, :, ::-1]])


def mirror_distance(network, images):
    """How far the mirrored map of a picture lies from the map of the mirrored picture.

    Args:
        network: `keras.Model` from pictures to maps `(batch, height, width, channels)`.
        images: `(num_pictures, height, width, 3)`, two at least, all different; one batch.

    Returns:
        float >= 0, as a share of how far maps of different pictures lie apart: 0 where both are
        the same, 1 where a mirrored map says no more of the mirrored picture than that of
        another picture does. Distances are root mean squares.

    Raises:
        ValueError: fewer than two pictures.
    """
    if len(images) < 2:
        raise ValueError(f"`images` must be two pictures at least. Received: {len(images)}")
    maps, of_mirrored = (
        keras.ops.convert_to_numpy(keras.ops.cast(network(view, training=False), "float32"))
        for view in (images, images[:, :, ::-1])
    )
    apart = np.linalg.norm(of_mirrored - maps[:, :, ::-1])
    # Each with the mirrored map of the next picture.
    return float(apart / np.linalg.norm(of_mirrored - np.roll(maps, 1, axis=0)[:, :, ::-1]))


def ten_view_model(model, map_name, image_shape):
    """A trained network for larger pictures: mean logits of ten windows of their feature map.

    The backbone sees the larger picture once; each window has the size of the map that the network
    was trained on. Of recurrent attention's ten views: a network of 512 px and 16 x 16 cells
    takes pictures of 576 px, whose map has 18 x 18 cells. Weights are shared.

    Args:
        model: `keras.Model` from pictures of a known size to `(batch, num_classes)`; all that its
            logits are made of passes through one map.
        map_name: str, the layer that makes this map.
        image_shape: (height, width, 3) of the larger pictures.

    Returns:
        `keras.Model` from `(batch, *image_shape)` to `(batch, num_classes)`.

    Raises:
        ValueError: no such layer, one without a map of known size, logits that do not come from
            this map alone, or a picture whose map is smaller than the network's own.

    Reference:
        Wang et al., 2017, https://arxiv.org/abs/1711.02816, as in the public reimplementation
        James-Yip/AttentionImageClass, `priori_main_tencrop.py`.
    """
    features = model.get_layer(map_name).output
    if len(features.shape) != 4 or None in features.shape[1:3]:
        raise ValueError(
            f"{map_name} of {model.name} must give a map (batch, height, width, channels) of known "
            f"height and width. Received: shape {tuple(features.shape)}"
        )
    try:
        head = keras.Model(features, model.output, name=f"{model.name}_head")
    except ValueError as error:
        raise ValueError(f"The output of {model.name} is not made of {map_name} alone") from error
    inputs = keras.Input(tuple(image_shape), dtype=model.input.dtype)
    # The same layers on another size. `Model` first, as `model` may be compiled.
    trunk = keras.models.clone_model(
        keras.Model(model.input, features), input_tensors=inputs, clone_function=lambda layer: layer
    )
    crops = TenCrop(features.shape[1:3], name="ten_crop")(trunk.output)
    crops = keras.ops.reshape(crops, (-1, *features.shape[1:]))
    logits = keras.ops.reshape(head(crops), (-1, 10, model.output.shape[-1]))
    logits = keras.layers.GlobalAveragePooling1D(dtype="float32", name="mean_logits")(logits)
    return keras.Model(inputs, logits, name=f"{model.name}_ten_views")


def _two_sides(crop_size):
    height, width = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    return int(height), int(width)
