"""Recurrent attention against a loop in NumPy, its losses by hand, and its parameter counts."""

import keras
import numpy as np
import pytest

from imetlib.models.backbones import build_backbone, feature_map
from imetlib.models.heads import attach_head, classifier, freeze
from imetlib.models.recurrent_attention import (
    GlimpseConstraints,
    fix_glimpses,
    glimpse_anchors,
    glimpse_constraints,
    recurrent_attention_logits,
)
from imetlib.training.devices import dtype_policy
from imetlib.training.glimpse_loss import SoftmaxSquaredError

JIT = keras.backend.backend() != "torch"
ANCHORS = [(0, 0), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)]


def network(shape=(5, 7, 3), num_classes=4, **settings):
    """Recurrent attention on maps as inputs."""
    features = keras.Input(shape)
    settings = {"num_glimpses": 3, "units": 6, **settings}
    return keras.Model(features, recurrent_attention_logits(features, num_classes, **settings))


def noisy(model, seed=0):
    """The same model with random weights, so that regions differ from picture to picture."""
    generator = np.random.default_rng(seed)
    model.set_weights(
        [weight + generator.normal(0, 0.4, weight.shape) for weight in model.get_weights()]
    )
    return model


def maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(model, features, layer=None):
    output = model.output if layer is None else model.get_layer(layer).output
    return keras.ops.convert_to_numpy(keras.Model(model.input, output)(features))


def hat(scale, shift, num_points, num_cells):
    points = scale[:, None] * np.linspace(-1, 1, num_points) + shift[:, None]
    places = (points + 1) * (num_cells - 1) / 2
    return np.maximum(0, 1 - np.abs(places[..., None] - np.arange(num_cells)))


def answer_slowly(model, features, size, anchors, *, head="compact", fixed=False):
    """Logits, regions and scores from the weights alone, step by step in float64."""
    layers = {
        part: [np.float64(w) for w in model.get_layer(f"glimpse_{part}").get_weights()]
        for part in ("embedding", "lstm", "hidden", "transform", "scores")
    }
    batch, height, width, channels = features.shape
    units = layers["hidden"][0].shape[0]
    h = c = np.zeros((batch, units))
    box, boxes, scores = np.tile([1.0, 1.0, 0.0, 0.0], (batch, 1)), [], []
    for step in range(len(anchors) + 1):
        rows = hat(box[:, 1], box[:, 3], size[0], height)
        columns = hat(box[:, 0], box[:, 2], size[1], width)
        glimpse = np.einsum("bih,bjw,bhwc->bijc", rows, columns, features)
        if head == "compact":
            seen = glimpse.mean(axis=(1, 2))
        else:
            cells = glimpse.reshape(batch, size[0] // 2, 2, size[1] // 2, 2, channels)
            seen = cells.max(axis=(2, 4)).reshape(batch, -1)
        kernel, bias = layers["embedding"]
        gates = (seen @ kernel + bias) @ layers["lstm"][0] + h @ layers["lstm"][1]
        i, f, g, o = np.split(gates + layers["lstm"][2], 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        z = np.maximum(0, h @ layers["hidden"][0] + layers["hidden"][1])
        if step:
            boxes.append(box)
            scores.append(z @ layers["scores"][0] + layers["scores"][1])
        proposal = z @ layers["transform"][0] + layers["transform"][1]
        box = proposal if head == "compact" else proposal[:, [0, 4, 2, 5]]
        if step < len(anchors):
            box = box + np.array([0, 0, *anchors[step]])
        if fixed:
            box = np.tile([1.0, 1.0, 0.0, 0.0], (batch, 1))
    return np.max(scores, axis=0), np.stack(boxes, axis=1), np.stack(scores, axis=1)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (5, 7)),
        ({"glimpse_size": (4, 2)}, (4, 2)),
        ({"glimpse_size": (4, 2), "head": "paper"}, (4, 2)),
        ({"anchors": "loss", "num_glimpses": 1}, (5, 7)),
    ],
)
def test_against_the_loop(settings, size):
    model = noisy(network(**settings))
    points = glimpse_anchors(settings.get("num_glimpses", 3))
    shifts = points if settings.get("anchors") != "loss" else np.zeros((len(points), 2))
    features = maps(3, 5, 7, 3)
    logits, boxes, scores = answer_slowly(
        model, features, size, shifts, head=settings.get("head", "compact")
    )
    assert np.std(boxes, axis=0).min() > 1e-3, "regions should differ between pictures"
    np.testing.assert_allclose(run(model, features, "glimpse_boxes"), boxes, atol=1e-5)
    np.testing.assert_allclose(run(model, features, "glimpse_scores"), scores, atol=1e-5)
    np.testing.assert_allclose(run(model, features), logits, atol=1e-5)


def test_default_size_of_the_sampled_maps():
    sizes = {(16, 16): (14, 14), (6, 20): (6, 14), (None, None): (14, 14)}
    for sides, size in sizes.items():
        model = network((*sides, 3))
        assert model.get_layer("glimpse_step0_map").output.shape == (None, *size, 3)
        assert model.get_layer("glimpse_step3_map").output.shape == (None, *size, 3)
    assert run(network((None, None, 3)), maps(2, 9, 11, 3)).shape == (2, 4)


# The reference's figures. Compact: 1,103 attributes from 1,536 channels; the paper's network from
# the 16 x 16 map of VGG16 at 512 px, sampled at 14 x 14: dense 25088 -> 4096, LSTM 4096 -> 4096,
# dense 4096 -> 4096, -> 1103, -> 6.
@pytest.mark.parametrize(
    ("shape", "settings", "num_params"),
    [
        ((8, 8, 1536), {"units": 512}, 3_716_691),
        ((16, 16, 512), {"units": 4096, "head": "paper"}, 258_323_541),
    ],
)
@pytest.mark.parametrize("num_glimpses", [1, 5])
def test_parameter_counts(shape, settings, num_params, num_glimpses):
    # In this scope weights have a shape and no memory: the paper's would take 1 GB.
    with keras.StatelessScope(initialize_variables=False):
        model = network(shape, 1103, num_glimpses=num_glimpses, **settings)
        count = model.count_params()
    keras.backend.clear_session()  # forgets the weights that wait for memory
    assert count == num_params


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vgg16", (64, 96, 3)),
        ("mobilenet_v2", (64, 96, 3)),
        ("inception_resnet_v2", (96, 96, 3)),
        ("small_convnet", (48, 48, 3)),
    ],
)
def test_backbones(name, shape):
    backbone = build_backbone(name, shape)
    features = feature_map(name, backbone, 16)
    model = classifier(backbone, recurrent_attention_logits(features, 7, units=8))
    assert model.output.shape == (None, 7) and model.output.dtype == "float32"
    assert model.get_layer("glimpse_boxes").output.shape == (None, 5, 4)
    assert model.get_layer("glimpse_scores").output.shape == (None, 5, 7)
    assert model.get_layer("glimpse_step5_map").output.shape == tuple(features.shape)
    freeze(model, "head")
    learns = {weight.path.split("/")[0] for weight in model.trainable_weights}
    parts = ("embedding", "lstm", "hidden", "transform", "scores")
    assert learns == {f"glimpse_{part}" for part in parts}


def test_anchors():
    assert glimpse_anchors(1) == [(0, 0)]
    assert glimpse_anchors(5) == ANCHORS
    circle = np.array(glimpse_anchors(7)[1:])
    np.testing.assert_allclose(np.hypot(*circle.T), np.sqrt(0.5), atol=1e-6)
    angles = np.sort(np.arctan2(*circle.T))
    np.testing.assert_allclose(np.diff(angles), np.pi / 3, atol=1e-5)


@pytest.mark.parametrize("anchors", ["prior", "loss"])
def test_regions_start_at_the_whole_map_or_around_the_anchors(anchors):
    model = network(num_glimpses=5, anchors=anchors)
    shifts = ANCHORS if anchors == "prior" else np.zeros((5, 2))
    start = np.concatenate([np.ones((5, 2)), shifts], axis=1)
    boxes = run(model, maps(2, 5, 7, 3), "glimpse_boxes")
    np.testing.assert_allclose(boxes, [start, start], atol=1e-6)


def test_start_of_the_scores():
    frequency = [0.5, 0.1, 0.01, 0.2]
    model = network(kernel_initializer="zeros", class_frequency=frequency)
    log_odds = np.log(np.array(frequency) / (1 - np.array(frequency)))
    np.testing.assert_allclose(run(model, maps(2, 5, 7, 3)), [log_odds] * 2, atol=1e-5)
    beside = network(kernel_initializer="zeros")
    assert not run(beside, maps(2, 5, 7, 3)).any()


# Section 3.4 of the reference: five glimpses, parts and sum.
SCALES = ([1, 0.6, 0.3, 0.05, 0.4], [1, 0.5, -0.2, 0.05, 0.4])
SHIFTS = ([0, 0.5, 0.5, -0.5, -0.3], [0, 0.5, -0.4, 0.5, -0.5])
BOXES = np.array([*SCALES, *SHIFTS], np.float32).T


def test_constraints_by_hand():
    exact = np.concatenate([np.full((5, 2), 0.3), ANCHORS], axis=1).astype(np.float32)
    parts = glimpse_constraints(np.stack([BOXES, exact]), ANCHORS)
    parts = np.array([keras.ops.convert_to_numpy(part) for part in parts])
    np.testing.assert_allclose(parts, [[0.025, 0], [0.51, 0], [0.40, 0]], atol=1e-6)


def test_constraints_are_a_loss_while_training():
    scores, layer = maps(2, 5, 3), GlimpseConstraints(ANCHORS, 0.1)
    boxes = np.stack([BOXES, BOXES])
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(layer(scores, boxes, training=True)), scores
    )
    assert float(sum(layer.losses)) == pytest.approx(0.1 * 0.55025, abs=1e-6)
    layer(scores, boxes)
    assert layer.losses == []
    assert GlimpseConstraints.from_config(layer.get_config()).get_config() == layer.get_config()


def test_fit_counts_the_constraints_and_evaluate_does_not():
    model = network(num_glimpses=5, anchors="loss", constraint_weight=0.1)
    features, targets = maps(2, 5, 7, 3), np.zeros((2, 4), np.float32)
    # Nothing learns: five regions at the whole map. L_S = 5 * 2 * .5^2, L_A = 4 * .25.
    model.compile(keras.optimizers.SGD(0.0), loss=lambda true, pred: 0 * pred)
    history = model.fit(features, targets, verbose=0).history
    assert history["loss"][0] == pytest.approx(0.1 * (2.5 + 0.01 * 1.0), abs=1e-6)
    assert model.evaluate(features, targets, verbose=0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("anchors", ["prior", "loss"])
def test_the_scores_move_the_regions(anchors):
    # Without constraints, from the start where places and cells coincide.
    model = network((5, 5, 3), num_glimpses=2, anchors=anchors, constraint_weight=0.0)
    before = model.get_layer("glimpse_transform").get_weights()
    model.compile(keras.optimizers.SGD(1.0), loss="mse")
    model.fit(maps(4, 5, 5, 3), maps(4, 4), verbose=0)
    after = model.get_layer("glimpse_transform").get_weights()
    for old, new in zip(before, after, strict=True):
        assert np.abs(new - old).max(axis=tuple(range(new.ndim - 1))).min() > 1e-5


@pytest.mark.parametrize("head", ["compact", "paper"])
def test_fixed_glimpses_look_at_the_whole_map(head):
    model = noisy(network(glimpse_size=(4, 4), head=head))
    model.compile(loss="mse")
    features = maps(3, 5, 7, 3)
    before = run(model, features)
    fixed = fix_glimpses(model)
    for seed in (0, 1):
        expected, boxes, _ = answer_slowly(
            model, features, (4, 4), glimpse_anchors(3), head=head, fixed=True
        )
        assert (boxes[:, 1:] == [1, 1, 0, 0]).all()
        np.testing.assert_allclose(keras.ops.convert_to_numpy(fixed(features)), expected, atol=1e-5)
        noisy(model, seed=seed + 1)  # weights are shared
    assert np.abs(before - expected).max() > 1e-2
    with pytest.raises(ValueError, match="no glimpses named 'look'"):
        fix_glimpses(model, name="look")


def test_save_and_load_beside_a_plain_head(tmp_path):
    backbone = build_backbone("small_convnet", (16, 16, 3))
    logits = recurrent_attention_logits(
        feature_map("small_convnet", backbone, 4), 5, units=6, name="look"
    )
    model = attach_head(backbone, 5, beside=[logits])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(run(loaded, pictures), run(model, pictures))
    assert loaded.get_layer("look_boxes").output.shape == (None, 5, 4)
    lines = []
    loaded.summary(print_fn=lines.append)
    assert "look_transform" in "\n".join(lines)


@pytest.mark.parametrize(("policy", "head"), [("float16", "compact"), ("bfloat16", "paper")])
def test_mixed_policies_and_xla(policy, head):
    with dtype_policy(f"mixed_{policy}"):
        model = network((4, 4, 3), 5, num_glimpses=1, head=head)
    assert model.get_layer("glimpse_boxes").output.dtype == "float32"
    assert model.output.dtype == "float32"
    half = keras.Input((4, 4, 3), dtype=policy)
    sampled = model.get_layer("glimpse_step0_map")(half)
    assert sampled.dtype == policy, "the map keeps the backbone's dtype"
    assert keras.Model(half, recurrent_attention_logits(half, 5, units=6)).output.dtype == "float32"
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=JIT,
    )
    before = [weight.numpy() for weight in model.weights]
    history = model.fit(maps(4, 4, 4, 3), np.eye(4, 5, dtype=np.float32), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for old, new in zip(before, model.weights, strict=True):
        assert not np.array_equal(old, new.numpy()), new.path


def test_what_is_refused():
    features = keras.Input((5, 7, 3))
    for settings, message in [
        ({"num_glimpses": 0}, r"`num_glimpses` must be at least 1. Received: 0"),
        ({"head": "large"}, r'`head` must be "compact" or "paper". Received: \'large\''),
        ({"anchors": "none"}, r'`anchors` must be "prior" or "loss". Received: \'none\''),
        ({"head": "paper"}, r"`glimpse_size` must be even. Received: glimpse_size=\(5, 7\)"),
        ({"class_frequency": [0.5]}, r"must have shape \(4,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            recurrent_attention_logits(features, 4, **settings)
    with pytest.raises(ValueError, match=r"must be a map .* Received: shape \(None, 3\)"):
        recurrent_attention_logits(keras.Input((3,)), 4)


def test_softmax_squared_error_by_hand():
    logits = np.log([[1.0, 3.0]] * 3).astype(np.float32)
    labels = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    loss = SoftmaxSquaredError(reduction="none")
    expected = [0.75**2 + 0.75**2, 0.25**2 + 0.25**2, 0.25**2 + 0.75**2]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loss(labels, logits)), expected, rtol=1e-6
    )
    mean = keras.losses.get(keras.losses.serialize(SoftmaxSquaredError()))(labels, logits)
    assert float(mean) == pytest.approx(np.mean(expected))
