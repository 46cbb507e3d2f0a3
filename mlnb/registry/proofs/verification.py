"""A loaded model checked against what was recorded of it: the packages here, and its golden rows."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from mlnb.errors import EnvironmentWarning, GoldenRowsError
from mlnb.registry.predictors import predictor
from mlnb.registry.proofs import environment
from mlnb.registry.proofs.golden import ask, disagreements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlnb.registry.proofs.golden import GoldenRows
    from mlnb.registry.version import ModelVersion

__all__ = ["verify"]


def verify(
    version: ModelVersion,
    model: Any,
    *,
    requirements: Mapping[str, str],
    read_golden: Callable[[], GoldenRows | None],
    allow_mismatch: bool,
) -> None:
    """Warn of other packages than those recorded, and ask the golden rows again.

    They are asked even where nothing differs: a module of one's own may have changed and has no version that would say
    so.

    Parameters
    ----------
    version : ModelVersion
    model : object
        As loaded here.
    requirements : mapping of str to str
        Versions by distribution, as a proof traced them.
    read_golden : callable
    allow_mismatch : bool
        Ask nothing.

    Raises
    ------
    GoldenRowsError

    Warns
    -----
    EnvironmentWarning
    """
    differing = environment.differences(version.environment, requirements=requirements)
    if differing:
        warnings.warn(f"{version}: {'; '.join(differing)}.", EnvironmentWarning, stacklevel=3)
    golden = None if allow_mismatch else read_golden()
    if golden is None:
        return
    advice = "Install what was recorded, or load it all the same: registry.load(..., allow_mismatch=True)."
    try:
        wrong = disagreements(golden, ask(predictor(model), version.signature, golden.rows))
    except Exception as error:
        reasons = "; ".join([" ".join(f"{type(error).__name__}: {error}".split()), *differing])
        raise GoldenRowsError(f"{version} cannot answer its golden rows here ({reasons}). {advice}") from error
    if wrong:
        reasons = "; ".join([wrong[0], *differing])
        raise GoldenRowsError(
            f"{version} answers {len(wrong)} of its {len(golden.rows)} golden rows otherwise than when it was "
            f"registered ({reasons}). {advice}"
        )
