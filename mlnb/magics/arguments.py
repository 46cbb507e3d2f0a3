"""A magic's line to words, and words to values of the notebook."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["counted", "evaluate", "figure", "number", "seconds", "split", "unquote", "weight", "whole"]

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_QUOTES = "'\""


def split(line: str) -> list[str]:
    """Split at blanks outside of quotes and brackets, so that an expression or JSON may stand as typed.

    Raises
    ------
    UsageError
        If a quote or bracket is not closed.

    Examples
    --------
    >>> split('model --metrics {"accuracy": 0.97} --description "first forest"')
    ['model', '--metrics', '{"accuracy": 0.97}', '--description', '"first forest"']
    """
    words: list[str] = []
    word, waiting, quote, escaped = "", [], "", False
    for character in line:
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and not escaped
        elif character in _QUOTES:
            quote = character
        elif character in _CLOSING:
            waiting.append(_CLOSING[character])
        elif waiting and character == waiting[-1]:
            waiting.pop()
        elif character.isspace() and not waiting:
            if word:
                words.append(word)
            word = ""
            continue
        word += character
    if quote or waiting:
        raise UsageError(f"A {quote or waiting[-1]} is missing at the end of: {line.strip()}")
    return [*words, word] if word else words


def unquote(word: str) -> str:
    r"""Strip one pair of quotes around a whole word.

    Examples
    --------
    >>> unquote('"first forest"'), unquote("'\"a\"'"), unquote("it's")
    ('first forest', '"a"', "it's")
    """
    if len(word) > 1 and word[0] in _QUOTES and word[-1] == word[0]:
        try:
            return str(ast.literal_eval(word))
        except (ValueError, SyntaxError):
            return word[1:-1]
    return word


def evaluate(option: str, word: str, namespace: Mapping[str, Any]) -> Any:
    """Return the value of a variable or expression of the notebook; JSON is understood too.

    Raises
    ------
    UsageError
        With what was given and what went wrong.
    """
    text = unquote(word)
    try:
        return eval(text, dict(namespace))  # noqa: S307 - the user's own cell
    except Exception as error:  # noqa: BLE001 - whatever the user's expression raises
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            reason = str(error) if isinstance(error, NameError) else f"{type(error).__name__}: {error}"
            raise UsageError(f"{option} {word}: {reason}. Give a variable or an expression of this notebook.") from None


def seconds(option: str, word: str | None) -> float:
    """Return a number of seconds, 1 if none is given."""
    try:
        return 1.0 if word is None else float(word)
    except ValueError:
        raise UsageError(f"{option} {word}: a number of seconds is needed.") from None


def number(option: str, word: str) -> float:
    """Return a number."""
    try:
        return float(word)
    except ValueError:
        raise UsageError(f"{option} {word}: a number is needed.") from None


def figure(word: str | None) -> Any:
    """Return a number, or text with a unit as it is."""
    text = None if word is None else unquote(word)
    try:
        return text if text is None else float(text)
    except ValueError:
        return text


def weight(word: str) -> tuple[str, float]:
    """Return a version and its weight, written ``champion=90``."""
    reference, _, share = word.rpartition("=")
    try:
        return reference, float(share if reference else "")
    except ValueError:
        raise UsageError(f"{word}: write a version and its weight, as in champion=90.") from None


def counted(option: str, word: str) -> int:
    """Return a whole number that must be there."""
    count = whole(option, word)
    assert count is not None  # noqa: S101 - for the type checker
    return count


def whole(option: str, word: str | None) -> int | None:
    """Return a whole number, None if none is given."""
    if word is None:
        return None
    if not word.isdecimal():
        raise UsageError(f"{option} {word}: a whole number is needed.")
    return int(word)
