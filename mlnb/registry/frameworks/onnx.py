"""ONNX: a graph with its weights, run by ONNX Runtime; as a file, and as a model with ``predict``."""

from __future__ import annotations

import os
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlnb.errors import NotServableError
from mlnb.registry.frameworks import plain
from mlnb.registry.serializers import library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlnb.registry.serializers import Buffer

__all__ = ["OnnxModel", "OnnxSerializer"]

Array = np.ndarray[Any, Any]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "object",
    "tensor(bool)": "bool",
    **{f"tensor({name})": name for name in ("float16", "int8", "int16", "int32", "int64")},
    **{f"tensor({name})": name for name in ("uint8", "uint16", "uint32", "uint64")},
}
_LABELS = {"tensor(int64)", "tensor(string)"}
_LABEL_ATTRIBUTES = {"classlabels_strings", "classlabels_int64s", "classlabels_ints"}
_SAME_LABELS = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze"}  # operators that leave labels what they are


class OnnxSerializer:
    """The graph's own bytes, and beside them the classes, so that a server needs ONNX Runtime and not ``onnx``."""

    name: ClassVar[str] = "onnx"
    types: ClassVar[tuple[str, ...]] = ("onnx.onnx_ml_pb2.ModelProto", "mlnb.registry.frameworks.onnx.OnnxModel")
    runs_code: ClassVar[bool] = False

    def dump(self, model: Any, *, example: Any = None) -> dict[str, Buffer]:  # noqa: ARG002 - for formats that trace
        """Return the graph and its classes.

        Raises
        ------
        NotServableError
            If its weights are in other files, or its inputs are neither one tensor nor one column each.
        """
        own = model if isinstance(model, OnnxModel) else OnnxModel(model)
        return {"model.onnx": own.content, "classes.json": plain.dumps(getattr(own, "classes_", None))}

    def load(self, files: Mapping[str, memoryview]) -> OnnxModel:
        """Return the model; its session starts with the first prediction."""
        return OnnxModel(bytes(files["model.onnx"]), classes=plain.loads(files["classes.json"]))


class OnnxModel:
    """An ONNX graph as a model with ``predict``, and with ``predict_proba`` where the graph gives probabilities.

    It takes rows where the graph has one input tensor, and columns where it has one input of shape (n, 1) for each.

    Parameters
    ----------
    source : Path, str, bytes or onnx.ModelProto
        An ``.onnx`` file, its content, or the graph.
    classes : ndarray, optional
        The labels, in the order of the columns of probabilities; otherwise they are looked for in the graph, for which
        ``onnx`` must be installed.

    Attributes
    ----------
    content : bytes
        The graph.
    session : onnxruntime.InferenceSession
        Made when it is first needed; not pickled.
    n_features_in_, feature_names_in_, classes_
        As in scikit-learn, each where the graph says.

    Raises
    ------
    NotServableError
        If the weights are in other files.
    """

    def __init__(self, source: Any, *, classes: Array | None = None) -> None:
        self.content = _content(source)
        self._classes = classes
        _refuse_other_files(self.content)

    def __getstate__(self) -> dict[str, Any]:
        return {"content": self.content, "_classes": self._classes}

    def __repr__(self) -> str:
        return f"OnnxModel({len(self.content):,} bytes)"

    @cached_property
    def session(self) -> Any:
        """The session of ONNX Runtime."""
        runtime = library("onnxruntime")
        return runtime.InferenceSession(self.content, providers=runtime.get_available_providers())

    @property
    def n_features_in_(self) -> int:
        """How many features a row has."""
        inputs = self._inputs
        width = len(inputs) if len(inputs) > 1 else _width(inputs[0].shape)
        if width is None:
            raise AttributeError("The graph does not say how many features a row has.")
        return width

    @property
    def feature_names_in_(self) -> Array:
        """The names of the inputs, where each is a column."""
        if len(self._inputs) == 1:
            raise AttributeError("The graph has one input for all features, and does not name them.")
        return np.array([entry.name for entry in self._inputs], dtype=object)

    @property
    def classes_(self) -> Array:
        """The labels, in the order of the columns of probabilities."""
        if self._found_classes is None:
            raise AttributeError("The graph names no classes.")
        return self._found_classes

    def predict(self, rows: Any) -> Array:
        """Return the graph's first output: labels for a classifier; ``(n,)`` where it gives one value per row."""
        first = np.asarray(self._run(rows, self.session.get_outputs()[0].name))
        values = first.astype(str) if first.dtype == object else first
        return values.ravel() if values.shape[1:] == (1,) else values

    @property
    def predict_proba(self) -> Callable[[Any], Array]:
        """Give the probabilities of the classes, ``(n, classes)``; missing where the graph gives none."""
        if self._probability_output is None:
            raise AttributeError("The graph gives no probabilities of classes.")
        return self._predict_proba

    def _predict_proba(self, rows: Any) -> Array:
        return _as_table(self._run(rows, self._probability_output), self._found_classes)

    def _run(self, rows: Any, output: str | None) -> Any:
        return self.session.run([output], self._feed(rows))[0]

    def _feed(self, rows: Any) -> dict[str, Array]:
        inputs = self._inputs
        if len(inputs) == 1:
            return {inputs[0].name: np.asarray(rows).astype(_DTYPES[inputs[0].type], copy=False)}
        columns = _columns(rows, [entry.name for entry in inputs])
        return {
            entry.name: np.asarray(column).astype(_DTYPES[entry.type]).reshape(-1, *entry.shape[1:])
            for entry, column in zip(inputs, columns, strict=True)
        }

    @cached_property
    def _inputs(self) -> Sequence[Any]:
        inputs = self.session.get_inputs()
        tensors = all(entry.type in _DTYPES for entry in inputs)
        if tensors and (len(inputs) == 1 or all(entry.shape[1:] in ([1], []) for entry in inputs)):
            return inputs  # type: ignore[no-any-return]  # onnxruntime is untyped
        shown = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
        raise NotServableError(
            f"A graph with the inputs {shown} cannot be served; accepted is one tensor of rows x features, or one "
            "input of shape (n, 1) for each column."
        )

    @cached_property
    def _probability_output(self) -> str | None:
        """The second output of a classifier, unless the rows it gives are scores: they do not sum to one."""
        outputs = self.session.get_outputs()
        if len(outputs) < 2 or outputs[0].type not in _LABELS or "prob" not in outputs[1].name:  # noqa: PLR2004 - label, probabilities
            return None
        name: str = outputs[1].name
        return name if self._sums_to_one(name) else None

    def _sums_to_one(self, output: str) -> bool:
        width = getattr(self, "n_features_in_", None)
        if width is None:
            return True
        try:
            table = _as_table(self._run(self._made_up_rows(width), output), None)
        except Exception:  # noqa: BLE001 - a graph may refuse made-up values; then its names are all there is
            return True
        return bool(table.ndim == 2 and (table >= 0).all() and np.allclose(table.sum(axis=1), 1, atol=1e-3))  # noqa: PLR2004 - rows by classes

    def _made_up_rows(self, width: int) -> Array:
        """Two rows of zeros and ones, or of empty text; by column where the inputs are."""
        table = np.empty((2, width), dtype=object)
        for at in range(width):
            entry = self._inputs[at if len(self._inputs) > 1 else 0]
            table[:, at] = ("", "") if entry.type == "tensor(string)" else (0, 1)
        return table

    @cached_property
    def _found_classes(self) -> Array | None:
        if self._classes is not None or find_spec("onnx") is None:
            return self._classes
        graph = library("onnx").load_model_from_string(self.content).graph
        return next(_classes_of(graph), None)


def _content(source: Any) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        return Path(source).expanduser().read_bytes()
    serialized: bytes = source.SerializeToString()
    return serialized


def _refuse_other_files(content: bytes) -> None:
    """Refuse a graph whose weights are elsewhere (without ``onnx``, ONNX Runtime looks in its own folder alone)."""
    if find_spec("onnx") is None:
        return
    onnx = library("onnx")
    graph = onnx.load_model_from_string(content).graph
    outside = [tensor.name for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise NotServableError(
            f"The ONNX graph has weights in other files ({len(outside)} tensors, {outside[0]!r} first); a model is one "
            "file here. Export it with external_data=False, or join the files: "
            "onnx.save_model(onnx.load(path), new_path)."
        )


def _width(shape: Sequence[Any]) -> int | None:
    """Return the number of columns of a table's shape, whose unknown sizes are names or None."""
    is_table = len(shape) == 2 and isinstance(shape[1], int)  # noqa: PLR2004 - rows by features
    return int(shape[1]) if is_table else None


def _columns(rows: Any, names: list[str]) -> Iterator[Any]:
    """Yield the column of each input: by name where the rows have these names, else by place."""
    if set(names) <= set(map(str, getattr(rows, "columns", ()))):
        yield from (rows[name] for name in names)
        return
    table = np.asarray(rows)
    if table.ndim != 2 or table.shape[1] != len(names):  # noqa: PLR2004 - rows by features
        raise ValueError(f"The rows have the shape {table.shape}; the graph takes the columns {', '.join(names)}.")
    yield from table.T


def _as_table(probabilities: Any, classes: Array | None) -> Array:
    """Return probabilities as an array, also those of a ZipMap: one dict per row, from class to probability."""
    if isinstance(probabilities, np.ndarray) or not probabilities:
        return np.asarray(probabilities)
    keys = list(probabilities[0]) if classes is None else classes.tolist()
    return np.array([[row[key] for key in keys] for row in probabilities], dtype=np.float32)


def _classes_of(graph: Any) -> Iterator[Array]:
    """Follow the first output back to the operator that gives the label, and yield the labels it knows."""
    producers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    node = producers.get(graph.output[0].name)
    while node is not None and node.op_type in _SAME_LABELS:
        node = producers.get(node.input[0])
    if node is None:
        return
    if node.op_type == "ArrayFeatureExtractor" and node.input[0] in constants:
        yield _array(library("onnx.numpy_helper", extra="onnx").to_array(constants[node.input[0]]).ravel().tolist())
    for attribute in node.attribute:
        values = list(attribute.strings) or list(attribute.ints)
        if attribute.name in _LABEL_ATTRIBUTES and values:
            yield _array(values)


def _array(labels: list[Any]) -> Array:
    """Return labels as scikit-learn has them, as text where they are text."""
    return np.array([label.decode() if isinstance(label, bytes) else label for label in labels])
