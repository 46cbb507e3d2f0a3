"""What is applied, refused and put back, in a cluster of dicts."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from clusters import TOKEN, config

from mlnb.errors import ClusterError
from mlnb.packaging.applying import Applying
from mlnb.packaging.cluster import Cluster
from mlnb.packaging.cluster_objects import APPLIED, KINDS, Manifest
from mlnb.packaging.manifests import ServedApis
from mlnb.packaging.progress import unwatched
from mlnb.packaging.subject import Measured
from mlnb.scaling.autoscale import Autoscale

_SCALED = Measured(cores=0.05, memory=40 * 2**20, autoscale=Autoscale.of(2, 4))
_DEPLOYMENT, _SCALER = ("deployments", "iris"), ("horizontalpodautoscalers", "iris")
_DONE = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
_REFUSED = {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}]}


class _Server:
    """Answers as an API server does, of which the image ``bad`` does not come up."""

    def __init__(self) -> None:
        self.there: dict[tuple[str, str], Manifest] = {}
        self.served = {"v1", "apps/v1", "policy/v1", "autoscaling/v1", "autoscaling/v2", "networking.k8s.io/v1"}
        self.autoscaled = list[int]()  # what an autoscaler changes the number of pods to, at each change of them
        self.tried = list[int]()

    def __call__(
        self, method: str, path: str, *, what: str, query: Mapping[str, str] | None = None, body: Any = None,
        content_type: str = "",  # noqa: ARG002 - as it is asked
    ) -> Any:  # fmt: skip
        root, _, rest = path.partition("/namespaces/models/")
        if not rest:
            groups = [{"versions": [{"groupVersion": one} for one in self.served]}]
            return {"groups": groups, "status": {"allowed": True}}
        version, (kind, _, name) = root.removeprefix("/apis/").removeprefix("/api/"), rest.partition("/")
        if version not in self.served or (method != "PATCH" and name and (kind, name) not in self.there):
            raise ClusterError(f"{what}: not found", code=404)
        if method == "PATCH":
            return self._apply(kind, body, dry_run="dryRun" in (query or {}))
        if method == "DELETE":
            return self.there.pop((kind, name))
        if name:
            return copy.deepcopy(self.there[kind, name]) | {"apiVersion": version}
        return {"items": [one for (of, _), one in copy.deepcopy(self.there).items() if of == kind]}

    def _apply(self, kind: str, body: Manifest, *, dry_run: bool) -> Manifest:
        applied, place = copy.deepcopy(body), (kind, body["metadata"]["name"])
        if kind == "deployments":
            wanted, live = body["spec"].setdefault("replicas", 1), self.there.get(place)
            self.tried.append(wanted)
            if self.autoscaled and live is not None and not dry_run:
                live["spec"]["replicas"] = self.autoscaled.pop()
            if _SCALER in self.there and live is not None and wanted != live["spec"]["replicas"]:
                raise ClusterError(".spec.replicas is held by others", code=409)
            applied["status"] = _REFUSED | {"observedGeneration": 1} if "bad" in json.dumps(body) else _of(wanted)
        applied["metadata"] |= {"uid": str(place), "managedFields": [{"manager": "mlnb", "operation": "Apply"}]}
        if not dry_run:
            self.there[place] = applied
        return applied


def _of(pods: int) -> dict[str, int]:
    return {key: 1 if key == "observedGeneration" else pods for key in _DONE}


@pytest.fixture
def server() -> _Server:
    return _Server()


@pytest.fixture
def applying(server: _Server) -> Applying:
    return Applying(Cluster(server, context="a test", namespace="models"))


def _wanted(applying: Applying, image: str = "iris:1", **changed: Any) -> tuple[Manifest, ...]:
    return applying.stamped(config(image, "models", **changed).manifests(ServedApis()), TOKEN)


def _deploy(applying: Applying, wanted: tuple[Manifest, ...]) -> None:
    applying.deploy(wanted, wait=True, timeout=5, rollback_on_failure=True, watch=unwatched)


def test_a_deployment_without_its_record_is_left_alone(server: _Server, applying: Applying) -> None:
    _deploy(applying, _wanted(applying))
    for lost in ("no JSON", None):
        server.there[_DEPLOYMENT]["metadata"]["annotations"] |= {APPLIED: lost}
        before = copy.deepcopy(server.there)
        for verb in (applying.plan, lambda wanted: _deploy(applying, wanted)):
            with pytest.raises(ClusterError, match=r"Deployment iris .* has lost its annotation .*Delete it and"):
                verb(_wanted(applying, "bad"))
            assert server.there == before
    assert {"Deployment iris", "Service iris", "Secret iris-token"} < set(applying.delete("iris"))
    assert server.there == {}


def test_what_was_there_before_is_not_deleted(server: _Server, applying: Applying) -> None:
    _deploy(applying, _wanted(applying))
    del server.there[_DEPLOYMENT], server.there["services", "iris"]  # by hand
    before = set(server.there)
    with pytest.raises(ClusterError, match=r"FailedCreate.* deleted again"):
        _deploy(applying, _wanted(applying, "bad"))
    assert set(server.there) == before


def test_another_model_does_not_take_a_name(server: _Server, applying: Applying) -> None:
    wanted = _wanted(applying)
    _deploy(applying, wanted)
    before, other = copy.deepcopy(server.there), copy.deepcopy(wanted)
    for one in other:
        one["metadata"].setdefault("annotations", {})["dev.mlnb/model"] = "Iris"
    for verb in (applying.plan, lambda wanted: _deploy(applying, wanted)):
        with pytest.raises(ClusterError, match=r"belongs to the model 'iris', and this is 'Iris'.* another name"):
            verb(other)
    assert server.there == before


def test_a_plan_keeps_the_pods_of_an_autoscaler(server: _Server, applying: Applying) -> None:
    wanted = _wanted(applying, pods=None, measured=_SCALED)
    _deploy(applying, wanted)
    assert not applying.plan(wanted).changed
    server.there[_DEPLOYMENT]["spec"]["replicas"] = 4
    assert not applying.plan(wanted).changed


def test_an_autoscaler_that_acts_meanwhile(server: _Server, applying: Applying) -> None:
    wanted = _wanted(applying, pods=None, measured=_SCALED)
    _deploy(applying, wanted)
    server.tried.clear()
    server.autoscaled = [3]
    _deploy(applying, wanted)
    assert server.tried == [2, 2, 3]  # in the dry run, too early, and again
    server.autoscaled = [2, 4]  # it acts each time
    with pytest.raises(ClusterError, match=r"held by others.* put back"):
        _deploy(applying, wanted)


def test_objects_are_deleted_in_a_version_that_is_served(server: _Server, applying: Applying) -> None:
    _deploy(applying, _wanted(applying, pods=None, measured=_SCALED))
    server.served -= {"autoscaling/v2", "policy/v1"}
    server.served |= {"policy/v1beta1"}
    assert {"HorizontalPodAutoscaler iris", "PodDisruptionBudget iris"} < set(applying.delete("iris"))
    assert server.there == {}


def test_what_was_applied_by_hand_is_named(server: _Server, applying: Applying) -> None:
    for one in config("iris:1", "models").manifests(ServedApis()):
        server.there[KINDS[one["kind"]][1], "iris"] = one
    with pytest.raises(ClusterError, match=r"`kubectl --context 'a test' -n models delete -f kubernetes/`"):
        _deploy(applying, _wanted(applying))
