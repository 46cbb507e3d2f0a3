"""Values as YAML that every reader reads as the same values."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mlnb.errors import MissingLibraryError

if TYPE_CHECKING:
    from yaml import SafeDumper
    from yaml.nodes import ScalarNode

__all__ = ["to_yaml"]

# What other readers take for numbers or booleans and PyYAML does not, such as the Go libraries behind kubectl and
# Compose: 1e3, 0o17, 1:30, y. https://yaml.org/spec/1.2.2/#1032-tag-resolution and
# https://yaml.org/type/bool.html .
_NUMBER = re.compile(r"[-+]?[0-9.][-+0-9a-fA-FxXoO_:.]*")
_WORD = re.compile(r"[yYnN~=]|<<|[-+.]*(?:nan|inf|infinity)", re.IGNORECASE)


def to_yaml(document: Any) -> str:
    """Return a document as YAML, keys in their order; the same value is always the same text.

    Parameters
    ----------
    document : dict, list, str, int, float, bool or None
        And what they are made of.

    Raises
    ------
    MissingLibraryError
        If PyYAML is not installed.

    Examples
    --------
    >>> print(to_yaml({"version": "3", "port": 8000, "digest": "12e4", "args": ["--grace", "5"]}), end="")
    version: '3'
    port: 8000
    digest: '12e4'
    args:
    - --grace
    - '5'
    """
    try:
        import yaml
    except ImportError:
        raise MissingLibraryError("The files need PyYAML. Run: pip install 'mlnb[package]'") from None
    return str(
        yaml.dump(
            document, Dumper=_dumper(), sort_keys=False, default_flow_style=False, allow_unicode=True, width=2**20
        )
    )


@lru_cache(maxsize=1)
def _dumper() -> type[SafeDumper]:
    from yaml import SafeDumper

    class Dumper(SafeDumper):
        """Writes texts so that no reader takes them for anything else, and each value where it stands."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - no value refers to another
            return True

    Dumper.add_representer(str, _text)
    return Dumper


def _text(dumper: SafeDumper, text: str) -> ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    """Return how a text is quoted: None leaves it to PyYAML, which quotes all that YAML 1.1 would misread."""
    if _NUMBER.fullmatch(text) or _WORD.fullmatch(text):
        return "'"
    if "\n" in text and _is_block(text):
        return "|"
    return None if text.isprintable() else '"'


def _is_block(text: str) -> bool:
    """Say whether a text can stand in lines as they are."""
    lines = text.removesuffix("\n").split("\n")
    shown = all(line.isprintable() and not line.endswith(" ") for line in lines)
    return shown and lines[0][:1] not in ("", " ") and lines[-1] != ""
