"""The defects that iMet's published figures have, each rebuilt small, caught, and done right.

T1 to T23 are the defects of the student project and of the Keras series that preceded this kit;
a test's name begins with the number of its defect.
"""

import json
import os
import re
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from imetlib.collection.folds import hash_folds, make_folds, write_folds
from imetlib.collection.geometry import Augmentation, Preprocessing, prepare
from imetlib.collection.labels import make_label_table, read_label_table
from imetlib.collection.tables import Collection
from imetlib.decisions.fbeta import (
    bootstrap_interval,
    constant_answer,
    fbeta_micro,
    fbeta_per_sample,
    fbeta_samples,
)
from imetlib.decisions.thresholds import crossfit_threshold, decide, grid_search, search_threshold
from imetlib.delivery.audit import (
    AuditError,
    Finding,
    audit_blend,
    audit_checkpoint,
    audit_columns,
    audit_comparison,
    audit_floor,
    audit_metric,
    audit_pictures,
    audit_preprocessing,
    audit_rows,
    audit_threshold,
    average_scores,
    name_metric,
    refuse,
)
from imetlib.delivery.audit_run import audit_run, audit_schedule
from imetlib.delivery.records import new_record, read_record, write_record
from imetlib.scores import Scores, load_scores, mean_scores, save_scores

DATA = os.environ.get("IMETLIB_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="IMETLIB_DATA is not set")
TESTS = Path(__file__).parent


def texts(findings):
    return [f"{found.severity}, {found.rule}: {found.message}" for found in findings]


def draw_case(num_samples=300, num_classes=20, seed=0):
    """Labels with a long tail and scores that know something of them."""
    generator = np.random.default_rng(seed)
    y_true = generator.random((num_samples, num_classes)) < 0.6 / (1 + np.arange(num_classes))
    y_true[np.arange(num_samples), generator.integers(num_classes, size=num_samples)] = True
    logits = generator.normal(size=y_true.shape) * 1.5 - 3.0 + 3.0 * y_true
    return y_true, (1 / (1 + np.exp(-logits))).astype(np.float32)


# The averages ---------------------------------------------------------------------------------


def matrix_f2(y_true, y_pred):
    """`my_f2` of the student project: counts of the whole matrix."""
    hits, wrong = (y_true & y_pred).sum(), (~y_true & y_pred).sum()
    missed = (y_true & ~y_pred).sum()
    precision, recall = hits / (hits + wrong), hits / (hits + missed)
    return 5 * precision * recall / (4 * precision + recall)


def batch_f2(y_true, y_prob, batch_size=64):
    """`f2` in the student project's training log: soft, by class, mean over batches."""
    scores = []
    for start in range(0, len(y_true), batch_size):
        truth, share = y_true[start : start + batch_size], y_prob[start : start + batch_size]
        hits = (truth * share).sum(axis=0)
        precision = hits / (share.sum(axis=0) + 1e-7)
        recall = hits / (truth.sum(axis=0) + 1e-7)
        scores.append(np.mean(5 * precision * recall / (4 * precision + recall + 1e-7)))
    return np.mean(scores)


def test_t01_micro_for_per_sample():
    y_true, y_prob = draw_case()
    y_pred = decide(y_prob, 0.2)
    claimed = matrix_f2(y_true, y_pred)
    assert name_metric(claimed, y_true, y_pred) == ("F2 micro",)
    assert re.match(
        r"error, metric: 0\.\d{6} is the F2 micro: F2 per sample 0\.\d{6}, F2 micro",
        *texts(audit_metric(claimed, y_true, y_pred)),
    )
    assert not audit_metric(fbeta_samples(y_true, y_pred), y_true, y_pred)


def test_t01_macro_is_another_average_too():
    sklearn = pytest.importorskip("sklearn.metrics")
    y_true, y_prob = draw_case()
    y_pred = decide(y_prob, 0.2)
    macro = sklearn.fbeta_score(y_true, y_pred, beta=2, average="macro", zero_division=0)
    assert average_scores(y_true, y_pred)["F2 macro"] == pytest.approx(macro, abs=1e-12)
    assert "is the F2 macro" in audit_metric(macro, y_true, y_pred)[0].message


def test_t01_check_figures_of_corel5k(corel5k):
    y_true, y_prob, *_ = corel5k
    y_pred = decide(y_prob, 0.05, min_labels=0)
    assert name_metric(0.302117, y_true, y_pred, tolerance=1e-6) == ("F2 per sample",)
    assert name_metric(0.3083, y_true, y_pred) == ("F2 micro",)
    assert not audit_metric(0.3021, y_true, y_pred)
    assert "is the F2 micro" in audit_metric(0.3083, y_true, y_pred)[0].message


@needs_data
def test_t01_check_figures_of_imet_2019():
    labels = read_label_table(Path(DATA) / "imet2019" / "train.csv", 1103)
    y_pred = np.zeros((len(labels), 1103), bool)
    y_pred[:, constant_answer(labels).columns] = True
    scores = average_scores(labels, y_pred)
    assert scores["F2 per sample"] == pytest.approx(0.2084, abs=5e-5)
    assert scores["F2 micro"] == pytest.approx(0.2163, abs=5e-5)


def test_t02_the_log_shows_a_soft_score_of_batches():
    y_true, y_prob = draw_case()
    claimed, y_pred = batch_f2(y_true, y_prob), decide(y_prob, 0.2)
    assert abs(claimed - fbeta_samples(y_true, y_pred)) > 0.1
    assert "is no F2 of these decisions" in audit_metric(claimed, y_true, y_pred)[0].message


# Rows -----------------------------------------------------------------------------------------


def loop_over(ids, batch_size):
    """A Keras generator of 2019: it never ends, and its last batch is short."""
    while True:
        for start in range(0, len(ids), batch_size):
            yield ids[start : start + batch_size]


def test_t03_a_looping_generator_counts_rows_twice():
    """The figures of the student project: 15 % of the rows, batches for 20 % of them."""
    ids = [f"{row:016x}" for row in range(16_386)]
    batches, num_batches = loop_over(ids, 512), round(109_237 * 0.2) // 512 + 1
    scored = [name for _ in range(num_batches) for name in next(batches)]
    assert (num_batches, len(scored)) == (43, 21_506)
    assert texts(audit_rows(scored, ids)) == [
        "error, rows: 5,120 of 21,506 rows are counted again, first 0000000000000000, "
        "0000000000000001, 0000000000000002: predict each id once"
    ]
    once = [name for start in range(0, len(ids), 512) for name in ids[start : start + 512]]
    assert not audit_rows(once, ids)


def test_t03_a_dropped_last_batch():
    ids = [f"p{row}" for row in range(10)]
    assert texts(audit_rows(ids[:8], ids)) == [
        "error, rows: 2 of 10 rows are not scored, first p8, p9"
    ]


def test_t23_a_search_that_keeps_what_earlier_calls_scored():
    splits = {"val": ["a", "b"], "train": ["c", "d", "e"]}
    kept = []

    def evaluate(split):
        kept.extend(splits[split])
        return list(kept)

    assert not audit_rows(evaluate("val"), splits["val"])
    assert texts(audit_rows(evaluate("train"), splits["train"])) == [
        "error, rows: 2 of 5 rows belong to another split, first a, b"
    ]
    assert not audit_rows(list(splits["train"]), splits["train"])


# Threshold and checkpoint ---------------------------------------------------------------------


def test_t06_a_threshold_fitted_where_it_is_scored():
    ids = np.array([f"p{row}" for row in range(300)])
    y_true, y_prob = draw_case()
    flattering = search_threshold(y_true, y_prob).score
    first, second = np.arange(300) < 150, np.arange(300) >= 150
    fitted = search_threshold(y_true[first], y_prob[first])
    honest = fbeta_samples(y_true[second], decide(y_prob[second], fitted.threshold))
    assert flattering != honest
    assert (
        "on 300 of 300 rows, first p0, p1, p2: fit on other folds"
        in texts(audit_threshold(ids, ids))[0]
    )
    assert not audit_threshold(ids[first], ids[second], search=fitted)


def test_t06_siblings_on_both_sides():
    specimens = {"a1": 0, "a2": 0, "b1": 1, "c1": 2}
    assert texts(audit_threshold(["a1", "b1"], ["a2", "c1"], specimens=specimens)) == [
        "error, threshold: 1 of 2 scored rows have a picture of the same specimen among those "
        "fitted on, first a2: make folds of whole specimens"
    ]
    assert not audit_threshold(["a1", "a2"], ["b1", "c1"], specimens=specimens)


def test_t18_the_best_threshold_is_at_the_edge_of_its_grid():
    y_true, y_prob = draw_case()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # grid_search says it too
        edge = grid_search(y_true, y_prob, num_thresholds=10, stop=0.1)
    found = audit_threshold(["a"], ["b"], search=edge)
    assert texts(found) == [
        "warning, threshold: the best, 0.09, is at the edge of the grid 0 to 0.09: the optimum "
        "may lie outside; use search_threshold"
    ]
    for search in (grid_search(y_true, y_prob, stop=1.0), search_threshold(y_true, y_prob)):
        assert not audit_threshold(["a"], ["b"], search=search)


HISTORY = [
    {"epoch": 0, "val_f2": 0.20, "learning_rate": "nan"},
    {"epoch": 1, "val_f2": 0.41, "learning_rate": 1e-3},
    {"epoch": 2, "val_f2": 0.45, "learning_rate": 5e-4},
    {"epoch": 3, "val_f2": float("nan"), "learning_rate": 2e-4},
    {"epoch": 4, "val_f2": 0.43, "learning_rate": 1e-5},
]


def test_t05_the_last_epoch_for_the_best():
    as_text = [{name: str(value) for name, value in row.items()} for row in HISTORY]
    for history in (HISTORY, as_text):
        assert texts(audit_checkpoint(history, 4)) == [
            "error, checkpoint: epoch 4, the last, is scored, val_f2 0.4300: load the weights of "
            "the best, 2, 0.4500"
        ]
        assert not audit_checkpoint(history, 2)


def test_t05_epochs_that_the_history_does_not_have():
    for epoch in (3, 7):
        assert f"epoch {epoch} has no val_f2 in the history; epochs that have: 0, 1, 2, 4" in (
            audit_checkpoint(HISTORY, epoch)[0].message
        )
    assert "epochs that have: none" in audit_checkpoint(HISTORY, 2, metric="f2")[0].message


# Pictures -------------------------------------------------------------------------------------


def draw_pictures(count=4):
    return np.random.default_rng(0).integers(0, 256, (count, 40, 30, 3), np.uint8)


def test_t04_training_and_submission_scale_differently():
    pictures = draw_pictures().astype(np.float32)
    in_training, in_submission = pictures / 255, pictures / 127.5 - 1
    found = texts(audit_pictures(in_training, in_submission))
    assert "float32 0 to 1 and (4, 40, 30, 3) float32 -1 to 1" in found[0]
    assert not audit_pictures(in_training, pictures / 255)
    assert audit_pictures(in_training, in_training[:2])


def test_t04_resnet50v2_is_fed_what_resnet50_wants():
    wanted = Preprocessing((224, 224, 3)).to_dict() | {"normalisation": "tf"}
    given = wanted | {"normalisation": "caffe"}
    assert texts(audit_preprocessing(wanted, given)) == [
        "error, preprocessing: normalisation is 'tf' in training and 'caffe' in prediction: use "
        "one for both"
    ]
    assert not audit_preprocessing(wanted, dict(wanted))


def test_t04_every_key_counts_also_one_that_is_not_said():
    train = Preprocessing((64, 48, 3), "pad").to_dict()
    test = Preprocessing((64, 64, 3), "squash").to_dict() | {"normalisation": "tf"}
    found = texts(audit_preprocessing(train, test))
    assert [re.search(r": (\w+) is", text)[1] for text in found] == [
        "image_shape", "resize_mode", "min_side", "normalisation",
    ]  # fmt: skip
    assert not audit_preprocessing(
        train, json.loads(json.dumps(train)) | {"image_shape": (64, 48, 3)}
    )


def test_t22_validation_is_augmented_like_training():
    preprocessing, generator = Preprocessing((32, 32, 3)), np.random.default_rng(0)

    def read_augmented():
        return np.stack(
            [
                prepare(picture, preprocessing, augmentation=Augmentation(), rng=generator)
                for picture in draw_pictures()
            ]
        )

    def read():
        return np.stack([prepare(picture, preprocessing) for picture in draw_pictures()])

    found = audit_pictures(read_augmented(), read_augmented())
    assert "prepare them by one function, without augmentation" in found[0].message
    assert not audit_pictures(read(), read())


# Several models -------------------------------------------------------------------------------


def make_scores(logits, ids=None, class_names=None):
    logits = np.asarray(logits, np.float32)
    ids = [f"p{row}" for row in range(len(logits))] if ids is None else ids
    names = class_names or [f"tag::{column}" for column in range(logits.shape[1])]
    return Scores(np.array(ids, object), logits, tuple(names))


def test_t20_the_blend_is_the_last_fold_divided_by_five():
    generator = np.random.default_rng(0)
    folds = [generator.random((6, 4), np.float32) for _ in range(5)]
    for fold in folds:
        preds = fold / 5  # `+=` was meant
    assert texts(audit_blend(preds, folds)) == [
        "error, blend: not the mean of 5 members but member 5 alone, divided by 5: use mean_scores"
    ]
    assert "but member 2 alone: use" in audit_blend(folds[1], folds)[0].message
    assert "but up to 0.1 off" in audit_blend(np.mean(folds, axis=0) + 0.1, folds)[0].message
    assert "shape (3, 4) instead of (6, 4)" in audit_blend(preds[:3], folds)[0].message
    assert not audit_blend(mean_scores([make_scores(fold) for fold in folds]).logits, folds)


def test_t21_classes_sorted_as_text():
    wanted = [f"tag::{label}" for label in range(1_103)]
    by_text = [f"tag::{label}" for label in sorted(map(str, range(1_103)))]
    assert by_text.index("tag::1059") < by_text.index("tag::195")
    assert texts(audit_columns(by_text, wanted)) == [
        'error, columns: ids are sorted as text, "1059" before "195": put attribute id j into '
        "column j"
    ]
    assert "stand in another order" in audit_columns(wanted[::-1], wanted)[0].message
    assert "3 columns for 1103 attributes, first a" in audit_columns(["a"] * 3, wanted)[0].message
    assert not audit_columns(tuple(wanted), wanted)


def make_record(run, **changes):
    parameters = {"epochs": 7, "batch_size": 64, "trainable_from": "all", "backbone": run}
    entries = {
        "profile": "full", "seed": 0, "split": "held-out sixth", "image_shape": (96, 96, 3),
        "collection_sha256": "ab", "folds_sha256": "cd", "score": 0.5468, "constant_score": 0.2084,
        "num_samples": 200, "method": "network",
    }  # fmt: skip
    parameters |= {name: changes.pop(name) for name in parameters.keys() & changes.keys()}
    return new_record(run, **(entries | {"parameters": parameters} | changes))


def test_t08_a_ranking_of_frozen_features():
    frozen = [make_record(name, trainable_from="head") for name in ("xception", "vgg19")]
    message = "this ranks frozen features, not backbones; add fine-tuned rows"
    # One backbone with two heads is no ranking of backbones either.
    for records in (frozen, frozen[:1], [make_record("a", method="ridge"),
                                         make_record("b", epochs=0)]):  # fmt: skip
        (text,) = texts(audit_comparison(records))
        assert text.startswith("error, comparison: only heads were trained") and message in text
        with pytest.raises(AuditError, match="ranks frozen features"):
            refuse(audit_comparison(records))
    assert not audit_comparison([make_record("xception"), make_record("vgg19")])
    both = [make_record("frozen", method="ridge"), make_record("tuned")]
    assert not audit_comparison(both, allow=["trainable_part"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trainable_part", {"trainable_from": "block14"}),
        ("trainable_part", {"method": "kernel"}),
        ("split", {"split": "val fold 1"}),
        ("metric", {"metric": "F2 micro"}),
        ("folds_sha256", {"folds_sha256": "ef"}),
        ("image_shape", {"image_shape": (156, 156, 3)}),
    ],
)
def test_t08_what_differs_without_being_said(field, value):
    records = [make_record("xception"), make_record("vgg19", **value)]
    assert re.match(
        rf"error, comparison: {field} differs: xc.*; vgg", *texts(audit_comparison(records))
    )
    assert not audit_comparison(records, allow=[field])


def test_t14_tables_that_disagree_with_the_runs():
    records = [make_record("xception", epochs=8), make_record("vgg19")]
    claims = {
        "xception": {"epochs": 37, "batch_size": 256, "score": 0.547},
        "resnet50": {"score": 0.532},
    }
    assert texts(audit_comparison(records, claims=claims)) == [
        "error, comparison: xception: epochs 37 is claimed, its record says 8",
        "error, comparison: xception: batch_size 256 is claimed, its record says 64",
        "error, comparison: resnet50 has no record: run it, or take the row out",
    ]
    right = {
        "xception": {"epochs": 8, "batch_size": 64, "score": 0.547},
        "vgg19": {"score": 0.5468},
    }
    assert not audit_comparison(records, claims=right)
    assert audit_comparison(records, claims={"vgg19": {"score": 0.546}})


def test_t14_one_run_under_two_names():
    record = make_record("attention_2a_16e")
    found = audit_comparison([record, record | {"run": "attention_2a_17e"}])
    assert texts(found) == [
        "error, comparison: one run stands under several names: keep one of them"
    ]


def test_t17_a_run_that_a_constant_answer_equals():
    assert texts(audit_floor(0.202, 0.2084)) == [
        "warning, floor: F2 0.2020 is not above the constant answer, 0.2084: nothing was learned "
        "from pictures"
    ]
    assert texts(audit_floor(0.215, 0.2084, (0.205, 0.225))) == [
        "warning, floor: the interval of F2 0.2150 holds the constant answer, 0.2084"
    ]
    assert not audit_floor(0.547, 0.2084, (0.54, 0.55)) and not audit_floor(0.215, 0.2084)


def test_t19_post_processing_is_a_difference_on_held_out_rows():
    """Rare labels set to zero: the student project reported .494 and .493 side by side."""
    y_true, y_prob = draw_case()
    threshold = search_threshold(y_true[:150], y_prob[:150]).threshold
    plain = decide(y_prob[150:], threshold)
    processed = plain.copy()
    processed[:, np.argsort(y_true[:150].sum(axis=0))[:3]] = False
    gain = fbeta_per_sample(y_true[150:], processed) - fbeta_per_sample(y_true[150:], plain)
    assert audit_floor(gain.mean(), 0.0, bootstrap_interval(gain)), "no gain is shown"
    helped = fbeta_per_sample(y_true[150:], plain | y_true[150:]) - fbeta_per_sample(
        y_true[150:], plain
    )
    assert not audit_floor(helped.mean(), 0.0, bootstrap_interval(helped))


# What other parts make impossible -------------------------------------------------------------

ELSEWHERE = {
    "t02": ("test_fit.py", "test_logged_f2_is_the_f2_of_the_saved_scores"),
    "t05": ("test_fit.py", "test_weights_in_use_are_the_best_epochs_after_a_ruined_one"),
    "t07": ("test_folds.py", "test_every_label_and_size_is_within_one"),
    "t09": ("test_batches.py", "test_an_epoch_holds_each_row_once_whatever_the_workers"),
    "t10": ("test_records.py", "test_record_of_another_run_is_not_overwritten"),
    "t13": ("test_submission.py", "test_killed_at_every_line_leaves_the_old_file_or_the_new"),
}
# T11 and T12 are speeds: `make bench` and a record's `pictures_per_second`. T16 belongs to the
# attention modules, which are not there yet.
NOT_A_FIGURE = {"t11", "t12", "t16"}


@pytest.mark.parametrize("defect", ELSEWHERE)
def test_defects_covered_elsewhere(defect):
    name, function = ELSEWHERE[defect]
    assert f"def {function}(" in (TESTS / name).read_text(encoding="utf-8")


def test_every_defect_has_its_test():
    here = {name[5:8] for name in globals() if re.match(r"test_t\d\d_", name)}
    assert here | set(ELSEWHERE) | NOT_A_FIGURE == {f"t{number:02}" for number in range(1, 24)}


def test_refusal_lists_errors_and_lets_warnings_pass():
    doubt, fault = Finding("floor", "warning", "close"), Finding("rows", "error", "2 rows twice")
    refuse([doubt])
    with pytest.raises(AuditError, match="run1: 2 faults") as caught:
        refuse([fault, doubt, fault], "run1")
    assert caught.value.faults == ("rows: 2 rows twice",) * 2
    assert isinstance(caught.value, ValueError)


# A whole run ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A collection of tables alone, folds, and logits that know something of the labels."""

    collection: Collection
    folds: np.ndarray
    logits: np.ndarray

    def scores(self, *folds, noise=None):
        rows = np.flatnonzero(np.isin(self.folds, folds))
        logits = self.logits[rows]
        if noise is not None:
            logits = logits + np.random.default_rng(noise).normal(size=logits.shape)
        return make_scores(logits, self.collection.train.ids[rows], self.collection.class_names)

    def rows(self, scores):
        position = {name: row for row, name in enumerate(self.collection.train.ids)}
        return np.array([position[name] for name in scores.ids])

    def figures(self, scores, y_pred):
        rows = self.rows(scores)
        truth = self.collection.train.take(rows)
        per_sample = fbeta_per_sample(truth, y_pred)
        return {
            "score": float(per_sample.mean()),
            "interval": bootstrap_interval(per_sample, groups=self.collection.specimens[rows]),
            "constant_score": constant_answer(truth).score,
            "micro_f2": fbeta_micro(truth, y_pred),
            "num_samples": len(rows),
        }


@pytest.fixture(scope="module")
def drawn():
    y_true, y_prob = draw_case(400, 12)
    ids = [f"p{row:03}" for row in range(400)]
    labels = make_label_table(ids, [np.flatnonzero(row) for row in y_true], 12)
    specimens = np.arange(400) // 2
    names = tuple(f"tag::{column}" for column in range(12))
    tests = np.array(["t0", "t1"], object)
    collection = Collection(Path("drawn"), names, labels, tests, specimens, "ab" * 32)
    folds = make_folds(labels, 4, specimens=specimens)
    return Drawn(collection, folds, np.log(y_prob / (1 - y_prob)))


def write_scored_run(folder, drawn, parts, **more):
    """Files of scores and the record that training would write of them."""
    collection = drawn.collection
    folder.mkdir(parents=True, exist_ok=True)
    for part, scores in parts.items():
        save_scores(folder / f"scores-{part}.npz", scores)
    chooser = parts.get("oof", parts.get("val"))
    rows = drawn.rows(chooser)
    truth = collection.train.dense(rows)
    threshold = search_threshold(truth, chooser.y_prob).threshold
    groups = drawn.folds[rows] if "oof" in parts else collection.specimens[rows] % 2
    crossed = crossfit_threshold(truth, chooser.y_prob, groups).y_pred
    selection = drawn.figures(chooser, crossed) | {"threshold": threshold}
    result = drawn.figures(parts["holdout"], decide(parts["holdout"].y_prob, threshold))
    record = new_record(
        folder.name, profile="full", seed=0, split="held-out quarter", image_shape=(32, 32, 3),
        collection_sha256=collection.sha256,
        folds_sha256=hash_folds(collection.train.ids, drawn.folds),
        parameters={"num_folds": 4, "image_shape": (32, 32, 3), "epochs": 4, "learning_rate": 1e-3},
        threshold=threshold, selection=selection, **result, **more,
    )  # fmt: skip
    write_record(folder, record)
    return record


@pytest.fixture
def network(drawn, tmp_path):
    """One network: fold 1 chose epoch 2 and the threshold, fold 0 is held out."""
    write_folds(tmp_path / "folds-4.csv", drawn.collection.train.ids, drawn.folds)
    parts = {"val": drawn.scores(1), "holdout": drawn.scores(0)}
    folder = tmp_path / "comparison" / "network"
    identity = {"method": "network", "val_fold": 1}
    record = write_scored_run(folder, drawn, parts, best_epoch=2, identity=identity)
    best = {"val_f2": record["selection"]["score"], "threshold": record["threshold"]}
    rows = [row | {"threshold": 0.5} | (best if row["epoch"] == 2 else {}) for row in HISTORY]
    write_rows(folder, rows)
    return folder


def write_rows(folder, rows):
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (folder / "history.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def change_record(folder, **changes):
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    (folder / "record.json").write_text(json.dumps(record | changes), encoding="utf-8")


def test_a_run_done_right_has_no_findings(network, drawn):
    assert not audit_run(network, drawn.collection)


def score_the_last_epoch(folder, drawn):
    change_record(folder, best_epoch=4)


def keep_scores_of_another_epoch(folder, drawn):
    save_scores(folder / "scores-val.npz", drawn.scores(1, noise=1))


def fit_the_threshold_on_the_holdout(folder, drawn):
    scores = drawn.scores(0)
    truth = drawn.collection.train.dense(drawn.rows(scores))
    threshold = search_threshold(truth, scores.y_prob).threshold
    result = drawn.figures(scores, decide(scores.y_prob, threshold))
    change_record(folder, threshold=threshold, **result)


def choose_on_the_holdout(folder, drawn):
    shutil.copy(folder / "scores-holdout.npz", folder / "scores-val.npz")


def report_micro(folder, drawn):
    change_record(folder, score=read_record(folder)["micro_f2"])


def leave_out_rows(folder, drawn):
    scores = drawn.scores(0)
    save_scores(folder / "scores-holdout.npz", scores.take(scores.ids[:-7]))


def sort_classes_as_text(folder, drawn):
    scores, order = drawn.scores(0), sorted(range(12), key=str)
    names = tuple(scores.class_names[column] for column in order)
    save_scores(
        folder / "scores-holdout.npz",
        replace(scores, logits=scores.logits[:, order], class_names=names),
    )


def score_at_another_size(folder, drawn):
    change_record(folder, image_shape=[64, 64, 3])


def score_below_the_floor(folder, drawn):
    change_record(folder, score=0.1)


def swap_the_folds(folder, drawn):
    path = folder.parents[1] / "folds-4.csv"
    path.unlink()
    path.with_suffix(".json").unlink()
    write_folds(path, drawn.collection.train.ids, (drawn.folds + 1) % 4)


def lose(name):
    def change(folder, drawn):
        next(folder.parents[1].rglob(name)).unlink()

    return change


@pytest.mark.parametrize(
    ("change", "rule", "text"),
    [
        (score_the_last_epoch, "checkpoint", "epoch 4, the last, is scored"),
        (keep_scores_of_another_epoch, "threshold", "search it there"),
        (fit_the_threshold_on_the_holdout, "threshold", r"on scores-val\.npz, the best is"),
        (choose_on_the_holdout, "threshold", r"fitted where it is scored, on \d+ of \d+ rows"),
        (report_micro, "metric", "is the F2 micro"),
        (leave_out_rows, "rows", r"scores-holdout\.npz: 7 of \d+ rows are not scored"),
        (sort_classes_as_text, "columns", r"scores-holdout\.npz: ids are sorted as text"),
        (score_at_another_size, "preprocessing", "image_shape is"),
        (score_below_the_floor, "floor", "is not above the constant answer"),
        (swap_the_folds, "record", "folds are not those of the folds file"),
        (lose("folds-4.csv"), "record", r"no folds-4\.csv in the run folder or above"),
        (lose("history.csv"), "checkpoint", r"no history\.csv"),
        (lose("scores-holdout.npz"), "record", "nothing backs the score of the held-out quarter"),
    ],
)
def test_a_run_with_one_defect(network, drawn, change, rule, text):
    change(network, drawn)
    found = audit_run(network, drawn.collection)
    # A run that learned nothing may be a result; its figure is what it says.
    severity = "warning" if rule == "floor" else "error"
    assert any(
        one.severity == severity and one.rule == rule and re.search(text, one.message)
        for one in found
    ), texts(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [("constant_score", 0.0), ("micro_f2", 0.9), ("num_samples", 5), ("interval", [0.7, 0.9])],
)
def test_a_figure_that_the_files_do_not_give(network, drawn, name, value):
    change_record(network, **{name: value})
    (text,) = texts(audit_run(network, drawn.collection))
    assert re.match(rf"error, record: record: {name} is .*, the files of scores give", text)


def test_runs_of_other_tables_and_without_a_holdout(network, drawn):
    other = replace(drawn.collection, sha256="cd" * 32)
    assert "made on other tables than drawn" in audit_run(network, other)[0].message
    change_record(network, split="val fold 1", metric="F1")
    (network / "scores-holdout.npz").unlink()
    assert [text.split(":")[0] for text in texts(audit_run(network, drawn.collection))] == [
        "error, metric", "warning, record",
    ]  # fmt: skip


def test_t02_the_log_and_the_scores_disagree(network, drawn):
    selection = read_record(network)["selection"]
    change_record(network, selection=selection | {"score": selection["score"] - 0.01})
    assert "the scores are of another epoch" in audit_run(network, drawn.collection)[0].message


def test_t15_a_schedule_that_was_not_applied():
    assert not audit_schedule(HISTORY, 4, 1e-3)
    constant = [row | {"learning_rate": 3e-3} for row in HISTORY]
    assert texts(audit_schedule(constant, 7, 1e-3)) == [
        "warning, schedule: 7 epochs are claimed, the history has 4",
        "warning, schedule: the learning rate was 0.003 in every epoch: no schedule ran",
        "warning, schedule: the learning rate rose to 0.003, 0.001 is claimed",
    ]


@pytest.fixture
def folded(drawn, tmp_path):
    """Two folds of a run over all folds; its holdout gets the mean of the two."""
    write_folds(tmp_path / "folds-4.csv", drawn.collection.train.ids, drawn.folds)
    folder = tmp_path / "submission" / "all"
    holdouts = [drawn.scores(0, noise=fold) for fold in (1, 2, 3)]
    for fold, holdout in zip((1, 2, 3), holdouts, strict=True):
        parts = {"val": drawn.scores(fold), "holdout": holdout}
        write_scored_run(folder / f"fold{fold}", drawn, parts, identity={"val_fold": fold})
    write_scored_run(
        folder, drawn, {"oof": drawn.scores(1, 2, 3), "holdout": mean_scores(holdouts)}
    )
    return folder


def test_t20_the_mean_of_folds_and_of_members(folded, drawn):
    assert not audit_run(folded, drawn.collection)
    parts = {part: load_scores(folded / f"scores-{part}.npz") for part in ("oof", "holdout")}
    blend = folded.parent
    write_scored_run(blend, drawn, parts, members=["all"])
    assert not audit_run(blend, drawn.collection)
    last = load_scores(folded / "fold3" / "scores-holdout.npz")
    divided = replace(last, logits=last.logits / 3)
    write_scored_run(folded, drawn, {**parts, "holdout": divided})
    assert (
        "error, blend: all: scores-holdout.npz: not the mean of 3 members but member 3 alone, "
        "divided by 3: use mean_scores"
    ) in texts(audit_run(blend, drawn.collection))
    shutil.rmtree(folded)
    found = texts(audit_run(blend, drawn.collection))
    assert "no such record" in found[0] and found[0].startswith("error, record: all: ")
    assert found[1:] == [
        f"warning, blend: no scores-{part}.npz in all: the mean cannot be verified"
        for part in ("oof", "holdout")
    ]
