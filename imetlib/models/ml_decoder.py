"""ML-Decoder: fixed queries look into the map, each answers for a group of attributes."""

import math

import keras
from keras import ops

from imetlib.models.log_odds import log_odds_initializer


def ml_decoder_logits(
    features,
    num_classes,
    *,
    num_groups=100,
    units=768,
    num_heads=8,
    hidden_units=2048,
    dropout=0.1,
    kernel_initializer=None,
    class_frequency=None,
    name="ml_decoder",
):
    """Logits of ML-Decoder: cross-attention of group queries, and a dense layer for each group.

    The reference's configuration for many classes. Its queries are random and stay so, there is
    no self-attention, and a query enters the first normalisation with its own dropped-out copy
    added. Group 0 answers for the first ceil(num_classes / num_groups) classes, and so on; the
    outputs that the last groups have too many are cut off. The reference's
    int(num_classes / num_groups + 0.999) is the same up to 1,000 groups.

    Args:
        features: `(batch, height, width, channels)`, a backbone's map.
        num_classes: int >= 1.
        num_groups: int >= 1; at most one a class is made.
        units: int, width of the decoder; a multiple of `num_heads`.
        num_heads: int, of the attention.
        hidden_units: int, width of the layer between the decoder's two last dense ones.
        dropout: float in [0, 1), of the reference: on queries, attention and hidden units.
        kernel_initializer: of the groups' dense layers; None: normal, with the deviation that
            `xavier_normal_` of the reference has.
        class_frequency: `(num_classes,)` float in [0, 1] or None, where the bias starts (see
            `imetlib.models.log_odds.log_odds_initializer`).
        name: str, start of the layers' names.

    Returns:
        `(batch, num_classes)` float32.

    Raises:
        ValueError: `units` is no multiple of `num_heads`, or the frequencies have another
            length.

    Reference:
        Ridnik et al., ML-Decoder: Scalable and Versatile Classification Head,
        https://arxiv.org/abs/2111.12933, section 2
    """
    if units % num_heads:
        raise ValueError(
            "`units` must be a multiple of `num_heads`. "
            f"Received: units={units}, num_heads={num_heads}"
        )
    num_groups = min(num_groups, num_classes)
    if kernel_initializer is None:
        fans = (units + num_groups) * math.ceil(num_classes / num_groups)
        kernel_initializer = keras.initializers.RandomNormal(stddev=math.sqrt(2 / fans))
    positions = keras.layers.Reshape((-1, features.shape[-1]), name=f"{name}_positions")(features)
    memory = keras.layers.Dense(units, activation="relu", name=f"{name}_embedding")(positions)
    x = GroupQueries(num_groups, units, name=f"{name}_queries")(memory)
    x = _add_and_norm(x, x, dropout, f"{name}_queries")
    attention = keras.layers.MultiHeadAttention(
        num_heads, units // num_heads, dropout=dropout, name=f"{name}_attention"
    )
    x = _add_and_norm(x, attention(x, memory), dropout, f"{name}_attention")
    hidden = keras.layers.Dense(hidden_units, activation="relu", name=f"{name}_dense1")(x)
    hidden = keras.layers.Dropout(dropout, name=f"{name}_dense1_dropout")(hidden)
    hidden = keras.layers.Dense(units, name=f"{name}_dense2")(hidden)
    x = _add_and_norm(x, hidden, dropout, f"{name}_dense2")
    return GroupDense(
        num_classes,
        kernel_initializer=kernel_initializer,
        bias_initializer=log_odds_initializer(class_frequency, num_classes),
        name=f"{name}_logits",
        dtype="float32",
    )(x)


def _add_and_norm(x, residual, dropout, name):
    residual = keras.layers.Dropout(dropout, name=f"{name}_dropout")(residual)
    x = keras.layers.Add(name=f"{name}_add")([x, residual])
    return keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm")(x)


@keras.saving.register_keras_serializable("imetlib")
class GroupQueries(keras.layers.Layer):
    """Vectors that are drawn once from a normal distribution and never learn.

    Args:
        num_groups: int >= 1.
        units: int >= 1, length of a vector.
        **kwargs: of `keras.layers.Layer`.

    Input shape:
        `(batch, ...)`; only the batch size is used.

    Output shape:
        `(batch, num_groups, units)`, the same for every picture.
    """

    def __init__(self, num_groups, units, **kwargs):
        super().__init__(**kwargs)
        self.num_groups, self.units = num_groups, units

    def build(self, input_shape):
        self.queries = self.add_weight(
            name="queries",
            shape=(self.num_groups, self.units),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            trainable=False,
        )

    def call(self, inputs):
        return ops.broadcast_to(self.queries, (ops.shape(inputs)[0], self.num_groups, self.units))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_groups, self.units)

    def count_macs(self, inputs, outputs):
        return 0

    def get_config(self):
        return {**super().get_config(), "num_groups": self.num_groups, "units": self.units}


@keras.saving.register_keras_serializable("imetlib")
class GroupDense(keras.layers.Layer):
    """One dense layer for each group, side by side, and of their outputs as many as classes.

    Args:
        num_classes: int >= 1.
        kernel_initializer, bias_initializer: as in `keras.layers.Dense`.
        **kwargs: of `keras.layers.Layer`.

    Input shape:
        `(batch, num_groups, units)`.

    Output shape:
        `(batch, num_classes)`.
    """

    def __init__(
        self,
        num_classes,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        _, num_groups, units = input_shape
        self.kernel = self.add_weight(
            name="kernel",
            shape=(num_groups, units, math.ceil(self.num_classes / num_groups)),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.num_classes,), initializer=self.bias_initializer
        )

    def call(self, inputs):
        num_groups, _, size = self.kernel.shape
        outputs = ops.einsum("bgu,guc->bgc", inputs, self.kernel)
        outputs = ops.reshape(outputs, (-1, num_groups * size))
        return outputs[:, : self.num_classes] + self.bias

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes)

    def count_macs(self, inputs, outputs):
        return math.prod(self.kernel.shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
