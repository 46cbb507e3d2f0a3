"""From a model to a draft: a version that was checked and has its files, before anything is written."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlnb.registry.admission import check_description, check_fitted, check_modules, checked_metrics, stored_form
from mlnb.registry.baselines import measured
from mlnb.registry.ensembles.ensemble import Ensemble
from mlnb.registry.ensembles.stored import modules, own_format
from mlnb.registry.lineage import LineageProbe
from mlnb.registry.predictors import parameters, predictor
from mlnb.registry.proofs import environment
from mlnb.registry.proofs.golden import golden_rows
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.serializers import by_value as stored_by_value
from mlnb.registry.serializers import candidates, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

    from mlnb.registry.proofs.golden import GoldenRows
    from mlnb.registry.rows.baseline import Baseline
    from mlnb.registry.serializers import Buffer
    from mlnb.registry.signature import Signature

__all__ = ["Draft", "drafted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A version before it is written: it was checked, and its files are made.

    Attributes
    ----------
    name, model_type, metrics, description, format, parameters, environment
        As :class:`~mlnb.registry.version.ModelVersion` has them.
    files : dict of str to buffer
    signature : Signature
    golden : GoldenRows or None
    baseline : Baseline or None
    lineage : LineageProbe
        Git and the digest of the example are awaited when it is asked.
    example : object
        The rows as a person gave them, None without.
    by_value : sequence of modules
    ensemble : Ensemble or None
        The model, if it is one, whose members are to be written first.
    """

    name: str
    model_type: str
    metrics: dict[str, float]
    description: str
    format: str
    files: dict[str, Buffer]
    signature: Signature
    golden: GoldenRows | None
    baseline: Baseline | None
    parameters: dict[str, str]
    environment: dict[str, Any]
    lineage: LineageProbe
    example: Any
    by_value: Sequence[ModuleType]
    ensemble: Ensemble | None


@contextmanager
def drafted(
    model: Any, name: str, *, example: Any, description: str, metrics: Mapping[str, float] | None = None,
    serializer: str | None = None, by_value: Sequence[ModuleType] = (),
) -> Iterator[Draft]:  # fmt: skip
    """Check a model and make its files, which share its memory; see ``ModelRegistry.register``.

    Raises
    ------
    NotServableError, InvalidInputError
    """
    answering, known = predictor(model), checked_metrics(metrics)
    check_description(description)
    check_modules(by_value)
    signature = infer_signature(model, example)
    check_fitted(model)
    golden = golden_rows(answering, signature, example)
    baseline = measured(answering, signature, example)
    ensemble = model if isinstance(model, Ensemble) else None
    found = environment.describe(model)
    if ensemble is None:
        formats = candidates(model, wanted=serializer)
    else:
        formats, found = own_format(ensemble, wanted=serializer), found | {"modules": modules(ensemble)}
    with LineageProbe(example) as lineage, stored_by_value(by_value):
        chosen, files, golden = stored_form(model, formats=formats, signature=signature, golden=golden)
        yield Draft(
            name=name, model_type=type_name(model), metrics=known, description=description, format=chosen.name,
            files=files, signature=signature, golden=golden, baseline=baseline, parameters=parameters(model),
            environment=found, lineage=lineage, example=example, by_value=by_value, ensemble=ensemble,
        )  # fmt: skip
