"""Inspected pictures: the run's own numbers, by a network that did not learn from the picture."""

from dataclasses import replace

import numpy as np
import pytest

from imetlib.collection.batches import Batches
from imetlib.collection.prepared import with_settings
from imetlib.decisions.label_sets import decide
from imetlib.scores import load_scores
from imetlib.training.fit import preprocessing_of
from imetlib.training.fold_runs import train_fold
from imetlib.training.inspection import Inspector
from imetlib.training.networks import build_classifier
from imetlib.training.predict import predict_scores
from imetlib.training.pretrain import starting_weights
from imetlib.training.runs import blend_runs, train_all_folds

NUM_NEIGHBOURS = 4


@pytest.fixture(scope="module")
def data(prepared, tiny_profile, museum):
    """With the pretrained weights that a closed-form head reads."""
    weights = starting_weights(tiny_profile, museum.parent)
    return with_settings(prepared, weights=weights, mirror_view=False, exclusive=False)


@pytest.fixture(scope="module")
def runs(data):
    """Folder with a network and a linear head over all folds, and with the blend of both."""
    folder = data.workspace / "inspected"
    for method in ("network", "ridge"):
        train_all_folds(data, folder / method, method=method)
    blend_runs(data, folder, ["network", "ridge"])
    return folder


def make_inspector(data, folder, split="oof", **settings):
    scores = load_scores(folder / f"scores-{split}.npz")
    settings = {"num_neighbours": NUM_NEIGHBOURS, **settings}
    return Inspector(data, folder, scores, decide(scores.y_prob, 0.1), **settings)


@pytest.mark.parametrize("method", ["network", "ridge"])
def test_maps_belong_to_the_network_that_gave_the_scores(data, runs, method):
    """Oracle: the out-of-fold logits, which the network of the picture's fold must give again."""
    inspector = make_inspector(data, runs / method, num_neighbours=0)
    for row in (data.rows_of_folds(1)[0], data.rows_of_folds(2)[3]):
        name = data.collection.train.ids[row]
        found = inspector.inspect(name)
        position = list(inspector.ids).index(name)
        np.testing.assert_array_equal(found.y_prob, inspector.scores.y_prob[position])
        np.testing.assert_array_equal(found.y_pred, inspector.y_pred[position])
        np.testing.assert_array_equal(found.y_true, data.collection.train.dense([row])[0])
        model = inspector._model(int(data.folds[row]))
        again = predict_scores(
            model,
            data.train_pictures,
            [name],
            preprocessing_of(data.profile),
            data.collection.class_names,
            mirror_view=False,
        )
        if method == "network":
            wanted = inspector.scores.logits[position]
            np.testing.assert_allclose(again.logits[0], wanted, atol=1e-3)
        else:  # the head of a run reads both views, this network one
            assert np.corrcoef(again.logits[0], inspector.scores.logits[position])[0, 1] > 0.9
        assert len(found.maps) == 5 and set(found.maps) <= set(data.collection.class_names)
        # The first map is that of the surest attribute; means of maps are parts of the logits.
        assert all(one.ndim == 2 and np.isfinite(one).all() for one in found.maps.values())
        assert found.seen.shape == data.profile.image_shape and found.seen.dtype == np.uint8


def test_maps_of_a_linear_head_are_those_of_its_weights(data, runs):
    """Oracle: the mean half of the head's kernel times the backbone's last map, in NumPy."""
    inspector = make_inspector(data, runs / "ridge", num_neighbours=0)
    row = data.rows_of_folds(2)[0]
    found = inspector.inspect(data.collection.train.ids[row])
    model = inspector._model(2)
    features = model.get_layer("pooled_mean").input
    import keras

    part = keras.Model(model.input, features)
    pictures = Batches(data.train_pictures, [row], preprocessing_of(data.profile))
    values = keras.ops.convert_to_numpy(part.predict_on_batch(pictures[0]))[0]
    with np.load(runs / "ridge" / "fold2" / "head.npz") as head:
        kernel = head["kernel"][: values.shape[-1]]
    for name, shown in found.maps.items():
        column = data.collection.class_names.index(name)
        np.testing.assert_allclose(shown, values @ kernel[:, column], atol=1e-3)


@pytest.mark.parametrize("method", ["network", "ridge"])
def test_nearest_pictures_are_those_that_the_network_learned_from(data, runs, method):
    inspector = make_inspector(data, runs / method, num_maps=0)
    train = data.collection.train
    row = data.rows_of_folds(1)[5]
    found = inspector.inspect(train.ids[row])
    rows = train.rows_of([neighbour.id for neighbour in found.neighbours])
    assert len(set(rows)) == NUM_NEIGHBOURS and set(data.folds[rows]) == {2}
    cosines = [neighbour.cosine for neighbour in found.neighbours]
    assert cosines == sorted(cosines, reverse=True) and -1 <= cosines[-1] <= cosines[0] <= 1
    for neighbour, own in zip(found.neighbours, rows, strict=True):
        np.testing.assert_array_equal(neighbour.columns, train.row(own))
        np.testing.assert_array_equal(neighbour.picture, data.train_pictures.read(own))
    # Oracle: all cosines, one by one.
    features = inspector._features(1, "train", np.arange(len(train)))
    learned = data.rows_of_folds(2)
    mean, scale = features[learned].mean(axis=0), features[learned].std(axis=0) + 1e-3
    unit = (features - mean) / scale
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similar = unit[learned] @ unit[row]
    wanted = learned[np.argsort(-similar)[:NUM_NEIGHBOURS]]
    assert set(wanted) == set(rows)
    np.testing.assert_allclose(cosines, np.sort(similar)[::-1][:NUM_NEIGHBOURS], atol=1e-4)


def test_a_picture_that_was_learned_is_its_own_neighbour_at_most_elsewhere(data, runs):
    """No training picture of an inner fold finds itself: its fold is left out."""
    inspector = make_inspector(data, runs / "network", num_maps=0)
    for name in inspector.ids[:6]:
        assert name not in [neighbour.id for neighbour in inspector.inspect(name).neighbours]


def test_few_candidates_are_the_same_each_time(data, runs):
    near = [
        [
            one.id
            for one in make_inspector(data, runs / "network", num_maps=0, max_candidates=10)
            .inspect(data.collection.train.ids[data.rows_of_folds(1)[0]])
            .neighbours
        ]
        for _ in range(2)
    ]
    assert near[0] == near[1] and len(near[0]) == NUM_NEIGHBOURS


def test_test_pictures_have_no_truth_and_the_holdout_has(data, runs):
    found = make_inspector(data, runs / "network", "test").inspect(data.collection.test_ids[0])
    assert found.y_true is None and found.maps and len(found.neighbours) == NUM_NEIGHBOURS
    row = data.rows_of_folds(0)[0]
    found = make_inspector(data, runs / "network", "holdout").inspect(
        data.collection.train.ids[row]
    )
    np.testing.assert_array_equal(found.y_true, data.collection.train.dense([row])[0])
    found = make_inspector(data, runs / "ridge", "test").inspect(data.collection.test_ids[1])
    assert len(found.neighbours) == NUM_NEIGHBOURS


def test_a_blend_shows_its_own_scores_and_a_members_maps(data, runs):
    inspector = make_inspector(data, runs)
    assert inspector.folder in (runs / "network", runs / "ridge")
    found = inspector.inspect(inspector.ids[7])
    np.testing.assert_array_equal(found.y_prob, load_scores(runs / "scores-oof.npz").y_prob[7])


@pytest.mark.parametrize(
    ("attention", "wanted"),
    [
        ("residual", ["attention: "]),
        ("multi", ["part 1", "part 2", "part 3", "part 4"]),
        ("recurrent", ["glimpses"]),
    ],
)
def test_attention_is_shown_before_the_attributes(data, runs, attention, wanted):
    inspector = make_inspector(data, runs / "network", num_maps=2, num_neighbours=0)
    settings = {"attention": attention, "plain_head": True, "attention_stride": 8, "weights": ""}
    profile = replace(data.profile, **settings)
    name = inspector.ids[0]
    fold = int(data.folds[data.collection.train.rows_of([name])[0]])
    inspector._models[fold] = build_classifier(profile, data.collection.num_classes)[0]
    names = list(inspector.inspect(name).maps)
    attended = names[: len(names) - 2]
    assert all("::" in one for one in names[-2:])
    assert len(attended) >= len(wanted) and not any("::" in one for one in attended)
    for found, text in zip(attended, wanted, strict=False):
        assert found.startswith(text)


def test_a_head_that_pools_nothing_has_neither_maps_nor_neighbours(data, runs):
    inspector = make_inspector(data, runs / "network")
    profile = replace(data.profile, head="csra", weights="")
    name = inspector.ids[0]
    fold = int(data.folds[data.collection.train.rows_of([name])[0]])
    inspector._models[fold] = build_classifier(profile, data.collection.num_classes)[0]
    found = inspector.inspect(name)
    assert not found.maps and found.seen is None and not found.neighbours


def test_unknown_pictures_and_runs_are_refused(data, runs, tmp_path):
    inspector = make_inspector(data, runs / "network")
    known = inspector.ids[3]
    with pytest.raises(ValueError, match=rf"picture '{known[:-1]}'\. Near: {known}\."):
        inspector.inspect(known[:-1])
    scores = inspector.scores
    with pytest.raises(ValueError, match="`y_pred` must have the shape of the scores"):
        Inspector(data, runs / "network", scores, inspector.y_pred[:-1])
    train_fold(data, tmp_path / "single", 1, method="ridge")
    with pytest.raises(ValueError, match="no run over all folds"):
        Inspector(data, tmp_path / "single", scores, inspector.y_pred)
