from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from fitted import Fitted

import mlnb
from mlnb.widgets.reach import note_reached, ways_for
from mlnb.workspace import _workspace
from mlnb.workspace.pages import Surroundings
from mlnb.workspace.public_url import Page, advice, best_root, candidates, checked_root

LOOPBACK = "http://127.0.0.1:8000"
HUB = {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/", "JUPYTERHUB_HOST": "", "JUPYTERHUB_PUBLIC_URL": ""}
HUB_TOLD = HUB | {"JUPYTERHUB_PUBLIC_URL": "https://hub.example/user/ada/"}
BINDER = HUB | {"BINDER_LAUNCH_HOST": "https://mybinder.org/", "JUPYTERHUB_SERVICE_PREFIX": "/user/ada-x1/"}
CODESPACE = {"CODESPACE_NAME": "fluffy-1", "GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN": "app.github.dev"}
CODE_SERVER = {"VSCODE_PROXY_URI": "https://code.example/proxy/{{port}}/"}
CODER = {"VSCODE_PROXY_URI": "https://{{port}}--main--dev--ada.apps.coder.example"}
COLAB = {"COLAB_RELEASE_TAG": "release-colab_20261101"}
VARIABLES = [
    "JUPYTERHUB_PUBLIC_URL", "CODESPACE_NAME", "GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN", "VSCODE_PROXY_URI",
]  # fmt: skip

ON_THIS_MACHINE = Page(origin="http://localhost:8888", base_url="/")
ON_A_HUB = Page(origin="https://hub.example", base_url="/user/ada/")
ON_BINDER = Page(origin="https://hub.2i2c.mybinder.org", base_url="/user/ada-x1/")
IN_VS_CODE = Page(origin="vscode-webview://1h2fj3")
IN_A_CODESPACE = Page(origin="https://abc.vscode-cdn.net")
IN_CODE_SERVER = Page(origin="https://code.example")
IN_COLAB = Page(origin="https://x-colab.googleusercontent.com", forwarded="https://8000-gpu-t4.prod.colab.dev")


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({}, LOOPBACK),
        (HUB, LOOPBACK),  # nobody but a page knows the host
        (BINDER, LOOPBACK),
        (COLAB, LOOPBACK),
        (HUB_TOLD, "https://hub.example/user/ada/proxy/8000"),
        (CODESPACE, "https://fluffy-1-8000.app.github.dev"),
        (CODE_SERVER, "https://code.example/proxy/8000"),
        (CODER, "https://8000--main--dev--ada.apps.coder.example"),
        ({"VSCODE_PROXY_URI": "./proxy/{{port}}"}, LOOPBACK),
        ({"VSCODE_PROXY_URI": "https://{{port}}.{{host}}"}, LOOPBACK),
        ({"JUPYTERHUB_PUBLIC_URL": "/user/ada/"}, LOOPBACK),
        ({"VSCODE_PID": "7", "TERM_PROGRAM": "vscode"}, LOOPBACK),  # VS Code forwards ports to loopback
    ],
)
def test_what_the_environment_tells(environment: dict[str, str], root: str) -> None:
    assert best_root(8000, environment) == root
    assert best_root(8000, environment, "https://reached.example") == "https://reached.example"


@pytest.mark.parametrize(
    ("environment", "page", "ways"),
    [
        (
            {"VSCODE_PROXY_URI": "https://{{port}}-{{host}}/"},
            IN_CODE_SERVER,
            [("forwarded", "https://8000-code.example")],
        ),
        ({"VSCODE_PROXY_URI": "./proxy/{{port}}"}, IN_CODE_SERVER, [("forwarded", "https://code.example/proxy/8000")]),
        (
            {"VSCODE_PROXY_URI": "//{{port}}.code.example"},
            IN_CODE_SERVER,
            [("forwarded", "https://8000.code.example")],
        ),
        ({}, ON_THIS_MACHINE, [("loopback", LOOPBACK), ("jupyter", "http://localhost:8888/proxy/8000")]),
        (HUB, ON_A_HUB, [("jupyter", "https://hub.example/user/ada/proxy/8000")]),
        (HUB_TOLD, ON_A_HUB, [("jupyter", "https://hub.example/user/ada/proxy/8000")]),
        (BINDER, ON_BINDER, [("jupyter", "https://hub.2i2c.mybinder.org/user/ada-x1/proxy/8000")]),
        ({}, IN_VS_CODE, [("loopback", LOOPBACK)]),
        (CODESPACE, IN_VS_CODE, [("loopback", LOOPBACK), ("forwarded", "https://fluffy-1-8000.app.github.dev")]),
        (CODESPACE, IN_A_CODESPACE, [("forwarded", "https://fluffy-1-8000.app.github.dev")]),
        (CODE_SERVER, IN_CODE_SERVER, [("forwarded", "https://code.example/proxy/8000")]),
        (CODER, IN_CODE_SERVER, [("forwarded", "https://8000--main--dev--ada.apps.coder.example")]),
        (COLAB, IN_COLAB, [("forwarded", "https://8000-gpu-t4.prod.colab.dev")]),
        ({}, Page(origin="null"), [("loopback", LOOPBACK)]),
        (
            CODE_SERVER,  # a JupyterLab that was started in code-server's terminal
            ON_THIS_MACHINE,
            [
                ("loopback", LOOPBACK),
                ("jupyter", "http://localhost:8888/proxy/8000"),
                ("forwarded", "https://code.example/proxy/8000"),
            ],
        ),
    ],
)
def test_what_a_page_tries(environment: dict[str, str], page: Page, ways: list[tuple[str, str]]) -> None:
    assert [(way.kind, way.root) for way in candidates(8000, environment, page)] == ways


def test_what_is_missing_is_said_where_something_can_be_done() -> None:
    assert "jupyter-server-proxy" in advice(8000, ON_THIS_MACHINE)  # as behind ssh -L 8888
    assert "jupyter-server-proxy" in advice(8000, Page(origin="http://lab.localhost:8888", base_url="/"))
    assert advice(8000, Page(origin="http://localhost:8080")) == ""
    assert advice(8000, IN_VS_CODE) == ""
    assert "pip install jupyter-server-proxy" in advice(8000, ON_A_HUB)
    assert "forward" in advice(8000, IN_A_CODESPACE)


@pytest.mark.parametrize(
    "url",
    [
        "", "javascript:alert(1)", "//evil.example", "https://", "https://u:p@hub.example", "https://hub.example/?token=x",
        "https://hub.example/#x", "https://hub.example/a b", 'https://hub.example/"><script>', "https://hub.example:99999",
        "https://[::1", "https://hub.example/\n", "https://hub.example/" + "x" * 2000,
    ],
)  # fmt: skip
def test_what_may_not_stand_before_a_path_is_none(url: str) -> None:
    assert checked_root(url) == ""
    known = Surroundings()
    known.tell("http://127.0.0.1:8000", url)
    assert known.public_url(f"{LOOPBACK}/models/iris") == f"{LOOPBACK}/models/iris"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    """A workspace that no page has told anything, and an environment that tells nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_workspace, "surroundings", Surroundings())
    return _workspace.surroundings


def test_a_deployment_has_the_url_that_a_page_has_reached(
    known: Surroundings, digits: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = mlnb.deploy(digits.model, name="digits", example=digits.rows)
    url = deployment.url
    assert deployment.public_url == url
    port = urlsplit(url).port
    monkeypatch.setenv("CODESPACE_NAME", "fluffy-1")
    assert deployment.public_url == f"https://fluffy-1-{port}.app.github.dev/models/digits"

    local = url.removesuffix("/models/digits")
    asked = {"asker": "1", "url": local, "origin": "https://hub.example", "base_url": "/user/ada/", "forwarded": ""}
    told = ways_for(asked, live=True, known=known)
    assert told["asker"] == "1"
    assert told["ways"][0] == {"root": f"https://hub.example/user/ada/proxy/{port}", "kind": "jupyter"}
    assert ways_for(asked, live=False, known=known)["ways"] == []
    note_reached({"url": local, "root": told["ways"][0]["root"]}, known=known)
    assert deployment.public_url == f"https://hub.example/user/ada/proxy/{port}/models/digits"
    note_reached({"url": "http://127.0.0.1:1", "root": "https://other.example"}, known=known)  # of another port
    assert deployment.public_url == f"https://fluffy-1-{port}.app.github.dev/models/digits"
    assert repr(deployment).endswith(f"live at {url}>")
