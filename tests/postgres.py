"""A real PostgreSQL server of a test's own: in a temporary folder, on loopback, ended by its process id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from waiting import free_port, wait_until

__all__ = ["Postgres", "find_programs", "running_postgres"]

_PASSWORD = "not:a@secret"  # noqa: S105 - of a server that lives for a test; it has what a URL must escape
_OPTIONS = (
    "fsync=off",
    "listen_addresses=127.0.0.1",
    "shared_buffers=16MB",
    "max_connections=20",
    "log_min_messages=panic",
)


def find_programs() -> Path | None:
    """Return the folder of initdb and postgres; None where they are not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    folders += [Path(on_path).resolve().parent] if on_path else []
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@dataclass
class Postgres:
    """A server that can be ended and started again, with the same database and port."""

    folder: Path
    programs: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://mlnb:not%3Aa%40secret@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """Make the files of its databases."""
        secret = self.folder / "secret"
        secret.write_text(_PASSWORD)
        data = self.folder / "data"
        initdb = str(self.programs / "initdb")
        command = [initdb, "-D", str(data), "-U", "mlnb", "-E", "UTF8", "-A", "scram-sha-256", "--no-sync"]
        owner = _owner()
        if owner is not None:
            for path in (self.folder, secret):
                shutil.chown(path, owner)
        subprocess.run([*command, f"--pwfile={secret}"], check=True, capture_output=True, user=owner, cwd=self.folder)

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        options = [part for option in (*_OPTIONS, f"port={self.port}", f"unix_socket_directories={self.folder}")
                   for part in ("-c", option)]  # fmt: skip
        self.process = subprocess.Popen(
            [self.programs / "postgres", "-D", self.folder / "data", *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=_owner(), cwd=self.folder,
        )  # fmt: skip
        wait_until(self._takes_connections, seconds=60)

    def stop(self) -> None:
        """End it at once, and all its connections with it."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait(20)

    def _takes_connections(self) -> bool:
        ready = [str(self.programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        return subprocess.run(ready, check=False).returncode == 0


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a new server, which is gone afterwards."""
    programs = find_programs()
    assert programs is not None, "PostgreSQL is not installed: sh tests/install-postgresql"
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder), programs)
        server.make()
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _owner() -> int | None:
    """Return whom the server runs as: it refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    return 65534
