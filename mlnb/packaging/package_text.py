"""A package as text and as plain HTML: what was written, what it comes to, and the commands to run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from mlnb.registry.tables import Cell, Column, format_size, lay_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.packaging.package import Package, PackageFile

__all__ = ["TITLES", "Row", "clipped", "headline", "package_html", "package_text", "rows"]

TITLES = {"docker": "Docker", "compose": "Compose", "kubernetes": "Kubernetes"}

_SHOWN = 16_000  # characters of a file: a lock with its hashes has many more, and all are part of a saved notebook
_MUTED = "color: var(--jp-content-font-color2, #767676)"
_PRE = (
    "max-height: 320px; overflow: auto; margin: 2px 0 8px; padding: 8px 10px; border-radius: 4px; "
    "background: var(--jp-layout-color2, #f5f5f5)"
)
_LINE = "display: flex; align-items: baseline; gap: 12px; margin-bottom: 3px"
_DOES = "flex: 0 0 18ch"
_NUMBER = "font-variant-numeric: tabular-nums"


@dataclass(frozen=True, slots=True)
class Row:
    """A file, or a folder of files that nobody reads.

    Attributes
    ----------
    path : str
        A folder ends with ``/``.
    size : int
        Bytes.
    text : str or None
        What is in it, where a person would read it.
    count : int
        Files.
    """

    path: str
    size: int
    text: str | None = None
    count: int = 1

    @property
    def note(self) -> str:
        """How many files a folder has, "" of a file."""
        return f"{self.count} files" if self.count > 1 else ""


def rows(files: Sequence[PackageFile]) -> tuple[Row, ...]:
    """Return what is shown of the files: those with text as they are, others of a folder together as one.

    Parameters
    ----------
    files : sequence of PackageFile

    Examples
    --------
    >>> from mlnb.packaging.package import PackageFile
    >>> shown = rows([PackageFile("Dockerfile", 9, "FROM x"), PackageFile("model/a", 5), PackageFile("model/b", 7)])
    >>> [(row.path, row.size, row.note) for row in shown]
    [('Dockerfile', 9, ''), ('model/', 12, '2 files')]
    """
    unread = Counter(_folder(file) for file in files if file.text is None)
    shown: dict[str, Row] = {}
    for file in files:
        folder = _folder(file)
        path = folder if file.text is None and folder and unread[folder] > 1 else file.path
        before = shown.get(path, Row(path, 0, count=0))
        shown[path] = Row(path, before.size + file.size, file.text, before.count + 1)
    return tuple(shown.values())


def clipped(text: str) -> tuple[str, str]:
    r"""Return what is shown of a long text, in whole lines, and a few words about it; "" where all is shown.

    Examples
    --------
    >>> clipped("FROM x")
    ('FROM x', '')
    >>> clipped("line" * 1999 + "\n" + "more" * 3000)[1]
    'the first 1 of 2 lines'
    """
    if len(text) <= _SHOWN:
        return text, ""
    shown = text[: text.rfind("\n", 0, _SHOWN) + 1 or _SHOWN]
    return shown, f"the first {len(shown.splitlines()):,} of {len(text.splitlines()):,} lines"


def headline(package: Package) -> str:
    """Say in one line what was written and what the image comes to."""
    count = len(package.files)
    return (
        f"{package.subject.reference} for {TITLES[package.target]}: {count} file{'' if count == 1 else 's'} in "
        f"{package.folder} · image {package.image}, about {format_size(package.expected_size)}"
    )


def package_text(package: Package) -> str:
    """Return the package as lines of text.

    Parameters
    ----------
    package : Package
    """
    files = rows(package.files)
    table = [
        Column("file", tuple(Cell(f"{row.path} ({row.note})" if row.note else row.path) for row in files), least=24),
        Column("size", tuple(Cell(format_size(row.size)) for row in files), kind="number"),
    ]
    parts = [headline(package), lay_out(table)]
    if package.commands:
        wide = max(len(command.does) for command in package.commands)
        parts.append("\n".join(f"{command.does.ljust(wide)}  $ {command.line}" for command in package.commands))
    if package.notes:
        parts.append("\n".join(package.notes))
    return "\n\n".join(parts)


def package_html(package: Package) -> str:
    """Return the package as plain HTML, with what is in the files to unfold.

    Parameters
    ----------
    package : Package
    """
    said = f"<p>{escape(headline(package))}</p>"
    files = "".join(map(_file, rows(package.files)))
    commands = "".join(
        f'<div style="{_LINE}"><span style="{_DOES}; {_MUTED}">{escape(one.does)}</span> '
        f"<code>{escape(one.line)}</code></div>"
        for one in package.commands
    )
    notes = "".join(f'<div style="{_MUTED}">{escape(note)}</div>' for note in package.notes)
    parts = [said, files, *(f'<div style="margin-top: 8px">{part}</div>' for part in (commands, notes) if part)]
    return f'<div class="mlnb-package">{"".join(parts)}</div>'


def _folder(file: PackageFile) -> str:
    top, slash, _ = file.path.partition("/")
    return f"{top}/" if slash else ""


def _file(row: Row) -> str:
    note = f", {row.note}" if row.note else ""
    size = f'<small style="{_MUTED}; {_NUMBER}">{format_size(row.size)}{note}</small>'
    name = f"<code>{escape(row.path)}</code> {size}"
    if row.text is None:
        return f'<div style="padding-left: 1.1em">{name}</div>'
    shown, part = clipped(row.text)
    about = f'<small style="{_MUTED}">{part}</small>' if part else ""
    return f'<details><summary>{name}</summary>{about}<pre style="{_PRE}">{escape(shown)}</pre></details>'
