"""One thing changed: settings that exist, runs side by side, differences picture by picture."""

import dataclasses

import numpy as np
import pytest

from imetlib.collection.prepared import with_settings
from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.thresholds import decide
from imetlib.delivery.records import read_record
from imetlib.profiles import PROFILE_NAMES, Profile, get_profile
from imetlib.scores import load_scores, save_scores
from imetlib.training import ablation
from imetlib.training.ablation import ABLATIONS, ablate, paired_difference, parse_ablations


@pytest.mark.parametrize("profile", PROFILE_NAMES)
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_settings_to_values_that_exist(name, profile):
    settings = ABLATIONS[name]
    assert set(settings) <= {field.name for field in dataclasses.fields(Profile)}
    plain, changed = get_profile(profile), get_profile(profile, **settings)
    assert all(getattr(changed, key) == value for key, value in settings.items())
    if name == "from-scratch" and profile == "fast":
        assert changed == plain, "fast starts from scratch unless it is given weights"
    else:
        assert changed != plain
    assert "num_folds" not in settings, "folds belong to the collection"


def test_names_are_parsed():
    assert parse_ablations("pad  focal") == ["pad", "focal"]
    assert parse_ablations("none") == parse_ablations("") == []
    message = r"Unknown ablations: none, padd\. Known: no-warmup, .*, from-scratch, or none"
    with pytest.raises(ValueError, match=message):
        parse_ablations("pad padd none")


@pytest.fixture(scope="module")
def ablated(prepared, tmp_path_factory):
    """Two short runs of one seed that differ in one thing."""
    folder = tmp_path_factory.mktemp("runs")
    data = with_settings(prepared, epochs=1)
    return ablate(data, ["no-warmup", "no-augmentation"], folder, seed=3), folder, data


def test_runs_are_named_by_backbone_and_ablation(ablated):
    records, folder, data = ablated
    assert list(records) == ["no-warmup", "no-augmentation"]
    for name, record in records.items():
        assert record == read_record(folder / f"small_convnet-{name}")
        assert record["seed"] == 3 and record["identity"]["val_fold"] == 1
        assert record["split"] == "held-out fold of 3"
        changed = with_settings(data, **ABLATIONS[name]).profile.to_dict()
        assert record["parameters"] == changed
    assert sorted(path.name for path in folder.iterdir()) == [
        "small_convnet-no-augmentation",
        "small_convnet-no-warmup",
    ]


def test_nothing_is_trained_for_no_names(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "train_fold", None)
    assert ablate(prepared, [], tmp_path) == {}


def f2_of(data, folder):
    scores, threshold = load_scores(folder / "scores-holdout.npz"), read_record(folder)["threshold"]
    y_true = data.collection.train.dense(data.folds == 0)
    return fbeta_samples(y_true, decide(scores.y_prob, threshold))


def test_the_difference_is_that_of_the_scores(ablated):
    records, folder, data = ablated
    folders = [folder / f"small_convnet-{name}" for name in records]
    found = paired_difference(data.collection, *folders)
    first, second = (f2_of(data, path) for path in folders)
    assert found["difference"] == pytest.approx(first - second, abs=1e-12)
    scores = [record["score"] for record in records.values()]
    assert found["difference"] == pytest.approx(scores[0] - scores[1], abs=1e-9)
    low, high = found["interval"]
    assert low <= found["difference"] <= high
    back = paired_difference(data.collection, *folders[::-1])
    assert back["difference"] == -found["difference"]
    np.testing.assert_allclose(back["interval"], [-high, -low], atol=1e-12)
    # Pictures are paired: a run differs from itself on none of them.
    same = paired_difference(data.collection, folders[0], folders[0])
    assert same == {"difference": 0.0, "interval": [0.0, 0.0]}


def test_runs_on_other_pictures_are_refused(ablated, tmp_path):
    _, folder, data = ablated
    one, other = folder / "small_convnet-no-warmup", tmp_path / "other"
    other.mkdir()
    (other / "record.json").write_bytes((one / "record.json").read_bytes())
    scores = load_scores(one / "scores-holdout.npz")
    for ids in (scores.ids[:-1], scores.ids[::-1]):
        (other / "scores-holdout.npz").unlink(missing_ok=True)
        save_scores(other / "scores-holdout.npz", scores.take(ids))
        with pytest.raises(ValueError, match=r"scored on other pictures: train one again"):
            paired_difference(data.collection, one, other)
