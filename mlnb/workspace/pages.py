"""What this process is told of where browsers reach it: by its environment, and by the pages that show its notebook."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from mlnb.workspace.public_url import Page, Way, advice, best_root, candidates, checked_root

__all__ = ["Surroundings"]


class Surroundings:
    """Knows what pages have reached; a process needs one, which its workspace has."""

    def __init__(self) -> None:
        self._reached: tuple[int, str] = (0, "")  # the port, and its URL in the browser that said so last

    def ways(self, url: str, page: Page) -> tuple[Way, ...]:
        """Return where a page may reach the server of a deployment's ``url``, the best first."""
        return candidates(_port(url), os.environ, page)

    def advice(self, url: str, page: Page) -> str:
        """Return what to do where none of :meth:`ways` leads to the server, "" if nothing is missing."""
        return advice(_port(url), page)

    def tell(self, url: str, root: str) -> None:
        """Learn from a page where it has reached the server of a deployment's ``url``; what is no URL is ignored."""
        root = checked_root(root)
        if root:
            self._reached = (_port(url), root)

    def public_url(self, url: str) -> str:
        """Return what a deployment's ``url`` on loopback is in a browser, as far as that is known."""
        if not url:
            return ""
        (known, reached), port = self._reached, _port(url)
        return f"{best_root(port, os.environ, reached if known == port else '')}{urlsplit(url).path}"


def _port(url: str) -> int:
    return urlsplit(url).port or 0
