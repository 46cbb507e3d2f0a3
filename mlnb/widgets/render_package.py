"""The Package tab as HTML: what to write and where, the files, and the ways to a container and a cluster."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from mlnb.packaging.package import TARGETS
from mlnb.packaging.package_text import TITLES, clipped, rows
from mlnb.registry.tables import format_size
from mlnb.widgets.render import copy_button, counted
from mlnb.widgets.render_package_result import button, command, free, render_result

if TYPE_CHECKING:
    from mlnb.packaging.package import Package
    from mlnb.packaging.package_text import Row
    from mlnb.widgets.package_view import PackageView, Step

__all__ = ["render_package"]

_NO_CLUSTER = "No cluster is known here: no kubeconfig names one. The commands above run where there is one."


def render_package(view: PackageView) -> dict[str, str]:
    """Return the HTML of each region of the tab.

    What changes while something is on its way has a region without buttons, so that none is replaced while it is
    pressed.

    Parameters
    ----------
    view : PackageView
    """
    package = view.package
    return {
        "package_form": _form(view),
        "package_files": "" if package is None else _written(package, number=view.number),
        "package_deeds": "" if package is None else _deeds(package, view),
        "package_steps": "".join(map(_step, view.steps)),
        "package_result": render_result(view),
    }


def _form(view: PackageView) -> str:
    radios = "".join(_radio(target, view) for target in TARGETS)
    choice = f'<span class="mlnb-choice" role="radiogroup" aria-label="What to write">{radios}</span>'
    folder = (
        '<label class="mlnb-folder"><span>in</span><input name="folder" data-keep="package-folder" autocomplete="off" '
        f'spellcheck="false" aria-label="Folder" value="{escape(view.folder, quote=True)}"></label>'
    )
    write = f'<button type="submit" class="mlnb-primary" data-keep="package-write"{free(view)}>Write files</button>'
    return (
        f'<form class="mlnb-packing" data-action="package_write" novalidate><span>Files for</span>'
        f"{choice}{folder}{write}</form>"
    )


def _radio(target: str, view: PackageView) -> str:
    chosen = target == view.target
    deed = "" if chosen else f' data-action="package_target" data-target="{target}"{free(view)}'
    return (
        f'<button type="button" role="radio" aria-checked="{str(chosen).lower()}" tabindex="{0 if chosen else -1}" '
        f'data-keep="package-{target}"{deed}>{TITLES[target]}</button>'
    )


def _written(package: Package, *, number: int) -> str:
    subject = package.subject
    facts = (
        f"<strong>{escape(subject.reference)}</strong> · {counted(len(package.files), 'file')} in "
        f"<code>{escape(str(package.folder))}</code> · image <code>{escape(package.image)}</code>, "
        f'<span class="mlnb-whole">about {format_size(package.expected_size)}</span>'
    )
    older = (
        ""
        if subject.number == number
        else f'<p class="mlnb-old">v{number} is live by now; write the files again to take it along.</p>'
    )
    files = "".join(_file(row, package) for row in rows(package.files))
    commands = "".join(command(one.does, one.line) for one in package.commands)
    notes = "".join(f"<li>{escape(note)}</li>" for note in package.notes)
    lists = ((commands, "mlnb-commands"), (notes, "mlnb-notes"))
    told = "".join(f'<ul class="{kind}">{items}</ul>' for items, kind in lists if items)
    return f'<p>{facts}</p>{older}<div class="mlnb-files">{files}</div>{told}'


def _file(row: Row, package: Package) -> str:
    path = escape(row.path)
    note = f' <small class="mlnb-muted">{row.note}</small>' if row.note else ""
    line = f'<span class="mlnb-path">{path}{note}</span><span class="mlnb-number">{format_size(row.size)}</span>'
    if row.text is None:
        return f'<div class="mlnb-file">{line}</div>'
    keep = f"package-file {escape(row.path, quote=True)}"
    return f'<details data-keep="{keep}"><summary class="mlnb-file">{line}</summary>{_preview(row, package)}</details>'


def _preview(row: Row, package: Package) -> str:
    text, part = clipped(row.text or "")
    path = escape(row.path, quote=True)
    said = escape(f"{part}; all are in {package.folder / row.path}")
    head = f'<small class="mlnb-muted">{said}</small>' if part else copy_button("copy", "", f"Copy {row.path}")
    return (
        f'<div class="mlnb-preview" data-copied>{head}'
        f'<pre tabindex="0" role="region" aria-label="{path}">{escape(text)}</pre></div>'
    )


def _deeds(package: Package, view: PackageView) -> str:
    build = button("package_build", "Build image", view)
    if package.target != "kubernetes":
        return f'<div class="mlnb-deeds">{build}{button("package_run", "Run here", view)}</div>'
    return f'<div class="mlnb-deeds">{build}</div>{_destination(view)}'


def _destination(view: PackageView) -> str:
    """Return where a deployment goes, which nobody presumes: a context and a namespace are to be chosen."""
    if not view.contexts:
        return f'<p class="mlnb-muted">{escape(view.unreachable or _NO_CLUSTER)}</p>'
    options = "".join(f"<option>{escape(name)}</option>" for name in view.contexts)
    context = f'<select name="context" data-keep="package-context"><option value="">choose…</option>{options}</select>'
    namespace = (
        '<input name="namespace" data-keep="package-namespace" autocomplete="off" spellcheck="false" '
        'placeholder="its name">'
    )
    return (
        '<form class="mlnb-packing mlnb-destination" data-action="package_compare" novalidate>'
        f"<label><span>Context</span>{context}</label><label><span>Namespace</span>{namespace}</label>"
        f'<button type="submit" data-action="package_compare" data-keep="package-compare"{free(view)}>'
        "Compare first</button>"
        f'<button type="submit" class="mlnb-primary" data-action="package_deploy" data-keep="package-deploy"'
        f"{free(view)}>Deploy</button></form>"
    )


def _step(step: Step) -> str:
    news = step.news
    text = escape(news.text, quote=True)
    known = news.share is not None and news.state == "running"
    bar = f'<progress max="1" value="{news.share:.3f}" aria-label="{escape(news.step)}"></progress>' if known else ""
    return (
        f'<div class="mlnb-step"><span class="mlnb-dot" data-state="{news.state}" aria-hidden="true"></span>'
        f'<span>{escape(news.step)}</span><span class="mlnb-news" title="{text}">{text}</span>{bar}'
        f'<span class="mlnb-number mlnb-muted">{_lasted(step.seconds)}</span></div>'
    )


def _lasted(seconds: float) -> str:
    """Write how long something takes; what is done at once takes no time that one reads."""
    whole = int(seconds)
    if not whole:
        return ""
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02}"  # noqa: PLR2004 - a minute
