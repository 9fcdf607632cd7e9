"""The time budget: decisions by hand, schedule and stop in `fit`, and 1,000 simulated runs."""

import math
from contextlib import suppress

import keras
import numpy as np
import pytest
from clock_simulator import LIMIT, Clock, draw_run, simulate_run, simulate_session

from imetlib.delivery.first_submission import (
    read_standing,
    replace_if_better,
    write_first_submission,
)
from imetlib.delivery.submission import verify_submission
from imetlib.profiles import get_profile
from imetlib.training import pace
from imetlib.training.clock import SAFETY, TimeBudget, TimeUpError
from imetlib.training.optimizers import compile_model
from imetlib.training.pace import SPREAD, Pace
from imetlib.training.stop_in_time import StopInTime, cosine_rate


def budget_of(seconds, clock=None, *, batches=0, **settings):
    """A budget with a margin of 0 in which one evaluation and one checkpoint were measured."""
    settings = {"margin_fraction": 0.0, **settings}
    budget = TimeBudget(
        seconds / 3600, prediction_batches=batches, clock=clock or Clock(), **settings
    )
    budget.note("evaluation", 4.0)
    budget.note("checkpoint", 2.0)
    return budget


def prior_variance(mean, measured):
    """Of one more, where all measured were equal: four more at `SPREAD` are imagined."""
    return 4 * (SPREAD * mean) ** 2 / (3 + measured)


# Pace ------------------------------------------------------------------------------------------


def test_variance_is_that_of_a_sum_of_new_ones_and_of_the_mean():
    seconds = np.random.default_rng(0).lognormal(0.0, 0.5, 40)
    work = Pace()
    for value in seconds:
        work.add(value)
    mean = seconds.mean()
    single = (4 * (SPREAD * mean) ** 2 + ((seconds - mean) ** 2).sum()) / 43
    assert work.mean == pytest.approx(mean)
    assert work.variance(10) == pytest.approx(single * (10 + 100 / 40))
    assert work.variance(scale=10.0) == pytest.approx(100 * single * (1 + 1 / 40))
    assert Pace().variance() == 0.0


def test_slowness_needs_several_slow_steps():
    work = Pace()
    for _ in range(40):
        work.add(1.0)
    work.add(30.0)
    assert work.slowness() == 1.0, "one long step is no slow-down"
    for _ in range(8):
        work.add(3.0)
    assert work.slowness() == pytest.approx(3.0)
    for _ in range(8):
        work.add(1.1)
    assert work.slowness() == 1.0, "it is over"


# Decisions -------------------------------------------------------------------------------------


def test_a_step_fits_as_long_as_what_must_follow_it():
    clock = Clock()
    budget = budget_of(100.0, clock, batches=5)
    for kind, seconds in (("prediction", 1.0), ("writing", 0.5), ("step", 3.0)):
        budget.note(kind, seconds)
    # 3 step + 4 evaluation + 2 checkpoint + 4 batches + 10 for the last + .5 writing
    mean = 3 + 4 + 2 + 4 + 10 + 0.5
    variance = (
        sum(2 * prior_variance(m, 1) for m in (3.0, 4.0, 2.0, 0.5))
        + prior_variance(1.0, 1) * (4 + 4 * 4)
        + 100 * prior_variance(1.0, 1) * 2
    )
    needed = mean + SAFETY * math.sqrt(variance)
    assert budget.needed("step") == pytest.approx(needed)
    clock.now = 100.0 - needed - 1e-6
    assert budget.allows("step")
    clock.now += 2e-6
    assert not budget.allows("step")
    assert budget.allows("evaluation"), "it was kept free"
    rest = 0.5 + 1.0 + SAFETY * math.sqrt(2 * prior_variance(0.5, 1) + 2 * prior_variance(1.0, 1))
    assert budget.needed("prediction") == pytest.approx(rest)
    last = 10.5 + SAFETY * math.sqrt(2 * prior_variance(0.5, 1) + 200 * prior_variance(1.0, 1))
    assert budget.needed("prediction", last=True) == pytest.approx(last)


def test_a_slow_down_is_expected_to_last_as_long_again():
    clock = Clock(slow_from=40.0, slow_until=math.inf)
    budget = budget_of(1000.0, clock, batches=30)
    budget.note("prediction", 1.0)
    budget.note("writing", 0.5)
    for _ in range(40):
        with budget.measure("step"):
            clock.work(1.0)
    usual = budget.needed("evaluation")
    for _ in range(20):
        with budget.measure("step"):
            clock.work(1.0)
    # Known from the sixth of 8 steps on, (3 ** (6 / 8) > 2), which began 2 steps before it.
    lasted = 60.0 + 2.0
    assert budget.needed("evaluation") == pytest.approx(usual + min(2 * usual, 2 / 3 * lasted))
    budget.forget_steps()
    assert budget.needed("evaluation") == pytest.approx(usual)


def test_an_evaluation_may_take_three_times_as_long():
    budget = TimeBudget(100 / 3600, prediction_batches=0, margin_fraction=0.0, clock=Clock())
    for _ in range(1000):
        budget.note("evaluation", 10.0)
        budget.note("checkpoint", 0.1)
    longest = 10.0 + SAFETY * math.sqrt(prior_variance(10.0, 1000) * 1.001)
    assert budget.needed("evaluation") == pytest.approx(3 * longest)
    assert budget.needed("step") == pytest.approx(3 * longest)
    assert budget.needed("checkpoint") == pytest.approx(3 * longest / 100)


def test_a_slow_evaluation_makes_what_follows_slow_as_well():
    budget = budget_of(1000.0, batches=30)
    budget.note("prediction", 1.0)
    budget.note("writing", 0.5)
    before = budget.needed("checkpoint")
    budget.note("evaluation", 12.0)
    assert budget.needed("checkpoint") == pytest.approx(before + 2 / 3 * 12.0)
    budget.note("step", 1.0)
    assert budget.needed("checkpoint") == pytest.approx(before), "steps tell the speed again"


def test_time_before_and_margin_are_not_planned_with():
    clock = Clock()
    budget = TimeBudget(1.0, prediction_batches=0, spent_seconds=60.0, clock=clock)
    clock.now = 100.0
    assert budget.used() == 160.0
    assert budget.left() == pytest.approx(3600 - 36 - 160)


def test_budget_too_small_says_what_is_needed():
    budget = budget_of(20.0, batches=3)
    for kind, seconds in (("prediction", 2.0), ("writing", 0.5), ("step", 3.0)):
        budget.note(kind, seconds)
    with pytest.raises(ValueError, match=r"leaves 20 s, .* prediction 2 s, writing 0.5 s") as error:
        budget.check()
    hours = float(str(error.value).split("hours=")[2].split(",")[0])
    assert hours * 3600 > 20
    enough = budget_of(hours * 3600, batches=3)
    for kind, seconds in (("prediction", 2.0), ("writing", 0.5), ("step", 3.0)):
        enough.note(kind, seconds)
    enough.check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hours": 0.0}, "`hours` must be positive and finite. Received: hours=0.0"),
        ({"hours": -1.0}, "`hours` must be positive"),
        ({"hours": math.nan}, "`hours` must be positive"),
        ({"margin_fraction": 1.0}, r"`margin_fraction` must lie in \[0, 1\)"),
        ({"prediction_batches": -1}, "`prediction_batches` must be finite and >= 0"),
        ({"later_hours": math.inf}, "`later_hours` must be finite"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TimeBudget(**{"hours": 1.0, "prediction_batches": 1, **settings})


def test_what_was_not_measured_cannot_be_kept_free():
    budget = TimeBudget(1.0, prediction_batches=3)
    with pytest.raises(ValueError, match="No evaluation was measured yet"):
        budget.check()
    with pytest.raises(ValueError, match=r"Unknown kind of work 'epoch'. Known: step, evaluation"):
        budget.note("epoch", 1.0)


# Plan and delivery -----------------------------------------------------------------------------


def test_plan_fits_the_steps_to_the_time_left():
    clock = Clock()
    budget = budget_of(1000.0, clock)
    assert budget.plan_steps(0, 500, steps_per_epoch=10) == 500, "nothing measured yet"
    for _ in range(20):
        budget.note("step", 5.0)
    reserve = 6.0 + SAFETY * math.sqrt(2 * prior_variance(4.0, 1) + 2 * prior_variance(2.0, 1))
    # A tenth of an evaluation and of a checkpoint belongs to each step.
    affordable = int((1000.0 - reserve) / (5.0 + 0.6))
    assert budget.plan_steps(20, 500, steps_per_epoch=10) == 20 + affordable
    assert budget.plan_steps(20, 100, steps_per_epoch=10) == 100
    clock.now = 999.0
    assert budget.plan_steps(20, 500, steps_per_epoch=10) == 20
    budget.later = 1000.0
    assert budget.plan_steps(20, 500, steps_per_epoch=10) == 20 + affordable


def test_probe_counts_neither_the_compiling_batch_nor_much_time():
    clock = Clock()
    budget = TimeBudget(1000 / 3600, prediction_batches=200, clock=clock)
    seconds = iter([50.0] + [4.0] * 199)
    budget.probe(lambda index: clock.work(next(seconds)))
    prediction = budget.paces["prediction"]
    assert (prediction.count, prediction.mean) == (3, 4.0), "a fiftieth of the limit had gone"
    one = TimeBudget(1.0, prediction_batches=1, clock=clock)
    one.probe(lambda index: clock.work(4.0))
    assert one.paces["prediction"].count == 1


def test_prediction_stops_before_the_limit():
    clock = Clock()

    def session(seconds, **settings):
        clock.now, predicted = 0.0, []
        settings = {"prediction_batches": 10, "margin_fraction": 0.0, "clock": clock, **settings}
        budget = TimeBudget(seconds / 3600, **settings)
        budget.note("writing", 1.0)
        budget.note("prediction", 10.0)
        with suppress(TimeUpError):
            for index in range(10):
                with budget.predicting():
                    clock.work(10.0)
                    predicted.append(index)
        return predicted

    assert session(400.0) == list(range(10))
    cut = session(100.0)
    assert cut == list(range(len(cut)))
    assert 0 < len(cut) < 10
    assert clock.now < 100.0
    assert session(5.0) == []
    assert len(session(100.0, prediction_hours=400.0 / 3600)) == 10, "time meant for others"


# In `fit` --------------------------------------------------------------------------------------


def small_model(rate=0.1):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="mse")
    return model


class Work(keras.callbacks.Callback):
    """Moves the clock; notes the rate of each step and the evaluations of epochs."""

    def __init__(self, budget, seconds):
        super().__init__()
        self.budget, self.seconds, self.rates, self.epochs = budget, seconds, [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.budget.clock.work(self.seconds)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        for kind, seconds in (("evaluation", 4.0), ("checkpoint", 2.0)):
            with self.budget.measure(kind):
                self.budget.clock.work(seconds)


def fit(budget, *, steps, seconds=1.0, rate_at=None, **state):
    """Epochs of 10 steps that take one second each."""
    model, work = small_model(), Work(budget, seconds)
    stop = StopInTime(budget, steps=steps, rate_at=rate_at, **state)
    model.fit(
        np.zeros((20, 3)),
        np.zeros((20, 1)),
        batch_size=2,
        epochs=-(-(steps - stop.done) // 10),
        verbose=0,
        callbacks=[work, stop],
    )
    return work, stop


def rate_at(progress):
    return cosine_rate(progress, learning_rate=0.1, warmup_fraction=0.1)


def test_fit_ends_within_an_epoch():
    budget = budget_of(115.0)
    work, stop = fit(budget, steps=1000)
    assert stop.stopped
    assert stop.done == len(work.rates)
    assert stop.done % 10, "the limit fell into an epoch"
    assert work.epochs[-1] == stop.done // 10, "the epoch cut short is evaluated too"
    assert 0 <= 115.0 - budget.used() < 16.0
    assert budget.paces["step"].mean == pytest.approx(1.0), "evaluations are no part of steps"
    assert budget.to_dict()["mean_seconds"]["step"] == pytest.approx(1.0)


def test_with_time_enough_the_rate_is_that_of_the_schedule():
    """`CosineDecay` of `compile_model`, step by step."""
    steps = 40
    profile = get_profile("fast", learning_rate=0.1, warmup_fraction=0.1)
    model = small_model()
    compile_model(model, profile, steps)
    schedule = model.optimizer._learning_rate
    work, stop = fit(budget_of(10_000.0), steps=steps, rate_at=rate_at)
    expected = [float(schedule(step)) for step in range(steps)]
    np.testing.assert_allclose(work.rates, expected, rtol=1e-4)
    assert (stop.done, stop.progress, stop.stopped) == (steps, 1.0, False)


def test_with_less_time_the_rate_comes_to_its_end_with_the_budget():
    work, stop = fit(budget_of(200.0), steps=1000, rate_at=rate_at)
    assert stop.done < 200
    assert stop.progress > 0.97
    assert work.rates[-1] < 0.002, "the last steps are those of the end of the cosine"
    assert max(work.rates) == pytest.approx(0.1, rel=0.1)


def test_a_second_session_goes_on_without_a_jump():
    first = budget_of(150.0, later_hours=150.0 / 3600)
    before, stop = fit(first, steps=1000, rate_at=rate_at)
    assert stop.stopped
    assert 0.4 < stop.progress < 0.6, "half of the schedule is left to the second session"
    after, end = fit(
        budget_of(150.0), steps=1000, rate_at=rate_at, done=stop.done, progress=stop.progress
    )
    assert after.rates[0] == pytest.approx(rate_at(stop.progress), rel=1e-5)
    rates = before.rates + after.rates
    peak = int(np.argmax(rates))
    assert np.all(np.diff(rates[peak:]) <= 1e-9), "after the warm-up it only falls"
    assert np.abs(np.diff(rates[peak:])).max() < 0.005, "in small steps"
    assert end.progress > 0.97
    assert end.done == stop.done + len(after.rates)


def test_fit_refuses_a_budget_that_holds_nothing():
    with pytest.raises(ValueError, match=r"leaves 5 s, and one step with what must follow"):
        fit(budget_of(5.0), steps=10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "Received: steps=0, done=0"),
        ({"steps": 5, "done": 6}, r"`done` lie in \[0, steps\]. Received: steps=5, done=6"),
        ({"steps": 5, "progress": 1.5}, r"`progress` must lie in \[0, 1\]"),
    ],
)
def test_bad_state(settings, message):
    with pytest.raises(ValueError, match=message):
        StopInTime(budget_of(10.0), **settings)


# The simulator ---------------------------------------------------------------------------------


def simulate(num_runs):
    runs = [simulate_run(seed) for seed in np.random.SeedSequence(0).spawn(num_runs)]
    return [session for sessions in runs for session in sessions]


def test_a_thousand_runs():
    """Each session counts for itself: of the third that is resumed, both."""
    sessions = simulate(1000)
    assert max(session.used for session in sessions) <= 1, "over the limit"
    assert all(session.valid for session in sessions)
    assert max(session.first_submission for session in sessions) <= 60
    ended = [session for session in sessions if not session.killed]
    used = np.array([session.used for session in ended if session.stopped])
    assert len(used) > 900, "most had work left"
    assert (used >= 0.9).mean() >= 0.9
    assert np.mean([session.predicted == 1 for session in ended]) > 0.95
    assert min(session.predicted for session in ended) > 0


def test_without_the_decisions_the_limit_would_be_passed(monkeypatch):
    """The simulator can fail: a budget that allows everything is late in most runs."""
    monkeypatch.setattr(TimeBudget, "allows", lambda *arguments, **settings: True)
    sessions = simulate(20)
    assert np.mean([session.used > 1 for session in sessions]) > 0.5


def test_a_machine_that_stays_slow_still_predicts_the_test_set(monkeypatch):
    def shares():
        for seed in range(10):
            run = draw_run(np.random.default_rng(seed))
            run.steps, run.batch = 100_000, 0.08 * LIMIT / run.num_batches
            session, _ = simulate_session(run, slow=LIMIT, slow_from=0.4 * LIMIT)
            assert session.stopped
            assert session.used <= 1
            yield session.predicted

    # All but the last batch, where ten times its time is not left.
    assert min(shares()) > 0.95
    monkeypatch.setattr(pace, "SLOW_FACTOR", math.inf)
    assert np.mean(list(shares())) < 0.8, "measured at the old speed, it would be cut"


@pytest.mark.parametrize("index", range(0, 40, 8))
def test_simulated_runs_with_real_files(tmp_path, index):
    """The writer is the real one: first the constant answer, then what was predicted."""
    path = tmp_path / "submission.csv"
    train, val = np.eye(5, dtype=int)[[0, 0, 1]], np.eye(5, dtype=int)[[0, 2]]
    seed = np.random.SeedSequence(0).spawn(index + 1)[index]
    num_batches = draw_run(np.random.default_rng(seed)).num_batches
    ids = [f"{row:04x}" for row in range(num_batches)]
    predicted = []

    def write(parts):
        if not parts:
            write_first_submission(path, train, val, ids)
        else:
            replace_if_better(
                path,
                ids[:parts],
                np.tile(np.eye(5, dtype=int)[2], (parts, 1)),
                ids,
                score=0.9,
                source="network",
                num_classes=5,
                partial=parts < num_batches,
            )
            predicted.append(parts)
        assert verify_submission(path, ids, 5) == []

    sessions = simulate_run(seed, write=write)
    assert max(session.used for session in sessions) <= 1
    assert verify_submission(path, ids, 5) == []
    assert (read_standing(path).source == "network") == bool(predicted)
