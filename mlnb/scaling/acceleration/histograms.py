"""Boosted histograms as an ONNX graph in double precision, in which scikit-learn compares their thresholds too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlnb.registry.serializers import library

__all__ = ["histogram_graph"]

_AT_MOST = 0  # the mode of a node that sends what is at most the threshold to its true branch
_SUM = 1
_EXTRA = "'mlnb[onnx]'"


@dataclass(slots=True)
class _Ensemble:
    """The attributes of the operator ``TreeEnsemble``, filled tree by tree.

    https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
    """

    features: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    branches: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    to_leaf: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    outputs: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    def add(self, nodes: Any, output: int) -> None:
        """Add a tree, whose nodes are in the order that scikit-learn keeps them: the root first."""
        leaves, inner = np.flatnonzero(nodes["is_leaf"]), np.flatnonzero(nodes["is_leaf"] == 0)
        places = {int(node): len(self.outputs) + at for at, node in enumerate(leaves)}
        places |= {int(node): len(self.features) + at for at, node in enumerate(inner)}
        self.roots.append(len(self.features))
        self.outputs += [output] * len(leaves)
        self.weights += nodes["value"][leaves].tolist()
        for node in nodes[inner]:
            self._split(node["feature_idx"], node["num_threshold"], node["missing_go_to_left"])
            for side, child in enumerate((int(node["left"]), int(node["right"]))):
                self._branch(side, places[child], leaf=bool(nodes["is_leaf"][child]))
        if not len(inner):  # a tree needs a node: both branches come to the one leaf
            self._split(0, 0.0, 0)
            self._branch(0, places[0], leaf=True)
            self._branch(1, places[0], leaf=True)

    def _split(self, feature: int, threshold: float, missing: int) -> None:
        self.features.append(int(feature))
        self.thresholds.append(float(threshold))
        self.missing.append(int(missing))

    def _branch(self, side: int, place: int, *, leaf: bool) -> None:
        self.branches[side].append(place)
        self.to_leaf[side].append(int(leaf))


def histogram_graph(model: Any) -> bytes:
    """Return a graph that gives, from float64 ``rows``, what the trees add to the model's baseline.

    Parameters
    ----------
    model : HistGradientBoostingClassifier or HistGradientBoostingRegressor
        Fitted, without categories.

    Raises
    ------
    MissingLibraryError
        If onnx is not installed.
    """
    ensemble = _Ensemble()
    for trees in model._predictors:  # noqa: SLF001 - nowhere public
        for output, tree in enumerate(trees):
            ensemble.add(tree.nodes, output)
    return _serialized(ensemble, width=model.n_features_in_, outputs=model.n_trees_per_iteration_)


def _serialized(ensemble: _Ensemble, *, width: int, outputs: int) -> bytes:
    onnx = library("onnx", extra=_EXTRA)
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    node = helper.make_node(
        "TreeEnsemble", ["rows"], ["scores"], domain="ai.onnx.ml", n_targets=outputs, aggregate_function=_SUM,
        nodes_featureids=ensemble.features, nodes_splits=tensor(np.array(ensemble.thresholds)),
        nodes_modes=tensor(np.full(len(ensemble.features), _AT_MOST, dtype=np.uint8)),
        nodes_missing_value_tracks_true=ensemble.missing,
        nodes_truenodeids=ensemble.branches[0], nodes_falsenodeids=ensemble.branches[1],
        nodes_trueleafs=ensemble.to_leaf[0], nodes_falseleafs=ensemble.to_leaf[1],
        leaf_targetids=ensemble.outputs, leaf_weights=tensor(np.array(ensemble.weights)), tree_roots=ensemble.roots,
    )  # fmt: skip
    double = onnx.TensorProto.DOUBLE
    graph = helper.make_graph(
        [node], "histograms",
        [helper.make_tensor_value_info("rows", double, [None, width])],
        [helper.make_tensor_value_info("scores", double, [None, outputs])],
    )  # fmt: skip
    versions = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 5)]
    content: bytes = helper.make_model(graph, opset_imports=versions, ir_version=10).SerializeToString()
    return content
