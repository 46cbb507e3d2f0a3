from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fast_server import GET, TEXT, Client, asgi, chunked, post
from starlette.routing import Route

from mlnb.errors import InvalidInputError, PortInUseError
from mlnb.serving.access import OPEN, OPEN_PATHS, Token
from mlnb.serving.app import create_app
from mlnb.serving.load_balancer import LoadBalancer
from mlnb.serving.server import Server, bind
from mlnb.serving.tokens import access_of

SECRET = "correct-horse:battery/staple=="  # noqa: S105 - of these tests
BEARER = f"Authorization: Bearer {SECRET}"


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (f"Bearer {SECRET}", True),
        (f"bearer   {SECRET} ", True),
        (basic("", SECRET), True),
        (basic("any user", SECRET), True),
        ("BASIC" + basic("", SECRET)[5:], True),
        ("", False),
        ("Bearer", False),
        ("Bearer ", False),
        (SECRET, False),
        (f"Bearer {SECRET[:-1]}", False),
        (f"Bearer {SECRET}x", False),
        (f"Token {SECRET}", False),
        (basic(SECRET, ""), False),
        (basic(SECRET, "x"), False),
        ("Basic " + b64encode(SECRET.partition(":")[2].encode()).decode(), False),
        ("Basic not base64!", False),
        ("Basic \xff", False),
        ("Bearer " + "x" * 60_000, False),
    ],
)
def test_who_is_admitted(header: str, admitted: bool) -> None:
    assert Token(SECRET).admits(header.encode("latin-1")) is admitted
    assert OPEN.admits(header.encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "token is empty"),
        (" \n", "token is empty"),
        ("fifteen-letters", "has 15 characters"),
        ("two words are not one token", "without white space"),
        ("a-token-with-a\x07bell", "without white space"),
        ("a-token-in-two\nlines-of-text", "without white space"),
        ("ein-schlüssel-mit-umlaut", "ASCII"),
        ("x" * 4097, "has 4097 characters"),
    ],
)
def test_what_is_no_token(text: str, says: str, tmp_path: Path) -> None:
    (file := tmp_path / "token").write_text(text)
    attempts: list[Any] = [
        lambda: Token(text),
        lambda: access_of(str(file), environ={}),
        lambda: access_of(None, environ={"MLNB_TOKEN": text}),
        lambda: LoadBalancer(["http://127.0.0.1:9"], token=text),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidInputError) as raised:
            attempt()
        assert says in str(raised.value) or "characters" in str(raised.value)  # a file's text is counted in bytes
        assert "a token is one line of 16 characters or more" in str(raised.value)
        assert not text.strip() or text not in str(raised.value)
        assert raised.value.__cause__ is None


def test_where_the_token_comes_from(tmp_path: Path) -> None:
    (file := tmp_path / "token").write_text(SECRET + "\r\n")
    environ = {"MLNB_TOKEN": "the-environment's-own", "HOME": "/"}
    access = access_of(str(file), environ=environ)
    assert access.admits(f"Bearer {SECRET}".encode())
    assert not access.admits(b"Bearer the-environment's-own")
    assert environ == {"HOME": "/"}  # nothing that is started later finds it there
    assert access_of(None, environ={"MLNB_TOKEN": SECRET}).admits(f"Bearer {SECRET}".encode())
    assert access_of(None, environ={}) is OPEN
    assert SECRET not in repr(access)
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), ("a\0b", "it is no path")):
        with pytest.raises(InvalidInputError, match=f"cannot be read: .*{reason}.* Give --token-file"):
            access_of(str(path), environ={})


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_needs_no_token(address: str) -> None:
    OPEN.check_host(address)
    Token(SECRET).check_host(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.7", "fe80::1%eth0", "::ffff:10.0.0.7"])  # noqa: S104
def test_wider_than_loopback_needs_one(address: str) -> None:
    Token(SECRET).check_host(address)
    with pytest.raises(InvalidInputError, match=r"--token-file FILE or MLNB_TOKEN"):
        OPEN.check_host(address)


@pytest.mark.parametrize("host", ["198.51.100.7", "no" * 200, "a\0b", "::g"])
def test_an_address_that_this_machine_has_not(host: str) -> None:
    with pytest.raises(
        InvalidInputError, match=r"is no address of this machine; --host takes 127\.0\.0\.1, "
    ) as raised:
        bind(0, host=host)
    assert len(str(raised.value)) < 400


def test_a_port_that_is_taken_is_so_on_every_address() -> None:
    with bind(0) as taken:
        port = taken.getsockname()[1]
        for host in ("0.0.0.0", "::"):  # noqa: S104
            with pytest.raises(PortInUseError, match=f"Port {port} cannot be used: .* listens on it"):
                bind(port, host=host)
    with bind(0, host="::1") as six:
        assert six.getsockname()[0] == "::1"


def test_every_route_of_the_app_needs_it() -> None:
    app = create_app({})
    routes = [route for route in app.routes if isinstance(route, Route)]
    assert {"/metrics", "/dashboard", "/openapi.json", "/docs", "/predict"} | OPEN_PATHS <= {one.path for one in routes}
    with Server(app, port=0, access=Token(SECRET)) as server, httpx.Client(base_url=server.url) as client:
        for route in routes:
            for method in sorted(route.methods or ()):
                answer = client.request(method, route.path)
                assert (answer.status_code == 401) is (route.path not in OPEN_PATHS), (method, route.path)
        for path in ("/no/such", "/static-offline-docs/none.js", "/livez/", "/livez/../metrics", "//livez"):
            assert client.get(path).status_code == 401
        for authorization in (f"Bearer {SECRET}", basic("me", SECRET)):
            assert client.get("/metrics", headers={"authorization": authorization}).status_code == 200
            assert client.get("/no/such", headers={"authorization": authorization}).status_code == 404
        refused = client.post("/v2/models/iris/infer", json={})
    assert refused.headers.get_list("www-authenticate") == ["Bearer", 'Basic realm="mlnb"']
    assert refused.headers["content-type"] == "application/problem+json"
    document = refused.json()
    assert (document["title"], document["status"]) == ("A token is needed", 401)
    assert document["error"] == document["detail"]
    assert "Authorization: Bearer TOKEN" in document["detail"]


@pytest.fixture
def server() -> Iterator[Server]:
    routes = {b"/echo": lambda exchange: exchange.respond(200, TEXT, exchange.body)}
    with Server(asgi, port=0, routes=routes.get, access=Token(SECRET)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        yield client


def refusal(client: Client) -> bytes:
    """Read a 401 off the connection; return its head."""
    line, head = client._file.readline(), b""
    assert line.startswith(b"HTTP/1.1 401 ")
    while (header := client._file.readline()) != b"\r\n":
        head += header.lower()
    assert b"www-authenticate: bearer\r\n" in head
    assert b'www-authenticate: basic realm="mlnb"\r\n' in head
    length = int(head.partition(b"content-length: ")[2].split(b"\r")[0])
    assert json.loads(client._file.read(length))["status"] == 401
    return head


def test_a_connection_is_kept_behind_a_refusal(client: Client) -> None:
    for request in (
        post("/echo", b"x"), post("/echo", bytes(60_000), "Authorization: Bearer guess"), post("/other", bytes(60_000)),
        GET, chunked("/other", b"x", b"yz"),
    ):  # fmt: skip
        client.send(request)
        assert b"connection: close" not in refusal(client)
        assert client.ask(post("/echo", b"mine", BEARER)).body == b"mine"
    assert client.ask(post("/other", b"mine", BEARER)).body == b"asgi POST /other mine"
    client.send(post("/echo", b"1", BEARER) + post("/echo", b"2") + post("/echo", b"3", BEARER))
    assert client.read().body == b"1"
    refusal(client)
    assert client.read().body == b"3"


@pytest.mark.parametrize("framing", ["Content-Length: 60000000", "Transfer-Encoding: chunked"])
def test_a_large_body_is_not_waited_for(client: Client, framing: str) -> None:
    client.send(f"POST /echo HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n".encode())
    assert b"connection: close" in refusal(client)
    assert client.rest() == b""


def test_a_large_body_elsewhere_is_dropped_as_it_comes(client: Client, server: Server) -> None:
    client.send(b"POST /other HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\n\r\n")
    refusal(client)  # with nothing of the body sent
    (connection,) = server.connections
    client.send(bytes(1_999_999))
    assert connection.cycle.body == b""
    client.send(b"x")
    assert client.ask(post("/other", b"mine", BEARER)).body == b"asgi POST /other mine"
    assert client.ask(post("/echo", b"mine", BEARER)).body == b"mine"


def test_a_balancer_brings_the_token(server: Server) -> None:
    with LoadBalancer([server.url], token=SECRET) as balancer, LoadBalancer([server.url]) as without:
        assert httpx.post(f"{balancer.url}/echo", content=b"x").text == "x"
        assert httpx.post(f"{without.url}/echo", content=b"x").status_code == 401
        own = {"authorization": "Bearer of-the-client-itself"}
        assert httpx.post(f"{balancer.url}/echo", content=b"x", headers=own).status_code == 401
        assert httpx.post(f"{without.url}/echo", headers={"authorization": basic("", SECRET)}).status_code == 200
        assert SECRET not in repr(balancer) + str(balancer.snapshot())
