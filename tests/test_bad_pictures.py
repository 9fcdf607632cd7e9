"""Pictures that cannot be read stop a run before it trains, or are left out and named.

Ids out are ids in, in order: test pictures among them are answered with label frequencies.
"""

import pickle
import random
import shutil
import warnings

import numpy as np
import pytest

from imetlib.collection.folds import hash_folds, read_folds
from imetlib.collection.images import ImageError
from imetlib.collection.prepared import locate_collection, prepare_collection, with_settings
from imetlib.collection.tables import read_collection
from imetlib.decisions.fbeta import constant_answer
from imetlib.decisions.label_sets import decide
from imetlib.delivery.audit_run import audit_run
from imetlib.delivery.records import read_record
from imetlib.delivery.submission import write_submission
from imetlib.profiles import get_profile
from imetlib.scores import load_scores
from imetlib.training.repeat import repeat_run
from imetlib.training.run_files import identity_of, read_same_run, write_run
from imetlib.training.runs import train_all_folds, train_fold

SETTINGS = {
    "museum_size": 200,
    "museum_side": 48,
    "image_shape": (32, 32, 3),
    "epochs": 1,
    "num_folds": 3,
    "batch_size": 50,
}
REPORT = get_profile("fast", **SETTINGS, bad_pictures="report")


def damage(root, number, seed=0):
    """Makes pictures unreadable, one in five of them a test picture; returns their names."""
    rng = random.Random(seed)
    num_test = number // 5
    bad = rng.sample(sorted((root / "train").iterdir()), number - num_test)
    bad += rng.sample(sorted((root / "test").iterdir()), num_test)
    for count, path in enumerate(bad):
        data = path.read_bytes()
        path.write_bytes(
            [b"", data[: len(data) // 2], b"<!doctype html><p>log in", b"II*\0" + data, data[9:]][
                count % 5
            ]
        )
    return {path.relative_to(root).as_posix() for path in bad}


def prepare(profile, out):
    """A prepared collection, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = prepare_collection(profile, out=out)
    return data, [str(warning.message) for warning in caught]


@pytest.fixture(scope="module")
def damaged(museum, tmp_path_factory):
    """Folder of runs whose museum has 20 unreadable pictures, and their names."""
    out = tmp_path_factory.mktemp("damaged")
    return out, damage(shutil.copytree(museum, out / museum.name), 20)


@pytest.fixture(scope="module")
def reported(damaged):
    return prepare(REPORT, damaged[0])


def test_raise_names_the_pictures_of_both_splits_in_one_report(damaged, tmp_path):
    out, bad = damaged
    profile = get_profile("fast", **SETTINGS)
    assert profile.bad_pictures == "raise"
    for _ in range(2):  # the second time, the caches are there
        with pytest.raises(ImageError) as error:
            prepare_collection(profile, out=out)
        assert len(error.value.faults) == 20
        assert all(name in str(error.value) for name in bad)
        assert "20 pictures cannot be read; replace or remove them" in str(error.value)


def test_report_goes_on_without_them_and_names_them(damaged, reported, museum):
    (_, bad), (data, said) = damaged, reported
    whole = read_collection(museum)
    assert {fault.path for fault in data.left_out} == bad
    assert len(said) == 1 and all(name in said[0] for name in bad)
    assert "20 pictures cannot be read" in said[0]
    gone = [f"train/{name}.png" in bad for name in whole.train.ids]
    rows = np.flatnonzero(~np.array(gone))
    assert len(rows) == len(whole.train) - 16
    train = data.collection.train
    assert train.ids.tolist() == data.train_pictures.ids.tolist() == whole.train.ids[rows].tolist()
    np.testing.assert_array_equal(train.dense(), whole.train.dense(rows))
    np.testing.assert_array_equal(data.collection.specimens, whole.specimens[rows])
    assert data.collection.test_ids.tolist() == whole.test_ids.tolist()
    unreadable = [f"test/{name}.png" in bad for name in whole.test_ids]
    assert data.unreadable_test.tolist() == unreadable and sum(unreadable) == 4
    assert data.test_pictures.ids.tolist() == whole.test_ids[~data.unreadable_test].tolist()


def test_folds_of_the_others_stay_when_a_picture_is_mended(damaged, reported, museum, tmp_path):
    (_, bad), (data, _) = damaged, reported
    # The file of folds holds every picture, readable or not.
    folds = read_folds(data.workspace / "folds-3.csv", read_collection(museum).train.ids)
    kept = [f"train/{name}.png" not in bad for name in read_collection(museum).train.ids]
    np.testing.assert_array_equal(data.folds, folds[kept])
    shutil.copytree(data.collection.root, tmp_path / museum.name)
    shutil.copy(data.workspace / "folds-3.csv", tmp_path)
    for name in bad:
        shutil.copy(museum / name, tmp_path / museum.name / name)
    mended, said = prepare(REPORT, tmp_path)
    assert mended.left_out == () and said == []
    assert dict(zip(data.collection.train.ids, data.folds, strict=True)).items() <= (
        dict(zip(mended.collection.train.ids, mended.folds, strict=True)).items()
    )


def test_pictures_of_a_row_are_its_own(reported, museum, damaged):
    data, _ = reported
    pictures = data.train_pictures
    again = pickle.loads(pickle.dumps(pictures))  # as a worker process gets them
    whole = prepare_collection(get_profile("fast", **SETTINGS), out=museum.parent)
    for row in range(0, len(pictures), 7):
        wanted = whole.train_pictures.read(whole.train_pictures.rows_of([pictures.ids[row]])[0])
        np.testing.assert_array_equal(pictures.read(row), wanted)
        np.testing.assert_array_equal(again.read(row), wanted)
    assert again.ids.tolist() == pictures.ids.tolist()


def test_other_settings_leave_the_same_pictures_out(reported):
    data, _ = reported
    other = with_settings(data, image_shape=(40, 40, 3))
    assert min(other.train_pictures.read(0).shape[:2]) == 40
    assert other.train_pictures.ids.tolist() == data.train_pictures.ids.tolist()
    assert other.test_pictures.ids.tolist() == data.test_pictures.ids.tolist()
    with pytest.raises(ImageError, match="20 pictures cannot be read"):
        with_settings(data, bad_pictures="raise")


@pytest.mark.parametrize(("split", "kept"), [("train", 0), ("train", 2), ("test", 0)])
def test_too_few_readable_pictures_are_refused(museum, tmp_path, split, kept):
    root = shutil.copytree(museum, tmp_path / museum.name)
    for path in sorted((root / split).iterdir())[kept:]:
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="cannot be read"), pytest.raises(ImageError):
        prepare_collection(REPORT, out=tmp_path)


def test_a_missing_picture_is_refused_all_the_same(museum, tmp_path):
    root = shutil.copytree(museum, tmp_path / museum.name)
    gone = min((root / "train").iterdir())
    gone.unlink()
    with pytest.raises(ValueError, match=f"train/{gone.stem}: no such picture"):
        prepare_collection(REPORT, out=tmp_path)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="`bad_pictures` must be one of raise, report"):
        get_profile("fast", bad_pictures="ignore")


@pytest.mark.parametrize(
    ("size", "number"),
    [
        pytest.param(200, 20, id="20 of 200"),
        pytest.param(500, 50, id="50 of 500", marks=[pytest.mark.slow, pytest.mark.faults]),
    ],
)
def test_a_run_answers_every_id_in_order(size, number, tmp_path):
    profile = get_profile("fast", **{**SETTINGS, "museum_size": size})
    root = locate_collection(profile, out=tmp_path)
    bad = damage(root, number)
    with pytest.raises(ImageError) as error:
        prepare_collection(profile, out=tmp_path)
    assert sum(name in str(error.value) for name in bad) == number
    data, _ = prepare(get_profile("fast", **vars_of(profile), bad_pictures="report"), tmp_path)
    folder = data.workspace / "run"
    record = train_all_folds(data, folder)

    for place in (folder, folder / "fold1"):
        named = read_record(place)["left_out"]
        assert {line.split(": ")[0] for line in named} == bad
        assert all("cannot be decoded" in line or "not a picture" in line for line in named)
        assert str(tmp_path) not in (place / "record.json").read_text(), "records are published"
    wanted = read_collection(root).test_ids.tolist()
    scores = load_scores(folder / "scores-test.npz")
    assert scores.ids.tolist() == wanted

    # Logits are averaged over folds, so frequencies are as well.
    rows = [data.rows_of_folds(2), data.rows_of_folds(1)]
    shares = np.array([data.collection.train.dense(own).mean(axis=0) for own in rows])
    with np.errstate(divide="ignore"):
        logits = np.clip(np.log(shares / (1 - shares)), -20.7, 20.7).mean(axis=0)
    unreadable = data.unreadable_test
    assert unreadable.sum() == number // 5
    np.testing.assert_allclose(scores.logits[unreadable] - logits, 0.0, atol=1e-4)
    assert np.ptp(scores.logits[~unreadable], axis=0).max() > 0, "the others are looked at"

    # As notebook 08 does it.
    answer = decide(scores.y_prob, record["threshold"])
    constant = constant_answer(data.collection.train).columns
    answer[unreadable] = np.isin(np.arange(answer.shape[1]), constant)
    sample = root / "sample_submission.csv"
    check = write_submission(tmp_path / "submission.csv", data.collection.test_ids, answer, sample)
    lines = (tmp_path / "submission.csv").read_text().splitlines()[1:]
    assert check.faults == () and [line.split(",")[0] for line in lines] == wanted
    by_hand = {line.split(",")[1] for line, bad in zip(lines, unreadable, strict=True) if bad}
    assert by_hand == {" ".join(map(str, sorted(constant.tolist())))}

    errors = [one for one in audit_run(folder, read_collection(root)) if one.severity == "error"]
    assert errors == []


@pytest.mark.slow
@pytest.mark.faults
def test_a_run_is_repeated_without_the_same_pictures(reported):
    data, _ = reported
    train_fold(data, data.workspace / "again", 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        repeated = repeat_run(data.workspace / "again", out=data.workspace.parent)
    assert repeated.changed == {}
    assert any("20 pictures cannot be read" in str(warning.message) for warning in caught)


def test_a_run_on_other_pictures_is_another_run(reported, museum, damaged):
    """A picture that was mended, or went bad, since: the finished run does not answer for it."""
    data, _ = reported
    folder = data.workspace / "other"
    folder.mkdir()
    result = {"score": 0.5, "constant_score": 0.4, "num_samples": 3}
    identity = identity_of(data, "ridge", 0)
    write_run(data, folder, "val", identity, result, {})
    read_same_run(folder, identity)
    # One of the test pictures alone: neither tables nor folds tell.
    fewer = identity | {"left_out": identity["left_out"][:-1]}
    for other in (fewer, identity | {"left_out": None}):
        with pytest.raises(ValueError, match=r"a run of other settings \(left_out\)"):
            read_same_run(folder, other)
    assert identity["folds_sha256"] == hash_folds(data.collection.train.ids, data.folds)


def vars_of(profile):
    """The overrides of a profile, without its name and policy."""
    values = dict(vars(profile))
    del values["name"], values["bad_pictures"]
    return values
