"""Where a browser may reach a server on this machine's loopback, told by the environment and by a notebook's page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Page", "Way", "advice", "best_root", "candidates", "checked_root"]

_LONGEST = 2000  # characters of a URL
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page that shows a notebook says of itself.

    Attributes
    ----------
    origin : str
        Its ``location.origin``: ``https://hub.example``, or what an editor's window has.
    base_url : str
        Jupyter's, ``/user/ada/``; "" where the page is none of Jupyter's.
    forwarded : str
        What the page was told for the port: ``google.colab.kernel.proxyPort`` on Colab. "" elsewhere.
    """

    origin: str
    base_url: str = ""
    forwarded: str = ""

    @property
    def on_loopback(self) -> bool:
        """Whether the browser reached it at an address of its own machine."""
        parts = _parsed(self.origin)
        return parts is not None and (parts.hostname in _LOOPBACK or str(parts.hostname).endswith(".localhost"))

    @property
    def on_the_web(self) -> bool:
        """Whether it came from a server, and is not an editor's own window."""
        return _parsed(self.origin) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way on which a browser may reach the server.

    Attributes
    ----------
    root : str
        The URL of the server, without a path of its own and without a slash at its end.
    kind : {'loopback', 'jupyter', 'forwarded'}
        The port itself; through jupyter-server-proxy, behind Jupyter's login; or a port that somebody forwards, which
        often has a login of its own, so that a page may link to it and cannot ask it.
    """

    root: str
    kind: Literal["loopback", "jupyter", "forwarded"]


def candidates(port: int, environment: Mapping[str, str], page: Page | None = None) -> tuple[Way, ...]:
    """Return the ways to try, the best first.

    Parameters
    ----------
    port : int
        Of the server, on loopback.
    environment : mapping of str to str
        Variables of the kernel's process. ``JUPYTERHUB_PUBLIC_URL`` is set by JupyterHub 5 where its host is
        configured; ``CODESPACE_NAME`` and ``GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN`` by GitHub Codespaces;
        ``VSCODE_PROXY_URI`` by code-server and Coder. ``JUPYTERHUB_HOST``, where hubs give each user a domain, and
        ``BINDER_LAUNCH_HOST`` are hosts that do not serve the notebook: they are not used.
    page : Page, optional
        Who asks. Without one there is no Jupyter to ask but the one that the environment names, and loopback comes
        last.

    Returns
    -------
    tuple of Way
        Loopback is among them where the browser may be on this machine.

    Examples
    --------
    >>> [way.root for way in candidates(8000, {})]
    ['http://127.0.0.1:8000']
    >>> page = Page(origin="https://hub.example", base_url="/user/ada/")
    >>> [way.root for way in candidates(8000, {}, page)]
    ['https://hub.example/user/ada/proxy/8000']
    """
    return tuple(dict.fromkeys(_ways(port, environment, page)))


def _ways(port: int, environment: Mapping[str, str], page: Page | None) -> Iterator[Way]:
    loopback = Way(root=f"http://127.0.0.1:{port}", kind="loopback")
    if page is not None:
        # A page from elsewhere may not ask this machine's loopback: browsers warn, and it would be another machine's.
        if page.on_loopback or not page.on_the_web:
            yield loopback
        yield from _way(page.forwarded, "forwarded")
        if page.on_the_web and page.base_url:
            yield from _way(f"{page.origin}{_slashed(page.base_url)}proxy/{port}", "jupyter")
    yield from _told(port, environment, page)
    if page is None:
        yield loopback


def _told(port: int, environment: Mapping[str, str], page: Page | None) -> Iterator[Way]:
    """Yield the ways that the environment tells of; some are told as seen from the page."""
    hub = environment.get("JUPYTERHUB_PUBLIC_URL", "")
    if hub:
        yield from _way(f"{hub.rstrip('/')}/proxy/{port}", "jupyter")
    codespace = environment.get("CODESPACE_NAME", "")
    if codespace:
        domain = environment.get("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN") or "app.github.dev"
        yield from _way(f"https://{codespace}-{port}.{domain}", "forwarded")
    template = environment.get("VSCODE_PROXY_URI", "")
    origin = page.origin if page is not None and page.on_the_web else ""
    if "{{port}}" in template and (origin or "{{host}}" not in template):
        filled = template.replace("{{port}}", str(port)).replace("{{host}}", urlsplit(origin).netloc)
        yield from _way(urljoin(f"{origin}/", filled), "forwarded")


def _way(url: str, kind: Literal["jupyter", "forwarded"]) -> Iterator[Way]:
    root = checked_root(url)
    if root:
        yield Way(root=root, kind=kind)


def best_root(port: int, environment: Mapping[str, str], reached: str = "") -> str:
    """Return the URL of the server as a browser reaches it, as far as that is known.

    Parameters
    ----------
    port : int
    environment : mapping of str to str
        As for :func:`candidates`.
    reached : str
        What a page has reached; "" before one has said so.

    Returns
    -------
    str
        What was reached; else what the environment tells; else loopback, which the notebook itself reaches: on a hub
        or on Binder nobody but a page knows the host.

    Examples
    --------
    >>> best_root(8000, {"CODESPACE_NAME": "fluffy-barnacle"})
    'https://fluffy-barnacle-8000.app.github.dev'
    """
    return reached or candidates(port, environment)[0].root


def advice(port: int, page: Page) -> str:
    """Return what to do where a page reaches the server on no way, "" where nothing is missing.

    Examples
    --------
    >>> advice(8000, Page(origin="vscode-webview://1f2a"))
    ''
    """
    if page.on_the_web and page.base_url:
        return (
            f"Your browser does not reach port {port} through Jupyter. Where Jupyter runs: "
            "pip install jupyter-server-proxy, then restart Jupyter."
        )
    if page.on_loopback or not page.on_the_web:
        return ""
    return f"Your browser does not reach port {port} of the machine that runs this notebook: forward the port to it."


def checked_root(url: str) -> str:
    """Return ``url`` without a slash at its end if it may stand before a path, else "".

    Examples
    --------
    >>> checked_root("https://hub.example/user/ada/proxy/8000/")
    'https://hub.example/user/ada/proxy/8000'
    >>> checked_root("javascript:alert(1)"), checked_root("https://u:secret@hub.example"), checked_root("./proxy/8000")
    ('', '', '')
    """
    parts = _parsed(url)
    if parts is None or parts.username is not None or parts.query or parts.fragment:
        return ""
    return url.rstrip("/")


def _parsed(url: str) -> SplitResult | None:
    """Return the parts of an absolute http or https URL, None if it is no such URL or cannot stand in a page."""
    if len(url) > _LONGEST or not url.isprintable() or any(sign in url for sign in " \"'<>\\{}`"):
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises if it is none
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def _slashed(path: str) -> str:
    """Return a base URL with one slash at both ends."""
    inner = path.strip("/")
    return f"/{inner}/" if inner else "/"
