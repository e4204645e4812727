"""Figures with closed-form 95 % intervals from what a database has counted: no case leaves it, none is resampled.

The images of one child are not independent, so every variance is taken over children (clusters), by linearisation:
a figure moves by `psi` when one more case like this one is counted, and its variance is children / (children - 1)
times the sum of the squares of each child's summed psi (Binder, Int Stat Rev 1983;51:279-292). Which interval that
makes:

    a mean or a difference    value +- t * SE, t with children - 1 degrees of freedom
    a share                   Wilson's, with the number of cases cut down by the design effect (Korn & Graubard, Survey
                              Methodology 1998;24:193-201); all or none: as many cases as children
    F1, kappa                 value +- t * SE, psi by differentiating the confusion matrix (kappa: Cohen, Educ Psychol
                              Meas 1960;20:37-46; weighted, for classes in order: Psychol Bull 1968;70:213-220)
    an ICC                    on Fisher's z scale, psi by differentiating its sums. It is McGraw & Wong's ICC(A,1)
                              (Psychol Methods 1996;1:30-46) of two ratings; the interval is that of these readers
    an AUC                    on the logit scale (Pepe 2003, 5.2.4); psi is DeLong's placement value (Biometrics
                              1988;44:837-845), summed over children as Obuchowski does (Biometrics 1997;53:567-578);
                              no case ranked wrongly: the exact bound for so many independent pairs
    a median, a percentile    between order statistics (Conover 1999, 3.2), cases taken as independent
    a count in a time         Garwood's exact one for a Poisson count (Biometrika 1936;28:437-442)
    Jensen-Shannon            delta method over two independent multinomial samples

A figure that is not defined is None with a reason, never 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

from engine.radiology_metrics import CONFIDENCE, LIMITS_SD, Interval, exact_bound

TAIL = (1 - CONFIDENCE) / 2
STEP = 1e-4  # of a count, to differentiate by


@dataclass(frozen=True)
class Sums:
    """Over children: of a figure's numerator `x` (of each child, summed over its cases) and its denominator `w`."""

    x: float
    w: float
    xx: float
    xw: float
    ww: float
    children: int

    @classmethod
    def of(cls, child: np.ndarray, x: np.ndarray) -> Sums:
        """Of `x` (cases,) over the number of cases; `child` (cases,) whose each is."""
        child = np.unique(child, return_inverse=True)[1]
        xs, ws = np.bincount(child, x), np.bincount(child).astype(float)
        return cls(float(xs.sum()), float(ws.sum()), float(xs @ xs), float(xs @ ws), float(ws @ ws), len(ws))

    @property
    def value(self) -> float:
        return self.x / self.w

    @property
    def variance(self) -> float:
        """Of x / w, over children."""
        squares = self.xx - 2 * self.value * self.xw + self.value**2 * self.ww
        return self.children / (self.children - 1) * max(0.0, squares) / self.w**2


def mean(sums: Sums) -> Interval:
    if sums.w <= 0:
        return Interval(None, None, None, "no case")
    if sums.children < 2:
        return Interval(sums.value, None, None, "one patient only")
    half = _t(sums.children) * math.sqrt(sums.variance)
    return Interval(sums.value, sums.value - half, sums.value + half)


def mean_of_sizes(sums: Sums) -> Interval:
    """Of something that cannot be negative."""
    found = mean(sums)
    return found if found.low is None else Interval(found.value, max(0.0, found.low), found.high)


def share(sums: Sums) -> Interval:
    if sums.w <= 0:
        return Interval(None, None, None, "no case")
    if sums.children < 2:
        return Interval(sums.value, None, None, "one patient only")
    p = min(1.0, max(0.0, sums.value))
    independent = sums.w / design_effect(sums) if 0 < p < 1 else min(sums.w, sums.children)
    return wilson(p, independent, _t(sums.children))


def design_effect(sums: Sums) -> float:
    """How much larger the variance of a share is than if all cases were independent; at least 1."""
    p = sums.value
    return max(1.0, sums.variance / (p * (1 - p) / sums.w))


def wilson(p: float, n: float, z: float) -> Interval:
    """`n` cases, not necessarily whole ones (Wilson, J Am Stat Assoc 1927;22:209-212)."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, centre - half) if p > 0 else 0.0, min(1.0, centre + half) if p < 1 else 1.0)


def limits_of_agreement(errors: Sums, squares: float) -> tuple[Interval, Interval]:
    """Bias -+ 1.96 SD of the errors, each with its interval (Bland & Altman, Stat Methods Med Res 1999;8:135-160);
    `squares`: the sum of the squared errors. Cases are cut down by the design effect of the bias."""
    n = errors.w
    if n < 2 or errors.children < 2:
        nothing = Interval(None, None, None, "one case only" if n else "no case")
        return nothing, nothing
    variance = max(0.0, (squares - n * errors.value**2) / (n - 1))
    spread = math.sqrt(variance)
    effect = max(1.0, errors.variance / (variance / n)) if variance else 1.0
    independent = max(2.0, n / effect)
    half = _t(errors.children) * math.sqrt(variance * (1 / independent + LIMITS_SD**2 / (2 * (independent - 1))))
    ends = (errors.value - LIMITS_SD * spread, errors.value + LIMITS_SD * spread)
    lower, upper = (Interval(end, end - half, end + half) for end in ends)
    return lower, upper


# ---------------------------------------------------------------- the confusion matrix


@dataclass(frozen=True)
class Confusion:
    """`counts` (classes, classes): cases labelled as the row's class and answered as the column's. `together`
    (cells, cells), a cell being one place of it, row by row: over children, the sum of the product of how many of the
    child's cases lie in the one and in the other."""

    classes: Sequence[str]
    counts: np.ndarray
    together: np.ndarray
    children: int

    @classmethod
    def of(cls, classes: Sequence[str], child: np.ndarray, label: Sequence[str], answer: Sequence[str]) -> Confusion:
        """`child` (cases,) whose each is."""
        place = {kind: i for i, kind in enumerate(classes)}
        cell = [place[one] * len(place) + place[other] for one, other in zip(label, answer, strict=True)]
        return cls.of_cells(classes, child, np.array(cell, int), np.ones(len(cell), int))

    @classmethod
    def of_cells(cls, classes: Sequence[str], child: np.ndarray, cell: np.ndarray, count: np.ndarray) -> Confusion:
        """`count` (rows,) cases of a child in a cell, which are numbered row by row."""
        k = len(classes)
        order = np.argsort(child, kind="stable")
        child, cell, count = child[order], cell[order], count[order].astype(float)
        together = np.zeros((k * k, k * k))
        np.add.at(together, (cell, cell), count**2)
        for apart in range(1, len(child)):  # a child's rows stand together: from each to the next one but so many
            is_same = child[apart:] == child[:-apart]
            if not is_same.any():
                break
            one, other = cell[:-apart][is_same], cell[apart:][is_same]
            product = count[:-apart][is_same] * count[apart:][is_same]
            np.add.at(together, (one, other), product)
            np.add.at(together, (other, one), product)
        counts = np.bincount(cell, count, minlength=k * k).reshape(k, k)
        return cls(tuple(classes), counts, together, len(np.unique(child)))

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def labelled(self) -> np.ndarray:
        """(classes,) cases that carry each label."""
        return self.counts.sum(axis=1)

    def sums(self, part: np.ndarray, whole: np.ndarray) -> Sums:
        """Of the cases in the cells `whole`, those in `part`; both (classes, classes) of 0 and 1. Children without a
        case in `whole` are counted too, which changes only the degrees of freedom."""
        x, w = part.ravel().astype(float), whole.ravel().astype(float)
        counts, together = self.counts.ravel(), self.together
        return Sums(
            float(x @ counts),
            float(w @ counts),
            float(x @ together @ x),
            float(x @ together @ w),
            float(w @ together @ w),
            self.children,
        )

    def accuracy(self) -> Interval:
        right = np.eye(len(self.classes))
        return share(self.sums(right, np.ones_like(right)))

    def sensitivity(self, kind: str) -> Interval:
        return share(self.sums(self._cells(kind, kind), self._cells(kind, None)))

    def specificity(self, kind: str) -> Interval:
        negative = 1 - self._cells(kind, None)
        return share(self.sums(negative * (1 - self._cells(None, kind)), negative))

    def f1(self, kind: str) -> Interval:
        k = list(self.classes).index(kind)
        return self.figure(lambda counts: _f1(counts)[k])

    def macro_f1(self) -> Interval:
        """Over the classes that are labels or answers."""
        return self.figure(lambda counts: float(np.nanmean(_f1(counts))))

    def kappa(self, *, weighted: bool = False) -> Interval:
        """Cohen's; `weighted`: quadratically, for classes that stand in their order."""
        return self.figure(_weighted_kappa if weighted else _kappa, lowest=-1.0)

    def figure(self, of: Callable[[np.ndarray], float], lowest: float = 0.0) -> Interval:
        """Any smooth figure `of` the counts that lies between `lowest` and 1."""
        counts = self.counts.astype(float)
        value = of(counts) if self.n else math.nan
        if math.isnan(value):
            return Interval(None, None, None, "undefined" if self.n else "no case")
        if self.children < 2:
            return Interval(value, None, None, "one patient only")
        psi = np.zeros(counts.size)
        for cell in np.flatnonzero(counts):
            more, less = counts.ravel().copy(), counts.ravel().copy()
            more[cell] += STEP
            less[cell] -= STEP
            psi[cell] = (of(more.reshape(counts.shape)) - of(less.reshape(counts.shape))) / (2 * STEP)
        variance = self.children / (self.children - 1) * float(psi @ self.together @ psi)
        if variance < 1e-15:
            return Interval(value, None, None, "too few errors for an interval")
        half = _t(self.children) * math.sqrt(variance)
        return Interval(value, max(lowest, value - half), min(1.0, value + half))

    def _cells(self, label: str | None, answer: str | None) -> np.ndarray:
        cells = np.zeros(self.counts.shape)
        rows = slice(None) if label is None else list(self.classes).index(label)
        columns = slice(None) if answer is None else list(self.classes).index(answer)
        cells[rows, columns] = 1
        return cells


def _f1(counts: np.ndarray) -> np.ndarray:
    """(classes,); nan where a class is neither a label nor an answer."""
    either = counts.sum(axis=0) + counts.sum(axis=1)
    return np.divide(2 * np.diag(counts), either, out=np.full(len(counts), np.nan), where=either > 0)


def _kappa(counts: np.ndarray) -> float:
    return _kappa_of(counts, np.eye(len(counts)))


def _weighted_kappa(counts: np.ndarray) -> float:
    place = np.arange(len(counts))
    return _kappa_of(counts, 1 - ((place[:, None] - place) / (len(counts) - 1)) ** 2)


def _kappa_of(counts: np.ndarray, weights: np.ndarray) -> float:
    """`weights` (classes, classes): how far two classes agree, 0 to 1. Undefined where all say one class: there is no
    agreement beyond chance then."""
    shares = counts / counts.sum()
    by_chance = float(shares.sum(axis=1) @ weights @ shares.sum(axis=0))
    return math.nan if by_chance > 1 - 1e-12 else (float((weights * shares).sum()) - by_chance) / (1 - by_chance)


# ---------------------------------------------------------------- two ratings of one case


def icc(child: np.ndarray, one: np.ndarray, other: np.ndarray) -> Interval:
    """ICC(A,1) of two ratings (cases,) each; `child` (cases,) whose each case is."""
    n = len(one)
    middle = np.mean([one, other]) if n else 0.0  # the ICC is the same from any origin, and small sums lose no digits
    one, other = one - middle, other - middle
    columns = np.column_stack([np.ones(n), one, other, one * one, other * other, one * other])  # (cases, sums)
    sums = columns.sum(axis=0)
    value = _icc(sums) if n > 2 else math.nan
    if math.isnan(value):
        return Interval(None, None, None, "undefined: the ratings do not vary" if n > 2 else "too few cases")
    place = np.unique(child, return_inverse=True)[1]
    children = int(place.max()) + 1
    if children < 2:
        return Interval(value, None, None, "one patient only")
    steps = np.diag(STEP * np.maximum(1.0, np.abs(columns).max(axis=0)))
    slope = np.array([(_icc(sums + step) - _icc(sums - step)) / (2 * step.max()) for step in steps])
    psi = np.bincount(place, (columns - sums / n) @ slope)
    error = math.sqrt(children / (children - 1) * float(psi @ psi))
    if error < 1e-9 or value >= 1:
        return Interval(value, None, None, "too few differences for an interval")
    centre, half = math.atanh(value), _t(children) * error / (1 - value**2)
    return Interval(value, math.tanh(centre - half), math.tanh(centre + half))


def _icc(sums: np.ndarray) -> float:
    """From the number of cases and the sums of a, b, a^2, b^2 and ab (McGraw & Wong 1996, table 4)."""
    n, a, b, aa, bb, ab = sums
    between = ((aa + bb + 2 * ab) / 2 - (a + b) ** 2 / (2 * n)) / (n - 1)  # mean squares of cases, of readers ...
    readers = (a - b) ** 2 / (2 * n)
    residual = max(0.0, ((aa + bb - 2 * ab) / 2 - readers) / (n - 1))
    total = between + residual + 2 * (readers - residual) / n
    return math.nan if total < 1e-9 else (between - residual) / total


# ---------------------------------------------------------------- ranks


@dataclass(frozen=True)
class Ranking:
    """Scores of one class against all others. `psi` (children,): by how much each child moves the AUC."""

    auc: float
    psi: np.ndarray
    children: int
    pairs: int  # independent ones: the children with a positive, or those with a negative case, whichever are fewer

    def interval(self) -> Interval:
        return auc_interval(self.auc, self.psi, self.children, self.pairs)


def ranking(child: np.ndarray, positive: np.ndarray, score: np.ndarray) -> Ranking | None:
    """`child` (cases,) numbered from 0. None unless both classes occur."""
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return None
    place_of_positive = _share_below(score[~positive], score[positive])
    place_of_negative = 1 - _share_below(score[positive], score[~positive])
    auc = float(place_of_positive.mean())
    children = int(child.max()) + 1
    psi = np.bincount(child[positive], (place_of_positive - auc) / m, minlength=children)
    psi += np.bincount(child[~positive], (place_of_negative - auc) / n, minlength=children)
    pairs = min(len(np.unique(child[positive])), len(np.unique(child[~positive])))
    return Ranking(auc, psi, len(np.unique(child)), pairs)


def auc_interval(auc: float, psi: np.ndarray, children: int, pairs: int) -> Interval:
    if children < 2:
        return Interval(auc, None, None, "one patient only")
    variance = children / (children - 1) * float(psi @ psi)
    if auc in (0, 1):
        bound = exact_bound(pairs)
        return Interval(auc, 1 - bound, 1.0) if auc == 1 else Interval(auc, 0.0, bound)
    if variance < 1e-15:
        return Interval(auc, None, None, "too few errors for an interval")
    centre, half = math.log(auc / (1 - auc)), _t(children) * math.sqrt(variance) / (auc * (1 - auc))
    low, high = (1 / (1 + math.exp(-(centre + side * half))) for side in (-1, 1))
    return Interval(auc, low, high)


def around(value: float, psi: np.ndarray, children: int) -> Interval:
    """value +- t * SE, for a difference."""
    if children < 2:
        return Interval(value, None, None, "one patient only")
    half = _t(children) * math.sqrt(children / (children - 1) * float(psi @ psi))
    return Interval(value, value - half, value + half) if half else Interval(value, None, None, "no difference")


def macro_auc(rankings: Sequence[Ranking]) -> Interval:
    """Mean over classes, all of the same children."""
    if not rankings:
        return Interval(None, None, None, "no case")
    value = float(np.mean([one.auc for one in rankings]))
    psi = np.mean([one.psi for one in rankings], axis=0)
    return auc_interval(value, psi, rankings[0].children, min(one.pairs for one in rankings))


def roc_points(positive: np.ndarray, score: np.ndarray, most: int = 200) -> list[tuple[float, float]]:
    """(1 - specificity, sensitivity) at every threshold, thinned to at most about `most`."""
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    sensitivity = np.cumsum(positive[order])[last_of_tie] / max(1, positive.sum())
    false_alarms = np.cumsum(~positive[order])[last_of_tie] / max(1, (~positive).sum())
    along = np.append(0, false_alarms + sensitivity)
    if len(along) > most:  # evenly along the curve, so that neither its rise nor its top is lost
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], most)))
    else:
        kept = np.arange(len(along))
    x, y = (np.append(0, values)[kept].tolist() for values in (false_alarms, sensitivity))
    return list(zip(x, y, strict=True))


def _share_below(others: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Of `others`, those below each score, a tie counting half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, score, "left") + np.searchsorted(ordered, score, "right")) / (2 * len(ordered))


# ---------------------------------------------------------------- counts and distributions


def quantile(values: Sequence[float], counts: Sequence[int], share: float = 0.5) -> Interval:
    """Of `counts[i]` cases with `values[i]`, ascending."""
    cumulative = np.cumsum(counts)
    n = int(cumulative[-1]) if len(cumulative) else 0
    if not n:
        return Interval(None, None, None, "no case")

    def ranked(rank: float) -> float:
        """The value of the case with this rank, from 1."""
        return float(values[int(np.searchsorted(cumulative, rank))])

    middle = share * (n - 1) + 1
    value = ranked(math.floor(middle)) + (middle % 1) * (ranked(math.ceil(middle)) - ranked(math.floor(middle)))
    low_rank, high_rank = _binomial_quantile(TAIL, n, share), _binomial_quantile(1 - TAIL, n, share) + 1
    if low_rank < 1 or high_rank > n:
        return Interval(value, None, None, "too few cases for an interval")
    return Interval(value, ranked(low_rank), ranked(high_rank))


def rate(count: int, time: float) -> Interval:
    """`count` events in `time`, per unit of it."""
    low = special.gammaincinv(count, TAIL) if count else 0.0
    high = special.gammaincinv(count + 1, 1 - TAIL)
    return Interval(count / time, float(low) / time, float(high) / time)


@dataclass(frozen=True)
class Divergence:
    """Of two distributions over the same classes: Jensen-Shannon in bits, 0 to 1, and the chance that samples of one
    distribution would lie at least so far apart (G-test)."""

    bits: Interval
    p_value: float


def jensen_shannon(before: Sequence[int], now: Sequence[int]) -> Divergence | None:
    """Of the cases in each class (Lin, IEEE Trans Inf Theory 1991;37:145-151). None for an empty sample, or where both
    lie in one class."""
    counts = np.array([before, now], float)
    counts = counts[:, counts.sum(axis=0) > 0]
    n = counts.sum(axis=1)
    if (n == 0).any() or counts.shape[1] < 2:
        return None
    shares = counts / n[:, None]
    logs = np.log2(np.where(shares > 0, shares, 1) / shares.mean(axis=0))
    bits = float((shares * logs).sum() / 2)
    variance = sum(float(s @ log**2 - (s @ log) ** 2) / m for s, log, m in zip(shares, logs, n, strict=True)) / 4
    half = special.ndtri(1 - TAIL) * math.sqrt(max(0.0, variance))
    return Divergence(Interval(bits, max(0.0, bits - half), min(1.0, bits + half)), _g_test(counts))


def _g_test(counts: np.ndarray) -> float:
    """P value; `counts` (2, classes), none of whose sums is 0."""
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    g = 2 * float(special.xlogy(counts, counts / expected).sum())
    return float(special.chdtrc(counts.shape[1] - 1, max(0.0, g)))


def _binomial_quantile(share: float, n: int, p: float) -> float:
    """The least count that so large a share of samples does not exceed."""
    count = math.ceil(special.bdtrik(share, n, p))
    below = max(count - 1, 0)  # where rounding has carried it one too far
    return below if special.bdtr(below, n, p) >= share else count


@cache
def _t(children: int) -> float:
    return float(special.stdtrit(children - 1, 1 - TAIL))
