"""From a reference to the version that it means in a registry, or to a refusal that says what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlnb.errors import IntegrityError, ModelNotFoundError, nearest
from mlnb.registry import history
from mlnb.registry.reference import ModelReference, ranges, validate_name

if TYPE_CHECKING:
    from datetime import datetime

    from mlnb.registry.ensembles.stored import Pointer
    from mlnb.registry.holdings import Holdings
    from mlnb.registry.version import ModelVersion

__all__ = ["aliases", "target", "version", "versions"]


def versions(holdings: Holdings, name: str, *, as_of: datetime | str | None = None) -> list[ModelVersion]:
    """Return the versions of a model, oldest first, without those that were deleted.

    Raises
    ------
    ModelNotFoundError
        If there are none, or were none by then.
    """
    found = holdings.ledger.versions(validate_name(name))
    if not found:
        known = nearest(name, holdings.ledger.names())
        raise ModelNotFoundError(f"There is no model {name!r} in {holdings.url}; {known}.")
    moment = history.moment(as_of)
    then = [one for one in found if moment is None or one.created <= moment]
    if not then:
        first = f"{found[0].created:%Y-%m-%d %H:%M:%S} UTC"
        raise ModelNotFoundError(f"{name!r} had no version at {moment}; its first is of {first}.")
    return then


def version(holdings: Holdings, reference: str, *, as_of: datetime | str | None = None) -> ModelVersion:
    """Return the version that a reference means now, or meant at a time.

    Raises
    ------
    ModelNotFoundError
    """
    wanted = ModelReference.parse(reference)
    if wanted.number is not None and as_of is None:
        found = holdings.ledger.version(wanted.name, wanted.number)
        if found is not None:
            return found
    there = versions(holdings, wanted.name, as_of=as_of)
    number = wanted.number if wanted.alias is None else _aliased(holdings, wanted.name, wanted.alias, as_of=as_of)
    if number is None:
        return there[-1]
    for one in there:
        if one.number == number:
            return one
    if number in holdings.ledger.deleted(wanted.name):
        raise ModelNotFoundError(f"{wanted.name}:{number} was deleted; its record stays in the history.")
    numbers = ranges([one.number for one in there])
    raise ModelNotFoundError(f"{wanted.name!r} has no version {number}; there are {numbers} (in {holdings.url}).")


def _aliased(holdings: Holdings, name: str, alias: str, *, as_of: datetime | str | None) -> int:
    known = aliases(holdings, name, as_of=as_of)
    if alias not in known:
        raise ModelNotFoundError(f"{name!r} has no alias {alias!r}; {nearest(alias, known)} (in {holdings.url}).")
    return known[alias]


def aliases(holdings: Holdings, name: str, *, as_of: datetime | str | None = None) -> dict[str, int]:
    """Return the aliases of a model and the version numbers they mean, or meant at a time."""
    gone = holdings.ledger.deleted(validate_name(name))
    found = history.aliases(history.until(holdings.ledger.history(name), history.moment(as_of)))
    return {alias: number for alias, number in found.items() if number not in gone}


def target(holdings: Holdings, pointer: Pointer) -> ModelVersion:
    """Return the version that an ensemble means by a pointer.

    Raises
    ------
    ModelNotFoundError
        If it was deleted.
    IntegrityError
        If it is another than it was.
    """
    try:
        found = version(holdings, str(pointer))
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"Of the ensemble, the member {pointer.member!r} is {pointer}, which is gone: {error}"
        ) from None
    if found.digest != pointer.digest:
        raise IntegrityError(f"{found} is not the version that the ensemble was registered with.")
    return found
