"""What the gateway process beside a kernel runs."""

from __future__ import annotations

import gc
import signal
import socket
import sys

__all__ = ["main"]


def main() -> None:
    """Start the zygote, then all else: they import their libraries side by side."""
    from mlnb.scaling.preloading import Zygotes

    gc.disable()  # until all is imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    *descriptors, modules = sys.argv[1:]
    control, line, listening = (socket.socket(fileno=int(text)) for text in descriptors)
    zygotes = Zygotes()
    zygotes.start(frozenset(filter(None, modules.split(","))))
    from mlnb.serving.steering import run

    run(control, line, listening, zygotes)
