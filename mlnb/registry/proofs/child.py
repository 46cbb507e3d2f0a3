"""What the child process of a proof runs: load, answer the golden rows, trace what that imported."""

from __future__ import annotations

import builtins
import json
import os
import platform
import sys
import threading
import time
import warnings
from contextlib import suppress
from importlib.metadata import packages_distributions, requires, version
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlnb.errors import MlnbError
from mlnb.registry.predictors import predictor
from mlnb.registry.proofs import environment
from mlnb.registry.proofs.golden import ask, disagreements
from mlnb.registry.proofs.proof import UNREADABLE, Proof
from mlnb.registry.registry import ModelRegistry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.registry.proofs.golden import GoldenRows
    from mlnb.registry.version import ModelVersion

__all__ = ["main", "prove"]

_SHOWN = 3


def main(url: str, reference: str) -> None:
    """Prove one version and print the proof as JSON; end with the parent, whose end closes the standard input."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what the model prints is not the answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(OSError):
        os.nice(10)  # the notebook comes first
    warnings.simplefilter("ignore")
    os.write(answer, json.dumps(prove(url, reference)).encode())
    sys.stderr.flush()
    os._exit(0)  # whatever threads the model's libraries left


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def prove(url: str, reference: str) -> dict[str, Any]:
    """Return the stored form of the proof that loading and asking the version in this process gives."""
    try:
        registry = ModelRegistry(url).assume_trusted()
        stored = registry.version(reference)
        golden = registry.golden(stored)
    except MlnbError as error:
        return {UNREADABLE: str(error)}  # which says nothing of the model
    trace = _Trace()
    started = time.perf_counter()
    reason = ""
    try:
        with trace:
            model = registry.load(stored, allow_mismatch=True)
            trace.add(environment.describe(model)["packages"])
            reason = _check(model, stored, golden)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is what the proof says
        reason = _explain(error)
    return Proof(
        portable=not reason, reason=reason, rows=0 if golden is None or not golden.repeatable else len(golden.rows),
        requirements=trace.pinned(), python=platform.python_version(), seconds=time.perf_counter() - started,
    ).to_json()  # fmt: skip


def _check(model: Any, stored: ModelVersion, golden: GoldenRows | None) -> str:
    answering = predictor(model)
    if golden is None:
        return ""
    wrong = disagreements(golden, ask(answering, stored.signature, golden.rows))
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"it answers otherwise than in the notebook: {'; '.join(wrong[:_SHOWN])}{more}" if wrong else ""


def _explain(error: BaseException) -> str:
    """Say what is missing and what to do about it."""
    cause = error.__cause__ or error
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        top = cause.name.partition(".")[0]
        return (
            f"the module {cause.name!r} is not installed: if it is your own, register with by_value=[{top}], or ship "
            "it as a package; else install it where the model is to run"
        )
    if isinstance(cause, (AttributeError, ImportError)):
        return (
            f"something the model needs is not there: {cause}; define it in the notebook, or register with "
            "by_value=[its module]"
        )
    text = error.message if isinstance(error, MlnbError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).rstrip(".")


class _Trace:
    """Notes what is imported while it is entered: all of it, and what the model itself asked for."""

    _ASKING = ("__main__", "mlnb", "cloudpickle")  # the importers that speak for the model

    def __init__(self) -> None:
        self._imported: set[str] = set()
        self._asked_for: set[str] = set()
        self._original = builtins.__import__
        self._before: set[str] = set()

    def __enter__(self) -> None:
        self._before = set(sys.modules)
        builtins.__import__ = self._note

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self._original
        loaded = {_top(name) for name in set(sys.modules) - self._before}
        self._asked_for |= loaded - self._imported  # by import_module, which nobody but a serializer's library() used
        self._imported |= loaded

    def add(self, names: Iterable[str]) -> None:
        """Count these packages among what the model asked for: its own classes and their bases are from them."""
        self._asked_for.update(names)

    def pinned(self) -> tuple[str, ...]:
        """Return the distributions that the model needs, pinned to their versions here.

        Those that it asked for and that its classes come from, with those of their requirements that were imported.
        What a library imports because it happens to be here, as pandas does with pyarrow, is not needed.
        """
        owners = packages_distributions()
        owned = {name: set(owners.get(name, ())) for name in self._imported | self._asked_for if name in sys.modules}
        imported = {_normal(one) for found in owned.values() for one in found}
        waiting = [one for name in self._asked_for for one in owned.get(name, ())]
        needed: dict[str, str] = {}
        while waiting:
            name = waiting.pop()
            if _normal(name) in imported and _normal(name) not in needed and name != "mlnb":
                needed[_normal(name)] = f"{name}=={version(name)}"
                waiting.extend(_required(name))
        return tuple(needed[name] for name in sorted(needed))

    def _note(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:  # noqa: A002 - the signature of __import__
        asking = _top((globals or {}).get("__name__", ""))
        if level == 0 and asking != _top(name):
            (self._asked_for if asking in self._ASKING else self._imported).add(_top(name))
        return self._original(name, globals, locals, fromlist, level)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _normal(distribution: str) -> str:
    return canonicalize_name(distribution)


def _required(distribution: str) -> list[str]:
    """Return what a distribution requires here, without its extras."""
    wanted = [Requirement(text) for text in requires(distribution) or ()]
    return [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
