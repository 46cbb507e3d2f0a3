"""One Jupyter server for these tests, and two notebooks in it that serve three models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from notebook_servers import Kernel, NotebookServer, running_notebook_server


@pytest.fixture(scope="package")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookServer]:
    with running_notebook_server(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture(scope="package")
def first(jupyter: NotebookServer) -> Kernel:
    """A notebook that serves two versions of one model and one of another."""
    kernel = jupyter.open("first.ipynb")
    kernel.run("deploy('iris', 2, 3); deploy('wine', 5)")
    jupyter.wait_for("iris", "wine")
    return kernel


@pytest.fixture(scope="package")
def second(jupyter: NotebookServer, first: Kernel) -> Kernel:
    """Another notebook, that serves one model."""
    kernel = jupyter.open("second.ipynb")
    kernel.run("deploy('digits', 7)")
    jupyter.wait_for("digits")
    return kernel
