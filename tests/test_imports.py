from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "fastapi",
    "uvicorn",
    "plotly",
    "ipywidgets",
    "anywidget",
    "IPython",
    "sklearn",
    "pandas",
    "kubernetes",
    "numpy",
    "joblib",
}


def modules_after(program: str) -> set[str]:
    listing = f"{program}\nimport sys; print(' '.join(sorted(name for name in sys.modules if '.' not in name)))"
    done = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_importing_mlnb_loads_nothing_heavy() -> None:
    assert HEAVY & modules_after("import mlnb") == set()


def test_loading_the_extension_loads_only_ipython() -> None:
    program = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "mlnb")
"""
    assert HEAVY & modules_after(program) == {"IPython"}


@pytest.mark.parametrize(
    "program",
    ["import mlnb; mlnb.ModelRegistry", "import mlnb; mlnb.deploy", "import mlnb; mlnb.versions"],
)
def test_plain_python_needs_neither_ipython_nor_a_notebook(program: str) -> None:
    assert {"IPython", "ipywidgets", "plotly", "pandas", "sklearn"} & modules_after(program) == set()


def test_a_script_that_serves_ends_by_itself_and_prints_no_error(tmp_path: object) -> None:
    program = f"""
import mlnb
from sklearn.dummy import DummyClassifier
mlnb.deploy(DummyClassifier().fit([[0.0]], [1]), name="c", example=[[0.0]], registry={str(tmp_path)!r})
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_star_import_and_a_panel_without_the_notebook_libraries() -> None:
    program = """
import sys
sys.modules["anywidget"] = None
from mlnb import *
import mlnb
try:
    mlnb.DeploymentPanel
except mlnb.MlnbError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "mlnb.DeploymentPanel needs anywidget. Run: pip install 'mlnb[lab]'\n"
