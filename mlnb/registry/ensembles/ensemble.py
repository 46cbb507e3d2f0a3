"""One model that asks several of different kinds side by side, and combines what they answer."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from mlnb.errors import InvalidInputError, MemberError, NotServableError
from mlnb.registry.ensembles import combining
from mlnb.registry.ensembles.asking import Asking
from mlnb.registry.ensembles.final import Final
from mlnb.registry.ensembles.interpretation import chances, features, numbers, question, votes
from mlnb.registry.ensembles.labels import places
from mlnb.registry.ensembles.members import open_members, rows_for
from mlnb.registry.ensembles.plan import STACKING, checked_plan
from mlnb.registry.predictors import Predictor
from mlnb.registry.rows.frames import is_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mlnb.registry.ensembles.members import Member
    from mlnb.registry.ensembles.plan import Plan
    from mlnb.registry.registry import ModelRegistry

__all__ = ["Answers", "Ensemble"]

Array = np.ndarray[Any, Any]

_log = logging.getLogger(__name__)


class Answers(NamedTuple):
    """What an ensemble said, all of it from the same answers of its members.

    Attributes
    ----------
    values : ndarray of shape (n, ...)
    probabilities : ndarray of shape (n, classes) or None
    missing : tuple of str
        The members that failed; ``"inner/net"`` where the member ``inner`` is an ensemble that answered without
        ``net``.
    """

    values: Array
    probabilities: Array | None
    missing: tuple[str, ...]


class Ensemble:
    """Models of different kinds that answer together.

    Members are asked side by side, each the columns that it knows by name. A registered ensemble points to exact
    versions of its members.

    Parameters
    ----------
    members : mapping of str to model or reference, or sequence of them
        Fitted models, functions, ``.onnx`` files and references such as ``"iris:3"``; in a list they are ``m1``,
        ``m2``, ..
    combine : str or object
        - ``"vote"``: the label that most members give, or those of most weight;
        - ``"mean"``: of probabilities, or of numbers;
        - ``"weighted"``: the same with ``weights``, or with those that :meth:`fit` finds;
        - ``"median"``: of numbers;
        - ``"cascade"``: in the members' order; the next is asked only for the rows whose highest probability is below
          ``threshold``;
        - a model that answers from the members' answers (stacking); :meth:`fit` fits it.
    weights : sequence of float or mapping of str to float, optional
        Not negative; they need not add up to 1.
    quorum : int, optional
        How many members must answer; the others may fail. Default: all.
    threshold : float, optional
        Above 0, at most 1. Default: 0.9.
    labels : sequence, optional
        The classes, in the order of the columns of members that do not name them, such as modules of PyTorch. Default:
        those of the other members, sorted.
    registry : ModelRegistry, str or Path, optional
        Where references are looked up. Default: the default registry.

    Raises
    ------
    InvalidInputError
        If there are fewer than two members, one is there twice, or a setting is out of bounds or does not go with
        ``combine``.
    NotServableError
        If the members do not go together: labels and numbers, labels that cannot be compared, no ``predict_proba``
        where one is needed.
    ModelNotFoundError, UntrustedError, IntegrityError
        Of references.

    Notes
    -----
    Answers equal those of scikit-learn's ``VotingClassifier``, ``VotingRegressor``, ``StackingClassifier`` and
    ``StackingRegressor`` with the same fitted members to the last bit: the arithmetic is the same, in the same order.

    Examples
    --------
    >>> def below(rows):
    ...     return np.where(rows[:, 0] < 1, "low", "high")
    >>> def always(rows):
    ...     return np.full(len(rows), "low")
    >>> both = Ensemble({"below": below, "always": always}, combine="vote", labels=["low", "high"], weights=[2, 1])
    >>> both.predict(np.array([[0.0], [3.0]])).tolist()
    ['low', 'high']
    """

    def __init__(
        self,
        members: Mapping[str, Any] | Sequence[Any],
        *,
        combine: Any,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        quorum: int | None = None,
        threshold: float | None = None,
        labels: Sequence[Any] | None = None,
        registry: ModelRegistry | str | Path | None = None,
    ) -> None:
        final = None if isinstance(combine, str) else Final(combine)
        opened = open_members(members, registry)
        plan = checked_plan(
            opened, combine=combine if final is None else STACKING, output=None if final is None else final.output,
            weights=weights, quorum=quorum, threshold=threshold, labels=labels,
        )  # fmt: skip
        self._set(opened, plan, final)

    @classmethod
    def of(cls, members: Sequence[Member], plan: Plan, final: Final | None) -> Self:
        """Return an ensemble of members that are open, under a plan that was checked."""
        ensemble = cls.__new__(cls)
        ensemble._set(members, plan, final)  # noqa: SLF001 - its own kind
        return ensemble

    def _set(self, members: Sequence[Member], plan: Plan, final: Final | None) -> None:
        self.plan = plan
        self._members = tuple(members)
        self._asking = Asking()
        self._final = None if final is None else final.knowing(plan.classes)
        # what they come from is looked up here, as of any model; a Member also holds its registry
        self._models = [*(member.model for member in members), *([] if final is None else [final.model])]

    def __repr__(self) -> str:
        names = ", ".join(str(member.version or member.name) for member in self._members)
        return f"<Ensemble {self.plan.combine} of {names}>"

    @property
    def members(self) -> dict[str, Member]:
        """The members by name."""
        return {member.name: member for member in self._members}

    @property
    def weights(self) -> dict[str, float] | None:
        """The members' weights, None where they count alike."""
        if self.plan.weights is None:
            return None
        return dict(zip(self.members, self.plan.weights, strict=True))

    @property
    def final(self) -> Final | None:
        """The final estimator of a stack."""
        return self._final

    @property
    def _estimator_type(self) -> str:
        kinds = {"class": "classifier", "number": "regressor"}
        if self.plan.output not in kinds:
            raise AttributeError("The final estimator does not say what it answers with.")
        return kinds[self.plan.output]

    @property
    def classes_(self) -> Array:
        """The labels, in the order of the columns of probabilities."""
        classes = self.plan.classes if self._final is None else self._final.classes
        if classes is None or self.plan.output == "number":
            raise AttributeError("The ensemble answers with no known labels.")
        return classes

    @property
    def feature_names_in_(self) -> Array:
        """The columns that members know by name, each once.

        Where one takes all, whatever their names, they are those of a member that knows all: only then is their order
        known.
        """
        union = list(dict.fromkeys(column for member in self._members for column in member.columns))
        if not all(member.columns for member in self._members):
            union = next((list(one.columns) for one in self._members if set(one.columns) == set(union)), [])
        if not union:
            raise AttributeError("No member knows its columns by name.")
        return np.array(union, dtype=object)

    @property
    def n_features_in_(self) -> int:
        """How many columns a row has."""
        named = getattr(self, "feature_names_in_", None)
        width = max((one.width for one in self._members if not one.columns), default=0) if named is None else len(named)
        if not width:
            raise AttributeError("No member says how many columns it takes.")
        return width

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's names
        """Fit the weights, or the final estimator, on rows that no member was fitted on; members stay as they are.

        Parameters
        ----------
        X : array of shape (n, features) or DataFrame
        y : array of shape (n,)

        Raises
        ------
        InvalidInputError
            If there is nothing to fit, the lengths differ, or ``y`` has a label that no member knows.
        MemberError
            If a member fails.
        """
        target = np.asarray(y)
        if self.plan.combine not in ("weighted", STACKING):
            raise InvalidInputError(
                f"combine={self.plan.combine!r} has nothing to fit; 'weighted' and a model, for stacking, have."
            )
        rows = _plain(X)
        if target.shape != (len(rows),):
            raise InvalidInputError(f"y has the shape {target.shape} for {len(rows)} rows; give one value for each.")
        answers, _ = self._asked(rows, fewest=len(self._members))
        if self._final is not None:
            self._set(self._members, self.plan, self._final.fit(combining.columns(list(answers.values())), target))
        else:
            self.plan = replace(self.plan, weights=tuple(self._fitted_weights(answers, target).tolist()))
        return self

    def _fitted_weights(self, answers: dict[str, Any], target: Array) -> Array:
        tables = list(answers.values())
        if self.plan.output == "number":
            if target.dtype.kind not in "biuf" or not np.isfinite(target).all():
                raise InvalidInputError("y has other values than finite numbers; leave out the rows without one.")
            if tables[0].ndim > 1:
                raise InvalidInputError("Weights are fitted for members that answer one number for each row.")
            return combining.regression_weights(np.asarray(_alike(answers)), target)
        try:
            true = places(target, self.classes_)
        except ValueError as error:
            raise InvalidInputError(f"y: {error}.") from None
        return combining.mixture_weights(np.asarray([table[np.arange(len(true)), true] for table in tables]))

    def check_fitted(self) -> None:
        """Refuse to answer before :meth:`fit`, where it is needed.

        Raises
        ------
        NotServableError
        """
        if self.plan.combine == "weighted" and self.plan.weights is None:
            raise NotServableError("The ensemble has no weights yet. Call its fit on held-out rows, or give weights.")
        if self._final is not None and not self._final.fitted:
            raise NotServableError("The final estimator is not fitted yet. Call the ensemble's fit on held-out rows.")

    def predict(self, rows: Any) -> Array:
        """Return labels, or numbers, ``(n,)``.

        Parameters
        ----------
        rows : DataFrame or array of shape (n, features)

        Raises
        ------
        NotServableError
            If it is not fitted, or a member's answer cannot be combined.
        InvalidInputError
            If the rows lack a column of a member's.
        MemberError
            If more members failed than the quorum allows.
        """
        return self.answer(rows).values

    @property
    def predict_proba(self) -> Callable[[Any], Array]:
        """Give the probabilities of the classes, ``(n, classes)``; missing where there are none."""
        of_members = self.plan.output == "class" and self.plan.combine != "vote"
        if not (of_members if self._final is None else self._final.has_probabilities):
            raise AttributeError("The ensemble gives no probabilities.")
        return self._predict_proba

    def _predict_proba(self, rows: Any) -> Any:
        return self.answer(rows).probabilities

    def predictor(self) -> Predictor:
        """Return how it answers, for :func:`mlnb.registry.predictors.predictor`.

        Raises
        ------
        NotServableError
            If it is not fitted.
        """
        self.check_fitted()
        return Predictor(self.predict, getattr(self, "predict_proba", None), self.answer)

    def answer(self, rows: Any) -> Answers:
        """Return values, probabilities and who failed, each member asked once; see :meth:`predict`."""
        self.check_fitted()
        rows = _plain(rows)
        if self.plan.combine == "cascade":
            return self._cascaded(rows)
        answers, missing = self._asked(rows, fewest=self.plan.quorum or len(self._members))
        return Answers(*_COMBINED[self.plan.combine](self, answers), missing)

    def _asked(self, rows: Any, *, fewest: int) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Ask all members; return what their answers mean, and who failed."""
        given = {member.name: rows_for(member, rows) for member in self._members}
        questions = {one.name: partial(_answer, one, self.plan, given[one.name]) for one in self._members}
        outcomes = self._asking.ask(questions, rows=len(rows))
        failed = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, BaseException)}
        self._check_quorum(failed, fewest=fewest)
        meaning = _MEANING.get(self.plan.combine) or _MEANING[self.plan.output]
        answered = [member for member in self._members if member.name not in failed]
        missing = (*failed, *(name for one in answered for name in outcomes[one.name].missing))
        return {one.name: meaning(one, outcomes[one.name].answer, self.plan) for one in answered}, missing

    def _check_quorum(self, failed: Mapping[str, BaseException], *, fewest: int) -> None:
        if len(self._members) - len(failed) < fewest:
            name, error = next(iter(failed.items()))
            more = f"; so did {', '.join(map(repr, list(failed)[1:]))}" if len(failed) > 1 else ""
            needed = f" Needed are the answers of {fewest}." if self.plan.quorum else ""
            raise MemberError(f"Member {name!r} failed: {type(error).__name__}: {error}{more}.{needed}") from error
        for name, error in failed.items():
            _log.warning("Member %r failed; the others answer", name, exc_info=error)

    def _cascaded(self, rows: Any) -> Answers:
        """Ask one member after the other for the rows that none before was sure of."""
        threshold = self.plan.threshold
        table = np.full((len(rows), len(self.classes_)), np.nan)
        unsure = np.arange(len(rows))
        fewest = self.plan.quorum or len(self._members)
        failed: dict[str, BaseException] = {}
        missing: list[str] = []
        for member in self._members:
            given = rows_for(member, rows if len(unsure) == len(rows) else _taken(rows, unsure))
            try:
                outcome = _answer(member, self.plan, given)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the next one is asked, and the quorum judges
                failed[member.name] = error
                if len(self._members) - len(failed) < fewest:
                    break
                continue
            missing += outcome.missing
            table[unsure] = chances(member, outcome.answer, self.plan)
            unsure = unsure[~(table[unsure].max(axis=1) >= threshold)]
            if not len(unsure):
                break
        alone = bool(failed) and bool(np.isnan(table).all(axis=1).any())  # rows that nobody answered
        self._check_quorum(failed, fewest=len(self._members) if alone else fewest)
        return Answers(self.classes_[table.argmax(axis=1)], table, (*failed, *missing))


def _vote(ensemble: Ensemble, answers: dict[str, Array]) -> tuple[Array, None]:
    weights = _weights_of(ensemble, answers)
    chosen = combining.vote(list(answers.values()), len(ensemble.classes_), weights=weights)
    return ensemble.classes_[chosen], None


def _mean(ensemble: Ensemble, answers: dict[str, Array]) -> tuple[Array, Array | None]:
    found = combining.mean(_alike(answers), weights=_weights_of(ensemble, answers))
    if ensemble.plan.output == "number":
        return found, None
    return ensemble.classes_[found.argmax(axis=1)], found


def _median(_: Ensemble, answers: dict[str, Array]) -> tuple[Array, None]:
    return combining.median(_alike(answers)), None


def _stacked(ensemble: Ensemble, answers: dict[str, Any]) -> tuple[Array, Array | None]:
    assert ensemble.final is not None  # noqa: S101 - for the type checker: a stack has one
    return ensemble.final.answer(combining.columns(list(answers.values())))


def _weights_of(ensemble: Ensemble, answers: Mapping[str, Any]) -> list[float] | None:
    """Return the weights of those who answered."""
    known = ensemble.weights
    if known is None:
        return None
    found = [known[name] for name in answers]
    if not any(found):
        raise MemberError(f"Those who answered, {', '.join(answers)}, have no weight.")
    return found


_COMBINED: dict[str, Callable[[Ensemble, dict[str, Any]], tuple[Array, Array | None]]] = {
    "mean": _mean,
    "median": _median,
    "stacking": _stacked,
    "vote": _vote,
    "weighted": _mean,
}
_MEANING: dict[str, Callable[[Member, Array, Plan], Any]] = {
    "class": chances,
    "number": numbers,
    "stacking": features,
    "vote": votes,
}


class _Said(NamedTuple):
    """What one member said, and which of its own members failed, if it is an ensemble."""

    answer: Array
    missing: tuple[str, ...] = ()


def _answer(member: Member, plan: Plan, rows: Any) -> _Said:
    asked, together = question(member, plan), member.answers.together
    if together is None:
        said = _Said(asked(rows))
    else:
        both = together(rows)
        answer = both.probabilities if asked is member.answers.probabilities else both.values
        said = _Said(np.asarray(answer), tuple(f"{member.name}/{name}" for name in both.missing))
    if said.answer.shape[:1] != (len(rows),):
        raise ValueError(f"it gave the shape {said.answer.shape} for {len(rows)} rows")
    return said


def _alike(answers: Mapping[str, Array]) -> list[Array]:
    """Return answers that have one shape."""
    (name, first), *others = answers.items()
    for other, answer in others:
        if answer.shape != first.shape:
            raise NotServableError(
                f"Member {name!r} answers with the shape {first.shape}, and {other!r} with {answer.shape}: these "
                "cannot be combined."
            )
    return list(answers.values())


def _plain(rows: Any) -> Any:
    """Return a frame or array as it is, lists as an array."""
    return rows if is_frame(rows) or hasattr(rows, "shape") else np.asarray(rows)


def _taken(rows: Any, chosen: Array) -> Any:
    return rows.iloc[chosen] if hasattr(rows, "iloc") else rows[chosen]
