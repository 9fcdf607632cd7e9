"""BatchNormalization by the fused kernel: Keras's layer, computed otherwise."""

import keras
import numpy as np
import pytest

from imetlib.models.backbones import build_backbone
from imetlib.models.batch_normalization import BatchNormalization, fuse_batch_normalization

pytestmark = pytest.mark.keras
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the kernel is tensorflow's"
)


def both(shape, **options):
    """Keras's layer and ours on the same weights, some of them not at their start."""
    rng = np.random.default_rng(0)
    layers = [kind(**options) for kind in (keras.layers.BatchNormalization, BatchNormalization)]
    for layer in layers:
        layer.build(shape)
    weights = [rng.uniform(0.5, 1.5, weight.shape) for weight in layers[0].weights]
    for layer in layers:
        layer.set_weights(weights)
    return layers


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (1, 1, 1, 3), (2, 1, 1, 3), (7, 3), (4, 2, 3)])
@pytest.mark.parametrize(
    "options", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1, "momentum": 0.7}]
)
def test_same_outputs_and_statistics(shape, options):
    theirs, ours = both(shape, **options)
    inputs = np.random.default_rng(1).normal(3.0, 2.0, shape).astype(np.float32)
    for training in (True, True, False):
        wanted, found = (layer(inputs, training=training) for layer in (theirs, ours))
        np.testing.assert_allclose(found, wanted, atol=2e-5)
    for wanted, found in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_moving_statistics_are_those_of_the_batch():
    layer = BatchNormalization(momentum=0.5)
    inputs = np.random.default_rng(0).normal(1.0, 3.0, (2, 3, 1, 4)).astype(np.float32)
    layer(inputs, training=True)
    np.testing.assert_allclose(layer.moving_mean, 0.5 * inputs.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.5 + 0.5 * inputs.var((0, 1, 2)), rtol=1e-5)


@on_tensorflow
def test_same_gradients():
    import tensorflow as tf

    layers = both((4, 3, 5, 2))
    rng = np.random.default_rng(1)
    inputs, factors = (tf.constant(rng.normal(size=(4, 3, 5, 2)), tf.float32) for _ in range(2))
    gradients = []
    for layer in layers:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(factors * layer(inputs, training=True) ** 2)
        gradients.append(tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value]))
    for wanted, found in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@on_tensorflow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(policy):
    theirs, ours = both((8, 6, 6, 4), dtype=policy)
    inputs = np.random.default_rng(1).normal(3.0, 2.0, (8, 6, 6, 4)).astype(np.float32)
    wanted, found = (layer(inputs, training=True) for layer in (theirs, ours))
    assert found.dtype == wanted.dtype == policy.removeprefix("mixed_")
    step = 2.0**-7 if policy == "mixed_bfloat16" else 2.0**-10
    np.testing.assert_allclose(
        np.asarray(found, np.float32), np.asarray(wanted, np.float32), atol=8 * step
    )
    assert ours.moving_variance.dtype == "float32"


@on_tensorflow
@pytest.mark.parametrize(
    ("options", "changes", "fused"),
    [
        ({}, {}, True),
        ({}, {"training": False}, False),
        ({"trainable": False}, {}, False),
        ({"axis": 1}, {}, False),
        ({}, {"mask": np.ones((4, 3, 3), bool)}, False),
    ],
)
def test_when_the_kernel_is_used(options, changes, fused):
    import tensorflow as tf

    layer = BatchNormalization(**options)
    layer.build((4, 3, 3, 3))
    call = tf.function(lambda x: layer(x, **{"training": True, **changes}))
    graph = call.get_concrete_function(tf.TensorSpec((4, 3, 3, 3))).graph
    assert any("FusedBatchNorm" in operation.type for operation in graph.get_operations()) is fused


def test_backbones_learn_by_it():
    backbone = build_backbone("mobilenet_v2", (32, 32, 3))
    norms = [x for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 52 and {type(layer) for layer in norms} == {BatchNormalization}


def test_only_keras_own_layers_change():
    class Own(keras.layers.BatchNormalization):
        pass

    layers = [Own(), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    fuse_batch_normalization(layers)
    assert [type(layer) for layer in layers] == [Own, BatchNormalization, keras.layers.ReLU]


def test_files_of_weights_fit_both_ways(tmp_path):
    models = [
        keras.Sequential([keras.Input((4, 4, 3)), kind(), keras.layers.Flatten()])
        for kind in (keras.layers.BatchNormalization, BatchNormalization)
    ]
    for source, target in (models, models[::-1]):
        source.layers[0].set_weights(np.random.default_rng(0).uniform(1, 2, (4, 3)))
        source.save_weights(tmp_path / "some.weights.h5")
        target.layers[0].set_weights(np.zeros((4, 3)))
        target.load_weights(tmp_path / "some.weights.h5")
        np.testing.assert_array_equal(target.get_weights(), source.get_weights())
    models[1].save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(again.layers[0]) is BatchNormalization
