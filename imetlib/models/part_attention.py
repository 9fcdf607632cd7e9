"""Parts of a map: its channels grouped, one soft mask and one pooled feature a part.

Zheng, Fu, Mei and Luo, "Learning Multi-Attention Convolutional Neural Network for Fine-Grained
Image Recognition", ICCV 2017. The masks follow the authors' released network, which differs from
the paper's equations; `form="sigmoid"` is the paper's.
"""

import keras
from keras import ops

# Gain and power of each form of mask.
FORMS = {"released": (0.1, 4.0), "sigmoid": (1.0, 1.0), "standardised": (0.5, 8.0)}
# Up to the paper's 512 channels the hidden layers are as wide as the map.
_WIDEST_FULL = 512


def part_masks(
    features,
    num_parts=4,
    *,
    form="released",
    gain=None,
    power=None,
    hidden_units=None,
    detach=True,
    name="parts",
):
    """Masks of the parts of a map: `channel_grouping`, then `PartAttention`.

    Args:
        features, num_parts, form, gain, power, hidden_units, detach, name: see
            `imetlib.models.multi_attention.multi_attention_logits`.

    Returns:
        `(batch, height, width, num_parts)` float32 in [0, 1], sum 1 for each part.

    Raises:
        ValueError: no map, or a number of parts, a form or a width that cannot be.
    """
    shape = getattr(features, "shape", ())
    if len(shape) != 4:
        raise ValueError(
            "`features` must be one map (batch, height, width, channels). "
            f"Received: features of shape {tuple(shape)}"
        )
    if detach:
        features = Detached(name=f"{name}_map", dtype="float32")(features)
    weights = channel_grouping(features, num_parts, hidden_units=hidden_units, name=name)
    attention = PartAttention(form, gain, power, name=f"{name}_masks", dtype="float32")
    return attention([features, weights])


def channel_grouping(features, num_parts, *, hidden_units=None, name="parts"):
    """For each part, how much each channel of a map belongs to it.

    sigmoid(W2 tanh(W1 z + b1) + b2) with z the map's mean over the positions and weights of its
    own for each part; kernels start normal with standard deviation 0.005, as released.
    Layers "<name>_mean", "<name>_grouping_hidden", "<name>_grouping".

    Args:
        features, num_parts, hidden_units, name: see
            `imetlib.models.multi_attention.multi_attention_logits`.

    Returns:
        `(batch, num_parts, channels)` float32 in [0, 1].

    Raises:
        ValueError: a number of parts or a width that cannot be.
    """
    channels = features.shape[-1]
    if not 1 <= num_parts <= channels:
        raise ValueError(
            f"`num_parts` must be from 1 to the map's {channels} channels. "
            f"Received: num_parts={num_parts}"
        )
    if hidden_units is None:
        hidden_units = channels if channels <= _WIDEST_FULL else channels // 4
    if hidden_units < 1:
        raise ValueError(f"`hidden_units` must be at least 1. Received: {hidden_units}")
    mean = keras.layers.GlobalAveragePooling2D(name=f"{name}_mean", dtype="float32")(features)
    hidden = keras.layers.EinsumDense(
        "bc,pch->bph",
        (num_parts, hidden_units),
        bias_axes="ph",
        activation="tanh",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.005),
        name=f"{name}_grouping_hidden",
        dtype="float32",
    )(mean)
    return keras.layers.EinsumDense(
        "bph,phc->bpc",
        (num_parts, channels),
        bias_axes="pc",
        activation="sigmoid",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.005),
        name=f"{name}_grouping",
        dtype="float32",
    )(hidden)


@keras.saving.register_keras_serializable("imetlib")
class PartAttention(keras.layers.Layer):
    """Masks of parts from a map and the weights of its channels; no weights of its own.

    With F the map and d the weights of a part's channels, at each position:

    - "released", the authors' network: softplus(tanh(gain * mean over c of d_c F_c))**power;
    - "sigmoid", the paper: sigmoid(gain * sum over c of d_c F_c)**power;
    - "standardised", ours: as released, of the sum less its mean over the positions, divided by
      its standard deviation.

    All are divided by their sum over the positions. The gain of the first two belongs to a
    backbone: 0.1 to VGG-19, whose activations are large. After BatchNormalization they are near 1
    or far below, and the masks are flat. Their sharpness is limited as well: where F >= 0, the
    largest element is at most (softplus(1) / softplus(0))**4 = 12.9 times the smallest in
    "released", twice in "sigmoid". On a map of a few cells, masks that are nowhere near 0 cannot
    leave each other, and Dis and Div make them more alike. "standardised" is the same on every
    scale, and reaches (softplus(1) / softplus(-1))**8 = 95,400.

    Args:
        form: "released", "sigmoid" or "standardised".
        gain: float > 0. None: 0.1, 1 or 0.5 in these forms.
        power: float > 0. None: 4, 1 or 8.

    Input shape:
        `[(batch, height, width, channels), (batch, num_parts, channels)]`.

    Output shape:
        `(batch, height, width, num_parts)`, in [0, 1], sum 1 over the positions.

    Raises:
        ValueError: unknown form, or a gain or power that is not positive.
    """

    def __init__(self, form="released", gain=None, power=None, **settings):
        super().__init__(**settings)
        if form not in FORMS:
            raise ValueError(f"`form` must be one of {', '.join(FORMS)}. Received: {form!r}")
        self.form = form
        self.gain = FORMS[form][0] if gain is None else gain
        self.power = FORMS[form][1] if power is None else power
        if self.gain <= 0 or self.power <= 0:
            raise ValueError(
                f"`gain` and `power` must be positive. Received: gain={gain}, power={power}"
            )

    def call(self, inputs):
        features, weights = inputs
        scores = ops.einsum("bhwc,bpc->bhwp", features, weights)
        if self.form == "sigmoid":
            log_masks = ops.log_sigmoid(self.gain * scores)  # no 0 / 0 where the sigmoid is 0
        else:
            scores = scores / features.shape[-1]
            if self.form == "standardised":
                scores = scores - ops.mean(scores, axis=(1, 2), keepdims=True)
                variance = ops.mean(ops.square(scores), axis=(1, 2), keepdims=True)
                scores = scores * ops.rsqrt(variance + 1e-12)
            log_masks = ops.log(ops.softplus(ops.tanh(self.gain * scores)))
        log_masks = self.power * log_masks
        return ops.exp(log_masks - ops.logsumexp(log_masks, axis=(1, 2), keepdims=True))

    def compute_output_shape(self, input_shape):
        features, weights = input_shape
        return (*features[:3], weights[1])

    def get_config(self):
        config = {"form": self.form, "gain": self.gain, "power": self.power}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("imetlib")
class PartPooling(keras.layers.Layer):
    """Features of parts: the sum of a map under each mask; no weights.

    Input shape:
        `[(batch, height, width, channels), (batch, height, width, num_parts)]`.

    Output shape:
        `(batch, num_parts, channels)`.
    """

    def call(self, inputs):
        features, masks = inputs
        return ops.einsum("bhwc,bhwp->bpc", features, masks)

    def compute_output_shape(self, input_shape):
        features, masks = input_shape
        return (features[0], masks[3], features[3])


@keras.saving.register_keras_serializable("imetlib")
class Detached(keras.layers.Layer):
    """Its input, through which no gradient goes back; no weights."""

    def call(self, inputs):
        return ops.stop_gradient(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape
