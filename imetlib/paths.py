"""Where data, weights and runs are found, at home and in a Kaggle kernel."""

import errno
import os
import shutil
from pathlib import Path

# The variables are for tests, which have no such folders.
KAGGLE_INPUT = Path(os.environ.get("IMETLIB_KAGGLE_INPUT") or "/kaggle/input")
KAGGLE_WORKING = Path(os.environ.get("IMETLIB_KAGGLE_WORKING") or "/kaggle/working")
# <kind>/<owner>/<slug>/ and up to two folders of the uploader's own.
COLLECTION_DEPTH = 5
# models/<owner>/<model>/<framework>/<variation>/<version>/, and one more.
WEIGHTS_DEPTH = 7
# runs/<collection>/<run>/ in the output of a notebook, notebooks/<owner>/<slug>/, and one more.
RUN_DEPTH = 7
# The disk below it holds more, and says so; what is above the quota ends the session.
WORKING_BYTES = 20 * 10**9


def on_kaggle():
    """Whether this is a session on Kaggle, by the variable that marks one."""
    return "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def runs_folder(out=""):
    """Folder that runs are written to, made where it is missing.

    Args:
        out: path, or "" for `runs` in the project (or, outside of it, in the working
            directory; on Kaggle in `/kaggle/working`, whatever the working directory).

    Returns:
        absolute `pathlib.Path`.

    Raises:
        PermissionError: the folder lies where nothing can be written, such as Kaggle's inputs.
    """
    root = KAGGLE_WORKING if on_kaggle() and KAGGLE_WORKING.is_dir() else project_root()
    folder = Path(out).expanduser() if out else root / "runs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        below = KAGGLE_WORKING if on_kaggle() else "a folder of yours"
        raise PermissionError(
            f"Nothing can be written at {folder}. Give `out`, a folder below {below}."
        ) from None
    return folder.resolve()


def need_space(folder, num_bytes, what):
    """Refuse work whose files do not fit on the disk, before it begins.

    Args:
        folder: where the files go; need not exist.
        num_bytes: int, about how much they take.
        what: of the files, for the message.

    Raises:
        OSError: less is free; the message says how much, and what can be done.
    """
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if on_kaggle() and place.is_relative_to(KAGGLE_WORKING):
        used = sum(path.lstat().st_size for path in KAGGLE_WORKING.rglob("*") if path.is_file())
        free = min(free, max(0, WORKING_BYTES - used))
    if free < num_bytes:
        hint = " Kaggle gives 20 GB in all." if on_kaggle() else ""
        raise OSError(
            f"{what} would take about {num_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free "
            f"at {place}. Choose smaller pictures (`height`, `width`), or another `out`.{hint}"
        )


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
            folder.resolve()
            for root in roots
            for folder, names in walk_folders(root, COLLECTION_DEPTH)
            if folder != root and _is_collection(folder, names)
        }
    )
    preferred = [folder for folder in found if "imet" in folder.name and "2019" in folder.name]
    if len(preferred or found) == 1:
        return (preferred or found)[0]
    searched = ", ".join(str(root) for root in roots)
    if not found and on_kaggle():
        raise FileNotFoundError(
            f"No collection found below {searched}. Attach one to this notebook: Add Input, then "
            "the competition (accept its rules on its page once) or a dataset that holds "
            f"train.csv, labels.csv and train/. Attached now: {', '.join(attached()) or 'nothing'}."
        )
    if not found:
        raise FileNotFoundError(
            f"No collection found below {searched}. Give `collection`, a folder with train.csv, "
            "labels.csv and train/; data/README.md says where to get iMet 2019."
        )
    names = ", ".join(str(folder) for folder in preferred or found)
    raise FileNotFoundError(f"Several collections found: {names}. Give one as `collection`.")


def attached():
    """Names of what is attached to a Kaggle notebook, below the inputs; [] where nothing is.

    Competitions, datasets, models and outputs of notebooks each have a folder of their own in the
    newer layout: those are told by the names in them, `datasets/someone/museum`.
    """
    depths = {"competitions": 1, "datasets": 2, "models": 2, "notebooks": 2}
    found = []
    for first in sorted(KAGGLE_INPUT.glob("*")):
        deeper = "/".join("*" * depths.get(first.name, 0))
        inner = sorted(first.glob(deeper)) if deeper else []
        found += [path.relative_to(KAGGLE_INPUT).as_posix() for path in inner or [first]]
    return found


def walk_folders(root, depth):
    """Folders at and below `root`, but none of those that hold a collection's pictures.

    On Kaggle a listing of a hundred thousand pictures takes minutes.

    Args:
        root: folder; may be missing.
        depth: int >= 0, folders below `root`.

    Yields:
        (`pathlib.Path`, dict of the names in it to whether they are folders), parents first.
    """
    try:
        with os.scandir(root) as entries:
            names = {entry.name: entry.is_dir() for entry in entries}
    except OSError:  # missing, a file, or not ours to read
        return
    folder = Path(root)
    yield folder, names
    pictures = {"train", "test"} if _is_collection(folder, names) else set()
    for name in sorted(names):
        if depth and names[name] and name not in pictures and not name.startswith("."):
            yield from walk_folders(folder / name, depth - 1)


def _is_collection(folder, names):
    tables = all(names.get(name) is False for name in ("train.csv", "labels.csv"))
    return tables and names.get("train") is True


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
    candidates += sorted(
        folder / name
        for folder, names in walk_folders(KAGGLE_INPUT, WEIGHTS_DEPTH)
        for name, is_folder in names.items()
        if name.endswith(".h5") and not is_folder
    )
    for stem in stems:
        for path in candidates:
            if path.name.startswith(stem):
                return path, searched
    return None, searched
