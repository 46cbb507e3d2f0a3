"""Images that are built in a second, for what does not depend on the model in them."""

from __future__ import annotations

from pathlib import Path

import docker

from mlnb.packaging import images

_SERVER = """
import http.server, os, pathlib, signal, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
how = os.environ["HOW"]
print("this is", how, file=sys.stderr)  # as what ends it says: between two streams there is no order
if how == "eating":
    eaten = [bytearray(os.urandom(2**20)) for _ in range(256)]
if how == "failing":
    sys.exit("the model is not what it was")
if how == "silent":
    time.sleep(600)
http.server.HTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
_DOCKERFILE = """FROM python:3.11-slim
ARG HOW=well
ENV HOW=$HOW
COPY server.py .dockerignore* /
CMD ["python3", "/server.py"]
"""


class Little:
    """A folder with a server of ten lines, and images of it that are gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tags: list[str] = []
        (folder / "secrets").mkdir(parents=True)
        (folder / "secrets" / "token").write_text("of-a-test-0123456789\n")
        (folder / ".dockerignore").write_text("secrets\n")
        (folder / "server.py").write_text(_SERVER)
        (folder / "Dockerfile").write_text(_DOCKERFILE)

    def image(self, how: str = "well") -> str:
        """Return the tag of an image whose server is one of well, eating, failing and silent."""
        tag = f"mlnb-test-little:{how}"
        if tag not in self.tags:
            self.tags.append(tag)
            images.build(self.folder, tag, build_args={"HOW": how})
        return tag


def inside(engine: docker.DockerClient, name: str, *command: str) -> tuple[int, str]:
    """Run a command in a container; return its exit code, and what it printed."""
    code, output = engine.containers.get(name).exec_run(list(command))
    assert isinstance(output, bytes)
    assert code is not None
    return code, output.decode()
