"""What many tests share: a small drawn museum, the same museum ready for training, a marker."""

import ast
import functools
import os
import sys
from pathlib import Path

import numpy as np
import pytest

# Scripts that tests start: importing one splits the processor in two, or needs Ray.
collect_ignore = ["tag_on_ray.py", "two_devices.py", "two_processes.py"]
# Who imports one of these runs on Keras's backend.
ON_A_BACKEND = ("keras", "imetlib.models", "imetlib.training", "imetlib.quiet")


def pytest_collection_modifyitems(items):
    """Mark every test and doctest that runs on Keras's backend: `make test-backends` takes them.
    On torch, which has another compiler, skip what XLA compiles."""
    for item in items:
        if runs_on_a_backend(item.path):
            item.add_marker("keras")
        if item.get_closest_marker("xla") and os.environ.get("KERAS_BACKEND") == "torch":
            item.add_marker(pytest.mark.skip(reason="XLA compiles for TensorFlow and jax"))


@functools.cache
def runs_on_a_backend(path):
    """Whether a module stands in `models/` or `training/`, or imports them or Keras anywhere."""
    if path.parent.name in ("models", "training"):
        return True
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return any(f"{name}.".startswith(f"{known}.") for name in names for known in ON_A_BACKEND)


@pytest.fixture(autouse=True)
def no_determinism_left():
    """TensorFlow keeps to repeatable operations once it was told to, and refuses XLA then."""
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework.config import disable_op_determinism

        disable_op_determinism()


@pytest.fixture(scope="session")
def tiny_profile():
    """The fast profile at its smallest: 200 pictures at 32 px, 3 folds, one epoch."""
    from imetlib.profiles import get_profile

    return get_profile(
        "fast",
        museum_size=200,
        museum_side=48,
        image_shape=(32, 32, 3),
        epochs=1,
        num_folds=3,
        batch_size=50,
    )


@pytest.fixture(scope="session")
def museum(tmp_path_factory, tiny_profile):
    """Folder of a drawn museum: 200 pictures, shorter side 48 px."""
    from imetlib.collection.prepared import locate_collection

    return locate_collection(tiny_profile, out=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def prepared(museum, tiny_profile):
    """`PreparedCollection` of the museum in the tiny profile."""
    from imetlib.collection.prepared import prepare_collection

    return prepare_collection(tiny_profile, out=museum.parent)


@pytest.fixture(scope="session")
def untrained_run(prepared):
    """Function that fills a folder as notebook 08 leaves one, with networks of all folds that are
    untrained but for the bias, and the rule of one threshold."""
    from imetlib.collection.prepared import with_settings
    from imetlib.decisions.rules import GlobalThreshold
    from imetlib.decisions.saved_rules import save_rule
    from imetlib.scores import load_scores
    from imetlib.training.runs import train_all_folds

    def fill(folder):
        train_all_folds(with_settings(prepared, epochs=0), folder)
        rule, labels = GlobalThreshold(), prepared.collection.train
        scores = load_scores(folder / "scores-oof.npz")
        rule.fit(scores.y_prob, labels.take(labels.rows_of(scores.ids)), scores.class_names)
        save_rule(folder / "rule.json", rule, scores.class_names)
        return folder

    return fill


@pytest.fixture(scope="session")
def corel5k():
    """Labels, out-of-fold scores, folds and class names of 5,000 real pictures."""
    if "IMETLIB_DATA" not in os.environ:
        pytest.skip("IMETLIB_DATA is not set")
    file = np.load(Path(os.environ["IMETLIB_DATA"]) / "scores" / "corel5k_mlp_oof.npz")
    y_true = np.unpackbits(file["labels_packed"], axis=1)[:, : int(file["n_labels"])].astype(bool)
    return y_true, file["scores"], file["fold"], file["label_names"].tolist()


@pytest.fixture
def figure_style():
    """The look of the project's figures; what a test drew is closed after it."""
    import matplotlib.pyplot as plt

    from imetlib.figures import use_style

    with plt.rc_context():
        use_style()
        yield
    plt.close("all")
