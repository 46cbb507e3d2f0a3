"""What is packaged: a version, how it is to be served, and what it took in the notebook."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from mlnb.scaling.autoscale import Autoscale

__all__ = ["Measured", "PackagedModel", "ServeOptions"]

_ENDING = 5  # seconds from the last answer to the end of the process, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """All that files are made from that a version brings.

    Attributes
    ----------
    name : str
    number : int
    digest : str
        SHA-256 of the model's files, hexadecimal.
    created : datetime
    description : str
    model_type : str
    python : str
        Of the notebook, for instance ``"3.11"``.
    requirements : tuple of str
        What loading and answering imported when the version was proved, pinned: ``"scikit-learn==1.9.0"``.
    extras : tuple of str
        Of mlnb, which serving it needs, for instance ``"s3"``; sorted.
    size : int
        Bytes of the model's files.
    commit : str
        Of the sources it was registered from, "" if unknown.
    registry : str
        URL of the registry that it is fetched from at start; "": its files are in the image.
    """

    name: str
    number: int
    digest: str
    created: datetime
    description: str
    model_type: str
    python: str
    requirements: tuple[str, ...]
    size: int
    extras: tuple[str, ...] = ()
    commit: str = ""
    registry: str = ""

    @property
    def reference(self) -> str:
        """The version as ``mlnb serve`` is told: ``iris:3``."""
        return f"{self.name}:{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How ``mlnb serve`` runs in a container.

    Attributes
    ----------
    port : int
        In the container.
    replicas : int
        Processes in one container; 0: the server's own answers.
    timeout : float
        Seconds after which a prediction is given up.
    grace : float
        Seconds from SIGTERM until nothing more is accepted; requests are answered meanwhile.
    accelerate : bool
        Whether a faster form of the model is used.
    cores : float or None
        That the container asks for; None: as it was measured.
    memory : int or None
        Bytes that the container asks for; None: as it was measured.
    """

    port: int = 8000
    replicas: int = 0
    timeout: float = 30.0
    grace: float = 5.0
    accelerate: bool = False
    cores: float | None = None
    memory: int | None = None

    @property
    def ending(self) -> int:
        """Seconds from SIGTERM to the end of the process, at most."""
        return math.ceil(self.grace + self.timeout) + _ENDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What serving took in the notebook; None is what was not measured.

    Attributes
    ----------
    memory : int or None
        Bytes of one replica.
    cores : float or None
        That one replica uses while it works.
    startup : float or None
        Seconds until a replica is ready.
    replicas : int
        That answered, 1 if the kernel did.
    autoscale : Autoscale or None
        How they followed the load.
    service : float or None
        Seconds that one row takes.
    timeout : float or None
        Seconds after which a prediction was given up.
    """

    memory: int | None = None
    cores: float | None = None
    startup: float | None = None
    replicas: int = 1
    autoscale: Autoscale | None = None
    service: float | None = None
    timeout: float | None = None
