"""mlnb's own wheel: an installer takes it, and what `mlnb serve` needs is in it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import uv

import mlnb
from mlnb.packaging.wheels import own_wheel


def test_it_is_installed_and_serves(tmp_path: Path) -> None:
    wheel = own_wheel()
    (tmp_path / wheel.name).write_bytes(wheel.content)
    there = tmp_path / "there"
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--python", sys.executable, "--target"]
    subprocess.run([uv.find_uv_bin(), *install, there, tmp_path / wheel.name], check=True)
    program = (
        "import mlnb, mlnb.cli, mlnb.serving.standalone, sys; print(mlnb.__file__, mlnb.__version__); "
        "sys.exit(mlnb.cli.main(['serve', 'nothing', '--registry', sys.argv[1]]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "empty"],
        env={"PYTHONPATH": str(there)}, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert run.stdout.split() == [str(there / "mlnb" / "__init__.py"), mlnb.__version__]
    assert run.returncode == 1
    assert "There is no model 'nothing'" in run.stderr
    assert (there / "bin" / "mlnb").exists()


def test_it_is_the_same_each_time_and_says_nothing_of_this_machine() -> None:
    wheel = own_wheel()
    own_wheel.cache_clear()
    assert own_wheel() == wheel
    assert wheel.name == f"mlnb-{mlnb.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(BytesIO(wheel.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        text = b"".join(map(archive.read, names)).decode(errors="replace")
    assert not [name for name in names if re.search(r"__pycache__|node_modules|/tests/|widgets|direct_url", name)]
    assert {"mlnb/cli.py", "mlnb/serving/dashboard/page.html", "mlnb/registry/registry.py"} < {*names}
    assert str(Path(mlnb.__file__).parent.parent) not in text
