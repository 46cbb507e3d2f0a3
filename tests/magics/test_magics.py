from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from fitted import Fitted
from IPython.core.error import UsageError
from IPython.utils.capture import capture_output
from waiting import free_port

import mlnb
from mlnb.scaling.policies.threshold import CpuThreshold

DEPLOY = "model --name tumour --input X_train"


def run(shell: Any, cell: str) -> Any:
    result = shell.run_cell(cell)
    result.raise_error()
    return result.result


def bundle(shell: Any, value: Any) -> dict[str, Any]:
    data: dict[str, Any] = shell.display_formatter.format(value)[0]
    return data


def test_deploy_returns_what_the_function_returns(shell: Any, tumour: Fitted) -> None:
    deployment = run(shell, f'%deploy_model {DEPLOY} --metrics {{"accuracy": 0.97}} --description "first forest"')
    assert deployment is mlnb.deployments()[0]
    assert (deployment.version.metrics, deployment.version.description) == ({"accuracy": 0.97}, "first forest")
    assert (deployment.predict(tumour.rows) == tumour.predictions).all()


def test_it_may_be_assigned(shell: Any) -> None:
    run(shell, f"deployed = %deploy_model {DEPLOY}")
    assert shell.user_ns["deployed"] is mlnb.deployments()[0]


def test_braces_and_dollars_reach_the_magic_as_typed(shell: Any) -> None:
    shell.push({"x": "expanded"})
    deployment = run(shell, f"%deploy_model {DEPLOY} --metrics {{'r2': 0.5}} --description '{{x}} $x'")
    assert deployment.version.metrics == {"r2": 0.5}
    assert deployment.version.description == "{x} $x"


@pytest.mark.parametrize("metrics", ["scores", "dict(accuracy=0.97)", '{"accuracy": 0.97}', "'{\"accuracy\": 0.97}'"])
def test_metrics_may_be_a_variable_an_expression_or_json(shell: Any, metrics: str) -> None:
    assert run(shell, f"%deploy_model {DEPLOY} --metrics {metrics}").version.metrics == {"accuracy": 0.97}


@pytest.mark.parametrize(("word", "name"), [("model", "model"), ("(model)", "random-forest-classifier")])
def test_the_name_comes_from_the_variable_else_from_the_class(shell: Any, word: str, name: str) -> None:
    assert run(shell, f"%deploy_model {word} --input X_train").name == name


@pytest.mark.parametrize("word", ["tumour", "tumour:1", "tumour@champion", '"tumour:1"'])
def test_a_stored_model_may_be_deployed(shell: Any, registry: mlnb.ModelRegistry, word: str) -> None:
    registry.register(shell.user_ns["model"], "tumour", example=shell.user_ns["X_train"])
    registry.set_alias("tumour", "champion", 1)
    assert str(run(shell, f"%deploy_model {word}").version) == "tumour:1"


def test_a_variable_comes_before_a_stored_model_of_its_name(shell: Any, registry: mlnb.ModelRegistry) -> None:
    registry.register(shell.user_ns["model"], "model")
    assert run(shell, "%deploy_model model").version.number == 2


def test_versions_roll_back_and_stop(shell: Any) -> None:
    run(shell, f"%deploy_model {DEPLOY}")
    deployment = run(shell, f"%deploy_model {DEPLOY}")
    assert [version.number for version in run(shell, "%model_versions tumour")] == [2, 1]
    assert [version.name for version in run(shell, "%model_versions")] == ["tumour"]
    assert run(shell, "%model_rollback tumour").version.number == 1
    assert run(shell, "%model_rollback tumour --to 2") is deployment
    assert run(shell, "%model_stop 'tumour'") == [deployment]
    assert run(shell, "%model_stop") == []


def test_scaling_and_the_options_of_serving(shell: Any) -> None:
    deployment = run(shell, f"%deploy_model {DEPLOY} --replicas 1 --accelerate")
    assert [replica.pid is not None for replica in deployment.snapshot().replicas] == [True]
    assert deployment.acceleration.kind != "none"
    assert run(shell, "%model_scale tumour 2") is deployment
    assert deployment.snapshot().place == "2 processes"
    assert run(shell, "%model_scale tumour 0").snapshot().place == "in kernel"


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("1:4", {}),
        ("'0:4' --idle 10m --forecast", {"idle": "10m", "forecast": True}),
        ("1:4 --p95 50ms", {"p95": "50ms"}),
        ("1:4 --p99 80", {"p99": 80.0}),
        ("1:4 --policy cpu --target 60", {"policy": "cpu", "target": 60.0}),
        ("1:4 --policy 'queue wait' --target 20ms", {"policy": "queue wait", "target": "20ms"}),
        ("1:4 --policy in-flight", {"policy": "in-flight"}),
        ("1:4 --policy rule", {"policy": CpuThreshold(threshold=60.0)}),
        ("1:4 --policy type(rule)(threshold=50.0)", {"policy": CpuThreshold(threshold=50.0)}),
        ("1:4 --policy no-such", {"policy": "no-such"}),  # which is refused where it is named
    ],
)
def test_scaling_by_load(shell: Any, monkeypatch: pytest.MonkeyPatch, typed: str, asked: dict[str, Any]) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(mlnb, "autoscale", lambda *given, **rule: calls.append((*given, rule)), raising=False)
    shell.push({"rule": CpuThreshold(threshold=60.0)})
    run(shell, f"%model_scale iris {typed}")
    usual = {"target": None, "policy": None, "p95": None, "p99": None, "idle": "5m", "forecast": False}
    least = 0 if "0:4" in typed else 1
    assert calls == [("iris", least, 4, usual | asked)]


def test_deploy_takes_bounds(shell: Any) -> None:
    deployment = run(shell, f"%deploy_model {DEPLOY} --replicas 1:2")
    scaling = deployment.snapshot().scaling
    assert (scaling.least, scaling.most) == (1, 2)
    assert run(shell, "%model_scale tumour 1:3 --p95 50ms") is deployment
    assert deployment.snapshot().scaling.policy == "p95 under 50 ms"
    assert run(shell, "%model_scale tumour 1").snapshot().scaling is None


def test_a_benchmark_shows_a_chart_and_a_table(shell: Any) -> None:
    run(shell, f"%deploy_model {DEPLOY}")
    with capture_output() as captured:
        result = run(shell, "%model_benchmark tumour --connections 3 --seconds 0.2 --input X_train[:2]")
    assert [step.connections for step in result.steps] == [1, 2, 3]
    assert all(step.good and not step.failed for step in result.steps)
    chart, table = (output.data for output in captured.outputs[-2:])
    assert "application/vnd.plotly.v1+json" in chart
    assert result.verdict in chart["text/plain"]
    assert "<table" in table["text/html"]
    assert mlnb.deployments()[0].metrics().rows % 2 == 0


def test_an_experiment_shows_a_table_and_a_chart(shell: Any) -> None:
    for _ in range(2):
        deployment = run(shell, f"%deploy_model {DEPLOY}")
    deployment.split({2: 50, 1: 50})
    shell.push({"deployment": deployment})
    with capture_output() as captured:
        experiment = run(shell, "deployment.experiment()")
    (table,) = (output.data for output in captured.outputs)  # nothing is there to be drawn
    assert experiment.verdict.words in table["text/plain"]
    answers = [deployment.answer(shell.user_ns["X_train"][:1]) for _ in range(200)]
    deployment.feedback([{"request_id": one.request_id, "outcome": 1.0} for one in answers])
    with capture_output() as captured:
        run(shell, "deployment.experiment()")
    table, chart = (output.data for output in captured.outputs)
    assert "<table" in table["text/html"]
    assert "application/vnd.plotly.v1+json" in chart


def test_versions_show_fifty_rows_unless_all_are_asked_for(shell: Any, registry: mlnb.ModelRegistry) -> None:
    for _ in range(52):
        registry.register(shell.user_ns["model"], "tumour")
    table = run(shell, "%model_versions tumour")
    assert len(table) == 52
    assert len(repr(table).splitlines()) == 1 + 50 + 1
    assert "… and 2 more: %model_versions tumour --all" in bundle(shell, table)["text/plain"]
    everything = run(shell, "%model_versions tumour --all")
    assert len(repr(everything).splitlines()) == 1 + 52
    assert [version.name for version in run(shell, "%model_versions --all")] == ["tumour"]


@pytest.mark.parametrize("word", ["cloudpickle", "'cloudpickle'"])
def test_a_format_may_be_named(shell: Any, word: str) -> None:
    assert run(shell, f"%deploy_model {DEPLOY} --serializer {word}").version.format == "cloudpickle"


@pytest.mark.parametrize(
    ("jupyter", "vs_code", "notebook"),
    [
        ("/home/ada/churn.ipynb", None, "/home/ada/churn.ipynb"),
        ("console-1", "/home/ada/churn.ipynb", "/home/ada/churn.ipynb"),
        ("", None, None),
        ("console-1", 5, None),
    ],
)
def test_a_version_records_its_notebook(
    shell: Any, monkeypatch: pytest.MonkeyPatch, jupyter: str, vs_code: object, notebook: str | None
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", jupyter)
    shell.push({"__vsc_ipynb_file__": vs_code})
    assert run(shell, f"%deploy_model {DEPLOY}").version.lineage.get("notebook") == notebook


def test_a_version_records_its_cell_by_id_else_by_number(shell: Any, registry: mlnb.ModelRegistry) -> None:
    result = shell.run_cell(f"%deploy_model {DEPLOY}", store_history=True)
    assert result.result.version.lineage["cell"] == result.execution_count
    object.__setattr__(shell, "parent_header", {"metadata": {"cellId": "4f1c"}})  # as a kernel's shell has it
    assert run(shell, f"%deploy_model {DEPLOY}").version.lineage["cell"] == "4f1c"
    object.__setattr__(shell, "parent_header", {"metadata": {}})
    result = shell.run_cell(f"%deploy_model {DEPLOY}", store_history=True)
    assert result.result.version.lineage["cell"] == result.execution_count
    shell.run_line_magic("unload_ext", "mlnb")
    assert "cell" not in registry.register(shell.user_ns["model"], "tumour").lineage
    shell.run_line_magic("load_ext", "mlnb")


def test_a_port_may_be_named(shell: Any) -> None:
    port = free_port()
    assert f":{port}/" in run(shell, f"%deploy_model {DEPLOY} --port {port}").url


@pytest.mark.parametrize(
    ("words", "url"),
    [
        ("--log", "{home}/predictions.sqlite"),
        ("--log-to {home}/own.sqlite", "{home}/own.sqlite"),
        ("--log-to '{home}/own.sqlite'", "{home}/own.sqlite"),
        ('--log --log-to {{"url": "{home}/own.sqlite", "hashed": ["mean radius"]}}', "{home}/own.sqlite"),
    ],
)
def test_predictions_are_logged_until_that_is_ended(shell: Any, tmp_path: Path, words: str, url: str) -> None:
    line = f"%deploy_model {words.format(home=tmp_path)} {DEPLOY}"
    state = run(shell, line).view().log
    assert state.url.endswith("predictions.sqlite" if words == "--log" else url.format(home=tmp_path))
    assert run(shell, f"%deploy_model {DEPLOY}").view().log.url == state.url
    assert run(shell, f"%deploy_model {DEPLOY} --log-to none").view().log is None


MISTAKES = [
    ("%deploy_model", "the following arguments are required: MODEL. %deploy_model takes: --accelerate --description"),
    (
        "%deploy_model model --colour red",
        "unrecognized arguments: --colour red; text of several words needs quotes. %deploy_model takes: --accel",
    ),
    ("%deploy_model model --nam x", "unrecognized arguments: --nam x"),
    ("%deploy_model model --name", "argument --name: expected one argument. %deploy_model takes"),
    ("%deploy_model modle", "'modle' is neither a variable of this notebook nor a stored model"),
    ("%deploy_model modle.best", "MODEL modle.best: name 'modle' is not defined"),
    ("%deploy_model model --input X_trian", "--input X_trian: name 'X_trian' is not defined"),
    ("%deploy_model scores", "dict cannot be served: a model needs a method `predict`"),
    ("%deploy_model model --name a/b", "'a/b' is not a valid model name: use letters"),
    ("%deploy_model model:7", "There is no model 'model' in"),
    ("%deploy_model model --port high", "--port high: a whole number is needed."),
    ("%deploy_model model --metrics [1]", "Metrics are finite numbers by name"),
    ("%deploy_model model --serializer nope", "There is no model format 'nope'"),
    (
        "%deploy_model model --input X_train --log-to {'leave_out': ['mean radus']}",
        "The log is to leave out 'mean radus', which is no field of the model; did you mean 'mean radius'?",
    ),
    ("%model_versions iris", "There is no model 'iris' in"),
    ("%model_rollback iris", "'iris' is not deployed here; there are none yet"),
    ("%model_rollback tumour --to two", "--to two: a whole number is needed."),
    ("%model_scale iris 3 --p95 50ms", "--p95 needs MIN:MAX, as in %model_scale iris 1:4 --p95 .."),
    ("%model_scale iris 3 --forecast", "--forecast needs MIN:MAX, as in %model_scale iris 1:4 --forecast .."),
    ("%model_scale iris many", "replicas='many': a whole number from 0 to 64 is needed, or"),
    ("%model_scale iris 4:1", "At least 4 and at most 1 replicas cannot both hold; did you mean 1 to 4?"),
    ("%model_scale iris 1:4 --policy nope", "policy='nope': there is no such policy; "),
    ("%model_scale iris 1:4 --policy nope()", "--policy nope(): name 'nope' is not defined"),
    ("%model_scale iris 1:4 --p95 soon", "p95='soon': milliseconds above 0 are needed"),
    ("%model_scale iris 1:4 --p95 50ms --p99 80ms", "p95 and p99 cannot be followed at once; give one"),
    ("%model_scale iris 1:4", "'iris' is not deployed here; there are none yet"),
    (
        "%deploy_model model --input X_train --replicas 4:1",
        "At least 4 and at most 1 replicas cannot both hold; did you mean 1 to 4?",
    ),
    ("%deploy_model model --input X_train --replicas two", "replicas='two': a whole number from 0 to 64 is needed, or"),
    ("%model_stop iris", "'iris' is not deployed here"),
    ("%model_stop a b", "unrecognized arguments: b; text of several words needs quotes. %model_stop takes: no options"),
]


@pytest.mark.parametrize(("line", "says"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_prints_one_line_and_changes_nothing(
    shell: Any, capsys: pytest.CaptureFixture[str], registry: mlnb.ModelRegistry, line: str, says: str
) -> None:
    result = shell.run_cell(line)
    assert type(result.error_in_exec) is UsageError  # a subclass would print a traceback
    printed = capsys.readouterr()
    assert printed.out + printed.err == f"UsageError: {result.error_in_exec}\n"
    assert str(result.error_in_exec).startswith(says)
    assert "\n" not in str(result.error_in_exec)
    assert mlnb.deployments() == []
    assert not Path(registry.url).exists()


def test_a_taken_port_prints_one_line(
    shell: Any, capsys: pytest.CaptureFixture[str], registry: mlnb.ModelRegistry
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        shell.run_cell(f"%deploy_model {DEPLOY} --port {taken.getsockname()[1]}")
    printed = capsys.readouterr()
    assert "listens on it. Name another one, or leave it out" in printed.out + printed.err
    assert not Path(registry.url).exists()


@pytest.mark.parametrize("magic", ["deploy_model", "model_versions", "model_rollback", "model_stop"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(shell: Any, capsys: pytest.CaptureFixture[str], magic: str, flag: str) -> None:
    assert run(shell, f"%{magic} {flag}") is None
    assert capsys.readouterr().out.startswith(f"%{magic} ")


def test_a_deployment_is_shown_as_its_one_panel(shell: Any) -> None:
    deployment = run(shell, f"%deploy_model {DEPLOY}")
    first, second = bundle(shell, deployment), bundle(shell, deployment)
    assert next(iter(first)) == "application/vnd.jupyter.widget-view+json"
    assert first["application/vnd.jupyter.widget-view+json"] == second["application/vnd.jupyter.widget-view+json"]
    assert "<table" in first["text/html"]


def test_without_a_panel_it_is_one_line(shell: Any) -> None:
    deployment = run(shell, f"%deploy_model {DEPLOY} --no-panel")
    assert bundle(shell, deployment) == {"text/plain": repr(deployment)}
    run(shell, f"%deploy_model {DEPLOY}")
    assert "text/html" in bundle(shell, deployment)


def test_reloading_keeps_what_is_deployed_and_doubles_nothing(shell: Any) -> None:
    deployment = run(shell, f"%deploy_model {DEPLOY}")
    bundle(shell, deployment)
    shell.run_line_magic("reload_ext", "mlnb")
    assert deployment.state == "live"
    assert "text/html" in bundle(shell, deployment)
    from mlnb.magics.completion import complete

    assert shell.Completer.custom_matchers.count(complete) == 1


def test_without_the_notebook_parts_it_says_which_command_to_run(
    shell: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlnb import magics

    monkeypatch.setattr(magics, "find_spec", lambda name: None if name == "anywidget" else object())
    shell.run_line_magic("unload_ext", "mlnb")
    assert shell.run_cell("%load_ext mlnb").error_in_exec is not None
    printed = capsys.readouterr()
    assert (printed.out + printed.err).strip() == (
        "UsageError: mlnb's notebook parts are not installed (anywidget missing). Run:  %pip install 'mlnb[lab]'"
    )
    monkeypatch.undo()
    shell.run_line_magic("load_ext", "mlnb")
    assert "sklearn" in sys.modules


def test_after_all_widgets_were_closed_a_deployment_gets_a_new_panel(shell: Any) -> None:
    from ipywidgets import Widget

    deployment = run(shell, f"%deploy_model {DEPLOY}")
    first = bundle(shell, deployment)
    Widget.close_all()
    second = bundle(shell, deployment)
    key = "application/vnd.jupyter.widget-view+json"
    assert second[key]["model_id"] != first[key]["model_id"]
