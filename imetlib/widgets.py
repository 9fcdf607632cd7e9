"""A slider over the threshold, where a person runs the notebook in a browser.

Elsewhere nothing is shown: the figure of `imetlib.figures_decisions.plot_label_sets` stands in
its place, so that a notebook run in batch stores no state of a widget. Widgets that look at
pictures are in `imetlib.widgets_pictures` and decide in the same way.
"""

from __future__ import annotations

import base64
import html
import io
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from imetlib.collection.images import shrink
from imetlib.decisions.cases import check_scores
from imetlib.decisions.stability import trace_thresholds
from imetlib.decisions.thresholds import search_threshold
from imetlib.figures_decisions import VERDICTS, judge_labels

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

_PICTURE_PIXELS = 120
_STEPS_A_DECADE = 50


def threshold_slider(
    y_true: Labels,
    y_prob: np.ndarray,
    class_names: Sequence[str],
    rows: Sequence[int] = (),
    pictures: Sequence[np.ndarray] = (),
    *,
    live: bool | None = None,
) -> Any:
    """Slider over the global threshold with F2, precision, recall and some pictures' labels.

    Args:
        y_true: labels of all samples, in any form that `fbeta_samples` takes.
        y_prob: `(num_samples, num_classes)` float in (0, 1], or any positive scores.
        class_names: `num_classes` names `group::name`.
        rows: samples that are shown with their label sets.
        pictures: their `(height, width, 3)` uint8 pictures, in the same order.
        live: whether to show it; None shows it where `has_live_front_end`.

    Returns:
        `ipywidgets.VBox` that begins at the best threshold; its first child is the slider, its
        second the text, which follows. None where it is not to be shown, or without ipywidgets.

    Raises:
        ValueError: the shapes differ, a score is not finite or none is positive, or not one
            name a class or one picture a row.
    """
    y_prob = np.asarray(check_scores(y_prob))
    if len(class_names) != y_prob.shape[1]:
        raise ValueError(
            f"`class_names` must have one name a class, {y_prob.shape[1]}. "
            f"Received: {len(class_names)}"
        )
    if len(rows) != len(pictures):
        raise ValueError(
            f"`pictures` must hold one picture a row, {len(rows)}. Received: {len(pictures)}"
        )
    if not y_prob.max() > 0:
        raise ValueError(f"`y_prob` must hold positive scores. Received: at most {y_prob.max()}")
    if not can_show(live):
        return None
    import ipywidgets

    best = search_threshold(y_true, y_prob).threshold
    highest = float(y_prob.max())
    slider = ipywidgets.FloatLogSlider(
        value=max(best, highest / 1e4),
        min=np.log10(highest) - 4,
        max=np.log10(highest),
        step=1 / _STEPS_A_DECADE,
        description="threshold",
        readout_format=".4f",
        layout={"width": "90%"},
    )
    sources = [_picture_source(picture) for picture in pictures]
    text = ipywidgets.HTML(describe_threshold(y_true, y_prob, class_names, best, rows, sources))

    def follow(change):
        text.value = describe_threshold(y_true, y_prob, class_names, change["new"], rows, sources)

    slider.observe(follow, names="value")
    return ipywidgets.VBox([slider, text])


def describe_threshold(
    y_true: Labels,
    y_prob: np.ndarray,
    class_names: Sequence[str],
    threshold: float,
    rows: Sequence[int] = (),
    sources: Sequence[str] = (),
) -> str:
    """What a threshold does, as HTML: the scores of all samples, the label sets of some.

    Args:
        y_true, y_prob, class_names, rows: as in `threshold_slider`.
        threshold: float. A label is decided at or above it, in float32; no label is added to a
            picture without one.
        sources: addresses of the pictures of `rows`, for `<img src=...>`.
    """
    curves = trace_thresholds(y_true, y_prob, np.array([threshold]))
    numbers = (
        f"<b>F2 {curves.scores[0]:.4f}</b>, precision {curves.precision[0]:.3f}, "
        f"recall {curves.recall[0]:.3f}, {curves.num_labels[0]:.2f} labels a picture, "
        f"{curves.unanswered[0]:.1%} of the pictures without any"
    )
    parts = [f"<p>{numbers}</p>"]
    for row, source in zip(rows, sources, strict=True):
        verdicts = judge_labels(y_true, y_prob, class_names, row, threshold)
        names = ", ".join(
            f'<span style="color:{colour}">{sign} {html.escape(name)}</span>'
            for kind, (colour, sign) in VERDICTS.items()
            for name in verdicts[kind]
        )
        parts.append(
            '<div style="display:flex;gap:1em;margin:.4em 0">'
            f'<img src="{source}" alt="" style="width:{_PICTURE_PIXELS}px"><div>{names}</div></div>'
        )
    return "".join(parts)


def can_show(live: bool | None) -> bool:
    """Whether a widget is to be shown and can be.

    Args:
        live: the caller's wish; None: where `has_live_front_end`.
    """
    return (has_live_front_end() if live is None else live) and bool(find_spec("ipywidgets"))


def has_live_front_end() -> bool:
    """Whether a browser asked for the cell that runs now.

    JupyterLab, Notebook 7 and VS Code send the id of the cell along; what runs notebooks in batch
    (papermill, nbconvert, nbval) does not, whatever it was started from.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    get_parent = getattr(getattr(shell, "kernel", None), "get_parent", None)
    request = get_parent() if get_parent else None
    return bool((request or {}).get("metadata", {}).get("cellId"))


def _picture_source(picture: np.ndarray) -> str:
    """A small JPEG as an address that holds the picture itself."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(shrink(picture, _PICTURE_PIXELS)).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
