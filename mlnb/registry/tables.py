"""Tables of versions, as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from mlnb.registry.version import ModelVersion

__all__ = ["VersionTable", "format_metrics", "format_size", "format_time"]

_KILO = 1000


class VersionTable(Sequence["ModelVersion"]):
    """Versions, newest first, that show themselves as a table.

    Parameters
    ----------
    versions : iterable of ModelVersion
    live : mapping of str to int
        The version number that is live here, by model name.
    aliases : mapping of str to mapping of str to int, optional
        Aliases and the numbers they mean, by model name.
    """

    def __init__(
        self,
        versions: Iterable[ModelVersion],
        *,
        live: Mapping[str, int],
        aliases: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self._versions = tuple(versions)
        self._live = dict(live)
        self._aliases = {} if aliases is None else {name: dict(known) for name, known in aliases.items()}

    def __len__(self) -> int:
        return len(self._versions)

    @overload
    def __getitem__(self, index: int) -> ModelVersion: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ModelVersion, ...]: ...
    def __getitem__(self, index: int | slice) -> ModelVersion | tuple[ModelVersion, ...]:
        return self._versions[index]

    def __repr__(self) -> str:
        if not self._versions:
            return "No models yet. Deploy one: %deploy_model model --input X_train"
        header, *rows = self._cells()
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        if not self._versions:
            return "<p>No models yet. Deploy one: <code>%deploy_model model --input X_train</code></p>"
        header, *rows = self._cells()
        left = 'style="text-align: left"'
        right = 'style="text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"'
        aligned = [right if title == "size" else left for title in header]
        head = "".join(f"<th {style}>{escape(title)}</th>" for title, style in zip(header, aligned, strict=True))
        body = "".join(
            "<tr>"
            + "".join(f"<td {style}>{_html(cell)}</td>" for cell, style in zip(row, aligned, strict=True))
            + "</tr>"
            for row in rows
        )
        return f'<table class="mlnb-versions"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    def _cells(self) -> list[tuple[str, ...]]:
        header = ("model", "version", "live", "created", "metrics", "description", "size")
        return [header, *(self._row(version) for version in self._versions)]

    def _row(self, version: ModelVersion) -> tuple[str, ...]:
        named = [alias for alias, number in self._aliases.get(version.name, {}).items() if number == version.number]
        live = ["● live"] if self._live.get(version.name) == version.number else []
        return (
            version.name,
            str(version.number),
            " ".join(live + [f"@{alias}" for alias in sorted(named)]),
            format_time(version.created),
            format_metrics(version.metrics),
            version.description,
            format_size(version.size),
        )


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Write metrics in one line.

    Examples
    --------
    >>> format_metrics({"accuracy": 0.9712345, "n": 5.0})
    'accuracy 0.9712, n 5'
    """
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def format_size(size: int) -> str:
    """Write bytes with a decimal unit.

    Examples
    --------
    >>> format_size(812), format_size(78_681), format_size(104_857_600)
    ('812 B', '79 kB', '105 MB')
    """
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < _KILO:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"  # noqa: PLR2004
        amount /= _KILO
    return f"{amount:.1f} GB"


def format_time(moment: datetime) -> str:
    """Write a moment in this machine's time zone, to the second."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _html(cell: str) -> str:
    text = escape(cell)
    return text.replace("● live", '<span style="color: var(--jp-success-color1, #388e3c)">●</span> live')
