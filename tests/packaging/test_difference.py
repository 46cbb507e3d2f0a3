"""What applying manifests would change."""

from __future__ import annotations

from typing import Any

from mlnb.packaging.difference import FieldChange, ManifestDiff, compare


def _deployment(*, image: str = "iris:1", replicas: int = 2, **metadata: Any) -> dict[str, Any]:
    container = {"name": "model", "image": image, "args": ["a", "b"], "ports": [{"containerPort": 8000}]}
    pod = {"containers": [container], "hostNetwork": False}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "iris"} | metadata,
        "spec": {"replicas": replicas, "template": {"spec": pod}},
    }  # fmt: skip


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(row.path, row.old, row.new) for row in compare(old, new).fields]


def test_each_field_that_changes_is_named() -> None:
    new = _deployment(image="iris:2", labels={"team": "a"})
    new["spec"]["template"]["spec"] |= {"hostNetwork": True}
    new["spec"]["template"]["spec"]["containers"][0] |= {"args": ["b"], "ports": [{"containerPort": 9000}]}
    assert _changes(_deployment(), new) == [
        ("spec.template.spec.containers[model].image", "iris:1", "iris:2"),
        ("spec.template.spec.containers[model].args", "a, b", "b"),
        ("spec.template.spec.containers[model].ports[0].containerPort", "8000", "9000"),
        ("spec.template.spec.hostNetwork", "false", "true"),
        ("metadata.labels.team", "-", "a"),
    ]


def test_what_the_server_keeps_for_itself_is_left_out() -> None:
    annotations = {"deployment.kubernetes.io/revision": "3", "dev.mlnb/applied": "[..]"}
    live = _deployment(uid="1", resourceVersion="7", generation=2, managedFields=[{}], annotations=annotations)
    live |= {"status": {"replicas": 2}}
    assert compare(live, _deployment()).action == "keep"


def test_secrets_are_hidden() -> None:
    old = {"kind": "Secret", "metadata": {"name": "iris-token"}, "data": {"token": "b2xk", "gone": "b2xk"}}
    new = {"kind": "Secret", "metadata": {"name": "iris-token"}, "data": {"token": "bmV3"}, "type": "Opaque"}
    assert _changes(old, new) == [
        ("data.token", "(hidden)", "(hidden)"), ("data.gone", "(hidden)", "-"), ("type", "-", "Opaque"),
    ]  # fmt: skip
    assert "bmV3" not in repr(compare(None, new))


def test_it_shows_itself() -> None:
    long = "x" * 100
    changes = (
        compare(_deployment(), _deployment(image=f"<{long}>")),
        compare(None, {"kind": "Service", "metadata": {"name": "iris"}, "spec": {"type": "ClusterIP"}}),
        compare({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "iris"}}, None),
        compare(_deployment(), _deployment()),
    )
    diff = ManifestDiff("test", "models", changes)
    assert diff.changed
    assert (len(diff), diff[0].action, [one.action for one in diff[1:]]) == (4, "change", ["create", "delete", "keep"])
    assert repr(diff).splitlines() == [
        "context test, namespace models: 1 to create, 1 to change, 1 to delete, 1 to keep",
        "  change  Deployment iris",
        f"            spec.template.spec.containers[model].image: iris:1 → <{long[:28]}…{long[:29]}>",
        "  create  Service iris",
        "  delete  HorizontalPodAutoscaler iris",
        "  keep    Deployment iris",
    ]
    html = diff._repr_html_()
    assert f"&lt;{long[:28]}…{long[:29]}&gt;" in html
    assert "<details open><summary>change Deployment iris</summary>" in html
    assert "<details><summary>create Service iris</summary>" in html  # folded, and without a column of what it was
    assert html.count(">now<") == 1
    assert "<div>keep Deployment iris</div>" in html
    assert not ManifestDiff("test", "models", changes[3:]).changed
    assert repr(ManifestDiff("test", "models", ())) == "context test, namespace models: nothing"


def test_what_matters_comes_first_and_labels_last() -> None:
    labels = {"app.kubernetes.io/version": "2", "dev.mlnb/digest": "ab"}
    new = _deployment(image="iris:2", replicas=3, labels=labels)
    template = new["spec"]["template"]
    template["metadata"] = {"annotations": {"dev.mlnb/digest": "ab"}}
    template["spec"]["hostNetwork"] = True
    template["spec"]["containers"][0]["resources"] = {"limits": {"memory": "1Gi"}}
    diff = ManifestDiff("test", "models", (compare(_deployment(), new),))
    assert [line.strip() for line in repr(diff).splitlines()[2:]] == [
        "spec.template.spec.containers[model].image: iris:1 → iris:2",
        "spec.replicas: 2 → 3",
        "spec…resources.limits.memory: - → 1Gi",
        "spec.template.spec.hostNetwork: false → true",
        "and 3 labels and annotations",
    ]
    html = diff._repr_html_()
    assert 'title="spec.template.spec.containers[model].resources.limits.memory">spec…resources.limits.memory<' in html
    assert html.index("hostNetwork") < html.index("<details><summary>and 3 labels") < html.index("dev.mlnb/digest")


def test_only_labels() -> None:
    change = compare(_deployment(), _deployment(labels={"team": "a"}))
    assert (change.main, change.labels_said) == ((), "1 label or annotation")
    assert compare(_deployment(), _deployment(replicas=3)).labels_said == ""


def test_of_long_values_the_part_that_differs_is_shown() -> None:
    old, new = (", ".join(["--flag"] * 20 + [f"--timeout={seconds}"] + ["--other"] * 20) for seconds in (5, 10))
    short = FieldChange("spec.args", old, new).short_values
    assert all(len(text) <= 60 for text in short)
    assert ["--timeout=5," in short[0], "--timeout=10," in short[1]] == [True, True]
    image = f"{'x' * 80}:1"
    assert FieldChange("spec.image", "-", image).short_values[1].endswith("xx:1")
