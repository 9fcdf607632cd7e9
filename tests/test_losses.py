"""Losses against the figures of the papers' codes, loops, and each other."""

import json

import keras
import numpy as np
import pytest

from imetlib.decisions.fbeta import fbeta_samples
from imetlib.profiles import get_profile
from imetlib.training.losses import (
    LOSSES,
    AsymmetricLoss,
    CorrectLabels,
    HillLoss,
    SoftFBetaLoss,
    SPLCLoss,
)

X = np.array([[2, -1, 0.5, -3], [0, 4, -2, 1]], np.float32)
Y = np.array([[1, 0, 0, 1], [0, 1, 0, 0]], np.float32)


def value(loss, y=Y, x=X):
    return float(loss(y, x))


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


@pytest.mark.parametrize(
    ("loss", "total"),
    [
        (AsymmetricLoss(), 3.281660),
        (AsymmetricLoss(4, 0, 0.05), 3.555863),
        (AsymmetricLoss(2, 0, 0), 4.470694),
        (AsymmetricLoss(0, 0, 0), 6.614341),
        (keras.losses.BinaryCrossentropy(from_logits=True), 6.614341),
        (AsymmetricLoss(4, 0, 0.05, detach_weights=True), 3.555863),
        (HillLoss(), 5.007303),
        (SPLCLoss(), 5.174703),
    ],
)
def test_sums_of_the_reference_codes(loss, total):
    # The papers sum over batch and classes; here is the mean over both, as Keras has it.
    assert value(loss) * X.size == pytest.approx(total, abs=1e-5)


def test_splc_takes_two_sure_predictions_for_labels():
    loss = SPLCLoss()
    loss.correcting = True
    assert value(loss) * X.size == pytest.approx(4.185653, abs=1e-5)
    corrected = Y.copy()
    corrected[0, 2] = corrected[1, 3] = 1
    by_hand = 0.0
    for x, y, given in zip(X.ravel(), corrected.ravel(), Y.ravel(), strict=True):
        p = sigmoid(x - given)
        by_hand -= (1 - p) ** 2 * np.log(p) if y else p**2 * np.log(1 - p)
    assert value(loss) * X.size == pytest.approx(by_hand, abs=1e-5)


def test_default_loss_is_on_the_scale_of_keras_whatever_the_shape():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 9)), rng.integers(0, 2, (5, 9)).astype("float32")
    bce = keras.losses.BinaryCrossentropy(from_logits=True)
    weights = rng.uniform(size=5)
    assert value(AsymmetricLoss(0, 0, 0), y, x) == pytest.approx(value(bce, y, x), rel=1e-5)
    assert float(AsymmetricLoss(0, 0, 0)(y, x, weights)) == pytest.approx(
        float(bce(y, x, weights)), rel=1e-5
    )
    total = AsymmetricLoss(0, 0, 0, reduction="sum")
    assert value(total, y, x) == pytest.approx(5 * value(bce, y, x), rel=1e-5)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_soft_fbeta_of_sure_probabilities_is_fbeta(beta):
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.integers(0, 2, (2, 20, 6)).astype(bool)
    y_true[:, 0] = True
    soft = value(SoftFBetaLoss(beta), y_true.astype("float32"), np.where(y_pred, 30.0, -30.0))
    assert 1 - soft == pytest.approx(fbeta_samples(y_true, y_pred, beta=beta), abs=1e-5)


def test_soft_f2_by_hand():
    p = sigmoid(X)
    rows = [5 * (y * q).sum() / (4 * y.sum() + q.sum()) for y, q in zip(Y, p, strict=True)]
    assert value(SoftFBetaLoss()) == pytest.approx(1 - np.mean(rows), abs=1e-6)
    assert value(SoftFBetaLoss(), np.zeros_like(Y)) == pytest.approx(1)


@pytest.mark.parametrize("name", ["asl", "hill", "splc"])
def test_mixed_labels_cost_their_shares(name):
    loss = LOSSES[name]()
    if name == "splc":
        loss.correcting = True
    shares = 0.3 * value(loss, Y) + 0.7 * value(loss, 1 - Y)
    assert value(loss, 0.3 * Y + 0.7 * (1 - Y)) == pytest.approx(shares, rel=1e-5)


def gradients(loss, x, y):
    """Gradient of a loss by the logits on any backend: of SGD's step on a bias."""
    inputs = keras.Input(x.shape[1:])
    bias = keras.layers.EinsumDense("bc,c->bc", x.shape[1:], bias_axes="c", name="bias")
    model = keras.Model(inputs, bias(inputs))
    model.compile(keras.optimizers.SGD(1.0), loss)
    rows = []
    for row, labels in zip(x, y, strict=True):
        bias.set_weights([np.ones(x.shape[1]), np.zeros(x.shape[1])])
        model.train_on_batch(row[None], labels[None])
        rows.append(-bias.get_weights()[1])
    return np.array(rows)


@pytest.mark.parametrize(
    "loss", [LOSSES[name]() for name in LOSSES] + [AsymmetricLoss(2, 0, 0)], ids=lambda x: x.name
)
def test_values_and_gradients_are_finite_at_any_logit(loss):
    sides = np.array([-6e4, -90.0, -17.0, 0.0, 17.0, 90.0, 6e4], np.float32)
    x = np.stack([sides, sides])
    y = np.stack([np.zeros(7), np.ones(7)]).astype("float32")
    assert np.isfinite(value(loss, y, x))
    assert np.isfinite(gradients(loss, x, y)).all()


def test_gradients_against_differences():
    for loss in (AsymmetricLoss(), HillLoss(), SPLCLoss(), SoftFBetaLoss()):
        found = gradients(loss, X, Y)
        for row in range(2):
            for k in range(4):
                step = np.zeros((1, 4), np.float32)
                step[0, k] = 1e-2
                up, down = (value(loss, Y[row : row + 1], X[row] + s) for s in (step, -step))
                assert found[row, k] == pytest.approx((up - down) / 2e-2, abs=1e-4)


def test_detached_weights_leave_the_slope_of_the_logarithm():
    p = sigmoid(X)
    shifted = np.maximum(p - 0.05, 0)
    slope = np.where(
        Y == 1,
        -((1 - p) ** 1) * (1 - p),
        shifted**4 * p * (1 - p) / (1 - shifted) * (shifted > 0),
    )
    found = gradients(AsymmetricLoss(detach_weights=True), X, Y)
    np.testing.assert_allclose(found, slope / 4, atol=1e-5)
    assert np.abs(found - gradients(AsymmetricLoss(), X, Y)).max() > 0.01


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_saved_with_their_settings(name, tmp_path):
    settings = {
        "asl": {"gamma_negative": 2.0, "gamma_positive": 0.0, "margin": 0.1},
        "soft_f2": {"beta": 1.0},
        "hill": {"scale": 1.4, "margin": 0.5},
        "splc": {"threshold": 0.7, "margin": 0.5},
    }.get(name, {})
    loss = LOSSES[name](**settings)
    again = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(loss))))
    assert type(again) is type(loss) and value(again) == value(loss)
    assert value(loss) != value(LOSSES[name]()) or not settings
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    model.compile("sgd", loss)
    model.train_on_batch(X, Y)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(X, Y, verbose=0) == pytest.approx(model.evaluate(X, Y, verbose=0))


def test_settings_out_of_their_range():
    with pytest.raises(ValueError, match=r"`gamma_negative` must be 0, or 1 .*gamma_negative=0.5"):
        AsymmetricLoss(0.5)
    with pytest.raises(ValueError, match=r"`gamma_positive` must be 0, or 1 .*gamma_positive=-1"):
        AsymmetricLoss(gamma_positive=-1)
    with pytest.raises(ValueError, match=r"`margin` must be from 0 to below 1.*margin=1"):
        AsymmetricLoss(margin=1)
    with pytest.raises(ValueError, match=r"`beta` must be positive.*beta=0"):
        SoftFBetaLoss(0)


def test_profiles_know_these_losses():
    for name in LOSSES:
        assert get_profile("fast", loss=name).loss == name
    with pytest.raises(ValueError, match=f"`loss` must be one of {', '.join(LOSSES)}"):
        get_profile("fast", loss="mse")


# Correction from an epoch on ------------------------------------------------------------------


class Losses(keras.callbacks.Callback):
    """Sum of each epoch's loss, of a model that does not learn."""

    def __init__(self):
        super().__init__()
        self.sums = {}

    def on_epoch_end(self, epoch, logs=None):
        self.sums[epoch] = logs["loss"] * X.size


@pytest.fixture(scope="module")
def identity():
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(4, kernel_initializer="identity")
    return keras.Model(inputs, dense(inputs))


# On torch this is another compiler, which warns of its own past.
XLA = keras.backend.backend() != "torch"


@pytest.mark.parametrize("jit_compile", [False, XLA])
def test_labels_are_corrected_from_the_second_epoch_on(identity, jit_compile):
    given, corrected = pytest.approx(5.174703, abs=1e-5), pytest.approx(4.185653, abs=1e-5)
    loss = SPLCLoss()
    identity.compile(keras.optimizers.SGD(0.0), loss, jit_compile=jit_compile)

    def fit(first, last):
        watcher = Losses()
        identity.fit(
            X,
            Y,
            batch_size=2,
            initial_epoch=first,
            epochs=last,
            verbose=0,
            callbacks=[CorrectLabels(loss), watcher],
        )
        return watcher.sums

    assert fit(0, 3) == {0: given, 1: corrected, 2: corrected}
    assert fit(3, 4) == {3: corrected}
    assert fit(0, 1) == {0: given}, "another training begins with the labels as they are"
    assert fit(2, 3) == {2: corrected}, "so does one that goes on"


def test_without_the_callback_labels_stay(identity):
    identity.compile(keras.optimizers.SGD(0.0), SPLCLoss())
    watcher = Losses()
    identity.fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=[watcher])
    assert watcher.sums[1] == pytest.approx(5.174703, abs=1e-5)
