"""The append-only history of a model, and what folds over it say: aliases, and what was live when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlnb.errors import InvalidInputError, RegistryFormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Action",
    "HistoryEvent",
    "aliases",
    "last_split",
    "live",
    "live_stack",
    "moment",
    "previous",
    "proofs",
    "until",
]

Action = Literal[
    "registered", "aliased", "unaliased", "deployed", "rolled back", "stopped", "proved", "deleted",
    "split", "shadowed", "unshadowed", "canary", "promoted", "taken back",
]  # fmt: skip
_LIVE = ("deployed", "rolled back", "split", "promoted")  # make a version live, or leave it so


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """Something that happened to a version.

    Attributes
    ----------
    number : int
        Position in the model's history, from 1, without gaps.
    action : Action
    version : int
    at : datetime
        In UTC.
    alias : str or None
        For ``aliased`` and ``unaliased``.
    by : str
        Who did it, as ``user@host``.
    proof : dict or None
        For ``proved``: the stored form of a :class:`~mlnb.registry.proofs.proof.Proof`.
    reason : str
        Why, where somebody said so: of a roll back, or a canary that was taken back.
    traffic : dict or None
        For ``split``, ``shadowed`` and ``canary``: how the requests were shared out from then on.
    """

    number: int
    action: Action
    version: int
    at: datetime
    alias: str | None = None
    by: str = ""
    proof: dict[str, Any] | None = None
    reason: str = ""
    traffic: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        stored = {"action": self.action, "version": self.version, "at": self.at.isoformat(), "by": self.by}
        optional = {
            "alias": self.alias, "proof": self.proof, "reason": self.reason or None, "traffic": self.traffic,
        }  # fmt: skip
        return stored | {key: value for key, value in optional.items() if value is not None}

    @classmethod
    def from_json(cls, number: int, stored: dict[str, Any]) -> HistoryEvent:
        """Read the stored form.

        Raises
        ------
        RegistryFormatError
            If a newer mlnb wrote it.
        """
        action = stored["action"]
        if action not in get_args(Action):
            raise RegistryFormatError(f"The history has an event {action!r} that this mlnb does not know. Update mlnb.")
        return cls(
            number, action, stored["version"], datetime.fromisoformat(stored["at"]), stored.get("alias"), stored["by"],
            stored.get("proof"), stored.get("reason", ""), stored.get("traffic"),
        )  # fmt: skip


def aliases(events: Iterable[HistoryEvent]) -> dict[str, int]:
    """Return each alias with the version number it was last given to."""
    found: dict[str, int] = {}
    for event in events:
        if event.action == "aliased" and event.alias is not None:
            found[event.alias] = event.version
        elif event.action == "unaliased" and event.alias is not None:
            found.pop(event.alias, None)
    return found


def live(events: Iterable[HistoryEvent]) -> int | None:
    """Return the version that is live at the end of the events, None if none is."""
    number = None
    for event in events:
        if event.action in _LIVE:
            number = event.version
        elif event.action == "stopped":
            number = None
    return number


def until(events: Iterable[HistoryEvent], moment: datetime | None) -> list[HistoryEvent]:
    """Return what had happened by a moment; all of it for None."""
    return [event for event in events if moment is None or event.at <= moment]


def proofs(events: Iterable[HistoryEvent]) -> dict[int, dict[str, Any]]:
    """Return the last proof of each version that has one, in its stored form."""
    return {event.version: event.proof for event in events if event.action == "proved" and event.proof is not None}


def live_stack(events: Iterable[HistoryEvent]) -> tuple[int, ...]:
    """Return the versions one can roll back through, the last one live.

    Deploying or promoting a version puts it on top; rolling back takes off what lies above the version rolled back to.
    So two roll backs in a row go two versions back instead of to and fro.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> deeds = [("deployed", 1), ("deployed", 2), ("deployed", 3), ("rolled back", 2)]
    >>> live_stack(HistoryEvent(i, action, version, now) for i, (action, version) in enumerate(deeds, start=1))
    (1, 2)
    """
    stack: list[int] = []
    for event in events:
        if event.action == "rolled back" and event.version in stack:
            del stack[len(stack) - stack[::-1].index(event.version) :]
        elif event.action in _LIVE and stack[-1:] != [event.version]:
            stack.append(event.version)
    return tuple(stack)


def previous(events: Iterable[HistoryEvent]) -> int | None:
    """Return the version that was live before the last one, or None."""
    stack = live_stack(events)
    return stack[-2] if len(stack) > 1 else None


def last_split(events: Iterable[HistoryEvent]) -> dict[str, Any] | None:
    """Return the stored form of the last split, None if there was none."""
    return next((event.traffic for event in reversed([*events]) if event.action == "split"), None)


def moment(given: datetime | str | None, *, what: str = "as_of takes") -> datetime | None:
    """Return a moment in UTC; without a zone it is local time.

    Raises
    ------
    InvalidInputError
    """
    if given is None:
        return None
    try:
        found = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
    except (TypeError, ValueError):
        raise InvalidInputError(f"{what} a datetime or ISO text such as '2026-01-31 12:00', not {given!r}.") from None
    return found.astimezone(UTC)
