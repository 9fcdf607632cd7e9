"""Losses of multi-label logits beside Keras's own: for rare, hard and missing labels."""

from functools import partial

import keras
from keras import ops


class _LabelLoss(keras.losses.Loss):
    """One loss for a label that is there and one for a label that is not, mean over classes.

    The papers' codes sum over classes and batch. Here the default reduction is the mean over
    both, so that a learning rate for `keras.losses.BinaryCrossentropy` has the same meaning;
    times batch size and number of classes it is the papers' sum. A label between 0 and 1, as
    MixUp makes, counts this share as there and the rest as not there.
    """

    def call(self, y_true, y_pred):
        logits = ops.convert_to_tensor(y_pred)
        labels = ops.cast(y_true, logits.dtype)
        losses = labels * self.positive(logits) + (1.0 - labels) * self.negative(logits)
        return ops.mean(losses, axis=-1)


@keras.saving.register_keras_serializable("imetlib")
class AsymmetricLoss(_LabelLoss):
    """Cross-entropy that forgets the easy absent labels: "ASL".

    With p the probability and q = max(p - margin, 0): a label that is there costs
    (1 - p)^gamma_positive * -log p, one that is not q^gamma_negative * -log(1 - q). All zero is
    binary cross-entropy. Probabilities are no longer calibrated: calibrate before a decision
    that trusts them. The reference code clamps the arguments of the logarithms at 1e-8; here
    they come from logits and need no clamp.

    Args:
        gamma_negative: float, 0 or >= 1. ML-Decoder trains with 4, Query2Label with 2.
        gamma_positive: float, 0 or >= 1. Both train with 0.
        margin: float in [0, 1). Absent labels with a smaller probability cost nothing.
        detach_weights: bool. No gradient through the powers, as in the training scripts of
            the reference code (`disable_torch_grad_focal_loss`).

    Raises:
        ValueError: a power or margin out of its range. Between 0 and 1 the gradient of a power
            has no bound.

    Reference:
        Ridnik et al., Asymmetric Loss for Multi-Label Classification,
        https://arxiv.org/abs/2009.14119, equations 4 to 7
    """

    def __init__(
        self,
        gamma_negative=4.0,
        gamma_positive=1.0,
        margin=0.05,
        detach_weights=False,
        name="asymmetric_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        for key, gamma in {
            "gamma_negative": gamma_negative,
            "gamma_positive": gamma_positive,
        }.items():
            if gamma != 0 and not gamma >= 1:
                raise ValueError(f"`{key}` must be 0, or 1 or greater. Received: {key}={gamma}")
        if not 0 <= margin < 1:
            raise ValueError(f"`margin` must be from 0 to below 1. Received: margin={margin}")
        self.gamma_negative, self.gamma_positive = gamma_negative, gamma_positive
        self.margin, self.detach_weights = margin, detach_weights

    def positive(self, logits):
        return -self._weight(ops.sigmoid(-logits), self.gamma_positive) * ops.log_sigmoid(logits)

    def negative(self, logits):
        if not self.margin:
            shifted, log = ops.sigmoid(logits), ops.log_sigmoid(-logits)
        else:
            shifted = ops.maximum(ops.sigmoid(logits) - self.margin, 0.0)
            log = ops.log1p(-shifted)
        return -self._weight(shifted, self.gamma_negative) * log

    def _weight(self, miss, gamma):
        if not gamma:
            return 1.0
        weight = ops.power(miss, gamma)
        return ops.stop_gradient(weight) if self.detach_weights else weight

    def get_config(self):
        return {
            **super().get_config(),
            "gamma_negative": self.gamma_negative,
            "gamma_positive": self.gamma_positive,
            "margin": self.margin,
            "detach_weights": self.detach_weights,
        }


@keras.saving.register_keras_serializable("imetlib")
class HillLoss(_LabelLoss):
    """Absent labels that the network is sure of cost less again: they may be missing.

    A label that is there costs (1 - p)^2 * -log p at p = sigmoid(logit - margin), one that is
    not (scale - p) * p^2, whose slope falls to zero towards p = 1.

    Args:
        scale: float, "lambda" of the paper: with 1.5 the slope is zero at p = 1.
        margin: float >= 0, of the logit of a label that is there.

    Reference:
        Zhang et al., Simple and Robust Loss Design for Multi-Label Learning with Missing Labels,
        https://arxiv.org/abs/2112.07368, section 3.2
    """

    def __init__(self, scale=1.5, margin=1.0, name="hill_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale, self.margin = scale, margin

    def positive(self, logits):
        return _focal(logits - self.margin)

    def negative(self, logits):
        prob = ops.sigmoid(logits)
        return (self.scale - prob) * ops.square(prob)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "margin": self.margin}


@keras.saving.register_keras_serializable("imetlib")
class SPLCLoss(_LabelLoss):
    """Focal loss that takes sure predictions for labels that were forgotten: "SPLC".

    Focal with power 2; the logit of a label that is there is lowered by `margin`. While
    `correcting`, a label that is not there but whose probability is above `threshold` counts
    as there, without the margin. Training begins without; `CorrectLabels` switches it on.

    Args:
        threshold: float in (0, 1), "tau" of the paper; 0.65 there with three quarters of the
            labels.
        margin: float >= 0.

    Reference:
        Zhang et al., Simple and Robust Loss Design for Multi-Label Learning with Missing Labels,
        https://arxiv.org/abs/2112.07368, section 3.3
    """

    def __init__(self, threshold=0.6, margin=1.0, name="splc_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.threshold, self.margin = threshold, margin
        self.correcting = False

    def positive(self, logits):
        return _focal(logits - self.margin)

    def negative(self, logits):
        if not self.correcting:
            return _focal(-logits)
        sure = ops.sigmoid(logits) > self.threshold
        return ops.where(sure, _focal(logits), _focal(-logits))

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold, "margin": self.margin}


class CorrectLabels(keras.callbacks.Callback):
    """Switches a `SPLCLoss` on from an epoch on, also where training goes on after it.

    The loss is traced once with the step that it is a part of, so the step is made again.

    Args:
        loss: `SPLCLoss`, the one that the model was compiled with.
        first_epoch: int, counted from 0.
    """

    def __init__(self, loss, first_epoch=1):
        super().__init__()
        self.loss, self.first_epoch = loss, first_epoch

    def on_epoch_begin(self, epoch, logs=None):
        correcting = epoch >= self.first_epoch
        if correcting != self.loss.correcting:
            self.loss.correcting = correcting
            self.model.make_train_function(force=True)


@keras.saving.register_keras_serializable("imetlib")
class SoftFBetaLoss(keras.losses.Loss):
    """1 - F-beta of each picture, with probabilities in the place of decisions.

    F = (1 + beta^2) sum(y p) / (beta^2 sum(y) + sum(p)) over the classes, mean over pictures:
    from 0 to 1, whatever the number of classes, so its scale is not that of cross-entropy. A
    picture without labels costs 1 and teaches nothing. Labels between 0 and 1 enter the sums as
    they are.

    Args:
        beta: float > 0.

    Raises:
        ValueError: `beta` is not positive.
    """

    def __init__(self, beta=2.0, name="soft_fbeta_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        if not beta > 0:
            raise ValueError(f"`beta` must be positive. Received: beta={beta}")
        self.beta = beta

    def call(self, y_true, y_pred):
        prob = ops.sigmoid(ops.convert_to_tensor(y_pred))
        labels = ops.cast(y_true, prob.dtype)
        hits = (1.0 + self.beta**2) * ops.sum(labels * prob, axis=-1)
        total = self.beta**2 * ops.sum(labels, axis=-1) + ops.sum(prob, axis=-1)
        return 1.0 - hits / (total + keras.config.epsilon())

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


# By the name in a profile: makes the loss. From logits, all of them.
LOSSES = {
    "bce": partial(keras.losses.BinaryCrossentropy, from_logits=True),
    "focal": partial(keras.losses.BinaryFocalCrossentropy, gamma=2.0, from_logits=True),
    "asl": AsymmetricLoss,
    "soft_f2": SoftFBetaLoss,
    "hill": HillLoss,
    "splc": SPLCLoss,
}


def _focal(logits):
    """(1 - p)^2 * -log p."""
    return -ops.square(ops.sigmoid(-logits)) * ops.log_sigmoid(logits)
