"""Proof that a stored version works without the notebook: a child process loads it and answers its golden rows."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.errors import RegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UNREADABLE", "Proof", "prove_in_child"]

_PATIENCE = 300.0  # seconds until a child that does not answer is given up
UNREADABLE = "unreadable"  # the key under which a child says why it could not read the registry
_NOT_PASSED_ON = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a child process with nothing of the notebook in it found.

    Attributes
    ----------
    portable : bool
        Whether it loaded the version, and gave the recorded answers to the golden rows.
    reason : str
        What is missing or differs, with what to do; "" if it is portable.
    rows : int
        Golden rows compared; 0 if the version has none, or its answers are not repeatable.
    requirements : tuple of str
        The packages that loading and answering imported, pinned: ``scikit-learn==1.9.0``.
    python : str
        Version of Python it ran under.
    seconds : float
        From the start of loading to the last answer.
    """

    portable: bool
    reason: str
    rows: int
    requirements: tuple[str, ...]
    python: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Proof:
        """Read the stored form."""
        return cls(**(dict(stored) | {"requirements": tuple(stored["requirements"])}))

    def __str__(self) -> str:
        if not self.portable:
            return f"not portable: {self.reason}"
        compared = (
            f", {self.rows} golden row{'s' * (self.rows > 1)} answered alike" if self.rows else ", no answers compared"
        )
        return f"portable{compared}"


def prove_in_child(url: str, reference: str) -> Proof:
    """Load ``reference`` from the registry at ``url`` in a fresh Python, and compare its golden rows.

    The child has neither the notebook's modules nor its folder nor ``PYTHONPATH``; it ends with this process, however
    that ends, and an Interrupt of the kernel does not reach it. One that does not answer within five minutes is ended.

    Raises
    ------
    RegistryUnavailableError
        If the child cannot read the registry.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED_ON}
    with (
        tempfile.TemporaryDirectory() as empty,
        tempfile.TemporaryFile() as complaint,
        subprocess.Popen(  # noqa: S603 - this Python
            [sys.executable, "-P", "-c", _PROGRAM, json.dumps(_importable()), url, reference],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaint, cwd=empty, env=environment,
            start_new_session=True,
        ) as child,
    ):  # fmt: skip
        answer, ending = _answer_of(child)
        complaint.seek(0)
        last = complaint.read().decode(errors="replace").strip().splitlines()[-1:]
    if answer:
        said = json.loads(answer)
        if UNREADABLE in said:
            raise RegistryUnavailableError(f"{reference} was not proved: {said[UNREADABLE]}")
        return Proof.from_json(said)
    reason = "; ".join([ending, *last])
    return Proof(portable=False, reason=reason, rows=0, requirements=(), python=platform.python_version(), seconds=0.0)


def _answer_of(child: subprocess.Popen[bytes]) -> tuple[bytes, str]:
    """Return the child's answer, and how it ended; then neither it nor a process that it started is left."""
    stdin, child.stdin = child.stdin, None  # open as long as this process lives: the child ends when it closes
    try:
        answer, _ = child.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return b"", f"the child process did not answer within {_PATIENCE:.0f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        if stdin is not None:
            stdin.close()
    return answer, f"the child process ended with {child.returncode}"


def _importable() -> list[str]:
    """Return where mlnb lies, for a child whose own path may not lead there."""
    return [str(Path(__file__).parents[3])]


_PROGRAM = """
import json, sys
from importlib.util import find_spec
if find_spec("mlnb") is None:
    sys.path.extend(json.loads(sys.argv[1]))
from mlnb.registry.proofs.child import main
main(*sys.argv[2:])
"""
