"""Run a tutorial in a real Jupyter kernel and print what each of its steps answered.

    python notebooks/demo.py [NOTEBOOK ...] [--save]

Exits with 1 if any cell fails. Models are registered in a temporary folder. ``--save`` writes the outputs into the
notebook.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.manager import KernelManager

FOLDER = Path(__file__).parent
PLACES = {"MLNB_HOME": "models", "IPYTHONDIR": "ipython", "XDG_CONFIG_HOME": "config"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=[FOLDER / "01-quickstart.ipynb"])
    parser.add_argument("--save", action="store_true", help="write the outputs into the notebook")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlnb-demo-") as home:
        os.environ |= {name: f"{home}/{folder}" for name, folder in PLACES.items()} | {"LOGNAME": "ada"}
        return max(run(path, save=given.save, home=home) for path in given.notebooks)


def run(path: Path, *, save: bool, home: str) -> int:
    notebook = nbformat.read(path, as_version=4)
    if not follow(notebook, path):
        return 1
    if save:
        keep_for_readers(notebook, home=home)
        nbformat.write(notebook, path)
    return 0


def follow(
    notebook: nbformat.NotebookNode,
    path: Path,
    *,
    kernel: KernelManager | None = None,
    after_cell: Callable[[], None] = lambda: None,
) -> bool:
    """Do what a tutorial says, in ``kernel`` or one of its own; print what each step answered; say if all went well."""
    print(f"\n{path.name}\n{'=' * len(path.name)}", flush=True)
    client = NotebookClient(
        notebook, km=kernel, timeout=300, resources={"metadata": {"path": str(path.parent)}}, store_widget_state=False
    )

    def executed(cell: nbformat.NotebookNode, cell_index: int, execute_reply: dict) -> None:  # noqa: ARG001 - nbclient names them
        show(cell)
        after_cell()

    client.on_cell_executed = executed
    start = time.perf_counter()
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return False
    print(f"\nEvery step of {path.name} did what it says ({time.perf_counter() - start:.1f} s).")
    return True


def keep_for_readers(notebook: nbformat.NotebookNode, *, home: str) -> None:
    """Leave the plain outputs: when and where a cell ran tells nobody anything, and a widget goes with its kernel."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
            for kind in [kind for kind in data if kind.startswith("text/")]:
                data[kind] = re.sub(rf"\b{platform.node()}\b", "laptop", data[kind].replace(home, "/home/ada"))


def show(cell: nbformat.NotebookNode) -> None:
    """Print a code cell and what it answered."""
    print("\n" + "\n".join(f"  > {line}" for line in cell.source.splitlines()), flush=True)
    for output in cell.outputs:
        text = output.get("text") or output.get("data", {}).get("text/plain") or ""
        print(text.rstrip())


if __name__ == "__main__":
    sys.exit(main())
