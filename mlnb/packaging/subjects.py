"""From a version in a registry to what is packaged: proved to work without the notebook, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlnb.errors import MlnbError, PackagingError
from mlnb.packaging.subject import PackagedModel

if TYPE_CHECKING:
    from mlnb.registry import ModelRegistry, ModelVersion
    from mlnb.registry.proofs.proof import Proof

__all__ = ["subject_of"]


def subject_of(registry: ModelRegistry, version: ModelVersion, *, source: str = "") -> PackagedModel:
    """Return what a version brings to a package; it is proved first if it never was.

    Parameters
    ----------
    registry : ModelRegistry
    version : ModelVersion
    source : str
        URL of a registry that the container fetches the version from when it starts, ``s3://bucket/prefix``; default:
        its files are in the image.

    Raises
    ------
    PackagingError
        If the version does not work without the notebook, with the reason, or the source has not got it.
    ModelNotFoundError, IntegrityError, UntrustedError, RegistryUnavailableError
    """
    if source:
        _check_source(source, registry, version)
    proof = _proved(registry, version)
    commit = str(version.lineage.get("commit", ""))
    return PackagedModel(
        name=version.name, number=version.number, digest=version.digest, created=version.created,
        description=version.description, model_type=version.model_type, python=_short(proof.python),
        requirements=proof.requirements, extras=("s3",) if source else (),
        size=sum(one.size for one in registry.family(version)),
        commit=f"{commit}-dirty" if commit and version.lineage.get("dirty") else commit, registry=source,
    )  # fmt: skip


def _proved(registry: ModelRegistry, version: ModelVersion) -> Proof:
    proof = registry.proof(version)
    if proof is None or not proof.portable:  # what was missing may be there by now
        proof = registry.prove(version)
    if not proof.portable:
        raise PackagingError(f"{version} does not work without its notebook: {proof.reason}. Then register it again.")
    return proof


def _check_source(source: str, registry: ModelRegistry, version: ModelVersion) -> None:
    """Refuse a registry that no container can reach, or that has not got the version."""
    from mlnb.registry import ModelRegistry

    if not source.startswith("s3://"):
        raise PackagingError(
            f"A container cannot fetch {version} from {source!r}: give the URL of a registry in a bucket, "
            "s3://bucket/prefix, or none, and its files are in the image."
        )
    try:
        there = ModelRegistry(source).version(str(version))
    except MlnbError as error:
        raise PackagingError(f"{version} cannot be fetched from {source}: {error}") from error
    if there.digest != version.digest:
        raise PackagingError(
            f"{there} in {source} is another model than {version} in {registry.url}: copy it there, "
            f"registry.copy({str(version)!r}, {source!r}), and package the version that it becomes."
        )


def _short(python: str) -> str:
    return ".".join(python.split(".")[:2])
