"""Deploys a package to a Kubernetes cluster, watches it come up, and takes back what did not."""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import orjson

from mlnb.errors import ClusterError, InvalidInputError, MissingLibraryError, nearest
from mlnb.packaging import cluster_objects as objects
from mlnb.packaging.applying import Applying
from mlnb.packaging.cluster import Cluster
from mlnb.packaging.cluster_errors import explain, foreign, said_in, unreachable, unrecorded
from mlnb.packaging.cluster_status import ClusterStatus, status_of
from mlnb.packaging.port_forward import forwarding
from mlnb.packaging.progress import Progress, unwatched
from mlnb.packaging.rollout import Watched, replica_sets_of

try:
    from kubernetes import client as api
    from kubernetes import config, stream
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigMerger
    from kubernetes.dynamic import DynamicClient
    from urllib3.exceptions import HTTPError
    from yaml import YAMLError
except ImportError:
    raise MissingLibraryError(
        "Clusters are reached by the official client, which is not installed: pip install 'mlnb[package]'."
    ) from None

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mlnb.packaging.cluster_objects import Manifest
    from mlnb.packaging.difference import ManifestDiff
    from mlnb.packaging.manifests import ServedApis
    from mlnb.packaging.progress import Watcher

__all__ = ["KubernetesDeployer", "contexts"]

_CONNECT, _READ = 5.0, 30.0  # seconds
_TIMEOUT = 180.0  # seconds for a rollout
_DEEP = 3  # errors of the library around the one of its websocket


def contexts(kubeconfig: str | Path | None = None) -> tuple[str, ...]:
    """Return the names of the contexts that a kubeconfig has.

    Parameters
    ----------
    kubeconfig : str or Path, optional
        Default: what ``KUBECONFIG`` names, else ``~/.kube/config``.

    Raises
    ------
    ClusterError
        If it cannot be read; one that is not there has no contexts.
    """
    file = _file(kubeconfig)
    try:
        merged = KubeConfigMerger(file).config
        return () if merged is None else tuple(one["name"] for one in merged.value.get("contexts") or ())
    except (ConfigException, YAMLError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ClusterError(f"The kubeconfig {file} cannot be read: {' '.join(str(error).split())}") from error


def _file(kubeconfig: str | Path | None) -> str:
    return os.path.expanduser(str(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"))  # noqa: PTH111 - may be several, joined with ":"


class _Client:
    """Asks the API server by the official client; each answer is a plain dict."""

    def __init__(self, context: str, namespace: str, kubeconfig: str | Path | None) -> None:
        file, names = _file(kubeconfig), contexts(kubeconfig)
        if not names:
            raise ClusterError(
                f"There is no kubeconfig with contexts at {file}. Set KUBECONFIG to the file that your cluster's "
                "provider gives (minikube, kind and the clouds' tools write it), or pass kubeconfig=."
            )
        if context not in names:
            raise ClusterError(f"No context {context!r} in {file}; {nearest(context, names)}.")
        self.context, self.namespace = context, namespace
        self.configuration = api.Configuration()
        self.configuration.retries = 0  # whoever waits is told at once
        try:
            config.load_kube_config(file, context=context, client_configuration=self.configuration)
        except (ConfigException, OSError, KeyError, TypeError, ValueError) as error:
            raise ClusterError(f"Context {context!r} of {file} cannot be used: {error}.") from error
        self._api = api.ApiClient(self.configuration)
        self._asking = DynamicClient(
            self._api, discoverer=lambda *_: None
        )  # every path is known; discovery keeps files

    def __call__(
        self, method: str, path: str, *, what: str, query: Mapping[str, str] | None = None, body: Any = None,
        content_type: str = "application/json",
    ) -> Any:  # fmt: skip
        try:
            answer = self._asking.request(
                method, path, body=body, query_params=list((query or {}).items()), content_type=content_type,
                header_params={"Accept": "application/json, */*"}, serialize=False, _request_timeout=(_CONNECT, _READ),
            )  # fmt: skip
            said = answer.data
        except ApiException as error:
            if not error.status:
                raise unreachable(self.configuration.host, self.context, str(error.reason)) from error
            raise explain(
                error.status, said_in(error.body), what=what, context=self.context, namespace=self.namespace
            ) from error
        except (HTTPError, OSError) as error:
            raise unreachable(self.configuration.host, self.context, str(error)) from error
        try:
            return orjson.loads(said)
        except ValueError:
            return said.decode("utf-8", "replace")

    def connect(self, pod: str, port: int) -> socket.socket:
        """Open a connection to a port of a pod; raise ClusterError where it is not there, or that is not allowed."""
        try:
            with api.ApiClient(self.configuration) as own:  # the library swaps a method of it meanwhile
                core = api.CoreV1Api(own)
                forward = stream.portforward(
                    core.connect_get_namespaced_pod_portforward, pod, self.namespace, ports=str(port)
                )
        except (ApiException, AttributeError) as error:  # the library stumbles over its own error without a body
            raise self._refused(error, f"forward port {port} of pod {pod}") from error
        opened: socket.socket = forward.socket(port)
        opened.settimeout(None)  # it blocks
        return opened

    def _refused(self, error: BaseException, what: str) -> ClusterError:
        """Return what the websocket was told, which the library's errors have as their context only."""
        reason = str(error)
        for _ in range(_DEEP):
            if hasattr(error, "status_code"):
                said = said_in(getattr(error, "resp_body", None))
                return explain(error.status_code, said, what=what, context=self.context, namespace=self.namespace)
            if error.__context__ is None:
                break
            error = error.__context__
            reason = str(error)
        return unreachable(self.configuration.host, self.context, reason)

    def close(self) -> None:
        self._api.close()


class KubernetesDeployer:
    """Runs packages in one namespace of one cluster, and touches nothing there that it did not make.

    Making it asks the cluster nothing. As a context manager, its connections are closed at the end.

    Parameters
    ----------
    context : str
        Of the kubeconfig; there is no default, so that nothing lands in a cluster by accident.
    namespace : str
        Which is there already.
    kubeconfig : str or Path, optional
        Default: what ``KUBECONFIG`` names, else ``~/.kube/config``.

    Raises
    ------
    ClusterError
        If there is no kubeconfig, or no such context in it.
    InvalidInputError
        If one of both is missing, or no namespace can be called so.

    Examples
    --------
    >>> deployer = KubernetesDeployer(context="kind-test", namespace="models")  # doctest: +SKIP
    >>> deployer.deploy(config.manifests(deployer.served()), token=token)  # doctest: +SKIP
    """

    def __init__(self, *, context: str, namespace: str, kubeconfig: str | Path | None = None) -> None:
        if not context or not namespace:
            raise InvalidInputError(
                f"context={context!r}, namespace={namespace!r}: both are needed, so that nothing lands in a cluster by "
                f"accident. The contexts that there are: {', '.join(contexts(kubeconfig)) or 'none'}."
            )
        if not objects.is_label(namespace):
            raise InvalidInputError(
                f"namespace={namespace!r:.80}: it has lower-case letters, digits and '-', at most 63, for instance "
                "'team-a'."
            )
        self.context = context
        self.namespace = namespace
        self._client = _Client(context, namespace, kubeconfig)
        self._cluster = Cluster(self._client, context=context, namespace=namespace)
        self._applying = Applying(self._cluster)

    def __repr__(self) -> str:
        return f"<Kubernetes: context {self.context}, namespace {self.namespace}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; may be called again."""
        self._client.close()

    def served(self) -> ServedApis:
        """Return the versions that the cluster serves, which :meth:`KubernetesConfig.manifests` takes.

        Raises
        ------
        ClusterError
            If it does not answer.
        """
        from mlnb.packaging.manifests import ServedApis

        return ServedApis.of(self._cluster.served())

    def plan(self, manifests: Sequence[Manifest], *, token: str = "") -> ManifestDiff:
        """Return what :meth:`deploy` would change, as the server says after a dry run; nothing is changed.

        Parameters
        ----------
        manifests : sequence of dict
        token : str
            "": the one that the pods have stays.

        Raises
        ------
        ClusterError, InvalidInputError
            As by :meth:`deploy`.
        """
        wanted = self._applying.stamped(manifests, token)
        self._cluster.check(objects.needed_permissions(wanted))
        return self._applying.plan(wanted)

    def deploy(
        self, manifests: Sequence[Manifest], *, token: str, wait: bool = True, timeout: float = _TIMEOUT,
        rollback_on_failure: bool = False, watch: Watcher = unwatched,
    ) -> ClusterStatus:  # fmt: skip
        """Make the cluster run them, by server-side apply as ``mlnb``.

        First it is looked whether the namespace is there and all that is needed is allowed, whether an object of
        somebody else is in the way, and what the server says to a dry run; nothing is changed if one of them fails. If
        applying is cut off halfway, what was before is put back. Where an autoscaler is among the manifests, the pods
        stay as many as it has made them.

        Parameters
        ----------
        manifests : sequence of dict
            With exactly one Deployment, whose name the deployment has.
        token : str
            That a request needs; it goes into the Secret that the pods mount.
        wait : bool
            Whether to wait until all pods are ready.
        timeout : float
            Seconds to wait.
        rollback_on_failure : bool
            Whether to apply what was before if the pods do not get ready; the first deployment is deleted then.
        watch : Watcher

        Raises
        ------
        ClusterError
            If the cluster refuses it or the pods do not get ready: with the pod, the event, the last log lines and what
            to do.
        InvalidInputError
            If the manifests are no deployment, or of another namespace.
        """
        self._say(watch, "Asking what is there and what is allowed")
        wanted = self._applying.stamped(manifests, token)
        if objects.token_secret(wanted, token) is not None:
            raise InvalidInputError("token='': the pods want one from a Secret; the package has it in secrets/token.")
        self._cluster.check(objects.needed_permissions(wanted))
        name = self._applying.deploy(
            wanted, wait=wait, timeout=timeout, rollback_on_failure=rollback_on_failure, watch=watch
        )
        return self.status(name)

    def rollback(self, name: str, *, timeout: float = _TIMEOUT, watch: Watcher = unwatched) -> ClusterStatus:
        """Apply again what ran before, all of it: template, Service and autoscaler; the token and the scale stay.

        A second rollback goes back to what the first one left, as ``kubectl rollout undo`` does.

        Parameters
        ----------
        name : str
        timeout : float
            Seconds to wait until its pods are ready.
        watch : Watcher

        Raises
        ------
        ClusterError
            If nothing ran before that the cluster still knows, or it does not come up.
        """
        watched = self._own(name)
        before = next(filter(None, map(objects.recorded, replica_sets_of(watched)[1:])), ())
        if not before:
            raise ClusterError(f"{name} has run nothing else in {self._where}: there is nothing to roll back to.")
        kept = objects.keep_scale(before, self._record(watched))
        wanted = objects.stamp(kept, namespace=self.namespace)
        self._say(watch, f"Going back to what {name} ran before")
        self._applying.change(wanted, timeout=timeout, watch=watch)
        return self.status(name)

    def scale(
        self, name: str, replicas: int | tuple[int, int], *, timeout: float = _TIMEOUT, watch: Watcher = unwatched
    ) -> ClusterStatus:
        """Run this many pods, and wait until they are ready.

        Where an autoscaler is present, it would undo any other number: so its bounds are set, to a number both to that
        number. What is there comes to them at its next look, within 15 s as a rule; the status' notes say so.

        Parameters
        ----------
        name : str
        replicas : int or tuple of int
            A number, or the least and the most, for an autoscaler.
        timeout : float
            Seconds to wait.
        watch : Watcher

        Raises
        ------
        InvalidInputError
            If it is no number of pods, or a range and no autoscaler is there.
        ClusterError
            If mlnb has made no deployment of that name here, or it does not come to that number.
        """
        least, most = replicas if isinstance(replicas, tuple) else (replicas, replicas)
        wanted = objects.with_scale(self._record(self._own(name)), least, most)
        scaled = any(one["kind"] == "HorizontalPodAutoscaler" for one in wanted)
        note = f"The autoscaler's bounds are {least} and {most} now; it brings the pods to them at its next look."
        self._say(watch, note if scaled else f"Scaling {name} to {least}")
        self._applying.change(objects.stamp(wanted, namespace=self.namespace), timeout=timeout, watch=watch)
        return self.status(name, notes=(note,) if scaled else ())

    def status(self, name: str, *, notes: tuple[str, ...] = ()) -> ClusterStatus:
        """Return how a deployment stands.

        Parameters
        ----------
        name : str
        notes : tuple of str
            That it carries along.

        Raises
        ------
        ClusterError
            If mlnb has made none of that name here.
        """
        watched = self._own(name)
        place = objects.Place("autoscaling/v1", "HorizontalPodAutoscaler", self.namespace, name)
        autoscaler = self._cluster.get(place)
        return status_of(
            watched, context=self.context, namespace=self.namespace, now=datetime.now(UTC), notes=notes,
            autoscaler=autoscaler if autoscaler is not None and objects.is_ours(autoscaler, name) else None,
        )  # fmt: skip

    def logs(self, name: str, *, tail: int = 100) -> str:
        """Return the last lines that each pod wrote, below its name; pods that stop are left out.

        Parameters
        ----------
        name : str
        tail : int
            Lines of each pod.

        Raises
        ------
        ClusterError
            If mlnb has made no deployment of that name here.
        """
        names = [pod.name for pod in self.status(name).pods if pod.state != "Stopping"]
        found = [(pod, self._cluster.log(pod, tail=tail).rstrip()) for pod in names]
        return "\n\n".join(f"{pod}\n{lines or '(nothing)'}" for pod, lines in found)

    def delete(self, name: str, *, watch: Watcher = unwatched) -> tuple[str, ...]:
        """Delete what mlnb made for a deployment, and nothing else; its pods end by themselves.

        Returns
        -------
        tuple of str
            What was deleted, for instance ``"Deployment iris"``.

        Raises
        ------
        ClusterError
            If mlnb has made nothing of that name here, or somebody else the Deployment.
        """
        live = self._cluster.get(objects.Place("apps/v1", "Deployment", self.namespace, name))
        if live is not None:
            self._refuse_foreign(live, name)
        deleted = self._applying.delete(name)
        if not deleted:
            raise self._unknown(name)
        self._say(watch, f"Deleted {', '.join(deleted)}", state="done")
        return deleted

    @contextmanager
    def forward(self, name: str) -> Iterator[str]:
        """Yield a URL of this machine that leads to the deployment's ready pods, for trying and comparing.

        At most 64 connections at once, each to the next of the pods; all end with the context.

        Parameters
        ----------
        name : str

        Raises
        ------
        ClusterError
            If no pod is ready, one is gone meanwhile, or forwarding is not allowed (the Role needs pods/portforward).
        """
        status = self.status(name)
        pods = [pod.name for pod in status.pods if pod.ready]
        if not pods:
            raise ClusterError(f"No pod of {name} is ready in {self._where}: {status!r}")
        port = objects.port_of(self._own(name).deployment)
        turns = itertools.cycle(pods)
        self._client.connect(pods[0], port).close()  # so that a refusal is said here, not to whoever connects
        with forwarding(lambda: self._client.connect(next(turns), port)) as url:
            yield url

    @property
    def _where(self) -> str:
        return f"namespace {self.namespace!r} of context {self.context!r}"

    def _say(self, watch: Watcher, text: str, *, state: str = "running") -> None:
        said = f"{text} ({self._where})"
        watch(Progress(step="cluster", text=said, state="done" if state == "done" else "running"))

    def _own(self, name: str) -> Watched:
        watched = self._cluster.look(name)
        if watched is None:
            raise self._unknown(name)
        self._refuse_foreign(watched.deployment, name)
        return watched

    def _refuse_foreign(self, live: Manifest, name: str) -> None:
        if not objects.is_ours(live, name):
            by_hand = objects.is_by_hand(live)
            raise foreign(f"Deployment {name}", name, by_hand=by_hand, context=self.context, namespace=self.namespace)

    def _record(self, watched: Watched) -> tuple[Manifest, ...]:
        record = objects.recorded(watched.deployment)
        if not record:
            name = watched.deployment["metadata"]["name"]
            raise unrecorded(name, context=self.context, namespace=self.namespace)
        return record

    def _unknown(self, name: str) -> ClusterError:
        self._cluster.check(())  # a namespace that is missing is said first
        return ClusterError(f"No deployment {name!r} in {self._where}; {nearest(name, self._applying.names())}.")
