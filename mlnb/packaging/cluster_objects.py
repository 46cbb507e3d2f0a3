"""Objects of a Kubernetes cluster as plain dicts: where each is found, and which of them mlnb made."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlnb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "APPLIED", "DEPLOYMENT", "KINDS", "MANAGER", "Manifest", "Permission", "Place", "deployment_of", "is_by_hand",
    "is_label", "is_ours", "keep_scale", "model_of", "needed_permissions", "place_of", "port_of", "recorded",
    "selector", "stamp", "token_secret", "with_live_scale", "with_scale",
]  # fmt: skip

Manifest = dict[str, Any]

MANAGER = "mlnb"
DEPLOYMENT = "dev.mlnb/deployment"
APPLIED = "dev.mlnb/applied"
_TOKEN = "dev.mlnb/token"  # noqa: S105 - the name of an annotation
_MANAGED_BY = "app.kubernetes.io/managed-by"
_MODEL = "dev.mlnb/model"
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

# In the order in which they are applied, with the version each is listed in.
KINDS: dict[str, tuple[str, str]] = {
    "ServiceAccount": ("v1", "serviceaccounts"),
    "Secret": ("v1", "secrets"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "Service": ("v1", "services"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "Deployment": ("apps/v1", "deployments"),
    "HorizontalPodAutoscaler": ("autoscaling/v1", "horizontalpodautoscalers"),
}
_ORDER = tuple(KINDS)
_WHILE_WAITING = (
    ("list", "apps", "replicasets"), ("list", "", "pods"), ("list", "", "events"), ("get", "", "pods/log"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is.

    Attributes
    ----------
    api_version, kind, namespace, name : str

    Examples
    --------
    >>> Place("apps/v1", "Deployment", "models", "iris").path
    '/apis/apps/v1/namespaces/models/deployments/iris'
    """

    api_version: str
    kind: str
    namespace: str
    name: str = ""

    @property
    def path(self) -> str:
        """Of the object, or without a name, of all of its kind in the namespace."""
        root = "/apis" if "/" in self.api_version else "/api"
        listed = f"{root}/{self.api_version}/namespaces/{self.namespace}/{KINDS[self.kind][1]}"
        return f"{listed}/{quote(self.name, safe='')}" if self.name else listed

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """Something that one must be allowed to do.

    Attributes
    ----------
    verb : str
        For instance ``"patch"``.
    group : str
        "" for the core one.
    resource : str
        For instance ``"deployments"``; ``"pods/log"`` for a part of one.
    """

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'.' * bool(self.group)}{self.group}"


def place_of(manifest: Mapping[str, Any], namespace: str) -> Place:
    """Return where a manifest's object is, or will be.

    Raises
    ------
    InvalidInputError
        If it is of a kind that a deployment does not consist of, or of another namespace.
    """
    kind, metadata = str(manifest.get("kind")), manifest.get("metadata") or {}
    if kind not in KINDS or not metadata.get("name") or not manifest.get("apiVersion"):
        raise InvalidInputError(
            f"A manifest of {kind} {metadata.get('name')!r}: a deployment consists of {', '.join(KINDS)}, each with "
            "apiVersion and metadata.name. Others are applied with `kubectl apply -f`."
        )
    if metadata.get("namespace", namespace) != namespace:
        raise InvalidInputError(
            f"{kind} {metadata['name']} is of namespace {metadata['namespace']!r}, and this deployer of {namespace!r}: "
            "package again with that namespace, or make a deployer for the other one."
        )
    return Place(str(manifest["apiVersion"]), kind, namespace, str(metadata["name"]))


def deployment_of(manifests: Sequence[Manifest]) -> Manifest:
    """Return the one Deployment among them.

    Raises
    ------
    InvalidInputError
        If there is none, or more than one.
    """
    found = [one for one in manifests if one.get("kind") == "Deployment"]
    if len(found) != 1:
        raise InvalidInputError(
            f"{len(found)} Deployments among {len(manifests)} manifests: exactly one is needed. What KServe runs "
            "has none, and is applied with `kubectl apply -f`."
        )
    return found[0]


def port_of(deployment: Mapping[str, Any]) -> int:
    """Return the port that its pods answer on: the one called http, else the first."""
    ports = deployment["spec"]["template"]["spec"]["containers"][0].get("ports") or [{"containerPort": 8000}]
    named = [one for one in ports if one.get("name") == "http"]
    return int((named or ports)[0]["containerPort"])


def is_ours(live: Mapping[str, Any], name: str) -> bool:
    """Say whether an object was made by mlnb for the deployment ``name``: labelled so, and applied by our manager."""
    metadata = live.get("metadata") or {}
    labels = metadata.get("labels") or {}
    applied = any(
        one.get("manager") == MANAGER and one.get("operation") == "Apply" for one in metadata.get("managedFields") or ()
    )
    return applied and labels.get(_MANAGED_BY) == MANAGER and labels.get(DEPLOYMENT) == name


def is_by_hand(live: Mapping[str, Any]) -> bool:
    """Say whether an object has our label, but not that of a deployment: as ``kubectl apply -f`` leaves our files."""
    labels = (live.get("metadata") or {}).get("labels") or {}
    return labels.get(_MANAGED_BY) == MANAGER and DEPLOYMENT not in labels


def model_of(manifest: Mapping[str, Any]) -> str:
    """Return the name of the model that an object was made for, "" if it does not say."""
    return str(((manifest.get("metadata") or {}).get("annotations") or {}).get(_MODEL, ""))


def is_label(text: str) -> bool:
    """Say whether a namespace can be called so.

    Examples
    --------
    >>> is_label("team-a"), is_label("../team")
    (True, False)
    """
    return _LABEL.fullmatch(text) is not None


def selector(name: str) -> str:
    """Return the label selector of what mlnb made for a deployment.

    Examples
    --------
    >>> selector("iris")
    'app.kubernetes.io/managed-by=mlnb,dev.mlnb/deployment=iris'
    """
    return f"{_MANAGED_BY}={MANAGER},{DEPLOYMENT}={name}"


def token_secret(manifests: Sequence[Manifest], token: str) -> Manifest | None:
    """Return the Secret that the pods read their token from; None if they mount none, or it is among the manifests."""
    volumes = deployment_of(manifests)["spec"]["template"]["spec"].get("volumes") or ()
    named = [str(one["secret"]["secretName"]) for one in volumes if "secret" in one]
    there = {one["metadata"]["name"] for one in manifests if one["kind"] == "Secret"}
    for name in named:
        if name not in there:
            data = {"token": base64.b64encode(token.encode()).decode("ascii")}
            return {
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "data": data,
            }  # fmt: skip
    return None


def stamp(manifests: Sequence[Manifest], *, namespace: str, token: str = "") -> tuple[Manifest, ...]:
    """Return what is applied: in order, marked as ours, with the token's Secret and a record of it on the Deployment.

    The record is what a rollback applies again. Kubernetes copies it to the ReplicaSet of each template, so the history
    is kept as long as the cluster keeps ReplicaSets. Neither it nor anything else here but the Secret has the token.

    Parameters
    ----------
    manifests : sequence of dict
    namespace : str
    token : str
        "": no Secret is made.
    """
    name = str(deployment_of(manifests)["metadata"]["name"])
    secret = token_secret(manifests, token) if token else None
    marked = [_marked(one, name, namespace) for one in (*manifests, *([] if secret is None else [secret]))]
    deployment = deployment_of(marked)
    if secret is not None:  # pods read the token when they start: another one is a new rollout
        metadata = deployment["spec"]["template"].setdefault("metadata", {})
        metadata.setdefault("annotations", {})[_TOKEN] = hashlib.sha256(token.encode()).hexdigest()[:8]
    marked.sort(key=lambda one: _ORDER.index(one["kind"]))
    kept = [one for one in marked if one["kind"] != "Secret"]
    annotations = deployment["metadata"].setdefault("annotations", {})
    annotations.pop(APPLIED, None)
    annotations[APPLIED] = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return tuple(marked)


def _marked(manifest: Manifest, name: str, namespace: str) -> Manifest:
    place_of(manifest, namespace)
    marked = copy.deepcopy(manifest)
    metadata = marked["metadata"]
    metadata["namespace"] = namespace
    metadata["labels"] = {**(metadata.get("labels") or {}), _MANAGED_BY: MANAGER, DEPLOYMENT: name}
    return marked


def recorded(live: Mapping[str, Any] | None) -> tuple[Manifest, ...]:
    """Return the manifests that a Deployment or ReplicaSet was made from, () if it does not say."""
    annotations = ((live or {}).get("metadata") or {}).get("annotations") or {}
    try:
        return tuple(json.loads(annotations.get(APPLIED, "[]")))
    except (ValueError, TypeError):  # a person wrote there
        return ()


def _autoscaler(manifests: Sequence[Manifest]) -> Manifest | None:
    return next((one for one in manifests if one["kind"] == "HorizontalPodAutoscaler"), None)


def with_live_scale(manifests: Sequence[Manifest], live: Mapping[str, Any] | None) -> tuple[Manifest, ...]:
    """Return manifests whose Deployment keeps the pods that an autoscaler has given it.

    A Deployment that leaves its number out would fall to one pod where mlnb has set a number before; one that brings
    another number would contradict the autoscaler.
    """
    autoscaler = _autoscaler(manifests)
    if autoscaler is None:
        return tuple(manifests)
    now = autoscaler["spec"].get("minReplicas", 1) if live is None else live["spec"].get("replicas", 1)
    changed = copy.deepcopy(list(manifests))
    deployment_of(changed)["spec"]["replicas"] = now
    return tuple(changed)


def with_scale(manifests: Sequence[Manifest], least: int, most: int) -> tuple[Manifest, ...]:
    """Return manifests that ask for this many pods.

    Raises
    ------
    InvalidInputError
        If a range is asked for and there is no autoscaler, or none at all and there is one.
    """
    changed = copy.deepcopy(list(manifests))
    autoscaler = _autoscaler(changed)
    if not 0 <= least <= most or (autoscaler is not None and least < 1):
        raise InvalidInputError(
            f"{least} to {most} pods: whole numbers from {int(autoscaler is not None)} on are needed, the smaller first"
            + (", since an autoscaler keeps at least one." if autoscaler is not None else ".")
        )
    if autoscaler is not None:
        autoscaler["spec"] |= {"minReplicas": least, "maxReplicas": most}
    elif least != most:
        raise InvalidInputError(
            f"{least} to {most} pods need an autoscaler, and this deployment was made without one: "
            f"deploy it again from a notebook's deployment with `autoscale({least}, {most})`, or ask for one number."
        )
    deployment_of(changed)["spec"]["replicas"] = least
    return tuple(changed)


def keep_scale(older: Sequence[Manifest], newer: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """Return the older manifests with as many pods as the newer ones: going back is no reason to serve less."""
    changed = copy.deepcopy(list(older))
    before, now = _autoscaler(changed), _autoscaler(newer)
    if before is not None and now is not None:
        for bound in ("minReplicas", "maxReplicas"):
            before["spec"][bound] = now["spec"].get(bound, before["spec"].get(bound))
    if before is None and now is None:
        deployment_of(changed)["spec"]["replicas"] = deployment_of(newer)["spec"].get("replicas", 1)
    return tuple(changed)


def needed_permissions(
    manifests: Sequence[Manifest], *, verbs: Sequence[str] = ("get", "create", "patch", "delete")
) -> tuple[Permission, ...]:
    """Return what doing this with them needs; by default applying them, watching them and taking them back."""
    needed = {Permission(*one) for one in _WHILE_WAITING if "patch" in verbs}
    for one in manifests:
        group = str(one["apiVersion"]).rpartition("/")[0]
        needed |= {Permission(verb, group, KINDS[one["kind"]][1]) for verb in verbs}
    return tuple(sorted(needed))
