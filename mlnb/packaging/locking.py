"""The packages of an image, each pinned with the hashes of its files: `uv pip compile` for another machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb.errors import MissingLibraryError, PackagingError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.packaging.wheels import OwnWheel

__all__ = ["PLATFORMS", "Lock", "lock"]

# By what a Docker engine calls its machine. Debian 12 has glibc 2.36, and slim images are of it or of a newer one.
PLATFORMS = {"linux/amd64": "x86_64-manylinux_2_36", "linux/arm64": "aarch64-manylinux_2_36"}
_PATIENCE = 300.0  # seconds
_UNREACHABLE = ("Failed to fetch", "error sending request", "Request failed", "timed out")


@dataclass(frozen=True, slots=True)
class Lock:
    """Which packages an image gets.

    Attributes
    ----------
    requirements : str
        The file ``requirements.txt``: all packages with their hashes, mlnb's own wheel in ``wheels/`` among them.
    installer : str
        The file ``uv.txt``: uv, which installs them, with its hashes.
    pinned : tuple of str
        The packages without the wheel: ``scikit-learn==1.9.0``.
    notes : tuple of str
        Where it is not what was asked for, a sentence each.
    """

    requirements: str
    installer: str
    pinned: tuple[str, ...]
    notes: tuple[str, ...] = ()


def lock(
    requirements: Sequence[str],
    *,
    python: str,
    wheel: OwnWheel,
    extras: Sequence[str] = (),
    platform: str = "linux/amd64",
) -> Lock:
    """Return the packages that serving a model needs, with hashes; of those not pinned, the versions installed here.

    Nothing is compiled in an image, so that each needs a wheel. The index is the one that uv is set up with, for
    instance by ``UV_DEFAULT_INDEX``, else pip's ``PIP_INDEX_URL``; it does not appear in what is returned.

    Parameters
    ----------
    requirements : sequence of str
        Of the model, pinned: ``"scikit-learn==1.9.0"``. Where no index has a local version, such as
        ``torch==2.13.0+cpu``, its public one is taken, and said.
    python : str
        Of the image: ``"3.11"``.
    wheel : OwnWheel
        mlnb, whose requirements count too.
    extras : sequence of str
        Of mlnb.
    platform : str
        ``"linux/amd64"`` or ``"linux/arm64"``.

    Raises
    ------
    PackagingError
        If a requirement cannot be met, naming it, or no index answers.
    MissingLibraryError
        If uv is not installed.
    """
    if platform not in PLATFORMS:
        raise PackagingError(f"Images are made for Linux on amd64 or arm64, not for {platform}; {_known()}.")
    public = [re.sub(r"(==[^+;\s]+)\+[^;\s]+", r"\1", one) for one in requirements]
    notes: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / wheel.name).write_bytes(wheel.content)
        own = f"mlnb[{','.join(extras)}] @ {(Path(folder) / wheel.name).as_uri()}"
        try:
            compiled = _compiled([*requirements, own], python=python, platform=platform)
        except _UnmetError:
            if public == list(requirements):
                raise
            compiled = _compiled([*public, own], python=python, platform=platform)
            notes = tuple(_instead(old, new) for old, new in zip(requirements, public, strict=True) if old != new)
    installer = _compiled([f"uv=={version('uv')}"], python=python, platform=platform)
    last = f"./wheels/{wheel.name} --hash=sha256:{wheel.digest}\n"
    return Lock(compiled + last, installer, tuple(re.findall(r"^[^\s#]+==[^\s;]+", compiled, re.MULTILINE)), notes)


class _UnmetError(PackagingError):
    """A requirement that no index can meet."""


def _instead(old: str, new: str) -> str:
    return f"{old} is on no index that was asked: the image gets {new}, which may be another build of it, and larger."


def _known() -> str:
    return nearest("", PLATFORMS)


def _compiled(requirements: Sequence[str], *, python: str, platform: str) -> str:
    """Return the lock of requirements without a word of this machine.

    Raises
    ------
    PackagingError, MissingLibraryError
    """
    command = [
        _uv(), "pip", "compile", "requirements.in", "--output-file", "requirements.txt", "--generate-hashes",
        "--python", sys.executable, "--python-version", python, "--python-platform", PLATFORMS[platform],
        "--only-binary", ":all:", "--no-header", "--no-annotate", "--no-emit-package", "mlnb",
        "--no-python-downloads", "--no-progress", "--color", "never", "--quiet",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder) / "requirements.in", Path(folder) / "requirements.txt"
        asked.write_text("\n".join(requirements), encoding="utf-8")
        found.write_text("\n".join(_installed()), encoding="utf-8")  # which uv prefers where they fit
        failure = _run(command, folder)
        if failure:
            raise _explained(failure, requirements, where=f"Python {python} on {platform}")
        lines = found.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def _run(command: Sequence[str], folder: str) -> str:
    """Run uv; return why it failed, "" if it did not."""
    try:
        done = subprocess.run(  # noqa: S603 - uv's own program, and no shell
            command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it timed out after {_PATIENCE:g} seconds."
    return done.stderr or f"uv ended with {done.returncode}." if done.returncode else ""


def _uv() -> str:
    try:
        import uv
    except ModuleNotFoundError:
        raise MissingLibraryError("Locking the packages of an image needs uv: pip install 'mlnb[package]'.") from None
    return uv.find_uv_bin()


def _installed() -> list[str]:
    """Return what is installed here, pinned, sorted: what a model was tried with."""
    return sorted({f"{one.name}=={one.version}" for one in distributions() if one.name})


def _environment() -> dict[str, str]:
    """Return the environment for uv: the system's certificates, as pip trusts them, and pip's index."""
    index = {"UV_DEFAULT_INDEX": os.environ["PIP_INDEX_URL"]} if os.environ.get("PIP_INDEX_URL") else {}
    return {"UV_SYSTEM_CERTS": "true"} | index | dict(os.environ)


def _explained(said: str, requirements: Sequence[str], *, where: str) -> PackagingError:
    reason = " ".join(said.split()).removeprefix("error: ").replace(" cause: ", " ")
    if any(sign in said for sign in _UNREACHABLE):
        return PackagingError(
            f"The packages could not be locked, because the package index does not answer: {reason} Check the network, "
            "or name your index: UV_DEFAULT_INDEX=https://... in the environment."
        )
    names = {re.split(r"[^A-Za-z0-9._-]", one, maxsplit=1)[0]: one for one in requirements}
    blamed = [one for name, one in names.items() if re.search(rf"(?i)(?<![\w.-]){re.escape(name)}(?![\w-])", said)]
    named = ", ".join(one for one in blamed if not one.startswith("mlnb")) or "The requirements"
    return _UnmetError(
        f"{named} cannot be installed for {where}: {reason} If it is your own, register the model with by_value=[its "
        "module], or put a wheel of it on an index and name that: UV_INDEX=https://... in the environment; else "
        "install a version here that the index has, and register the model again."
    )
