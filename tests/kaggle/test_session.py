"""A bundle runs as it is: Kaggle's versions, no network, inputs that cannot be written.

Skipped without an environment of Kaggle's versions. `make test-kaggle` makes one.
"""

import json
import os
import shutil

import pandas as pd
import pytest
from packaging.requirements import Requirement
from session import PYTHON, Session, describe_tree, has_namespaces

from imetlib.collection.museum import draw_museum
from imetlib.decisions.saved_rules import RULE_FILE, load_rule
from imetlib.delivery.kaggle_bundle import write_bundle
from imetlib.delivery.submission import check_submission
from imetlib.scores import load_scores

pytestmark = [
    pytest.mark.kaggle,
    pytest.mark.skipif(
        not PYTHON, reason="no environment with Kaggle's versions: `make test-kaggle` makes one"
    ),
]
SMALL = ("height=64", "width=64")

# How what is attached is mounted: before 2026 all of it side by side, since then by kind.
FLAT = {"competition": "{slug}", "dataset": "{slug}", "notebook": "{slug}"}
BY_KIND = {
    "competition": "competitions/{slug}",
    "dataset": "datasets/someone/{slug}",
    "notebook": "notebooks/someone/{slug}",
}


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    """iMet's tables and folders, drawn: 200 pictures, 50 of them to be answered."""
    return draw_museum(tmp_path_factory.mktemp("drawn") / "museum", size=200, image_size=64)


@pytest.fixture(scope="module")
def weights():
    """Folder of weights and the network that starts with them; a random start without."""
    folder = os.environ.get("IMETLIB_WEIGHTS")
    return (folder, "mobilenet_v2:network") if folder else (None, "small_convnet:network")


def make_session(folder, layout, **attached):
    """A session with folders attached: kind to (slug, folder)."""
    session = Session(folder / "input", folder / "working", folder / "scratch")
    for kind, (slug, source) in attached.items():
        shutil.copytree(source, session.inputs / layout[kind].format(slug=slug))
    return session


def run_bundle(session, folder, *arguments, **options):
    """Make a bundle and run it: the executed notebook, once it is found to have kept the rules."""
    made = write_bundle(folder, *arguments, owner="someone", **options)
    before = describe_tree(session.inputs)
    notebook, output = session.run_notebook(made.folder / made.metadata["code_file"])
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), output
    said = [out for cell in code for out in cell.outputs if out.get("name") == "stderr"]
    assert not said, "nothing is said on standard error"
    assert describe_tree(session.inputs) == before, "nothing is written to the inputs"
    assert session.attempts() == [], "nobody asks for the network"
    return notebook


def check_answer(session, museum):
    """`submission.csv` in the working folder: by our check, and by pandas alone."""
    path, sample = session.working / "submission.csv", museum / "sample_submission.csv"
    classes = pd.read_csv(museum / "labels.csv")["attribute_id"]
    assert not check_submission(path, sample, len(classes)).faults
    table = pd.read_csv(path, dtype=str)
    assert list(table.columns) == ["id", "attribute_ids"]
    assert list(table["id"]) == list(pd.read_csv(sample, dtype=str)["id"])
    answered = [set(map(int, text.split())) for text in table["attribute_ids"]]
    assert all(answered) and set().union(*answered) <= set(classes)
    return answered


def test_the_environment_has_kaggles_versions(request, tmp_path):
    lines = (request.path.parent / "pins.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    code = (
        "import importlib.metadata as m, json, sys;"
        "names = sys.argv[1:]; print(json.dumps([*sys.version_info[:2], "
        "{n: m.version(n) for n in names}, 'imetlib' in {d.name for d in m.distributions()}]))"
    )
    session = make_session(tmp_path, FLAT)
    output = session.run(["-c", code, *(pin.name for pin in pins)])
    major, minor, versions, has_package = json.loads(output.splitlines()[-1])
    assert (major, minor) in ((3, 12), (3, 11))
    assert {pin.name for pin in pins if versions[pin.name] not in pin.specifier} == set()
    assert not has_package, "the package has to come out of the bundle"


def test_a_session_has_no_network_and_cannot_write_its_inputs(tmp_path):
    session = make_session(tmp_path, FLAT)
    ask = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    assert "no network in this session: 192.0.2.1:80" in session.run(["-c", ask], check=False)
    assert session.attempts() == ["192.0.2.1 80"]
    if not has_namespaces():
        pytest.skip("no namespaces here: Python's sockets are watched, nothing else")
    assert "Network is unreachable" in session.run(["-S", "-c", ask], check=False)
    write = f"open({str(session.inputs / 'new')!r}, 'w')"
    assert "Read-only file system" in session.run(["-c", write], check=False)


def test_one_session_trains_and_answers_and_the_next_goes_on(museum, weights, tmp_path):
    """The later session finds the first three folds, as one that was stopped leaves them."""
    folder, member = weights
    attached = {"competition": ("imet-2019-fgvc6", museum)}
    if folder:
        attached["dataset"] = ("imetlib-weights", folder)
    settings = [*SMALL, f"members={member}", "epochs=1"]
    first = make_session(tmp_path / "first", BY_KIND, **attached)
    run_bundle(first, tmp_path / "bundle", kind="both", hours=0.1, assignments=settings)
    check_answer(first, museum)
    run = "runs/imet-2019-fgvc6/submission"
    submission = (first.working / "submission.csv").read_bytes()
    assert (first.working / run / "submission.csv").read_bytes() == submission
    assert not list(first.working.rglob("pictures-*")), "shrunk pictures are nobody's output"

    left = first.working / run
    for path in (*left.glob("record.json"), *left.glob("*.npz")):
        path.unlink()
    for number in (4, 5):
        shutil.rmtree(left / f"fold{number}", ignore_errors=True)
    trained = sorted(left.glob("fold*/record.json"))
    assert trained, "there are hours for one network at least"
    attached["notebook"] = ("imetlib-08-submission", first.working)
    later = make_session(tmp_path / "later", BY_KIND, **attached)
    notebook = run_bundle(later, tmp_path / "again", kind="both", hours=1, assignments=settings)
    check_answer(later, museum)
    said = "".join(
        out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ())
    )
    assert "goes on with a run of an earlier session" in said
    for record in trained:
        again = later.working / record.relative_to(first.working)
        assert again.read_bytes() == record.read_bytes(), "what was trained is not trained again"
    record = json.loads((later.working / run / "record.json").read_text())
    assert record["environment"]["versions"]["keras"] == "3.13.2"
    assert len(record["best_epochs"]) == 5 and "folds" not in record, "of all folds"


def test_one_session_trains_and_another_answers(museum, tmp_path):
    trained = make_session(tmp_path / "first", FLAT, competition=("imet-2019-fgvc6", museum))
    settings = [*SMALL, "epochs=1", "members=small_convnet:network"]
    run_bundle(trained, tmp_path / "train", kind="train", hours=1, assignments=settings)
    answering = make_session(
        tmp_path / "second",
        FLAT,
        competition=("imet-2019-fgvc6", museum),
        notebook=("imetlib-08-submission-train", trained.working),
    )
    run_bundle(answering, tmp_path / "inference", kind="inference")
    answer = check_answer(answering, museum)
    # The same pictures through the same networks and the same rule, in the session that trained.
    run = trained.working / "runs" / "imet-2019-fgvc6" / "submission"
    scores = load_scores(run / "scores-test.npz")
    chosen = load_rule(run / RULE_FILE, scores.class_names).predict(scores.y_prob)
    assert answer == [set(row.nonzero()[0].tolist()) for row in chosen]


def test_a_wheel_in_a_dataset_does_as_well(museum, tmp_path):
    made = write_bundle(tmp_path / "bundle", "01_eda", owner="someone", wheel=True)
    session = make_session(
        tmp_path,
        BY_KIND,
        competition=("imet-2019-fgvc6", museum),
        dataset=("imetlib-wheel", made.folder / "dataset"),
    )
    run_bundle(session, tmp_path / "again", "01_eda", wheel=True)
