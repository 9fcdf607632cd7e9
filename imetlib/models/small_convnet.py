"""A small convolutional network for the pocket museum: minutes on a CPU, from scratch."""

import keras

from imetlib.models.batch_normalization import BatchNormalization


def SmallConvNet(
    *, filters=24, include_top=False, weights=None, input_tensor=None, input_shape=None
):
    """Four stages of two 3x3 convolutions, halving the map and doubling the channels each time.

    The form of `keras.applications`, without pretrained weights and without top.

    Args:
        filters: int >= 1, channels of the first stage.
        include_top: must be False.
        weights: must be None.
        input_tensor: normalised pictures `(batch, height, width, 3)`, sides of 16 at least.
        input_shape: (height, width, 3), used where `input_tensor` is None.

    Returns:
        `keras.Model` whose output map has 1/16 of the sides and 8 * `filters` channels.

    Raises:
        ValueError: `include_top` or `weights` asked for.
    """
    if include_top or weights is not None:
        raise ValueError("SmallConvNet has neither a top nor pretrained weights")
    inputs = keras.Input(input_shape) if input_tensor is None else input_tensor
    x = inputs
    for stage in (1, 2, 3, 4):
        for unit in (1, 2):
            name = f"stage{stage}_conv{unit}"
            x = keras.layers.Conv2D(
                filters * 2 ** (stage - 1),
                3,
                strides=2 if unit == 1 else 1,
                padding="same",
                use_bias=False,
                name=name,
            )(x)
            x = BatchNormalization(name=f"{name}_bn")(x)
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
    source = inputs
    if input_tensor is not None:
        source = keras.utils.get_source_inputs(input_tensor)
    return keras.Model(source, x, name="small_convnet")
