"""A Kubernetes cluster, namespaces of their own in it, and an image whose server is a few lines."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aiohttp
import httpx
import pytest
from waiting import wait_until

from mlnb.errors import EngineError, MlnbError
from mlnb.packaging import images
from mlnb.packaging.cluster_objects import Manifest
from mlnb.packaging.kubernetes import KubernetesDeployer, contexts
from mlnb.packaging.manifests import KubernetesConfig
from mlnb.packaging.subject import Measured, PackagedModel, ServeOptions

TOKEN = "of-a-test-0123456789"  # noqa: S105 - it opens nothing else
CONNECTIONS = 64
_MOST = 200_000  # requests of one load

_SERVER = """
import http.server, json, os, pathlib, signal, sys, threading, time

how, draining = os.environ.get("HOW", "well"), threading.Event()
token = pathlib.Path("/run/secrets/token").read_text().strip()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        known = self.path in ("/livez", "/readyz") or self.headers.get("Authorization") == "Bearer " + token
        ready = not (self.path == "/readyz" and draining.is_set())
        body = json.dumps({"version": os.environ["VERSION"]}).encode()
        self.send_response(401 if not known else 200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        if draining.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message(self, *_):
        pass

def stop(*_):
    draining.set()
    threading.Timer(2, server.shutdown).start()

if how == "failing":
    sys.exit("the model is not what it was")
if how == "eating":
    eaten = [bytearray(os.urandom(2**20)) for _ in range(400)]
print("serving version", os.environ["VERSION"], flush=True)
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
server = Server(("0.0.0.0", 8000), Handler)
signal.signal(signal.SIGTERM, stop)
threading.Thread(target=server.serve_forever).start()
"""
_DOCKERFILE = """FROM python:3.11-slim
ARG HOW=well
ARG VERSION=1
ENV HOW=$HOW VERSION=$VERSION
COPY server.py /
CMD ["python3", "/server.py"]
"""


def connected() -> str:
    """Return the context of the cluster that KUBECONFIG names; fail where there must be one, else skip."""
    try:
        context = contexts(os.environ["KUBECONFIG"])[0]  # a default one may be somebody's
        with KubernetesDeployer(context=context, namespace="default") as deployer:
            deployer.served()
    except (MlnbError, LookupError) as error:
        if os.environ.get("MLNB_TEST_CLUSTER") == "required":
            pytest.fail(f"MLNB_TEST_CLUSTER=required, and no cluster answers, as KUBECONFIG names it: {error}")
        pytest.skip(f"no cluster answers, as KUBECONFIG names it: {error}")
    return context


class Namespace:
    """One of its own; at the end it is told to go, which nobody waits for."""

    def __init__(self, context: str) -> None:
        self.context = context
        self.name = f"mlnb-test-{uuid4().hex[:8]}"
        self.deployer = KubernetesDeployer(context=context, namespace=self.name)

    def __enter__(self) -> Self:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        self.ask("POST", "/api/v1/namespaces", body)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ask("DELETE", f"/api/v1/namespaces/{self.name}")
        self.ask("DELETE", self.core("pods"), {"gracePeriodSeconds": 1})  # sooner than by themselves
        self.deployer.close()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        return self.deployer._client(method, path, what=f"{method} {path}", body=body, content_type=kind)

    def core(self, rest: str) -> str:
        return f"/api/v1/namespaces/{self.name}/{rest}"

    def apps(self, rest: str) -> str:
        return f"/apis/apps/v1/namespaces/{self.name}/{rest}"

    def reached(self, name: str) -> str:
        """Return a URL of this machine that leads to a deployment's pods as its own Service does."""
        service = self.ask("GET", self.core(f"services/{name}"))
        port = {"port": 80, "targetPort": "http", "protocol": "TCP"}
        body = {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": f"{name}-of-the-test"},
            "spec": {"type": "NodePort", "selector": service["spec"]["selector"], "ports": [port]},
        }  # fmt: skip
        made = self.ask("POST", self.core("services"), body)
        url = f"http://127.0.0.1:{made['spec']['ports'][0]['nodePort']}"
        wait_until(lambda: _answers(url))  # kube-proxy writes its rule a moment later
        return url


def _answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/livez", timeout=2).is_success
    return False


class Little:
    """Images of the server above, which are gone at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"mlnb-test-{uuid4().hex[:8]}"  # another run may be beside this one
        self.tags: list[str] = []
        (folder / "server.py").write_text(_SERVER)
        (folder / "Dockerfile").write_text(_DOCKERFILE)

    def tag(self, version: int, how: str = "well") -> str:
        tag = f"{self._name}:{version}-{how}"
        if tag not in self.tags:
            images.build(self._folder, tag, build_args={"HOW": how, "VERSION": str(version)})
            self.tags.append(tag)
        return tag


def config(image: str, namespace: str, *, name: str = "iris", pods: int | None = 2, **changed: Any) -> KubernetesConfig:
    subject = PackagedModel(
        name=name, number=1, digest="ab12", created=datetime(2026, 1, 1, tzinfo=UTC), description="", size=1000,
        model_type="LogisticRegression", python="3.11", requirements=(),
    )  # fmt: skip
    plain = KubernetesConfig(
        subject=subject, image=image, namespace=namespace, replicas=pods, pull_policy="Never",
        options=ServeOptions(grace=3, timeout=5), measured=Measured(cores=0.05, memory=40 * 2**20),
    )  # fmt: skip
    return replace(plain, **changed)


def manifests_of(deployer: KubernetesDeployer, one: KubernetesConfig) -> tuple[Manifest, ...]:
    return one.manifests(deployer.served())


class Load:
    """Connections that ask, from a thread, until the end of the block."""

    def __init__(self, url: str, *, token: str = TOKEN, body: bytes = b"{}", pause: float = 0) -> None:
        self.url = url
        self._token = token
        self._body = body
        self._pause = pause  # seconds of each connection between an answer and the next request
        self.seen: Counter[str] = Counter()  # versions that answered
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    async def _run(self) -> None:
        await asyncio.gather(*(self._ask() for _ in range(CONNECTIONS)))

    async def _ask(self) -> None:
        """Ask on one connection, and on a new one where the server said that it would close it."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            while not self._stop.is_set() and self.seen.total() < _MOST:
                try:
                    async with session.post(f"{self.url}/predict", data=self._body) as answer:
                        said = await answer.json(content_type=None)
                        self.seen[str(said.get("version"))] += 1
                        if answer.status != 200:
                            self.failed.append(str(answer.status))
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    self.failed.append(repr(error))
                await asyncio.sleep(self._pause)


def images_of(folder: Path) -> Iterator[Little]:
    made = Little(folder)
    yield made
    wait_until(lambda: all(map(_is_gone, made.tags)), seconds=30)  # pods that end have theirs for a while


def _is_gone(tag: str) -> bool:
    with suppress(EngineError):
        images.remove(tag)
        return True
    return False
