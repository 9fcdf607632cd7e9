"""What a network costs: the multiply-adds of one picture."""

import math

import keras

_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
)
# Layers whose weights of two or more axes multiply element by element.
_ELEMENTWISE = (keras.layers.PReLU, keras.layers.LayerNormalization)


def count_macs(model, image_shape=None):
    """Multiply-adds of one picture in convolutions and dense layers.

    Counted are the products of `Conv2D`, `DepthwiseConv2D`, `SeparableConv2D`,
    `Conv2DTranspose` and `Dense`, also inside models in the model, a layer as often as it is
    called: kernel height * kernel width * input channels / groups * output channels for each
    place of the output map (of the input map in `Conv2DTranspose`), input * output units for
    each place of a dense layer. Not counted are biases, normalisation, activations, pooling,
    resizing, sums and products of maps; squeeze-excite counts with its convolutions alone.
    The "FLOPs" of most papers on image networks are this number.

    Args:
        model: functional or sequential `keras.Model` with one input.
        image_shape: (height, width, 3), needed where the model's own is open.

    Returns:
        int.

    Raises:
        ValueError: an open or another picture size, a model without a graph, or a layer with
            matrices of weights that this function cannot count.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
        >>> count_macs(keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(x))))
        2048
    """
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1:
        raise ValueError(
            "Multiply-adds are counted along the graph of a functional or sequential model with "
            f"one input. Received: {model.name} with {len(inputs)} inputs"
        )
    own = tuple(inputs[0].shape[1:])
    shape = own if image_shape is None else tuple(image_shape)
    if None in shape:
        raise ValueError(f"{model.name} takes any size: give `image_shape`. Received: {shape}")
    if len(shape) != len(own) or any(
        side not in (None, given) for side, given in zip(own, shape, strict=True)
    ):
        raise ValueError(f"{model.name} is built for {own}. Received: image_shape={shape}")
    macs = []
    _follow(model, [keras.Input(shape, dtype=inputs[0].dtype)], macs)
    return sum(macs)


def _follow(model, inputs, macs):
    """Call the layers of a model on symbolic inputs and note the multiply-adds of each call."""

    def call_layer(layer, *args, **settings):
        outputs = layer(*args, **settings)
        if isinstance(layer, keras.Model):
            inner = keras.tree.flatten(args[0])
            _follow(layer, [keras.Input(x.shape[1:], dtype=x.dtype) for x in inner], macs)
        elif isinstance(layer, keras.Layer):
            macs.append(_macs_of_call(layer, args[0], outputs))
        return outputs

    # A new graph around the same layers: no weights are made, and an open size gets known.
    # (`Model` first: a clone of a compiled model would be compiled as well.)
    keras.models.clone_model(
        keras.Model(model.inputs, model.outputs),
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=call_layer,
    )


def _macs_of_call(layer, inputs, outputs):
    if isinstance(layer, keras.layers.Dense):
        return math.prod(outputs.shape[1:-1]) * math.prod(layer.kernel.shape)
    if isinstance(layer, _CONVOLUTIONS):
        places = inputs if isinstance(layer, keras.layers.Conv2DTranspose) else outputs
        last = layer.data_format == "channels_last"
        places = math.prod(places.shape[1:-1] if last else places.shape[2:])
        if isinstance(layer, keras.layers.SeparableConv2D):
            kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
        else:
            kernels = (layer.kernel,)
        return places * sum(math.prod(kernel.shape) for kernel in kernels)
    matrices = [weight for weight in layer.weights if len(weight.shape) > 1]
    if matrices and not isinstance(layer, _ELEMENTWISE):
        raise ValueError(
            f"Cannot count the multiply-adds of layer {layer.name!r}, a {type(layer).__name__} "
            f"with weights of shape {tuple(matrices[0].shape)}"
        )
    return 0
