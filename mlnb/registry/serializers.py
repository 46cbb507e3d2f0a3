"""Models to files and back: the interface, the table of formats by type, and cloudpickle for everything else."""

from __future__ import annotations

import io
import logging
import pickle
import sys
from collections import ChainMap
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import PurePath
from types import CellType, CodeType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from mlnb.errors import MissingLibraryError, NotServableError, RegistryFormatError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

__all__ = [
    "Buffer",
    "CloudpickleSerializer",
    "ModelSerializer",
    "by_value",
    "candidates",
    "format_names",
    "library",
    "parts",
    "serializer_named",
    "type_name",
    "why_not_picklable",
]

Buffer = bytes | memoryview
_OWN_FILE = 64 * 1024  # bytes from which an array gets a file of its own: stored once, mapped by replicas
_STREAM = "model.pickle"
_log = logging.getLogger(__name__)


class ModelSerializer(Protocol):
    """A format that models are stored in; a third party adds its own by an entry point in ``mlnb.serializers``.

    Attributes
    ----------
    name : str
        Recorded with each version.
    types : tuple of str
        The classes it takes, as ``module.qualname``; their subclasses too.
    runs_code : bool
        Whether loading may run code of whoever wrote the files. Such files are loaded from trusted registries only.
    """

    name: ClassVar[str]
    types: ClassVar[tuple[str, ...]]
    runs_code: ClassVar[bool]

    def dump(self, model: Any, *, example: Any) -> dict[str, Buffer]:
        """Return the contents of the model's files by name, one of them or many.

        Parameters
        ----------
        model : object
        example : ndarray, DataFrame or None
            A few rows as the model takes them, for formats that trace the model.

        Raises
        ------
        Exception
            Whatever the library raises if it cannot; the next format is tried then.
        """

    def load(self, files: Mapping[str, memoryview]) -> Any:
        """Return the model. The caller has checked the digests, and trust where ``runs_code``."""


class CloudpickleSerializer:
    """Pickle protocol 5: by reference what libraries define, by value what the notebook defines.

    Large arrays, tensors of PyTorch included, are no part of the pickle: each is a file of its own, so that an array
    which did not change is stored once and replicas can map it instead of copying it (PEP 574).
    """

    name: ClassVar[str] = "cloudpickle"
    types: ClassVar[tuple[str, ...]] = ("builtins.object",)
    runs_code: ClassVar[bool] = True

    def dump(self, model: Any, *, example: Any = None) -> dict[str, Buffer]:  # noqa: ARG002 - for formats that trace
        """Return the pickle and its large buffers."""
        buffers: list[memoryview] = []

        def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < _OWN_FILE:
                return True
            buffers.append(raw)
            return False

        stream = io.BytesIO()
        _pickler(tensors="torch" in sys.modules)(stream, protocol=5, buffer_callback=keep_in_band).dump(model)
        return {_STREAM: stream.getbuffer(), **{_buffer_name(at): buffer for at, buffer in enumerate(buffers)}}

    def load(self, files: Mapping[str, memoryview]) -> Any:
        """Unpickle the model; its arrays use the memory of ``files``. A module of PyTorch comes in evaluation mode."""
        buffers = [files[_buffer_name(at)] for at in range(len(files) - 1)]
        model = pickle.loads(files[_STREAM], buffers=buffers)
        torch = sys.modules.get("torch")
        return model.eval() if torch is not None and isinstance(model, torch.nn.Module) else model


@cache
def _pickler(*, tensors: bool) -> Any:
    """Return cloudpickle's pickler with ways of its own for code and tensors; cloudpickle itself stays as it is."""
    import cloudpickle

    own: dict[type, Callable[[Any], Any]] = {CodeType: _reduce_code}
    if tensors:
        import torch

        own[torch.Tensor] = _reduce_tensor
    table = ChainMap(own, cloudpickle.Pickler.dispatch_table)
    return type("Pickler", (cloudpickle.Pickler,), {"dispatch_table": table, "_function_getnewargs": _function_parts})


def _reduce_code(code: CodeType) -> Any:
    """Take code apart without the folder it was written in, which is nobody else's business."""
    import cloudpickle

    return cloudpickle.Pickler.dispatch_table[CodeType](code.replace(co_filename=PurePath(code.co_filename).name))


def _function_parts(pickler: Any, function: Any) -> Any:
    """Take a function apart without ``__file__``: cloudpickle keeps it among the globals of what it stores by value."""
    import cloudpickle

    code, kept, *rest = cloudpickle.Pickler._function_getnewargs(pickler, function)  # noqa: SLF001 - there is no other way
    kept.pop("__file__", None)
    return code, kept, *rest


def _buffer_name(at: int) -> str:
    return f"buffers/{at:05d}"


def _reduce_tensor(tensor: Any) -> Any:
    """Let a dense tensor in main memory pickle as the numpy array of its bits, which are shared and not copied."""
    torch = sys.modules["torch"]
    usual = tensor.device.type == "cpu" and tensor.layout is torch.strided and not tensor.is_quantized
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(tensor.element_size())
    if not usual or bits is None or tensor.is_conj() or tensor.is_neg() or vars(tensor):
        return tensor.__reduce_ex__(5)
    array = tensor.detach().view(bits).numpy()
    if not (array.flags.c_contiguous or array.flags.f_contiguous):  # numpy would store it in another order
        return tensor.__reduce_ex__(5)
    return _tensor, (array, tensor.dtype, bool(tensor.requires_grad))


def _tensor(array: Any, dtype: Any, requires_grad: bool) -> Any:  # noqa: FBT001 - pickle calls by position
    """Return the tensor; it uses the array's memory unless writing to it, as training does, is not allowed."""
    import torch

    bits = torch.from_numpy(array if array.flags.writeable else array.copy(order="K"))
    return bits.view(dtype).requires_grad_(requires_grad)


_BUILT_IN = {
    "cloudpickle": "mlnb.registry.serializers:CloudpickleSerializer",
    "ensemble": "mlnb.registry.ensembles.stored:EnsembleSerializer",
    "lightgbm": "mlnb.registry.frameworks:LightGBMSerializer",
    "onnx": "mlnb.registry.frameworks:OnnxSerializer",
    "skops": "mlnb.registry.frameworks:SkopsSerializer",
    "torch-export": "mlnb.registry.frameworks:TorchExportSerializer",
    "xgboost": "mlnb.registry.frameworks:XGBoostSerializer",
}
_ASKED_FOR = {"skops", "torch-export"}  # slower or stricter than cloudpickle: used when a person names them


@cache
def _serializers() -> dict[str, ModelSerializer]:
    """Return every serializer by name; no framework is imported by that."""
    known = {name: _built_in(place) for name, place in _BUILT_IN.items()}
    for entry in entry_points(group="mlnb.serializers"):
        try:
            known.setdefault(entry.name, entry.load()())
        except Exception:  # noqa: BLE001 - somebody else's package must not stop all other formats
            _log.warning("The model format %r of %s cannot be loaded", entry.name, entry.value, exc_info=True)
    return known


def _built_in(place: str) -> ModelSerializer:
    module, _, name = place.partition(":")
    return cast("ModelSerializer", getattr(import_module(module), name)())


def format_names() -> list[str]:
    """Return the names of all formats, sorted."""
    return sorted(_serializers())


def serializer_named(name: str) -> ModelSerializer:
    """Return the serializer of a recorded format.

    Raises
    ------
    RegistryFormatError
        If there is none of that name, with those that there are.
    """
    if name == CloudpickleSerializer.name:
        return _CLOUDPICKLE
    try:
        return _serializers()[name]
    except KeyError:
        raise RegistryFormatError(
            f"There is no model format {name!r}; {nearest(name, _serializers())}. Update mlnb, or install the package "
            "that adds the format."
        ) from None


def candidates(model: object, *, wanted: str | None = None) -> Sequence[ModelSerializer]:
    """Return the formats to try for a model, best first.

    A framework's own format comes before cloudpickle where there is one: it cannot run code, and outlives versions.

    Raises
    ------
    RegistryFormatError
        If ``wanted`` is no format.
    """
    if wanted is not None:
        return [serializer_named(wanted)]
    if type(model).__module__.startswith("sklearn."):  # spares the search for entry points
        return [_CLOUDPICKLE]
    ancestors = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__} - {"builtins.object"}
    own = [
        serializer
        for name, serializer in _serializers().items()
        if name not in _ASKED_FOR and ancestors & set(serializer.types)
    ]
    return [*own, _CLOUDPICKLE]


@contextmanager
def by_value(modules: Sequence[ModuleType]) -> Iterator[None]:
    """Let what ``modules`` define be stored with the model, as what the notebook itself defines."""
    import cloudpickle

    with ExitStack() as stack:
        for module in {module.__name__: module for module in modules}.values():
            if module.__name__ in cloudpickle.list_registry_pickle_by_value():
                continue  # the user's own doing, and theirs to undo
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def why_not_picklable(model: object, error: Exception) -> NotServableError:
    """Return the error that names which attribute of which object cannot be pickled."""
    where, part = _culprit(model, type_name(model), seen=set())
    reason = str(error).strip().rstrip(".")
    return NotServableError(
        f"{type_name(model)} cannot be stored: {where}, a {type_name(part)}, cannot be pickled ({reason}). "
        "Open files, locks, connections and generators cannot be stored: remove that part, or make it in `predict`."
        if part is not model
        else f"{type_name(model)} cannot be stored: it cannot be pickled ({reason})."
    )


def _culprit(value: object, where: str, *, seen: set[int]) -> tuple[str, object]:
    """Go down to the innermost part of ``value`` that cannot be pickled."""
    seen.add(id(value))
    for name, part in parts(value):
        if id(part) not in seen and not _picklable(part):
            return _culprit(part, f"{where}{name}", seen=seen)
    return where, value


def parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield what an object holds, each with how one gets to it: attributes, items, and what a function refers to."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{at}]", part) for at, part in enumerate(value))
    elif callable(value) and hasattr(value, "__code__"):
        cells = getattr(value, "__closure__", None) or ()
        free = value.__code__.co_freevars
        filled = [(name, cell) for name, cell in zip(free, cells, strict=True) if cell != CellType()]
        yield from ((f" (its variable {name!r})", cell.cell_contents) for name, cell in filled)
        used = [name for name in value.__code__.co_names if name in getattr(value, "__globals__", {})]
        yield from ((f" (its variable {name!r})", value.__globals__[name]) for name in used)  # type: ignore[attr-defined]  # a function has them
    elif not isinstance(value, type):
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


def _picklable(value: object) -> bool:
    try:
        CloudpickleSerializer().dump(value)
    except Exception:  # noqa: BLE001 - whatever it raises, it cannot be pickled
        return False
    return True


def type_name(model: object) -> str:
    """Return the class of a model with its module, without the module for builtins and what the notebook defines."""
    kind = model if isinstance(model, type) else type(model)
    plain = kind.__module__ in ("__main__", "builtins")
    return kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"


def library(name: str, *, extra: str | None = None) -> Any:
    """Import a library that a format needs.

    Raises
    ------
    MissingLibraryError
        With the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingLibraryError(f"This needs {name}, which is not installed: pip install {extra or name}.") from error


_CLOUDPICKLE = CloudpickleSerializer()
