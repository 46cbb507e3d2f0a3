from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packages import package
from snapshots import HOSTILE, check, text

from mlnb.packaging.cluster_status import ClusterStatus, HorizontalStatus, PodStatus
from mlnb.packaging.difference import FieldChange, ManifestDiff, ObjectChange
from mlnb.packaging.package import Command, PackageFile
from mlnb.packaging.parity import Parity
from mlnb.packaging.progress import Progress
from mlnb.widgets import render_package as tab
from mlnb.widgets.package_view import ContainerView, PackageView, Step, Trouble, told

CONTAINER = ContainerView(
    name="mlnb-tumour-2", url="http://127.0.0.1:32770", memory=143_000_000, parity=Parity(where="it", rows=32)
)
POD = PodStatus(
    name="tumour-5d-x2", state="Running", ready=True, restarts=0, age=12.0, node="n", image="tumour:2", current=True
)
CLUSTER = ClusterStatus(
    context="kind", namespace="models", name="tumour", wanted=2, ready=1, updated=2, revision=3, image="tumour:2",
    pods=(POD, replace(POD, name="tumour-5d-y3", state="CrashLoopBackOff", ready=False, restarts=2, reason="back-off")),
    autoscaler=HorizontalStatus(least=1, most=4, current=2, desired=2), notes=("Only the CPU scales it.",),
)  # fmt: skip


def view(**changes: Any) -> PackageView:
    return replace(PackageView(number=2, folder="build/tumour"), **changes)


def render(shown: PackageView) -> str:
    """Return the whole tab."""
    return "".join(tab.render_package(shown).values())


def test_before_anything_is_written() -> None:
    regions = tab.render_package(view())
    assert text(regions.pop("package_form")) == "Files for Docker Compose Kubernetes in Write files"
    assert set(regions.values()) == {""}
    chosen = tab.render_package(view(target="compose"))["package_form"]
    assert 'aria-checked="true" tabindex="0" data-keep="package-compose">' in chosen
    assert 'data-action="package_target" data-target="docker">' in chosen


def test_what_was_written() -> None:
    html = render(view(package=package()))
    says = text(html)
    assert "tumour:2 · 5 files in build/tumour · image tumour:2 , about 412 MB" in says
    assert ".dockerignore 27 B copy * !model !requirements.txt model/ 2 files 81 kB secrets/token 43 B" in says
    assert "build the image docker build --tag tumour:2 build/tumour copy" in says
    assert 'data-copy="docker build --tag tumour:2 build/tumour"' in html
    assert says.endswith("Docker does not answer here: the commands run where it does. Build image Run here")
    assert "v3 is live by now" in text(render(view(package=package(), number=3)))


def test_a_long_file_is_shown_in_part() -> None:
    line = "scikit-learn==1.9.0 --hash=sha256:abab\n"
    long = package(files=(PackageFile("requirements.txt", 39_000, line * 1000),))
    html = render(view(package=long))
    assert "the first 410 of 1,000 lines; all are in build/tumour/requirements.txt" in text(html)
    assert len(html) < 20_000  # it is part of a saved notebook
    assert 'title="Copy requirements.txt"' not in html


def test_where_to_is_asked_and_not_presumed() -> None:
    kubernetes = package(target="kubernetes")
    html = render(view(package=kubernetes, target="kubernetes", contexts=("kind", "prod")))
    assert '<option value="">choose…</option><option>kind</option><option>prod</option>' in html
    assert "selected" not in html
    assert text(html).endswith("Build image Context choose… kind prod Namespace Compare first Deploy")
    unknown = view(package=kubernetes, target="kubernetes")
    assert "No cluster is known here" in text(render(unknown))
    assert text(render(replace(unknown, unreachable="Install it."))).endswith("Build image Install it.")


def test_progress_has_a_bar_where_the_share_is_known() -> None:
    steps = told((), Progress(step="build", text="step 1 of 4", share=0.25), now=10.0)
    steps = told(steps, Progress(step="build", text="step 2 of 4", share=0.5), now=12.0)
    html = tab.render_package(view(steps=steps, busy="package_build"))["package_steps"]
    assert text(html) == "build step 2 of 4 2 s"
    assert 'value="0.500"' in html
    steps = told(steps, Progress(step="push", text="waiting"), now=13.0)
    html = tab.render_package(view(steps=steps, busy="package_build"))["package_steps"]
    assert text(html) == "build step 2 of 4 3 s push waiting"
    assert html.count("<progress") == 0  # what comes next ends what was before
    steps = told(steps, Progress(step="build", text="again"), now=20.0)
    assert [step.seconds for step in steps] == [0.0, 7.0]  # not counted from the time before
    done = Step(news=Progress(step="build", text="built", share=1.0, state="done"), since=0.0, seconds=75.4)
    html = tab.render_package(view(steps=(done,)))["package_steps"]
    assert (text(html), html.count("<progress")) == ("build built 1:15", 0)
    assert not {"button", "summary"} & set(check(html))  # it is replaced every second


def test_while_something_is_on_its_way_all_else_waits() -> None:
    shown = view(package=package(), busy="package_build", container=CONTAINER)
    html = render(shown)
    actions = ("target", "build", "run", "stop")
    assert all(f'data-action="package_{action}"' in html for action in actions)
    assert html.count('aria-disabled="true"') == 2 + 1 + 2 + 1  # other targets, write, build and run, stop
    assert "aria-disabled" not in render(replace(shown, busy=""))


@pytest.mark.parametrize(
    ("parity", "says"),
    [
        (Parity(where="it", rows=32), "✓ 32 of 32 golden rows answered as in the notebook"),
        (Parity(where="it", rows=1), "✓ 1 of 1 golden row answered as in the notebook"),
        (
            Parity(where="it", rows=32, wrong=("row 3: 0",)),
            "31 of 32 golden rows answered as in the notebook, 1 otherwise row 3: 0",
        ),
        (Parity(where="it", rows=0, reason="it has none"), "No answers compared: it has none"),
        (None, ""),
    ],
)
def test_a_container(parity: Parity | None, says: str) -> None:
    html = tab.render_package(view(container=replace(CONTAINER, parity=parity)))["package_result"]
    assert text(html) == f"mlnb-tumour-2 http://127.0.0.1:32770 copy 143 MB Stop {says}".strip()


def test_how_a_container_is_asked() -> None:
    line = 'curl http://127.0.0.1:32770/predict -H "Authorization: Bearer $(cat build/secrets/token)"'
    html = tab.render_package(view(container=replace(CONTAINER, ask=line)))["package_result"]
    assert f"ask it {line} copy" in text(html)
    assert 'data-copy="curl ' in html


def test_pods_of_a_cluster() -> None:
    html = tab.render_package(view(cluster=CLUSTER))["package_result"]
    says = text(html)
    assert says.startswith(
        "tumour in namespace models on context kind Look again Roll back Delete 1 of 2 pods ready · "
    )
    assert "tumour-5d-x2 ready tumour-5d-y3 CrashLoopBackOff, 2 restarts back-off" in says
    assert says.endswith("Only the CPU scales it.")
    assert [part.split('"')[0] for part in html.split('data-state="')[1:]] == ["starting", "ready", "failed"]
    deleting = tab.render_package(view(cluster=CLUSTER, deleting=True))["package_result"]
    assert text(deleting).startswith("Delete tumour from namespace models on context kind ? Delete it Keep it")


def test_what_a_deployment_would_change() -> None:
    changed = FieldChange("spec.replicas", "1", "2")
    label = FieldChange("metadata.labels.app.kubernetes.io/version", "1", "2")
    path = "spec.template.spec.containers[model].resources.limits.memory"
    memory = FieldChange(path, "1Gi", "2Gi")
    changes = (
        ObjectChange("Service", "tumour", "keep"),
        ObjectChange("Deployment", "tumour", "change", (label, memory, changed)),
    )
    html = tab.render_package(view(difference=ManifestDiff("kind", "models", changes)))["package_result"]
    says = text(html)
    assert f'title="{path}"' in html
    assert says.startswith("Deploying changes this in namespace models on context kind :")
    assert says.endswith(
        "Service tumour stays as it is Deployment tumour changes spec.replicas 1 → 2 "
        "spec…resources.limits.memory 1Gi → 2Gi and 1 label or annotation"
    )
    same = ManifestDiff("kind", "models", changes[:1])
    assert "Deploying changes nothing in" in text(render(view(difference=same)))


def test_what_others_write_is_escaped() -> None:
    hostile = package(
        files=(PackageFile(HOSTILE, 1, HOSTILE),), commands=(Command(HOSTILE, HOSTILE),), notes=(HOSTILE,),
        folder=Path(HOSTILE), image=HOSTILE, target="kubernetes",
    )  # fmt: skip
    parity = Parity(where=HOSTILE, rows=2, wrong=(HOSTILE,))
    news = Progress(step=HOSTILE, text=HOSTILE, share=0.5)
    changes = (ObjectChange(HOSTILE, HOSTILE, "change", (FieldChange(HOSTILE, HOSTILE, HOSTILE),)),)
    pods = (replace(POD, name=HOSTILE, state=HOSTILE, ready=False, reason=HOSTILE),)
    shown = view(
        package=hostile, folder=HOSTILE, target="kubernetes", contexts=(HOSTILE,), steps=told((), news, now=0.0),
        container=ContainerView(name=HOSTILE, url=HOSTILE, ask=HOSTILE, parity=parity),
        trouble=Trouble(title="x", message=HOSTILE), difference=ManifestDiff(HOSTILE, HOSTILE, changes),
        cluster=replace(CLUSTER, name=HOSTILE, namespace=HOSTILE, context=HOSTILE, pods=pods, notes=(HOSTILE,)),
    )  # fmt: skip
    check(render(shown))
    check(render(replace(shown, contexts=(), unreachable=HOSTILE, deleting=True)))
