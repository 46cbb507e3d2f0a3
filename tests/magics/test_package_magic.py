from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import CompletionContext
from IPython.core.error import UsageError
from packages import package

import mlnb
from mlnb.magics.completion import complete
from mlnb.packaging.package import TARGETS

USUAL = {
    "target": "docker", "base": "", "source": "", "repository": "", "replicas": None, "cores": None, "memory": None,
    "prometheus": False, "namespace": "", "network_policy": False, "kserve": False,
}  # fmt: skip


def run(shell: Any, cell: str) -> Any:
    result = shell.run_cell(cell)
    result.raise_error()
    return result.result


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("", {}),
        ("--target compose --prometheus", {"target": "compose", "prometheus": True}),
        ("--base 'python:3.11' --repository team/models", {"base": "python:3.11", "repository": "team/models"}),
        ("--replicas 3 --cores 0.5 --memory '512 MiB'", {"replicas": 3, "cores": 0.5, "memory": "512 MiB"}),
        (
            "--target kubernetes --namespace ml --network-policy --kserve --source s3://team/models",
            {
                "target": "kubernetes", "namespace": "ml", "network_policy": True, "kserve": True,
                "source": "s3://team/models",
            },
        ),
    ],
)  # fmt: skip
def test_it_calls_the_function(shell: Any, monkeypatch: pytest.MonkeyPatch, typed: str, asked: dict[str, Any]) -> None:
    calls: list[Any] = []
    written = package()

    def write(*given: Any, **wished: Any) -> Any:
        calls.append((*given, wished))
        return written

    monkeypatch.setattr(mlnb, "package", write)
    assert run(shell, f"%model_package tumour:2 --to 'my build/' {typed}") is written
    assert calls == [("tumour:2", "my build/", USUAL | asked)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("tumour", "Name a folder for the files, as in %model_package tumour --to build/"),
        ("tumour --to build --target podman", "podman"),
        ("tumour --to build --replicas some", "--replicas some: a whole number is needed"),
        ("tumour --to build --cores many", "--cores many: a number is needed"),
        ("no-such-model --to build", "no-such-model"),
    ],
)
def test_a_mistake_is_one_line(shell: Any, line: str, says: str) -> None:
    run(shell, "%deploy_model model --name tumour --input X_train --no-panel")
    with pytest.raises(UsageError, match=says):
        run(shell, f"%model_package {line}")


def test_names_targets_and_folders_are_completed(shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(shell, "%deploy_model model --name tumour --input X_train --no-panel")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build" / "tumour").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "build.txt").touch()
    known = {path.name for path in tmp_path.iterdir() if path.is_dir() and path.name[0] != "."}

    def offered(typed: str) -> list[str]:
        line = f"%model_package {typed}"
        context = CompletionContext(token="", full_text=line, cursor_position=len(line), cursor_line=0, limit=None)
        return [one.text for one in complete(context)["completions"]]

    assert offered("tu") == ["tumour"]
    assert offered("tumour:") == ["tumour:1"]
    assert offered("tumour --target ") == list(TARGETS)
    assert set(offered("tumour --to ")) == {f"{name}/" for name in known}
    assert offered("tumour --to bui") == ["build/"]
    assert offered("tumour --to build/") == ["build/tumour/"]
    assert offered("tumour --to no-such/") == []
    assert "--network-policy" in offered("tumour --to build ")
