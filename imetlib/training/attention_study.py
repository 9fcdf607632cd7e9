"""Attention beside the same backbone without it: runs, what attention is worth, where it looks."""

from pathlib import Path

import pandas as pd

from imetlib.collection.prepared import with_settings
from imetlib.decisions.fbeta import fbeta_per_sample
from imetlib.decisions.label_sets import decide
from imetlib.decisions.thresholds import search_threshold
from imetlib.delivery.records import read_record
from imetlib.models.multi_attention import ablate_parts
from imetlib.models.recurrent_attention import fix_glimpses
from imetlib.models.residual_attention import mask_names
from imetlib.training.ablation import paired_difference
from imetlib.training.devices import set_seed
from imetlib.training.fit import preprocessing_of
from imetlib.training.fold_runs import HOLDOUT, inner_folds, train_fold
from imetlib.training.localise import localise, pictures_and_motifs
from imetlib.training.networks import build_classifier, load_classifier
from imetlib.training.predict import clear_memory, predict_scores
from imetlib.training.run_files import profile_of
from imetlib.training.scoring import truth_of

# Below a collection's workspace: studies share their plain runs.
STUDY_FOLDER = "attention"
# What a study compares, name of the network to settings; the plain network first.
MUSEUM = {
    "residual": {
        "trunk alone": {"backbone": "residual_small"},
        "residual attention": {"backbone": "residual_attention_small"},
    },
    "multi": {
        "plain": {},
        "multi-attention": {"attention": "multi", "attention_stride": 8},
    },
    "recurrent": {
        "plain": {},
        "recurrent attention": {
            "attention": "recurrent",
            "attention_stride": 16,
            "plain_head": False,
        },
    },
}
# Attention on a pretrained backbone, beside its plain head. A soft mask wants a large map.
PRETRAINED = {
    "residual": {"residual attention": {"attention": "residual", "attention_stride": 8}},
    "multi": {"multi-attention": {"attention": "multi", "attention_stride": 16}},
    "recurrent": {"recurrent attention": {"attention": "recurrent", "attention_stride": 16}},
}


def variants_of(attention, profile):
    """Networks of a study, name to settings, the plain one first.

    Args:
        attention: "residual", "multi" or "recurrent".
        profile: `Profile`. In `fast` small networks from scratch; else attention on an earlier
            map of the profile's backbone, beside its plain head.

    Raises:
        ValueError: unknown attention.
    """
    if attention not in MUSEUM:
        raise ValueError(f"Unknown attention {attention!r}. Known: {', '.join(MUSEUM)}")
    if profile.name == "fast":
        return MUSEUM[attention]
    return {"plain": {}, **PRETRAINED[attention]}


def small_settings(profile):
    """Settings of a notebook's networks: in `fast` 16 base filters, else the profile's own.

    Args:
        profile: name of the profile.
    """
    return {"backbone": "small_convnet_16"} if profile == "fast" else {}


def run_name(variant, seed):
    """Name of a run folder: "residual-attention-seed0"."""
    return f"{variant.replace(' ', '-')}-seed{seed}"


def train_variants(data, variants, folder, *, seeds=(0,), verbose=0):
    """Train each network with each seed on the same rows, for as many epochs.

    Args:
        data: `PreparedCollection`.
        variants: dict of name to settings, see `variants_of`.
        folder: run folders go below it. A finished run is read back.
        seeds: ints.
        verbose: see `imetlib.training.fit.train_network`.

    Returns:
        list of records, one a network and seed.
    """
    records = []
    for name, settings in variants.items():
        for seed in seeds:
            if verbose:
                print(f"{name}, seed {seed}", flush=True)
            changed = with_settings(data, **settings)
            path = Path(folder) / run_name(name, seed)
            records.append(train_fold(changed, path, 1, seed=seed, verbose=verbose))
    return records


def study_table(data, variants, folder, seeds=(0,)):
    """Scores of a study, network by network and seed by seed.

    Args:
        data, variants, folder, seeds: of `train_variants`.

    Returns:
        `pandas.DataFrame`: "network", "seed", "score" (F2 of the holdout), "constant_score",
        "num_params", "macs", "seconds", "best_epoch", and "difference", "low", "high": F2 above
        the first network of the same seed and its 95 % interval, paired by picture.
    """
    rows = []
    for seed in seeds:
        plain = Path(folder) / run_name(next(iter(variants)), seed)
        for name in variants:
            path = Path(folder) / run_name(name, seed)
            record = read_record(path)
            kept = ("score", "constant_score", "num_params", "macs", "seconds", "best_epoch")
            row = {"network": name, "seed": seed, **{key: record[key] for key in kept}}
            found = paired_difference(data.collection, path, plain)
            low, high = found["interval"]
            rows.append(row | {"difference": found["difference"], "low": low, "high": high})
    return pd.DataFrame(rows)


def seed_differences(table):
    """Rows of `study_table` for `imetlib.figures_training.plot_differences`.

    Args:
        table: `pandas.DataFrame` of `study_table`, or the one committed.

    Returns:
        dict "<network>, seed <k>" to dict with "difference" and "interval".
    """
    return {
        f"{row.network}, seed {row.seed}": {
            "difference": row.difference,
            "interval": (row.low, row.high),
        }
        for row in table.itertuples()
    }


def load_network(data, folder, *, trained=True):
    """The network of a study's run folder, and its record.

    Args:
        data: `PreparedCollection`.
        folder: a run folder of `train_variants`.
        trained: bool. False: the network as it started.

    Returns:
        (`keras.Model`, the record).
    """
    record = read_record(folder)
    profile, num_classes = profile_of(record["parameters"], folder), data.collection.num_classes
    normalisation = record["normalisation"]
    if trained:
        model = load_classifier(Path(folder), profile, num_classes, normalisation=normalisation)
    else:
        set_seed(record["seed"], deterministic=profile.deterministic)
        model, _ = build_classifier(profile, num_classes, normalisation=normalisation)
    return model, record


def ablations_of(model):
    """A model with its attention taken away, in the ways that it has; weights are shared.

    Args:
        model: `keras.Model`.

    Returns:
        dict of name to `keras.Model`: "parts at zero", "even masks" (parts that all see the whole
        map), "glimpses fixed" (at the whole map).
    """
    names = {layer.name for layer in model.layers}
    if "parts_masks" in names:
        return {
            "parts at zero": ablate_parts(model, "zero"),
            "even masks": ablate_parts(model, "uniform"),
        }
    if "glimpse_boxes" in names:
        return {"glimpses fixed": fix_glimpses(model)}
    return {}


def score_ablations(data, folder):
    """F2 of a trained network on the holdout, as it is and without its attention.

    Each form gets a threshold of its own from the validation fold, so that a shift of all
    probabilities alone costs nothing.

    Args:
        data: `PreparedCollection`.
        folder: a run folder of `train_variants`.

    Returns:
        dict of form to F2, "as trained" first; empty for a network without such attention.
    """
    model, record = load_network(data, folder)
    ablations = ablations_of(model)
    if not ablations:
        return {}
    profile = profile_of(record["parameters"], folder)
    scores = {}
    for name, form in {"as trained": model, **ablations}.items():
        threshold = None
        for fold in (record["identity"]["val_fold"], HOLDOUT):
            found = predict_scores(
                form,
                data.train_pictures,
                data.collection.train.ids[data.rows_of_folds(fold)],
                preprocessing_of(profile),
                data.collection.class_names,
                mirror_view=profile.mirror_view,
                exclusive=record.get("exclusive_groups", ()),
            )
            _, truth = truth_of(data.collection, found)
            if threshold is None:
                threshold = search_threshold(truth.dense(), found.y_prob).threshold
        y_pred = decide(found.y_prob, threshold)
        scores[name] = float(fbeta_per_sample(truth, y_pred).mean())
    clear_memory()
    return scores


def localise_run(data, folder):
    """Where a network looks on the holdout of a drawn museum, trained and as it started.

    Args:
        data: `PreparedCollection` of a drawn museum.
        folder: a run folder of `train_variants`.

    Returns:
        `pandas.DataFrame`: rows of `imetlib.training.localise.localise` with "state": "trained",
        or "untrained", the same network as it started. Channels of soft masks are chosen on the
        other folds.
    """
    images, motifs = pictures_and_motifs(data, data.rows_of_folds(HOLDOUT))
    examples = None
    tables = []
    for state in ("trained", "untrained"):
        model, _ = load_network(data, folder, trained=state == "trained")
        # Thousands of pictures, of use to soft masks alone.
        if mask_names(model) and examples is None:
            examples = pictures_and_motifs(data, data.rows_of_folds(*inner_folds(data)))
        found = localise(model, images, motifs, examples)
        found.insert(0, "state", state)
        tables.append(found)
        clear_memory()
    return pd.concat(tables, ignore_index=True)


def look_scores(table, measure="hits"):
    """One measure of looks, seed by seed, for `imetlib.localisation.summarise_seeds`.

    Args:
        table: rows of `localise_run` with "network" and "seed".
        measure: one of its columns.

    Returns:
        dict "network: look" or "network: look, untrained" to a list of floats.
    """
    found = {}
    for row in table.itertuples():
        name = f"{row.network}: {row.look}" + (", untrained" if row.state == "untrained" else "")
        found.setdefault(name, []).append(getattr(row, measure))
    return found
