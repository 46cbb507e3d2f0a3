"""What a container asks for and may use, worked out from what serving took in the notebook."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlnb.packaging.subject import Measured, PackagedModel, ServeOptions

__all__ = ["Resources", "resources_of"]

_MIB = 2**20
_STEP = 0.01  # of a core, to which what is asked for is rounded
_CORES = 0.25  # asked for where nothing was measured
_LEAST_MOST = 1.0  # core that any container may use, since it starts the sooner
_SERVER = 0.1  # of a core, and the memory of the process that shares the rows out to others
_SERVER_MEMORY = 96 * _MIB
_MEMORY = 256 * _MIB  # of the libraries and the server, where nothing was measured
_MODEL = 3  # times a model's file that it may take in memory, where nothing was measured
_ROOM = 2  # times what is asked for that may be used
_SCRATCH = 64 * _MIB  # of /tmp
_STARTUP = 60  # seconds that a start may take at least
_SLOWER = 10  # times as long as in the notebook that a start may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one container asks for, and what it gets at most.

    Attributes
    ----------
    cores, most_cores : float
    memory, most_memory : int
        Bytes, whole MiB.
    scratch : int
        Bytes of ``/tmp``, whole MiB.
    startup : int
        Seconds after which it is given up, where it is not ready.
    said : tuple of str
        What each of them comes from, a sentence each.
    """

    cores: float
    most_cores: float
    memory: int
    most_memory: int
    scratch: int
    startup: int
    said: tuple[str, ...] = ()


def resources_of(subject: PackagedModel, options: ServeOptions, measured: Measured) -> Resources:
    """Return what a container of a version needs.

    Parameters
    ----------
    subject : PackagedModel
    options : ServeOptions
    measured : Measured

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from mlnb.packaging.subject import Measured, PackagedModel, ServeOptions
    >>> subject = PackagedModel(
    ...     name="iris", number=3, digest="ab", created=datetime(2026, 1, 1, tzinfo=UTC), description="", size=1000,
    ...     model_type="LogisticRegression", python="3.11", requirements=(),
    ... )
    >>> found = resources_of(subject, ServeOptions(), Measured(cores=0.4, memory=150 * 2**20))
    >>> found.cores, found.most_cores, found.memory // 2**20
    (0.4, 1.0, 246)
    """
    cores, of_cores = _cores(options, measured)
    memory, of_memory = _memory(subject, options, measured)
    stored = subject.size if subject.registry else 0
    most = max(_LEAST_MOST, round(_ROOM * cores, 2))
    limits = f"At most {_in_words(most)} and {_mib(_ROOM * memory)} are used: {_ROOM} times that, and a core at least."
    return Resources(
        cores=cores, most_cores=most, memory=memory, most_memory=_ROOM * memory,
        scratch=_whole(_SCRATCH + _ROOM * stored), startup=_startup(measured),
        said=(of_cores, of_memory, limits, *_fetched(subject)),
    )  # fmt: skip


def _fetched(subject: PackagedModel) -> tuple[str, ...]:
    if not subject.registry:
        return ()
    return (f"The model is fetched from {subject.registry} at each start, which the container must be let to read.",)


def _cores(options: ServeOptions, measured: Measured) -> tuple[float, str]:
    if options.cores is not None:
        cores, source = options.cores, "as its user said"
    elif measured.cores is not None and measured.cores > 0:
        cores, source = _of_all(measured.cores, options), f"a replica that works kept {measured.cores:.2g} busy"
    elif measured.autoscale is not None:
        cores, source = _of_all(1.0, options), "it was not measured, and load is judged by the share of it that is used"
    else:
        cores, source = _CORES, "it was not measured"
    return cores, f"{_in_words(cores)} {'is' if cores == 1 else 'are'} asked for: {source}."


def _in_words(cores: float) -> str:
    return f"{cores:g} core{'s' * (cores != 1)}"


def _of_all(each: float, options: ServeOptions) -> float:
    """Return what all processes of a container use."""
    total = options.replicas * each + _SERVER if options.replicas else each
    return max(_STEP, math.ceil(round(total / _STEP, 6)) * _STEP)


def _memory(subject: PackagedModel, options: ServeOptions, measured: Measured) -> tuple[int, str]:
    count = max(1, options.replicas)
    if options.memory is not None:
        memory, source = _whole(options.memory), "as its user said"
    elif measured.memory:
        memory = _whole(count * measured.memory + _SERVER_MEMORY)
        source = f"a replica took {_mib(measured.memory)} in the notebook, the server takes {_mib(_SERVER_MEMORY)}"
    else:
        memory = _whole(count * (_MEMORY + _MODEL * subject.size))
        source = f"it was not measured; {_mib(_MEMORY)} and {_MODEL} times the model's files for each process"
    return memory, f"{_mib(memory)} of memory is asked for: {source}."


def _startup(measured: Measured) -> int:
    return max(_STARTUP, math.ceil(_SLOWER * (measured.startup or 0.0)))


def _whole(size: float) -> int:
    return math.ceil(size / _MIB) * _MIB


def _mib(size: int) -> str:
    return f"{math.ceil(size / _MIB)} MiB"
