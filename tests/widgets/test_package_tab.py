from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from packages import package

from mlnb.errors import ClusterError, EngineError
from mlnb.packaging.cluster_status import ClusterStatus
from mlnb.packaging.containers import Container
from mlnb.packaging.difference import ManifestDiff
from mlnb.packaging.images import BuiltImage
from mlnb.packaging.kubernetes import KubernetesDeployer
from mlnb.packaging.package import Package, Target
from mlnb.packaging.progress import Progress, Watcher, unwatched
from mlnb.registry.rows.inference import infer_signature
from mlnb.widgets import package_tab
from mlnb.widgets.package_tab import PackageTab
from mlnb.widgets.package_view import PackageView
from mlnb.workspace import Deployment

PLACE = {"context": "kind", "namespace": "models"}


@dataclass
class Engine:
    """What a container or a cluster was asked for; it does it at once, or fails."""

    asked: list[Any] = field(default_factory=list)
    fails: Exception | None = None
    may_go: threading.Event | None = None

    def ask(self, *what: Any) -> None:
        self.asked.append(what)
        if self.may_go is not None:
            assert self.may_go.wait(10)
        if self.fails is not None:
            raise self.fails

    def stop(self) -> None:
        self.ask("stop")


ENGINE = Engine()


@dataclass
class Started:
    name: str = "mlnb-tumour-2"
    url: str = "http://127.0.0.1:32770"
    memory: int = 143_000_000
    parity: None = None

    def stop(self) -> None:
        ENGINE.ask("stop")


class Cluster:
    """Both a deployer and its ``with``."""

    namespace = "models"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        ENGINE.ask("closed")

    def status(self, name: str) -> ClusterStatus:
        return ClusterStatus(
            context="kind", namespace="models", name=name, wanted=1, ready=1, updated=1, revision=1, image="tumour:1",
            pods=(),
        )  # fmt: skip

    def rollback(self, name: str, *, watch: Watcher) -> ClusterStatus:
        watch(Progress(step="rollback", text="back"))
        return self.status(name)

    def delete(self, name: str, *, watch: Watcher) -> None:
        watch(Progress(step="delete", text="going"))
        ENGINE.ask("delete", name)


class Written(Package):
    """A package whose verbs only say that they were asked for."""

    def build(self, *, watch: Watcher = unwatched) -> BuiltImage:
        watch(Progress(step="build", text="step 1 of 2", share=0.5))
        ENGINE.ask("build")
        return BuiltImage("sha256:1", self.image, 412_000_000)

    def run(self, *, port: int | None = None, watch: Watcher = unwatched) -> Container:
        watch(Progress(step="run", text=f"starts on {port}"))
        ENGINE.ask("run")
        return cast("Container", Started())

    def plan(self, *, context: str, namespace: str) -> ManifestDiff:
        return ManifestDiff(context, namespace, ())

    def deployer(self, *, context: str, namespace: str) -> KubernetesDeployer:
        ENGINE.ask(context, namespace)
        return cast("KubernetesDeployer", Cluster())

    def deploy(
        self, *, context: str, namespace: str, rollback_on_failure: bool = False, watch: Watcher = unwatched
    ) -> ClusterStatus:
        watch(Progress(step="rollout", text="0 of 1"))
        ENGINE.ask("deploy", context, namespace, rollback_on_failure)
        return Cluster().status("tumour")


@dataclass
class Packaged:
    """A deployment that writes what :func:`packages.package` says."""

    name: str = "tumour"
    version: Any = field(default_factory=lambda: SimpleNamespace(signature=infer_signature(None, [[1.5, 2.0]])))

    def package(self, to: str, *, target: Target) -> Package:
        ENGINE.ask("write", to, target)
        plain = package(target=target)
        return Written(**{one.name: getattr(plain, one.name) for one in fields(plain)})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(f"{__name__}.ENGINE", engine)
    monkeypatch.setattr(package_tab, "_contexts", lambda: ("kind", "prod"))
    return engine


@pytest.fixture
def tab(engine: Engine) -> PackageTab:
    return PackageTab(cast("Deployment", Packaged()), redraw=lambda: None)


def do(tab: PackageTab, action: str, **payload: Any) -> str:
    deed = tab.deed(f"package_{action}", payload)
    assert deed is not None
    return deed()


def see(tab: PackageTab) -> PackageView:
    return tab.view(2)


def test_from_files_to_a_container_and_back(tab: PackageTab, engine: Engine) -> None:
    assert see(tab).folder == "build/tumour"
    assert do(tab, "write", folder=" ") == "Written to build/tumour."
    assert do(tab, "build") == "tumour:2 is built: 412 MB."
    (step,) = see(tab).steps
    assert (step.news.text, step.news.state) == ("step 1 of 2", "done")  # nothing looks as if it went on
    assert do(tab, "run") == "mlnb-tumour-2 answers."
    assert do(tab, "run") == "mlnb-tumour-2 answers."  # in the place of the first one
    container = see(tab).container
    assert container is not None
    assert (container.url, container.memory) == ("http://127.0.0.1:32770", 143_000_000)
    assert '"Authorization: Bearer $(cat build/tumour/secrets/token)"' in container.ask
    assert container.ask.startswith("curl -X POST http://127.0.0.1:32770/predict")
    assert do(tab, "stop") == "mlnb-tumour-2 is stopped."
    assert see(tab).container is None
    asked = [("write", "build/tumour", "docker"), ("build",), ("run",), ("stop",), ("run",), ("stop",)]
    assert engine.asked == asked


def test_how_it_was_built_stays_in_sight(tab: PackageTab, engine: Engine) -> None:
    do(tab, "write", folder="out")
    do(tab, "build")
    do(tab, "run")
    assert [(step.news.step, step.news.state) for step in see(tab).steps] == [("build", "done"), ("run", "done")]
    do(tab, "run")
    assert [step.news.step for step in see(tab).steps] == ["build", "run"]
    engine.fails = EngineError("No engine answers.")
    do(tab, "build")
    engine.fails = None
    do(tab, "compare", **PLACE)
    assert see(tab).steps == []  # what failed does not stay


def test_another_target_shows_its_own_files(tab: PackageTab) -> None:
    do(tab, "write", folder="out")
    do(tab, "target", target="compose")
    assert (see(tab).target, see(tab).package) == ("compose", None)
    do(tab, "target", target="docker")
    assert see(tab).package is not None


def test_to_a_cluster_that_was_named(tab: PackageTab, engine: Engine) -> None:
    do(tab, "target", target="kubernetes")
    assert see(tab).contexts == ("kind", "prod")
    do(tab, "write", folder="out")
    before = len(engine.asked)
    do(tab, "deploy", context="kind", namespace=" ")
    trouble = see(tab).trouble
    assert trouble is not None
    assert trouble.title == "Where to?"
    assert len(engine.asked) == before  # nothing was sent
    do(tab, "compare", **PLACE)
    difference = see(tab).difference
    assert difference is not None
    assert not difference.changed
    assert do(tab, "deploy", **PLACE) == "tumour answers in models."
    assert engine.asked[-1] == ("deploy", "kind", "models", True)
    assert see(tab).difference is None
    assert do(tab, "rollback") == "tumour is rolled back to tumour:1."
    do(tab, "ask")
    assert see(tab).deleting
    do(tab, "keep")
    assert not see(tab).deleting
    do(tab, "look")
    assert do(tab, "delete") == "tumour is deleted from models."
    assert see(tab).cluster is None
    assert engine.asked[-3:] == [("kind", "models"), ("delete", "tumour"), ("closed",)]


def test_what_fails_is_said_where_one_looks(tab: PackageTab, engine: Engine) -> None:
    do(tab, "write", folder="out")
    engine.fails = EngineError("No engine answers. Start Docker.")
    assert do(tab, "build") == ""
    trouble = see(tab).trouble
    assert trouble is not None
    assert (trouble.title, trouble.message) == ("Docker failed", "No engine answers. Start Docker.")
    assert see(tab).steps[0].news.state == "failed"
    engine.fails = ValueError("of somebody")
    with pytest.raises(ValueError, match="of somebody"):
        do(tab, "build")
    assert see(tab).steps[0].news.state == "failed"
    assert see(tab).busy == ""
    engine.fails = None
    do(tab, "build")
    assert see(tab).trouble is None


def test_where_no_cluster_is_known_the_files_are_written_all_the_same(
    tab: PackageTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> tuple[str, ...]:
        raise ClusterError("There is no kubeconfig.")

    monkeypatch.setattr(package_tab, "_contexts", none)
    do(tab, "target", target="kubernetes")
    do(tab, "write", folder="out")
    assert (see(tab).trouble, see(tab).unreachable) == (None, "There is no kubeconfig.")


def test_one_thing_at_a_time(tab: PackageTab, engine: Engine) -> None:
    do(tab, "write", folder="out")
    engine.may_go = threading.Event()
    deed = tab.deed("package_build", {})
    assert deed is not None
    thread = threading.Thread(target=deed)
    thread.start()
    assert see(tab).busy == "package_build"
    assert tab.deed("package_run", {}) is None  # pressed before the page heard of it
    engine.may_go.set()
    thread.join(10)
    assert see(tab).busy == ""


def test_a_page_from_before_is_told(tab: PackageTab) -> None:
    for action in ("build", "look"):
        do(tab, action)
        trouble = see(tab).trouble
        assert trouble is not None
        assert trouble.message
    assert do(tab, "stop") == ""
