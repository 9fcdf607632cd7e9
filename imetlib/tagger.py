"""Name the attributes of a job's pictures, shard by shard, in this process.

Each picture is decoded once. Which pictures are predicted together depends on the shard alone, so
that every engine and every call that goes on gives the same numbers.
"""

import contextlib
import os
from pathlib import PurePosixPath

import numpy as np

from imetlib.collection.cachefiles import MAX_SIDE
from imetlib.collection.images import ImageError, ImageFault, decode_image, map_in_threads, shrink
from imetlib.decisions.top_scores import top_scores
from imetlib.tag_files import open_folder
from imetlib.tag_job import digest_run, open_job
from imetlib.training.load import load_run

# Shrunk pictures that are held in memory; whole ones where members want several sizes.
AT_ONCE, AT_ONCE_WHOLE = 1024, 16


class Tagger:
    """A run, opened once, that answers shards of a job.

    Args:
        out: folder of the job.
        run_folder: folder of the run that the job was planned with.
        workers: int >= 1, threads that decode; 0: one a core.

    Raises:
        FileNotFoundError: no job there.
        ValueError: the run is another than the job's.
    """

    def __init__(self, out, run_folder, *, workers=0):
        self.job = open_job(out)
        self.run = load_run(run_folder, keep_networks=True)
        if digest_run(self.run) != self.job.settings["run_sha256"]:
            raise ValueError(
                f"{run_folder} is not the run that {out} was planned with "
                f"({self.job.settings['run']}, SHA-256 {self.job.settings['run_sha256'][:12]}...)"
            )
        self.workers = workers or os.cpu_count() or 1
        self._files, self._root = open_folder(self.job.settings["folder"])
        sides = self.run.min_sides
        self._side = sides[0] if len(sides) == 1 else None

    def tag(self, shard):
        """Answer the pictures of a shard and write its file.

        Args:
            shard: int in [0, num_shards).

        Returns:
            dict of int: "shard", "num_pictures", "num_unreadable".

        Raises:
            ValueError: something but a damaged picture stands in the way, such as a picture that
                is gone or was changed; the shard is named, and nothing of it is written.
        """
        begun = self.job.begun_path(shard)
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.touch()
        try:
            names, sizes = self.job.pictures_of(shard)
            answers = {name: [] for name in ("attributes", "probabilities", "chosen", "fault")}
            at_once = AT_ONCE_WHOLE if self._side is None else AT_ONCE
            for start in range(0, len(names), at_once):
                end = start + at_once
                self._answer(names[start:end], sizes[start:end], answers)
            ids = [PurePosixPath(name).stem for name in names]
            self.job.write_shard(shard, {"id": ids, "path": names, **answers})
        except (OSError, ValueError) as error:
            raise ValueError(
                f"shard {shard} of {self.job.num_shards} is not done: {error}"
            ) from error
        finally:
            # A process that dies leaves it, and so tells which shard it was.
            with contextlib.suppress(OSError):
                begun.unlink(missing_ok=True)
        unreadable = sum(fault is not None for fault in answers["fault"])
        return {"shard": shard, "num_pictures": len(names), "num_unreadable": unreadable}

    def _answer(self, names, sizes, answers):
        """Append the answers of some pictures to lists."""
        pictures = list(zip(names, sizes, strict=True))
        read = list(map_in_threads(self._read, pictures, workers=self.workers, progress=False))
        ids = [name for name, one in zip(names, read, strict=True) if isinstance(one, np.ndarray)]
        found = {}
        if ids:
            scores = self.run.predict([one for one in read if isinstance(one, np.ndarray)], ids=ids)
            decided = self.job.settings["decisions"] != "none"
            y_pred = self.run.decide(scores) if decided else [None] * len(ids)
            kept = top_scores(scores.y_prob, self.job.settings["top"])
            order = np.argsort(-kept.values, axis=1, kind="stable")
            columns = np.take_along_axis(kept.columns, order, axis=1)
            values = np.take_along_axis(kept.values, order, axis=1)
            found = dict(zip(ids, zip(columns, values, y_pred, strict=True), strict=True))
        for name, one in zip(names, read, strict=True):
            columns, values, chosen = found.get(name, (None, None, None))
            answers["attributes"].append(columns)
            answers["probabilities"].append(values)
            answers["chosen"].append(None if chosen is None else np.flatnonzero(chosen))
            answers["fault"].append(one.reason if isinstance(one, ImageFault) else None)

    def _read(self, picture):
        """A picture as an array, or what is wrong with it."""
        name, size = picture
        with self._files.open_input_file(f"{self._root}/{name}") as file:
            data = file.read()
        # A folder that is not mounted must not become a shard of unreadable pictures.
        if len(data) != size:
            raise ValueError(
                f"{name} has {len(data):,} bytes, and had {size:,} when the job was planned"
            )
        try:
            image = decode_image(data, name=name)
        except ImageError as error:
            return error.faults[0]
        if self._side is not None:
            image = shrink(image, self._side)
        if max(shrink(image, self.run.min_sides[-1]).shape) > MAX_SIDE:
            return ImageFault(name, f"a side of more than {MAX_SIDE:,} pixels beside a short one")
        return image


def tag_here(job, run_folder, shards, *, workers=0):
    """Answer shards one after another in this process.

    Args:
        job: `imetlib.tag_job.TagJob`.
        run_folder: see `Tagger`.
        shards: numbers of shards, as `TagJob.missing` gives them.
        workers: see `Tagger`.

    Yields:
        dict, see `Tagger.tag`.

    Raises:
        ValueError: see `Tagger`. Shards that are finished stay.
    """
    if not shards:
        return
    tagger = Tagger(job.out, run_folder, workers=workers)
    for shard in shards:
        yield tagger.tag(shard)
