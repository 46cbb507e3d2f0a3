"""mlnb itself as a wheel, made of the one that is running: it may be on no index, or an edited one."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import mlnb.registry

__all__ = ["OwnWheel", "own_wheel"]

_NOTEBOOK = ("labextension", "magics", "packaging", "widgets", "workspace")  # rooms that `mlnb serve` never enters
_CACHES = ("__pycache__", "node_modules", "tests")
_BEFORE_ALL = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can state
_MODE = 0o100644 << 16
_STATED = ("METADATA", "entry_points.txt", "licenses/LICENSE")
_WHEEL = "Wheel-Version: 1.0\nGenerator: mlnb\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class OwnWheel:
    """A wheel.

    Attributes
    ----------
    name : str
        Of the file.
    content : bytes
    """

    name: str
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


@cache
def own_wheel() -> OwnWheel:
    """Return a wheel of what ``mlnb serve`` needs of the mlnb that is running; the same files give the same bytes."""
    version = distribution("mlnb").version
    files = _package_files() | _metadata_files(f"mlnb-{version}.dist-info")
    record = f"mlnb-{version}.dist-info/RECORD"
    return OwnWheel(f"mlnb-{version}-py3-none-any.whl", _zipped(files | {record: _record(files, record)}))


def _package_files() -> dict[str, bytes]:
    folder = Path(mlnb.registry.__file__).parent.parent
    files = ((path.relative_to(folder), path) for path in folder.rglob("*") if path.is_file())
    return {
        f"mlnb/{inside.as_posix()}": path.read_bytes()
        for inside, path in files
        if inside.parts[0] not in _NOTEBOOK and not any(part in _CACHES or part[0] == "." for part in inside.parts)
    }


def _metadata_files(folder: str) -> dict[str, bytes]:
    """Return what an installer reads; nothing of how this one was installed, which names folders."""
    known = distribution("mlnb")
    stated = {name: known.read_text(name) or "" for name in _STATED}
    return {f"{folder}/{name}": text.encode() for name, text in (stated | {"WHEEL": _WHEEL}).items()}


def _record(files: dict[str, bytes], itself: str) -> bytes:
    """Return the list of files with their digests, as an installer checks them (PEP 376, PEP 427)."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    for path, content in sorted(files.items()):
        digest = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        writer.writerow([path, f"sha256={digest}", len(content)])
    writer.writerow([itself, "", ""])
    return lines.getvalue().encode()


def _zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, content in sorted(files.items(), key=lambda item: (".dist-info/" in item[0], item[0])):
            entry = zipfile.ZipInfo(path, _BEFORE_ALL)
            entry.external_attr, entry.create_system, entry.compress_type = _MODE, 3, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return packed.getvalue()
