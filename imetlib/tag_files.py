"""Files of a job that tags pictures: the one place that lists them, and the form of a shard."""

import hashlib
import json
from pathlib import Path, PurePosixPath

from imetlib.collection.images import SUFFIXES
from imetlib.files import replacing

# Key of what a shard's footer says of itself.
_OWN = b"imetlib"


def open_folder(folder):
    """Where pictures are read: a `pyarrow.fs.FileSystem`, and the folder's path there.

    Raises:
        ValueError: an address of an unknown kind, or pyarrow is not installed.
    """
    parquet()
    from pyarrow import fs

    if "://" not in str(folder):
        return fs.LocalFileSystem(), str(Path(folder).expanduser().resolve())
    filesystem, root = fs.FileSystem.from_uri(str(folder))
    return filesystem, root.rstrip("/")


def list_pictures(folder):
    """Pictures below a folder, in an order that depends on their names alone.

    Returns:
        list of (name with slashes, relative to the folder; size in bytes).

    Raises:
        FileNotFoundError: no such folder.
    """
    from pyarrow import fs

    filesystem, root = open_folder(folder)
    if filesystem.get_file_info(root).type != fs.FileType.Directory:
        raise FileNotFoundError(f"No folder at {folder}. Give one that holds pictures.")
    infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    return sorted(
        (info.path.removeprefix(root).lstrip("/"), info.size)
        for info in infos
        if info.type == fs.FileType.File and PurePosixPath(info.path).suffix.lower() in SUFFIXES
    )


def digest_pictures(pictures):
    """SHA-256 over names and sizes, in order."""
    total = hashlib.sha256()
    for name, size in pictures:
        total.update(f"{size} {name}\n".encode())
    return total.hexdigest()


def absolute_folder(folder):
    """A folder or address as a str that does not depend on the working directory."""
    text = str(folder)
    return text.rstrip("/") if "://" in text else str(Path(text).expanduser().resolve())


def shard_schema():
    """`pyarrow.Schema` of a shard: one row a picture, in the order of the list.

    `id` is the file's name without suffix, `path` its place in the folder. `attributes` are
    columns of the run's classes with their `probabilities`, highest first; `chosen` are those
    that the run's rule chooses, ascending, null without decisions. Where a picture could not be
    read, `fault` says why and the lists are null.
    """
    import pyarrow as pa

    whole = pa.list_(pa.int32())
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("attributes", whole),
            pa.field("probabilities", pa.list_(pa.float32())),
            pa.field("chosen", whole),
            pa.field("fault", pa.string()),
        ]
    )


def write_shard_file(path, columns, own):
    """Write a shard, whole or not at all, with a checksum of every page.

    Args:
        path: `pathlib.Path`.
        columns: dict of the columns of `shard_schema`, lists.
        own: dict of what JSON can hold, what the shard says of itself.

    Returns:
        `path`.
    """
    import pyarrow

    schema = shard_schema().with_metadata({_OWN: json.dumps(own).encode()})
    table = pyarrow.table(columns, schema=schema)
    with replacing(path) as temporary:
        parquet().write_table(table, temporary, write_page_checksum=True)
    return path


def read_shard_file(path):
    """Read a shard and compare every checksum.

    Returns:
        `pyarrow.Table`, and the dict that the shard says of itself.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with parquet().ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        own = json.loads((table.schema.metadata or {}).get(_OWN, b"{}"))
    # Arrow tells of damage by errors of several kinds.
    except Exception as error:
        reason = " ".join(str(error).split())  # some of Arrow's have several lines
        raise ValueError(f"{path} is damaged: {reason}") from error
    if not table.schema.equals(shard_schema()):
        raise ValueError(f"{path} is damaged: its columns are not those of a shard")
    return table, own


def parquet():
    """`pyarrow.parquet`."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ValueError(
            "Tagging many pictures writes Parquet files with pyarrow, which is not installed: "
            "pip install -c constraints.txt 'imetlib[ray]', or pyarrow alone"
        ) from error
    return pyarrow.parquet
