"""Heads: by hand in NumPy, counts of the reference, and what each must do in training."""

import dataclasses

import keras
import numpy as np
import pytest

from imetlib.models.backbones import build_backbone
from imetlib.models.class_residual_attention import class_residual_attention_logits
from imetlib.models.costs import count_macs
from imetlib.models.heads import (
    HEADS,
    POOLED_HEADS,
    attach_head,
    freeze,
    pooled_features,
    start_head,
)
from imetlib.models.ml_decoder import GroupDense, ml_decoder_logits
from imetlib.profiles import get_profile
from imetlib.training.devices import dtype_policy
from imetlib.training.fit import train_network


def map_of(channels, height=4, width=3):
    return keras.Input((height, width, channels))


def value_of(tensor):
    return keras.ops.convert_to_numpy(tensor)


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def small_classifier(num_classes=5, **settings):
    return attach_head(build_backbone("small_convnet", (32, 32, 3)), num_classes, **settings)


def test_head_starts_at_the_log_odds_of_the_frequencies():
    frequency = np.array([0.5, 0.1, 0.01, 0.9, 0.2])
    model = small_classifier(class_frequency=frequency)
    bias = model.get_layer("logits").get_weights()[1]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), frequency, atol=1e-6)
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        small_classifier(class_frequency=frequency[:3])


def test_started_head_is_the_linear_map_of_the_pooled_features():
    model = small_classifier(dropout=0.5)
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(384, 5)).astype("float32"), rng.normal(size=5)
    start_head(model, kernel, bias.astype("float32"))
    pictures = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    pooled = np.asarray(pooled_features(model).predict_on_batch(pictures))
    np.testing.assert_allclose(
        np.asarray(model.predict_on_batch(pictures)), pooled @ kernel + bias, rtol=1e-3, atol=1e-4
    )


def test_freeze_by_name_and_frozen_statistics_stay():
    model = small_classifier()
    freeze(model, "stage3_conv1")
    assert not model.get_layer("stage2_conv2").trainable
    assert model.get_layer("stage3_conv1").trainable
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    before = model.get_layer("stage2_conv2_bn").get_weights()
    moving = model.get_layer("stage4_conv2_bn").get_weights()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    model.train_on_batch(pictures, rng.integers(0, 2, (8, 5)).astype("float32"))
    for old, new in zip(before, model.get_layer("stage2_conv2_bn").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(moving[2], model.get_layer("stage4_conv2_bn").get_weights()[2])
    freeze(model, "head")
    assert len(model.trainable_weights) == 2
    with pytest.raises(ValueError, match="name of a layer"):
        freeze(model, "stage9")


def test_loss_in_training_and_inference_mode_agree_after_a_short_fit():
    """Keras's own momentum of .99 fails this by far: stale statistics for hundreds of steps."""
    keras.utils.set_random_seed(0)
    model = small_classifier(num_classes=3)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (32, 3)).astype("float32")
    pictures = rng.integers(0, 200, (32, 32, 32, 3)).astype("float32")
    pictures = (pictures + 50 * labels[:, None, None, :]).astype("uint8")
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    for _ in range(60):
        model.train_on_batch(pictures, labels)
    training = value_of(loss(labels, model(pictures, training=True)))
    inference = value_of(loss(labels, model(pictures, training=False)))
    assert abs(training - inference) < 0.05
    assert training < 0.4


def test_classifier_takes_any_map_and_refuses_what_is_none():
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(inputs))
    own = keras.Model(inputs, x, name="own")
    assert attach_head(own, 4).output.shape == (None, 4)
    flat = keras.Model(inputs, keras.layers.Flatten()(x))
    with pytest.raises(ValueError, match="one feature map"):
        attach_head(flat, 4)


def test_half_precision_keeps_float32_logits():
    with dtype_policy("mixed_float16"):
        backbone = build_backbone("small_convnet", (32, 32, 3))
    model = attach_head(backbone, 4)
    assert model.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    out = model.predict_on_batch(np.zeros((2, 32, 32, 3), np.uint8))
    assert np.isfinite(out).all()


# Every head -----------------------------------------------------------------------------------


def tiny_backbone(side=16):
    inputs = keras.Input((side, side, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255, name="scale")(inputs)
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", activation="relu", name="map")(x)
    return keras.Model(inputs, x, name="tiny")


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    return pictures, rng.integers(0, 2, (2, 7)).astype("float32")


@pytest.mark.parametrize("head", ["max", "csra", "ml_decoder"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_step_with_xla_in_mixed_precision(head, policy, batch):
    """The head is built under the policy too, as a user may set it for good."""
    with dtype_policy(policy):
        model = attach_head(tiny_backbone(), 7, head=head)
    assert model.output.dtype == "float32" and model.output.shape == (None, 7)
    # On torch this is another compiler, which warns of its own past.
    jit = policy == "mixed_float16" and keras.backend.backend() != "torch"
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=jit)
    before = model.get_weights()
    loss = float(model.train_on_batch(*batch))
    assert np.isfinite(loss)
    frozen = {id(weight) for weight in model.non_trainable_weights}
    for weight, old in zip(model.weights, before, strict=True):
        if id(weight) not in frozen and weight.path.startswith(("logits", "csra", "ml_decoder")):
            new = value_of(weight)
            assert np.isfinite(new).all()
            # The key bias adds the same to all scores of a query, which changes nothing.
            assert np.any(new != old) or weight.path.endswith("attention/key/bias"), weight.path


@pytest.mark.parametrize("head", HEADS)
def test_saved_and_loaded(head, batch, tmp_path):
    frequency = np.linspace(0.01, 0.5, 7)
    model = attach_head(tiny_backbone(), 7, head=head, dropout=0.1, class_frequency=frequency)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.to_json() == model.to_json()
    np.testing.assert_array_equal(
        again.predict_on_batch(batch[0]), model.predict_on_batch(batch[0])
    )
    model.summary(print_fn=lambda text, **_: None)


@pytest.mark.parametrize("head", HEADS)
def test_an_open_picture_size(head, batch):
    """Pictures that grow in the course of training."""
    open_model = attach_head(tiny_backbone(None), 7, head=head)
    fixed = attach_head(tiny_backbone(), 7, head=head)
    fixed.set_weights(open_model.get_weights())
    np.testing.assert_allclose(
        open_model.predict_on_batch(batch[0]),
        fixed.predict_on_batch(batch[0]),
        rtol=1e-4,
        atol=1e-5,
    )
    assert count_macs(open_model, (16, 16, 3)) == count_macs(fixed)
    assert open_model.predict_on_batch(np.zeros((1, 24, 32, 3), np.uint8)).shape == (1, 7)


@pytest.mark.parametrize("head", HEADS)
def test_logits_beside_any_head_are_added(head, batch):
    backbone = tiny_backbone()
    plain = attach_head(backbone, 7, head=head)
    attention = keras.layers.GlobalMaxPooling2D(name="beside_pooled")(backbone.output)
    attention = keras.layers.Dense(7, name="beside_logits")(attention)
    model = attach_head(backbone, 7, head=head, beside=[attention])
    names = {layer.name for layer in plain.layers}
    for layer in plain.layers:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    assert {layer.name for layer in model.layers} - names == {
        "beside_pooled",
        "beside_logits",
        "summed_logits",
    }
    np.testing.assert_allclose(
        model.predict_on_batch(batch[0]),
        plain.predict_on_batch(batch[0])
        + keras.Model(backbone.input, attention).predict_on_batch(batch[0]),
        rtol=1e-5,
        atol=1e-5,
    )
    freeze(model, "head")
    learning = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert learning and "beside_logits" in learning
    assert not learning & {layer.name for layer in backbone.layers}


@pytest.mark.parametrize("head", HEADS)
def test_first_answers_are_the_frequencies_at_a_map_of_nothing(head):
    frequency = np.array([0.5, 0.1, 0.01, 0.9])
    inputs = map_of(8)
    zero = keras.Model(inputs, keras.layers.Rescaling(0.0)(inputs))
    model = attach_head(zero, 4, head=head, class_frequency=frequency)
    for layer in model.layers:
        if isinstance(layer, GroupDense):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    logits = model.predict_on_batch(np.ones((1, 4, 3, 8)))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[0])), frequency, atol=1e-6)


@pytest.mark.parametrize(("head", "pool"), [("mean", np.mean), ("max", np.max)])
def test_heads_of_one_pooling_start_in_closed_form(head, pool, batch):
    model = attach_head(tiny_backbone(), 7, head=head)
    maps = keras.Model(model.input, model.get_layer("map").output)
    features = maps.predict_on_batch(batch[0])
    wanted = pool(features, axis=(1, 2))
    pooled = pooled_features(model).predict_on_batch(batch[0])
    np.testing.assert_allclose(pooled, wanted, rtol=1e-5, atol=1e-6)
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(8, 7)), rng.normal(size=7)
    start_head(model, kernel, bias)
    np.testing.assert_allclose(
        model.predict_on_batch(batch[0]), wanted @ kernel + bias, rtol=1e-3, atol=1e-4
    )


def test_heads_that_are_not_linear_have_no_closed_form():
    for head in set(HEADS) - set(POOLED_HEADS):
        with pytest.raises(ValueError, match="Only the heads mean_max, mean, max read pooled"):
            pooled_features(attach_head(tiny_backbone(), 3, head=head))


def test_an_unknown_head_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown head 'gap'\. Known: mean_max, .*ml_decoder"):
        attach_head(tiny_backbone(), 3, head="gap")


def test_profiles_know_these_heads():
    for head in HEADS:
        assert get_profile("fast", head=head).head == head
    with pytest.raises(ValueError, match=f"`head` must be one of {', '.join(HEADS)}"):
        get_profile("fast", head="gap")


@pytest.mark.parametrize(("head", "loss"), [("csra", "asl"), ("ml_decoder", "hill")])
def test_a_run_with_another_head_and_loss(head, loss, prepared, tmp_path):
    profile = dataclasses.replace(prepared.profile, head=head, loss=loss, batch_size=20)
    rows, val_rows = prepared.rows_of_folds(0)[:40], prepared.rows_of_folds(1)[:33]
    trained = train_network(profile, prepared, rows, val_rows, tmp_path)
    assert [np.isfinite(row["val_f2"]) for row in trained.history] == [True, True]
    assert any(layer.name.startswith(head) for layer in trained.model.layers)
    assert np.isfinite(trained.history[1]["loss"])


# Class-specific residual attention ------------------------------------------------------------


@pytest.mark.parametrize(("channels", "num_params"), [(1536, 1_694_208), (2048, 2_258_944)])
def test_params_of_csra(channels, num_params):
    inputs = map_of(channels, 2, 2)
    model = keras.Model(inputs, class_residual_attention_logits(inputs, 1103))
    assert model.count_params() == count(model.trainable_weights) == num_params
    assert count_macs(model) == 4 * num_params


def csra_by_hand(features, kernels, temperatures, weight):
    """Position by position and class by class."""
    num_classes = kernels[0].shape[1]
    logits = np.zeros((len(features), num_classes))
    for kernel, temperature in zip(kernels, temperatures, strict=True):
        for row, picture in enumerate(features.astype(np.float64)):
            positions = picture.reshape(-1, picture.shape[-1])
            for k in range(num_classes):
                w = kernel[:, k].astype(np.float64)
                z = np.array([w @ f / np.sqrt(w @ w) for f in positions])
                attention = np.exp(temperature * z) / np.exp(temperature * z).sum()
                attended = z.max() if temperature == 99 else (attention * z).sum()
                logits[row, k] += z.mean() + weight * attended
    return logits


@pytest.mark.parametrize("frequency", [None, np.array([0.5, 0.1, 0.01, 0.9, 0.2])])
@pytest.mark.parametrize("temperatures", [(1,), (99,), (1, 99), (1, 2, 4, 99)])
def test_csra_by_hand(temperatures, frequency):
    inputs = map_of(8)
    logits = class_residual_attention_logits(
        inputs,
        5,
        temperatures=temperatures,
        attention_weight=0.3,
        class_frequency=frequency,
        name="csra",
    )
    model = keras.Model(inputs, logits)
    features = np.random.default_rng(0).normal(size=(2, 4, 3, 8)).astype("float32")
    kernels = [
        model.get_layer(f"csra{number}_scores").get_weights()[0]
        for number in range(1, len(temperatures) + 1)
    ]
    assert keras.Model.from_config(model.get_config()).count_params() == model.count_params()
    bias = 0 if frequency is None else np.log(frequency / (1 - frequency))
    np.testing.assert_allclose(
        model.predict_on_batch(features),
        csra_by_hand(features, kernels, temperatures, 0.3) + bias,
        rtol=1e-5,
        atol=1e-5,
    )


def test_scores_of_csra_at_each_position_can_be_asked_for(batch):
    model = attach_head(tiny_backbone(), 7, head="csra")
    scores = keras.Model(model.input, model.get_layer("csra1_scores").output)
    maps = keras.Model(model.input, model.get_layer("map").output)
    z, features = scores.predict_on_batch(batch[0]), maps.predict_on_batch(batch[0])
    assert z.shape == (2, 4, 4, 7)
    w = model.get_layer("csra1_scores").get_weights()[0][:, 3]
    assert z[1, 0, 1, 3] == pytest.approx(features[1, 0, 1] @ w / np.sqrt(w @ w), abs=1e-5)


def test_large_scores_of_csra_are_finite():
    inputs = map_of(8)
    model = keras.Model(inputs, class_residual_attention_logits(inputs, 5, temperatures=(7,)))
    logits = model.predict_on_batch(np.random.default_rng(0).normal(size=(2, 4, 3, 8)) * 1e4)
    assert np.isfinite(logits).all()


def test_settings_of_csra_that_are_refused():
    inputs = map_of(8)
    with pytest.raises(ValueError, match="`temperatures` must hold one number for each head"):
        class_residual_attention_logits(inputs, 5, temperatures=())
    with pytest.raises(ValueError, match=r"`temperature` must be positive.*temperature=0"):
        class_residual_attention_logits(inputs, 5, temperatures=(1, 0))
    with pytest.raises(ValueError, match=r"must not be negative.*attention_weight=-1"):
        class_residual_attention_logits(inputs, 5, attention_weight=-1)
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        class_residual_attention_logits(inputs, 5, class_frequency=[0.5])


# ML-Decoder -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "num_params", "trainable"),
    [(1536, 7_695_439, 7_618_639), (2048, 8_088_655, 8_011_855)],
)
def test_params_of_ml_decoder(channels, num_params, trainable):
    inputs = map_of(channels, 2, 2)
    model = keras.Model(inputs, ml_decoder_logits(inputs, 1103))
    assert model.count_params() == num_params
    assert count(model.trainable_weights) == trainable
    positions, groups, d = 4, 100, 768
    assert count_macs(model) == (
        positions * channels * d  # embedding
        + (2 * positions + 2 * groups) * d * d  # keys and values, queries and output
        + 2 * groups * positions * d  # the attention's two products
        + 2 * groups * d * 2048
        + groups * d * 12
    )


def norm_by_hand(x, gamma, beta):
    variance = x.var(axis=-1, keepdims=True)
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(variance + 1e-5) * gamma + beta


def ml_decoder_by_hand(features, weights, num_classes):
    """The formulas of the reference in float64; attention query by query and head by head."""
    q = weights("queries")[0]
    kernel, bias = weights("embedding")
    positions = features.reshape(len(features), -1, features.shape[-1])
    memory = np.maximum(positions @ kernel + bias, 0)
    wq, bq, wk, bk, wv, bv, wo, bo = weights("attention")
    logits = []
    for e in memory:
        t = norm_by_hand(2 * q, *weights("queries_norm"))
        attended = np.zeros_like(t)
        for group, query in enumerate(t):
            for head in range(wq.shape[1]):
                key = e @ wk[:, head] + bk[head]
                value = e @ wv[:, head] + bv[head]
                score = key @ (query @ wq[:, head] + bq[head]) / np.sqrt(key.shape[1])
                weight = np.exp(score - score.max())
                attended[group] += (weight / weight.sum()) @ value @ wo[head]
        t = norm_by_hand(t + attended + bo, *weights("attention_norm"))
        (w1, b1), (w2, b2) = weights("dense1"), weights("dense2")
        t = norm_by_hand(t + np.maximum(t @ w1 + b1, 0) @ w2 + b2, *weights("dense2_norm"))
        kernel, bias = weights("logits")
        groups = [row @ kernel[number] for number, row in enumerate(t)]
        logits.append(np.concatenate(groups)[:num_classes] + bias)
    return np.array(logits)


@pytest.mark.parametrize(("num_classes", "num_groups"), [(11, 4), (12, 4), (3, 3)])
def test_ml_decoder_by_hand(num_classes, num_groups):
    inputs = map_of(6)
    logits = ml_decoder_logits(
        inputs, num_classes, num_groups=4, units=8, num_heads=2, hidden_units=16, name="head"
    )
    model = keras.Model(inputs, logits)
    rng = np.random.default_rng(0)
    # Every weight counts: also those that start at zero or one.
    model.set_weights([w + rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    assert model.get_layer("head_queries").get_weights()[0].shape == (num_groups, 8)

    def weights(name):
        return [w.astype(np.float64) for w in model.get_layer(f"head_{name}").get_weights()]

    features = rng.normal(size=(2, 4, 3, 6))
    np.testing.assert_allclose(
        model.predict_on_batch(features),
        ml_decoder_by_hand(features, weights, num_classes),
        rtol=1e-5,
        atol=1e-5,
    )


def test_queries_of_ml_decoder_are_normal_and_never_learn(batch):
    model = attach_head(tiny_backbone(), 7, head="ml_decoder")
    queries = model.get_layer("ml_decoder_queries")
    assert queries.count_params() == 7 * 768 and not queries.trainable_weights
    before = queries.get_weights()[0]
    assert abs(before.mean()) < 0.05 and before.std() == pytest.approx(1, abs=0.05)
    freeze(model, "all")
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    model.train_on_batch(*batch)
    np.testing.assert_array_equal(queries.get_weights()[0], before)


def test_spread_of_the_first_group_weights_is_that_of_the_reference():
    """xavier_normal_ of (100, 768, 12): fans 768 * 12 and 100 * 12."""
    inputs = map_of(4, 2, 1)
    model = keras.Model(inputs, ml_decoder_logits(inputs, 1103, hidden_units=8))
    kernel = model.get_layer("ml_decoder_logits").get_weights()[0]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (868 * 12)), rel=0.01)
    inputs = map_of(4, 2, 1)
    zero = keras.Model(inputs, ml_decoder_logits(inputs, 9, kernel_initializer="zeros"))
    assert not zero.predict_on_batch(np.ones((1, 2, 1, 4))).any()


def test_dropout_of_ml_decoder_is_for_training_only():
    inputs = map_of(6)
    model = keras.Model(inputs, ml_decoder_logits(inputs, 5, units=8, hidden_units=16))
    features = np.random.default_rng(0).normal(size=(1, 4, 3, 6)).astype("float32")
    one, two = (value_of(model(features, training=True)) for _ in range(2))
    assert np.abs(one - two).max() > 1e-4
    one, two = (value_of(model(features, training=False)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_settings_of_ml_decoder_that_are_refused():
    with pytest.raises(ValueError, match=r"multiple of `num_heads`.*units=10, num_heads=8"):
        ml_decoder_logits(map_of(4), 5, units=10)
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        ml_decoder_logits(map_of(4), 5, class_frequency=[0.5])
