"""What a cluster's refusals mean, and what to do about each."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from mlnb.errors import ClusterError
from mlnb.packaging.cluster_objects import APPLIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlnb.packaging.cluster_objects import Permission

__all__ = [
    "CONFLICT",
    "NOT_FOUND",
    "explain",
    "foreign",
    "missing_namespace",
    "no_permission",
    "said_in",
    "taken",
    "unreachable",
    "unrecorded",
]

_UNAUTHORIZED, _FORBIDDEN = 401, 403
NOT_FOUND, CONFLICT = 404, 409
_CANNOT = re.compile(r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"')
_NO_NAMESPACE = re.compile(r'namespaces "[^"]+" not found')


def explain(code: int, said: Mapping[str, Any], *, what: str, context: str, namespace: str) -> ClusterError:
    """Return the error for an answer of the API server that is none of success.

    Parameters
    ----------
    code : int
        The HTTP status.
    said : dict
        The ``Status`` object.
    what : str
        That was asked for, for instance ``"patch Deployment iris"``.
    context, namespace : str

    Examples
    --------
    >>> said = {"message": 'x is forbidden: User "u" cannot patch resource "deployments" in API group "apps" in ...'}
    >>> print(explain(403, said, what="patch Deployment iris", context="test", namespace="models"))
    No permission in namespace 'models' of context 'test': it lacks `patch deployments.apps`. Ask whoever runs the \
cluster for a Role with that verb.
    """
    message = " ".join(str(said.get("message", "")).split())
    where = _in(context, namespace)
    if code == _UNAUTHORIZED:
        text = (
            f"The cluster does not accept the credentials of context {context!r}: log in again; "
            f"`{_kubectl(context)} get pods` says the same until they are good."
        )
    elif code == _FORBIDDEN and (found := _CANNOT.search(message)):
        lacking = ".".join(filter(None, found.group(2, 3)))
        return _lacking([f"{found[1]} {lacking}"], context=context, namespace=namespace, code=code)
    elif code == NOT_FOUND and _NO_NAMESPACE.search(message):
        return missing_namespace(context, namespace)
    elif code == CONFLICT and _holders(said):
        text = (
            f"{what} in {where}: these fields are held by others, and are not taken from them: {_holders(said)}. Give "
            "them the same value, or take them over yourself with `kubectl apply --server-side --field-manager=mlnb "
            "--force-conflicts -f`."
        )
    else:
        text = f"{what} in {where}: the cluster refused it ({code}): {message or 'no reason given'}"
    return ClusterError(text, code=code)


def said_in(body: str | bytes | None) -> dict[str, Any]:
    """Return the ``Status`` object of an answer, also where a proxy answered with something else.

    Examples
    --------
    >>> said_in('{"message": "no"}'), said_in(b"Bad Gateway")
    ({'message': 'no'}, {'message': 'Bad Gateway'})
    """
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    try:
        said = json.loads(text)
    except ValueError:
        said = text[:500]
    return said if isinstance(said, dict) else {"message": str(said)}


def _holders(said: Mapping[str, Any]) -> str:
    causes = (said.get("details") or {}).get("causes") or ()
    held = [one for one in causes if one.get("reason") == "FieldManagerConflict"]
    return ", ".join(f"{one.get('field', '')} ({one.get('message', '')})" for one in held)


def missing_namespace(context: str, namespace: str) -> ClusterError:
    """Return the error for a namespace that is not there; it is never made silently."""
    return ClusterError(
        f"There is no namespace {namespace!r} in context {context!r}; make it with "
        f"`{_kubectl(context)} create namespace {namespace}`.",
        code=NOT_FOUND,
    )


def no_permission(lacking: Iterable[Permission], *, context: str, namespace: str) -> ClusterError:
    """Return the error for what one may not do; nothing was changed."""
    return _lacking([str(one) for one in lacking], context=context, namespace=namespace, code=_FORBIDDEN)


def _lacking(lacking: list[str], *, context: str, namespace: str, code: int) -> ClusterError:
    named = ", ".join(f"`{one}`" for one in lacking)
    verbs = f"{'that verb' if len(lacking) == 1 else 'those verbs'}"
    return ClusterError(
        f"No permission in {_in(context, namespace)}: it lacks {named}. "
        f"Ask whoever runs the cluster for a Role with {verbs}.",
        code=code,
    )


def foreign(what: str, name: str, *, by_hand: bool, context: str, namespace: str) -> ClusterError:
    """Return the error for an object that mlnb did not make; it is not touched.

    Parameters
    ----------
    what, name : str
        The object, and the deployment that wants its place.
    by_hand : bool
        Whether it comes of a packaged folder's files.
    context, namespace : str
    """
    undo = (
        f"It was applied from a packaged folder by hand: `{_kubectl(context)} -n {namespace} delete -f kubernetes/` "
        "there makes room; or give the deployment another name."
        if by_hand
        else "Give the deployment another name, take another namespace, or remove that object yourself."
    )
    return ClusterError(
        f"{what} in {_in(context, namespace)} was not made by mlnb for {name!r}, so it is not touched. {undo}"
    )


def taken(what: str, *, by: str, model: str, context: str, namespace: str) -> ClusterError:
    """Return the error for a name that another model has; nothing was changed.

    Parameters
    ----------
    what : str
        The object.
    by, model : str
        The model that has it, and the one that was to get it.
    context, namespace : str
    """
    return ClusterError(
        f"{what} in {_in(context, namespace)} belongs to the model {by!r}, and this is {model!r}: two names that are "
        "translated to the same. Give the deployment another name, or take another namespace."
    )


def unrecorded(name: str, *, context: str, namespace: str) -> ClusterError:
    """Return the error for a deployment of ours that nobody could put back; nothing was changed."""
    return ClusterError(
        f"Deployment {name} in {_in(context, namespace)} has lost its annotation {APPLIED}, so what runs there could "
        "not be put back, and it is left as it is. Delete it and deploy again, or deploy under another name and delete "
        "it then."
    )


def _in(context: str, namespace: str) -> str:
    return f"namespace {namespace!r} of context {context!r}"


def _kubectl(context: str) -> str:
    return f"kubectl --context {shlex.quote(context)}"


def unreachable(host: str, context: str, reason: str) -> ClusterError:
    """Return the error for a cluster that does not answer."""
    return ClusterError(
        f"No cluster answers at {host} (context {context!r}): {reason}. Is it running, and reachable from here? "
        f"`{_kubectl(context)} get --raw /readyz` asks it the same way."
    )
