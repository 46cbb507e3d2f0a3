"""Requests to predict: from a whole request to its answer, the same on the fast path and through ASGI."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import parse_qs, unquote

from mlnb.errors import (
    AmbiguousDeploymentError,
    MalformedBodyError,
    MlnbError,
    NotDeployedError,
    OverloadedError,
    PredictionError,
    TooLargeError,
    UnsupportedMediaTypeError,
    nearest,
)
from mlnb.serving.answers import encoder_for
from mlnb.serving.codecs import MAX_BODY_BYTES, MAX_ROWS, decode, to_json
from mlnb.serving.inference_v2 import read_infer, write_infer
from mlnb.serving.service import Query, not_live

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlnb.registry.signature import Signature
    from mlnb.serving.observing import Observer
    from mlnb.serving.service import Answer, ModelService

__all__ = ["DEFAULT_TIMEOUT", "Inquiry", "Routes", "Served", "find", "find_only", "too_large"]

_log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 60.0  # seconds; a request may name others in its header X-Request-Timeout
_KEY = b"x-routing-key"  # the header that says what a request belongs to, for a split
_LARGE = 2**18  # bytes of body from which it is read on another thread, so that the loop goes on
_MOST_PARTS = 5  # of a path
_LONGEST = 512  # bytes of a path: of a name's 63 characters each may be sent as three


class Served(NamedTuple):
    """One deployment, as the routes see it."""

    service: ModelService
    observer: Observer


class Inquiry(Protocol):
    """A whole request: an Exchange of the fast path, or one that came through ASGI."""

    @property
    def query(self) -> bytes:
        """What follows the question mark."""

    @property
    def body(self) -> bytes:
        """The whole body."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""

    def header(self, name: bytes) -> bytes:
        """Return the first header of that name, in lower case; empty without one."""

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer."""


class Form(Protocol):
    """A way to ask and to be answered."""

    def problem(self, error: MlnbError) -> bytes:
        """Return the document of an error."""

    def read(self, inquiry: Inquiry, signature: Signature) -> tuple[Query, Callable[[Answer], tuple[bytes, bytes]]]:
        """Return the query, and what makes header lines and body of its answer.

        Raises
        ------
        MlnbError
        """


class Routes:
    """Where a path leads: ``routes(path)`` is what handles a POST to it, None if it is none to predict.

    Parameters
    ----------
    served : mapping of str to Served
        A live view of the deployments by name.
    """

    def __init__(self, served: Mapping[str, Served]) -> None:
        self._served = served

    def __call__(self, path: bytes) -> Callable[[Inquiry], None] | None:
        """Return the handler of a path that leads to a model which is served."""
        place = _place(path) if len(path) <= _LONGEST else None  # what is remembered must not be large
        if place is None:
            return None
        name, number, form = place
        served = self._served
        if name is None:
            if len(served) != 1:
                return None
            name = next(iter(served))
        one = served.get(name)
        if one is None or (number is not None and number not in map(str, one.service.lines)):
            return None
        return partial(predict, one.service, form, number=None if number is None else int(number))


def predict(service: ModelService, form: Form, inquiry: Inquiry, *, number: int | None = None) -> None:
    """Answer one request to predict, now or later; by a version of that ``number`` if one is asked for."""
    received = time.perf_counter()
    if len(inquiry.body) >= _LARGE:
        task = asyncio.get_running_loop().create_task(_predict_large(service, form, inquiry, received, number))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return
    try:
        query, encode = form.read(inquiry, service.live.version.signature)
        timeout = _timeout(inquiry, service)
    except MlnbError as error:
        service.refuse(
            error, received=received, answered=partial(_respond_error, inquiry, form), parent=_parent(service, inquiry)
        )
        return
    _submit(service, form, inquiry, query, encode, timeout=timeout, received=received, number=number)


_tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly


async def _predict_large(
    service: ModelService, form: Form, inquiry: Inquiry, received: float, number: int | None
) -> None:
    try:
        query, encode = await _read_large(service, form, inquiry)
        timeout = _timeout(inquiry, service)
    except MlnbError as error:
        service.refuse(
            error, received=received, answered=partial(_respond_error, inquiry, form), parent=_parent(service, inquiry)
        )
        return
    except Exception:  # noqa: BLE001 - nobody else would answer
        _log.exception("A request failed")
        _respond_error(
            inquiry, form, MlnbError("The server failed on this request; its owner sees the reason in the log.")
        )
        return
    _submit(service, form, inquiry, query, encode, timeout=timeout, received=received, number=number)


async def _read_large(
    service: ModelService, form: Form, inquiry: Inquiry
) -> tuple[Query, Callable[[Answer], tuple[bytes, bytes]]]:
    while True:
        version = service.live.version
        read = await asyncio.to_thread(form.read, inquiry, version.signature)
        if version is service.live.version:  # the columns of another may be others
            return read


def _submit(
    service: ModelService, form: Form, inquiry: Inquiry, query: Query,
    encode: Callable[[Answer], tuple[bytes, bytes]], *, timeout: float, received: float, number: int | None,
) -> None:  # fmt: skip
    def answered(outcome: Answer | MlnbError) -> None:
        if isinstance(outcome, MlnbError):
            _respond_error(inquiry, form, outcome)
            return
        try:
            headers, body = encode(outcome)
        except MlnbError as error:
            error.details.setdefault("request_id", outcome.request_id)
            _respond_error(inquiry, form, error)
        except Exception as error:  # noqa: BLE001 - of what the model said; it must not reach the others of its batch
            _log.exception("What %s answered cannot be written", outcome.version)
            _respond_error(inquiry, form, PredictionError(f"{type(error).__name__}: {error}"))
        else:
            inquiry.respond(200, headers, body)

    key = b"" if service.split is None else inquiry.header(_KEY)
    service.submit(
        query, timeout=timeout, received=received, answered=answered, gone=lambda: inquiry.gone, key=key, number=number,
        parent=_parent(service, inquiry),
    )  # fmt: skip


def _parent(service: ModelService, inquiry: Inquiry) -> bytes:
    return inquiry.header(b"traceparent") if service.traced else b""


def _respond_error(inquiry: Inquiry, form: Form, error: MlnbError) -> None:
    headers = b"content-type: application/problem+json\r\n"
    if isinstance(error, OverloadedError):
        headers += b"retry-after: %d\r\n" % error.retry_after
    inquiry.respond(error.status, headers, form.problem(error))


def too_large(inquiry: Inquiry) -> None:
    """Answer a request whose body is too large to be read."""
    error = TooLargeError(
        f"The body has more than {MAX_BODY_BYTES // 2**20} MiB; send the rows in parts.", accepted=MAX_BODY_BYTES
    )
    _respond_error(inquiry, _NATIVE, error)


def _timeout(inquiry: Inquiry, service: ModelService) -> float:
    text = inquiry.header(b"x-request-timeout")
    return _seconds(text) if text else service.live.pool.timeout


@lru_cache(64)
def _seconds(text: bytes) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:  # noqa: PLR2004 - an hour
        raise MalformedBodyError(
            f"The header X-Request-Timeout is a number of seconds up to 3600, not {text.decode('latin-1')!r:.40}."
        )
    return seconds


# ---- the forms ----


def _document(error: MlnbError) -> dict[str, Any]:
    """Return an error as RFC 9457 writes it."""
    document = {"type": "about:blank", "title": error.title, "status": error.status, "detail": error.message}
    return document | error.details


def _check_coding(coding: bytes) -> None:
    if coding not in (b"", b"identity"):
        raise UnsupportedMediaTypeError(f"Bodies packed by {coding!r:.40} are not read; send them as they are.")


class _Native:
    """JSON, CSV, npy and Arrow, answered as ``Accept`` says."""

    def problem(self, error: MlnbError) -> bytes:
        return to_json(_document(error))

    def read(self, inquiry: Inquiry, signature: Signature) -> tuple[Query, Callable[[Answer], tuple[bytes, bytes]]]:
        header = inquiry.header
        content_type, encode, probabilities = _asked(
            header(b"content-type"), header(b"content-encoding"), header(b"accept"), inquiry.query
        )
        return decode(content_type, inquiry.body, signature, probabilities=probabilities), encode


@lru_cache(256)
def _asked(
    content_type: bytes, coding: bytes, accept: bytes, query: bytes
) -> tuple[str, Callable[[Answer], tuple[bytes, bytes]], bool]:
    """Return what the head of a request says: its type, how its answer is written, whether with probabilities."""
    _check_coding(coding)
    encoder = encoder_for(accept.decode("latin-1"))
    content_line = f"content-type: {encoder.media_type}\r\n".encode()
    is_json = encoder.media_type == "application/json"  # whose document says what answered

    def encode(answer: Answer) -> tuple[bytes, bytes]:
        version = answer.version
        body = encoder.encode(
            answer.prediction, answer.probabilities, labels=version.signature.labels, model=version.name,
            version=version.number, request_id=answer.request_id, missing=answer.missing,
        )  # fmt: skip
        return content_line if is_json else content_line + _about(answer), body

    return content_type.decode("latin-1"), encode, bool(query) and _flag(query)


def _about(answer: Answer) -> bytes:
    missing = f"x-missing-members: {', '.join(answer.missing)}\r\n" if answer.missing else ""
    return (
        f"x-model: {answer.version.name}\r\nx-model-version: {answer.version.number}\r\n"
        f"x-request-id: {answer.request_id}\r\n{missing}"
    ).encode()


def _flag(query: bytes) -> bool:
    text = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("probabilities", ["false"])[0]
    if text in ("0", "false"):
        return False
    if text in ("", "1", "true"):
        return True
    raise MalformedBodyError(f"The query 'probabilities' is true or false, not {text!r:.80}.")


class _InferenceV2:
    """The Open Inference Protocol, version 2, whose clients look for ``error``."""

    def problem(self, error: MlnbError) -> bytes:
        return to_json(_document(error) | {"error": error.message})

    def read(self, inquiry: Inquiry, signature: Signature) -> tuple[Query, Callable[[Answer], tuple[bytes, bytes]]]:
        _check_coding(inquiry.header(b"content-encoding"))
        length = inquiry.header(b"inference-header-content-length")
        request = read_infer(inquiry.body, header_length=_whole(length), signature=signature, max_rows=MAX_ROWS)

        def encode(answer: Answer) -> tuple[bytes, bytes]:
            body, header_length = write_infer(
                request=request, model=answer.version.name, version=answer.version.number,
                request_id=answer.request_id, prediction=answer.prediction, probabilities=answer.probabilities,
                labels=answer.version.signature.labels,
            )  # fmt: skip
            if header_length is None:
                return b"content-type: application/json\r\n", body
            length = b"inference-header-content-length: %d\r\n" % header_length
            return b"content-type: application/octet-stream\r\n" + length, body

        return Query(request.rows, request.probabilities), encode


def _whole(text: bytes) -> int | None:
    if not text:
        return None
    if not text.isdigit() or len(text) > 12:  # noqa: PLR2004 - digits
        raise MalformedBodyError(f"The header Inference-Header-Content-Length is a whole number, not {text!r:.40}.")
    return int(text)


_NATIVE, _V2 = _Native(), _InferenceV2()


@lru_cache(1024)
def _place(path: bytes) -> tuple[str | None, str | None, Form] | None:
    """Return model, version and form that a path names; no model where it means the only one."""
    if path == b"/predict":
        return None, None, _NATIVE
    parts = path.decode("latin-1").split("/")[1:]
    if len(parts) > _MOST_PARTS + 1:
        return None
    match [unquote(part) for part in parts]:
        case ["models", name, "predict"]:
            return name, None, _NATIVE
        case ["v2", "models", name, "infer"]:
            return name, None, _V2
        case ["v2", "models", name, "versions", number, "infer"]:
            return name, number, _V2
    return None


def find(served: Mapping[str, Served], name: str, number: str | None = None) -> Served:
    """Return what is served under a name, and as that version if one is named.

    Raises
    ------
    NotDeployedError
    """
    one = served.get(name)
    if one is None:
        raise NotDeployedError(f"No model {name!r} is deployed here; {nearest(name, list(served))}.")
    if number is not None and number not in map(str, one.service.lines):
        raise NotDeployedError(not_live(name, number, one.service.lines))
    return one


def find_only(served: Mapping[str, Served]) -> Served:
    """Return the one deployment.

    Raises
    ------
    NotDeployedError
        If there is none.
    AmbiguousDeploymentError
        If there are several.
    """
    models = dict(served)
    if len(models) == 1:
        return next(iter(models.values()))
    if not models:
        raise NotDeployedError("No model is deployed here.")
    raise AmbiguousDeploymentError(
        f"This server has {len(models)} models: {', '.join(sorted(models))}. "
        "Use /models/NAME/predict and /models/NAME/info.",
        models=sorted(models),
    )
