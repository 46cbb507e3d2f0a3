"""Brings a namespace from what is there to what is wanted, and back where that fails."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from mlnb.errors import ClusterError
from mlnb.packaging.cluster_errors import foreign
from mlnb.packaging.cluster_objects import (
    DEPLOYMENT,
    KINDS,
    MANAGER,
    Place,
    deployment_of,
    is_ours,
    needed_permissions,
    place_of,
    recorded,
    selector,
    stamp,
    token_secret,
    with_live_scale,
)  # fmt: skip
from mlnb.packaging.difference import ManifestDiff, compare
from mlnb.packaging.manifests import ServedApis
from mlnb.packaging.progress import Progress
from mlnb.packaging.rolling import wait_for_rollout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.packaging.cluster import Cluster
    from mlnb.packaging.cluster_objects import Manifest
    from mlnb.packaging.progress import Watcher
    from mlnb.packaging.rollout import Rollout

__all__ = ["Applying"]

_LAST = 20  # lines of a log


class Applying:
    """Changes what is mlnb's in a namespace.

    Parameters
    ----------
    cluster : Cluster
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def stamped(self, manifests: Sequence[Manifest], token: str) -> tuple[Manifest, ...]:
        """Return what is applied of manifests; without a token, with the one that the cluster has."""
        return stamp(manifests, namespace=self._cluster.namespace, token=token or self._live_token(manifests))

    def _live_token(self, manifests: Sequence[Manifest]) -> str:
        secret = token_secret(manifests, "")
        name = str(deployment_of(manifests)["metadata"]["name"])
        if secret is None:
            return ""
        live = self._cluster.get(place_of(secret, self._cluster.namespace))
        if live is None or not is_ours(live, name):
            return ""
        return base64.b64decode((live.get("data") or {}).get("token", "")).decode()

    def plan(self, wanted: Sequence[Manifest]) -> ManifestDiff:
        """Return what would change."""
        live = self._live(wanted)
        changes = []
        for one in wanted:
            planned, there = self._put(one, dry_run=True), live[self._place(one)]
            changes.append(compare(there, planned if there is not None else one))
        changes += [compare(one, None) for _, one in self._superfluous(live, wanted)]
        return ManifestDiff(self._cluster.context, self._cluster.namespace, tuple(changes))

    def deploy(
        self, wanted: Sequence[Manifest], *, wait: bool, timeout: float, rollback_on_failure: bool, watch: Watcher
    ) -> str:
        """Apply all of it and wait; return the deployment's name."""
        name, before = self._apply(wanted, watch)
        if not wait:
            return name
        rollout = wait_for_rollout(self._cluster, name, timeout=timeout, watch=watch)
        if rollout.state == "failed":
            error = self._failure(name, rollout)
            if rollback_on_failure:
                error = ClusterError(f"{error} {self._back(name, before, wanted, timeout=timeout, watch=watch)}")
            raise error
        return name

    def change(self, wanted: Sequence[Manifest], *, timeout: float, watch: Watcher) -> None:
        """Apply another state of what is there, and wait."""
        name, _ = self._apply(wanted, watch)
        rollout = wait_for_rollout(self._cluster, name, timeout=timeout, watch=watch)
        if rollout.state == "failed":
            raise self._failure(name, rollout)

    def delete(self, name: str) -> tuple[str, ...]:
        """Delete all that mlnb made for a deployment; return what it was.

        What its record names is looked for; without a Deployment, whatever is labelled so.
        """
        live = self._cluster.get(Place("apps/v1", "Deployment", self._cluster.namespace, name))
        found = self._labelled(name) if live is None else self._recorded(live, name)
        self._cluster.check(needed_permissions([one for _, one in found], verbs=("delete",)))
        for place, one in reversed(found):
            self._cluster.delete(place, one)
        return tuple(str(place) for place, _ in found)

    def _recorded(self, live: Manifest, name: str) -> tuple[tuple[Place, Manifest], ...]:
        record = recorded(live)
        secret = token_secret(record, "") if record else None
        return self._ours((*([] if secret is None else [secret]), *record), name)

    def _labelled(self, name: str) -> tuple[tuple[Place, Manifest], ...]:
        api = {"PodDisruptionBudget": ServedApis.of(self._cluster.served()).pdb}
        found = (
            one
            for kind in KINDS
            for one in self._cluster.list(kind, api_version=api.get(kind, ""), labels=selector(name))
        )
        return tuple((self._place(one), one) for one in found if is_ours(one, name))

    def names(self) -> tuple[str, ...]:
        """Return the deployments that mlnb has made here."""
        found = self._cluster.list("Deployment", labels=f"app.kubernetes.io/managed-by={MANAGER},{DEPLOYMENT}")
        names = (str(one["metadata"]["name"]) for one in found if is_ours(one, one["metadata"]["name"]))
        return tuple(sorted(names))

    def _place(self, manifest: Manifest) -> Place:
        return place_of(manifest, self._cluster.namespace)

    def _live(self, wanted: Sequence[Manifest]) -> dict[Place, Manifest | None]:
        """Return what is there in the places of what is wanted; raise ClusterError if one is somebody else's."""
        name = str(deployment_of(wanted)["metadata"]["name"])
        live = {self._place(one): self._cluster.get(self._place(one)) for one in wanted}
        for place, one in live.items():
            if one is not None and not is_ours(one, name):
                raise foreign(str(place), name, context=self._cluster.context, namespace=self._cluster.namespace)
        return live

    def _put(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        return self._cluster.apply(self._place(manifest), manifest, dry_run=dry_run)

    def _put_all(self, wanted: Sequence[Manifest], *, dry_run: bool = False) -> None:
        for one in wanted:
            if one["kind"] == "Deployment":  # as many pods as the autoscaler has made them by now
                live = self._cluster.get(self._place(one))
                one = deployment_of(with_live_scale(wanted, live))  # noqa: PLW2901 - the same, with its number
            self._put(one, dry_run=dry_run)

    def _apply(self, wanted: Sequence[Manifest], watch: Watcher) -> tuple[str, tuple[Manifest, ...]]:
        """Apply all of it, or nothing; return the deployment's name and what was before, () if there was none."""
        name = str(deployment_of(wanted)["metadata"]["name"])
        live = self._live(wanted)
        self._say(watch, f"{name}: trying {len(wanted)} objects in a dry run")
        self._put_all(wanted, dry_run=True)
        before = _as_before(live, self._cluster.namespace)
        self._say(watch, f"{name}: applying {len(wanted)} objects")
        try:
            self._put_all(wanted)
            for place, one in self._superfluous(live, wanted):
                self._cluster.delete(place, one)
        except ClusterError as error:
            raise ClusterError(f"{error} {self._put_back(name, before, wanted)}", **error.details) from error
        except BaseException:
            self._put_back(name, before, wanted)
            raise
        return name, before

    def _put_back(self, name: str, before: Sequence[Manifest], wanted: Sequence[Manifest]) -> str:
        try:
            self._put_all(before)
            for place, one in reversed(self._ours(_only_in(wanted, before), name)):
                self._cluster.delete(place, one)
        except ClusterError as error:
            return f"What was before could not be put back: {error}"
        return "What was before was put back." if before else "What was made of it was deleted again."

    def _superfluous(
        self, live: dict[Place, Manifest | None], wanted: Sequence[Manifest]
    ) -> tuple[tuple[Place, Manifest], ...]:
        """Return what was applied before and is no longer wanted, for instance an autoscaler."""
        deployment = next(one for place, one in live.items() if place.kind == "Deployment")
        return self._ours(_only_in(recorded(deployment), wanted), str(deployment_of(wanted)["metadata"]["name"]))

    def _ours(self, manifests: Sequence[Manifest], name: str) -> tuple[tuple[Place, Manifest], ...]:
        """Return those objects of the manifests that are there and ours."""
        found = ((self._place(one), self._cluster.get(self._place(one))) for one in manifests)
        return tuple((place, one) for place, one in found if one is not None and is_ours(one, name))

    def _back(
        self, name: str, before: Sequence[Manifest], wanted: Sequence[Manifest], *, timeout: float, watch: Watcher
    ) -> str:
        """Apply what was before; say what came of it."""
        self._say(watch, f"{name}: going back to what was before")
        said = self._put_back(name, before, wanted)
        if not before:
            return said
        rollout = wait_for_rollout(self._cluster, name, timeout=timeout, watch=watch)
        return f"{said} {'Its pods are ready.' if rollout.state == 'done' else rollout.text}"

    def _failure(self, name: str, rollout: Rollout) -> ClusterError:
        trouble, lines = rollout.trouble, ""
        if trouble is not None and trouble.pod:
            lines = self._cluster.log(
                trouble.pod, container=trouble.container, tail=_LAST, previous=trouble.restarted
            ).rstrip()
        next_step = "" if trouble is None else f" {trouble.next_step}"
        log = f" Its last log lines:\n{lines}\n" if lines else ""
        return ClusterError(
            f"{name} did not come up in namespace {self._cluster.namespace!r} of context {self._cluster.context!r}: "
            f"{rollout.text}{next_step}{log}"
        )

    def _say(self, watch: Watcher, text: str) -> None:
        where = f"namespace {self._cluster.namespace!r} of context {self._cluster.context!r}"
        watch(Progress(step="apply", text=f"{text} ({where})"))


def _only_in(some: Sequence[Manifest], others: Sequence[Manifest]) -> tuple[Manifest, ...]:
    there = {(one["kind"], one["metadata"]["name"]) for one in others}
    return tuple(one for one in some if (one["kind"], one["metadata"]["name"]) not in there)


def _as_before(live: dict[Place, Manifest | None], namespace: str) -> tuple[Manifest, ...]:
    """Return manifests of what is there, with the Secrets that are no part of its record."""
    deployment = next(one for place, one in live.items() if place.kind == "Deployment")
    record = recorded(deployment)
    if not record:
        return ()
    secrets = [
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": place.name}, "type": one.get("type", "Opaque"),
            "data": one.get("data", {}),
        }
        for place, one in live.items() if one is not None and place.kind == "Secret"
    ]  # fmt: skip
    return stamp((*record, *secrets), namespace=namespace)
