"""Layers of the attention networks that Keras does not have."""

import keras


@keras.saving.register_keras_serializable("imetlib")
class AlignedResize(keras.layers.Layer):
    """Bilinear resizing with aligned corners to the size of another map.

    Corners fall on corners: the source coordinate of row i is i * (h_in - 1) / (h_out - 1), 0
    for a single row. `keras.layers.UpSampling2D` has half-pixel centres and gives other numbers.
    Two matrix products, height then width, whose matrices depend on the sizes alone: the layer
    runs on every backend, has a deterministic gradient and no weights.

    Called with `[maps, reference]`. Of the reference only height and width are read, its values
    never: like the second input of `Interp` in the authors' Caffe, which is no sum. With
    open sides the sizes are those of the batch.

    Input shape:
        Two tensors `(batch, height, width, channels)` and `(batch, new_height, new_width, any)`.

    Output shape:
        `(batch, new_height, new_width, channels)`.

    Example:
        >>> maps = keras.ops.reshape(keras.ops.arange(3.0), (1, 3, 1, 1))
        >>> resized = AlignedResize()([maps, keras.ops.zeros((1, 5, 1, 8))])
        >>> keras.ops.convert_to_numpy(resized).ravel().tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0]

    Reference:
        `src/caffe/layers/interp.cpp` in https://github.com/buptwangfei/caffe
    """

    def build(self, input_shape):
        if not _is_pair_of_maps(input_shape):
            raise ValueError(
                "`AlignedResize` takes a list [maps, reference] of two tensors (batch, height, "
                f"width, channels). Received: shape {input_shape}"
            )

    def call(self, inputs):
        maps, reference = inputs
        height, width, channels = keras.ops.shape(maps)[1:]
        new_height, new_width = keras.ops.shape(reference)[1:3]
        rows = keras.ops.cast(aligned_matrix(height, new_height), self.compute_dtype)
        columns = keras.ops.cast(aligned_matrix(width, new_width), self.compute_dtype)
        maps = keras.ops.reshape(maps, (-1, height, width * channels))
        maps = keras.ops.reshape(keras.ops.matmul(rows, maps), (-1, width, channels))
        maps = keras.ops.matmul(columns, maps)
        return keras.ops.reshape(maps, (-1, new_height, new_width, channels))

    def compute_output_shape(self, input_shape):
        maps, reference = input_shape
        return (maps[0], *reference[1:3], maps[3])


def aligned_matrix(size, new_size):
    """Matrix of linear interpolation with aligned corners.

    Args:
        size, new_size: int, or scalar integer tensors where a map's side is open.

    Returns:
        `(new_size, size)` float32 tensor, rows that sum to 1.

    Example:
        >>> keras.ops.convert_to_numpy(aligned_matrix(2, 3)).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    target = keras.ops.arange(new_size, dtype="float32")
    last = keras.ops.cast(size - 1, "float32")
    new_last = keras.ops.cast(keras.ops.maximum(new_size - 1, 1), "float32")
    # The product first: whole coordinates stay whole.
    position = target * last / new_last
    source = keras.ops.arange(size, dtype="float32")
    return keras.ops.relu(1.0 - keras.ops.abs(position[:, None] - source[None, :]))


@keras.saving.register_keras_serializable("imetlib")
class ChannelUnitNorm(keras.layers.Layer):
    """Each position's channels divided by their Euclidean norm.

    `keras.layers.UnitNormalization` has a gradient of NaN where all channels are zero, which a
    ReLU in front of it makes happen. Here such a position stays zero, with a finite gradient;
    norms far above `epsilon` come out as 1.

    Args:
        epsilon: float > 0, a length under the root beside the channels.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        The same.
    """

    def __init__(self, *, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, maps):
        # float32 also under mixed_float16, where the squares of small values vanish.
        maps = keras.ops.cast(maps, "float32")
        squares = keras.ops.sum(keras.ops.square(maps), axis=-1, keepdims=True)
        maps = maps * keras.ops.rsqrt(squares + self.epsilon**2)
        return keras.ops.cast(maps, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def _is_pair_of_maps(shape):
    pair = isinstance(shape, (list, tuple)) and len(shape) == 2
    return pair and all(isinstance(one, (list, tuple)) and len(one) == 4 for one in shape)
