"""The threads that mlnb has running."""

from __future__ import annotations

import threading


def mlnb_threads() -> list[str]:
    """Return their names."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mlnb")]
