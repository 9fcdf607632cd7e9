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
# Cases whose masks are held at once, all channels in float64.
CASES = 256


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


def localise(model, images, motifs, examples=None):
    """Pointing game and overlap of everything that a network shows of where it looks.

    The mean of a soft mask is of no attribute: it is measured against all motifs of a picture.
    Its channels are asked for one attribute, each attribute's channel chosen on other pictures
    (see `channels_of_attributes`). So are parts, glimpses and activation maps: what the parts add
    to its logit (see `part_maps`), the glimpse whose score is the highest, the map of its class.
    All maps come onto one grid; a glimpse points with its centre, and its mass lies evenly over
    its rectangle.

    Args:
        model: `keras.Model` of `imetlib.training.networks.build_classifier`.
        images, motifs: see `pictures_and_motifs`.
        examples: (images, motifs) of other pictures, which choose the channels of soft masks;
            None: channels are not asked.

    Returns:
        `pandas.DataFrame`, a row for each look: "look" ("<name>_mask", "<name>_mask channels",
        "parts", "strongest part", "glimpses", "activation map"), "hits" (pointing game), "chance"
        (of a blind point), "centre" (who always points at the picture's centre), "off_centre" and
        "off_centre_chance" (hits and chance of cases whose motifs do not cover the centre),
        "share" (of the map's mass inside the boxes), "area" (what a map without preference has),
        "iou", "iou_chance", "num_cases".
    """
    names = {layer.name for layer in model.layers}
    rows = []
    shown = motifs.by_picture()
    of_examples = {} if examples is None else soft_masks(model, examples[0])
    for name, masks in soft_masks(model, images).items():
        maps = enlarge_maps(masks.mean(axis=-1)[shown.pictures], shape=GRID)
        rows.append({"look": name, **measure_maps(maps, shown)})
        if examples is not None:
            channels = channels_of_attributes(of_examples[name], examples[1], motifs.columns)
            maps = enlarge_maps(masks[motifs.pictures, :, :, channels], shape=GRID)
            rows.append({"look": f"{name} channels", **measure_maps(maps, motifs)})
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


def soft_masks(model, images):
    """Soft masks of residual attention, dict of name to `(num_pictures, height, width, channels)`
    float32."""
    masks = {
        name: keras.ops.cast(model.get_layer(name).output, "float32") for name in mask_names(model)
    }
    return tensor_values(model, masks, images) if masks else {}


def channels_of_attributes(masks, motifs, columns):
    """The channel of a mask that follows each attribute best, as network dissection finds it.

    The channel whose highest cells overlap the attribute's motifs best, by mean intersection over
    union (`imetlib.localisation.overlap`), where the original takes one quantile of a channel
    over all pictures.

    Args:
        masks: `(num_pictures, height, width, channels)` float, of pictures to choose on.
        motifs: `Motifs` of these pictures.
        columns: `(num_wanted,)` int, attributes.

    Returns:
        `(num_wanted,)` int, a channel for each of `columns`; for an attribute that no picture
        shows, the channel that follows all others best.

    Reference:
        Bau et al., "Network Dissection", CVPR 2017, section 2.
    """
    steps = range(0, len(motifs), CASES)
    found = [
        overlap(masks[part.pictures], part).iou
        for part in (motifs.take(slice(start, start + CASES)) for start in steps)
    ]
    ious = np.concatenate(found)
    best = {
        column: ious[motifs.columns == column].mean(axis=0).argmax()
        for column in set(columns)
        if (motifs.columns == column).any()
    }
    fallback = ious.mean(axis=0).argmax()
    return np.array([best.get(column, fallback) for column in columns])


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
    return _figures(pointing.hits, pointing.chance, found, found.iou, motifs)


def measure_rectangles(rectangles, motifs):
    """Figures of rectangles `(num_cases, 4)`, see `localise`."""
    found = glimpse_overlap(rectangles, motifs)
    seen = np.clip(rectangles, 0.0, 1.0)
    cases = np.arange(len(motifs))
    even = box_coverage(Motifs(motifs.pictures, motifs.columns, cases, seen), GRID)
    inside = overlap(even, motifs)
    return _figures(found.hits, inside.area, inside, found.iou, motifs)


def _figures(hits, chance, inside, iou, motifs):
    centre = hits_of_points(CENTRE, motifs)
    hits = hits.astype(np.float64)
    return {
        "hits": hits.mean(),
        "chance": chance.mean(),
        "centre": centre.mean(),
        "off_centre": hits[~centre].mean(),
        "off_centre_chance": chance[~centre].mean(),
        "share": inside.share.mean(),
        "area": inside.area.mean(),
        "iou": iou.mean(),
        "iou_chance": inside.chance_iou.mean(),
        "num_cases": len(motifs),
    }
