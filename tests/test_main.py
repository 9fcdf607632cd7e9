"""The command line: what it prints, what it writes, and how it ends."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from imetlib.__main__ import build_parser, main
from imetlib.collection import prepared
from imetlib.collection.tables import read_collection
from imetlib.delivery import audit_run as audit_module
from imetlib.delivery.audit import Finding
from imetlib.delivery.records import new_record, write_record
from imetlib.demo import score_submission
from imetlib.scores import Scores

COMMANDS = (
    "museum", "unpack", "check", "manifest", "folds", "run", "predict", "verify", "audit", "repeat",
    "demo", "versions", "collect", "weights", "kaggle", "tag",
)  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A tiny museum; tests copy it before they damage it."""
    folder = tmp_path_factory.mktemp("main") / "museum"
    assert main(["museum", str(folder), "--size", "200", "--seed", "3", "--image-size", "32"]) == 0
    return folder


@pytest.fixture
def damaged(drawn, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(drawn, folder)
    picture = min((folder / "train").iterdir())
    picture.write_bytes(picture.read_bytes()[:60])
    with (folder / "train.csv").open("a") as file:
        file.write("extra,999\n")
    return folder, picture


def make_notebook(folder, *cells, name="05_tiny"):
    """A notebook with the common parameters and some code; returns its path as text."""
    parameters = new_code_cell(
        'profile: str = "fast"  # profile\ncollection: str = ""  # folder\n'
        'out: str = ""  # folder\nseed: int = 0  # seed\nrate: float = 0.5  # rate'
    )
    parameters.metadata["tags"] = ["parameters"]
    notebook = new_notebook(cells=[parameters, *map(new_code_cell, cells)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return str(path)


def printed(path):
    """What the last cell of an executed notebook printed."""
    return nbformat.read(path, as_version=4).cells[-1].outputs[0].text


# The parser -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert command in capsys.readouterr().out


def test_commands_are_listed():
    text = build_parser().format_help()
    assert all(f" {command} " in text for command in COMMANDS)


@pytest.mark.parametrize(
    "call",
    [[], ["paint"], ["folds"], ["run", "01", "--profile", "slow"], ["audit", "runs/x"], ["repeat"]],
)
def test_a_call_that_cannot_be_parsed_ends_with_2(call):
    with pytest.raises(SystemExit, match="2"):
        main(call)


def test_errors_are_one_line_without_a_traceback():
    result = subprocess.run(
        [sys.executable, "-m", "imetlib", "check", "no/such/folder"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("imetlib check: No collection folder at ")


def test_a_reader_that_stops_early_is_no_error(damaged):
    result = subprocess.run(
        f'"{sys.executable}" -m imetlib check "{damaged[0]}" | true',
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr


# museum, check, folds, verify -------------------------------------------------------------------


def test_museum_is_not_drawn_over_another(drawn, capsys):
    assert main(["museum", str(drawn), "--size", "200"]) == 2
    assert "is not an empty folder" in capsys.readouterr().err


def test_check_of_a_good_collection(drawn, capsys):
    assert main(["check", str(drawn)]) == 0
    assert "200 pictures opened, faults: 0" in capsys.readouterr().out
    assert main(["check", str(drawn), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_train"], found["num_test"], found["faults"]) == (150, 50, [])


def test_check_lists_faults_of_tables_and_pictures(damaged, capsys):
    folder, picture = damaged
    assert main(["check", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("train.csv, line 152" in line and "999" in line for line in lines)
    assert any(line.startswith(f"train/{picture.name}: ") for line in lines)
    assert main(["check", str(folder), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["faults"]) == len(lines) - 1


def test_check_compares_with_a_manifest(drawn, tmp_path, capsys):
    folder = shutil.copytree(drawn, tmp_path / "museum")
    assert main(["manifest", str(folder)]) == 0
    files = 200 + len(list(folder.glob("*.csv")))
    assert capsys.readouterr().out == f"{folder / 'SHA256SUMS'}: {files} files\n"
    assert main(["check", str(folder)]) == 0
    assert "200 pictures opened, all compared with SHA256SUMS, faults: 0" in capsys.readouterr().out
    picture = sorted((folder / "train").iterdir())[7]
    # Bytes after the end of a picture harm no decoder.
    picture.write_bytes(picture.read_bytes() + b"0")
    assert main(["check", str(folder)]) == 1
    assert f"train/{picture.name}: its bytes are not those of" in capsys.readouterr().out
    assert main(["manifest", str(folder)]) == 1
    assert "SHA256SUMS exists already" in capsys.readouterr().err
    (folder / "SHA256SUMS").write_text("no manifest\n")
    assert main(["check", str(folder), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["manifest"]
    assert facts["faults"][0].startswith("SHA256SUMS, line 1: not a digest")


def test_folds_are_written_once(drawn, tmp_path, capsys):
    target = tmp_path / "folds.csv"
    call = ["folds", str(drawn), "--folds", "4", "--out", str(target)]
    assert main([*call, "--json"]) == 0
    assert sum(json.loads(capsys.readouterr().out)["num_pictures"]) == 150
    written = target.read_bytes()
    assert main(call) == 0
    assert main([*call, "--seed", "1"]) == 2
    assert "holds other folds" in capsys.readouterr().err
    assert target.read_bytes() == written


def test_faults_of_a_collection_end_with_1(damaged, tmp_path, capsys):
    target = tmp_path / "folds.csv"
    assert main(["folds", str(damaged[0]), "--out", str(target)]) == 1
    assert "train.csv, line 152" in capsys.readouterr().err
    assert not target.exists()


def test_verify(drawn, tmp_path, capsys):
    sample = drawn / "sample_submission.csv"
    assert main(["verify", str(sample), "--collection", str(drawn), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_rows"] == 50
    cut = tmp_path / "submission.csv"
    cut.write_text("".join(sample.read_text().splitlines(keepends=True)[:-1]))
    assert main(["verify", str(cut), "--collection", str(drawn)]) == 1
    assert "1 id of the sample missing" in capsys.readouterr().out
    assert main(["verify", str(cut), "--collection", str(drawn), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["faults"]) == 1
    assert main(["verify", str(tmp_path / "none.csv"), "--collection", str(drawn)]) == 2


# run --------------------------------------------------------------------------------------------


def test_run_passes_parameters_and_folders(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = make_notebook(tmp_path, "print(profile, repr(collection), seed, rate, out)")
    assert main(["run", notebook, "-p", "seed=7", "-p", "rate=1", "--out", "results"]) == 0
    path = tmp_path / "results" / "notebooks" / "05_tiny.ipynb"
    assert capsys.readouterr().out.strip() == str(path)
    assert printed(path).strip() == f"fast '' 7 1 {tmp_path / 'results'}"


def test_run_gives_the_collection_to_the_other_profiles(drawn, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(drawn.parent)
    notebook = make_notebook(tmp_path, "print(profile, collection)")
    call = ["run", notebook, "--collection", "museum", "--out", str(tmp_path / "o")]
    assert main(call) == 2
    assert "The fast profile always takes the pocket museum" in capsys.readouterr().err
    assert main([*call, "--profile", "full"]) == 0
    path = tmp_path / "o" / "notebooks" / "05_tiny.ipynb"
    assert printed(path).strip() == f"full {drawn.resolve()}"


def test_run_looks_for_no_collection_where_none_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMETLIB_DATA", raising=False)
    path = tmp_path / "06_other.ipynb"
    parameters = new_code_cell('profile: str = "fast"  # profile\nout: str = ""  # folder')
    parameters.metadata["tags"] = ["parameters"]
    notebook = new_notebook(cells=[parameters, new_code_cell("print(profile)")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)
    call = ["run", str(path), "--profile", "full", "--out", "o"]
    assert main([*call, "--collection", "somewhere"]) == 2
    assert "None of these notebooks takes a collection." in capsys.readouterr().err
    assert main(call) == 0
    assert printed(tmp_path / "o" / "notebooks" / "06_other.ipynb").strip() == "full"


def test_run_stops_at_the_first_failure(tmp_path, capsys):
    bad = make_notebook(tmp_path, "raise ValueError('no such painting')", name="05_bad")
    after = make_notebook(tmp_path, "print(1)", name="06_after")
    assert main(["run", bad, after, "--out", str(tmp_path / "o"), "--json"]) == 1
    (only,) = json.loads(capsys.readouterr().out)["notebooks"]
    assert (only["notebook"], only["exit_code"]) == ("05_bad", 1)
    assert "no such painting" in only["error"]
    assert not (tmp_path / "o" / "notebooks" / "06_after.ipynb").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["-p", "epoch=7"], "no parameter `epoch`"),
        (["-p", "seed=many"], "`seed` must be int"),
        (["-p", "seed"], "NAME=VALUE"),
        (["99_missing"], "no notebook named '99_missing'"),
    ],
)
def test_run_refuses_before_anything_starts(extra, message, tmp_path, capsys):
    notebook = make_notebook(tmp_path, "print(1)")
    assert main(["run", notebook, *extra, "--out", str(tmp_path / "o")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


ENDINGS = {
    "raises": ("1/0", 1),
    "endless": ("while True:\n    pass", 3),
    "kills its kernel": ("import os; os.kill(os.getpid(), 9)", 4),
    "SIGTERM": (signal.SIGTERM, 143),
    "SIGINT": (signal.SIGINT, 130),
}


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_way_to_end_has_its_exit_code(tmp_path, ending):
    code, exit_code = ENDINGS[ending]
    stopped = not isinstance(code, str)
    wait = "open('begun', 'w').close()\nimport time; time.sleep(60)"
    path = make_notebook(tmp_path, wait if stopped else code, "'after'")
    command = [sys.executable, "-m", "imetlib", "run", path, "--out", str(tmp_path), "--timeout"]
    begun, end = tmp_path / "notebooks" / "begun", time.monotonic() + 60
    with subprocess.Popen(
        [*command, "60" if stopped else "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A shell lets its background jobs ignore it, and what they start inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as runner:
        while stopped and not begun.exists() and time.monotonic() < end:
            time.sleep(0.05)
        if stopped:
            runner.send_signal(code)
        assert runner.wait(60) == exit_code
    notebook = nbformat.read(tmp_path / "notebooks" / "05_tiny.ipynb", as_version=4)
    states = [cell.metadata.papermill.status for cell in notebook.cells]
    assert states == ["completed", "completed", "failed", "pending"]


# predict ----------------------------------------------------------------------------------------


@pytest.fixture
def stub_run(monkeypatch):
    """A run that gives every picture the same probabilities, in place of a trained one."""

    def answer(images, *, ids):
        names = ("tag::red", "tag::wide", "culture::french")
        logits = np.tile(np.float32([-1.0, 2.0, -3.0]), (len(images), 1))
        return Scores(np.array(ids, dtype=object), logits, names)

    module = types.ModuleType("imetlib.training.load")
    module.load_run = lambda path: types.SimpleNamespace(
        predict=answer, decide=lambda scores: scores.y_prob >= np.float32(0.2)
    )
    monkeypatch.setitem(sys.modules, "imetlib.training", types.ModuleType("imetlib.training"))
    monkeypatch.setitem(sys.modules, "imetlib.training.load", module)


def test_predict_names_the_attributes_of_every_picture(stub_run, drawn, tmp_path, capsys):
    target = tmp_path / "answers.csv"
    assert main(["predict", str(drawn), "--run", "runs/x", "--out", str(target)]) == 0
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 200
    assert list(rows[0]) == ["picture", "attribute", "probability"]
    assert {row["picture"].split("/")[0] for row in rows} == {"train", "test"}
    assert (rows[0]["attribute"], rows[0]["probability"]) == ("tag::wide", "0.881")
    assert (rows[1]["attribute"], rows[1]["probability"]) == ("tag::red", "0.269")
    assert main(["predict", str(drawn / "test"), "--run", "runs/x"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2 * 50


def test_predict_names_what_it_leaves_out(stub_run, damaged, tmp_path, capsys):
    folder, picture = damaged
    target = tmp_path / "answers.csv"
    assert main(["predict", str(folder), "--run", "runs/x", "--out", str(target)]) == 1
    assert f"left out: {picture}" in capsys.readouterr().err
    assert picture.name not in target.read_text()


def test_predict_wants_a_folder_with_pictures(stub_run, tmp_path, capsys):
    assert main(["predict", str(tmp_path / "none"), "--run", "runs/x"]) == 2
    assert main(["predict", str(tmp_path), "--run", "runs/x"]) == 2
    assert "holds no pictures" in capsys.readouterr().err


# audit, repeat ----------------------------------------------------------------------------------


@pytest.fixture
def run_folder(drawn, tmp_path):
    """A run folder with a record, of the drawn museum, and nothing else."""
    folder = tmp_path / "runs" / "tiny"
    record = new_record(
        "tiny",
        profile="full",
        seed=0,
        split="val fold 1",
        image_shape=(32, 32, 3),
        collection_sha256=read_collection(drawn, require_pictures=False).sha256,
        score=0.5,
        constant_score=0.4,
        num_samples=30,
        parameters={"num_folds": 4, "image_shape": [32, 32, 3]},
    )
    write_record(folder, record)
    return folder


@pytest.fixture
def findings(monkeypatch):
    """What the audit finds, to be filled by a test; it notes what it was asked."""
    found, asked = [], []

    def audit_run(folder, collection):
        asked.append((folder, collection.root.name))
        return found

    monkeypatch.setattr(audit_module, "audit_run", audit_run)
    return found, asked


def test_audit_of_a_sound_run(drawn, run_folder, findings, capsys):
    call = ["audit", str(run_folder), "--collection", str(drawn)]
    assert main(call) == 0
    assert capsys.readouterr().out == "tiny: errors: 0, warnings: 0\n"
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "tiny", "findings": []}
    assert findings[1] == [(str(run_folder), drawn.name)] * 2


def test_audit_lists_every_finding_and_warnings_pass(drawn, run_folder, findings, capsys):
    call = ["audit", str(run_folder), "--collection", str(drawn)]
    findings[0].append(Finding("floor", "warning", "nothing was learned"))
    assert main(call) == 0
    findings[0].append(Finding("metric", "error", "0.5 is the F2 micro"))
    assert main(call) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "warning, floor: nothing was learned",
        "error, metric: 0.5 is the F2 micro",
        "tiny: errors: 1, warnings: 1",
    ]
    assert main([*call, "--json"]) == 1
    listed = json.loads(capsys.readouterr().out)["findings"]
    assert listed[1] == {"rule": "metric", "severity": "error", "message": "0.5 is the F2 micro"}


def test_audit_computes_and_does_not_believe(drawn, run_folder, tmp_path, capsys):
    call = ["audit", str(run_folder), "--collection", str(drawn)]
    assert main(call) == 1
    assert "error, record: no folds-4.csv in the run folder" in capsys.readouterr().out
    other = tmp_path / "other"
    assert main(["museum", str(other), "--size", "200", "--seed", "4", "--image-size", "32"]) == 0
    assert main([*call[:-1], str(other)]) == 1
    assert "made on other tables than other" in capsys.readouterr().out
    assert main(["audit", str(tmp_path), "--collection", str(drawn)]) == 2
    assert "no such record" in capsys.readouterr().err
    assert main([*call[:-1], str(tmp_path / "none")]) == 2


@pytest.fixture
def stub_repeat(monkeypatch):
    """Training again, in place of hours; returns the figures that will differ."""
    changed, asked = {}, []

    def repeat_run(record, collection, out, *, verbose):
        asked.append((record, collection, out))
        if record == "runs/foreign":
            raise ValueError("museum is not the collection that foreign was made on")
        return types.SimpleNamespace(record={"run": "tiny", "score": 0.51234}, changed=changed)

    module = types.ModuleType("imetlib.training.repeat")
    module.repeat_run = repeat_run
    monkeypatch.setitem(sys.modules, "imetlib.training", types.ModuleType("imetlib.training"))
    monkeypatch.setitem(sys.modules, "imetlib.training.repeat", module)
    return changed, asked


def test_repeat_says_whether_every_figure_is_the_same(stub_repeat, capsys):
    changed, asked = stub_repeat
    assert main(["repeat", "runs/tiny"]) == 0
    assert capsys.readouterr().out == "tiny: F2 0.5123, every figure is the same\n"
    changed["best_epoch"] = (3, 4)
    assert main(["repeat", "runs/tiny", "--collection", "museum", "--out", "again"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "best_epoch: recorded 3, repeated 4",
        "tiny: F2 0.5123, figures differ",
    ]
    assert asked == [("runs/tiny", "", ""), ("runs/tiny", "museum", "again")]


def test_repeat_of_what_is_not_there_is_a_bad_call(stub_repeat, capsys):
    assert main(["repeat", "runs/foreign"]) == 2
    assert capsys.readouterr().err == (
        "imetlib repeat: museum is not the collection that foreign was made on\n"
    )


# demo -------------------------------------------------------------------------------------------


def test_demo_scores_against_the_museum_s_own_truth(drawn):
    score, (low, high), constant = score_submission(drawn / "test_labels.csv", drawn)
    assert (score, low, high) == (1.0, 1.0, 1.0)
    assert 0.1 < constant < 0.6
    sample_score, _, same_constant = score_submission(drawn / "sample_submission.csv", drawn)
    assert sample_score < constant == same_constant


@pytest.fixture
def small_demo(drawn, tmp_path, monkeypatch):
    """A project whose notebooks do next to nothing; returns the folder to run the demo in."""
    folder = tmp_path / "project" / "notebooks"
    folder.mkdir(parents=True)
    for name in ("01_eda", "02_backbone_comparison", "07_threshold_search"):
        make_notebook(folder, f"print('{name}')", name=name)
    write = f"shutil.copy({str(drawn / 'test_labels.csv')!r}, f'{{out}}/submission.csv')"
    make_notebook(folder, "import shutil", write, name="08_submission")
    monkeypatch.setattr(prepared, "locate_collection", lambda *args, **options: drawn)
    monkeypatch.chdir(folder.parent)
    return folder.parent


def test_demo_ends_with_score_submission_and_report(small_demo, capsys):
    assert main(["demo"]) == 0
    printed_lines = capsys.readouterr().out.splitlines()
    assert printed_lines[0] == "F2 of the submission  1.000 (95 % interval 1.000 to 1.000)"
    assert re.fullmatch(r"best constant answer  0\.\d{3}", printed_lines[1])
    assert printed_lines[2] == "submission            demo/submission.csv"
    assert printed_lines[3] == "report                demo/report.html"
    report = (small_demo / "demo" / "report.html").read_text(encoding="utf-8")
    assert "best constant answer" in report and "notebooks/08_submission.ipynb" in report


def test_demo_says_which_notebook_failed(small_demo, capsys):
    make_notebook(small_demo / "notebooks", "1 / 0", name="07_threshold_search")
    assert main(["demo"]) == 1
    assert "07_threshold_search failed" in capsys.readouterr().err
    assert not (small_demo / "demo" / "report.html").exists()
