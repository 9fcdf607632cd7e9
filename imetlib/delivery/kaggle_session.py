"""Both ends of a session on Kaggle: a run of an earlier one goes on, and the answer is found."""

from __future__ import annotations

import shutil
from pathlib import Path

from imetlib import paths
from imetlib.files import making_folder, replacing


def fetch_run(folder: str | Path) -> str:
    """On Kaggle, bring a run of an earlier session to where it goes on; elsewhere do nothing.

    The output of that session is attached to this one, where nothing can be written.

    Args:
        folder: run folder, `<runs>/<collection>/<run>`. One that exists stays as it is.

    Returns:
        str, what was done, or "" where nothing was.

    Raises:
        FileNotFoundError: several runs of this name are attached.
        OSError: the disk does not hold a copy.
    """
    folder = Path(folder)
    if not paths.on_kaggle() or folder.exists():
        return ""
    found = [
        place
        for place, _ in paths.walk_folders(paths.KAGGLE_INPUT, paths.RUN_DEPTH)
        if (place.parent.name, place.name) == (folder.parent.name, folder.name)
        and any(place.glob("fold*/"))
    ]
    if len(found) > 1:
        raise FileNotFoundError(
            f"Several runs could go on here: {', '.join(map(str, found))}. Attach the last one "
            "alone, or give this one another name as `run`."
        )
    if not found:
        return ""
    (source,) = found
    files = [path for path in source.rglob("*") if path.is_file()]
    paths.need_space(folder, sum(path.stat().st_size for path in files), f"A copy of {source}")
    with making_folder(folder) as temporary:
        for path in files:
            target = temporary / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)  # without the modes of a disk that is not written
    return f"goes on with a run of an earlier session, {source}"


def publish_submission(path: str | Path) -> Path | None:
    """On Kaggle, copy a submission to where it is looked for; elsewhere do nothing.

    A notebook that is stopped never comes to `hand_over`, and has an answer all the same.

    Args:
        path: of a `submission.csv` that is whole.

    Returns:
        `pathlib.Path` of the copy, or None where this is no session on Kaggle.
    """
    return _copy(Path(path), _working()) if paths.on_kaggle() else None


def hand_over(out: str | Path = "", *, submit: bool = True) -> list[str]:
    """Put the submission where Kaggle looks for it, and drop what can be made again.

    Kaggle takes `submission.csv` from the working folder alone, and saves all that lies there: run
    folders are wanted by later notebooks, gigabytes of shrunk pictures by nobody.

    Args:
        out: folder of the runs, "" for the usual one.
        submit: whether the newest `submission.csv` below it is copied to the working folder. False
            where another notebook answers.

    Returns:
        list of str, what was done, a line each.

    Raises:
        FileNotFoundError: `submit`, and no submission below `out`.
    """
    runs = paths.runs_folder(out)
    working = _working()
    done = []
    if submit:
        written = [path for path in runs.rglob("submission.csv") if path.parent != working]
        if not written:
            raise FileNotFoundError(
                f"No submission.csv below {runs}: the cells above have to write one first."
            )
        newest = max(written, key=lambda path: path.stat().st_mtime)
        _copy(newest, working)
        done.append(f"submission.csv, a copy of {newest.relative_to(runs).as_posix()}")
    for cache in sorted([*runs.glob("*/pictures-*px"), *runs.glob("*/.pictures-*px.part")]):
        shutil.rmtree(cache)
        done.append(f"removed {cache.relative_to(runs).as_posix()}, shrunk pictures")
    return done


def _working() -> Path:
    return paths.KAGGLE_WORKING if paths.KAGGLE_WORKING.is_dir() else Path.cwd()


def _copy(submission: Path, folder: Path) -> Path:
    """A whole file or the one from before, whenever the session ends."""
    with replacing(folder / "submission.csv") as temporary:
        shutil.copyfile(submission, temporary)
    return folder / "submission.csv"
