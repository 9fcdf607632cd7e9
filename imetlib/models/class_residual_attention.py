"""Class-specific residual attention (CSRA): a map of scores for every attribute, pooled twice."""

import math

import keras
from keras import ops

from imetlib.models.log_odds import log_odds_initializer

# As a temperature: only the largest score counts.
MAX_TEMPERATURE = 99


def class_residual_attention_logits(
    features,
    num_classes,
    *,
    temperatures=(1,),
    attention_weight=0.1,
    class_frequency=None,
    name="csra",
):
    """Logits of the head of CSRA: mean of a class's scores, and a weight of where they are large.

    The paper's heads for several temperatures: (1,), (1, 99), (1, 2, 4, 99),
    (1, 2, 3, 4, 5, 99), (1, 2, 3, 4, 5, 6, 7, 99). Each has class vectors of its own, and their
    logits are summed. Layer "<name><number>_scores" gives the scores of head <number>, a map
    `(batch, height, width, num_classes)`.

    The paper's head has no bias: class vectors of length one must learn from the features alone
    that most attributes are rare, and six epochs from scratch on the pocket museum did not get
    beyond the best constant answer. With `class_frequency` there is a bias that starts at the
    log-odds, a deviation.

    Args:
        features: `(batch, height, width, channels)`, a backbone's map.
        num_classes: int >= 1.
        temperatures: float > 0 each, of the softmax over positions; 99 takes the maximum.
        attention_weight: float >= 0, "lambda": 0.1 in the paper for Pascal VOC, 0.3 to 0.5 for
            COCO.
        class_frequency: `(num_classes,)` float in [0, 1] or None, for no bias.
        name: str, start of the layers' names.

    Returns:
        `(batch, num_classes)` float32.

    Raises:
        ValueError: no temperature, one that is not positive, or frequencies of another length.

    Reference:
        Zhu and Wu, Residual Attention: A Simple but Effective Method for Multi-Label
        Recognition, https://arxiv.org/abs/2108.02456, sections 3.1 to 3.3
    """
    if not temperatures:
        raise ValueError("`temperatures` must hold one number for each head. Received: none")
    bias = None
    if class_frequency is not None:
        bias = log_odds_initializer(class_frequency, num_classes)
    logits = []
    for number, temperature in enumerate(temperatures, start=1):
        scores = ClassScores(num_classes, name=f"{name}{number}_scores", dtype="float32")(features)
        attend = ClassResidualAttention(
            temperature,
            attention_weight,
            bias_initializer=bias if number == 1 else None,
            name=f"{name}{number}",
            dtype="float32",
        )
        logits.append(attend(scores))
    if len(logits) == 1:
        return logits[0]
    return keras.layers.Add(name=f"{name}_sum", dtype="float32")(logits)


@keras.saving.register_keras_serializable("imetlib")
class ClassScores(keras.layers.Layer):
    """The features at each position along one vector of length one for each class.

    Args:
        num_classes: int >= 1.
        **kwargs: of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, num_classes)`.
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], self.num_classes), initializer="glorot_uniform"
        )

    def call(self, features):
        length = ops.sqrt(ops.sum(ops.square(self.kernel), axis=0))
        return ops.matmul(features, self.kernel) / length

    def count_macs(self, inputs, outputs):
        return math.prod(outputs.shape[1:-1]) * math.prod(self.kernel.shape)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable("imetlib")
class ClassResidualAttention(keras.layers.Layer):
    """Mean of each class's scores, plus a weight times their mean under its own attention.

    Args:
        temperature: float > 0, of the softmax of a class's scores over the positions; 99 takes
            the maximum.
        attention_weight: float >= 0.
        bias_initializer: of a bias for each class; None, as in the paper, for none.
        **kwargs: of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, num_classes)`.

    Output shape:
        `(batch, num_classes)`.

    Raises:
        ValueError: the temperature is not positive, or the weight is negative.
    """

    def __init__(self, temperature=1, attention_weight=0.1, bias_initializer=None, **kwargs):
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}")
        if not attention_weight >= 0:
            raise ValueError(
                "`attention_weight` must not be negative. "
                f"Received: attention_weight={attention_weight}"
            )
        self.temperature, self.attention_weight = temperature, attention_weight
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias = None

    def build(self, input_shape):
        if self.bias_initializer is not None:
            self.bias = self.add_weight(
                name="bias", shape=(input_shape[-1],), initializer=self.bias_initializer
            )

    def call(self, scores):
        largest = ops.max(scores, axis=(1, 2), keepdims=True)
        if self.temperature == MAX_TEMPERATURE:
            attended = largest[:, 0, 0]
        else:
            attention = ops.exp(self.temperature * (scores - largest))
            attended = ops.sum(attention * scores, axis=(1, 2)) / ops.sum(attention, axis=(1, 2))
        logits = ops.mean(scores, axis=(1, 2)) + self.attention_weight * attended
        return logits if self.bias is None else logits + self.bias

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "attention_weight": self.attention_weight,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
