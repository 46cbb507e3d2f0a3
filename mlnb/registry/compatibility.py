"""Whether one version can answer the requests that another takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlnb.registry.signature import Field, Signature

__all__ = ["misfit"]

_WIDER = {("integer", "number"), ("boolean", "integer"), ("boolean", "number")}  # kinds whose values the second takes


def misfit(asked: Signature, answering: Signature, *, probabilities: bool = True) -> str | None:
    """Return why a version cannot answer rows that fit another one, None if it can.

    Parameters
    ----------
    asked : Signature
        Of the version whose clients send the rows, and read the answers.
    answering : Signature
        Of the one that is to answer them as well.
    probabilities : bool
        Whether clients may ask it for probabilities.

    Examples
    --------
    >>> from mlnb.registry.rows.inference import infer_signature
    >>> misfit(infer_signature(None, [[1.0, 2.0]]), infer_signature(None, [[1.0, 2.0, 3.0]]))
    "it needs the field 'x2', which requests do not have"
    """
    return next(_misfits(asked, answering, probabilities=probabilities), None)


def _misfits(asked: Signature, answering: Signature, *, probabilities: bool) -> Iterator[str]:
    if asked.fields and answering.fields:
        yield from _fields(asked, answering)
    known = "any" not in (asked.output, answering.output)
    if known and asked.output != answering.output:
        yield f"its answers are of the kind {answering.output!r}, not {asked.output!r}"
    if asked.labels and answering.labels and not _comparable(asked.labels, answering.labels):
        yield (f"its labels are of another type: {answering.labels[0]!r} of its own, {asked.labels[0]!r} of the others")
    if probabilities and asked.probabilities and not answering.probabilities:
        yield "it gives no probabilities, which clients may ask for"


def _fields(asked: Signature, answering: Signature) -> Iterator[str]:
    missing = [name for name in answering.names if name not in asked.names]
    extra = [name for name in asked.names if name not in answering.names]
    if missing:
        yield f"it needs the field {missing[0]!r}, which requests do not have"
    elif extra:
        yield f"it does not know the field {extra[0]!r}, which requests have"
    elif asked.names != answering.names:
        first = next(name for name, other in zip(asked.names, answering.names, strict=True) if name != other)
        yield f"its fields are in another order, from {first!r} on"
    elif asked.shape != answering.shape:
        yield f"its rows have the shape {answering.shape}, not {asked.shape}"
    else:
        for one, other in zip(asked.fields, answering.fields, strict=True):
            yield from _field(one, other)


def _field(asked: Field, answering: Field) -> Iterator[str]:
    kinds = (asked.kind, answering.kind)
    if "any" not in kinds and asked.kind != answering.kind and kinds not in _WIDER:
        yield f"its field {asked.name!r} is of the kind {answering.kind!r}, not {asked.kind!r}"
    elif asked.nullable and not answering.nullable:
        yield f"its field {asked.name!r} takes no missing values, which requests may have"
    elif answering.categories and not set(asked.categories or ["anything else"]) <= set(answering.categories):
        unknown = sorted(set(asked.categories or ["anything else"]) - set(answering.categories), key=str)
        yield f"its field {asked.name!r} does not take {unknown[0]!r}"


def _comparable(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return {isinstance(label, str) for label in one} == {isinstance(label, str) for label in other}
