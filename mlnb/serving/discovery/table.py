"""The live deployments of all processes, as a table for a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlnb.monitoring.numerals import NONE, figure, milliseconds
from mlnb.registry.tables import Cell, Column, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.serving.discovery.live import LiveDeployment

__all__ = ["live_table"]


def live_table(deployments: Iterable[LiveDeployment]) -> str:
    """Write live deployments in lines of text.

    Examples
    --------
    >>> from mlnb.serving.discovery.live import LiveDeployment
    >>> url = "http://127.0.0.1:8000/models/iris"
    >>> one = LiveDeployment(
    ...     process="7-1", name="iris", url=url, port=8000, pid=7, version=3, rate=12.0, p99=3.1, errors=0
    ... )
    >>> print(live_table([one]))
    name  version  requests/s     p99  errors  from   URL
    iris        3          12  3.1 ms       0  pid 7  http://127.0.0.1:8000/models/iris
    """
    rows = list(deployments)
    return lay_out(
        [
            Column("name", tuple(Cell(one.name) for one in rows), least=8),
            Column("version", tuple(_count(one.version) for one in rows), kind="number"),
            Column("requests/s", tuple(Cell(_rate(one)) for one in rows), kind="number"),
            Column("p99", tuple(Cell(milliseconds(one.p99)) for one in rows), kind="number"),
            Column("errors", tuple(_count(one.errors) for one in rows), kind="number"),
            Column("from", tuple(Cell(one.notebook.rpartition("/")[2] or f"pid {one.pid}") for one in rows), least=12),
            Column("URL", tuple(Cell(one.url) for one in rows)),
        ]
    )


def _rate(one: LiveDeployment) -> str:
    return "silent" if one.state == "silent" else figure(one.rate)


def _count(value: int | None) -> Cell:
    return Cell(NONE if value is None else str(value))
