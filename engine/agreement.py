"""How far two readers agree, as pure functions: Cohen's kappa, ICC(2,1), Bland-Altman. Each comes with its n and a 95 %
interval, or None where the data cannot tell.

Sources
    kappa, weights: Cohen, Educ Psychol Meas 1960;20:37-46 and Psychol Bull 1968;70:213-220; its standard error: Fleiss,
        Cohen & Everitt, Psychol Bull 1969;72:323-327
    ICC(2,1), absolute agreement, two-way random: Shrout & Fleiss, Psychol Bull 1979;86:420-428, with the interval of
        McGraw & Wong, Psychol Methods 1996;1:30-46
    limits of agreement: Bland & Altman, Lancet 1986;327:307-310"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from engine.clustered_figures import wilson

Z = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class BlandAltman:
    """In the unit of the pairs, second minus first: the mean difference with its interval, the limits between which
    95 % of differences lie, and the mean absolute difference."""

    bias: Estimate
    lower_limit: float
    upper_limit: float
    mean_absolute: float


def kappa(
    first: Sequence[Hashable], second: Sequence[Hashable], classes: Sequence[Hashable], *, weighted: bool = False
) -> Estimate | None:
    """Cohen's kappa over `classes`; `weighted`: quadratically, for classes that have an order.

    None for fewer than two pairs, and where both readers say one and the same class throughout: agreement beyond chance
    is not defined then. Raises ValueError for unequal lengths or a value outside `classes`."""
    counts = _table(first, second, classes)
    n = int(counts.sum())
    if n < 2:
        return None
    p = counts / n
    rows, cols = p.sum(axis=1), p.sum(axis=0)
    place = np.arange(len(classes))
    apart = (place[:, None] - place[None, :]) / (len(classes) - 1)
    weights = 1 - apart**2 if weighted else np.eye(len(classes))
    observed, expected = float((weights * p).sum()), float((weights * np.outer(rows, cols)).sum())
    if np.isclose(expected, 1.0):
        return None
    value = (observed - expected) / (1 - expected)
    of_rows, of_cols = weights @ cols, rows @ weights
    spread = weights * (1 - expected) - (of_rows[:, None] + of_cols[None, :]) * (1 - observed)
    variance = ((p * spread**2).sum() - (observed * expected - 2 * expected + observed) ** 2) / (
        n * (1 - expected) ** 4
    )
    error = float(np.sqrt(max(0.0, variance)))
    return Estimate(value, max(-1.0, value - Z * error), min(1.0, value + Z * error), n)


def icc(first: Sequence[float], second: Sequence[float]) -> Estimate | None:
    """ICC(2,1): one rating, absolute agreement. None for fewer than three pairs, and where nothing varies."""
    ratings = np.column_stack(_paired(first, second))  # (n, 2)
    n, k = ratings.shape
    if n < 3:
        return None
    grand = ratings.mean()
    between = k * ((ratings.mean(axis=1) - grand) ** 2).sum() / (n - 1)
    of_readers = n * ((ratings.mean(axis=0) - grand) ** 2).sum() / (k - 1)
    total = ((ratings - grand) ** 2).sum()
    residual = (total - between * (n - 1) - of_readers * (k - 1)) / ((n - 1) * (k - 1))
    residual = max(0.0, residual)
    denominator = between + (k - 1) * residual + k * (of_readers - residual) / n
    if np.isclose(total, 0) or np.isclose(denominator, 0):
        return None
    value = (between - residual) / denominator
    if np.isclose(residual, 0) and np.isclose(of_readers, 0):
        return Estimate(1.0, 1.0, 1.0, n)
    # McGraw & Wong 1996, table 7, ICC(A,1)
    a = k * value / (n * (1 - value)) if value < 1 else np.inf
    b = 1 + k * value * (n - 1) / (n * (1 - value)) if value < 1 else np.inf
    freedom = (a * of_readers + b * residual) ** 2 / (
        (a * of_readers) ** 2 / (k - 1) + (b * residual) ** 2 / ((n - 1) * (k - 1))
    )
    upper_f, lower_f = stats.f.ppf(0.975, n - 1, freedom), stats.f.ppf(0.975, freedom, n - 1)
    inner = k * of_readers + (k * n - k - n) * residual
    low = n * (between - upper_f * residual) / (upper_f * inner + n * between)
    high = n * (lower_f * between - residual) / (inner + n * lower_f * between)
    return Estimate(float(value), float(low), float(high), n)


def bland_altman(first: Sequence[float], second: Sequence[float]) -> BlandAltman | None:
    """None for fewer than two pairs."""
    one, other = _paired(first, second)
    difference = other - one
    n = len(difference)
    if n < 2:
        return None
    bias, spread = float(difference.mean()), float(difference.std(ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * spread / np.sqrt(n)
    return BlandAltman(
        Estimate(bias, bias - half, bias + half, n),
        bias - Z * spread,
        bias + Z * spread,
        float(np.abs(difference).mean()),
    )


def share(part: int, n: int) -> Estimate | None:
    """A proportion with Wilson's interval; None of nothing."""
    if n == 0:
        return None
    found = wilson(part / n, n, Z)
    return Estimate(found.value, found.low, found.high, n)


def _table(first: Sequence[Hashable], second: Sequence[Hashable], classes: Sequence[Hashable]) -> np.ndarray:
    """(classes, classes): how often the first reader said the row and the second the column."""
    place = {name: index for index, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)))
    for one, other in zip(first, second, strict=True):
        if one not in place or other not in place:
            raise ValueError(f"{one!r} and {other!r} must be among {list(classes)}")
        counts[place[one], place[other]] += 1
    return counts


def _paired(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(first, float), np.asarray(second, float)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"pairs are needed, found {one.shape} and {other.shape}")
    return one, other
