"""What a replica process runs: load a version once, then answer batches until nobody asks any more."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError, PredictionError
from mlnb.scaling.frames import FrameReader, receive, send

if TYPE_CHECKING:
    import socket

    from mlnb.scaling.acceleration.acceleration import Acceleration

__all__ = ["Ask", "Loading", "Ready", "Task", "Threads", "serve"]


@dataclass(frozen=True, slots=True)
class Task:
    """What a replica process is to serve.

    Attributes
    ----------
    registry : str
        A folder on this machine, so that large arrays are mapped and shared.
    reference : str
        The version there, by number.
    threads : int
        That the libraries of the model may use: the cores are shared with the other replicas.
    acceleration : Acceleration or None
    background : bool
        Whether it runs only when nothing else on the machine wants to.
    """

    registry: str
    reference: str
    threads: int
    acceleration: Acceleration | None = None
    background: bool = False


@dataclass(frozen=True, slots=True)
class Loading:
    """The process is there, and loads the model."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A batch of checked rows."""

    checked: Any
    rows: int
    probabilities: bool


@dataclass(frozen=True, slots=True)
class Threads:
    """Use so many threads from now on."""

    count: int


def serve(sock: socket.socket, argument: bytes) -> int:
    """Answer on ``sock`` until it is closed."""
    warnings.simplefilter("ignore")  # what differs here was said where the version was deployed
    task: Task = pickle.loads(argument)
    send(sock, Loading(os.getpid()))
    if task.background:
        _yield_to_all()
    try:
        answering = _load(task)
    except Exception as error:  # noqa: BLE001 - whatever it is, the one who started this is told
        send(sock, error if isinstance(error, MlnbError) else MlnbError(f"{type(error).__name__}: {error}"))
        return 1
    limit_threads(task.threads)
    send(sock, Ready())
    for message in receive(sock, FrameReader()):
        if isinstance(message, Threads):
            limit_threads(message.count)
        else:
            _answer(sock, answering, message)
    return 0


def _yield_to_all() -> None:
    """Run only when nothing else wants to."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # another system, or a sandbox
        os.nice(19)


def _load(task: Task) -> Any:
    from mlnb.registry import ModelRegistry
    from mlnb.registry.predictors import predictor
    from mlnb.scaling.answering import Answering

    registry = ModelRegistry(task.registry).assume_trusted()  # by the one who deployed it
    version = registry.version(task.reference)
    model = registry.load(version, mapped=True, allow_mismatch=True)  # it was verified there as well
    answers = predictor(model) if task.acceleration is None else task.acceleration.restore(model)
    return Answering(answers, version.signature, name=str(version))


def _answer(sock: socket.socket, answering: Any, ask: Ask) -> None:
    try:
        answer = answering(ask.checked, ask.rows, probabilities=ask.probabilities)
    except PredictionError as error:
        answer = error
    try:
        send(sock, answer)
    except (pickle.PicklingError, TypeError, AttributeError) as error:  # of what predict returned
        send(sock, PredictionError(f"its answer cannot be sent: {error}"))


def limit_threads(count: int) -> None:
    """Let BLAS, OpenMP and PyTorch use ``count`` threads at most in this process."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(count)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
