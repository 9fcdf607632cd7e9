"""AlexNet for CIFAR: the reference's counts, a convolution by hand, mirror images, freezing."""

import keras
import numpy as np
import pytest

from imetlib.models.cifar_alexnet import cifar_alexnet
from imetlib.models.costs import count_macs
from imetlib.models.crop_classifier import crop_classifier
from imetlib.training.devices import dtype_policy

NARROW = (4, 6, 6, 4, 5)
MAPS = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def to_numpy(x):
    return keras.ops.convert_to_numpy(x)


def stir(model, seed=0):
    """Every weight noise, biases too, which start at zero."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        scale = 1 / np.sqrt(np.prod(weight.shape[:-1]))
        noise = np.abs if weight.path.endswith("variance") else np.asarray
        weight.assign(noise(rng.normal(0, scale, weight.shape).astype(np.float32)))
    return model


@pytest.mark.parametrize(
    ("pool_stride", "sides", "macs"),
    [(1, [8, 7, 7, 6, 6, 6, 6, 5], 93_511_680), (2, [8, 4, 4, 2, 2, 2, 2, 1], 14_954_496)],
)
def test_sizes_of_the_reference(pool_stride, sides, macs):
    model = cifar_alexnet(pool_stride=pool_stride)
    outputs = [model.get_layer(name).output.shape for name in MAPS]
    assert [shape[1] for shape in outputs] == [shape[2] for shape in outputs] == sides
    assert model.output.shape == (None, sides[-1], sides[-1], 256)
    assert model.count_params() == 2_469_696
    assert count_macs(model) == macs
    # The source's own top.
    assert model.count_params() + 256 * 10 + 10 == 2_472_266


def test_batch_normalization_leaves_the_convolutions_as_they_are():
    with_it, without = (cifar_alexnet(batch_normalization=value) for value in (True, False))
    convolutions = [f"conv{stage}" for stage in range(1, 6)]
    assert sum(with_it.get_layer(name).count_params() for name in convolutions) == 2_469_696
    assert count_macs(with_it) == count_macs(without)
    assert with_it.count_params() == 2_469_696 + 4 * (64 + 192 + 384 + 256 + 256)
    names = [layer.name for layer in with_it.layers]
    for name in convolutions:
        start = names.index(name)
        assert names[start : start + 3] == [name, f"{name}_bn", f"{name}_relu"]


def test_first_convolution_by_hand():
    """Normalised, then five zeros on each side, kernels of 11 every 4 px, ReLU."""
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    model = stir(cifar_alexnet(filters=NARROW, mean=mean, std=std))
    images = pictures(2, 32, 32, 3)
    kernel, bias = (to_numpy(weight) for weight in model.get_layer("conv1").weights)
    x = np.pad((images / 255 - mean) / std, ((0, 0), (5, 5), (5, 5), (0, 0)))
    wanted = np.zeros((2, 8, 8, 4))
    for row in range(8):
        for column in range(8):
            window = x[:, 4 * row : 4 * row + 11, 4 * column : 4 * column + 11]
            wanted[:, row, column] = np.tensordot(window, kernel, 3) + bias
    first = keras.Model(model.input, model.get_layer("conv1_relu").output)
    for dtype in ("uint8", "float32", "int32"):
        found = first.predict_on_batch(images.astype(dtype))
        np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=1e-4, atol=1e-4)


def test_float_pictures_are_not_rounded():
    model = stir(cifar_alexnet(filters=NARROW))
    images = pictures(1, 32, 32, 3).astype(np.float32)
    assert np.abs(model.predict_on_batch(images + 0.4) - model.predict_on_batch(images)).max() > 0


def symmetric(model):
    """Every kernel the mean of itself and its mirror image."""
    for stage in range(1, 6):
        layer = model.get_layer(f"conv{stage}")
        kernel, bias = layer.get_weights()
        layer.set_weights([(kernel + kernel[:, ::-1]) / 2, bias])
    return model


def mirror_error(model):
    """Largest difference of a mirrored map from the map of the mirrored picture, in its values."""
    images = pictures(2, *model.input_shape[1:])
    maps = model.predict_on_batch(images)
    return np.abs(model.predict_on_batch(images[:, :, ::-1]) - maps[:, :, ::-1]).max() / maps.max()


def test_mirrored_map_is_not_the_map_of_the_mirrored_picture():
    narrow = {"filters": NARROW}
    assert mirror_error(stir(cifar_alexnet(**narrow))) > 0.1
    # Symmetric kernels alone do not help: at 32 px their strides leave 3 px over on one side.
    assert mirror_error(symmetric(stir(cifar_alexnet(**narrow)))) > 0.05
    assert mirror_error(symmetric(stir(cifar_alexnet((33, 33, 3), **narrow)))) < 1e-5


@pytest.mark.parametrize("batch_normalization", [False, True])
def test_frozen_convolutions_do_not_change(batch_normalization):
    net = stir(cifar_alexnet(filters=NARROW, batch_normalization=batch_normalization))
    head = crop_classifier(net.output_shape[1:], 3, hidden=(8,))
    images, labels = pictures(6, 32, 32, 3), np.arange(6) % 3
    for frozen in (True, False):
        net.trainable = not frozen
        model = keras.Model(net.input, head(net.output))
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        before = [[to_numpy(weight).copy() for weight in one.weights] for one in (net, head)]
        model.train_on_batch(images, labels)
        changes = [
            [
                np.abs(to_numpy(weight) - old).max()
                for weight, old in zip(one.weights, olds, strict=True)
            ]
            for one, olds in zip((net, head), before, strict=True)
        ]
        assert max(changes[0]) == 0 if frozen else max(changes[0]) > 0
        assert min(changes[1]) > 0


def test_dropout_only_in_training():
    model = stir(cifar_alexnet(filters=NARROW, dropout=0.5))
    plain = stir(cifar_alexnet(filters=NARROW))
    plain.set_weights([to_numpy(weight) for weight in model.trainable_weights])
    images = pictures(2, 32, 32, 3).astype(np.float32)
    wanted = to_numpy(plain(images))
    np.testing.assert_array_equal(to_numpy(model(images, training=False)), wanted)
    assert np.abs(to_numpy(model(images, training=True)) - wanted).max() > 0


def test_saved_and_loaded(tmp_path):
    model = stir(cifar_alexnet((29, 33, 3), filters=NARROW, batch_normalization=True))
    assert model.output_shape == (None, 5, 6, 5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = pictures(2, 29, 33, 3)
    maps = model.predict_on_batch(images)
    assert maps.max() > 0
    np.testing.assert_array_equal(loaded.predict_on_batch(images), maps)


def test_half_precision():
    with dtype_policy("mixed_bfloat16"):
        half = cifar_alexnet(filters=NARROW)
    full = stir(cifar_alexnet(filters=NARROW))
    half.set_weights(full.get_weights())
    assert (
        half.output.dtype == "bfloat16"
        and half.get_layer("normalisation").output.dtype == "float32"
    )
    images = pictures(2, 32, 32, 3)
    maps = full.predict_on_batch(images)
    found = to_numpy(keras.ops.cast(half(images.astype(np.float32)), "float32"))
    assert np.abs(found - maps).max() < 0.05 * maps.max()


def test_smallest_pictures():
    for side, pool_stride in [(13, 1), (29, 2)]:
        model = cifar_alexnet((side, side, 3), pool_stride=pool_stride, filters=NARROW)
        assert model.output_shape == (None, 1, 1, 5)
        with pytest.raises(ValueError, match=rf"sides of {side} at least .* \({side - 1}, 40, 3\)"):
            cifar_alexnet((side - 1, 40, 3), pool_stride=pool_stride)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"`pool_stride` must be 1 or 2. Received: 3"):
        cifar_alexnet(pool_stride=3)
    with pytest.raises(ValueError, match=r"`filters` must be five numbers. Received: \(8, 8\)"):
        cifar_alexnet(filters=(8, 8))
    with pytest.raises(ValueError, match=r"\(height, width, 3\).* Received: \(32, 32\)"):
        cifar_alexnet((32, 32))
