from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import MissingLibraryError
from mlnb.packaging.documents import to_yaml

MISREAD = (
    "1e3", "12e4567", "0o17", "0x1F", "1_000", "1:30", "127.0.0.1:8000:8000", ".5", "+1", "-", "2026-01-01", "y", "N",
    "yes", "Off", "true", "null", "~", "", "=", "<<", ".inf", "nan", "NaN", "3", "3.0", " lead", "trail ", "# no",
    "a: b", "a #b", "- a", "[a", "{a", "*a", "&a", "!a", "|", ">", "%a", "@a", "`a", "'a", '"a', "é", "a\tb", "a\x85b",
    "a\u2028b", "\ufeffa", "😀", "a\r\nb", "line\nline", "line\n\n  deeper\nend\n", "\nfirst", "end\n\n", "x \ny",
    "\x00",
)  # fmt: skip
_texts = st.text(max_size=40) | st.text("0123456789eExXoO._:+- \n#yn~", max_size=12) | st.sampled_from(MISREAD)
_documents = st.recursive(
    _texts | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@given(_documents)
def test_what_is_written_is_read_back(document: Any) -> None:
    written = to_yaml(document)
    assert yaml.safe_load(written) == document
    assert to_yaml(document) == written


def test_keys_keep_their_order_and_nothing_refers_to_anything() -> None:
    labels = {"z": "1", "a": "two"}
    assert to_yaml({"one": labels, "again": labels}) == (
        "one:\n  z: '1'\n  a: two\nagain:\n  z: '1'\n  a: two\n"
    )  # fmt: skip


def test_lines_stay_lines() -> None:
    assert to_yaml({"a": "first: 1\n\n  second\n", "b": "x" * 300}) == (
        "a: |\n  first: 1\n\n    second\nb: " + "x" * 300 + "\n"
    )


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_reads_the_same_texts(tmp_path: Path) -> None:
    texts = [text for text in MISREAD if text != "\x00"]  # which no annotation may have
    data = {f"k{number}": text for number, text in enumerate(texts)}
    path = tmp_path / "map.yaml"
    path.write_text(
        to_yaml({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}), "utf-8"
    )
    said = subprocess.run(
        ["kubectl", "label", "--local", "-f", path, "a=b", "-o", "json"],
        env={"PATH": os.environ["PATH"], "KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)},
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr.decode()
    assert json.loads(said.stdout)["data"] == data


def test_without_pyyaml_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'mlnb\[package\]'"):
        to_yaml({})
