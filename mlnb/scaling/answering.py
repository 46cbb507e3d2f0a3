"""A model's answer to checked rows, the same wherever the model runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mlnb.errors import PredictionError
from mlnb.scaling.batching import Prediction

if TYPE_CHECKING:
    from mlnb.registry.predictors import Predictor
    from mlnb.registry.signature import Signature

__all__ = ["Answering"]

_log = logging.getLogger(__name__)


class Answering:
    """How one version answers.

    Parameters
    ----------
    predictor : Predictor
    signature : Signature
    name : str
        Of the version, for the log.
    """

    def __init__(self, predictor: Predictor, signature: Signature, *, name: str) -> None:
        self._predictor = predictor
        self._signature = signature
        self._name = name

    def __call__(self, checked: Any, rows: int, *, probabilities: bool) -> Prediction:
        """Return the answer to what :meth:`Signature.check` gave.

        Raises
        ------
        PredictionError
            If the model fails, or gives another number of answers than rows.
        """
        try:
            answer = self._ask(self._signature.build(checked), probabilities=probabilities)
        except (Exception, SystemExit) as error:  # SystemExit would end the server's event loop
            _log.warning("%s failed to predict", self._name, exc_info=True)
            raise PredictionError(f"{type(error).__name__}: {error}") from error
        for answers in (answer.values, answer.probabilities):
            if answers is not None and answers.shape[:1] != (rows,):
                raise PredictionError(f"ValueError: predict returned the shape {answers.shape} for {rows} rows")
        return answer

    def _ask(self, rows: Any, *, probabilities: bool) -> Prediction:
        predictor = self._predictor
        if predictor.together is not None:
            said = predictor.together(rows)
            return Prediction(said.values, said.probabilities if probabilities else None, said.missing)
        asked = predictor.probabilities if probabilities else None
        values = predictor.predict(rows)
        return Prediction(values, None if asked is None else asked(rows))
