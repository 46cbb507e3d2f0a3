"""How far a rollout has come, and why it cannot go on."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mlnb.packaging.cluster_status import status_of
from mlnb.packaging.parity import Parity
from mlnb.packaging.rollout import Watched, judge, replica_sets_of, stalled

_DIED = {"terminated": {"reason": "Error", "exitCode": 3}}
_REVISION = "deployment.kubernetes.io/revision"


def _deployment(*, wanted: int = 2, seen: int = 1, conditions: Any = (), **counts: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "iris", "uid": "d", "generation": 1, "annotations": {_REVISION: "2"}},
        "spec": {"replicas": wanted, "template": {"spec": {"containers": [{"name": "model", "image": "iris:2"}]}}},
        "status": {"observedGeneration": seen, "conditions": list(conditions), **counts},
    }


def _replica_set(uid: str, revision: int, owner: str = "d") -> dict[str, Any]:
    metadata = {"uid": uid, "ownerReferences": [{"uid": owner}], "annotations": {_REVISION: str(revision)}}
    return {"metadata": metadata}


def _pod(name: str, owner: str = "new", *, conditions: Any = (), **container: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "ownerReferences": [{"uid": owner}], "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "node1", "containers": [{"name": "model", "image": "iris:2"}]},
        "status": {
            "phase": "Running", "conditions": list(conditions),
            "containerStatuses": [{"name": "model", "restartCount": 0, "ready": False, "state": {}} | container],
        },
    }  # fmt: skip


def _waiting(reason: str, message: str = "why", **container: Any) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}} | container


def _watched(*pods: dict[str, Any], deployment: dict[str, Any] | None = None, events: Any = ()) -> Watched:
    sets = (_replica_set("old", 1), _replica_set("new", 10), _replica_set("foreign", 99, owner="another"))
    return Watched(deployment=deployment or _deployment(), replica_sets=sets, pods=pods, events=tuple(events))


@pytest.mark.parametrize(
    ("deployment", "state", "text", "share"),
    [
        (_deployment(seen=0, replicas=2, updatedReplicas=2, availableReplicas=2), "running", "0 of 2 pods ready", 0),
        (_deployment(), "running", "0 of 2 pods ready", 0),
        (_deployment(replicas=3, updatedReplicas=1, readyReplicas=2), "running",
         "0 of 2 pods ready, 2 of before still there", 1 / 6),
        (_deployment(replicas=3, updatedReplicas=2, readyReplicas=3, availableReplicas=3), "running",
         "2 of 2 pods ready, 1 of before still there", 1),
        (_deployment(replicas=2, updatedReplicas=2, readyReplicas=2, availableReplicas=2), "done",
         "2 of 2 pods ready", 1),
        (_deployment(wanted=1, replicas=2, updatedReplicas=1, readyReplicas=1), "running",
         "0 of 1 pod ready, 1 of before still there", 1 / 3),
        (_deployment(wanted=0), "done", "0 of 0 pods ready", 1),
    ],
)  # fmt: skip
def test_progress(deployment: dict[str, Any], state: str, text: str, share: float) -> None:
    rollout = judge(_watched(deployment=deployment))
    assert [rollout.state, rollout.text] == [state, text]
    assert rollout.share == pytest.approx(share)


@pytest.mark.parametrize(
    ("container", "reason", "next_step"),
    [
        (_waiting("ErrImageNeverPull"), "ErrImageNeverPull", "load it there"),
        (_waiting("ImagePullBackOff"), "ImagePullBackOff", r"package.push\(\)"),
        (_waiting("InvalidImageName"), "InvalidImageName", "imagePullSecret"),
        (_waiting("CreateContainerConfigError"), "CreateContainerConfigError", "Secret"),
        (_waiting("CrashLoopBackOff", lastState=_DIED, restartCount=1), "CrashLoopBackOff", "log lines"),
        ({"state": _DIED, "restartCount": 2}, "CrashLoopBackOff", "log lines"),
        ({"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}, "OOMKilled", "larger limit"),
        (_waiting("CrashLoopBackOff", lastState={"terminated": {"reason": "OOMKilled"}}), "OOMKilled", "memory"),
        (_waiting("ContainerCreating"), None, ""),
        ({"state": _DIED, "restartCount": 0}, None, ""),  # once may be chance
        ({"ready": True, "state": {"running": {}}, "lastState": _DIED, "restartCount": 5}, None, ""),
    ],
)
def test_a_container_that_will_not_run(container: dict[str, Any], reason: str | None, next_step: str) -> None:
    rollout = judge(_watched(_pod("iris-1", **container)))
    assert (rollout.state, rollout.trouble and rollout.trouble.reason) == ("failed" if reason else "running", reason)
    if rollout.trouble is not None:
        assert (rollout.trouble.pod, rollout.trouble.container) == ("iris-1", "model")
        assert re.search(next_step, rollout.trouble.next_step)


def test_only_pods_of_the_newest_template_count() -> None:
    bad = _waiting("ImagePullBackOff")
    assert judge(_watched(_pod("old", "old", **bad), _pod("foreign", "foreign", **bad))).state == "running"
    assert [one["metadata"]["uid"] for one in replica_sets_of(_watched())] == ["new", "old"]


def test_a_pod_without_a_node_may_get_one() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    watched = _watched(_pod("iris-1", conditions=[condition]))
    rollout = judge(watched)
    assert rollout.state == "running"
    assert rollout.text == "0 of 2 pods ready; pod iris-1: Unschedulable: 0/1 nodes."
    late = stalled(watched, 10)
    assert late.state == "failed"
    assert late.trouble is not None
    assert "add a node" in late.trouble.next_step


def test_what_may_pass_has_some_patience() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "of before"}
    for watched, next_step in (
        (_watched(_pod("iris-1", **_waiting("ErrImagePull", "TLS handshake timeout"))), "imagePullSecret"),
        (_watched(deployment=_deployment(conditions=[late])), "logs"),  # as it stays after going back
    ):
        rollout, after = judge(watched), stalled(watched, 10)
        assert (rollout.state, after.state) == ("running", "failed")
        assert rollout.trouble == after.trouble
        assert rollout.trouble is not None
        assert next_step in rollout.trouble.next_step


@pytest.mark.parametrize(
    ("condition", "next_step"),
    [
        ({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}, "quota"),
        ({"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError", "message": "no"}, "logs"),
    ],
)
def test_what_the_deployment_itself_says(condition: dict[str, str], next_step: str) -> None:
    rollout = judge(_watched(deployment=_deployment(conditions=[condition])))
    assert rollout.state == "failed"
    assert rollout.trouble is not None
    assert str(rollout.trouble) == f"{condition['reason']}: {condition['message']}."
    assert next_step in rollout.trouble.next_step


def test_too_long_is_said_with_the_last_warning() -> None:
    def warning(at: str, message: str, pod: str = "iris-1", kind: str = "Warning") -> dict[str, Any]:
        return {"type": kind, "reason": "Unhealthy", "message": message, "lastTimestamp": at, "metadata": {},
                "involvedObject": {"name": pod}}  # fmt: skip

    events = [warning("02", "status 503"), warning("01", "refused"), warning("03", "no", "another"),
              warning("04", "fine", kind="Normal")]  # fmt: skip
    ready = {"type": "Ready", "status": "True"}
    watched = _watched(_pod("iris-0", conditions=[ready], ready=True), _pod("iris-1"), events=events)
    rollout = stalled(watched, 180.2)
    assert rollout.state == "failed"
    assert str(rollout.trouble) == "pod iris-1: NotReady: not ready after 180 s. Event: Unhealthy: status 503"
    assert str(stalled(None, 1).trouble) == "NotFound: the Deployment was deleted meanwhile."


def test_a_status_shows_itself() -> None:
    old = _pod("iris-a", "old", ready=True, state={"running": {}})
    new = _pod("iris-b", **_waiting("ImagePullBackOff", "no <image>", restartCount=1))
    ending = _pod("iris-c", "old")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    deployment = _deployment(wanted=1, replicas=2, updatedReplicas=1, readyReplicas=1)
    spec = {"minReplicas": 1, "maxReplicas": 4, "targetCPUUtilizationPercentage": 70}
    scaler = {"spec": spec, "status": {"currentReplicas": 1, "desiredReplicas": 2}}
    watched = _watched(new, ending, old, _pod("foreign", "foreign"), deployment=deployment)
    status = status_of(
        watched, context="test", namespace="models", autoscaler=scaler, notes=("Said.",),
        now=datetime(2026, 1, 1, 0, 2, tzinfo=UTC),
    )  # fmt: skip
    assert [(pod.name, pod.state, pod.ready, pod.current) for pod in status.pods] == [
        ("iris-b", "ImagePullBackOff", False, True),
        ("iris-c", "Stopping", False, False),
        ("iris-a", "Running", True, False),
    ]
    assert not status.complete
    assert status.pods[0].note == "1 restart; no <image>"
    assert repr(status).splitlines() == [
        "iris: 1 of 1 pods ready, iris:2, revision 2 (context test, namespace models)",
        "autoscaler: 1 to 4 pods, 1 there, 2 wanted, CPU unknown of 70 %",
        "Said.",
        "  iris-b  ImagePullBackOff  1 restart   2m  node1  iris:2  no <image>",
        "  iris-c  Stopping          0 restarts  2m  node1  iris:2",
        "  iris-a  ready             0 restarts  2m  node1  iris:2",
    ]
    shown = status._repr_html_()
    assert "no &lt;image&gt;" in shown
    assert "<image>" not in shown
    asked = Parity(where="cluster", rows=3)
    assert "3 of 3 golden rows" in repr(replace(status, parity=asked))
