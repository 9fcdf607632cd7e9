"""A collection ready for training: tables, folds and caches of shrunk pictures."""

import contextlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imetlib.collection.cache import PictureCache, build_cache
from imetlib.collection.csvfiles import list_faults
from imetlib.collection.folds import make_folds, read_folds, write_folds
from imetlib.collection.images import ImageError, ImageFault, decode_image
from imetlib.collection.museum import DRAWING_VERSION, draw_museum
from imetlib.collection.tables import Collection, read_collection
from imetlib.paths import find_collection, runs_folder
from imetlib.precision import find_precision
from imetlib.profiles import Profile

FOLDS_SEED = 0
_SIZE_SAMPLE = 400


@dataclass(frozen=True, eq=False)
class PreparedCollection:
    """What training needs of a collection; made by `prepare_collection`.

    Args:
        name: name of the collection's folder.
        collection: `Collection`, without the training pictures that cannot be read.
        profile: `Profile` with sizes and epochs filled in.
        train_pictures: `PictureCache`, row i belongs to row i of `collection.train`.
        test_pictures: `PictureCache` of the test pictures that can be read, in the order of
            `collection.test_ids`, which holds all of them; or None.
        folds: `(num_train,)` int8, the fold of each training row.
        workspace: folder of this collection's caches, folds and runs.
        left_out: `ImageFault` of each picture that cannot be read, its path below the collection;
            empty unless the profile has `bad_pictures="report"`.
    """

    name: str
    collection: Collection
    profile: Profile
    train_pictures: PictureCache
    test_pictures: PictureCache | None
    folds: np.ndarray
    workspace: Path
    left_out: tuple[ImageFault, ...] = ()

    @property
    def unreadable_test(self):
        """`(num_test,)` bool, True for the test pictures that have no picture to look at."""
        if self.test_pictures is None:
            return np.zeros(len(self.collection.test_ids), bool)
        return ~np.isin(self.collection.test_ids.astype(str), self.test_pictures.ids.astype(str))

    def rows_of_folds(self, *numbers):
        """Training rows of the given folds, ascending."""
        return np.flatnonzero(np.isin(self.folds, numbers))


def locate_collection(profile, collection="", out="", *, progress=False):
    """Folder of the collection that a profile works on; `fast` draws its museum if needed.

    Args:
        profile: `Profile`.
        collection: folder; ignored by `fast`, which always takes the pocket museum.
        out: folder for runs, "" for the project's `runs/`.
        progress: show a bar.

    Returns:
        `pathlib.Path`.

    Raises:
        FileNotFoundError: no collection; the message says where to put one.
    """
    if profile.name != "fast":
        return find_collection(collection)
    return drawn_museum(profile, out, progress=progress)


def drawn_museum(profile, out="", *, seed=0, test_fraction=0.25, progress=False):
    """Folder of the pocket museum of a profile, drawn on first use.

    Args:
        profile: `Profile`, for the number of pictures and their size.
        out: folder for runs, "" for the project's `runs/`.
        seed, test_fraction, progress: see `imetlib.collection.museum.draw_museum`. Another seed
            is another museum, with a folder of its own.

    Returns:
        `pathlib.Path`.
    """
    name = f"museum{DRAWING_VERSION}-{profile.museum_size}-{profile.museum_side}px"
    folder = runs_folder(out) / (f"{name}-{seed}" if seed else name)
    if not (folder / "train.csv").is_file():
        draw_museum(
            folder,
            size=profile.museum_size,
            image_size=profile.museum_side,
            seed=seed,
            test_fraction=test_fraction,
            progress=progress,
        )
    return folder


def prepare_collection(profile, collection="", out="", *, progress=False):
    """Read and verify a collection, make or read its folds, shrink its pictures once.

    With `bad_pictures="report"` in the profile, training pictures that cannot be read leave the
    table, the folds of the others stay what they are, and test pictures keep their ids. A picture
    that is missing is a fault of the collection whatever the profile says.

    Args:
        profile, collection, out, progress: see `locate_collection`.

    Returns:
        `PreparedCollection`.

    Raises:
        ValueError: faults in tables or pictures, all named.
        FileNotFoundError: no collection.

    Warns:
        UserWarning: pictures were left out; all are named.
    """
    return prepare_pictures(prepare_tables(profile, collection, out, progress=progress), progress)


def prepare_tables(profile, collection="", out="", *, progress=False):
    """The first part of `prepare_collection`: all but the pictures, which can take long.

    Args:
        profile, collection, out, progress: see `locate_collection`.

    Returns:
        `PreparedCollection` without `train_pictures` and `test_pictures`.
    """
    root = locate_collection(profile, collection, out, progress=progress)
    read = read_collection(root)
    if profile.image_shape is None or profile.epochs is None:
        profile = profile.for_collection(*_picture_sizes(read), len(read.train))
    profile = replace(profile, precision=find_precision(profile.precision))
    workspace = runs_folder(out) / root.name
    if workspace == root:
        workspace = runs_folder(out) / f"{root.name}-work"
    workspace.mkdir(parents=True, exist_ok=True)
    fold_file = workspace / f"folds-{profile.num_folds}.csv"
    if fold_file.is_file():
        folds = read_folds(fold_file, read.train.ids)
    else:
        folds = make_folds(read.train, profile.num_folds, specimens=read.specimens, seed=FOLDS_SEED)
        write_folds(fold_file, read.train.ids, folds)
    return PreparedCollection(root.name, read, profile, None, None, folds, workspace)


def prepare_pictures(data, progress=False):
    """The second part of `prepare_collection`: the pictures, shrunk once.

    Args:
        data: `PreparedCollection` of `prepare_tables`.
        progress: show a bar.
    """
    read, folds, profile = data.collection, data.folds, data.profile
    train, test, left_out = _build_caches(read, profile, data.workspace, progress)
    if left_out:
        warnings.warn(_say_left_out(left_out), stacklevel=2)
        kept = np.isin(read.train.ids.astype(str), train.ids.astype(str))
        read, folds = read.without(read.train.ids[~kept]), folds[kept]
        # Nothing can be trained or answered without them.
        if len(set(folds.tolist())) < profile.num_folds or (test is not None and not len(test)):
            raise ImageError(left_out)
    return replace(
        data,
        collection=read,
        train_pictures=train,
        test_pictures=test,
        folds=folds,
        left_out=left_out,
    )


def with_settings(data, **settings):
    """The same collection and folds under other settings; other sizes get their own cache.

    Args:
        data: `PreparedCollection`.
        **settings: fields of `Profile`, `num_folds` excepted.

    Returns:
        `PreparedCollection`.

    Raises:
        ValueError: `num_folds` would change: folds belong to the collection. Or pictures that
            were left out would have to come back.
    """
    profile = replace(data.profile, **settings)
    if profile.num_folds != data.profile.num_folds:
        raise ValueError(
            f"Folds stay: {data.profile.num_folds}. Received: num_folds={profile.num_folds}"
        )
    if data.left_out and profile.bad_pictures != "report":
        raise ImageError(data.left_out)
    caches = (data.train_pictures, data.test_pictures)
    if min(profile.image_shape[:2]) != min(data.profile.image_shape[:2]):
        # The whole table, because one cache of a size serves all runs.
        whole = read_collection(data.collection.root) if data.left_out else data.collection
        *caches, left_out = _build_caches(whole, profile, data.workspace, False)
        if left_out != data.left_out:
            raise ValueError(
                f"The pictures of {data.collection.root} have changed; prepare it again"
            )
    return replace(data, profile=profile, train_pictures=caches[0], test_pictures=caches[1])


def _build_caches(collection, profile, workspace, progress):
    """Caches of the training and the test pictures, None for a split without pictures; faults.

    Raises:
        ImageError: naming the unreadable pictures of both splits, unless they are to be left out.
    """
    side = min(profile.image_shape[:2])
    caches = {
        split: build_cache(
            collection,
            split,
            workspace / f"pictures-{split}-{side}px",
            min_side=side,
            progress=progress,
            on_bad="report",
        )
        for split in ("train", "test")
        if split == "train" or len(collection.test_ids)
    }
    faults = tuple(fault for cache in caches.values() for fault in cache.faults)
    if faults and profile.bad_pictures == "raise":
        raise ImageError(faults)
    train, test = caches["train"].only_readable(), caches.get("test")
    # Records and their readers get no path of this machine.
    root = collection.root
    left_out = (replace(x, path=Path(x.path).relative_to(root).as_posix()) for x in faults)
    return train, None if test is None else test.only_readable(), tuple(left_out)


def _say_left_out(faults):
    number = "1 picture" if len(faults) == 1 else f"{len(faults):,} pictures"
    text = f"{number} cannot be read; the run goes on without\n"
    text += list_faults(map(str, faults), shown=len(faults))
    if any(fault.path.startswith("test/") for fault in faults):
        text += "\n  Those of test/ are answered with label frequencies."
    return text


def _picture_sizes(collection):
    """Heights and widths of an even sample of the training pictures, in pixels."""
    ids = collection.train.ids
    sample = ids[np.linspace(0, len(ids) - 1, min(len(ids), _SIZE_SAMPLE)).astype(int)]
    shapes = []
    for name in sample:
        # The cache names all unreadable pictures together, a moment later.
        with contextlib.suppress(ImageError):
            shapes.append(decode_image(collection.picture_path("train", name)).shape)
    shapes = shapes or [(1, 1)]
    return [shape[0] for shape in shapes], [shape[1] for shape in shapes]
