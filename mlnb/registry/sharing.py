"""Models loaded once in this process for all who serve them, for as long as somebody does."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["SharedModels", "shared"]


class SharedModels:
    """Loaded models by what tells them apart, held weakly.

    Examples
    --------
    >>> class Model: ...
    >>> models = SharedModels()
    >>> one = models.get("iris:3", Model)
    >>> models.get("iris:3", Model) is one
    True
    """

    def __init__(self) -> None:
        self._models: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
        self._loading: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
        self._lock = Lock()

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """Return the model of that key; load it if nobody holds it, one thread while others wait for it.

        A model that cannot be referenced weakly is loaded each time.
        """
        with self._lock:
            turn = self._loading.get(key) or Lock()
            self._loading[key] = turn
        with turn:
            model = self._models.get(key)
            if model is None:
                model = load()
                with suppress(TypeError):
                    self._models[key] = model
            return model


shared = SharedModels()
