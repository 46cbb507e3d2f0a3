"""How large an image is, how soon it answers and what it takes, beside those that MLflow and BentoML make themselves.

python tests/benchmarks/images.py [--starts N]

The same model, LogisticRegression on iris, with the same scikit-learn, numpy and scipy, on the same base. Needs Docker
with a client that knows BuildKit, and mlnb[package]. Of what the others write only this is changed: MLflow's FROM line
names the Python of the notebook to the third digit, here the base; BentoML's image gets UV_SYSTEM_CERTS=1, so that
its uv trusts the authorities that pip trusts; neither sends telemetry while it is measured. MLflow's Dockerfile is the
default for a model with a known Python (env-manager local), BentoML's image is made of a bentofile, which is 80 MB
smaller than of its Image in Python. What was made is removed at the end, BuildKit's new cache too.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uv
from docker import DockerClient
from docker.errors import APIError
from docker.models.images import Image

import mlnb
from mlnb.packaging.containers import Container
from mlnb.packaging.endpoint import Endpoint
from mlnb.packaging.images import engine

sys.path.insert(0, str(Path(__file__).parents[1]))
from waiting import wait_until

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = f"python:{PYTHON}-slim"
RUN = f"mlnb-compare-{secrets.token_hex(4)}"  # in the name of all that is made
MLFLOW, BENTOML = "3.17.2", "1.4.39"
SAME = [f"{name}=={version(name)}" for name in ("scikit-learn", "numpy", "scipy")]
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true"}
SERVICE = """
import bentoml
import numpy as np


@bentoml.service
class Iris:
    model = bentoml.models.BentoModel("iris:latest")

    def __init__(self) -> None:
        self.classifier = bentoml.sklearn.load_model(self.model)

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[int]:
        return self.classifier.predict(np.asarray(rows)).tolist()
"""
BENTOFILE = {
    "service": "service:Iris",
    "python": {"packages": SAME},
    "envs": [{"name": "UV_SYSTEM_CERTS", "value": "1"}],
}
# What each package's wheel says it unpacks to, without bytecode, by where it lies.
UNPACKED = """
import csv, importlib.metadata, json
sizes = {}
for one in importlib.metadata.distributions():
    lines = list(csv.reader((one.read_text("RECORD") or "").splitlines()))
    sizes[f"{one.locate_file('')} {one.name}"] = sum(int(size) for path, _, size in lines if size)
print(json.dumps(sizes))
"""


@dataclass
class Side:
    """One of those that are compared."""

    name: str
    tag: str
    built: float  # seconds
    start: Callable[[], Container]
    ask: Callable[[Container], Any]
    size: int = 0
    wheels: int = 0
    started: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)  # seconds of a processor until the first answer
    idle: list[int] = field(default_factory=list)


def fitted() -> tuple[Any, Any]:
    """Return the model and the rows it was fitted to; the others run this in environments of their own."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    rows, classes = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=500).fit(rows, classes), rows


def ours(folder: Path, base: str) -> Side:
    model, rows = fitted()
    registry = mlnb.ModelRegistry(folder / "models")
    registry.register(model, f"{RUN}-iris", example=rows)
    package = mlnb.package(f"{RUN}-iris:1", folder / "package", registry=registry, base=base)
    built = seconds(package.build)
    return Side("mlnb", package.image, built, package.run, lambda container: container.predict(asked()).tolist())


def mlflow(folder: Path, docker: dict[str, str]) -> Side:
    environment = installed(folder, f"mlflow=={MLFLOW}", "pip")
    saving = f"import mlflow.sklearn\nmlflow.sklearn.save_model(fitted()[0], {str(folder / 'model')!r})"
    done([environment / "python", "-c", program(saving)], folder)
    image = folder / "image"
    done([environment / "mlflow", "models", "generate-dockerfile", "-m", folder / "model", "-d", image], folder)
    dockerfile = image / "Dockerfile"
    dockerfile.write_text(re.sub(r"(?m)^FROM .*", f"FROM {BASE}", dockerfile.read_text("utf-8"), count=1), "utf-8")
    tag = f"{RUN}-mlflow"
    built = seconds(lambda: done(["docker", "build", "--no-cache", "--tag", tag, image], folder, **docker))

    def ask(container: Container) -> Any:
        return answer(container, "/invocations", {"inputs": asked()})["predictions"]

    return Side(f"MLflow {MLFLOW}", tag, built, lambda: started(tag, 8080, "/ping"), ask)


def bentoml(folder: Path, docker: dict[str, str]) -> Side:
    environment = installed(folder, f"bentoml=={BENTOML}", "uv")
    where = {"BENTOML_HOME": str(folder / "home"), "PATH": f"{environment}:{docker['PATH']}"}
    saving = "import bentoml\nbentoml.sklearn.save_model('iris', fitted()[0])"
    done([environment / "python", "-c", program(saving)], folder, **where)
    sources = folder / "sources"
    sources.mkdir()
    (sources / "service.py").write_text(SERVICE, "utf-8")
    (sources / "bentofile.yaml").write_text(json.dumps(BENTOFILE), "utf-8")  # JSON is YAML
    done([environment / "bentoml", "build"], sources, **where)
    tag = f"{RUN}-bentoml"
    making: list[str | Path] = [
        environment / "bentoml",
        "containerize",
        "iris:latest",
        "--image-tag",
        tag,
        "--opt",
        "no-cache",
    ]
    where["PATH"] = f"{docker['PATH']}:{environment}"
    built = seconds(lambda: done(making, folder, **where))

    def ask(container: Container) -> Any:
        return answer(container, "/predict", {"rows": asked()})

    return Side(f"BentoML {BENTOML}", tag, built, lambda: started(tag, 3000, "/readyz"), ask)


def installed(folder: Path, *requirements: str) -> Path:
    """Return the bin folder of a new environment."""
    place = folder / "environment"
    done([uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, place], folder)
    python = place / "bin" / "python"
    done([uv.find_uv_bin(), "pip", "install", "--quiet", "--python", python, *requirements, *SAME], folder)
    return python.parent


def program(saving: str) -> str:
    return f"from typing import Any\n{inspect.getsource(fitted)}\n{saving}\n"


def done(command: Sequence[str | Path], folder: Path, **environment: str) -> None:
    """Run a command; what it said is shown if it fails."""
    ended = subprocess.run(
        command, cwd=folder, env=os.environ | QUIET | environment, check=False, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if ended.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {ended.returncode}:\n{ended.stdout[-4000:]}")


def with_buildkit() -> dict[str, str]:
    """Return the environment of the first docker client that knows BuildKit; BentoML's way to build needs it."""
    for folder in os.get_exec_path():
        client = Path(folder) / "docker"
        if client.exists() and knows_buildkit(client):
            return {"PATH": f"{folder}:{os.environ['PATH']}", "DOCKER_BUILDKIT": "1"}
    raise SystemExit("BentoML's image needs BuildKit: install Docker's buildx plugin.")


def knows_buildkit(client: Path) -> bool:
    if subprocess.run([client, "buildx", "version"], check=False, capture_output=True).returncode == 0:
        return True
    asked: list[str | Path] = [client, "version", "--format", "{{.Client.Version}}"]
    said = subprocess.run(asked, check=False, capture_output=True, text=True).stdout
    return said.partition(".")[0].isdigit() and int(said.partition(".")[0]) < 23  # built in until then


def seconds(deed: Callable[[], object]) -> float:
    began = time.monotonic()
    deed()
    return time.monotonic() - began


def started(tag: str, port: int, ready: str) -> Container:
    """Start an image of another's and wait until it says that it is ready, as package.run does with ours."""
    with engine() as client:
        made = client.containers.create(
            tag, name=f"{tag}-run", ports={f"{port}/tcp": ("127.0.0.1", 0)}, environment=QUIET
        )
        try:
            began = time.monotonic()
            made.start()
            made.reload()
            published = made.ports[f"{port}/tcp"]
            assert published
            url = f"http://127.0.0.1:{published[0]['HostPort']}"
            wait_until(lambda: is_good(url, ready), seconds=300)
            taken = time.monotonic() - began
        except BaseException:
            made.remove(force=True, v=True)
            raise
    return Container(str(made.id), name=str(made.name), tag=tag, url=url, token="", patience=0, started=taken)


def is_good(url: str, path: str) -> bool:
    try:
        with Endpoint(url, timeout=2) as endpoint:
            return endpoint.get(path).status == 200
    except OSError:
        return False


def answer(container: Container, path: str, document: object) -> Any:
    with Endpoint(container.url, timeout=30) as endpoint:
        reply = endpoint.post(path, document)
    assert reply.status == 200, f"{container.name}: {reply.reason}"
    return reply.document


def asked() -> list[list[float]]:
    rows: list[list[float]] = fitted()[1][::50].tolist()
    return rows


def measure(side: Side, expected: list[int]) -> None:
    """Add one start: seconds until ready, and bytes once it has answered and rests."""
    with side.start() as container:
        answers = side.ask(container)
        assert answers == expected, f"{side.name} answers {answers}, not {expected}"
        side.started.append(container.started)
        side.worked.append(worked(container))
        side.idle.append(resting(container))


def worked(container: Container) -> float:
    """Return the seconds of a processor it has used; a busy machine changes them less than the time that passes."""
    with engine() as client:
        figures = client.api.stats(container.name, stream=False, one_shot=True)
    return float(figures["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def resting(container: Container) -> int:
    """Return the bytes it uses, without page cache, once they change by less than 1% in a second."""
    last, now = 0, container.memory
    for _ in range(30):
        last = now
        time.sleep(1)  # between two looks: others' workers may still be loading
        now = container.memory
        if abs(now - last) < 0.01 * last:
            break
    return now


def unpacked(tag: str) -> dict[str, int]:
    """Return the bytes of each package in an image by its place."""
    with engine() as client:
        said = client.containers.run(tag, ["-c", UNPACKED], entrypoint="python", remove=True, network_disabled=True)
    sizes: dict[str, int] = json.loads(said)
    return sizes


def image_size(tag: str) -> int:
    with engine() as client:
        return int(client.images.get(tag).attrs["Size"])


@contextmanager
def labelled_base() -> Iterator[str]:
    """Give the base with a label, 0 bytes more: what is built on it is in no cache yet, and is found again."""
    tag = f"{RUN}-base:latest"
    with engine() as client:
        client.images.build(fileobj=io.BytesIO(f"FROM {BASE}\n".encode()), tag=tag, labels={RUN: "1"}, rm=True)
    try:
        yield tag
    finally:
        remove_labelled()


def remove_labelled() -> None:
    """Remove what was built on the labelled base, the stages before the last one too."""
    with engine() as client:
        while any(removed(client, image) for image in client.images.list(all=True, filters={"label": RUN})):
            pass  # what another is built on can go only after it


def removed(client: DockerClient, image: Image) -> bool:
    try:
        client.images.remove(str(image.id), force=True)
    except APIError:  # one that others are built on, or gone with the one before
        return False
    return True


@contextmanager
def cleaned() -> Iterator[None]:
    """Remove the others' images at the end, and what BuildKit has kept of them."""
    with engine() as client:
        before = build_cache(client)
    try:
        yield
    finally:
        with engine() as client:
            for image in client.images.list(filters={"reference": f"{RUN}-*"}):
                client.images.remove(str(image.id), force=True)
            while any(pruned(client, one) for one in build_cache(client) - before):
                pass  # what another was made from can go only after it


def build_cache(client: DockerClient) -> set[str]:
    return {one["ID"] for one in client.df()["BuildCache"] or ()}


def pruned(client: DockerClient, identity: str) -> bool:
    """Remove one entry of BuildKit's cache; say whether it went."""
    filters: Any = {"id": [identity]}  # which Docker's stubs do not know
    return bool(client.api.prune_builds(filters=filters, all=True)["CachesDeleted"])


def megabytes(values: Sequence[float]) -> str:
    return f"{statistics.median(values) / 1e6:,.0f}"


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Return the median, and the least and the most."""
    low, middle, high = (scale * value for value in (min(values), statistics.median(values), max(values)))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def table(sides: Sequence[Side], base: int) -> str:
    own = sides[0]
    rows: dict[str, list[str]] = {
        "": [side.name for side in sides],
        "---": ["---:" for _ in sides],
        "image, MB": [megabytes([side.size]) for side in sides],
        "mlnb's image / this": [f"{own.size / side.size:.2f}x" for side in sides],
        f"base {BASE}, MB": [megabytes([base]) for _ in sides],
        "its wheels unpacked, MB": [megabytes([side.wheels]) for side in sides],
        "image / (base + wheels)": [f"{side.size / (base + side.wheels):.2f}x" for side in sides],
        "build, s": [f"{side.built:.0f}" for side in sides],
        "start to ready, s": [spread(side.started) for side in sides],
        "processor until its first answer, s": [spread(side.worked) for side in sides],
        "idle memory, MB": [spread(side.idle, 1e-6) for side in sides],
    }
    return "\n".join(f"| {' | '.join([what, *cells])} |" for what, cells in rows.items())


def targets(sides: Sequence[Side], base: int) -> str:
    own, *others = sides
    held = [
        ("image / (base + wheels)", own.size / (base + own.wheels), 1.15, "x"),
        *((f"image / that of {side.name}", own.size / side.size, 0.7, "x") for side in others),
        ("idle memory", statistics.median(own.idle) / 1e6, 160, " MB"),
        ("start to ready", statistics.median(own.started), 3, " s"),
    ]
    lines = [
        f"| {what} | at most {limit:g}{unit} | {value:.3g}{unit} | {'met' if value <= limit else '**missed**'} |"
        for what, value, limit, unit in held
    ]
    return "\n".join(["| mlnb | target | measured |  |", "| --- | --- | --- | --- |", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3, help="of each container")
    starts = parser.parse_args().starts
    docker = with_buildkit()
    with ExitStack() as at_end:
        home = Path(at_end.enter_context(tempfile.TemporaryDirectory()))
        at_end.enter_context(cleaned())
        base = at_end.enter_context(labelled_base())
        for name in ("ours", "mlflow", "bentoml"):
            (home / name).mkdir()
        sides = [ours(home / "ours", base), mlflow(home / "mlflow", docker), bentoml(home / "bentoml", docker)]
        in_base = unpacked(BASE).keys()
        for side in sides:
            side.size = image_size(side.tag)
            side.wheels = sum(size for place, size in unpacked(side.tag).items() if place not in in_base)
        model, _ = fitted()
        for _ in range(starts):  # in turn, so that noise hits all alike
            for side in sides:
                measure(side, model.predict(asked()).tolist())
        base_size = image_size(BASE)
    busy = f"{os.getloadavg()[1]:.1f} of {os.cpu_count()} processors were asked for in the last five minutes"
    print(f"{', '.join(SAME)}; median of {starts} starts (least to most); {busy}\n")
    print(f"{table(sides, base_size)}\n\n{targets(sides, base_size)}")


if __name__ == "__main__":
    main()
