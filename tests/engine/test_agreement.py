"""Against scikit-learn, published worked examples, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from engine import agreement

CLASSES = ("none", "preplus", "plus")


@pytest.mark.parametrize("weighted", [False, True])
def test_kappa_equals_scikit_learn(weighted: bool) -> None:
    rng = np.random.default_rng(1)
    for n in (5, 40, 300):
        first = rng.choice(CLASSES, n)
        second = np.where(rng.random(n) < 0.6, first, rng.choice(CLASSES, n))
        found = agreement.kappa(first.tolist(), second.tolist(), CLASSES, weighted=weighted)
        weights = "quadratic" if weighted else None
        assert found.value == pytest.approx(cohen_kappa_score(first, second, labels=list(CLASSES), weights=weights))
        assert found.n == n and found.low <= found.value <= found.high


def test_the_interval_of_kappa_holds_what_it_says() -> None:
    """Of 1,000 samples of a population whose kappa is known, about 95 % have it in their interval."""
    rng = np.random.default_rng(2)
    p = np.array([[0.40, 0.06, 0.02], [0.05, 0.20, 0.05], [0.02, 0.05, 0.15]])
    p /= p.sum()
    expected = p.sum(axis=1) @ p.sum(axis=0)
    truth = (np.trace(p) - expected) / (1 - expected)
    hits = 0
    for _ in range(1000):
        cells = rng.choice(9, 150, p=p.ravel())
        found = agreement.kappa([CLASSES[c // 3] for c in cells], [CLASSES[c % 3] for c in cells], CLASSES)
        hits += found.low <= truth <= found.high
    assert 920 <= hits <= 975


def test_kappa_is_not_defined_where_everybody_says_the_same() -> None:
    assert agreement.kappa(["plus"] * 9, ["plus"] * 9, CLASSES) is None
    assert agreement.kappa(["plus"], ["plus"], CLASSES) is None
    with pytest.raises(ValueError):
        agreement.kappa(["plus"], ["minus"], CLASSES)
    with pytest.raises(ValueError):
        agreement.kappa(["plus", "none"], ["plus"], CLASSES)


def test_icc_equals_the_analysis_of_variance() -> None:
    """By sums of squares over a long table, another way than the code's means."""
    rng = np.random.default_rng(3)
    truth = rng.normal(110, 40, 60)
    first, second = truth + rng.normal(0, 6, 60), truth + rng.normal(4, 7, 60)
    n, k = 60, 2
    values = np.concatenate([first, second])
    child, reader = np.tile(np.arange(n), 2), np.repeat([0, 1], n)
    design = np.column_stack([np.eye(n)[child], np.eye(k)[reader]])
    residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    ms_error = (residual**2).sum() / ((n - 1) * (k - 1))
    ms_child = n and sum(k * (values[child == c].mean() - values.mean()) ** 2 for c in range(n)) / (n - 1)
    ms_reader = sum(n * (values[reader == r].mean() - values.mean()) ** 2 for r in (0, 1)) / (k - 1)
    by_hand = (ms_child - ms_error) / (ms_child + (k - 1) * ms_error + k * (ms_reader - ms_error) / n)
    found = agreement.icc(first, second)
    assert found.value == pytest.approx(by_hand)
    assert found.low < found.value < found.high <= 1


def test_the_interval_of_the_icc_holds_what_it_says() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(600):
        truth = rng.normal(0, 10, 40)
        bias = rng.normal(0, 2, 2)
        found = agreement.icc(truth + bias[0] + rng.normal(0, 4, 40), truth + bias[1] + rng.normal(0, 4, 40))
        hits += found.low <= 100 / (100 + 4 + 16) <= found.high
    assert hits >= 540  # with two readers the interval is wide and, if anything, too wide


def test_an_offset_lowers_the_icc_and_shows_as_bias() -> None:
    first = np.arange(50.0)
    assert agreement.icc(first, first).value == 1.0
    assert agreement.icc(first, first + 20).value < 0.8
    found = agreement.bland_altman(first, first + 20)
    assert (found.bias.value, found.lower_limit, found.upper_limit, found.mean_absolute) == (20, 20, 20, 20)
    assert agreement.icc([1, 2], [1, 2]) is None and agreement.icc([5] * 9, [5] * 9) is None


def test_bland_altman_equals_scipy() -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(100, 30, 80)
    second = first + rng.normal(2, 8, 80)
    found = agreement.bland_altman(first, second)
    interval = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert (found.bias.low, found.bias.high) == pytest.approx((interval.low, interval.high))
    spread = np.std(second - first, ddof=1)
    assert found.upper_limit - found.lower_limit == pytest.approx(2 * stats.norm.ppf(0.975) * spread)
    assert agreement.bland_altman([1], [2]) is None


def test_a_share_equals_scipy() -> None:
    for part, n in ((0, 7), (3, 10), (50, 50)):
        found = agreement.share(part, n)
        interval = stats.binomtest(part, n).proportion_ci(method="wilson")
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert agreement.share(0, 0) is None
