"""What may be said of a model's quality: values that show themselves."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CalibrationBin", "Measure", "QualityReport"]

_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_TEXT = "text-align: left"
_MUTED = "color: var(--jp-content-font-color2, #767676)"
_SHOWN = 10  # classes of a confusion matrix that is read in a notebook


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure of quality.

    Attributes
    ----------
    name : str
        "accuracy", "precision", "recall", "F1", "ROC AUC", "log loss", "Brier score", "MAE", "RMSE" or "R²".
    value : float or None
        None if it cannot be said, or not yet.
    low, high : float or None
        Its 95 % confidence interval; None without a value.
    words : str
        Such as "0.94 (0.91 to 0.97)", or "not enough labels yet: 5 of 30".
    """

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Rows of which the model was about equally sure.

    Attributes
    ----------
    predicted : float
        Mean of their probabilities.
    observed : float
        The share in which it was so.
    low, high : float
        95 % confidence interval of that share.
    count : int
        Rows.
    """

    predicted: float
    observed: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class QualityReport:
    """How good the answers of one version were, by the labels that came in one window.

    Attributes
    ----------
    version : int
    window : str
        "1 minute", "5 minutes", "1 hour" or "all time"; labels belong to the window in which they came.
    task : {'classes', 'numbers'}
        What the model answers with.
    labels : int
        Rows with a label.
    measures : tuple of Measure
    calibration : tuple of CalibrationBin
        At most ten, of about as many rows each, by rising probability; empty for numbers and without probabilities.
    classes : tuple of str
        Of the confusion matrix; empty for numbers, and for answers of several outputs.
    confusion : tuple of tuple of int
        Rows by true class and, in each, by the class that was answered.
    words : str
        A few sentences: the main figure, what the others are of, and what was left out.
    """

    version: int
    window: str
    task: Literal["classes", "numbers"]
    labels: int
    measures: tuple[Measure, ...]
    calibration: tuple[CalibrationBin, ...] = ()
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    words: str = ""

    def measure(self, name: str) -> Measure | None:
        """Return one of the measures, None if this task has none of that name."""
        return next((one for one in self.measures if one.name == name), None)

    def figure(self) -> Any:
        """Draw the calibration curve and the confusion matrix.

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        MissingLibraryError
            If plotly is not installed.
        """
        from mlnb.monitoring.figures_quality import quality_figure

        return quality_figure(self)

    @property
    def silent(self) -> bool:
        """Whether nothing can be said yet, and all measures say so with the same words."""
        return len({one.words for one in self.measures}) == 1 and all(one.value is None for one in self.measures)

    def __repr__(self) -> str:
        if self.silent:
            return self.words
        width = max((len(one.name) for one in self.measures), default=0)
        return "\n".join([self.words, *(f"{one.name:<{width}}  {one.words}" for one in self.measures)])

    def _repr_html_(self) -> str:
        if self.silent:
            return f"<p>{escape(self.words)}</p>"
        rows = [(_cell(one.name, style=_TEXT), _measure(one)) for one in self.measures]
        measures = _table("mlnb-quality", _heads("measure", "value, 95 % interval"), rows)
        return f"<p>{escape(self.words)}</p>{measures}{self._confusion_html()}"

    def _confusion_html(self) -> str:
        if not 0 < len(self.classes) <= _SHOWN:
            return ""
        rows = [
            (_cell(name, style=_TEXT), *(_cell(f"{count:,}", style=_NUMBER) for count in counts))
            for name, counts in zip(self.classes, self.confusion, strict=True)
        ]
        return _table("mlnb-confusion", _heads("true class ↓ answered →", *self.classes), rows)


def _measure(one: Measure) -> str:
    return _cell(one.words, style=_NUMBER if one.value is not None else f"{_NUMBER}; {_MUTED}")


def _cell(text: str, *, style: str, tag: str = "td") -> str:
    return f'<{tag} style="{style}">{escape(text)}</{tag}>'


def _heads(first: str, *others: str) -> str:
    return _cell(first, style=_TEXT, tag="th") + "".join(_cell(one, style=_NUMBER, tag="th") for one in others)


def _table(name: str, heads: str, rows: Sequence[tuple[str, ...]]) -> str:
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<table class="{name}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
