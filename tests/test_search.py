"""A search over settings: within the space, within the hours, never on the holdout, resumable."""

import dataclasses
import json
import math
import sys

import numpy as np
import pytest

from imetlib.collection.prepared import with_settings
from imetlib.figures_training import plot_search
from imetlib.profiles import get_profile
from imetlib.scores import NotFiniteError
from imetlib.training import search
from imetlib.training.search import SPACE, parse_space, search_settings, settings_of

pytest.importorskip("optuna")

SMALL = {"learning_rate": (1e-4, 1e-2, "log"), "loss": ("bce", "focal"), "augmentation": (0.0, 2.0)}


class FakeTraining:
    """Writes what a search reads of a run; the best rate is 1e-3. Remembers what was trained."""

    def __init__(self, fail=None, error=None):
        self.fail, self.error, self.calls = fail, error, []

    def __call__(self, data, folder, fold, *, method, splits, seed, verbose):
        assert splits == (), "the holdout or the test set was asked for"
        if (folder / "record.json").is_file():
            return json.loads((folder / "record.json").read_text())
        name = folder.relative_to(folder.parents[1]).as_posix()
        self.calls.append((name, data.profile))
        folder.mkdir(parents=True, exist_ok=True)
        if len(self.calls) - 1 == self.fail:
            (folder / "best.weights.h5").write_bytes(b"half")
            raise self.error
        score = 0.5 - 0.1 * abs(math.log10(data.profile.learning_rate) + 3) + 0.01 * fold
        needed = ("profile", "split", "metric", "image_shape", "collection_sha256", "folds_sha256")
        record = dict.fromkeys(needed, "") | {"run": folder.name, "seed": seed, "seconds": 10.0}
        record |= {"score": score, "constant_score": 0.1, "num_samples": 9}
        (folder / "record.json").write_text(json.dumps(record))
        return record


@pytest.fixture
def training(monkeypatch):
    """Replaces training and the probe: an epoch of the tiny profile takes 10 s."""

    def install(**settings):
        fake = FakeTraining(**settings)
        monkeypatch.setattr(search, "train_fold", fake)
        monkeypatch.setattr(search, "probe_rate", lambda *_: 10.0 / (32 * 32))
        return fake

    return install


def drawn(result):
    return [trial["drawn"] for trial in result.trials]


# Space ------------------------------------------------------------------------------------------


def test_draws_lie_inside_the_space_and_the_first_is_the_profiles_own(prepared, tmp_path, training):
    fake = training()
    result = search_settings(prepared, tmp_path / "s", 9.0, space=SMALL, max_trials=9)
    own = {"learning_rate": prepared.profile.learning_rate, "loss": "bce", "augmentation": 1.0}
    assert result.trials[0]["drawn"] == own
    assert fake.calls[0][1] == prepared.profile
    assert result.baseline_score == result.trials[0]["score"]
    for trial, (name, profile) in zip(result.trials, fake.calls, strict=True):
        assert trial["folder"].name == name.split("/")[-1] == f"trial{trial['number']:03d}"
        assert 1e-4 <= profile.learning_rate <= 1e-2 and profile.loss in ("bce", "focal")
        assert 0.0 <= trial["drawn"]["augmentation"] <= 2.0
        assert profile.scale == pytest.approx(0.05 * trial["drawn"]["augmentation"])
        assert with_settings(prepared, **trial["settings"]).profile == profile
    assert len({trial["drawn"]["learning_rate"] for trial in result.trials}) == 9
    best = max(result.trials, key=lambda trial: trial["score"])
    assert (result.best_score, result.best_settings) == (best["score"], best["settings"])
    assert result.best_score >= result.baseline_score and result.hours_used < 0.1
    table = result.table()
    assert table["score"].tolist() == [trial["score"] for trial in result.trials]
    assert {"trial", "state", "score", "seconds", *SMALL} == set(table.columns)


def test_an_own_value_outside_the_space_is_still_the_first_trial(prepared, tmp_path, training):
    fake = training()
    space = {"learning_rate": (1e-5, 1e-4, "log"), "trainable_from": ("head", "stage3_conv1")}
    search_settings(prepared, tmp_path / "s", 9.0, space=space, max_trials=4)
    assert fake.calls[0][1] == prepared.profile
    assert all(profile.learning_rate <= 1e-4 for _, profile in fake.calls[1:])
    assert {p.trainable_from for _, p in fake.calls[1:]} <= {"head", "stage3_conv1"}


def test_whole_settings_are_drawn_whole(prepared, tmp_path, training):
    fake = training()
    space = {"batch_size": (16, 64), "mirror_view": (False, True)}
    search_settings(prepared, tmp_path / "s", 9.0, space=space, max_trials=5)
    assert all(type(profile.batch_size) is int for _, profile in fake.calls)
    assert all(16 <= profile.batch_size <= 64 for _, profile in fake.calls[1:])


def test_size_and_augmentation_become_settings():
    full = get_profile("full", image_shape=(288, 192, 3), contrast=0.8)
    assert settings_of(full, {"size": 1.0, "augmentation": 1.0}) == {}
    assert settings_of(full, {"size": 0.75})["image_shape"] == (224, 144, 3)
    # No less than the backbone takes.
    assert settings_of(full, {"size": 0.1})["image_shape"] == (32, 32, 3)
    strong = settings_of(full, {"augmentation": 2.0})
    assert (strong["rotate"], strong["contrast"]) == (6.0, 1.0)
    assert list(parse_space(SPACE, full)) == sorted(SPACE)


def test_the_default_space_fits_a_random_start(prepared, tmp_path, training):
    fake = training()
    result = search_settings(prepared, tmp_path / "s", 9.0, max_trials=3)
    assert set(result.trials[0]["drawn"]) == set(SPACE) - {"trainable_from"}
    assert {profile.image_shape[0] for _, profile in fake.calls} <= {16, 32}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learning_rat": (1, 2)}, "cannot draw learning_rat. Known: size, augmentation, .*loss"),
        ({"backbone": ("vgg16",)}, "cannot draw backbone"),
        ({}, "cannot draw nothing"),
        ({"loss": ("bce", "hinge")}, "`loss` must be one of bce, focal"),
        ({"dropout": (0.0, 2.0)}, "`dropout` must be from 0 to"),
        ({"learning_rate": (1e-2, 1e-3)}, r"learning_rate=\(0\.01, 0\.001\)"),
        ({"weight_decay": (0.0, 0.1, "log")}, r"weight_decay=.*must hold for `log=True`"),
        ({"size": (0.0, 1.0)}, "sizes above 0"),
        ({"loss": ()}, r"Received: loss=\(\)"),
        ({"augmentation": (0.0, 1.0), "scale": (0.0, 1.0)}, "`augmentation` scales scale"),
    ],
)
def test_what_cannot_be_drawn_is_named(prepared, tmp_path, training, space, message):
    fake = training()
    with pytest.raises(ValueError, match=message):
        search_settings(prepared, tmp_path / "s", 9.0, space=space)
    assert not fake.calls and not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hours": 0.0}, "`hours` must be positive"),
        ({"hours": math.nan}, "`hours` must be positive"),
        ({"hours": 1.0, "max_trials": 0}, "max_trials=0"),
        ({"hours": 1.0, "inner_folds": (0,)}, "among 1, 2, none twice; fold 0 is the holdout"),
        ({"hours": 1.0, "inner_folds": (1, 1)}, "none twice"),
        ({"hours": 1.0, "method": "forest"}, "Known: network, ridge, kernel"),
        ({"hours": 1.0, "method": "ridge"}, "Known: size, resize_mode, precision"),
    ],
)
def test_bad_arguments_leave_nothing(prepared, tmp_path, training, arguments, message):
    training()
    with pytest.raises(ValueError, match=message):
        search_settings(prepared, tmp_path / "s", space=SMALL, **arguments)
    assert not (tmp_path / "s").exists()


def test_missing_optuna_is_explained(prepared, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'imetlib\[search\]'"):
        search_settings(prepared, tmp_path / "s", 1.0)
    assert not (tmp_path / "s").exists()


# Hours ------------------------------------------------------------------------------------------


def test_hours_too_small_for_an_epoch_or_a_trial(prepared, tmp_path, training, monkeypatch):
    fake = training()
    monkeypatch.setattr(search.time, "perf_counter", lambda: 0.0)
    with pytest.raises(ValueError, match=r"\(5 s left\) is too small for one epoch.*about 10 s"):
        search_settings(prepared, tmp_path / "s", 5 / 3600, space=SMALL)
    longer = with_settings(prepared, epochs=4)
    with pytest.raises(ValueError, match=r"one trial of 4 epochs .*about 40 s: lower `epochs`"):
        search_settings(longer, tmp_path / "s", 30 / 3600, space=SMALL)
    assert not fake.calls and not (tmp_path / "s").exists()


def test_a_trial_begins_only_if_it_fits(prepared, tmp_path, training, monkeypatch):
    fake = training()
    clock = [0.0]
    monkeypatch.setattr(search.time, "perf_counter", lambda: clock[0])

    def train(data, *arguments, **settings):
        area = math.prod(data.profile.image_shape[:2])
        clock[0] += 10.0 * area / (32 * 32)
        return fake(data, *arguments, **settings)

    monkeypatch.setattr(search, "train_fold", train)
    space = {"learning_rate": (1e-4, 1e-2)}
    result = search_settings(prepared, tmp_path / "s", 45 / 3600, space=space)
    assert len(result.trials) == 4 and result.hours_used == pytest.approx(40 / 3600)
    # The fifth was drawn and waits; hours that hold one more trial train that one.
    result = search_settings(prepared, tmp_path / "s", 11 / 3600, space=space)
    assert [trial["number"] for trial in result.trials] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="too small for one epoch"):
        search_settings(prepared, tmp_path / "s", 9 / 3600, space=space)
    # Nothing more is wanted: the search is read back.
    again = search_settings(prepared, tmp_path / "s", 1e-6, space=space, max_trials=5)
    assert drawn(again) == drawn(result) and len(fake.calls) == 5


def test_smaller_pictures_and_small_epochs_count_less():
    profile = get_profile("full", image_shape=(288, 192, 3), epochs=6, small_epochs=0)
    whole = search.pixels_of(profile, {})
    assert whole == 6 * 288 * 192
    assert search.pixels_of(profile, {"image_shape": (144, 96, 3)}) == whole / 4
    small = search.pixels_of(profile, {"small_epochs": 4})
    assert small == 2 * 288 * 192 + 4 * 192 * 128


def test_the_probe_reads_training_rows_only(watched):
    data, rows = watched
    rate = search.probe_rate(data, (1,), 0)
    assert 0 < rate * 32 * 32 < 60
    assert rows and set(data.folds[sorted(rows)]) == {2}


# Going on ---------------------------------------------------------------------------------------


def test_a_killed_search_goes_on_as_if_nothing_had_happened(prepared, tmp_path, training):
    whole = training()
    expected = search_settings(prepared, tmp_path / "whole", 9.0, space=SMALL, max_trials=8)
    killed = training(fail=2, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        search_settings(prepared, tmp_path / "cut", 9.0, space=SMALL, max_trials=8)
    assert len(killed.calls) == 3 and not (tmp_path / "cut/trial002/record.json").exists()
    # What a kill in the middle of a write leaves.
    (tmp_path / "cut/trials.log.lock").touch()
    with (tmp_path / "cut/trials.log").open("ab") as file:
        file.write(b'{"op_code": 5, "wor')
    rest = training()
    result = search_settings(prepared, tmp_path / "cut", 9.0, space=SMALL, max_trials=8)
    assert [name for name, _ in rest.calls] == [f"cut/trial{k:03d}" for k in range(2, 8)]
    assert rest.calls[0][1] == killed.calls[2][1] == whole.calls[2][1]
    assert drawn(result) == drawn(expected)
    assert (result.best_settings, result.best_score) == (
        expected.best_settings,
        expected.best_score,
    )


def test_a_trial_that_was_trained_but_not_noted_is_not_trained_again(
    prepared, tmp_path, training, monkeypatch
):
    fake = training()

    def killed_after_training(*arguments, **settings):
        fake(*arguments, **settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "train_fold", killed_after_training)
    with pytest.raises(KeyboardInterrupt):
        search_settings(prepared, tmp_path / "s", 9.0, space=SMALL, max_trials=1)
    monkeypatch.setattr(search, "train_fold", fake)
    result = search_settings(prepared, tmp_path / "s", 9.0, space=SMALL, max_trials=1)
    assert len(fake.calls) == len(result.trials) == 1 and result.trials[0]["seconds"] == 10.0


def test_one_seed_draws_one_series(prepared, tmp_path, training):
    training()
    first, again, other = (
        search_settings(prepared, tmp_path / name, 9.0, space=SMALL, max_trials=4, seed=seed)
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert drawn(first) == drawn(again) != drawn(other)


@pytest.mark.parametrize(
    ("settings", "arguments", "named"),
    [
        ({}, {"space": {"dropout": (0.0, 0.5)}}, r"\(space\)"),
        ({}, {"seed": 1}, r"\(seed\)"),
        ({}, {"inner_folds": (1, 2)}, r"\(inner_folds\)"),
        ({"epochs": 2, "dropout": 0.2}, {}, r"\(epochs, dropout\)"),
    ],
)
def test_another_search_in_the_folder_is_refused(
    prepared, tmp_path, training, settings, arguments, named
):
    training()
    search_settings(prepared, tmp_path / "s", 9.0, space=SMALL, max_trials=1)
    before = {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()}
    data = with_settings(prepared, **settings)
    with pytest.raises(ValueError, match=named + ".*nothing was overwritten"):
        search_settings(data, tmp_path / "s", 9.0, **{"space": SMALL, **arguments})
    assert {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()} == before


# Trials -----------------------------------------------------------------------------------------


def test_a_diverged_trial_is_noted_and_the_search_goes_on(prepared, tmp_path, training, capsys):
    fake = training(fail=1, error=NotFiniteError("No epoch gave finite scores"))
    result = search_settings(prepared, tmp_path / "s", 9.0, space=SMALL, max_trials=4, verbose=1)
    states = ["complete", "failed", "complete", "complete"]
    assert [trial["state"] for trial in result.trials] == states
    assert math.isnan(result.trials[1]["score"]) and len(fake.calls) == 4
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[1].startswith("trial 1: F2 nan, best 0.")
    ax = plot_search(result.trials)
    assert {"best so far", "trial", "failed"} <= set(ax.get_legend_handles_labels()[1])
    best = ax.lines[0].get_ydata()
    assert (np.diff(best) >= 0).all() and best[-1] == result.best_score


def test_when_every_trial_diverges_the_remedy_is_named(prepared, tmp_path, training):
    training(fail=0, error=NotFiniteError("No epoch gave finite scores"))
    with pytest.raises(ValueError, match=r"None of 1 trials .*lower `learning_rate`"):
        search_settings(prepared, tmp_path / "s", 9.0, space=SMALL, max_trials=1)


def test_other_errors_stop_the_search(prepared, tmp_path, training):
    training(fail=1, error=ValueError("no such layer"))
    with pytest.raises(ValueError, match="no such layer"):
        search_settings(prepared, tmp_path / "s", 9.0, space=SMALL)


def test_several_inner_folds_are_averaged(prepared, tmp_path, training):
    fake = training()
    result = search_settings(
        prepared, tmp_path / "s", 9.0, space=SMALL, max_trials=2, inner_folds=(1, 2)
    )
    assert [name for name, _ in fake.calls[:2]] == ["trial000/fold1", "trial000/fold2"]
    own = 0.5 - 0.1 * abs(math.log10(prepared.profile.learning_rate) + 3)
    assert result.baseline_score == pytest.approx(own + 0.015)
    assert result.trials[0]["seconds"] >= 20.0


class WatchedPictures:
    """A cache that remembers which rows were read."""

    def __init__(self, pictures, rows):
        self.pictures, self.rows = pictures, rows

    def read(self, row, buffer=None):
        self.rows.add(row)
        return self.pictures.read(row, buffer)

    def __len__(self):
        return len(self.pictures)

    def __getattr__(self, name):
        return getattr(self.pictures, name)


@pytest.fixture
def watched(prepared):
    """The collection, and the set of training rows whose pictures have been read."""
    rows = set()
    pictures = WatchedPictures(prepared.train_pictures, rows)
    return dataclasses.replace(prepared, train_pictures=pictures, test_pictures=None), rows


def test_a_real_search_leaves_records_and_never_reads_the_holdout(watched, tmp_path):
    data, rows = watched
    space = {"learning_rate": (1e-3, 1e-2, "log")}
    result = search_settings(data, tmp_path / "s", 1.0, space=space, max_trials=2)
    assert rows and set(data.folds[sorted(rows)]) == {1, 2}
    for trial in result.trials:
        record = search.read_record(trial["folder"])
        assert record["score"] == trial["score"] and record["split"] == "val fold 1"
        rate = trial["settings"]["learning_rate"]
        assert record["parameters"]["learning_rate"] == rate == trial["drawn"]["learning_rate"]
        assert trial["seconds"] >= record["seconds"] > 0
    text = "".join(p.read_text() for p in (tmp_path / "s").glob("[st]*") if p.is_file())
    assert str(tmp_path) not in text
