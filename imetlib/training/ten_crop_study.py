"""Does ten-crop help? One seed of the whole experiment, and the record that it leaves.

    python -m imetlib.training.ten_crop_study results/cifar10 --seed 0

Networks that are trained already are read, so an ended run goes on where it stopped. The test set
is opened once, when everything is trained and every choice is made on held-out pictures.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.special import softmax

from imetlib.collection.cifar10 import load_cifar10
from imetlib.collection.museum_classes import draw_museum_classes
from imetlib.collection.shifts import mirror_pictures, shift_pictures
from imetlib.delivery.records import new_record, replace_record
from imetlib.files import replacing
from imetlib.models.crop_classifier import image_views_model
from imetlib.paths import runs_folder
from imetlib.training.data_parallel import use_devices
from imetlib.training.devices import accelerator_names, describe_devices
from imetlib.training.predict import clear_memory
from imetlib.training.ten_crop import (
    feature_network,
    features_of,
    frozen_views,
    is_trained,
    load_head,
    load_network,
    predict,
    read_facts,
    train_head,
    train_whole,
)
from imetlib.training.ten_crop_run import (
    BASE,
    HEADS,
    SETTINGS,
    WHOLE,
    pictures_sha256,
    settings_of,
    start_run,
)

ANSWERS_FILE = "answers.npz"
# Padding of the picture that its ten windows are cut from; one of them is chosen on held-out
# pictures.
PADDINGS = (1, 2, 4)
PICTURE_VIEWS = ("two pictures", *(f"ten pictures, padding {padding}" for padding in PADDINGS))
# What a test transform that should not be there draws, and how often it is drawn anew.
TRANSFORMS = ("flip", "crop and flip")
NUM_DRAWS = 3


def pictures_of(profile, path=""):
    """`ClassifiedPictures` of a profile: `fast` always draws the museum's objects, `full` takes
    CIFAR-10 (see `load_cifar10`)."""
    return draw_museum_classes() if profile == "fast" else load_cifar10(path)


def train_run(run, *, verbose=0, progress=print):
    """Train all networks and heads of a run that are not trained yet.

    Args:
        run: `TenCropRun`.
        verbose: as in `keras.Model.fit`.
        progress: called with a line of text after each of them.

    Returns:
        dict of name to facts, see `train_whole`.
    """
    facts = {}
    for name in WHOLE:
        facts[name] = train_whole(run, name, verbose=verbose)
        progress(f"{name}: held-out {facts[name]['held_out']:.4f}")
    # Computed only when a head is missing: at CIFAR-10's size it is 1.3 GB.
    views = None if all(is_trained(run, name) for name in HEADS) else frozen_views(run)
    for name in HEADS:
        facts[name] = train_head(run, name, views, verbose=verbose)
        progress(f"{name}: held-out {facts[name]['held_out']:.4f}")
    return facts


def answer(run, images):
    """The class that each network, view and transform gives to pictures.

    Args:
        run: `TenCropRun` whose networks are all trained.
        images: `(num_pictures, height, width, 3)` uint8.

    Returns:
        dict of name to `(num_pictures,)` uint8: the keys of `WHOLE` and `HEADS`,
        `PICTURE_VIEWS` of the base, and "<transform>, draw <k>", of the base on pictures that are
        transformed at random, as they should not be tested.

    Raises:
        ValueError: a network is not trained yet.
    """
    networks = {name: load_network(run, name) for name in WHOLE}
    found = {name: predict(network, images) for name, network in networks.items()}
    base = networks[BASE]
    maps = features_of(feature_network(base), images)
    for name in HEADS:
        found[name] = predict(load_head(run, name, maps.shape[1:]), maps)
    mirrored = predict(base, images[:, :, ::-1])
    found["two pictures"] = softmax(found[BASE], axis=1) + softmax(mirrored, axis=1)
    for padding in PADDINGS:
        views = image_views_model(base, images.shape[1:], padding=padding)
        found[f"ten pictures, padding {padding}"] = predict(views, images, batch_size=100)
    for transform in TRANSFORMS:
        for draw in range(NUM_DRAWS):
            generator = np.random.default_rng([run.seed, draw])
            moved = images
            if transform == "crop and flip":
                moved = shift_pictures(images, generator, run.settings.padding)
            moved = mirror_pictures(moved, generator)
            found[f"{transform}, draw {draw}"] = predict(base, moved)
    clear_memory()
    return {name: scores.argmax(axis=1).astype(np.uint8) for name, scores in found.items()}


@use_devices(1)
def finish_run(run, target):
    """Choose on the held-out pictures, open the test set, and write what is committed.

    Args:
        run: `TenCropRun` whose networks are all trained.
        target: folder; gets `record.json`, `answers.npz` (see `answer`, and "labels"), and the
            history of each network, `<network>.csv`.

    Returns:
        the record, a dict; `scores` holds "held_out" and "test" top-1 of each answer, `devices`
        what each network was trained on, `chosen_padding` that of `PADDINGS` with the best
        held-out score, the least of equal ones.

    Raises:
        ValueError: a network is not trained yet.
    """
    pictures, target = run.pictures, Path(target)
    held_out = pictures.train_labels[run.held_out]
    # All at once: most of a small run's time goes into compiling.
    found = answer(run, np.concatenate([pictures.train_images[run.held_out], pictures.test_images]))
    answers = {name: values[len(held_out) :] for name, values in found.items()}
    scores = {
        name: {
            "held_out": _top1(found[name][: len(held_out)], held_out),
            "test": _top1(answers[name], pictures.test_labels),
        }
        for name in found
    }
    chosen = max(PADDINGS, key=lambda p: scores[f"ten pictures, padding {p}"]["held_out"])
    facts = {name: read_facts(run, name) for name in (*WHOLE, *HEADS)}
    counts = np.bincount(pictures.test_labels)
    record = new_record(
        f"seed{run.seed}",
        profile=run.settings.profile,
        seed=run.seed,
        split="test",
        image_shape=pictures.test_images.shape[1:],
        collection_sha256=pictures_sha256(pictures),
        metric="top-1",
        score=scores[BASE]["test"],
        constant_score=float(counts.max() / counts.sum()),
        num_samples=len(pictures.test_labels),
        parameters=asdict(run.settings),
        scores=scores,
        chosen_padding=chosen,
        seconds={name: found["seconds"] for name, found in facts.items()},
        num_params={name: found["num_params"] for name, found in facts.items()},
        devices={name: found["device"] for name, found in facts.items()},
        pictures=pictures.source,
        device=accelerator_names(),
        device_details=describe_devices(),
    )
    with replacing(target / ANSWERS_FILE) as path:
        np.savez_compressed(path, labels=pictures.test_labels.astype(np.uint8), **answers)
    for name in facts:
        history = run.path(name, ".csv")
        with replacing(target / history.name) as path:
            path.write_bytes(history.read_bytes())
    replace_record(target, record)
    return record


def _top1(answers, labels):
    return float((answers == labels).mean())


def main():
    """Run one seed from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", help="folder of the records, for example results/cifar10")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", choices=tuple(SETTINGS), default="full")
    parser.add_argument("--cifar", default="", help="file of CIFAR-10, .npz")
    parser.add_argument("--out", default="", help="folder for runs")
    overrides = ("epochs", "joint_epochs", "head_epochs", "batch_size", "learning_rate")
    for name in overrides:
        kind = float if name == "learning_rate" else int
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None)
    given = parser.parse_args()
    settings = settings_of(given.profile, **{name: getattr(given, name) for name in overrides})
    pictures = pictures_of(given.profile, given.cifar)
    name = f"seed{given.seed}"
    folder = runs_folder(given.out) / f"ten-crop-{given.profile}" / name
    run = start_run(pictures, settings, given.seed, folder)
    train_run(run, verbose=2)
    record = finish_run(run, Path(given.target) / name)
    for name, scores in record["scores"].items():
        print(f"{name}: {scores}")


if __name__ == "__main__":
    main()
