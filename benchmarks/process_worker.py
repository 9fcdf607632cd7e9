"""A process of `benchmarks.processes`, on a core of its own: reads commands, answers with seconds.

    python -m benchmarks.process_worker CORE SETTINGS

SETTINGS is JSON: "folder", "side", "rows", "batch_size" of the whole batch, and whether it "tags".
Each line of standard input is a command, each line of standard output an answer in JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

BACKBONE = "mobilenet_v2"
SHARDS = 4


def main():
    """Build everything once, then answer commands until standard input ends."""
    core, settings = int(sys.argv[1]), json.loads(sys.argv[2])
    # Before jax counts the cores that it makes threads for.
    os.sched_setaffinity(0, {core})
    # Gloo writes lines of its own to standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = Work(**settings)
    print(json.dumps({"num_params": work.num_params}), file=answers, flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        answer = getattr(work, command)(*map(int, arguments))
        print(json.dumps(answer), file=answers, flush=True)


def profile_of(side, batch_size):
    """The network that is measured, without its weights file: rates do not depend on them."""
    from imetlib.profiles import get_profile

    return get_profile(
        "fast",
        museum_size=400,
        museum_side=side,
        image_shape=(side, side, 3),
        backbone=BACKBONE,
        weights="",
        trainable_from="",
        batch_size=batch_size,
        num_folds=3,
        epochs=0,
    )


class Work:
    """One process's network, batches and, where it tags, its job."""

    def __init__(self, folder, side, rows, batch_size, tags, trainable_from):
        from imetlib.collection.batches import Batches
        from imetlib.collection.prepared import prepare_collection
        from imetlib.models.heads import freeze
        from imetlib.processes import process_part
        from imetlib.quiet import keras  # meets the other processes
        from imetlib.training.data_parallel import data_parallel, num_devices
        from imetlib.training.devices import set_seed
        from imetlib.training.fit import augmentation_of, preprocessing_of
        from imetlib.training.networks import build_classifier
        from imetlib.training.optimizers import compile_model

        profile = profile_of(side, batch_size)
        self.data = prepare_collection(profile, out=folder)
        self.folder, self._scope, self._tagger = Path(folder), data_parallel, None
        set_seed(0)
        labels = self.data.collection.train.dense(range(rows))
        self.batches = Batches(
            self.data.train_pictures,
            range(rows),
            preprocessing_of(profile),
            labels=labels,
            batch_size=batch_size,
            shuffle=True,
            augmentation=augmentation_of(profile),
            workers=1,
            multiple=num_devices(),
            part=process_part(),
        )
        with data_parallel():
            self.model, _ = build_classifier(
                profile, labels.shape[1], class_frequency=labels.mean(axis=0)
            )
            freeze(self.model, trainable_from)
            compile_model(self.model, profile, 1000)
        self.num_params = int(sum(keras.ops.size(v) for v in self.model.trainable_variables))
        self.train()
        if tags:
            self._open_tagger()
            self.tag(0, SHARDS)

    def _open_tagger(self):
        from imetlib.tag_job import plan_job
        from imetlib.tagger import Tagger
        from imetlib.training.fold_runs import train_fold
        from imetlib.training.load import load_run

        run, out = self.folder / "run", self.folder / "job"
        if not out.exists():
            train_fold(self.data, run, 1)
            pictures = self.data.collection.root / "train"
            plan_job(pictures, load_run(run), out, num_shards=SHARDS)
        self._tagger = Tagger(out, run, workers=1)

    def train(self):
        """One epoch."""
        with self._scope():
            return timed(lambda: self.model.fit(self.batches, verbose=0, shuffle=False))

    def read(self):
        """The batches of an epoch, without a network."""
        return timed(lambda: [self.batches[index] for index in range(len(self.batches))])

    def tag(self, first, end):
        """Shards from the first to below the end."""
        return timed(lambda: [self._tagger.tag(shard) for shard in range(first, end)])

    def exchange(self, repeats):
        """Sum of what a step exchanges, as many numbers as learn, over all processes."""
        import jax
        import numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        mesh = Mesh(np.array(jax.devices()), ("batch",))
        parts = [
            jax.make_array_from_process_local_data(
                NamedSharding(mesh, PartitionSpec("batch")), np.ones((1, *v.shape), np.float32)
            )
            for v in self.model.trainable_variables
        ]
        total = jax.jit(
            lambda parts: [part.sum(axis=0) for part in parts],
            out_shardings=NamedSharding(mesh, PartitionSpec()),
        )
        jax.block_until_ready(total(parts))
        found = timed(lambda: [jax.block_until_ready(total(parts)) for _ in range(repeats)])
        return {name: value / repeats for name, value in found.items()}


def timed(work):
    """Seconds of some work by the clock and of this process's processor time."""
    start, processor = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor,
    }


if __name__ == "__main__":
    main()
