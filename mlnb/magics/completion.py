"""Tab completion inside the magics: options, variables that are models, stored models, versions and aliases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher
from IPython.core.getipython import get_ipython

import mlnb
from mlnb.errors import MlnbError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from IPython.core.completer import CompletionContext, SimpleMatcherResult

__all__ = ["candidates", "complete"]

_LINE = re.compile(
    r"^\s*(?:[\w.,\s]+=\s*)?%(deploy_model|model_(?:benchmark|canary|experiment|monitor|package|promote|rollback|scale|split|stop|versions))"
    r"\s(.*)$",
    re.DOTALL,
)
_OPTIONS = {
    "deploy_model": (
        "--accelerate",
        "--description",
        "--input",
        "--metrics",
        "--name",
        "--no-panel",
        "--port",
        "--replicas",
        "--serializer",
    ),
    "model_benchmark": ("--connections", "--input", "--seconds"),
    "model_canary": ("--guard", "--hold", "--steps"),
    "model_package": (
        "--base",
        "--cores",
        "--kserve",
        "--memory",
        "--namespace",
        "--network-policy",
        "--prometheus",
        "--replicas",
        "--repository",
        "--source",
        "--target",
        "--to",
    ),
    "model_promote": ("--reason",),
    "model_rollback": ("--reason", "--to"),
    "model_scale": ("--forecast", "--idle", "--p95", "--p99", "--policy", "--target"),
    "model_split": ("--key", "--shadow", "--share"),
    "model_versions": ("--all",),
}
_POLICIES = ("utilisation", "in-flight", "queue wait", "cpu", "cpu threshold", "kubernetes", "ray")


@context_matcher()
def complete(context: CompletionContext) -> SimpleMatcherResult:
    """Match the word at the cursor of a magic's line; other lines are left to IPython."""
    match = _LINE.match(context.line_with_cursor[: context.cursor_position])
    if match is None:
        return {"completions": []}
    magic, typed = match.groups()
    word = re.search(r"\S*$", typed).group()  # type: ignore[union-attr]  # it matches any text
    shell = get_ipython()
    found = candidates(magic, typed, word, {} if shell is None else shell.user_ns)
    return {
        "completions": [SimpleCompletion(text=text, type=kind) for text, kind in found if text.startswith(word)],
        "matched_fragment": word,
        "suppress": True,
    }


def candidates(magic: str, typed: str, word: str, namespace: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the texts that may stand at ``word``, each with its kind.

    Parameters
    ----------
    magic : str
        Name of the magic.
    typed : str
        What stands between the magic and the cursor.
    word : str
        The last word of ``typed``, which may be empty.
    namespace : dict
        The notebook's variables.
    """
    before = typed[: len(typed) - len(word)].split()
    options = [(option, "option") for option in _OPTIONS.get(magic, ()) if option not in before]
    if word.startswith("-"):
        return options
    if before and (magic, before[-1]) in _OWN_VALUES:
        return _OWN_VALUES[magic, before[-1]](word)
    if before and before[-1] in _VALUES:
        return _VALUES[before[-1]](before, namespace)
    return options if _has_subject(before) else _SUBJECTS[magic](word, namespace)


def _has_subject(before: list[str]) -> bool:
    """Say whether one of the words is neither an option nor an option's value."""
    return any(
        not word.startswith("-") and last not in _VALUES for last, word in zip(["", *before], before, strict=False)
    )


def _models(word: str, namespace: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what ``%deploy_model`` takes: variables that are models, and stored models."""
    variables = [(name, "variable") for name, value in _public(namespace) if _is_model(value)]
    return variables + [(text, "model") for text in _references(word)]


def _stored(*_: object) -> list[tuple[str, str]]:
    return [(name, "model") for name in mlnb.ModelRegistry().names()]


def _deployed(*_: object) -> list[tuple[str, str]]:
    return [(deployment.name, "model") for deployment in mlnb.deployments()]


def _packaged(word: str, _: object) -> list[tuple[str, str]]:
    """Return what ``%model_package`` takes: what is deployed, and stored models."""
    deployed = [deployment.name for deployment in mlnb.deployments()]
    return [(text, "model") for text in dict.fromkeys([*deployed, *_references(word)])]


def _targets(_: object) -> list[tuple[str, str]]:
    from mlnb.packaging.package import TARGETS

    return [(target, "target") for target in TARGETS]


def _folders(word: str) -> list[tuple[str, str]]:
    """Return the folders whose path begins with ``word``; hidden ones where their dot is typed."""
    above, _, begun = word.rpartition("/")
    above += "/" * ("/" in word)
    try:
        names = sorted(one.name for one in Path(above or ".").expanduser().iterdir() if one.is_dir())
    except OSError:
        return []
    return [(f"{above}{name}/", "folder") for name in names if name.startswith(begun) and (begun or name[0] != ".")]


def _numbers(before: list[str], _: object) -> list[tuple[str, str]]:
    try:
        return [(str(version.number), "version") for version in mlnb.versions(before[0])]
    except MlnbError:
        return []


def _fields(before: list[str], _: object) -> list[tuple[str, str]]:
    names = [one.version.signature.names for one in mlnb.deployments() if one.name == before[0]]
    return [(name, "field") for found in names for name in found]


def _arrays(_: object, namespace: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, "variable") for name, value in _public(namespace) if hasattr(value, "shape")]


def _mappings(_: object, namespace: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, "variable") for name, value in _public(namespace) if isinstance(value, dict)]


def _formats(*_: object) -> list[tuple[str, str]]:
    from mlnb.registry import serializers

    return [(name, "format") for name in serializers.format_names()]


def _policies(_: object, namespace: dict[str, Any]) -> list[tuple[str, str]]:
    variables = [(name, "variable") for name, value in _public(namespace) if _is_policy(value)]
    return variables + [(repr(name) if " " in name else name, "policy") for name in _POLICIES]


def _nothing(*_: object) -> list[tuple[str, str]]:
    return []


_SUBJECTS: dict[str, Callable[[str, dict[str, Any]], list[tuple[str, str]]]] = {
    "deploy_model": _models,
    "model_versions": _stored,
    "model_benchmark": _deployed,
    "model_canary": _deployed,
    "model_experiment": _deployed,
    "model_monitor": _deployed,
    "model_package": _packaged,
    "model_promote": _deployed,
    "model_rollback": _deployed,
    "model_scale": _deployed,
    "model_split": _deployed,
    "model_stop": _deployed,
}
_OWN_VALUES: dict[tuple[str, str], Callable[[str], list[tuple[str, str]]]] = {  # which mean something else elsewhere
    ("model_package", "--target"): _targets,
    ("model_package", "--to"): _folders,
}
_VALUES: dict[str, Callable[[list[str], dict[str, Any]], list[tuple[str, str]]]] = {
    "--base": _nothing,
    "--connections": _nothing,
    "--cores": _nothing,
    "--description": _nothing,
    "--guard": _mappings,
    "--hold": _nothing,
    "--idle": _nothing,
    "--input": _arrays,
    "--key": _fields,
    "--memory": _nothing,
    "--metrics": _mappings,
    "--name": _stored,
    "--namespace": _nothing,
    "--p95": _nothing,
    "--p99": _nothing,
    "--policy": _policies,
    "--port": _nothing,
    "--reason": _nothing,
    "--replicas": _nothing,
    "--repository": _nothing,
    "--seconds": _nothing,
    "--serializer": _formats,
    "--shadow": _numbers,
    "--share": _nothing,
    "--source": _nothing,
    "--steps": _nothing,
    "--target": _nothing,
    "--to": _numbers,
}


def _is_model(value: object) -> bool:
    return hasattr(value, "predict") and not isinstance(value, (type, mlnb.Deployment))


def _is_policy(value: object) -> bool:
    return hasattr(value, "controller") and hasattr(value, "words") and not isinstance(value, type)


def _public(namespace: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return sorted(
        (name, value) for name, value in namespace.items() if not name.startswith("_") and name not in ("In", "Out")
    )


def _references(word: str) -> list[str]:
    """Return the stored models; once a name and its separator are typed, the versions or aliases of it."""
    registry = mlnb.ModelRegistry()
    name, separator, _ = re.fullmatch(r"([^:@]*)([:@]?)(.*)", word).groups()  # type: ignore[union-attr]  # it matches any text
    if not separator:
        return registry.names()
    try:
        ends = registry.aliases(name) if separator == "@" else [version.number for version in registry.versions(name)]
    except MlnbError:
        return []
    return [f"{name}{separator}{end}" for end in ends]
