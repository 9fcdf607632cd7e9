"""A finished run becomes a folder that predicts by OpenVINO, without Keras and TensorFlow.

Every network, folds and members alike, becomes one file, with its normalisation in it: it takes
uint8 pictures. Each is compared with Keras as it is written.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from imetlib.collection.geometry import prepare
from imetlib.decisions.saved_rules import RULE_FILE, load_rule
from imetlib.delivery.machine import environment
from imetlib.exported_files import (
    FORMAT,
    compile_network,
    import_openvino,
    open_export,
    write_export,
)
from imetlib.files import making_folder
from imetlib.quiet import keras
from imetlib.training.closed_form import apply_head, load_head
from imetlib.training.fit import preprocessing_of
from imetlib.training.kernel import KernelHead
from imetlib.training.load import load_member, load_run
from imetlib.training.predict import clear_memory
from imetlib.training.run_files import profile_of

# Of the largest number that Keras says of the drawn pictures, or of 1.
TOLERANCE = 1e-3
_NUM_DRAWN = 8


def export_run(run_folder, folder, *, progress=None):
    """Write the networks of a run, its heads, rule and class names as a folder of their own.

    All compute in float32, whatever precision they were trained in.

    Args:
        run_folder: folder of a finished run: one network or head, all folds of one, or a blend.
        folder: new or empty folder.
        progress: called with a line of text after each file, or None.

    Returns:
        what `export.json` holds, a dict: "differences" has the greatest difference from Keras on
        a few drawn pictures, and that of bfloat16 from float32 where this processor has it.

    Raises:
        ValueError: no finished run, a folder that holds something, a rule of other classes, a
            network that OpenVINO cannot take or answers otherwise than Keras; OpenVINO is not
            installed, or Keras runs on another backend than tensorflow.
        FileNotFoundError: a weights file that the run was built on is missing.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists and is not an empty folder; nothing was written. Name another."
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Networks are exported from tensorflow, and Keras runs on {keras.backend.backend()} "
            "here: set KERAS_BACKEND=tensorflow. A run of any backend opens there."
        )
    import_openvino()
    trained = load_run(run_folder)
    rule = trained.folder / RULE_FILE
    with making_folder(folder) as temporary:
        temporary.mkdir()
        if rule.is_file():
            load_rule(rule, trained.class_names)  # refuses one of other classes
            shutil.copyfile(rule, temporary / RULE_FILE)
        networks, members, difference = _write_networks(trained, temporary, progress)
        record = {
            "format": FORMAT,
            "run": trained.record["run"],
            "class_names": list(trained.class_names),
            "threshold": trained.threshold,
            "networks": networks,
            "members": members,
            "differences": {"float32": difference},
            "environment": environment(),
        }
        write_export(temporary, record)
        moved = _difference_of_bfloat16(temporary)
        if moved is not None:
            record["differences"]["bfloat16"] = moved
            write_export(temporary, record)
    return record


def convert_network(model, path):
    """Write a Keras model as OpenVINO's two files, in float32.

    Args:
        model: `keras.Model` with one input and one output.
        path: `pathlib.Path`, `.xml`; the weights lie beside it as `.bin`.

    Raises:
        ValueError: OpenVINO cannot take the model.
    """
    import_openvino()
    try:
        model.export(str(path), format="openvino", verbose=False)
    except Exception as error:  # of the converter, which has many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path.name}: OpenVINO cannot take this network: {reason}") from error


def head_network(head, num_features):
    """A closed-form head as a network.

    Args:
        head: `RidgeHead` or `KernelHead`.
        num_features: int, features of all layers; a head may take fewer, the last.

    Returns:
        `keras.Model` from `(batch, num_features)` float32 to `(batch, num_classes)` logits.
    """
    features = keras.Input((num_features,), dtype="float32")
    if not isinstance(head, KernelHead):
        x = features[:, -len(head.kernel) :]
        return keras.Model(features, _dense(x, head.kernel, head.bias))
    x = features[:, -len(head.mean) :]
    x = keras.ops.sign(x) * keras.ops.sqrt(keras.ops.abs(x))
    x = keras.layers.Normalization(mean=head.mean, variance=head.scale**2)(x)
    x = keras.ops.clip(x, -6.0, 6.0)
    # |x - l|^2 = |x|^2 - (2 x l - |l|^2)
    squares = keras.ops.sum(keras.ops.square(x), axis=1, keepdims=True)
    landmarks = head.landmarks.T
    rest = _dense(x, 2.0 * landmarks, -np.square(landmarks).sum(axis=0))
    gaussians = keras.ops.exp(keras.ops.relu(squares - rest) / -head.width)
    return keras.Model(features, _dense(gaussians, head.kernel, head.bias))


def _dense(x, kernel, bias):
    layer = keras.layers.Dense(kernel.shape[1])
    y = layer(x)
    layer.set_weights([kernel, bias])
    return y


def _write_networks(trained, folder, progress):
    """The files of all members; what `export.json` says of networks and members, and the greatest
    difference from Keras."""
    networks, members, differences, extractors = [], [], [], {}
    for number, (member_folder, record) in enumerate(trained.members):
        profile = profile_of(record["parameters"], member_folder)
        # An open shape, where pictures grew in training, costs time in every answer.
        profile = replace(profile, precision="float32", small_epochs=0)
        preprocessing = preprocessing_of(profile)
        closed = record["method"] != "network"
        # Heads on the same features share them; a model file is copied to each run by its name.
        backbone = (Path(profile.backbone).name, profile.normalisation, record["weights_sha256"])
        key = (*backbone, preprocessing) if closed else number
        if key not in extractors:
            model = load_member(member_folder, record, profile, len(trained.class_names))
            entry = {
                "file": f"network{len(networks)}.xml",
                "preprocessing": preprocessing.to_dict(),
                "mirror_view": closed or profile.mirror_view,
            }
            batch = np.stack([prepare(x, preprocessing) for x in draw_pictures()])
            answers = model.predict_on_batch(batch)
            convert_network(model, folder / entry["file"])
            differences.append(_compare(folder / entry["file"], batch, answers))
            extractors[key] = len(networks), answers
            networks.append(entry)
            clear_memory()
            if progress is not None:
                progress(f"{entry['file']}: {record['run']}, {differences[-1]:.1g} from Keras")
        network, answers = extractors[key]
        entry = {
            "network": network,
            "head": None,
            "exclusive_groups": list(record.get("exclusive_groups", ())),
        }
        if closed:
            head = load_head(member_folder, record["method"])
            entry["head"] = f"head{number}.xml"
            convert_network(head_network(head, answers.shape[1]), folder / entry["head"])
            wanted = apply_head(head, answers)
            differences.append(_compare(folder / entry["head"], answers, wanted))
            clear_memory()
        members.append(entry)
    return networks, members, max(differences)


def _compare(path, batch, wanted):
    """The greatest difference between a file's answers and those of Keras."""
    network = compile_network(path, "float32", 1)
    difference = float(np.abs(network(batch)[0] - wanted).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        raise ValueError(
            f"{path.name}: OpenVINO answers otherwise than Keras, by {difference:.2g}: this "
            "network cannot be exported"
        )
    return difference


def _difference_of_bfloat16(folder):
    """How far bfloat16 moves the logits of drawn pictures; None where the processor lacks it."""
    pictures = draw_pictures()
    logits = open_export(folder, threads=1).predict(pictures).logits
    try:
        other = open_export(folder, precision="bfloat16", threads=1)
    except ValueError:
        return None
    return float(np.abs(other.predict(pictures).logits - logits).max())


def draw_pictures(count=_NUM_DRAWN):
    """Pictures to compare answers on: soft patches of colour with grain, of several shapes.

    Args:
        count: int >= 1.

    Returns:
        list of `(height, width, 3)` uint8 arrays, the same at each call.
    """
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        longer = 300 + 40 * (number % 8)
        size = (300, longer) if number % 2 else (longer, 300)
        patches = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        soft = cv2.resize(patches, size, interpolation=cv2.INTER_CUBIC).astype(np.int16)
        grain = rng.integers(-12, 13, soft.shape, dtype=np.int16)
        pictures.append(np.clip(soft + grain, 0, 255).astype(np.uint8))
    return pictures
