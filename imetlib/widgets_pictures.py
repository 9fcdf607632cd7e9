"""Widgets that look at pictures: a browser of attributes, an inspector of decided pictures.

Both draw the figures that stand for them elsewhere (`plot_attribute`, `plot_inspection`), and are
shown where `imetlib.widgets.threshold_slider` is: where a person runs the notebook in a browser.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.collection.attribute_search import find_attributes, say_near
from imetlib.figures_attributes import plot_attribute, say_matches
from imetlib.figures_inspection import plot_inspection
from imetlib.widgets import can_show

if TYPE_CHECKING:
    from imetlib.collection.tables import Collection
    from imetlib.decisions.inspection import Inspection

_LINES = 6


def label_browser(
    collection: Collection,
    attribute: str = "",
    *,
    num_pictures: int = 6,
    live: bool | None = None,
) -> Any:
    """Search field over the attributes, with the figure of `plot_attribute` for the one chosen.

    Args:
        collection: `Collection`.
        attribute: str. What is searched at first, see
            `imetlib.collection.attribute_search.find_attributes`; "" lists all, most frequent
            first.
        num_pictures: int >= 1. Example pictures of an attribute.
        live: whether to show it; None shows it where `imetlib.widgets.has_live_front_end`.

    Returns:
        `ipywidgets.VBox` of five: the search field (it takes effect with Enter), the list of what
        was found, a button that draws other examples, a text with the number of attributes by
        group (or what is wrong with the search), and the figure as `ipywidgets.Image`. None where
        it is not to be shown, or without ipywidgets.

    Raises:
        ValueError: no attribute is named like `attribute`; near names are listed.
    """
    counts = collection.train.counts()
    columns = find_attributes(collection.class_names, attribute, counts)
    if not can_show(live):
        return None
    import ipywidgets

    search = ipywidgets.Text(
        value=attribute, description="attribute", placeholder="birds", continuous_update=False
    )
    choice = ipywidgets.Select(rows=_LINES, description="found", layout={"width": "60%"})
    others = ipywidgets.Button(description="other pictures", icon="refresh")
    text, figure = ipywidgets.HTML(), ipywidgets.Image(layout={"max_width": "100%"})
    draws = {"draw": 0}

    def find(change: Any) -> None:
        try:
            found = find_attributes(collection.class_names, change["new"], counts)
        except ValueError as error:
            text.value = _complain(error)
            return
        offer(found)

    def offer(found: np.ndarray) -> None:
        # Else a first one that stays the first would be no change, and nothing would be drawn.
        choice.index = None
        choice.options = [
            (f"{collection.class_names[column]} ({counts[column]:,})", int(column))
            for column in found
        ]
        choice.value = int(found[0])

    def show(change: Any = None) -> None:
        # Nothing is chosen for a moment while the options change.
        if choice.value is None:
            return
        arguments = {"num_pictures": num_pictures, "draw": draws["draw"]}
        try:
            figure.value = draw_png(plot_attribute, collection, choice.value, **arguments)
            found = np.array([column for _, column in choice.options])
            text.value = html.escape(say_matches(collection, found))
        except (ValueError, OSError) as error:
            text.value = _complain(error)

    def draw_others(button: Any) -> None:
        draws["draw"] += 1
        show()

    choice.observe(show, names="value")
    search.observe(find, names="value")
    others.on_click(draw_others)
    offer(columns)
    return ipywidgets.VBox([search, choice, others, text, figure])


def picture_inspector(
    inspect: Callable[[str], Inspection], ids: Sequence[str], *, live: bool | None = None
) -> Any:
    """Field for the id of a picture and slider over all, with the figure of `plot_inspection`.

    Args:
        inspect: function from an id to an `Inspection`, such as `inspect` of
            `imetlib.training.inspection.Inspector`.
        ids: ids of the pictures in the order of the slider, such as from hard to easy.
        live: as in `label_browser`.

    Returns:
        `ipywidgets.VBox` of four: the field (it takes effect with Enter), the slider, a text that
        says which picture is shown or what is wrong with the id, and the figure as
        `ipywidgets.Image`. None where it is not to be shown, or without ipywidgets.

    Raises:
        ValueError: `ids` is empty.
    """
    ids = [str(name) for name in ids]
    if not ids:
        raise ValueError("`ids` must name at least one picture. Received: none")
    if not can_show(live):
        return None
    import ipywidgets

    places = {name: place for place, name in enumerate(ids, start=1)}
    field = ipywidgets.Text(value=ids[0], description="picture id", continuous_update=False)
    slider = ipywidgets.IntSlider(
        value=1,
        min=1,
        max=len(ids),
        description="place",
        continuous_update=False,
        layout={"width": "90%"},
    )
    text, figure = ipywidgets.HTML(), ipywidgets.Image(layout={"max_width": "100%"})

    def find(change: Any = None) -> None:
        wanted = field.value.strip()
        if wanted not in places:
            near = say_near(wanted, ids)
            text.value = _complain(f"No picture {wanted!r} among these {len(ids):,}. {near}")
            return
        # Moving the slider writes this id into the field again, which changes nothing.
        slider.value = places[wanted]
        try:
            figure.value = draw_png(plot_inspection, inspect(wanted))
            text.value = f"Picture {places[wanted]:,} of {len(ids):,}"
        except (ValueError, OSError) as error:
            text.value = _complain(error)

    def move(change: Any) -> None:
        field.value = ids[change["new"] - 1]

    field.observe(find, names="value")
    slider.observe(move, names="value")
    find()
    return ipywidgets.VBox([field, slider, text, figure])


def draw_png(plot: Callable[..., Mapping[str, Any]], *arguments: Any, **settings: Any) -> bytes:
    """What a function draws, as PNG; the figure is closed, so that no cell shows it once more.

    Args:
        plot: function that draws a figure of its own and returns a dict of Axes.
        *arguments, **settings: what it is called with.
    """
    import matplotlib.pyplot as plt

    before = set(plt.get_fignums())
    try:
        file = io.BytesIO()
        next(iter(plot(*arguments, **settings).values())).figure.savefig(file, format="png")
        return file.getvalue()
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)


def _complain(problem: Any) -> str:
    return f'<span style="color:#c4472f">{html.escape(str(problem))}</span>'
