"""Tables over seeds equal sums made by hand, and seeds that do not belong together are refused."""

import re
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest, t

from imetlib.delivery.records import new_record, replace_record
from imetlib.delivery.ten_crop_tables import (
    ANSWERS_FILE,
    COMPARISONS,
    KINDS,
    accuracy_table,
    comparison_table,
    difference_table,
    kind_of,
    named_answers,
    read_correct,
)

NUM_PICTURES = 400
# Probability that an answer is right.
ANSWERS = {
    "dense": 0.6,
    "hidden dense": 0.62,
    "ten crops": 0.7,
    "whole linear": 0.55,
    "whole hidden": 0.6,
    "centre hidden": 0.5,
    "five hidden": 0.55,
    "ten linear": 0.56,
    "ten hidden": 0.57,
    "ten linear, logits": 0.5,
    "ten hidden, logits": 0.5,
    "two pictures": 0.62,
    "ten pictures, padding 1": 0.61,
    "ten pictures, padding 2": 0.64,
    "flip, draw 0": 0.6,
    "flip, draw 1": 0.58,
    "crop and flip, draw 0": 0.5,
    "crop and flip, draw 1": 0.52,
}
CHOSEN = {0: 2, 1: 1, 2: 2}


def write_seed(folder, seed, *, pictures="CIFAR-10, a copy", without=()):
    """What `finish_run` leaves, with answers drawn at random; returns labels and answers."""
    generator = np.random.default_rng(seed)
    # All seeds are scored on the same pictures.
    labels = np.random.default_rng(99).integers(0, 10, NUM_PICTURES).astype(np.uint8)
    answers, scores = {}, {}
    for name, right in ANSWERS.items():
        wrong = (labels + generator.integers(1, 10, NUM_PICTURES)) % 10
        found = np.where(generator.random(NUM_PICTURES) < right, labels, wrong).astype(np.uint8)
        if name in without:
            continue
        answers[name] = found
        scores[name] = {"test": float((found == labels).mean())}
        if "draw" not in name:
            scores[name]["held_out"] = float(generator.random())
    record = new_record(
        f"seed{seed}",
        profile="full",
        seed=seed,
        split="test",
        image_shape=(32, 32, 3),
        collection_sha256="0" * 64,
        metric="top-1",
        score=scores["dense"]["test"],
        constant_score=0.1,
        num_samples=NUM_PICTURES,
        scores=scores,
        chosen_padding=CHOSEN[seed],
        pictures=pictures,
    )
    replace_record(folder, record)
    np.savez_compressed(folder / ANSWERS_FILE, labels=labels, **answers)
    return labels, answers


@pytest.fixture
def seeds(tmp_path):
    """Folders of three seeds, and what lies in them."""
    folders = [tmp_path / f"seed{seed}" for seed in CHOSEN]
    return folders, [write_seed(folder, seed) for seed, folder in zip(CHOSEN, folders, strict=True)]


def accuracies(found, name):
    return np.array([np.mean(answers[name] == labels) for labels, answers in found])


def test_accuracies_are_means_over_seeds(seeds):
    folders, found = seeds
    table = accuracy_table(folders).set_index("answer")
    assert list(table.index) == [*list(ANSWERS)[:14], "flip", "crop and flip"]
    values = accuracies(found, "ten crops")
    row = table.loc["ten crops"]
    assert row["test"] == pytest.approx(sum(values) / 3)
    assert row["test_error"] == pytest.approx(np.sqrt(np.var(values) * 3 / 2) / np.sqrt(3))
    assert row["tests"] == pytest.approx(tuple(values)) and row["num_seeds"] == 3
    assert 0 < row["held_out"] < 1 and row["held_out_error"] > 0
    # Of a transform the mean over its draws, and nothing on held-out pictures.
    drawn = (accuracies(found, "flip, draw 0") + accuracies(found, "flip, draw 1")) / 2
    assert table.loc["flip", "tests"] == pytest.approx(tuple(drawn))
    assert np.isnan(table.loc["flip", "held_out"])


def test_one_seed_has_no_standard_error(seeds):
    table = accuracy_table(seeds[0][:1])
    assert np.isnan(table["test_error"]).all() and table["test"].between(0, 1).all()


def test_each_seed_and_draw_is_tested_on_its_own(seeds):
    folders, found = seeds
    table = comparison_table(folders)
    assert list(dict.fromkeys(table["comparison"])) == list(COMPARISONS)
    counts = table["comparison"].value_counts()
    assert counts["test transform: flip against none"] == 6
    assert counts["joint: ten crops against the plain network"] == 3
    for row in table.itertuples():
        labels, answers = found[row.seed]
        a, b = answers[row.a] == labels, answers[row.b] == labels
        only_a = sum(x and not y for x, y in zip(a, b, strict=True))
        only_b = sum(y and not x for x, y in zip(a, b, strict=True))
        assert (row.only_a, row.only_b) == (only_a, only_b)
        assert row.difference == pytest.approx((only_b - only_a) / NUM_PICTURES)
        assert row.low < row.difference < row.high
        assert row.p_value == pytest.approx(binomtest(only_b, only_a + only_b).pvalue)
    # The padding that each seed chose on its own held-out pictures.
    ten = table[table["comparison"] == "picture: ten views against one"]
    assert [name[-1] for name in ten["b"]] == ["2", "1", "2"]


def test_differences_over_seeds(seeds):
    folders, found = seeds
    table = difference_table(folders).set_index("comparison")
    row = table.loc["joint: ten crops against the plain network"]
    each = accuracies(found, "ten crops") - accuracies(found, "dense")
    assert row["differences"] == pytest.approx(tuple(each))
    assert row["difference"] == pytest.approx(each.mean())
    error = each.std(ddof=1) / np.sqrt(3)
    reach = t.ppf(0.975, 2) * error
    assert row["seed_error"] == pytest.approx(error)
    assert row["seed_interval"] == pytest.approx((each.mean() - reach, each.mean() + reach))
    # The bootstrap interval over pictures, against the normal one of the mean difference.
    shares = np.mean(
        [
            (answers["ten crops"] == labels).astype(float) - (answers["dense"] == labels)
            for labels, answers in found
        ],
        axis=0,
    )
    wanted = 1.96 * shares.std() / np.sqrt(NUM_PICTURES)
    low, high = row["interval"]
    assert (high - low) / 2 == pytest.approx(wanted, rel=0.15)
    assert low < row["difference"] < high


def test_a_seed_counts_once_however_often_a_transform_is_drawn(seeds):
    folders, found = seeds
    row = difference_table(folders, {"flip": ("dense", "flip")}).iloc[0]
    drawn = (accuracies(found, "flip, draw 0") + accuracies(found, "flip, draw 1")) / 2
    assert row["differences"] == pytest.approx(tuple(drawn - accuracies(found, "dense")))
    assert row["num_seeds"] == 3


def test_differences_of_one_seed(seeds):
    folders, _ = seeds
    table = difference_table(folders[:1])
    assert np.isnan(table["seed_error"]).all()
    both = comparison_table(folders[:1]).groupby("comparison", sort=False)["difference"].mean()
    np.testing.assert_allclose(table["difference"], both[table["comparison"]])


def test_names_of_comparisons(seeds):
    record = {"run": "seed0", "chosen_padding": 2, "scores": {name: {} for name in ANSWERS}}
    assert named_answers(record, "ten linear") == ["ten linear"]
    assert named_answers(record, "ten pictures") == ["ten pictures, padding 2"]
    assert named_answers(record, "crop and flip") == [
        "crop and flip, draw 0",
        "crop and flip, draw 1",
    ]
    with pytest.raises(ValueError, match=r"seed0 has no answer 'six crops'. It has: centre hidd"):
        named_answers(record, "six crops")


def test_every_answer_of_the_experiment_has_its_kind():
    from imetlib.training.ten_crop_run import HEADS, WHOLE
    from imetlib.training.ten_crop_study import PICTURE_VIEWS, TRANSFORMS

    transforms = [f"{transform}, draw 0" for transform in TRANSFORMS]
    for kind, names in zip(KINDS, (WHOLE, HEADS, PICTURE_VIEWS, transforms), strict=True):
        assert {kind_of(name) for name in names} == {kind}
    record = {
        "run": "seed0",
        "chosen_padding": 4,
        "scores": dict.fromkeys([*WHOLE, *HEADS, *PICTURE_VIEWS, *transforms]),
    }
    assert all(named_answers(record, name) for pair in COMPARISONS.values() for name in pair)


def test_seeds_that_do_not_belong_together(seeds, tmp_path):
    folders, _ = seeds
    write_seed(tmp_path / "other", 1, pictures="CIFAR-10, another copy")
    with pytest.raises(ValueError, match=r"seed1 and seed0 differ in pictures: only seeds of one"):
        accuracy_table([folders[0], tmp_path / "other"])
    write_seed(tmp_path / "fewer", 1, without=("two pictures",))
    with pytest.raises(ValueError, match="differ in scores"):
        comparison_table([folders[0], tmp_path / "fewer"])
    with pytest.raises(ValueError, match=re.escape("Received: seeds [0, 0]")):
        difference_table([folders[0], folders[0]])
    with pytest.raises(ValueError, match="No folders: finish a seed"):
        accuracy_table([])
    with pytest.raises(ValueError, match="no such record"):
        accuracy_table([tmp_path / "none"])


def test_answers_must_be_those_of_the_record(seeds):
    folders, found = seeds
    labels, answers = found[0]
    record = {"scores": {"dense": {"test": float((answers["dense"] == labels).mean())}}}
    np.testing.assert_array_equal(
        read_correct(folders[0], record)["dense"], answers["dense"] == labels
    )
    changed = answers | {"dense": answers["dense"].copy()}
    changed["dense"][0] = (labels[0] + (changed["dense"][0] == labels[0])) % 10
    np.savez_compressed(folders[0] / ANSWERS_FILE, labels=labels, **changed)
    with pytest.raises(ValueError, match="must give the test accuracy of its record"):
        comparison_table(folders)
    (folders[0] / ANSWERS_FILE).unlink()
    with pytest.raises(ValueError, match="no such file; it stands beside the record"):
        comparison_table(folders)


def test_tables_load_no_keras():
    code = "import sys, imetlib.delivery.ten_crop_tables; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
