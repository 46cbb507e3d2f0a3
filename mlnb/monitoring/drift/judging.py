"""Judges drift in a process of its own: scipy takes a second to load, and a report tens of milliseconds of the GIL.

``python -c "from mlnb.monitoring.drift.judging import main; main()"`` reads questions from its standard input, each
behind its length in 8 bytes, and writes answers like them, until that input ends or its parent has.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from mlnb.monitoring.drift.assessing import assess
from mlnb.monitoring.drift.reading import columns_of
from mlnb.registry import ModelRegistry

if TYPE_CHECKING:
    from mlnb.monitoring.drift.report import DriftReport
    from mlnb.monitoring.drift.sampling import SampledRows
    from mlnb.registry.rows.baseline import Baseline
    from mlnb.registry.signature import Signature

__all__ = ["LENGTH", "Question", "judge", "main"]

LENGTH = 8  # bytes
_LOOK = 2.0  # seconds between two looks whether the parent is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whether rows have drifted.

    Attributes
    ----------
    registry : str
        A folder on this machine that has the version's files.
    reference : str
        The version there.
    digest : str or None
        Of its baseline; None without one.
    signature : Signature
    sampled : SampledRows
    name : str
    """

    registry: str
    reference: str
    digest: str | None
    signature: Signature
    sampled: SampledRows
    name: str


def judge(question: Question) -> DriftReport:
    """Answer a question."""
    baseline = _baseline(question.registry, question.reference, question.digest)
    window, sampled = columns_of(question.signature, question.sampled), question.sampled
    return assess(
        baseline, window.columns, prediction=window.prediction, name=question.name, version=sampled.version,
        at=sampled.until,
    )  # fmt: skip


@lru_cache(8)
def _baseline(registry: str, reference: str, digest: str | None) -> Baseline | None:
    if digest is None:
        return None
    return ModelRegistry(registry).assume_trusted().baseline(reference)  # by the one who deployed it


def main() -> None:
    """Answer questions until nobody asks any more."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    while (head := source.read(LENGTH)) and len(head) == LENGTH:
        answer = _answered(source.read(int.from_bytes(head, "little")))
        _write(sink, answer)


def _answered(question: bytes) -> bytes:
    try:
        return pickle.dumps((True, judge(pickle.loads(question))))
    except Exception as error:  # noqa: BLE001 - rows may be anything; who asked is told
        return pickle.dumps((False, f"{type(error).__name__}: {error}"))


def _write(sink: BinaryIO, answer: bytes) -> None:
    sink.write(len(answer).to_bytes(LENGTH, "little") + answer)
    sink.flush()


def _end_with(parent: int) -> None:
    """End when the parent has ended, although a fork of it may hold the pipe."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(0)
