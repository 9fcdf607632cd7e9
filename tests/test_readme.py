"""Every command that the pages show is run by a test, or says that it needs an account."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from imetlib.__main__ import build_parser, main

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "results/README.md", "data/README.md", "notebooks/README.md")
ACCOUNT = "needs an account"
# Commands that take long or change the machine, and what runs them.
ELSEWHERE = {
    "git clone": "a checkout is what these tests run in",
    "make test": ".ci/run",
    "make demo": "test_demo_ends_with_score_submission_and_report",
    "make lab": "test_lab_opens_on_the_index_as_a_page",
    "make kaggle": "test_a_bundle_needs_a_notebook_alone",
    "python -m imetlib run": "test_run_gives_the_collection_to_the_other_profiles",
    "python -m imetlib repeat": "test_repeat_says_whether_every_figure_is_the_same",
    "pip install kaggle six": ".ci/run",
}
# Run by the tests of their own page, or by the one below.
HERE = {
    "README.md": "test_the_commands_of_the_readme_do_what_it_says",
    "data/README.md": "commands_after",
}


def commands(page):
    """Lines of the indented blocks of a page that begin with a program."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"(?m)^ {4}((?:git|make|python|pip|kaggle|conda|jupyter) .+)$", text)


def arguments(command):
    """What follows `python -m imetlib`."""
    return shlex.split(command, comments=True)[3:]


def is_ours(command):
    return command.startswith("python -m imetlib ")


def runner_of(command):
    return next((name for start, name in ELSEWHERE.items() if command.startswith(start)), None)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_needs_an_account(page):
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in commands(page):
        if ACCOUNT in command:
            continue
        if is_ours(command):
            build_parser().parse_args(arguments(command))
        runner = next(
            (name for start, name in ELSEWHERE.items() if command.startswith(start)), None
        )
        if runner is None:
            assert is_ours(command), f"{page}: nothing runs {command!r}"
            assert page in HERE and HERE[page] in tests
        elif runner == ".ci/run":
            assert "make test" in gate and "kaggle-environments" in gate
        elif runner.startswith("test_"):
            assert f"def {runner}(" in tests, f"{page}: no {runner}, which is to run {command!r}"


def test_pages_have_commands_and_a_client_s_need_an_account():
    assert sum(len(commands(page)) for page in PAGES) > 25
    for page in PAGES:
        for command in commands(page):
            assert (ACCOUNT in command) == command.startswith("kaggle "), command


@pytest.fixture(scope="module")
def finished_run(prepared):
    """Run folder of a tiny network on all folds."""
    from imetlib.training.runs import train_all_folds

    folder = prepared.workspace / "readme"
    train_all_folds(prepared, folder)
    return folder


def test_the_commands_of_the_readme_do_what_it_says(
    finished_run, prepared, tmp_path, monkeypatch, capsys
):
    """In their order, with folders and files of this test in the place of the capital words."""
    museum = prepared.collection.root
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-table.csv").write_text("file,culture\n" + _rows(museum))
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", museum)
    copied = shutil.copytree(museum, tmp_path / "museum")
    pictures = tmp_path / "new"
    pictures.mkdir()
    for path in sorted((museum / "test").iterdir())[:3]:
        shutil.copy(path, pictures)
    words = {
        "collect": ["my-table.csv", museum / "train", "mine"],
        "unpack": [packed, "unpacked"],
        "verify": [museum / "sample_submission.csv", "--collection", museum],
        "predict": [pictures, "--run", finished_run],
        "audit": [finished_run, "--collection", museum],
        "check": [copied],
        "manifest": [copied],
        "kaggle check": ["bundle-train"],
    }
    ran = []
    for command in commands("README.md"):
        if not is_ours(command) or runner_of(command):
            continue
        call = arguments(command)
        name = " ".join(call[: 2 if call[0] == "kaggle" else 1])
        if name == "kaggle bundle":
            call += ["--out", f"bundle-{call[3]}"]
        else:
            call = [*name.split(), *map(str, words[name])]
        assert main(call) == 0, f"{command}: {capsys.readouterr()}"
        ran.append(name)
    assert ran.count("kaggle bundle") == 2 and len(set(ran)) == len(words) + 1
    said = capsys.readouterr().out
    assert (tmp_path / "unpacked" / "train.csv").read_bytes() == (museum / "train.csv").read_bytes()
    assert (Path(copied) / "SHA256SUMS").is_file() and not (tmp_path / "mine").exists()
    assert "bundle-inference" in said


def _rows(museum):
    return "".join(f"{path.name},greek\n" for path in sorted((museum / "train").iterdir())[:9])
