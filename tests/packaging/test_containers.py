"""Containers beside the notebook, on a real engine: started, replaced, left alone, and gone at the end."""

from __future__ import annotations

import re

import docker
import numpy as np
import pytest
from docker.errors import NotFound
from little_images import Little, inside
from waiting import free_port, is_open, wait_until

from mlnb.errors import EngineError, PackagingError, PortInUseError, StoppedError
from mlnb.packaging.containers import run
from mlnb.packaging.progress import Progress

pytestmark = pytest.mark.docker
NAME = "mlnb-test-container"


def test_it_is_locked_down_and_gone_at_the_end(little: Little, engine: docker.DockerClient, gone: list[str]) -> None:
    gone.append(NAME)
    told: list[Progress] = []
    with run(little.folder, little.image(), name=NAME, model="iris", memory=2**27, watch=told.append) as container:
        seen = engine.containers.get(NAME)
        host = seen.attrs["HostConfig"]
        assert seen.labels == {"dev.mlnb.managed": "true", "dev.mlnb.model": "iris"}
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Init"]) == (True, ["ALL"], True)
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Memory"] == host["MemorySwap"] == 2**27
        assert {binding["HostIp"] for binding in seen.ports["8000/tcp"] or ()} == {"127.0.0.1"}
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", container.url)
        writing = "cat /run/secrets/token; touch /tmp/yes && touch /no; touch /run/secrets/no"
        _, wrote = inside(engine, NAME, "sh", "-c", writing)
        assert wrote.splitlines()[0] == "of-a-test-0123456789" == container.token
        assert wrote.count("Read-only file system") == 2
        assert (container.state, container.logs().splitlines()[0]) == ("running", "this is well")
        assert 2**20 < container.memory < 2**26
        assert repr(container) == f"<container {NAME} of {container.tag}, {container.url}>"
        assert [one.state for one in told] == ["running", *["running"] * (len(told) - 2), "done"]
        assert told[-1].text.startswith(f"{NAME} answers at {container.url} after ")
    container.stop()
    assert container.state == "gone"
    assert "stopped" in repr(container)
    assert not is_open(int(container.url.rpartition(":")[2]))
    with pytest.raises(StoppedError, match="is gone"):
        container.logs()
    with pytest.raises(EngineError, match="its state: gone"):
        container.predict(np.ones((1, 2)))


def test_one_of_the_same_name_is_replaced_only_if_mlnb_made_it(
    little: Little, engine: docker.DockerClient, gone: list[str]
) -> None:
    gone += [NAME, f"{NAME}-foreign"]
    port = free_port()
    first = run(little.folder, little.image(), name=NAME, port=port)
    second = run(little.folder, little.image(), name=NAME, port=port)
    assert second.url == first.url == f"http://127.0.0.1:{port}"
    assert (first.state, second.state) == ("gone", "running")
    first.stop()  # which is not there any more
    foreign = engine.containers.create(little.image(), name=f"{NAME}-foreign")
    with pytest.raises(EngineError, match=r"that mlnb did not make .* docker rm -f mlnb-test-container-foreign"):
        run(little.folder, little.image(), name=f"{NAME}-foreign")
    assert engine.containers.get(f"{NAME}-foreign").id == foreign.id
    with pytest.raises(PortInUseError, match=f"Port {port} on 127.0.0.1 is taken"):
        run(little.folder, little.image(), name=f"{NAME}-other", port=port)
    assert not there(engine, f"{NAME}-other")
    with pytest.raises(EngineError, match=r"no image 'mlnb-test-nowhere:1'\. Build it first"):
        run(little.folder, "mlnb-test-nowhere:1", name=NAME)
    with pytest.raises(EngineError, match=f"{NAME}' runs another model, '', not 'Iris'; it is left alone"):
        run(little.folder, little.image(), name=NAME, model="Iris")
    assert second.state == "running"
    second.stop()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("failing", "ended with code 1; it was removed. Its last lines:\nthis is failing\nthe model is not what"),
        ("silent", "was not ready within 2 s, and was removed. Its last lines:\nthis is silent"),
        ("eating", "was killed: it needs more than the 64 MiB of memory it was given; it was removed."),
    ],
)
def test_one_that_fails_says_why_and_is_gone(
    how: str, says: str, little: Little, engine: docker.DockerClient, gone: list[str]
) -> None:
    gone.append(NAME)
    told: list[Progress] = []
    with pytest.raises(EngineError, match=re.escape(says)):
        run(little.folder, little.image(how), name=NAME, memory=2**26, within=2, watch=told.append)
    assert told[-1].state == "failed"
    assert not there(engine, NAME)


def test_one_that_died_is_seen(little: Little, engine: docker.DockerClient, gone: list[str]) -> None:
    gone.append(NAME)
    with run(little.folder, little.image(), name=NAME) as container:
        engine.containers.get(NAME).kill()
        wait_until(lambda: container.state == "exited")
    assert not there(engine, NAME)


def test_a_folder_without_a_token_is_refused(little: Little) -> None:
    with pytest.raises(PackagingError, match="has no secrets/token any more"):
        run(little.folder / "secrets", little.image(), name=NAME)


def there(engine: docker.DockerClient, name: str) -> bool:
    try:
        engine.containers.get(name)
    except NotFound:
        return False
    return True
