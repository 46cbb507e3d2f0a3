"""The members of an ensemble: what each takes, what it answers with, and which rows it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import InvalidInputError, NotServableError, nearest
from mlnb.registry.admission import check_fitted, opened
from mlnb.registry.predictors import predictor
from mlnb.registry.reference import validate_name
from mlnb.registry.rows.frames import is_frame
from mlnb.registry.rows.inference import infer_signature, rewritten
from mlnb.registry.serializers import type_name
from mlnb.registry.version import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlnb.registry.predictors import Predictor
    from mlnb.registry.registry import ModelRegistry
    from mlnb.registry.signature import Output, Signature

__all__ = ["Member", "open_members", "rows_for", "stored_member"]

Array = np.ndarray[Any, Any]

_TABLE = 2  # axes
_FEWEST = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """One model of an ensemble.

    Attributes
    ----------
    name : str
    model : object
    answers : Predictor
    output : {'class', 'number', 'any'}
        ``any`` where the model does not say, as a function or a module of PyTorch.
    classes : ndarray of shape (k,) or None
        The labels of its probabilities' columns.
    columns : tuple of str
        Those it knows by name; empty for one that takes all.
    width : int
        How many it takes, 0 if unknown.
    arrays : bool
        Whether it was fitted on arrays, and so is given no frames.
    version : ModelVersion or None
        Where it is stored, if it is.
    source : str
        URL of the registry that has the version.
    """

    name: str
    model: Any
    answers: Predictor
    output: Output
    classes: Array | None
    columns: tuple[str, ...]
    width: int
    arrays: bool
    version: ModelVersion | None = None
    source: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process without the functions that ask the model; they are made anew there."""
        if self.version is None:
            return _object_member, (self.name, self.model)
        return stored_member, (self.name, self.model, self.version, self.source)


def open_members(members: Any, registry: ModelRegistry | str | Path | None) -> tuple[Member, ...]:
    """Return the members that a person named: models by name, or in a list.

    Raises
    ------
    InvalidInputError
        If there are fewer than two, or one is there twice, as the same object or the same version.
    InvalidNameError, ModelNotFoundError, NotServableError
    """
    named = _named(members)
    if len(named) < _FEWEST:
        raise InvalidInputError(
            f"An ensemble has two members or more; got {len(named)}. Serve one model by itself: mlnb.deploy(model)."
        )
    found: list[Member] = []
    place = cache(partial(_registry, registry))
    for name, given in named.items():
        member = _open(validate_name(name, what="member name"), given, place)
        twin = next((other for other in found if _same(member, other)), None)
        if twin is not None:
            what = f" ({member.version})" if member.version else ""
            raise InvalidInputError(
                f"{twin.name!r} and {name!r} are the same model{what}. Name each once; to count one more, use weights."
            )
        found.append(member)
    return tuple(found)


def _named(members: Any) -> dict[str, Any]:
    if isinstance(members, Mapping):
        return dict(members)
    if isinstance(members, Sequence) and not isinstance(members, str):
        return {f"m{at}": member for at, member in enumerate(members, start=1)}
    raise InvalidInputError(
        'members are models by name, as in {"forest": forest, "net": "net:3"}, or a list; '
        f"got a {type_name(members)}."
    )


def _registry(given: ModelRegistry | str | Path | None) -> ModelRegistry:
    from mlnb.registry.registry import ModelRegistry

    return given if isinstance(given, ModelRegistry) else ModelRegistry(given)


def _open(name: str, given: Any, place: Callable[[], ModelRegistry]) -> Member:
    """Return a member; ``place`` is where references are looked up, opened when there is one."""
    if isinstance(given, (str, ModelVersion)):
        registry = place()
        version = registry.version(str(given))
        return stored_member(name, registry.load(version, shared=True), version, registry.url)
    return _object_member(name, opened(given))


def _same(one: Member, other: Member) -> bool:
    versions = one.version, other.version
    stored = None not in versions and (one.source, str(versions[0])) == (other.source, str(versions[1]))
    return stored or one.model is other.model


def _object_member(name: str, model: Any) -> Member:
    answers = predictor(model)
    check_fitted(model)
    signature = infer_signature(model)
    names = tuple(map(str, _names_of(model)))
    width = len(names) or _width(model)
    arrays = not names and width > 0
    return _member(name, model, answers, signature.output, columns=names, width=width, arrays=arrays)


def _names_of(model: Any) -> Any:
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        names = getattr(model, "feature_names", None)  # of a booster of XGBoost
    return names if isinstance(names, (list, tuple, np.ndarray)) else ()


def _width(model: Any) -> int:
    width = getattr(model, "n_features_in_", 0)
    return width if isinstance(width, int) else 0


def stored_member(name: str, model: Any, version: ModelVersion, source: str) -> Member:
    """Return a member that is a version in the registry at ``source``; what it takes is what its signature says."""
    signature = version.signature
    tabular = signature.container in ("array", "frame", "polars")
    named = tabular and signature.named
    output = signature.output if signature.output != "any" else infer_signature(model).output
    return _member(
        name, model, predictor(model), output, version=version, source=source,
        columns=_columns(model, signature) if named else (),
        width=len(signature.fields) if tabular else 0, arrays=signature.container == "array",
    )  # fmt: skip


def _columns(model: Any, signature: Signature) -> tuple[str, ...]:
    """Return the model's own names for its columns where it was fitted on them."""
    own = tuple(map(str, _names_of(model)))
    return own if set(own) == set(signature.names) else signature.names


def _member(
    name: str, model: Any, answers: Predictor, output: Output, *, columns: tuple[str, ...], width: int, arrays: bool,
    version: ModelVersion | None = None, source: str = "",
) -> Member:  # fmt: skip
    classes = getattr(model, "classes_", None)
    known = classes if isinstance(classes, np.ndarray) and classes.ndim == 1 else None
    if isinstance(classes, list):
        raise NotServableError(f"Member {name!r} answers several outputs at once; an ensemble combines one.")
    if output not in ("class", "number", "any"):
        raise NotServableError(
            f"Member {name!r}, a {type_name(model)}, is a {output} model; members are classifiers or regressors."
        )
    if output == "any" and answers.probabilities is not None:
        output = "class"
    return Member(
        name=name, model=model, answers=answers, output=output, classes=known, columns=columns, width=width,
        arrays=arrays, version=version, source=source,
    )  # fmt: skip


def rows_for(member: Member, rows: Any) -> Any:
    """Return the rows as a member takes them: of a frame the columns it knows by name, of an array all.

    Parameters
    ----------
    member : Member
    rows : DataFrame or ndarray of shape (n, ...)

    Raises
    ------
    InvalidInputError
        If a column is missing, or the width is another.
    """
    frame = is_frame(rows)
    chosen = _chosen(member, rows) if frame and member.columns else rows
    _check_width(member, chosen)
    return np.asarray(chosen) if frame and member.arrays else chosen


def _chosen(member: Member, frame: Any) -> Any:
    there = [str(column) for column in frame.columns]
    wanted = list(member.columns)
    if wanted in (there, [rewritten(column) for column in there]):
        return frame
    missing = [column for column in wanted if column not in there]
    if missing:
        raise InvalidInputError(
            f"Member {member.name!r} takes the column {missing[0]!r}, which is not there; "
            f"{nearest(missing[0], there)}.",
            field=missing[0],
        )
    return frame[wanted]


def _check_width(member: Member, rows: Any) -> None:
    shape: tuple[int, ...] = getattr(rows, "shape", ())
    if len(shape) == _TABLE and member.width and shape[1] != member.width:
        known = f", by name {', '.join(member.columns[:10])}: give a DataFrame" if member.columns else ""
        raise InvalidInputError(
            f"Member {member.name!r} takes {member.width} columns{known}; the rows have {shape[1]}."
        )
