"""What is committed of studies of attention: the tables and records in `results/`.

    python -m imetlib.training.study_records residual results/museum --seeds 3
    python -m imetlib.training.study_records residual results/pomological --profile full \\
        --collection DIR --seeds 2 --epochs 8 --height 192 --width 128

All networks of a study are trained for as many epochs on the same rows. A study that was ended
goes on where it stopped.
"""

import argparse
from pathlib import Path

import pandas as pd

from imetlib.collection.motifs import MOTIFS_FILE
from imetlib.collection.prepared import prepare_collection
from imetlib.delivery.records import read_record, replace_record
from imetlib.files import replacing
from imetlib.profiles import get_profile, parameters_as_overrides
from imetlib.training.attention_study import (
    MUSEUM,
    STUDY_FOLDER,
    localise_run,
    run_name,
    score_ablations,
    study_table,
    train_variants,
    variants_of,
)

# A museum in which a small network learns to tell motifs apart, at a size at which it sees them.
STUDY = {
    "museum_size": 4000,
    "museum_side": 96,
    "image_shape": (64, 64, 3),
    "epochs": 16,
    "learning_rate": 2e-3,
}
# A deep residual network learns more slowly than the plain one.
STUDIES = {
    "residual": STUDY | {"epochs": 32, "learning_rate": 8e-3},
    "multi": STUDY,
    "recurrent": STUDY,
}
# Networks of a museum's study beyond those of `MUSEUM`. Four parts are the paper's, whose birds
# all have a head and a tail.
FURTHER = {
    "multi": {"16 parts": {"attention": "multi", "attention_stride": 8, "num_parts": 16}},
}


def run_study(data, attention, target, *, seeds=(0,), verbose=0):
    """Train and measure the networks of a study, and write what is committed of it.

    Args:
        data: `PreparedCollection`.
        attention: "residual", "multi" or "recurrent".
        target: folder; gets `<attention>.csv` (scores), `<attention>-ablations.csv` (F2 without
            the attention), of a drawn museum `<attention>-looks.csv` (localisation), and a record
            for each network and seed, `attention/<network>-seed<k>/record.json`.
        seeds: ints.
        verbose: see `imetlib.training.fit.train_network`.

    Returns:
        `pandas.DataFrame` of the scores, see `study_table`.
    """
    variants = variants_of(attention, data.profile)
    if data.profile.name == "fast":
        variants = variants | FURTHER.get(attention, {})
    folder = data.workspace / STUDY_FOLDER
    train_variants(data, variants, folder, seeds=seeds, verbose=verbose)
    runs = [(name, seed) for name in variants for seed in seeds]
    measures = {"ablations": run_ablations}
    if (data.collection.root / MOTIFS_FILE).is_file():
        measures["looks"] = localise_run
    tables = {attention: study_table(data, variants, folder, seeds)}
    for name, measure in measures.items():
        tables[f"{attention}-{name}"] = measure_runs(data, folder, runs, name, measure)
    target = Path(target)
    for run in runs:
        replace_record(target / STUDY_FOLDER / run_name(*run), read_record(folder / run_name(*run)))
    for name, table in tables.items():
        if len(table):
            with replacing(target / f"{name}.csv") as path:
                table.round(4).to_csv(path, index=False)
    return tables[attention]


def measure_runs(data, folder, runs, name, measure):
    """A table of several runs; what one run gave stays in its folder, for a study that goes on.

    Args:
        data: `PreparedCollection`.
        folder: of `train_variants`.
        runs: list of (network, seed).
        name: str, of the table in a run's folder.
        measure: callable from `data` and a run folder to a `pandas.DataFrame`.

    Returns:
        `pandas.DataFrame`, the rows of all runs with "network" and "seed" before them.
    """
    tables = []
    for network, seed in runs:
        path = folder / run_name(network, seed) / f"{name}.csv"
        if not path.is_file():
            with replacing(path) as temporary:
                measure(data, path.parent).to_csv(temporary, index=False)
        found = pd.read_csv(path)
        found.insert(0, "seed", seed)
        found.insert(0, "network", network)
        tables.append(found)
    # Without the empty ones, whose columns have no dtype.
    return pd.concat([found for found in tables if len(found)] or tables[:1], ignore_index=True)


def run_ablations(data, folder):
    """`score_ablations` as a `pandas.DataFrame` "form", "score"; no rows where it is empty."""
    scores = score_ablations(data, folder)
    return pd.DataFrame(list(scores.items()), columns=["form", "score"])


def main():
    """Run a study from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("attention", choices=tuple(MUSEUM))
    parser.add_argument("target", help="folder of the tables, for example results/museum")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 on")
    parser.add_argument("--out", default="", help="folder for runs")
    parser.add_argument("--profile", default="fast", help='"fast": a drawn museum; "full"')
    parser.add_argument("--collection", default="", help='collection folder for "full"')
    for name in ("epochs", "height", "width"):
        parser.add_argument(f"--{name}", type=int, default=-1 if name == "epochs" else 0)
    given = parser.parse_args()
    settings = parameters_as_overrides(given.epochs, given.height, given.width, "")
    own = STUDIES[given.attention] if given.profile == "fast" else {}
    settings = {**own, **{key: value for key, value in settings.items() if value is not None}}
    profile = get_profile(given.profile, **settings)
    data = prepare_collection(profile, given.collection, given.out, progress=True)
    seeds = range(given.seeds)
    table = run_study(data, given.attention, given.target, seeds=seeds, verbose=2)
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
