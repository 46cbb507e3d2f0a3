from __future__ import annotations

from typing import Any

import pytest
from packages import package

from mlnb import ModelRegistry, cli
from mlnb.packaging.package_text import package_text
from mlnb.workspace import packaging


def test_the_options_are_those_of_the_function(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def write(*given: Any, **wished: Any) -> Any:
        asked.append((given, wished))
        return package()

    monkeypatch.setattr(packaging, "package", write)
    line = (
        "package tumour:2 --to build --target kubernetes --repository team --namespace ml --network-policy "
        "--replicas 3 --cores 0.5 --memory 512MiB"
    )
    assert cli.main(line.split()) == 0
    assert capsys.readouterr() == (f"{package_text(package())}\n", "")
    ((given, wished),) = asked
    assert given == ("tumour:2", "build")
    assert wished.pop("registry").url == registry.url
    assert wished == {
        "target": "kubernetes", "base": "", "source": "", "repository": "team", "replicas": 3, "cores": 0.5,
        "memory": "512MiB", "prometheus": False, "namespace": "ml", "network_policy": True, "kserve": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("package tumour --to build", 1, "tumour"),
        ("package tumour", 2, "--to"),
        ("package tumour --to b --cores x", 2, "x"),
    ],
)
def test_mistakes(registry: ModelRegistry, capsys: pytest.CaptureFixture[str], line: str, code: int, says: str) -> None:
    assert cli.main(line.split()) == code
    assert says in capsys.readouterr().err
