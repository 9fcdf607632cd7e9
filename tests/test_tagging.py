"""Very many pictures: shards that say what `predict` says, go on after a kill, and never mix."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra `ray` is not installed: no pyarrow")

import pyarrow.parquet as pq

from imetlib.__main__ import main
from imetlib.decisions.rules import MeanCount
from imetlib.decisions.saved_rules import save_rule
from imetlib.tag_files import list_pictures, read_shard_file
from imetlib.tag_job import open_job, plan_job
from imetlib.tagger import Tagger, tag_here
from imetlib.training.load import load_run

SHARDS, TOP = 4, 5


@pytest.fixture(scope="module")
def run(untrained_run, tmp_path_factory):
    """Folder of untrained networks of all folds, with a rule."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return untrained_run(folder)


@pytest.fixture(scope="module")
def pictures(museum, tmp_path_factory):
    """Folder of 51 pictures, 20 of them in a folder of it, two of them of one name, one damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deep/er").mkdir(parents=True)
    for number, path in enumerate(sorted((museum / "test").iterdir())):
        shutil.copy(path, folder / ("deep/er" if number % 5 < 2 else "") / path.name)
    first = min(folder.glob("*.*"))
    shutil.copy(first, folder / "deep" / first.name)
    (folder / "damaged.png").write_bytes(first.read_bytes()[:100])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def answers(run, pictures):
    """What `predict` and `decide` say of all pictures that can be read, at once."""
    trained = load_run(run)
    names = [name for name, _ in list_pictures(pictures) if name != "damaged.png"]
    scores = trained.predict([pictures / name for name in names], ids=names)
    return scores, trained.decide(scores)


@pytest.fixture(scope="module")
def finished(run, pictures, tmp_path_factory):
    """Folder of a finished job; tests copy it before they change it."""
    out = tmp_path_factory.mktemp("tagged") / "job"
    job = plan_job(pictures, load_run(run), out, num_shards=SHARDS, top=TOP)
    assert [facts["shard"] for facts in tag_here(job, run, job.missing())] == list(range(SHARDS))
    return out


def check_answers(out, answers):
    """All shards of a job beside what `predict` says: order, probabilities, choices, the fault."""
    scores, y_pred = answers
    rows = pq.read_table(out / "shards").to_pylist()
    names = [row["path"] for row in rows]
    assert names == sorted([*scores.ids, "damaged.png"])
    place = {name: number for number, name in enumerate(scores.ids)}
    for row in rows:
        assert row["id"] == Path(row["path"]).stem
        if row["path"] == "damaged.png":
            assert "cannot be decoded" in row["fault"]
            assert (row["attributes"], row["probabilities"], row["chosen"]) == (None, None, None)
            continue
        y_prob = scores.y_prob[place[row["path"]]]
        assert row["fault"] is None and len(set(row["attributes"])) == TOP
        np.testing.assert_allclose(row["probabilities"], y_prob[row["attributes"]], atol=1e-6)
        np.testing.assert_allclose(row["probabilities"], np.sort(y_prob)[::-1][:TOP], atol=1e-6)
        assert row["chosen"] == np.flatnonzero(y_pred[place[row["path"]]]).tolist()


# Answers --------------------------------------------------------------------------------------


def test_shards_say_what_predict_says(finished, answers):
    check_answers(finished, answers)
    job = open_job(finished)
    assert [len(job.pictures_of(n)[0]) for n in range(SHARDS)] == [13, 13, 13, 13]
    assert job.missing() == [] and job.count_unreadable() == 1
    assert job.settings["decisions"] == "GlobalThreshold"
    assert not [path for path in (finished / "shards").iterdir() if path.name.startswith(".")]


def test_command_is_killed_and_goes_on(run, pictures, answers, tmp_path, capsys):
    call = ["tag", str(pictures), "--run", str(run), "--out", str(tmp_path / "job")]
    call += ["--shards", str(SHARDS), "--top", str(TOP)]
    command = [sys.executable, "-m", "imetlib", *call]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("shard 1:"):
                break
        process.send_signal(signal.SIGKILL)
    job = open_job(tmp_path / "job")
    done = {n: job.shard_path(n).stat().st_mtime_ns for n in (0, 1)}
    assert set(job.missing()) <= {2, 3} and 3 in job.missing()
    assert main(call) == 1, "one picture is unreadable"
    found = capsys.readouterr()
    assert "shard 3: 13 pictures" in found.err and "shard 1:" not in found.err
    assert "52 pictures in 4 shards" in found.out and "unreadable: 1" in found.out
    assert done == {n: job.shard_path(n).stat().st_mtime_ns for n in (0, 1)}
    check_answers(tmp_path / "job", answers)
    assert main([*call, "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert (facts["done_before"], facts["done_now"], facts["num_unreadable"]) == (SHARDS, 0, 1)


def test_an_address_is_read_like_a_folder(run, pictures, finished, tmp_path):
    address = f"file://{pictures}"
    assert list_pictures(address) == list_pictures(pictures)
    job = plan_job(address, load_run(run), tmp_path / "job", num_shards=SHARDS, top=TOP)
    list(tag_here(job, run, [2]))
    ours, theirs = (read_shard_file(o.shard_path(2))[0] for o in (job, open_job(finished)))
    assert ours.to_pylist() == theirs.to_pylist()


# Nothing is mixed -----------------------------------------------------------------------------


@pytest.fixture
def copied(finished, tmp_path):
    """A finished job of one's own."""
    return shutil.copytree(finished, tmp_path / "job")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_shards": 5}, "num_shards, 4, now 5. Give another folder"),
        ({"num_shards": None, "shard_size": 20}, "num_shards, 4, now 3"),
        ({"top": 6}, "top, 5, now 6"),
        ({"decisions": False}, "decisions, GlobalThreshold, now none"),
    ],
)
def test_other_settings_are_refused(run, pictures, copied, changes, message):
    with pytest.raises(ValueError, match=f"holds another job, .* what differs: {message}"):
        plan_job(pictures, load_run(run), copied, **{"num_shards": SHARDS, "top": TOP, **changes})


def test_another_folder_is_refused(run, pictures, copied, tmp_path):
    other = shutil.copytree(pictures, tmp_path / "others")
    how = {"num_shards": SHARDS, "top": TOP}
    with pytest.raises(ValueError, match=r"what differs: folder, .*, now .*others\. Give"):
        plan_job(other, load_run(run), copied, **how)
    (other / "one more.png").write_bytes((other / "damaged.png").read_bytes())
    with pytest.raises(ValueError, match="num_pictures, 52, now 53; names or sizes of the pict"):
        plan_job(other, load_run(run), copied, **how)


def test_another_run_is_refused(run, pictures, copied, tmp_path):
    other = shutil.copytree(run, tmp_path / "run")
    assert plan_job(pictures, load_run(other), copied, num_shards=SHARDS, top=TOP).missing() == []
    weights = min(other.glob("fold*/best.weights.h5"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"what differs: the run\. Give"):
        plan_job(pictures, load_run(other), copied, num_shards=SHARDS, top=TOP)
    with pytest.raises(ValueError, match=r"is not the run that .* was planned with"):
        Tagger(copied, other)


def test_a_folder_of_something_else_is_left_alone(run, pictures, tmp_path):
    (tmp_path / "thesis.txt").write_text("chapter one")
    with pytest.raises(ValueError, match=r"holds thesis.txt and no job.json"):
        plan_job(pictures, load_run(run), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_numbers_out_of_range(run, pictures, tmp_path):
    for changes, message in (
        ({"num_shards": 53}, "52 pictures can be cut into 1 to 52 shards. Received: num_shards=53"),
        ({"shard_size": 0}, "`shard_size` must be at least 1"),
        ({"top": 0}, "`top` must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_job(pictures, load_run(run), tmp_path / "job", **changes)
    with pytest.raises(FileNotFoundError, match="No folder at"):
        plan_job(pictures / "none", load_run(run), tmp_path / "job")
    with pytest.raises(ValueError, match="holds no pictures"):
        plan_job(run, load_run(run), tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_a_rule_that_looks_at_all_pictures_is_refused(run, pictures, tmp_path):
    other = shutil.copytree(run, tmp_path / "run")
    rng = np.random.default_rng(0)
    trained = load_run(other)
    y_prob = rng.uniform(size=(20, len(trained.class_names)))
    rule = MeanCount().fit(y_prob, y_prob > 0.7, trained.class_names)
    save_rule(other / "rule.json", rule, trained.class_names)
    with pytest.raises(ValueError, match="MeanCount, whose threshold is set for all pictures tog"):
        plan_job(pictures, trained, tmp_path / "job")
    job = plan_job(pictures, trained, tmp_path / "job", num_shards=SHARDS, decisions=False)
    list(tag_here(job, other, [0]))
    table = read_shard_file(job.shard_path(0))[0]
    assert table["chosen"].null_count == len(table) and table["attributes"].null_count <= 1


# Damage ---------------------------------------------------------------------------------------


def test_no_flipped_bit_changes_an_answer(finished, tmp_path):
    """Every 7th byte: found, or one that says nothing of the answers, a statistic in the footer."""
    job, path = open_job(finished), tmp_path / "00001.parquet"
    whole = job.shard_path(1).read_bytes()
    table, own = read_shard_file(job.shard_path(1))
    found_places, places = 0, range(0, len(whole), 7)
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            found, found_own = read_shard_file(path)
        except ValueError:
            found_places += 1
            continue
        assert found_own != own or found.equals(table), place
        found_places += found_own != own
    assert found_places > len(places) / 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty"])
def test_damaged_shard_is_done_again(run, answers, copied, damage):
    job = open_job(copied)
    path = job.shard_path(2)
    data = path.read_bytes()
    if damage == "foreign":
        shutil.copy(job.shard_path(1), path)
    else:
        middle = len(data) // 3
        flipped = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
        path.write_bytes({"cut": data[:-20], "flipped": flipped, "empty": b""}[damage])
    with pytest.warns(UserWarning, match="00002.parquet (is damaged|belongs to another).* again"):
        missing = job.missing()
    assert missing == [2] and len(list((copied / "shards").glob(".refused-00002-*"))) == 1
    list(tag_here(job, run, missing))
    assert job.missing() == []
    check_answers(copied, answers)


def test_list_of_pictures_belongs_to_its_job(copied, tmp_path):
    table = pq.read_table(copied / "pictures.parquet")
    pq.write_table(table.slice(1), copied / "pictures.parquet", row_group_size=13)
    with pytest.raises(ValueError, match=r"is not the list that job\.json was written with"):
        open_job(copied)
    (copied / "pictures.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="holds no job that can be read"):
        open_job(copied)
    with pytest.raises(FileNotFoundError, match="No job at"):
        open_job(tmp_path)


@pytest.mark.parametrize("change", ["gone", "grown"])
def test_pictures_that_change_stop_their_shard(run, pictures, tmp_path, change):
    """A folder that is no longer mounted must not become a shard of unreadable pictures."""
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    job = plan_job(folder, load_run(run), tmp_path / "job", num_shards=SHARDS)
    name = job.pictures_of(1)[0][3]
    if change == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes() + b"?")
    done = []
    with pytest.raises(ValueError, match=rf"shard 1 of 4 is not done: .*{Path(name).name}"):
        done += (facts["shard"] for facts in tag_here(job, run, job.missing()))
    assert job.missing() == [1, 2, 3] and not list((tmp_path / "job/shards").glob(".*"))


def test_pyarrow_is_asked_for(run, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert main(["tag", str(pictures), "--run", str(run), "--out", str(tmp_path / "job")]) == 2
    assert "pip install -c constraints.txt 'imetlib[ray]'" in capsys.readouterr().err


# Ray ------------------------------------------------------------------------------------------


@pytest.fixture
def on_ray(run, pictures, tmp_path):
    """Function from how actors behave to the answer of a process with Ray on two CPUs."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed: no Ray")

    def on_ray(behaviour):
        out = tmp_path / "job"
        plan_job(pictures, load_run(run), out, num_shards=SHARDS, top=TOP)
        script = Path(__file__).with_name("tag_on_ray.py")
        result = subprocess.run(
            [sys.executable, script, out, run, behaviour],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return out, json.loads(result.stdout.splitlines()[-1])

    return on_ray


def test_ray_gives_the_same_shards(on_ray, finished, answers):
    out, found = on_ray("well")
    assert sorted(facts["shard"] for facts in found["done"]) == list(range(SHARDS))
    assert sum(facts["num_unreadable"] for facts in found["done"]) == 1
    assert not found["error"] and not found["dashboard"] and found["statistics"] == "0"
    check_answers(out, answers)
    for shard in range(SHARDS):
        ours, theirs = (read_shard_file(open_job(one).shard_path(shard)) for one in (out, finished))
        assert ours[1] == theirs[1], "one job, whatever does it"
        for name in ("path", "attributes", "chosen", "fault"):
            assert ours[0][name].equals(theirs[0][name])


def test_an_actor_that_dies_is_started_again(on_ray, answers):
    out, found = on_ray("dies once")
    assert found["deaths"] == 1 and not found["error"]
    assert open_job(out).missing() == []
    check_answers(out, answers)


def test_an_actor_that_always_dies_is_named(on_ray, run, answers):
    out, found = on_ray("dies by shard 2")
    assert found["deaths"] >= 2
    assert "at work on shard 2 of 4. Finished shards stay." in found["error"]
    job = open_job(out)
    missing = job.missing()
    assert 2 in missing
    list(tag_here(job, run, missing))
    check_answers(out, answers)
