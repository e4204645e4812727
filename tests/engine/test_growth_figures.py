"""engine.growth_figures against scipy's own functions and formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engine.growth_figures import (
    MIN_CASES,
    Sums,
    agreement_of,
    correlation,
    distribution,
    mean_interval,
    sd_interval,
    share_interval,
)

PLAUSIBLE = (-6.0, 6.0)


@pytest.mark.parametrize("n", [MIN_CASES, 57, 4000])
def test_mean_and_sd_equal_scipys(n: int) -> None:
    values = np.random.default_rng(n).normal(-0.3, 1.2, n)
    mean = mean_interval(values)
    low, high = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (mean.value, mean.low, mean.high) == pytest.approx((np.mean(values), low, high), abs=1e-12)
    sd = sd_interval(values)
    assert sd.value == pytest.approx(np.sqrt(np.var(values, ddof=1)))
    limits = stats.chi2(n - 1).interval(0.95)
    squares = ((values - values.mean()) ** 2).sum()
    assert (sd.low, sd.high) == pytest.approx((math.sqrt(squares / limits[1]), math.sqrt(squares / limits[0])))


@pytest.mark.parametrize(("count", "n"), [(0, 10), (3, 40), (40, 40), (517, 100_000)])
def test_shares_equal_scipys_wilson_interval(count: int, n: int) -> None:
    share = share_interval(count, n)
    expected = stats.binomtest(count, n).proportion_ci(method="wilson")
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert share.value == count / n


@pytest.mark.parametrize("slope", [0.0, 0.4, -2.0])
def test_correlation_equals_scipys(slope: float) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(3, 1, 200)
    y = slope * x + rng.normal(0, 0.7, 200)
    r = correlation(Sums.of(x, y))
    expected = stats.pearsonr(x, y)
    interval = expected.confidence_interval()
    assert (r.value, r.low, r.high) == pytest.approx((expected.statistic, interval.low, interval.high), abs=1e-9)


def test_no_number_for_too_few_or_equal_cases() -> None:
    few = np.arange(MIN_CASES - 1.0)
    for interval in (mean_interval(few), sd_interval(few), share_interval(1, 9), correlation(Sums.of(few, few))):
        assert interval.value is None and interval.reason == "not enough cases (n = 9)"
    same = correlation(Sums.of(np.full(20, 1.3), np.arange(20.0)))
    assert same.value is None and "same value" in same.reason
    nobody = distribution(np.full(5, np.nan), PLAUSIBLE)
    assert (nobody.n, nobody.mean.value, sum(nobody.counts)) == (0, None, 0)
    assert agreement_of([], []).largest_difference is None


def test_a_distribution_leaves_out_what_who_flags_and_counts_the_rest() -> None:
    rng = np.random.default_rng(5)
    z = np.concatenate([rng.normal(0, 1, 3000), [-6.02, 6.006, np.nan, -6.004, 6.0]])
    found = distribution(z, PLAUSIBLE)
    kept = np.concatenate([z[:3000], [-6.004, 6.0]])
    assert (found.n, found.left_out) == (3002, 2)
    assert sum(found.counts) == found.n
    assert found.mean.value == pytest.approx(np.mean(kept))
    assert found.below_percent.value == pytest.approx(100 * np.mean(kept < -2))
    assert found.above_percent.value == pytest.approx(100 * np.mean(kept > 2))
    middle = found.edges.index(0.0)
    assert found.counts[middle] == sum(0 <= value < 0.25 for value in kept)


def test_agreement() -> None:
    ours = np.random.default_rng(1).normal(0, 1.2, 500)
    same = agreement_of(np.round(ours, 2), ours)
    assert same.r.value > 0.9999 and same.largest_difference <= 0.005 and same.beyond_rounding == 0
    assert agreement_of(ours, ours).r.value == 1
    off = np.round(ours, 2)
    off[7] += 0.4
    found = agreement_of(off, ours)
    assert found.beyond_rounding == 1
    assert found.largest_difference == pytest.approx(np.max(np.abs(off - ours)))
    assert found.mean_difference == pytest.approx(np.mean(off) - np.mean(ours))
    assert found.r.value == pytest.approx(stats.pearsonr(off, ours).statistic)
