"""A deployment's snapshot as HTML: the regions of the live panel, and one plain page for readers without a kernel."""

from __future__ import annotations

import json
import shlex
from html import escape
from typing import TYPE_CHECKING, Any

from mlnb.errors import PredictionError
from mlnb.monitoring.metrics_html import last_error
from mlnb.registry.tables import VersionTable, format_metrics, format_size, format_time
from mlnb.widgets.traffic_view import roles, standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.errors import MlnbError
    from mlnb.monitoring import MetricsSnapshot
    from mlnb.registry import ModelVersion
    from mlnb.registry.signature import Field, Signature
    from mlnb.serving.service import Answer
    from mlnb.workspace import DeploymentSnapshot

__all__ = ["copy_button", "counted", "render", "render_answer", "render_failure", "render_static"]

_NO_EXAMPLE = (
    '<small class="mlnb-muted">Deployed without an example: <code>--input X_train</code> gives the fields their names, '
    "types and values.</small>"
)
_SHOWN_FIELDS = 6
_SHOWN_CLASSES = 3
_COPY_ICON = (
    '<svg viewBox="0 0 16 16" width="12" height="12" aria-hidden="true">'
    '<rect x="5.5" y="5.5" width="8" height="8" rx="1.5"/>'
    '<path d="M10.5 5.5v-1.5a1.5 1.5 0 0 0-1.5-1.5h-5a1.5 1.5 0 0 0-1.5 1.5v5a1.5 1.5 0 0 0 1.5 1.5h1.5"/></svg>'
)
_JUPYTER_LOGIN = "Authorization: token $JUPYTER_TOKEN"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_THOUSANDS, _WHOLE = 10**5, 10**15


def render(snapshot: DeploymentSnapshot) -> dict[str, str]:
    """Return the HTML of each region of the panel."""
    return {
        "header": _header(snapshot),
        "address": _address(snapshot),
        "alarm": _alarm(snapshot),
        "form": _form(snapshot.version.signature),
        "versions": _versions(snapshot),
        "activity": _activity(snapshot.metrics, now=snapshot.at.timestamp()),
        "footer": _footer(snapshot.metrics),
    }


def render_answer(answer: Answer) -> str:
    """Return the answer to a try: the prediction, its most probable classes, and where it came from."""
    labels = answer.version.signature.labels
    shown = f'<output class="mlnb-prediction">{escape(_value(answer.prediction[0]))}</output>'
    if answer.probabilities is not None and labels is not None and answer.probabilities.shape == (1, len(labels)):
        ranked = sorted(zip(answer.probabilities[0].tolist(), labels, strict=True), key=lambda pair: -pair[0])
        shown += "".join(_bar(label, probability) for probability, label in ranked[:_SHOWN_CLASSES])
    facts = f"{answer.seconds * 1e3:.1f} ms · v{answer.version.number} · request {answer.request_id}"
    return f'<div class="mlnb-answer">{shown}</div><small class="mlnb-muted">{facts}</small>'


def render_failure(error: MlnbError) -> str:
    """Return why a try was refused; the field at fault is marked in the form."""
    field = escape(str(error.details.get("field", "")), quote=True)
    cause = f" ({escape(error.reason)})" if isinstance(error, PredictionError) else ""
    return f'<div class="mlnb-failure" data-field="{field}">{escape(error.message)}{cause}</div>'


def render_static(snapshot: DeploymentSnapshot) -> str:
    """Return the panel as plain HTML, for GitHub and for a notebook without its kernel."""
    table = VersionTable(snapshot.versions, live=_live_number(snapshot))._repr_html_()
    faster = f"<br>{escape(snapshot.acceleration.reason)}" if snapshot.acceleration else ""
    return (
        f"<p><strong>{escape(snapshot.name)}</strong> · {_status(snapshot)}<br>"
        f"<code>POST {escape(snapshot.url)}/predict</code>{faster}</p>{table}"
        f"<details><summary>curl</summary><pre>{escape(curl(snapshot.url, snapshot.version.signature))}</pre></details>"
    )


def copy_button(label: str, text: str, title: str, *, shown: bool = False, behind_login: str = "") -> str:
    """Return a button that copies ``text``; "" copies what stands beside it.

    ``behind_login`` is copied in its place where the page reaches the server through Jupyter.
    """
    about = escape(title, quote=True)
    other = f' data-behind-login="{escape(behind_login, quote=True)}"' if behind_login else ""
    return (
        f'<button type="button" class="mlnb-link" title="{about}" data-shown="{str(shown).lower()}" '
        f'data-copy="{escape(text, quote=True)}"{other}>{label}{_COPY_ICON}</button>'
    )


def counted(count: int, noun: str) -> str:
    """Write a number of things.

    Examples
    --------
    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _header(snapshot: DeploymentSnapshot) -> str:
    name = escape(snapshot.name)
    if snapshot.state == "live":
        back = snapshot.previous
        buttons = (
            f'<button type="button" data-action="rollback" data-to="{back}">Roll back to v{back}</button>'
            if back
            else ""
        )
        buttons += '<button type="button" data-action="stop">Stop</button>'
    else:
        buttons = '<button type="button" data-action="start">Deploy again</button>'
    return (
        f'<span class="mlnb-dot" data-state="{snapshot.state}" aria-hidden="true"></span>'
        f'<strong class="mlnb-name">{name}</strong><span class="mlnb-status">{_status(snapshot)}</span>'
        f'<span class="mlnb-buttons">{buttons}</span>'
    )


def _status(snapshot: DeploymentSnapshot) -> str:
    if snapshot.state == "stopped":
        return f"v{snapshot.version.number} stopped"
    return (
        f"{standing(snapshot)} · {escape(snapshot.place)} · {_duration((snapshot.at - snapshot.since).total_seconds())}"
    )


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return "up less than a minute"
    for unit, length in (("day", _DAY), ("h", _HOUR)):
        if seconds >= length:
            count = int(seconds // length)
            return f"up {count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"up {int(seconds // _MINUTE)} min"


def _address(snapshot: DeploymentSnapshot) -> str:
    url, signature = snapshot.url, snapshot.version.signature
    command, command_with_token = curl(url, signature), curl(url, signature, header=_JUPYTER_LOGIN)
    code, code_with_token = _python(snapshot), _python(snapshot, behind_login=True)
    return (
        f'<code class="mlnb-url">{escape(url, quote=True)}</code>{copy_button("copy", url, "Copy the URL")}'
        f"{_link('docs', snapshot.docs_url)}{_link('dashboard', snapshot.dashboard_url)}"
        f"{copy_button('curl', command, 'Copy a curl command', shown=True, behind_login=command_with_token)}"
        f"{copy_button('python', code, 'Copy Python code', shown=True, behind_login=code_with_token)}"
    )


def _link(label: str, url: str) -> str:
    return f'<a href="{escape(url, quote=True)}" target="_blank" rel="noopener">{label} ↗</a>'


def _alarm(snapshot: DeploymentSnapshot) -> str:
    """Return what somebody should look at: alerts that fire, and a log that is not written."""
    lines = [f"▲ {alert.words}" for alert in snapshot.alerts if alert.state == "firing"]
    if snapshot.log is not None and snapshot.log.failure:
        lines.append(f"△ Predictions are not logged: {snapshot.log.failure}")
    return "".join(f"<div>{escape(line)}</div>" for line in lines)


def curl(url: str, signature: Signature, *, token_file: str = "", header: str = "") -> str:
    """Return the command that asks for a prediction.

    Parameters
    ----------
    url : str
    signature : Signature
        Of the version that answers.
    token_file : str
        With the token to bring, read when the command runs; "": none is needed.
    header : str
        To send too, in which the shell puts the values of variables.
    """
    body = shlex.quote(json.dumps(_request(signature), ensure_ascii=False))
    header = f"Authorization: Bearer $(cat {shlex.quote(token_file)})" if token_file else header
    told = f'  -H "{header}" \\\n' if header else ""
    target = shlex.quote(f"{url}/predict")
    return f"curl -X POST {target} \\\n{told}  -H 'Content-Type: application/json' \\\n  -d {body}"


def _python(snapshot: DeploymentSnapshot, *, behind_login: bool = False) -> str:
    target, body = f"{snapshot.url}/predict", _request(snapshot.version.signature)
    imports, headers = "import requests", ""
    if behind_login:
        imports = f"import os\n\n{imports}"
        headers = "    headers={'Authorization': 'token ' + os.environ['JUPYTER_TOKEN']},\n"
    return f"{imports}\n\nanswer = requests.post(\n    {target!r},\n{headers}    json={body!r},\n).json()\nanswer"


def _request(signature: Signature) -> dict[str, Any]:
    row = signature.example
    if row is None and signature.shape:
        return {"instances": [f"nested lists of the shape {signature.shape}"]}
    if row is None:
        return {"features": [0.0] * len(signature.fields)}
    return {"instances": [row]} if len(row) <= _SHOWN_FIELDS else {"features": list(row.values())}


def _form(signature: Signature) -> str:
    if not signature.fields or signature.shape:
        row = next(iter((signature.example or {}).values()), None)
        value = "" if row is None else escape(json.dumps(row), quote=True)
        what = f"one row of shape {signature.shape}" if signature.shape else "one row"
        return (
            f'<label class="mlnb-field mlnb-json"><span>{what}, as JSON</span>'
            f'<input name="row" value="{value}" placeholder="[5.1, 3.5]" autocomplete="off"></label>'
        ) + ("" if signature.fields else _NO_EXAMPLE)
    shown, more = signature.fields[:_SHOWN_FIELDS], signature.fields[_SHOWN_FIELDS:]
    folded = f'<summary>{len(more)} more</summary><div class="mlnb-grid">{_inputs(more)}</div>'
    rest = f'<details class="mlnb-more">{folded}</details>' if more else ""
    hint = "" if signature.example is not None else _NO_EXAMPLE
    return f'<div class="mlnb-grid">{_inputs(shown)}</div>{rest}{hint}'


def _inputs(fields: Sequence[Field]) -> str:
    return "".join(_input(field) for field in fields)


def _input(field: Field) -> str:
    name = escape(field.name, quote=True)
    value = "" if field.example is None else _exact(field.example)
    choices = [_exact(one) for one in field.categories or ((True, False) if field.kind == "boolean" else ())]
    if choices:
        options = "".join(f"<option{' selected' if value == one else ''}>{escape(one)}</option>" for one in choices)
        control = f'<select name="{name}">{options}</select>'
    else:
        mode = "text" if field.kind in ("text", "datetime") else "decimal"
        control = f'<input name="{name}" value="{escape(value, quote=True)}" inputmode="{mode}" autocomplete="off">'
    spread = (
        f"{field.minimum:.4g} to {field.maximum:.4g} in the example"
        if field.minimum is not None and field.maximum is not None
        else field.kind
    )
    return f'<label class="mlnb-field" title="{name}: {spread}"><span>{name}</span>{control}</label>'


def _versions(snapshot: DeploymentSnapshot) -> str:
    titles = "<th>version</th><th></th><th>created</th><th>metrics</th><th>description</th>"
    head = f'{titles}<th class="mlnb-number">size</th><th></th>'
    live, doing = _live_number(snapshot).get(snapshot.name), roles(snapshot)
    rows = "".join(
        _version_row(version, live=version.number == live, role=doing.get(version.number, ""))
        for version in snapshot.versions
    )
    return f'<table class="mlnb-versions"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _version_row(version: ModelVersion, *, live: bool, role: str) -> str:
    state = f'<span class="mlnb-live">● {role}</span>' if role else ""
    button = (
        "" if live else f'<button type="button" data-action="rollback" data-to="{version.number}">Make live</button>'
    )
    cells = (
        f"<td>v{version.number}</td><td>{state}</td><td>{format_time(version.created)}</td>"
        f"<td>{escape(format_metrics(version.metrics))}</td><td>{escape(version.description)}</td>"
        f'<td class="mlnb-number">{format_size(version.size)}</td><td class="mlnb-number">{button}</td>'
    )
    return f"<tr>{cells}</tr>"


def _live_number(snapshot: DeploymentSnapshot) -> dict[str, int]:
    return {snapshot.name: snapshot.version.number} if snapshot.state == "live" else {}


def _activity(metrics: MetricsSnapshot, *, now: float) -> str:
    counts = (("request", metrics.requests), ("row", metrics.rows), ("error", metrics.errors))
    totals = " · ".join(counted(count, noun) for noun, count in counts) + " since it was deployed"
    failed = last_error(metrics, now=now)
    return f'<small class="mlnb-muted">{totals}</small>{f"<small>{failed}</small>" if failed else ""}'


def _footer(metrics: MetricsSnapshot) -> str:
    if metrics.requests == 0:
        return '<span class="mlnb-muted">No requests yet</span>'
    rate = f"{metrics.rate:.3g}" if metrics.rate < 1000 else f"{metrics.rate:,.0f}"  # noqa: PLR2004 - three digits
    cells = [f"{rate} req/s"]
    quantiles = (("p50", metrics.p50), ("p99", metrics.p99))
    cells += [f"{name} {_milliseconds(value)}" for name, value in quantiles if value is not None]
    cells.append(counted(metrics.window_errors, "error"))
    spans = "".join(f"<span>{cell}</span>" for cell in cells)
    return f'{spans}{_sparkline(metrics.recent)}<span class="mlnb-muted">last minute</span>'


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"  # noqa: PLR2004 - three digits


def _sparkline(counts: Sequence[int]) -> str:
    top = max(*counts, 1)
    points = " ".join(f"{index * 2},{18 - 16 * count / top:.1f}" for index, count in enumerate(counts))
    width = 2 * (len(counts) - 1)
    return (
        f'<svg class="mlnb-spark" viewBox="0 0 {width} 20" width="{width}" height="20" role="img" '
        f'aria-label="requests per second over the last minute"><polyline points="{points}"/></svg>'
    )


def _bar(label: object, probability: float) -> str:
    return (
        f'<span class="mlnb-class"><span class="mlnb-label">{escape(_value(label))}</span>'
        f'<meter min="0" max="1" value="{probability:.4f}"></meter>'
        f'<span class="mlnb-number">{probability:.2f}</span></span>'
    )


def _exact(value: Any) -> str:
    """Write an example's value as the form sends it back: not rounded, so that it is still that row."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE else str(value)


def _value(value: Any) -> str:
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if isinstance(plain, bool):
        return str(plain).lower()
    if not isinstance(plain, float):
        return str(plain)
    return f"{plain:,.2f}" if _THOUSANDS <= abs(plain) < _WHOLE else f"{plain:.6g}"
