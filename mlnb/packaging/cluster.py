"""One namespace of a Kubernetes cluster: read, apply and delete objects of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from mlnb.errors import ClusterError
from mlnb.packaging.cluster_errors import CONFLICT, NOT_FOUND, missing_namespace, no_permission
from mlnb.packaging.cluster_objects import KINDS, MANAGER, Place
from mlnb.packaging.rollout import Watched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.packaging.cluster_objects import Manifest, Permission

__all__ = ["Cluster", "Request"]

_APPLY = "application/apply-patch+yaml"
_AT_ONCE = 8  # questions about permissions
_FORBIDDEN = 403


class Request(Protocol):
    """Asks the API server, and raises ClusterError with ``details["code"]`` where it refuses."""

    def __call__(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """Return the answer as a dict, or as text where it is no JSON."""
        ...


class Cluster:
    """One namespace.

    Parameters
    ----------
    request : Request
    context, namespace : str
    """

    def __init__(self, request: Request, *, context: str, namespace: str) -> None:
        self.context = context
        self.namespace = namespace
        self._request = request

    def check(self, permissions: Sequence[Permission]) -> None:
        """Raise ClusterError if the namespace is missing, or something that is needed is not allowed there."""
        try:
            self._request("GET", f"/api/v1/namespaces/{self.namespace}", what=f"get Namespace {self.namespace}")
        except ClusterError as error:
            if error.details.get("code") == NOT_FOUND:
                raise missing_namespace(self.context, self.namespace) from error
            if error.details.get("code") != _FORBIDDEN:  # one may work in a namespace that one may not look at
                raise
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mlnb-permissions") as asking:
            allowed = list(asking.map(self._may, permissions))
        lacking = [one for one, may in zip(permissions, allowed, strict=True) if not may]
        if lacking:
            raise no_permission(lacking, context=self.context, namespace=self.namespace)

    def _may(self, permission: Permission) -> bool:
        resource, _, part = permission.resource.partition("/")
        asked = {"namespace": self.namespace, "verb": permission.verb, "group": permission.group, "resource": resource}
        review = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked | ({"subresource": part} if part else {})},
        }  # fmt: skip
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(
            self._request("POST", path, what=f"ask whether one may {permission}", body=review)["status"]["allowed"]
        )

    def served(self) -> tuple[str, ...]:
        """Return all ``group/version`` that the cluster serves."""
        groups = self._request("GET", "/apis", what="list API groups")["groups"]
        return tuple(one["groupVersion"] for group in groups for one in group["versions"])

    def get(self, place: Place) -> Manifest | None:
        """Return an object, None if it is not there."""
        try:
            found: Manifest = self._request("GET", place.path, what=f"get {place}")
        except ClusterError as error:
            if error.details.get("code") != NOT_FOUND:
                raise
            return None
        return found

    def list(self, kind: str, *, api_version: str = "", labels: str = "") -> tuple[Manifest, ...]:
        """Return the objects of a kind that have these labels."""
        place = Place(api_version or KINDS[kind][0], kind, self.namespace)
        found = self._listed(place.path, what=f"list {KINDS[kind][1]}", labelSelector=labels)
        return tuple({**one, "apiVersion": place.api_version, "kind": kind} for one in found)

    def _listed(self, path: str, *, what: str, **query: str) -> tuple[Manifest, ...]:
        return tuple(self._request("GET", path, what=what, query=query)["items"])

    def apply(self, place: Place, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Make an object what the manifest says, as far as mlnb holds its fields; return what became of it."""
        query = {"fieldManager": MANAGER} | ({"dryRun": "All"} if dry_run else {})
        applied: Manifest = self._request(
            "PATCH", place.path, what=f"apply {place}", query=query, body=manifest, content_type=_APPLY
        )
        return applied

    def delete(self, place: Place, live: Manifest) -> None:
        """Delete this object, and not another one that has got its name in the meantime."""
        body = {"preconditions": {"uid": live["metadata"]["uid"]}, "propagationPolicy": "Background"}
        try:
            self._request("DELETE", place.path, what=f"delete {place}", body=body)
        except ClusterError as error:
            if error.details.get("code") not in (NOT_FOUND, CONFLICT):
                raise

    def look(self, name: str) -> Watched | None:
        """Return what there is to see of a deployment, None if it is not there."""
        deployment = self.get(Place("apps/v1", "Deployment", self.namespace, name))
        if deployment is None:
            return None
        labels = ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())
        core, apps = (f"{root}/namespaces/{self.namespace}" for root in ("/api/v1", "/apis/apps/v1"))
        return Watched(
            deployment=deployment,
            replica_sets=self._listed(f"{apps}/replicasets", what="list replicasets", labelSelector=labels),
            pods=self._listed(f"{core}/pods", what="list pods", labelSelector=labels),
            events=self._listed(
                f"{core}/events", what="list events", fieldSelector="involvedObject.kind=Pod,type=Warning"
            ),
        )

    def log(self, pod: str, *, tail: int, container: str = "", previous: bool = False) -> str:
        """Return the last lines that a container wrote, "" if it has not run."""
        query = {"tailLines": str(tail)} | ({"container": container} if container else {})
        path = f"/api/v1/namespaces/{self.namespace}/pods/{quote(pod, safe='')}/log"
        with suppress(ClusterError):
            query |= {"previous": "true"} if previous else {}
            return str(self._request("GET", path, what=f"get the log of pod {pod}", query=query))
        return ""
