"""Brings a namespace from what is there to what is wanted, and back where that fails."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlnb.errors import ClusterError
from mlnb.packaging.cluster_errors import CONFLICT, foreign, taken, unrecorded
from mlnb.packaging.cluster_objects import (
    DEPLOYMENT,
    KINDS,
    MANAGER,
    Place,
    deployment_of,
    is_by_hand,
    is_ours,
    model_of,
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


@dataclass(frozen=True, slots=True)
class _Before:
    """What was there before something else was applied."""

    applied: tuple[Manifest, ...]  # which, applied again, bring it back
    new: tuple[Manifest, ...]  # what was not there


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
        """Return what would change.

        Raises
        ------
        ClusterError
            If the cluster refuses it, or something that is there is not to be touched.
        """
        live = self._live(wanted)
        changes = []
        for one in with_live_scale(wanted, _deployment_in(live)):
            planned, there = self._put(one, wanted, dry_run=True), live[self._place(one)]
            changes.append(compare(there, planned if there is not None else one))
        changes += [compare(one, None) for _, one in self._superfluous(live, wanted)]
        return ManifestDiff(self._cluster.context, self._cluster.namespace, tuple(changes))

    def deploy(
        self, wanted: Sequence[Manifest], *, wait: bool, timeout: float, rollback_on_failure: bool, watch: Watcher
    ) -> str:
        """Apply all of it and wait; return the deployment's name.

        Raises
        ------
        ClusterError
            If it cannot be applied, or does not come up.
        """
        name, before = self._apply(wanted, watch)
        if not wait:
            return name
        rollout = wait_for_rollout(self._cluster, name, timeout=timeout, watch=watch)
        if rollout.state == "failed":
            error = self._failure(name, rollout)
            if rollback_on_failure:
                error = ClusterError(f"{error} {self._back(name, before, timeout=timeout, watch=watch)}")
            raise error
        return name

    def change(self, wanted: Sequence[Manifest], *, timeout: float, watch: Watcher) -> None:
        """Apply another state of what is there, and wait.

        Raises
        ------
        ClusterError
            If it cannot be applied, or does not come up.
        """
        name, _ = self._apply(wanted, watch)
        rollout = wait_for_rollout(self._cluster, name, timeout=timeout, watch=watch)
        if rollout.state == "failed":
            raise self._failure(name, rollout)

    def delete(self, name: str) -> tuple[str, ...]:
        """Delete all that mlnb made for a deployment; return what it was.

        What its record names is looked for; without a record, whatever is labelled so.

        Raises
        ------
        ClusterError
            If it is not allowed.
        """
        live = self._cluster.get(Place("apps/v1", "Deployment", self._cluster.namespace, name))
        record = recorded(live)
        found = self._recorded(record, name) if record else self._labelled(name)
        self._cluster.check(needed_permissions([one for _, one in found], verbs=("delete",)))
        for place, one in reversed(found):
            self._cluster.delete(place, one)
        return tuple(str(place) for place, _ in found)

    def _recorded(self, record: Sequence[Manifest], name: str) -> tuple[tuple[Place, Manifest], ...]:
        secret = token_secret(record, "")
        return self._ours((*([] if secret is None else [secret]), *record), name)

    def _labelled(self, name: str) -> tuple[tuple[Place, Manifest], ...]:
        found = (
            one
            for kind in KINDS
            for one in self._cluster.list(kind, api_version=self._version(kind), labels=selector(name))
        )
        return tuple((self._place(one), one) for one in found if is_ours(one, name))

    def _version(self, kind: str) -> str:
        """Return the version in which objects are looked for, of whatever version they were made."""
        served = ServedApis.of(self._cluster.served()).pdb if kind == "PodDisruptionBudget" else ""
        return served or KINDS[kind][0]

    def names(self) -> tuple[str, ...]:
        """Return the deployments that mlnb has made here.

        Raises
        ------
        ClusterError
            If it is not allowed to look.
        """
        found = self._cluster.list("Deployment", labels=f"app.kubernetes.io/managed-by={MANAGER},{DEPLOYMENT}")
        names = (str(one["metadata"]["name"]) for one in found if is_ours(one, one["metadata"]["name"]))
        return tuple(sorted(names))

    def _place(self, manifest: Manifest) -> Place:
        return place_of(manifest, self._cluster.namespace)

    def _live(self, wanted: Sequence[Manifest]) -> dict[Place, Manifest | None]:
        """Return what is there in the places of what is wanted; raise ClusterError if one is not to be touched."""
        live = {self._place(one): self._cluster.get(self._place(one)) for one in wanted}
        for place, one in live.items():
            if one is not None:
                self._refuse(place, one, deployment_of(wanted))
        return live

    def _refuse(self, place: Place, live: Manifest, wanted: Manifest) -> None:
        """Raise ClusterError if what is there is somebody else's, another model's, or could not be put back."""
        name, model, there = str(wanted["metadata"]["name"]), model_of(wanted), model_of(live)
        context, namespace = self._cluster.context, self._cluster.namespace
        if not is_ours(live, name):
            raise foreign(str(place), name, by_hand=is_by_hand(live), context=context, namespace=namespace)
        if model and there and there != model:
            raise taken(str(place), by=there, model=model, context=context, namespace=namespace)
        if place.kind == "Deployment" and not recorded(live):
            raise unrecorded(name, context=context, namespace=namespace)

    def _put(self, manifest: Manifest, wanted: Sequence[Manifest], *, dry_run: bool = False) -> Manifest:
        """Apply one of what is wanted; once more where an autoscaler has changed the number of pods meanwhile."""
        place, tried = self._place(manifest), self._now(manifest, wanted)
        try:
            return self._cluster.apply(place, tried, dry_run=dry_run)
        except ClusterError as error:
            again = self._now(manifest, wanted) if error.details.get("code") == CONFLICT else tried
            if again == tried:
                raise
            return self._cluster.apply(place, again, dry_run=dry_run)

    def _now(self, manifest: Manifest, wanted: Sequence[Manifest]) -> Manifest:
        """Return it with as many pods as the autoscaler has made them by now."""
        if manifest["kind"] != "Deployment":
            return manifest
        return deployment_of(with_live_scale(wanted, self._cluster.get(self._place(manifest))))

    def _put_all(self, wanted: Sequence[Manifest], *, dry_run: bool = False) -> None:
        for one in wanted:
            self._put(one, wanted, dry_run=dry_run)

    def _apply(self, wanted: Sequence[Manifest], watch: Watcher) -> tuple[str, _Before]:
        """Apply all of it, or nothing; return the deployment's name and what was before."""
        name = str(deployment_of(wanted)["metadata"]["name"])
        live = self._live(wanted)
        self._say(watch, f"{name}: trying {len(wanted)} objects in a dry run")
        self._put_all(wanted, dry_run=True)
        before = _as_before(live, wanted, self._cluster.namespace)
        self._say(watch, f"{name}: applying {len(wanted)} objects")
        try:
            self._put_all(wanted)
            for place, one in self._superfluous(live, wanted):
                self._cluster.delete(place, one)
        except ClusterError as error:
            raise ClusterError(f"{error} {self._put_back(name, before)}", **error.details) from error
        except BaseException:
            self._put_back(name, before)
            raise
        return name, before

    def _put_back(self, name: str, before: _Before) -> str:
        try:
            self._put_all(before.applied)
            for place, one in reversed(self._ours(before.new, name)):
                self._cluster.delete(place, one)
        except ClusterError as error:
            return f"What was before could not be put back: {error}"
        return "What was before was put back." if before.applied else "What was made of it was deleted again."

    def _superfluous(
        self, live: dict[Place, Manifest | None], wanted: Sequence[Manifest]
    ) -> tuple[tuple[Place, Manifest], ...]:
        """Return what was applied before and is no longer wanted, for instance an autoscaler."""
        record = recorded(_deployment_in(live))
        return self._ours(_only_in(record, wanted), str(deployment_of(wanted)["metadata"]["name"]))

    def _ours(self, manifests: Sequence[Manifest], name: str) -> tuple[tuple[Place, Manifest], ...]:
        """Return those objects of the manifests that are there and ours."""
        places = (replace(self._place(one), api_version=self._version(one["kind"])) for one in manifests)
        found = ((place, self._cluster.get(place)) for place in places)
        return tuple((place, one) for place, one in found if one is not None and is_ours(one, name))

    def _back(self, name: str, before: _Before, *, timeout: float, watch: Watcher) -> str:
        """Apply what was before; say what came of it."""
        self._say(watch, f"{name}: going back to what was before")
        said = self._put_back(name, before)
        if not before.applied:
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


def _deployment_in(live: dict[Place, Manifest | None]) -> Manifest | None:
    return next(one for place, one in live.items() if place.kind == "Deployment")


def _as_before(live: dict[Place, Manifest | None], wanted: Sequence[Manifest], namespace: str) -> _Before:
    """Return what is there, with the Secrets that are no part of its record, and which of what is wanted is not."""
    record = recorded(_deployment_in(live))
    new = tuple(one for one in wanted if live[place_of(one, namespace)] is None)
    if not record:
        return _Before((), new)
    secrets = [
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": place.name}, "type": one.get("type", "Opaque"),
            "data": one.get("data", {}),
        }
        for place, one in live.items() if one is not None and place.kind == "Secret"
    ]  # fmt: skip
    return _Before(stamp((*record, *secrets), namespace=namespace), _only_in(new, record))
