"""Where a model comes from: who, on which machine, from which notebook, commit and data."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LineageProbe", "author", "digest_of", "tell_notebook"]

_PATIENCE = 1.0  # seconds that registering waits for git, which is slow in huge repositories


def author() -> str:
    """Return ``user@host``."""
    return f"{_user()}@{platform.node()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        return str(os.getuid())


def digest_of(example: Any) -> dict[str, str]:
    """Return ``example``: a SHA-1 of the example rows' values and types (joblib.hash), {} if they cannot be hashed."""
    import joblib

    if example is None:
        return {}
    try:
        return {"example": joblib.hash(example, hash_name="sha1")}
    except Exception:  # noqa: BLE001 - it pickles, and whatever that raises: a digest less is no reason not to register
        return {}


def _from_environment() -> dict[str, Any]:
    notebook = os.environ.get("JPY_SESSION_NAME", "")  # set by Jupyter's server for its kernels
    return {"notebook": notebook} if notebook.endswith(".ipynb") else {}


_notebook: Callable[[], dict[str, Any]] = _from_environment


def tell_notebook(source: Callable[[], dict[str, Any]] | None) -> None:
    """Let ``source`` say which ``notebook`` and ``cell`` run; None returns to what the environment says."""
    global _notebook  # noqa: PLW0603 - a process has one notebook
    _notebook = source or _from_environment


class LineageProbe:
    """Asks git and hashes the example while the model is being stored; both have ended when the block has.

    Parameters
    ----------
    example : object
        The example rows, or None.

    Examples
    --------
    >>> with LineageProbe(None) as probe:
    ...     found = probe.result()
    >>> {"host", "user"} <= set(found)
    True
    """

    def __init__(self, example: Any) -> None:
        self._git = _ask_git()
        self._pool = ThreadPoolExecutor(1)
        self._example = self._pool.submit(digest_of, example)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        if self._git is not None and self._git.returncode is None:
            self._git.kill()
            self._git.communicate()

    def result(self) -> dict[str, Any]:
        """Return ``user``, ``host``, and where known ``commit``, ``dirty``, ``notebook``, ``cell``, ``example``."""
        known = {"user": _user(), "host": platform.node()} | _notebook() | _answer(self._git)
        texts = {key: _text(value) if isinstance(value, str) else value for key, value in known.items()}
        return texts | self._example.result()


def _text(value: str) -> str:
    """Return ``value`` as it can be written down: a file's name need not be UTF-8."""
    return value.encode(errors="replace").decode()


def _ask_git() -> subprocess.Popen[str] | None:
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    with suppress(OSError):  # no git, or no current folder
        if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
            return None
        return subprocess.Popen(  # noqa: S603 - a fixed command
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
    return None


def _answer(git: subprocess.Popen[str] | None) -> dict[str, Any]:
    if git is None:
        return {}
    try:
        lines = git.communicate(timeout=_PATIENCE)[0].splitlines()
    except subprocess.TimeoutExpired:
        return {}
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if git.returncode != 0 or commit == "(initial)":
        return {}
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}
