"""Multiply-adds: layer by layer by hand, and of networks against published figures."""

import keras
import pytest

from imetlib.models.backbones import BACKBONES, build_backbone
from imetlib.models.costs import count_macs

# By backbone: exact count without top at the size of the stock weights; what a published network
# has more, mostly 1,000 outputs of the last features; the published figure in billions.
MACS = {
    "mobilenet_v2": (299_494_272, 1_280_000, 0.30),  # table 4, https://arxiv.org/abs/1801.04381
    "xception": (8_355_355_496, 2_048_000, None),
    "small_convnet": (29_859_840, 0, None),
    "small_convnet_16": (7_547_904, 0, None),
    # Table 1 of https://arxiv.org/abs/1512.03385 says 3.8 for the paper's net and this one,
    # whose stride is in the first 1x1 convolution; 4.1 is of later ones with it in the 3x3.
    "resnet50": (3_855_925_248, 2_048_000, 3.8),
    "inception_resnet_v2": (13_154_258_016, 1_536_000, None),
    # These and ConvNeXt: https://docs.pytorch.org/vision/stable/models.html, GFLOPS.
    "vgg16": (15_346_630_656, 7 * 7 * 512 * 4096 + 4096 * 4096 + 4_096_000, 15.47),
    "vgg19": (19_508_428_800, 7 * 7 * 512 * 4096 + 4096 * 4096 + 4_096_000, 19.63),
    # https://github.com/google/automl/tree/master/efficientnetv2
    "efficientnet_v2_b0": (716_806_176, 1_280_000, 0.72),
    # Table 7 of https://arxiv.org/abs/2104.00298 says 8.8, torchvision 8.37.
    "efficientnet_v2_s": (8_364_337_152, 1_280_000, 8.37),
    "convnext_tiny": (4_454_763_264, 768_000, 4.46),
    # Table 7 of https://arxiv.org/abs/1704.06904; table 2 says 6.2, and 10.4 for the larger one.
    "residual_attention_56": (6_268_788_736, 2_048_000, 6.3),
    "residual_attention_92": (10_531_741_696, 2_048_000, None),
    "residual_attention_small": (25_887_744, 0, None),
    "residual_small": (18_975_744, 0, None),
}


def network(*layers, shape=(9, 11, 6)):
    return keras.Sequential([keras.Input(shape), *layers])


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (keras.layers.Conv2D(8, (3, 5)), 3 * 5 * 6 * 8 * 7 * 7),
        (keras.layers.Conv2D(8, 3, strides=2, padding="same"), 9 * 6 * 8 * 5 * 6),
        (keras.layers.Conv2D(8, 3, groups=2, use_bias=False), 9 * 3 * 8 * 7 * 9),
        (keras.layers.Conv2D(8, 3, dilation_rate=2), 9 * 6 * 8 * 5 * 7),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), 9 * 6 * 2 * 7 * 9),
        (keras.layers.SeparableConv2D(8, 3), (9 * 6 + 6 * 8) * 7 * 9),
        (keras.layers.Conv2DTranspose(8, 3, strides=2), 9 * 6 * 8 * 9 * 11),
        (keras.layers.Dense(5), 9 * 11 * 6 * 5),
        (keras.layers.EinsumDense("...c,cd->...d", 5), 9 * 11 * 6 * 5),
        (keras.layers.EinsumDense("bhwc,wcd->bhd", (9, 5)), 9 * 11 * 6 * 5),
        (keras.layers.EinsumDense("bhwc,hc->bhwc", (9, 11, 6)), 9 * 11 * 6),
        (keras.layers.BatchNormalization(), 0),
        (keras.layers.PReLU(), 0),
        (keras.layers.UpSampling2D(2, interpolation="bilinear"), 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_layers_by_hand(layer, macs):
    assert count_macs(network(layer)) == macs


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (keras.layers.Conv1D(8, 3, strides=2), 3 * 6 * 8 * 4),
        (keras.layers.DepthwiseConv1D(3), 3 * 6 * 7),
        (keras.layers.SeparableConv1D(8, 3), (3 * 6 + 6 * 8) * 7),
        (keras.layers.Conv1DTranspose(8, 3, strides=2), 3 * 6 * 8 * 9),
        # Four gates, three and one, in each of nine steps.
        (keras.layers.LSTM(5), 9 * 4 * (6 * 5 + 5 * 5)),
        (keras.layers.GRU(5, return_sequences=True), 9 * 3 * (6 * 5 + 5 * 5)),
        (keras.layers.SimpleRNN(5), 9 * (6 * 5 + 5 * 5)),
        (keras.layers.RNN(keras.layers.LSTMCell(5)), 9 * 4 * (6 * 5 + 5 * 5)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_layers_of_sequences_by_hand(layer, macs):
    assert count_macs(network(layer, shape=(9, 6))) == macs


def test_volumes_by_hand():
    layer = keras.layers.Conv3D(8, (3, 3, 2))
    assert count_macs(network(layer, shape=(9, 11, 5, 6))) == 3 * 3 * 2 * 6 * 8 * 7 * 9 * 4


def test_a_cell_called_step_by_step():
    inputs = keras.Input((6,))
    cell = keras.layers.LSTMCell(5)
    state = [inputs[:, :5], inputs[:, 1:]]
    for _ in range(3):
        output, state = cell(inputs, state)
    assert count_macs(keras.Model(inputs, output)) == 3 * 4 * (6 * 5 + 5 * 5)


def attention_by_hand(queries, keys, width_of_query, width_of_value, heads, key, value, width):
    """Multiply-adds of each matrix product, one after the other."""
    projections = queries * width_of_query * heads * key + keys * width_of_value * heads * key
    projections += keys * width_of_value * heads * value + queries * heads * value * width
    return projections + heads * queries * keys * key + heads * queries * value * keys


def test_attention_by_hand():
    inputs = keras.Input((4, 5, 6))
    memory = keras.layers.Reshape((20, 6))(inputs)
    queries = keras.layers.Reshape((12, 10))(inputs)
    layer = keras.layers.MultiHeadAttention(3, 7, value_dim=2)
    one = attention_by_hand(12, 20, 10, 6, heads=3, key=7, value=2, width=10)
    assert count_macs(keras.Model(inputs, layer(queries, memory))) == one
    by_name = layer(value=memory, query=queries, attention_mask=keras.ops.ones((1, 12, 20)))
    assert count_macs(keras.Model(inputs, by_name)) == one
    layer = keras.layers.MultiHeadAttention(3, 7)
    itself = attention_by_hand(20, 20, 6, 6, heads=3, key=7, value=7, width=6)
    assert count_macs(keras.Model(inputs, layer(inputs, inputs, inputs))) == itself
    rows = keras.layers.MultiHeadAttention(3, 7, attention_axes=(2,))
    within = 4 * attention_by_hand(5, 5, 6, 6, heads=3, key=7, value=7, width=6)
    assert count_macs(keras.Model(inputs, rows(inputs, inputs))) == within


class Product(keras.layers.Layer):
    """Every position of one map with every position of another, and one with itself."""

    def build(self, *shapes):
        self.matrix = self.add_weight(shape=(2, 2))

    def call(self, first, second=None):
        second = first if second is None else second
        return keras.ops.einsum("bic,bjc->bij", first, second)

    def count_macs(self, inputs, outputs):
        self.seen = inputs
        first = inputs[0] if isinstance(inputs, list) else inputs
        return outputs.shape[1] * outputs.shape[2] * first.shape[2]


class ListProduct(Product):
    def build(self, shapes):
        super().build()

    def call(self, maps):
        return super().call(*maps)


def test_layers_of_ones_own_are_asked():
    inputs = keras.Input((None, 6))
    longer = keras.layers.ZeroPadding1D((0, 4))(inputs)
    layer = Product()
    assert count_macs(keras.Model(inputs, layer(inputs)), (9, 6)) == 9 * 9 * 6
    assert layer.seen.shape == (None, 9, 6)
    for outputs in (layer(inputs, longer), layer(inputs, second=longer)):
        assert count_macs(keras.Model(inputs, outputs), (9, 6)) == 9 * 13 * 6
        assert [tensor.shape for tensor in layer.seen] == [(None, 9, 6), (None, 13, 6)]
    listed = ListProduct()
    assert count_macs(keras.Model(inputs, listed([inputs, longer])), (9, 6)) == 9 * 13 * 6
    assert [tensor.shape for tensor in listed.seen] == [(None, 9, 6), (None, 13, 6)]


def test_a_model_of_two_inputs_inside_a_model():
    first, second = keras.Input((None, 6)), keras.Input((None, 6))
    inner = keras.Model([first, second], Product()(first, second))
    inputs = keras.Input((9, 6))
    outputs = inner([inputs, keras.layers.ZeroPadding1D((0, 4))(inputs)])
    assert count_macs(keras.Model(inputs, outputs)) == 9 * 13 * 6


def test_no_backbone_is_missing_from_the_table():
    assert set(MACS) == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_against_published_figures(name):
    macs, top, published = MACS[name]
    size = BACKBONES[name].image_size
    backbone = build_backbone(name, (None, None, 3))
    assert count_macs(backbone, (size, size, 3)) == macs == BACKBONES[name].macs
    if published is not None:  # to the digits that are printed, 3.8 being cut from 3.86
        coarse = name in ("resnet50", "residual_attention_56")
        assert (macs + top) / 1e9 == pytest.approx(published, abs=0.06 if coarse else 0.005)


def test_models_in_models_and_layers_called_twice():
    inner = network(keras.layers.Conv2D(6, 3, padding="same"), shape=(None, None, 6))
    inputs = keras.Input((None, None, 6))
    x = inner(inner(inputs))
    x = keras.layers.MaxPooling2D(2)(x) * 2.0
    model = keras.Model(inputs, inner(x))
    one = 9 * 6 * 6
    assert count_macs(model, (8, 10, 6)) == one * (80 + 80 + 20)
    wrapped = network(model, shape=(8, 10, 6))
    assert count_macs(wrapped) == one * (80 + 80 + 20)


def test_counting_changes_nothing():
    model = build_backbone("small_convnet", (None, None, 3))
    model.compile("sgd", "mse")
    outputs = [layer.output for layer in model.layers]
    config = model.get_config()
    assert count_macs(model, (64, 64, 3)) == count_macs(model, (64, 64, 3))
    assert all(layer.output is old for layer, old in zip(model.layers, outputs, strict=True))
    assert model.get_config() == config


def test_what_cannot_be_counted():
    with pytest.raises(ValueError, match=r"takes any size: give `image_shape`"):
        count_macs(build_backbone("small_convnet", (None, None, 3)))
    with pytest.raises(ValueError, match=r"built for \(9, 11, 6\).*\(9, 12, 6\)"):
        count_macs(network(keras.layers.ReLU()), (9, 12, 6))
    unknown = network(keras.layers.TimeDistributed(keras.layers.Dense(2)), shape=(9, 6))
    message = r"layer '.*', a TimeDistributed with weights of shape \(6, 2\): .*`count_macs\("
    with pytest.raises(ValueError, match=message):
        count_macs(unknown)
    first, second = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    with pytest.raises(ValueError, match="with 2 inputs"):
        count_macs(keras.Model([first, second], first + second))
