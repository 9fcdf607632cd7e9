"""A pretrained start without a download: a small network that has seen another drawn museum.

It stands to the pocket museum as ImageNet's weights stand to paintings: other pictures, another
task (all cultures, but only every fifth motif). `fast` can so show both phases of transfer
learning, frozen and fine-tuned. Unlike ImageNet's, the other museum is drawn by the same hand.
"""

import hashlib
import json
from dataclasses import replace

import keras
import numpy as np

from imetlib.collection.batches import Batches
from imetlib.collection.cache import build_cache
from imetlib.collection.museum import DRAWING_VERSION
from imetlib.collection.prepared import drawn_museum
from imetlib.collection.tables import read_collection
from imetlib.files import replacing
from imetlib.paths import runs_folder
from imetlib.training.devices import set_seed
from imetlib.training.fit import augmentation_of, preprocessing_of
from imetlib.training.networks import build_classifier
from imetlib.training.optimizers import compile_model

MUSEUM_SEED = 1
EPOCHS = 6
TAGS_STEP = 5


def starting_weights(profile, out=""):
    """Weights that the networks of a profile start from.

    Args:
        profile: `Profile`.
        out: folder for runs, "" for the project's `runs/`.

    Returns:
        str: in `fast` the path of a `.weights.h5` file of its backbone, trained on first use
        (some 10 s); else the profile's own `weights`.
    """
    if profile.name != "fast":
        return profile.weights
    plain = replace(profile, weights="", epochs=EPOCHS, small_epochs=0, head="mean_max")
    settings = json.dumps([plain.to_dict(), MUSEUM_SEED, TAGS_STEP, DRAWING_VERSION])
    key = hashlib.sha256(settings.encode()).hexdigest()[:8]
    path = runs_folder(out) / f"{profile.backbone}-museum-{key}.weights.h5"
    if not path.is_file():
        backbone = _pretrain(plain, out)
        with replacing(path) as temporary:
            backbone.save_weights(temporary)
    return str(path)


def _pretrain(profile, out):
    """The profile's backbone, trained on a part of the attributes of another museum."""
    folder = drawn_museum(profile, out, seed=MUSEUM_SEED, test_fraction=0.0)
    museum = read_collection(folder)
    side = min(profile.image_shape[:2])
    cache = build_cache(museum, "train", folder / f"pictures-{side}px", min_side=side)
    columns = [*museum.groups["culture"], *museum.groups["tag"][::TAGS_STEP]]
    labels = museum.train.dense()[:, columns]
    set_seed(0, deterministic=profile.deterministic)
    classifier, _ = build_classifier(profile, len(columns), class_frequency=labels.mean(axis=0))
    batches = Batches(
        cache,
        np.arange(len(labels)),
        preprocessing_of(profile),
        labels=labels,
        batch_size=profile.batch_size,
        shuffle=True,
        augmentation=augmentation_of(profile),
    )
    compile_model(classifier, profile, len(batches) * profile.epochs)
    classifier.fit(batches, epochs=profile.epochs, shuffle=False, verbose=0)
    last = classifier.get_layer("pooled_mean").input
    return keras.Model(classifier.input, last, name=profile.backbone)
