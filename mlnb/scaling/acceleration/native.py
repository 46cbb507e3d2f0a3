"""Which estimators have a form by their own code: a table by exact class, since a subclass may answer otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlnb.scaling.acceleration import linear, trees
from mlnb.scaling.acceleration.steps import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.scaling.acceleration.forms import Form

__all__ = ["native_form", "native_kind"]


def native_kind(estimator: Any) -> str | None:
    """Return ``trees``, ``linear`` or ``libsvm``; None where there is no such form.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> native_kind(Ridge()), native_kind("text")
    ('linear', None)
    """
    return _FORMS.get(kind_of(estimator), (None, None))[0]


def native_form(estimator: Any) -> Form | None:
    """Return the form of a fitted estimator; None where it has none, for its class or its parameters."""
    _, make = _FORMS.get(kind_of(estimator), (None, None))
    return None if make is None else make(estimator)


def _table() -> dict[str, tuple[str, Callable[[Any], Form | None]]]:
    rows: list[tuple[str, Callable[[Any], Form | None], str, str]] = [
        ("trees", trees.forest_form, "tree", "DecisionTreeClassifier DecisionTreeRegressor"),
        ("trees", trees.forest_form, "tree", "ExtraTreeClassifier ExtraTreeRegressor"),
        ("trees", trees.forest_form, "ensemble", "RandomForestClassifier RandomForestRegressor"),
        ("trees", trees.forest_form, "ensemble", "ExtraTreesClassifier ExtraTreesRegressor"),
        ("trees", trees.gradient_boosting_form, "ensemble", "GradientBoostingClassifier GradientBoostingRegressor"),
        ("trees", trees.histogram_form, "ensemble", "HistGradientBoostingClassifier HistGradientBoostingRegressor"),
        ("linear", linear.logistic_form, "linear_model", "LogisticRegression LogisticRegressionCV"),
        ("linear", linear.linear_classifier_form, "linear_model", "RidgeClassifier RidgeClassifierCV"),
        ("linear", linear.linear_classifier_form, "svm", "LinearSVC"),
        ("linear", linear.linear_regressor_form, "linear_model", "LinearRegression Ridge RidgeCV Lasso LassoCV"),
        ("linear", linear.linear_regressor_form, "linear_model", "ElasticNet ElasticNetCV BayesianRidge"),
        ("libsvm", linear.support_vectors_form, "svm", "SVC NuSVC SVR NuSVR"),
    ]
    return {f"sklearn.{package}.{name}": (kind, make) for kind, make, package, names in rows for name in names.split()}


_FORMS = _table()
