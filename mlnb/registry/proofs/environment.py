"""The versions of Python and of the packages that a model uses, and how they differ from those recorded."""

from __future__ import annotations

import platform
import sys
from collections import deque
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlnb.registry.serializers import parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["describe", "differences"]

_LOOKED_AT = 5_000  # objects of a model: enough to meet every library, and a bound for huge ones
_PLAIN = (str, bytes, bool, int, float, type(None))
_OWN = {"pybind11_builtins", "mlnb", "__main__", "builtins", "cloudpickle"}


def describe(model: object) -> dict[str, Any]:
    """Return ``python``, ``machine`` and ``packages``: the version of each library that parts of the model come from.

    Packages go by the name they are imported by. One that has no version, such as a module beside the notebook, has
    the version ``""``.
    """
    tops = {name.partition(".")[0] for name in _modules(model)}
    packages = {top: _version(top) for top in sorted(tops - _OWN - sys.stdlib_module_names)}
    return {"python": platform.python_version(), "machine": platform.machine(), "packages": packages}


def differences(recorded: Mapping[str, Any], *, requirements: Mapping[str, str]) -> list[str]:
    """Say how this process differs from a recorded environment, one text for each difference.

    Parameters
    ----------
    recorded : mapping
        What :func:`describe` returned.
    requirements : mapping of str to str
        Further versions by distribution name, as a proof traced them.
    """
    found = []
    if recorded["python"].split(".")[:2] != platform.python_version().split(".")[:2]:
        found.append(f"Python {recorded['python']} recorded, {platform.python_version()} here")
    if recorded["machine"] != platform.machine():
        found.append(f"{recorded['machine']} recorded, {platform.machine()} here")
    packages = {_DISTRIBUTIONS.get(top, top): then for top, then in recorded["packages"].items()}
    tops = {_DISTRIBUTIONS.get(top, top): top for top in recorded["packages"]}
    here = {name: _installed(name) for name in requirements} | {name: _version(top) for name, top in tops.items()}
    for name, then in {**requirements, **packages}.items():
        if here[name] != then and (then or here[name]):
            found.append(f"{name} {then or 'without a version'} recorded, {here[name] or 'none'} here")
    return found


def _version(top: str) -> str:
    """Return the version of a package by its import name, "" if it has none or is not there."""
    stated = getattr(sys.modules.get(top), "__version__", None)
    return stated if isinstance(stated, str) else _installed(_DISTRIBUTIONS.get(top, top))


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


_DISTRIBUTIONS = {
    "google": "protobuf",
    "PIL": "pillow",
    "cv2": "opencv-python",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


def _modules(model: object) -> set[str]:
    """Return the names of the modules that the parts of a model come from."""
    found: set[str] = set()
    for part in _walk(model):
        found.update(
            [part.__name__] if isinstance(part, ModuleType) else (kind.__module__ for kind in type(part).__mro__)
        )
        if callable(part) and isinstance(getattr(part, "__module__", None), str):
            found.add(part.__module__)
    return found


def _walk(model: object) -> Iterator[object]:
    seen: set[int] = set()
    waiting = deque([model])
    while waiting and len(seen) < _LOOKED_AT:
        part = waiting.popleft()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if not isinstance(part, ModuleType):
            waiting.extend(inner for _, inner in parts(part) if not isinstance(inner, _PLAIN))
