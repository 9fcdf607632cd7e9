"""Recurrent attention: an LSTM that looks at one region of the map after the other."""

import math

import keras
import numpy as np

from imetlib.models.log_odds import log_odds_initializer
from imetlib.models.spatial_transformer import SpatialTransformer

WHOLE_MAP = (1.0, 1.0, 0.0, 0.0)
# alpha, beta, lambda 1 and lambda 2 of the paper's loss of localisation.
MAX_SCALE, MIN_SCALE = 0.5, 0.1
ANCHOR_WEIGHT, POSITIVE_WEIGHT = 0.01, 0.1


def recurrent_attention_logits(
    features,
    num_classes,
    *,
    num_glimpses=5,
    units=512,
    glimpse_size=None,
    head="compact",
    anchors="prior",
    constraint_weight=0.1,
    kernel_initializer="glorot_uniform",
    class_frequency=None,
    name="glimpse",
):
    """Logits from glimpses at regions of a map that an LSTM chooses one after the other (RDAR).

    Step 0 sees the whole map and only proposes the first region. Each later step samples its
    region, updates the LSTM, gives scores and proposes the next region; the logit of an attribute
    is the largest of its scores. All weights are shared between the steps. Whatever the dtype
    policy, everything after the sampled maps is float32.

    The paper's network for the sampled map (`head="paper"`: 2x2 max pooling, then a dense layer
    on all cells, 4096 units) has 258 million parameters for 1103 attributes; the compact one
    (mean over the cells, 512 units) has 3.7 million.

    Args:
        features: `(batch, height, width, channels)` `keras.KerasTensor`.
        num_classes: int >= 1.
        num_glimpses: int >= 1, K of the paper.
        units: int >= 1, of the LSTM and of the dense layers around it.
        glimpse_size: (height, width) of the sampled maps; None for 14 x 14, a side that is
            smaller in the map itself as there.
        head: "compact" or "paper".
        anchors: where regions start and are held. "prior": from the second glimpse on, region k
            starts around point k of `glimpse_anchors`; "loss": all start as the whole map and
            only the loss draws them there. The loss is the same for both.
        constraint_weight: float >= 0, gamma of the paper, see `GlimpseConstraints`.
        kernel_initializer: of the layer that makes the scores.
        class_frequency: see `imetlib.models.heads.attach_head`.
        name: str, prefix of the layers' names.

    Returns:
        `(batch, num_classes)` float32 logits. Among the layers: "<name>_boxes" `(batch, K, 4)`,
        the regions (sx, sy, tx, ty) as they were sampled; "<name>_scores"
        `(batch, K, num_classes)`; "<name>_step<k>_map", the sampled maps, k from 0 to K.

    Raises:
        ValueError: features that are no map, an unknown `head` or `anchors`, no glimpse, or
            sampled maps that 2x2 pooling does not divide.

    Reference:
        Wang et al., "Multi-label Image Recognition by Recurrently Discovering Attentional
        Regions", 2017. https://arxiv.org/abs/1711.02816
    """
    shape = tuple(features.shape)
    if len(shape) != 4:
        raise ValueError(
            f"`features` must be a map (batch, height, width, channels). Received: shape {shape}"
        )
    if num_glimpses < 1:
        raise ValueError(f"`num_glimpses` must be at least 1. Received: {num_glimpses}")
    if head not in ("compact", "paper"):
        raise ValueError(f'`head` must be "compact" or "paper". Received: {head!r}')
    if anchors not in ("prior", "loss"):
        raise ValueError(f'`anchors` must be "prior" or "loss". Received: {anchors!r}')
    size = tuple(glimpse_size or (min(14, side or 14) for side in shape[1:3]))
    if head == "paper" and any(side % 2 for side in size):
        raise ValueError(
            'head="paper" pools 2 x 2 cells: `glimpse_size` must be even. '
            f"Received: glimpse_size={size}"
        )
    points = glimpse_anchors(num_glimpses)
    embedding = keras.layers.Dense(units, dtype="float32", name=f"{name}_embedding")
    cell = keras.layers.LSTMCell(units, dtype="float32", name=f"{name}_lstm")
    hidden = keras.layers.Dense(units, activation="relu", dtype="float32", name=f"{name}_hidden")
    propose = _transform_layer(head, f"{name}_transform")
    boxes, answers, state = [], [], None
    for step in range(num_glimpses + 1):
        if step:
            shift = points[step - 1] if anchors == "prior" else (0.0, 0.0)
            # As a layer with a name: `fix_glimpses` puts another one in its place.
            box = keras.layers.Rescaling(
                1.0, [0.0, 0.0, *shift], dtype="float32", name=f"{name}_step{step}_box"
            )
            boxes.append(box(propose(answers[-1])))
        glimpse = SpatialTransformer(*size, name=f"{name}_step{step}_map")(features, *boxes[-1:])
        seen = embedding(_pool_glimpse(glimpse, head, f"{name}_step{step}"))
        state = state or [keras.ops.zeros_like(seen)] * 2
        output, state = cell(seen, state)
        answers.append(hidden(output))
    scores = keras.layers.Dense(
        num_classes,
        dtype="float32",
        kernel_initializer=kernel_initializer,
        bias_initializer=log_odds_initializer(class_frequency, num_classes),
        name=f"{name}_scores",
    )(_stack(answers[1:], f"{name}_answers"))
    boxes = _stack(boxes, f"{name}_boxes")
    scores = GlimpseConstraints(points, constraint_weight, name=f"{name}_constraints")(
        scores, boxes
    )
    return keras.layers.GlobalMaxPooling1D(dtype="float32", name=f"{name}_logits")(scores)


def fix_glimpses(model, *, name="glimpse"):
    """The same network with every glimpse at the whole map, weights shared.

    What it scores less is what the choice of the regions is worth.

    Args:
        model: `keras.Model` with `recurrent_attention_logits` in it.
        name: str, as there.

    Returns:
        `keras.Model` with the inputs and outputs of `model`.

    Raises:
        ValueError: no such layers.
    """
    boxes = [layer.name for layer in model.layers if layer.name.startswith(f"{name}_step")]
    boxes = {box for box in boxes if box.endswith("_box")}
    if not boxes:
        raise ValueError(
            f"{model.name} has no glimpses named {name!r}: it needs recurrent_attention_logits"
        )

    def call_layer(layer, *args, **settings):
        if layer.name in boxes:
            layer = keras.layers.Rescaling(0.0, list(WHOLE_MAP), dtype="float32", name=layer.name)
        return layer(*args, **settings)

    inputs = keras.Input(model.input.shape[1:], dtype=model.input.dtype)
    # `Model` first: a clone of a compiled model would be compiled as well.
    return keras.models.clone_model(
        keras.Model(model.input, model.output, name=f"{model.name}_fixed"),
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=call_layer,
    )


def glimpse_anchors(num_glimpses):
    """Points that the regions are held around: the centre, then a circle around it.

    Returns:
        `num_glimpses` tuples (x, y), coordinates from -1 to 1 over the map.

    Example:
        >>> glimpse_anchors(5)
        [(0.0, 0.0), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)]
    """
    radius, count = math.sqrt(0.5), num_glimpses - 1
    angles = [math.pi / 4 + 2 * math.pi * index / count for index in range(count)]
    circle = [
        (round(radius * math.cos(angle), 6), round(radius * math.sin(angle), 6)) for angle in angles
    ]
    return [(0.0, 0.0), *sorted(circle, reverse=True)]


def glimpse_constraints(boxes, anchors):
    """The three parts of the paper's loss of localisation.

    Args:
        boxes: `(batch, K, 4)` float, (sx, sy, tx, ty).
        anchors: K points (x, y).

    Returns:
        Three `(batch,)` tensors >= 0, sums over the glimpses. Anchor: half the squared distance of
        a region's centre from its point. Scale: the squares of what scales exceed .5. Positive:
        what scales fall short of .1.
    """
    boxes = keras.ops.convert_to_tensor(boxes)
    scales, centres = boxes[..., :2], boxes[..., 2:]
    anchor = 0.5 * keras.ops.square(centres - keras.ops.convert_to_tensor(anchors, boxes.dtype))
    scale = keras.ops.square(keras.ops.relu(keras.ops.abs(scales) - MAX_SCALE))
    positive = keras.ops.relu(MIN_SCALE - scales)
    return tuple(keras.ops.sum(part, axis=(1, 2)) for part in (anchor, scale, positive))


@keras.saving.register_keras_serializable("imetlib")
class GlimpseConstraints(keras.layers.Layer):
    """Passes scores on and adds the loss of localisation of their regions while training.

    The loss is weight * (scale + .01 anchor + .1 positive) of `glimpse_constraints`, the mean over
    the batch. (The paper's two losses are sums over the batch.)

    Args:
        anchors: K points (x, y).
        weight: float >= 0.

    Input shape:
        `scores`: `(batch, K, num_classes)`. `boxes`: `(batch, K, 4)`.

    Output shape:
        That of `scores`.
    """

    def __init__(self, anchors, weight, **kwargs):
        super().__init__(dtype=kwargs.pop("dtype", "float32"), **kwargs)
        self.anchors = [tuple(point) for point in anchors]
        self.weight = weight

    def call(self, scores, boxes, training=False):
        if training:
            anchor, scale, positive = glimpse_constraints(boxes, self.anchors)
            loss = scale + ANCHOR_WEIGHT * anchor + POSITIVE_WEIGHT * positive
            self.add_loss(self.weight * keras.ops.mean(loss))
        return scores

    def compute_output_shape(self, scores_shape, boxes_shape):
        return scores_shape

    def get_config(self):
        return {**super().get_config(), "anchors": self.anchors, "weight": self.weight}


def _transform_layer(head, name):
    """Layer from the LSTM's answer to a region; it starts at the whole map."""
    start = WHOLE_MAP if head == "compact" else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    layer = keras.layers.Dense(
        len(start),
        dtype="float32",
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(np.array(start, np.float32)),
        name=name,
    )
    if head == "compact":
        return layer
    # The paper's six numbers are a matrix whose other elements are not used.
    return lambda answer: keras.ops.take(layer(answer), (0, 4, 2, 5), axis=-1)


def _pool_glimpse(glimpse, head, name):
    if head == "compact":
        return keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"{name}_mean")(glimpse)
    pooled = keras.layers.MaxPooling2D(name=f"{name}_pool")(glimpse)
    return keras.layers.Flatten(name=f"{name}_flat")(pooled)


def _stack(tensors, name):
    """(batch, size) tensors as one (batch, len(tensors), size)."""
    row = keras.layers.Concatenate(dtype="float32", name=f"{name}_row")(tensors)
    shape = (len(tensors), tensors[0].shape[-1])
    return keras.layers.Reshape(shape, dtype="float32", name=name)(row)
