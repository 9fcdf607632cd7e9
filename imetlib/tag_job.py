"""A job that names the attributes of very many pictures: its pictures, its shards, its files.

In the job's folder `pictures.parquet` lists the pictures, one row group a shard, `job.json` says
what the job is, and `shards/00000.parquet` holds the answers of the first shard. A shard is whole
or absent, and says which job it belongs to; a job goes on with the shards that are missing.

Pictures lie in a folder, a mounted object store is one too, or below an address that
`pyarrow.fs.FileSystem.from_uri` knows, such as `s3://bucket/pictures`.
"""

import hashlib
import json
import secrets
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import imetlib
from imetlib.collection.images import SUFFIXES
from imetlib.files import replacing
from imetlib.scores import TOP
from imetlib.tag_files import (
    absolute_folder,
    digest_pictures,
    list_pictures,
    parquet,
    read_shard_file,
    write_shard_file,
)

JOB_FILE, PICTURES_FILE, SHARDS_FOLDER = "job.json", "pictures.parquet", "shards"
SHARD_SIZE = 10_000
FORMAT = 1
# The name of a run's folder is there to be read; its digest is what counts.
_NOT_COMPARED = {"run"}
_WORDS = {
    "pictures_sha256": "names or sizes of the pictures",
    "run_sha256": "the run",
    "backend": "Keras's backend",
    "version": "imetlib's version",
}


@dataclass(frozen=True, eq=False)
class TagJob:
    """What is to be done, as it stands in the job's folder; made by `plan_job` or `open_job`.

    Args:
        out: the job's folder.
        settings: dict, the content of `job.json`: "folder", "num_pictures", "pictures_sha256",
            "num_shards", "top", "decisions", "run", "run_sha256", "backend", "class_names".
    """

    out: Path
    settings: dict

    @property
    def num_shards(self):
        """Number of shards, int >= 1."""
        return self.settings["num_shards"]

    @property
    def sha256(self):
        """Digest of the settings, hex."""
        return hashlib.sha256(_text_of(self.settings).encode()).hexdigest()

    def shard_path(self, shard):
        """File of a shard's answers."""
        return self.out / SHARDS_FOLDER / f"{shard:05d}.parquet"

    def begun_path(self, shard):
        """Empty file that stands while someone works on a shard."""
        return self.out / SHARDS_FOLDER / f".begun-{shard:05d}"

    def pictures_of(self, shard):
        """Names and sizes in bytes of a shard's pictures, two lists."""
        with parquet().ParquetFile(self.out / PICTURES_FILE) as file:
            table = file.read_row_group(shard)
        return table["path"].to_pylist(), table["size"].to_pylist()

    def write_shard(self, shard, columns):
        """Write the answers of a shard, whole or not at all.

        Args:
            shard: int in [0, num_shards).
            columns: dict of the columns of `imetlib.tag_files.shard_schema`, lists.

        Returns:
            `pathlib.Path` of the file.
        """
        own = {"job": self.sha256, "shard": shard}
        return write_shard_file(self.shard_path(shard), columns, own)

    def check_shard(self, shard):
        """Read a shard through, every checksum of it.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is damaged, or of another job, shard or list of pictures.
        """
        path = self.shard_path(shard)
        if not path.is_file():
            raise FileNotFoundError(f"No shard at {path}.")
        table, own = read_shard_file(path)
        if own != {"job": self.sha256, "shard": shard}:
            raise ValueError(f"{path} belongs to another job or shard: {own}")
        if table["path"].to_pylist() != self.pictures_of(shard)[0]:
            raise ValueError(f"{path} is damaged: its pictures are not those of {PICTURES_FILE}")

    def missing(self):
        """Numbers of the shards that are still to be done, ascending.

        Warns of each one that is damaged or foreign, and sets it aside; removes what killed calls
        left.
        """
        numbers = []
        for shard in range(self.num_shards):
            self.begun_path(shard).unlink(missing_ok=True)
            try:
                self.check_shard(shard)
            except FileNotFoundError:
                numbers.append(shard)
            except ValueError as error:
                path = self.shard_path(shard)
                aside = path.with_name(f".refused-{path.stem}-{secrets.token_hex(2)}.parquet")
                path.replace(aside)
                warnings.warn(f"{error}. It is done again, and kept as {aside.name}.", stacklevel=2)
                numbers.append(shard)
        return numbers

    def begun(self):
        """Numbers of the shards that someone works on, or did when its process died."""
        return [n for n in range(self.num_shards) if self.begun_path(n).exists()]

    def count_unreadable(self):
        """Pictures of the shards that are there which could not be read."""
        total = 0
        for path in (self.out / SHARDS_FOLDER).glob("[0-9]*.parquet"):
            faults = parquet().read_table(path, columns=["fault"], partitioning=None)["fault"]
            total += len(faults) - faults.null_count
        return total

    def clean(self):
        """Remove what killed calls left beside the shards, once all are done."""
        for path in (self.out / SHARDS_FOLDER).glob(".tmp-*"):
            path.unlink(missing_ok=True)


def plan_job(folder, run, out, *, num_shards=None, shard_size=SHARD_SIZE, top=TOP, decisions=True):
    """List the pictures, cut the list into shards, and write that down before anything is done.

    A folder that holds this very job already is taken up.

    Args:
        folder: folder of pictures, those in folders below it included, or an address (see above).
        run: `imetlib.training.load.Run`.
        out: the job's folder, on a disk of its own machine or one that all machines share.
        num_shards: int in [1, number of pictures], or None for as few as `shard_size` allows.
        shard_size: int >= 1. Pictures of a shard at most; shards differ by one at most.
        top: int >= 1. Attributes of each picture that are kept with their probabilities.
        decisions: whether the run's rule, or its threshold, chooses attributes.

    Returns:
        `TagJob`.

    Raises:
        ValueError: no pictures, a number out of its range, a rule that looks at all pictures at
            once, `out` holds another job (what differs is named) or something else, or pyarrow is
            not installed.
        OSError: `folder` cannot be listed.
    """
    out = Path(out)
    pictures = list_pictures(folder)
    if not pictures:
        raise ValueError(f"{folder} holds no pictures ({', '.join(SUFFIXES)}).")
    for name, number in (("shard_size", shard_size), ("top", top)):
        if number < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={number}")
    if num_shards is None:
        num_shards = -(-len(pictures) // shard_size)
    if not 1 <= num_shards <= len(pictures):
        raise ValueError(
            f"{len(pictures):,} pictures can be cut into 1 to {len(pictures):,} shards. "
            f"Received: num_shards={num_shards}"
        )
    settings = {
        "format": FORMAT,
        "version": imetlib.__version__,
        "backend": _backend(),
        "folder": absolute_folder(folder),
        "num_pictures": len(pictures),
        "pictures_sha256": digest_pictures(pictures),
        "num_shards": num_shards,
        "top": min(top, len(run.class_names)),
        "decisions": _decisions_of(run) if decisions else "none",
        "run": run.folder.resolve().name,
        "run_sha256": digest_run(run),
        "class_names": list(run.class_names),
    }
    if (out / JOB_FILE).exists():
        job = open_job(out)
        _compare(job, settings)
        return job
    others = [] if not out.exists() else [path.name for path in out.iterdir()]
    others = [name for name in others if name != PICTURES_FILE and not name.startswith(".tmp-")]
    if others:
        raise ValueError(
            f"{out} holds {others[0]} and no {JOB_FILE}: give a new or empty folder for the answers"
        )
    job = TagJob(out, settings)
    _write_pictures(job, pictures)
    # Last, because it says that the rest is there.
    with replacing(out / JOB_FILE) as temporary:
        temporary.write_text(_text_of(settings), encoding="utf-8")
    return job


def open_job(out):
    """Take up the job of a folder.

    Returns:
        `TagJob`.

    Raises:
        FileNotFoundError: no job there.
        ValueError: `job.json` is none of this version, or the list of pictures is not the one
            that it was written with.
    """
    out = Path(out)
    path = out / JOB_FILE
    if not path.is_file():
        raise FileNotFoundError(f"No job at {out}: it has no {JOB_FILE}.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        job = TagJob(out, settings)
        number, shards = settings["format"], range(job.num_shards)
        pictures = [pair for n in shards for pair in zip(*job.pictures_of(n), strict=True)]
        found, wanted = digest_pictures(pictures), settings["pictures_sha256"]
    # Arrow tells of damage by errors of several kinds.
    except Exception as error:
        raise ValueError(f"{out} holds no job that can be read: {error!r}") from error
    if number != FORMAT:
        raise ValueError(f"{path} has format {number}; expected {FORMAT}")
    if found != wanted:
        raise ValueError(f"{out / PICTURES_FILE} is not the list that {JOB_FILE} was written with")
    return job


def digest_run(run):
    """SHA-256 over what a run predicts with: records, rule, weights and heads, in a fixed order."""
    total = hashlib.sha256()
    folders = sorted({run.folder, *(folder for folder, _ in run.members)})
    for folder in folders:
        for path in sorted(folder.iterdir()):
            name = path.name
            if path.suffix in (".json", ".h5", ".keras", ".npz") and not name.startswith("scores-"):
                with path.open("rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest() + name.encode())
    return total.hexdigest()


def _decisions_of(run):
    from imetlib.decisions.saved_rules import RULE_FILE, load_rule

    path = run.folder / RULE_FILE
    if not path.is_file():
        return f"threshold {run.threshold}"
    rule = load_rule(path, run.class_names)
    if type(rule).__name__ == "MeanCount":
        raise ValueError(
            f"{path} is a MeanCount, whose threshold is set for all pictures together: shard by "
            "shard it would be another for each. Save another rule, or ask for scores alone "
            "(--scores-only) and decide on them when all are there"
        )
    return type(rule).__name__


def _compare(job, settings):
    keys = sorted({*settings, *job.settings} - _NOT_COMPARED)
    changed = [key for key in keys if settings.get(key) != job.settings.get(key)]
    if not changed:
        return
    told = []
    for key in changed:
        pair = [str(values.get(key)) for values in (job.settings, settings)]
        short = key.endswith("sha256") or key == "class_names"
        told.append(_WORDS.get(key, key) + ("" if short else f", {pair[0]}, now {pair[1]}"))
    raise ValueError(
        f"{job.out} holds another job, nothing is mixed into it; what differs: {'; '.join(told)}. "
        "Give another folder for the answers"
    )


def _write_pictures(job, pictures):
    import pyarrow as pa

    schema = pa.schema([("path", pa.string()), ("size", pa.int64())])
    bounds = np.linspace(0, len(pictures), job.num_shards + 1).astype(np.int64)
    with (
        replacing(job.out / PICTURES_FILE) as temporary,
        parquet().ParquetWriter(temporary, schema) as file,
    ):
        for shard in range(job.num_shards):
            names, sizes = zip(*pictures[bounds[shard] : bounds[shard + 1]], strict=True)
            file.write_table(pa.table([names, sizes], schema=schema), row_group_size=len(names))


def _text_of(settings):
    return json.dumps(settings, indent=1, sort_keys=True) + "\n"


def _backend():
    import keras

    return keras.backend.backend()
