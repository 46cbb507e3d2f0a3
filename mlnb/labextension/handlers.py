"""The routes of the sidebar, behind Jupyter's own login, authorizer, XSRF and origin checks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError, authenticated

from mlnb.errors import InvalidInputError, MlnbError
from mlnb.labextension.deployments import KernelDeployments
from mlnb.labextension.registries import Registries

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_server.serverapp import ServerApp

__all__ = ["routes"]

_ACTION = r"mlnb/deployments/([0-9-]+)/([^/]+)/(rollback|stop|start)"


@dataclass(frozen=True, slots=True)
class _Sidebar:
    """What the routes share."""

    deployments: KernelDeployments
    registries: Registries
    proxied: Callable[[], bool]


def routes(serverapp: ServerApp) -> list[tuple[str, type[APIHandler], dict[str, Any]]]:
    """Return the routes for the web application of a Jupyter server."""
    known = serverapp.extension_manager.extensions

    def proxied() -> bool:
        return "jupyter_server_proxy" in known and known["jupyter_server_proxy"].enabled

    deployments = KernelDeployments(serverapp.kernel_manager.list_kernel_ids, serverapp.session_manager)
    shared = {"sidebar": _Sidebar(deployments, Registries(), proxied)}
    handlers = {"mlnb/deployments": _ListHandler, _ACTION: _ActionHandler, "mlnb/registry": _RegistryHandler}
    return [(url_path_join(serverapp.base_url, path), handler, shared) for path, handler in handlers.items()]


class _Handler(APIHandler):
    """JSON that is never stored; an error is a message, and nothing of a request is logged but what Jupyter logs."""

    def initialize(self, *, sidebar: _Sidebar) -> None:
        self.sidebar = sidebar

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    def compute_etag(self) -> None:
        """Spend no hash on what changes each second."""

    def answer(self, value: dict[str, Any], *, status: int = HTTPStatus.OK) -> None:
        self.set_status(status)
        self.finish(json.dumps(value, allow_nan=False))  # in ASCII: a path may be no valid Unicode

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with a message, whatever was raised."""
        error = kwargs.get("exc_info", (None, None))[1]
        message = "Something went wrong in mlnb; Jupyter's log says what."
        if isinstance(error, MlnbError):
            message = error.message
            self.set_status(error.status)
        elif isinstance(error, HTTPError):
            message = error.log_message or HTTPStatus(status_code).phrase
        self.answer({"message": message}, status=self.get_status())

    def log_exception(self, *raised: Any) -> None:
        """Log what nobody foresaw, without the request: its address may hold Jupyter's token."""
        _, error, _ = raised
        if not isinstance(error, HTTPError | MlnbError):
            self.log.error("mlnb | a request of the sidebar failed", exc_info=error)


class _ListHandler(_Handler):
    auth_resource = "kernels"
    _track_activity = False  # else an open sidebar would keep JupyterHub from ending an idle server

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        """List what the kernels of this server serve."""
        listing = await self.sidebar.deployments.list()
        self.answer(
            {
                "deployments": [one.to_json() for one in listing.deployments],
                "proxy": self.sidebar.proxied(),
                "trouble": listing.trouble,
            }
        )


class _ActionHandler(_Handler):
    auth_resource = "kernels"

    @authenticated
    @authorized("execute")
    async def post(self, process: str, name: str, action: str) -> None:
        """Stop, start or roll back a deployment."""
        request: dict[str, Any] = {"do": action, "name": name}
        body = self._body()
        if action == "rollback":
            request["version"] = _version(body)
        told = await self.sidebar.deployments.tell(process, request)
        if "error" in told:
            self.answer({"message": str(told["error"])}, status=_status(told.get("status")))
        else:
            self.answer({"notice": str(told.get("notice", ""))})

    def _body(self) -> dict[str, Any]:
        try:
            body = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise HTTPError(HTTPStatus.BAD_REQUEST, "The body must be a JSON object.")
        return body


class _RegistryHandler(_Handler):
    auth_resource = "contents"
    _track_activity = False

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        """Show the registries: the default one, and those of what is live."""
        listing = await self.sidebar.deployments.list()
        self.answer({"registries": await self.sidebar.registries.read(listing.deployments)})


def _version(body: dict[str, Any]) -> int:
    version = body.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > 0:
        return version
    raise InvalidInputError("A roll back takes the version that is live now, as {'version': 3}.")


def _status(told: Any) -> int:
    """Return the status that a process told, if it is one of an error; that of a login is Jupyter's alone."""
    if told in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return HTTPStatus.CONFLICT
    known = isinstance(told, int) and HTTPStatus.BAD_REQUEST <= told <= HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED
    return told if known else HTTPStatus.BAD_GATEWAY
