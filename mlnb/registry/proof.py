"""Proof that a stored version works without the notebook: a child process loads it and answers its golden rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Proof", "prove_in_child"]

_PATIENCE = 300.0  # seconds until a child that does not answer is given up
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
        compared = f", {self.rows} golden row{'s' * (self.rows > 1)} answered alike" if self.rows else ""
        return f"portable{compared}"


def prove_in_child(url: str, reference: str) -> Proof:
    """Load ``reference`` from the registry at ``url`` in a fresh Python, and compare its golden rows.

    The child has neither the notebook's modules nor its folder nor ``PYTHONPATH``; it ends with this process, however
    that ends, and an Interrupt of the kernel does not reach it.

    Raises
    ------
    subprocess.SubprocessError
        If the child did not answer within five minutes.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED_ON}
    with tempfile.TemporaryDirectory() as empty, subprocess.Popen(  # noqa: S603 - this Python
        [sys.executable, "-P", "-c", _PROGRAM, json.dumps(_importable()), url, reference],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=empty, env=environment,
        start_new_session=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        try:
            # its stdin stays open as long as this process lives: the child ends when it closes
            answer, complaint = _answer_of(child)
        except BaseException:
            child.kill()
            raise
    if not answer:
        last = (complaint.strip().splitlines() or ["it said nothing"])[-1]
        return Proof(portable=False, reason=f"the child process ended with {child.returncode}: {last}", rows=0,
                     requirements=(), python="", seconds=0.0)  # fmt: skip
    return Proof.from_json(json.loads(answer))


def _answer_of(child: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the child's answer and what it wrote to its error output; its input stays open until it has ended."""
    stdin, child.stdin = child.stdin, None  # else communicate closes it at once
    try:
        return child.communicate(timeout=_PATIENCE)
    finally:
        if stdin is not None:
            stdin.close()


def _importable() -> list[str]:
    """Return where mlnb lies, for a child whose own path may not lead there."""
    return [str(Path(__file__).parents[2])]


_PROGRAM = """
import json, sys
from importlib.util import find_spec
if find_spec("mlnb") is None:
    sys.path.extend(json.loads(sys.argv[1]))
from mlnb.registry.child import main
main(*sys.argv[2:])
"""
