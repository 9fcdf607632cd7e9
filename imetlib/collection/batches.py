"""Batches of uint8 pictures in a known order, with the same preprocessing for every split.

Order and augmentation are functions of (seed, epoch, row), never of the number of workers, so a
run can be repeated and resumed.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from imetlib.collection.geometry import prepare
from imetlib.collection.memory import Memory
from imetlib.collection.pixels import Pixels
from imetlib.quiet import keras


class Batches(keras.utils.PyDataset):
    """Batches of `(images, labels)` for `fit`, `evaluate` and `predict` of any backend.

    An epoch holds every row once; batch sizes differ by at most one, so that no
    BatchNormalization layer ever sees a tiny last batch. Give `fit` `shuffle=False`: it would
    shuffle the batches once more, in an order that is not repeated.

    Args:
        pictures: anything with `read(row) -> (height, width, 3) uint8`, a `PictureCache`; or
            `imetlib.collection.pixels.Pixels`, of which a batch is a copy of rows.
        rows: `(num_samples,)` int. Rows of `pictures`, in the order wanted.
        preprocessing: `Preprocessing`.
        labels: `(num_samples, num_classes)` array aligned with `rows`, or None.
        batch_size: int >= 1. Greatest number of pictures in a batch.
        shuffle: a new order each epoch, drawn from (seed, epoch).
        augmentation: `Augmentation` or None.
        flip: mirror every picture (the second view of test time).
        seed: int >= 0.
        first_epoch: int >= 0. Where order and augmentation go on, in a later stage of one run.
        workers: threads that share the pictures of a batch; 0 or 1: the caller's thread reads.
        multiple: int >= 1. With labels, batches are filled up to a multiple of it (`fill_up`):
            for as many devices.
        part: (int, int), process and number of processes: what is read is the equal part of each
            batch, filled up to a multiple of `multiple`, that belongs to a process. All parts in
            order are the batch of one process. With MixUp or CutMix every process reads it whole.

    Returns of `batches[i]`:
        `images` `(batch, *image_shape)` uint8, and `labels` `(batch, num_classes)` float32
        where labels were given; also `weights` `(batch,)` float32 where `multiple` is not 1.
    """

    def __init__(
        self,
        pictures,
        rows,
        preprocessing,
        *,
        labels=None,
        batch_size=32,
        shuffle=False,
        augmentation=None,
        flip=False,
        seed=0,
        first_epoch=0,
        workers=2,
        multiple=1,
        part=(0, 1),
    ):
        # Not Keras's own workers: on jax and torch `fit` stops them once to build the model, and
        # the batches in their queue then come twice in the first epoch, others never.
        super().__init__(workers=1, use_multiprocessing=False)
        self.threads = max(1, workers)
        self.rows = np.asarray(rows, dtype=np.int64)
        if labels is not None and len(labels) != len(self.rows):
            raise ValueError(
                "`labels` and `rows` must have the same length. "
                f"Received: {len(labels)} labels and {len(self.rows)} rows"
            )
        if batch_size < 1 or not len(self.rows):
            raise ValueError(
                "Batches need `batch_size` >= 1 and at least one row. "
                f"Received: batch_size={batch_size}, {len(self.rows)} rows"
            )
        self.pictures, self.labels, self.preprocessing = pictures, labels, preprocessing
        self.batch_size, self.shuffle, self.augmentation = batch_size, shuffle, augmentation
        self.flip, self.seed, self.multiple = flip, seed, multiple
        self.epoch, self._complete, self.part = first_epoch, False, part
        self._memory, self._order = Memory(), (None, None)
        if not 0 <= part[0] < part[1] or multiple % part[1]:
            raise ValueError(
                "`part` must be a process and a number of processes that divides `multiple`. "
                f"Received: part={part}, multiple={multiple}"
            )

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def order(self, epoch):
        """Positions in `rows` in the order of an epoch, `(num_samples,)` int."""
        if not self.shuffle:
            return np.arange(len(self.rows))
        known, order = self._order
        if known != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
            # For all batches of the epoch: drawn for each of them it would cost more than they.
            self._order = epoch, order
        return order.copy()

    def __getitem__(self, index):
        epoch = self.epoch
        start, end = self._bounds(index)
        positions = self.order(epoch)[start:end]
        own, weights = None, None
        if self.part[1] > 1:
            slots, weights = fill_up(self.multiple, np.arange(end - start))
            own, weights = (np.split(each, self.part[1])[self.part[0]] for each in (slots, weights))
            if self.labels is None or not self._mixes():
                positions, own = positions[own], None
        images = self._memory.empty((len(positions), *self.preprocessing.image_shape))
        if isinstance(self.pictures, Pixels) and self.augmentation is None:
            self.pictures.gather(
                self.rows[positions], self.preprocessing, flip=self.flip, out=images
            )
        else:
            self._prepare_rows(positions, epoch, images)
        self._complete |= index == len(self) - 1
        if self.labels is None:
            return images
        labels = np.asarray(self.labels[positions], dtype=np.float32)
        images, labels = self._mix(images, labels, epoch, index)
        if weights is not None:
            return (images, labels, weights) if own is None else (images[own], labels[own], weights)
        return (images, labels) if self.multiple == 1 else fill_up(self.multiple, images, labels)

    def _prepare_rows(self, positions, epoch, images):
        def read(slots):
            buffer = bytearray(getattr(self.pictures, "buffer_bytes", 0))
            for slot in slots:
                row = int(self.rows[positions[slot]])
                picture = self.pictures.read(row, buffer) if buffer else self.pictures.read(row)
                self._prepare(picture, row, epoch, images[slot])

        slots = iter(range(len(positions)))
        if self.threads == 1:
            read(slots)
        else:
            # Each takes the next slot: one task a picture is slower than no threads at all, and
            # of two fixed shares one ends later.
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(read, [slots] * self.threads))

    def num_rows(self, index):
        """Rows of a whole batch, without those that fill it up, int."""
        start, end = self._bounds(index)
        return int(end - start)

    def on_epoch_begin(self):
        self._complete = False

    def on_epoch_end(self):
        # `fit` also ends an epoch before its first one.
        self.epoch += self._complete
        self._complete = False

    def _bounds(self, index):
        return np.linspace(0, len(self.rows), len(self) + 1).astype(np.int64)[index : index + 2]

    def _mixes(self):
        return self.augmentation is not None and (
            self.augmentation.mixup or self.augmentation.cutmix
        )

    def _prepare(self, picture, row, epoch, out):
        rng = None
        if self.augmentation is not None:
            rng = np.random.default_rng([self.seed, epoch, row])
        prepare(
            picture,
            self.preprocessing,
            flip=self.flip,
            augmentation=self.augmentation,
            rng=rng,
            out=out,
        )

    def _mix(self, images, labels, epoch, index):
        """MixUp and CutMix of Keras, seeded by the batch and not by the layer's history."""
        if self.augmentation is None or len(images) < 2:
            return images, labels
        seed = int(np.random.default_rng([self.seed, epoch, index]).integers(2**31 - 1))
        for layer, alpha in (
            (keras.layers.MixUp, self.augmentation.mixup),
            (keras.layers.CutMix, self.augmentation.cutmix),
        ):
            if alpha:
                mixed = layer(alpha, seed=seed)(
                    {"images": images.astype(np.float32), "labels": labels}, training=True
                )
                images = np.round(keras.ops.convert_to_numpy(mixed["images"])).astype(np.uint8)
                labels = keras.ops.convert_to_numpy(mixed["labels"])
        return images, labels


def fill_up(multiple, *arrays):
    """Arrays filled up with copies to a multiple of rows, and weights with which each row counts
    once.

    A weighted mean over all rows is then the mean over those that were given.

    Args:
        multiple: int >= 1.
        *arrays: `(num_rows, ...)` arrays, one row at least.

    Returns:
        the arrays, then `(filled_rows,)` float32 weights: filled_rows / num_rows, and 0 for copies.

    Example:
        >>> rows, weights = fill_up(4, np.array([5, 6]))
        >>> rows.tolist(), weights.tolist()
        ([5, 6, 5, 6], [2.0, 2.0, 0.0, 0.0])
    """
    num_rows = len(arrays[0])
    filled = num_rows + -num_rows % multiple
    weights = np.zeros(filled, np.float32)
    weights[:num_rows] = filled / num_rows
    rows = np.arange(filled) % num_rows
    return (*(array[rows] for array in arrays), weights)
