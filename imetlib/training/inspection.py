"""Single pictures as a run sees them: each by a network that was not trained on it."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from imetlib.collection.attribute_search import say_near
from imetlib.collection.geometry import prepare
from imetlib.collection.images import decode_image
from imetlib.collection.prepared import with_settings
from imetlib.decisions.inspection import Inspection, Neighbour, shown_columns
from imetlib.decisions.neighbours import nearest_neighbours
from imetlib.delivery.records import read_record
from imetlib.localisation_glimpses import glimpse_rectangles
from imetlib.localisation_grids import grid_centres
from imetlib.models.activation_maps import activation_maps, layer_outputs, tensor_values
from imetlib.models.heads import pooled_features, start_head
from imetlib.training.closed_form import load_head, mean_view
from imetlib.training.decision_steps import find_fold_run
from imetlib.training.features import frozen_features
from imetlib.training.fit import preprocessing_of
from imetlib.training.fold_runs import HOLDOUT, inner_folds
from imetlib.training.kernel import signed_root
from imetlib.training.localise import GRID, glimpsed_shape, soft_masks
from imetlib.training.networks import build_classifier, load_classifier
from imetlib.training.predict import predict_views
from imetlib.training.run_files import profile_of

_SEED = 0
# A feature that hardly varies must not decide alone.
_LEAST_SCALE = 1e-3


class Inspector:
    """Pictures of a run, one at a time: probabilities, labels, maps, nearest training pictures.

    A training picture is shown to the network of the fold that left it out, pictures of the
    holdout and test pictures to that of the first fold. Its nearest pictures come from the folds
    that this network learned from, by the cosine of what its last layer reads; a head in closed
    form reads the frozen backbone's features. Networks are loaded and features computed when a
    picture first needs them.

    Args:
        data: `PreparedCollection`, with the settings of the run or of one of its members.
        folder: run folder made by `train_all_folds` or `blend_runs`; of a blend, maps and
            neighbours are those of its best member.
        scores: `Scores` of the pictures.
        y_pred: `(num_samples, num_classes)` bool, the decisions on them, in their order.
        num_maps: int >= 0. Attributes with an activation map: chosen or true ones first.
        num_neighbours: int >= 0.
        max_candidates: int >= 1. Training pictures among which the nearest are looked for: of
            more, some are drawn at random. Each goes through the network once a fold.

    Raises:
        ValueError: `y_pred` does not fit, or the run is no run over folds.

    Attributes:
        ids: ids of the pictures, as in `scores`.
    """

    def __init__(
        self,
        data,
        folder,
        scores,
        y_pred,
        *,
        num_maps=5,
        num_neighbours=5,
        max_candidates=20_000,
    ):
        if np.shape(y_pred) != scores.logits.shape:
            raise ValueError(
                f"`y_pred` must have the shape of the scores, {scores.logits.shape}. "
                f"Received: {np.shape(y_pred)}"
            )
        self.folder = find_fold_run(folder)
        if self.folder is None:
            raise ValueError(
                f"{Path(folder)} is no run over all folds: each picture needs a network that was "
                "not trained on it. See notebook 08_submission."
            )
        record = read_record(self.folder)
        self.method, profile = record["method"], profile_of(record["parameters"], self.folder)
        # A member of a blend may have pictures of another size.
        self.data = with_settings(
            data, **{one.name: getattr(profile, one.name) for one in fields(profile)}
        )
        self.scores, self.y_pred, self.ids = scores, np.asarray(y_pred, bool), scores.ids
        self.num_maps, self.num_neighbours = num_maps, num_neighbours
        self.max_candidates = max_candidates
        self._positions = {name: position for position, name in enumerate(scores.ids)}
        self._train_ids = set(data.collection.train.ids)
        self._models, self._candidates = {}, {}

    def inspect(self, picture_id):
        """`Inspection` of one picture.

        Args:
            picture_id: str.

        Raises:
            ValueError: no scores of this picture (near ids are listed), or it cannot be read.
            FileNotFoundError: weights of the run, or of its backbone, are missing.
        """
        if picture_id not in self._positions:
            raise ValueError(
                f"No scores of a picture {picture_id!r}. {say_near(picture_id, self.ids)} There "
                f"are {len(self.ids):,}, such as {self.ids[0]}."
            )
        position, collection = self._positions[picture_id], self.data.collection
        split = "train" if picture_id in self._train_ids else "test"
        row = self._pictures(split).rows_of([picture_id])
        known = {
            "id": picture_id,
            "picture": decode_image(collection.picture_path(split, picture_id)),
            "class_names": collection.class_names,
            "y_prob": self.scores.y_prob[position],
            "y_pred": self.y_pred[position],
            "y_true": collection.train.dense(row)[0] if split == "train" else None,
        }
        fold = int(self.data.folds[row[0]]) if split == "train" else HOLDOUT
        fold = inner_folds(self.data)[0] if fold == HOLDOUT else fold
        seen = prepare(self._pictures(split).read(row[0]), preprocessing_of(self.data.profile))
        maps = self._maps(fold, seen, shown_columns(Inspection(**known), self.num_maps))
        near = self._nearest(fold, split, row) if self.num_neighbours else ()
        return Inspection(**known, maps=maps, seen=seen if maps else None, neighbours=near)

    def _maps(self, fold, seen, columns):
        """Where the network of a fold looks, attention first, then the attributes of `columns`.

        The mean of a soft mask's channels, each part's mask, the number of glimpses that see a
        place; activation maps where the head has them.
        """
        model, images = self._model(fold), seen[None]
        if model is None:
            return {}
        names = {layer.name for layer in model.layers}
        maps = {
            f"attention: {name.removesuffix('_mask')}": masks[0].mean(axis=-1)
            for name, masks in soft_masks(model, images).items()
        }
        if "parts_features" in names:
            masks = model.get_layer("parts_features").input[1]
            parts = tensor_values(model, {"masks": masks}, images)["masks"][0]
            maps |= {f"part {part + 1}": parts[..., part] for part in range(parts.shape[-1])}
        if "glimpse_boxes" in names:
            boxes = layer_outputs(model, ["glimpse_boxes"], images)["glimpse_boxes"]
            maps["glimpses"] = _times_seen(glimpse_rectangles(boxes, glimpsed_shape(model))[0])
        if {"pooled_mean", "head_scale", "logits"} <= names and len(columns):
            found = layer_outputs(activation_maps(model, columns), ["activation_maps"], images)
            shown = self.data.collection.class_names
            for place, column in enumerate(columns):
                maps[shown[column]] = found["activation_maps"][0, ..., place]
        return {name: np.asarray(values, np.float64) for name, values in maps.items()}

    def _nearest(self, fold, split, row):
        """The nearest training pictures, nearest first; () where the head reads no features."""
        if fold not in self._candidates:
            self._candidates[fold] = self._read_candidates(fold)
        rows, embeddings, mean, scale = self._candidates[fold]
        if embeddings is None:
            return ()
        query = (self._features(fold, split, row) - mean) / scale
        k = min(self.num_neighbours, len(rows))
        near, cosines = nearest_neighbours(query, embeddings, k=k)
        train, pictures = self.data.collection.train, self.data.train_pictures
        return tuple(
            Neighbour(train.ids[one], pictures.read(one), train.row(one), float(cosine))
            for one, cosine in zip(rows[near[0]], cosines[0], strict=True)
        )

    def _read_candidates(self, fold):
        """Rows that a fold's network learned from, their standardised features, mean and scale."""
        others = [number for number in inner_folds(self.data) if number != fold]
        rows = self.data.rows_of_folds(*others)
        if len(rows) > self.max_candidates:
            generator = np.random.default_rng([_SEED, fold])
            rows = np.sort(generator.choice(rows, self.max_candidates, replace=False))
        features = self._features(fold, "train", rows)
        if features is None:
            return rows, None, None, None
        mean, scale = features.mean(axis=0), features.std(axis=0) + _LEAST_SCALE
        return rows, (features - mean) / scale, mean, scale

    def _features(self, fold, split, rows):
        """`(len(rows), num_features)` float32: what the last layer reads of pictures, or None."""
        if self.method != "network":
            return signed_root(mean_view(frozen_features(self.data, split), rows))
        model = self._model(fold)
        if "pooled" not in {layer.name for layer in model.layers}:
            return None
        return signed_root(
            predict_views(
                pooled_features(model),
                self._pictures(split),
                rows,
                preprocessing_of(self.data.profile),
                mirror_view=False,
            )[0]
        )

    def _model(self, fold):
        """The network of a fold, a linear head as one with its backbone; None for other heads."""
        if fold not in self._models:
            self._models[fold] = self._load(self.folder / f"fold{fold}")
        return self._models[fold]

    def _load(self, folder):
        profile, num_classes = self.data.profile, self.data.collection.num_classes
        if self.method == "network":
            normalisation = read_record(folder)["normalisation"]
            return load_classifier(folder, profile, num_classes, normalisation=normalisation)
        if self.method != "ridge":
            return None
        linear = replace(profile, head="mean_max", attention="")
        model, _ = build_classifier(linear, num_classes)
        head = load_head(folder, self.method)
        start_head(model, head.kernel, head.bias)
        return model

    def _pictures(self, split):
        return self.data.train_pictures if split == "train" else self.data.test_pictures


def _times_seen(rectangles):
    """How many rectangles (x0, y0, x1, y1 in fractions) hold each cell of a grid."""
    y, x = (
        (rectangles[:, low, None] <= middles) & (middles < rectangles[:, low + 2, None])
        for low, middles in zip((1, 0), grid_centres(GRID), strict=True)
    )
    return (y[:, :, None] & x[:, None, :]).sum(axis=0)
