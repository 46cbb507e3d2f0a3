"""scikit-learn without pickle: skops, with a list of trusted types that is held here and never read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mlnb.errors import IntegrityError, NotServableError
from mlnb.registry.serializers import library, type_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlnb.registry.serializers import Buffer

__all__ = ["TRUSTED", "SkopsSerializer"]

_FILE = "model.skops"


def _within(module: str, names: str) -> tuple[str, ...]:
    return tuple(f"{module}.{name}" for name in names.split())


TRUSTED: tuple[str, ...] = (
    "numpy.dtype",
    "numpy.mean",  # FeatureAgglomeration pools with it
    "scipy._lib.array_api_compat.numpy._aliases.asarray",  # a part of BSpline
    "scipy.interpolate._bsplines.BSpline",
    "scipy.sparse._csr.csr_matrix",
    *_within("sklearn._loss.loss", "HalfTweedieLoss HalfTweedieLossIdentity"),
    *_within("sklearn.calibration", "_CalibratedClassifier _SigmoidCalibration"),
    "sklearn.cluster._bisect_k_means._BisectingTree",
    *_within("sklearn.cluster._kmeans", "_kmeans_single_lloyd _kmeans_single_elkan"),
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    *_within("sklearn.feature_selection._univariate_selection", "f_classif f_regression f_oneway r_regression chi2"),
    *_within("sklearn.feature_selection._mutual_info", "mutual_info_classif mutual_info_regression"),
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    *_within(
        "sklearn.gaussian_process.kernels",
        "CompoundKernel ConstantKernel DotProduct Exponentiation ExpSineSquared Matern PairwiseKernel Product RBF "
        "RationalQuadratic Sum WhiteKernel",
    ),
    *_within(
        "sklearn.metrics._classification",
        "accuracy_score balanced_accuracy_score f1_score log_loss precision_score recall_score",
    ),
    *_within("sklearn.metrics._ranking", "average_precision_score roc_auc_score"),
    *_within("sklearn.metrics._regression", "mean_absolute_error mean_squared_error r2_score root_mean_squared_error"),
    *_within(
        "sklearn.metrics._dist_metrics",
        "ChebyshevDistance64 EuclideanDistance64 HaversineDistance64 ManhattanDistance64 MinkowskiDistance64",
    ),
    *_within("sklearn.metrics._scorer", "_CurveScorer _PassthroughScorer _Scorer"),
    *_within(
        "sklearn.model_selection._split",
        "GroupKFold KFold RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedGroupKFold StratifiedKFold "
        "StratifiedShuffleSplit TimeSeriesSplit",
    ),
    "sklearn.multiclass._ConstantPredictor",
    *_within("sklearn.neighbors", "_ball_tree.BallTree _kd_tree.KDTree"),
    *_within("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer SGDOptimizer"),
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    *_within("sklearn.utils._metadata_requests", "MetadataRequest MethodMetadataRequest"),
)
"""Types and functions that hold or compute numbers, beside those that skops trusts itself; none runs code of a file.

skops leaves the trees out for another reason: a file made for it can let them read outside their memory and end the
process (https://github.com/scikit-learn/scikit-learn/pull/34558). That is no worse than what the model files of other
frameworks can do, and a changed file is refused by its digest.
"""


class SkopsSerializer:
    """Estimators and pipelines of scikit-learn as skops stores them, refused where they hold anything else."""

    name: ClassVar[str] = "skops"
    types: ClassVar[tuple[str, ...]] = ("sklearn.base.BaseEstimator",)
    runs_code: ClassVar[bool] = False

    def dump(self, model: Any, *, example: Any = None) -> dict[str, Buffer]:  # noqa: ARG002 - for formats that trace
        """Return the skops file.

        Raises
        ------
        NotServableError
            If it could not be loaded again, with the types that are not trusted.
        """
        skops = library("skops.io", extra="skops")
        content = skops.dumps(model)
        if unknown := _untrusted(content):
            raise NotServableError(
                f"{type_name(model)} cannot be stored as skops: it holds {', '.join(unknown)}, which skops cannot "
                "load safely. Leave the format out, so that cloudpickle stores it, or take that part out of the model."
            )
        return {_FILE: content}

    def load(self, files: Mapping[str, memoryview]) -> Any:
        """Return the estimator.

        Raises
        ------
        IntegrityError
            If the file holds types that are not trusted, with their names; none of them was imported or made.
        """
        skops = library("skops.io", extra="skops")
        content = bytes(files[_FILE])
        if unknown := _untrusted(content):
            raise IntegrityError(
                f"The stored model holds types that are not trusted and was not loaded: {', '.join(unknown)}."
            )
        return skops.loads(content, trusted=list(TRUSTED))


def _untrusted(content: bytes) -> list[str]:
    skops = library("skops.io", extra="skops")
    return sorted(set(skops.get_untrusted_types(data=content)) - set(TRUSTED))
