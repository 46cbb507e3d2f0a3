"""The server's token from a file or the environment: on a command line it would be seen by all who list processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlnb.errors import InvalidInputError
from mlnb.serving.access import OPEN, Access, Token

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["VARIABLE", "access_of"]

VARIABLE = "MLNB_TOKEN"
_MOST = 8192  # bytes that are read of a file


def access_of(path: str | None, *, environ: MutableMapping[str, str]) -> Access:
    """Return what a server that is told this asks for.

    Parameters
    ----------
    path : str or None
        A file that holds the token and perhaps the end of a line. It goes before the environment.
    environ : mutable mapping of str to str
        From which the token is taken out, so that neither children nor the model's code find it there.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, or there is no proper token in it or in the environment.

    Examples
    --------
    >>> access_of(None, environ={"MLNB_TOKEN": "correct-horse-battery"}).admits(b"")
    False
    >>> access_of(None, environ={}).admits(b"")
    True
    """
    told = environ.pop(VARIABLE, None)
    if path is not None:
        return _token(_content(path), place=f"The token file {path!r:.200}")
    return OPEN if told is None else _token(told, place=f"The environment's {VARIABLE}")


def _content(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a name with a NUL is a ValueError here and nothing else
            return file.read(_MOST).decode("latin-1").removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise InvalidInputError(
            f"The token file {path!r:.200} cannot be read: {reason}. Give --token-file a file that holds the token."
        ) from None


def _token(text: str, *, place: str) -> Token:
    try:
        return Token(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{place}: {error.message[0].lower()}{error.message[1:]}") from None
