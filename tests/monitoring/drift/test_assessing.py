from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mlnb.monitoring.drift import DriftReport, assess
from mlnb.registry.rows.baseline import Baseline, column_values, make_baseline, summarized
from mlnb.registry.rows.inference import infer_signature

Array = np.ndarray[Any, Any]


def objects(values: Any) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def baseline(columns: dict[str, Array], *, prediction: Array | None = None, repeats: float = 0.0) -> Baseline:
    return Baseline(
        rows=max(map(len, columns.values())), repeats=repeats,
        columns=tuple(summarized(name, values) for name, values in columns.items()),
        prediction=None if prediction is None else summarized("prediction", prediction),
    )  # fmt: skip


def normal(count: int = 500, shift: float = 0.0, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(shift, size=count)


def words_of(report: DriftReport) -> dict[str, str]:
    return {column.name: column.words for column in report.columns}


def test_the_figures_are_scipys_own() -> None:
    before, now = normal(), normal(1000, 0.3, seed=1)
    (found,) = assess(baseline({"a": before}), {"a": now}).columns
    own = stats.ks_2samp(before, now)
    assert (found.test, found.statistic, found.p_value) == ("Kolmogorov-Smirnov", own.statistic, own.pvalue)
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(before, now) / before.std())
    assert found.out_of_range == np.mean((now < before.min()) | (now > before.max()))
    assert sum(found.before) == pytest.approx(1.0)
    assert sum(found.now) == pytest.approx(1.0)
    assert len(found.edges) == len(found.now) + 1


def test_adjusted_is_benjamini_and_hochbergs_over_the_columns() -> None:
    before = {name: normal(seed=at) for at, name in enumerate("abcd")}
    now = {name: normal(500, 0.05 * at, seed=at + 9) for at, name in enumerate("abcd")}
    report = assess(baseline(before), now)
    found = {column.name: column for column in report.columns}
    own = stats.false_discovery_control([found[name].p_value for name in "abcd"])
    assert [found[name].adjusted for name in "abcd"] == own.tolist()


def test_what_drifted_comes_first_and_the_largest_effect_before_all() -> None:
    before = {name: normal(seed=at) for at, name in enumerate("abc")}
    now = {"a": normal(1000, 0.5, 5), "b": normal(1000, 0.0, 6), "c": normal(1000, 2.0, 7)}
    report = assess(baseline(before), now, name="m", version=3, at=5.0)
    assert report.drifted == ("c", "a")
    assert [column.verdict for column in report.columns] == ["drifted", "drifted", "steady"]
    assert report.share == pytest.approx(2 / 3)
    assert report.words == "2 of 3 columns drifted, c most, by 1,000 rows."
    assert words_of(report)["c"].startswith("drifted: median -0.0")
    assert (report.name, report.version, report.rows, report.at) == ("m", 3, 1000, 5.0)


def test_what_is_certain_and_small_is_no_drift() -> None:
    (found,) = assess(baseline({"a": normal(1000)}), {"a": normal(100_000, 0.15, 1)}).columns
    assert found.adjusted < 0.01
    assert found.effect < 0.1
    assert found.verdict == "steady"


def test_what_is_large_and_may_be_chance_is_no_drift() -> None:
    before = {f"x{at}": normal(60, seed=at) for at in range(30)}
    report = assess(baseline(before), {f"x{at}": normal(100, 0.0, 50 + at) for at in range(30)})
    assert max(column.effect for column in report.columns) > 0.1
    assert report.drifted == ()
    assert report.words == "None of 30 columns drifted, by 100 rows."


def test_before_there_are_100_rows_there_is_no_verdict() -> None:
    report = assess(baseline({"a": normal()}), {"a": normal(99, 5.0)})
    assert report.words == "Too few rows to tell: 99 of 100 rows."
    assert report.share is None
    assert report.columns[0].verdict == "too few"
    assert report.columns[0].statistic > 0.9
    assert assess(baseline({"a": normal()}), {"a": normal(100, 5.0)}).drifted == ("a",)


def test_a_small_example_gives_no_verdict() -> None:
    report = assess(baseline({"a": normal(20)}), {"a": normal(500, 5.0)})
    assert (report.columns[0].verdict, report.columns[0].words) == ("too few", "too few in the example")
    assert report.words.startswith("The example has too few rows to tell of drift: 20 of 30.")


def test_a_column_with_too_few_known_values_is_left_out() -> None:
    now = normal(300, 5.0)
    now[50:] = np.nan
    before = normal(300)
    before[50:] = np.nan
    report = assess(baseline({"a": before, "b": normal()}), {"a": now, "b": normal(300, seed=1)})
    found = {column.name: column for column in report.columns}
    assert found["a"].verdict == "steady"  # as many are missing as before; of the others there are too few
    assert assess(baseline({"a": normal(), "b": normal()}), {"b": now}).columns[-1].verdict != "too few"


def test_the_same_few_rows_again_and_again_are_no_evidence() -> None:
    columns = {"a": np.tile(normal(10, 1.0), 100), "b": np.tile(normal(10, 1.0, 1), 100)}
    report = assess(baseline({"a": normal(), "b": normal(seed=3)}), columns)
    assert report.words == "Too few rows to tell: about 10 different rows again and again."
    assert assess(baseline({"a": normal()}, repeats=0.3), {"a": columns["a"]}).drifted == ("a",)


def test_one_column_that_is_stuck_drifted() -> None:
    columns = {"a": np.zeros(500), "b": normal(500, seed=4)}
    assert assess(baseline({"a": normal(), "b": normal(seed=3)}), columns).drifted == ("a",)


def test_categories_are_compared_by_chi_square() -> None:
    before, now = objects(["x"] * 250 + ["y"] * 250), objects(["x"] * 100 + ["y"] * 350 + ["z"] * 50)
    (found,) = assess(baseline({"c": before}, repeats=0.5), {"c": now}).columns
    own = stats.chi2_contingency([[250, 250, 0], [100, 350, 50]])
    assert (found.test, found.kind, found.verdict) == ("chi-square", "categories", "drifted")
    assert found.statistic == pytest.approx(own.statistic)
    assert found.p_value == pytest.approx(own.pvalue)
    assert found.unknown == 0.1
    assert found.wasserstein is None
    assert found.words == "drifted: 'x' 50 % before, 20 % now"
    assert dict(zip(found.edges, found.now, strict=True)) == {"y": 0.7, "x": 0.2, "z": 0.1}


def test_categories_that_the_example_does_not_list_may_be_old_ones() -> None:
    rng = np.random.default_rng(0)
    many = objects([f"c{value}" for value in rng.integers(0, 400, 2000)])
    report = assess(baseline({"c": many}), {"c": objects([f"c{value}" for value in rng.integers(0, 400, 500)])})
    assert report.columns[0].unknown == 0.0
    assert report.columns[0].verdict == "steady"


def test_texts_are_compared_by_their_lengths() -> None:
    rng = np.random.default_rng(0)
    before = objects([f"{at}" + "." * int(size) for at, size in enumerate(rng.integers(10, 50, 300))])
    same = objects([f"{at}," + "." * int(size) for at, size in enumerate(rng.integers(10, 50, 300))])
    longer = objects([text + "." * 30 for text in same])
    assert assess(baseline({"text": before}), {"text": same}).drifted == ()
    (found,) = assess(baseline({"text": before}), {"text": longer}).columns
    assert (found.kind, found.test, found.verdict) == ("texts", "Kolmogorov-Smirnov", "drifted")
    assert found.words.startswith("drifted: median length 3")


def test_values_that_go_missing_are_drift_by_themselves() -> None:
    before, now = normal(500), normal(500, seed=1)
    now[::2] = np.nan
    (found,) = assess(baseline({"a": before}), {"a": now}).columns
    assert found.words == "drifted: missing 0 % before, 50 % now"
    assert (found.missing, found.missing_before) == (0.5, 0.0)
    gone = assess(baseline({"a": before, "b": before}), {"a": np.full(500, np.nan), "b": normal(500, seed=1)}).columns[
        0
    ]
    assert (gone.verdict, gone.missing) == ("drifted", 1.0)
    (vanished,) = assess(baseline({"a": before, "b": before}), {"b": normal(500, seed=1)}).columns[:1]
    assert (vanished.name, vanished.verdict) == ("a", "drifted")


def test_predictions_have_a_verdict_of_their_own() -> None:
    known = baseline({"a": normal()}, prediction=objects([0, 1] * 250))
    report = assess(known, {"a": normal(400, seed=1)}, prediction=objects([1] * 400))
    assert report.drifted == ()
    assert report.prediction is not None
    assert report.prediction.verdict == "drifted"
    assert report.words == "None of 1 column drifted, by 400 rows. The predictions drifted."
    same = assess(known, {"a": normal(400, seed=1)}, prediction=np.array([0.0, 1.0] * 200))
    assert same.prediction is not None
    assert same.prediction.verdict == "steady"
    assert assess(known, {"a": normal(400)}).prediction is None


def test_numbers_that_became_words_or_nothing_are_missing() -> None:
    known = baseline({"a": normal()}, prediction=normal(seed=1))
    for answers in (objects(["no"] * 400), objects([None] * 400), np.full(400, np.nan)):
        found = assess(known, {"a": normal(400, seed=2)}, prediction=answers).prediction
        assert found is not None
        assert found.words == "drifted: missing 0 % before, 100 % now"


def test_nothing_is_said_without_an_example() -> None:
    report = assess(None, {"a": normal()}, name="m", version=1)
    assert report.words == "No example was stored with this version, so nothing can be said of drift."
    assert (report.columns, report.share, report.prediction, report.rows) == ((), None, None, 500)
    assert assess(Baseline(rows=0, repeats=0.0, columns=()), {}).words == report.words


@pytest.mark.parametrize(
    "values",
    [np.zeros(0), np.array([1.0]), np.full(300, np.nan), np.full(300, np.inf), np.full(300, 7.0),
     np.array([1e308, -1e308] * 100), np.array([5e-324, 0.0] * 100), np.array([np.nan, np.inf, -np.inf, 0.0] * 80)],
)  # fmt: skip
def test_odd_numbers_are_survived_on_either_side(values: Array) -> None:
    odd = baseline({"a": values, "b": normal()})
    for before in (odd, baseline({"a": normal(), "b": normal()}), baseline({"a": np.full(300, 7.0), "b": normal()})):
        for now in (values, normal(300), np.full(300, 7.0)):
            report = assess(before, {"a": now, "b": normal(len(now), seed=2)}, prediction=now)
            assert {column.name for column in report.columns} == {"a", "b"}
            assert report._repr_html_()
    (found,) = (one for one in assess(odd, {"a": values, "b": normal(len(values))}).columns if one.name == "a")
    assert found.verdict in ("steady", "too few")


def test_a_constant_that_changed_drifted() -> None:
    (found,) = assess(baseline({"a": np.full(300, 7.0)}, repeats=1.0), {"a": np.full(300, 8.0)}).columns
    assert (found.verdict, found.effect, found.wasserstein) == ("drifted", 1.0, None)


def test_of_very_wide_rows_the_first_2000_columns_are_looked_at() -> None:
    rows = np.random.default_rng(0).normal(size=(120, 2_100))
    signature = infer_signature(None, rows)
    wide = make_baseline(signature, signature.check(rows))
    assert wide is not None
    assert (len(wide.columns), wide.left_out) == (2_000, 100)
    report = assess(wide, column_values(signature, signature.check(rows)))
    assert report.words.endswith("Columns beyond the 2,000th were not looked at.")
    assert report.drifted == ()
