"""How long a kind of work takes: mean, spread, and whether it has become slow."""

from __future__ import annotations

import math
import time
from collections import deque

# Standard deviation of one step or batch against the mean, before any was measured.
SPREAD = 0.3
# A slow-down counts from this factor on, seen in so many steps against the fastest block of them.
SLOW_FACTOR, RECENT, BLOCK = 2.0, 8, 32


class Pace:
    """How long one kind of work takes.

    A slow-down is seen in the geometric mean of the last few: a single step, or jitter, does not
    move it enough.
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0
        self.recent: deque[float] = deque(maxlen=RECENT)
        self._logs = self._block_logs = 0.0
        self._fastest = math.inf

    def add(self, seconds: float) -> None:
        """Take one measured duration."""
        seconds = max(seconds, 1e-9)  # a coarse clock says 0
        self.count += 1
        change = seconds - self.mean
        self.mean += change / self.count
        self._squares += change * (seconds - self.mean)
        self.recent.append(seconds)
        log = math.log(seconds)
        self._logs += log
        self._block_logs += log
        if self.count % BLOCK == 0:
            self._fastest = min(self._fastest, self._block_logs / BLOCK)
            self._block_logs = 0.0

    def variance(self, count: int = 1, scale: float = 1.0) -> float:
        """Squared seconds: how far the time of `count` more, `scale` times as long, may be from
        `scale * count * mean`, by their own spread and by that of the mean.

        The spread is drawn towards `SPREAD * mean` as if four more had been measured.
        """
        if not self.count:
            return 0.0
        single = (4 * (SPREAD * self.mean) ** 2 + self._squares) / (3 + self.count)
        return scale * scale * single * (count + count * count / self.count)

    def slowness(self) -> float:
        """How many times slower the last few were than the fastest block; 1.0 if not clearly."""
        if self.count < 2 * RECENT:
            return 1.0
        usual = min(self._fastest, self._logs / self.count)
        factor = math.exp(sum(map(math.log, self.recent)) / RECENT - usual)
        return factor if factor >= SLOW_FACTOR else 1.0


def input_rate(batches, most=4):
    """Pictures a second that batches give when nothing else is done."""
    start = time.perf_counter()
    read = sum(len(batches[index][0]) for index in range(min(most, len(batches))))
    return read / (time.perf_counter() - start)
