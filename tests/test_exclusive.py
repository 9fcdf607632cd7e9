"""Exclusive groups: an oracle for the sharing, and where groups are found and used in runs."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imetlib.collection.labels import make_label_table
from imetlib.collection.prepared import with_settings
from imetlib.decisions.exclusive import find_exclusive_groups, share_in_groups
from imetlib.scores import load_scores
from imetlib.training import fold_runs
from imetlib.training.fit import preprocessing_of
from imetlib.training.fold_runs import train_fold
from imetlib.training.load import load_run
from imetlib.training.networks import WEIGHTS_FILE, build_classifier
from imetlib.training.predict import predict_views

NAMES = ("a::0", "b::0", "a::1", "c::0", "a::2", "b::1")
COLUMNS = {"a": [0, 2, 4], "b": [1, 5], "c": [3]}


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def softmax_with_none(logits):
    """Probabilities of a group beside one more class, none of them, of logit 0."""
    logits = np.concatenate([logits, np.zeros((len(logits), 1))], axis=1, dtype=np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True))[:, :-1]


def drawn_logits(largest):
    values = st.floats(-largest, largest, width=32)
    return arrays(np.float32, (3, len(NAMES)), elements=values)


# Sharing --------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(logits=drawn_logits(20), exclusive=st.lists(st.sampled_from("abc"), unique=True))
def test_it_is_a_softmax_with_one_more_class(logits, exclusive):
    shared = share_in_groups(logits, NAMES, exclusive)
    assert shared.dtype == np.float32 and shared.shape == logits.shape
    for group, columns in COLUMNS.items():
        if group in exclusive:
            expected = softmax_with_none(logits[:, columns])
            np.testing.assert_allclose(sigmoid(shared[:, columns]), expected, rtol=1e-4, atol=1e-7)
            assert (sigmoid(shared[:, columns]).sum(axis=1) < 1 + 1e-6).all()
        else:
            np.testing.assert_array_equal(shared[:, columns], logits[:, columns])


@settings(max_examples=100, deadline=None)
@given(logits=drawn_logits(80))
def test_large_logits_stay_finite_ordered_and_never_grow(logits):
    before = logits.copy()
    shared = share_in_groups(logits, NAMES, ("a", "b"))
    np.testing.assert_array_equal(logits, before)
    assert np.isfinite(shared).all() and (shared <= logits).all()
    for columns in (COLUMNS["a"], COLUMNS["b"]):
        for own, new in zip(logits[:, columns], shared[:, columns], strict=True):
            order = np.argsort(own, kind="stable")
            # Equal logits may only become equal ones, smaller never larger ones.
            assert (np.diff(new[order]) >= 0).all()
        # At most one attribute of a group is more likely than not.
        assert (np.sum(shared[:, columns] > 0, axis=1) <= 1).all()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_ends_of_the_range(sign):
    logits = np.full((1, len(NAMES)), 80 * sign, np.float32)
    shared = share_in_groups(logits, NAMES, ("a",))[0, COLUMNS["a"]]
    # Three sure answers share one unit; three absent ones stay as absent as they were.
    expected = np.log(0.5) if sign > 0 else -80.0
    np.testing.assert_allclose(shared, expected, rtol=1e-6)


def test_a_single_doubtless_attribute_keeps_its_logit():
    logits = np.array([[3.0, 0, -40, 0, -40, 0]], np.float32)
    assert share_in_groups(logits, NAMES, ["a"])[0, 0] == pytest.approx(3.0, abs=1e-5)


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match=r"Unknown groups: d\. Known: a, b, c"):
        share_in_groups(np.zeros((1, 6), np.float32), NAMES, ["a", "d"])


# Groups ---------------------------------------------------------------------------------------


def test_groups_without_two_labels_in_a_row():
    rows = [[0, 1, 5], [2], [3, 4]]  # b twice in the first one
    labels = make_label_table(["x", "y", "z"], rows, len(NAMES))
    assert find_exclusive_groups(labels, NAMES) == ["a"]
    assert find_exclusive_groups(labels.dense(), NAMES) == ["a"]
    assert find_exclusive_groups(labels.take([1, 2]), NAMES) == ["a", "b"]
    one_row_more = make_label_table(["x", "y"], [[0, 4], [1]], len(NAMES))
    assert find_exclusive_groups(one_row_more, NAMES) == ["b"]


# Runs -----------------------------------------------------------------------------------------


def relabelled(data, rows):
    """The collection with two cultures in each of some rows."""
    collection = data.collection
    lists = [collection.train.row(row).tolist() for row in range(len(collection.train))]
    cultures = np.asarray(collection.groups["culture"])[:2].tolist()
    for row in rows:
        lists[row] = sorted({*lists[row], *cultures})
    labels = make_label_table(collection.train.ids, lists, collection.num_classes)
    return dataclasses.replace(data, collection=dataclasses.replace(collection, train=labels))


@pytest.fixture(scope="module")
def data(prepared):
    """The museum with one culture a picture, so that there is a group that excludes."""
    collection = prepared.collection
    cultures = set(np.asarray(collection.groups["culture"]).tolist())
    lists = []
    for row in range(len(collection.train)):
        labels = collection.train.row(row).tolist()
        own = [label for label in labels if label in cultures]
        lists.append([label for label in labels if label not in own[1:]])
    labels = make_label_table(collection.train.ids, lists, collection.num_classes)
    single = dataclasses.replace(collection, train=labels)
    data = dataclasses.replace(prepared, collection=single)
    return with_settings(data, epochs=0, mirror_view=True)


def raw_logits(data, folder, rows):
    """What the network of a run says before its groups share."""
    model, _ = build_classifier(data.profile, data.collection.num_classes, weights="")
    model.load_weights(folder / WEIGHTS_FILE)
    views = predict_views(
        model, data.train_pictures, rows, preprocessing_of(data.profile), mirror_view=True
    )
    return np.mean(views, axis=0)


@pytest.mark.parametrize("exclusive", [True, False])
def test_every_split_of_a_run_shares_and_so_does_the_loaded_run(data, tmp_path, exclusive):
    data = with_settings(data, exclusive=exclusive)
    splits = ("holdout", "test")
    record = train_fold(data, tmp_path / "run", 1, splits=splits)
    groups = ["culture"] if exclusive else []
    assert record["exclusive_groups"] == groups
    assert json.loads((tmp_path / "run/record.json").read_text())["exclusive_groups"] == groups
    names = data.collection.class_names
    for split, fold in (("val", 1), ("holdout", 0)):
        scores = load_scores(tmp_path / f"run/scores-{split}.npz")
        plain = raw_logits(data, tmp_path / "run", data.rows_of_folds(fold))
        expected = share_in_groups(plain, names, groups)
        np.testing.assert_allclose(scores.logits, expected, atol=1e-4)
        # All attributes of the group were worth something before.
        assert (np.abs(expected - plain).max() > 0.01) == exclusive
    run = load_run(tmp_path / "run")
    for split, folder in (("holdout", "train"), ("test", "test")):
        scores = load_scores(tmp_path / f"run/scores-{split}.npz")
        paths = [data.collection.picture_path(folder, name) for name in scores.ids[:9]]
        np.testing.assert_allclose(run.predict(paths).logits, scores.logits[:9], atol=1e-4)


@pytest.mark.parametrize(
    ("fold", "groups"), [(0, ["culture"]), (1, ["culture"]), (2, [])], ids=["held", "val", "train"]
)
def test_training_rows_alone_say_what_excludes(data, tmp_path, monkeypatch, fold, groups):
    """One picture of two cultures: among what is held out it must not matter."""
    seen = []

    def train_network(*arguments, exclusive, **settings):
        seen.append(exclusive)
        raise InterruptedError

    monkeypatch.setattr(fold_runs, "train_network", train_network)
    changed = relabelled(data, data.rows_of_folds(fold)[:1])
    with pytest.raises(InterruptedError):
        train_fold(changed, tmp_path / "run", 1)
    assert seen == [groups]
