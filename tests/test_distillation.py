import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imetlib.collection.labels import make_label_table
from imetlib.decisions.distillation import (
    Targets,
    distillation_targets,
    read_targets,
    write_targets,
)
from imetlib.scores import Scores, save_scores


def make_targets(num_samples=5, num_classes=9, share=0.7, seed=0):
    generator = np.random.default_rng(seed)
    y_true = generator.random((num_samples, num_classes)) < 0.1
    values = distillation_targets(y_true, generator.random(y_true.shape), share=share)
    ids = np.array([f"0{row}" for row in range(num_samples)], object)
    return y_true, Targets(ids, values, tuple(f"tag::größe {j}" for j in range(num_classes)))


@st.composite
def labels_and_probabilities(draw):
    y_true = draw(arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 5))))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    elements = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    return y_true, draw(arrays(dtype, y_true.shape, elements=elements))


@given(labels_and_probabilities(), st.sampled_from([0.0, 0.7, 1.0]))
@settings(deadline=None)
def test_the_larger_of_label_and_share(case, share):
    y_true, y_prob = case
    before = y_prob.copy()
    table = make_label_table(
        [f"id{row}" for row in range(len(y_true))],
        [np.flatnonzero(row) for row in y_true],
        y_true.shape[1],
    )
    columns = [np.flatnonzero(row) for row in y_true]
    for form in (y_true, y_true.astype(int), table, columns):
        targets = distillation_targets(form, y_prob, share=share)
        assert targets.dtype == np.float32 and targets.shape == y_true.shape
        expected = np.maximum(y_true, share * y_prob.astype(np.float64))
        np.testing.assert_allclose(targets, expected, atol=1e-7)
        assert (targets[y_true] == 1).all()
    np.testing.assert_array_equal(y_prob, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y_prob": [[0.5, 1.5]]}, r"`y_prob` must be in \[0, 1\]. Received: .* 0.5 to 1.5"),
        ({"y_prob": [[-0.5, 0.5]]}, r"`y_prob` must be in \[0, 1\]"),
        ({"y_prob": [[0.5, np.nan]]}, "`y_prob` must be finite"),
        ({"y_prob": [[0.5]]}, r"must have the same shape. Received: \(1, 2\) and \(1, 1\)"),
        ({"y_true": [np.array([2])]}, r"must have the same shape. Received: \(1, 3\)"),
        ({"y_true": [[0.5, 0.1]]}, "`y_true` must hold 0 and 1 only"),
        ({"y_true": np.zeros((0, 2)), "y_prob": np.zeros((0, 2))}, "`y_prob` must be"),
        ({"share": 1.1}, r"`share` must be in \[0, 1\]. Received: share=1.1"),
        ({"share": np.nan}, r"`share` must be in \[0, 1\]"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        distillation_targets(**{"y_true": [[1, 0]], "y_prob": [[0.5, 0.5]], **arguments})


# File -----------------------------------------------------------------------------------------


def test_roundtrip_of_few_classes_is_exact(tmp_path):
    _, targets = make_targets()
    again = read_targets(write_targets(tmp_path / "new" / "targets.npz", targets))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["targets.npz"]
    assert again.ids.tolist() == targets.ids.tolist() and again.ids.dtype == object
    assert again.class_names == targets.class_names and again.values.dtype == np.float32
    np.testing.assert_array_equal(again.values, targets.values)


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_many_classes_keep_all_labels_and_the_largest(tmp_path, share):
    y_true, targets = make_targets(num_classes=600, share=share)
    y_true[0, :200] = True  # more labels than are kept of other pictures
    targets.values[0, :200] = 1.0
    again = read_targets(write_targets(tmp_path / "targets.npz", targets))
    kept = int((targets.values == 1).sum(axis=1).max())
    assert kept > 128
    for values, found, labels in zip(targets.values, again.values, y_true, strict=True):
        assert (found[labels] == 1).all()
        largest = np.argsort(-values, kind="stable")[:kept]
        np.testing.assert_array_equal(found[largest], values[largest])
        assert np.count_nonzero(found) == kept
    few = make_targets(num_classes=600)[1]
    again = read_targets(write_targets(tmp_path / "few.npz", few))
    assert np.count_nonzero(again.values, axis=1).tolist() == [128] * 5
    assert (tmp_path / "few.npz").stat().st_size < 5 * 600 * 4


def test_targets_that_cannot_be_are_refused():
    _, targets = make_targets()
    with pytest.raises(ValueError, match=r"must have shape \(4, 9\).*Received: \(5, 9\)"):
        Targets(targets.ids[:4], targets.values, targets.class_names)
    with pytest.raises(ValueError, match="an id twice"):
        Targets(targets.ids[[0, 0, 1, 2, 3]], targets.values, targets.class_names)
    with pytest.raises(ValueError, match=r"`values` must be in \[0, 1\]"):
        Targets(targets.ids, targets.values + 1, targets.class_names)


def test_missing_cut_and_foreign_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        read_targets(tmp_path / "none.npz")
    targets = make_targets()[1]
    path = write_targets(tmp_path / "targets.npz", targets)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"targets\.npz is no file of targets"):
        read_targets(path)
    save_scores(path, Scores(targets.ids, targets.values, targets.class_names))
    with pytest.raises(ValueError, match=r"targets\.npz is no file of targets"):
        read_targets(path)
    names, ids = np.array(["tag::a", "tag::b"]), np.array(["x"])
    np.savez(path, ids=ids, class_names=names, columns=[[7]], top_targets=np.ones((1, 1)))
    with pytest.raises(ValueError, match=r"targets\.npz is no file of targets"):
        read_targets(path)
