from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnb.errors import InvalidInputError
from mlnb.packaging.manifests import CURRENT, KubernetesConfig, ServedApis
from mlnb.packaging.subject import Measured, PackagedModel, ServeOptions
from mlnb.scaling.autoscale import Autoscale

SUBJECT = PackagedModel(
    name="iris", number=3, digest="12e4567", created=datetime(2026, 1, 1, tzinfo=UTC), description="first\nsecond: x",
    model_type="LogisticRegression", python="3.11", requirements=("scikit-learn==1.9.0",), size=2**20,
)  # fmt: skip
PLAIN = KubernetesConfig(subject=SUBJECT, image="images.example.org/team/iris:3")
FOLLOWED = replace(PLAIN, measured=Measured(cores=0.9, service=0.004, autoscale=Autoscale.of(2, 6, p95="50ms")))
CONFIGS = {
    "plain": PLAIN,
    "followed": FOLLOWED,
    "in flight": replace(
        FOLLOWED, measured=Measured(autoscale=Autoscale.of(0, 4, policy="in-flight")), metrics_adapter=True
    ),
    "fixed": replace(FOLLOWED, replicas=3, namespace="team-a", pull_policy="Never", network_policy=True),
    "fetched": replace(PLAIN, subject=replace(SUBJECT, registry="s3://team/models"), network_policy=True),
    "odd texts": replace(FOLLOWED, subject=replace(SUBJECT, description="\x00\u2028{a: *b}\n\t- '\"", commit="1e3")),
    "renamed": replace(PLAIN, subject=replace(SUBJECT, name="Iris..v2."), name="iris-staging"),
}


def _one(config: KubernetesConfig, kind: str, served: ServedApis = CURRENT) -> Any:
    return next(manifest for manifest in config.manifests(served) if manifest["kind"] == kind)


def _pod(config: KubernetesConfig) -> Any:
    if config.kserve:
        return _one(config, "InferenceService")["spec"]["predictor"]
    return _one(config, "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_current_release_takes_all_of_it(name: str) -> None:
    for manifest in CONFIGS[name].manifests():
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def _breaches(pod: Any) -> Iterator[str]:
    """Yield what the restricted profile forbids, field by field as the standard lists them.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and Baseline, which it includes.
    """
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in pod.get("volumes", []):
        yield from (f"volume {kind}" for kind in volume.keys() - {"name"} - allowed)
    whole = pod.get("securityContext", {})
    if {"sysctls", "windowsOptions", "seLinuxOptions", "appArmorProfile"} & whole.keys():
        yield "pod options that Baseline limits"
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in pod.get(kind, []):
            yield from _container_breaches(container, whole)


def _container_breaches(container: Any, whole: Any) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = whole | own
    if own.get("privileged") or own.get("procMount", "Default") != "Default":
        yield "privileged or procMount"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser", 1) == 0 or whole.get("runAsUser", 1) == 0:
        yield "root"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"


@pytest.mark.parametrize("config", [*CONFIGS.values(), replace(FOLLOWED, kserve=True)])
def test_pods_keep_to_the_restricted_standard(config: KubernetesConfig) -> None:
    pod = _pod(config)
    assert list(_breaches(pod)) == []
    context = pod["containers"][0]["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsUser"] == 10001


@pytest.mark.parametrize(
    ("where", "given"),
    [
        ((), {"hostNetwork": True}),
        ((), {"securityContext": {}}),
        ((), {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}),
        (("containers", 0), {"securityContext": {}}),
        (("containers", 0), {"ports": [{"containerPort": 80, "hostPort": 80}]}),
        (("containers", 0, "securityContext"), {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
        (("containers", 0, "securityContext"), {"allowPrivilegeEscalation": True}),
        (("containers", 0, "securityContext"), {"privileged": True}),
        (("containers", 0, "securityContext"), {"runAsUser": 0}),
    ],
)
def test_the_checker_of_the_standard_sees_breaches(where: tuple[Any, ...], given: dict[str, Any]) -> None:
    pod = yaml.safe_load(yaml.safe_dump(_pod(PLAIN)))
    place = pod
    for step in where:
        place = place[step]
    place.update(given)
    assert list(_breaches(pod))


@pytest.mark.parametrize("name", CONFIGS)
def test_files_are_one_object_each_in_the_order_to_apply(name: str) -> None:
    config = CONFIGS[name]
    files = config.files()
    assert [yaml.safe_load(files[path]) for path in sorted(files)] == list(config.manifests())
    assert list(files) == sorted(files)
    assert all(path.startswith("kubernetes/") and path.endswith(".yaml") for path in files)
    assert config.files() == files


def test_names_of_the_files() -> None:
    assert list(replace(FOLLOWED, network_policy=True).files()) == [
        "kubernetes/1-service-account.yaml", "kubernetes/2-network-policy.yaml", "kubernetes/3-service.yaml",
        "kubernetes/4-deployment.yaml", "kubernetes/6-pod-disruption-budget.yaml",
        "kubernetes/7-horizontal-pod-autoscaler.yaml",
    ]  # fmt: skip
    assert "kubernetes/5-inference-service.yaml" in replace(FOLLOWED, kserve=True).files()


def test_selectors_are_those_of_all_versions() -> None:
    new = replace(PLAIN, subject=replace(SUBJECT, number=4, digest="ff"), image="iris:4")
    for config in (PLAIN, new):
        spec = _one(config, "Deployment")["spec"]
        labels = spec["template"]["metadata"]["labels"]
        selector = {"app.kubernetes.io/name": "iris", "app.kubernetes.io/instance": "iris"}
        assert spec["selector"]["matchLabels"] == selector
        assert _one(config, "Service")["spec"]["selector"] == selector
        assert _one(config, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selector
        assert selector.items() <= labels.items()
        assert labels["app.kubernetes.io/managed-by"] == "mlnb"
        assert labels["app.kubernetes.io/version"] == str(config.subject.number)
    other = replace(PLAIN, name="iris-staging")
    assert other.selector != PLAIN.selector


def test_requests_and_limits_are_what_was_measured() -> None:
    measured = Measured(memory=200 * 2**20, cores=0.42, startup=20.0)
    container = _pod(replace(PLAIN, measured=measured))["containers"][0]
    assert container["resources"] == {
        "requests": {"cpu": "420m", "memory": "296Mi"}, "limits": {"cpu": "1000m", "memory": "592Mi"},
    }  # fmt: skip
    assert container["startupProbe"]["failureThreshold"] == 200
    unmeasured = _pod(PLAIN)["containers"][0]["resources"]
    assert unmeasured["requests"] == {"cpu": "250m", "memory": "259Mi"}
    assert "0.25 cores are asked for: it was not measured." in PLAIN.said
    several = replace(PLAIN, measured=replace(measured, replicas=4), options=ServeOptions(replicas=2))
    assert _pod(several)["containers"][0]["resources"]["requests"] == {"cpu": "940m", "memory": "496Mi"}
    assert _one(several, "Deployment")["spec"]["replicas"] == 2


def test_a_pod_has_time_to_answer_what_it_took() -> None:
    pod = _pod(replace(PLAIN, options=ServeOptions(grace=2.5, timeout=20.0, port=9000)))
    assert pod["terminationGracePeriodSeconds"] == 28
    container = pod["containers"][0]
    assert container["ports"][0]["containerPort"] == 9000
    assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe")} == {"/readyz"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    rolling = _one(PLAIN, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_token_is_mounted_and_not_written() -> None:
    pod = _pod(PLAIN)
    assert {"name": "token", "secret": {"secretName": PLAIN.secret, "defaultMode": 0o440}} in pod["volumes"]
    assert {"name": "token", "mountPath": "/run/secrets", "readOnly": True} in pod["containers"][0]["volumeMounts"]
    assert not any(manifest["kind"] == "Secret" for manifest in PLAIN.manifests())


def test_an_autoscaler_has_the_number_of_pods_to_itself() -> None:
    assert "replicas" not in _one(FOLLOWED, "Deployment")["spec"]
    assert "2 to 6 pods." in FOLLOWED.said
    assert _one(FOLLOWED, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "iris"
    without = FOLLOWED.manifests(ServedApis(hpa="", pdb=""))
    assert [manifest["kind"] for manifest in without] == ["ServiceAccount", "Service", "Deployment"]
    assert without[-1]["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("changes", "count", "says"),
    [
        ({}, 1, "1 pod, as in the notebook, whatever the load."),
        ({"measured": Measured(replicas=3)}, 3, "3 pods, as in the notebook, whatever the load."),
        ({"replicas": 2}, 2, "2 pods, as asked for, whatever the load."),
        ({"measured": Measured(autoscale=Autoscale.of(0, 1))}, 1, "Not translated: none after 5m without a request"),
        ({"measured": FOLLOWED.measured, "replicas": 2}, 2, "The notebook's own rule is left out: 2 to 6 replicas"),
    ],
)
def test_a_fixed_number_of_pods(changes: dict[str, Any], count: int, says: str) -> None:
    config = replace(PLAIN, **changes)
    assert _one(config, "Deployment")["spec"]["replicas"] == count
    assert any(words.startswith(says) for words in config.said), config.said
    assert all(manifest["kind"] != "HorizontalPodAutoscaler" for manifest in config.manifests())
    assert any("nobody answers" in words for words in config.said) == (count == 1)


def test_an_older_cluster_gets_what_it_serves() -> None:
    served = ServedApis.of(["apps/v1", "autoscaling/v1", "policy/v1beta1"])
    assert _one(FOLLOWED, "PodDisruptionBudget", served)["apiVersion"] == "policy/v1beta1"
    autoscaler = _one(FOLLOWED, "HorizontalPodAutoscaler", served)
    assert autoscaler["apiVersion"] == "autoscaling/v1"
    assert autoscaler["spec"]["targetCPUUtilizationPercentage"] == 81
    assert "has no windows" in autoscaler["metadata"]["annotations"]["dev.mlnb/autoscaling"]


def test_what_is_translated_is_noted_on_the_objects() -> None:
    config = CONFIGS["renamed"]
    notes = _one(config, "Deployment")["metadata"]["annotations"]
    assert notes["dev.mlnb/model"] == "Iris..v2."
    assert notes["dev.mlnb/digest"] == "12e4567"
    assert _one(config, "Service")["metadata"]["name"] == "iris-staging"
    translated = replace(PLAIN, subject=replace(SUBJECT, name="Iris_v2"))
    assert "iris-v2" in _one(translated, "Deployment")["metadata"]["annotations"]["dev.mlnb/name"]
    assert translated.said[0] == translated.object_name.said
    reasons = _one(FOLLOWED, "HorizontalPodAutoscaler")["metadata"]["annotations"]["dev.mlnb/autoscaling"]
    assert "an HPA knows no latency" in reasons


def test_a_policy_lets_only_some_in() -> None:
    closed = replace(PLAIN, network_policy=True)
    spec = _one(closed, "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in spec
    assert spec["ingress"][0]["ports"] == [{"port": 8000, "protocol": "TCP"}]
    assert _one(CONFIGS["fetched"], "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress"]
    assert "it may reach all, to fetch the model" in CONFIGS["fetched"].said[-1]
    assert "it reaches nothing itself" in closed.said[-1]


def test_kserve_runs_the_same_container() -> None:
    config = replace(FOLLOWED, kserve=True, network_policy=True)
    kinds = [manifest["kind"] for manifest in config.manifests()]
    assert kinds == ["ServiceAccount", "NetworkPolicy", "InferenceService", "PodDisruptionBudget"]
    predictor = _one(config, "InferenceService")["spec"]["predictor"]
    bounds = {key: predictor[key] for key in ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget")}
    assert bounds == {"minReplicas": 2, "maxReplicas": 6, "scaleMetric": "cpu", "scaleTarget": 81}
    ours, theirs = _pod(FOLLOWED)["containers"][0], predictor["containers"][0]
    assert theirs == ours | {"name": "kserve-container", "env": [{"name": "PROTOCOL", "value": "v2"}]}
    selected = {"serving.kserve.io/inferenceservice": "iris"}
    assert _one(config, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selected
    assert _one(config, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == selected
    assert "KServe takes no windows and no rates: those are left out." in config.said
    fixed = _one(replace(config, replicas=2), "InferenceService")["spec"]["predictor"]
    assert (fixed["minReplicas"], fixed["maxReplicas"]) == (2, 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"namespace": "Team A"}, "namespace='Team A'"),
        ({"namespace": "a" * 64}, "at most 63"),
        ({"replicas": 0}, "replicas=0: a whole number of 1 or more"),
        ({"replicas": True}, "replicas=True"),
        ({"replicas": 2.0}, "replicas=2.0"),
        ({"pull_policy": "never"}, "did you mean 'Never'?"),
        ({"image": ""}, "image=''"),
        ({"image": "a b"}, "image='a b'"),
    ],
)
def test_what_no_cluster_takes_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        replace(PLAIN, **changes)
    assert says in str(caught.value)


@settings(max_examples=25)
@given(st.text(max_size=60), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True))
def test_no_text_of_a_user_breaks_the_files(description: str, name: str) -> None:
    subject = replace(SUBJECT, description=description, name=name, commit=description[:8], model_type=description)
    config = replace(FOLLOWED, subject=subject)
    written = [yaml.safe_load(text) for text in config.files().values()]
    assert written == list(config.manifests())
    for manifest in written:
        values = manifest["metadata"]["labels"].values()
        assert all(len(value) <= 63 and value[0].isalnum() and value[-1].isalnum() for value in values)


@pytest.mark.cluster
@pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster")
@pytest.mark.parametrize("name", ["plain", "followed", "in flight", "fetched", "renamed"])
def test_a_real_cluster_takes_all_of_it(name: str) -> None:
    listed = subprocess.run(["kubectl", "api-versions"], capture_output=True, check=True, timeout=60, text=True)
    texts = CONFIGS[name].files(ServedApis.of(listed.stdout.split())).values()
    said = subprocess.run(
        ["kubectl", "apply", "-n", "default", "--dry-run=server", "-f", "-"], input="---\n".join(texts),
        capture_output=True, check=False, timeout=60, text=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("created (server dry run)") == len(texts)
