"""The deployer on a real cluster: each test in a namespace of its own."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from clusters import CONNECTIONS, TOKEN, Little, Load, Namespace, config, connected, images_of, manifests_of
from threads import mlnb_threads
from waiting import free_port, wait_until

from mlnb.errors import ClusterError, InvalidInputError
from mlnb.packaging import rolling
from mlnb.packaging.cluster_objects import Permission
from mlnb.packaging.kubernetes import KubernetesDeployer, contexts
from mlnb.packaging.progress import Progress
from mlnb.packaging.subject import Measured
from mlnb.scaling.autoscale import Autoscale

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="session")
def cluster() -> str:
    """The context of the cluster that KUBECONFIG names."""
    return connected()


@pytest.fixture(scope="module")
def little(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Little]:
    yield from images_of(tmp_path_factory.mktemp("image"))


@pytest.fixture
def space(cluster: str) -> Iterator[Namespace]:
    with Namespace(cluster) as made:
        yield made


def _asked(url: str) -> httpx.Response:
    return httpx.post(f"{url}/predict", json={}, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)


def test_a_deployment_from_its_plan_to_its_end(space: Namespace, little: Little, tmp_path: Path) -> None:
    deployer, news = space.deployer, list[Progress]()
    wanted = manifests_of(deployer, config(little.tag(1), space.name))
    planned = deployer.plan(wanted, token=TOKEN)
    assert {one.action for one in planned} == {"create"}
    assert "Secret" in {one.kind for one in planned}
    assert TOKEN not in planned._repr_html_()
    assert base64.b64encode(TOKEN.encode()).decode() not in planned._repr_html_()
    assert space.ask("GET", space.apps("deployments"))["items"] == []

    status = deployer.deploy(wanted, token=TOKEN, watch=news.append)
    assert (status.ready, status.wanted, status.revision, status.complete) == (2, 2, 1, True)
    assert all(pod.ready and pod.node and pod.current for pod in status.pods)
    assert [news[-1].state, news[-1].share] == ["done", 1.0]
    assert all(space.name in one.text and space.context in one.text for one in news)
    assert f"namespace {space.name}" in repr(status)

    assert _asked(space.reached("iris")).json() == {"version": "1"}  # by the Service
    with deployer.forward("iris") as url:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert [client.post("/predict", json={}).json()["version"] for _ in range(20)] == ["1"] * 20
        assert httpx.get(f"{url}/predict").status_code == 401
    assert not mlnb_threads()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    looking = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["list"]},
               {"apiGroups": ["apps", "autoscaling"], "resources": ["*"], "verbs": ["get"]}]  # fmt: skip
    kubeconfig = _lesser(space, tmp_path, looking)
    with (
        KubernetesDeployer(context="lesser", namespace=space.name, kubeconfig=kubeconfig) as lesser,
        pytest.raises(ClusterError, match=r"lacks `(get|create) pods/portforward`"),
        lesser.forward("iris"),
    ):
        pass
    with pytest.raises(ClusterError, match=r'forward port 8000 of pod gone .*pods "gone" not found'):
        deployer._client.connect("gone", 8000)

    assert not deployer.plan(wanted).changed  # with the token that is there
    changes = deployer.plan(manifests_of(deployer, config(little.tag(1), space.name, pods=3)))
    assert [(row.path, row.old, row.new) for one in changes for row in one.fields if one.kind == "Deployment"] == [
        ("metadata.annotations.dev.mlnb/pods", *_pods_said(changes)), ("spec.replicas", "2", "3"),
    ]  # fmt: skip

    status = deployer.scale("iris", 3)
    assert (status.wanted, status.ready, status.revision) == (3, 3, 1)
    with pytest.raises(InvalidInputError, match="need an autoscaler"):
        deployer.scale("iris", (1, 4))
    space.ask("PATCH", space.apps("deployments/iris") + "?fieldManager=kubectl", {"spec": {"replicas": 4}})
    with pytest.raises(ClusterError, match=r"held by others.*\.spec\.replicas .*kubectl"):
        deployer.scale("iris", 2)
    space.ask("PATCH", space.apps("deployments/iris") + "?fieldManager=kubectl", {"spec": {"replicas": 3}})
    assert deployer.logs("iris").count("serving version 1") == 3
    with pytest.raises(ClusterError, match="did you mean 'iris'"):
        deployer.status("irsi")
    assert set(deployer.delete("iris")) == {
        "ServiceAccount iris", "Secret iris-token", "Service iris", "PodDisruptionBudget iris", "Deployment iris",
    }  # fmt: skip
    with pytest.raises(ClusterError, match="there are none yet"):
        deployer.delete("iris")


def _pods_said(changes: Any) -> tuple[str, str]:
    row = next(row for one in changes for row in one.fields if row.path.endswith("dev.mlnb/pods"))
    return row.old, row.new


def test_a_rolling_update_and_the_way_back_fail_no_request(space: Namespace, little: Little) -> None:
    deployer = space.deployer
    deployer.deploy(manifests_of(deployer, config(little.tag(1), space.name)), token=TOKEN)
    url = space.reached("iris")
    with Load(url, pause=0.02) as load:
        wait_until(lambda: load.seen["1"] > 10 * CONNECTIONS)
        status = deployer.deploy(manifests_of(deployer, config(little.tag(2), space.name)), token=TOKEN)
        assert (status.image, status.revision) == (little.tag(2), 2)
        wait_until(lambda: load.seen["2"] > 10 * CONNECTIONS)
        status = deployer.rollback("iris")
        assert (status.image, status.revision) == (little.tag(1), 3)
        before = load.seen["1"]
        wait_until(lambda: load.seen["1"] > before + 10 * CONNECTIONS)
    assert load.failed == []


def test_an_image_that_is_not_there_is_said_at_once_and_taken_back(space: Namespace, little: Little) -> None:
    deployer, news = space.deployer, list[Progress]()
    bad = manifests_of(deployer, config("mlnb-test-nowhere:1", space.name, pods=1))
    with pytest.raises(ClusterError, match=r"(?s)pod iris-.*ErrImageNeverPull.*load it there.*deleted again"):
        deployer.deploy(bad, token=TOKEN, rollback_on_failure=True, watch=news.append)
    assert news[-1].state == "running"
    assert any(one.state == "failed" for one in news)
    for kind in ("secrets/iris-token", "services/iris", "serviceaccounts/iris"):
        with pytest.raises(ClusterError, match="not found"):
            space.ask("GET", space.core(kind))

    good = manifests_of(deployer, config(little.tag(1), space.name, pods=1))
    deployer.deploy(good, token=TOKEN)
    with pytest.raises(ClusterError, match=r"put back\. Its pods are ready"):
        deployer.deploy(bad, token=f"{TOKEN}-too", rollback_on_failure=True)
    status = deployer.status("iris")
    assert (status.image, status.ready, len([pod for pod in status.pods if pod.current])) == (little.tag(1), 1, 1)
    assert not deployer.plan(good, token=TOKEN).changed


def test_what_keeps_pods_from_coming_up_is_named(
    space: Namespace, little: Little, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "_PATIENCE", 3.0)
    large = Measured(cores=900, memory=40 * 2**20)
    tried = {
        "crashing": (config(little.tag(1, "failing"), space.name, name="crashing", pods=1),
                     r"(?s)CrashLoopBackOff.*the model is not what it was"),
        "eating": (config(little.tag(1, "eating"), space.name, name="eating", pods=1), "OOMKilled.*larger limit"),
        "huge": (config(little.tag(1), space.name, name="huge", pods=1, measured=large), "Unschedulable.*Insufficient"),
    }  # fmt: skip

    def failure(name: str) -> str:
        with pytest.raises(ClusterError) as caught:
            space.deployer.deploy(manifests_of(space.deployer, tried[name][0]), token=TOKEN, timeout=60)
        return str(caught.value)

    with ThreadPoolExecutor(len(tried)) as pool:
        said = dict(zip(tried, pool.map(failure, tried), strict=True))
    for name, (_, expected) in tried.items():
        assert re.search(expected, said[name]), said[name]


def test_an_autoscaler_in_the_version_that_the_cluster_serves(space: Namespace, little: Little) -> None:
    deployer = space.deployer
    measured = Measured(cores=0.05, memory=40 * 2**20, autoscale=Autoscale.of(1, 3))
    scaled = config(little.tag(1), space.name, pods=None, measured=measured)
    status = deployer.deploy(manifests_of(deployer, scaled), token=TOKEN)
    assert status.autoscaler is not None
    assert (status.autoscaler.least, status.autoscaler.most) == (1, 3)
    status = deployer.scale("iris", 2)
    assert "at its next look" in status.notes[0]
    assert status.autoscaler is not None
    assert (status.autoscaler.least, status.autoscaler.most) == (2, 2)
    wait_until(lambda: deployer.status("iris").ready == 2, seconds=40)
    newer = config(little.tag(2), space.name, pods=None, measured=measured)
    status = deployer.deploy(manifests_of(deployer, newer), token=TOKEN, wait=False)
    assert status.wanted == 2  # as many as the autoscaler has made them
    fixed = config(little.tag(2), space.name, pods=1)
    planned = deployer.plan(manifests_of(deployer, fixed))
    assert [(one.kind, one.action) for one in planned if one.action == "delete"] == [
        ("HorizontalPodAutoscaler", "delete")
    ]
    assert deployer.deploy(manifests_of(deployer, fixed), token=TOKEN, wait=False).autoscaler is None


def test_objects_of_others_are_not_touched(space: Namespace, little: Little) -> None:
    deployer = space.deployer
    mine = config(little.tag(1), space.name, pods=1)
    wanted = manifests_of(deployer, mine)
    labels = mine.labels | {"dev.mlnb/deployment": "iris"}
    settings = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "iris-token", "labels": labels}}
    space.ask("POST", space.core("secrets"), settings)
    with pytest.raises(ClusterError, match=r"Secret iris-token .* was not made by mlnb"):
        deployer.deploy(wanted, token=TOKEN)
    assert space.ask("GET", space.apps("deployments"))["items"] == []
    space.ask("DELETE", space.core("secrets/iris-token"))

    pod = wanted[2]["spec"]["template"]["spec"] | {"serviceAccountName": "default"}
    others = {
        space.core("pods"): {"kind": "Pod", "spec": pod},
        space.core("secrets"): {"kind": "Secret"},
        space.core("services"): {"kind": "Service", "spec": wanted[1]["spec"]},
        space.core("serviceaccounts"): {"kind": "ServiceAccount"},
        space.apps("deployments"): wanted[2] | {"spec": wanted[2]["spec"] | {"replicas": 0}},
    }  # fmt: skip
    for path, body in others.items():
        space.ask("POST", path, {"apiVersion": "v1"} | body | {"metadata": {"name": "foreign", "labels": labels}})
    before = {path: _settled(space, path) for path in others}
    deployer.deploy(wanted, token=TOKEN)
    deployer.deploy(manifests_of(deployer, replace(mine, image=little.tag(2))), token=TOKEN, wait=False)
    deployer.scale("iris", 0)
    status = deployer.rollback("iris")
    assert (status.image, status.wanted) == (little.tag(1), 0)  # as many as before
    assert all(pod.name != "foreign" for pod in status.pods)
    for verb in (deployer.status, deployer.delete, deployer.rollback):
        with pytest.raises(ClusterError, match=r"Deployment foreign .* was not made by mlnb for 'foreign'"):
            verb("foreign")
    deployer.delete("iris")
    assert {path: _settled(space, path) for path in others} == before


def _settled(space: Namespace, path: str) -> Any:
    """Return what a person wrote of the object "foreign"; its status is the cluster's."""
    found = space.ask("GET", f"{path}/foreign")
    metadata = found["metadata"]
    assert not metadata.get("deletionTimestamp")
    return (
        metadata["uid"],
        metadata.get("labels"),
        metadata.get("ownerReferences"),
        found.get("spec"),
        found.get("data"),
    )


def test_what_is_cut_off_halfway_is_taken_back(space: Namespace, little: Little, tmp_path: Path) -> None:
    wanted = manifests_of(space.deployer, config(little.tag(1), space.name, pods=1))
    kubeconfig = _lesser(space, tmp_path, _rules(["*"]))
    role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space.name}/roles/lesser"
    with KubernetesDeployer(context="lesser", namespace=space.name, kubeconfig=kubeconfig) as lesser:

        def take_away(news: Progress) -> None:
            if "applying" in news.text:
                space.ask("PUT", role, {"metadata": {"name": "lesser"}, "rules": _rules(["get", "list", "delete"])})
                wait_until(lambda: not lesser._cluster._may(Permission("patch", "apps", "deployments")))

        with pytest.raises(ClusterError, match=r"lacks `patch deployments\.apps`.* deleted again"):
            lesser.deploy(wanted, token=TOKEN, watch=take_away)
    _nothing_is_there(space)


def test_nothing_is_applied_where_one_may_not_or_the_server_refuses(
    space: Namespace, little: Little, tmp_path: Path
) -> None:
    wanted = manifests_of(space.deployer, config(little.tag(1), space.name, pods=1))
    kubeconfig = _lesser(space, tmp_path, _rules(["get", "list", "delete"]))
    with (
        KubernetesDeployer(context="lesser", namespace=space.name, kubeconfig=kubeconfig) as lesser,
        pytest.raises(ClusterError, match=r"lacks `create deployments\.apps`, `patch deployments\.apps`\. Ask"),
    ):
        lesser.deploy(wanted, token=TOKEN)
    spoilt = [*wanted[:-1], wanted[-1] | {"spec": {"maxUnavailable": "many", "selector": {}}}]
    with pytest.raises(ClusterError, match=r"PodDisruptionBudget iris .* refused"):
        space.deployer.deploy(spoilt, token=TOKEN)
    with pytest.raises(InvalidInputError, match="token=''"):
        space.deployer.deploy(wanted, token="")
    _nothing_is_there(space)


def _nothing_is_there(space: Namespace) -> None:
    for path in (space.apps("deployments"), space.core("services")):
        assert space.ask("GET", path)["items"] == []
    with pytest.raises(ClusterError, match="not found"):
        space.ask("GET", space.core("secrets/iris-token"))


def _rules(verbs: list[str]) -> list[dict[str, list[str]]]:
    """Return what allows everything that a deployment needs, but of Deployments only these verbs."""
    return [
        {"apiGroups": ["", "policy", "autoscaling"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": verbs},
    ]


def _lesser(space: Namespace, folder: Path, rules: list[dict[str, list[str]]]) -> Path:
    """Return a kubeconfig of an account that may do only this."""
    name, roles = "lesser", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space.name}"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": space.name}
    for path, body in (
        (space.core("serviceaccounts"), {}),
        (f"{roles}/roles", {"rules": rules}),
        (f"{roles}/rolebindings", {"roleRef": role, "subjects": [subject]}),
    ):
        space.ask("POST", path, {"metadata": {"name": name}} | body)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = space.ask("POST", space.core(f"serviceaccounts/{name}/token"), asked)["status"]["token"]
    given = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    context = {"name": name, "context": {"cluster": given["contexts"][0]["context"]["cluster"], "user": name}}
    given |= {"users": [{"name": name, "user": {"token": token}}], "contexts": [context], "current-context": name}
    (folder / "kubeconfig").write_text(yaml.safe_dump(given))
    return folder / "kubeconfig"


def test_where_it_is_to_go_must_be_there(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=f"both are needed.*{cluster}"):
        KubernetesDeployer(context="", namespace="models")
    with pytest.raises(ClusterError, match=f"No context 'nowhere' in .*; there are: .*{cluster}"):
        KubernetesDeployer(context="nowhere", namespace="models")
    with pytest.raises(ClusterError, match=r"no kubeconfig with contexts at .*missing"):
        KubernetesDeployer(context="any", namespace="models", kubeconfig=tmp_path / "missing")
    (tmp_path / "broken").write_text("{")
    with pytest.raises(ClusterError, match="broken cannot be read"):
        contexts(tmp_path / "broken")
    with pytest.raises(InvalidInputError, match=r"namespace='\.\./x'.*for instance 'team-a'"):
        KubernetesDeployer(context=cluster, namespace="../x")
    with KubernetesDeployer(context=cluster, namespace="mlnb-test-missing") as deployer:
        assert repr(deployer) == f"<Kubernetes: context {cluster}, namespace mlnb-test-missing>"
        wanted = manifests_of(deployer, config("none:1", "mlnb-test-missing"))
        for verb in (
            lambda: deployer.deploy(wanted, token=TOKEN),
            lambda: deployer.plan(wanted),
            lambda: deployer.status("iris"),
        ):
            with pytest.raises(ClusterError, match=f"kubectl --context {cluster} create namespace mlnb-test-missing"):
                verb()
        with pytest.raises(InvalidInputError, match="is of namespace 'mlnb-test-missing', and this deployer of"):
            KubernetesDeployer(context=cluster, namespace="other").deploy(wanted, token=TOKEN)


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    named = {
        "clusters": [{"name": "gone", "cluster": {"server": server}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "nobody"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config"} | named))
    with (
        KubernetesDeployer(context="gone", namespace="models", kubeconfig=tmp_path / "kubeconfig") as deployer,
        pytest.raises(ClusterError, match=rf"No cluster answers at {server} \(context 'gone'\)"),
    ):
        deployer.status("iris")
