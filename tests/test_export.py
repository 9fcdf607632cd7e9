"""An exported run answers as the run does, without Keras; what does not fit is named."""

import csv
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from imetlib import export
from imetlib.__main__ import main
from imetlib.collection.geometry import prepare
from imetlib.collection.prepared import with_settings
from imetlib.collection.tables import read_collection
from imetlib.decisions.rules import GlobalThreshold
from imetlib.decisions.saved_rules import save_rule
from imetlib.export import draw_pictures, export_run, head_network
from imetlib.exported_files import EXPORT_FILE, import_openvino, open_export
from imetlib.inference import answer_pictures
from imetlib.training.fit import preprocessing_of
from imetlib.training.kernel import KernelHead
from imetlib.training.load import load_member, load_run
from imetlib.training.ridge import RidgeHead
from imetlib.training.run_files import profile_of
from imetlib.training.runs import blend_runs, train_all_folds

try:
    import_openvino()
    missing = False
except ValueError:
    missing = True
on_tensorflow = keras.backend.backend() == "tensorflow"
needs_openvino = pytest.mark.skipif(
    missing or not on_tensorflow, reason="needs OpenVINO (extra `export`) and tensorflow"
)


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """Networks of two folds with mirror views, a group that excludes, random last layers so
    that answers differ from picture to picture, and a rule."""
    data = with_settings(prepared, mirror_view=True, resize_mode="pad", image_shape=(40, 32, 3))
    folder = tmp_path_factory.mktemp("runs") / "networks"
    train_all_folds(data, folder)
    for path in folder.glob("fold*/record.json"):
        record = json.loads(path.read_text()) | {"exclusive_groups": ["culture"]}
        path.write_text(json.dumps(record))
    run = load_run(folder)
    for number, (path, record) in enumerate(run.members):
        profile = profile_of(record["parameters"], path)
        model = load_member(path, record, profile, len(run.class_names))
        last = model.layers[-1]
        batch = np.stack([prepare(x, preprocessing_of(profile)) for x in draw_pictures()])
        features = keras.Model(model.input, last.input).predict_on_batch(batch)
        noise = np.random.default_rng(number).standard_normal(last.kernel.shape)
        spread = features.std(axis=0)
        kernel = 0.1 * noise * np.where(spread > 1e-7, 1 / np.maximum(spread, 1e-7), 0)[:, None]
        last.set_weights([kernel, -features.mean(axis=0) @ kernel])
        model.save_weights(path / "best.weights.h5")
    scores = run.predict(draw_pictures())
    rule = GlobalThreshold()
    level = float(np.quantile(scores.y_prob, 0.9))
    rule.fitted = {"threshold": level, "class_names": list(scores.class_names)}
    save_rule(folder / "rule.json", rule, scores.class_names)
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    if missing or not on_tensorflow:
        pytest.skip("needs OpenVINO (extra `export`) and tensorflow")
    folder = tmp_path_factory.mktemp("exported") / "networks"
    export_run(run, folder)
    return folder


@pytest.fixture(scope="module")
def tables(museum):
    return read_collection(museum)


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


# The same answers -------------------------------------------------------------------------------


def test_logits_and_labels_are_those_of_the_run(run, exported, tables):
    """On a museum's test pictures; the command answers with both in the same way."""
    before, after = (answer_pictures(x, tables) for x in (load_run(run), open_export(exported)))
    assert np.abs(before.scores.logits - after.scores.logits).max() < 1e-4
    np.testing.assert_array_equal(before.y_pred, after.y_pred)
    assert len(np.unique(before.y_pred, axis=0)) > 5, "all pictures alike would prove nothing"
    differences = json.loads((exported / EXPORT_FILE).read_text())["differences"]
    assert 0 <= differences["float32"] < 1e-4


def test_pictures_of_any_shape_as_arrays(run, exported):
    before, after = (x.predict(draw_pictures()) for x in (load_run(run), open_export(exported)))
    assert np.abs(before.logits - after.logits).max() < 1e-4
    assert before.ids.tolist() == after.ids.tolist() == [str(number) for number in range(8)]


@needs_openvino
def test_a_blend_of_network_and_heads(prepared, tmp_path):
    """Closed-form heads on a backbone of the user's own, which all of them share."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="first")(inputs)
    own = tmp_path / "own.keras"
    keras.Model(inputs, keras.layers.ReLU()(x)).save(own)
    settings = {"backbone": str(own), "weights": "", "normalisation": "unit", "epochs": 0}
    data = with_settings(prepared, **settings)
    blend = tmp_path / "blend"
    for method in ("network", "ridge", "kernel"):
        train_all_folds(data, blend / method, method=method)
    blend_runs(data, blend, ["network", "ridge", "kernel"])
    shutil.copy(own, blend)
    record = export_run(blend, tmp_path / "exported")
    # Two folds of the network, and one extractor for both heads.
    assert [entry["file"] for entry in record["networks"]] == [f"network{x}.xml" for x in range(3)]
    assert [bool(member["head"]) for member in record["members"]] == [False, False, True, True]
    assert [member["network"] for member in record["members"]] == [0, 1, 2, 2]
    run, exported = load_run(blend), open_export(tmp_path / "exported")
    pictures = draw_pictures()
    before, after = run.predict(pictures), exported.predict(pictures)
    np.testing.assert_allclose(after.logits, before.logits, atol=1e-3)
    assert before.logits.std(axis=0).max() > 0.05
    np.testing.assert_array_equal(run.decide(before), exported.decide(after))


@needs_openvino
@pytest.mark.parametrize("kind", ["ridge", "kernel"])
def test_head_as_a_network(kind):
    rng = np.random.default_rng(0)
    features = np.abs(rng.standard_normal((5, 9))).astype(np.float32)
    kernel, bias = rng.standard_normal((6, 4)).astype(np.float32), np.float32([1, 2, 3, 4])
    last = features[:, -6:].astype(np.float64)
    if kind == "ridge":
        head, wanted = RidgeHead(kernel, bias, 1.0), last @ kernel + bias
    else:
        landmarks = rng.standard_normal((6, 6)).astype(np.float32)
        mean, scale = rng.random((2, 6)).astype(np.float32)
        scale[0] = 1e-3  # beyond six times the scale it is cut
        head = KernelHead(landmarks, mean, scale, 7.0, kernel, bias, 1.0)
        x = np.clip((np.sqrt(last) - mean) / scale, -6, 6)
        squares = ((x[:, None] - landmarks[None]) ** 2).sum(axis=2)
        wanted = np.exp(-squares / 7.0) @ kernel + bias
    found = head_network(head, 9).predict_on_batch(features)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_batches_and_threads_make_no_difference(exported, tables):
    paths = [tables.picture_path("test", name) for name in tables.test_ids[:11]]
    one, many = open_export(exported, threads=1), open_export(exported, threads=3)
    whole = one.predict(paths).logits
    np.testing.assert_allclose(one.predict_files(paths, k=999).scores.dense(), whole, atol=1e-6)
    parts = many.predict_files(paths, k=5, batch_size=2)
    assert parts.ids == tuple(map(str, paths)) and parts.logits.shape == (11, 5)
    np.testing.assert_allclose(np.sort(parts.logits), np.sort(whole)[:, -5:], atol=1e-5)
    np.testing.assert_allclose(parts.y_prob, 1 / (1 + np.exp(-parts.logits)), rtol=1e-6)


# Without Keras ----------------------------------------------------------------------------------


ALONE = """
import sys
from imetlib.__main__ import main
code = main(["predict", sys.argv[1], "--run", sys.argv[2], "--out", sys.argv[3]])
names = ("keras", "tensorflow", "jax", "torch", "matplotlib", "openvino_telemetry")
print(code, [name for name in names if sys.modules.get(name)], "openvino" in sys.modules)
"""


def test_the_command_loads_no_keras_and_no_telemetry(run, exported, museum, tmp_path):
    calls = [sys.executable, "-c", ALONE, museum / "test", exported, tmp_path / "exported.csv"]
    result = subprocess.run(calls, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "0 [] True", result.stderr
    out = ["--out", str(tmp_path / "run.csv")]
    assert main(["predict", str(museum / "test"), "--run", str(run), *out]) == 0
    rows = []
    for name in ("run.csv", "exported.csv"):
        with (tmp_path / name).open(newline="") as file:
            rows.append(list(csv.reader(file)))
    assert [row[:2] for row in rows[0]] == [row[:2] for row in rows[1]]
    shares = [np.array([float(row[2]) for row in part[1:]]) for part in rows]
    np.testing.assert_allclose(*shares, atol=0.0011)


# What does not fit ------------------------------------------------------------------------------


def test_pictures_that_cannot_be_read_are_named(exported, tables, tmp_path, capsys):
    good = tables.picture_path("test", tables.test_ids[0])
    bad, none = tmp_path / "in/cut.png", tmp_path / "in/none.png"
    bad.parent.mkdir()
    bad.write_bytes(good.read_bytes()[:200])
    shutil.copy(good, tmp_path / "in/good.png")
    opened = open_export(exported)
    found = opened.predict_files([bad, good, none, good], ids=["a", "b", "c", "d"])
    assert found.ids == ("b", "d") and [fault.path for fault in found.faults] == [
        str(bad),
        str(none),
    ]
    np.testing.assert_array_equal(found.logits[0], found.logits[1])
    nothing = opened.predict_files([bad])
    assert nothing.ids == () and nothing.columns.shape == nothing.y_prob.shape
    assert len(nothing.columns) == 0
    with pytest.raises(ValueError, match=r"(?s)2 pictures .*cut\.png.*none\.png"):
        opened.predict([bad, good, none])
    out = tmp_path / "answers.csv"
    call = ["predict", str(bad.parent), "--run", str(exported), "--out", str(out)]
    assert main(call) == 1
    assert f"left out: {bad}" in capsys.readouterr().err
    assert "good.png" in out.read_text() and "cut.png" not in out.read_text()


def edit(folder, **changes):
    path = folder / EXPORT_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def damage(folder, kind):
    path = folder / "network1.bin"
    record = json.loads((folder / EXPORT_FILE).read_text())
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "missing":
        path.unlink()
    elif kind == "rule":
        (folder / "rule.json").write_text("{}")
    elif kind == "json":
        (folder / EXPORT_FILE).write_text((folder / EXPORT_FILE).read_text()[:-9])
    elif kind == "lacks":
        del record["members"]
        (folder / EXPORT_FILE).write_text(json.dumps(record))
    elif kind == "version":
        edit(folder, format=2)
    elif kind == "shape":
        record["networks"][1]["preprocessing"]["image_shape"] = [32, 32, 3]
        edit(folder, networks=record["networks"])
    elif kind == "classes":
        edit(folder, class_names=record["class_names"][1:])
    else:
        (folder / EXPORT_FILE).unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", r"network1\.bin was cut or changed after the export: export the run again"),
        ("missing", r"network1\.bin is missing"),
        ("rule", r"rule\.json was cut or changed"),
        ("json", r"export\.json is damaged"),
        ("lacks", r"export\.json is damaged \(KeyError\('members'\)\)"),
        ("version", "another version of imetlib"),
        ("shape", r"network1\.xml: export\.json says 32 x 32 x 3, the network 40 x 32 x 3"),
        ("classes", r"says \d+, the network \d+: the files are of different exports"),
        ("none", r"is no exported run \(no export\.json\)"),
    ],
)
def test_a_damaged_export_is_refused_by_name(copied, kind, message):
    damage(copied, kind)
    with pytest.raises(ValueError, match=message):
        open_export(copied)


def test_settings_out_of_range(exported, run, museum, capsys):
    with pytest.raises(ValueError, match="`precision` must be one of float32, bfloat16"):
        open_export(exported, precision="int8")
    with pytest.raises(ValueError, match="`threads` must be 0"):
        open_export(exported, threads=-1)
    with pytest.raises(ValueError, match="1 ids of 0 pictures"):
        open_export(exported).predict_files([], ids=["a"])
    with pytest.raises(ValueError, match="at least one picture"):
        open_export(exported).predict([])
    assert main(["predict", str(museum / "test"), "--run", str(run), "--bfloat16"]) == 2
    assert "--bfloat16 is for an exported run" in capsys.readouterr().err


def test_without_the_extra_one_sentence_says_so(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    assert main(["export", str(run), str(tmp_path / "out")]) == 2
    assert 'pip install "imetlib[export]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_backend_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="set KERAS_BACKEND=tensorflow"):
        export_run(run, tmp_path / "out")


@needs_openvino
def test_what_cannot_be_exported_leaves_nothing(run, tmp_path, monkeypatch, capsys):
    half = shutil.copytree(run, tmp_path / "half")
    target = tmp_path / "out"
    (half / "fold2/best.weights.h5").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"best\.weights\.h5"):
        export_run(half, target)
    (half / "record.json").unlink()
    assert main(["export", str(half), str(target)]) == 2
    assert "no such record; train the run first" in capsys.readouterr().err
    other = shutil.copytree(run, tmp_path / "other")
    rule = GlobalThreshold()
    rule.fitted = {"threshold": 0.5, "class_names": ["tag::x"]}
    save_rule(other / "rule.json", rule, ["tag::x"])
    with pytest.raises(ValueError, match="belongs to other classes"):
        export_run(other, target)
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match=r"network0\.xml: OpenVINO answers otherwise than Keras"):
        export_run(run, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half", "other"]


def test_a_folder_with_something_in_it_is_left_alone(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("chapter one")
    with pytest.raises(ValueError, match="not an empty folder"):
        export_run(run, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "chapter one"


def test_a_run_of_other_attributes_does_not_answer_a_collection(exported, tables):
    opened = open_export(exported)
    other = type(opened)(**{**vars(opened), "class_names": opened.class_names[::-1]})
    with pytest.raises(ValueError, match="was trained on other attributes"):
        answer_pictures(other, tables)
