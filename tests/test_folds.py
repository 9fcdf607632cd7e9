"""Folds spread every label evenly, keep specimens whole, and are read back only as they were."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.collection.folds import (
    find_folds,
    fold_report,
    hash_folds,
    holdout_rows,
    make_folds,
    read_folds,
    write_folds,
)
from imetlib.collection.stratify import StratifyProblem, refine, stratify
from imetlib.collection.tables import CollectionError, make_label_table, read_collection

DATA = os.environ.get("IMETLIB_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="IMETLIB_DATA is not set")


def draw_labels(num_samples, num_classes=40, seed=0):
    """A long tail: label j occurs about 1 / (j + 1) times as often as the first."""
    rng = np.random.default_rng(seed)
    matrix = rng.random((num_samples, num_classes)) < 0.6 / (np.arange(num_classes) + 1)
    return make_label_table(
        [f"p{i}" for i in range(num_samples)], [np.flatnonzero(row) for row in matrix], num_classes
    )


def problem_of(matrix, sizes, num_folds):
    """`matrix`: pictures of each unit with each label."""
    rows = [np.flatnonzero(row) for row in matrix]
    return StratifyProblem(
        sizes=list(sizes),
        indptr=np.cumsum([0, *map(len, rows)]).tolist(),
        columns=[int(column) for row in rows for column in row],
        counts=[int(matrix[i, column]) for i, row in enumerate(rows) for column in row],
        totals=matrix.sum(axis=0).tolist(),
        num_folds=num_folds,
    )


def stratify_slowly(matrix, sizes, num_folds):
    """The recipe on a dense matrix, everything counted anew at every step."""
    num_units, num_classes = matrix.shape
    total = matrix.sum(axis=0)
    folds = np.full(num_units, -1)

    def lacking(column, fold):
        return total[column] - num_folds * matrix[folds == fold, column].sum()

    def room(fold):
        return sum(sizes) - num_folds * sum(np.array(sizes)[folds == fold])

    def urgency(unit, fold):
        return sum(lacking(c, fold) / total[c] for c in np.flatnonzero(matrix[unit]))

    while True:
        left = matrix[folds < 0].sum(axis=0)
        if not left.any():
            break
        rarest = min(np.flatnonzero(left), key=lambda column: left[column])
        units = [unit for unit in range(num_units) if folds[unit] < 0 and matrix[unit, rarest]]
        for unit in sorted(units, key=lambda unit: -sizes[unit]):
            folds[unit] = max(
                range(num_folds),
                key=lambda f: (lacking(rarest, f), urgency(unit, f), room(f), -f),
            )
    for unit in sorted(np.flatnonzero(folds < 0), key=lambda unit: -sizes[unit]):
        folds[unit] = max(range(num_folds), key=lambda fold: (room(fold), -fold))
    return folds


@st.composite
def problems(draw):
    num_units = draw(st.integers(2, 12))
    num_classes = draw(st.integers(1, 5))
    sizes = draw(st.lists(st.integers(1, 4), min_size=num_units, max_size=num_units))
    matrix = np.array(
        [[draw(st.integers(0, size)) for _ in range(num_classes)] for size in sizes], int
    )
    return matrix, sizes, draw(st.integers(2, min(4, num_units)))


@settings(max_examples=150, deadline=None)
@given(problems())
def test_stratify_follows_the_recipe(drawn):
    assert stratify(problem_of(*drawn)) == stratify_slowly(*drawn).tolist()


@settings(max_examples=150, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_refine_never_makes_labels_less_even_and_ends_at_rest(drawn, random):
    matrix, sizes, num_folds = drawn
    totals = matrix.sum(axis=0)

    def costs(folds):
        folds = np.array(folds)
        share = np.stack([matrix[folds == fold].sum(axis=0) for fold in range(num_folds)])
        size = [sum(np.array(sizes)[folds == fold]) for fold in range(num_folds)]
        uneven = ((share - totals / num_folds) ** 2 / np.maximum(totals, 1)).sum()
        return round(float(uneven), 6), int(np.square(size).sum())

    before = [random.randrange(num_folds) for _ in sizes]
    after = refine(problem_of(*drawn), list(before))
    assert costs(after) <= costs(before)
    for unit in range(len(sizes)):
        for fold in range(num_folds):
            moved = [*after[:unit], fold, *after[unit + 1 :]]
            assert costs(moved) >= costs(after)


@pytest.mark.parametrize("num_folds", [2, 5, 7])
@pytest.mark.parametrize("seed", [0, 1, None])
def test_every_label_and_size_is_within_one(num_folds, seed):
    labels = draw_labels(1_000)
    folds = make_folds(labels, num_folds, seed=seed)
    report = fold_report(labels, folds)
    assert folds.dtype == np.int8
    assert report.within_one == 1.0
    assert np.ptp(report.sizes) <= 1


def test_folds_depend_on_the_seed_alone():
    labels = draw_labels(300)
    first = make_folds(labels, seed=1)
    np.testing.assert_array_equal(first, make_folds(labels, seed=1))
    assert (first != make_folds(labels, seed=2)).mean() > 0.5


def test_specimens_stay_whole():
    labels = draw_labels(600)
    specimens = np.random.default_rng(0).integers(0, 250, size=600)
    folds = make_folds(labels, 5, specimens=specimens)
    for specimen in np.unique(specimens):
        assert len(set(folds[specimens == specimen])) == 1
    report = fold_report(labels, folds, specimens=specimens)
    assert report.cut_specimens == 0
    assert np.ptp(report.sizes) <= 8
    assert report.mean_deviation < 1.2
    assert fold_report(labels, make_folds(labels), specimens=specimens).cut_specimens > 100


def test_lone_specimens_are_the_ungrouped_case():
    labels = draw_labels(300)
    alone = np.arange(300) * 3 + 10
    np.testing.assert_array_equal(make_folds(labels, specimens=alone), make_folds(labels))


def test_pictures_without_labels_fill_the_folds():
    labels = make_label_table([f"p{i}" for i in range(23)], [[0]] * 3 + [[]] * 20, num_classes=2)
    report = fold_report(labels, make_folds(labels, 5))
    assert report.sizes.tolist().count(5) == 3
    assert np.ptp(report.sizes) == 1


def test_make_folds_refuses_what_cannot_be():
    labels = draw_labels(10)
    with pytest.raises(ValueError, match=r"number of specimens \(3\). Received: num_folds=4"):
        make_folds(labels, 4, specimens=np.arange(10) % 3)
    with pytest.raises(ValueError, match="num_folds=1"):
        make_folds(labels, 1)
    with pytest.raises(ValueError, match="Received: 9 for 10"):
        make_folds(labels, 2, specimens=np.arange(9))


def test_report_counts_what_is_there():
    labels = make_label_table(list("abcd"), [[0], [0], [0], [1]], num_classes=3)
    report = fold_report(labels, [0, 0, 1, 1], specimens=[0, 1, 1, 2])
    assert report.sizes.tolist() == [2, 2]
    assert report.counts.tolist() == [[2, 1], [0, 1], [0, 0]]
    assert report.mean_deviation == pytest.approx((0.5 * 4) / 6)
    assert report.max_deviation == 0.5
    assert report.within_one == 1.0
    assert report.absent.tolist() == [2, 1]
    assert report.cut_specimens == 1
    with pytest.raises(ValueError, match="Received: 3 for 4"):
        fold_report(labels, [0, 1, 1])


@pytest.mark.parametrize("fraction", [1 / 6, 0.25, 0.4])
def test_holdout_is_a_stratified_share_of_whole_specimens(fraction):
    labels = draw_labels(600)
    specimens = np.arange(600) // 2
    rows = holdout_rows(labels, specimens, fraction=fraction)
    assert len(rows) == pytest.approx(600 * fraction, abs=4)
    assert (np.diff(rows) > 0).all()
    assert not set(specimens[rows]) & set(np.delete(specimens, rows))
    np.testing.assert_allclose(labels.take(rows).counts(), labels.counts() * fraction, atol=2.5)
    with pytest.raises(ValueError, match=r"fraction=0.9"):
        holdout_rows(labels, fraction=0.9)


IDS = ["b", "a", "0012", "x, y", "1e5"]
FOLDS = np.array([0, 2, 1, 1, 0], np.int8)


def test_folds_are_read_back_in_the_order_asked_for(tmp_path):
    path = write_folds(tmp_path / "new/folds.csv", IDS, FOLDS, {"seed": 3})
    assert path.read_text() == 'id,fold\nb,0\na,2\n0012,1\n"x, y",1\n1e5,0\n'
    np.testing.assert_array_equal(read_folds(path, IDS), FOLDS)
    assert read_folds(path, IDS[::-1]).tolist() == FOLDS[::-1].tolist()
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["seed"] == 3
    assert record["num_folds"] == 3
    assert record["sha256"] == hash_folds(IDS, FOLDS)
    assert sorted(file.name for file in path.parent.iterdir()) == ["folds.csv", "folds.json"]


def test_other_folds_are_not_overwritten(tmp_path):
    path = write_folds(tmp_path / "folds.csv", IDS, FOLDS)
    write_folds(path, IDS, FOLDS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="holds other folds; delete it or write under another"):
        write_folds(path, IDS, FOLDS[::-1])
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"must end in .csv"):
        write_folds(tmp_path / "folds", IDS, FOLDS)
    with pytest.raises(ValueError, match="Received: 4, 5"):
        write_folds(tmp_path / "new.csv", IDS[:4], FOLDS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("b,0\na,2\n0012,1\n1e5,0\n", "id x, y: missing from the folds"),
        ('b,0\na,2\n0012,1\n"x, y",1\n1e5,0\nc,0\n', "id c: not a picture asked for"),
        ('b,0\na,2\n0012,1\n"x, y",1\n1e5,0\nb,1\n', "id b: on lines 2 and 7"),
        ('b,0\na,x\n0012,1\n"x, y",1\n1e5,0\n', "line 3, id a: fold must be in 0..126: 'x'"),
        ('b,0\na,-1\n0012,1\n"x, y",1\n1e5,0\n', "line 3, id a: fold must be in 0..126: '-1'"),
        (
            'b,0\na,3\n0012,1\n"x, y",1\n1e5,0\n',
            "folds must be 0..k-1, each with pictures. Empty: 2",
        ),
        ('b,0\na,2\n0012,1\n"x, y",1\n1e5\n', "line 6, id 1e5: 1 field, wanted 2"),
        ("", "missing from the folds"),
    ],
)
def test_folds_of_other_pictures_are_refused(tmp_path, rows, message):
    path = tmp_path / "folds.csv"
    path.write_text(f"id,fold\n{rows}")
    with pytest.raises(CollectionError) as caught:
        read_folds(path, IDS)
    assert message in str(caught.value)
    assert "make them again" in str(caught.value)


def test_edited_folds_are_refused(tmp_path):
    path = write_folds(tmp_path / "folds.csv", IDS, FOLDS)
    path.write_text(path.read_text().replace("b,0", "b,1"))
    with pytest.raises(CollectionError, match=r"differs from the hash in folds.json"):
        read_folds(path, IDS)
    path.with_suffix(".json").write_text("cut")
    with pytest.raises(CollectionError, match=r"differs from the hash in folds.json"):
        read_folds(path, IDS)
    path.with_suffix(".json").unlink()
    assert read_folds(path, IDS)[0] == 1


def test_folds_of_a_run_are_found_in_its_folder_or_above(tmp_path):
    deep = tmp_path / "comparison/search/trial/fold1/run"
    deep.mkdir(parents=True)
    assert find_folds(deep, 3, IDS) is None
    assert find_folds(deep, None, IDS) is None
    write_folds(tmp_path / "folds-3.csv", IDS, FOLDS)
    assert find_folds(deep, 3, IDS).tolist() == list(FOLDS)
    assert find_folds(deep, 4, IDS) is None
    # The nearest file counts; a sixth level is too far.
    other = [FOLDS[0], *FOLDS[1:][::-1]]
    write_folds(deep.parent / "folds-3.csv", IDS, other)
    assert find_folds(deep, 3, IDS).tolist() == other
    (deep.parent / "folds-3.csv").unlink()
    (deep.parent / "folds-3.json").unlink()
    (deep / "deeper").mkdir()
    assert find_folds(deep / "deeper", 3, IDS) is None


@needs_data
def test_watercolours_grouped_by_specimen():
    """Check figures: 88 of 358 labels cannot be within 1, their specimens are too large."""
    collection = read_collection(Path(DATA) / "pomological", require_pictures=False)
    labels, specimens = collection.train, collection.specimens
    grouped = fold_report(labels, make_folds(labels, 5, specimens=specimens), specimens=specimens)
    assert grouped.cut_specimens == 0
    assert np.ptp(grouped.sizes) <= 1
    assert grouped.mean_deviation < 0.44
    assert grouped.within_one > 0.74
    ungrouped = fold_report(labels, make_folds(labels, 5))
    assert ungrouped.within_one == 1.0
    assert ungrouped.mean_deviation == pytest.approx(0.287374, abs=1e-6)
    rows = holdout_rows(labels, specimens)
    assert len(rows) == 6_078 // 6
    assert not set(specimens[rows]) & set(np.delete(specimens, rows))
