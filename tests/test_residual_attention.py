"""Residual attention networks: the authors' counts, the graph of the masks, what masks do."""

import keras
import numpy as np
import pytest

from imetlib.models.attention_module import ATTENTION_TYPES
from imetlib.models.backbones import build_backbone
from imetlib.models.costs import count_macs
from imetlib.models.heads import attach_head, classifier, freeze
from imetlib.models.layers import AlignedResize, aligned_matrix
from imetlib.models.residual_attention import (
    ResidualAttention56,
    ResidualAttention92,
    ResidualAttentionCifar,
    ResidualAttentionSmall,
    attention_module,
    mask_names,
    residual_attention_logits,
)
from imetlib.training.devices import dtype_policy


def num_trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def random_maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# The networks of the paper ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def attention56():
    return ResidualAttention56(input_shape=(None, None, 3))


@pytest.fixture(scope="module")
def attention92():
    return ResidualAttention92(input_shape=(None, None, 3))


def macs_in_billions(model, side):
    return round(count_macs(model, (side, side, 3)) / 1e9, 2)


def test_attention56_has_the_size_of_the_authors_file(attention56):
    # The paper prints 31.9 M and 6.2 G in table 2, 6.3 G in table 7.
    assert attention56.count_params() == 31_883_432
    assert num_trainable(attention56) == 31_810_728
    assert count_macs(attention56, (224, 224, 3)) == 6_270_836_736
    assert macs_in_billions(attention56, 192) == 4.61
    assert macs_in_billions(attention56, 320) == 12.80
    pooled = attention56.get_layer("top_mean").output
    imet = keras.Model(attention56.input, keras.layers.Dense(1103)(pooled))
    assert imet.count_params() == 32_094_479 and num_trainable(imet) == 32_021_775
    assert count_macs(imet, (224, 224, 3)) == 6_271_047_680


def test_attention92_has_the_size_of_the_authors_file(attention92):
    # The paper prints 51.3 M and 10.4 G; the file gives 2.5 % and 1.3 % more.
    assert attention92.count_params() == 52_599_976
    assert num_trainable(attention92) == 52_466_344
    assert count_macs(attention92, (224, 224, 3)) == 10_533_789_696
    assert macs_in_billions(attention92, 320) == 21.50


@pytest.mark.parametrize(
    ("filters", "side", "num_pools", "trainable", "total", "mmacs"),
    [
        (256, 56, 3, 976_896, 987_136, 1_496),
        (512, 28, 2, 3_046_912, 3_062_784, 1_476),
        (1024, 14, 1, 8_804_352, 8_826_880, 1_394),
    ],
)
def test_size_of_one_module(filters, side, num_pools, trainable, total, mmacs):
    inputs = keras.Input((side, side, filters))
    x = attention_module(inputs, filters, num_pools=num_pools, name="module")
    model = keras.Model(inputs, x)
    assert (num_trainable(model), model.count_params()) == (trainable, total)
    assert round(count_macs(model) / 1e6) == mmacs


def test_trunk_alone_has_its_size():
    trunk = ResidualAttention56(masks=False)
    assert trunk.input_shape == (None, 224, 224, 3)
    assert (num_trainable(trunk), trunk.count_params()) == (24_853_160, 24_898_728)
    assert count_macs(trunk) == 4_525_916_160
    assert mask_names(trunk) == []


@pytest.mark.parametrize(
    ("num_modules", "trainable", "total", "macs"),
    [(1, 1_030_394, 1_045_306, 122_825_216), (2, 1_841_274, 1_868_346, 211_913_216)],
)
def test_cifar_networks_have_the_size_of_the_paper(num_modules, trainable, total, macs):
    model = ResidualAttentionCifar(num_modules)
    assert model.input_shape == (None, 32, 32, 3)
    assert (num_trainable(model), model.count_params()) == (trainable, total)
    assert count_macs(model) == macs
    assert depth(model) == 36 * num_modules + 20
    last_pools = [name for name in layer_names(model, "_mask_pool") if is_last_pool(model, name)]
    assert len(last_pools) == 3 * num_modules
    assert {model.get_layer(name).output.shape[1:3] for name in last_pools} == {(4, 4)}


@pytest.mark.parametrize(
    ("options", "trainable", "total", "layers"),
    [
        # Attention-236 and Attention-452, 5.1 and 8.6 M in table 6 of the paper.
        ({}, 5_084_794, 5_160_506, 236),
        (
            {"num_units_before": 2, "num_trunk_units": 4, "num_mask_units": 3},
            *(8_745_850, 8_879_162, 452),
        ),
    ],
)
def test_deep_cifar_networks(options, trainable, total, layers):
    """Six modules a stage: what each further one adds is what the first one holds."""
    model = ResidualAttentionCifar(1, **options)
    inside = [layer for layer in model.layers if "_attention1_" in layer.name]
    assert num_trainable(model) + 5 * sum(map(num_trainable, inside)) == trainable
    assert model.count_params() + 5 * sum(layer.count_params() for layer in inside) == total
    assert depth(model) + 5 * (depth(model) - 20) == layers


# The graph --------------------------------------------------------------------------------------


def parents(layer):
    """Layers whose outputs a layer reads, in order."""
    return [tensor._keras_history.operation for tensor in keras.tree.flatten(layer.input)]


def children(model, layer):
    return [
        other
        for other in model.layers
        if not isinstance(other, keras.layers.InputLayer) and layer in parents(other)
    ]


def layer_names(model, part):
    return [layer.name for layer in model.layers if part in layer.name]


def is_last_pool(model, name):
    """Whether a pooling of a mask is the branch's deepest one."""
    before, level = name[:-1], int(name[-1])
    return f"{before}{level + 1}" not in layer_names(model, "_mask_pool")


def depth(model):
    """Convolutions and dense layers on the longest way that keeps out of the masks."""
    longest = {}
    for layer in model.layers:
        if "_mask_" in layer.name or layer.name.endswith("_mask"):
            continue
        before = []
        if not isinstance(layer, keras.layers.InputLayer):
            before = [longest[one.name] for one in parents(layer) if one.name in longest]
        counts = isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
        longest[layer.name] = max(before, default=0) + counts
    return max(longest.values())


def test_depth(attention56, attention92):
    assert depth(attention56) == 56
    assert depth(attention92) == 92


@pytest.mark.parametrize(("net", "joins", "resizes"), [("56", 3, 6), ("92", 4, 10)])
def test_masks_sum_skips_and_nothing_else(net, joins, resizes, request):
    """Four popular ports read the size reference of the resize as one more summand."""
    model = request.getfixturevalue(f"attention{net}")
    found = [layer for layer in model.layers if isinstance(layer, AlignedResize)]
    assert len(found) == resizes
    sums, norms = [], []
    for resize in found:
        (reader,) = children(model, resize)
        if isinstance(reader, keras.layers.Add):
            sums.append((resize, reader))
        else:
            assert isinstance(reader, keras.layers.BatchNormalization)
            norms.append((resize, reader))
    assert len(sums) == joins and len(norms) == len(mask_names(model)) == resizes - joins
    for resize, join in sums:
        resized, skip = parents(join)
        level = resize.name[-1]
        assert resized is resize and skip.name == join.name.replace("join", "skip") + "_add"
        # The skip is one unit on the very map whose size the resize takes.
        small, reference = parents(resize)
        unit_in, unit_out = parents(skip)
        assert unit_in is reference and unit_out.name == skip.name.replace("_add", "_conv3")
        assert f"_mask_down{level}_" in reference.name
        assert f"_mask_down{int(level) + 1}_" in small.name or "_mask_up" in small.name
    for resize, norm in norms:
        module = resize.name.removesuffix("_mask_resize0")
        assert parents(norm) == [resize] and norm.name == f"{module}_mask_1_bn"
        small, trunk = parents(resize)
        assert trunk.name == f"{module}_trunk2_add"
        assert small.name.startswith((f"{module}_mask_up1", f"{module}_mask_down1"))
        # The mask's first pooling reads the unit that the branches part behind.
        assert parents(model.get_layer(f"{module}_mask_pool1"))[0].name == f"{module}_before1_add"


def test_masks_at_224_px(attention56):
    resizes = [layer for layer in attention56.layers if isinstance(layer, AlignedResize)]
    pools = layer_names(attention56, "_mask_pool")
    outputs = [layer.output for layer in resizes]
    outputs += [attention56.get_layer(name).output for name in pools]
    outputs += [attention56.get_layer(name).output for name in mask_names(attention56)]
    shapes = keras.Model(attention56.input, outputs).compute_output_shape((1, 224, 224, 3))
    sides = [shape[1:] for shape in shapes]
    assert sides[:6] == [
        *((14, 14, 256), (28, 28, 256), (56, 56, 256)),
        *((14, 14, 512), (28, 28, 512), (14, 14, 1024)),
    ]
    last_pools = [
        shape[:2]
        for name, shape in zip(pools, sides[6:-3], strict=True)
        if is_last_pool(attention56, name)
    ]
    assert last_pools == [(7, 7)] * 3
    assert sides[-3:] == [(56, 56, 256), (28, 28, 512), (14, 14, 1024)]
    assert mask_names(attention56) == [f"stage{stage}_attention1_mask" for stage in (1, 2, 3)]


def test_projections_read_the_activated_input_and_stand_only_at_changes(attention56):
    shortcuts = layer_names(attention56, "_shortcut")
    assert shortcuts == [f"stage{stage}_unit1_shortcut" for stage in (1, 2, 3, 4)]
    for name in shortcuts:
        (activation,) = parents(attention56.get_layer(name))
        assert activation.name == name.replace("_shortcut", "_1_relu")
        assert parents(attention56.get_layer(name.replace("_shortcut", "_conv1"))) == [activation]
    convolutions = [x for x in attention56.layers if isinstance(x, keras.layers.Conv2D)]
    assert not any(layer.use_bias for layer in convolutions)


# What a module does -----------------------------------------------------------------------------

FILTERS = 8


def module_model(side=16, **options):
    """One module and all that its masks are made of, by name."""
    inputs = keras.Input((side, side, FILTERS))
    options = {"num_pools": 2, **options}
    return keras.Model(inputs, attention_module(inputs, FILTERS, name="m", **options))


def values_of(model, maps, *names, training=False):
    """Outputs of layers by name."""
    outputs = [model.get_layer(name).output for name in names]
    values = keras.tree.flatten(keras.Model(model.input, outputs)(maps, training=training))
    return [keras.ops.convert_to_numpy(value) for value in values]


def randomise(model):
    """Statistics and scales other than those of the start, which hide errors."""
    rng = np.random.default_rng(1)
    model.set_weights(
        [
            weight if weight.ndim > 1 else rng.uniform(0.2, 0.6, weight.shape)
            for weight in model.get_weights()
        ]
    )


def call(model, maps):
    return keras.ops.convert_to_numpy(model(maps, training=False))


def copy_weights(model, other):
    """Weights of the layers that both have."""
    names = {layer.name for layer in model.layers}
    for layer in other.layers:
        if layer.name in names:
            layer.set_weights(model.get_layer(layer.name).get_weights())


def resize(maps, *size):
    matrices = (aligned_matrix(*sides) for sides in zip(maps.shape[1:3], size, strict=True))
    return np.einsum("ih,jw,bhwc->bijc", *(np.asarray(matrix) for matrix in matrices), maps)


def test_mask_branch_adds_what_its_graph_says():
    model = module_model(num_pools=3)
    randomise(model)
    bottom, skip2, join2, up2, skip1, join1, up1, norm_in = values_of(
        model,
        random_maps(2, 16, 16, FILTERS),
        *("m_mask_down3_unit2_add", "m_mask_skip2_add", "m_mask_join2", "m_mask_up2_add"),
        *("m_mask_skip1_add", "m_mask_join1", "m_mask_up1_add", "m_mask_resize0"),
    )
    assert bottom.shape == (2, 2, 2, FILTERS)
    np.testing.assert_allclose(join2 - skip2, resize(bottom, 4, 4), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(join1 - skip1, resize(up2, 8, 8), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm_in, resize(up1, 16, 16), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("learning", ["residual", "naive"])
def test_masks_weigh_the_trunk(learning):
    model = module_model(learning=learning)
    out = {"residual": "m_sum", "naive": "m_masked"}[learning]
    assert [layer.name for layer in parents(model.get_layer("m_after1_1_bn"))] == [out]
    maps = random_maps(2, 16, 16, FILTERS)
    # In training mode: without statistics of its own values the mask lies at its ends.
    mask, trunk, weighed = values_of(model, maps, "m_mask", "m_trunk2_add", out, training=True)
    assert mask.shape == trunk.shape == (2, 16, 16, FILTERS)
    assert 0 < mask.min() < 0.4 and 0.6 < mask.max() < 1
    wanted = mask * trunk if learning == "naive" else (1 + mask) * trunk
    np.testing.assert_allclose(weighed, wanted, rtol=1e-5, atol=1e-5)


def test_a_mask_of_zero_logits_adds_a_half():
    model = module_model()
    randomise(model)
    last = model.get_layer("m_mask_conv2")
    last.set_weights([np.zeros_like(weight) for weight in last.get_weights()])
    maps = random_maps(2, 16, 16, FILTERS)
    mask, trunk, weighed = values_of(model, maps, "m_mask", "m_trunk2_add", "m_sum")
    np.testing.assert_array_equal(mask, 0.5)
    np.testing.assert_allclose(weighed, 1.5 * trunk, rtol=1e-6, atol=1e-6)


def test_masks_of_zero_leave_the_trunk():
    model, trunk = module_model(), module_model(masks=False)
    randomise(model)
    copy_weights(model, trunk)
    kernel = np.full((1, 1, FILTERS, FILTERS), -1e3, np.float32)
    model.get_layer("m_mask_conv2").set_weights([kernel])
    gamma, _, mean, variance = model.get_layer("m_mask_2_bn").get_weights()
    # Ones reach the last convolution, and its output lies where a sigmoid is exactly 0.
    model.get_layer("m_mask_2_bn").set_weights([0 * gamma, 1 + 0 * gamma, mean, variance])
    maps = random_maps(2, 16, 16, FILTERS)
    (mask,) = values_of(model, maps, "m_mask")
    np.testing.assert_array_equal(mask, 0.0)
    np.testing.assert_allclose(call(model, maps), call(trunk, maps), rtol=1e-5, atol=1e-5)
    assert layer_names(trunk, "mask") == []


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_a_step_of_training_reaches_every_convolution_of_the_mask(attention_type):
    model = module_model(attention_type=attention_type)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    convolutions = [
        layer
        for layer in model.layers
        if "_mask" in layer.name and isinstance(layer, keras.layers.Conv2D)
    ]
    # Three units down, a skip and a unit up of three convolutions each, and the last two.
    assert len(convolutions) == 3 * 5 + 2
    before = [layer.get_weights()[0] for layer in convolutions]
    maps = random_maps(4, 16, 16, FILTERS)
    model.fit(maps, maps[::-1], batch_size=4, epochs=1, verbose=0)
    for layer, old in zip(convolutions, before, strict=True):
        new = layer.get_weights()[0]
        assert np.isfinite(new).all()
        assert np.abs(new - old).max() > 1e-7, layer.name


def test_channel_attention_has_unit_norm_at_each_position():
    model = module_model(attention_type="channel")
    randomise(model)
    logits, mask = values_of(model, random_maps(2, 16, 16, FILTERS), "m_mask_conv2", "m_mask")
    norm = np.linalg.norm(logits, axis=-1, keepdims=True)
    usual = norm[..., 0] > 0.1
    np.testing.assert_allclose(np.linalg.norm(mask, axis=-1)[usual], 1.0, atol=1e-4)
    np.testing.assert_allclose(mask[usual], (logits / norm)[usual], rtol=1e-3, atol=1e-5)
    assert usual.mean() > 0.9 and mask.min() < 0


def test_spatial_attention_standardises_each_channel_over_the_positions():
    model = module_model(attention_type="spatial")
    randomise(model)
    logits, standardised, mask = values_of(
        model,
        random_maps(2, 16, 16, FILTERS),
        *("m_mask_conv2", "m_mask_standardised", "m_mask"),
    )
    np.testing.assert_allclose(standardised.mean(axis=(1, 2)), 0.0, atol=1e-4)
    np.testing.assert_allclose(standardised.std(axis=(1, 2)), 1.0, atol=1e-3)
    wanted = logits - logits.mean(axis=(1, 2), keepdims=True)
    wanted /= logits.std(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(mask, 1 / (1 + np.exp(-wanted)), atol=1e-3)


def test_open_sides_give_what_fixed_ones_do():
    model, opened = module_model(), module_model(side=None)
    randomise(model)
    copy_weights(model, opened)
    maps = random_maps(2, 16, 16, FILTERS)
    np.testing.assert_allclose(call(opened, maps), call(model, maps), rtol=1e-5, atol=1e-5)
    assert opened(random_maps(1, 11, 7, FILTERS)).shape == (1, 11, 7, FILTERS)


# Logits on a map of any backbone, and whole networks --------------------------------------------


def logits_model(side=16, num_classes=5, **options):
    inputs = keras.Input((side, side, FILTERS))
    return keras.Model(inputs, residual_attention_logits(inputs, num_classes, **options))


@pytest.mark.parametrize(
    ("side", "smallest"),
    [(3, 2), (6, 3), (12, 6), (14, 7), (15, 4), (17, 5), (26, 7), (28, 7), (56, 7), (None, None)],
)
def test_masks_on_any_map_end_at_four_to_seven(side, smallest):
    model = logits_model(side)
    *_, last = layer_names(model, "_mask_pool")
    assert model.get_layer(last).output.shape[1:3] == (smallest, smallest)
    assert last == "attention_mask_pool1" or side > 14
    assert mask_names(model) == ["attention_mask"]
    assert model.get_layer("attention_mask").output.shape == (None, side, side, FILTERS)


def test_logits_are_a_dense_layer_of_pooled_activations():
    model = logits_model(8)
    randomise(model)
    maps = random_maps(3, 8, 8, FILTERS)
    last, logits = values_of(model, maps, "attention_relu", "attention_logits")
    kernel, bias = model.get_layer("attention_logits").get_weights()
    pooled = np.concatenate([last.mean(axis=(1, 2)), last.max(axis=(1, 2))], axis=1)
    np.testing.assert_allclose(logits, pooled @ kernel / 4 + bias, rtol=1e-4, atol=1e-4)
    assert logits.dtype == np.float32 and last.min() == 0


def test_logits_start_where_they_are_told():
    frequency = np.array([0.5, 0.1, 0.9])
    settings = {"kernel_initializer": "zeros", "class_frequency": frequency}
    logits = call(logits_model(6, 3, **settings), random_maps(2, 6, 6, FILTERS))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), [frequency] * 2, atol=1e-6)
    with pytest.raises(ValueError, match=r"`class_frequency` must have shape \(4,\)"):
        logits_model(6, 4, class_frequency=frequency)


def small_backbone(side=16):
    inputs = keras.Input((side, side, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(FILTERS, 3, 2, "same")(x), name="small")


def test_attention_as_head_and_beside_the_plain_head():
    backbone = small_backbone()
    logits = residual_attention_logits(
        backbone.output, 5, filters=12, num_pools=1, kernel_initializer="zeros", name="extra"
    )
    alone, both = classifier(backbone, logits), attach_head(backbone, 5, beside=[logits])
    assert mask_names(alone) == mask_names(both) == ["extra_mask"]
    assert both.get_layer("extra_mask").output.shape == (None, 8, 8, 12)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(call(alone, pictures), 0.0)
    plain = keras.Model(both.input, both.get_layer("logits").output)
    np.testing.assert_allclose(call(both, pictures), call(plain, pictures), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_keeps_float32_logits(policy):
    maps = random_maps(2, 6, 6, FILTERS)
    for attention_type in ATTENTION_TYPES:
        model = logits_model(6, attention_type=attention_type)
        randomise(model)
        with dtype_policy(policy):
            half = logits_model(6, attention_type=attention_type)
        half.set_weights(model.get_weights())
        names = ("attention_mask", "attention_logits")
        wanted = values_of(model, maps, *names)
        values = keras.Model(half.input, [half.get_layer(name).output for name in names])(maps)
        ours = [keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")) for value in values]
        assert half.get_layer("attention_mask").compute_dtype == policy.removeprefix("mixed_")
        assert half.output.dtype == "float32"
        for value, other in zip(ours, wanted, strict=True):
            assert np.abs(value - other).mean() < 0.05 * np.abs(other).mean()
    with dtype_policy(policy):
        small = ResidualAttentionSmall(input_shape=(24, 24, 3), num_classes=4)
    assert (
        small.output.dtype == "float32" and small.get_layer("last_relu").output.dtype != "float32"
    )


@pytest.mark.xla
def test_compiled_by_xla():
    model, plain = logits_model(6), logits_model(6)
    plain.set_weights(model.get_weights())
    maps, labels = random_maps(4, 6, 6, FILTERS), np.eye(4, 5, dtype=np.float32)
    for one, jit_compile in ((model, True), (plain, False)):
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        one.compile(keras.optimizers.SGD(0.1), loss, jit_compile=jit_compile)
        one.fit(maps, labels, batch_size=4, epochs=1, verbose=0)
    np.testing.assert_allclose(
        model.predict_on_batch(maps), plain.predict_on_batch(maps), rtol=1e-3, atol=1e-3
    )


@pytest.mark.xla
@pytest.mark.parametrize("attention_type", ["channel", "spatial"])
def test_predictions_compiled_by_xla(attention_type):
    model = logits_model(6, attention_type=attention_type)
    model.compile(jit_compile=True)
    maps = random_maps(2, 6, 6, FILTERS)
    np.testing.assert_allclose(
        model.predict_on_batch(maps), call(model, maps), rtol=1e-3, atol=1e-4
    )


def test_a_saved_network_opens_again(tmp_path, capsys):
    model = ResidualAttentionSmall(
        input_shape=(24, 24, 3), num_classes=4, attention_type="channel", learning="naive"
    )
    randomise(model)
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    assert again.to_json() == model.to_json()
    assert mask_names(again) == mask_names(model)
    pictures = random_maps(1, 24, 24, 3)
    np.testing.assert_allclose(call(again, pictures), call(model, pictures), rtol=1e-5, atol=1e-5)
    again.summary()
    assert f"{model.count_params():,}" in capsys.readouterr().out


def test_small_network_and_its_trunk_alone():
    small, control = ResidualAttentionSmall(), ResidualAttentionSmall(masks=False)
    assert small.input_shape == (None, 48, 48, 3) and small.output.shape == (None, 1000)
    assert mask_names(small) == ["stage2_attention1_mask"]
    assert small.get_layer("stage2_attention1_mask").output.shape == (None, 12, 12, 128)
    assert small.get_layer("stage2_attention1_mask_pool2").output.shape == (None, 3, 3, 128)
    trunk = [layer.name for layer in control.layers[1:]]  # but the pictures
    of_masks = [layer.name for layer in small.layers[1:] if layer.name not in trunk]
    assert all("_attention1_mask" in name or name.endswith("_sum") for name in of_masks)
    assert {layer.name for layer in small.layers[1:]} == {*trunk, *of_masks}


@pytest.mark.parametrize("name", ["residual_attention_small", "residual_small"])
def test_late_stages_of_the_small_networks(name):
    model = attach_head(build_backbone(name, (32, 32, 3)), 4)
    freeze(model, "late")
    assert model.get_layer("stage3_unit1_conv1").trainable
    assert not model.get_layer("stage2_attention1_after1_conv1").trainable


# Errors -----------------------------------------------------------------------------------------


def test_pictures_whose_masks_would_vanish():
    with pytest.raises(
        ValueError,
        match=r"3 poolings in the mask of stage1_attention1 .* 9 x 9.*Received: a map of 8 x 8",
    ):
        ResidualAttention56(input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match=r"2 poolings in the mask of m .* a map of 16 x 4"):
        attention_module(keras.Input((16, 4, 8)), 8, num_pools=2, name="m")
    attention_module(keras.Input((5, 5, 8)), 8, num_pools=2, name="m")
    attention_module(keras.Input((16, 4, 8)), 8, num_pools=2, masks=False, name="m")
    with pytest.raises(ValueError, match=r"1 poolings in the mask of attention .* a map of 2 x 2"):
        logits_model(2)


def test_options_that_are_none():
    inputs = keras.Input((16, 16, 8))
    wrong = {
        r"`attention_type` must be one of mixed, channel, spatial\. Received: .*'f1'": {
            "attention_type": "f1"
        },
        r"`learning` must be one of residual, naive\. Received: learning='arl'": {
            "learning": "arl"
        },
        r"must be at least 1\. Received: 0, 1, 2, 1": {"num_pools": 0},
        r"must be at least 1\. Received: 1, 1, 0, 1": {"num_trunk_units": 0},
    }
    for message, options in wrong.items():
        with pytest.raises(ValueError, match=message):
            attention_module(inputs, 8, **{"num_pools": 1, **options}, name="m")
    for filters in (10, 0):
        with pytest.raises(ValueError, match=rf"multiple of 4\. Received: {filters} in m_before1"):
            attention_module(inputs, filters, num_pools=1, name="m")
    with pytest.raises(ValueError, match=r"`num_modules` must be at least 1\. Received: .*=0"):
        ResidualAttentionCifar(0)
    with pytest.raises(ValueError, match="no pretrained weights of residual_attention_92"):
        ResidualAttention92(weights="imagenet")
    with pytest.raises(ValueError, match=r"`features` must be a map .*Received: shape \(None, 8\)"):
        residual_attention_logits(keras.Input((8,)), 5)
