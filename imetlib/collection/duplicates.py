"""Near duplicates: pictures that look alike however they were saved, scaled or retouched.

Two of them in different folds show a model the answer. `specimens.csv` says which pictures belong
together where the museum knows it; this module finds what the table does not say.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

HASH_WORDS = 2
MAX_DISTANCE = 15
_SIDE = 8
_PAIRS_AT_ONCE = 1 << 22


def hash_image(image: np.ndarray) -> np.ndarray:
    """Difference hash of a picture: where it grows brighter, seen from far away.

    The picture is shrunk to 8 x 9 and 9 x 8 grey pixels; each of the 128 bits says whether one
    of them is darker than its neighbour to the right, or below. Size, compression, brightness and
    contrast hardly change it; crops, turns and mirror images do.

    Args:
        image: `(height, width, 3)` uint8.

    Returns:
        `(2,)` uint64: 64 bits of horizontal and 64 bits of vertical differences. A picture of one
        colour has no bit set.

    Raises:
        ValueError: not such an array.

    Example:
        >>> hash_image(np.zeros((40, 30, 3), np.uint8)).tolist()
        [0, 0]
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            "`image` must be (height, width, 3) uint8. "
            f"Received: shape {image.shape}, {image.dtype}"
        )
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Sums of the same pixels in another order differ in the last digits; steps are 1/16 grey.
    wide = np.round(16 * cv2.resize(grey, (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA))
    high = np.round(16 * cv2.resize(grey, (_SIDE, _SIDE + 1), interpolation=cv2.INTER_AREA))
    bits = np.stack([wide[:, :-1] < wide[:, 1:], high[:-1] < high[1:]]).reshape(HASH_WORDS, -1)
    return np.packbits(bits, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)


def find_near_duplicates(
    hashes: np.ndarray, *, max_distance: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of pictures whose hashes differ in few bits; none is missed.

    Two hashes that differ in d bits agree in at least one of any d + 1 parts, so only pictures
    with such a part in common are compared: a few seconds for 109,237 pictures.

    Args:
        hashes: `(num_samples, 2)` uint64, one row a picture, as from `hash_image`.
        max_distance: int in [0, 15]. Bits of the 128 that may differ. Copies that were saved
            again or scaled differ in up to 4; from about 8 on, pictures of one layout are paired.

    Returns:
        `(num_pairs, 2)` int64 rows, the smaller first, and `(num_pairs,)` int64 distances in
        bits; nearest pairs first, then by row.

    Raises:
        ValueError: `hashes` has another form, or `max_distance` is out of range.

    Example:
        >>> hashes = np.array([[0, 7], [255, 0], [0, 6]], np.uint64)
        >>> pairs, distances = find_near_duplicates(hashes)
        >>> pairs.tolist(), distances.tolist()
        ([[0, 2]], [1])
    """
    hashes = np.asarray(hashes)
    if hashes.ndim != 2 or hashes.shape[1] != HASH_WORDS or hashes.dtype != np.uint64:
        raise ValueError(
            f"`hashes` must be (num_samples, {HASH_WORDS}) uint64. "
            f"Received: shape {hashes.shape}, {hashes.dtype}"
        )
    if not 0 <= max_distance <= MAX_DISTANCE:
        raise ValueError(
            f"`max_distance` must be in 0..{MAX_DISTANCE}. Received: max_distance={max_distance}"
        )
    # Of 8 parts or of 16: large parts have few pictures in common.
    parts = np.ascontiguousarray(hashes).view(np.uint16 if max_distance < 8 else np.uint8)
    codes, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for part in parts.T[: max_distance + 1]:
        for first, second in _pairs_with_equal_keys(part):
            apart = _count_bits(hashes[first] ^ hashes[second])
            near = np.flatnonzero(apart <= max_distance)
            low, high = np.minimum(first, second)[near], np.maximum(first, second)[near]
            codes.append(low * len(hashes) + high)
            distances.append(apart[near])
    found, where = np.unique(np.concatenate(codes), return_index=True)
    apart = np.concatenate(distances)[where]
    order = np.argsort(apart, kind="stable")
    pairs = np.stack(np.divmod(found, max(len(hashes), 1)), axis=1)
    return pairs[order], apart[order]


def find_closest_pairs(hashes: np.ndarray, num_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs that differ in the fewest bits, whether or not they are duplicates.

    To look at: they show what the hash takes for alike in this collection.

    Args:
        hashes: as in `find_near_duplicates`.
        num_pairs: int >= 1. Fewer come back where not so many differ in at most 15 bits.

    Returns:
        As `find_near_duplicates`.
    """
    for max_distance in (4, 7, 11, MAX_DISTANCE):
        pairs, distances = find_near_duplicates(hashes, max_distance=max_distance)
        if len(pairs) >= num_pairs:
            break
    return pairs[:num_pairs], distances[:num_pairs]


def sibling_pairs(specimens: np.ndarray | None) -> np.ndarray:
    """All pairs of pictures of one specimen, as the museum's own table has them.

    Args:
        specimens: `(num_samples,)` int, or None where the collection has no such table.

    Returns:
        `(num_pairs, 2)` int64 rows, the smaller first; empty without a table.

    Example:
        >>> sibling_pairs(np.array([4, 7, 4])).tolist()
        [[0, 2]]
    """
    if specimens is None:
        return np.empty((0, 2), np.int64)
    found = [np.stack(pair, axis=1) for pair in _pairs_with_equal_keys(np.asarray(specimens))]
    pairs = np.concatenate([np.empty((0, 2), np.int64), *found])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def hash_distances(hashes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """`(num_pairs,)` int64 in [0, 128]: bits in which the hashes of each pair of rows differ."""
    return _count_bits(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])


def _pairs_with_equal_keys(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of all pairs with one key, a few million pairs at a time."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    run_ends = np.searchsorted(ordered, ordered, side="right")
    # Each place is paired with all behind it in its run.
    partners = run_ends - np.arange(len(keys)) - 1
    totals = np.cumsum(partners)
    start = 0
    while start < len(keys):
        done = totals[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(totals, done + _PAIRS_AT_ONCE, side="right")))
        counts = partners[start:stop]
        first = np.repeat(np.arange(start, stop), counts)
        steps = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        if len(first):
            yield order[first], order[first + 1 + steps]
        start = stop


_BITS_OF_16 = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16)
_BITS_OF_16 = _BITS_OF_16.sum(axis=1, dtype=np.uint8)


def _count_bits(words: np.ndarray) -> np.ndarray:
    """Bits set in each row, `(num_rows,)` int64; numpy.bitwise_count needs NumPy 2."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return _BITS_OF_16[words.view(np.uint16)].sum(axis=1, dtype=np.int64)
