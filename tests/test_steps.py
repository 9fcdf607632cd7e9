"""Steps of a decision: fitted off the holdout, scored on it, each against the one before."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from sklearn.metrics import fbeta_score

from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection
from imetlib.decisions.rules import GlobalThreshold, TopLabels
from imetlib.decisions.steps import Step, score_steps
from imetlib.decisions.thresholds import decide, search_threshold
from imetlib.scores import Scores


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    folder = draw_museum(tmp_path_factory.mktemp("drawn") / "museum", size=200, image_size=32)
    return read_collection(folder)


def make_scores(museum, rows, *, strength=2.0, seed=0):
    noise = np.random.default_rng(seed).normal(size=(len(rows), museum.num_classes))
    logits = noise + strength * museum.train.dense(rows) - 2.0
    return Scores(museum.train.ids[rows], logits.astype(np.float32), museum.class_names)


FIT, HELD = np.arange(60, 150), np.arange(0, 60)


def make_steps(museum):
    weak = [make_scores(museum, rows, strength=1.0) for rows in (FIT, HELD)]
    strong = [make_scores(museum, rows, strength=3.0) for rows in (FIT, HELD)]
    return [
        Step("weak", *weak, GlobalThreshold()),
        Step("strong", *strong, GlobalThreshold()),
        Step("top", *strong, TopLabels()),
    ]


def test_each_step_is_fitted_on_its_own_rows_and_scored_on_the_holdout(museum):
    steps = make_steps(museum)
    table, fitted = score_steps(steps, museum)
    truth = museum.train.dense(HELD)
    for line, step in enumerate(steps[:2]):
        threshold = search_threshold(museum.train.dense(FIT), step.fit.y_prob).threshold
        assert fitted[line].fitted["threshold"] == pytest.approx(threshold)
        y_pred = decide(step.held_out.y_prob, threshold)
        score = fbeta_score(truth, y_pred, beta=2, average="samples", zero_division=0)
        assert table["score"][line] == pytest.approx(score)
        assert table["labels"][line] == pytest.approx(y_pred.sum(axis=1).mean())
    assert table["step"].tolist() == ["weak", "strong", "top"]
    assert (table["fitted_on"] == len(FIT)).all()
    assert ((table["low"] <= table["score"]) & (table["score"] <= table["high"])).all()


def test_gains_add_up_to_the_total(museum):
    table, _ = score_steps(make_steps(museum), museum)
    np.testing.assert_allclose(table["gain"].cumsum(), table["total"])
    np.testing.assert_allclose(table["gain"][1:], np.diff(table["score"]))
    assert table["gain"][0] == 0 and table["gain_low"][1] > 0


@dataclass
class Watching:
    """Remembers what it was fitted on."""

    seen: list = field(default_factory=list)
    fitted: dict = field(default_factory=dict, init=False)

    def fit(self, y_prob, y_true, class_names):
        self.seen.append(y_true.ids.tolist())
        return self

    def predict(self, y_prob):
        return decide(y_prob, 0.2)


def test_a_rule_never_sees_the_holdout(museum):
    rule = Watching()
    step = Step("watching", *(make_scores(museum, rows) for rows in (FIT, HELD)), rule)
    score_steps([step, step], museum)
    assert rule.seen == [museum.train.ids[FIT].tolist()] * 2
    leaking = Step("leak", make_scores(museum, np.arange(50, 150)), step.held_out, rule)
    with pytest.raises(ValueError, match=r"leak: 10 pictures of the holdout are among those"):
        score_steps([step, leaking], museum)


def test_errors(museum):
    steps = make_steps(museum)
    with pytest.raises(ValueError, match=r"at least two\. Received: 1"):
        score_steps(steps[:1], museum)
    other = Step("other", steps[0].fit, make_scores(museum, HELD[:-1]), GlobalThreshold())
    with pytest.raises(ValueError, match="other: `held_out` must be the pictures"):
        score_steps([steps[0], other], museum)
    scores = steps[0].fit
    names = (*scores.class_names[1:], scores.class_names[0])
    renamed = Step(
        "renamed", Scores(scores.ids, scores.logits, names), steps[0].held_out, GlobalThreshold()
    )
    with pytest.raises(ValueError, match="renamed: the scores are of other classes"):
        score_steps([steps[0], renamed], museum)
