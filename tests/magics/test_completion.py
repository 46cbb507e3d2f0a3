from __future__ import annotations

from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter

import mlnb
from mlnb.magics.completion import candidates
from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.threshold import CpuThreshold


@pytest.fixture
def stored(shell: Any) -> Any:
    registry = mlnb.ModelRegistry()
    for _ in range(2):
        registry.register(shell.user_ns["model"], "tumour", example=shell.user_ns["X_train"])
    registry.set_alias("tumour", "champion", 1)
    registry.set_alias("tumour", "challenger", 2)
    mlnb.deploy("tumour:2")
    shell.push({"rule": CpuThreshold(threshold=60.0)})
    return shell


def completed(shell: Any, line: str) -> list[str]:
    with provisionalcompleter():
        return [line[: one.start] + one.text for one in shell.Completer.completions(line, len(line))]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%deploy_model tum", ["%deploy_model tumour"]),
        ("%deploy_model ", ["%deploy_model model", "%deploy_model tumour"]),
        ("%deploy_model tumour:", ["%deploy_model tumour:1", "%deploy_model tumour:2"]),
        ("%deploy_model tumour@ch", ["%deploy_model tumour@champion", "%deploy_model tumour@challenger"]),
        ("%deploy_model model --na", ["%deploy_model model --name"]),
        ("%deploy_model model --name t", ["%deploy_model model --name tumour"]),
        ("%deploy_model model --input ", ["%deploy_model model --input X_train"]),
        ("%deploy_model model --metrics ", ["%deploy_model model --metrics scores"]),
        ("%deploy_model model --no-panel --no", []),
        ("x = %deploy_model model --des", ["x = %deploy_model model --description"]),
        ("a, b = %model_versions t", ["a, b = %model_versions tumour"]),
        ("%model_versions ", ["%model_versions tumour"]),
        ("%model_versions --", ["%model_versions --all"]),
        ("%model_versions tumour ", ["%model_versions tumour --all"]),
        ("%model_versions --all ", ["%model_versions --all tumour"]),
        ("%deploy_model model --ser", ["%deploy_model model --serializer"]),
        ("%deploy_model model --serializer cloud", ["%deploy_model model --serializer cloudpickle"]),
        ("%deploy_model --name tumour mod", ["%deploy_model --name tumour model"]),
        ("%model_rollback t", ["%model_rollback tumour"]),
        ("%model_rollback tumour ", ["%model_rollback tumour --reason", "%model_rollback tumour --to"]),
        ("%model_rollback tumour --to ", ["%model_rollback tumour --to 1", "%model_rollback tumour --to 2"]),
        ("%model_stop t", ["%model_stop tumour"]),
        ("%model_scale t", ["%model_scale tumour"]),
        ("%model_scale tumour 1:4 --p", [f"%model_scale tumour 1:4 --{name}" for name in ("p95", "p99", "policy")]),
        ("%model_scale tumour 1:4 --policy c", ["%model_scale tumour 1:4 --policy cpu"]),
        ("%model_scale tumour 1:4 --policy 'q", ["%model_scale tumour 1:4 --policy 'queue wait'"]),
        ("%model_scale tumour 1:4 --policy ru", ["%model_scale tumour 1:4 --policy rule"]),
        ("%model_benchmark tumour --s", ["%model_benchmark tumour --seconds"]),
        ("%deploy_model model --re", ["%deploy_model model --replicas"]),
    ],
)
def test_tab(stored: Any, line: str, expected: list[str]) -> None:
    assert sorted(completed(stored, line)) == sorted(expected)


@pytest.mark.parametrize(("magic", "typed"), [("deploy_model", "nothing:"), ("model_rollback", "nothing --to ")])
def test_nothing_is_offered_of_a_model_that_is_not_there(stored: Any, magic: str, typed: str) -> None:
    assert candidates(magic, typed, typed.rpartition(" ")[2], {}) == []


def test_an_option_is_offered_once() -> None:
    assert candidates("model_versions", "tumour --all --", "--", {}) == []


def test_the_policies_that_are_offered_are_those_there_are() -> None:
    for name, _ in candidates("model_scale", "tumour 1:4 --policy ", "", {}):
        assert Autoscale.of(1, 4, policy=name.strip("'")).policy.words


def test_options_are_offered_after_the_model(stored: Any) -> None:
    offered = completed(stored, "%deploy_model model --input X_train ")
    assert "%deploy_model model --input X_train --name" in offered
    assert "%deploy_model model --input X_train --input" not in offered


@pytest.mark.parametrize("line", ["X_tr", "deploy_model", "print(mo"])
def test_other_lines_are_left_to_ipython(stored: Any, line: str) -> None:
    assert any("X_train" in one or "model" in one for one in completed(stored, line))
