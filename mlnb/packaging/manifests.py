"""What a version is in a Kubernetes cluster: a Deployment, its Service, and what keeps them up."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from mlnb.errors import InvalidInputError, nearest
from mlnb.packaging.documents import to_yaml
from mlnb.packaging.horizontal import CURRENT, Horizontal, ServedApis, horizontal
from mlnb.packaging.naming import object_name
from mlnb.packaging.pods import PullPolicy, pod_spec
from mlnb.packaging.resources import resources_of
from mlnb.packaging.subject import Measured, ServeOptions

if TYPE_CHECKING:
    from mlnb.packaging.naming import ObjectName
    from mlnb.packaging.resources import Resources
    from mlnb.packaging.subject import PackagedModel

__all__ = ["CURRENT", "KubernetesConfig", "PullPolicy", "ServedApis"]

_MAY_ASK = "dev.mlnb/may-ask"  # label of the namespaces that a NetworkPolicy lets in
_LATE = 60  # seconds beyond its start after which a rollout does not go on
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ORDER = (  # in which `kubectl apply -f` of a folder takes its files, by their names
    "ServiceAccount", "NetworkPolicy", "Service", "Deployment", "InferenceService", "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesConfig:
    """How a version runs in a cluster.

    The Secret with the token is no part of it: :attr:`secret` is its name, and it has one key, ``token``.

    Attributes
    ----------
    subject : PackagedModel
    image : str
        The tag, for instance ``"images.example.org/team/iris:3"``.
    options : ServeOptions
        As the image was built with.
    measured : Measured
    namespace : str
        "": the one that is current where it is applied.
    replicas : int or None
        Pods, where their number is fixed; None: as in the notebook.
    pull_policy : {'IfNotPresent', 'Always', 'Never'}
    network_policy : bool
        Whether only pods of the same namespace reach it, and of those with the label ``dev.mlnb/may-ask: "true"``.
    kserve : bool
        Whether it is an InferenceService of KServe, in the place of Deployment, Service and HorizontalPodAutoscaler.
    name : str
        Of the objects; "": the model's.
    metrics_adapter : bool
        Whether the cluster is told the metrics of pods, as by prometheus-adapter.

    Raises
    ------
    InvalidInputError
        If one of them is none that is accepted.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from mlnb.packaging.subject import PackagedModel
    >>> subject = PackagedModel(
    ...     name="iris", number=3, digest="ab12", created=datetime(2026, 1, 1, tzinfo=UTC), description="", size=1000,
    ...     model_type="LogisticRegression", python="3.11", requirements=(),
    ... )
    >>> config = KubernetesConfig(subject=subject, image="iris:3", replicas=2)
    >>> [manifest["kind"] for manifest in config.manifests()]
    ['ServiceAccount', 'Service', 'Deployment', 'PodDisruptionBudget']
    """

    subject: PackagedModel
    image: str
    options: ServeOptions = field(default_factory=ServeOptions)
    measured: Measured = field(default_factory=Measured)
    namespace: str = ""
    replicas: int | None = None
    pull_policy: PullPolicy = "IfNotPresent"
    network_policy: bool = False
    kserve: bool = False
    name: str = ""
    metrics_adapter: bool = False

    def __post_init__(self) -> None:
        if self.namespace and not _LABEL.fullmatch(self.namespace):
            raise InvalidInputError(
                f"namespace={self.namespace!r:.80}: it has lower-case letters, digits and '-', at most 63, for "
                "instance 'team-a'."
            )
        if self.replicas is not None and not (type(self.replicas) is int and self.replicas >= 1):
            raise InvalidInputError(f"replicas={self.replicas!r:.40}: a whole number of 1 or more is needed.")
        if self.pull_policy not in get_args(PullPolicy):
            raise InvalidInputError(
                f"pull_policy={self.pull_policy!r:.40}; {nearest(str(self.pull_policy), get_args(PullPolicy))}."
            )
        if not self.image or re.search(r"\s", self.image):
            raise InvalidInputError(f"image={self.image!r:.80}: a tag is needed, for instance 'iris:3'.")

    @property
    def object_name(self) -> ObjectName:
        """What all objects are called, and what was translated for that."""
        return object_name(self.name or self.subject.name)

    @property
    def secret(self) -> str:
        """Name of the Secret with the token."""
        return f"{self.object_name.name}-token"

    @property
    def selector(self) -> dict[str, str]:
        """The labels that the pods of all versions have, and no others."""
        return {
            "app.kubernetes.io/name": object_name(self.subject.name).name,
            "app.kubernetes.io/instance": self.object_name.name,
        }

    @property
    def labels(self) -> dict[str, str]:
        """The labels of all objects."""
        return self.selector | {
            "app.kubernetes.io/version": str(self.subject.number),
            "app.kubernetes.io/component": "model-server",
            "app.kubernetes.io/managed-by": "mlnb",
        }

    @property
    def resources(self) -> Resources:
        """What a pod asks for, and why."""
        return resources_of(self.subject, self.options, self.measured)

    @property
    def said(self) -> tuple[str, ...]:
        """What was translated, assumed or left out; a sentence each."""
        named = (self.object_name.said,) if self.object_name.said else ()
        return (*named, *self.resources.said, *self._pods_said, *self._reached_said)

    def manifests(self, served: ServedApis = CURRENT) -> tuple[dict[str, Any], ...]:
        """Return the objects, in the order in which they are applied.

        Parameters
        ----------
        served : ServedApis
            What the cluster serves; objects that it has no version for are left out.
        """
        found = self._horizontal
        scaled = found is not None and bool(served.hpa)
        made = [self._account()]
        if self.network_policy:
            made.append(self._network_policy())
        made += [self._inference_service()] if self.kserve else [self._service(), self._deployment(scaled=scaled)]
        if served.pdb:
            made.append(self._budget(served.pdb))
        if found is not None and served.hpa and not self.kserve:
            made.append(self._autoscaler(found, served.hpa))
        return tuple(made)

    def files(self, served: ServedApis = CURRENT) -> dict[str, str]:
        """Return the objects as YAML, one a file, by their paths."""
        return {
            f"kubernetes/{_ORDER.index(one['kind']) + 1}-{_dashed(one['kind'])}.yaml": to_yaml(one)
            for one in self.manifests(served)
        }

    @property
    def _processes(self) -> int:
        """How many of the notebook's replicas a pod is."""
        return max(1, self.options.replicas)

    @property
    def _followed(self) -> Horizontal | None:
        """How the notebook's replicas follow the load, translated; None where that is not asked for."""
        autoscale = self.measured.autoscale
        if autoscale is None or self.replicas is not None:
            return None
        adapter = self.metrics_adapter and not self.kserve
        return horizontal(autoscale, self.measured, processes=self._processes, metrics_adapter=adapter)

    @property
    def _horizontal(self) -> Horizontal | None:
        """How the number of pods follows the load; None where it is fixed."""
        found = self._followed
        return found if found is not None and found.least < found.most else None

    @property
    def _pods(self) -> int:
        """How many there are, while nothing changes their number."""
        found = self._followed
        if found is not None:
            return found.least
        return self.replicas or max(1, math.ceil(self.measured.replicas / self._processes))

    @property
    def _pods_said(self) -> tuple[str, ...]:
        count, found, autoscale = self._pods, self._followed, self.measured.autoscale
        said = list(found.said if found is not None else ())
        if self._horizontal is not None and found is not None:
            said.insert(0, f"{found.least} to {found.most} pods.")
        else:
            source = "as asked for" if self.replicas else "as in the notebook"
            said.insert(0, f"{count} pod{'s' * (count > 1)}, {source}, whatever the load.")
        if autoscale is not None and found is None:
            said.append(f"The notebook's own rule is left out: {autoscale.words}.")
        if self._horizontal is not None and self.kserve:
            said.append("KServe takes no windows and no rates: those are left out.")
        if count == 1:
            said.append("While the only pod moves to another node, nobody answers; 2 pods or more avoid that.")
        return tuple(said)

    @property
    def _reached_said(self) -> tuple[str, ...]:
        key = f"Secret {self.secret}, key token"
        scraped = f"/metrics asks for the token too: a Prometheus needs it as authorization ({key})."
        if not self.network_policy:
            return (scraped,)
        out = "it may reach all, to fetch the model" if self.subject.registry else "it reaches nothing itself"
        limited = (
            f'Only pods of the same namespace reach it, and of namespaces with the label {_MAY_ASK}: "true", for '
            f"instance of an ingress controller or a Prometheus; {out}."
        )
        return scraped, limited

    def _object(
        self, api: str, kind: str, /, *, annotations: dict[str, str] | None = None, **members: Any
    ) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self.object_name.name}
        if self.namespace:
            metadata["namespace"] = self.namespace
        metadata["labels"] = self.labels
        metadata["annotations"] = self._facts | (annotations or {})
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **members}

    @property
    def _facts(self) -> dict[str, str]:
        subject = self.subject
        return {
            "dev.mlnb/model": subject.name,
            "dev.mlnb/version": str(subject.number),
            "dev.mlnb/digest": subject.digest,
        }

    @property
    def _told(self) -> dict[str, str]:
        """What a person would ask of the Deployment, and why it is as it is."""
        told = {
            "dev.mlnb/description": self.subject.description,
            "dev.mlnb/model-type": self.subject.model_type,
            "dev.mlnb/commit": self.subject.commit,
            "dev.mlnb/name": self.object_name.said,
            "dev.mlnb/resources": " ".join(self.resources.said),
            "dev.mlnb/pods": "" if self._horizontal else " ".join(self._pods_said),
        }
        return {key: words for key, words in told.items() if words}

    def _account(self) -> dict[str, Any]:
        return self._object("v1", "ServiceAccount", automountServiceAccountToken=False)

    def _service(self) -> dict[str, Any]:
        port = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}
        return self._object("v1", "Service", spec={"type": "ClusterIP", "selector": self.selector, "ports": [port]})

    def _deployment(self, *, scaled: bool) -> dict[str, Any]:
        spec: dict[str, Any] = {} if scaled else {"replicas": self._pods}  # else another's to say
        spec |= {
            "selector": {"matchLabels": self.selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": self.resources.startup + _LATE,
            "template": {
                "metadata": {"labels": self.labels, "annotations": self._facts},
                "spec": self._pod("model"),
            },
        }
        return self._object("apps/v1", "Deployment", annotations=self._told, spec=spec)

    def _pod(self, container: str) -> dict[str, Any]:
        return pod_spec(
            name=container, image=self.image, pull_policy=self.pull_policy, account=self.object_name.name,
            secret=self.secret, selector=self._pod_selector, options=self.options, needs=self.resources,
        )  # fmt: skip

    def _inference_service(self) -> dict[str, Any]:
        found = self._horizontal
        pods: dict[str, Any] = {"minReplicas": self._pods, "maxReplicas": self._pods}
        if found is not None:
            pods = {
                "minReplicas": found.least,
                "maxReplicas": found.most,
                "scaleMetric": "cpu",
                "scaleTarget": found.cpu,
            }
        pod = self._pod("kserve-container")  # by this name KServe knows it
        pod["containers"][0]["env"] = [{"name": "PROTOCOL", "value": "v2"}]
        predictor = pods | {"timeout": math.ceil(self.options.timeout)} | pod
        annotations = self._told | {
            "serving.kserve.io/deploymentMode": "RawDeployment",  # which newer ones read as Standard
            "serving.kserve.io/autoscalerClass": "hpa",
        }
        spec = {"predictor": predictor}
        return self._object("serving.kserve.io/v1beta1", "InferenceService", annotations=annotations, spec=spec)

    @property
    def _pod_selector(self) -> dict[str, str]:
        return {"serving.kserve.io/inferenceservice": self.object_name.name} if self.kserve else self.selector

    def _budget(self, api: str) -> dict[str, Any]:
        spec = {"maxUnavailable": 1, "selector": {"matchLabels": self._pod_selector}}
        return self._object(api, "PodDisruptionBudget", spec=spec)

    def _autoscaler(self, found: Horizontal, api: str) -> dict[str, Any]:
        scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.object_name.name}
        told = {"dev.mlnb/autoscaling": " ".join(found.said_for(api))}
        return self._object(api, "HorizontalPodAutoscaler", annotations=told, spec=found.spec(scaled, api=api))

    def _network_policy(self) -> dict[str, Any]:
        others = {"namespaceSelector": {"matchLabels": {_MAY_ASK: "true"}}}
        ports = [{"port": self.options.port, "protocol": "TCP"}]
        spec = {
            "podSelector": {"matchLabels": self._pod_selector},
            "policyTypes": ["Ingress"] if self.subject.registry else ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}, others], "ports": ports}],
        }
        return self._object("networking.k8s.io/v1", "NetworkPolicy", spec=spec)


def _dashed(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind).lower()
