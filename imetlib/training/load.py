"""A finished run as something that predicts new pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imetlib.collection.cache import cache_of_images
from imetlib.collection.images import decode_image, name_images
from imetlib.decisions.exclusive import share_in_groups
from imetlib.decisions.saved_rules import decide_by_rule
from imetlib.delivery.records import read_record
from imetlib.models.backbones import find_weights
from imetlib.scores import Scores, load_class_names, mean_scores
from imetlib.training.closed_form import apply_head, load_head
from imetlib.training.data_parallel import data_parallel
from imetlib.training.features import build_extractor
from imetlib.training.fit import preprocessing_of
from imetlib.training.networks import load_classifier, start_of
from imetlib.training.predict import predict_views
from imetlib.training.run_files import profile_of


@dataclass(frozen=True, eq=False)
class Run:
    """Networks of a run folder, their class names and the threshold that was chosen.

    Args:
        folder: the run folder.
        record: its record.
        class_names: `num_classes` names `group::name`.
        threshold: float in [0, 1], fitted on the rows that the run left out of training.
        members: list of `(folder, record)` of single networks and heads.
        kept: networks by what they were built for, where they stay in memory; None: built anew by
            each `predict`.
    """

    folder: Path
    record: dict
    class_names: tuple[str, ...]
    threshold: float
    members: list[tuple[Path, dict]]
    kept: dict | None = None

    @property
    def min_sides(self):
        """Shorter sides in pixels that pictures are shrunk to, of all members, ascending."""
        return sorted(
            {
                preprocessing_of(profile_of(record["parameters"], folder)).min_side
                for folder, record in self.members
            }
        )

    @data_parallel()
    def predict(self, images, *, ids=None):
        """Scores of new pictures, mean over folds, members and mirror views.

        Args:
            images: sequence of paths, or of `(height, width, 3)` uint8 arrays of any sizes.
            ids: names of the pictures, none twice; None: numbers and file names.

        Returns:
            `Scores` in the order of `images`.

        Raises:
            ValueError: no pictures, or one cannot be read (the file is named).
            FileNotFoundError: a weights file that the run was built on is missing.
        """
        images = list(images)
        if not images:
            raise ValueError("`images` is empty: give at least one picture")
        if ids is None:
            ids = name_images(images)
        ids = np.asarray(ids, dtype=object)
        caches, built, scores = {}, {}, []
        for folder, record in self.members:
            profile = profile_of(record["parameters"], folder)
            preprocessing = preprocessing_of(profile)
            side = preprocessing.min_side
            if side not in caches:
                # One picture at a time: a museum's photographs do not fit into memory at once.
                arrays = (x if isinstance(x, np.ndarray) else decode_image(x) for x in images)
                caches[side] = cache_of_images(arrays, ids, side)
            scores.append(self._predict_member(folder, record, profile, caches[side], ids, built))
        return mean_scores(scores)

    def decide(self, scores):
        """Label sets of scores, by the run's `rule.json`, else by its threshold.

        Args:
            scores: `Scores` as from `predict`.

        Returns:
            `(num_samples, num_classes)` bool, one label a picture or more.

        Raises:
            ValueError: the rule belongs to other classes.
        """
        return decide_by_rule(self.folder, self.threshold, scores)

    def _predict_member(self, folder, record, profile, pictures, ids, built):
        rows = np.arange(len(ids))
        preprocessing = preprocessing_of(profile)
        if record["method"] == "network":
            model = self._network(folder, folder, record, profile)
            views = predict_views(
                model, pictures, rows, preprocessing, mirror_view=profile.mirror_view
            )
            return self._share(record, ids, np.mean(views, axis=0))
        key = (profile.backbone, preprocessing, profile.precision, record["weights_sha256"])
        if key not in built:
            model = self._network(key, folder, record, profile)
            views = predict_views(model, pictures, rows, preprocessing, mirror_view=True)
            built[key] = np.mean(views, axis=0)
        head = load_head(folder, record["method"])
        return self._share(record, ids, apply_head(head, built[key]))

    def _network(self, key, folder, record, profile):
        model = None if self.kept is None else self.kept.get(key)
        if model is None:
            model = load_member(folder, record, profile, len(self.class_names))
            if self.kept is not None:
                self.kept[key] = model
        return model

    def _share(self, record, ids, logits):
        exclusive = record.get("exclusive_groups", ())
        return Scores(ids, share_in_groups(logits, self.class_names, exclusive), self.class_names)


def load_run(folder, *, keep_networks=False):
    """Open a run folder: a single network, all folds of one, or a blend of such runs.

    Args:
        folder: path of a folder with `record.json`.
        keep_networks: whether networks stay in memory after the first `predict`, for many calls.

    Returns:
        `Run`.

    Raises:
        ValueError: the folder holds no run.
    """
    folder = Path(folder)
    record = read_record(folder)
    members = list(_members(folder, record))
    class_names = load_class_names(next(members[0][0].glob("scores-*.npz")))
    kept = {} if keep_networks else None
    return Run(folder, record, class_names, record["threshold"], members, kept)


def load_member(folder, record, profile, num_classes):
    """The network of a member: its classifier, or what gives a closed-form head its features.

    Args:
        folder, record: as in `Run.members`.
        profile: `Profile` of the record.
        num_classes: int.

    Returns:
        `keras.Model` from uint8 pictures.

    Raises:
        ValueError: another weights file than the head was fitted on, or the weights are damaged.
        FileNotFoundError: a weights file is missing.
    """
    if record["method"] == "network":
        return load_classifier(folder, profile, num_classes, normalisation=record["normalisation"])
    if start_of(profile) != record["weights_sha256"]:
        raise ValueError(
            f"{find_weights(profile.backbone, profile.weights)} is not the weights file "
            f"that {folder} was fitted on (SHA-256 {record['weights_sha256'][:12]}...): "
            "attach that file"
        )
    return build_extractor(profile)


def _members(folder, record):
    if "members" in record:
        for name in record["members"]:
            yield from _members(folder / name, read_record(folder / name))
        return
    # A closed-form head of a run over all folds was fitted once more, on all of them.
    folds = sorted(folder.glob("fold*/record.json")) if record["method"] == "network" else ()
    if not folds:
        yield folder, record
    for path in folds:
        yield path.parent, read_record(path.parent)
