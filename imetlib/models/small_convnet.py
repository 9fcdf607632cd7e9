"""A small convolutional network for the pocket museum: minutes on a CPU, from scratch."""

import keras


def SmallConvNet(*, include_top=False, weights=None, input_tensor=None, input_shape=None):
    """Four stages of two 3x3 convolutions, 24 to 192 channels, halving the map in between.

    The form of `keras.applications`, without pretrained weights and without top.

    Args:
        include_top: must be False.
        weights: must be None.
        input_tensor: normalised pictures `(batch, height, width, 3)`, sides of 16 at least.
        input_shape: (height, width, 3), used where `input_tensor` is None.

    Returns:
        `keras.Model` whose output map has 1/16 of the sides and 192 channels.

    Raises:
        ValueError: `include_top` or `weights` asked for.
    """
    if include_top or weights is not None:
        raise ValueError("SmallConvNet has neither a top nor pretrained weights")
    inputs = keras.Input(input_shape) if input_tensor is None else input_tensor
    x = inputs
    for stage, filters in enumerate((24, 48, 96, 192), start=1):
        for unit in (1, 2):
            name = f"stage{stage}_conv{unit}"
            x = keras.layers.Conv2D(
                filters,
                3,
                strides=2 if unit == 1 else 1,
                padding="same",
                use_bias=False,
                name=name,
            )(x)
            x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
    source = inputs
    if input_tensor is not None:
        source = keras.utils.get_source_inputs(input_tensor)
    return keras.Model(source, x, name="small_convnet")
