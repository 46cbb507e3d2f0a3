from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sklearn.dummy import DummyClassifier

import mlnb
from mlnb import ModelRegistry, cli
from mlnb.scaling.autoscale import Autoscale

CONSTANT = DummyClassifier().fit([[0.0], [1.0]], [1, 1])


@pytest.fixture
def iris(registry: ModelRegistry) -> ModelRegistry:
    """Two versions, the first one live and @champion."""
    registry.register(CONSTANT, "iris", example=[[0.0]], metrics={"accuracy": 0.96}, description="first")
    registry.register(CONSTANT, "iris", example=[[0.5]], metrics={"accuracy": 0.97}, description="sec\x1b[31mond")
    registry.record(registry.version("iris:1"), "deployed")
    registry.set_alias("iris", "champion", 1)
    return registry


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command that succeeds; return what it printed."""

    def run(*arguments: str) -> str:
        code = cli.main(arguments)
        printed = capsys.readouterr()
        assert (code, printed.err) == (0, "")
        return printed.out

    return run


def test_list_of_the_models(iris: ModelRegistry, said: Any) -> None:
    header, line = said("list").splitlines()
    assert header.split() == ["model", "version", "live", "created", "metrics", "description", "size"]
    assert line.startswith("iris         1  ● live @champion")


def test_list_of_a_model(iris: ModelRegistry, said: Any) -> None:
    header, second, first = said("list", "iris").splitlines()
    assert header.split()[4] == "accuracy"
    assert "0.97 +0.01" in second
    assert "\x1b" not in second
    assert "● live" in first
    assert max(map(len, (header, second, first))) <= 100


def test_list_has_all_rows(registry: ModelRegistry, said: Any) -> None:
    for _ in range(51):
        registry.register(CONSTANT, "iris")
    assert len(said("list", "iris").splitlines()) == 52


def test_list_as_json(iris: ModelRegistry, said: Any) -> None:
    second, first = json.loads(said("list", "iris", "--json"))
    assert (second["number"], second["live"], second["aliases"], second["portable"]) == (2, False, [], None)
    assert (first["number"], first["live"], first["aliases"]) == (1, True, ["champion"])
    assert second["metrics"] == {"accuracy": 0.97}
    assert [one["number"] for one in json.loads(said("list", "--json"))] == [1]


def test_list_of_nothing(registry: ModelRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    assert capsys.readouterr() == ("", f"No models in {registry.url} yet.\n")
    assert cli.main(["list", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_show_prints_the_model_card(iris: ModelRegistry, said: Any) -> None:
    assert said("show", "iris@champion") == iris.card("iris:1").markdown
    assert "\x1b" not in said("show", "iris")


def test_show_as_json(iris: ModelRegistry, said: Any) -> None:
    shown = json.loads(said("show", "iris:1", "--json"))
    assert (shown["name"], shown["number"], shown["aliases"], shown["golden_rows"]) == ("iris", 1, ["champion"], 1)
    assert [event["action"] for event in shown["history"]] == ["registered", "deployed", "aliased"]
    assert shown["signature"]["fields"][0]["name"] == "x0"
    assert (shown["proof"], shown["registry"]) == (None, iris.url)


def test_diff(iris: ModelRegistry, said: Any) -> None:
    header, *lines = said("diff", "iris@champion", "iris").splitlines()
    assert header.split() == ["section", "name", "iris:1", "iris:2", "change"]
    assert ["metrics", "accuracy", "0.96", "0.97", "+0.01"] in [line.split() for line in lines]
    found = json.loads(said("diff", "iris:1", "iris:2", "--json"))
    assert (found["old"], found["new"]) == ("iris:1", "iris:2")
    assert {"section": "metrics", "name": "accuracy", "old": "0.96", "new": "0.97", "delta": "+0.01"} in found[
        "changes"
    ]
    assert said("diff", "iris:1", "iris:1") == "iris:1 → iris:1: no difference\n"


def test_copy(iris: ModelRegistry, said: Any, tmp_path: Path) -> None:
    there = tmp_path / "there"
    assert said("copy", "iris", "--to", str(there)) == f"iris:2 → iris:1 in {there}\n"
    assert ModelRegistry(there).version("iris:1").metrics == {"accuracy": 0.97}


def test_another_registry_may_be_named_before_or_after_the_command(
    iris: ModelRegistry, said: Any, tmp_path: Path
) -> None:
    there = str(tmp_path / "there")
    iris.copy("iris:1", there)
    assert len(said("list", "iris", "--registry", there).splitlines()) == 2
    assert len(said("--registry", there, "list", "iris").splitlines()) == 2


def test_prove_says_what_it_found_and_fails_if_it_is_not_portable(
    iris: ModelRegistry, said: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said("prove", "iris:1").startswith("iris:1: portable, 1 golden row")
    assert iris.proof("iris:1") is not None

    class Own:
        def predict(self, rows: Any) -> Any:
            return rows

    Own.__module__ = "of_the_notebook"  # as code beside the notebook: stored by its name only
    Own.__qualname__ = "Own"
    module = type(sys)("of_the_notebook")
    monkeypatch.setattr(module, "Own", Own, raising=False)
    monkeypatch.setitem(sys.modules, "of_the_notebook", module)
    iris.register(Own(), "own")
    assert cli.main(["prove", "own"]) == 1
    assert capsys.readouterr().out.startswith("own:1: not portable: ")


def test_a_proof_that_takes_too_long_is_one_line(
    iris: ModelRegistry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(*_: object) -> None:
        raise subprocess.TimeoutExpired("python", 300)

    monkeypatch.setattr(ModelRegistry, "prove", too_long)
    assert cli.main(["prove", "iris:1"]) == 1
    assert capsys.readouterr().err.startswith("mlnb: iris:1 could not be proved: ")


def test_alias(iris: ModelRegistry, said: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("alias", "iris", "champion", "2", "--expected", "1") == "iris@champion → iris:2\n"
    assert said("alias", "iris", "challenger", "1", "--expected", "none") == "iris@challenger → iris:1\n"
    assert said("alias", "iris", "old", "1") == "iris@old → iris:1\n"
    assert iris.aliases("iris") == {"champion": 2, "challenger": 1, "old": 1}
    assert cli.main(["alias", "iris", "champion", "1", "--expected", "1"]) == 1
    assert "iris@champion means version 2, not version 1" in capsys.readouterr().err


def test_delete_and_collect(iris: ModelRegistry, said: Any) -> None:
    assert said("collect") == "0 files freed, 0 B\n"
    assert said("delete", "iris:2") == "iris:2 deleted; `mlnb collect` frees its files\n"
    assert [version.number for version in iris.versions("iris")] == [1]
    assert said("collect").startswith(("1 file freed, ", "2 files freed, ", "3 files freed, "))


@pytest.mark.parametrize("reference", ["iris", "iris@champion"])
def test_delete_wants_a_number(iris: ModelRegistry, capsys: pytest.CaptureFixture[str], reference: str) -> None:
    assert cli.main(["delete", reference]) == 2
    assert capsys.readouterr().err == "mlnb: name the version to delete by its number: iris:N\n"
    assert len(iris.versions("iris")) == 2


def test_trust(
    iris: ModelRegistry, said: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlnb.registry import trust

    monkeypatch.setattr(trust, "_this_process", set())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "of another person"))
    assert cli.main(["copy", "iris", "--to", str(tmp_path / "there")]) == 1
    assert capsys.readouterr().err.endswith(f" In a shell: mlnb trust {iris.url}\n")
    assert said("trust", iris.url).startswith(f"{iris.url} is trusted: ")
    said("copy", "iris", "--to", str(tmp_path / "there"))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let `mlnb serve` go no further than what it is to serve; return what each was told."""
    from mlnb.serving import standalone

    told: list[Any] = []

    class Stops:
        def __init__(self, *_: Any, **given: Any) -> None:
            told.append(SimpleNamespace(**given))

        def run(self) -> None:
            pass

    monkeypatch.setattr(standalone, "Standalone", Stops)
    return told


@pytest.fixture
def people(registry: ModelRegistry) -> ModelRegistry:
    """One version with named fields."""
    rows = [{"age": 31.0, "name": "a", "mail": "b"}, {"age": 52.0, "name": "c", "mail": "d"}]
    registry.register(DummyClassifier().fit(rows, [1, 1]), "people", example=rows)
    return registry


def test_serve_logs_what_it_is_told_to(people: ModelRegistry, said: Any, served: list[Any], tmp_path: Path) -> None:
    assert said("serve", "people") == ""
    said("serve", "--log", "people")
    said("serve", "people", "--log-to", str(tmp_path / "log.sqlite"), "--leave-out", "age", "--leave-out", "name",
         "--hash", "mail")  # fmt: skip
    said("serve", "people", "--log", "--no-inputs")
    nothing, usual, hiding, answers = [given.watching.log for given in served]
    assert nothing is None
    assert usual.file == tmp_path / "models" / "predictions.sqlite"
    assert (usual.leave_out, usual.hashed, usual.inputs) == ((), (), True)
    assert hiding.url == f"sqlite:///{tmp_path / 'log.sqlite'}"
    assert (hiding.leave_out, hiding.hashed, hiding.inputs) == (("age", "name"), ("mail",), True)
    assert (answers.url, answers.inputs) == (usual.url, False)


def test_serve_watches_what_it_is_told_to(people: ModelRegistry, said: Any, served: list[Any]) -> None:
    from mlnb.monitoring.alerts import DEFAULT_RULES

    said("serve", "people")
    said("serve", "people", "--alert", "p99 > 2 s for 1 minute", "--alert", "drift > 0%", "--webhook", "http://a/b")
    usual, own = [given.watching for given in served]
    assert (usual.rules, usual.webhooks) == (DEFAULT_RULES, ())
    assert [rule.name for rule in own.rules] == ["p99 > 2 s for 1m", "drift > 0 %"]
    assert own.webhooks == ("http://a/b",)


def test_serve_scales_as_it_is_told_to(people: ModelRegistry, said: Any, served: list[Any]) -> None:
    said("serve", "people")
    said("serve", "people", "--replicas", "1:4", "--p95", "50ms")
    said("serve", "people", "--replicas", "0:2", "--scaling", "queue wait", "--target", "20", "--idle", "10m")
    said("serve", "people", "--replicas", "3:4", "--forecast")
    fixed, objective, asleep, ahead = served
    assert (fixed.autoscale, fixed.manner.replicas) == (None, 0)
    assert (objective.autoscale, objective.manner.replicas) == (Autoscale.of(1, 4, p95="50ms"), 1)
    assert asleep.autoscale == Autoscale.of(0, 2, policy="queue wait", target=20, idle="10m")
    assert asleep.manner.replicas == 1
    assert (ahead.autoscale, ahead.manner.replicas) == (Autoscale.of(3, 4, forecast=True), 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--p95", "50ms"], "--p95 says how replicas follow the load; add bounds: --replicas 1:4.\n"),
        (["--replicas", "2", "--scaling", "cpu"], "--scaling says how replicas follow the load; add bounds"),
        (["--forecast"], "--forecast says how replicas follow the load; add bounds"),
        (["--replicas", "1:4", "--scaling", "nope"], "--scaling='nope': there is no such policy; "),
        (["--replicas", "1:4", "--scaling", "p95"], "--scaling='p95': it is an objective of its own; give --p95=\"50"),
        (["--replicas", "1:4", "--scaling", "ray", "--forecast"], "--forecast: 'ray' has none; there is one for "),
        (["--replicas", "1:4", "--target", "70"], "--target=70.0: a share above 0 and up to 1 is needed"),
        (["--replicas", "0:4", "--idle", "soon"], "--idle='soon': a number of seconds is needed"),
        (["--replicas", "1:4", "--p95", "fast"], "--p95='fast': milliseconds above 0 are needed"),
        (
            ["--replicas", "1:4", "--p95", "50", "--p99", "90", "--scaling", "ray"],
            "--p95 and --p99 and --scaling cannot be followed at once; give one of them.\n",
        ),
        (["--log", "--leave-out", "agee"], "people:1 has no field 'agee' to hide; did you mean 'age'? There are: "),
        (["--log", "--hash", "Name"], "people:1 has no field 'Name' to hide; did you mean 'name'?"),
        (["--leave-out", "age"], "--leave-out, --hash and --no-inputs say what is not logged; add --log.\n"),
        (["--no-inputs"], "--leave-out, --hash and --no-inputs say what is not logged; add --log.\n"),
        (
            ["--log-to", "mysql://db/x"],
            "The log's url begins with 'mysql'; give the path of an SQLite file, or postgresql://USER:PASSWORD@HOST/",
        ),
        (["--alert", "p99 is bad"], "'p99 is bad' is no rule; write it like \"error rate > 5% for 1m\".\n"),
        (["--alert", "accuracy < 0.9"], "There is no metric 'accuracy' to alert on; \"quality\" is what labels tell"),
        (["--webhook", "chat"], "'chat' .. is no webhook; give its whole URL: https://HOST/PATH, or "),
    ],
)  # fmt: skip
def test_serve_refuses_in_the_words_of_a_shell(
    people: ModelRegistry, capsys: pytest.CaptureFixture[str], served: list[Any], options: list[str], says: str
) -> None:
    assert cli.main(["serve", "people", *options]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"mlnb: {says}")
    assert printed.err.count("\n") == 1
    assert served == []


def test_what_is_not_there_is_one_line(iris: ModelRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in [
        (["show", "digits"], f"mlnb: There is no model 'digits' in {iris.url}; "),
        (["show", "iris:9"], "mlnb: 'iris' has no version 9; there are 1-2 (in "),
        (["show", "a/b"], "mlnb: 'a/b' is not a valid model name: "),
        (["delete", "iris:1"], "mlnb: iris:1 is @champion: give the alias to another version first.\n"),
        (["trust", f"{iris.url}-not"], "mlnb: There is no registry in "),
        (["show", "iris\x1b:"], "mlnb: 'iris\\x1b' is not a valid model name"),
    ]:
        assert cli.main(arguments) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith(says)
        assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "mlnb: the following arguments are required: COMMAND; `mlnb -h` explains\n"),
        (["lst"], "mlnb: argument COMMAND: invalid choice: 'lst' "),
        (["show"], "mlnb: the following arguments are required: REF; `mlnb show -h` explains\n"),
        (["copy", "iris"], "mlnb: the following arguments are required: --to; `mlnb copy -h` explains\n"),
        (["list", "--js"], "mlnb: unrecognized arguments: --js; `mlnb -h` explains\n"),
        (["alias", "iris", "a", "x"], "mlnb: argument NUMBER: invalid int value: 'x'; `mlnb alias -h` explains\n"),
        (
            ["alias", "iris", "a", "1", "--expected", "x"],
            "mlnb: argument --expected: invalid number or 'none' value: 'x'",
        ),
        (
            ["serve", "iris", "--replicas", "4:1"],
            "mlnb: argument --replicas: At least 4 and at most 1 replicas cannot both hold",
        ),
        (["serve", "iris", "--replicas", "x"], "mlnb: argument --replicas: replicas='x': a whole number from 0 to 64 "),
        (["serve", "iris", "--log-to", ""], "mlnb: argument --log-to: invalid database value: ''; `mlnb serve -h` "),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(says)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("command", [one.name for one in cli._COMMANDS])
def test_each_command_explains_itself_with_an_example(said: Any, command: str) -> None:
    text = said(command, "-h")
    assert f"example:\n  mlnb {command}" in text
    assert max(map(len, text.splitlines())) <= 100


def test_help_and_version(said: Any) -> None:
    assert all(f"    {one.name} " in said("--help") for one in cli._COMMANDS)
    assert said("--version") == f"mlnb {mlnb.__version__}\n"


def test_an_interrupt_ends_quietly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, registry: ModelRegistry
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelRegistry, "names", interrupted)
    assert cli.main(["list"]) == 130
    assert capsys.readouterr() == ("", "")


def test_from_a_shell(iris: ModelRegistry) -> None:
    done = subprocess.run([sys.executable, "-m", "mlnb", "list", "iris"], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[0].split()[:2] == ["version", "live"]
    assert done.stderr == ""


def test_a_terminal_without_the_signs_shows_the_rest(iris: ModelRegistry) -> None:
    poor = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "mlnb", "list"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=poor)
    assert "? live @champion" in done.stdout


def test_a_reader_that_leaves_is_no_error(iris: ModelRegistry) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "mlnb", "list"], check=False, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_help_loads_nothing_heavy() -> None:
    program = """
import sys
from mlnb.cli import main
code = main(["--help"])
heavy = {"numpy", "orjson", "platformdirs", "IPython", "mlnb.registry", "mlnb.workspace"}
print(code, sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []"
