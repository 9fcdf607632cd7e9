"""One seed of the ten-crop experiment, tiny: split, training, frozen maps, answers, its record."""

import shutil
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from imetlib.collection.classified import ClassifiedPictures
from imetlib.delivery.records import read_record
from imetlib.training import ten_crop, ten_crop_study
from imetlib.training.devices import describe_devices
from imetlib.training.ten_crop import (
    build_head,
    build_whole,
    frozen_views,
    load_head,
    load_network,
    predict,
    read_facts,
    train_head,
    train_whole,
)
from imetlib.training.ten_crop_run import (
    HEADS,
    SETTINGS,
    WHOLE,
    TenCropSettings,
    settings_of,
    start_run,
)
from imetlib.training.ten_crop_study import (
    PADDINGS,
    PICTURE_VIEWS,
    answer,
    finish_run,
    main,
    pictures_of,
    train_run,
)

CLASSES = 3
SEED = 3
TINY = TenCropSettings(
    "fast",
    (4, 6, 6, 6, 5),
    (7,),
    epochs=2,
    joint_epochs=2,
    head_epochs=2,
    num_held_out=9,
    batch_size=8,
    head_batch_size=16,
    conv_dropout=0.1,
    dropout=0.2,
)
WHOLE_TRAINED = ("dense", "ten crops")
HEADS_TRAINED = ("whole linear", "ten hidden")
TRAINED = (*WHOLE_TRAINED, *HEADS_TRAINED)


def draw_pictures(num_train=45, num_test=22):
    """Noise with a patch in the colour of the class; the first class is the most frequent."""
    rng = np.random.default_rng(0)
    splits = []
    for number in (num_train, num_test):
        labels = np.minimum(np.arange(number) % (CLASSES + 1), CLASSES) % CLASSES
        images = rng.integers(0, 200, (number, 32, 32, 3), dtype=np.uint8)
        images[np.arange(number), 4:16, 4:16, labels] += 55
        splits += [images, labels]
    return ClassifiedPictures(*splits, tuple("abc"), "noise with a coloured patch")


@pytest.fixture(scope="module", autouse=True)
def few_networks():
    """Two whole networks and two heads in the tables of this module's runs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (ten_crop, ten_crop_study):
            patch.setattr(module, "WHOLE", {name: WHOLE[name] for name in WHOLE_TRAINED})
            patch.setattr(module, "HEADS", {name: HEADS[name] for name in HEADS_TRAINED})
        yield


@pytest.fixture(scope="module")
def pictures():
    return draw_pictures()


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """A run whose networks are all trained."""
    run = start_run(pictures, TINY, SEED, tmp_path_factory.mktemp("run"))
    train_run(run, progress=lambda line: None)
    return run


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """Folder of the record, and the record."""
    target = tmp_path_factory.mktemp("results") / f"seed{SEED}"
    return target, finish_run(run, target)


@pytest.fixture
def fits(monkeypatch):
    """Names of the models that are trained from here on."""
    names = []
    fit = keras.Model.fit

    def counted(model, *args, **kwargs):
        names.append(model.name)
        return fit(model, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", counted)
    return names


def copy_of(run, folder):
    """The same run in another folder."""
    shutil.copytree(run.folder, folder)
    return start_run(run.pictures, run.settings, run.seed, folder)


def weights_of(run, name):
    model = load_head(run, name, (5, 5, 5)) if name in HEADS else load_network(run, name)
    return model.get_weights()


def assert_same_weights(run, other, name):
    for weight, again in zip(weights_of(run, name), weights_of(other, name), strict=True):
        np.testing.assert_array_equal(weight, again)


def softmax(scores):
    x = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def mirror(images):
    return np.ascontiguousarray(images[:, :, ::-1])


# The run ----------------------------------------------------------------------------------------


def test_the_split_is_disjoint_stratified_and_of_the_wanted_size(pictures, tmp_path):
    settings = replace(TINY, num_held_out=15)
    runs = [start_run(pictures, settings, seed, tmp_path / str(seed)) for seed in range(5)]
    counts = np.bincount(pictures.train_labels)
    assert counts.tolist() == [23, 11, 11]
    for run in runs:
        np.testing.assert_array_equal(np.sort([*run.rows, *run.held_out]), np.arange(45))
        assert len(run.held_out) == 15
        assert (np.diff(run.rows) > 0).all() and (np.diff(run.held_out) > 0).all()
        held_out = np.bincount(pictures.train_labels[run.held_out])
        assert np.abs(held_out - counts / 3).max() < 1
    assert len({run.held_out.tobytes() for run in runs}) == 5


def test_a_folder_of_another_run_is_refused(pictures, tmp_path):
    start_run(pictures, TINY, 0, tmp_path)
    assert start_run(pictures, TINY, 0, tmp_path).settings == TINY
    before = (tmp_path / "settings.json").read_bytes()
    others = {
        r"\(epochs, dropout\)": (pictures, replace(TINY, epochs=3, dropout=0.0), 0),
        r"\(seed\)": (pictures, TINY, 1),
        r"\(pictures, pictures_sha256\)": (replace(pictures, source="others"), TINY, 0),
        r"\(pictures_sha256\)": (draw_pictures(num_train=60), TINY, 0),
    }
    for differing, arguments in others.items():
        with pytest.raises(ValueError, match=f"holds a run of other settings {differing}"):
            start_run(*arguments, tmp_path)
    assert (tmp_path / "settings.json").read_bytes() == before


def test_settings_that_do_not_exist_or_do_not_fit(pictures, tmp_path):
    full = SETTINGS["full"]
    assert settings_of("full", epochs=5, batch_size=None) == replace(full, epochs=5)
    with pytest.raises(ValueError, match=r"Unknown profile 'report'\. Known: fast, full"):
        settings_of("report")
    with pytest.raises(ValueError, match=r"Unknown settings: epoch, rate\. Known: profile, filt"):
        settings_of("fast", epoch=5, rate=1.0)
    for key in ("epochs", "joint_epochs", "head_epochs", "batch_size", "head_batch_size"):
        with pytest.raises(ValueError, match=f"`{key}` must be 1 at least. Received: 0"):
            settings_of("fast", **{key: 0})
    # Without this error an epoch would have no batch, and the first one never come.
    for key in ("batch_size", "head_batch_size"):
        with pytest.raises(ValueError, match=f"`{key}` must not exceed the 36 .* Received: 37"):
            start_run(pictures, replace(TINY, **{key: 37}), 0, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "what is refused leaves no folder"


def test_files_of_names_with_commas(pictures, tmp_path):
    run = start_run(pictures, TINY, 0, tmp_path)
    assert run.path("ten hidden, logits", ".csv").name == "ten-hidden-logits.csv"
    assert len({run.path(name, "") for name in (*WHOLE, *HEADS)}) == len(WHOLE) + len(HEADS)


# Networks ---------------------------------------------------------------------------------------


def test_every_network_of_the_tables(pictures, tmp_path, monkeypatch):
    """Parameters by hand: the cells that FullNet reads, and its layers."""
    monkeypatch.setattr(ten_crop, "WHOLE", WHOLE)
    monkeypatch.setattr(ten_crop, "HEADS", HEADS)
    run = start_run(pictures, TINY, 0, tmp_path)
    cells = {"whole": 25, "mean": 1, "centre": 9, "five": 9, "ten": 9}
    assert len(HEADS) == 12 and len(WHOLE) == 3
    for name, settings in {**HEADS, **WHOLE}.items():
        inputs = cells[settings["views"]] * 5
        linear = inputs * CLASSES + CLASSES
        hidden = inputs * 7 + 7 + 7 * CLASSES + CLASSES
        model = build_head(run, name, (5, 5, 5)) if name in HEADS else build_whole(run, name)
        head = model if name in HEADS else model.get_layer("crop_classifier")
        assert head.count_params() == (hidden if settings.get("hidden") else linear), name
        averaged = "mean_logits" in {layer.name for layer in head.layers}
        assert averaged == name.endswith("logits")


def test_the_precision_is_that_of_the_networks_alone(pictures, tmp_path):
    run = start_run(pictures, replace(TINY, precision="mixed_bfloat16"), 0, tmp_path)
    models = [build_whole(run, "ten crops"), build_head(run, "ten hidden", (5, 5, 5))]
    assert models[0].get_layer("conv2").compute_dtype == "bfloat16"
    assert models[1].get_layer("full_net").get_layer("dense1").compute_dtype == "bfloat16"
    assert all(model.output.dtype == "float32" for model in models)
    assert keras.config.dtype_policy().name == "float32"


def test_what_is_not_trained_is_not_read(run, tmp_path):
    empty = start_run(run.pictures, TINY, SEED, tmp_path / "empty")
    with pytest.raises(ValueError, match=r"dense\.weights\.h5: no weights .* train 'dense' first"):
        load_network(empty, "dense")
    with pytest.raises(ValueError, match="train 'dense' first"):
        frozen_views(empty)
    with pytest.raises(ValueError, match="train 'ten hidden' first"):
        load_head(empty, "ten hidden", (5, 5, 5))
    # Ended after the weights were written, before the run said so.
    copied = copy_of(run, tmp_path / "copy")
    copied.path("dense", ".json").unlink()
    with pytest.raises(ValueError, match="train 'dense' first"):
        load_network(copied, "dense")


# Training ---------------------------------------------------------------------------------------


def test_facts_and_histories(run):
    for name in TRAINED:
        facts = read_facts(run, name)
        history = np.genfromtxt(run.path(name, ".csv"), delimiter=",", names=True)
        assert history["epoch"].tolist() == [1, 2]
        assert facts["held_out"] == pytest.approx(history["val_accuracy"][-1])
        assert np.isfinite(history["loss"]).all()
        size = sum(weight.size for weight in weights_of(run, name))
        assert facts["num_params"] == size
        # Means and variances of normalisation: what it reads from, and what it adds up.
        untrained = 2 * sum(TINY.filters) if name in WHOLE else 0
        assert facts["trainable_params"] == size - untrained


def test_a_finished_run_is_read(run, fits, tmp_path):
    copied = copy_of(run, tmp_path / "copy")
    lines = []
    facts = train_run(copied, progress=lines.append)
    assert fits == [] and facts == {name: read_facts(run, name) for name in TRAINED}
    assert lines[0] == f"dense: held-out {facts['dense']['held_out']:.4f}"
    assert len(lines) == len(TRAINED)


def test_an_interrupted_run_goes_on(run, fits, tmp_path):
    copied = copy_of(run, tmp_path / "copy")
    copied.path("ten crops", ".weights.h5").write_bytes(b"half a file")
    copied.path("ten crops", ".json").unlink()
    for suffix in (".weights.h5", ".csv", ".json"):
        copied.path("ten hidden", suffix).unlink()
    train_run(copied, progress=lambda line: None)
    assert fits == ["ten_crops", "crop_classifier"]
    # Trained twice from one seed: the same to the last bit.
    for name in TRAINED:
        assert_same_weights(run, copied, name)
        history = copied.path(name, ".csv").read_bytes()
        assert history == run.path(name, ".csv").read_bytes()
    assert not list(copied.folder.glob(".tmp-*"))


def test_test_pictures_teach_nothing(run, tmp_path):
    blank = replace(run.pictures, test_images=np.zeros_like(run.pictures.test_images))
    again = start_run(blank, TINY, SEED, tmp_path)
    train_whole(again, "dense")
    assert_same_weights(run, again, "dense")


def test_heads_leave_the_base_alone(run, tmp_path):
    copied = copy_of(run, tmp_path / "copy")
    copied.path("ten hidden", ".json").unlink()
    before = copied.path("dense", ".weights.h5").read_bytes()
    views = frozen_views(copied)
    kept = views.copy()
    facts = train_head(copied, "ten hidden", views)
    assert copied.path("dense", ".weights.h5").read_bytes() == before
    np.testing.assert_array_equal(views, kept)
    assert facts["num_params"] == facts["trainable_params"] == 45 * 7 + 7 + 7 * 3 + 3
    start = build_head(copied, "ten hidden", (5, 5, 5)).get_weights()
    assert all(
        np.abs(weight - trained).max() > 0
        for weight, trained in zip(start, weights_of(copied, "ten hidden"), strict=True)
    )


def start_of(monkeypatch, train, count):
    """What a network begins with, but is not trained on: first batches and first weights."""
    taken = {}

    def fit(model, batches, **kwargs):
        taken["batches"] = [next(batches) for _ in range(count)]
        taken["weights"] = model.get_weights()
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", fit)
        with pytest.raises(InterruptedError):
            train()
    return taken["batches"], taken["weights"]


def test_order_and_augmentation_of_pictures(pictures, tmp_path, monkeypatch):
    """Without shifts each picture of a batch is one of the rows or its mirror image."""
    settings = replace(TINY, padding=0)
    run, other = (start_run(pictures, settings, seed, tmp_path / str(seed)) for seed in (0, 1))
    starts = [
        start_of(monkeypatch, lambda run=run: train_whole(run, "dense"), 8)
        for run in (run, run, other)
    ]
    kernels = [weights[0] for _, weights in starts]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0.01, "another seed starts elsewhere"
    (batches, _), (again, _), (others, _) = starts
    for (images, labels), (same_images, same_labels) in zip(batches, again, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)
    assert any(
        (batch[0] != another[0]).any() for batch, another in zip(batches, others, strict=True)
    )
    known = {picture.tobytes(): row for row, picture in enumerate(pictures.train_images)}
    mirrored = {picture.tobytes(): row for row, picture in enumerate(mirror(pictures.train_images))}
    orders, flips = [], []
    for images, labels in batches:
        assert images.shape == (8, 32, 32, 3) and images.dtype == np.uint8
        rows = [{**known, **mirrored}[picture.tobytes()] for picture in images]
        orders += rows
        flips += [picture.tobytes() in mirrored for picture in images]
        np.testing.assert_array_equal(labels, np.eye(3)[pictures.train_labels[rows]])
    # 36 rows are four batches an epoch.
    for epoch in (orders[:32], orders[32:]):
        assert len(set(epoch)) == 32 and set(epoch) <= set(run.rows)
    assert orders[:32] != orders[32:] and orders[:32] != sorted(orders[:32])
    assert 16 < sum(flips) < 48 and flips[:32] != flips[32:]
    shifted = start_run(pictures, TINY, SEED, tmp_path / "shifted")
    ((images, _),), _ = start_of(monkeypatch, lambda: train_whole(shifted, "dense"), 1)
    moved = [picture.tobytes() not in {**known, **mirrored} for picture in images]
    assert sum(moved) >= 6


def test_order_and_views_of_a_head(run, tmp_path, monkeypatch):
    other = start_run(run.pictures, TINY, SEED, tmp_path)
    # Cells that say which picture and which view they are.
    rows = np.arange(45, dtype=np.float16)
    views = np.broadcast_to(np.stack([rows, rows + 100])[..., None, None, None], (2, 45, 5, 5, 5))
    batches, _ = start_of(monkeypatch, lambda: train_head(other, "ten hidden", views), 4)
    cells = np.concatenate([maps[:, 0, 0, 0] for maps, _ in batches]).astype(int)
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(labels.argmax(axis=1), run.pictures.train_labels[cells % 100])
    for epoch in (cells[:32], cells[32:]):
        assert len(set(epoch % 100)) == 32 and set(epoch % 100) <= set(run.rows)
    assert 16 < (cells >= 100).sum() < 48


def test_training_that_diverges_is_no_result(pictures, tmp_path):
    run = start_run(pictures, replace(TINY, learning_rate=1e30), 0, tmp_path)
    with pytest.raises(ValueError, match=r"dense diverged: start a run with a lower learning rate"):
        train_whole(run, "dense")
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


# Maps and outputs -------------------------------------------------------------------------------


def test_frozen_views_are_what_the_base_sees(run):
    views = frozen_views(run)
    assert views.shape == (2, 45, 5, 5, 5) and views.dtype == np.float16
    base = load_network(run, "dense")
    maps = keras.Model(base.input, base.get_layer("pool5").output)
    images = run.pictures.train_images
    for view, pictures in zip(views, (images, mirror(images)), strict=True):
        wanted = keras.ops.convert_to_numpy(maps(pictures, training=False))
        assert np.ptp(wanted, axis=0).max() > 0.1
        np.testing.assert_allclose(view, wanted, rtol=1e-3, atol=1e-3)
        scores = base.get_layer("crop_classifier").predict_on_batch(view.astype(np.float32))
        np.testing.assert_allclose(scores, base.predict_on_batch(pictures), atol=1e-2)
    assert np.abs(views[0] - views[1]).max() > 0.1


@pytest.mark.parametrize(
    ("count", "sizes"), [(8, [4, 4]), (11, [4, 4, 4]), (3, [3]), (4, [4]), (5, [4, 4])]
)
def test_predict_of_a_count_that_fills_no_batch(count, sizes):
    class Sums:
        def __init__(self):
            self.sizes = []

        def predict_on_batch(self, part):
            self.sizes.append(len(part))
            return part.sum(axis=1, keepdims=True).astype(np.float64)

    model = Sums()
    inputs = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    found = predict(model, inputs, batch_size=4)
    assert found.dtype == np.float32 and model.sizes == sizes
    np.testing.assert_array_equal(found, inputs.sum(axis=1, keepdims=True))


# Answers and the record -------------------------------------------------------------------------


def test_answers_of_views_and_of_a_head(pictures, tmp_path, monkeypatch):
    """Mean probabilities of the base on pictures that are moved by hand; a head on its map."""
    run = start_run(pictures, TINY, SEED, tmp_path)
    images = np.random.default_rng(5).integers(0, 256, (120, 4, 4, 3), dtype=np.uint8)
    images = images.repeat(8, axis=1).repeat(8, axis=2)
    base = stirred(build_whole(run, "dense"), images)
    maps = keras.Model(base.input, base.get_layer("pool5").output).predict_on_batch(images)
    head = stirred(build_head(run, "ten hidden", (5, 5, 5)), maps)
    monkeypatch.setattr(ten_crop_study, "load_network", lambda run, name: base)
    monkeypatch.setattr(ten_crop_study, "load_head", lambda run, name, shape: head)
    monkeypatch.setattr(ten_crop_study, "clear_memory", lambda: None)
    answers = answer(run, images)

    def probabilities(pictures):
        return softmax(base.predict_on_batch(np.ascontiguousarray(pictures)))

    wanted = {"dense": probabilities(images)}
    wanted["two pictures"] = (probabilities(images) + probabilities(mirror(images))) / 2
    for padding in PADDINGS:
        around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        padded = np.pad(images, around)
        last = 2 * padding
        starts = [(0, 0), (0, last), (last, 0), (last, last), (padding, padding)]
        windows = [padded[:, top : top + 32, left : left + 32] for top, left in starts]
        windows += [mirror(window) for window in windows]
        views = [probabilities(window) for window in windows]
        wanted[f"ten pictures, padding {padding}"] = np.mean(views, axis=0)
    wanted["ten hidden"] = softmax(head.predict_on_batch(maps))
    for name, y_prob in wanted.items():
        # Rounding may turn an answer whose best two are as good as equal.
        first, second = np.sort(y_prob, axis=1)[:, :-3:-1].T
        clear = first - second > 1e-3
        assert clear.sum() > 100
        np.testing.assert_array_equal(answers[name][clear], y_prob.argmax(axis=1)[clear])
    found = {tuple(y_prob.argmax(axis=1)) for y_prob in wanted.values()}
    assert len(found) == len(wanted), "each of them gives answers of its own"
    assert min(len(set(answers)) for answers in found) == CLASSES


def stirred(model, inputs):
    """Other than after two epochs, classes are about as frequent and views differ."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.name == "kernel":
            scale = 2 / np.sqrt(np.prod(weight.shape[:-1]))
            weight.assign(rng.normal(0, scale, weight.shape).astype("float32"))
    for _ in range(20):
        bias = keras.ops.convert_to_numpy(model.weights[-1])
        share = softmax(model.predict_on_batch(inputs)).mean(axis=0)
        model.weights[-1].assign(bias - np.log(share).astype("float32"))
    return model


def test_random_transforms_are_random_and_repeat(run, monkeypatch):
    seen = {}

    def see(model, inputs, batch_size=512):
        seen[len(seen)] = inputs
        return np.zeros((len(inputs), CLASSES), np.float32)

    monkeypatch.setattr(ten_crop_study, "predict", see)
    for name in ("load_network", "load_head", "feature_network", "image_views_model"):
        monkeypatch.setattr(ten_crop_study, name, lambda *args, **kwargs: None)
    monkeypatch.setattr(ten_crop_study, "clear_memory", lambda: None)
    maps = np.zeros((22, 5, 5, 5), np.float16)
    monkeypatch.setattr(ten_crop_study, "features_of", lambda network, images: maps)
    images = run.pictures.test_images
    names = {*TRAINED, *PICTURE_VIEWS}
    moved = []
    for _ in range(2):
        seen.clear()
        found = answer(run, images)
        # Asked last.
        moved.append([seen[index] for index in range(len(seen) - 6, len(seen))])
    drawn = [f"{kind}, draw {draw}" for kind in ("flip", "crop and flip") for draw in range(3)]
    assert list(found)[-6:] == drawn and set(found) == {*names, *drawn}
    for first, again in zip(*moved, strict=True):
        np.testing.assert_array_equal(first, again)
    assert len({one.tobytes() for one in moved[0]}) == 6
    plain, mirrored = (
        np.stack([(one == view).all(axis=(1, 2, 3)) for one in moved[0]])
        for view in (images, mirror(images))
    )
    assert (plain ^ mirrored)[:3].all() and plain[:3].any() and mirrored[:3].any()
    assert (plain | mirrored)[3:].mean() < 0.3


def test_the_record_is_what_the_answers_say(run, finished):
    target, record = finished
    answers = np.load(target / "answers.npz")
    labels = run.pictures.test_labels
    np.testing.assert_array_equal(answers["labels"], labels)
    assert all(answers[name].dtype == np.uint8 for name in answers.files)
    assert set(record["scores"]) == set(answers.files) - {"labels"}
    for name, scores in record["scores"].items():
        right = sum(int(found) == label for found, label in zip(answers[name], labels, strict=True))
        assert scores["test"] == pytest.approx(right / 22)
    # Keras's own accuracy after the last epoch, of the same pictures.
    for name in TRAINED:
        assert record["scores"][name]["held_out"] == pytest.approx(
            read_facts(run, name)["held_out"], abs=1e-6
        )
    assert record["score"] == record["scores"]["dense"]["test"]


def test_the_record_says_what_it_is(run, finished):
    target, record = finished
    assert read_record(target) == record
    assert (record["run"], record["metric"], record["split"]) == (f"seed{SEED}", "top-1", "test")
    assert record["constant_score"] == pytest.approx(11 / 22)
    assert record["num_samples"] == 22 and record["image_shape"] == [32, 32, 3]
    assert record["pictures"] == "noise with a coloured patch"
    assert record["parameters"]["filters"] == list(TINY.filters)
    assert set(record["seconds"]) == set(record["num_params"]) == set(TRAINED)
    accelerators = describe_devices()["accelerators"]
    assert record["device_details"]["accelerators"] == accelerators
    device = record["environment"]["device"]
    assert device == ", ".join(accelerators) if accelerators else device
    for name in TRAINED:
        history = run.path(name, ".csv")
        assert (target / history.name).read_bytes() == history.read_bytes()
    names = {"record.json", "answers.npz", *(run.path(name, ".csv").name for name in TRAINED)}
    assert {path.name for path in target.iterdir()} == names


def test_the_padding_is_chosen_on_held_out_pictures(run, tmp_path, monkeypatch):
    """The test set would choose 1, held-out pictures say 4."""
    right = {"held_out": {1: 3, 2: 4, 4: 6}, "test": {1: 20, 2: 4, 4: 6}}
    held_out, test = run.pictures.train_labels[run.held_out], run.pictures.test_labels

    def fake(run, images):
        np.testing.assert_array_equal(images[:9], run.pictures.train_images[run.held_out])
        np.testing.assert_array_equal(images[9:], run.pictures.test_images)
        found = {"dense": np.concatenate([held_out, test])}
        for padding in PADDINGS:
            wrong = [
                np.arange(len(labels)) >= right[split][padding]
                for split, labels in (("held_out", held_out), ("test", test))
            ]
            found[f"ten pictures, padding {padding}"] = (
                found["dense"] + np.concatenate(wrong)
            ) % CLASSES
        return found

    monkeypatch.setattr(ten_crop_study, "answer", fake)
    record = finish_run(run, tmp_path)
    assert record["chosen_padding"] == 4
    assert record["scores"]["ten pictures, padding 1"]["test"] == pytest.approx(20 / 22)
    assert record["scores"]["ten pictures, padding 2"]["held_out"] == pytest.approx(4 / 9)
    right["held_out"] = {1: 3, 2: 5, 4: 5}
    assert finish_run(run, tmp_path)["chosen_padding"] == 2, "of equal ones the least"


def test_joint_networks_start_from_the_base(run, fits, tmp_path, monkeypatch):
    """Before its first step another network has the base's convolutions."""
    copy = copy_of(run, tmp_path / "copy")
    copy.path("ten crops", ".json").unlink()
    started = {}
    monkeypatch.setattr(
        ten_crop, "_fit", lambda run, name, model, *rest: started.update({name: model})
    )
    train_whole(copy, "ten crops")
    base = {layer.name: layer for layer in load_network(run, "dense").layers}
    compared = [layer for layer in started["ten crops"].layers if layer.name.startswith("conv")]
    assert len(compared) > 10
    for layer in compared:
        for weight, wanted in zip(layer.get_weights(), base[layer.name].get_weights(), strict=True):
            np.testing.assert_array_equal(weight, wanted)
    copy.path("dense", ".json").unlink()
    with pytest.raises(ValueError, match="train 'dense' first"):
        train_whole(copy, "ten crops")


def test_the_command_line_goes_on(run, fits, tmp_path, monkeypatch, capsys):
    """What it overrides makes the settings those of the run that is there."""
    monkeypatch.setitem(SETTINGS, "fast", replace(TINY, epochs=9, learning_rate=9.0))
    monkeypatch.setattr(ten_crop_study, "pictures_of", lambda profile, path: run.pictures)
    names = (*TRAINED, *PICTURE_VIEWS)

    def first_class(run, images, **kwargs):
        return {name: np.zeros(len(images), np.uint8) for name in names}

    monkeypatch.setattr(ten_crop_study, "answer", first_class)
    copy_of(run, tmp_path / "runs" / "ten-crop-fast" / f"seed{SEED}")
    arguments = ["study", str(tmp_path / "results"), "--profile", "fast", "--seed", str(SEED)]
    arguments += ["--out", str(tmp_path / "runs"), "--epochs", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--learning-rate", str(TINY.learning_rate)])
    main()
    assert fits == []
    target = tmp_path / "results" / f"seed{SEED}"
    record = read_record(target)
    assert record["score"] == record["constant_score"] and record["seed"] == SEED
    written = {"record.json", "answers.npz", *(run.path(name, ".csv").name for name in TRAINED)}
    assert {path.name for path in target.iterdir()} == written
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(TRAINED)] == [
        f"{name}: held-out {read_facts(run, name)['held_out']:.4f}" for name in TRAINED
    ]
    assert f"two pictures: {record['scores']['two pictures']}" in lines


def test_pictures_of_a_profile(tmp_path):
    with pytest.raises(FileNotFoundError, match="No CIFAR-10 at"):
        pictures_of("full", tmp_path / "none.npz")


def test_fast_pictures_are_drawn(monkeypatch):
    monkeypatch.setattr(ten_crop_study, "draw_museum_classes", lambda: "museum")
    assert pictures_of("fast", "any.npz") == "museum"
