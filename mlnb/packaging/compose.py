"""A version as a Compose file: its container with limits, a health check and a token, and perhaps a Prometheus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError
from mlnb.packaging.docker import TOKEN
from mlnb.packaging.documents import to_yaml
from mlnb.packaging.naming import object_name
from mlnb.packaging.resources import resources_of
from mlnb.packaging.subject import Measured, ServeOptions

if TYPE_CHECKING:
    from mlnb.packaging.naming import ObjectName
    from mlnb.packaging.resources import Resources
    from mlnb.packaging.subject import PackagedModel

__all__ = ["PORT", "PORT_VARIABLE", "PROMETHEUS_IMAGE", "ComposeConfig"]

PORT = 8080  # on this machine: the notebook's own server likes 8000
PORT_VARIABLE = "PORT"  # of the environment, in which another one may be named
PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"  # one that is supported for long
_PROMETHEUS_PORT = 9090
_SERVICE = "model"  # and so its host name for others in the file
_PIDS = 512  # processes and threads, many times what is needed
_HIGHEST_PORT = 65535
_HARDENED = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "init": True,
    "restart": "unless-stopped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeConfig:
    """How a version runs by Docker Compose.

    Attributes
    ----------
    subject : PackagedModel
    image : str
        The tag that is built from the folder of the file.
    options : ServeOptions
        As the image is built with.
    measured : Measured
    port : int
        On this machine's loopback address.
    prometheus : bool
        Whether one runs beside it, at port 9090 of the loopback address.

    Raises
    ------
    InvalidInputError
        If the port is none.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from mlnb.packaging.subject import PackagedModel
    >>> subject = PackagedModel(
    ...     name="iris", number=3, digest="ab12", created=datetime(2026, 1, 1, tzinfo=UTC), description="", size=1000,
    ...     model_type="LogisticRegression", python="3.11", requirements=(),
    ... )
    >>> sorted(ComposeConfig(subject=subject, image="iris:3", prometheus=True).files())
    ['compose.yaml', 'prometheus.yml']
    """

    subject: PackagedModel
    image: str
    options: ServeOptions = field(default_factory=ServeOptions)
    measured: Measured = field(default_factory=Measured)
    port: int = PORT
    prometheus: bool = False

    def __post_init__(self) -> None:
        if not (type(self.port) is int and 1 <= self.port <= _HIGHEST_PORT):
            raise InvalidInputError(f"port={self.port!r:.40}: a whole number from 1 to {_HIGHEST_PORT} is needed.")
        if self.prometheus and self.port == _PROMETHEUS_PORT:
            raise InvalidInputError(f"port={self.port} is that of the Prometheus beside it; give another one.")

    @property
    def project(self) -> ObjectName:
        """What Compose calls it, and what was translated for that."""
        found = object_name(self.subject.name)
        return found if not found.said else type(found)(found.name, f"Compose calls it {found.name!r}.")

    @property
    def resources(self) -> Resources:
        """What the container asks for, and why."""
        return resources_of(self.subject, self.options, self.measured)

    @property
    def said(self) -> tuple[str, ...]:
        """What was translated, assumed or left out; a sentence each."""
        said = [self.project.said, *self.resources.said]
        if self._cores < self.resources.most_cores:
            said.append(f"In Compose {self._cores} of these cores: Docker refuses more than a machine has.")
        if self.measured.autoscale is not None or self.measured.replicas > max(1, self.options.replicas):
            said.append("Compose starts one container: the number of replicas of the notebook is left out.")
        return tuple(words for words in said if words)

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return what is in the files, by their paths."""
        return {"compose.yaml": self._compose()} | ({"prometheus.yml": self._scraping()} if self.prometheus else {})

    def files(self) -> dict[str, str]:
        """Return the files as YAML, by their paths."""
        return {path: to_yaml(document) for path, document in self.documents().items()}

    def _compose(self) -> dict[str, Any]:
        services = {_SERVICE: self._model()}
        document: dict[str, Any] = {"name": self.project.name, "services": services}
        if self.prometheus:
            services["prometheus"] = _prometheus()
            document["volumes"] = {"prometheus": {}}
        return document | {"secrets": {"token": {"file": "./secrets/token"}}}

    def _model(self) -> dict[str, Any]:
        needs, options = self.resources, self.options
        return {
            "image": self.image,
            "build": {"context": ".", "args": ["UV_DEFAULT_INDEX"]},
            "ports": [f"127.0.0.1:${{{PORT_VARIABLE}:-{self.port}}}:{options.port}"],
            "secrets": ["token"],
            "tmpfs": [f"/tmp:size={needs.scratch},mode=1777"],  # noqa: S108 - in the container
            **_HARDENED,
            "stop_grace_period": f"{options.ending}s",
            "healthcheck": {"start_period": f"{needs.startup}s"},  # all else as the image has it
            "deploy": _limits(self._cores, needs.most_memory, needs.memory),
        }

    @property
    def _cores(self) -> int:
        return max(1, round(self.resources.cores))

    def _scraping(self) -> dict[str, Any]:
        job = {
            "job_name": self.project.name,
            "authorization": {"type": "Bearer", "credentials_file": TOKEN},
            "static_configs": [{"targets": [f"{_SERVICE}:{self.options.port}"]}],
        }
        return {"global": {"scrape_interval": "15s"}, "scrape_configs": [job]}


def _prometheus() -> dict[str, Any]:
    stored = "/prometheus"
    return {
        "image": PROMETHEUS_IMAGE,
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            f"--storage.tsdb.path={stored}",
            "--storage.tsdb.retention.time=15d",
        ],
        "ports": [f"127.0.0.1:{_PROMETHEUS_PORT}:{_PROMETHEUS_PORT}"],
        "secrets": ["token"],
        "volumes": ["./prometheus.yml:/etc/prometheus/prometheus.yml:ro", f"prometheus:{stored}"],
        **_HARDENED,
        "depends_on": {_SERVICE: {"condition": "service_healthy"}},
        "deploy": _limits(0.5, 512 * 2**20, 128 * 2**20),
    }


def _limits(cores: float, most_memory: int, memory: int) -> dict[str, Any]:
    most = {"cpus": f"{cores:g}", "memory": f"{most_memory // 2**20}M", "pids": _PIDS}
    return {"resources": {"limits": most, "reservations": {"memory": f"{memory // 2**20}M"}}}
