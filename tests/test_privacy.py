"""Planted tokens, keys, home folders and addresses are found; the project's files hold none."""

import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from imetlib.delivery.notebooks import run_notebook
from imetlib.delivery.privacy import KINDS, find_secrets, find_secrets_in_file

ROOT = Path(__file__).resolve().parents[1]
# Put together here: this file is read by the scan of the project, too.
HEX = "0123456789abcdef" * 2
CANARIES = {
    "Kaggle key": [
        '{"username":"x","key":"' + HEX + '"}',
        "KAGGLE_KEY=" + HEX,
        'os.environ["KAGGLE_API_TOKEN"] = "' + "KG" + "AT_" + HEX + '"',
        "KG" + "AT_" + HEX,
    ],
    "Jupyter token": ["http://localhost:8888/lab?tok" + "en=" + HEX, "/tree?a=1&tok" + "en=" + HEX],
    "access token": [
        "h" + "f_" + "aB3" * 11,
        "gh" + "p_" + "aB3" * 12,
        "AKI" + "A" + "Q7" * 8,
        "github" + "_pat_" + "1A" * 20,
        "Authorization: Bea" + "rer " + "eyJhbGci" * 4,
    ],
    "private key": [
        "-----BEGIN RSA PRIV" + "ATE KEY-----\nMIIE",
        "-----BEGIN PRIV" + "ATE KEY-----",
    ],
    "home folder": [
        "File /ho" + "me/ann/imet/run.py", "/Us" + "ers/ann", "C:\\Us" + "ers\\ann\\x",
        "/ro" + "ot/x", "file:///ho" + "me/ann", "C:\\\\Us" + "ers\\\\ann",
    ],
    "e-mail address": ["ann.b+c" + "@museum.org", "<ann" + "@uni-x.ac.uk>"],
}  # fmt: skip
EACH = [(kind, text) for kind, texts in CANARIES.items() for text in texts]


def kinds(found):
    return {secret.kind for secret in found}


def test_every_kind_has_a_canary():
    assert set(CANARIES) == set(KINDS) and len(KINDS) == 6


@pytest.mark.parametrize(("kind", "text"), EACH)
def test_in_a_text(kind, text):
    (found,) = find_secrets(f"first\nand {text} there", place="x.log")
    assert (found.kind, found.place) == (kind, "x.log, line 2")
    assert str(found).count("...") == 1 and len(found.beginning) <= 6


@pytest.mark.parametrize(("kind", "text"), EACH)
@pytest.mark.parametrize("where", ["markdown", "source", "stream", "data", "metadata", "traceback"])
def test_in_a_notebook(tmp_path, kind, text, where):
    outputs = [
        new_output("stream", text=f"x\n{text}\n" if where == "stream" else "x"),
        new_output("display_data", data={"text/html": f"<p>\n{text}" if where == "data" else ""}),
        new_output("error", ename="E", evalue="", traceback=[text if where == "traceback" else ""]),
    ]
    cells = [
        new_markdown_cell(f"# A\n{text}" if where == "markdown" else "# A"),
        new_code_cell(f"x = 1\n{text}" if where == "source" else "1", outputs=outputs),
    ]
    notebook = new_notebook(cells=cells, metadata={"note": text} if where == "metadata" else {})
    path = tmp_path / "a.ipynb"
    nbformat.write(notebook, path)
    found = find_secrets_in_file(path)
    assert kinds(found) == {kind}
    way = "metadata" if where == "metadata" else f"cells[{int(where != 'markdown')}]."
    assert found[0].place.startswith(f"a.ipynb, {way}")


@pytest.mark.parametrize(("kind", "text"), EACH)
def test_in_a_record_and_in_a_log(tmp_path, kind, text):
    record, log = tmp_path / "record.json", tmp_path / "run.log"
    record.write_text(json.dumps({"run": "a", "parameters": {"note": [1, {"deep": text}]}}))
    log.write_text(f"epoch 1\n{text}\n")
    assert kinds(find_secrets_in_file(record)) == {kind}
    assert find_secrets_in_file(record)[0].place.startswith("record.json, parameters.note[1].deep")
    assert kinds(find_secrets_in_file(log)) == {kind}


def test_all_of_a_file_at_once_also_where_it_is_cut(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(list(CANARIES.values())))
    assert kinds(find_secrets_in_file(path)) == set(KINDS)
    path.write_text(path.read_text()[:-1])
    assert kinds(find_secrets_in_file(path)) == set(KINDS)


def test_a_key_file_of_kaggle(tmp_path):
    path = tmp_path / "kaggle.json"
    path.write_text(json.dumps({"username": "x", "key": HEX}))
    assert [str(found) for found in find_secrets_in_file(path)] == [
        "kaggle.json, key, line 1: Kaggle key (key: 0...)"
    ]


def test_what_may_stand_there():
    address = "team" + "@museum.org"
    assert find_secrets(address, allow=[address]) == []
    assert kinds(find_secrets("x" + address, allow=[address])) == {"e-mail address"}


@pytest.mark.parametrize(
    "text",
    [
        "someone@example.org, a@b.example.com", "/home/someone/x", "@dataclass", "x @ y.T", "a@1.2",
        "https://museum.org/home/index.html", "data/root/x", "C:\\data", "key: value",
        "weights_sha256: " + HEX * 2, "monkey: " + HEX, "?page=2&tokens=5", "sk-learn",
        "the hf_hub", "/kaggle/input/imet", "~/.kaggle/kaggle.json", "IMETLIB_DATA=/data",
    ],
)  # fmt: skip
def test_what_is_no_secret(text):
    assert find_secrets(text) == []


def committed():
    """Everything that the project publishes as text."""
    skipped = {".venv", "runs", "demo", "artefacts", "build", "dist"}
    suffixes = {".py", ".ipynb", ".json", ".csv", ".md", ".toml", ".txt", ".yml", ".cfg", ""}
    paths = []
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        foreign = skipped & set(parts) or any(part.startswith(".") for part in parts[:-1])
        data = parts[0] == "data" and parts[1:] != ("README.md",)
        if path.is_file() and path.suffix in suffixes and not foreign and not data:
            paths.append(path)
    return paths


@pytest.mark.parametrize("path", committed(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_committed_file_holds_one(path):
    assert [str(found) for found in find_secrets_in_file(path)] == []


def test_an_executed_notebook_holds_no_path_of_the_runner(tmp_path):
    """Nor does a record: `_to_json` keeps the last part of a path."""
    folder = tmp_path / ("ho" + "me") / "ann"
    folder.mkdir(parents=True)
    path = folder / "96_a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1"), new_code_cell("2")]), path)
    result = run_notebook(path, folder / "out", progress=False)
    assert result.exit_code == 0
    assert find_secrets_in_file(result.path) == []
