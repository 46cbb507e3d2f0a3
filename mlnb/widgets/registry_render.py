"""A registry's snapshot as HTML: the regions of its panel, and one plain page for readers without a kernel."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import orjson

from mlnb.registry.tables import VersionTable, format_size, format_time
from mlnb.widgets.registry_snapshot import SHOWN, Problem
from mlnb.widgets.render import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlnb.registry import ModelVersion
    from mlnb.registry.card import ModelCard
    from mlnb.registry.proofs.proof import Proof
    from mlnb.widgets.registry_snapshot import ModelState, RegistrySnapshot

__all__ = ["render_card", "render_live", "render_registry", "render_registry_static"]

_METRICS = 4  # columns
_HUNDRED = 100
_MINUS = "\N{MINUS SIGN}"  # as wide as a plus
_SHORT = 6  # rows of a card's section that is not folded
_KNOWN_ALIASES = ("champion", "challenger", "staging", "production")
_BY_HISTORY = "Live by the history: in another kernel, or in one that ended without stopping it"


def render_registry(snapshot: RegistrySnapshot) -> dict[str, str]:
    """Return the HTML of each region of the panel."""
    model = snapshot.chosen
    return {
        "header": _header(snapshot),
        "models": _models(snapshot),
        "title": "" if model is None else _title(model),
        "versions": _no_versions(snapshot) if model is None or model.problem else _versions(model, snapshot),
        "legend": "" if model is None else _legend(model),
        "comparison": _comparison(snapshot),
        "detail": "" if model is None or snapshot.view.opened is None else _detail(model, snapshot),
        "read": f"as of {snapshot.at.astimezone():%H:%M:%S}",
    }


def render_registry_static(snapshot: RegistrySnapshot) -> str:
    """Return the panel as plain HTML: the models with their newest version."""
    if snapshot.problem:
        return f"<p>{escape(snapshot.url)}: {escape(snapshot.problem)}</p>"
    newest = [model.newest for model in snapshot.models if model.newest is not None]
    live = {model.name: model.live for model in snapshot.models if model.live is not None}
    table = VersionTable(newest, live=live, aliases={model.name: model.aliases for model in snapshot.models})
    unread = "".join(
        f"<p>{escape(model.name)}: {escape(model.problem)}</p>" for model in snapshot.models if model.problem
    )
    head = f"<p><strong>Models</strong> in <code>{escape(snapshot.url)}</code>, the newest version of each</p>"
    return f"{head}{table._repr_html_()}{unread}"


def render_live(name: str, before: int | None, now: int, *, url: str, docs_url: str) -> str:
    """Return what deploying or rolling back did, in one line."""
    after = "" if before is None or before == now else f"; v{before} was before"
    return (
        f'{escape(name)} v{now} is live{after}. <code class="mlnb-url">{escape(url)}</code> '
        f'<a href="{escape(docs_url, quote=True)}" target="_blank" rel="noopener">docs ↗</a>'
    )


def render_card(card: ModelCard | Problem) -> str:
    """Return a model card, its long sections folded, under a line that says whether the version is portable."""
    if isinstance(card, Problem):
        return f'<div class="mlnb-failure">{escape(card.message)}</div>'
    return f'<p class="mlnb-proof">{_proof_line(card.proof)}</p>{_folded(card.html)}'


def _header(snapshot: RegistrySnapshot) -> str:
    count = counted(len(snapshot.models), "model")
    distrust = (
        ""
        if snapshot.trusted or not snapshot.models
        else ' · <span title="Models that run code when they are loaded are not loaded from it. If you know its '
        'writers: mlnb.ModelRegistry(…).trust()">not trusted</span>'
    )
    url = escape(snapshot.url, quote=True)
    return (
        f'<strong class="mlnb-name">Models</strong>'
        f'<span class="mlnb-status"><code class="mlnb-url" title="{url}">{url}</code>'
        f"<span>{count}{distrust}</span></span>"
        '<span class="mlnb-buttons"><button type="button" data-action="refresh">Refresh</button></span>'
    )


def _models(snapshot: RegistrySnapshot) -> str:
    return "".join(_model(model, chosen=model.name == snapshot.view.model) for model in snapshot.models)


def _model(model: ModelState, *, chosen: bool) -> str:
    name = escape(model.name, quote=True)
    facts = (
        "cannot be read"
        if model.newest is None
        else f"{counted(len(model.versions), 'version')}, newest v{model.newest.number}"
    )
    marks = _model_marks(model)
    current = ' aria-current="true"' if chosen else ""
    return (
        f'<button type="button" class="mlnb-model" data-action="choose" data-model="{name}"{current} tabindex="-1" '
        f'title="{name}"><span class="mlnb-model-name">{name}</span><small class="mlnb-muted">{facts}</small>'
        f"{f'<small>{marks}</small>' if marks else ''}</button>"
    )


def _model_marks(model: ModelState) -> str:
    live = []
    if model.live is not None:
        live = [f'<span class="mlnb-live" title="Live in this kernel">● v{model.live}</span>']
    elif model.recorded is not None:
        live = [f'<span class="mlnb-muted" title="{_BY_HISTORY}">○ v{model.recorded}</span>']
    known = {version.number for version in model.versions}
    named = [
        f'<span class="mlnb-muted">@{escape(alias)} v{number}</span>'
        for alias, number in sorted(model.aliases.items())
        if number in known
    ]
    return " ".join(live + named)


def _title(model: ModelState) -> str:
    name = f'<strong class="mlnb-name">{escape(model.name)}</strong>'
    if model.live is None:
        return f'{name}<span class="mlnb-status">{counted(len(model.versions), "version")}</span>'
    back = (
        f'<button type="button" data-action="rollback" data-reference="{escape(model.name)}:{model.previous}">'
        f"Roll back to v{model.previous}</button>"
        if model.previous is not None
        else ""
    )
    return (
        f'{name}<span class="mlnb-status">v{model.live} live in this kernel '
        f'<code class="mlnb-url">{escape(model.url)}</code></span><span class="mlnb-buttons">{back}</span>'
    )


def _no_versions(snapshot: RegistrySnapshot) -> str:
    model = snapshot.chosen
    problem = snapshot.problem or ("" if model is None else model.problem)
    if problem:
        return f'<div class="mlnb-failure">{escape(problem)}</div>'
    return '<p class="mlnb-muted">No models yet. Deploy one: <code>%deploy_model model --input X_train</code></p>'


def _versions(model: ModelState, snapshot: RegistrySnapshot) -> str:
    shown = model.versions[: snapshot.view.shown]
    metrics = _metric_names(shown)
    titles = "".join(f'<th class="mlnb-number">{escape(name)}</th><th></th>' for name in metrics[:_METRICS])
    more = "<th>more</th>" if len(metrics) > _METRICS else ""
    head = (
        f'<th></th><th>version</th><th class="mlnb-wide">created</th>{titles}{more}'
        '<th class="mlnb-number mlnb-wide">size</th><th>proof</th><th class="mlnb-rest">description</th><th></th>'
    )
    live, older = _live_version(model), [*model.versions[1 : len(shown) + 1], None]
    rows = "".join(
        _row(version, model, metrics, live or before, opened=version.number == snapshot.view.opened)
        for version, before in zip(shown, older, strict=False)
    )
    left = len(model.versions) - len(shown)
    return f'<table class="mlnb-versions"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{_more(left)}'


def _more(left: int) -> str:
    if left <= 0:
        return ""
    some = f"Show {min(left, SHOWN)} more" if left > SHOWN else f"Show the other {left}"
    return (
        f'<p class="mlnb-older"><button type="button" data-action="more">{some}</button> '
        f'<span class="mlnb-muted">{counted(left, "older version")}</span></p>'
    )


def _legend(model: ModelState) -> str:
    measured = [version for version in model.versions if version.metrics]
    if len(measured) < 2:  # noqa: PLR2004 - nothing to compare
        return ""
    live = _live_version(model)
    against = "the version before" if live is None else f"v{live.number}, which is live"
    return f"Differences are against {against}."


def _live_version(model: ModelState) -> ModelVersion | None:
    """Return the version that others are measured against: the live one, if it is there."""
    known = {version.number: version for version in model.versions}
    return next((known[number] for number in (model.live, model.recorded) if number in known), None)


def _metric_names(versions: Iterable[ModelVersion]) -> list[str]:
    return list(dict.fromkeys(name for version in versions for name in version.metrics))


def _row(
    version: ModelVersion, model: ModelState, metrics: Sequence[str], against: ModelVersion | None, *, opened: bool
) -> str:
    before = {} if against is None or against.number == version.number else against.metrics
    values = "".join(_metric(version.metrics.get(name), before.get(name)) for name in metrics[:_METRICS])
    if len(metrics) > _METRICS:
        rest = ", ".join(
            f"{name} {version.metrics[name]:.4g}" for name in metrics[_METRICS:] if name in version.metrics
        )
        values += f'<td class="mlnb-clipped" title="{escape(rest, quote=True)}">{escape(rest)}</td>'
    reference = escape(str(version), quote=True)
    description = escape(version.description, quote=True)
    created = f"{version.created.astimezone():%Y-%m-%d %H:%M}"
    deploy = "" if version.number == model.live else _button("deploy", reference, "Deploy")
    return (
        f"<tr{' data-opened' if opened else ''}>"
        f'<td><input type="checkbox" data-tick="{version.number}" data-keep="{reference}" '
        f'aria-label="Compare v{version.number}"></td>'
        f'<td><span class="mlnb-marks">{_opener(version, opened=opened)}{_marks(version, model)}</span></td>'
        f'<td class="mlnb-time mlnb-wide" title="{format_time(version.created)}">{created}</td>'
        f'{values}<td class="mlnb-number mlnb-wide">{format_size(version.size)}</td>'
        f'<td class="mlnb-nowrap">{_proof(model.proofs.get(version.number))}</td>'
        f'<td class="mlnb-clipped mlnb-rest" title="{description}">{description}</td>'
        f'<td class="mlnb-number">{deploy}</td></tr>'
    )


def _opener(version: ModelVersion, *, opened: bool) -> str:
    reference = escape(str(version), quote=True)
    return (
        f'<button type="button" class="mlnb-link" data-action="{"close" if opened else "open"}" '
        f'data-reference="{reference}" data-keep="open {reference}" aria-expanded="{str(opened).lower()}">'
        f"v{version.number}</button>"
    )


def _marks(version: ModelVersion, model: ModelState) -> str:
    live = ""
    if version.number == model.live:
        live = '<span class="mlnb-live" title="Live in this kernel">● live</span>'
    elif version.number == model.recorded:
        live = f'<span class="mlnb-muted" title="{_BY_HISTORY}">○ live by history</span>'
    named = sorted(alias for alias, number in model.aliases.items() if number == version.number)
    chips = "".join(f'<span class="mlnb-chip">@{escape(alias)}</span>' for alias in named)
    return live + chips


def _metric(value: float | None, before: float | None) -> str:
    """Return two cells: the value, and by how much it differs."""
    shown = "" if value is None else f"{value:.4g}"
    delta = "" if value is None or before is None else _delta(value - before)
    return f'<td class="mlnb-number mlnb-value">{shown}</td><td class="mlnb-delta">{delta}</td>'


def _delta(difference: float) -> str:
    """Write a difference with its sign, to two digits.

    Examples
    --------
    >>> _delta(0.00699), _delta(1234.5), _delta(0.0), _delta(float("nan"))
    ('+0.007', '+1,234', '±0', '')
    """
    if not math.isfinite(difference):
        return ""
    if difference == 0:
        return "±0"
    size = abs(difference)
    return f"{'+' if difference > 0 else _MINUS}{f'{size:.2g}' if size < _HUNDRED - 0.5 else f'{size:,.0f}'}"


def _proof(proof: Proof | None) -> str:
    if proof is None:
        return '<span class="mlnb-muted">not proved yet</span>'
    if proof.portable:
        return f'<span title="{escape(_found(proof), quote=True)}">✓ portable</span>'
    return f'<span class="mlnb-failure" title="{escape(proof.reason, quote=True)}">✗ not portable</span>'


def _proof_line(proof: Proof | None) -> str:
    if proof is None:
        return '<span class="mlnb-muted">Not proved yet: no process without the notebook has loaded it so far.</span>'
    if proof.portable:
        return f'<span class="mlnb-live">✓ Portable</span> <span class="mlnb-muted">{escape(_found(proof))}</span>'
    return f'<span class="mlnb-failure">✗ Not portable: {escape(proof.reason)}</span>'


def _found(proof: Proof) -> str:
    compared = f" and answered its {counted(proof.rows, 'golden row')} alike" if proof.rows else ""
    return f"A fresh Python {proof.python} loaded it{compared} in {proof.seconds:.1f} s"


def _comparison(snapshot: RegistrySnapshot) -> str:
    if snapshot.diff is None or snapshot.chosen is None:
        return ""
    shown = (
        f'<div class="mlnb-failure">{escape(snapshot.diff.message)}</div>'
        if isinstance(snapshot.diff, Problem)
        else snapshot.diff._repr_html_()
    )
    return f"{_close('uncompare', snapshot.chosen.name, 'Close the comparison')}{shown}"


def _detail(model: ModelState, snapshot: RegistrySnapshot) -> str:
    number = snapshot.view.opened
    version = next((one for one in model.versions if one.number == number), None)
    bar = "" if version is None else _actions(version, model)
    card = "" if snapshot.card is None else render_card(snapshot.card)
    return f"{_close('close', f'{model.name}:{number}', 'Close the card')}{bar}{card}"


def _actions(version: ModelVersion, model: ModelState) -> str:
    reference = escape(str(version), quote=True)
    deploy = "" if version.number == model.live else _button("deploy", reference, "Deploy")
    prove = _button("prove", reference, "Prove again" if version.number in model.proofs else "Prove")
    return (
        f'<div class="mlnb-bar"><strong class="mlnb-name">v{version.number}</strong>{_marks(version, model)}'
        f'<span class="mlnb-buttons">{deploy}{prove}'
        f"{_alias_form(version, model.aliases)}</span></div>"
    )


def _alias_form(version: ModelVersion, aliases: Mapping[str, int]) -> str:
    """Return the form that gives an alias; with it goes what the panel showed, so that nobody's move is undone."""
    reference = escape(str(version), quote=True)
    own = sorted(alias for alias, number in aliases.items() if number == version.number)
    kept = escape(f"{version} {' '.join(own)}", quote=True)  # what is typed stays until the version's aliases change
    listed = f"mlnb-aliases-{escape(version.name, quote=True)}"
    options = "".join(
        f'<option value="{escape(alias, quote=True)}"></option>'
        for alias in dict.fromkeys([*sorted(aliases), *_KNOWN_ALIASES])
        if alias not in own
    )
    known = escape(orjson.dumps(dict(aliases)).decode(), quote=True)
    return (
        f'<form class="mlnb-alias" data-submit="alias" data-reference="{reference}" data-known="{known}" novalidate>'
        f'<input name="alias" list="{listed}" placeholder="alias" aria-label="Alias for v{version.number}" '
        f'data-keep="{kept}" autocomplete="off" spellcheck="false"><datalist id="{listed}">{options}</datalist>'
        '<button type="submit">Set alias</button></form>'
    )


def _folded(card: str) -> str:
    """Fold the long sections of a model card. All text in it is escaped, so the tags are the card's own."""
    head, *sections = card.removesuffix("</div>").split("<h4>")
    return f"{head}{''.join(_section(*section.split('</h4>', 1)) for section in sections)}</div>"


def _section(title: str, body: str) -> str:
    rows = body.count("<tr>") - 1
    if rows <= _SHORT:
        return f"<section><h4>{title}</h4>{body}</section>"
    return f'<details data-keep="{title}"><summary>{title} <small>{rows}</small></summary>{body}</details>'


def _button(action: str, reference: str, label: str) -> str:
    return f'<button type="button" data-action="{action}" data-reference="{reference}">{label}</button>'


def _close(action: str, reference: str, title: str) -> str:
    return (
        f'<button type="button" class="mlnb-close" data-action="{action}" title="{title}" aria-label="{title}" '
        f'data-reference="{escape(reference, quote=True)}">×</button>'  # noqa: RUF001 - the usual sign
    )
