"""Sessions of training on a clock that does not run by itself: what `TimeBudget` is judged by.

Everything that takes time is drawn; what is decided is decided by `TimeBudget` and `StopInTime`,
called as Keras's `fit` calls them.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from imetlib.training.clock import TimeBudget, TimeUpError
from imetlib.training.stop_in_time import StopInTime

LIMIT = 9 * 3600.0


class Killed(Exception):
    """The machine took the session away."""


class Clock:
    """Seconds, moved on by work; within the slow-down work takes three times as long."""

    def __init__(self, slow_from=math.inf, slow_until=math.inf, killed_at=math.inf):
        self.now = 0.0
        self.slow_from, self.slow_until, self.killed_at = slow_from, slow_until, killed_at

    def __call__(self):
        return self.now

    def work(self, seconds):
        normal = min(seconds, max(0.0, self.slow_from - self.now))
        self.now, seconds = self.now + normal, seconds - normal
        if seconds > 0:
            slow = min(3 * seconds, max(0.0, self.slow_until - self.now))
            self.now += slow + (seconds - slow / 3)
        if self.now >= self.killed_at:
            raise Killed


@dataclass
class Run:
    """What is drawn once for a run; seconds are those without jitter."""

    rng: np.random.Generator
    step: float
    steps: int
    steps_per_epoch: int
    evaluation: float
    checkpoint: float
    writing: float
    batch: float
    num_batches: int
    slow_last_batch: bool
    batch_sigma: float = 0.2

    def jitter(self, sigma=0.2):
        return math.exp(sigma * self.rng.standard_normal())


@dataclass
class Session:
    """How a session ended.

    Args:
        used: time at its end as a share of the limit.
        first_submission: seconds at which there was a submission.
        stopped: whether time ended `fit`; False where no work was left.
        killed: whether the machine took it away.
        done, progress: of `StopInTime`.
        predicted: share of the test set's batches that were written.
        valid: whether there is a submission.
    """

    used: float
    first_submission: float
    stopped: bool = False
    killed: bool = False
    done: int = 0
    progress: float = 0.0
    predicted: float = 0.0
    valid: bool = False


def draw_run(rng, *, batch_sigma=0.2):
    """A run of the issue: prediction 1 to 20 % of the limit, checkpoints .1 to 2 %."""
    step = LIMIT / rng.uniform(150, 600)
    steps = max(2, int(rng.uniform(0.3, 3) * LIMIT / step))
    num_batches = int(rng.integers(30, 201))
    return Run(
        rng=rng,
        step=step,
        steps=steps,
        steps_per_epoch=max(1, steps // int(rng.integers(3, 16))),
        evaluation=LIMIT * rng.uniform(0.001, 0.02),
        checkpoint=LIMIT * rng.uniform(0.001, 0.02),
        writing=LIMIT * rng.uniform(0.0001, 0.0008),
        batch=LIMIT * rng.uniform(0.01, 0.2) / num_batches,
        num_batches=num_batches,
        slow_last_batch=bool(rng.random() < 0.2),
        batch_sigma=batch_sigma,
    )


def simulate_session(
    run, *, start=(0, None), slow=0.0, slow_from=None, killed_at=math.inf, write=None, later=0.0
):
    """One session from a saved (done, progress) on; returns a `Session` and what is saved.

    Args:
        slow: seconds of a slow-down that begins outside the reserve; 0: none.
        slow_from: seconds at which it begins; None: drawn.
        killed_at: seconds at which the session is taken away.
        later: seconds of the session that is planned to follow.
        write: function of the number of batches that stands for the real writer, or None.
    """
    clock = Clock(killed_at=killed_at)
    budget = TimeBudget(
        LIMIT / 3600, prediction_batches=run.num_batches, later_hours=later / 3600, clock=clock
    )
    session = Session(used=0.0, first_submission=math.inf)
    saved = start
    stop = None

    def piece(kind, seconds):
        with budget.measure(kind):
            clock.work(seconds * run.jitter())

    def predict_batch(index):
        seconds = run.batch * run.jitter(run.batch_sigma)
        clock.work(seconds * (10 if run.slow_last_batch and index + 1 == run.num_batches else 1))
        return index

    def deliver(parts):
        clock.work(run.writing * run.jitter())
        if write is not None:
            write(len(parts))

    try:
        with budget.measure("writing"):
            deliver([])
        session.valid, session.first_submission = True, clock.now
        clock.work(0.002 * LIMIT)  # the network is built
        budget.probe(predict_batch)
        piece("evaluation", run.evaluation)
        piece("checkpoint", run.checkpoint)
        if slow:
            outside = LIMIT - budget.needed("evaluation")
            clock.slow_from = slow_from or run.rng.uniform(clock.now, outside)
            clock.slow_until = clock.slow_from + slow
        model = SimpleNamespace(stop_training=False)
        stop = StopInTime(budget, steps=run.steps, done=start[0], progress=start[1])
        stop.set_model(model)
        stop.set_params({"steps": run.steps_per_epoch})
        stop.on_train_begin()
        while stop.done < run.steps and not model.stop_training:
            stop.on_epoch_begin(0)
            for step in range(min(run.steps_per_epoch, run.steps - stop.done)):
                clock.work(run.step * run.jitter(0.5))
                stop.on_train_batch_end(step)
                if model.stop_training:
                    break
            if budget.allows("evaluation"):
                piece("evaluation", run.evaluation)
            if budget.allows("checkpoint"):
                piece("checkpoint", run.checkpoint)
                saved = (stop.done, stop.progress)
            stop.on_epoch_end(0)
        parts = []
        with suppress(TimeUpError):
            for index in range(run.num_batches):
                with budget.predicting():
                    parts.append(predict_batch(index))
        if parts:
            deliver(parts)
        session.predicted = len(parts) / run.num_batches
    except Killed:
        session.killed = True
    session.used = clock.now / LIMIT
    if stop is not None:
        session.stopped, session.done, session.progress = stop.stopped, stop.done, stop.progress
    return session, saved


def simulate_run(seed_sequence, *, write=None, batch_sigma=0.2):
    """The sessions of one run: one, or two for a third of them."""
    rng = np.random.default_rng(seed_sequence)
    run = draw_run(rng, batch_sigma=batch_sigma)
    slow = LIMIT * rng.uniform(0.02, 0.2) if rng.random() < 0.2 else 0.0
    if rng.random() >= 1 / 3:
        session, _ = simulate_session(run, slow=slow, write=write)
        return [session]
    # Half of the resumed were killed, half came to their limit and were planned for two.
    killed_at = LIMIT * rng.uniform(0.05, 0.95) if rng.random() < 0.5 else math.inf
    in_first = rng.random() < 0.5
    later = LIMIT if killed_at == math.inf else 0.0
    first, saved = simulate_session(
        run, slow=slow * in_first, killed_at=killed_at, write=write, later=later
    )
    if saved[0] == run.steps:
        return [first]
    second, _ = simulate_session(run, start=saved, slow=slow * (not in_first), write=write)
    return [first, second]
