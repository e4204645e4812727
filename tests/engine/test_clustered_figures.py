"""Closed-form intervals against statsmodels, scikit-learn, scipy, the definitions, and children left out one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import cohen_kappa_score, f1_score, recall_score, roc_auc_score, roc_curve
from statsmodels.stats.proportion import proportion_confint

from engine import clustered_figures as clustered
from engine.clustered_figures import Confusion, Sums

RNG = np.random.default_rng(3)
CHILDREN = 80
CHILD = np.sort(RNG.integers(0, CHILDREN, 300))
KINDS = ("a", "b", "c")
LABEL = RNG.choice(3, 300, p=(0.5, 0.3, 0.2))
SAID = np.where(RNG.random(300) < 0.8, LABEL, RNG.choice(3, 300))
SAID = np.where(RNG.random(CHILDREN)[CHILD] < 0.1, 0, SAID)  # of some children every image is read alike
CHILDREN_SEEN = len(np.unique(CHILD))


def sums(x: np.ndarray, w: np.ndarray | None = None, child: np.ndarray = CHILD) -> Sums:
    w = np.ones(len(x)) if w is None else w
    xs, ws = np.bincount(child, x * w), np.bincount(child, w)
    seen = np.bincount(child) > 0
    return Sums(xs.sum(), ws.sum(), xs @ xs, xs @ ws, ws @ ws, int(seen.sum()))


def cluster_robust(x: np.ndarray, child: np.ndarray = CHILD) -> tuple[float, float, float]:
    """Mean, standard error and t by statsmodels."""
    fit = sm.OLS(x, np.ones(len(x))).fit(
        cov_type="cluster", cov_kwds={"groups": child, "use_correction": False}, use_t=True
    )
    children = len(np.unique(child))
    error = fit.bse[0] * math.sqrt(children / (children - 1))
    return float(fit.params[0]), float(error), float(stats.t.ppf(0.975, children - 1))


def confusion() -> Confusion:
    return Confusion.of(KINDS, CHILD, [KINDS[i] for i in LABEL], [KINDS[i] for i in SAID])


def left_out(of, child: np.ndarray = CHILD) -> float:
    """The standard error of a figure by leaving out one child at a time."""
    values = np.array([of(child != one) for one in np.unique(child)])
    return math.sqrt((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum())


def test_a_mean_has_the_cluster_robust_interval() -> None:
    errors = RNG.normal(RNG.normal(0, 2, CHILDREN)[CHILD], 3)
    value, error, t = cluster_robust(errors)
    found = clustered.mean(sums(errors))
    assert (found.value, found.low, found.high) == pytest.approx((value, value - t * error, value + t * error))


def test_a_share_is_wilsons_with_as_many_cases_as_the_children_leave() -> None:
    right = (SAID == LABEL).astype(float)
    p, error, _ = cluster_robust(right)
    cases = min(300.0, p * (1 - p) / error**2)
    found = clustered.share(sums(right))
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, CHILDREN_SEEN - 1))  # Wilson's with t in the place of z
    assert (found.low, found.high) == pytest.approx(proportion_confint(p * cases, cases, alpha, method="wilson"))


def test_with_one_image_a_child_a_share_is_wilsons() -> None:
    right = RNG.random(4000) < 0.7
    found = clustered.share(sums(right.astype(float), child=np.arange(4000)))
    assert (found.low, found.high) == pytest.approx(proportion_confint(right.sum(), 4000, method="wilson"), abs=2e-5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_of_none_or_all_counts_children(value: float) -> None:
    found = clustered.share(sums(np.full(300, value)))
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, CHILDREN_SEEN - 1))
    expected = proportion_confint(value * CHILDREN_SEEN, CHILDREN_SEEN, alpha, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected)


def test_limits_of_agreement() -> None:
    errors = RNG.normal(1, 4, 500)
    lower, upper = clustered.limits_of_agreement(sums(errors, child=np.arange(500)), float(errors @ errors))
    sd = errors.std(ddof=1)
    assert (lower.value, upper.value) == pytest.approx((errors.mean() - 1.96 * sd, errors.mean() + 1.96 * sd))
    half = stats.t.ppf(0.975, 499) * sd * math.sqrt(1 / 500 + 1.96**2 / (2 * 499))  # Bland & Altman 1999
    assert (upper.high - upper.value) == pytest.approx(half, rel=1e-3)


def test_figures_of_a_confusion_matrix() -> None:
    found = confusion()
    right = found.macro_f1()
    assert right.value == pytest.approx(f1_score(LABEL, SAID, average="macro"))
    assert found.kappa().value == pytest.approx(cohen_kappa_score(LABEL, SAID))
    assert found.kappa(weighted=True).value == pytest.approx(cohen_kappa_score(LABEL, SAID, weights="quadratic"))
    assert found.f1("b").value == pytest.approx(f1_score(LABEL, SAID, average=None)[1])
    assert found.sensitivity("c").value == pytest.approx(recall_score(LABEL == 2, SAID == 2))
    assert found.specificity("a").value == pytest.approx(recall_score(LABEL != 0, SAID != 0))
    assert found.accuracy().value == pytest.approx((LABEL == SAID).mean())


@pytest.mark.parametrize(
    ("figure", "of"),
    [(lambda c: c.macro_f1(), lambda k: f1_score(LABEL[k], SAID[k], average="macro")),
     (lambda c: c.kappa(), lambda k: cohen_kappa_score(LABEL[k], SAID[k])),
     (lambda c: c.kappa(weighted=True), lambda k: cohen_kappa_score(LABEL[k], SAID[k], weights="quadratic"))],
)  # fmt: skip
def test_their_intervals_are_those_of_children_left_out(figure, of) -> None:
    found = figure(confusion())
    half = stats.t.ppf(0.975, CHILDREN_SEEN - 1) * left_out(of)
    assert found.high - found.value == pytest.approx(half, rel=0.05)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_interval_of_kappa_holds_what_it_says(weighted: bool) -> None:
    """Children with two images that are read alike, as eyes are: of 500 samples of a population whose kappa is known,
    about 95 % have it in their interval."""
    rng = np.random.default_rng(2)
    p = np.array([[0.40, 0.06, 0.02], [0.05, 0.20, 0.05], [0.02, 0.05, 0.15]])
    p /= p.sum()
    place = np.arange(3)
    weights = 1 - ((place[:, None] - place) / 2) ** 2 if weighted else np.eye(3)
    expected = p.sum(axis=1) @ weights @ p.sum(axis=0)
    truth = ((weights * p).sum() - expected) / (1 - expected)
    hits = 0
    for _ in range(500):
        cells = rng.choice(9, 120, p=p.ravel())
        cells = np.concatenate([cells, np.where(rng.random(120) < 0.7, cells, rng.choice(9, 120, p=p.ravel()))])
        children = np.tile(np.arange(120), 2)
        found = Confusion.of(KINDS, children, [KINDS[c // 3] for c in cells], [KINDS[c % 3] for c in cells])
        found = found.kappa(weighted=weighted)
        hits += found.low <= truth <= found.high
    assert 460 <= hits <= 492


def test_kappa_is_not_defined_where_everybody_says_the_same() -> None:
    for weighted in (False, True):
        same = Confusion.of(KINDS, np.arange(9), ["a"] * 9, ["a"] * 9).kappa(weighted=weighted)
        assert (same.value, same.reason) == (None, "undefined")


def test_icc_equals_the_analysis_of_variance() -> None:
    """By sums of squares over a long table, another way than the code's sums."""
    rng = np.random.default_rng(3)
    n, k = 60, 2
    truth = rng.normal(110, 40, n)
    one, other = truth + rng.normal(0, 6, n), truth + rng.normal(4, 7, n)
    values = np.concatenate([one, other])
    case, reader = np.tile(np.arange(n), 2), np.repeat([0, 1], n)
    design = np.column_stack([np.eye(n)[case], np.eye(k)[reader]])
    residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    ms_error = (residual**2).sum() / ((n - 1) * (k - 1))
    ms_case = sum(k * (values[case == c].mean() - values.mean()) ** 2 for c in range(n)) / (n - 1)
    ms_reader = sum(n * (values[reader == r].mean() - values.mean()) ** 2 for r in (0, 1)) / (k - 1)
    by_hand = (ms_case - ms_error) / (ms_case + (k - 1) * ms_error + k * (ms_reader - ms_error) / n)
    found = clustered.icc(np.arange(n), one, other)
    assert found.value == pytest.approx(by_hand)
    assert found.low < found.value < found.high <= 1


def test_the_interval_of_an_icc_is_that_of_children_left_out() -> None:
    truth = RNG.normal(0, 10, CHILDREN)[CHILD]
    one, other = truth + RNG.normal(0, 4, 300), truth + RNG.normal(1, 4, CHILDREN)[CHILD] + RNG.normal(0, 2, 300)
    found = clustered.icc(CHILD, one, other)
    error = left_out(lambda keep: math.atanh(clustered.icc(CHILD[keep], one[keep], other[keep]).value))
    half = stats.t.ppf(0.975, CHILDREN_SEEN - 1) * error
    assert math.atanh(found.high) - math.atanh(found.value) == pytest.approx(half, rel=0.05)


def test_the_interval_of_an_icc_holds_what_it_says() -> None:
    """Of readers who differ by a fixed bias; children have two films each, of one bone age."""
    rng = np.random.default_rng(4)
    children, hits = np.tile(np.arange(40), 2), 0
    truth_of_icc = 100 / (100 + 16 + 2**2 / 2)  # the readers' variance is that of 0 and 2 about their mean, over k - 1
    for _ in range(400):
        truth = np.tile(rng.normal(0, 10, 40), 2)
        found = clustered.icc(children, truth + rng.normal(0, 4, 80), truth + 2 + rng.normal(0, 4, 80))
        hits += found.low <= truth_of_icc <= found.high
    assert 365 <= hits <= 394


def test_an_offset_lowers_the_icc() -> None:
    first = np.arange(50.0)
    same = clustered.icc(np.arange(50), first, first)
    assert (same.value, same.low) == (1.0, None)
    assert clustered.icc(np.arange(50), first, first + 20).value < 0.8
    assert clustered.icc(np.arange(2), first[:2], first[:2]).value is None
    assert clustered.icc(np.arange(9), np.full(9, 5.0), np.full(9, 5.0)).value is None


def test_an_auc_without_clusters_is_delongs() -> None:
    positive, score = RNG.random(400) < 0.3, np.round(RNG.normal(size=400), 1)
    score = score + positive
    found = clustered.ranking(np.arange(400), positive, score)
    pairs = (score[positive][:, None] > score[~positive]) + 0.5 * (score[positive][:, None] == score[~positive])
    delong = pairs.mean(1).var(ddof=1) / positive.sum() + pairs.mean(0).var(ddof=1) / (~positive).sum()
    assert found.auc == pytest.approx(roc_auc_score(positive, score))
    variance = 400 / 399 * float(found.psi @ found.psi)
    assert variance == pytest.approx(delong, rel=0.02)
    interval = found.interval()
    logit = math.log(found.auc / (1 - found.auc)) + np.array([-1, 1]) * stats.t.ppf(0.975, 399) * math.sqrt(
        variance
    ) / (found.auc * (1 - found.auc))
    assert (interval.low, interval.high) == pytest.approx(tuple(1 / (1 + np.exp(-logit))))


def test_an_auc_with_clusters_is_that_of_children_left_out() -> None:
    positive = LABEL == 1
    score = positive + RNG.normal(0, 1, 300) + RNG.normal(0, 1, CHILDREN)[CHILD]
    found = clustered.ranking(CHILD, positive, score)
    error = left_out(lambda keep: roc_auc_score(positive[keep], score[keep]))
    assert math.sqrt(CHILDREN_SEEN / (CHILDREN_SEEN - 1) * found.psi @ found.psi) == pytest.approx(error, rel=0.05)


def test_an_auc_of_one_has_the_exact_bound_of_independent_pairs() -> None:
    positive = np.arange(40) < 12
    found = clustered.ranking(np.arange(40), positive, positive.astype(float)).interval()
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(proportion_confint(12, 12, method="beta")[0])


def test_one_class_has_no_auc() -> None:
    assert clustered.ranking(np.arange(5), np.ones(5, bool), np.arange(5.0)) is None


def test_a_thinned_roc_curve_keeps_its_shape() -> None:
    positive = RNG.random(5000) < 0.3
    score = positive + RNG.normal(size=5000)
    points = np.array(clustered.roc_points(positive, score))
    x, y, _ = roc_curve(positive, score, drop_intermediate=False)
    assert set(map(tuple, points.round(9))) <= set(zip(x.round(9), y.round(9), strict=True))
    assert len(points) <= 201 and np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(
        roc_auc_score(positive, score), abs=2e-3
    )


def test_a_median_lies_between_order_statistics() -> None:
    values = RNG.gamma(2, 5, 101).round(1)
    kinds, counts = np.unique(values, return_counts=True)
    found = clustered.quantile(kinds.tolist(), counts.tolist())
    assert found.value == pytest.approx(np.median(values))
    ranks = stats.binom.ppf(0.025, 101, 0.5), stats.binom.ppf(0.975, 101, 0.5) + 1
    assert (found.low, found.high) == tuple(np.sort(values)[int(rank) - 1] for rank in ranks)
    assert clustered.quantile(kinds.tolist(), counts.tolist(), 0.9).value == pytest.approx(np.quantile(values, 0.9))


@pytest.mark.parametrize("count", [0, 1, 30])
def test_a_rate_has_garwoods_interval(count: int) -> None:
    found = clustered.rate(count, 6)
    assert found.value == count / 6
    assert stats.poisson.cdf(count, found.high * 6) == pytest.approx(0.025)
    assert found.low == 0 if count == 0 else stats.poisson.sf(count - 1, found.low * 6) == pytest.approx(0.025)


def test_jensen_shannon() -> None:
    before, now = [50, 30, 20, 0], [10, 10, 25, 5]
    found = clustered.jensen_shannon(before, now)
    assert found.bits.value == pytest.approx(jensenshannon(before, now, base=2) ** 2)
    drawn = [
        jensenshannon(RNG.multinomial(100, np.array(before) / 100), RNG.multinomial(50, np.array(now) / 50), base=2)
        ** 2
        for _ in range(2000)
    ]
    assert found.bits.high - found.bits.value == pytest.approx(1.96 * np.std(drawn), rel=0.15)
    expected = stats.chi2_contingency([before, now], correction=False, lambda_="log-likelihood").pvalue
    assert found.p_value == pytest.approx(expected)
    assert clustered.jensen_shannon([], []) is None
    assert clustered.jensen_shannon([5, 0], [9, 0]) is None
    assert clustered.jensen_shannon([0, 0], [9, 1]) is None
