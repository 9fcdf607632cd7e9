"""The time budget of a session: what still fits before its limit.

A hosted notebook is killed at its limit, and what was not written by then is lost. So everything
is measured as it runs, and before each step it is asked whether that step still fits together with
all that must follow it: evaluation, checkpoint, prediction of the test set, writing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from imetlib.training.pace import RECENT, SLOW_FACTOR, Pace

# In this order: what stands later must still follow what stands earlier.
KINDS = ("step", "evaluation", "checkpoint", "prediction", "writing")

# Standard deviations above the mean that a decision allows for.
SAFETY = 2.0
# The last batch of the test set may take so many times the others' time: another shape.
SLOW_LAST_BATCH = 10.0
# An evaluation or a checkpoint cannot be cut short: it must end in time even so many times slower.
SLOW_PIECE = 3.0
# Measuring the prediction of the test set may take this share of the limit.
PROBE_SHARE, PROBE_BATCHES = 0.02, 24


class TimeUpError(ValueError):
    """Nothing more fits into the session."""


class TimeBudget:
    """What still fits into a session.

    What must follow a step is kept free: the means of all that was measured, the last batch of the
    test set at ten times the others, and two standard deviations of their sum. While steps are
    clearly slower than they were, the slow-down is expected to last as long again as it has
    lasted, and that much more is kept. Prediction can stop between two batches; an evaluation
    cannot, so there is always time for one that takes three times as long.

    Args:
        hours: float > 0. The limit of the session.
        prediction_batches: int >= 0. Batches of the test set, all views; 0 without a test set.
        spent_seconds: float >= 0. Of the session before this object was made.
        margin_fraction: float in [0, 1). Share of the limit that is never planned with.
        later_hours: float >= 0. Of the session that will go on with this run: its schedule is
            fitted to both.
        prediction_hours: float >= `hours`, or None for `hours`. Until when prediction may last
            where it has become slower than was planned.
        clock: function that gives seconds.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> budget = TimeBudget(9.0, prediction_batches=100, margin_fraction=0.01)
        >>> 8.9 < budget.left() / 3600 < 8.92
        True
    """

    def __init__(
        self,
        hours: float,
        *,
        prediction_batches: int,
        spent_seconds: float = 0.0,
        margin_fraction: float = 0.01,
        later_hours: float = 0.0,
        prediction_hours: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (math.isfinite(hours) and hours > 0):
            raise ValueError(f"`hours` must be positive and finite. Received: hours={hours}")
        if not 0 <= margin_fraction < 1:
            raise ValueError(
                f"`margin_fraction` must lie in [0, 1). Received: margin_fraction={margin_fraction}"
            )
        for name, value in (
            ("prediction_batches", prediction_batches),
            ("spent_seconds", spent_seconds),
            ("later_hours", later_hours),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be finite and >= 0. Received: {name}={value}")
        self.hours, self.clock = hours, clock
        self.limit, self.later = 3600 * hours, 3600 * later_hours
        self._extension = 3600 * max(0.0, (prediction_hours or hours) - hours)
        self.margin = margin_fraction * self.limit
        self.prediction_batches = prediction_batches
        self.paces = {kind: Pace() for kind in KINDS}
        self._start = clock() - spent_seconds
        # Whose speed is the present one, since when it is slow, and how slow the last evaluation
        # or checkpoint was: (factor, seconds).
        self._watched = "step"
        self._slow_since: float | None = None
        self._slow_piece = (1.0, 0.0)
        self._predicted = 0

    def used(self) -> float:
        """Seconds of the session so far."""
        return self.clock() - self._start

    def left(self) -> float:
        """Seconds that may still be planned with; negative once the margin is touched."""
        extension = self._extension if self._watched == "prediction" else 0.0
        return self.limit + extension - self.margin - self.used()

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Take the time of the block as that of one more piece of a kind of work."""
        start = self.clock()
        yield
        self.note(kind, self.clock() - start)

    def note(self, kind: str, seconds: float) -> None:
        """Take a measured duration."""
        if kind not in self.paces:
            raise ValueError(f"Unknown kind of work {kind!r}. Known: {', '.join(KINDS)}")
        pace = self.paces[kind]
        slow = pace.count and seconds >= SLOW_FACTOR * pace.mean
        pace.add(seconds)
        if kind in ("evaluation", "checkpoint"):
            self._slow_piece = (SLOW_PIECE, seconds) if slow else (1.0, 0.0)
        if kind == self._watched:
            self._slow_piece = (1.0, 0.0)
            if pace.slowness() == 1.0:
                self._slow_since = None
            elif self._slow_since is None:
                self._slow_since = self.used() - sum(pace.recent)

    def forget_steps(self) -> None:
        """Measure steps anew: other pictures or other layers learn from here on."""
        self.paces["step"], self._slow_since = Pace(), None

    def needed(self, kind: str, *, last: bool = False) -> float:
        """Seconds for one more of a kind and all that must follow it, at the present speed.

        Args:
            kind: one of `KINDS`; "prediction" is one batch.
            last: whether that batch is the last.

        Raises:
            ValueError: nothing of a kind that must follow was measured yet.
        """
        pace, scale = self.paces[kind], SLOW_LAST_BATCH if last else 1.0
        mean, variance = self._reserve_after(kind)
        seconds = mean + scale * pace.mean
        seconds += SAFETY * math.sqrt(variance + pace.variance(scale=scale))
        factor, lasted = self._slow_piece
        if self._slow_since is not None:
            factor = self.paces[self._watched].slowness()
            lasted = self.used() - self._slow_since
        seconds += min((factor - 1) * seconds, (1 - 1 / factor) * lasted)
        if kind in ("step", "evaluation", "checkpoint"):
            piece = self.paces["checkpoint" if kind == "checkpoint" else "evaluation"]
            longest = piece.mean + SAFETY * math.sqrt(piece.variance())
            seconds = max(seconds, SLOW_PIECE * longest)
        return seconds

    def allows(self, kind: str, *, last: bool = False) -> bool:
        """Whether one more of a kind fits together with all that must follow it."""
        return self.needed(kind, last=last) <= self.left()

    def allows_evaluation(self) -> bool:
        """Whether one more evaluation fits; the first one is always made, to be measured."""
        return not self.paces["evaluation"].count or self.allows("evaluation")

    def check(self) -> None:
        """Refuse a budget that does not hold one step and what must follow it.

        Raises:
            TimeUpError: with what would be needed.
        """
        needed, left = self.needed("step"), self.left()
        if needed > left:
            parts = ", ".join(
                f"{kind} {pace.mean:.3g} s" for kind, pace in self.paces.items() if pace.count
            )
            hours = 1.01 * (self.used() + needed) / (self.limit - self.margin) * self.hours
            raise TimeUpError(
                f"hours={self.hours:g} leaves {left:.3g} s, and one step with what must follow it "
                f"needs {needed:.3g} s ({parts}): give at least hours={hours:.3g}, or a smaller "
                "`image_shape`"
            )

    def plan_steps(self, done: int, wanted: int, *, steps_per_epoch: int) -> int:
        """How many steps the run will have had at its end, as far as one knows now.

        An epoch costs its steps at their mean, an evaluation and a checkpoint.

        Args:
            done: int >= 0. Steps so far, those of earlier sessions too.
            wanted: int. Steps of the whole run if time did not matter.
            steps_per_epoch: int >= 1.

        Returns:
            int in [done, wanted]; `wanted` until a few steps were measured.
        """
        step, evaluation, checkpoint = (self.paces[kind] for kind in KINDS[:3])
        if step.count < RECENT:
            return wanted
        mean, variance = self._reserve_after("step")
        reserve = mean + SAFETY * math.sqrt(variance)
        seconds = max(0.0, self.left() - reserve) + max(0.0, self.later - self.margin - reserve)
        each = step.mean + (evaluation.mean + checkpoint.mean) / steps_per_epoch
        return done + min(wanted - done, int(seconds / each))

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Measure the block as the next batch of prediction.

        Raises:
            TimeUpError: it does not fit, and the block is not entered.
        """
        if self._watched != "prediction":
            self._watched, self._slow_since = "prediction", None
        self._predicted += 1
        if not self.allows("prediction", last=self._predicted == self.prediction_batches):
            raise TimeUpError(
                f"hours={self.hours:g}: batch {self._predicted} of {self.prediction_batches} to "
                f"predict does not fit into the {self.left():.3g} s that are left"
            )
        with self.measure("prediction"):
            yield

    def probe(self, predict_batch: Callable[[int], Any]) -> None:
        """Measure the prediction of the first test batches; the very first one, which may
        compile, is not counted."""
        start = self.used()
        for index in range(min(1 + PROBE_BATCHES, self.prediction_batches)):
            if index > 3 and self.used() - start > PROBE_SHARE * self.limit:
                break
            before = self.clock()
            predict_batch(index)
            if index or self.prediction_batches == 1:
                self.note("prediction", self.clock() - before)

    def to_dict(self) -> dict[str, Any]:
        """Limit, use and mean durations, for a record."""
        seconds = {kind: pace.mean for kind, pace in self.paces.items() if pace.count}
        return {"hours": self.hours, "used_seconds": self.used(), "mean_seconds": seconds}

    def _reserve_after(self, kind: str) -> tuple[float, float]:
        """Mean and variance of the seconds that must follow work of a kind."""
        mean = variance = 0.0
        batches = self.prediction_batches
        for name in KINDS[KINDS.index(kind) + 1 :]:
            pace = self.paces[name]
            if name in ("prediction", "writing") and not batches:
                continue
            if not pace.count:
                raise ValueError(
                    f"No {name} was measured yet: the budget cannot keep time for it. Measure one "
                    "before the first step"
                )
            if name == "prediction":
                mean += (batches - 1 + SLOW_LAST_BATCH) * pace.mean
                variance += pace.variance(batches - 1) + pace.variance(scale=SLOW_LAST_BATCH)
            else:
                mean += pace.mean
                variance += pace.variance()
        return mean, variance
