"""What a network costs: the multiply-adds of one picture, the parameters that learn."""

import math

import keras

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    *_SEPARABLE,
    *_TRANSPOSED,
)
_CELLS = (keras.layers.SimpleRNNCell, keras.layers.GRUCell, keras.layers.LSTMCell)
# Layers whose weights of two or more axes multiply element by element.
_ELEMENTWISE = (keras.layers.PReLU, keras.layers.LayerNormalization)


def count_trainable(model):
    """Parameters that learn, as an int; Keras's `count_params` counts the frozen ones too.

    Args:
        model: `keras.Model`, built.
    """
    return int(sum(math.prod(weight.shape) for weight in model.trainable_weights))


def count_macs(model, image_shape=None):
    """Multiply-adds of one picture in layers with matrices of weights.

    A layer counts as often as it is called, also inside models in the model:

    - Convolutions (separable, depthwise and transposed ones too): kernel height * kernel width *
      input channels / groups * output channels for each place of the output map, of the input
      map where it is transposed.
    - `Dense` and `EinsumDense`: input units * output units for each place.
    - `MultiHeadAttention`: its projections, and for each head queries * keys * (key size +
      value size), the products of queries with keys and of weights with values.
    - `SimpleRNN`, `GRU`, `LSTM` and their cells: both kernels, in every step.
    - A layer with a method `count_macs(inputs, outputs)`: the int that this returns for a call
      on `inputs`, a `KerasTensor`, or the list of them in the order of the call where there are
      several; `outputs` is what the call returned. All sizes but that of the batch are known.
      This is how layers of one's own are counted, also where they multiply activations with
      each other.

    Not counted are biases, normalisation, activations, pooling, resizing, sums and products of
    maps; squeeze-excite counts with its convolutions alone. The "FLOPs" of most papers on image
    networks are this number.

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
        if isinstance(layer, keras.Model) and not hasattr(layer, "count_macs"):
            inner = _tensors(args, settings)
            _follow(layer, [keras.Input(x.shape[1:], dtype=x.dtype) for x in inner], macs)
        elif isinstance(layer, keras.Layer):
            macs.append(_macs_of_call(layer, args, settings, outputs))
        return outputs

    # A new graph around the same layers: no weights are made, and an open size gets known.
    # (`Model` first: a clone of a compiled model would be compiled as well.)
    keras.models.clone_model(
        keras.Model(model.inputs, model.outputs),
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=call_layer,
    )


def _macs_of_call(layer, args, settings, outputs):
    inputs = _tensors(args, settings)
    if len(inputs) == 1:
        inputs = inputs[0]
    if hasattr(layer, "count_macs"):
        return layer.count_macs(inputs, outputs)
    if isinstance(layer, keras.layers.Dense):
        return math.prod(outputs.shape[1:-1]) * _size(layer.kernel)
    if isinstance(layer, keras.layers.EinsumDense):
        weights, output = layer.equation.split(",")[1].split("->")
        summed = [
            size
            for axis, size in zip(weights, layer.kernel.shape, strict=True)
            if axis not in output
        ]
        return math.prod(outputs.shape[1:]) * math.prod(summed)
    if isinstance(layer, _CONVOLUTIONS):
        places = inputs if isinstance(layer, _TRANSPOSED) else outputs
        last = layer.data_format == "channels_last"
        places = math.prod(places.shape[1:-1] if last else places.shape[2:])
        if isinstance(layer, _SEPARABLE):
            return places * _size(layer.depthwise_kernel, layer.pointwise_kernel)
        return places * _size(layer.kernel)
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return _macs_of_attention(layer, *args, **settings)
    if isinstance(layer, _CELLS):
        return _size(layer.kernel, layer.recurrent_kernel)
    if isinstance(layer, keras.layers.RNN) and isinstance(layer.cell, _CELLS):
        steps = _tensors(args, settings)[0].shape[1]
        return steps * _size(layer.cell.kernel, layer.cell.recurrent_kernel)
    matrices = [weight for weight in layer.weights if len(weight.shape) > 1]
    if matrices and not isinstance(layer, _ELEMENTWISE):
        raise ValueError(
            f"Cannot count the multiply-adds of layer {layer.name!r}, a {type(layer).__name__} "
            f"with weights of shape {tuple(matrices[0].shape)}: give its class a method "
            "`count_macs(inputs, outputs)`"
        )
    return 0


def _macs_of_attention(layer, query, value, *_, **__):
    queries, values = math.prod(query.shape[1:-1]), math.prod(value.shape[1:-1])
    of_values = _size(layer.key_dense.kernel, layer.value_dense.kernel)
    of_queries = _size(*(x for x in layer.weights if x.name == "kernel")) - of_values
    seen = math.prod(value.shape[axis] for axis in layer.attention_axes)
    products = queries * seen * layer.num_heads * (layer.key_dim + layer.value_dim)
    return queries * of_queries + values * of_values + products


def _size(*kernels):
    return sum(math.prod(kernel.shape) for kernel in kernels)


def _tensors(args, settings):
    """What a layer was called on, without the settings of the call, flat."""
    flat = keras.tree.flatten([*args, *settings.values()])
    return [x for x in flat if isinstance(x, keras.KerasTensor)]
