"""`fit` within a time budget: it ends in time, and its schedule ends with it."""

import math
from functools import partial

import keras


def cosine_rate(progress, *, learning_rate, warmup_fraction):
    """Learning rate at a progress in [0, 1]: linear warm-up from 1 %, then cosine to 1 %.

    The curve of `imetlib.training.schedules.warmup_cosine`, as a function of the share of the
    schedule instead of the step, so that its length may still change.

    Args:
        progress: float in [0, 1].
        learning_rate: float > 0, the greatest.
        warmup_fraction: float in [0, 1), where it is reached.

    Example:
        >>> [cosine_rate(p, learning_rate=1.0, warmup_fraction=0.5) for p in (0.0, 0.5, 1.0)]
        [0.01, 1.0, 0.01]
    """
    if progress < warmup_fraction:
        return learning_rate * (0.01 + 0.99 * progress / warmup_fraction)
    share = (progress - warmup_fraction) / (1 - warmup_fraction)
    return learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


class StopInTime(keras.callbacks.Callback):
    """Ends `fit` in the middle of an epoch while there is time for what must follow.

    It also sets the learning rate of every step: `rate_at` of a progress that grows by an equal
    share of what is left for each step that is still planned. With time enough that is step /
    steps. With less, the rate falls faster and comes to its end with the budget; where a second
    session goes on, it continues without a jump. How fast then depends on the clock: only a run
    with time to spare repeats exactly.

    Give it to `fit` as the last callback: it decides about the next epoch when the others have
    evaluated and saved this one. The first step of each `fit`, which compiles, is not counted
    into the speed.

    Args:
        budget: `imetlib.training.clock.TimeBudget`.
        steps: int >= 1. Steps (batches) of the whole run if time did not matter.
        rate_at: function from progress in [0, 1] to the learning rate, or None to leave it alone.
            The optimizer must have a number, not a schedule.
        done: int in [0, steps]. Steps of earlier sessions.
        progress: float in [0, 1], where they left the schedule; None: done / steps.

    Attributes:
        done, progress: as they are now; a checkpoint keeps both.
        stopped: whether time ended `fit`.
        halved: whether every rate is half of what `rate_at` says.

    Raises:
        ValueError: a number out of its range; at the start of `fit`, a budget that does not
            hold one step and what must follow it.
    """

    def __init__(self, budget, *, steps, rate_at=None, done=0, progress=None):
        super().__init__()
        if steps < 1 or not 0 <= done <= steps:
            raise ValueError(
                "`steps` must be at least 1 and `done` lie in [0, steps]. "
                f"Received: steps={steps}, done={done}"
            )
        progress = done / steps if progress is None else progress
        if not 0 <= progress <= 1:
            raise ValueError(f"`progress` must lie in [0, 1]. Received: progress={progress}")
        self.budget, self.steps, self.rate_at = budget, steps, rate_at
        self.done, self.progress = done, progress
        self.stopped = self.halved = False
        self._mark, self._compiles = 0.0, True

    def halve(self):
        """Half of every rate from here on."""
        self.halved = True

    def get_state(self):
        """What to go on from."""
        return {"done": self.done, "progress": self.progress, "halved": self.halved}

    def set_state(self, state):
        """Go on from what `get_state` gave."""
        self.done, self.progress = state["done"], state["progress"]
        self.halved = state["halved"]

    def on_train_begin(self, logs=None):
        self.budget.check()
        self.budget.forget_steps()
        self._compiles = True
        self._set_rate()

    def on_epoch_begin(self, epoch, logs=None):
        self._mark = self.budget.clock()

    def on_train_batch_end(self, batch, logs=None):
        # From the end of the step before, so that waiting for pictures counts.
        now = self.budget.clock()
        if not self._compiles:
            self.budget.note("step", now - self._mark)
        self._mark, self._compiles = now, False
        planned = self.budget.plan_steps(
            self.done, self.steps, steps_per_epoch=self.params["steps"] or self.steps
        )
        self.progress += (1 - self.progress) / max(1, planned - self.done)
        self.done += 1
        self._set_rate()
        self._stop_unless_it_fits()

    def on_epoch_end(self, epoch, logs=None):
        self._stop_unless_it_fits()

    def _stop_unless_it_fits(self):
        if self.done < self.steps and not self.budget.allows("step"):
            self.stopped = self.model.stop_training = True

    def _set_rate(self):
        if self.rate_at is not None:
            if hasattr(self.model, "jax_state_sync"):
                # On jax the optimizer's numbers are out of the model while it learns.
                self.model.jax_state_sync()
            rate = self.rate_at(self.progress)
            self.model.optimizer.learning_rate = 0.5 * rate if self.halved else rate


def stop_in_time(budget, profile, steps):
    """`StopInTime` with the learning rate of a profile."""
    updates = math.ceil(steps / profile.accumulation)
    # As in `compile_model`; a single update has no warm-up.
    warmup = max(1, round(updates * profile.warmup_fraction)) / updates if updates > 1 else 0.0
    rate_at = partial(
        cosine_rate, learning_rate=profile.learning_rate, warmup_fraction=min(warmup, 0.99)
    )
    return StopInTime(budget, steps=steps, rate_at=rate_at)
