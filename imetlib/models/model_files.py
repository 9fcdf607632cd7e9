"""Model files of others: looked through before Keras opens them.

Keras's safe mode refuses code in a model, and its newest release most of what is refused here. The
versions that this package runs with, Kaggle's among them, do not all.
"""

import hashlib
import zipfile
from pathlib import Path

import h5py  # Keras's own dependency

from imetlib.archives import HARMLESS_BYTES, MAX_RATIO, check_members, zip_members
from imetlib.models.backbone_table import BACKBONES

# Nothing a model of this project needs is larger, and no smaller disk is filled.
MAX_BYTES = 16 * 2**30


def check_model_file(path):
    """Refuse a model or weights file that is not what it says, before anything of it is used.

    Args:
        path: a `.keras` file, or any other, which must be HDF5.

    Raises:
        ValueError: it names the file and says why: another digest than the published one of a
            file of this name; neither zip nor HDF5, or damaged; a member or link that leads
            out of the file; sizes far beyond those of the file.
    """
    path = Path(path)
    _check_digest(path)
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as opened:
                check_members(zip_members(opened), path.name, path.stat().st_size, MAX_BYTES)
                for name in opened.namelist():
                    if name.endswith(".h5"):
                        with opened.open(name) as member:
                            _check_hdf5(member, f"{path.name}, {name}", path.stat().st_size)
        else:
            with path.open("rb") as file:
                _check_hdf5(file, path.name, path.stat().st_size)
    except (zipfile.BadZipFile, OSError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path.name}: no model file, or a damaged one: {reason}") from error


def compare_digest(path):
    """The digest of a file beside the one that Keras publishes under its name.

    Args:
        path: `pathlib.Path`.

    Returns:
        (kind, found, wanted), "md5" or "sha256" and two hex digests; None where Keras publishes
        none of this name.
    """
    wanted = {row.weights_name: row.weights_digest for row in BACKBONES.values()}.get(path.name)
    if not wanted:
        return None
    kind = digest_kind(wanted)
    with path.open("rb") as file:
        return kind, hashlib.file_digest(file, kind).hexdigest(), wanted


def digest_kind(digest):
    """The kind of a hex digest, "sha256" or "md5", by its length; "" of none."""
    return {64: "sha256", 32: "md5"}.get(len(digest), "")


def _check_digest(path):
    compared = compare_digest(path)
    if compared and compared[1] != compared[2]:
        kind, found, wanted = compared
        raise ValueError(
            f"{path.name}: not the file that Keras publishes under this name: its {kind} is "
            f"{found}, that of Keras's {wanted}. Get it again; a file of yours needs a name of "
            "its own."
        )


def _check_hdf5(file, label, num_bytes):
    with h5py.File(file, "r") as opened:
        total, seen, groups = 0, set(), [opened]
        while groups:
            group = groups.pop()
            for name in group:
                where = f"{label}: {group.name.rstrip('/')}/{name}"
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise ValueError(f"{where} is a link to something else.")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    continue  # a circle of hard links has no end
                seen.add(address)
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset):
                    if item.external or item.is_virtual:
                        raise ValueError(f"{where} takes its numbers from another file.")
                    total += item.nbytes
        if total > MAX_BYTES or (total > HARMLESS_BYTES and total > MAX_RATIO * num_bytes):
            raise ValueError(f"{label}: {num_bytes:,} bytes that unpack to {total:,}.")
