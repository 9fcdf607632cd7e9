"""Widgets that look at pictures: built without a browser, their figures follow what is chosen."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

mpl.use("Agg")

import matplotlib.pyplot as plt

from imetlib import widgets, widgets_pictures
from imetlib.collection.museum import draw_museum
from imetlib.collection.tables import read_collection
from imetlib.decisions.inspection import Inspection
from imetlib.figures_attributes import plot_attribute
from imetlib.figures_inspection import plot_inspection
from imetlib.widgets_pictures import draw_png, label_browser, picture_inspector

pytestmark = pytest.mark.usefixtures("figure_style")

IDS = ["a1", "b2", "c3"]
NAMES = ("tag::birds", "tag::men")


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    folder = draw_museum(tmp_path_factory.mktemp("drawn") / "museum", size=200, image_size=32)
    return read_collection(folder)


def inspect(name):
    if name == "c3":
        raise ValueError("c3 <cannot> be read")
    y_prob = np.array([0.1, 0.8]) if name == "a1" else np.array([0.7, 0.2])
    return Inspection(name, np.zeros((9, 9, 3), np.uint8), NAMES, y_prob, y_prob > 0.5)


def test_browser_begins_with_the_most_frequent_attribute(museum):
    pytest.importorskip("ipywidgets")
    search, choice, others, text, figure = label_browser(museum, live=True).children
    counts = museum.train.counts()
    assert choice.value == int(np.argmax(counts)) and len(choice.options) == museum.num_classes
    assert text.value.startswith(f"{museum.num_classes} attributes (")
    assert Image.open(io.BytesIO(figure.value)).format == "PNG"
    assert figure.value == draw_png(plot_attribute, museum, choice.value)


def test_browser_follows_search_choice_and_button(museum):
    pytest.importorskip("ipywidgets")
    search, choice, others, text, figure = label_browser(museum, live=True).children
    seen = [figure.value]
    first = museum.class_names[choice.value].split("::")[0]
    (group,) = museum.groups.keys() - {first}
    search.value = group
    assert {label.split("::")[0] for label, _ in choice.options} == {group}
    assert text.value.startswith(f"{len(museum.groups[group])} attributes (")
    seen.append(figure.value)
    choice.value = choice.options[3][1]
    assert figure.value == draw_png(plot_attribute, museum, choice.options[3][1])
    choice.value = choice.options[0][1]
    before = figure.value
    others.click()
    seen += [figure.value]
    assert before != figure.value == draw_png(plot_attribute, museum, choice.value, draw=1)
    assert len(set(seen)) == 3


def test_browser_keeps_its_figure_where_nothing_is_found(museum):
    pytest.importorskip("ipywidgets")
    search, choice, others, text, figure = label_browser(museum, live=True).children
    before, options = figure.value, choice.options
    search.value = "brids<b>"
    assert "No attribute is named" in text.value and "Near: " in text.value
    assert "<b>" not in text.value and (figure.value, choice.options) == (before, options)
    search.value = ""
    assert "No attribute" not in text.value


def test_browser_says_when_a_picture_cannot_be_read(museum, monkeypatch):
    pytest.importorskip("ipywidgets")
    search, choice, others, text, figure = label_browser(museum, live=True).children

    def fail(*arguments, **settings):
        plt.figure()
        raise ValueError("train/x.jpg: cut off")

    with monkeypatch.context() as patched:
        patched.setattr(widgets_pictures, "plot_attribute", fail)
        others.click()
    assert "train/x.jpg: cut off" in text.value
    choice.value = choice.options[5][1]
    assert text.value.startswith(f"{museum.num_classes} attributes (")


def test_inspector_follows_slider_and_field():
    pytest.importorskip("ipywidgets")
    field, slider, text, figure = picture_inspector(inspect, IDS, live=True).children
    assert (field.value, slider.value, text.value) == ("a1", 1, "Picture 1 of 3")
    first = figure.value
    assert first == draw_png(plot_inspection, inspect("a1"))
    slider.value = 2
    assert field.value == "b2" and figure.value == draw_png(plot_inspection, inspect("b2")) != first
    field.value = " a1 "
    assert slider.value == 1 and figure.value == first


def test_inspector_names_near_ids_and_what_went_wrong():
    pytest.importorskip("ipywidgets")
    field, slider, text, figure = picture_inspector(inspect, IDS, live=True).children
    before = figure.value
    field.value = "b22"
    assert "No picture &#x27;b22&#x27; among these 3. Near: b2." in text.value
    assert slider.value == 1 and figure.value == before
    slider.value = 3
    assert "c3 &lt;cannot&gt; be read" in text.value and figure.value == before
    slider.value = 2
    assert text.value == "Picture 2 of 3" and figure.value != before


def test_drawing_leaves_no_figure_open():
    before = plt.get_fignums()
    draw_png(plot_inspection, inspect("a1"))
    with pytest.raises(ZeroDivisionError):
        draw_png(lambda: plt.figure() and 1 / 0)
    assert plt.get_fignums() == before


def test_nothing_is_shown_without_a_browser_or_the_package(museum, monkeypatch):
    def must_not(name):
        raise AssertionError("nothing is inspected where nothing is shown")

    for live in (None, False):
        assert label_browser(museum, live=live) is None
        assert picture_inspector(must_not, IDS, live=live) is None
    monkeypatch.setattr(widgets, "find_spec", lambda name: None)
    assert label_browser(museum, live=True) is None
    assert picture_inspector(must_not, IDS, live=True) is None


def test_bad_input_is_refused_even_where_nothing_is_shown(museum):
    with pytest.raises(ValueError, match=r"No attribute is named 'brids'.*Near: "):
        label_browser(museum, "brids")
    with pytest.raises(ValueError, match=r"at least one picture\. Received: none"):
        picture_inspector(inspect, [])
