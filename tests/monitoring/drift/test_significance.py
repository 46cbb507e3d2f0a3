from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.stats.contingency import association

from mlnb.monitoring.drift.significance import adjusted, chi_square, effective_rows, kolmogorov_smirnov
from mlnb.registry.rows.baseline import repeats


@pytest.mark.parametrize(
    ("before", "now", "shift"), [(75, 100, 0.0), (569, 1000, 0.1), (1000, 1000, 0.5), (300, 2000, 9.0)]
)
def test_kolmogorov_smirnov_is_scipys_own(before: int, now: int, shift: float) -> None:
    rng = np.random.default_rng(before)
    old, new = np.sort(rng.normal(size=before)), rng.normal(shift, size=now)
    found, own = kolmogorov_smirnov(old, new, known=before, weight=1.0), stats.ks_2samp(old, new)
    assert found.statistic == own.statistic
    assert found.p_value == pytest.approx(own.pvalue, rel=1e-9)
    assert found.counted == found.p_value
    assert found.effect == own.statistic


def test_the_same_sample_twice_raises_no_warning_of_scipys() -> None:
    rng = np.random.default_rng(0)
    for count in (100, 569, 1000):
        values = np.sort(rng.integers(0, 16, count).astype(float))
        assert kolmogorov_smirnov(values, rng.permutation(values), known=count, weight=1.0).p_value == 1.0
        repeated = values[rng.integers(count, size=1000)]
        assert kolmogorov_smirnov(values, repeated, known=count, weight=1.0).p_value > 0.1


def test_a_thinned_sample_has_the_p_value_of_all_its_values() -> None:
    rng = np.random.default_rng(1)
    old, new = np.sort(rng.normal(size=20_000)), rng.normal(0.08, size=1000)
    found = kolmogorov_smirnov(old[10::20], new, known=20_000, weight=1.0)
    own = stats.ks_2samp(old, new, method="asymp")
    assert found.statistic == pytest.approx(own.statistic, abs=0.001)
    assert found.p_value == pytest.approx(own.pvalue, rel=0.2)
    assert found.p_value < stats.ks_2samp(old[10::20], new).pvalue


def test_rows_that_are_sent_again_count_less() -> None:
    rng = np.random.default_rng(2)
    old, few = np.sort(rng.normal(size=500)), rng.normal(size=50)
    often = np.tile(few, 20)
    weight = effective_rows(1000, repeats({"a": often}), before=0.0) / 1000
    assert weight == pytest.approx(0.05, rel=0.06)
    found = kolmogorov_smirnov(old, often, known=500, weight=weight)
    once = kolmogorov_smirnov(old, few, known=500, weight=1.0)
    assert found.p_value == stats.ks_2samp(old, often).pvalue
    assert found.counted == pytest.approx(once.p_value, rel=0.15)


def test_where_the_examples_own_rows_repeat_each_row_counts() -> None:
    assert effective_rows(1000, 0.9, before=0.25) == 1000
    assert effective_rows(1, 0.0, before=0.0) == 1
    assert effective_rows(0, 0.0, before=0.0) == 0


@pytest.mark.parametrize("counts", [((50, 50), (60, 40)), ((30, 40, 30), (50, 25, 25)), ((900, 50, 50), (80, 20, 10))])
def test_chi_square_is_scipys_own(counts: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    found, own = chi_square(*counts, weight=1.0), stats.chi2_contingency(counts)
    assert found.statistic == pytest.approx(own.statistic)
    assert found.p_value == found.counted == pytest.approx(own.pvalue)


def test_cramers_v_is_scipys_own_for_samples_of_one_size_and_the_same_whatever_the_sizes() -> None:
    before, now = (300, 400, 300), (500, 250, 250)
    found = chi_square(before, now, weight=1.0).effect
    assert found == pytest.approx(association(np.array([before, now]), method="cramer"))
    assert chi_square(tuple(1000 * count for count in before), now, weight=1.0).effect == pytest.approx(found)


def test_rare_categories_are_counted_together() -> None:
    before, now = (500, 480, *[1] * 20), (250, 240, *[0, 1] * 5, *[0] * 10)
    own = stats.chi2_contingency([[500, 480, 20], [250, 240, 5]])
    assert chi_square(before, now, weight=1.0).p_value == pytest.approx(own.pvalue)
    few = stats.chi2_contingency([[500, 484], [250, 240]])
    assert chi_square((500, 480, 4), (250, 240, 0), weight=1.0).p_value == pytest.approx(few.pvalue)


def test_one_category_is_no_evidence() -> None:
    found = chi_square((100, 0), (200, 0), weight=1.0)
    assert (found.statistic, found.p_value, found.effect) == (0.0, 1.0, 0.0)
    assert chi_square((100, 0), (0, 200), weight=1.0).effect == 1.0


def test_p_values_are_adjusted_as_scipy_does() -> None:
    values = [0.01, 0.04, 0.5, 0.001]
    assert adjusted(values) == stats.false_discovery_control(values).tolist()
    assert adjusted([]) == []
