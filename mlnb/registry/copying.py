"""From one registry to another: a version with its contents, the members of an ensemble first."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from mlnb.errors import IntegrityError
from mlnb.registry.ensembles.stored import MANIFEST, Pointer, described, is_ensemble, redirected
from mlnb.registry.finding import target
from mlnb.registry.version import StoredFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.registry.holdings import Holdings
    from mlnb.registry.version import ModelVersion

__all__ = ["copied", "exported", "family"]

_IMPERSONAL = ("commit", "dirty", "example")  # of the lineage: what names neither a person, nor a machine, nor a folder


def copied(version: ModelVersion, *, source: Holdings, to: Holdings, reuse: bool = False) -> ModelVersion:
    """Copy a version, members first.

    Parameters
    ----------
    version : ModelVersion
    source, to : Holdings
    reuse : bool
        Return a version that is there already instead, if it is of the same model.

    Raises
    ------
    ModelNotFoundError, IntegrityError, UntrustedError
    """
    source.ownership.check(version)
    contents = dict(zip(version.contents, source.blobs.get(version.contents), strict=True))
    if is_ensemble(version):
        targets = [
            Pointer.to(pointer.member, copied(target(source, pointer), source=source, to=to, reuse=True))
            for pointer in source.pointers(version)
        ]
        version, contents = _redirected(version, contents, targets)
    there = _twin(version, to) if reuse else None
    return there or _adopted(version, list(contents.values()), source=source.url, to=to)


def family(version: ModelVersion, source: Holdings) -> list[ModelVersion]:
    """Return a version after all that it is made of: an ensemble's members, and theirs; each once.

    Raises
    ------
    ModelNotFoundError, IntegrityError
    """
    members = [one for pointer in source.pointers(version) for one in family(target(source, pointer), source)]
    return [*{str(one): one for one in members}.values(), version]


def exported(version: ModelVersion, *, source: Holdings, to: Holdings) -> None:
    """Copy a version with its members under their own numbers to where no registry is yet.

    The same version gives the same bytes, and they name neither a person, nor a machine, nor a folder: that it is
    one's own is not noted either.

    Raises
    ------
    ModelNotFoundError, IntegrityError, UntrustedError
    """
    source.ownership.check(version)
    versions = family(version, source)
    to.ledger.found(hashlib.sha256(f"{version} {version.digest}".encode()).hexdigest()[:32])
    for one in versions:
        if to.blobs.put(source.blobs.get(one.contents)) != list(one.contents):
            raise IntegrityError(f"{one} changed while it was copied from {source.url}. Copy it again.")
        lineage = {key: one.lineage[key] for key in _IMPERSONAL if key in one.lineage}
        to.ledger.keep(replace(one, lineage=lineage))


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


def _twin(version: ModelVersion, there: Holdings) -> ModelVersion | None:
    """Return the newest version there of the same name and with the same files and signature."""
    known = (version.digest, version.signature_digest)
    same = [one for one in there.ledger.versions(version.name) if (one.digest, one.signature_digest) == known]
    return same[-1] if same else None


def _adopted(version: ModelVersion, contents: Sequence[memoryview], *, source: str, to: Holdings) -> ModelVersion:
    to.found()
    if to.blobs.put(contents) != list(version.contents):
        raise IntegrityError(f"{version} changed while it was copied from {source}. Copy it again.")
    lineage = version.lineage | {"copied_from": f"{source} {version}"}
    return to.add(replace(version, lineage=lineage), contents)
