import base64
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from imetlib.delivery.notebooks import clean_notebook, find_notebook, run_notebook
from imetlib.delivery.parameters import check_parameters, parse_parameters, read_parameters
from imetlib.delivery.refresh import reduce_colours

PARAMETERS = """\
profile: str = "fast"  # "fast" (seconds) or "full"
epochs: int = 3  # passes over the data
rate: float = 1e-3
backbone: str | None = None  # None: the profile's own
sizes: list[int] = [1, 2]
quiet = False
"""


def write_notebook(folder: Path, *sources: str, name="98_test", metadata=None, tags=()) -> Path:
    cells = [
        new_markdown_cell("# 98 · Test"),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        *[new_code_cell(source, metadata={"tags": list(tags)}) for source in sources],
    ]
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=metadata or {}), path)
    return path


def run(folder: Path, *sources: str, tags=(), **arguments):
    source = write_notebook(folder, *sources, tags=tags)
    result = run_notebook(source, folder / "out", progress=False, **arguments)
    notebook = nbformat.read(result.path, as_version=4)
    nbformat.validate(notebook)
    return result, notebook


def states(notebook):
    return [cell.metadata.papermill.status for cell in notebook.cells]


def wait_until_gone(process_id: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{process_id}/stat")
        if stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_good_run(tmp_path, capfd):
    # The kernel of another environment is not followed; python3 is this one.
    foreign = {"kernelspec": {"name": "conda-other", "display_name": "x", "language": "python"}}
    source = write_notebook(
        tmp_path,
        "import os, sys, time\nprint(epochs, rate, os.getcwd())",
        "for i in range(500):\n    sys.stdout.write(f'\\r{i}')\n    sys.stdout.flush()\nprint()",
        "time.sleep(1); 'end'",
        metadata=foreign,
    )
    result = run_notebook(source, tmp_path / "out", {"epochs": 7, "rate": 1}, timeout_seconds=60)
    assert (result.exit_code, result.error) == (0, "")
    assert result.path == tmp_path / "out" / "98_test.ipynb"
    notebook = nbformat.read(result.path, as_version=4)
    assert states(notebook) == ["completed"] * 6
    assert notebook.cells[3].outputs[0].text == f"7 1 {tmp_path / 'out'}\n"
    assert [output.text for output in notebook.cells[4].outputs] == ["499\n"]
    assert str(tmp_path) not in str(notebook.metadata)
    assert [file.name for file in result.path.parent.iterdir()] == ["98_test.ipynb"]
    lines = capfd.readouterr().err.splitlines()
    # On a loaded machine libzmq may say so when the kernel's sockets close; that line is not ours.
    lines = [line for line in lines if not line.startswith("Assertion failed: pfd.revents")]
    said = [line.split()[:4] for line in lines[:-1]]
    # A cell is named once it has run for a while, so on a loaded machine the others are, too.
    assert said[-1] == ["cell", "6", "of", "6"], lines
    cells = [int(number) for word, number, *_ in said if word == "cell"]
    assert len(cells) == len(said) and cells == sorted(set(cells)), lines
    assert lines[-1].startswith("98_test ")
    assert lines[-1].endswith("s  ok")


def test_cell_that_raises(tmp_path):
    result, notebook = run(tmp_path, "print('before')", "1/0", "print('after')")
    assert result.exit_code == 1
    assert result.error == "cell 4 of 5: raised ZeroDivisionError: division by zero"
    assert states(notebook) == ["completed"] * 3 + ["failed", "pending"]
    assert notebook.metadata.papermill.exception
    assert notebook.cells[4].execution_count is None


def test_expected_exception_is_no_failure(tmp_path):
    result, notebook = run(tmp_path, "1/0", "'after'", tags=["raises-exception"])
    assert (result.exit_code, result.error) == (0, "")
    assert states(notebook) == ["completed"] * 4


def test_leaving_early_is_a_failure(tmp_path):
    result, notebook = run(tmp_path, "import sys; sys.exit(0)", "print('after')")
    assert result.exit_code == 1
    assert result.error == "cell 3 of 4: left the notebook; later cells that did not run: 1"
    assert states(notebook)[2:] == ["failed", "pending"]


def test_endless_cell(tmp_path):
    endless = "open('pid', 'w').write(str(__import__('os').getpid()))\nwhile True:\n    pass"
    result, notebook = run(tmp_path, endless, "print('after')", timeout_seconds=1)
    assert result.exit_code == 3
    assert result.error == "cell 3 of 4: ran past 1 s and was stopped"
    assert states(notebook)[2:] == ["failed", "pending"]
    assert notebook.cells[2].outputs[-1].evalue == result.error
    assert wait_until_gone(int((tmp_path / "out" / "pid").read_text()), 10)


def test_killed_kernel(tmp_path):
    kill = "print('before', flush=True)\nimport os, time\ntime.sleep(.2)\nos.kill(os.getpid(), 9)"
    result, notebook = run(tmp_path, kill, "print('after')")
    assert result.exit_code == 4
    assert "cell 3 of 4: the kernel died" in result.error
    assert states(notebook)[2:] == ["failed", "pending"]
    assert notebook.cells[2].outputs[0].text == "before\n"


# Neither gives another thread of the kernel, nor the kernel's shutdown, a turn.
HOLDS_THE_INTERPRETER = "sum(range(10**12))"
IGNORES_SIGNALS = (
    "import signal, time\n"
    "for number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, signal.SIG_IGN)\n"
    "while True:\n    time.sleep(1)"
)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "exit_status", "endless"),
    [
        (signal.SIGTERM, 143, "time.sleep(60)"),
        (signal.SIGTERM, 143, IGNORES_SIGNALS),
        (signal.SIGKILL, -signal.SIGKILL, "time.sleep(60)"),
        pytest.param(
            signal.SIGKILL, -signal.SIGKILL, HOLDS_THE_INTERPRETER,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux ends it"),
        ),
    ],
    ids=["term", "term-ignored", "kill", "kill-busy"],
)  # fmt: skip
def test_stopped_runner_leaves_a_whole_file_and_no_kernel(tmp_path, number, exit_status, endless):
    begin = "import os, time\nwith open('pid.tmp', 'w') as f: f.write(str(os.getpid()))\n"
    source = write_notebook(tmp_path, f"{begin}os.rename('pid.tmp', 'pid')\n{endless}", "2")
    output = tmp_path / "out" / "98_test.ipynb"
    code = (
        "from imetlib.delivery.notebooks import run_notebook\n"
        f"run_notebook({str(source)!r}, {str(output)!r}, progress=False)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as runner:
        pid_file = tmp_path / "out" / "pid"
        end = time.monotonic() + 60
        while not pid_file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        runner.send_signal(number)
        assert runner.wait(20) == exit_status
    kernel = int(pid_file.read_text())
    try:
        assert wait_until_gone(kernel, 10)
    except AssertionError:
        os.kill(kernel, signal.SIGKILL)
        raise
    notebook = nbformat.read(output, as_version=4)
    cut = "failed" if number == signal.SIGTERM else "running"
    assert states(notebook) == ["completed", "completed", cut, "pending"]
    assert str(tmp_path) not in str(notebook.metadata)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_kernel_whose_runner_ended_before_it_began_ends():
    code = "from imetlib.delivery.orphans import load_ipython_extension as watch\nwatch(None)"
    for parent, exit_status in ((os.getpid(), 0), (os.getppid(), 1)):
        environment = {**os.environ, "JPY_PARENT_PID": str(parent)}
        assert (
            subprocess.run([sys.executable, "-c", code], env=environment).returncode == exit_status
        )


def test_the_notebook_so_far_is_saved_while_a_long_cell_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("imetlib.delivery.run_progress.AUTOSAVE_SECONDS", 1)
    monkeypatch.setattr("imetlib.delivery.notebooks.AUTOSAVE_SECONDS", 1)
    # The cell looks at its own output file; papermill saves when something is printed.
    look = (
        "import time\nword, text, end = 'ti' + 'ck', '', time.monotonic() + 30\n"
        "while word not in text and time.monotonic() < end:\n"
        "    print(word, flush=True)\n    time.sleep(.2)\n"
        "    text = open('98_test.ipynb').read()\n"
        "open('seen.ipynb', 'w').write(text)"
    )
    result, notebook = run(tmp_path, look, "1")
    assert result.exit_code == 0
    seen = nbformat.read(tmp_path / "out" / "seen.ipynb", as_version=4)
    assert states(seen) == ["completed", "completed", "running", "pending"]
    assert "tick" in seen.cells[2].outputs[0].text
    assert states(notebook) == ["completed"] * 4


def test_a_full_disk_ends_no_run_before_its_end(tmp_path, monkeypatch):
    from imetlib.delivery import run_progress

    saved = []

    def save(notebook, source, target):
        saved.append(target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_progress, "save_notebook", save)
    result, notebook = run(tmp_path, "1", "2")
    assert result.exit_code == 0 and len(saved) == 3
    assert states(notebook) == ["completed"] * 4


def test_a_notebook_that_papermill_left_cut_is_the_last_whole_one(tmp_path, monkeypatch):
    from imetlib.delivery import notebooks

    def execute(source, output, *arguments):
        papermill_run(source, output, *arguments)
        output.write_text(output.read_text()[:-40])

    papermill_run = notebooks._execute
    monkeypatch.setattr(notebooks, "_execute", execute)
    result, notebook = run(tmp_path, "1", "2")
    assert result.exit_code == 0
    assert states(notebook) == ["completed"] * 4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epoch": 7}, r"no parameter `epoch`. Known: profile: str, epochs: int, rate: float"),
        ({"epochs": "7"}, r"`epochs` must be int. Received: epochs='7' \(str\)"),
        ({"epochs": 7.0}, "`epochs` must be int"),
        ({"epochs": True}, "`epochs` must be int"),
        ({"rate": None}, "`rate` must be float"),
        ({"backbone": 3}, r"`backbone` must be str \| None"),
        ({"sizes": [1, "2"]}, r"`sizes` must be list\[int\]"),
        ({"quiet": 0}, "`quiet` must be bool"),
    ],
)
def test_bad_parameters_are_refused_before_the_start(tmp_path, parameters, message):
    source = write_notebook(tmp_path, "print(epochs)")
    result = run_notebook(source, tmp_path / "out", parameters)
    assert result.exit_code == 2
    assert result.path is None
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=message) as raised:
        check_parameters(source, parameters)
    assert result.error == str(raised.value)


@pytest.mark.parametrize(
    ("name", "output", "arguments", "message"),
    [
        ("97", "out", {}, "no notebook named '97'. Known:"),
        ("98_test.ipynb", ".", {}, "is the notebook itself"),
        ("98_test.ipynb", "out", {"timeout_seconds": 0}, "`timeout_seconds` must be positive"),
    ],
)
def test_bad_calls(tmp_path, monkeypatch, name, output, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path, "1")
    result = run_notebook(name, output, **arguments)
    assert result.exit_code == 2
    assert message in result.error


def test_older_result_stays_when_nothing_ran(tmp_path, monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager

    monkeypatch.setattr(KernelSpecManager, "find_kernel_specs", lambda self: {})
    monkeypatch.setattr(KernelSpecManager, "_find_spec_directory", lambda self, name: None)
    monkeypatch.setattr(KernelSpecManager, "ensure_native_kernel", False)
    output = tmp_path / "out" / "98_test.ipynb"
    output.parent.mkdir()
    output.write_text("older")
    result = run_notebook(write_notebook(tmp_path, "1"), output, progress=False)
    assert (result.path, result.exit_code) == (None, 2)
    assert "pip install ipykernel" in result.error
    assert output.read_text() == "older"
    assert [file.name for file in output.parent.iterdir()] == [output.name]


def test_read_parameters(tmp_path):
    known = read_parameters(write_notebook(tmp_path))
    assert list(known) == ["profile", "epochs", "rate", "backbone", "sizes", "quiet"]
    assert known["profile"].help == '"fast" (seconds) or "full"'
    assert (known["backbone"].type, known["backbone"].default) == ("str | None", None)
    assert (known["quiet"].type, known["quiet"].default) == ("bool", False)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("epochs=12", 12),
        ("rate=2", 2),
        ("rate=1e-4", 1e-4),
        ("profile=08", "08"),
        ("profile=7", "7"),
        ("profile=None", "None"),
        ("profile=a=b", "a=b"),
        ("backbone=None", None),
        ("backbone=xception", "xception"),
        ("sizes=[3, 4]", [3, 4]),
        ("quiet=true", True),
    ],
)
def test_parse_parameters(tmp_path, assignment, value):
    parsed = parse_parameters(write_notebook(tmp_path), [assignment])
    assert parsed == {assignment.split("=")[0]: value}
    assert type(next(iter(parsed.values()))) is type(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "written NAME=VALUE. Received: epochs"),
        ("epochs=many", "`epochs` must be int. Received: epochs='many'"),
        ("epoch=1", "no parameter `epoch`"),
    ],
)
def test_parse_parameters_refuses(tmp_path, assignment, message):
    with pytest.raises(ValueError, match=message):
        parse_parameters(write_notebook(tmp_path), [assignment])


@pytest.mark.parametrize(
    "source", ["x = [n for n in range(3)]", "import os", "a, b = 1, 2", "x = 1 +", "x: int"]
)
def test_parameters_cell_holds_literals_only(tmp_path, source):
    path = tmp_path / "98_test.ipynb"
    cell = new_code_cell(source, metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), path)
    with pytest.raises(ValueError, match="the parameters cell"):
        read_parameters(path)


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", "\xff\xfe"])
def test_not_a_notebook(tmp_path, content):
    path = tmp_path / "98_test.ipynb"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"98_test.ipynb: not a notebook"):
        read_parameters(path)


def test_find_notebook(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("01_eda", "07_threshold_search", "07_other"):
        write_notebook(folder, name=name)
    below = tmp_path / "runs" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    for name in ("01", "01_eda", "01_eda.ipynb", folder / "01_eda.ipynb"):
        assert find_notebook(name) == (folder / "01_eda.ipynb").resolve()
    with pytest.raises(ValueError, match=r"named '02'\. Known: 01_eda, 07_other, 07_thres"):
        find_notebook("02")
    with pytest.raises(ValueError, match="several notebooks named '07'"):
        find_notebook("07")


def test_clean_notebook():
    figure = new_output("display_data", metadata={"filename": "../x", "filenames": {"a": "/b"}})
    cell = new_code_cell(
        "1",
        execution_count=1,
        outputs=[new_output("stream", text="a"), new_output("stream", text="b\n"), figure],
        metadata={"tags": ["x"], "papermill": {"duration": 1}, "execution": {"iopub": "t"}},
    )
    metadata = {"papermill": {}, "language_info": {"name": "python", "version": "3.11.7"}}
    notebook = new_notebook(cells=[cell], metadata=metadata)
    clean = clean_notebook(notebook)
    assert clean.metadata == {"language_info": {"name": "python"}}
    assert clean.cells[0].metadata == {"tags": ["x"]}
    assert clean.cells[0].execution_count == 1
    assert clean.cells[0].outputs[0].text == "ab\n"
    assert [output.metadata for output in clean.cells[0].outputs[1:]] == [{}]
    assert notebook.cells[0].metadata.papermill.duration == 1, "the original was changed"


def test_executed_notebooks_name_no_file_to_write(tmp_path):
    """nbconvert writes an output to the `filename` of its metadata, wherever that is."""
    show = (
        "from IPython.display import display\n"
        "display('x', metadata={'filename': '../../escape', 'kept': 1})"
    )
    for code in (show, f"{show}\n1/0"):
        _, notebook = run(tmp_path, code)
        assert notebook.cells[2].outputs[0].metadata == {"kept": 1}


def test_figures_are_stored_with_few_colours():
    from PIL import Image

    pixels = np.random.default_rng(0).integers(256, size=(60, 80, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    stored = base64.b64encode(file.getvalue()).decode("ascii")
    data = {"image/png": stored, "text/plain": "<Figure size 80x60 with 1 Axes>"}
    output = new_output("display_data", data=data)
    text = new_output("stream", text="F2 0.5")
    cell = new_code_cell("", outputs=[text, output])
    notebook = new_notebook(cells=[new_markdown_cell("#"), cell])
    reduce_colours(notebook)
    found = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert found.size == (80, 60) and found.mode == "P"
    assert len(output.data["image/png"]) < len(stored) / 2
    difference = np.asarray(found.convert("RGB"), int) - pixels[..., :3]
    assert np.abs(difference).mean() < 30
    assert output.data["text/plain"] == data["text/plain"] and text.text == "F2 0.5"
