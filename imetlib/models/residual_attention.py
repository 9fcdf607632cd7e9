"""The residual attention network: soft masks inside a residual network.

The layout is that of the authors' released network files, to the parameter. Two things differ
from their Caffe and change no count: convolutions of stride 2 pad as Keras's "same" does (right
and bottom more than left and top), and BatchNormalization has a momentum of 0.9.

Reference:
    Wang et al., Residual Attention Network for Image Classification, CVPR 2017,
    https://arxiv.org/abs/1704.06904; `imagenet_model/Attention-{56,92}-deploy.prototxt` in
    https://github.com/fwang91/residual-attention-network
"""

import keras

from imetlib.models.attention_module import attention_module, bn_relu, conv, residual_unit
from imetlib.models.log_odds import scaled_logits


def ResidualAttention56(
    *,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    num_classes=1000,
    **module_options,
):
    """Attention-56 of the paper (table 2): one attention module in each of three stages.

    31,883,432 parameters, of which 31,810,728 learn, and 6.27 G multiply-adds at 224 px (the
    paper: 31.9 M and 6.2 G).

    The form of `keras.applications`, without pretrained weights and without softmax.

    Args:
        include_top: bool. True ends in float32 logits, layer "logits"; False in the last
            activation, layer "last_relu".
        weights: must be None.
        input_tensor: normalised pictures `(batch, height, width, 3)`.
        input_shape: (height, width, 3), used where `input_tensor` is None; sides may be None.
            None: 224 px.
        num_classes: int, used with the top.
        **module_options: of `attention_module`: `attention_type`, `learning`, `masks` and
            numbers of units.

    Returns:
        `keras.Model`; its last map has 1/32 of the sides and 2048 channels.

    Raises:
        ValueError: `weights` asked for, or a picture whose masks would shrink below 2 x 2:
            both sides must be at least 33 px.
    """
    return _network(
        "residual_attention_56",
        "imagenet",
        [(256, 1, 1, 3, 0), (512, 2, 1, 2, 0), (1024, 2, 1, 1, 0), (2048, 2, 0, 0, 2)],
        224,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        num_classes=num_classes,
        **module_options,
    )


def ResidualAttention92(
    *,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    num_classes=1000,
    **module_options,
):
    """Attention-92 of the paper (table 2): one, two and three modules in its stages.

    52,599,976 parameters, of which 52,466,344 learn, and 10.53 G multiply-adds at 224 px: that
    is what the authors' network file gives. Their paper prints 51.3 M and 10.4 G, which no
    layout that also has the 31.9 M of Attention-56 is known to reach.

    Arguments and errors are those of `ResidualAttention56`.
    """
    return _network(
        "residual_attention_92",
        "imagenet",
        [(256, 1, 1, 3, 0), (512, 2, 2, 2, 0), (1024, 2, 3, 1, 0), (2048, 2, 0, 0, 2)],
        224,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        num_classes=num_classes,
        **module_options,
    )


def ResidualAttentionCifar(
    num_modules,
    *,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    num_classes=10,
    **module_options,
):
    """The paper's network for CIFAR: `36 * num_modules + 20` layers, 16 base filters.

    The authors released no file of it. This is our reading of section 4.1: a 3x3 convolution
    of 16 filters with BatchNormalization and ReLU; stages of 64, 128 and 256 channels at 32, 16
    and 8 px, each with a unit, the modules and another unit; masks down to 4 x 4. It has the
    paper's sizes: 1.9 M parameters with 2 modules a stage, 5.1 M with 6.

    Args:
        num_modules: int >= 1, attention modules in each stage.
        include_top, weights, input_tensor, input_shape, num_classes, **module_options: see
            `ResidualAttention56`; 32 px where `input_shape` is None, at least 9.

    Returns:
        `keras.Model`; its last map has 1/4 of the sides and 256 channels.

    Raises:
        ValueError: see `ResidualAttention56`.
    """
    if num_modules < 1:
        raise ValueError(f"`num_modules` must be at least 1. Received: num_modules={num_modules}")
    return _network(
        f"residual_attention_cifar_{36 * num_modules + 20}",
        1,
        [(64, 1, num_modules, 3, 1), (128, 2, num_modules, 2, 1), (256, 2, num_modules, 1, 1)],
        32,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        num_classes=num_classes,
        **module_options,
    )


def ResidualAttentionSmall(
    *,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    num_classes=1000,
    **module_options,
):
    """One attention module in a short residual network, for the pocket museum.

    Units, module and the stem's 16 filters are those of the paper's CIFAR networks; the rest is
    ours. The stem halves the picture; stages of 64, 128 and 256 channels have one unit each, the
    middle one also the module, with a single unit in its trunk branch: a hundred steps from
    scratch teach a short network more than a deep one. At 48 px the mask is a map of 12 x 12,
    its smallest one of 3 x 3.

    Args:
        include_top, weights, input_tensor, input_shape, num_classes, **module_options: see
            `ResidualAttention56`; 48 px where `input_shape` is None, at least 17.

    Returns:
        `keras.Model`; its last map has 1/8 of the sides and 256 channels.

    Raises:
        ValueError: see `ResidualAttention56`.
    """
    return _network(
        "residual_attention_small",
        2,
        [(64, 1, 0, 0, 0), (128, 2, 1, 2, 0), (256, 2, 0, 0, 0)],
        48,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        num_classes=num_classes,
        **{"num_trunk_units": 1, **module_options},
    )


def residual_attention_logits(
    features,
    num_classes,
    *,
    filters=None,
    num_pools=None,
    kernel_initializer="glorot_uniform",
    class_frequency=None,
    name="attention",
    **module_options,
):
    """Logits from one attention module on a map of any backbone.

    The module, BatchNormalization and ReLU, mean and max pooling, and a dense layer.

    Args:
        features: `(batch, height, width, channels)` tensor.
        num_classes: int >= 1.
        filters: int, channels of the module; a multiple of 4. None: as many as `features` has.
        num_pools: int >= 1, poolings of the mask. None: so many that the shorter side of the
            mask's smallest map is at most 7, as in the paper; one for maps of open sides.
        kernel_initializer: of the dense layer; "zeros" starts at the bias.
        class_frequency: `(num_classes,)` or None, see `log_odds.log_odds_initializer`.
        name: start of all layer names.
        **module_options: of `attention_module`, as in `ResidualAttention56`.

    Returns:
        `(batch, num_classes)` float32 tensor. The mask is the layer `f"{name}_mask"`.

    Raises:
        ValueError: see `attention_module`, or frequencies of another length.
    """
    if len(features.shape) != 4:
        raise ValueError(
            "`features` must be a map (batch, height, width, channels). "
            f"Received: shape {tuple(features.shape)}"
        )
    if num_pools is None:
        num_pools, shorter = 1, min(side or 1 for side in features.shape[1:3])
        while -(-shorter // 2**num_pools) > 7:
            num_pools += 1
    x = attention_module(
        features,
        features.shape[-1] if filters is None else filters,
        num_pools=num_pools,
        name=name,
        **module_options,
    )
    x = bn_relu(x, name)
    mean = keras.layers.GlobalAveragePooling2D(name=f"{name}_mean", dtype="float32")(x)
    largest = keras.layers.GlobalMaxPooling2D(name=f"{name}_max", dtype="float32")(x)
    x = keras.layers.Concatenate(name=f"{name}_pooled", dtype="float32")([mean, largest])
    return scaled_logits(
        x,
        num_classes,
        name=name,
        kernel_initializer=kernel_initializer,
        class_frequency=class_frequency,
    )


def mask_names(model):
    """Names of the layers whose outputs are the soft masks of a model, in order."""
    return [layer.name for layer in model.layers if layer.name.endswith("_mask")]


def _network(
    name,
    stem,
    stages,
    size,
    *,
    include_top,
    weights,
    input_tensor,
    input_shape,
    num_classes,
    **module_options,
):
    """A network of the paper's form.

    Args:
        stem: "imagenet", or int, the stride of a 3x3 convolution of 16 filters.
        stages: (filters, stride, modules, poolings of a mask, units behind the modules) each.
    """
    if weights is not None:
        raise ValueError(f"There are no pretrained weights of {name}. Received: weights={weights}")
    inputs = input_tensor
    if inputs is None:
        inputs = keras.Input(input_shape or (size, size, 3))
    if stem == "imagenet":
        x = bn_relu(conv(inputs, 64, 7, strides=2, name="stem_conv"), "stem")
        x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    else:
        x = bn_relu(conv(inputs, 16, 3, strides=stem, name="stem_conv"), "stem")
    for stage, (filters, strides, num_modules, num_pools, units_after) in enumerate(stages, 1):
        x = residual_unit(x, filters, strides=strides, name=f"stage{stage}_unit1")
        for number in range(1, num_modules + 1):
            x = attention_module(
                x,
                filters,
                num_pools=num_pools,
                name=f"stage{stage}_attention{number}",
                **module_options,
            )
        for number in range(2, units_after + 2):
            x = residual_unit(x, filters, name=f"stage{stage}_unit{number}")
    x = bn_relu(x, "last")
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="top_mean", dtype="float32")(x)
        x = keras.layers.Dense(num_classes, name="logits", dtype="float32")(x)
    source = inputs if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    return keras.Model(source, x, name=name)
