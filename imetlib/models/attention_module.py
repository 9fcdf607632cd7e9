"""The attention module of the residual attention network, and the residual unit it is made of.

Reference:
    Wang et al., Residual Attention Network for Image Classification, CVPR 2017,
    https://arxiv.org/abs/1704.06904; the authors' network files in
    https://github.com/fwang91/residual-attention-network
"""

import keras

from imetlib.models.batch_normalization import BatchNormalization
from imetlib.models.layers import AlignedResize, ChannelUnitNorm

ATTENTION_TYPES = ("mixed", "channel", "spatial")
LEARNING = ("residual", "naive")


def attention_module(
    x,
    filters,
    *,
    num_pools,
    attention_type="mixed",
    learning="residual",
    num_units_before=1,
    num_trunk_units=2,
    num_mask_units=1,
    masks=True,
    name,
):
    """A trunk branch whose features a soft mask branch weighs.

    H = (1 + M) * T with residual learning, M * T with naive learning: T of the trunk branch, M
    of a small encoder and decoder with as many channels.

    The paper leaves open how its r units spread where r > 1. Here each level of the encoder has
    r, the lowest one more, skips and decoder one each: with r = 3 this gives the 8.6 M
    parameters of the paper's Attention-452 for CIFAR.

    Args:
        x: `(batch, height, width, channels)` tensor.
        filters: int, a multiple of 4.
        num_pools: int >= 1, poolings of the mask branch.
        attention_type: what makes the mask of the branch's last maps: "mixed" a sigmoid,
            "channel" the division by the norm over the channels at each place, "spatial" a
            sigmoid of each channel standardised over the places (section 3.3).
        learning: "residual" or "naive".
        num_units_before: int >= 1, residual units before the branches part, and as many after
            they join (the paper's p).
        num_trunk_units: int >= 1, units of the trunk branch (t).
        num_mask_units: int >= 1, units between two poolings (r).
        masks: bool. False leaves out the mask branch: the same trunk, whose figures show what
            masks add.
        name: start of all layer names. The mask is the layer `f"{name}_mask"`.

    Returns:
        `(batch, height, width, filters)` tensor, a sum that no activation follows.

    Raises:
        ValueError: an unknown attention type or way of learning, counts below 1, filters that
            are no multiple of 4, or a mask whose smallest map would be below 2 x 2.
    """
    for argument, value, known in (
        ("attention_type", attention_type, ATTENTION_TYPES),
        ("learning", learning, LEARNING),
    ):
        if value not in known:
            raise ValueError(
                f"`{argument}` must be one of {', '.join(known)}. Received: {argument}={value!r}"
            )
    counts = (num_pools, num_units_before, num_trunk_units, num_mask_units)
    if min(counts) < 1:
        raise ValueError(
            "`num_pools`, `num_units_before`, `num_trunk_units` and `num_mask_units` must be at "
            f"least 1. Received: {', '.join(map(str, counts))}"
        )
    for number in range(1, num_units_before + 1):
        x = residual_unit(x, filters, name=f"{name}_before{number}")
    trunk = x
    for number in range(1, num_trunk_units + 1):
        trunk = residual_unit(trunk, filters, name=f"{name}_trunk{number}")
    y = trunk
    if masks:
        _check_sides(x, num_pools, name)
        mask = _mask_branch(x, trunk, num_pools, num_mask_units, attention_type, f"{name}_mask")
        y = keras.layers.Multiply(name=f"{name}_masked")([trunk, mask])
        if learning == "residual":
            y = keras.layers.Add(name=f"{name}_sum")([trunk, y])
    for number in range(1, num_units_before + 1):
        y = residual_unit(y, filters, name=f"{name}_after{number}")
    return y


def residual_unit(x, filters, *, strides=1, name):
    """A bottleneck unit with activations before its convolutions.

    Convolutions 1x1, 3x3 (with the stride) and 1x1 without biases, a quarter of the filters in
    the middle, each after BatchNormalization and ReLU. Only where channels or size change, the
    shortcut is a 1x1 convolution, of the activated input.

    Args:
        x: `(batch, height, width, channels)` tensor.
        filters: int, a multiple of 4.
        strides: int.
        name: start of all layer names.

    Returns:
        `(batch, height / strides, width / strides, filters)` tensor, the layer `f"{name}_add"`.

    Raises:
        ValueError: filters that are no multiple of 4.
    """
    if filters % 4 or filters < 4:
        raise ValueError(
            f"The filters of a residual unit must be a multiple of 4. Received: {filters} in {name}"
        )
    activated = bn_relu(x, f"{name}_1")
    y = conv(activated, filters // 4, 1, name=f"{name}_conv1")
    y = conv(bn_relu(y, f"{name}_2"), filters // 4, 3, strides=strides, name=f"{name}_conv2")
    y = conv(bn_relu(y, f"{name}_3"), filters, 1, name=f"{name}_conv3")
    if strides != 1 or x.shape[-1] != filters:
        x = conv(activated, filters, 1, strides=strides, name=f"{name}_shortcut")
    return keras.layers.Add(name=f"{name}_add")([x, y])


def conv(x, filters, size, *, strides=1, name):
    return keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def bn_relu(x, name):
    # Keras's momentum of 0.99 leaves stale statistics after a few hundred steps.
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _mask_branch(x, trunk, num_pools, num_units, attention_type, name):
    filters, levels = trunk.shape[-1], []
    for level in range(1, num_pools + 1):
        x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool{level}")(x)
        for number in range(1, num_units + (level == num_pools) + 1):
            x = residual_unit(x, filters, name=f"{name}_down{level}_unit{number}")
        levels.append(x)
    for level in range(num_pools - 1, 0, -1):
        above = levels[level - 1]
        skip = residual_unit(above, filters, name=f"{name}_skip{level}")
        x = AlignedResize(name=f"{name}_resize{level}")([x, above])
        x = keras.layers.Add(name=f"{name}_join{level}")([x, skip])
        x = residual_unit(x, filters, name=f"{name}_up{level}")
    # The trunk gives the size and no values.
    x = AlignedResize(name=f"{name}_resize0")([x, trunk])
    for number in (1, 2):
        x = conv(bn_relu(x, f"{name}_{number}"), filters, 1, name=f"{name}_conv{number}")
    if attention_type == "channel":
        return ChannelUnitNorm(name=name)(x)
    if attention_type == "spatial":
        x = keras.layers.GroupNormalization(
            groups=-1, epsilon=1e-5, center=False, scale=False, name=f"{name}_standardised"
        )(x)
    return keras.layers.Activation("sigmoid", name=name)(x)


def _check_sides(x, num_pools, name):
    smallest = 2**num_pools + 1
    if any(side is not None and side < smallest for side in x.shape[1:3]):
        raise ValueError(
            f"{num_pools} poolings in the mask of {name} need a map of at least {smallest} x "
            f"{smallest}, or its smallest one falls below 2 x 2. Received: a map of "
            f"{x.shape[1]} x {x.shape[2]}; give larger pictures or fewer poolings"
        )
