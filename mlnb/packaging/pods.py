"""What runs in a pod: the container with its probes and its rights, as the restricted Pod Security Standard has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mlnb.packaging.docker import TOKEN, USER

if TYPE_CHECKING:
    from mlnb.packaging.resources import Resources
    from mlnb.packaging.subject import ServeOptions

__all__ = ["PullPolicy", "pod_spec"]

PullPolicy = Literal["Always", "IfNotPresent", "Never"]

_READY, _ALIVE = 2, 10  # seconds between two probes


def pod_spec(
    *, name: str, image: str, pull_policy: PullPolicy, account: str, secret: str, selector: dict[str, str],
    options: ServeOptions, needs: Resources,
) -> dict[str, Any]:  # fmt: skip
    """Return the ``spec`` of a pod.

    It is told to stop at the moment at which it is taken out of its Services, and answers for ``options.grace`` seconds
    after that: until all nodes know, as a ``preStop`` that sleeps would have it.

    Parameters
    ----------
    name : str
        Of the container.
    image : str
    pull_policy : {'IfNotPresent', 'Always', 'Never'}
    account : str
        ServiceAccount.
    secret : str
        With the key ``token``.
    selector : dict
        Labels of the pods that are spread over the nodes.
    options : ServeOptions
    needs : Resources
    """
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service called mlnb would set MLNB_PORT
        "terminationGracePeriodSeconds": options.ending,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,  # which reads the token
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector},
            }
        ],
        "containers": [_container(name, image, pull_policy, options, needs)],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": _mebibytes(needs.scratch)}},
            {"name": "token", "secret": {"secretName": secret, "defaultMode": 0o440}},
        ],
    }


def _container(
    name: str, image: str, pull_policy: PullPolicy, options: ServeOptions, needs: Resources
) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "ports": [{"name": "http", "containerPort": options.port, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": _millicores(needs.cores), "memory": _mebibytes(needs.memory)},
            "limits": {"cpu": _millicores(needs.most_cores), "memory": _mebibytes(needs.most_memory)},
        },
        "startupProbe": _probe("/readyz", every=1, failures=needs.startup),
        "readinessProbe": _probe("/readyz", every=_READY, failures=2),
        "livenessProbe": _probe("/livez", every=_ALIVE, failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container
            {"name": "token", "mountPath": TOKEN.rpartition("/")[0], "readOnly": True},
        ],
    }


def _probe(path: str, *, every: int, failures: int) -> dict[str, Any]:
    asked = {"path": path, "port": "http"}
    return {"httpGet": asked, "periodSeconds": every, "timeoutSeconds": 3, "failureThreshold": failures}


def _millicores(cores: float) -> str:
    return f"{round(1000 * cores)}m"


def _mebibytes(size: int) -> str:
    return f"{size // 2**20}Mi"
