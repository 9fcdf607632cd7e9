"""AlexNet for pictures of 32 px, whose last map is large enough to be cut into windows."""

import keras

from imetlib.models.batch_normalization import BatchNormalization

_KERNELS = (11, 5, 3, 3, 3)
# Max-pooling stands after these convolutions.
_POOLED = (1, 2, 5)


def cifar_alexnet(
    image_shape=(32, 32, 3),
    *,
    pool_stride=1,
    filters=(64, 192, 384, 256, 256),
    batch_normalization=False,
    dropout=0.0,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
):
    """Five convolutions of AlexNet for CIFAR, from pictures to the last map.

    With the three max-poolings at stride 1 the sides of the maps of a picture of 32 px are
    8, 7, 7, 6, 6, 6, 6, 5 (after convolution 1, pooling, convolution 2, pooling, convolutions 3
    to 5, pooling): 5 x 5 x 256 cells, for 93,511,680 multiply-adds. At stride 2, that of the
    source, the last map is 1 x 1 x 256, for 14,954,496. Both have 2,469,696 parameters.

    Padding is symmetric, as in the source: "same" is not where a convolution has strides. The
    first convolution's places are not symmetric in a picture of 32 px all the same, as its
    strides of 4 px leave 3 px over on the right and below.

    Args:
        image_shape: (height, width, 3); sides of 13 px at least, of 29 at `pool_stride` 2.
        pool_stride: 1 or 2, of all three max-poolings.
        filters: five int >= 1, channels of the convolutions. A narrow network for a CPU takes
            a fraction of them.
        batch_normalization: bool. Normalises between convolution and ReLU. The convolutions keep
            their biases, which it makes idle, so that convolutions and their parameters are
            the same.
        dropout: float in [0, 1), of what convolutions 3 to 5 read, which have 87 % of the
            parameters. A frozen network still drops values in training: call it with
            `training=False`.
        mean, std: three floats, of red, green and blue on the scale from 0 to 1. By default what
            the source of the report takes: values from -1 to 1.

    Returns:
        `keras.Model` from pictures `(batch, *image_shape)` of any dtype, 0 to 255, to the map
        "pool5", `(batch, map_height, map_width, filters[-1])`, not negative.

    Raises:
        ValueError: another stride, another number of filters, or too small a picture.

    Reference:
        `models/cifar/alexnet.py` in https://github.com/bearpaw/pytorch-classification, after
        Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012.
    """
    if pool_stride not in (1, 2):
        raise ValueError(f"`pool_stride` must be 1 or 2. Received: {pool_stride!r}")
    if len(filters) != len(_KERNELS):
        raise ValueError(f"`filters` must be five numbers. Received: {filters!r}")
    # What leaves one cell after three poolings of 2 x 2.
    smallest = 13 if pool_stride == 1 else 29
    if len(image_shape) != 3 or any(side and side < smallest for side in image_shape[:2]):
        raise ValueError(
            f"`image_shape` must be (height, width, 3) with sides of {smallest} at least for "
            f"pool_stride={pool_stride}. Received: {tuple(image_shape)}"
        )
    images = keras.Input(tuple(image_shape), dtype="float32", name="images")
    x = keras.layers.Normalization(
        mean=[255 * value for value in mean],
        variance=[(255 * value) ** 2 for value in std],
        dtype="float32",
        name="normalisation",
    )(images)
    for stage, (kernel_size, units) in enumerate(zip(_KERNELS, filters, strict=True), start=1):
        if stage == 1:
            x = keras.layers.ZeroPadding2D(5, name="conv1_padding")(x)
        elif stage > 2:
            x = keras.layers.Dropout(dropout, name=f"conv{stage}_dropout")(x)
        x = keras.layers.Conv2D(
            units,
            kernel_size,
            strides=4 if stage == 1 else 1,
            padding="valid" if stage == 1 else "same",
            kernel_initializer="he_normal",
            name=f"conv{stage}",
        )(x)
        if batch_normalization:
            x = BatchNormalization(momentum=0.9, name=f"conv{stage}_bn")(x)
        x = keras.layers.ReLU(name=f"conv{stage}_relu")(x)
        if stage in _POOLED:
            x = keras.layers.MaxPooling2D(2, strides=pool_stride, name=f"pool{stage}")(x)
    return keras.Model(images, x, name="cifar_alexnet")
