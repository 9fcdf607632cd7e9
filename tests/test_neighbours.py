"""Nearest pictures: a full sort of all cosines as the oracle, and who must never be found."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imetlib.decisions.neighbours import nearest_neighbours


def sort_all(queries, embeddings, k, barred=None):
    """Cosines of all pairs in float64, each row sorted whole."""
    left, right = (
        np.array([row / np.linalg.norm(row) for row in np.asarray(array, np.float64)])
        for array in (queries, embeddings)
    )
    cosines = left @ right.T
    if barred is not None:
        cosines[barred] = -np.inf
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(cosines, rows, axis=1)


def draw(num_rows, num_features, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(num_rows, num_features)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block_bytes", [1, 30_000, 1 << 29])
def test_equals_a_full_sort(dtype, block_bytes):
    queries, embeddings = draw(67, 5, 0, dtype), draw(91, 5, 1, dtype)
    rows, cosines = nearest_neighbours(queries, embeddings, k=7, block_bytes=block_bytes)
    expected, values = sort_all(queries, embeddings, 7)
    assert rows.dtype == np.int64 and cosines.dtype == np.float32
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(cosines, values, atol=2e-6)


@st.composite
def corners(draw):
    """Rows of four entries 1 or -1, with equals: their cosines are exact in float32."""
    signs = st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4)
    num_rows = draw(st.integers(2, 24))
    embeddings = np.array([draw(signs) for _ in range(num_rows)])
    groups = np.array(draw(st.lists(st.integers(0, 5), min_size=num_rows, max_size=num_rows)))
    pair = st.tuples(*[st.integers(0, num_rows - 1)] * 2)
    pairs = draw(st.lists(pair, max_size=6))
    return embeddings, groups, np.array(pairs, np.int64).reshape(-1, 2)


@given(corners(), st.booleans(), st.integers(1, 5000))
@settings(deadline=None)
def test_leave_one_out_with_ties_groups_and_pairs(case, grouped, block_bytes):
    embeddings, groups, pairs = case
    barred = np.eye(len(embeddings), dtype=bool)
    if grouped:
        barred |= groups[:, None] == groups
    for first, second in pairs:
        barred[first, second] = barred[second, first] = True
    left = int((~barred).sum(axis=1).min())
    arguments = {"groups": groups if grouped else None, "exclude": pairs}
    if left:
        rows, cosines = nearest_neighbours(
            None, embeddings, k=left, block_bytes=block_bytes, **arguments
        )
        expected, values = sort_all(embeddings, embeddings, left, barred)
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_allclose(cosines, values, atol=1e-6)
    with pytest.raises(ValueError, match=rf"`k` must be in 1\.\.{left}, .* Received: k={left + 1}"):
        nearest_neighbours(None, embeddings, k=left + 1, **arguments)


@given(corners(), st.data())
@settings(deadline=None)
def test_queries_with_groups_and_pairs(case, data):
    embeddings, groups, pairs = case
    queries = np.concatenate([embeddings[::2], -embeddings[:1]])
    query_groups = np.arange(len(queries)) % 7
    pairs = pairs[pairs[:, 0] < len(queries)]
    barred = query_groups[:, None] == groups
    barred[pairs[:, 0], pairs[:, 1]] = True
    left = int((~barred).sum(axis=1).min())
    if left:
        k = data.draw(st.integers(1, left))
        rows, cosines = nearest_neighbours(
            queries,
            embeddings,
            k=k,
            query_groups=[f"specimen {group}" for group in query_groups],
            groups=[f"specimen {group}" for group in groups],
            exclude=pairs,
            block_bytes=data.draw(st.integers(1, 5000)),
        )
        np.testing.assert_array_equal(rows, sort_all(queries, embeddings, k, barred)[0])


@pytest.mark.parametrize("order", [1, -1])
def test_candidates_that_come_ever_nearer_or_farther(order):
    """The first block then holds none, or all, of the neighbours."""
    angles = np.linspace(0.1, 1.5, 900)[::order]
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    queries = np.repeat([[1.0, 0.0]], 300, axis=0)
    rows, _ = nearest_neighbours(queries, embeddings, k=3, block_bytes=100_000)
    expected = [0, 1, 2] if order > 0 else [899, 898, 897]
    np.testing.assert_array_equal(rows, [expected] * 300)


def test_all_equal_embeddings_give_the_first_others():
    embeddings = np.ones((50, 4))
    rows, cosines = nearest_neighbours(None, embeddings, k=3, block_bytes=3000)
    assert rows[0].tolist() == [1, 2, 3] and rows[2].tolist() == [0, 1, 3]
    assert rows[49].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(cosines, 1.0)


def test_cosines_never_pass_one():
    embeddings = draw(200, 33)
    _, cosines = nearest_neighbours(embeddings * np.float32(3), embeddings, k=200)
    assert np.abs(cosines).max() <= 1.0


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**40])
def test_length_does_not_matter(factor):
    queries, embeddings = draw(20, 6), draw(30, 6, 1)
    expected = nearest_neighbours(queries, embeddings, k=4)
    found = nearest_neighbours(queries * np.float32(factor), embeddings / np.float32(factor), k=4)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)


def test_integers_and_memory_maps_are_read(tmp_path):
    embeddings = np.random.default_rng(0).integers(-9, 9, (40, 6))
    np.save(tmp_path / "embeddings.npy", embeddings.astype(np.float16))
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    expected = sort_all(embeddings[:9], embeddings, 5)[0]
    for form in (embeddings, mapped, embeddings.tolist()):
        np.testing.assert_array_equal(nearest_neighbours(embeddings[:9], form, k=5)[0], expected)


@pytest.mark.parametrize("block_bytes", [1 << 20, 1 << 23])
def test_memory_stays_near_its_bound(block_bytes):
    queries, embeddings = draw(3000, 16), draw(5000, 16, 1)
    nearest_neighbours(queries[:10], embeddings[:10], k=2)
    tracemalloc.start()
    nearest_neighbours(queries, embeddings, k=2, block_bytes=block_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Results, checks, and a slab of 256 rows that is sorted come on top.
    assert peak < 1.5 * block_bytes + 2_500_000


FEW = np.eye(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": FEW[0]}, r"`queries` must be \(num_samples, num_features\) numbers"),
        ({"queries": FEW[:0]}, r"`queries` must be .* Received: shape \(0, 3\)"),
        ({"embeddings": FEW.astype(bool)}, r"`embeddings` must be .* Received: .* bool"),
        ({"queries": np.diag([1, np.nan, 1])}, "Received: row 1 of length nan"),
        ({"embeddings": np.diag([1, 1, np.inf])}, "Received: row 2 of length inf"),
        ({"embeddings": np.diag([1, 1, -np.inf])}, "Received: row 2 of length inf"),
        ({"embeddings": np.diag([1, 0, 1])}, r"needs a direction\. Received: row 1 of length 0"),
        ({"queries": FEW[:2] * 1e-16}, "`queries` must be finite and have a length in"),
        ({"embeddings": np.float32(FEW * 1e30)}, "Received: row 0 of length inf"),
        ({"queries": np.ones((2, 4))}, "same number of features. Received: 4 and 3"),
        ({"k": 4}, r"`k` must be in 1\.\.3, the candidates that query 0 .* Received: k=4"),
        ({"k": 0}, r"`k` must be in 1\.\.3"),
        ({"queries": None, "k": 3}, r"`k` must be in 1\.\.2"),
        ({"groups": [1, 1, 2]}, "`query_groups` and `groups` together"),
        ({"query_groups": [1, 2]}, "`query_groups` and `groups` together"),
        ({"queries": None, "query_groups": [1, 1, 1]}, "`query_groups` need `queries`"),
        ({"queries": None, "groups": [1, 2]}, r"`groups` must have one entry a row, 3"),
        (
            {"query_groups": [1], "groups": [1, 2, 3]},
            r"`query_groups` must have one entry a row, 2. Received: shape \(1,\)",
        ),
        (
            {"query_groups": [1, 2], "groups": [1, 2, 2], "k": 2},
            r"`k` must be in 1\.\.1, the candidates that query 1 is left with",
        ),
        ({"exclude": [[0.0, 1.0]]}, r"`exclude` must be \(num_pairs, 2\) whole numbers"),
        ({"exclude": [0, 1]}, r"`exclude` must be \(num_pairs, 2\)"),
        ({"exclude": [[2, 0]]}, r"`exclude` must be rows below 2 and 3"),
        ({"exclude": [[0, -1]]}, r"`exclude` must be rows below 2 and 3"),
        ({"block_bytes": 0}, "`block_bytes` must be positive"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(**{"queries": FEW[:2] + 1, "embeddings": FEW, "k": 1, **arguments})


def test_pictures_that_would_find_themselves_are_refused():
    with pytest.raises(ValueError, match=r"own neighbour\. Give `queries=None`"):
        nearest_neighbours(FEW, FEW, k=1)
