"""Every error mlnb raises on purpose: what was given, what is accepted, what to do next."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AliasMovedError",
    "AlreadyLabelledError",
    "AmbiguousDeploymentError",
    "ClusterError",
    "DeadlineError",
    "EngineError",
    "EnvironmentWarning",
    "GoldenRowsError",
    "IntegrityError",
    "InvalidInputError",
    "InvalidNameError",
    "MalformedBodyError",
    "MemberError",
    "MissingLibraryError",
    "MlnbError",
    "ModelNotFoundError",
    "NoPreviousVersionError",
    "NotAcceptableError",
    "NotDeployedError",
    "NotServableError",
    "OverloadedError",
    "PackagingError",
    "PortInUseError",
    "PredictionError",
    "RegistryFormatError",
    "RegistryUnavailableError",
    "ReplicaError",
    "ServerStartError",
    "StoppedError",
    "TooLargeError",
    "UnauthorizedError",
    "UndecidedError",
    "UnknownRequestError",
    "UnsupportedMediaTypeError",
    "UntrustedError",
    "VersionInUseError",
    "nearest",
]


class MlnbError(Exception):
    """The root of the tree.

    Parameters
    ----------
    message : str
        What was given and what is accepted, with what to do next where that is known.
    **details
        Machine-readable members for the ``application/problem+json`` answer (RFC 9457), for instance ``row`` and
        ``field``. Members that are None are left out.

    Attributes
    ----------
    status : int
        The HTTP status of an answer that reports this error.
    title : str
        The short, constant summary of the kind of error.

    Examples
    --------
    >>> error = InvalidInputError("Row 0: 'age' must be a number, not 'old'.", row=0, field="age")
    >>> error.status, error.details
    (422, {'row': 0, 'field': 'age'})
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = {key: value for key, value in details.items() if value is not None}

    def __str__(self) -> str:
        return self.message


class InvalidNameError(MlnbError, ValueError):
    """A model name, alias or reference that the registry cannot hold."""

    status = 422
    title = "Not a valid name"


class ModelNotFoundError(MlnbError, LookupError):
    """No model, version or alias of that name in the registry."""

    status = 404
    title = "No such model"


class NoPreviousVersionError(MlnbError, LookupError):
    """There is no earlier version to roll back to."""

    status = 409
    title = "Nothing to roll back to"


class NotDeployedError(ModelNotFoundError):
    """The model exists, perhaps, but is not being served here."""

    title = "Not deployed"


class StoppedError(MlnbError, RuntimeError):
    """The deployment or replica was stopped."""

    status = 503
    title = "Stopped"


class AmbiguousDeploymentError(MlnbError, LookupError):
    """A path without a model name, on a server that serves several."""

    status = 409
    title = "Several models are served here"


class NotServableError(MlnbError, TypeError):
    """The object cannot be registered: no ``predict``, not picklable, or an example it does not take."""

    status = 422
    title = "Cannot be served"


class IntegrityError(MlnbError, RuntimeError):
    """A stored file is not what its record says; it was not unpickled."""

    title = "Stored model is damaged"


class UntrustedError(MlnbError, PermissionError):
    """Loading may run code, and the registry is neither one's own nor one that was trusted by name."""

    status = 403
    title = "Registry is not trusted"


class GoldenRowsError(MlnbError, RuntimeError):
    """The model loads, and answers otherwise than it did when it was registered."""

    title = "Model answers differently"


class AliasMovedError(MlnbError, RuntimeError):
    """The alias means another version by now than was believed."""

    status = 409
    title = "Alias was moved"


class VersionInUseError(MlnbError, RuntimeError):
    """The version is live or has an alias, so it was not deleted."""

    status = 409
    title = "Version is in use"


class RegistryUnavailableError(MlnbError, OSError):
    """The folder cannot be read or written: no such place, no permission, or a full disk."""

    title = "Registry cannot be reached"


class RegistryFormatError(MlnbError, RuntimeError):
    """The folder is no registry, or one written by a newer mlnb."""

    title = "Registry cannot be read"


class MissingLibraryError(MlnbError, ImportError):
    """An optional library is needed and is not installed."""

    title = "A library is missing"


class PortInUseError(MlnbError, OSError):
    """Another program listens on the port asked for."""

    status = 409
    title = "Port is taken"


class ServerStartError(MlnbError, RuntimeError):
    """The HTTP server ended before it was ready."""

    title = "Server did not start"


class MalformedBodyError(MlnbError, ValueError):
    """The body cannot be parsed."""

    status = 400
    title = "Body cannot be read"


class TooLargeError(MlnbError, ValueError):
    """The body has more bytes or rows than one request may."""

    status = 413
    title = "Request is too large"


class UnsupportedMediaTypeError(MlnbError, ValueError):
    """The body's content type is not one that predict reads."""

    status = 415
    title = "Content type is not supported"


class NotAcceptableError(MlnbError, ValueError):
    """No form of answer that the client accepts, or that can hold what the model said."""

    status = 406
    title = "No such answer format"


class InvalidInputError(MlnbError, ValueError):
    """A row does not fit the model's signature."""

    status = 422
    title = "Input does not fit the model"


class PredictionError(MlnbError, RuntimeError):
    """The model itself failed.

    Parameters
    ----------
    reason : str
        For the person who runs the model; no part of the message, which anybody may read. Where the model ran in this
        process, ``__cause__`` is its own exception.
    """

    status = 500
    title = "The model failed"

    def __init__(self, reason: str) -> None:
        super().__init__("The model failed on this input; its owner sees the reason in the panel, under Monitor.")
        self.reason = " ".join(reason.split())


class MemberError(MlnbError, RuntimeError):
    """Too many members of an ensemble failed; ``__cause__`` is what the first of them raised."""

    title = "A member failed"


class DeadlineError(MlnbError, TimeoutError):
    """Nobody waits for the answer any more."""

    status = 504
    title = "Too late"


class OverloadedError(MlnbError, RuntimeError):
    """More rows wait than can be answered in time.

    Parameters
    ----------
    message : str
    retry_after : int
        Seconds.
    """

    status = 503
    title = "Overloaded"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retry_after = retry_after


class ReplicaError(MlnbError, RuntimeError):
    """A replica process did not start, or ended."""

    status = 503
    title = "No replica"


class UnknownRequestError(MlnbError, LookupError):
    """No request of that id is remembered, so its outcome cannot be noted."""

    status = 404
    title = "No such request"


class AlreadyLabelledError(MlnbError, ValueError):
    """The request was given its label or outcome before."""

    status = 409
    title = "Already labelled"


class UndecidedError(MlnbError, RuntimeError):
    """An experiment has no winner yet."""

    status = 409
    title = "Not decided yet"


class UnauthorizedError(MlnbError, PermissionError):
    """A request without the server's token."""

    status = 401
    title = "A token is needed"


class PackagingError(MlnbError, RuntimeError):
    """A version cannot be made into files that run without the notebook."""

    status = 409
    title = "It cannot be packaged"


class EngineError(MlnbError, RuntimeError):
    """Docker is not there, or did not do what it was asked for."""

    status = 502
    title = "Docker failed"


class ClusterError(MlnbError, RuntimeError):
    """A Kubernetes cluster is not there, or did not do what it was asked for."""

    status = 502
    title = "Kubernetes failed"


class EnvironmentWarning(UserWarning):
    """Python or a package differs from what a version was registered with."""


def nearest(given: str, accepted: Iterable[str]) -> str:
    """Name what exists, nearest first, as the tail of an error message.

    Examples
    --------
    >>> nearest("tumor", ["tumour", "digits"])
    "did you mean 'tumour'? There are: digits, tumour"
    >>> nearest("x", [])
    'there are none yet'
    """
    names = sorted(accepted)
    if not names:
        return "there are none yet"
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")  # noqa: PLR2004
    close = get_close_matches(given, names, n=1)
    return f"did you mean {close[0]!r}? There are: {shown}" if close else f"there are: {shown}"
