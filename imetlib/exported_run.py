"""A run that was exported for processors: it predicts by OpenVINO, without Keras or TensorFlow.

A thread decodes a batch of pictures and lets all networks answer it, plain and mirrored pictures
together, while other threads have other batches. `imetlib.exported_files` opens such a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from imetlib.collection.cachefiles import cache_of_images
from imetlib.collection.geometry import Preprocessing, prepare
from imetlib.collection.images import (
    ImageError,
    ImageFault,
    decode_image,
    map_in_threads,
    name_images,
)
from imetlib.decisions.exclusive import share_in_groups
from imetlib.decisions.saved_rules import decide_by_rule
from imetlib.decisions.top_scores import TopScores, collect_top_scores
from imetlib.scores import TOP, Scores, sigmoid, weighted_mean

# Of each thread. More at once is no faster, and takes memory in every thread.
BATCH_SIZE = 8


@dataclass(frozen=True, eq=False)
class FileAnswers:
    """The highest scores of some pictures, and the pictures that cannot be read.

    Args:
        ids: names of the pictures that were read, in the order asked.
        columns: `(num_samples, k)` int32, ascending within a row: the classes with the highest
            scores.
        logits: `(num_samples, k)` float32, their scores.
        faults: `ImageFault` of each of the others.
        num_classes: int >= k.
    """

    ids: tuple[str, ...]
    columns: np.ndarray
    logits: np.ndarray
    faults: tuple[ImageFault, ...]
    num_classes: int

    @property
    def y_prob(self) -> np.ndarray:
        """`(num_samples, k)` float32 probabilities."""
        return sigmoid(self.logits)

    @property
    def scores(self) -> TopScores:
        """`TopScores` of the logits; a ValueError where no picture was read."""
        return TopScores(self.columns, self.logits, self.num_classes)


@dataclass(frozen=True, eq=False)
class ExportedRun:
    """What `imetlib.training.load.Run` is, as far as predicting goes.

    Args:
        folder: the exported folder.
        record: what `export.json` holds.
        class_names: `num_classes` names `group::name`.
        threshold: float in [0, 1], fitted on the rows that the run left out of training.
        networks: list of (compiled network, `Preprocessing`, whether it also sees mirror images).
        heads: compiled heads in closed form by file name.
        threads: int >= 1.
    """

    folder: Path
    record: dict[str, Any]
    class_names: tuple[str, ...]
    threshold: float
    networks: list[tuple[Any, Preprocessing, bool]]
    heads: dict[str, Any]
    threads: int

    def predict(
        self, images: Sequence[np.ndarray | str | Path], *, ids: Sequence[str] | None = None
    ) -> Scores:
        """Scores of new pictures, mean over folds, members and mirror views.

        Args:
            images: sequence of paths, or of `(height, width, 3)` uint8 arrays of any sizes.
            ids: names of the pictures, none twice; None: numbers and file names.

        Returns:
            `Scores` in the order of `images`.

        Raises:
            ValueError: no pictures, or some cannot be read (all of them are named).
        """
        images = list(images)
        if not images:
            raise ValueError("`images` is empty: give at least one picture")
        ids = name_images(images) if ids is None else list(ids)
        answers = self.predict_files(images, ids=ids, k=len(self.class_names))
        if answers.faults:
            raise ImageError(answers.faults)
        return Scores(np.asarray(ids, dtype=object), answers.scores.dense(), self.class_names)

    def decide(self, scores: Scores) -> np.ndarray:
        """`(num_samples, num_classes)` bool, label sets by the run's rule or threshold."""
        return decide_by_rule(self.folder, self.threshold, scores)

    def predict_files(
        self,
        images: Sequence[np.ndarray | str | Path],
        *,
        ids: Sequence[str] | None = None,
        k: int = TOP,
        batch_size: int = BATCH_SIZE,
        on_batch: Callable[[int], Any] | None = None,
    ) -> FileAnswers:
        """The highest scores of pictures, of which some may turn out to be unreadable.

        Args:
            images: see `predict`; none is right too. A million paths go in parts: the answers to
                all of them are held together.
            ids: one name a picture; None takes the paths.
            k: int >= 1, scores kept of each picture.
            batch_size: int >= 1, pictures that a thread holds at once.
            on_batch: called with the number of pictures of each finished batch.

        Returns:
            `FileAnswers`.

        Raises:
            ValueError: an id too many or too few, or a score is not finite.
        """
        names = [str(image) for image in images] if ids is None else list(ids)
        if len(names) != len(images) or k < 1 or batch_size < 1:
            raise ValueError(
                "`ids` must have one name a picture, `k` and `batch_size` must be at least 1. "
                f"Received: {len(names)} ids of {len(images)} pictures, k={k}, "
                f"batch_size={batch_size}"
            )
        kept: list[str] = []
        faults: list[ImageFault] = []

        def batches() -> Iterator[np.ndarray]:
            for numbers, logits, bad in self._predict_batches(images, names, batch_size):
                kept.extend(names[number] for number in numbers)
                faults.extend(bad)
                if on_batch is not None:
                    on_batch(len(numbers) + len(bad))
                if len(numbers):
                    yield logits

        num_classes, parts = len(self.class_names), batches()
        first = next(parts, None)
        if first is None:
            nothing = np.empty((0, min(k, num_classes)), np.float32)
            columns, values = nothing.astype(np.int32), nothing
        else:
            found = collect_top_scores((part for source in ([first], parts) for part in source), k)
            columns, values = found.columns, found.values
        return FileAnswers(tuple(kept), columns, values, tuple(faults), num_classes)

    def _predict_batches(self, images, names, batch_size):
        """Numbers of pictures, their dense logits, and faults, batch by batch and in order."""
        requests: SimpleQueue = SimpleQueue()
        for _ in range(self.threads):
            requests.put({})  # filled by the thread that takes it

        def predict(start):
            numbers = range(start, min(start + batch_size, len(images)))
            read, views, faults = self._read_views(images, names, numbers)
            own = requests.get()
            try:
                return read, self._predict_views(views, own) if read else None, faults
            finally:
                requests.put(own)

        starts = range(0, len(images), batch_size)
        yield from map_in_threads(predict, starts, workers=self.threads, progress=False)

    def _read_views(self, images, names, numbers):
        """Pictures as the networks get them: numbers, uint8 views by preprocessing, and faults.

        Views hold the plain pictures, then the mirrored ones where any network wants them.
        """
        wanted: dict[Preprocessing, bool] = {}
        for _, preprocessing, mirror in self.networks:
            wanted[preprocessing] = wanted.get(preprocessing, False) or mirror
        read, faults = [], []
        plain: dict[Preprocessing, list] = {preprocessing: [] for preprocessing in wanted}
        mirrored: dict[Preprocessing, list] = {preprocessing: [] for preprocessing in wanted}
        for number in numbers:
            image = images[number]
            try:
                if not isinstance(image, np.ndarray):
                    image = decode_image(image)
                # Through the cache's JPEG file, as the pictures that the networks learned from.
                sides = {preprocessing.min_side for preprocessing in wanted}
                small = {
                    side: cache_of_images([image], [names[number]], side).read(0) for side in sides
                }
            except ImageError as error:
                faults.extend(error.faults)
                continue
            except ValueError as error:
                faults.append(ImageFault(names[number], str(error)))
                continue
            read.append(number)
            for preprocessing, mirror in wanted.items():
                picture = small[preprocessing.min_side]
                plain[preprocessing].append(prepare(picture, preprocessing))
                if mirror:
                    mirrored[preprocessing].append(prepare(picture, preprocessing, flip=True))
        views = {key: np.stack(plain[key] + mirrored[key]) for key in wanted} if read else {}
        return read, views, faults

    def _predict_views(self, views, requests):
        """`(num_pictures, num_classes)` float32 logits of all members' mean."""
        outputs = []
        for number, (network, preprocessing, mirror) in enumerate(self.networks):
            batch = views[preprocessing]
            both = 2 if mirror else 1
            if not mirror and any(p == preprocessing and m for _, p, m in self.networks):
                batch = batch[: len(batch) // 2]
            answer = _infer(network, number, batch, requests)
            outputs.append(np.mean(answer.reshape(both, -1, answer.shape[1]), axis=0))
        members = []
        for member in self.record["members"]:
            logits = outputs[member["network"]]
            if member["head"]:
                logits = _infer(self.heads[member["head"]], member["head"], logits, requests)
            exclusive = member["exclusive_groups"]
            members.append(share_in_groups(logits, self.class_names, exclusive))
        return weighted_mean(members)


def _infer(compiled: Any, key: Any, batch: np.ndarray, requests: dict) -> np.ndarray:
    """A network's answer to a batch, by a request that no other thread has."""
    if key not in requests:
        requests[key] = compiled.create_infer_request()
    # The request keeps its own memory for the next batch.
    return np.array(requests[key].infer({0: batch})[0], dtype=np.float32)
