"""Which objects a deployment consists of, and whose they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlnb.errors import InvalidInputError
from mlnb.packaging.cluster_errors import explain
from mlnb.packaging.cluster_objects import (
    Place,
    deployment_of,
    is_ours,
    keep_scale,
    needed_permissions,
    port_of,
    recorded,
    stamp,
    with_live_scale,
    with_scale,
)

_SCALED = "HorizontalPodAutoscaler"


def _manifests(*, image: str = "iris:1", replicas: int = 2, autoscaler: bool = False) -> tuple[dict[str, Any], ...]:
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "token", "secret": {"secretName": "iris-token"}}]
    template = {"spec": {"containers": [{"name": "model", "image": image}], "volumes": volumes}}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "iris"},
        "spec": {"replicas": replicas, "template": template},
    }  # fmt: skip
    scaler = {
        "apiVersion": "autoscaling/v2", "kind": _SCALED, "metadata": {"name": "iris"},
        "spec": {"minReplicas": 1, "maxReplicas": 4},
    }  # fmt: skip
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "iris"}}
    return (deployment, *([scaler] if autoscaler else []), service)


def _bounds(manifests: tuple[dict[str, Any], ...]) -> tuple[int, int]:
    spec = next(one["spec"] for one in manifests if one["kind"] == _SCALED)
    return spec["minReplicas"], spec["maxReplicas"]


def _replicas(manifests: tuple[dict[str, Any], ...]) -> int:
    return int(deployment_of(manifests)["spec"]["replicas"])


def test_what_is_applied_is_marked_and_recorded_without_the_token() -> None:
    given = _manifests()
    stamped = stamp(given, namespace="models", token="secret")  # noqa: S106 - of the test
    assert given == _manifests()  # nothing of it was changed
    assert [one["kind"] for one in stamped] == ["Secret", "Service", "Deployment"]
    assert all(one["metadata"]["labels"]["dev.mlnb/deployment"] == "iris" for one in stamped)
    assert all(one["metadata"]["namespace"] == "models" for one in stamped)
    assert (stamped[0]["metadata"]["name"], stamped[0]["data"]) == ("iris-token", {"token": "c2VjcmV0"})
    assert "c2VjcmV0" not in json.dumps(stamped[1:])
    other = stamp(given, namespace="models", token="other")  # noqa: S106 - of the test
    assert other[2]["spec"]["template"] != stamped[2]["spec"]["template"]  # pods read the token when they start
    assert stamp(recorded(stamped[2]), namespace="models") == stamped[1:]  # what is recorded can be applied again
    assert recorded(None) == recorded({"metadata": {}}) == ()


@pytest.mark.parametrize(
    ("labels", "manager", "operation", "ours"),
    [
        ({"app.kubernetes.io/managed-by": "mlnb", "dev.mlnb/deployment": "iris"}, "mlnb", "Apply", True),
        ({"app.kubernetes.io/managed-by": "mlnb", "dev.mlnb/deployment": "iris"}, "kubectl", "Apply", False),
        ({"app.kubernetes.io/managed-by": "mlnb", "dev.mlnb/deployment": "iris"}, "mlnb", "Update", False),
        ({"app.kubernetes.io/managed-by": "mlnb", "dev.mlnb/deployment": "iris-2"}, "mlnb", "Apply", False),
        ({"app.kubernetes.io/managed-by": "Helm", "dev.mlnb/deployment": "iris"}, "mlnb", "Apply", False),
        (None, "mlnb", "Apply", False),
    ],
)
def test_whose_an_object_is(labels: dict[str, str] | None, manager: str, operation: str, *, ours: bool) -> None:
    fields = [
        {"manager": "kube-controller-manager", "operation": "Update"},
        {"manager": manager, "operation": operation},
    ]
    assert is_ours({"metadata": {"labels": labels, "managedFields": fields}}, "iris") is ours


def test_scale() -> None:
    fixed, scaled = _manifests(), _manifests(autoscaler=True)
    assert _replicas(with_scale(fixed, 5, 5)) == 5
    assert _bounds(with_scale(scaled, 3, 3)) == (3, 3)
    assert _bounds(with_scale(scaled, 2, 6)) == (2, 6)
    for manifests, least, most in ((fixed, 1, 2), (fixed, -1, -1), (scaled, 0, 2), (scaled, 3, 2)):
        with pytest.raises(InvalidInputError, match=f"{least} to {most} pods"):
            with_scale(manifests, least, most)
    assert with_live_scale(fixed, {"spec": {"replicas": 7}}) == fixed
    assert _replicas(with_live_scale(scaled, {"spec": {"replicas": 7}})) == 7
    assert _replicas(with_live_scale(scaled, None)) == 1
    assert _replicas(keep_scale(fixed, _manifests(replicas=9))) == 9
    assert _bounds(keep_scale(scaled, with_scale(scaled, 2, 6))) == (2, 6)
    assert keep_scale(fixed, scaled) == fixed


def test_a_name_stays_one_part_of_a_path() -> None:
    place = Place("apps/v1", "Deployment", "models", "../../secrets?watch=1#x y")
    assert place.path.endswith("/deployments/..%2F..%2Fsecrets%3Fwatch%3D1%23x%20y")


def test_manifests_that_are_no_deployment() -> None:
    deployment, service = _manifests()
    with pytest.raises(InvalidInputError, match="0 Deployments among 1 manifests"):
        stamp([service], namespace="models")
    with pytest.raises(InvalidInputError, match="ClusterRole 'x'"):
        stamp([deployment, {"apiVersion": "v1", "kind": "ClusterRole", "metadata": {"name": "x"}}], namespace="models")
    elsewhere = service | {"metadata": {"name": "iris", "namespace": "other"}}
    with pytest.raises(InvalidInputError, match=r"'other'.* of 'models'"):
        stamp([deployment, elsewhere], namespace="models")


def test_what_must_be_allowed() -> None:
    needed = [str(one) for one in needed_permissions(_manifests())]
    assert {"patch deployments.apps", "create services", "list replicasets.apps", "get pods/log"} <= set(needed)
    assert [str(one) for one in needed_permissions(_manifests(), verbs=["delete"])] == [
        "delete services", "delete deployments.apps",
    ]  # fmt: skip


def test_the_port_is_the_one_called_http() -> None:
    deployment = deployment_of(_manifests())
    assert port_of(deployment) == 8000
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = [{"containerPort": 1}, {"containerPort": 9000, "name": "http"}]
    assert port_of(deployment) == 9000


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (401, {}, "log in again; `kubectl --context 'a test' get"),
        (403, {"message": 'u cannot list resource "pods" in API group "" in x'}, "lacks `list pods`"),
        (403, {"message": "exceeded quota: small"}, r"refused it \(403\): exceeded quota"),
        (404, {"message": 'namespaces "models" not found'}, "create namespace models"),
        (409, {"details": {"causes": [{"reason": "FieldManagerConflict", "field": ".spec.replicas",
                                       "message": 'conflict with "kubectl"'}]}}, r"\.spec\.replicas \(conflict with"),
        (409, {"message": "object was modified"}, "object was modified"),
        (500, {}, "no reason given"),
    ],
)  # fmt: skip
def test_refusals(code: int, said: dict[str, Any], expected: str) -> None:
    error = explain(code, said, what="patch Deployment iris", context="a test", namespace="models")
    assert error.details == {"code": code}
    with pytest.raises(type(error), match=expected):
        raise error
