"""The package as something that a notebook without network can carry or find: packed, or a wheel.

Both are the same bytes for the same files, so that a bundle made twice is one bundle.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import imetlib
from imetlib.archives import Member, check_members
from imetlib.delivery.privacy import Secret, find_secrets

ROOT = Path(imetlib.__file__).resolve().parents[1]
WHEEL_NAME = f"imetlib-{imetlib.__version__}-py3-none-any.whl"
PACKAGE_TAG = "imetlib-package"
# Unpacked, the package takes a fortieth of it.
_MAX_BYTES = 64 * 2**20
_LINE = 1000

_UNPACK = '''\
# imetlib {version}, {count} files: compared with its SHA-256, then unpacked into a new folder.
import base64
import hashlib
import io
import sys
import tarfile
import tempfile

sha256 = "{sha256}"
packed = base64.b64decode("""
{payload}
""")
if hashlib.sha256(packed).hexdigest() != sha256:
    raise ValueError("The package in this cell was cut or changed: make the bundle again.")
package_folder = tempfile.mkdtemp(prefix="imetlib-")
with tarfile.open(fileobj=io.BytesIO(packed), mode="r:xz") as archive:
    archive.extractall(package_folder, filter="data")
sys.path.insert(0, package_folder)
del packed
'''

_INSTALL = """\
# imetlib {version} from the attached dataset {dataset}: compared with its SHA-256, then installed.
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sha256 = "{sha256}"
inputs = Path(os.environ.get("IMETLIB_KAGGLE_INPUT") or "/kaggle/input")
wheels = [path for depth in range(1, 6) for path in inputs.glob("*/" * depth + "{wheel}")]
if not wheels:
    raise FileNotFoundError("No {wheel} is attached: Add Input, dataset {dataset}.")
if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != sha256:
    raise ValueError("{wheel} is another one than this notebook was made with: upload both again.")
package_folder = tempfile.mkdtemp(prefix="imetlib-")
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
subprocess.run([*pip, "--target", package_folder, str(wheels[0])], check=True)
sys.path.insert(0, package_folder)
"""


def package_files(*, results: bool = False) -> dict[str, bytes]:
    """Name to content of what the package consists of, its licence included.

    Args:
        results: also the project's committed tables and records, which notebooks show.

    Raises:
        FileNotFoundError: `results`, and the package lies in no checkout of the project.
    """
    package = ROOT / "imetlib"
    paths = list(package.rglob("*.py"))
    if (ROOT / "LICENSE").is_file():
        paths.append(ROOT / "LICENSE")
    if results:
        if not (ROOT / "results").is_dir():
            raise FileNotFoundError(
                f"This notebook shows the project's results/, and there is none at {ROOT}: make "
                "the bundle in a checkout of the project."
            )
        tables = [
            path for path in (ROOT / "results").rglob("*.csv") if "submission" not in path.stem
        ]
        paths += [*tables, *(ROOT / "results").rglob("record.json")]
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in sorted(paths)}


def pack(files: Mapping[str, bytes]) -> bytes:
    """A `.tar.xz` of files, the same bytes for the same files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return lzma.compress(file.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def build_wheel(files: Mapping[str, bytes]) -> bytes:
    """A wheel of the package, for `pip install --no-index --no-deps`.

    Written here, because building one elsewhere asks the package index for its build tools. It
    names no dependencies: those of Kaggle's image are there, whatever their versions.
    """
    information = f"imetlib-{imetlib.__version__}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: imetlib\nVersion: {imetlib.__version__}\n"
    kind = "Wheel-Version: 1.0\nGenerator: imetlib\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {name: data for name, data in files.items() if name.startswith("imetlib/")}
    content[f"{information}/METADATA"] = metadata.encode()
    content[f"{information}/WHEEL"] = kind.encode()
    if "LICENSE" in files:
        content[f"{information}/LICENSE"] = files["LICENSE"]
    lines = []
    for name, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    content[f"{information}/RECORD"] = "".join([*lines, f"{information}/RECORD,,\n"]).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            # Without a date of its own an entry would carry the hour of this run.
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def unpack_cell(packed: bytes, count: int) -> str:
    """Source of the cell that holds the package, checks and unpacks it."""
    text = base64.b64encode(packed).decode("ascii")
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return _UNPACK.format(
        version=imetlib.__version__,
        count=count,
        sha256=hashlib.sha256(packed).hexdigest(),
        payload="\n".join(lines),
    ).rstrip()


def install_cell(wheel: bytes, dataset: str) -> str:
    """Source of the cell that installs the wheel of an attached dataset."""
    return _INSTALL.format(
        version=imetlib.__version__,
        dataset=dataset,
        sha256=hashlib.sha256(wheel).hexdigest(),
        wheel=WHEEL_NAME,
    ).rstrip()


def read_texts(source: str) -> dict[str, str]:
    """Names to the texts that a cell gives them: `sha256`, and `packed` where it holds a package.

    Nothing is executed.

    Raises:
        ValueError: the cell is not Python.
    """
    found: dict[str, str] = {}
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(f"not Python: {error}") from None
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            for node in ast.walk(statement.value):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.setdefault(statement.targets[0].id, node.value)
    return found


def find_package_faults(source: str) -> list[str]:
    """What is wrong with a cell made by `unpack_cell`: its package is opened in memory.

    Returns:
        list of str, empty where all is well.
    """
    again = "make the bundle again"
    try:
        texts = read_texts(source)
        packed = base64.b64decode(texts["packed"])
    except (KeyError, ValueError) as error:
        return [f"it holds no package that can be read ({error}): {again}"]
    if hashlib.sha256(packed).hexdigest() != texts.get("sha256"):
        return [f"its package has another SHA-256 than the cell says: {again}"]
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:xz") as archive:
            check_members(map(_describe, archive), "the package", len(packed), _MAX_BYTES)
            files = {member.name: _read(archive, member) for member in archive.getmembers()}
    except (EOFError, ValueError, lzma.LZMAError, tarfile.TarError) as error:
        return [f"its package cannot be unpacked ({error}): {again}"]
    if "imetlib/__init__.py" not in files:
        return [f"its package is not imetlib: {again}"]
    return [f"its package holds a secret, {found}: remove it" for found in secrets_in(files)]


def secrets_in(files: Mapping[str, bytes]) -> list[Secret]:
    """Tokens, keys, home folders and addresses in files that are about to be packed."""
    return [
        found
        for name, content in files.items()
        for found in find_secrets(content.decode("utf-8", "replace"), place=name)
    ]


def _describe(member: tarfile.TarInfo) -> Member:
    kind = "file" if member.isfile() else "folder" if member.isdir() else "link or device"
    return Member(member.name, kind, member.size)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()
