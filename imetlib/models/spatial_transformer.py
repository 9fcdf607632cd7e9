"""A layer that samples a box of a feature map, with a gradient for the box."""

import keras
import numpy as np


@keras.saving.register_keras_serializable("imetlib")
class SpatialTransformer(keras.layers.Layer):
    """Samples an upright box of a map bilinearly on a regular grid; no weights.

    Coordinates run from -1 to 1 over the map, -1 and 1 being the centres of its corner cells:
    cell = (x + 1) * (width - 1) / 2. A grid point (x, y), from -1 to 1 as well, takes the map's
    value at (sx * x + tx, sy * y + ty): the mean of the four cells around it, weighted
    bilinearly, where cells outside of the map count 0. (1, 1, 0, 0) is the whole map,
    (.5, .5, .5, -.5) its upper right quarter, a negative scale a mirror image.

    The paper's matrix has six numbers; the two that shear and rotate are always 0 in recurrent
    attention. Without them the sampling is two products of matrices, one along each axis, which
    every backend has and XLA compiles. The grid is computed in float32 under every dtype policy.

    Args:
        height, width: int >= 1, sides of the output. A side of 1 samples the box's middle.

    Input shape:
        `features`: `(batch, map_height, map_width, channels)`, any float dtype, open sides
        allowed. `boxes`: `(batch, 4)`, (sx, sy, tx, ty); or none, for the whole map.

    Output shape:
        `(batch, height, width, channels)`, the dtype of `features`.

    Raises:
        ValueError: a side below 1; when built: features of another rank, boxes of another shape.

    Reference:
        Jaderberg et al., "Spatial Transformer Networks", 2015, section 3.
        https://arxiv.org/abs/1506.02025
    """

    def __init__(self, height, width, **kwargs):
        # The boxes of a half-precision policy would be off by up to a hundredth of a cell.
        super().__init__(autocast=False, **kwargs)
        if min(height, width) < 1:
            raise ValueError(
                f"`height` and `width` must be at least 1. Received: height={height}, width={width}"
            )
        self.height, self.width = height, width

    def build(self, features_shape, boxes_shape=None):
        no_boxes = boxes_shape is not None and tuple(boxes_shape[1:]) != (4,)
        if len(features_shape) != 4 or no_boxes:
            raise ValueError(
                "SpatialTransformer takes features (batch, height, width, channels) and boxes "
                f"(batch, 4). Received: shapes {tuple(features_shape)}, {boxes_shape}"
            )

    def call(self, features, boxes=None):
        map_height, map_width = keras.ops.shape(features)[1:3]
        sx = tx = sy = ty = None
        if boxes is not None:
            sx, sy, tx, ty = keras.ops.split(keras.ops.cast(boxes, "float32"), 4, axis=-1)
        rows = sampling_weights(sy, ty, self.height, map_height)
        columns = sampling_weights(sx, tx, self.width, map_width)
        rows, columns = (keras.ops.cast(x, features.dtype) for x in (rows, columns))
        flat = keras.ops.reshape(features, (-1, map_height, map_width * features.shape[-1]))
        strips = keras.ops.reshape(
            keras.ops.matmul(rows, flat), (-1, self.height, map_width, features.shape[-1])
        )
        return keras.ops.matmul(keras.ops.expand_dims(columns, 1), strips)

    def compute_output_shape(self, features_shape, boxes_shape=None):
        return (features_shape[0], self.height, self.width, features_shape[-1])

    def compute_output_spec(self, features, boxes=None):
        return keras.KerasTensor(self.compute_output_shape(features.shape), dtype=features.dtype)

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}


def sampling_weights(scale, shift, num_points, num_cells):
    """Weights of the cells along one axis for each grid point.

    Args:
        scale, shift: `(batch, 1)` float32, or None for 1 and 0.
        num_points: int, grid points.
        num_cells: int or scalar tensor, cells of the map.

    Returns:
        `(batch, num_points, num_cells)` float32, or `(1, num_points, num_cells)` without scale.
        At most two weights of a point are not 0; their sum is 1 inside of the map.
    """
    points = np.linspace(-1, 1, num_points) if num_points > 1 else np.zeros(1)
    points = keras.ops.convert_to_tensor(points[None], dtype="float32")
    if scale is not None:
        points = scale * points + shift
    cells = keras.ops.arange(num_cells, dtype="float32")
    places = (points + 1.0) * (cells[-1] / 2.0)
    lower = keras.ops.floor(places)
    fraction = keras.ops.expand_dims(places - lower, -1)
    distance = cells - keras.ops.expand_dims(lower, -1)
    # relu(1 - |place - cell|) is the same number, but its gradient is 0 where a place falls on
    # a cell's centre: boxes that start as the whole map would never move.
    return keras.ops.where(
        distance == 0.0, 1.0 - fraction, keras.ops.where(distance == 1.0, fraction, 0.0)
    )
