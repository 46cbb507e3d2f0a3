"""What people say about traffic, turned into what is to be served."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError, MlnbError
from mlnb.registry import history
from mlnb.registry.compatibility import misfit
from mlnb.registry.reference import ModelReference, is_valid_name
from mlnb.serving.canary import CanaryPlan
from mlnb.serving.hosting import Hosted, Variant
from mlnb.serving.traffic import Split, checked_share, checked_weights

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mlnb.monitoring.guards import Guard
    from mlnb.registry import ModelRegistry, ModelVersion

__all__ = ["Arrangement", "canary_of", "check_shadow_free", "promoted", "resolve", "shadow_of", "split_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What is to be served, and what the history says of it.

    Attributes
    ----------
    hosted : Hosted
    about : ModelVersion
        That the history's event is of.
    traffic : dict
        For the history.
    """

    hosted: Hosted
    about: ModelVersion
    traffic: dict[str, Any]


def resolve(registry: ModelRegistry, name: str, given: Any) -> ModelVersion:
    """Return the version of a model that a person means: 4, "4", "champion", "iris:4" or "iris@champion".

    Raises
    ------
    InvalidInputError
        If it is a version of another model.
    MlnbError
        If there is none.
    """
    text = str(given).strip()
    if isinstance(given, bool) or not text:
        raise InvalidInputError(f"{given!r} is no version of {name!r}: name it by number, alias or reference.")
    if text.isdecimal():
        return registry.version(f"{name}:{text}")
    if is_valid_name(text):
        return registry.version(f"{name}@{text}")
    wanted = ModelReference.parse(text)
    if wanted.name != name:
        raise InvalidInputError(
            f"{text!r} is a version of another model: requests to {name!r} are answered by versions of {name!r}."
        )
    return registry.version(text)


def split_of(hosted: Hosted, weights: Mapping[Any, Any], *, key: str | None) -> Arrangement:
    """Return what is to be served when the requests are shared out by weights.

    Raises
    ------
    InvalidInputError
        If the weights are none, name a version twice, or versions do not fit one another.
    """
    _check_free(hosted, "split")
    given = checked_weights(weights)
    versions = {label: resolve(hosted.registry, hosted.version.name, label) for label in given}
    names = _names(versions)
    by_number = {versions[label].number: weight for label, weight in given.items()}
    first = max(by_number, key=lambda number: (number == hosted.version.number, by_number[number]))
    live = next(version for version in versions.values() if version.number == first)
    others = [version for version in versions.values() if version.number != first]
    if key:
        _check_key(live, key)
    for version in others:
        _check_fit(live, version)
    if key is None and hosted.split is not None:
        key = hosted.split.key
    split = _split(hosted, by_number, key=key or None)
    traffic = {"weights": {str(number): weight for number, weight in by_number.items()}, **split.to_json()}
    return Arrangement(
        hosted=replace(
            hosted, live=_variant(hosted, live), others=tuple(_variant(hosted, one) for one in others), split=split,
            names=names, shadow=_shadow_beside(hosted, names),
        ),
        about=live, traffic=traffic,
    )  # fmt: skip


def _shadow_beside(hosted: Hosted, answering: Collection[int]) -> Variant | None:
    """Return the shadow there is, unless it is one of those that answer from now on."""
    shadow = hosted.shadow
    return None if shadow is None or shadow.version.number in answering else shadow


def _names(versions: Mapping[Any, ModelVersion]) -> dict[int, str]:
    """Return what people call each version: its alias, else v and its number.

    Raises
    ------
    InvalidInputError
        If two of them are the same.
    """
    names: dict[int, str] = {}
    for given, version in versions.items():
        if version.number in names:
            raise InvalidInputError(
                f"{names[version.number]!r} and {given!r} are both {version}; give each version one weight."
            )
        text = str(given)
        names[version.number] = text if is_valid_name(text) and not text.isdecimal() else f"v{version.number}"
    return names


def _split(hosted: Hosted, weights: Mapping[int, float], *, key: str | None) -> Split:
    """Change the split there is, or was last: whoever met a version meets it again, as far as the weights allow."""
    name = hosted.version.name
    if hosted.split is not None:
        return hosted.split.changed(weights, key=key)
    stored = history.last_split(hosted.registry.history(name))
    if stored is not None:
        before = Split.from_json(stored, salt=name)
        if {version for _, version in before.slices} & {version for version, weight in weights.items() if weight}:
            return before.changed(weights, key=key)
    return Split.of(weights, salt=name, key=key)


def shadow_of(hosted: Hosted, reference: Any, *, share: float) -> Arrangement:
    """Return what is to be served when a version sees a copy of the requests.

    Raises
    ------
    InvalidInputError
    """
    check_shadow_free(hosted)
    percent = checked_share(share)
    version = resolve(hosted.registry, hosted.version.name, reference)
    if any(version.number == one.version.number for one in hosted.variants):
        raise InvalidInputError(f"{version} answers requests already; a shadow is a version that does not.")
    _check_fit(hosted.version, version, probabilities=False)
    return Arrangement(
        hosted=replace(hosted, shadow=Variant(version=version), shadow_share=percent), about=version,
        traffic={"share": percent},
    )  # fmt: skip


def canary_of(
    hosted: Hosted,
    reference: Any,
    *,
    steps: Sequence[float],
    hold: float | str,
    guard: Guard | Mapping[str, Any] | None,
) -> Arrangement:
    """Return what is to be served when a version becomes live step by step.

    Raises
    ------
    InvalidInputError
    """
    _check_free(hosted, "canary", splitting=True)
    version = resolve(hosted.registry, hosted.version.name, reference)
    plan = CanaryPlan.of(secrets.token_hex(8), version.number, steps=steps, hold=hold, guard=guard)
    if version.number == hosted.version.number:
        raise InvalidInputError(f"{version} is live already; a canary is a version that is not.")
    _check_fit(hosted.version, version)
    variant = Variant(version=version)
    shadow = _shadow_beside(hosted, [version.number])
    shared = replace(hosted, others=(variant,), split=None, canary=plan, names={}, shadow=shadow)
    if plan.guard.disagreement is not None:
        shared = replace(shared, shadow=variant, shadow_share=100.0)
    return Arrangement(hosted=shared, about=version, traffic={"steps": list(plan.steps), "hold": plan.hold})


def promoted(hosted: Hosted, number: int) -> Hosted:
    """Return what is to be served when one of the versions that answer becomes live, alone.

    Raises
    ------
    InvalidInputError
        If it answers nobody.
    """
    found = [one for one in hosted.variants if one.version.number == number]
    if not found:
        numbers = " and ".join(f"v{one.version.number}" for one in hosted.variants)
        raise InvalidInputError(f"v{number} answers no requests here, {numbers} do; to make it live, deploy it.")
    return hosted.alone(number)


def check_shadow_free(hosted: Hosted) -> None:
    """Refuse another shadow, or none, while a canary is judged by its own.

    Raises
    ------
    MlnbError
    """
    if hosted.canary is not None and hosted.canary.guard.disagreement is not None:
        raise MlnbError(
            f"No other shadow now: the canary v{hosted.canary.version} is judged by the copy of the requests that it "
            "sees. Promote it, or roll back, first."
        )


def _check_free(hosted: Hosted, what: str, *, splitting: bool = False) -> None:
    busy = f"v{hosted.canary.version} is a canary" if hosted.canary is not None else ""
    if splitting and hosted.others and hosted.canary is None:
        busy = f"the requests are split between {' and '.join(f'v{one.version.number}' for one in hosted.variants)}"
    if busy:
        raise MlnbError(f"No {what} now: {busy}. Promote it, or roll back, first.")


def _check_key(version: ModelVersion, key: str) -> None:
    names = version.signature.names
    if key not in names:
        raise InvalidInputError(
            f"key={key!r:.80}: the model has no such field; there are: {', '.join(names[:10])}. A request can also "
            "name its key itself, in the header X-Routing-Key or as 'key' in its body."
        )


def _check_fit(live: ModelVersion, other: ModelVersion, *, probabilities: bool = True) -> None:
    why = misfit(live.signature, other.signature, probabilities=probabilities)
    if why is not None:
        raise InvalidInputError(f"{other} cannot answer the requests of {live}: {why}.")


def _variant(hosted: Hosted, version: ModelVersion) -> Variant:
    """Return a version as it is served already, else without a faster form."""
    return next((one for one in hosted.variants if one.version == version), Variant(version=version))
