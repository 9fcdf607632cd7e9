"""Where data, weights and runs are found, at home and in a Kaggle kernel."""

import os
from pathlib import Path

KAGGLE_INPUT = Path("/kaggle/input")


def runs_folder(out=""):
    """Folder that runs are written to, made where it is missing.

    Args:
        out: path, or "" for `runs` in the project (or, outside of it, in the working
            directory).

    Returns:
        absolute `pathlib.Path`.
    """
    folder = Path(out).expanduser() if out else project_root() / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def project_root():
    """Nearest folder at or above the working directory that holds `notebooks/` and `imetlib/`.

    Returns:
        `pathlib.Path`; the working directory itself where there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "imetlib").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return here


def data_folders():
    """Where data is looked for: below `IMETLIB_DATA`, the project's `data/`, Kaggle's inputs.

    Returns:
        list of `pathlib.Path`, in this order, whether they exist or not.
    """
    roots = [Path(os.environ["IMETLIB_DATA"])] if os.environ.get("IMETLIB_DATA") else []
    return [*roots, project_root() / "data", KAGGLE_INPUT]


def find_collection(collection=""):
    """Folder of a collection with `train.csv` and `labels.csv`.

    Args:
        collection: path of the folder; "" looks for one below `IMETLIB_DATA`, `data/` of
            the project and Kaggle's inputs, `imet2019` or `imet-2019-fgvc6` first.

    Returns:
        `pathlib.Path`.

    Raises:
        FileNotFoundError: none found, or several and no way to choose.
    """
    if collection:
        folder = Path(collection).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"No collection folder at {folder}. It must hold train.csv, labels.csv and "
                "train/ (data/README.md shows one)."
            )
        return folder.resolve()
    roots = data_folders()
    found = sorted(
        {
            table.parent.resolve()
            for root in roots
            if root.is_dir()
            for depth in range(1, 5)
            for table in root.glob("*/" * depth + "labels.csv")
            if (table.parent / "train.csv").is_file() and (table.parent / "train").is_dir()
        }
    )
    preferred = [folder for folder in found if "imet" in folder.name and "2019" in folder.name]
    if len(preferred or found) == 1:
        return (preferred or found)[0]
    searched = ", ".join(str(root) for root in roots)
    if not found:
        raise FileNotFoundError(
            f"No collection found below {searched}. Give `collection`, a folder with train.csv, "
            "labels.csv and train/; data/README.md says where to get iMet 2019."
        )
    names = ", ".join(str(folder) for folder in preferred or found)
    raise FileNotFoundError(f"Several collections found: {names}. Give one as `collection`.")


def search_weights(stems):
    """Look for a weights file by name.

    Args:
        stems: file names without ending that count, best first; a longer name that starts
            with one counts too.

    Returns:
        (`pathlib.Path` or None, list of the places that were searched).
    """
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    folders = [keras_home / "models"]
    searched = []
    if os.environ.get("IMETLIB_WEIGHTS"):
        folders.insert(0, Path(os.environ["IMETLIB_WEIGHTS"]))
    else:
        searched.append("IMETLIB_WEIGHTS (not set)")
    searched += [str(folder) for folder in folders]
    searched.append(f"{KAGGLE_INPUT}/**")
    candidates = [
        path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.h5"))
    ]
    if KAGGLE_INPUT.is_dir():
        candidates += sorted(KAGGLE_INPUT.rglob("*.h5"))
    for stem in stems:
        for path in candidates:
            if path.name.startswith(stem):
                return path, searched
    return None, searched
