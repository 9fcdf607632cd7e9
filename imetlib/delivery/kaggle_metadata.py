"""What Kaggle's client reads beside a notebook: `kernel-metadata.json`, its fields and slugs.

The fields, their types and the retired accelerators are those of the client `kaggle` 2.2.5; it
checks few of them itself, and takes a missing `enable_internet` for true.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

METADATA_FILE = "kernel-metadata.json"
DATASET_METADATA_FILE = "dataset-metadata.json"
# What stands for the user's name where nobody gave one.
NO_OWNER = "your-user-name"

FIELDS: dict[str, type] = {
    "id": str,
    "id_no": int,
    "title": str,
    "code_file": str,
    "language": str,
    "kernel_type": str,
    "is_private": bool,
    "enable_gpu": bool,
    "enable_tpu": bool,
    "enable_internet": bool,
    "keywords": list,
    "dataset_sources": list,
    "competition_sources": list,
    "kernel_sources": list,
    "model_sources": list,
    "docker_image": str,
    "docker_image_pinning_type": str,
    "machine_shape": str,
}
OPTIONAL = frozenset({"id_no", "keywords", "docker_image", "docker_image_pinning_type"})

# Form of one entry; the patterns of slugs are Kaggle's own: small letters, digits, hyphens.
_SLUG = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
SOURCES = {
    "dataset_sources": (rf"{_SLUG}/{_SLUG}(?:/\d+)?", "OWNER/DATASET"),
    "competition_sources": (_SLUG, "the name in the competition's address"),
    "kernel_sources": (rf"{_SLUG}/{_SLUG}(?:/\d+)?", "OWNER/NOTEBOOK"),
    "model_sources": (
        rf"{_SLUG}/{_SLUG}/[A-Za-z0-9]+/[\w.-]+/\d+",
        "OWNER/MODEL/FRAMEWORK/VARIATION/VERSION",
    ),
}
ID = rf"{_SLUG}/{_SLUG}"

DEFAULT_ACCELERATOR = "NvidiaTeslaT4"  # two of them
GPUS = (
    "NvidiaTeslaT4", "NvidiaTeslaT4Highmem", "NvidiaL4", "NvidiaL4X1", "NvidiaTeslaA100",
    "NvidiaH100", "NvidiaRtxPro6000",
)  # fmt: skip
TPUS = ("TpuV5E8", "TpuV6E8")
# With what Kaggle runs instead.
RETIRED = {
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
    "TpuV232": "no accelerator",
    "TpuV2256": "no accelerator",
}


def slugify(title: str) -> str:
    """The slug that Kaggle makes of a title.

    Example:
        >>> slugify("imetlib 08: submission, 1,103 attributes")
        'imetlib-08-submission-1103-attributes'
    """
    text = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def kernel_metadata(
    owner: str,
    title: str,
    code_file: str,
    *,
    datasets: Sequence[str] = (),
    competitions: Sequence[str] = (),
    kernels: Sequence[str] = (),
    models: Sequence[str] = (),
    accelerator: str = DEFAULT_ACCELERATOR,
    private: bool = True,
) -> dict[str, Any]:
    """Content of `kernel-metadata.json`, every field that decides something written out.

    Args:
        owner: user name on Kaggle.
        title: of the notebook; its slug becomes the address.
        code_file: name of the notebook beside the metadata.
        datasets, competitions, kernels, models: what is attached, in the forms of `SOURCES`.
        accelerator: one of `GPUS` or `TPUS`, or "none".
        private: whether only the owner sees it.
    """
    return {
        "id": f"{owner}/{slugify(title)}",
        "title": title,
        "code_file": code_file,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": private,
        "enable_gpu": accelerator not in (*TPUS, "none"),
        "enable_tpu": accelerator in TPUS,
        "enable_internet": False,
        "dataset_sources": list(datasets),
        "competition_sources": list(competitions),
        "kernel_sources": list(kernels),
        "model_sources": list(models),
        "machine_shape": "" if accelerator == "none" else accelerator,
    }
