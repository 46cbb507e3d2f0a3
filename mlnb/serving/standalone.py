"""The data plane without a notebook: what ``mlnb serve`` and a container run."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

from mlnb.serving.access import OPEN
from mlnb.serving.app import create_app
from mlnb.serving.gateway import Gateway
from mlnb.serving.local_copies import LocalCopies
from mlnb.serving.plan import Plan, Spec
from mlnb.serving.predicting import Routes
from mlnb.serving.readings import place_of
from mlnb.serving.server import HOST, Server, address_of, bind, rest_collector

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.registry import ModelRegistry, ModelVersion
    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.preloading import Zygotes
    from mlnb.serving.access import Access
    from mlnb.serving.plan import Manner, Watching

__all__ = ["Standalone"]

_LINGER = 0.3  # seconds in which connections that were accepted last bring their request
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - which needs a token


class Standalone:
    """Serves one version on the thread that calls :meth:`run`, until SIGTERM or Ctrl-C.

    Then readiness turns false first, and requests are still answered for ``grace`` seconds, predictions as the last
    ones on their connections, so that whoever balances the load can send the next ones elsewhere. After that nothing
    more is accepted, and what is in flight is finished.

    Parameters
    ----------
    registry : ModelRegistry
        Trusted.
    version : ModelVersion
    manner : Manner
    watching : Watching
    port : int or None
        None: 8000, or one that is free.
    accelerate : bool
    grace : float
        Seconds.
    zygotes : Zygotes
        Perhaps started already.
    say : callable
        Given a line for the person who started this.
    autoscale : Autoscale, optional
        How the replicas follow the load. Default: their number is fixed.
    host : str
        Where it listens: see :func:`~mlnb.serving.server.bind`.
    access : Access
        Whom it answers. Default: everybody, which is for loopback only.

    Raises
    ------
    PortInUseError
    InvalidInputError
        If others than this machine could reach it without a token, or it has no such address.
    """

    def __init__(
        self, registry: ModelRegistry, version: ModelVersion, *, manner: Manner, watching: Watching,
        port: int | None, accelerate: bool, grace: float, zygotes: Zygotes, say: Callable[[str], None],
        autoscale: Autoscale | None = None, host: str = HOST, access: Access = OPEN,
    ) -> None:  # fmt: skip
        self._registry = registry
        self._version = version
        self._manner = manner
        self._watching = watching
        self._autoscale = autoscale
        self._accelerate = accelerate
        self._grace = grace
        self._say = say
        self._ending = False
        self._failure: BaseException | None = None
        self._copies = LocalCopies()
        self._gateway = Gateway(zygotes)
        self._address, self._access = address_of(host), access
        access.check_host(self._address)
        self._socket = bind(port, host=self._address)
        served = self._gateway.served
        self._server = Server(
            create_app(served, is_ready=lambda: not self._ending), sock=self._socket, routes=Routes(served),
            access=access,
        )  # fmt: skip
        self._server.on_start(self._begin)

    def run(self) -> None:
        """Serve.

        Raises
        ------
        MlnbError
            If the version cannot be served.
        """
        try:
            with self._socket:
                self._server.run()
        finally:
            self._copies.close()
        if self._failure is not None:
            raise self._failure

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        self._deploying = loop.create_task(self._deploy())

    async def _deploy(self) -> None:
        try:
            spec, model = await asyncio.to_thread(self._spec)
            plan = Plan(live=spec, watching=self._watching, autoscale=self._autoscale)
            await self._gateway.deploy(plan, {spec.version.number: model})
        except Exception as error:  # noqa: BLE001 - run() raises it
            self._failure = error
            self._server.stop()
            return
        rest_collector()  # what was loaded stays
        url, place, log = _url_of(self._address, self._server.port), self._place, self._watching.log
        wide = ", and on every address of this machine" if self._address in _EVERYWHERE else ""
        token = "" if self._access is OPEN else "; it asks for the token"
        logged = "" if log is None else f"; predictions are logged to {log.shown}"
        self._say(
            f"{self._version} answers at {url}/models/{self._version.name}/predict ({place}){wide}; "
            f"dashboard at {url}/dashboard, docs at {url}/docs{token}{logged}"
        )

    def _spec(self) -> tuple[Spec, Any]:
        registry, version = self._registry, self._version
        model = None
        acceleration = None
        if self._accelerate or not self._manner.replicas:
            model = registry.load(version, mapped=True)
        if self._accelerate:
            from mlnb.scaling.acceleration.acceleration import accelerate

            acceleration = accelerate(model, signature=version.signature, golden=registry.golden(version))
            self._say(acceleration.reason)
        place, reference = self._copies.of(registry, version) if self._manner.replicas else (registry.url, str(version))
        spec = Spec(
            version=version, registry=place, reference=reference, manner=self._manner, acceleration=acceleration
        )
        return spec, model

    @property
    def _place(self) -> str:
        return place_of(self._manner.replicas) if self._autoscale is None else self._autoscale.words

    def _end(self) -> None:
        if self._ending:  # asked twice
            self._server.stop()
            return
        self._ending = True
        self._ends = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        self._server.retire()
        await asyncio.sleep(self._grace)
        self._server.acceptor.finish()
        self._socket.close()
        await asyncio.sleep(_LINGER)
        for connection in self._server.connections:
            connection.shutdown()
        await self._gateway.close(within=self._manner.timeout)
        self._server.stop()


def _url_of(address: str, port: int) -> str:
    """Return where a person on this machine finds what listens on an IP address.

    Examples
    --------
    >>> _url_of("0.0.0.0", 8000), _url_of("::1", 8000)
    ('http://127.0.0.1:8000', 'http://[::1]:8000')
    """
    host = HOST if address in _EVERYWHERE else address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
