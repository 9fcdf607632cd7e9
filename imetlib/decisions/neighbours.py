"""Nearest pictures by the cosine of their embeddings: exact, in blocks, never a picture itself.

The search costs little more than the matrix product of all queries with all candidates. Once a
query has its first k neighbours, a later block only matters where it beats the worst of them, so
one comparison a pair replaces a partial sort; and the k best are all that is kept of a block.
What the neighbours say about labels is in `imetlib.decisions.transfer`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

# Rows of a block that are looked at together: their similarities stay in the processor's cache.
_SLAB = 256
_ROWS_CHECKED_TOGETHER = 1024
# Squares of lengths beyond this, or its inverse, are no float32.
_SHORTEST = 1e-15


@dataclass(frozen=True, eq=False)
class _Barred:
    """Who may not be a neighbour of whom: equal codes, and `pairs` of query and row as one int."""

    query_codes: np.ndarray
    codes: np.ndarray
    pairs: np.ndarray

    def among(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Bool for each query and row, which are broadcast against each other."""
        barred = self.query_codes[queries] == self.codes[rows]
        if len(self.pairs):
            wanted = np.asarray(queries * len(self.codes) + rows)
            places = np.searchsorted(self.pairs, wanted)
            barred |= self.pairs[np.minimum(places, len(self.pairs) - 1)] == wanted
        return barred


def nearest_neighbours(
    queries: np.ndarray | None,
    embeddings: np.ndarray,
    *,
    k: int,
    query_groups: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
    block_bytes: int = 1 << 29,
) -> tuple[np.ndarray, np.ndarray]:
    """The k pictures whose embeddings have the largest cosine with each query.

    Exact: every pair is compared. Pictures with labels that are queries themselves are asked
    leave-one-out, `queries=None`, since each would otherwise find itself and repeat its labels.

    Args:
        queries: `(num_queries, num_features)` float, or None: the rows of `embeddings`, of
            which none is a neighbour of its own. Rows need not have unit length.
        embeddings: `(num_candidates, num_features)` float. May be a memory map of float16: it
            is read in blocks.
        k: int >= 1.
        query_groups: `(num_queries,)` int or str, only beside `queries` and `groups`.
        groups: `(num_candidates,)` int or str, or None. A candidate is no neighbour of a query
            of its group: specimens, where pictures of one object show each other the answer;
            folds, to have the neighbours that a row finds out of its fold.
        exclude: `(num_pairs, 2)` int or None. Further pairs of query and candidate that are no
            neighbours; with `queries=None` in either order, as `find_near_duplicates` has them.
        block_bytes: int >= 1. About the memory taken beyond inputs and result; 512 MB lose
            nothing against more.

    Returns:
        `(num_queries, k)` int64 rows of `embeddings`, nearest first, of equally near ones the
        smaller first; and `(num_queries, k)` float32 cosines in [-1, 1].

    Raises:
        ValueError: the widths differ, an embedding is not finite or has no length, `queries` is
            `embeddings` itself, `groups` do not fit, a pair is out of range, or a query is left
            with fewer than `k` candidates.

    Example:
        >>> embeddings = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> rows, cosines = nearest_neighbours(None, embeddings, k=1)
        >>> rows.ravel(), cosines.ravel().round(3)
        (array([1, 2, 1]), array([0.6, 0.8, 0.8], dtype=float32))
    """
    if queries is embeddings and query_groups is None:
        raise ValueError(
            "`queries` is `embeddings`: each picture would be its own neighbour. Give "
            "`queries=None` to leave it out."
        )
    embeddings, lengths = _check_embeddings(embeddings, "embeddings")
    leave_one_out, query_lengths = queries is None, lengths
    if queries is None:
        queries = embeddings
    else:
        queries, query_lengths = _check_embeddings(queries, "queries")
    if queries.shape[1] != embeddings.shape[1]:
        raise ValueError(
            "`queries` and `embeddings` must have the same number of features. "
            f"Received: {queries.shape[1]} and {embeddings.shape[1]}"
        )
    if block_bytes < 1:
        raise ValueError(f"`block_bytes` must be positive. Received: block_bytes={block_bytes}")
    shape = (len(queries), len(embeddings))
    barred = _make_barred(shape, query_groups, groups, exclude, leave_one_out)
    _check_k(k, barred)
    cosines = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.zeros((len(queries), k), np.int64)
    side = _block_side(block_bytes, embeddings.shape[1])
    units = np.empty((min(side, shape[1]), embeddings.shape[1]), np.float32)
    product = np.empty(min(side, shape[0]) * len(units), np.float32)
    for start in range(0, len(embeddings), side):
        part = slice(start, min(start + side, len(embeddings)))
        candidates = units[: part.stop - start]
        np.divide(embeddings[part], lengths[part, None], out=candidates, casting="same_kind")
        edges = _edges(len(candidates), k, doubling=start == 0)
        for first in range(0, len(queries), side):
            # The length of a query does not change which candidates are nearest to it.
            block = np.asarray(queries[first : first + side], np.float32)
            similar = product[: len(block) * len(candidates)].reshape(len(block), -1)
            np.matmul(block, candidates.T, out=similar)
            for top in range(0, len(block), _SLAB):
                own = slice(first + top, min(first + top + _SLAB, first + len(block)))
                for left, right in itertools.pairwise(edges):
                    slab = similar[top : top + _SLAB, left:right]
                    _keep_nearest(cosines[own], rows[own], slab, own.start, start + left, barred)
    order = np.argsort(-cosines, axis=1, kind="stable")
    cosines = np.take_along_axis(cosines, order, axis=1) / query_lengths[:, None]
    # Rounding can carry the product of two unit vectors past 1.
    cosines = np.clip(cosines, -1.0, 1.0).astype(np.float32)
    return np.take_along_axis(rows, order, axis=1), cosines


def _edges(width: int, k: int, *, doubling: bool) -> list[int]:
    """Columns at which a block is cut: where nothing is known yet, each piece doubles the rest.

    A piece then holds few that beat what the ones before it have left.
    """
    edges = [0]
    while doubling and edges[-1] < width:
        edges.append(max(4 * k, 256, 2 * edges[-1]))
    return [*(edge for edge in edges if edge < width), width]


def _keep_nearest(
    cosines: np.ndarray,
    rows: np.ndarray,
    slab: np.ndarray,
    first_query: int,
    first_row: int,
    barred: _Barred,
) -> None:
    """Puts what a slab of similarities adds into the k nearest so far, in place.

    Both are kept in the order of the candidates, so that the earlier of equals stays.
    """
    k = cosines.shape[1]
    worst = cosines.min(axis=1)
    above = slab > worst[:, None]
    limit = 4 * k + 64
    crowded = np.empty(0, np.int64)
    if np.count_nonzero(above) > limit * len(slab):
        # The first piece, or candidates that come ever nearer: a partial sort, row by row.
        crowded = np.flatnonzero(above.sum(axis=1) > limit)
        above[crowded] = False
    queries, columns = np.divmod(np.flatnonzero(above), slab.shape[1])
    values = slab[queries, columns]
    values[barred.among(queries + first_query, columns + first_row)] = -np.inf
    if len(crowded):
        own = slab[crowded]
        own[
            barred.among(crowded[:, None] + first_query, np.arange(slab.shape[1]) + first_row)
        ] = -np.inf
        top = _largest(own, min(k, slab.shape[1]))
        queries = np.concatenate([queries, np.repeat(crowded, top.shape[1])])
        columns = np.concatenate([columns, top.ravel()])
        values = np.concatenate([values, np.take_along_axis(own, top, axis=1).ravel()])
    order = np.flatnonzero(values > worst[queries])
    order = order[np.argsort(queries[order], kind="stable")]
    if not len(order):
        return
    queries, columns, values = queries[order], columns[order], values[order]
    changed, starts, counts = np.unique(queries, return_index=True, return_counts=True)
    places = k + np.arange(len(queries)) - np.repeat(starts, counts)
    lines = np.repeat(np.arange(len(changed)), counts)
    pool = np.full((len(changed), k + int(counts.max())), -np.inf, np.float32)
    pool_rows = np.zeros(pool.shape, np.int64)
    pool[:, :k], pool_rows[:, :k] = cosines[changed], rows[changed]
    pool[lines, places], pool_rows[lines, places] = values, columns + first_row
    kept = _largest(pool, k)
    cosines[changed] = np.take_along_axis(pool, kept, axis=1)
    rows[changed] = np.take_along_axis(pool_rows, kept, axis=1)


def _largest(values: np.ndarray, size: int) -> np.ndarray:
    """`(num_rows, size)` int64 columns of the largest values, ascending; first ones of equals."""
    width = values.shape[1]
    last = np.partition(values, width - size, axis=1)[:, width - size, None]
    taken = values >= last
    surplus = np.flatnonzero(np.count_nonzero(taken, axis=1) > size)
    if len(surplus):
        part, edge = values[surplus], last[surplus]
        larger = part > edge
        room = size - np.count_nonzero(larger, axis=1)[:, None]
        equal = part == edge
        taken[surplus] = larger | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= room))
    return np.nonzero(taken)[1].reshape(len(values), size)


def _block_side(block_bytes: int, num_features: int) -> int:
    """Rows of a block: the product of two blocks, and each of them as float32."""
    linear = 8.0 * num_features
    return max(1, int((np.sqrt(linear**2 + 16.0 * block_bytes) - linear) / 8))


def _check_embeddings(embeddings: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings as an array, and the length of each row."""
    embeddings = embeddings if isinstance(embeddings, np.ndarray) else np.asarray(embeddings)
    if embeddings.ndim != 2 or not embeddings.size or embeddings.dtype.kind not in "fiu":
        raise ValueError(
            f"`{name}` must be (num_samples, num_features) numbers. "
            f"Received: shape {embeddings.shape}, {embeddings.dtype}"
        )
    lengths = np.empty(len(embeddings), np.result_type(embeddings.dtype, np.float32))
    for start in range(0, len(embeddings), _ROWS_CHECKED_TOGETHER):
        block = np.asarray(embeddings[start : start + _ROWS_CHECKED_TOGETHER], lengths.dtype)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            lengths[start : start + len(block)] = np.sqrt(np.einsum("ij,ij->i", block, block))
    bad = np.flatnonzero(~((lengths > _SHORTEST) & (lengths < 1 / _SHORTEST)))
    if len(bad):
        raise ValueError(
            f"`{name}` must be finite and have a length in ({_SHORTEST}, {1 / _SHORTEST}): a "
            f"cosine needs a direction. Received: row {bad[0]} of length {lengths[bad[0]]}"
        )
    return embeddings, lengths


def _make_barred(
    shape: tuple[int, int],
    query_groups: np.ndarray | None,
    groups: np.ndarray | None,
    exclude: np.ndarray | None,
    leave_one_out: bool,
) -> _Barred:
    num_queries, num_candidates = shape
    if leave_one_out:
        if query_groups is not None:
            raise ValueError("`query_groups` need `queries`; without them give `groups` alone.")
        query_groups = groups = np.arange(num_candidates) if groups is None else groups
    elif (query_groups is None) != (groups is None):
        raise ValueError("Give `query_groups` and `groups` together, or neither.")
    for name, given, length in (
        ("groups", groups, num_candidates),
        ("query_groups", query_groups, num_queries),
    ):
        if given is not None and np.shape(given) != (length,):
            raise ValueError(
                f"`{name}` must have one entry a row, {length}. Received: shape {np.shape(given)}"
            )
    if groups is None or query_groups is None:
        query_codes, codes = np.full(num_queries, -1), np.zeros(num_candidates, np.int64)
    else:
        both = np.concatenate([np.asarray(query_groups), np.asarray(groups)])
        codes = np.unique(both, return_inverse=True)[1]
        query_codes, codes = codes[:num_queries], codes[num_queries:]
    pairs = np.empty((0, 2), np.int64) if exclude is None else np.asarray(exclude)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(
            "`exclude` must be (num_pairs, 2) whole numbers. "
            f"Received: shape {pairs.shape}, {pairs.dtype}"
        )
    if len(pairs) and (pairs.min() < 0 or (pairs.max(axis=0) >= shape).any()):
        raise ValueError(
            f"`exclude` must be rows below {num_queries} and {num_candidates}. Received: from "
            f"{pairs.min()} to {pairs.max(axis=0).tolist()}"
        )
    if leave_one_out:
        pairs = np.concatenate([pairs, pairs[:, ::-1]])
    pairs = pairs.astype(np.int64)
    return _Barred(query_codes, codes, np.unique(pairs[:, 0] * num_candidates + pairs[:, 1]))


def _check_k(k: int, barred: _Barred) -> None:
    """Counts the candidates of each query before any of them is compared."""
    num_candidates = len(barred.codes)
    sizes = np.bincount(barred.codes, minlength=int(barred.query_codes.max()) + 1)
    of_group = np.where(barred.query_codes < 0, 0, sizes[barred.query_codes])
    queries, rows = np.divmod(barred.pairs, num_candidates)
    further = barred.query_codes[queries] != barred.codes[rows]
    left = num_candidates - of_group - np.bincount(queries[further], minlength=len(of_group))
    fewest = int(left.argmin())
    if not 1 <= k <= left[fewest]:
        raise ValueError(
            f"`k` must be in 1..{left[fewest]}, the candidates that query {fewest} is left with. "
            f"Received: k={k}"
        )
