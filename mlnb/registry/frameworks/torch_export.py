"""PyTorch's exported programs: the graph of a module, which loads where its class does not exist."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, ClassVar

from mlnb.errors import NotServableError
from mlnb.registry.predictors import evaluating, to_tensor
from mlnb.registry.serializers import library, type_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlnb.registry.serializers import Buffer

__all__ = ["TorchExportSerializer"]

_FILE = "model.pt2"


class TorchExportSerializer:
    """A module traced on a few rows, with any number of rows allowed.

    Loading can run code of whoever wrote the file: ``torch.export.load`` of PyTorch 2.13 unpickles weights and
    constants that the archive marks ``use_pickle`` with ``weights_only=False``, and evaluates the expressions of
    symbolic shapes with ``sympy.sympify`` (``torch/export/pt2_archive/_package.py``, ``torch/_export/serde``).
    """

    name: ClassVar[str] = "torch-export"
    types: ClassVar[tuple[str, ...]] = ("torch.nn.modules.module.Module",)
    runs_code: ClassVar[bool] = True

    def dump(self, model: Any, *, example: Any) -> dict[str, Buffer]:
        """Return the ``.pt2`` archive of the module in eval mode.

        Raises
        ------
        NotServableError
            Without example rows.
        """
        torch = library("torch")
        if example is None:
            raise NotServableError(
                f"{type_name(model)} cannot be stored as torch-export without rows to trace it on: give a few rows as "
                "`example`."
            )
        module = evaluating(model)
        rows = to_tensor(module, example)
        rows = torch.cat([rows, rows])  # one row alone would be taken for a constant
        batch = ({0: torch.export.Dim("batch")},)
        stream = io.BytesIO()
        torch.export.save(torch.export.export(module, (rows,), dynamic_shapes=batch), stream)
        return {_FILE: stream.getvalue()}

    def load(self, files: Mapping[str, memoryview]) -> Any:
        """Return the :class:`torch.export.ExportedProgram`, which :func:`mlnb.registry.predictors.predictor` serves."""
        return library("torch").export.load(io.BytesIO(files[_FILE]))
