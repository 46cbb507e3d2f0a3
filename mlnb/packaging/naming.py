"""What a version is called outside: the tag of its image, and names that Kubernetes accepts."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from mlnb.errors import InvalidInputError

__all__ = ["ObjectName", "image_said", "image_tag", "object_name"]

_LONGEST = 50  # characters: of the 63 of a DNS label, 13 are left for what is appended
_MARK = 8  # hexadecimal digits that tell names apart which would be the same without
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::[0-9]+)?|[A-Za-z0-9-]+:[0-9]+)"
_REPOSITORY = re.compile(rf"(?:{_HOST}|{_PART})(?:/{_PART})*")


@dataclass(frozen=True, slots=True)
class ObjectName:
    """A name for the objects of a model in Kubernetes.

    Attributes
    ----------
    name : str
        A DNS label that begins with a letter, at most 50 characters.
    said : str
        What was translated, a sentence; "" where nothing was.
    """

    name: str
    said: str = ""


def image_tag(name: str, number: int, *, repository: str = "") -> str:
    """Return the tag of a version's image.

    Parameters
    ----------
    name : str
        Of the model.
    number : int
        Of the version.
    repository : str
        Where it is to be pushed to: the registry's host, and what comes before the model's name there.

    Raises
    ------
    InvalidInputError
        If Docker does not accept the repository.

    Examples
    --------
    >>> image_tag("iris_v2", 3)
    'iris_v2:3'
    >>> image_tag("Iris_v2", 3)
    'iris_v2-edf1678c:3'
    >>> image_tag("iris", 3, repository="images.example.org:5000/team")
    'images.example.org:5000/team/iris:3'
    """
    if repository and not _REPOSITORY.fullmatch(repository):
        raise InvalidInputError(
            f"{repository!r} is no place for images: give the registry's host and a lower-case path, without a tag, "
            "for instance 'images.example.org/team'; the model's name and version are added."
        )
    return f"{repository}{'/' * bool(repository)}{_component(name)}:{number}"


def image_said(name: str, image: str) -> tuple[str, ...]:
    """Return what was translated in an image's name, one sentence; none where nothing was.

    Examples
    --------
    >>> image_said("Iris", "iris-0c3f9b4a:3")
    ("Docker calls the image of 'Iris' 'iris-0c3f9b4a': lower-case letters, digits and single separators.",)
    """
    called = image.rpartition("/")[2].rpartition(":")[0]
    if called == name:
        return ()
    return (f"Docker calls the image of {name!r} {called!r}: lower-case letters, digits and single separators.",)


def object_name(name: str) -> ObjectName:
    """Return the name that a model has in Kubernetes: lower case, letters, digits and ``-``.

    Examples
    --------
    >>> object_name("iris")
    ObjectName(name='iris', said='')
    >>> object_name("Iris_v2")
    ObjectName(name='iris-v2', said="In Kubernetes 'Iris_v2' is called 'iris-v2': lower-case letters, digits and '-'.")
    """
    label = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    label = label if label[:1].isalpha() else f"model-{label}"
    if len(label) > _LONGEST:
        label = f"{label[: _LONGEST - _MARK - 1].rstrip('-')}-{_mark(name)}"
    if label == name:
        return ObjectName(name)
    return ObjectName(label, f"In Kubernetes {name!r} is called {label!r}: lower-case letters, digits and '-'.")


def _component(name: str) -> str:
    """Return a model's name as one part of a repository: separators stand alone and between letters or digits."""
    part = re.sub("[._-]+", lambda found: found[0][0], name.lower()).strip("._-")
    return part if part == name else f"{part}-{_mark(name)}"


def _mark(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_MARK]
