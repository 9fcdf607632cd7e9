"""Channel grouping of the Multi-Attention CNN: where channels peak, k-means, alternate training.

Zheng et al., ICCV 2017. In order: train the network for a while (or take pretrained weights),
`start_grouping`, then alternate; `AlternateGrouping` does all of it inside one `fit`.
"""

import contextlib
import functools
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from imetlib.models.multi_attention import masks_of_map
from imetlib.training.data_parallel import num_devices, predict_on_batch
from imetlib.training.part_losses import GroupingLoss, distance_loss, diversity_loss


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """What `start_grouping` returns.

    Args:
        indicators: `(num_parts, channels)` float32, 1 where a channel belongs to a part. A
            channel belongs to one part, or to none if it is constant in every picture.
        error: float, mean squared difference of the grouping's output to the indicators after the
            regression; 0.25 is that of a fresh one.
        num_pictures: int, pictures that were looked at.
    """

    indicators: np.ndarray
    error: float
    num_pictures: int


def start_grouping(
    model,
    batches,
    *,
    num_batches=None,
    steps=300,
    learning_rate=1e-3,
    seed=0,
    name="parts",
):
    """Group the channels by where they peak and teach the grouping layers these groups.

    Without it the masks of all parts are alike, and so are their gradients: the grouping losses
    stand still from the first step.

    Args:
        model: `keras.Model` with `multi_attention_logits` in it, its backbone trained.
        batches: training pictures: `batches[i]` is `(batch, *image_shape)` uint8, or a tuple that
            begins with it. The paper takes all; some 2,000 pictures are enough.
        num_batches: int, batches to look at; None: all.
        steps: int, steps of Adam in the regression.
        learning_rate: float > 0, of Adam.
        seed: int >= 0, of k-means and of the order in the regression.
        name: str, that of `multi_attention_logits`.

    Returns:
        `ChannelGroups`.

    Raises:
        ValueError: fewer channels that ever change than parts.
    """
    positions, means = channel_positions(model, batches, num_batches=num_batches, name=name)
    num_parts = model.get_layer(f"{name}_masks").output.shape[-1]
    indicators = group_channels(positions, num_parts, seed=seed)
    error = regress_indicators(
        model, means, indicators, steps=steps, learning_rate=learning_rate, seed=seed, name=name
    )
    return ChannelGroups(indicators, error, len(means))


def channel_positions(model, batches, *, num_batches=None, name="parts"):
    """Where each channel of the parts' map peaks in each picture.

    Args:
        model, batches, num_batches, name: see `start_grouping`.

    Returns:
        positions: `(channels, num_pictures, 2)` float32 in [0, 1], row and column of the peak as a
            fraction of the map's sides; NaN where a channel is constant on a picture.
        means: `(num_pictures, channels)` float32, the map's means, what the grouping layers see.
    """
    maps = keras.Model(model.input, model.get_layer(f"{name}_masks").input[0])
    positions, means = [], []
    for images in _pictures(batches, num_batches):
        batch = np.asarray(predict_on_batch(maps, images), dtype=np.float32)
        height, width = batch.shape[1:3]
        rows, columns = np.divmod(
            batch.reshape(len(batch), height * width, -1).argmax(axis=1), width
        )
        place = np.stack([(rows + 0.5) / height, (columns + 0.5) / width], axis=-1)
        place[batch.max(axis=(1, 2)) == batch.min(axis=(1, 2))] = np.nan
        positions.append(place.astype(np.float32))
        means.append(batch.mean(axis=(1, 2)))
    return np.concatenate(positions).transpose(1, 0, 2), np.concatenate(means)


def group_channels(positions, num_parts, *, seed=0):
    """Groups of channels that peak at the same places: k-means on all positions of a channel.

    Args:
        positions: `(channels, num_pictures, 2)` float, as `channel_positions` gives. NaN counts as
            the picture's centre; a channel with nothing else joins no group.
        num_parts: int >= 1.
        seed: int >= 0, of the ten starts of k-means.

    Returns:
        `(num_parts, channels)` float32 of 0 and 1, no group empty, at most one 1 a channel. The
        groups stand in the order of their first channels.

    Raises:
        ValueError: fewer different channels than parts.
    """
    from sklearn.cluster import KMeans

    used = np.flatnonzero(np.isfinite(positions).any(axis=(1, 2)))
    num_pictures = positions.shape[1]
    vectors = np.nan_to_num(positions[used], nan=0.5).reshape(len(used), 2 * num_pictures)
    different = len(np.unique(vectors, axis=0))
    if not 1 <= num_parts <= different:
        raise ValueError(
            f"{num_parts} parts need as many channels that peak at different places. Received: "
            f"{different} of {len(positions)} channels; train the network first, or ask for fewer"
        )
    groups = KMeans(num_parts, n_init=10, random_state=seed).fit_predict(vectors)
    # Numbers of clusters change with the machine's arithmetic more easily than the clusters do.
    _, first, groups = np.unique(groups, return_index=True, return_inverse=True)
    indicators = np.zeros((num_parts, len(positions)), dtype=np.float32)
    indicators[np.argsort(np.argsort(first))[groups], used] = 1.0
    return indicators


def regress_indicators(
    model, means, indicators, *, steps=300, learning_rate=1e-3, batch_size=64, seed=0, name="parts"
):
    """Teach the grouping layers to answer with given groups; nothing else changes.

    Args:
        model, steps, learning_rate, seed, name: see `start_grouping`.
        means: `(num_pictures, channels)` float, means of the map over the positions.
        indicators: `(num_parts, channels)` of 0 and 1.
        batch_size: int >= 1, pictures a step.

    Returns:
        float, mean squared difference after the last step, over all pictures.
    """
    vectors = keras.Input(means.shape[1:])
    x = vectors
    for layer in _grouping_layers(model, name):
        x = layer(x)
    grouping = keras.Model(vectors, x)
    grouping.compile(keras.optimizers.Adam(learning_rate), loss="mean_squared_error")
    rng = np.random.default_rng(seed)
    batch_size = min(batch_size, len(means))
    batch_size -= batch_size % num_devices()
    with _learning(_grouping_layers(model, name)):
        for _ in range(steps):
            rows = rng.choice(len(means), batch_size, replace=False)
            targets = np.broadcast_to(indicators, (len(rows), *indicators.shape))
            grouping.train_on_batch(means[rows], targets)
    errors = [
        np.mean((predict_on_batch(grouping, means[row : row + 256]) - indicators) ** 2, (1, 2))
        for row in range(0, len(means), 256)
    ]
    return float(np.concatenate(errors).mean())


class AlternateGrouping(keras.callbacks.Callback):
    """The paper's alternation inside one `fit`.

    As each epoch begins, the grouping layers alone learn for some steps, with `loss` on the masks
    and the rest as it is; during the epoch they are frozen and the rest learns from the labels.
    The backbone runs in inference mode for it and its `trainable` flags stay as they are.

    Make it before `fit`: it freezes the grouping layers in the model right away, so that the
    optimizer never sees them (after `imetlib.models.heads.freeze`, which lets them learn).

    Args:
        model: `keras.Model` with `multi_attention_logits` in it: the one that is fitted, or the
            one that `training_outputs` was made of.
        batches: training pictures, see `start_grouping`; not the object that is fitted on, whose
            count of epochs reading it here would disturb. Epoch after epoch goes on where the
            last one stopped.
        start_epoch: int >= 0, the epoch, counted from 0, that begins with `start_grouping`; the
            network trains without grouping before it. None: that is done already.
        num_batches: int, batches that `start_grouping` looks at; None: all.
        steps: int >= 1, batches an epoch.
        learning_rate: float > 0, of Adam.
        loss: `keras.losses.Loss` on masks; None: `GroupingLoss()`.
        seed: int >= 0, see `start_grouping`.
        name: str, that of `multi_attention_logits`.

    Attributes:
        groups: `ChannelGroups` of the start, or None.
        history: one dict an epoch: "epoch" and, for the first of its batches before and after the
            steps, "distance_before", "distance_after", "diversity_before", "diversity_after",
            sums over the parts, means over the pictures.
    """

    def __init__(
        self,
        model,
        batches,
        *,
        start_epoch=None,
        num_batches=None,
        steps=40,
        learning_rate=1e-3,
        loss=None,
        seed=0,
        name="parts",
    ):
        super().__init__()
        self.batches, self.steps, self.start_epoch = batches, steps, start_epoch
        self.groups, self.history, self._next = None, [], 0
        self._start = functools.partial(
            start_grouping, model, batches, num_batches=num_batches, seed=seed, name=name
        )
        self._layers = _grouping_layers(model, name)
        features = model.get_layer(f"{name}_masks").input[0]
        # From the map on: the backbone has no gradient to compute and no flag to change.
        self._maps = keras.Model(model.input, features)
        maps = keras.Input(features.shape[1:], dtype=features.dtype)
        self._masks = keras.Model(maps, masks_of_map(model, maps, name=name))
        self._masks.compile(keras.optimizers.Adam(learning_rate), loss=loss or GroupingLoss())
        for layer in self._layers:
            layer.trainable = False

    def on_epoch_begin(self, epoch, logs=None):
        if self.start_epoch is not None and epoch < self.start_epoch:
            return
        if self.start_epoch is not None and self.groups is None:
            self.groups = self._start()
        first = self._next_maps()
        row = {"epoch": epoch, **self._measure(first, "before")}
        with _learning(self._layers):
            for step in range(self.steps):
                maps = first if step == 0 else self._next_maps()
                self._masks.train_on_batch(maps, np.zeros((len(maps), 1), np.float32))
        self.history.append({**row, **self._measure(first, "after")})

    def get_state(self):
        """What to go on from, as JSON values and arrays."""
        state = {"next": self._next, "history": self.history}
        if self.groups is not None:
            state["groups"] = [self.groups.error, self.groups.num_pictures]
            state["indicators"] = self.groups.indicators
        for number, variable in enumerate(self._optimizer_variables()):
            state[f"optimizer{number}"] = ops.convert_to_numpy(variable)
        return state

    def set_state(self, state):
        """Go on from what `get_state` gave; the weights are the model's own."""
        self._next, self.history, self.groups = state["next"], list(state["history"]), None
        if "groups" in state:
            self.groups = ChannelGroups(state["indicators"], *state["groups"])
        for number, variable in enumerate(self._optimizer_variables()):
            variable.assign(state[f"optimizer{number}"])

    def _optimizer_variables(self):
        optimizer = self._masks.optimizer
        if not optimizer.built:
            with _learning(self._layers):
                optimizer.build(self._masks.trainable_variables)
        return optimizer.variables

    def _next_maps(self):
        images = _images(self.batches[self._next % len(self.batches)])
        self._next += 1
        return predict_on_batch(self._maps, images)

    def _measure(self, maps, when):
        masks = predict_on_batch(self._masks, maps)
        return {
            f"{key}_{when}": float(ops.mean(ops.sum(loss(masks), axis=-1)))
            for key, loss in (("distance", distance_loss), ("diversity", diversity_loss))
        }


def _grouping_layers(model, name):
    return [model.get_layer(f"{name}_{part}") for part in ("grouping_hidden", "grouping")]


@contextlib.contextmanager
def _learning(layers):
    """Let layers learn, then put their flags back: compiled models were traced with these."""
    flags = [layer.trainable for layer in layers]
    for layer in layers:
        layer.trainable = True
    try:
        yield
    finally:
        for layer, flag in zip(layers, flags, strict=True):
            layer.trainable = flag


def _images(batch):
    return batch[0] if isinstance(batch, tuple) else batch


def _pictures(batches, num_batches):
    for index in range(len(batches) if num_batches is None else min(num_batches, len(batches))):
        yield _images(batches[index])
