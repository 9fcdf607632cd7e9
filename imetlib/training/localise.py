"""Where a trained network looks, measured against the motifs of a drawn museum."""

import keras
import numpy as np
import pandas as pd

from imetlib.collection.batches import Batches
from imetlib.collection.motifs import Motifs, read_motifs
from imetlib.localisation import CENTRE, hits_of_points, overlap, pointing_game
from imetlib.localisation_glimpses import glimpse_overlap, glimpse_rectangles, winning_glimpses
from imetlib.localisation_grids import box_coverage, enlarge_maps
from imetlib.models.activation_maps import activation_maps, layer_outputs, tensor_values
from imetlib.models.residual_attention import mask_names
from imetlib.training.fit import preprocessing_of

GRID = (48, 48)


def pictures_and_motifs(data, rows):
    """Pictures of a drawn museum as a network gets them, and where their motifs are.

    Args:
        data: `PreparedCollection` of a drawn museum.
        rows: `(num_pictures,)` int, rows of the training table.

    Returns:
        (`(num_pictures, *image_shape)` uint8, `Motifs`).

    Raises:
        CollectionError: the collection is no drawn museum.
    """
    preprocessing = preprocessing_of(data.profile)
    motifs = read_motifs(
        data.collection, data.collection.train.ids[rows], preprocessing=preprocessing
    )
    batches = Batches(data.train_pictures, rows, preprocessing, batch_size=256)
    return np.concatenate([batches[index] for index in range(len(batches))]), motifs


def localise(model, images, motifs):
    """Pointing game and overlap of everything that a network shows of where it looks.

    Soft masks are of no attribute: they are measured against all motifs of a picture. Parts,
    glimpses and activation maps are asked for one attribute: what the parts add to its logit
    (see `part_maps`), the glimpse whose score is the highest, the map of its class. All maps come
    onto one grid; a glimpse points with its centre, and its mass lies evenly over its rectangle.

    Args:
        model: `keras.Model` of `imetlib.training.networks.build_classifier`.
        images, motifs: see `pictures_and_motifs`.

    Returns:
        `pandas.DataFrame`, a row for each look: "look" ("<name>_mask", "parts", "strongest part",
        "glimpses", "activation map"), "hits" (pointing game), "chance" (of a blind point),
        "centre" (who always points at the picture's centre), "off_centre" and
        "off_centre_chance" (hits and chance of cases whose motifs do not cover the centre),
        "share" (of the map's mass inside the boxes), "area" (what a map without preference has),
        "iou", "iou_chance", "num_cases".
    """
    names = {layer.name for layer in model.layers}
    rows = []
    for name, means in mean_masks(model, images).items():
        shown = motifs.by_picture()
        maps = enlarge_maps(means[shown.pictures], shape=GRID)
        rows.append({"look": name, **measure_maps(maps, shown)})
    if "parts_masks" in names:
        for look, maps in part_maps(model, images, motifs).items():
            rows.append({"look": look, **measure_maps(enlarge_maps(maps, shape=GRID), motifs)})
    if "glimpse_boxes" in names:
        rectangles = winning_rectangles(model, images, motifs)
        rows.append({"look": "glimpses", **measure_rectangles(rectangles, motifs)})
    if {"pooled_mean", "logits"} <= names:
        maps = class_maps(model, images, motifs)
        rows.append({"look": "activation map", **measure_maps(maps, motifs)})
    return pd.DataFrame(rows)


def mean_masks(model, images):
    """Each soft mask's mean over its channels, dict of name to `(num_pictures, height, width)`."""
    masks = {name: model.get_layer(name).output for name in mask_names(model)}
    means = {
        name: keras.ops.mean(keras.ops.cast(mask, "float32"), axis=-1)
        for name, mask in masks.items()
    }
    return tensor_values(model, means, images) if means else {}


def class_maps(model, images, motifs):
    """Class activation map of each case's attribute, `(num_cases, *GRID)` float64."""
    maps = layer_outputs(activation_maps(model), ["activation_maps"], images)["activation_maps"]
    maps = maps[motifs.pictures, :, :, motifs.columns]
    return enlarge_maps(maps, shape=GRID)


def part_maps(model, images, motifs):
    """What the parts show of each case's attribute, two maps `(num_cases, height, width)`.

    Args:
        model, images, motifs: see `localise`.

    Returns:
        dict. "parts": what each place adds to the attribute's logit through all parts; with M the
        masks, F the map and w the last layer's weights, sum over p of M_p(x, y) w_p . F(x, y).
        Its sum over the places is the parts' share of the logit. "strongest part": the mask of
        the part that adds most.
    """
    tensors = dict(zip(("map", "masks"), model.get_layer("parts_features").input, strict=True))
    found = tensor_values(model, tensors, images)
    features, masks = found["map"], found["masks"]
    num_parts, channels = masks.shape[-1], features.shape[-1]
    kernel = model.get_layer("parts_logits").get_weights()[0][: num_parts * channels]
    kernel = kernel.reshape(num_parts, channels, -1)
    added = np.stack(
        [
            np.einsum("hwp,hwc,pc->hwp", masks[row], features[row], kernel[..., column])
            for row, column in zip(motifs.pictures, motifs.columns, strict=True)
        ]
    )
    strongest = added.sum(axis=(1, 2)).argmax(axis=1)
    return {
        "parts": added.sum(axis=-1),
        "strongest part": masks[motifs.pictures, :, :, strongest],
    }


def winning_rectangles(model, images, motifs):
    """Rectangle of the glimpse with the highest score of each case, `(num_cases, 4)`."""
    found = layer_outputs(model, ["glimpse_boxes", "glimpse_scores"], images)
    winners = winning_glimpses(found["glimpse_scores"], motifs)
    boxes = found["glimpse_boxes"][motifs.pictures, winners]
    return glimpse_rectangles(boxes, glimpsed_shape(model))


def glimpsed_shape(model):
    """(height, width) of the map that the glimpses sample."""
    inputs = model.get_layer("glimpse_step0_map").input
    return tuple((inputs[0] if isinstance(inputs, list) else inputs).shape[1:3])


def measure_maps(maps, motifs):
    """Figures of maps `(num_cases, height, width)`, see `localise`."""
    pointing, found = pointing_game(maps, motifs), overlap(maps, motifs)
    return _figures(pointing.hits, pointing.chance, found.share, found.area, found.iou, motifs)


def measure_rectangles(rectangles, motifs):
    """Figures of rectangles `(num_cases, 4)`, see `localise`."""
    found = glimpse_overlap(rectangles, motifs)
    seen = np.clip(rectangles, 0.0, 1.0)
    cases = np.arange(len(motifs))
    even = box_coverage(Motifs(motifs.pictures, motifs.columns, cases, seen), GRID)
    inside = overlap(even, motifs)
    return _figures(found.hits, inside.area, inside.share, inside.area, found.iou, motifs)


def _figures(hits, chance, share, area, iou, motifs):
    centre = hits_of_points(CENTRE, motifs)
    hits = hits.astype(np.float64)
    return {
        "hits": hits.mean(),
        "chance": chance.mean(),
        "centre": centre.mean(),
        "off_centre": hits[~centre].mean(),
        "off_centre_chance": chance[~centre].mean(),
        "share": share.mean(),
        "area": area.mean(),
        "iou": iou.mean(),
        "iou_chance": (area / (2 - area)).mean(),
        "num_cases": len(motifs),
    }
