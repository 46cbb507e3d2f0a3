"""The configurations that are compared: how each is started, asked and understood."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.environments import OWN, UnavailableError, environment
from benchmarks.serving.processes import ServerProcess
from waiting import free_port

__all__ = [
    "CONFIGURATIONS",
    "ECHO",
    "OURS",
    "OURS_CONFIGURATION",
    "PEERS",
    "SEED",
    "Configuration",
    "Running",
    "Target",
    "post",
    "running",
]

PEERS = Path(__file__).parent / "peers"
ECHO, SEED, OURS = "bare uvicorn echo", "the seed's design", "mlnb, one process"
_START_TIMEOUT = 60.0
_CHECKED_ROWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a command is made for.

    Attributes
    ----------
    model : str
        ``logistic`` or ``forest``
    port : int
    binaries : Path
        Bin folder of the environment.
    folder : Path
        What the environment's preparation left: ``logistic.joblib``, ``registry``, ...
    """

    model: str
    port: int
    binaries: Path
    folder: Path

    @property
    def python(self) -> str:
        return str(self.binaries / "python")

    @property
    def file(self) -> str:
        return str(self.folder / f"{self.model}.joblib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One line of the table.

    Attributes
    ----------
    name : str
    environment : str
        See environments.py.
    command : callable
        Returns the command that serves a target.
    body : callable
        Returns the JSON document that asks for one row.
    label : callable
        Returns the label in the JSON document of an answer.
    path : str
        Of the URL; ``{model}`` stands for the model's name.
    variables : mapping
        Added to the environment; ``MODEL`` (the joblib file) is there always.
    models : tuple of str
        Those it is measured with.
    accelerated : bool
        mlnb with a faster form of the model.
    quick : bool
        Also part of ``--quick``.
    """

    name: str
    environment: str
    command: Callable[[Target], Sequence[str]]
    body: Callable[[list[float]], Any] = lambda row: {"features": row}
    label: Callable[[Any], Any] = lambda answer: answer["prediction"]
    path: str = "/predict"
    variables: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ("logistic", "forest")
    accelerated: bool = False
    quick: bool = False

    @property
    def is_ours(self) -> bool:
        return self.environment == OWN

    @property
    def is_peer(self) -> bool:
        return self.environment not in (OWN, "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that has given its first good answer."""

    process: ServerProcess
    port: int
    path: str
    seconds: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


@contextmanager
def running(
    configuration: Configuration, model: str, *, folder: Path, rows: list[list[float]], expected: list[int]
) -> Iterator[Running]:
    """Serve a model, checked to give the right answers to the first rows; yields the server, then ends it.

    Raises
    ------
    UnavailableError
        If it does not start, or answers wrongly.
    """
    port = free_port()
    target = Target(model=model, port=port, binaries=environment(configuration.environment), folder=folder)
    path = configuration.path.format(model=model)
    variables = {
        "PATH": f"{target.binaries}{os.pathsep}{os.environ['PATH']}",  # MLflow starts uvicorn by its name
        "MODEL": target.file,
        "ROWS": str(folder.parent / "rows.npz"),
        **configuration.variables,
    }

    def label(row: list[float]) -> Any:
        answer = json.loads(post(port, path, json.dumps(configuration.body(row)).encode()))
        try:
            found = configuration.label(answer)
        except (KeyError, IndexError, TypeError) as error:
            raise UnavailableError(f"it answered {answer!r}") from error
        return found[0] if isinstance(found, list) else found

    with ServerProcess(configuration.command(target), variables=variables, folder=folder) as process:
        seconds = process.wait_until(lambda: label(rows[0]) is not None, timeout=_START_TIMEOUT)
        labels = [label(row) for row in rows[:_CHECKED_ROWS]]
        if configuration.name != ECHO and labels != expected[:_CHECKED_ROWS]:
            raise UnavailableError(f"it answered {labels} instead of {expected[:_CHECKED_ROWS]}")
        yield Running(process=process, port=port, path=path, seconds=seconds)


def post(port: int, path: str, body: bytes) -> bytes:
    """Send JSON; return the body of a good answer, on a connection of its own.

    Raises
    ------
    OSError
        If it is not answered with 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise OSError(f"status {answer.status}: {content[:200]!r}")
    return content


def _uvicorn(app: str, *, workers: int = 1) -> Callable[[Target], Sequence[str]]:
    def command(target: Target) -> Sequence[str]:
        options = ["--app-dir", str(PEERS), "--port", str(target.port), "--workers", str(workers)]
        return [target.python, "-m", "uvicorn", f"{app}:app", *options, "--no-access-log", "--log-level", "error"]

    return command


def _script(name: str, *arguments: str) -> Callable[[Target], Sequence[str]]:
    return lambda target: [target.python, str(PEERS / name), str(target.port), *arguments]


def _mlflow(target: Target) -> Sequence[str]:
    options = ["--model-uri", f"{target.model}.mlflow", "--env-manager", "local", "--workers", "2"]
    return [target.python, "-m", "mlflow", "models", "serve", *options, "--port", str(target.port)]


def _mlserver(target: Target) -> Sequence[str]:
    folder = target.folder / f"mlserver-{target.model}"
    folder.mkdir(exist_ok=True)
    model = {
        "name": target.model,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": target.file},
        "max_batch_size": 64,
        "max_batch_time": 0.001,
    }
    settings = {
        "http_port": target.port,
        "host": "127.0.0.1",
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
        "environments_dir": str(folder),
    }
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return [str(target.binaries / "mlserver"), "start", str(folder)]


def _tensor(row: list[float]) -> Any:
    return {"inputs": [{"name": "x", "shape": [1, len(row)], "datatype": "FP64", "data": row}]}


def _bentoml(target: Target) -> Sequence[str]:
    return [
        *(str(target.binaries / "bentoml"), "serve", "bentoml_app:Served", "--working-dir", str(PEERS)),
        *("--host", "127.0.0.1", "--port", str(target.port)),
    ]


def _mlnb(name: str, *, replicas: int, accelerated: bool = False, quick: bool = False) -> Configuration:
    def command(target: Target) -> Sequence[str]:
        registry = ["--registry", str(target.folder / "registry")]
        options = ["--port", str(target.port), "--replicas", str(replicas), *["--accelerate"] * accelerated]
        return [target.python, "-m", "mlnb", "serve", target.model, *registry, *options]

    path = "/models/{model}/predict"
    return Configuration(name=name, environment=OWN, command=command, path=path, accelerated=accelerated, quick=quick)


OURS_CONFIGURATION = _mlnb(OURS, replicas=0, quick=True)
CONFIGURATIONS = (
    Configuration(name=ECHO, environment="seed", command=_uvicorn("echo_app"), models=("logistic",), quick=True),
    Configuration(name=SEED, environment="seed", command=_uvicorn("seed_app"), quick=True),
    Configuration(name=f"{SEED}, 2 workers", environment="seed", command=_uvicorn("seed_app", workers=2)),
    OURS_CONFIGURATION,
    _mlnb("mlnb, 1 replica", replicas=1, quick=True),
    _mlnb("mlnb, 2 replicas", replicas=2),
    _mlnb("mlnb, one process, accelerated", replicas=0, accelerated=True, quick=True),
    _mlnb("mlnb, 1 replica, accelerated", replicas=1, accelerated=True),
    Configuration(
        name="vetiver",
        environment="vetiver",
        command=_uvicorn("vetiver_app"),
        body=lambda row: [{f"x{at}": value for at, value in enumerate(row)}],
        label=lambda answer: answer["predict"],
        variables={"CHECKED": "1"},
    ),
    Configuration(
        name="vetiver, checks off, 2 workers",
        environment="vetiver",
        command=_uvicorn("vetiver_app", workers=2),
        body=lambda row: [row],
        label=lambda answer: answer["predict"],
        variables={"CHECKED": "0"},
        quick=True,
    ),
    Configuration(
        name="KServe, 2 workers",
        environment="kserve",
        command=_script("kserve_app.py", "2"),
        body=lambda row: {"instances": [row]},
        label=lambda answer: answer["predictions"],
        path="/v1/models/model:predict",
        quick=True,
    ),
    Configuration(
        name="MLServer, batching",
        environment="mlserver",
        command=_mlserver,
        body=_tensor,
        label=lambda answer: answer["outputs"][0]["data"],
        path="/v2/models/{model}/infer",
    ),
    Configuration(
        name="MLflow, 2 workers",
        environment="mlflow",
        command=_mlflow,
        body=lambda row: {"inputs": [row]},
        label=lambda answer: answer["predictions"],
        path="/invocations",
    ),
    Configuration(
        name="LitServe, batching, 2 API servers", environment="litserve", command=_script("litserve_app.py", "2")
    ),
    Configuration(
        name="BentoML, batching, 2 workers",
        environment="bentoml",
        command=_bentoml,
        body=lambda row: {"rows": [row]},
        label=lambda answer: answer,
    ),
    Configuration(name="Ray Serve, batching", environment="ray", command=_script("ray_app.py"), path="/"),
)
