"""Whose a registry is: it is made by the first who registers, and only that person trusts it unasked."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from mlnb.errors import ModelNotFoundError, UntrustedError
from mlnb.registry import trust
from mlnb.registry.ensembles.stored import runs_code

if TYPE_CHECKING:
    from mlnb.registry.ledger import Ledger
    from mlnb.registry.version import ModelVersion

__all__ = ["Ownership"]


class Ownership:
    """Which registry is at a place, and whether its models may run code here.

    Parameters
    ----------
    url : str
    ledger : Ledger
        Asked for the identity alone.

    Raises
    ------
    RegistryFormatError, IntegrityError
    """

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._url = url
        self._ledger = ledger
        self._identity = ledger.identity()
        self._assumed = False
        self._made_here: set[str] = set()  # digests of models

    @property
    def trusted(self) -> bool:
        """Whether it is one's own, or was trusted."""
        return self._assumed or (self._is_there() and trust.is_trusted(self._url, self._identity))

    def trust(self) -> None:
        """Trust it from now on.

        Raises
        ------
        ModelNotFoundError
            If there is no registry yet.
        """
        if not self._is_there():
            raise ModelNotFoundError(f"There is no registry in {self._url} yet; the first model registered makes it.")
        trust.trust(self._url, self._identity)

    def distrust(self) -> None:
        """Undo :meth:`trust`, and what making it did."""
        trust.forget(self._url, self._identity)

    def assume(self) -> None:
        """Trust it for the life of this object."""
        self._assumed = True

    def vouch(self, version: ModelVersion) -> None:
        """Let a version pass that is made of an object of this process."""
        self._made_here.add(version.digest)

    def check(self, version: ModelVersion) -> None:
        """Refuse what may run code of somebody else.

        Raises
        ------
        UntrustedError
        """
        if runs_code(version) and not self.trusted and version.digest not in self._made_here:
            raise UntrustedError(
                f"{version} was not loaded: as {version.format} it runs code of whoever wrote it, and {self._url} is "
                "neither a registry that you made nor one you trust. If you know its writers: "
                f"mlnb.ModelRegistry({self._url!r}).trust()."
            )

    def changed(self) -> bool:
        """Look again; say whether the registry known so far was removed, and perhaps made again."""
        before, self._identity = self._identity, self._ledger.identity()
        if before in ("", self._identity):
            return False
        self._made_here.clear()
        return True

    def claim(self) -> None:
        """Make the registry unless it is there; whoever makes it trusts it, from before it is there."""
        if self._identity:
            return
        identity = secrets.token_hex(16)
        trust.trust(self._url, identity)
        if not self._ledger.found(identity):
            trust.forget(self._url, identity)  # another writer made it
        self._identity = self._ledger.identity()

    def _is_there(self) -> bool:
        """Say whether there is a registry by now; another object may have made it."""
        self._identity = self._identity or self._ledger.identity()
        return self._identity != ""
