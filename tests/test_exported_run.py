"""What an exported run does around its networks: views, means, order, faults. Needs no engine."""

import types

import numpy as np
import pytest

from imetlib.collection.cachefiles import cache_of_images
from imetlib.collection.geometry import Preprocessing, prepare
from imetlib.decisions.exclusive import share_in_groups
from imetlib.exported_run import ExportedRun

NAMES = ("culture::a", "culture::b", "tag::c")
SMALL, WIDE = Preprocessing((8, 8, 3)), Preprocessing((6, 12, 3), "pad")
RNG = np.random.default_rng(0)
HEAD = RNG.standard_normal((4, 3)).astype(np.float32)


def stub(preprocessing, units, seed):
    """A linear network in NumPy with the interface of OpenVINO's, and its weights."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((int(np.prod(preprocessing.image_shape)), units)) / 2000
    return of_function(lambda batch: batch.reshape(len(batch), -1) @ weights), weights


def of_function(function):
    def create():
        return types.SimpleNamespace(infer=lambda inputs: {0: np.float32(function(inputs[0]))})

    return types.SimpleNamespace(create_infer_request=create)


@pytest.fixture
def run(tmp_path):
    networks = [stub(SMALL, 3, 1), stub(SMALL, 3, 2), stub(WIDE, 4, 3)]
    members = [
        {"network": 0, "head": None, "exclusive_groups": ["culture"]},
        {"network": 1, "head": None, "exclusive_groups": []},
        {"network": 2, "head": "head2.xml", "exclusive_groups": []},
    ]
    kinds = [(SMALL, False), (SMALL, True), (WIDE, True)]
    parts = [(network, *kind) for (network, _), kind in zip(networks, kinds, strict=True)]
    heads = {"head2.xml": of_function(lambda x: (np.square(x) + x) @ HEAD)}
    opened = ExportedRun(tmp_path, {"members": members}, NAMES, 0.5, parts, heads, 2)
    return opened, [weights for _, weights in networks]


def pictures(count):
    return [RNG.integers(0, 256, (9 + 3 * x, 20, 3), dtype=np.uint8) for x in range(count)]


def expected(images, weights):
    """The mean of all members, picture by picture."""
    rows = []
    for image in images:

        def views(preprocessing, image=image):
            small = cache_of_images([image], ["x"], preprocessing.min_side).read(0)
            flat = [prepare(small, preprocessing, flip=flip).ravel() for flip in (False, True)]
            return np.float64(flat)

        first = views(SMALL)[:1] @ weights[0]
        second = (views(SMALL) @ weights[1]).mean(axis=0, keepdims=True)
        third = (views(WIDE) @ weights[2]).mean(axis=0, keepdims=True)
        third = (np.square(third) + third) @ HEAD
        members = [share_in_groups(np.float32(first), NAMES, ["culture"]), second, third]
        rows.append(np.mean(members, axis=0)[0])
    return np.array(rows)


def test_mean_of_views_and_members(run):
    opened, weights = run
    images = pictures(7)
    scores = opened.predict(images)
    np.testing.assert_allclose(scores.logits, expected(images, weights), atol=1e-4)
    assert scores.logits.std() > 0.1
    found = opened.predict_files(images, ids=list("abcdefg"), k=2, batch_size=3)
    assert found.ids == tuple("abcdefg")
    np.testing.assert_allclose(
        np.sort(found.logits), np.sort(expected(images, weights))[:, 1:], atol=1e-4
    )


def test_what_is_no_picture_is_left_out_and_counted(run):
    opened, weights = run
    images = pictures(5)
    images[1] = np.zeros((4, 4), np.uint8)
    counts = []
    found = opened.predict_files(images, k=3, batch_size=2, on_batch=counts.append)
    assert counts == [2, 2, 1] and len(found.ids) == 4
    assert "must be (height, width, 3) uint8" in str(found.faults[0])
    kept = [image for number, image in enumerate(images) if number != 1]
    np.testing.assert_allclose(found.scores.dense(), expected(kept, weights), atol=1e-4)


def test_a_network_that_diverged_is_named(run):
    opened, _ = run
    opened.heads["head2.xml"] = of_function(lambda x: np.full((len(x), 3), np.nan))
    with pytest.raises(ValueError, match="must be finite"):
        opened.predict_files(pictures(2))
