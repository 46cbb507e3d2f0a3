"""Models at rest: numbered versions in a folder or a bucket, with their history."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson

from mlnb.errors import (
    AliasMovedError,
    IntegrityError,
    InvalidInputError,
    InvalidNameError,
    MissingLibraryError,
    MlnbError,
    ModelNotFoundError,
    NoPreviousVersionError,
    UntrustedError,
    VersionInUseError,
    nearest,
)
from mlnb.registry import history, trust
from mlnb.registry.admission import (
    check_description,
    check_fitted,
    check_modules,
    checked_metrics,
    opened,
    plain_example,
    stored_form,
)
from mlnb.registry.ensembles.ensemble import Ensemble
from mlnb.registry.ensembles.members import rows_for, stored_member
from mlnb.registry.ensembles.stored import (
    MANIFEST,
    EnsembleSerializer,
    Pointer,
    check_registrable,
    described,
    is_ensemble,
    modules,
    own_format,
    pointers,
    redirected,
    runs_code,
)
from mlnb.registry.ledger import Ledger
from mlnb.registry.lineage import LineageProbe
from mlnb.registry.predictors import parameters, predictor
from mlnb.registry.proofs import environment
from mlnb.registry.proofs.golden import GoldenRows, golden_rows
from mlnb.registry.proofs.proof import Proof, prove_in_child
from mlnb.registry.proofs.prover import prover
from mlnb.registry.proofs.verification import verify
from mlnb.registry.reference import ModelReference, ranges, validate_name
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.serializers import by_value as stored_by_value
from mlnb.registry.serializers import candidates, serializer_named, type_name
from mlnb.registry.sharing import shared as shared_models
from mlnb.registry.signature import Signature
from mlnb.registry.storage.blobs import Blobs
from mlnb.registry.storage.store import open_store
from mlnb.registry.version import ModelVersion, StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import ModuleType

    from mlnb.registry.card import ModelCard
    from mlnb.registry.diff import VersionDiff
    from mlnb.registry.ensembles.members import Member
    from mlnb.registry.history import Action, HistoryEvent
    from mlnb.registry.serializers import Buffer
    from mlnb.registry.storage.blobs import Collected

__all__ = ["ModelRegistry", "default_folder"]

_MAPPED = (
    "buffers/"  # the files of a model that are arrays; what is unpickled is read, so that nobody changes it meanwhile
)
_LARGE = 2**20  # bytes from which an array is mapped: each mapping keeps a file open
_ANY: Any = object()


def default_folder() -> Path:
    """Return ``$MLNB_HOME``, else the platform's data folder for mlnb."""
    import platformdirs

    home = os.environ.get("MLNB_HOME")
    return Path(home).expanduser() if home else platformdirs.user_data_path("mlnb")


class ModelRegistry:
    """Versioned models in a folder or a bucket; no server to run.

    Parameters
    ----------
    place : str or Path, optional
        A folder, made when the first model is registered, or ``s3://bucket/prefix``. Default: :func:`default_folder`.

    Attributes
    ----------
    url : str
        The folder's absolute path, or the URL.

    Raises
    ------
    RegistryFormatError
        If a newer mlnb wrote it.
    RegistryUnavailableError
        If it cannot be reached.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> model = DummyClassifier().fit([[0.0], [1.0]], [1, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     registry = ModelRegistry(folder)
    ...     version = registry.register(model, "always", example=np.array([[0.5]]), metrics={"accuracy": 1.0})
    ...     str(version), registry.load("always").predict([[3.0]])
    ('always:1', array([1]))
    """

    def __init__(self, place: str | Path | None = None) -> None:
        self._store = open_store(place if place is not None else default_folder())
        self.url = self._store.url
        self._blobs = Blobs(self._store)
        self._ledger = Ledger(self._store, read_signature=self._read_signature)
        self._signatures: dict[str, Signature] = {}  # by digest: read once
        self._registered_here: set[str] = set()  # digests of models that this object stored
        self._assumed_trusted = False
        self._identity = self._ledger.identity()

    def __repr__(self) -> str:
        return f"ModelRegistry({self.url!r})"

    def register(
        self,
        model: Any,
        name: str,
        *,
        example: Any = None,
        metrics: Mapping[str, float] | None = None,
        description: str = "",
        serializer: str | None = None,
        by_value: Sequence[ModuleType] = (),
    ) -> ModelVersion:
        """Store ``model`` as the next version of ``name``.

        Parameters
        ----------
        model : object or Path
            Anything with ``predict``, a function, a PyTorch module, an ONNX model, or the path of an ``.onnx``,
            ``.joblib`` or ``.pkl`` file.
        name : str
        example : array of shape (n, features), DataFrame, list of rows or of dicts, optional
            Names, types, ranges and quantiles are read off it. The answers to up to 32 of its rows are kept, so that
            one can tell later whether the model still gives them.
        metrics : mapping of str to float, optional
        description : str
        serializer : str, optional
            A format by name, for instance ``"skops"``. Default: the model's framework's own where it has one that
            cannot run code, else cloudpickle.
        by_value : sequence of modules
            Modules of your own that are stored with the model, because they are not installed elsewhere.

        Raises
        ------
        InvalidNameError
        NotServableError
            If the model cannot answer, is not fitted, cannot be stored, or cannot predict the example's rows.
        InvalidInputError
            If the metrics are not numbers by name.
        RegistryUnavailableError
            If the registry cannot be written. Nothing is half-written then.

        Notes
        -----
        A second after the last version was registered, a child process with nothing of the notebook in it loads the
        newest one and answers the same rows; see :meth:`proof`. A program that ends before can call :meth:`prove`.
        ``MLNB_PROVE=off`` turns the background's proofs off.
        """
        validate_name(name)
        with self._draft(
            opened(model), name, example=plain_example(example), metrics=metrics, description=description,
            serializer=serializer, by_value=by_value,
        ) as draft:  # fmt: skip
            return self._write(self._whole(draft, by_value=by_value))

    def load(
        self,
        reference: str | ModelVersion,
        *,
        as_of: datetime | str | None = None,
        mapped: bool = False,
        allow_mismatch: bool = False,
        shared: bool = False,
    ) -> Any:
        """Return the model of a version, its digests checked before anything is unpickled.

        Parameters
        ----------
        reference : str or ModelVersion
            ``"iris"`` (the newest), ``"iris:3"`` or ``"iris@champion"``.
        as_of : datetime or str, optional
            What the reference meant at that time; text in ISO 8601, without a zone in local time.
        mapped : bool
            Map large arrays instead of copying them: processes that load the same version share their memory. The
            files must stay on this machine's disk meanwhile.
        allow_mismatch : bool
            Return the model even if it no longer gives the recorded answers to its golden rows.
        shared : bool
            Return the same object that others in this process have who asked for a shared one, if they still hold it.
            It must not be changed. Members of ensembles are always shared.

        Raises
        ------
        ModelNotFoundError
        UntrustedError
            If loading may run code, and the registry is neither your own nor one you trust.
        IntegrityError
            If stored bytes are not those that were recorded, or make no model here.
        MissingLibraryError
            If the model's class lives in a library that is not installed.
        GoldenRowsError
            If the model answers otherwise than it did when it was registered.

        Warns
        -----
        EnvironmentWarning
            If Python or the packages that the model uses differ from those recorded.
        """
        version = reference if isinstance(reference, ModelVersion) else self.version(reference, as_of=as_of)
        self._check_trusted(version)
        if shared:
            key = (self.url, str(version), version.digest)
            model = shared_models.get(key, lambda: self._loaded(version, mapped=mapped, allow_mismatch=allow_mismatch))
        else:
            model = self._loaded(version, mapped=mapped, allow_mismatch=allow_mismatch)
        verify(
            version, model, requirements=self._requirements(version), read_golden=lambda: self.golden(version),
            allow_mismatch=allow_mismatch,
        )  # fmt: skip
        return model

    def golden(self, reference: str | ModelVersion) -> GoldenRows | None:
        """Return the rows and answers kept when a version was registered, None if it had no example.

        Raises
        ------
        ModelNotFoundError, IntegrityError
        """
        version = reference if isinstance(reference, ModelVersion) else self.version(reference)
        if version.golden_digest is None:
            return None
        return GoldenRows.from_json(self._blobs.get([version.golden_digest])[0])

    def prove(self, reference: str | ModelVersion) -> Proof:
        """Let a child process with nothing of the notebook in it load a version and answer its golden rows, now.

        What it finds, with the packages it imported, joins the history; :meth:`proof` returns it.

        Raises
        ------
        ModelNotFoundError, UntrustedError
        RegistryUnavailableError
            If the child cannot read the registry. Nothing is recorded then.
        """
        version = reference if isinstance(reference, ModelVersion) else self.version(reference)
        self._check_trusted(version)
        asked = datetime.now(UTC)
        with prover.running:
            proof = self._last_proof(version, since=asked)  # of another thread, while this one waited
            if proof is None:
                proof = prove_in_child(self.url, str(version))
                self._ledger.record(version, "proved", proof=proof.to_json())
        return proof

    def proof(self, reference: str | ModelVersion) -> Proof | None:
        """Return the last proof of a version, None if there is none yet.

        Raises
        ------
        ModelNotFoundError
        """
        return self._last_proof(reference if isinstance(reference, ModelVersion) else self.version(reference))

    def names(self) -> list[str]:
        """Return the names of all models."""
        return self._ledger.names()

    def versions(self, name: str, *, as_of: datetime | str | None = None) -> list[ModelVersion]:
        """Return the versions of a model, oldest first, without those that were deleted.

        Parameters
        ----------
        name : str
        as_of : datetime or str, optional
            Only those registered by then.

        Raises
        ------
        ModelNotFoundError
            With the nearest names there are.
        """
        versions = self._ledger.versions(validate_name(name))
        if not versions:
            raise ModelNotFoundError(f"There is no model {name!r} in {self.url}; {nearest(name, self.names())}.")
        moment = history.moment(as_of)
        found = [version for version in versions if moment is None or version.created <= moment]
        if not found:
            first = f"{versions[0].created:%Y-%m-%d %H:%M:%S} UTC"
            raise ModelNotFoundError(f"{name!r} had no version at {moment}; its first is of {first}.")
        return found

    def version(self, reference: str, *, as_of: datetime | str | None = None) -> ModelVersion:
        """Return the version that a reference means now, or meant at a time.

        Raises
        ------
        ModelNotFoundError
            With what there is.
        """
        wanted = ModelReference.parse(reference)
        if wanted.number is not None and as_of is None:
            found = self._ledger.version(wanted.name, wanted.number)
            if found is not None:
                return found
        versions = self.versions(wanted.name, as_of=as_of)
        number = wanted.number
        if wanted.alias is not None:
            known = self.aliases(wanted.name, as_of=as_of)
            if wanted.alias not in known:
                raise ModelNotFoundError(
                    f"{wanted.name!r} has no alias {wanted.alias!r}; {nearest(wanted.alias, known)} (in {self.url})."
                )
            number = known[wanted.alias]
        if number is None:
            return versions[-1]
        for version in versions:
            if version.number == number:
                return version
        if number in self._ledger.deleted(wanted.name):
            raise ModelNotFoundError(f"{wanted.name}:{number} was deleted; its record stays in the history.")
        there = ranges([version.number for version in versions])
        raise ModelNotFoundError(f"{wanted.name!r} has no version {number}; there are {there} (in {self.url}).")

    def set_alias(self, name: str, alias: str, number: int, *, expected: int | None = _ANY) -> None:
        """Let ``name@alias`` mean version ``number`` from now on.

        Parameters
        ----------
        name : str
        alias : str
        number : int
        expected : int or None, optional
            The version that you believe it means now, None for none: if somebody has moved it meanwhile, it stays.

        Raises
        ------
        InvalidNameError
        ModelNotFoundError
        AliasMovedError
        """
        if alias.isdecimal():
            raise InvalidNameError(f"{alias!r} is no alias but a number; {name}:{alias} means that version.")
        validate_name(alias, what="alias")
        version = self.version(f"{name}:{number}")
        while True:
            events = self.history(name)
            moves = [event for event in events if event.alias == alias]
            now = self.aliases(name).get(alias)
            if expected is not _ANY and now != expected:
                who = f" by {moves[-1].by} at {moves[-1].at:%Y-%m-%d %H:%M:%S} UTC" if moves else ""
                raise AliasMovedError(
                    f"{name}@{alias} means {_version_text(now)}, not {_version_text(expected)}: it was moved{who}. "
                    "Look again, then set it."
                )
            position = events[-1].number + 1 if events else 1
            if self._ledger.append(version, "aliased", number=position, alias=alias) is not None:
                return

    def remove_alias(self, name: str, alias: str) -> None:
        """Let ``name@alias`` mean nothing from now on.

        Raises
        ------
        ModelNotFoundError
            If it means nothing already.
        """
        self._ledger.record(self.version(f"{name}@{alias}"), "unaliased", alias=alias)

    def aliases(self, name: str, *, as_of: datetime | str | None = None) -> dict[str, int]:
        """Return the aliases of a model and the version numbers they mean, or meant at a time."""
        gone = self._ledger.deleted(validate_name(name))
        found = history.aliases(history.until(self.history(name), history.moment(as_of)))
        return {alias: number for alias, number in found.items() if number not in gone}

    def live(self, name: str, *, as_of: datetime | str | None = None) -> int | None:
        """Return the number of the version that is live by the history, or was at a time; None if none."""
        return history.live(history.until(self.history(name), history.moment(as_of)))

    def history(self, name: str) -> list[HistoryEvent]:
        """Return what happened to a model, oldest first; empty for a name that is not there."""
        return self._ledger.history(validate_name(name))

    def record(
        self, version: ModelVersion, action: Action, *, reason: str = "", traffic: dict[str, Any] | None = None
    ) -> HistoryEvent:
        """Append to the history of ``version.name`` that something was done with a version, and why."""
        return self._ledger.record(version, action, reason=reason, traffic=traffic)

    def rollback(self, name: str, *, to: int | None = None) -> ModelVersion:
        """Record that the version live before, or version ``to``, is live again, and return it.

        Raises
        ------
        NoPreviousVersionError
            If no version was live before.
        ModelNotFoundError
            If there is no version ``to``.
        """
        version = self.rollback_target(name, to=to)
        self.record(version, "rolled back")
        return version

    def rollback_target(
        self, name: str, *, to: int | None = None, events: Iterable[HistoryEvent] | None = None
    ) -> ModelVersion:
        """Return what :meth:`rollback` would make live, without recording anything.

        Parameters
        ----------
        name : str
        to : int, optional
        events : iterable of HistoryEvent, optional
            The part of the history to go back through. Default: all of it.

        Raises
        ------
        NoPreviousVersionError, ModelNotFoundError
        """
        number = to
        if number is None:
            gone = self._ledger.deleted(validate_name(name))
            known = self.history(name) if events is None else events
            number = history.previous(event for event in known if event.version not in gone)
        if number is None:
            numbers = ranges([version.number for version in self.versions(name)])
            raise NoPreviousVersionError(f"No version of {name!r} was live before this one; name one of {numbers}.")
        return self.version(f"{name}:{number}")

    def delete(self, reference: str, *, force: bool = False) -> ModelVersion:
        """Take a version out of use, and return it. Its number is not given again; :meth:`collect` frees its files.

        Parameters
        ----------
        reference : str
        force : bool
            Delete it even if it is live by the history, for instance because the kernel that served it was killed, or
            has an alias, which then means nothing. An ensemble that points to it can then not be loaded any more.

        Raises
        ------
        InvalidNameError
            If the reference has no number.
        ModelNotFoundError
        VersionInUseError
            If it is live, an alias means it, or an ensemble has it as a member.
        """
        if ModelReference.parse(reference).number is None:
            raise InvalidNameError(
                f"{reference!r} does not say which version to delete; name it by its number: NAME:3."
            )
        version = self.version(reference)
        named = [alias for alias, number in self.aliases(version.name).items() if number == version.number]
        if named and not force:
            raise VersionInUseError(f"{version} is @{', @'.join(named)}: give the alias to another version first.")
        if self.live(version.name) == version.number and not force:
            raise VersionInUseError(
                f"{version} is live: deploy another version, or stop it, first. If the process that served it is gone: "
                "registry.delete(..., force=True)."
            )
        ensemble = None if force else self._pointing_at(version)
        if ensemble is not None:
            raise VersionInUseError(f"{version} is a member of the ensemble {ensemble}: delete that first.")
        self._ledger.delete(version)
        return version

    def collect(self) -> Collected:
        """Free the files that no version needs: those of deleted versions, and what crashed writers left.

        Files of a version that is being registered at the same time are not lost.

        Returns
        -------
        Collected
        """
        collected = self._blobs.collect(self._needed)
        self._store.sweep()
        return collected

    def copy(self, reference: str, to: ModelRegistry | str | Path) -> ModelVersion:
        """Copy a version, digests checked on both sides, as the next version of its name in another registry.

        The members of an ensemble are copied first, but for those that the other registry has already.

        Raises
        ------
        ModelNotFoundError, IntegrityError
        InvalidInputError
            If it is the same registry.
        UntrustedError
            If loading it may run code and this registry is not trusted: copying would vouch for it.
        """
        other = to if isinstance(to, ModelRegistry) else ModelRegistry(to)
        version = self.version(reference)
        if other.url == self.url:
            raise InvalidInputError(f"{version} is in {self.url} already; give another registry to copy it to.")
        return self._copied(version, other)

    def diff(self, old: str, new: str) -> VersionDiff:
        """Compare two versions: parameters, schema, metrics, size, requirements, golden answers.

        Raises
        ------
        ModelNotFoundError, IntegrityError
        """
        from mlnb.registry.diff import Subject, compare

        first, second = (
            Subject(version, self.proof(version), self.golden(version)) for version in map(self.version, (old, new))
        )
        return compare(first, second)

    def card(self, reference: str) -> ModelCard:
        """Return the model card of a version, as Markdown and HTML.

        Raises
        ------
        ModelNotFoundError, IntegrityError
        """
        from mlnb.registry.card import ModelCard

        version = self.version(reference)
        named = [alias for alias, number in self.aliases(version.name).items() if number == version.number]
        events = [event for event in self.history(version.name) if event.version == version.number]
        return ModelCard(
            version, self.url, tuple(sorted(named)), self.proof(version), self.golden(version), tuple(events)
        )

    @property
    def trusted(self) -> bool:
        """Whether models of this registry may run code when they are loaded: it is your own, or one you trust."""
        return self._assumed_trusted or (self._founded() and trust.is_trusted(self.url, self._identity))

    def trust(self) -> Self:
        """Trust this registry from now on: whoever can write to it can then run code in your notebooks.

        Raises
        ------
        ModelNotFoundError
            If there is no registry yet.
        """
        if not self._founded():
            raise ModelNotFoundError(f"There is no registry in {self.url} yet; the first model registered makes it.")
        trust.trust(self.url, self._identity)
        return self

    def distrust(self) -> Self:
        """Undo :meth:`trust`, and what making the registry did."""
        trust.forget(self.url, self._identity)
        return self

    def assume_trusted(self) -> Self:
        """Trust this registry for the life of this object: for a program that was told which registry to serve from."""
        self._assumed_trusted = True
        return self

    @contextmanager
    def _draft(
        self, model: Any, name: str, *, example: Any, metrics: Mapping[str, float] | None, description: str,
        serializer: str | None, by_value: Sequence[ModuleType],
    ) -> Iterator[_Draft]:  # fmt: skip
        """Check a model and make its files; nothing is written. Git and the example's digest are awaited later."""
        answering, known = predictor(model), checked_metrics(metrics)
        check_description(description)
        check_modules(by_value)
        signature = infer_signature(model, example)
        check_fitted(model)
        golden = golden_rows(answering, signature, example)
        ensemble = model if isinstance(model, Ensemble) else None
        found = environment.describe(model)
        if ensemble is None:
            formats = candidates(model, wanted=serializer)
        else:
            formats, found = own_format(ensemble, wanted=serializer), found | {"modules": modules(ensemble)}
        with LineageProbe(example) as lineage, stored_by_value(by_value):
            chosen, files, golden = stored_form(model, formats=formats, signature=signature, golden=golden)
            yield _Draft(
                name=name, model_type=type_name(model), metrics=known, description=description, format=chosen.name,
                files=files, signature=signature, golden=golden, parameters=parameters(model),
                environment=found, lineage=lineage, example=example, ensemble=ensemble,
            )  # fmt: skip

    def _write(self, draft: _Draft, *, reuse: bool = False) -> ModelVersion:
        """Store what was drafted as the next version; with ``reuse`` return the newest one if it is the same model."""
        contents = [*draft.files.values(), orjson.dumps(draft.signature.to_json())]
        contents += [] if draft.golden is None else [draft.golden.to_json()]
        self._found()
        digests = self._blobs.put(contents)
        stored = tuple(
            StoredFile(path, digest, memoryview(content).nbytes)
            for (path, content), digest in zip(draft.files.items(), digests, strict=False)
        )
        version = ModelVersion(
            name=draft.name, number=0, created=datetime.now(UTC), metrics=draft.metrics, description=draft.description,
            model_type=draft.model_type, format=draft.format, files=stored, signature_digest=digests[len(stored)],
            golden_digest=None if draft.golden is None else digests[-1], parameters=draft.parameters,
            environment=draft.environment, lineage=draft.lineage.result(), read_signature=self._read_signature,
        )  # fmt: skip
        newest = self._ledger.versions(draft.name)[-1:] if reuse else []
        if newest and newest[0].digest == version.digest and newest[0].signature.names == draft.signature.names:
            return newest[0]
        self._registered_here.add(version.digest)
        return self._add(version, contents)

    def _whole(self, draft: _Draft, *, by_value: Sequence[ModuleType] = ()) -> _Draft:
        """Return what can be written: of an ensemble, when its members are."""
        return draft if draft.ensemble is None else self._with_members(draft, by_value=by_value)

    def _member_draft(
        self, member: Member, draft: _Draft, *, by_value: Sequence[ModuleType]
    ) -> AbstractContextManager[_Draft]:
        rows = None if draft.example is None else rows_for(member, draft.signature.coerce(draft.example))
        return self._draft(
            member.model, f"{draft.name}-{member.name}", example=rows, metrics=None,
            description=f"Member {member.name} of {draft.name}.", serializer=None, by_value=by_value,
        )  # fmt: skip

    def _with_members(self, draft: _Draft, *, by_value: Sequence[ModuleType]) -> _Draft:
        """Store the members of an ensemble that are no versions yet, once all were checked, and point to them."""
        assert draft.ensemble is not None  # noqa: S101 - for the type checker: it is asked for ensembles alone
        members = list(draft.ensemble.members.values())
        check_registrable(draft.name, members, url=self.url)
        with ExitStack() as stack:
            drafts = {
                member.name: stack.enter_context(self._member_draft(member, draft, by_value=by_value))
                for member in members
                if member.version is None
            }
            written = {name: self._write(self._whole(one), reuse=True) for name, one in drafts.items()}
        targets = [Pointer.to(member.name, written.get(member.name, member.version)) for member in members]
        manifest = redirected(draft.files[MANIFEST], targets)
        return replace(draft, files=draft.files | {MANIFEST: manifest}, parameters=described(manifest))

    def _loaded(self, version: ModelVersion, *, mapped: bool, allow_mismatch: bool) -> Any:
        """Return the model of a version that may be loaded."""
        try:
            serializer = serializer_named(version.format)
            if is_ensemble(version):
                serializer = EnsembleSerializer(partial(self._member, mapped=mapped, allow_mismatch=allow_mismatch))
            return serializer.load(self._contents(version, mapped=mapped))
        except MlnbError:
            raise
        except ImportError as error:
            raise MissingLibraryError(f"{version} needs {error.name or 'a library'}: {error}. Install it.") from error
        except Exception as error:
            differing = environment.differences(version.environment, requirements={})
            raise IntegrityError(
                f"{version} cannot be rebuilt here: {type(error).__name__}: {error}. It was stored under Python "
                f"{version.python}{''.join(f'; {one}' for one in differing)}."
            ) from error

    def _member(self, pointer: Pointer, *, mapped: bool, allow_mismatch: bool) -> Member:
        """Return the member of an ensemble that a pointer means."""
        version = self._target(pointer)
        model = self.load(version, mapped=mapped, allow_mismatch=allow_mismatch, shared=True)
        return stored_member(pointer.member, model, version, self.url)

    def _target(self, pointer: Pointer) -> ModelVersion:
        try:
            version = self.version(str(pointer))
        except ModelNotFoundError as error:
            raise ModelNotFoundError(
                f"Of the ensemble, the member {pointer.member!r} is {pointer}, which is gone: {error}"
            ) from None
        if version.digest != pointer.digest:
            raise IntegrityError(f"{version} is not the version that the ensemble was registered with.")
        return version

    def _pointers(self, version: ModelVersion) -> list[Pointer]:
        """Return which versions a version points to; none unless it is an ensemble."""
        if not is_ensemble(version):
            return []
        manifest = next(file.digest for file in version.files if file.path == MANIFEST)
        return pointers(self._blobs.get([manifest])[0])

    def _pointing_at(self, version: ModelVersion) -> ModelVersion | None:
        """Return an ensemble that has a version as a member."""
        for name in self._ledger.names():
            with suppress(IntegrityError):  # what is damaged protects nothing
                for other in self._ledger.versions(name):
                    if any(str(pointer) == str(version) for pointer in self._pointers(other)):
                        return other
        return None

    def _copied(self, version: ModelVersion, other: ModelRegistry, *, reuse: bool = False) -> ModelVersion:
        """Copy a version, members first; with ``reuse`` return one that the other registry has of the same model."""
        self._check_trusted(version)
        contents = dict(zip(version.contents, self._blobs.get(version.contents), strict=True))
        if is_ensemble(version):
            targets = [
                Pointer.to(pointer.member, self._copied(self._target(pointer), other, reuse=True))
                for pointer in self._pointers(version)
            ]
            version, contents = _redirected(version, contents, targets)
        there = other._twin(version) if reuse else None
        return there or other._adopt(version, list(contents.values()), source=self.url)

    def _twin(self, version: ModelVersion) -> ModelVersion | None:
        """Return the newest version here of the same name and with the same files and signature."""
        known = (version.digest, version.signature_digest)
        same = [one for one in self._ledger.versions(version.name) if (one.digest, one.signature_digest) == known]
        return same[-1] if same else None

    def _adopt(self, version: ModelVersion, contents: Sequence[memoryview], *, source: str) -> ModelVersion:
        self._found()
        if self._blobs.put(contents) != list(version.contents):
            raise IntegrityError(f"{version} changed while it was copied from {source}. Copy it again.")
        lineage = version.lineage | {"copied_from": f"{source} {version}"}
        return self._add(replace(version, lineage=lineage), contents)

    def _add(self, version: ModelVersion, contents: Sequence[bytes | memoryview]) -> ModelVersion:
        """Give a version the next free number; see to it that its files are there, whoever collects meanwhile."""
        numbered = self._ledger.add(version)
        while self._blobs.missing(numbered.contents):
            if self._blobs.put(contents) != list(numbered.contents):
                raise IntegrityError(
                    f"{numbered} changed in memory while it was stored. Delete it, stop what changes it, try again."
                )
        self._ledger.record(numbered, "registered")
        if not self.url.startswith("memory://"):  # which a child process cannot see
            prover.submit((self.url, numbered.name), lambda: self.proof(numbered) or self.prove(numbered))
        return numbered

    def _read_signature(self, digest: str) -> Signature:
        if digest not in self._signatures:
            self._signatures[digest] = Signature.from_json(orjson.loads(self._blobs.get([digest])[0]))
        return self._signatures[digest]

    def _contents(self, version: ModelVersion, *, mapped: bool) -> dict[str, memoryview]:
        """Return the model's files by path, their digests checked."""
        arrays = [file for file in version.files if mapped and file.path.startswith(_MAPPED) and file.size >= _LARGE]
        read = [file for file in version.files if file not in arrays]
        contents = self._blobs.get([file.digest for file in read])
        contents += self._blobs.get([file.digest for file in arrays], mapped=True) if arrays else []
        found = dict(zip((file.path for file in (*read, *arrays)), contents, strict=True))
        return {file.path: found[file.path] for file in version.files}

    def _needed(self) -> set[str]:
        versions = (version for name in self._ledger.names() for version in self._ledger.versions(name))
        return {digest for version in versions for digest in version.contents}

    def _check_trusted(self, version: ModelVersion) -> None:
        """Refuse what may run code of somebody else."""
        if runs_code(version) and not self.trusted and version.digest not in self._registered_here:
            raise UntrustedError(
                f"{version} was not loaded: as {version.format} it runs code of whoever wrote it, and {self.url} is "
                "neither a registry that you made nor one you trust. If you know its writers: "
                f"mlnb.ModelRegistry({self.url!r}).trust()."
            )

    def _last_proof(self, version: ModelVersion, *, since: datetime | None = None) -> Proof | None:
        events = (event for event in self.history(version.name) if since is None or event.at >= since)
        stored = history.proofs(events).get(version.number)
        return None if stored is None else Proof.from_json(stored)

    def _requirements(self, version: ModelVersion) -> dict[str, str]:
        """Return the versions by distribution that the last proof traced, none if there is no proof."""
        try:
            proof = self.proof(version)
        except IntegrityError:  # a damaged event of the history is no reason not to load
            return {}
        return {} if proof is None else dict(one.split("==") for one in proof.requirements)

    def _founded(self) -> bool:
        """Say whether there is a registry by now; another object may have made it."""
        self._identity = self._identity or self._ledger.identity()
        return self._identity != ""

    def _found(self) -> None:
        """Make the registry unless it is there; whoever makes it trusts it, from before it is there."""
        before, self._identity = self._identity, self._ledger.identity()
        if before not in ("", self._identity):  # removed meanwhile, and perhaps made again
            self._ledger = Ledger(self._store, read_signature=self._read_signature)
            self._registered_here.clear()
        if self._identity:
            return
        identity = secrets.token_hex(16)
        trust.trust(self.url, identity)
        if not self._ledger.found(identity):
            trust.forget(self.url, identity)  # another writer made it
        self._identity = self._ledger.identity()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A version before it is written: it was checked, and its files are made."""

    name: str
    model_type: str
    metrics: dict[str, float]
    description: str
    format: str
    files: dict[str, Buffer]
    signature: Signature
    golden: GoldenRows | None
    parameters: dict[str, str]
    environment: dict[str, Any]
    lineage: LineageProbe
    example: Any
    ensemble: Ensemble | None


def _redirected(
    version: ModelVersion, contents: Mapping[str, memoryview], targets: Sequence[Pointer]
) -> tuple[ModelVersion, dict[str, memoryview]]:
    """Return an ensemble's version and its contents by digest, with pointers to other versions of the members."""
    old = next(file for file in version.files if file.path == MANIFEST)
    manifest = redirected(contents[old.digest], targets)
    new = StoredFile(MANIFEST, hashlib.sha256(manifest).hexdigest(), len(manifest))
    files = tuple(new if file is old else file for file in version.files)
    changed = replace(version, files=files, parameters=described(manifest))
    known = {**contents, new.digest: memoryview(manifest)}
    return changed, {digest: known[digest] for digest in changed.contents}


def _version_text(number: int | None) -> str:
    return "nothing" if number is None else f"version {number}"
