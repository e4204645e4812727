"""The figures against scikit-learn and numpy, and undefined where they should be."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, mean_absolute_error, recall_score, roc_auc_score

from engine.radiology_metrics import RadiologyMetrics, bootstrap, parse_json_predictions

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


def test_undefined_is_none():
    assert M.bone_age_mae([], []) is None
    assert M.fracture_f1([], []) is None
    assert M.sensitivity(["normal"], ["normal"], "buckle") is None
    one_class = M.rop_auc({"stage": ["2", "2"]}, {"stage": [dict.fromkeys("012345", 0.1)] * 2})
    assert one_class == {"stage": None}


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    inside = 0
    for trial in range(100):
        sample = np.random.default_rng(trial).normal(5, 1, 60)
        interval = bootstrap(lambda i, s=sample: float(s[i].mean()), 60, seed=trial)
        inside += interval.low <= 5 <= interval.high
    assert 88 <= inside <= 99


def test_predictions_are_parsed_or_none():
    texts = [
        'Sure: {"task":"fracture","fracture":"buckle"} done',
        "no json",
        '{"task":"fracture","fracture":"cracked"}',
    ]
    assert parse_json_predictions(texts) == [{"task": "fracture", "fracture": "buckle"}, None, None]
