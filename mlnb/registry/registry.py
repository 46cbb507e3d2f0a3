"""Models at rest: numbered versions in a folder or a bucket, with their history."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mlnb.errors import (
    AliasMovedError,
    IntegrityError,
    InvalidInputError,
    InvalidNameError,
    NoPreviousVersionError,
    VersionInUseError,
)
from mlnb.registry import finding, history
from mlnb.registry.admission import opened, plain_example
from mlnb.registry.copying import copied, exported, family
from mlnb.registry.drafts import drafted
from mlnb.registry.ensembles.members import stored_member
from mlnb.registry.holdings import Holdings
from mlnb.registry.loading import rebuilt
from mlnb.registry.proofs.golden import GoldenRows
from mlnb.registry.proofs.proof import Proof, prove_in_child
from mlnb.registry.proofs.prover import prover
from mlnb.registry.proofs.verification import verify
from mlnb.registry.reference import ModelReference, ranges, validate_name
from mlnb.registry.registering import written
from mlnb.registry.rows.baseline import Baseline
from mlnb.registry.sharing import shared as shared_models
from mlnb.registry.version import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import ModuleType

    from mlnb.registry.card import ModelCard
    from mlnb.registry.diff import VersionDiff
    from mlnb.registry.ensembles.members import Member
    from mlnb.registry.ensembles.stored import Pointer
    from mlnb.registry.history import Action, HistoryEvent
    from mlnb.registry.ledger import Ledger
    from mlnb.registry.storage.blobs import Collected

__all__ = ["ModelRegistry", "default_folder"]

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
        self._holdings = Holdings(place if place is not None else default_folder(), added=self._prove_soon)
        self._ownership = self._holdings.ownership
        self.url = self._holdings.url

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
            one can tell later whether the model still gives them; and what up to 20,000 of its rows say of each
            column, and the answers to up to 1,000 of them, so that one can tell whether requests still look like it.
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
        with drafted(
            opened(model), name, example=plain_example(example), metrics=metrics, description=description,
            serializer=serializer, by_value=by_value,
        ) as draft:  # fmt: skip
            return written(draft, self._holdings)

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
        self._ownership.check(version)
        fetch = partial(self._member, mapped=mapped, allow_mismatch=allow_mismatch)
        rebuild = partial(rebuilt, version, self._holdings.blobs, mapped=mapped, fetch=fetch)
        model = shared_models.get((self.url, str(version), version.digest), rebuild) if shared else rebuild()
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
        return GoldenRows.from_json(self._holdings.blobs.get([version.golden_digest])[0])

    def baseline(self, reference: str | ModelVersion) -> Baseline | None:
        """Return what a version's example says of each column, for drift; None where none was stored.

        Raises
        ------
        ModelNotFoundError, IntegrityError
        """
        version = reference if isinstance(reference, ModelVersion) else self.version(reference)
        if version.baseline_digest is None:
            return None
        return Baseline.from_json(self._holdings.blobs.get([version.baseline_digest])[0])

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
        self._ownership.check(version)
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
        return finding.versions(self._holdings, name, as_of=as_of)

    def version(self, reference: str, *, as_of: datetime | str | None = None) -> ModelVersion:
        """Return the version that a reference means now, or meant at a time.

        Raises
        ------
        ModelNotFoundError
            With what there is.
        """
        return finding.version(self._holdings, reference, as_of=as_of)

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
        return finding.aliases(self._holdings, name, as_of=as_of)

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
        ensemble = None if force else self._holdings.pointing_at(version)
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
        return self._holdings.collect(self._needed)

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
        return copied(version, source=self._holdings, to=other._holdings)  # noqa: SLF001 - its own kind

    def export(self, reference: str | ModelVersion, folder: str | Path) -> ModelVersion:
        """Make a registry of one version and its members, under the numbers they have here, in a folder that is empty.

        For what leaves this machine: it names no person, machine or folder, and the same version gives the same bytes.

        Raises
        ------
        ModelNotFoundError, IntegrityError
        InvalidInputError
            If there is a registry already.
        UntrustedError
            If loading it may run code and this registry is not trusted.
        """
        version = reference if isinstance(reference, ModelVersion) else self.version(reference)
        other = ModelRegistry(folder)
        if other._ledger.identity():
            raise InvalidInputError(f"{other.url} is a registry already; give a new folder, or copy({str(version)!r}).")
        exported(version, source=self._holdings, to=other._holdings)
        return version

    def family(self, reference: str | ModelVersion) -> list[ModelVersion]:
        """Return a version after all that it is made of: an ensemble's members, and theirs; each once.

        Raises
        ------
        ModelNotFoundError, IntegrityError
        """
        version = reference if isinstance(reference, ModelVersion) else self.version(reference)
        return family(version, self._holdings)

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
        return self._ownership.trusted

    def trust(self) -> Self:
        """Trust this registry from now on: whoever can write to it can then run code in your notebooks.

        Raises
        ------
        ModelNotFoundError
            If there is no registry yet.
        """
        self._ownership.trust()
        return self

    def distrust(self) -> Self:
        """Undo :meth:`trust`, and what making the registry did."""
        self._ownership.distrust()
        return self

    def assume_trusted(self) -> Self:
        """Trust this registry for the life of this object: for a program that was told which registry to serve from."""
        self._ownership.assume()
        return self

    @property
    def _ledger(self) -> Ledger:
        return self._holdings.ledger

    def _needed(self) -> set[str]:
        return self._holdings.needed()

    def _member(self, pointer: Pointer, *, mapped: bool, allow_mismatch: bool) -> Member:
        """Return the member of an ensemble that a pointer means."""
        version = finding.target(self._holdings, pointer)
        model = self.load(version, mapped=mapped, allow_mismatch=allow_mismatch, shared=True)
        return stored_member(pointer.member, model, version, self.url)

    def _prove_soon(self, version: ModelVersion) -> None:
        if not self.url.startswith("memory://"):  # which a child process cannot see
            prover.submit((self.url, version.name), lambda: self.proof(version) or self.prove(version))

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


def _version_text(number: int | None) -> str:
    return "nothing" if number is None else f"version {number}"
