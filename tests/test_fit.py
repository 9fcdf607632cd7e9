"""Training: what is logged, what is kept, and that each setting does what its name says."""

import csv
import dataclasses
import math
import threading

import keras
import numpy as np
import pytest

from imetlib.collection.batches import Batches
from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.thresholds import crossfit_threshold, search_threshold
from imetlib.models.backbones import build_backbone
from imetlib.models.heads import attach_head, freeze
from imetlib.profiles import get_profile
from imetlib.scores import Scores
from imetlib.training import metrics, optimizers
from imetlib.training.fit import preprocessing_of, train_network
from imetlib.training.metrics import EpochScores, split_halves
from imetlib.training.optimizers import StopOnNaN, compile_model, steps_in_one_call
from imetlib.training.predict import predict_scores


@pytest.fixture
def rows(prepared):
    """Few rows, so that a fit takes a second: 40 to learn from, 33 to score."""
    return prepared.rows_of_folds(0)[:40], prepared.rows_of_folds(1)[:33]


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def score_by_hand(model, prepared, val_rows):
    ids = prepared.collection.train.ids[val_rows]
    names = prepared.collection.class_names
    preprocessing = preprocessing_of(prepared.profile)
    # Another batch size, and a short last batch: the figure must not depend on them.
    return predict_scores(
        model,
        prepared.train_pictures,
        ids,
        preprocessing,
        names,
        mirror_view=False,
        batch_size=7,
    )


def test_logged_f2_is_the_f2_of_the_saved_scores(prepared, rows, tmp_path, monkeypatch):
    train_rows, val_rows = rows
    asked = []
    original = Batches.__getitem__
    monkeypatch.setattr(
        Batches,
        "__getitem__",
        lambda self, index: (
            asked.append((self.shuffle, self.epoch, index)) or original(self, index)
        ),
    )
    profile = dataclasses.replace(prepared.profile, epochs=2, batch_size=12)
    trained = train_network(profile, prepared, train_rows, val_rows, tmp_path, seed=3)
    history, timing = (read_rows(tmp_path / name) for name in ("history.csv", "timing.csv"))
    assert list(history[0]) == [
        "epoch", "loss", "val_loss", "val_f2", "threshold", "learning_rate",
    ]  # fmt: skip
    # Times stand by themselves: the history must repeat byte for byte.
    assert list(timing[0]) == ["epoch", "train_seconds", "seconds"]
    assert [row["epoch"] for row in history] == ["0", "1", "2"]
    assert [row["epoch"] for row in timing] == ["0", "1", "2"]
    assert all(0 <= float(row["train_seconds"]) <= float(row["seconds"]) for row in timing)
    best = trained.history[trained.best_epoch]
    assert best["val_f2"] == max(row["val_f2"] for row in trained.history)
    assert float(history[trained.best_epoch]["val_f2"]) == best["val_f2"]

    again = score_by_hand(trained.model, prepared, val_rows)
    np.testing.assert_allclose(again.logits, trained.val_scores.logits, atol=1e-4)
    assert again.ids.tolist() == prepared.collection.train.ids[val_rows].tolist()
    y_true = prepared.collection.train.dense(val_rows)
    halves = split_halves(prepared.collection, val_rows, 3)
    crossfit = crossfit_threshold(y_true, again.y_prob, halves)
    assert best["val_f2"] == pytest.approx(crossfit.score, abs=1e-5)
    assert best["val_f2"] == pytest.approx(fbeta_samples(y_true, crossfit.y_pred), abs=1e-5)
    found = search_threshold(y_true, again.y_prob)
    assert best["threshold"] == pytest.approx(found.threshold, abs=1e-4)
    # Keras takes the batches in their order (the first reads only look at shapes).
    taken = [(epoch, index) for shuffled, epoch, index in asked if shuffled]
    # The last four are read after training, to see how fast batches alone are.
    assert taken[-12:-4] == [(epoch, index) for epoch in (0, 1) for index in range(4)]
    assert trained.input_rate > 0
    fastest = min(float(row["train_seconds"]) for row in timing[1:])
    assert trained.training_rate == pytest.approx(len(train_rows) / fastest)


def test_halves_hold_whole_specimens(prepared):
    val_rows = prepared.rows_of_folds(1)
    halves = split_halves(prepared.collection, val_rows, 0)
    specimens = prepared.collection.specimens[val_rows]
    assert set(halves) == {0, 1}
    for number in np.unique(specimens):
        assert len(set(halves[specimens == number])) == 1


def test_rows_in_training_and_validation_are_refused(prepared, tmp_path):
    first = prepared.collection.train.ids[20]
    with pytest.raises(
        ValueError, match=f"10 rows are in training and in validation, first {first}"
    ):
        train_network(
            prepared.profile, prepared, np.arange(30), np.arange(20, 50), tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


class Written:
    """A network that always says the same."""

    def __init__(self, logits):
        self.logits = logits
        self.saved = 0
        self.optimizer = None

    def save_weights(self, path):
        self.saved += 1
        path.write_text(str(self.saved))


def test_the_best_epoch_is_kept_and_numbers_that_are_none_never_win(tmp_path, monkeypatch):
    """A last epoch that is worse, and one that diverged, change nothing."""
    monkeypatch.setattr(metrics, "weights_only", lambda model: model)
    y_true = np.eye(4, dtype=bool)[np.arange(12) % 4]
    good = np.where(y_true, 3.0, -3.0).astype(np.float32)
    qualities = {0: -good, 1: good, 2: good * np.nan, 3: -good}
    ids = np.array([f"{row}" for row in range(12)], object)
    model = Written(None)
    watcher = EpochScores(
        model,
        lambda model: Scores(ids, model.logits, tuple("abcd")),
        y_true,
        np.arange(12) % 2,
        tmp_path / "best.weights.h5",
        verbose=0,
    )
    for epoch, logits in qualities.items():
        model.logits = logits
        watcher.record(epoch, {"loss": 1.0})
    assert watcher.best["epoch"] == 1 and watcher.best["val_f2"] == 1.0
    assert model.saved == 2 and (tmp_path / "best.weights.h5").read_text() == "2"
    assert math.isnan(watcher.history[2]["val_f2"])
    np.testing.assert_array_equal(watcher.best_scores.logits, good)


def test_only_numbers_that_are_none_are_forgiven(tmp_path):
    def score(model):
        raise ValueError("no such id")

    halves = np.array([0, 1])
    watcher = EpochScores(Written(None), score, np.eye(2, dtype=bool), halves, tmp_path / "w", 0)
    with pytest.raises(ValueError, match="no such id"):
        watcher.record(0, {})


def test_weights_in_use_are_the_best_epochs_after_a_ruined_one(
    prepared, rows, tmp_path, monkeypatch
):
    original = EpochScores.on_epoch_end

    def ruin_the_last(self, epoch, logs=None):
        if epoch == 1:
            logits = self.model.get_layer("logits")
            logits.set_weights([np.zeros_like(weight) for weight in logits.get_weights()])
        original(self, epoch, logs)

    monkeypatch.setattr(EpochScores, "on_epoch_end", ruin_the_last)
    profile = dataclasses.replace(prepared.profile, epochs=2, batch_size=20)
    trained = train_network(profile, prepared, *rows, tmp_path)
    assert len(trained.history) == 3 and trained.best_epoch < 2
    assert np.abs(trained.model.get_layer("logits").get_weights()[0]).max() > 0
    again = score_by_hand(trained.model, prepared, rows[1])
    np.testing.assert_allclose(again.logits, trained.val_scores.logits, atol=1e-4)


def test_a_rate_that_is_far_too_large_leaves_the_start(prepared, rows, tmp_path):
    """Diverged epochs end in NaN: what is scored and kept is finite."""
    profile = dataclasses.replace(
        prepared.profile, epochs=2, batch_size=20, learning_rate=1e30, weight_decay=0.0
    )
    trained = train_network(profile, prepared, *rows, tmp_path)
    assert trained.best_epoch == 0
    assert np.isfinite(trained.val_scores.logits).all()
    assert all(np.isfinite(weight).all() for weight in trained.model.get_weights())


# Settings -------------------------------------------------------------------------------------


def train_dense(profile, steps):
    """A dense layer after some batches of 8, whether it changed, and the losses."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="ones")(inputs))
    compile_model(model, profile, updates=10)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 4)), rng.integers(0, 2, (8, 3)).astype("float32")
    losses = [float(model.train_on_batch(x, y)) for _ in range(steps)]
    return model, not np.array_equal(model.get_weights()[0], np.ones((4, 3))), losses


def test_accumulation_updates_once_in_so_many_batches(tiny_profile):
    profile = dataclasses.replace(tiny_profile, accumulation=2)
    assert not train_dense(profile, steps=1)[1]
    model, changed, _ = train_dense(profile, steps=2)
    assert changed
    # The schedule is counted in updates.
    assert int(model.optimizer.iterations) == 1


def test_loss_is_cross_entropy_or_focal(tiny_profile):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 4)).sum(axis=1, keepdims=True)
    y = rng.integers(0, 2, (8, 3))
    miss = np.where(y, 1 / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits)))
    _, _, (bce,) = train_dense(tiny_profile, steps=1)
    assert bce == pytest.approx(-np.log(1 - miss).mean(), rel=1e-4)
    _, _, (focal,) = train_dense(dataclasses.replace(tiny_profile, loss="focal"), steps=1)
    assert focal == pytest.approx(-(miss**2 * np.log(1 - miss)).mean(), rel=1e-4)


def test_warm_up_and_cosine_reach_their_rates(tiny_profile):
    profile = dataclasses.replace(tiny_profile, learning_rate=1e-2, warmup_fraction=0.2)
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    compile_model(model, profile, updates=100)
    schedule = keras.optimizers.schedules.deserialize(model.optimizer.get_config()["learning_rate"])
    rates = np.array([float(schedule(step)) for step in range(101)])
    assert rates.argmax() == 20 and rates.max() == pytest.approx(1e-2, rel=1e-5)
    assert (np.diff(rates[:21]) > 0).all() and (np.diff(rates[20:]) < 0).all()
    assert rates[0] < 2e-4 and rates[100] < 2e-4


def test_weights_decay_but_not_biases_and_normalisation(tiny_profile):
    profile = dataclasses.replace(tiny_profile, weight_decay=0.5)
    inputs = keras.Input((2,))
    x = keras.layers.BatchNormalization(name="norm")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, bias_initializer="ones", name="out")(x))
    compile_model(model, profile, updates=10)
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    decays = {w.path: optimizer._use_weight_decay(w) for w in model.trainable_variables}
    assert decays == {
        "norm/gamma": False,
        "norm/beta": False,
        "out/kernel": True,
        "out/bias": False,
    }


def test_a_run_with_every_option(prepared, rows, tmp_path):
    """EMA, accumulation, focal, MixUp, mirror view, a frozen beginning, frozen statistics."""
    profile = dataclasses.replace(
        prepared.profile,
        epochs=2,
        batch_size=10,
        accumulation=2,
        loss="focal",
        ema=0.5,
        trainable_from="stage4_conv1",
        batch_norm="frozen",
        mixup=0.2,
        mirror_view=True,
        dropout=0.1,
    )
    trained = train_network(profile, prepared, *rows, tmp_path)
    model = trained.model
    assert trained.trainable_params == sum(
        math.prod(weight.shape)
        for layer in model.layers
        if layer.name in ("stage4_conv1", "stage4_conv2", "logits")
        for weight in layer.weights
    )
    norm = model.get_layer("stage4_conv2_bn")
    np.testing.assert_array_equal(norm.moving_mean, np.zeros(192))
    assert trained.history[1]["learning_rate"] > 0


def test_the_mean_of_the_weights_is_what_is_scored(prepared, rows, tmp_path):
    """With a momentum near one it stays at the start, wherever training goes."""
    profile = dataclasses.replace(
        prepared.profile,
        epochs=1,
        batch_size=10,
        ema=0.9999,
        learning_rate=1e-2,
        batch_norm="frozen",
    )
    trained = train_network(profile, prepared, *rows, tmp_path)
    start, end = trained.history
    assert end["loss"] < 0.8 * start["val_loss"]
    assert end["val_loss"] == pytest.approx(start["val_loss"], rel=0.02)


def test_zero_epochs_leave_the_start(prepared, rows, tmp_path):
    trained = train_network(
        dataclasses.replace(prepared.profile, epochs=0), prepared, *rows, tmp_path
    )
    assert trained.best_epoch == 0 and len(trained.history) == 1
    num_classes = prepared.collection.num_classes
    assert trained.trainable_params == 384 * num_classes + num_classes
    assert trained.training_rate is None and trained.input_rate > 0


def test_an_unknown_layer_is_refused_before_anything_is_trained(prepared, rows, tmp_path):
    with pytest.raises(ValueError, match="`trainable_from` must be"):
        train_network(
            dataclasses.replace(prepared.profile, trainable_from="block9"),
            prepared,
            *rows,
            tmp_path,
        )
    assert not list(tmp_path.iterdir())


# Progressive sizes ----------------------------------------------------------------------------


def test_first_epochs_see_small_pictures_and_the_scores_are_of_full_ones(
    prepared, rows, tmp_path, monkeypatch
):
    train_rows, val_rows = rows
    stages, scored = [], set()
    original, fit = Batches.__getitem__, keras.Model.fit

    def read(self, index):
        batch = original(self, index)
        images = batch[0] if isinstance(batch, tuple) else batch
        if not self.shuffle:
            scored.add(images.shape[1:])
        elif stages:
            stages[-1][1].append((self.epoch, index, images.shape[1:]))
        return batch

    def watch_fit(self, batches, **settings):
        stages.append(((settings["initial_epoch"], settings["epochs"], batches.epoch), []))
        return fit(self, batches, **settings)

    monkeypatch.setattr(Batches, "__getitem__", read)
    monkeypatch.setattr(keras.Model, "fit", watch_fit)
    small, full = (32, 32, 3), (64, 48, 3)
    profile = dataclasses.replace(
        prepared.profile, image_shape=full, epochs=2, small_epochs=1, small_scale=0.5, batch_size=20
    )
    assert profile.small_shape() == small
    trained = train_network(profile, prepared, train_rows, val_rows, tmp_path)
    monkeypatch.undo()
    (first, small_reads), (second, full_reads) = stages
    assert first == (0, 1, 0) and second == (1, 2, 1)
    # Keras reads a batch ahead; the very last reads, after `fit`, are of the small size again.
    assert {shape for *_, shape in small_reads} == {small}
    assert {shape for *_, shape in full_reads[:-2]} == {full}
    assert {read[:2] for read in small_reads} >= {(0, 0), (0, 1)}
    assert {read[:2] for read in full_reads} >= {(1, 0), (1, 1)}
    # Scoring: always at the full size, from epoch 0 on.
    assert scored == {full}
    again = score_by_hand_at(full, trained.model, prepared, val_rows)
    np.testing.assert_allclose(again.logits, trained.val_scores.logits, atol=1e-4)
    # One schedule over both sizes: updates go on where the small epochs ended.
    rates = [row["learning_rate"] for row in trained.history[1:]]
    assert rates[0] > rates[1] and len(trained.history) == 3


def score_by_hand_at(shape, model, prepared, val_rows):
    profile = dataclasses.replace(prepared.profile, image_shape=shape)
    return score_by_hand(model, dataclasses.replace(prepared, profile=profile), val_rows)


def test_small_pictures_that_are_too_small_are_refused_before_any_work(prepared, rows, tmp_path):
    profile = dataclasses.replace(
        prepared.profile, backbone="xception", image_shape=(96, 96, 3), epochs=2, small_epochs=1
    )
    with pytest.raises(ValueError, match=r"at least 71 x 71 pixels.*\(64, 64, 3\)"):
        train_network(profile, prepared, *rows, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Late layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "last_frozen", "first"),
    [
        ("small_convnet", "stage3_conv2_relu", "stage4_conv1"),
        ("mobilenet_v2", "block_6_expand_relu", "block_6_pad"),
    ],
)
def test_late_layers_are_those_after_the_map_of_stride_8(name, last_frozen, first):
    model = attach_head(build_backbone(name, (64, 64, 3)), 5)
    freeze(model, "late")
    learning = [layer.name for layer in model.layers if layer.trainable]
    frozen = [layer.name for layer in model.layers if not layer.trainable]
    assert learning[0] == first and frozen[-1] == last_frozen
    assert [*frozen, *learning] == [layer.name for layer in model.layers]
    assert model.get_layer(last_frozen).output.shape[1:3] == (8, 8)


def test_late_layers_of_an_unknown_model_are_not_guessed():
    inputs = keras.Input((32, 32, 3))
    backbone = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs), name="own")
    model = attach_head(backbone, 5)
    with pytest.raises(ValueError, match="stages of own are late is not known"):
        freeze(model, "late")


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="tensorflow reads the loss after every call"
)
def test_the_end_of_a_step_is_not_waited_for():
    """Keras reads the loss in a thread of its own where every callback allows it."""
    names = []

    class Names(keras.callbacks.Callback):
        async_safe = True

        def on_train_batch_end(self, batch, logs=None):
            names.append(threading.current_thread().name)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    zeros = np.zeros((8, 2), np.float32), np.zeros((8, 1), np.float32)
    model.fit(*zeros, batch_size=2, verbose=0, callbacks=[StopOnNaN(), Names()])
    assert len(names) == 4 and threading.current_thread().name not in names


def test_a_loss_that_is_no_number_ends_training():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    inputs = np.full((512, 2), np.nan, np.float32)
    history = model.fit(
        inputs, inputs[:, :1], batch_size=1, epochs=3, verbose=0, callbacks=[StopOnNaN()]
    ).history
    assert len(history["loss"]) == 1 and not math.isfinite(history["loss"][0])


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="steps in one call are for tensorflow"
)
@pytest.mark.parametrize("changes", [{}, {"accumulation": 3}, {"ema": 0.5}])
def test_steps_in_one_call_are_the_same_steps(prepared, rows, tmp_path, monkeypatch, changes):
    """With 3 steps a call and 5 an epoch, so that the last call of an epoch is a short one."""
    profile = dataclasses.replace(prepared.profile, epochs=2, batch_size=8, **changes)
    found = []
    for count in (1, 3):
        monkeypatch.setattr(optimizers, "steps_in_one_call", lambda count=count: count)
        trained = train_network(profile, prepared, *rows, tmp_path / str(count))
        found.append((trained.history, trained.val_scores.logits))
    # As text: the loss of epoch 0 is no number, which equals nothing.
    assert str(found[0][0]) == str(found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_steps_in_one_call_by_device(monkeypatch):
    monkeypatch.setattr(optimizers, "accelerator_names", lambda: None)
    assert steps_in_one_call() == 1
    monkeypatch.setattr(optimizers, "accelerator_names", lambda: "Tesla T4, Tesla T4")
    assert steps_in_one_call() == (8 if keras.backend.backend() == "tensorflow" else 1)
    profile = get_profile("fast")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    compile_model(model, profile, 10)
    assert model.steps_per_execution == steps_in_one_call()
    compile_model(model, profile, None)
    assert model.steps_per_execution == 1, "a time budget looks at every step"
    monkeypatch.setattr(optimizers, "num_replicas", lambda: 2)
    assert steps_in_one_call() == 1


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_learns_as_float32_does(prepared, rows, tmp_path, precision):
    """With all that an update can have; the scores of a short training are those of float32."""
    profile = dataclasses.replace(prepared.profile, epochs=2, ema=0.5, accumulation=2)
    found = [
        train_network(
            dataclasses.replace(profile, precision=name), prepared, *rows, tmp_path / name
        )
        for name in ("float32", precision)
    ]
    losses = [[row["val_loss"] for row in trained.history[1:]] for trained in found]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert not found[1].diverged_at
    layers = [x.compute_dtype for x in found[1].model.layers if "conv" in x.name]
    assert layers and set(layers) == {precision.removeprefix("mixed_")}
    assert {weight.dtype for weight in found[1].model.trainable_weights} == {"float32"}
