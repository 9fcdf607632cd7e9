"""The files of pretrained weights: names, sizes, digests, where they are, a Kaggle dataset of them.

Nothing is downloaded here.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from imetlib.files import link_or_copy, making_folder
from imetlib.models.backbone_table import BACKBONES
from imetlib.models.backbones import find_weights
from imetlib.models.model_files import compare_digest, digest_kind

# Bytes that Keras reports while it downloads each file.
WEIGHTS_BYTES = {
    "mobilenet_v2": 9_406_464,
    "xception": 83_683_744,
    "resnet50": 94_765_736,
    "inception_resnet_v2": 219_055_592,
    "vgg16": 58_889_256,
    "vgg19": 80_134_624,
    "efficientnet_v2_b0": 24_274_472,
    "efficientnet_v2_s": 82_420_632,
    "convnext_tiny": 111_650_432,
}
_TITLE, _SLUG = "Weights for imetlib", "imetlib-weights"
_LICENCES = (
    "ImageNet weights without top, as Keras publishes them for keras.applications; each under the "
    "licence of its model's authors, see https://keras.io/api/applications. Files: "
)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True)
class WeightsFile:
    """What is known of a backbone's file of stock weights.

    Args:
        backbone: key of `BACKBONES`.
        file_name: the exact name in `keras.applications`.
        num_bytes: int. Its size.
        digest: hex digest that Keras publishes, "" where it publishes none.
        digest_kind: "md5", "sha256" or "".
        path: `pathlib.Path` of what `weights="imagenet"` takes here, or None.
        found_bytes: int. Size of that file, 0 where there is none.
        verdict: "fits", "differs" (another file under the published name, which is refused),
            "not published" (no digest to compare with), "another name" (not the published file,
            but one that is known by its name), or "not found".
    """

    backbone: str
    file_name: str
    num_bytes: int
    digest: str
    digest_kind: str
    path: Path | None
    found_bytes: int
    verdict: str

    @property
    def usable(self):
        """Whether it is here and may be opened."""
        return self.verdict not in ("differs", "not found")


def list_weights_files():
    """The files of stock weights, and which of them are here.

    Looks where `weights="imagenet"` does: `IMETLIB_WEIGHTS`, the Keras cache, Kaggle's inputs.

    Returns:
        list of `WeightsFile`, in the order of `BACKBONES`, of those that have such weights.
    """
    return [_look_for(name, row) for name, row in BACKBONES.items() if row.weights_name]


def write_weights_dataset(folder, owner, files, *, slug=_SLUG, copy=False):
    """A folder for `kaggle datasets create`: weights files and dataset-metadata.json.

    Args:
        folder: path that does not exist, or an empty folder.
        owner: the Kaggle user, or organisation, as in addresses.
        files: `WeightsFile`s; those that are not usable are left out.
        slug: the dataset's name in addresses, 3 to 50 characters.
        copy: bool. Whether files are copied in any case; else they are hard links where the disk
            has them.

    Returns:
        (`pathlib.Path` of the folder, list of file names).

    Raises:
        ValueError: no usable file, the folder is not empty, or a name that Kaggle does not take.
    """
    folder = Path(folder)
    if not _NAME.fullmatch(owner) or not _NAME.fullmatch(slug) or not 3 <= len(slug) <= 50:
        raise ValueError(
            "`owner` and `slug` are written as in Kaggle's addresses: lower-case letters, digits "
            f"and hyphens. Received: owner={owner!r}, slug={slug!r}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; nothing was written.")
    usable = {file.path.name: file.path for file in files if file.usable}
    if not usable:
        raise ValueError(
            "None of the weights files is here: put some into the folder IMETLIB_WEIGHTS first, "
            f"such as {files[0].file_name if files else 'those of keras.applications'}."
        )
    metadata = {
        "title": _TITLE,
        "id": f"{owner}/{slug}",
        "licenses": [{"name": "other"}],
        "description": _LICENCES + ", ".join(usable) + ".",
        "resources": [
            {"path": file.path.name, "description": f"{file.backbone}, without top"}
            for file in files
            if file.usable
        ],
    }
    with making_folder(folder) as partial:
        partial.mkdir()
        for name, path in usable.items():
            link_or_copy(path, partial / name, copy=copy)
        text = json.dumps(metadata, indent=2) + "\n"
        (partial / "dataset-metadata.json").write_text(text, encoding="utf-8")
    return folder, list(usable)


def _look_for(name, row):
    try:
        path = find_weights(name, "imagenet")
    except FileNotFoundError:
        path, verdict = None, "not found"
    else:
        compared = compare_digest(path)
        if compared:
            verdict = "fits" if compared[1] == compared[2] else "differs"
        else:
            verdict = "not published" if path.name == row.weights_name else "another name"
    return WeightsFile(
        backbone=name,
        file_name=row.weights_name,
        num_bytes=WEIGHTS_BYTES[name],
        digest=row.weights_digest,
        digest_kind=digest_kind(row.weights_digest),
        path=path,
        found_bytes=path.stat().st_size if path else 0,
        verdict=verdict,
    )
