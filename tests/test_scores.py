"""The file that rooms exchange."""

import numpy as np
import pytest

from imetlib.scores import (
    FLOOR,
    Scores,
    load_class_names,
    load_scores,
    logits_of,
    mean_scores,
    save_scores,
    top_columns,
)


def make_scores(num_samples=6, num_classes=9, seed=0, prefix="00"):
    logits = np.random.default_rng(seed).normal(size=(num_samples, num_classes))
    ids = np.array([f"{prefix}{row}" for row in range(num_samples)], dtype=object)
    names = tuple(f"tag::{column}, größer" for column in range(num_classes))
    return Scores(ids, logits.astype(np.float32), names)


def test_roundtrip_of_up_to_512_classes_is_exact(tmp_path):
    scores = make_scores()
    path = save_scores(tmp_path / "scores-val.npz", scores)
    assert [file.name for file in tmp_path.iterdir()] == ["scores-val.npz"]
    again = load_scores(path)
    assert again.ids.tolist() == scores.ids.tolist() and again.ids.dtype == object
    assert again.class_names == scores.class_names == load_class_names(path)
    assert again.logits.dtype == np.float32
    np.testing.assert_array_equal(again.logits, scores.logits)


def test_roundtrip_of_many_classes_keeps_the_largest_128(tmp_path):
    scores = make_scores(num_samples=5, num_classes=1103)
    again = load_scores(save_scores(tmp_path / "scores.npz", scores))
    for logits, kept in zip(scores.logits, again.logits, strict=True):
        largest = np.sort(np.argsort(logits)[-128:])
        np.testing.assert_array_equal(kept[largest], logits[largest])
        assert (np.delete(kept, largest) == np.float32(FLOOR)).all()
    assert again.y_prob.min() < 1.1e-9


def test_probabilities_and_choice_of_ids():
    scores = make_scores()
    np.testing.assert_allclose(scores.y_prob, 1 / (1 + np.exp(-scores.logits)), rtol=1e-6)
    chosen = scores.take(["004", "001"])
    np.testing.assert_array_equal(chosen.logits, scores.logits[[4, 1]])
    with pytest.raises(ValueError, match="No scores of 2 ids, first: x, y"):
        scores.take(["001", "x", "y"])


def test_extreme_logits_give_probabilities_without_a_warning():
    scores = Scores(np.array(["a"], object), np.float32([[-200.0, 200.0]]), ("x", "y"))
    np.testing.assert_array_equal(scores.y_prob, [[0.0, 1.0]])


def test_mean_is_of_logits_and_of_the_same_pictures():
    left, right = make_scores(seed=0), make_scores(seed=1)
    mean = mean_scores([left, right])
    np.testing.assert_allclose(mean.logits, (left.logits + right.logits) / 2, rtol=1e-6)
    assert mean.logits.dtype == np.float32
    with pytest.raises(ValueError, match="the same ids and classes"):
        mean_scores([left, right.take(right.ids[::-1])])
    with pytest.raises(ValueError, match="at least one"):
        mean_scores([])


def test_weights_and_the_mean_of_probabilities():
    members = [make_scores(seed=seed) for seed in range(3)]
    weights = (0.5, 0.3, 0.2)
    mean = mean_scores(members, weights=weights)
    expected = sum(w * member.logits for w, member in zip(weights, members, strict=True))
    np.testing.assert_allclose(mean.logits, expected, atol=1e-6)
    mean = mean_scores(members, weights=weights, space="probability")
    expected = sum(w * member.y_prob for w, member in zip(weights, members, strict=True))
    np.testing.assert_allclose(mean.y_prob, expected, atol=1e-6)
    assert mean.logits.dtype == np.float32
    mean = mean_scores(members, space="probability")
    np.testing.assert_allclose(mean.y_prob, sum(m.y_prob for m in members) / 3, atol=1e-6)


@pytest.mark.parametrize(
    "weights", [(1.0,), (0.5, 0.6), (1.5, -0.5), (np.nan, 0.5), ((0.5,), (0.5,))]
)
def test_weights_that_do_not_fit_are_refused(weights):
    members = [make_scores(seed=0), make_scores(seed=1)]
    with pytest.raises(ValueError, match=r"must be 2 numbers >= 0 with sum 1\. Received: "):
        mean_scores(members, weights=weights)


def test_an_unknown_space_is_refused():
    with pytest.raises(ValueError, match=r"one of logit, probability\. Received: space='rank'"):
        mean_scores([make_scores()], space="rank")


def test_logits_of_probabilities_end_where_files_do():
    logits = logits_of(np.float32([0.0, 0.25, 0.5, 1.0]))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, [FLOOR, -np.log(3), 0.0, -FLOOR], rtol=1e-6)


def test_top_columns_are_the_largest_in_order():
    assert top_columns(np.array([[3, 1, 2], [0, 5, 4]]), 2).tolist() == [[0, 2], [1, 2]]


def test_scores_that_cannot_be_are_refused():
    scores = make_scores(3, 2)
    with pytest.raises(ValueError, match=r"must have shape \(2, 2\).*Received: \(3, 2\)"):
        Scores(scores.ids[:2], scores.logits, scores.class_names)
    broken = scores.logits.copy()
    broken[1] = np.nan
    with pytest.raises(ValueError, match=r"1 pictures are not finite, first 001: .* learning rate"):
        Scores(scores.ids, broken, scores.class_names)
    with pytest.raises(ValueError, match="an id twice"):
        Scores(scores.ids[[0, 0, 1]], scores.logits, scores.class_names)


def test_missing_cut_and_foreign_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz.*02_backbone_comparison"):
        load_scores(tmp_path / "none.npz")
    path = save_scores(tmp_path / "scores.npz", make_scores())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"scores\.npz is no file of scores"):
        load_scores(path)
    path.write_text("id,attribute_ids\n")
    with pytest.raises(ValueError, match=r"scores\.npz is no file of scores"):
        load_scores(path)
    np.savez(path, other=np.zeros(2))
    with pytest.raises(ValueError, match=r"scores\.npz is no file of scores"):
        load_scores(path)
