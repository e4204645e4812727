"""Figures by class and by group against loops and scikit-learn; nothing is said where there is too little."""

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, mean_absolute_error, recall_score, roc_auc_score

from engine.evaluation_figures import COVERAGE_LEVELS, MIN_GROUP_PATIENTS, Outcome, task_result
from engine.findings.answers import ALLOWED, Fracture, Plus, Stage, Task, Zone, bone_age_answer, fracture_answer
from engine.inference.read import Read
from engine.subgroups import age_band

FIELDS = {"zone": Zone, "stage": Stage, "plus_disease": Plus}


def bone_age_outcome(label, median, interval=None, **about):
    interval = interval or (median - 3, median + 3)
    return Outcome(
        bone_age_answer(label), Read("bone_age", bone_age_answer(median), {}, median, interval, False, None, "m", 1.0),
        **about,
    )  # fmt: skip


def fracture_outcome(label, p, **about):
    said = max(p, key=p.get)
    read = Read("fracture", fracture_answer(said), p, None, None, False, None, "m", 1.0)
    return Outcome(fracture_answer(label), read, **about)


def no_read(label, reason="The image is unlike the hand images this model was trained on (1.20 times the distance)."):
    return Outcome(label, Read(label["task"], None, {}, None, None, True, reason, "m", 1.0))


def rop_outcomes(rng, count):
    found = []
    for k in range(count):
        truth = dict(ALLOWED[Task.ROP][rng.integers(len(ALLOWED[Task.ROP]))])
        p = {
            f: dict(zip([v.value for v in vs], rng.dirichlet(np.ones(len(vs))), strict=True))
            for f, vs in FIELDS.items()
        }
        said = {"task": "rop"} | {f: max(q, key=q.get) for f, q in p.items()}
        read = Read("rop", said, p, None, None, False, None, "m", 1.0)
        found.append(Outcome(truth, read, f"{k}.png", "MF"[k % 2], float(k % 7), "AB"[k % 3 == 0], f"p{k // 2}"))
    return found


def test_by_class_and_confusion_equal_scikit_learn():
    outcomes = rop_outcomes(np.random.default_rng(1), 120)
    found = task_result(Task.ROP, outcomes)
    for field, kinds in FIELDS.items():
        names = [kind.value for kind in kinds]
        label, said = (np.array([a[field] for a in answers]) for answers in zip(
            *[(o.truth, o.read.answer) for o in outcomes], strict=True))  # fmt: skip
        assert found["confusion"][field]["labels"] == names
        assert found["confusion"][field]["counts"] == confusion_matrix(label, said, labels=names).tolist()
        for name in names:
            if not (label == name).any():
                continue
            one = found["by_class"][field][name]
            score = [o.read.probabilities[field][name] for o in outcomes]
            assert one["n"] == (label == name).sum()
            assert one["auc"]["value"] == pytest.approx(roc_auc_score(label == name, score), abs=1e-4)
            assert one["f1"]["value"] == pytest.approx(f1_score(label == name, said == name), abs=1e-4)
            assert one["sensitivity"]["value"] == pytest.approx(recall_score(label == name, said == name), abs=1e-4)
            assert one["specificity"]["value"] == pytest.approx(recall_score(label != name, said != name), abs=1e-4)


def test_groups_equal_a_loop_over_the_cases():
    rng = np.random.default_rng(5)
    outcomes = []
    for k in range(200):
        label = int(rng.integers(5, 220))
        age = None if rng.random() < 0.2 else float(rng.uniform(0, 228))
        about = {"sex": rng.choice(["M", "F", None]), "age_months": age, "site": "AB"[k % 2], "patient": f"p{k % 90}"}
        outcomes.append(bone_age_outcome(label, int(np.clip(label + rng.normal(0, 8), 0, 228)), **about))
    outcomes += [no_read(bone_age_answer(60)) for _ in range(3)]
    groups = task_result(Task.BONE_AGE, outcomes)["groups"]
    names = {
        "sex": lambda o: {"F": "girls", "M": "boys"}.get(o.sex, "unknown"),
        "site": lambda o: o.site or "unknown",
        "age": lambda o: "unknown" if o.age_months is None
        else ["0-4 y", "5-9 y", "10-14 y", "15 y and older"][min(3, int(o.age_months // 60))],
        "labelled_bone_age": lambda o: ["0-4 y", "5-9 y", "10-14 y", "15 y and older"][
            min(3, o.truth["bone_age_months"] // 60)],
    }  # fmt: skip
    assert groups.keys() == names.keys()
    for by, name_of in names.items():
        assert list(groups[by]) == [n for n in list(groups[by]) if n != "unknown"] + ["unknown"] * (
            "unknown" in groups[by]
        )
        assert sum(group["n"] for group in groups[by].values()) == len(outcomes)
        for name, group in groups[by].items():
            members = [o for o in outcomes if name_of(o) == name]
            read = [o for o in members if o.read.answer]
            assert (group["n"], group["n_read"]) == (len(members), len(read))
            if not read:
                assert group["mae_months"]["value"] is None
                continue
            mae = mean_absolute_error([o.truth["bone_age_months"] for o in read], [o.read.median_months for o in read])
            assert group["mae_months"]["value"] == pytest.approx(mae, abs=1e-4)
            assert group["patients"] == len({o.patient for o in members} - {None})


def test_patients_are_drawn_where_they_are_known():
    """Five copies of each child's film: as wide an interval as one copy."""
    rng = np.random.default_rng(0)
    errors = rng.integers(-9, 9, 40).tolist()
    alone = [bone_age_outcome(100, 100 + e, patient=f"p{k}") for k, e in enumerate(errors)]
    nameless = [bone_age_outcome(100, 100 + e) for e in errors]
    one, five, naive = (
        task_result(Task.BONE_AGE, outcomes)["mae_months"] for outcomes in (alone, alone * 5, nameless * 5)
    )
    assert five["high"] - five["low"] == pytest.approx(one["high"] - one["low"], abs=1e-4)
    assert naive["high"] - naive["low"] < 0.6 * (one["high"] - one["low"])


def test_a_small_group_has_no_figure_but_says_why():
    outcomes = [bone_age_outcome(100, 104, sex="F", patient=f"p{k}") for k in range(MIN_GROUP_PATIENTS)]
    outcomes += [bone_age_outcome(100, 104, sex="M", patient=f"b{k % 3}") for k in range(30)]
    sexes = task_result(Task.BONE_AGE, outcomes)["groups"]["sex"]
    assert sexes["girls"]["mae_months"]["value"] == 4
    assert sexes["boys"]["mae_months"] == {
        "value": None, "low": None, "high": None, "reason": "too few: 3 patients read, at least 10 are needed",
    }  # fmt: skip
    nameless = [bone_age_outcome(100, 104, sex="F") for _ in range(4)]
    found = task_result(Task.BONE_AGE, nameless)
    assert found["groups"]["sex"]["girls"]["mae_months"]["reason"].startswith("too few: 4 images read")
    assert found["groups"]["site"] == {}, "no annotation names a site"


def test_one_class_leaves_what_needs_two_undefined():
    p = {"distal_radius": 0.1, "buckle": 0.1, "normal": 0.8}
    found = task_result(Task.FRACTURE, [fracture_outcome("normal", p, sex="F") for _ in range(12)])
    buckle = found["by_class"]["fracture"]["buckle"]
    assert buckle["n"] == 0
    for name in ("auc", "sensitivity"):
        assert (buckle[name]["value"], buckle[name]["reason"]) == (None, "no read image is labelled buckle")
    assert buckle["f1"]["value"] is None
    assert found["macro_auc"] == {
        "value": None, "low": None, "high": None, "reason": "every read image has the same fracture label",
    }  # fmt: skip
    assert found["normal_specificity"]["reason"] == "every read image is labelled normal"
    assert found["groups"]["sex"]["girls"]["buckle_sensitivity"]["value"] is None


def test_a_faultless_share_is_not_certain():
    p = {"distal_radius": 0.1, "buckle": 0.1, "normal": 0.8}
    outcomes = [fracture_outcome("normal", p) for _ in range(30)] + [fracture_outcome("buckle", p) for _ in range(8)]
    found = task_result(Task.FRACTURE, outcomes)
    assert found["normal_sensitivity"] == {"value": 1.0, "low": pytest.approx(0.8843, abs=1e-4), "high": 1.0}
    assert found["buckle_sensitivity"] == {"value": 0.0, "low": 0.0, "high": pytest.approx(0.3694, abs=1e-4)}


def test_coverage_of_intervals_of_every_width():
    """Labels drawn from the distributions that the reads carry: every interval holds its share of them."""
    rng = np.random.default_rng(2)
    outcomes = []
    for _ in range(600):
        centre = rng.uniform(60, 160)
        p = np.exp(-((np.arange(229) - centre) ** 2) / (2 * 8**2))
        p /= p.sum()
        label, below = int(rng.choice(229, p=p)), p.cumsum()
        interval = (int((below < 0.1).sum()), int((below < 0.9).sum()))
        median = int((below < 0.5).sum())
        by_month = {str(m): float(q) for m, q in enumerate(p)}
        read = Read("bone_age", bone_age_answer(median), by_month, median, interval, False, None, "m", 1.0)
        outcomes.append(Outcome(bone_age_answer(label), read))
    found = task_result(Task.BONE_AGE, outcomes)
    assert [step["level"] for step in found["coverage"]] == list(COVERAGE_LEVELS)
    for step in found["coverage"]:  # a month is a step of up to 5 %
        assert step["level"] - 0.05 < step["value"] < min(1, step["level"] + 0.09)
    assert found["coverage"][7]["value"] == found["interval_80_coverage"]["value"]


def test_the_worst_cases_come_first():
    outcomes = [bone_age_outcome(100, 100 + e, image=f"{e}.png") for e in range(-12, 12)] + [
        no_read(bone_age_answer(1))
    ]
    found = task_result(Task.BONE_AGE, outcomes)
    assert [case["image"] for case in found["worst"][:2]] == ["-12.png", "-11.png"]
    assert found["worst"][0]["error_months"] == -12
    assert found["no_read_reasons"] == {"The image is unlike the hand images this model was trained on": 1}
    sure = {"distal_radius": 0.01, "buckle": 0.02, "normal": 0.97}
    unsure = {"distal_radius": 0.3, "buckle": 0.34, "normal": 0.36}
    reads = [("buckle", unsure), ("buckle", sure), ("normal", sure)]
    cases = task_result(Task.FRACTURE, [fracture_outcome(label, p, image=str(k)) for k, (label, p) in enumerate(reads)])
    assert [case["image"] for case in cases["worst"]] == ["1", "0"], "right answers are not among them"
    assert cases["worst"][0]["probability_of_label"] == 0.02


def test_every_result_is_json_without_nan():
    for task, outcomes in (
        (Task.ROP, []),
        (Task.BONE_AGE, [bone_age_outcome(4, 5)]),
        (Task.FRACTURE, [no_read(fracture_answer(Fracture.BUCKLE))]),
        (Task.ROP, rop_outcomes(np.random.default_rng(0), 3)),
    ):
        json.dumps(task_result(task, outcomes), allow_nan=False)


@pytest.mark.parametrize(
    ("task", "months", "band"),
    [
        (Task.BONE_AGE, 59.9, "0-4 y"),
        (Task.FRACTURE, 60, "5-9 y"),
        (Task.BONE_AGE, 228, "15 y and older"),
        (Task.ROP, 1.9, "under 2 months"),
        (Task.ROP, 2, "2-3 months"),
        (Task.ROP, None, "unknown"),
    ],
)
def test_age_bands(task, months, band):
    assert age_band(task, months) == band
