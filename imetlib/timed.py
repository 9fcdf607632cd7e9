"""A run within the hours of a session: there is always a submission, and it only gets better."""

from imetlib.decisions.label_sets import decide
from imetlib.delivery.first_submission import (
    read_standing,
    replace_if_better,
    write_first_submission,
)
from imetlib.delivery.kaggle_session import publish_submission
from imetlib.training.metrics import crossfit_groups
from imetlib.training.scoring import score_crossfitted


class StandingSubmission:
    """`submission.csv` of a run: label frequencies first, then what its networks say.

    On Kaggle every one is copied to the working folder at once.

    Args:
        folder: run folder, made where missing; `submission.csv` and `submission.json` go there.
        data: `PreparedCollection`; its pictures are not needed.
        session: `imetlib.training.session.Session` that the writing is measured in.

    Attributes:
        standing: `imetlib.delivery.first_submission.Standing` of what is there.
        path: of `submission.csv`.

    Raises:
        imetlib.delivery.submission.SubmissionError: a submission of another hand is there.
    """

    def __init__(self, folder, data, session):
        self.data, self.session = data, session
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "submission.csv"
        self.sample = data.collection.root / "sample_submission.csv"
        numbers = range(1, data.profile.num_folds)
        # The rows that the first network leaves out: the score that it must pass.
        train = data.collection.train
        rows = data.rows_of_folds(*numbers[1:]), data.rows_of_folds(numbers[0])
        with session.measure_writing():
            self.standing = write_first_submission(
                self.path, *(train.take(part) for part in rows), self.sample
            )
            publish_submission(self.path)

    def improve(self, out_of_fold, test, num_networks):
        """Take the answer of the networks so far, if it is better; `on_network` of a run.

        One threshold decides, fitted on the out-of-fold scores; each fold, or half of the only
        one, is scored with the threshold of the others.

        Args:
            out_of_fold: `Scores` of the rows that the networks left out.
            test: `Scores` of the test pictures, or of some of them where time was up.
            num_networks: int >= 1.

        Returns:
            bool, whether the submission was replaced.
        """
        collection = self.data.collection
        rows = collection.train.rows_of(out_of_fold.ids)
        groups = crossfit_groups(self.data, rows, seed=0)
        result = score_crossfitted(collection, out_of_fold, groups)
        y_pred = decide(test.y_prob, result["threshold"])
        return self.take(
            test.ids, y_pred, result["score"], num_networks, source="one threshold for all"
        )

    def take(self, ids, y_pred, score, num_networks, *, source):
        """Take an answer, if it is better.

        Args:
            ids: of test pictures; those left out keep the constant answer.
            y_pred: `(len(ids), num_classes)` bool.
            score: float in [0, 1], mean per-sample F2 out of fold.
            num_networks: int >= 1. Networks whose mean it is.
            source: what decided.

        Returns:
            bool, whether the submission was replaced.
        """
        collection = self.data.collection
        with self.session.measure_writing():
            replaced = replace_if_better(
                self.path,
                ids,
                y_pred,
                self.sample,
                score=score,
                source=source,
                num_classes=len(collection.class_names),
                partial=len(ids) < len(collection.test_ids),
                num_networks=num_networks,
            )
            publish_submission(self.path)
        self.standing = read_standing(self.path)
        return replaced
