"""Everything but training at the size of iMet 2019: time and memory against 10 minutes and 4 GB.

    python -m benchmarks.imet_size [--pictures N] [--museum DIR] [--out FILE]

Pictures are those of a drawn museum of 64 px, a quarter of them to be answered; labels and
probabilities have iMet's 1,103 attributes and are synthetic (`benchmarks.synthetic`). Drawing both
is not counted.
"""

import argparse
import resource
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.records import write_figures
from benchmarks.synthetic import CLASS_NAMES, make_scores
from imetlib.collection.cache import build_cache
from imetlib.collection.folds import fold_report, make_folds
from imetlib.collection.images import check_images
from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection
from imetlib.decisions.rule_comparison import choose_rule, compare_rules
from imetlib.decisions.rules import GlobalThreshold, NearMaximum
from imetlib.decisions.thresholds import search_threshold
from imetlib.delivery.submission import check_submission, write_submission

FULL_SIZE = 109_237
IMAGE_SIZE = 64
NUM_FOLDS = 5
MAX_SECONDS, MAX_BYTES = 600, 4 * 10**9
TEST_ROWS = 38_801 / FULL_SIZE


class Steps:
    """Seconds of each step, printed as they come."""

    def __init__(self):
        self.seconds, self.not_counted = {}, {}

    @contextmanager
    def measure(self, name, *, counted=True):
        """Take the time of the block."""
        start = time.perf_counter()
        yield
        taken = time.perf_counter() - start
        (self.seconds if counted else self.not_counted)[name] = taken
        note = "" if counted else "  (not counted)"
        print(f"  {name:40s}{taken:8.1f} s  {peak_bytes() / 1e9:5.2f} GB{note}", flush=True)


def main(arguments=None):
    """Measure, print, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imet_size", description=__doc__)
    parser.add_argument("--pictures", type=int, default=FULL_SIZE, help="drawn, of both splits")
    parser.add_argument("--museum", type=Path, help="where it is, or is to be; default: temporary")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if not 200 <= options.pictures <= FULL_SIZE:
        parser.error(f"--pictures must be from 200 to {FULL_SIZE}")
    steps = Steps()
    print(f"{options.pictures:,} pictures of {IMAGE_SIZE} px; memory is the highest so far")
    with tempfile.TemporaryDirectory() as temporary:
        museum = options.museum or Path(temporary) / "museum"
        if not museum.is_dir():
            with steps.measure("draw the museum", counted=False):
                draw_museum(museum, size=options.pictures, image_size=IMAGE_SIZE)
        read_pictures(museum, Path(temporary), steps)
        decide(options.pictures, Path(temporary), steps)
    total, peak = sum(steps.seconds.values()), peak_bytes()
    print(f"  {'together':40s}{total:8.1f} s  {peak / 1e9:5.2f} GB")
    print(f"  {total / MAX_SECONDS:.2f} of 10 minutes, {peak / MAX_BYTES:.2f} of 4 GB")
    if options.out:
        record = {"pictures": options.pictures, "image_size": IMAGE_SIZE, "peak_bytes": peak}
        record |= {"seconds": steps.seconds, "not_counted": steps.not_counted, "together": total}
        write_figures(options.out, record)


def read_pictures(museum, folder, steps):
    """Tables, every picture opened, caches of both splits."""
    with steps.measure("read the tables"):
        collection = read_collection(museum)
    splits = {"train": collection.train.ids, "test": collection.test_ids}
    with steps.measure("check: open every picture"):
        paths = [collection.picture_path(s, name) for s, ids in splits.items() for name in ids]
        faults = check_images(paths)
        assert not faults, faults[0]
    with steps.measure("cache of both splits"):
        for split, ids in splits.items():
            cache = build_cache(collection, split, folder / split, min_side=IMAGE_SIZE)
            assert len(cache) == len(ids)


def decide(num_samples, folder, steps):
    """Folds, thresholds, rules and the submission, on synthetic scores."""
    with steps.measure("labels and probabilities", counted=False):
        labels, y_prob = make_scores(num_samples)
    with steps.measure(f"{NUM_FOLDS} folds of 1,103 attributes"):
        folds = make_folds(labels, NUM_FOLDS)
        fold_report(labels, folds)
    with steps.measure("best threshold of all rows, exact"):
        search_threshold(labels, y_prob)
    with steps.measure("two rules compared by cross-fitting"):
        rules = {"one threshold": GlobalThreshold(), "near the maximum": NearMaximum()}
        compared = compare_rules(rules, labels, y_prob, folds, CLASS_NAMES)
        rule = rules[choose_rule(compared.table)].fit(y_prob, labels, CLASS_NAMES)
    with steps.measure("submission, written and verified"):
        ids = labels.ids[: int(TEST_ROWS * num_samples)]
        answer = rule.predict(y_prob[: len(ids)])
        # A submission has an answer for every picture.
        answer[~answer.any(axis=1), np.argmax(labels.counts())] = True
        path = folder / "submission.csv"
        write_submission(path, ids, answer, ids)
        assert not check_submission(path, ids, len(CLASS_NAMES)).faults


def peak_bytes():
    """Highest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
