from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlnb.errors import InvalidInputError
from mlnb.packaging.compose import PROMETHEUS_IMAGE, ComposeConfig
from mlnb.packaging.subject import Measured, PackagedModel, ServeOptions
from mlnb.scaling.autoscale import Autoscale

SUBJECT = PackagedModel(
    name="Iris_v2", number=3, digest="12e4567", created=datetime(2026, 1, 1, tzinfo=UTC),
    description="a: $HOME\n- ${b}",
    model_type="Ridge", python="3.11", requirements=("scikit-learn==1.9.0",), size=2**20,
)  # fmt: skip
PLAIN = ComposeConfig(subject=SUBJECT, image="iris_v2:3")


def _model(config: ComposeConfig) -> Any:
    return config.documents()["compose.yaml"]["services"]["model"]


def _has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return (
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=False, timeout=60).returncode == 0
    )


def test_the_container_has_few_rights_and_an_end() -> None:
    model = _model(replace(PLAIN, options=ServeOptions(port=9000, grace=2.5, timeout=20.0), port=8100))
    assert model["ports"] == ["127.0.0.1:${PORT:-8100}:9000"]
    assert (model["read_only"], model["cap_drop"], model["init"]) == (True, ["ALL"], True)
    assert model["security_opt"] == ["no-new-privileges:true"]
    assert model["restart"] == "unless-stopped"
    assert model["stop_grace_period"] == "28s"  # grace, timeout, and 5 s to end
    assert model["secrets"] == ["token"]
    assert "environment" not in model


def test_limits_are_what_was_measured() -> None:
    model = _model(replace(PLAIN, measured=Measured(memory=200 * 2**20, cores=0.9, startup=12.0)))
    assert model["deploy"]["resources"] == {
        "limits": {"cpus": "1", "memory": "592M", "pids": 512}, "reservations": {"memory": "296M"},
    }  # fmt: skip
    assert model["healthcheck"]["start_period"] == "120s"
    several = replace(PLAIN, measured=Measured(cores=0.9), options=ServeOptions(replicas=3))
    assert _model(several)["deploy"]["resources"]["limits"]["cpus"] == "3"


def test_a_version_that_is_fetched_has_room_for_it() -> None:
    subject = replace(SUBJECT, registry="s3://team/models", size=100 * 2**20)
    fetched = replace(PLAIN, subject=subject)
    assert f":size={64 * 2**20}," in _model(PLAIN)["tmpfs"][0]
    assert f":size={264 * 2**20}," in _model(fetched)["tmpfs"][0]
    assert fetched.said[-1].startswith("The model is fetched from s3://team/models at each start")


def test_what_is_left_out_is_said() -> None:
    assert PLAIN.said[0] == "Compose calls it 'iris-v2'."
    assert not any("left out" in words for words in PLAIN.said)
    followed = replace(PLAIN, measured=Measured(autoscale=Autoscale.of(1, 4)))
    assert followed.said[-1].startswith("Compose starts one container")


def test_files_are_yaml_and_always_the_same() -> None:
    config = replace(PLAIN, prometheus=True)
    files = config.files()
    assert {path: yaml.safe_load(text) for path, text in files.items()} == config.documents()
    assert config.files() == files
    assert list(PLAIN.files()) == ["compose.yaml"]


@pytest.mark.parametrize("changes", [{"port": 0}, {"port": 70000}, {"port": "8000"}, {"port": True}])
def test_a_port_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="a whole number from 1 to 65535 is needed"):
        replace(PLAIN, **changes)


def test_prometheus_keeps_its_port() -> None:
    with pytest.raises(InvalidInputError, match="give another one"):
        replace(PLAIN, port=9090, prometheus=True)


@pytest.mark.skipif(not _has_compose(), reason="docker compose is not installed")
def test_compose_reads_it_as_it_is_meant(tmp_path: Path) -> None:
    for path, text in replace(PLAIN, prometheus=True).files().items():
        (tmp_path / path).write_text(text, "utf-8")
    said = subprocess.run(
        ["docker", "compose", "--project-directory", tmp_path, "config", "--format", "json"],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (said.returncode, said.stderr) == (0, b"")
    read = json.loads(said.stdout)
    model, prometheus = read["services"]["model"], read["services"]["prometheus"]
    assert read["name"] == "iris-v2"
    assert model["ports"] == [
        {"mode": "ingress", "host_ip": "127.0.0.1", "target": 8000, "published": "8080", "protocol": "tcp"}
    ]
    assert model["deploy"]["resources"]["limits"]["memory"] == str(PLAIN.resources.most_memory)
    assert model["build"]["context"] == str(tmp_path)
    assert read["secrets"]["token"]["file"] == str(tmp_path / "secrets" / "token")
    assert prometheus["image"] == PROMETHEUS_IMAGE
    assert all(port["host_ip"] == "127.0.0.1" for port in prometheus["ports"])
    assert prometheus["depends_on"]["model"]["condition"] == "service_healthy"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed; tests/install-prometheus")
def test_prometheus_reads_its_configuration(tmp_path: Path) -> None:
    config = replace(PLAIN, prometheus=True).files()["prometheus.yml"]
    path = tmp_path / "prometheus.yml"
    path.write_text(config, "utf-8")
    said = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", path], capture_output=True, check=False, timeout=60
    )
    assert said.returncode == 0, said.stderr.decode()
    job = yaml.safe_load(config)["scrape_configs"][0]
    assert job["authorization"]["credentials_file"] == "/run/secrets/token"
    assert job["static_configs"] == [{"targets": ["model:8000"]}]
