"""Views, folds and neighbours of a run on a small museum."""

from dataclasses import replace

import numpy as np
import pytest

from imetlib.collection.folds import hash_folds
from imetlib.collection.prepared import prepare_collection, with_settings
from imetlib.decisions.blend import search_blend
from imetlib.decisions.expected_rule import ExpectedFBeta
from imetlib.decisions.label_sets import decide
from imetlib.decisions.rules import GlobalThreshold
from imetlib.decisions.saved_rules import RULE_FILE, save_rule
from imetlib.decisions.steps import score_steps
from imetlib.delivery.audit_run import audit_run
from imetlib.delivery.records import new_record, read_record, write_record
from imetlib.models.backbones import build_backbone
from imetlib.profiles import get_profile
from imetlib.scores import load_scores
from imetlib.training import runs
from imetlib.training.decision_steps import (
    blend_neighbours,
    decision_steps,
    find_fold_run,
    neighbour_scores,
    prepare_run,
)
from imetlib.training.load import load_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A ridge run and a network run over all folds of a museum, and its neighbours."""
    out = tmp_path_factory.mktemp("out")
    profile = get_profile("fast", num_folds=3, epochs=1, image_shape=(32, 32, 3))
    profile = replace(profile, museum_size=240)
    data = prepare_collection(profile, out=out)
    weights = out / "start.weights.h5"
    build_backbone(profile.backbone, profile.image_shape).save_weights(weights)
    data = with_settings(data, weights=str(weights))
    for method in ("ridge", "network"):
        runs.train_all_folds(data, data.workspace / method, method=method)
    return data, neighbour_scores(data, k=20)


@pytest.mark.parametrize("method", ["ridge", "network"])
def test_views_and_folds_are_those_of_the_run(finished, method):
    data, neighbours = finished
    folder = data.workspace / method
    steps = decision_steps(data, folder, ExpectedFBeta(), neighbours=neighbours)
    names = [step.name for step in steps]
    assert names[0] == "one network, one view, one threshold"
    # Frozen features are those of both views; the profile's network looks once.
    assert ("mirrored view" in names) == (method == "ridge" or data.profile.mirror_view)
    assert names[-3:] == ["all folds", "neighbours", "calibration and rule"]
    assert isinstance(steps[0].rule, GlobalThreshold) and isinstance(steps[-1].rule, ExpectedFBeta)
    # Both views, shared in the exclusive groups, are what the run itself has said.
    shared = steps[names.index("all folds") - 1]
    for mine, part in ((shared.fit, "val"), (shared.held_out, "holdout")):
        saved = load_scores(folder / f"fold1/scores-{part}.npz").take(mine.ids)
        np.testing.assert_allclose(mine.logits, saved.logits, atol=1e-4)
    if method == "ridge":
        assert not np.allclose(steps[0].fit.logits, steps[1].fit.logits)
    whole = steps[names.index("all folds")]
    saved = load_scores(folder / "scores-holdout.npz")
    np.testing.assert_array_equal(whole.held_out.logits, saved.logits)
    table, _ = score_steps(steps, data.collection)
    assert table["score"].between(0, 1).all() and len(table) == len(steps)


def test_neighbours_never_come_from_the_own_fold_nor_from_the_holdout(finished):
    data, neighbours = finished
    inner = data.rows_of_folds(1, 2)
    ids = data.collection.train.ids
    assert neighbours["oof"].ids.tolist() == ids[inner].tolist()
    assert neighbours["holdout"].ids.tolist() == ids[data.rows_of_folds(0)].tolist()
    assert neighbours["test"].ids.tolist() == data.collection.test_ids.tolist()
    # A picture whose neighbours lack an attribute gives it next to nothing: with two inner
    # folds, an attribute that stands in one fold alone is never found in that fold.
    dense = data.collection.train.dense(inner)
    folds = data.folds[inner]
    alone = dense[folds == 1].any(axis=0) & ~dense[folds == 2].any(axis=0)
    assert alone.any() and neighbours["oof"].y_prob[folds == 1][:, alone].max() < 1e-3


def test_the_weight_is_the_one_that_helps_out_of_fold(finished):
    data, neighbours = finished
    folder = data.workspace / "ridge"
    own, held = (load_scores(folder / f"scores-{part}.npz") for part in ("oof", "holdout"))
    blended, rest, weight = blend_neighbours(data, own, held, neighbours)
    inner = data.rows_of_folds(1, 2)
    found = search_blend(
        data.collection.train.take(inner), [own, neighbours["oof"]], data.folds[inner]
    )
    helps = found.score > found.member_scores[0]
    assert weight == (found.weights[1] if helps else 0.0)
    expected = (1 - weight) * own.logits + weight * neighbours["oof"].logits
    np.testing.assert_allclose(blended.logits, expected, atol=1e-4)
    assert rest.ids.tolist() == held.ids.tolist()
    # A run that knows the answers leaves neighbours nothing to add.
    sure = replace(own, logits=np.where(data.collection.train.dense(inner), 9, -9).astype("f4"))
    assert blend_neighbours(data, sure, held, neighbours)[2] == 0.0


def test_a_run_answers_by_its_rule(finished, tmp_path):
    data, _ = finished
    folder = data.workspace / "ridge"
    run, scores = load_run(folder), load_scores(folder / "scores-holdout.npz")
    np.testing.assert_array_equal(run.decide(scores), decide(scores.y_prob, run.threshold))
    inner = data.rows_of_folds(1, 2)
    rule = ExpectedFBeta("isotonic").fit(
        load_scores(folder / "scores-oof.npz").y_prob,
        data.collection.train.take(inner),
        scores.class_names,
    )
    save_rule(folder / RULE_FILE, rule, scores.class_names, score=0.123)
    try:
        np.testing.assert_array_equal(run.decide(scores), rule.predict(scores.y_prob))
        # What the rule says of itself is audited.
        messages = [one.message for one in audit_run(folder, data.collection) if one.rule == "rule"]
        assert len(messages) == 1 and "says F2 0.123 on the holdout" in messages[0]
    finally:
        (folder / RULE_FILE).unlink()
    assert read_record(folder)["threshold"] == run.threshold


# Which run the steps are taken from, and its collection ---------------------------------------


def write_run(folder, score=0.5, **entries):
    folder.mkdir(parents=True)
    facts = {
        "profile": "fast",
        "seed": 0,
        "split": "held-out third",
        "image_shape": (32, 32, 3),
        "collection_sha256": "c",
        "score": score,
        "constant_score": 0.2,
        "num_samples": 10,
        "selection": {"split": "out-of-fold", "score": score},
    }
    write_record(folder, new_record(folder.name, **(facts | entries)))
    return folder


def test_a_single_network_has_no_folds(tmp_path):
    assert find_fold_run(write_run(tmp_path / "single")) is None


def test_a_run_over_all_folds_is_taken_itself(tmp_path):
    folder = write_run(tmp_path / "whole")
    write_run(folder / "fold1", score=0.9)
    assert find_fold_run(folder) == folder
    assert find_fold_run(str(folder)) == folder


def test_of_a_blend_the_best_member_with_folds_is_taken(tmp_path):
    folder = write_run(tmp_path / "blend", score=0.9, members=["weak", "strong", "single"])
    for name, score in (("weak", 0.4), ("strong", 0.5)):
        write_run(folder / name / "fold1", score=score)
        record = write_run(tmp_path / name, score=score) / "record.json"
        record.rename(folder / name / "record.json")
    write_run(folder / "single", score=0.8)
    assert find_fold_run(folder) == folder / "strong"


def test_a_run_opens_its_collection_with_its_own_settings(prepared, tmp_path):
    identity = {
        "collection_sha256": prepared.collection.sha256,
        "folds_sha256": hash_folds(prepared.collection.train.ids, prepared.folds),
    }
    settings = {**prepared.profile.to_dict(), "epochs": 3}
    out = str(prepared.workspace.parent)
    folder = write_run(tmp_path / "run", parameters=settings, **identity)
    data = prepare_run(folder, out=out)
    assert data.profile.epochs == 3 and (data.folds == prepared.folds).all()
    for key, what in (("collection_sha256", "tables"), ("folds_sha256", "folds")):
        other = write_run(tmp_path / what, parameters=settings, **identity | {key: "other"})
        with pytest.raises(ValueError, match=f"made on other {what}"):
            prepare_run(other, out=out)
