"""From a draft to a written version, the members of an ensemble first."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from mlnb.registry.drafts import drafted
from mlnb.registry.ensembles.members import rows_for
from mlnb.registry.ensembles.stored import MANIFEST, Pointer, check_registrable, described, redirected
from mlnb.registry.version import ModelVersion, StoredFile

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mlnb.registry.drafts import Draft
    from mlnb.registry.ensembles.ensemble import Ensemble
    from mlnb.registry.ensembles.members import Member
    from mlnb.registry.holdings import Holdings

__all__ = ["written"]


def written(draft: Draft, holdings: Holdings, *, reuse: bool = False) -> ModelVersion:
    """Store what was drafted as the next version.

    Parameters
    ----------
    draft : Draft
    holdings : Holdings
    reuse : bool
        Return the newest version of the name instead, if it is the same model.

    Raises
    ------
    NotServableError, InvalidInputError, InvalidNameError
        Of members.
    RegistryUnavailableError, IntegrityError
    """
    if draft.ensemble is not None:
        draft = _with_members(draft, draft.ensemble, holdings)
    contents = [*draft.files.values(), orjson.dumps(draft.signature.to_json())]
    contents += [one.to_json() for one in (draft.golden, draft.baseline) if one is not None]
    holdings.found()
    version = _version(draft, holdings.blobs.put(contents), holdings)
    newest = holdings.ledger.versions(draft.name)[-1:] if reuse else []
    if newest and newest[0].digest == version.digest and newest[0].signature.names == draft.signature.names:
        return newest[0]
    holdings.ownership.vouch(version)
    return holdings.add(version, contents)


def _version(draft: Draft, digests: list[str], holdings: Holdings) -> ModelVersion:
    """Return the version, still without a number, whose contents have these digests."""
    files = tuple(
        StoredFile(path, digest, memoryview(content).nbytes)
        for (path, content), digest in zip(draft.files.items(), digests, strict=False)
    )
    signature, *others = digests[len(files) :]
    golden = None if draft.golden is None else others.pop(0)
    return ModelVersion(
        name=draft.name, number=0, created=datetime.now(UTC), metrics=draft.metrics, description=draft.description,
        model_type=draft.model_type, format=draft.format, files=files, signature_digest=signature,
        golden_digest=golden, baseline_digest=others.pop() if others else None, parameters=draft.parameters,
        environment=draft.environment, lineage=draft.lineage.result(), read_signature=holdings.read_signature,
    )  # fmt: skip


def _with_members(draft: Draft, ensemble: Ensemble, holdings: Holdings) -> Draft:
    """Store the members of an ensemble that are no versions yet, once all were checked, and point to them."""
    members = list(ensemble.members.values())
    check_registrable(draft.name, members, url=holdings.url)
    with ExitStack() as stack:
        drafts = {
            member.name: stack.enter_context(_member_drafted(member, draft))
            for member in members
            if member.version is None
        }
        new = {name: written(one, holdings, reuse=True) for name, one in drafts.items()}
    manifest = redirected(
        draft.files[MANIFEST], [Pointer.to(member.name, new.get(member.name, member.version)) for member in members]
    )
    return replace(draft, files=draft.files | {MANIFEST: manifest}, parameters=described(manifest))


def _member_drafted(member: Member, draft: Draft) -> AbstractContextManager[Draft]:
    return drafted(
        member.model,
        f"{draft.name}-{member.name}",
        example=None if draft.example is None else rows_for(member, draft.signature.coerce(draft.example)),
        description=f"Member {member.name} of {draft.name}.",
        by_value=draft.by_value,
    )
