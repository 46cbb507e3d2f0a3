"""What other programs of this user may ask a process that serves: list, roll back, stop, start again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError, MlnbError, NotDeployedError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlnb.workspace.deployment import Deployment
    from mlnb.workspace.workspace import Workspace

__all__ = ["obey"]

_log = logging.getLogger(__name__)
_CONFLICT, _BROKEN = 409, 500


def obey(workspace: Workspace, order: Any) -> dict[str, Any]:
    """Do what is asked and return the answer; nothing is raised.

    Parameters
    ----------
    workspace : Workspace
    order : object
        ``{"do": "list"}``, ``{"do": "rollback", "name": "iris", "version": 3}`` (the version believed to be live),
        ``{"do": "stop", "name": "iris"}`` or ``{"do": "start", "name": "iris"}``.

    Returns
    -------
    dict
        ``{"deployments": [...]}``, ``{"notice": "..."}`` or ``{"error": "...", "status": 404}``.
    """
    try:
        return _verb(order)(workspace, order)
    except MlnbError as error:
        return _refused(str(error), error.status)
    except Exception:  # noqa: BLE001 - of a model or a library: who asked learns that it failed, the log why
        _log.exception("What was asked from outside failed: %.200r", order)
        return _refused("It failed; why stands in the log of the process that serves.", _BROKEN)


def _verb(order: Any) -> Callable[[Workspace, Mapping[str, Any]], dict[str, Any]]:
    verb = _VERBS.get(str(order.get("do"))) if isinstance(order, dict) else None
    if verb is None:
        raise InvalidInputError(f"{order!r:.80} is nothing that can be done; there are: {', '.join(_VERBS)}.")
    if verb is not _list and not isinstance(order.get("name"), str):
        raise InvalidInputError("The name of a deployment is needed.")
    return verb


def _refused(words: str, status: int) -> dict[str, Any]:
    return {"error": words, "status": status}


def _list(workspace: Workspace, _: Mapping[str, Any]) -> dict[str, Any]:
    told = [_told(deployment) for deployment in workspace.deployments()]
    return {"deployments": [one for one in told if one is not None]}


def _told(deployment: Deployment) -> dict[str, Any] | None:
    """Return what the outside is told of a deployment; None if it was stopped meanwhile."""
    seen = deployment.snapshot()
    if seen.state != "live":
        return None
    return {
        "name": seen.name, "version": seen.version.number, "previous": seen.previous, "place": seen.place,
        "since": seen.since.isoformat(), "registry": deployment.registry.url, "rate": seen.metrics.rate,
        "p99": seen.metrics.p99, "errors": seen.metrics.window_errors, "recent": seen.metrics.recent,
        "alerts": sum(alert.state == "firing" for alert in seen.alerts),
    }  # fmt: skip


def _roll_back(workspace: Workspace, order: Mapping[str, Any]) -> dict[str, Any]:
    name, believed = order["name"], order.get("version")
    before = workspace.find(name).version.number
    if believed not in (None, before):
        return _refused(f"{name} v{before} is live by now, not v{believed}: nothing was rolled back.", _CONFLICT)
    after = workspace.rollback(name).version.number
    return {"notice": f"{name} v{after} is live{'' if after == before else f'; v{before} was before'}."}


def _stop(workspace: Workspace, order: Mapping[str, Any]) -> dict[str, Any]:
    (stopped,) = workspace.stop(order["name"])
    return {"notice": f"{stopped.name} v{stopped.version.number} is stopped."}


def _start(workspace: Workspace, order: Mapping[str, Any]) -> dict[str, Any]:
    name = order["name"]
    known = {one.name: one for one in workspace.known()}
    if name not in known:
        raise NotDeployedError(f"{name!r} was not deployed here; {nearest(name, known)}.")
    deployment = known[name]
    if deployment.state == "live":
        return _refused(f"{name} v{deployment.version.number} is live already.", _CONFLICT)
    deployment.start()
    return {"notice": f"{name} v{deployment.version.number} is live again."}


_VERBS = {"list": _list, "rollback": _roll_back, "stop": _stop, "start": _start}
