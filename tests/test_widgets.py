"""The slider shows the scores' own numbers, and nothing where nobody could move it."""

import re

import numpy as np
import pytest

from imetlib import widgets
from imetlib.decisions.fbeta import fbeta_samples
from imetlib.decisions.thresholds import search_threshold
from imetlib.widgets import describe_threshold, has_live_front_end, threshold_slider

NAMES = [f"tag::<{column}>" for column in range(9)]


@pytest.fixture(scope="module")
def scores():
    generator = np.random.default_rng(3)
    y_true = generator.random((40, len(NAMES))) < 0.3
    logits = generator.normal(-1, 1, y_true.shape) + 2 * y_true
    return y_true, (1 / (1 + np.exp(-logits))).astype(np.float32)


def numbers_of(text):
    """F2, precision, recall and labels a picture, as shown."""
    found = re.search(r"F2 ([\d.]+)</b>, precision ([\d.]+), recall ([\d.]+), ([\d.]+) lab", text)
    return [float(number) for number in found.groups()]


def numbers_by_hand(y_true, y_pred):
    hits = (y_true & y_pred).sum(axis=1)
    return [
        fbeta_samples(y_true, y_pred),
        np.mean(hits / np.maximum(y_pred.sum(axis=1), 1)),
        np.mean(hits / np.maximum(y_true.sum(axis=1), 1)),
        y_pred.sum(axis=1).mean(),
    ]


def test_the_text_follows_the_slider(scores):
    ipywidgets = pytest.importorskip("ipywidgets")
    y_true, y_prob = scores
    picture = np.full((30, 20, 3), 200, np.uint8)
    box = threshold_slider(y_true, y_prob, NAMES, [5], [picture], live=True)
    slider, text = box.children
    assert isinstance(slider, ipywidgets.FloatLogSlider)
    search = search_threshold(y_true, y_prob)
    assert slider.value == pytest.approx(search.threshold)
    assert numbers_of(text.value)[0] == pytest.approx(search.score, abs=6e-5)
    assert "data:image/jpeg;base64," in text.value
    for threshold in (0.05, 0.2, 0.6, slider.value):
        slider.value = threshold
        wanted = numbers_by_hand(y_true, y_prob >= np.float32(slider.value))
        np.testing.assert_allclose(numbers_of(text.value), wanted, atol=6e-3)
        assert numbers_of(text.value)[0] == pytest.approx(wanted[0], abs=6e-5)


def test_labels_are_marked_and_escaped(scores):
    y_true, y_prob = scores
    text = describe_threshold(y_true, y_prob, NAMES, 0.2, [2], ["picture.jpg"])
    decided = y_prob[2] >= np.float32(0.2)
    for column in range(len(NAMES)):
        sign = {(1, 1): "+", (1, 0): "–", (0, 1): "×"}.get((y_true[2, column], decided[column]))
        assert (f"{sign} &lt;{column}&gt;<" in text) == (sign is not None)
    assert '<img src="picture.jpg"' in text and "<2>" not in text


def test_nothing_is_shown_without_a_browser_or_the_package(scores, monkeypatch):
    assert not has_live_front_end()
    assert threshold_slider(*scores, NAMES) is None
    assert threshold_slider(*scores, NAMES, live=False) is None
    monkeypatch.setattr(widgets, "find_spec", lambda name: None)
    assert threshold_slider(*scores, NAMES, live=True) is None


def test_a_browser_is_known_by_the_cell_it_asks_for(monkeypatch):
    IPython = pytest.importorskip("IPython")
    request = {"metadata": {"cellId": "a1"}}

    class Kernel:
        def get_parent(self):
            return request

    class Shell:
        kernel = Kernel()

    monkeypatch.setattr(IPython, "get_ipython", Shell)
    assert has_live_front_end()
    request["metadata"] = {}
    assert not has_live_front_end()
    Shell.kernel = None
    assert not has_live_front_end()


def test_bad_input_is_refused_even_where_nothing_is_shown(scores):
    y_true, y_prob = scores
    with pytest.raises(ValueError, match=r"one name a class, 9\. Received: 8"):
        threshold_slider(y_true, y_prob, NAMES[1:])
    with pytest.raises(ValueError, match=r"one picture a row, 2\. Received: 0"):
        threshold_slider(y_true, y_prob, NAMES, [0, 1])
    with pytest.raises(ValueError, match="positive scores"):
        threshold_slider(y_true, np.zeros_like(y_prob), NAMES)
    with pytest.raises(ValueError, match="must be finite"):
        threshold_slider(y_true, np.full_like(y_prob, np.nan), NAMES)
