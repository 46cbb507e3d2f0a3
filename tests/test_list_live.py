"""`mlnb list`: what is live in all processes, before the models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from discovered import deploying
from waiting import wait_until

from mlnb import ModelRegistry, cli
from mlnb.serving.discovery.listing import list_live


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr("mlnb.serving.discovery.listing._PATIENCE", 30.0)  # the machine may be busy
    return tmp_path / "runtime" / "mlnb"


def test_it_lists_what_is_live_in_other_processes(registry: ModelRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    with deploying("iris", "digits") as process:
        wait_until(lambda: len(list_live().deployments) == 2, seconds=30)
        assert cli.main(["list"]) == 0
        live, header, digits, iris, empty, models, *stored = capsys.readouterr().out.splitlines()
        assert (live, empty, models) == ("Live", "", "Models")
        assert header.split() == ["name", "version", "requests/s", "p99", "errors", "from", "URL"]
        port = list_live().deployments[0].port
        url = f"http://127.0.0.1:{port}/models"
        assert digits.split() == ["digits", "1", "0", "—", "0", "pid", str(process.pid), f"{url}/digits"]
        assert len(stored) == 3
        assert cli.main(["list", "--live"]) == 0
        assert capsys.readouterr().out.splitlines() == [header, digits, iris]
        assert cli.main(["list", "--live", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [(one["name"], one["pid"], one["state"]) for one in told["deployments"]] == [
            ("digits", process.pid, "live"), ("iris", process.pid, "live"),
        ]  # fmt: skip
        assert told["trouble"] == ""
        assert cli.main(["list", "iris", "--live"]) == 0
        assert capsys.readouterr().out.splitlines()[1:] == [iris.replace("iris  ", "iris", 1)]
        assert cli.main(["list", "--json"]) == 0
        assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["digits", "iris"]
        process.kill()
        process.wait()
        assert cli.main(["list"]) == 0
        assert capsys.readouterr().out.splitlines() == stored


def test_nothing_is_live(registry: ModelRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--live"]) == 0
    assert capsys.readouterr() == ("", "Nothing is live. In a notebook: %deploy_model model\n")
    assert cli.main(["list", "--live", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deployments": [], "trouble": ""}


def test_a_folder_that_is_not_trusted_is_said_to_be_one(
    folder: Path, registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    for arguments in (["list"], ["list", "--live"]):
        assert cli.main(arguments) == 0
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Others may write to the folder" in printed.err.splitlines()[0]
    assert cli.main(["list", "--live", "--json"]) == 0
    assert "Others may write" in json.loads(capsys.readouterr().out)["trouble"]


def test_one_is_stopped_from_the_shell(registry: ModelRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    with deploying("iris", "digits") as first, deploying("iris") as second:
        wait_until(lambda: len(list_live().deployments) == 3, seconds=30)
        assert cli.main(["stop", "iri"]) == 1
        assert "'iri' is not live; did you mean 'iris'? There are: digits, iris" in capsys.readouterr().err
        assert cli.main(["stop", "iris"]) == 1
        said = capsys.readouterr().err
        assert all(f"--pid {process.pid} (no notebook)" in said for process in (first, second))
        assert cli.main(["stop", "iris", "--pid", str(first.pid)]) == 0
        assert capsys.readouterr().out == "iris v1 is stopped.\n"
        assert cli.main(["stop", "digits"]) == 0
        left = list_live().deployments
        assert [(one.name, one.pid) for one in left] == [("iris", second.pid)]
