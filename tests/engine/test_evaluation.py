"""The figures of an evaluation from given reads; undefined ones are None."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from engine.evaluation import figures
from engine.findings.answers import Fracture, Plus, Stage, Task, Zone, bone_age_answer, fracture_answer, rop_answer
from engine.inference.read import Read


def read(task, answer, probabilities, median=None, interval=None):
    return Read(task, answer, probabilities, median, interval, answer is None, None, "test", 1.0)


def test_fracture_figures_equal_scikit_learn():
    rng = np.random.default_rng(2)
    kinds = [k.value for k in Fracture]
    label, said = rng.choice(kinds, 60), rng.choice(kinds, 60)
    reads = [read(Task.FRACTURE, fracture_answer(s), dict.fromkeys(kinds, 0.1) | {s: 0.8}) for s in said]
    found = figures(Task.FRACTURE, [fracture_answer(t) for t in label], reads)
    f1 = f1_score(label, said, labels=kinds, average=None)
    for kind, one in zip(kinds, f1, strict=True):
        assert found[f"{kind}_f1"]["value"] == pytest.approx(one, abs=1e-4)
        expected = recall_score(label != kind, said != kind)
        assert found[f"{kind}_specificity"]["value"] == pytest.approx(expected, abs=1e-4)
    assert found["calibration_error"]["value"] == pytest.approx(abs(0.8 - (label == said).mean()), abs=1e-4)
    assert found["macro_f1"]["low"] < found["macro_f1"]["value"] < found["macro_f1"]["high"]


def test_bone_age_figures_and_one_image_without_a_read():
    truth = [bone_age_answer(m) for m in (100, 110, 120, 130)]
    reads = [read(Task.BONE_AGE, bone_age_answer(m), {}, m, (m - 3, m + 3)) for m in (102, 110, 127)]
    found = figures(Task.BONE_AGE, truth, [*reads, read(Task.BONE_AGE, None, {})])
    assert (found["n"], found["n_read"], found["no_read_share"]) == (4, 3, 0.25)
    assert found["mae_months"]["value"] == 3
    assert found["rmse_months"]["value"] == pytest.approx(np.sqrt(53 / 3), abs=1e-4)
    assert found["interval_80_coverage"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    upper = 3 + 1.96 * np.std([2, 0, 7], ddof=1)
    assert found["upper_limit_of_agreement_months"]["value"] == pytest.approx(upper, abs=1e-4)


def test_no_read_at_all_leaves_every_figure_undefined():
    for task, answer in ((Task.BONE_AGE, bone_age_answer(5)), (Task.FRACTURE, fracture_answer("buckle"))):
        found = figures(task, [answer], [read(task, None, {})])
        undefined = [f for f in found.values() if isinstance(f, dict)]
        nothing = {"value": None, "low": None, "high": None, "reason": "no read image"}
        assert undefined and all(f == nothing for f in undefined)


def test_rop_figures():
    rng = np.random.default_rng(4)
    fields = {"zone": Zone, "stage": Stage, "plus_disease": Plus}
    answers = [rop_answer(zone, "2", "none") for zone in rng.choice(["I", "II", "III"], 40).tolist()]
    answers[0] = rop_answer("I", "3", "plus")
    p = [
        {f: {v.value: 0.9 if a[f] == v.value else 0.02 for v in values} for f, values in fields.items()}
        for a in answers
    ]
    found = figures(Task.ROP, answers, [read(Task.ROP, a, q) for a, q in zip(answers, p, strict=True)])
    assert found["zone_auc"]["value"] == 1.0 and found["plus_auc"]["value"] == 1.0
    assert found["zone_calibration_error"]["value"] == pytest.approx(0.1)
    nothing = figures(Task.ROP, answers[:1], [read(Task.ROP, None, {})])
    assert nothing["zone_auc"]["value"] is None and nothing["zone_calibration_error"]["value"] is None
