"""One deployment's answers: the live version, swapped between two requests."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError, MlnbError, PredictionError
from mlnb.events import PredictionEvent
from mlnb.registry.predictors import predictor
from mlnb.scaling.replicas import KernelReplica

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import numpy as np

    from mlnb.events import PredictionListener
    from mlnb.registry import ModelVersion
    from mlnb.registry.predictors import Predictor
    from mlnb.registry.signature import Signature

__all__ = ["Answer", "ModelService", "Query"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Rows that fit a signature, and what is asked about them.

    Attributes
    ----------
    rows : ndarray or DataFrame
        ``(n, features)``
    probabilities : bool
    """

    rows: Any
    probabilities: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one version said of a query.

    Attributes
    ----------
    prediction : ndarray
        ``(n, ...)``
    probabilities : ndarray or None
        ``(n, classes)``, when asked for.
    version : ModelVersion
    request_id : str
    seconds : float
        From submitting to the answer.
    """

    prediction: np.ndarray[Any, Any]
    probabilities: np.ndarray[Any, Any] | None
    version: ModelVersion
    request_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Live:
    version: ModelVersion
    replica: KernelReplica


class ModelService:
    """Answers for one deployment.

    Parameters
    ----------
    version : ModelVersion
    model : object
        What the registry loaded for that version.
    listener : callable
        Given one :class:`~mlnb.events.PredictionEvent` per request, on the model's thread. What it raises is logged.
    """

    def __init__(self, version: ModelVersion, model: object, *, listener: PredictionListener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._live = _start(version, model)

    @property
    def version(self) -> ModelVersion:
        """The live version."""
        return self._live.version

    def submit(self, decode: Callable[[Signature], Query]) -> Future[Answer]:
        """Queue a request; ``decode`` turns it into rows for whichever version is live now.

        Raises
        ------
        StoppedError
            After :meth:`close`. What decoding and predicting raise is raised by the future.
        """
        submitted = time.perf_counter()
        with self._lock:  # a swap waits, so that no request meets a replica that has closed
            live = self._live
            return live.replica.submit(lambda answering: self._answer(live.version, answering, decode, submitted))

    def swap(self, version: ModelVersion, model: object) -> None:
        """Let ``version`` answer from the next request on; those that are queued get their answer from the old one."""
        fresh = _start(version, model)
        with self._lock:
            old, self._live = self._live, fresh
        old.replica.close()

    def close(self, *, timeout: float) -> bool:
        """Answer what is queued and take no more; say whether that was done within ``timeout`` seconds.

        What was not gets a StoppedError.
        """
        replica = self._live.replica
        replica.close()
        done = replica.join(timeout=timeout)
        if not done:
            replica.abandon()
        return done

    def _answer(
        self,
        version: ModelVersion,
        answering: Predictor,
        decode: Callable[[Signature], Query],
        submitted: float,
    ) -> Answer:
        request_id, rows, status = secrets.token_hex(6), 0, 500
        reason: str | None = None
        try:
            query = decode(version.signature)
            prediction, probabilities = _predict(version, answering, query)
            rows, status, reason = len(prediction), 200, None
        except MlnbError as error:
            error.details.setdefault("request_id", request_id)
            status, reason = error.status, _one_line(error)
            raise
        except Exception as error:
            reason = _one_line(error)
            raise
        finally:
            seconds = time.perf_counter() - submitted
            self._tell(
                PredictionEvent(
                    model=version.name,
                    version=version.number,
                    request_id=request_id,
                    at=time.time(),
                    seconds=seconds,
                    rows=rows,
                    status=status,
                    error=reason,
                )
            )
        return Answer(
            prediction=prediction, probabilities=probabilities, version=version, request_id=request_id, seconds=seconds
        )

    def _tell(self, event: PredictionEvent) -> None:
        try:
            self._listener(event)
        except Exception:  # noqa: BLE001 - a listener is somebody else's code
            _log.exception("A listener failed on a prediction of %s", event.model)


def _start(version: ModelVersion, model: object) -> _Live:
    return _Live(version, KernelReplica(predictor(model), name=f"mlnb {version}"))


def _predict(
    version: ModelVersion, answering: Predictor, query: Query
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    if query.probabilities and answering.probabilities is None:
        raise InvalidInputError(f"{version.model_type} gives no probabilities; leave 'probabilities' out.")
    try:
        prediction = answering.predict(query.rows)
        probabilities = None
        if query.probabilities and answering.probabilities is not None:
            probabilities = answering.probabilities(query.rows)
    except (Exception, SystemExit) as error:  # SystemExit would end the server's event loop
        _log.warning("%s failed to predict", version, exc_info=True)
        raise PredictionError(
            "The model failed on this input; its owner sees the reason in the panel, under Monitor."
        ) from error
    if prediction.ndim == 0 or len(prediction) != len(query.rows):
        raise PredictionError(
            "The model failed on this input; its owner sees the reason in the panel, under Monitor."
        ) from ValueError(f"predict returned the shape {prediction.shape} for {len(query.rows)} rows")
    return prediction, probabilities


def _one_line(error: Exception) -> str:
    """Return the reason for the person who runs the model: the model's own exception where it failed."""
    reason = error.__cause__ if isinstance(error, PredictionError) and error.__cause__ is not None else error
    text = str(reason) if isinstance(reason, MlnbError) else f"{type(reason).__name__}: {reason}"
    return " ".join(text.split())[:300]
