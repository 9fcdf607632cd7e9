"""Losses of the Multi-Attention CNN: masks that are compact and apart, targets shared by parts."""

import keras
from keras import ops


def distance_loss(masks):
    """How far a mask's weight lies from its peak: the paper's Dis.

    sum over the positions of m(x, y) * squared distance to the mask's largest element, which is
    constant for the gradient.

    Args:
        masks: `(batch, height, width, num_parts)` float >= 0, sum 1 for each part.

    Returns:
        `(batch, num_parts)` float, squared cells of the map; 0 where all weight is on the peak.

    Reference:
        Zheng et al., ICCV 2017. The layer that is in circulation with the released network,
        `pyloss.py`, mixes up rows and columns and weights the third part by another mask.
    """
    masks = ops.convert_to_tensor(masks)
    return ops.sum(masks * squared_distance_to_peak(masks), axis=(1, 2))


def diversity_loss(masks, *, margin=0.02):
    """How much masks lie on each other: the paper's Div.

    sum over the positions of m_i(x, y) * (largest other m_k(x, y) - margin). Masks have sum 1, so
    the margin takes the same from every value and gives no gradient. The gradient also goes
    through the largest other mask, which `pyloss.py` holds constant.

    Args:
        masks: `(batch, height, width, num_parts)` float >= 0, sum 1 for each part.
        margin: float.

    Returns:
        `(batch, num_parts)` float; `-margin` where no other mask lies, or there is none.
    """
    masks = ops.convert_to_tensor(masks)
    num_parts = masks.shape[-1]
    others = ops.expand_dims(masks, 3) * (1.0 - ops.eye(num_parts, dtype=masks.dtype))
    return ops.sum(masks * (ops.max(others, axis=-1) - margin), axis=(1, 2))


def concentration_loss(masks, *, width=1.0):
    """Half the squared Euclidean distance of a mask to a peak of a given width.

    The target is width / (width + squared distance to the mask's largest element), 1 at the peak:
    the hint that came with the released network, in place of Dis.

    Args:
        masks: `(batch, height, width, num_parts)` float.
        width: float > 0, squared cells.

    Returns:
        `(batch, num_parts)` float >= 0.
    """
    masks = ops.convert_to_tensor(masks)
    target = width / (width + squared_distance_to_peak(masks))
    return 0.5 * ops.sum(ops.square(masks - target), axis=(1, 2))


def squared_distance_to_peak(masks):
    """Squared distance of every cell to the largest one of its mask; no gradient.

    Args:
        masks: `(batch, height, width, num_parts)` float.

    Returns:
        The same shape, in squared cells. Of equal largest cells the first counts, row by row.
    """
    masks = ops.convert_to_tensor(masks)
    height, width = ops.shape(masks)[1:3]
    # No gradient goes through the place of a maximum: the peak is constant.
    flat = ops.reshape(masks, (-1, height * width, masks.shape[-1]))
    peak = ops.expand_dims(ops.argmax(flat, axis=1), (1, 2))
    rows = ops.reshape(ops.arange(height), (1, -1, 1, 1))
    columns = ops.reshape(ops.arange(width), (1, 1, -1, 1))
    peak = ops.cast(peak, rows.dtype)
    return ops.cast((rows - peak // width) ** 2 + (columns - peak % width) ** 2, masks.dtype)


@keras.saving.register_keras_serializable("imetlib")
class GroupingLoss(keras.losses.Loss):
    """Loss of the channel grouping: sum over the parts of Dis and Div, mean over the pictures.

    Args:
        distance_weight, diversity_weight: float >= 0. 1 and 2 in the training files that are in
            circulation. Dis grows with the square of the map's sides (about 500 for an even
            mask on 28 x 28), Div is below 1: where Dis rules, all masks go to the middle. On
            a 6 x 6 map 0.02 and 1 kept parts apart.
        margin: see `diversity_loss`.
        peak_width: float > 0: `concentration_loss` of this width instead of Dis. None: Dis.

    Call arguments:
        y_true: ignored, anything with the batch as its first axis.
        y_pred: `(batch, height, width, num_parts)` masks.
    """

    def __init__(
        self,
        distance_weight=1.0,
        diversity_weight=2.0,
        margin=0.02,
        peak_width=None,
        name="grouping_loss",
        **settings,
    ):
        super().__init__(name=name, **settings)
        self.distance_weight, self.diversity_weight = distance_weight, diversity_weight
        self.margin, self.peak_width = margin, peak_width

    def call(self, y_true, y_pred):
        if self.peak_width is None:
            distance = distance_loss(y_pred)
        else:
            distance = concentration_loss(y_pred, width=self.peak_width)
        diversity = diversity_loss(y_pred, margin=self.margin)
        return ops.sum(self.distance_weight * distance + self.diversity_weight * diversity, axis=-1)

    def get_config(self):
        names = ("distance_weight", "diversity_weight", "margin", "peak_width")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("imetlib")
class SharedTargets(keras.losses.Loss):
    """One loss for a model's own logits and for those of each of its parts, on the same labels.

    loss(own) + part_weight * sum over the parts of loss(part); for
    `imetlib.models.multi_attention.training_outputs`.

    Args:
        loss: `keras.losses.Loss` on `(batch, num_classes)`.
        part_weight: float >= 0. 1 is the paper's sum.

    Call arguments:
        y_true: `(batch, num_classes)`.
        y_pred: `(batch, 1 + num_parts, num_classes)`.
    """

    def __init__(self, loss, part_weight=1.0, name="shared_targets", **settings):
        super().__init__(name=name, **settings)
        self.loss, self.part_weight = loss, part_weight

    def call(self, y_true, y_pred):
        own, *parts = (self.loss.call(y_true, y_pred[:, index]) for index in range(y_pred.shape[1]))
        return own + self.part_weight * sum(parts)

    def get_config(self):
        return {
            **super().get_config(),
            "loss": keras.losses.serialize(self.loss),
            "part_weight": self.part_weight,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": keras.losses.deserialize(config["loss"])})
