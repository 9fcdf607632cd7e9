"""Memory for batches that is used again once nobody holds the batch that lay in it.

Fresh memory costs more than what is written into it: the system clears it page by page, and each
tensor made of it is a copy, unless it begins where the libraries want their numbers to begin.
"""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np

# Bytes to a multiple of which TensorFlow and jax want an array to begin; others they copy.
ALIGNMENT = 64
# Kept for the next arrays; more were in use at once only where somebody kept whole epochs.
MAX_FREE = 4


class Memory:
    """Arrays of uint8 whose memory comes back when they are gone.

    An array is gone when the last view, tensor or buffer made of it without a copy is: each of
    them holds a reference to it. Any number of threads may take arrays. A copy or a pickle of the
    object starts empty.
    """

    def __init__(self):
        self._free: deque[bytearray] = deque(maxlen=MAX_FREE)
        self._num_bytes = 0

    def __reduce__(self):
        return Memory, ()

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array of any content, as `np.empty` gives it.

        Args:
            shape: of the array.

        Returns:
            `shape` uint8, contiguous, at an address that is a multiple of `ALIGNMENT`.
        """
        size = math.prod(shape)
        # Sizes of batches differ by a picture: memory for the largest serves them all.
        self._num_bytes = max(self._num_bytes, size + ALIGNMENT)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = bytearray()
        if len(memory) < size + ALIGNMENT:
            memory = bytearray(self._num_bytes)
        address = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
        start = -address % ALIGNMENT
        # NumPy names this array, and not what it is a view of, as the base of all its views.
        array = np.frombuffer(memory, np.uint8, size, start)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array.reshape(shape)
