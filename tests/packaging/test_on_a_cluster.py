"""From a notebook's deployment to a cluster: the real image, updated under load, followed by the autoscaler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import orjson
import pytest
from clusters import CONNECTIONS, Load, Namespace, connected
from fitted import Fitted
from waiting import wait_until

import mlnb
from mlnb.packaging import images
from mlnb.packaging.package import Package
from mlnb.scaling.autoscale import Autoscale

pytestmark = [pytest.mark.docker, pytest.mark.cluster, pytest.mark.timeout(300)]
NAME = "mlnb-test-diabetes"


@pytest.fixture
def space(engine: docker.DockerClient) -> Iterator[Namespace]:
    with Namespace(connected()) as namespace:
        yield namespace


@pytest.fixture
def deployment(space: Namespace, diabetes: Fitted) -> Iterator[mlnb.Deployment]:
    """One whose replicas follow the CPU; what it brought to the cluster is gone at the end, images too."""
    rule = Autoscale.of(1, 2, policy="cpu")
    with mlnb.deploy(diabetes.model, name=NAME, example=diabetes.rows, replicas=rule) as deployment:
        yield deployment
    space.deployer.delete(NAME)
    wait_until(lambda: all(_is_gone(f"{NAME}:{number}") for number in (1, 2)), seconds=60)  # pods that end have theirs


def _packaged(deployment: mlnb.Deployment, to: Path) -> Package:
    """Package and build the live version, and ask for little: two are to fit beside all else on this machine."""
    package = deployment.package(to, target="kubernetes")
    package.build()
    return replace(package, wishes=replace(package.wishes, measured=replace(package.wishes.measured, cores=0.2)))


def _is_gone(tag: str) -> bool:
    try:
        images.remove(tag)
    except mlnb.MlnbError:
        return False
    return True


def test_from_the_notebook_to_the_cluster_and_to_the_next_version(
    space: Namespace, deployment: mlnb.Deployment, diabetes: Fitted, tmp_path: Path
) -> None:
    first = _packaged(deployment, tmp_path / "build")
    status = first.deploy(context=space.context, namespace=space.name)
    assert status.parity is not None
    assert (status.parity.good, status.parity.rows) == (True, 32)
    assert not first.plan(context=space.context, namespace=space.name).changed
    assert status.autoscaler is not None
    assert (status.autoscaler.least, status.autoscaler.most) == (1, 2)

    body = orjson.dumps({"instances": diabetes.lists[:1]})
    with Load(space.reached(NAME), token=first.token, body=body, pause=0.03) as load:
        wait_until(lambda: space.deployer.status(NAME).ready == 2, seconds=120)  # as the load wants it
        mlnb.deploy(diabetes.model, name=NAME, example=diabetes.rows)
        second = _packaged(deployment, tmp_path / "build")  # the same folder: the token stays
        assert second.token == first.token
        status = second.deploy(context=space.context, namespace=space.name)
        assert status.image == second.image
        assert status.parity is not None
        assert status.parity.good
        wait_until(lambda: load.seen["2"] > 10 * CONNECTIONS, seconds=30)
    assert load.failed == []
    assert set(load.seen) == {"1", "2"}
