"""Facts that cross rooms, as frozen values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PredictionEvent", "PredictionListener"]


class PredictionEvent(NamedTuple):
    """One request to predict, answered or refused. A body that is too large to be read is not one.

    A named tuple, because tens of thousands are made in a second.

    Attributes
    ----------
    model : str
        Name of the deployment.
    version : int
        Number of the version that answered.
    request_id : str
    at : float
        When the answer was ready, seconds since the epoch.
    seconds : float
        From the whole request to the answer, without the network.
    rows : int
        Rows predicted; 0 when the request was refused.
    status : int
        HTTP status of the answer.
    error : str or None
        One line for the person who runs the model, None for a good answer.
    inputs : list of rows, ndarray or table, or None
        The rows as they came; None when the request was refused.
    prediction : ndarray or None
        ``(n, ...)``: the answer.
    replica : int
        Number of the replica that answered, 0 if none did.
    waited : float
        Seconds in the queue before its batch began.
    batch : int
        Rows of the batch that it was answered in, 0 if there was none.
    probabilities : ndarray or None
        ``(n, classes)``, where the request asked for them.
    parent : bytes
        What its header ``traceparent`` says, where traces are on.
    """

    model: str
    version: int
    request_id: str
    at: float
    seconds: float
    rows: int
    status: int
    error: str | None = None
    inputs: Any = None
    prediction: np.ndarray[Any, Any] | None = None
    replica: int = 0
    waited: float = 0.0
    batch: int = 0
    probabilities: np.ndarray[Any, Any] | None = None
    parent: bytes = b""


PredictionListener = Callable[[Sequence[PredictionEvent]], None]
