"""An ensemble at rest: a manifest that points to exact versions, and the final estimator of a stack."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from mlnb.errors import InvalidInputError, NotServableError, RegistryFormatError
from mlnb.registry.ensembles.ensemble import Ensemble
from mlnb.registry.ensembles.final import Final
from mlnb.registry.ensembles.plan import STACKING, Plan
from mlnb.registry.frameworks import plain
from mlnb.registry.reference import validate_name
from mlnb.registry.serializers import CloudpickleSerializer, candidates, serializer_named, type_name, why_not_picklable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlnb.registry.ensembles.members import Member
    from mlnb.registry.serializers import Buffer
    from mlnb.registry.version import ModelVersion

__all__ = [
    "MANIFEST",
    "EnsembleSerializer",
    "Pointer",
    "check_registrable",
    "described",
    "is_ensemble",
    "modules",
    "own_format",
    "pointers",
    "redirected",
    "runs_code",
]

MANIFEST = "ensemble.json"
_FORMAT = 1
_FINAL = "final/"  # folder of the final estimator's files
_ARRAYS = ("labels", "classes", "final_labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Which version a member is.

    Attributes
    ----------
    member : str
    name, number
        Of the version, in the registry of the ensemble.
    digest : str
        Of the version's files.
    """

    member: str
    name: str
    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"

    @classmethod
    def to(cls, member: str, version: ModelVersion | None) -> Pointer:
        """Return a pointer to a version; to none where the member is not stored yet."""
        if version is None:
            return cls(member=member, name="", number=0, digest="")
        return cls(member=member, name=version.name, number=version.number, digest=version.digest)


class EnsembleSerializer:
    """A manifest in JSON; only the final estimator of a stack is a model file, in a format of its own.

    Parameters
    ----------
    fetch : callable, optional
        From a pointer to the loaded member. Without it nothing is loaded.
    """

    name: ClassVar[str] = "ensemble"
    types: ClassVar[tuple[str, ...]] = ("mlnb.registry.ensembles.ensemble.Ensemble",)
    runs_code: ClassVar[bool] = False  # the manifest does not; see the function runs_code

    def __init__(self, fetch: Callable[[Pointer], Member] | None = None) -> None:
        self._fetch = fetch

    def dump(self, model: Ensemble, *, example: Any = None) -> dict[str, Buffer]:  # noqa: ARG002 - for formats that trace
        """Return the manifest, and the files of the final estimator.

        Raises
        ------
        NotServableError
            If the final estimator cannot be stored.
        """
        form, files = ("", {}) if model.final is None else _dumped(model.final.model)
        targets = [Pointer.to(name, member.version) for name, member in model.members.items()]
        manifest = {
            "format": _FORMAT,
            **{key: getattr(model.plan, key) for key in Plan.__slots__},
            "members": [asdict(pointer) for pointer in targets],
            "final": form,
            "final_type": "" if model.final is None else type_name(model.final.model),
            "final_labels": None if model.final is None else model.final.labels,
        }
        return {MANIFEST: _encoded(manifest), **{f"{_FINAL}{path}": content for path, content in files.items()}}

    def load(self, files: Mapping[str, memoryview]) -> Ensemble:
        """Return the ensemble with its members.

        Raises
        ------
        NotServableError
            If there is nobody to fetch the members.
        RegistryFormatError
            If a newer mlnb wrote it.
        """
        if self._fetch is None:
            raise NotServableError("An ensemble is loaded by the registry that has its members: registry.load(..).")
        manifest = _decoded(files[MANIFEST])
        members = [self._fetch(pointer) for pointer in _pointers(manifest)]
        plan = Plan(**{key: manifest[key] for key in Plan.__slots__})
        plan = replace(plan, weights=None if plan.weights is None else tuple(plan.weights))
        return Ensemble.of(members, plan, _final(manifest, files) if manifest["final"] else None)


def _dumped(final: Any) -> tuple[str, dict[str, Buffer]]:
    """Return the first format that can store a final estimator, and its files."""
    for serializer in candidates(final):
        try:
            return serializer.name, serializer.dump(final, example=None)
        except Exception as error:
            if serializer.name == CloudpickleSerializer.name:
                raise why_not_picklable(final, error) from error
    raise AssertionError("unreachable: cloudpickle is always tried")


def _final(manifest: Mapping[str, Any], files: Mapping[str, memoryview]) -> Final:
    own = {path.removeprefix(_FINAL): content for path, content in files.items() if path.startswith(_FINAL)}
    return Final(serializer_named(manifest["final"]).load(own), labels=manifest["final_labels"])


def own_format(ensemble: Ensemble, *, wanted: str | None) -> list[EnsembleSerializer]:
    """Return the format of ensembles, as the only one to try; what it loads has the members of ``ensemble``.

    Raises
    ------
    InvalidInputError
        If a person wants another.
    """
    if wanted not in (None, EnsembleSerializer.name):
        raise InvalidInputError(
            f"An ensemble is stored as {EnsembleSerializer.name!r}, not as {wanted!r}; register its members by "
            "themselves to choose their formats, and name them by reference."
        )
    known = ensemble.members
    return [EnsembleSerializer(lambda pointer: known[pointer.member])]


def check_registrable(name: str, members: Sequence[Member], *, url: str) -> None:
    """Refuse an ensemble whose members cannot be pointed to from the registry at ``url``.

    Raises
    ------
    InvalidInputError
        If a member is in another registry, or is another version of the ensemble itself.
    InvalidNameError
        If the name that a member would get is too long.
    """
    for member in members:
        if member.version is None:
            validate_name(f"{name}-{member.name}")
        elif member.source != url:
            raise InvalidInputError(
                f"Member {member.name!r} is {member.version} of {member.source}; the ensemble goes to {url}. Copy it "
                f"there first: registry.copy({str(member.version)!r}, to={url!r})."
            )
        elif member.version.name == name:
            raise InvalidInputError(
                f"Member {member.name!r} is {member.version}, and {name!r} is the ensemble itself. Give the ensemble "
                "another name."
            )
        if isinstance(member.model, Ensemble):
            inner = list(member.model.members.values())
            _check_nested(member, inner)
            check_registrable(name, inner, url=url)


def _check_nested(member: Member, inner: Sequence[Member]) -> None:
    new = next((one for one in inner if one.version is None), None)
    if new is not None:
        raise InvalidInputError(
            f"Member {member.name!r} is an ensemble whose member {new.name!r} is not stored. Register that ensemble "
            "first, and name it by reference."
        )


def modules(ensemble: Ensemble) -> list[str]:
    """Return the modules that the classes of the members and of the final estimator are from."""
    members = [member.model for member in ensemble.members.values()]
    models = members if ensemble.final is None else [*members, ensemble.final.model]
    inner = [name for model in models if isinstance(model, Ensemble) for name in modules(model)]
    return sorted({type(model).__module__ for model in models} | set(inner))


def is_ensemble(version: ModelVersion) -> bool:
    """Say whether a version is an ensemble."""
    return version.format == EnsembleSerializer.name


def runs_code(version: ModelVersion) -> bool:
    """Say whether loading a version may run code of whoever wrote it; of an ensemble, beside what its members do."""
    if is_ensemble(version):
        return any(file.path.startswith(_FINAL) for file in version.files)
    return serializer_named(version.format).runs_code


def pointers(manifest: Buffer) -> list[Pointer]:
    """Return which versions a stored ensemble points to.

    Raises
    ------
    RegistryFormatError
        If a newer mlnb wrote it.
    """
    return _pointers(_decoded(manifest))


def redirected(manifest: Buffer, targets: Sequence[Pointer]) -> bytes:
    """Return a manifest that points to other versions of the same members."""
    return _encoded(_decoded(manifest) | {"members": [asdict(pointer) for pointer in targets]})


def described(manifest: Buffer) -> dict[str, str]:
    """Return what an ensemble's version records as its parameters."""
    stored = _decoded(manifest)
    targets = _pointers(stored)
    found = {"combine": stored["combine"], "members": ", ".join(f"{one.member}={one}" for one in targets)}
    if stored["weights"] is not None:
        pairs = zip(targets, stored["weights"], strict=True)
        found["weights"] = ", ".join(f"{one.member}={weight:.6g}" for one, weight in pairs)
    more = {key: str(stored[key]) for key in ("quorum", "threshold") if stored[key] is not None}
    return found | more | ({"final": stored["final_type"]} if stored["combine"] == STACKING else {})


def _pointers(manifest: Mapping[str, Any]) -> list[Pointer]:
    return [Pointer(**stored) for stored in manifest["members"]]


def _encoded(manifest: Mapping[str, Any]) -> bytes:
    arrays = {key: json.loads(plain.dumps(manifest[key])) for key in _ARRAYS}
    return json.dumps(dict(manifest) | arrays, indent=1).encode()


def _decoded(content: Buffer) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(bytes(content))
    if manifest["format"] != _FORMAT:
        raise RegistryFormatError(
            f"An ensemble of format {manifest['format']}; this mlnb reads {_FORMAT}. Update mlnb."
        )
    return manifest | {key: plain.loads(json.dumps(manifest[key]).encode()) for key in _ARRAYS}
