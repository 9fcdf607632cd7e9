"""Runs within the hours of a session: they end in time, go on in the next, and always answer."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from imetlib import paths
from imetlib.collection.prepared import prepare_pictures, prepare_tables, with_settings
from imetlib.delivery.first_submission import read_standing
from imetlib.delivery.submission import check_submission
from imetlib.profiles import get_profile
from imetlib.scores import load_scores
from imetlib.timed import StandingSubmission
from imetlib.training import members
from imetlib.training.clock import TimeBudget, TimeUpError
from imetlib.training.members import SUBMITTED, parse_members
from imetlib.training.repeat import repeat_run
from imetlib.training.runs import train_all_folds
from imetlib.training.session import Session
from imetlib.training.stop_in_time import StopInTime

pytestmark = pytest.mark.keras
EPOCHS = 24


class Clock:
    """Seconds that go by as batches are worked on, see `seconds_are_batches`."""

    now = 0.0

    def __call__(self):
        return Clock.now


@pytest.fixture(autouse=True)
def seconds_are_batches(monkeypatch):
    """A batch takes a second, to learn from as well as to predict, and nothing else takes any."""

    def ticking(function):
        def tick(*arguments, **more):
            Clock.now += 1.0
            return function(*arguments, **more)

        return tick

    for owner, name in ((StopInTime, "on_train_batch_end"), (keras.Model, "predict_on_batch")):
        monkeypatch.setattr(owner, name, ticking(getattr(owner, name)))


@pytest.fixture(scope="module")
def museum_data(tmp_path_factory):
    profile = get_profile(
        "fast",
        museum_size=400,
        museum_side=48,
        image_shape=(32, 32, 3),
        num_folds=3,
        epochs=EPOCHS,
        batch_size=20,
    )
    return prepare_pictures(prepare_tables(profile, out=tmp_path_factory.mktemp("timed")))


def run(data, folder, seconds, *, later=0.0, epochs=EPOCHS):
    """The record, what was shown of the networks, and the submission."""
    session = Session(seconds / 3600, later_hours=later / 3600, clock=Clock())
    standing, shown = StandingSubmission(folder, data, session), []

    def show(out_of_fold, test, num_networks):
        shown.append((num_networks, len(out_of_fold.ids), len(test.ids)))
        standing.improve(out_of_fold, test, num_networks)

    data = with_settings(data, epochs=epochs)
    try:
        return train_all_folds(data, folder, session=session, on_network=show), shown, standing
    finally:
        path = folder / "submission.csv"
        sample = data.collection.root / "sample_submission.csv"
        assert not check_submission(path, sample, len(data.collection.class_names)).faults
        assert read_standing(path) == standing.standing


def test_a_run_that_time_cuts_short_is_finished_and_answers(museum_data, tmp_path):
    record, shown, standing = run(museum_data, tmp_path / "run", 240)
    assert record["stopped_in_time"] == [True, True]
    assert json.loads((tmp_path / "run" / "record.json").read_text())["hours"] == 240 / 3600
    num_rows = len(museum_data.rows_of_folds(1, 2))
    num_test = len(museum_data.collection.test_ids)
    assert [entry[0] for entry in shown] == [1, 2]
    assert shown[1] == (2, num_rows, num_test)
    assert standing.standing.num_networks in (0, 1, 2)
    history = pd.read_csv(tmp_path / "run" / "fold1" / "history.csv")
    assert 1 < len(history) < EPOCHS
    assert history["learning_rate"].iloc[-1] < 0.1 * history["learning_rate"].max(), (
        "the schedule ends with the time"
    )
    fold = json.loads((tmp_path / "run" / "fold1" / "record.json").read_text())
    assert fold["time_budget"]["used_seconds"] <= 3600 * fold["time_budget"]["hours"]
    assert not (tmp_path / "run" / "fold1" / "checkpoints").exists()
    with pytest.raises(ValueError, match="depends on the clock, so it cannot be repeated"):
        repeat_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"other settings \(timed\)"):
        train_all_folds(museum_data, tmp_path / "run")


def test_with_time_enough_all_epochs_are_trained(museum_data, tmp_path):
    record, _, _ = run(museum_data, tmp_path / "run", 1e6, epochs=2)
    assert record["stopped_in_time"] == [False, False]
    assert len(pd.read_csv(tmp_path / "run" / "fold2" / "history.csv")) == 3


def test_a_second_session_goes_on(museum_data, tmp_path):
    record, shown, _ = run(museum_data, tmp_path / "run", 150, later=240)
    assert record["folds"] == [1] and record["stopped_in_time"] == [True]
    assert shown[0][0] == 1, "the first session answers too"
    assert not (tmp_path / "run" / "record.json").exists()
    assert not (tmp_path / "run" / "fold1" / "record.json").exists()
    before = pd.read_csv(tmp_path / "run" / "fold1" / "history.csv")
    record, shown, standing = run(museum_data, tmp_path / "run", 240)
    assert "folds" not in record and len(record["best_epochs"]) == 2
    after = pd.read_csv(tmp_path / "run" / "fold1" / "history.csv")
    assert len(after) > len(before)
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    rates = after["learning_rate"].to_numpy()[1:]
    assert np.all(np.diff(rates[rates.argmax() :]) <= 0), "one schedule over both"
    assert (tmp_path / "run" / "record.json").is_file()


def test_time_up_in_the_last_network_leaves_the_answer_of_those_before(
    museum_data, tmp_path, monkeypatch
):
    batches = iter(range(100))
    total, original = [], TimeBudget.predicting

    def predicting(self):
        total.append(self)
        if len({id(one) for one in total}) == 2 and next(batches) == 1:
            raise TimeUpError("nothing is left")
        return original(self)

    monkeypatch.setattr(TimeBudget, "predicting", predicting)
    record, shown, standing = run(museum_data, tmp_path / "run", 1e6, epochs=1)
    assert record["folds"] == [1] and len(shown) == 1
    assert len(load_scores(tmp_path / "run" / "scores-oof.npz").ids) == shown[0][1]
    monkeypatch.setattr(TimeBudget, "predicting", original)
    record, shown, _ = run(museum_data, tmp_path / "run", 1e6, epochs=1)
    assert "folds" not in record and [entry[0] for entry in shown] == [1, 2]


def test_time_up_in_the_first_network_answers_in_part(museum_data, tmp_path, monkeypatch):
    original, calls = TimeBudget.predicting, []

    def predicting(self):
        calls.append(self)
        if len(calls) > 1:
            raise TimeUpError("nothing is left")
        return original(self)

    monkeypatch.setattr(TimeBudget, "predicting", predicting)
    num_test = len(museum_data.collection.test_ids)
    with pytest.raises(TimeUpError, match=r"Time was up in the predictions of .*run it again"):
        run(museum_data, tmp_path / "run", 1e6, epochs=1)
    assert len(load_scores(tmp_path / "run" / "fold1" / "scores-test.npz").ids) == 64 < num_test
    assert not (tmp_path / "run" / "fold1" / "record.json").exists()


def test_too_few_hours_are_refused_with_a_submission_in_place(museum_data, tmp_path):
    with pytest.raises(TimeUpError, match=r"one step with what must follow it needs .* at least"):
        run(museum_data, tmp_path / "run", 10)
    standing = read_standing(tmp_path / "run" / "submission.csv")
    assert standing.num_networks == 0 and 0 < standing.score < 1


def test_what_cannot_be_timed_is_refused_early(museum_data, tmp_path):
    session = Session(1.0)
    with pytest.raises(ValueError, match=r"time is for networks. Received: method='ridge'"):
        train_all_folds(museum_data, tmp_path, method="ridge", session=session)
    data = with_settings(museum_data, small_epochs=1)
    with pytest.raises(ValueError, match="small_epochs=1: a time budget"):
        train_all_folds(data, tmp_path, session=session)
    full = get_profile("full")
    with pytest.raises(ValueError, match=r"a single network is trained.*or hours=0"):
        parse_members("vgg16:network xception:network", full, SUBMITTED, timed=True)
    with pytest.raises(ValueError, match=r"a single network is trained.*or hours=0"):
        parse_members(SUBMITTED["full"], full, SUBMITTED, timed=True)


@pytest.mark.parametrize("name", ["fast", "report", "full"])
def test_a_session_has_a_network_of_its_own_where_none_is_named(name, monkeypatch):
    monkeypatch.setattr(members, "find_weights", lambda *arguments: None)
    (member,) = parse_members("", get_profile(name, weights="imagenet"), SUBMITTED, timed=True)
    assert member.method == "network"


def test_on_kaggle_every_answer_is_where_it_is_looked_for(museum_data, tmp_path, monkeypatch):
    """A session that is stopped in the middle has handed over what it had."""
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.setattr(paths, "KAGGLE_WORKING", working)
    standing = StandingSubmission(tmp_path / "home", museum_data, Session(1.0))
    assert not list(working.iterdir()), "at home nothing is copied"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    standing = StandingSubmission(tmp_path / "run", museum_data, Session(1.0))
    first = (working / "submission.csv").read_bytes()
    assert first == standing.path.read_bytes()
    ids = museum_data.collection.test_ids
    y_pred = np.zeros((len(ids), len(museum_data.collection.class_names)), bool)
    y_pred[:, 0] = True
    for score, taken in ((0.0, False), (1.0, True)):
        assert standing.take(ids, y_pred, score, 1, source="a test") == taken
        assert ((working / "submission.csv").read_bytes() != first) == taken
    assert (working / "submission.csv").read_bytes() == standing.path.read_bytes()
    sample = museum_data.collection.root / "sample_submission.csv"
    assert not check_submission(working / "submission.csv", sample, y_pred.shape[1]).faults


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hours": 0.0}, "`hours` must be positive"),
        ({"hours": float("nan")}, "`hours` must be positive"),
        ({"hours": 1.0, "later_hours": -1.0}, "`later_hours` must be finite and >= 0"),
        ({"hours": 1.0, "spent_seconds": float("inf")}, "`spent_seconds` must be finite"),
        ({"hours": 1.0, "margin_fraction": 1.0}, r"`margin_fraction` must lie in \[0, 1\)"),
    ],
)
def test_bad_session(settings, message):
    with pytest.raises(ValueError, match=message):
        Session(**settings)


def test_shares_of_a_session():
    clock = Clock()
    session = Session(10.0, later_hours=10.0, margin_fraction=0.1, clock=clock)
    budget = session.budget(num_networks=3, prediction_batches=5)
    # (9 + 9) hours for three: one of them in this session, the next one over both.
    assert budget.hours == pytest.approx(6.0, abs=0.01)
    assert budget.later == pytest.approx(0.0, abs=1.0)
    Clock.now += 6 * 3600
    budget = session.budget(num_networks=2, prediction_batches=5)
    assert budget.hours == pytest.approx(3.0, abs=0.01)
    assert budget.later / 3600 == pytest.approx(3.0, abs=0.01)
