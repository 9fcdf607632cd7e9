"""The classification loss of the paper on recurrent attention."""

import keras


@keras.saving.register_keras_serializable("imetlib")
class SoftmaxSquaredError(keras.losses.Loss):
    """Squared distance between softmax probabilities and the labels' share of one.

    p = softmax(logits), q = labels / number of labels; the loss is the sum of (p - q)^2 over the
    attributes. Attributes compete for one unit of probability: the logits rank the attributes of a
    picture, and their sigmoid is no probability. A picture without labels has q = 0, which asks
    for no attribute more than for another.

    Input shape:
        `y_true`: `(batch, num_classes)` 0/1. `y_pred`: `(batch, num_classes)` float logits.

    Reference:
        Wang et al., 2017. https://arxiv.org/abs/1711.02816
    """

    def call(self, y_true, y_pred):
        y_true = keras.ops.cast(y_true, y_pred.dtype)
        count = keras.ops.sum(y_true, axis=-1, keepdims=True)
        share = y_true / keras.ops.maximum(count, 1.0)
        return keras.ops.sum(keras.ops.square(keras.ops.softmax(y_pred) - share), axis=-1)
