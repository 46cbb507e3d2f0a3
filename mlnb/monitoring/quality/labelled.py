"""The newest answers of each version whose labels came, in fixed memory, and the reports on them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlnb.monitoring.quality.classes import judge_classes
from mlnb.monitoring.quality.findings import Findings, counted
from mlnb.monitoring.quality.numbers import judge_numbers
from mlnb.monitoring.quality.report import QualityReport
from mlnb.monitoring.quality.rows import Note, Rows, fitting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.monitoring.quality.report import Measure

    Array = np.ndarray[Any, Any]

__all__ = ["VERSIONS", "Labelled"]

VERSIONS = 8  # whose labels are kept


class Labelled:
    """The newest labelled rows of each version, with when the label came; used on one thread only.

    It keeps 20,000 rows of each of the 8 versions that were labelled last, fewer where a row's answer has more than 25
    values, and the probabilities of as many of them as have 300,000 values together.

    Examples
    --------
    >>> labelled = Labelled()
    >>> for at in range(40):
    ...     labelled.note(3, at=at, truth=["b" if at % 4 else "a"], prediction=np.array(["b"]))
    >>> report = labelled.report(3, window_name="all time", labels=("a", "b"), output="class")
    >>> report.measure("accuracy").words
    '0.75 (0.60 to 0.86)'
    """

    def __init__(self) -> None:
        self._versions: OrderedDict[int, Rows] = OrderedDict()
        self._reports: dict[tuple[int, str], tuple[Any, QualityReport]] = {}

    @property
    def versions(self) -> tuple[int, ...]:
        """Numbers of the versions with labels, ascending."""
        return tuple(sorted(self._versions))

    def note(
        self,
        version: int,
        *,
        at: float,
        truth: Sequence[Any] | Array,
        prediction: Array,
        probabilities: Array | None = None,
        request_id: str = "",
    ) -> None:
        """Keep the rows of one request.

        Parameters
        ----------
        version : int
            That answered it.
        at : float
            When the label came, seconds since the epoch.
        truth : list of label, or ndarray of float
            For each row of the answer, in the shape of the answer: a list of classes, or an array of numbers.
        prediction : ndarray of shape (n, ...)
        probabilities : ndarray of shape (n, classes), or None
        request_id : str
            For :meth:`add_probabilities` and :meth:`correct`, if they come later.
        """
        if not prediction.size:
            return
        rows = self._versions.get(version)
        if rows is None:
            rows = self._versions[version] = Rows()
            if len(self._versions) > VERSIONS:
                self._forget(self._versions.popitem(last=False)[0])
        else:
            self._versions.move_to_end(version)
        rows.note(Note(at, request_id, truth, prediction, fitting(probabilities, len(prediction))))

    def correct(self, version: int, truths: Mapping[str, Sequence[Any] | Array]) -> None:
        """Put labels in the place of others, as far as the rows are still there; they count by when the first came.

        Parameters
        ----------
        version : int
        truths : mapping of str to list of label, or ndarray of float
            By request id; as in :meth:`note`.
        """
        if version in self._versions:
            self._versions[version].correct(truths)

    def waiting(self, version: int, *, most: int) -> list[str]:
        """Return ids of labelled requests whose probabilities are not known, newest first."""
        rows = self._versions.get(version)
        return [] if rows is None else rows.waiting_ids()[:most]

    def add_probabilities(self, version: int, request_id: str, probabilities: Array) -> bool:
        """Take the probabilities of a labelled request; return whether its rows are still there and they fit.

        Parameters
        ----------
        version : int
        request_id : str
        probabilities : ndarray of shape (n, classes)
        """
        rows = self._versions.get(version)
        return rows is not None and rows.add_probabilities(request_id, np.asarray(probabilities, dtype=float))

    def report(
        self,
        version: int,
        *,
        window_name: str,
        since: float | None = None,
        labels: Sequence[Any] | None,
        output: str,
    ) -> QualityReport:
        """Say how good the answers of a version were.

        Parameters
        ----------
        version : int
        window_name : str
            Such as "5 minutes".
        since : float or None
            When the window began, seconds since the epoch; labels count by when they came. None: all that are kept.
        labels : sequence or None
            The classes that the version knows, in the order of its probabilities.
        output : {'class', 'number', 'cluster', 'outlier', 'any'}
            What the version answers with.
        """
        rows = self._versions.get(version) or Rows()
        rows.settle()
        chosen = np.ones(len(rows.at), dtype=bool) if since is None else rows.at >= since
        key = (rows.changes, int(chosen.sum()), None if labels is None else tuple(labels), output)  # says which rows
        known = self._reports.get((version, window_name))
        if known is None or known[0] != key:
            known = key, _report(version, window_name, rows, chosen, labels, output)
            self._reports[version, window_name] = known
        return known[1]

    def copy(self) -> Labelled:
        """Return another one with the same rows."""
        copy = Labelled()
        copy._versions = self._copied()
        return copy

    def join(self, earlier: Labelled) -> None:
        """Take the rows of another one, as older than the own ones."""
        both = earlier._copied()
        for version, own in self._versions.items():
            if version in both:
                both[version].extend(own)
                both.move_to_end(version)
            else:
                both[version] = own
        while len(both) > VERSIONS:
            both.popitem(last=False)
        self._versions = both
        self._reports.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"_versions": self._copied(), "_reports": {}}

    def _copied(self) -> OrderedDict[int, Rows]:
        return OrderedDict((version, rows.copy()) for version, rows in self._versions.items())

    def _forget(self, version: int) -> None:
        for key in [key for key in self._reports if key[0] == version]:
            del self._reports[key]


def _report(
    version: int, window: str, rows: Rows, chosen: Array, labels: Sequence[Any] | None, output: str
) -> QualityReport:
    task: Literal["classes", "numbers"] = "classes"
    if output == "number" or (output == "any" and rows.numbers):
        task = "numbers"
    found = _judged(rows, chosen, labels, task)
    count, kept = int(chosen.sum()), len(rows.at)
    capped = f"Of the newest {kept:,} of {rows.seen:,} labelled rows." if count == kept < rows.seen else ""
    main = f"v{version}, {window}: {_main(found.measures, count)}."
    return QualityReport(
        version=version, window=window, task=task, labels=count, measures=found.measures,
        calibration=found.calibration, classes=found.classes, confusion=found.confusion,
        words=" ".join(filter(None, [main, *found.notes, capped])),
    )  # fmt: skip


def _main(measures: Sequence[Measure], labels: int) -> str:
    """Return the first figure in words, or once for all of them that there are not enough labels."""
    first = measures[0]
    if all(one.words == first.words and one.value is None for one in measures):
        return first.words
    return f"{first.name} {first.words}, {counted(labels, 'labelled row')}"


def _judged(rows: Rows, chosen: Array, labels: Sequence[Any] | None, task: str) -> Findings:
    truth, prediction, probabilities = rows.truth[chosen], rows.prediction[chosen], rows.probabilities
    if task == "numbers":
        return judge_numbers(_floats(truth), _floats(prediction))
    if probabilities is not None:
        probabilities = probabilities[chosen[len(chosen) - len(probabilities) :]]
    return judge_classes(truth, prediction, probabilities, labels)


def _floats(values: Array) -> Array:
    """Return numbers; NaN in the place of all if one is none."""
    try:
        return values.astype(float)
    except (TypeError, ValueError):
        return np.full(values.shape, np.nan)
