"""From reads and labels to an evaluation's figures, each with its interval, for all images and for groups of children.

A task's result holds its key figures, `by_class` (AUC, F1, sensitivity, specificity of every class), `confusion`,
`reliability`, for bone age the `coverage` of intervals of every width, `groups` (the figures by sex, age band and
site), and the `worst` cases. What cannot be said is None, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from engine import weighted_figures as weighted
from engine.annotations import ANSWER_FIELDS
from engine.findings.answers import Answer, Fracture, Plus, Task, Zone
from engine.inference.read import Read
from engine.radiology_metrics import (
    CALIBRATION_BINS,
    LIMITS_SD,
    ROP_CLASSES,
    Interval,
    Samples,
    bootstrap,
    exact_bound,
    reliability,
)
from engine.subgroups import AGE_BANDS, SEX_NAMES, UNKNOWN, age_band, age_bands, sex_name

MIN_GROUP_PATIENTS = 10  # with fewer, an interval says hardly more than that the figure lies on its scale
WORST_CASES = 10
COVERAGE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
CLASSES: dict[Task, dict[str, type[StrEnum]]] = {
    Task.BONE_AGE: {},
    Task.ROP: dict(ROP_CLASSES),
    Task.FRACTURE: {"fracture": Fracture},
}


@dataclass(frozen=True)
class Outcome:
    """One image: its label, its read, and whom it shows as far as that is known. `image` names it to people."""

    truth: Answer
    read: Read
    image: str = ""
    sex: str | None = None
    age_months: float | None = None
    site: str | None = None
    patient: str | None = None


@dataclass(frozen=True)
class Measure:
    """`of` takes weights (engine.weighted_figures). `needs`: what is missing where it is undefined. `among` (cases,)
    bool: for a share, what it is a share of."""

    of: Callable[[np.ndarray], np.ndarray]
    needs: str
    among: np.ndarray | None = None


def task_result(task: Task, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything about one task."""
    read = _read(outcomes)
    result = _summary(task, outcomes)
    result["no_read_reasons"] = dict(Counter((o.read.reason or "").split(" (")[0] for o in _unread(outcomes)))
    result["confusion"] = {field: _confusion(field, kinds, read) for field, kinds in CLASSES[task].items()}
    result["reliability"] = {field: _reliability(field, read) for field in CLASSES[task]}
    if task is Task.BONE_AGE:
        result["coverage"] = _coverage(read)
    result["groups"] = {
        name: {group: _summary(task, members, MIN_GROUP_PATIENTS) for group, members in groups_of(name, task, outcomes)}
        for name in ("sex", "age", "site", *(["labelled_bone_age"] if task is Task.BONE_AGE else []))
    }
    result["worst"] = _worst(task, read)
    return result


def figures(task: Task, truth: Sequence[Answer], reads: Sequence[Read]) -> dict[str, Any]:
    """The key figures over the images that got a read; `n` counts all images."""
    summary = _summary(task, [Outcome(t, r) for t, r in zip(truth, reads, strict=True)])
    del summary["by_class"]
    return summary


def groups_of(name: str, task: Task, outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    """The groups that have images, in order. `name`: sex, age, site, labelled_bone_age. No groups by site where no
    image names one."""
    if name == "site" and not any(o.site for o in outcomes):
        return []
    key: Callable[[Outcome], str] = {
        "sex": lambda o: sex_name(o.sex),
        "age": lambda o: age_band(task, o.age_months),
        "site": lambda o: o.site or UNKNOWN,
        "labelled_bone_age": lambda o: age_band(Task.BONE_AGE, o.truth["bone_age_months"]),
    }[name]
    order = {
        "sex": list(SEX_NAMES.values()),
        "age": [band for _, band in age_bands(task)],
        "site": sorted({o.site for o in outcomes if o.site}),
        "labelled_bone_age": [band for _, band in AGE_BANDS],
    }[name]
    found = {group: [o for o in outcomes if key(o) == group] for group in dict.fromkeys([*order, UNKNOWN])}
    return [(group, members) for group, members in found.items() if members]


def _summary(task: Task, outcomes: Sequence[Outcome], min_patients: int = 0) -> dict[str, Any]:
    """Counts, key figures and `by_class`. Figures only with so many patients (images, where no patient is named)."""
    read = _read(outcomes)
    samples = Samples.of(len(read), [o.patient or index for index, o in enumerate(read)])
    named = len({o.patient for o in outcomes if o.patient})
    too_few = None
    if samples.patients < min_patients:
        whom = "patients" if named else "images"
        too_few = f"too few: {samples.patients} {whom} read, at least {min_patients} are needed"

    def taken(measure: Measure) -> dict[str, Any]:
        found = Interval(None, None, None, too_few) if too_few else _interval(measure, samples)
        return found.as_json()

    return {
        "n": len(outcomes),
        "n_read": len(read),
        "no_read_share": round(1 - len(read) / len(outcomes), 4) if outcomes else None,
        "patients": named or None,
        "images_without_patient": sum(o.patient is None for o in outcomes),
        **{name: taken(measure) for name, measure in MEASURES[task](read).items()},
        "by_class": {
            field: {
                kind.value: {"n": sum(o.truth[field] == kind for o in read)}
                | {name: taken(measure) for name, measure in _of_class(field, kind, read).items()}
                for kind in kinds
            }
            for field, kinds in CLASSES[task].items()
        },
    }


def _interval(measure: Measure, samples: Samples) -> Interval:
    """A share of 0 or 1 gets an exact bound: all its bootstrap samples are alike."""
    found = bootstrap(measure.of, samples)
    if found.value is None:
        return Interval(None, None, None, measure.needs if samples.cases else "no read image")
    if measure.among is not None and found.value in (0, 1) and samples.patients > 1:
        bound = exact_bound(len(np.unique(samples.patient[measure.among])))
        return Interval(found.value, 0.0, bound) if found.value == 0 else Interval(found.value, 1 - bound, 1.0)
    return found


def _bone_age(read: Sequence[Outcome]) -> dict[str, Measure]:
    label = np.array([o.truth["bone_age_months"] for o in read], float)
    errors = np.array([o.read.median_months for o in read], float) - label
    low, high = np.array([o.read.interval_months for o in read], float).reshape(-1, 2).T
    everyone = np.ones(len(read), bool)

    def share_of(part: np.ndarray) -> Measure:
        return Measure(lambda w: weighted.mean(w, part), "no read image", everyone)

    def limit(side: int) -> Measure:
        return Measure(
            lambda w: weighted.mean(w, errors) + side * LIMITS_SD * weighted.standard_deviation(w, errors),
            "one read image only",
        )

    return {
        "mae_months": Measure(lambda w: weighted.mean(w, abs(errors)), "no read image"),
        "within_2_months": share_of(abs(errors) <= 2),
        "bias_months": Measure(lambda w: weighted.mean(w, errors), "no read image"),
        "rmse_months": Measure(lambda w: weighted.root_mean_square(w, errors), "no read image"),
        "within_6_months": share_of(abs(errors) <= 6),
        "within_12_months": share_of(abs(errors) <= 12),
        "lower_limit_of_agreement_months": limit(-1),
        "upper_limit_of_agreement_months": limit(+1),
        "interval_80_coverage": share_of((low <= label) & (label <= high)),
    }


def _rop(read: Sequence[Outcome]) -> dict[str, Measure]:
    of_zone, of_plus = _of_class("zone", Zone.I, read), _of_class("plus_disease", Plus.PLUS, read)
    fields = {"zone": "zone", "stage": "stage", "plus": "plus_disease"}
    aucs = {name: _macro_auc(field, read) for name, field in fields.items()}
    return {
        "zone_auc": aucs["zone"],
        "stage_auc": aucs["stage"],
        "plus_auc": of_plus["auc"],
        "plus_macro_auc": aucs["plus"],
        "zone_i_sensitivity": of_zone["sensitivity"],
        "plus_sensitivity": of_plus["sensitivity"],
        "plus_specificity": of_plus["specificity"],
        **{f"{name}_accuracy": _accuracy(field, read) for name, field in fields.items()},
        **{f"{name}_calibration_error": _calibration_error(field, read) for name, field in fields.items()},
    }


def _fracture(read: Sequence[Outcome]) -> dict[str, Measure]:
    said, true = _said("fracture", read), _true("fracture", read)
    of_kind = {kind.value: _of_class("fracture", kind, read) for kind in Fracture}
    return {
        "macro_f1": Measure(lambda w: weighted.macro_f1(w, said, true), "no read image"),
        **{f"{kind}_{name}": of_kind[kind][name] for name in ("sensitivity", "specificity", "f1") for kind in of_kind},
        "macro_auc": _macro_auc("fracture", read),
        "accuracy": _accuracy("fracture", read),
        "calibration_error": _calibration_error("fracture", read),
    }


MEASURES: dict[Task, Callable[[Sequence[Outcome]], dict[str, Measure]]] = {
    Task.BONE_AGE: _bone_age,
    Task.ROP: _rop,
    Task.FRACTURE: _fracture,
}


def _of_class(field: str, kind: StrEnum, read: Sequence[Outcome]) -> dict[str, Measure]:
    """One class against all others."""
    said, true = _said(field, read) == kind, _true(field, read) == kind
    score = np.array([probabilities_of(field, o)[kind] for o in read], float)
    one_class = f"every read image is labelled {kind}" if true.all() else f"no read image is labelled {kind}"
    return {
        "auc": Measure(lambda w: weighted.auc(w, true, score), one_class),
        "f1": Measure(lambda w: weighted.f1(w, said, true), f"no image is labelled or read as {kind}"),
        "sensitivity": Measure(lambda w: weighted.share(w, said, true), one_class, true),
        "specificity": Measure(lambda w: weighted.share(w, ~said, ~true), one_class, ~true),
    }


def _macro_auc(field: str, read: Sequence[Outcome]) -> Measure:
    classes = [kind.value for kind in (ROP_CLASSES | CLASSES[Task.FRACTURE])[field]]
    true = _true(field, read)
    scores = np.array([[probabilities_of(field, o)[c] for c in classes] for o in read], float)
    scores = scores.reshape(-1, len(classes))
    needs = f"every read image has the same {field.replace('_', ' ')} label"
    return Measure(lambda w: weighted.macro_auc(w, true, scores, classes), needs)


def _accuracy(field: str, read: Sequence[Outcome]) -> Measure:
    right = _said(field, read) == _true(field, read)
    return Measure(lambda w: weighted.mean(w, right), "no read image", np.ones(len(read), bool))


def _calibration_error(field: str, read: Sequence[Outcome]) -> Measure:
    right, sure = _said(field, read) == _true(field, read), _confidence(field, read)
    return Measure(lambda w: weighted.calibration_error(w, sure, right, CALIBRATION_BINS), "no read image")


def _confusion(field: str, kinds: type[StrEnum], read: Sequence[Outcome]) -> dict[str, Any]:
    """`counts[row][column]`: images labelled as the row's class and read as the column's."""
    pairs = Counter((o.truth[field], o.read.answer[field]) for o in read)
    labels = [kind.value for kind in kinds]
    return {"labels": labels, "counts": [[pairs[true, said] for said in labels] for true in labels]}


def _reliability(field: str, read: Sequence[Outcome]) -> list[dict[str, float]]:
    bins = reliability(_confidence(field, read), _said(field, read) == _true(field, read))
    return [{name: round(value, 4) for name, value in asdict(b).items()} for b in bins]


def _coverage(read: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Of central intervals of every width, how many hold the label; nothing where the reads carry no distribution."""
    if not read or not all(o.read.probabilities for o in read):
        return []
    below = np.array([list(o.read.probabilities.values()) for o in read]).cumsum(1)  # (cases, months)
    label = np.array([o.truth["bone_age_months"] for o in read])
    samples = Samples.of(len(read), [o.patient or index for index, o in enumerate(read)])
    found = []
    for level in COVERAGE_LEVELS:
        low, high = ((below < edge).sum(1) for edge in ((1 - level) / 2, (1 + level) / 2))
        inside = (low <= label) & (label <= high)
        measure = Measure(lambda w, i=inside: weighted.mean(w, i), "no read image", np.ones(len(read), bool))
        found.append({"level": level, **_interval(measure, samples).as_json()})
    return found


def _worst(task: Task, read: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The largest errors in months; of classes the wrong answers, those first whose label was thought least likely."""
    if task is Task.BONE_AGE:
        ranked = sorted(((abs(error_months(o)), o) for o in read), key=lambda pair: -pair[0])
    else:
        wrong = [o for o in read if o.truth != o.read.answer]
        ranked = sorted(((probability_of_label(task, o), o) for o in wrong), key=lambda pair: pair[0])
    return [
        {
            "image": o.image,
            "label": {field: o.truth[field] for field in ANSWER_FIELDS[task]},
            "read": {field: o.read.answer[field] for field in ANSWER_FIELDS[task]},
            **(
                {"error_months": int(error_months(o)), "interval_months": list(o.read.interval_months)}
                if task is Task.BONE_AGE
                else {"probability_of_label": round(size, 4)}
            ),
            "sex": o.sex,
            "age_months": o.age_months,
            "site": o.site,
        }
        for size, o in ranked[:WORST_CASES]
    ]


def error_months(outcome: Outcome) -> float:
    """Positive reads too old."""
    return outcome.read.median_months - outcome.truth["bone_age_months"]


def probability_of_label(task: Task, outcome: Outcome) -> float:
    """Of several fields, the least."""
    return min(probabilities_of(field, outcome)[outcome.truth[field]] for field in ANSWER_FIELDS[task])


def probabilities_of(field: str, outcome: Outcome) -> dict[str, float]:
    found = outcome.read.probabilities
    return found if field == "fracture" else found[field]


def _confidence(field: str, read: Sequence[Outcome]) -> np.ndarray:
    """The probability of the class that was answered."""
    return np.array([probabilities_of(field, o)[o.read.answer[field]] for o in read], float)


def _said(field: str, read: Sequence[Outcome]) -> np.ndarray:
    return np.array([o.read.answer[field] for o in read], str)


def _true(field: str, read: Sequence[Outcome]) -> np.ndarray:
    return np.array([o.truth[field] for o in read], str)


def _read(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [o for o in outcomes if not o.read.abstained]


def _unread(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [o for o in outcomes if o.read.abstained]
