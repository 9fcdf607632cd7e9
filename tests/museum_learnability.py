"""What colour alone and what a small network learn of the pocket museum (helper, and a script).

python tests/museum_learnability.py --train 1000 --val 400 --seconds 60
"""

import argparse
import contextlib
import time

import cv2
import numpy as np

from imetlib.collection.museum import CLASS_NAMES, draw_picture, picture_spec


def drawn(start, stop, *, seed=0, image_size=64):
    """Pictures `(n, 64, 64, 3)` uint8, squashed, and labels `(n, num_classes)` bool."""
    pictures = np.empty((stop - start, image_size, image_size, 3), np.uint8)
    labels = np.zeros((stop - start, len(CLASS_NAMES)), bool)
    for row, index in enumerate(range(start, stop)):
        spec = picture_spec(seed, index)
        picture = draw_picture(spec, image_size)
        if picture.ndim == 2:
            picture = cv2.merge([picture] * 3)
        pictures[row] = cv2.resize(picture, (image_size, image_size), interpolation=cv2.INTER_AREA)
        labels[row, spec.labels] = True
    return pictures, labels


def fbeta(y_true, y_pred):
    """Mean per-sample F2."""
    hits = (y_true & y_pred).sum(axis=1)
    return float(np.mean(5 * hits / (4 * y_true.sum(axis=1) + y_pred.sum(axis=1))))


def constant_score(y_train, y_val):
    """F2 of the best constant answer, its length chosen on the rows it is scored on."""
    order = np.argsort(-y_train.sum(axis=0), kind="stable")
    scores = []
    for length in range(1, 13):
        answer = np.zeros(y_train.shape[1], bool)
        answer[order[:length]] = True
        scores.append(fbeta(y_val, np.broadcast_to(answer, y_val.shape)))
    return max(scores)


def threshold_score(y_true, y_prob):
    """F2 at the best threshold, at least one label a picture."""
    top = y_prob >= y_prob.max(axis=1, keepdims=True)
    return max(fbeta(y_true, (y_prob > t) | top) for t in np.unique(np.quantile(
        y_prob, np.linspace(0.85, 0.999, 120))))  # fmt: skip


def histogram_score(x_train, y_train, x_val, y_val):
    """F2 of the best colour-histogram nearest neighbours: 1 to 50, distances L1 or Hellinger."""

    def histograms(pictures):
        codes = (pictures >> 5).astype(np.int32)
        codes = (codes[..., 0] * 64 + codes[..., 1] * 8 + codes[..., 2]).reshape(len(pictures), -1)
        return np.stack([np.bincount(row, minlength=512) for row in codes]) / codes.shape[1]

    train, val = histograms(x_train), histograms(x_val)
    distances = [
        np.stack([np.abs(train - row).sum(axis=1) for row in val]),
        -np.sqrt(val) @ np.sqrt(train).T,
    ]
    scores = []
    for distance in distances:
        order = np.argsort(distance, axis=1, kind="stable")
        for neighbours in (1, 5, 15, 50):
            y_prob = y_train[order[:, :neighbours]].mean(axis=1)
            scores.append(threshold_score(y_val, y_prob))
    return max(scores)


def network_score(x_train, y_train, x_val, y_val, *, core_seconds=120.0, batch_size=32):
    """F2 of a network of four convolutions, and the epochs it had.

    The time is counted in seconds of one core, so that a busy machine gives the same number.
    """
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input(x_train.shape[1:], dtype="uint8")
    x = keras.layers.Rescaling(1 / 64, offset=-2)(inputs)
    for filters in (32, 64, 128, 256):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Concatenate()(
        [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]
    )
    x = keras.layers.Dropout(0.3)(x)
    prior = np.log((y_train.mean(axis=0) + 1e-3) / (1 - y_train.mean(axis=0)))
    outputs = keras.layers.Dense(
        y_train.shape[1], activation="sigmoid", bias_initializer=keras.initializers.Constant(0)
    )(x)
    model = keras.Model(inputs, outputs)
    model.layers[-1].bias.assign(prior)
    model.compile(keras.optimizers.AdamW(2e-3, weight_decay=1e-3), "binary_crossentropy")

    class Clock(keras.callbacks.Callback):
        """Cosine over the time allowed, then stop."""

        batches = 0

        def on_train_batch_begin(self, batch, logs=None):
            self.batches += 1
            if self.batches == 2:
                self.start = time.process_time()
            done = 0 if self.batches < 2 else (time.process_time() - self.start) / core_seconds
            rate = 1e-3 * (1 + np.cos(np.pi * min(done, 1.0))) + 1e-6
            self.model.optimizer.learning_rate.assign(rate)
            self.model.stop_training = done >= 1

        def on_train_batch_end(self, batch, logs=None):
            if self.model.stop_training:
                raise StopIteration

    clock = Clock()
    with contextlib.suppress(StopIteration):
        model.fit(x_train, y_train.astype("float32"), batch_size=batch_size, epochs=10_000,
                  verbose=0, callbacks=[clock])  # fmt: skip
    y_prob = model.predict(x_val, batch_size=128, verbose=0)
    return threshold_score(y_val, y_prob), clock.batches * batch_size / len(x_train)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=int, default=1_000)
    parser.add_argument("--val", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    begin = 200
    x, y = drawn(begin, begin + arguments.train + arguments.val)
    split = arguments.train
    data = x[:split], y[:split], x[split:], y[split:]
    constant = constant_score(y[:split], y[split:])
    colour = histogram_score(*data)
    print(f"constant {constant:.3f}  colour {colour:.3f} (+{colour - constant:.3f})", flush=True)
    network, epochs = network_score(*data, core_seconds=2 * arguments.seconds)
    print(f"network {network:.3f} (+{network - constant:.3f}), {epochs:.1f} epochs")
