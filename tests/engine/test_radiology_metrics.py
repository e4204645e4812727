"""The figures against scikit-learn and numpy, and undefined where they should be."""

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    recall_score,
    roc_auc_score,
)

from engine import weighted_figures as weighted
from engine.radiology_metrics import (
    RadiologyMetrics,
    Samples,
    binary_auc,
    bootstrap,
    exact_bound,
    macro_auc,
    parse_json_predictions,
    reliability,
)

M = RadiologyMetrics()
RNG = np.random.default_rng(3)


def test_bone_age_figures():
    label, said = RNG.uniform(10, 200, 300), RNG.uniform(10, 200, 300)
    assert M.bone_age_mae(said, label) == pytest.approx(mean_absolute_error(label, said))
    assert M.bone_age_within_months([10, 13, 20], [12, 10, 20], margin_months=2.0) == pytest.approx(2 / 3)
    assert M.bone_age_bias([12, 14], [10, 10]) == pytest.approx(3)


def test_rop_auc_equals_scikit_learn():
    classes = ["I", "II", "III", "none"]
    label = RNG.choice(classes, 400)
    p = RNG.dirichlet(np.ones(4), 400).round(2) + 1e-9  # rounding makes ties
    p /= p.sum(1, keepdims=True)
    ours = M.rop_auc({"zone": label}, {"zone": [dict(zip(classes, row, strict=True)) for row in p]})
    theirs = roc_auc_score(label, p, multi_class="ovr", average="macro", labels=classes)
    assert ours["zone"] == pytest.approx(theirs)


def test_fracture_figures_equal_scikit_learn():
    classes = ["distal_radius", "buckle", "normal"]
    label, said = RNG.choice(classes, 200), RNG.choice(classes, 200)
    assert M.fracture_f1(said, label) == pytest.approx(f1_score(label, said, average="macro"))
    expected = recall_score(label, said, labels=["buckle"], average=None)[0]
    assert M.sensitivity(said, label, "buckle") == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "classes", [["distal_radius", "buckle", "normal"], list("012345"), ["none", "preplus", "plus"]]
)
def test_figures_of_random_classes_equal_scikit_learn(seed: int, classes: list[str]):
    rng = np.random.default_rng(seed)
    label = rng.choice(classes, 150)
    said = np.where(rng.random(150) < 0.5, label, rng.choice(classes, 150))
    assert M.accuracy(said, label) == pytest.approx(accuracy_score(label, said))
    assert M.fracture_f1(said, label) == pytest.approx(f1_score(label, said, average="macro"))
    for value, f1, recall in zip(
        classes,
        f1_score(label, said, labels=classes, average=None),
        recall_score(label, said, labels=classes, average=None),
        strict=True,
    ):
        assert M.f1(said, label, value) == pytest.approx(f1)
        assert M.sensitivity(said, label, value) == pytest.approx(recall)
        others = recall_score(label != value, said != value)
        assert M.specificity(said, label, value) == pytest.approx(others)


@pytest.mark.parametrize("seed", range(5))
def test_one_vs_rest_auc_with_ties_equals_scikit_learn(seed: int):
    rng = np.random.default_rng(seed)
    classes = ["none", "preplus", "plus"]
    label = rng.choice(classes, 120)
    p = rng.dirichlet(np.ones(3), 120).round(1)
    rows = [dict(zip(classes, row, strict=True)) for row in p]
    by_class = M.rop_auc_by_class({"plus_disease": label}, {"plus_disease": rows})["plus_disease"]
    for k, value in enumerate(classes):
        assert by_class[value] == pytest.approx(roc_auc_score(label == value, p[:, k]))
    assert macro_auc(label, rows, classes) == pytest.approx(np.mean(list(by_class.values())))


def test_rmse_and_limits_of_agreement():
    label, said = RNG.uniform(10, 200, 300), RNG.uniform(10, 200, 300)
    assert M.bone_age_rmse(said, label) == pytest.approx(np.sqrt(mean_squared_error(label, said)))
    low, high = M.bone_age_limits_of_agreement(said, label)
    assert (low + high) / 2 == pytest.approx(M.bone_age_bias(said, label))
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(said - label, ddof=1))


def test_interval_coverage_counts_the_ends():
    assert M.interval_coverage([(1, 3), (1, 3), (1, 3), (1, 3)], [1, 3, 4, 0.5]) == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_reliability_equals_scikit_learn_and_the_error_is_its_mean_gap(seed: int):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0, 1, 500)
    right = rng.random(500) < confidence**2
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=10)
    ours = reliability(confidence, right, 10)
    assert [b.accuracy for b in ours] == pytest.approx(accuracy)
    assert [b.confidence for b in ours] == pytest.approx(mean_confidence)
    gap = sum(b.n * abs(a - c) for b, a, c in zip(ours, accuracy, mean_confidence, strict=True)) / 500
    assert M.calibration_error(confidence, right) == pytest.approx(gap)


def test_a_perfectly_calibrated_model_has_no_error_and_a_boastful_one_all_of_it():
    assert M.calibration_error([0.5, 0.5, 1.0], [True, False, True]) == pytest.approx(0)
    assert M.calibration_error([1.0, 1.0], [False, False]) == 1.0
    assert [(b.low, b.n) for b in reliability([0.0, 0.1, 0.3, 1.0], [True] * 4)] == [(0.0, 2), (0.2, 1), (0.9, 1)]


def test_undefined_is_none():
    for figure in (
        M.bone_age_mae,
        M.bone_age_within_months,
        M.bone_age_rmse,
        M.bone_age_bias,
        M.bone_age_limits_of_agreement,
        M.interval_coverage,
        M.fracture_f1,
        M.accuracy,
        M.calibration_error,
    ):
        assert figure([], []) is None
    assert M.bone_age_limits_of_agreement([1], [2]) is None
    assert M.sensitivity(["normal"], ["normal"], "buckle") is None
    assert M.specificity(["normal"], ["normal"], "normal") is None
    assert M.f1(["normal"], ["normal"], "buckle") is None
    assert M.f1(["buckle"], ["normal"], "buckle") == 0  # said and wrong is a finding, not undefined
    assert binary_auc(np.array([True, True]), np.array([0.1, 0.2])) is None
    one_class = M.rop_auc({"stage": ["2", "2"]}, {"stage": [dict.fromkeys("012345", 0.1)] * 2})
    assert one_class == {"stage": None}


def test_lists_of_different_length_are_refused():
    for figure in (M.bone_age_mae, M.fracture_f1, M.accuracy, M.calibration_error, M.interval_coverage):
        with pytest.raises(ValueError, match="2 predictions but 1 labels"):
            figure([1, 1], [1])


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    inside = 0
    for trial in range(100):
        sample = np.random.default_rng(trial).normal(5, 1, 60)
        interval = bootstrap(lambda w, s=sample: weighted.mean(w, s), Samples.of(60, seed=trial))
        inside += interval.low <= 5 <= interval.high
    assert 88 <= inside <= 99


def test_bootstrap_equals_brute_force():
    sample = RNG.normal(0, 3, 80)
    interval = bootstrap(lambda w: weighted.mean(w, sample), Samples.of(80, seed=1))
    rng = np.random.default_rng(99)
    means = [sample[rng.integers(0, 80, 80)].mean() for _ in range(20_000)]
    assert interval.value == pytest.approx(sample.mean())
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.1)


def test_images_of_one_child_do_not_narrow_the_interval():
    of_child = np.random.default_rng(0).normal(0, 1, 40)
    values, patients = np.repeat(of_child, 5), np.repeat(np.arange(40), 5)
    alone = bootstrap(lambda w: weighted.mean(w, of_child), Samples.of(40))
    repeated = bootstrap(lambda w: weighted.mean(w, values), Samples.of(200, patients.tolist()))
    naive = bootstrap(lambda w: weighted.mean(w, values), Samples.of(200))
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.15)
    assert naive.high - naive.low < 0.6 * (alone.high - alone.low)


def test_every_sample_draws_whole_patients_as_many_as_there_are():
    samples = Samples.of(5, ["a", "b", "a", "c", "b"])
    for w in samples.weights():
        assert (w[:, 0] == w[:, 2]).all() and (w[:, 1] == w[:, 4]).all()
        assert (w[:, 0] + w[:, 1] + w[:, 3] == 3).all()


def test_a_figure_that_most_samples_leave_undefined_has_no_interval():
    label = np.array(["plus"] + ["none"] * 30)  # a sample holds the one positive 63 times in 100
    score = np.append(0.8, np.linspace(1, 0, 30))
    figure = bootstrap(lambda w: weighted.auc(w, label == "plus", score), Samples.of(31))
    assert figure.low < figure.value < figure.high < 1
    faultless = bootstrap(lambda w: weighted.auc(w, label == "plus", np.linspace(1, 0, 31)), Samples.of(31))
    assert (faultless.value, faultless.low) == (1.0, None) and "too few errors" in faultless.reason
    all_three = bootstrap(lambda w: np.where((w > 0).all(-1), 1.0, np.nan), Samples.of(3))  # 2 in 9
    assert (all_three.value, all_three.low, all_three.high) == (1.0, None, None)
    assert "most" in all_three.reason
    nothing = bootstrap(lambda w: w.sum(-1) * np.nan, Samples.of(5)).as_json()
    assert nothing == {"value": None, "low": None, "high": None, "reason": "undefined"}
    one_child = bootstrap(lambda w: weighted.mean(w, np.arange(4)), Samples.of(4, ["a"] * 4))
    assert (one_child.value, one_child.low) == (1.5, None) and "one patient" in one_child.reason


@pytest.mark.parametrize("seed", range(4))
def test_weighted_figures_equal_scikit_learn_with_sample_weights(seed: int):
    """One bootstrap sample: each case as often as it was drawn, some not at all."""
    rng = np.random.default_rng(seed)
    classes = ["none", "preplus", "plus"]
    label, said = rng.choice(classes, 90), rng.choice(classes, 90)
    p = rng.dirichlet(np.ones(3), 90).round(1)
    w = rng.multinomial(90, np.full(90, 1 / 90), size=2).astype(float)
    for row, count in enumerate(w):
        for k, value in enumerate(classes):
            expected = roc_auc_score(label == value, p[:, k], sample_weight=count)
            assert weighted.auc(w, label == value, p[:, k])[row] == pytest.approx(expected)
            expected = f1_score(label == value, said == value, sample_weight=count)
            assert weighted.f1(w, said == value, label == value)[row] == pytest.approx(expected)
        expected = f1_score(label, said, average="macro", sample_weight=count)
        assert weighted.macro_f1(w, said, label)[row] == pytest.approx(expected)
        drawn = np.repeat(p[:, 0], count.astype(int))
        assert weighted.standard_deviation(w, p[:, 0])[row] == pytest.approx(drawn.std(ddof=1))
        right = np.repeat(said == label, count.astype(int))
        expected = M.calibration_error(drawn, right)
        assert weighted.calibration_error(w, p[:, 0], said == label, 10)[row] == pytest.approx(expected)


def test_exact_bound_is_scipys():
    for n in (1, 30, 600):
        assert exact_bound(n) == pytest.approx(scipy_stats.binomtest(0, n).proportion_ci(method="exact").high)


def test_predictions_are_parsed_or_none():
    texts = [
        'Sure: {"task":"fracture","fracture":"buckle"} done',
        "no json",
        '{"task":"fracture","fracture":"cracked"}',
    ]
    assert parse_json_predictions(texts) == [{"task": "fracture", "fracture": "buckle"}, None, None]
