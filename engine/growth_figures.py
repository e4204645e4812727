"""Statistics of z-scores over children: distributions, correlation, agreement. Every figure with its n and its 95 %
interval, or the reason why there is none. Each child counts once, so the cases are independent.

Sources
    Mean, SD        Student's t, chi-squared (Altman, Practical statistics for medical research, 1991)
    Share           Wilson, J Am Stat Assoc 1927;22:209-212
    Correlation     Fisher's z transformation, Metron 1921;1:3-32"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atanh, sqrt, tanh

import numpy as np
from scipy.special import gammaincinv, stdtrit

from engine.clustered_figures import wilson
from engine.evaluation_figures import MIN_GROUP_PATIENTS
from engine.radiology_metrics import Interval

MIN_CASES = MIN_GROUP_PATIENTS
BEYOND_SD = 2.0
BIN_WIDTH = 0.25
BINS_FROM, BINS_TO = -6.0, 6.0  # WHO takes what lies beyond as most likely an error
NORMAL_975 = 1.959963984540054
ROUNDING = 0.0051  # two z that are equal to two decimals differ by no more


@dataclass(frozen=True)
class Distribution:
    """`counts[i]` children have a z of at least `edges[i]` and below `edges[i + 1]`. `left_out`: z that WHO flags as
    most likely an error; no figure has them. In the reference the mean is 0, the SD 1, and 2.3 % lie below -2."""

    n: int
    left_out: int
    mean: Interval
    sd: Interval
    below_percent: Interval  # below -2
    above_percent: Interval  # above 2
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Sums:
    """What the database adds up over pairs (x, y)."""

    n: int
    x: float
    y: float
    xx: float
    yy: float
    xy: float

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Sums:
        return cls(len(x), *(float(one.sum()) for one in (x, y, x * x, y * y, x * y)))


@dataclass(frozen=True)
class Agreement:
    """Supplied z against WHO's. `largest_difference` is of the values as they are: below 0.005 it is rounding alone.
    `beyond_rounding` counts the larger ones."""

    n: int
    r: Interval
    mean_difference: float | None
    largest_difference: float | None
    beyond_rounding: int


def distribution(z: np.ndarray, plausible: tuple[float, float]) -> Distribution:
    """`z` (children,), NaN where there is none; `plausible` as growth.PLAUSIBLE_Z has it."""
    z = z[~np.isnan(z)]
    rounded = np.round(z, 2)
    kept = z[(rounded >= plausible[0]) & (rounded <= plausible[1])]
    edges = np.arange(BINS_FROM, BINS_TO + BIN_WIDTH / 2, BIN_WIDTH)
    # the same rounding that decided about plausibility may leave a z a hair beyond the outermost edge
    counts, _ = np.histogram(np.clip(kept, BINS_FROM, BINS_TO), edges)
    n = len(kept)
    return Distribution(
        n=n,
        left_out=len(z) - n,
        mean=mean_interval(kept),
        sd=sd_interval(kept),
        below_percent=_percent(share_interval(int((kept < -BEYOND_SD).sum()), n)),
        above_percent=_percent(share_interval(int((kept > BEYOND_SD).sum()), n)),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def mean_interval(values: np.ndarray) -> Interval:
    n = len(values)
    if n < MIN_CASES:
        return not_enough(n)
    mean, half = float(values.mean()), float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / sqrt(n))
    return Interval(mean, mean - half, mean + half)


def sd_interval(values: np.ndarray) -> Interval:
    """Exact for a normal distribution."""
    n = len(values)
    if n < MIN_CASES:
        return not_enough(n)
    sd = float(values.std(ddof=1))
    return Interval(sd, *(sd * sqrt((n - 1) / (2 * gammaincinv((n - 1) / 2, tail))) for tail in (0.975, 0.025)))


def share_interval(count: int, n: int) -> Interval:
    if n < MIN_CASES:
        return not_enough(n)
    return wilson(count / n, n, NORMAL_975)


def correlation(sums: Sums) -> Interval:
    """Pearson's r."""
    n = sums.n
    if n < MIN_CASES:
        return not_enough(n)
    spread_x, spread_y = sums.xx - sums.x**2 / n, sums.yy - sums.y**2 / n
    if min(spread_x, spread_y) <= 1e-12 * max(sums.xx, sums.yy, 1e-300):
        return Interval(None, None, None, f"all {n} cases have the same value: no correlation is defined")
    r = (sums.xy - sums.x * sums.y / n) / sqrt(spread_x * spread_y)
    if abs(r) >= 1:
        return Interval(max(-1.0, min(1.0, r)), r / abs(r), r / abs(r))
    half = NORMAL_975 / sqrt(n - 3)
    return Interval(r, tanh(atanh(r) - half), tanh(atanh(r) + half))


def agreement(sums: Sums, largest_difference: float | None, beyond_rounding: int) -> Agreement:
    """`sums` of x supplied, y ours."""
    mean = (sums.x - sums.y) / sums.n if sums.n else None
    return Agreement(sums.n, correlation(sums), mean, largest_difference, beyond_rounding)


def agreement_of(supplied: Sequence[float], ours: Sequence[float]) -> Agreement:
    x, y = np.asarray(supplied, float), np.asarray(ours, float)
    apart = np.abs(x - y)
    return agreement(Sums.of(x, y), float(apart.max()) if len(x) else None, int((apart > ROUNDING).sum()))


def not_enough(n: int) -> Interval:
    return Interval(None, None, None, f"not enough cases (n = {n})")


def _percent(share: Interval) -> Interval:
    if share.value is None:
        return share
    return Interval(100 * share.value, 100 * share.low, 100 * share.high)
