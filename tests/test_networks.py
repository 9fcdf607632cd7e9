"""The network of a profile: what attention adds to it, and how it is frozen and loaded."""

import keras
import numpy as np
import pytest

from imetlib.collection.prepared import with_settings
from imetlib.models.heads import freeze
from imetlib.profiles import get_profile
from imetlib.training.fit import train_network
from imetlib.training.networks import WEIGHTS_FILE, build_classifier, load_classifier

ATTENTIONS = ("residual", "multi", "recurrent")


def small(**settings):
    # Stride 4 of 32 px: an 8 x 8 map, on which every attention has room.
    settings = {"image_shape": (32, 32, 3), "attention_stride": 4} | settings
    return get_profile("fast", **settings)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_beside_a_plain_head_attention_starts_at_nothing(attention, pictures):
    """With the plain head's own weights, the two networks say the same before any training."""
    frequency = np.array([0.5, 0.2, 0.1])
    model, _ = build_classifier(small(attention=attention), 3, class_frequency=frequency)
    plain = keras.Model(model.input, model.get_layer("logits").output)
    assert model.output.name != plain.output.name
    np.testing.assert_array_equal(
        model.predict_on_batch(pictures), plain.predict_on_batch(pictures)
    )


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_attention_alone_answers_and_starts_at_the_frequencies(attention, pictures):
    frequency = np.array([0.5, 0.2, 0.001])
    profile = small(attention=attention, plain_head=False)
    model, _ = build_classifier(profile, 3, class_frequency=frequency)
    assert not {"pooled", "logits"} & {layer.name for layer in model.layers}
    logits = model.predict_on_batch(pictures)
    assert logits.shape == (2, 3) and logits.dtype == np.float32
    assert (logits[:, 0] > logits[:, 2] + 2).all()


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_attention_learns_while_the_backbone_is_frozen(attention):
    model, _ = build_classifier(small(attention=attention), 3)
    freeze(model, "head")
    learning = {layer.name for layer in model.layers if layer.trainable_weights}
    assert learning and not learning & model.backbone_layers
    assert any(name.startswith(("attention", "parts", "glimpse")) for name in learning)


def test_forms():
    masks = {
        form: build_classifier(small(attention="multi", attention_form=form), 3)[0].get_layer(
            "parts_masks"
        )
        for form in ("", "released", "sigmoid")
    }
    found = {form: layer.form for form, layer in masks.items()}
    assert found == {"": "standardised", "released": "released", "sigmoid": "sigmoid"}
    naive, _ = build_classifier(small(attention="residual", attention_form="naive"), 3)
    learnt, _ = build_classifier(small(attention="residual"), 3)
    assert len(naive.layers) < len(learnt.layers), "M * T has no sum with T"
    assert learnt.get_layer("attention_mask").output.shape[1:3] == (8, 8)


def test_numbers_of_parts_and_glimpses():
    multi, _ = build_classifier(small(attention="multi", num_parts=2), 3)
    assert multi.get_layer("parts_masks").output.shape == (None, 8, 8, 2)
    recurrent, _ = build_classifier(small(attention="recurrent", num_glimpses=3), 3)
    assert recurrent.get_layer("glimpse_boxes").output.shape == (None, 3, 4)


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match=r'`attention` must be "" or one of residual, multi, rec'):
        get_profile("fast", attention="self")
    with pytest.raises(ValueError, match=r"`attention_form` of multi attention .* 'mixed'"):
        get_profile("fast", attention="multi", attention_form="mixed")
    with pytest.raises(ValueError, match="Attention needs pictures of one size"):
        get_profile("fast", attention="multi", small_epochs=2)
    with pytest.raises(ValueError, match=r"`num_glimpses` must be from 1"):
        get_profile("fast", num_glimpses=0)
    with pytest.raises(ValueError, match=r"no feature map 5\. Known strides: 4 "):
        build_classifier(small(attention="multi", attention_stride=5), 3)
    with pytest.raises(ValueError, match="`num_parts` must be from 1 to the map's 48 channels"):
        build_classifier(small(attention="multi", num_parts=49), 3)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_trained_network_is_loaded_again(attention, prepared, tmp_path):
    """Two epochs: with multi-attention the second one is after the channels were grouped."""
    data = with_settings(prepared, attention=attention, attention_stride=4, epochs=2)
    train, val = data.rows_of_folds(2), data.rows_of_folds(1)
    trained = train_network(data.profile, data, train, val, tmp_path, seed=1)
    assert len(trained.history) == 3 and (tmp_path / WEIGHTS_FILE).is_file()
    assert np.isfinite([row["val_loss"] for row in trained.history]).all()
    again = load_classifier(
        tmp_path, data.profile, data.collection.num_classes, normalisation=trained.normalisation
    )
    images = np.zeros((2, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(
        again.predict_on_batch(images), trained.model.predict_on_batch(images), atol=1e-5
    )


def test_grouping_starts_after_a_quarter_of_the_epochs(prepared, tmp_path, monkeypatch):
    from imetlib.training import fit

    made = []

    class Watched(fit.AlternateGrouping):
        def __init__(self, model, batches, **settings):
            super().__init__(model, batches, **settings)
            made.append(self)

    monkeypatch.setattr(fit, "AlternateGrouping", Watched)
    data = with_settings(prepared, attention="multi", attention_stride=8, epochs=5)
    train, val = data.rows_of_folds(2), data.rows_of_folds(1)
    train_network(data.profile, data, train, val, tmp_path)
    (grouping,) = made
    assert [row["epoch"] for row in grouping.history] == [2, 3, 4]
    assert grouping.groups.indicators.sum(axis=1).min() >= 1, "a part without a channel"
