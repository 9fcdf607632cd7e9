"""The hours of a session, shared out among the networks of a run."""

import math
import time
from contextlib import contextmanager

from imetlib.training.clock import TimeBudget


class Session:
    """How long a hosted notebook has still to live, and what of it a network gets.

    Every network gets an equal share of what is left, for its training and its predictions; what
    one leaves over goes to those after it. Training stops by the share, prediction only by the
    limit of the session itself.

    Args:
        hours: float > 0. Limit of the session.
        later_hours: float >= 0. Limit of the session that will go on with this run: schedules are
            fitted to both.
        spent_seconds: float >= 0. Of the session before this object was made.
        margin_fraction: float in [0, 1). Share of the limit that is never planned with.
        reserve_seconds: float >= 0. For what follows the networks.
        clock: function that gives seconds.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> session = Session(9.0, clock=lambda: 0.0)
        >>> budget = session.budget(num_networks=3, prediction_batches=100)
        >>> budget.hours, round(budget.left() / 3600, 3)
        (2.94, 2.911)
    """

    def __init__(
        self,
        hours,
        *,
        later_hours=0.0,
        spent_seconds=0.0,
        margin_fraction=0.02,
        reserve_seconds=0.0,
        clock=time.monotonic,
    ):
        if not (math.isfinite(hours) and hours > 0):
            raise ValueError(f"`hours` must be positive and finite. Received: hours={hours}")
        for name, value in (
            ("later_hours", later_hours),
            ("spent_seconds", spent_seconds),
            ("reserve_seconds", reserve_seconds),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be finite and >= 0. Received: {name}={value}")
        if not 0 <= margin_fraction < 1:
            raise ValueError(
                f"`margin_fraction` must lie in [0, 1). Received: margin_fraction={margin_fraction}"
            )
        self.hours, self.later_hours, self.clock = hours, later_hours, clock
        self.writing_seconds = 0.0
        self._margin = 3600 * hours * margin_fraction + reserve_seconds
        self._start = clock() - spent_seconds

    def left(self):
        """Seconds for networks; negative once the margin is touched."""
        return 3600 * self.hours - self._margin - (self.clock() - self._start)

    @contextmanager
    def measure_writing(self):
        """Take the time of the block as that of writing an answer."""
        start = self.clock()
        yield
        self.writing_seconds = max(self.writing_seconds, self.clock() - start)

    def budget(self, num_networks, prediction_batches):
        """`TimeBudget` of the next of so many networks.

        Args:
            num_networks: int >= 1. Networks that are still to be trained, this one included.
            prediction_batches: int >= 0. Batches that this one will predict.
        """
        left = max(self.left(), 0.001)  # too little is refused where training would begin
        later = max(0.0, 3600 * self.later_hours - self._margin)
        share = (left + later) / num_networks
        now = min(share, left)
        budget = TimeBudget(
            now / 3600,
            prediction_batches=prediction_batches,
            later_hours=(share - now) / 3600,
            prediction_hours=max(now, left) / 3600,
            clock=self.clock,
        )
        budget.note("writing", self.writing_seconds)
        return budget
