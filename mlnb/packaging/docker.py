"""What an image is made of: a Dockerfile that serves one version, and what it may see of its folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

from mlnb.errors import InvalidInputError, MissingLibraryError
from mlnb.packaging.naming import image_tag
from mlnb.packaging.subject import ServeOptions

if TYPE_CHECKING:
    from mlnb.packaging.subject import PackagedModel

__all__ = ["MODEL", "TOKEN", "USER", "DockerConfig"]

USER = 10001  # and group, in the container; nobody's on a usual machine
TOKEN = "/run/secrets/token"  # noqa: S105 - where the file is mounted
MODEL = "/app/model"

_BASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*(@sha256:[0-9a-f]{64})?")
_PYTHON = re.compile(r"(?:^|/)python:([0-9]+\.[0-9]+)")  # of Docker's official images, and copies of them
_SYSTEM = {"lightgbm": ("libgomp1",)}  # by distribution: what it needs and slim images lack
_HEALTH = (
    "from http.client import HTTPConnection as C; c = C('127.0.0.1', {port}, timeout=4); c.request('GET', '/readyz'); "
    "raise SystemExit(c.getresponse().status != 200)"
)
_SEEN = ("requirements.txt", "uv.txt", "wheels/*.whl")


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """An image of one version; the same values give the same files.

    Parameters
    ----------
    subject : PackagedModel
    options : ServeOptions
    base : str
        Image with Python, ``pip`` and Debian's certificates, perhaps with a digest. Default: ``python:X.Y-slim``, with
        the Python of the notebook.

    Raises
    ------
    InvalidInputError
        If the base is no name of an image, or names one of another Python.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from mlnb.packaging.subject import PackagedModel
    >>> subject = PackagedModel(
    ...     name="iris", number=3, digest="ab" * 32, created=datetime(2026, 1, 1, tzinfo=UTC), description="first",
    ...     model_type="LogisticRegression", python="3.11", requirements=("scikit-learn==1.9.0",), size=800,
    ... )
    >>> config = DockerConfig(subject)
    >>> config.base, config.command[:3]
    ('python:3.11-slim', ('mlnb', 'serve', 'iris:3'))
    >>> sorted(config.files())
    ['.dockerignore', 'Dockerfile']
    """

    subject: PackagedModel
    options: ServeOptions = field(default_factory=ServeOptions, kw_only=True)
    base: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", self.base or f"python:{self.subject.python}-slim")
        if not _BASE.fullmatch(self.base):
            raise InvalidInputError(
                f"{self.base!r} is no image: give a name with a tag or digest, such as 'python:3.11-slim'."
            )
        found = _PYTHON.search(self.base)
        if found and found[1] != self.subject.python:
            raise InvalidInputError(
                f"{self.base!r} has Python {found[1]}, and the model was made by Python {self.subject.python}: give a "
                f"base with that one, such as 'python:{self.subject.python}-slim'."
            )

    @property
    def command(self) -> tuple[str, ...]:
        """What runs in the container."""
        options = self.options
        return (
            "mlnb", "serve", self.subject.reference, "--registry", self.subject.registry or MODEL,
            "--host", "0.0.0.0", "--port", str(options.port), "--token-file", TOKEN,  # noqa: S104 - in a container
            "--timeout", f"{options.timeout:g}", "--grace", f"{options.grace:g}",
            *(("--replicas", str(options.replicas)) if options.replicas else ()),
            *(("--accelerate",) if options.accelerate else ()),
        )  # fmt: skip

    @property
    def health(self) -> tuple[str, ...]:
        """What Docker runs in the container to ask whether it answers; without a token, in 0.03 s."""
        return ("python", "-ISc", _HEALTH.format(port=self.options.port))

    @property
    def labels(self) -> dict[str, str]:
        """What the image says of itself, one line each."""
        subject = self.subject
        said = {
            "org.opencontainers.image.title": subject.name,
            "org.opencontainers.image.version": str(subject.number),
            "org.opencontainers.image.created": subject.created.isoformat(),
            "org.opencontainers.image.revision": subject.commit,
            "org.opencontainers.image.description": subject.description,
            "dev.mlnb.model": subject.name,
            "dev.mlnb.version": str(subject.number),
            "dev.mlnb.digest": subject.digest,
        }
        return {key: line for key, value in said.items() if (line := _one_line(value))}

    @property
    def system_packages(self) -> tuple[str, ...]:
        """Of Debian, which a requirement needs and the base lacks."""
        names = {re.split("[=<>~! ]", one, maxsplit=1)[0].lower() for one in self.subject.requirements}
        return tuple(sorted({package for name in names for package in _SYSTEM.get(name, ())}))

    @property
    def dockerfile(self) -> str:
        """The text of the Dockerfile.

        Raises
        ------
        MissingLibraryError
        """
        try:
            import jinja2
        except ModuleNotFoundError:
            raise MissingLibraryError("Writing a Dockerfile needs Jinja2: pip install 'mlnb[package]'.") from None
        environment = jinja2.Environment(  # noqa: S701 - no HTML; what people wrote is quoted for Docker
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
        )
        return environment.from_string(files("mlnb.packaging").joinpath("Dockerfile.jinja").read_text("utf-8")).render(
            subject=self.subject, base=self.base, tag=image_tag(self.subject.name, self.subject.number), user=USER,
            packages=self.system_packages, port=self.options.port, health=json.dumps(self.health),
            command=json.dumps(self.command), labels={key: _quoted(value) for key, value in self.labels.items()},
        )  # fmt: skip

    @property
    def dockerignore(self) -> str:
        """The text of ``.dockerignore``: only what is copied may be seen, so never a secret."""
        seen = _SEEN if self.subject.registry else (*_SEEN, "model/**")
        return "\n".join(["*", *(f"!{one}" for one in seen), ""])

    def files(self) -> dict[str, str]:
        """Return the texts by their paths in the folder."""
        return {"Dockerfile": self.dockerfile, ".dockerignore": self.dockerignore}


def _one_line(text: str) -> str:
    """Return a text without line breaks and what cannot be printed, so that it cannot begin an instruction."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def _quoted(text: str) -> str:
    r"""Return a line as a string of a Dockerfile.

    Examples
    --------
    >>> print(_quoted('50 % "off", $HOME \\'))
    "50 % \"off\", \$HOME \\"
    """
    return '"{}"'.format(re.sub(r'(["\\$])', r"\\\1", text))
