"""An evaluation's figures in words: names, units, and the sentences a clinician reads first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.findings.answers import Task

TITLES = {Task.BONE_AGE: "Bone age", Task.ROP: "Retinopathy of prematurity", Task.FRACTURE: "Wrist fracture"}
FIELD_NAMES = {"zone": "Zone", "stage": "Stage", "plus_disease": "Plus disease", "fracture": "Fracture"}
CLASS_NAMES = {"preplus": "pre-plus", "distal_radius": "distal radius"}
GROUPINGS = {"sex": "Sex", "age": "Age", "labelled_bone_age": "Labelled bone age", "site": "Site"}


def months(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}")


def per_cent(value: float) -> str:
    return f"{value * 100:.1f} %"


def plain(value: float) -> str:
    return f"{value:.3f}"


def on_axis(value: float, text: Callable[[float], str]) -> str:
    """Without the decimals that an axis does not need."""
    return f"{value * 100:g} %" if text is per_cent else f"{value:g}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Figure:
    """`span`: the scale it is drawn on. `note`: what it means, for those who do not meet it every day."""

    name: str
    words: str
    text: Callable[[float], str]
    span: tuple[float, float]
    note: str = ""


def _share(name: str, words: str, note: str = "") -> Figure:
    return Figure(name, words, per_cent, (0.5, 1.0), note)


def _area(name: str, words: str, note: str = "") -> Figure:
    return Figure(name, words, plain, (0.5, 1.0), note)


def _gap(name: str, words: str) -> Figure:
    return Figure(name, words, plain, (0.0, 0.3), "mean gap between stated probability and share right; 0 is best")


# In the order of the report's table; what is missing here is in the JSON alone.
FIGURES: dict[Task, tuple[Figure, ...]] = {
    Task.BONE_AGE: (
        Figure("mae_months", "Mean absolute error, months", months, (0.0, 12.0)),
        Figure("rmse_months", "Root mean square error, months", months, (0.0, 12.0), "large errors weigh more"),
        Figure("bias_months", "Bias, months", months, (-6.0, 6.0), "above 0: read too old"),
        Figure("lower_limit_of_agreement_months", "Lower limit of agreement, months", months, (-24.0, 24.0),
               "bias - 1.96 SD: 95 of 100 errors lie between the limits"),
        Figure("upper_limit_of_agreement_months", "Upper limit of agreement, months", months, (-24.0, 24.0)),
        Figure("within_2_months", "Within 2 months", per_cent, (0.0, 1.0)),
        Figure("within_6_months", "Within 6 months", per_cent, (0.0, 1.0)),
        Figure("within_12_months", "Within 12 months", per_cent, (0.0, 1.0)),
        Figure("interval_80_coverage", "Labels inside the 80 % interval", per_cent, (0.0, 1.0), "should be 80 %"),
    ),
    Task.ROP: (
        _area("zone_auc", "Zone, macro AUC", "mean over the zones of one against all others"),
        _area("stage_auc", "Stage, macro AUC"),
        _area("plus_auc", "Plus disease, AUC", "plus against pre-plus and none"),
        _area("plus_macro_auc", "Plus disease, macro AUC"),
        _share("zone_i_sensitivity", "Zone I, sensitivity"),
        _share("plus_sensitivity", "Plus disease, sensitivity"),
        _share("plus_specificity", "Plus disease, specificity"),
        _share("zone_accuracy", "Zone, accuracy"),
        _share("stage_accuracy", "Stage, accuracy"),
        _share("plus_accuracy", "Plus disease, accuracy"),
        _gap("zone_calibration_error", "Zone, calibration error"),
        _gap("stage_calibration_error", "Stage, calibration error"),
        _gap("plus_calibration_error", "Plus disease, calibration error"),
    ),
    Task.FRACTURE: (
        _area("macro_f1", "Macro F1", "mean over the classes"),
        _area("macro_auc", "Macro AUC", "mean over the classes of one against all others"),
        _share("distal_radius_sensitivity", "Distal radius fracture, sensitivity"),
        _share("distal_radius_specificity", "Distal radius fracture, specificity"),
        _share("buckle_sensitivity", "Buckle fracture, sensitivity"),
        _share("buckle_specificity", "Buckle fracture, specificity"),
        _share("normal_specificity", "Any fracture, sensitivity", "fractured wrists not read as normal"),
        _share("normal_sensitivity", "Any fracture, specificity", "normal wrists read as normal"),
        _share("accuracy", "Accuracy"),
        _gap("calibration_error", "Calibration error"),
    ),
}  # fmt: skip

BY_GROUP: dict[Task, tuple[str, ...]] = {
    Task.BONE_AGE: ("mae_months", "bias_months", "within_6_months", "interval_80_coverage"),
    Task.ROP: ("zone_auc", "plus_auc", "zone_i_sensitivity", "plus_sensitivity", "stage_accuracy"),
    Task.FRACTURE: ("macro_f1", "distal_radius_sensitivity", "normal_specificity", "normal_sensitivity"),
}  # the first two are also drawn


def figure_of(task: Task, name: str) -> Figure:
    return next(figure for figure in FIGURES[task] if figure.name == name)


def class_name(field: str, name: str) -> str:
    """ "zone I", "stage 2", "pre-plus", "distal radius"."""
    if name != "none" and field in ("zone", "stage"):
        return f"{field} {name}"
    return CLASS_NAMES.get(name, name)


def sentences(task: Task, found: dict[str, Any]) -> list[str]:
    """The result without statistics: what happens to a hundred children."""
    if not found["n_read"]:
        return ["No image was read."]
    return {Task.BONE_AGE: _bone_age, Task.ROP: _rop, Task.FRACTURE: _fracture}[task](found)


def _bone_age(found: dict[str, Any]) -> list[str]:
    low, high = (found[f"{side}_limit_of_agreement_months"]["value"] for side in ("lower", "upper"))
    bias = found["bias_months"]["value"]
    said = [f"A read is off by {found['mae_months']['value']:.1f} months on average"]
    if low is not None:
        said.append(f"; 95 of 100 lie between {_off(low)} and {_off(high)}")
    lines = ["".join(said) + "."]
    interval = [found["bias_months"][end] for end in ("low", "high")]
    if None not in interval and interval[0] <= 0 <= interval[1]:
        lines.append("There is no sign that reads are too old or too young as a whole.")
    elif None not in interval:
        lines.append(f"As a whole, reads are {_off(bias)}.")
    inside = found["interval_80_coverage"]
    if inside["low"] is not None:
        judged = "too wide" if inside["low"] > 0.8 else "too narrow" if inside["high"] < 0.8 else "about right"
        lines.append(f"The 80 % interval held {inside['value'] * 100:.0f} % of the labels: {judged}.")
    return lines


def _off(months_: float) -> str:
    return f"{abs(months_):.1f} months too {'old' if months_ >= 0 else 'young'}"


def _rop(found: dict[str, Any]) -> list[str]:
    lines = [
        _of_hundred("eyes with plus disease", found["plus_sensitivity"], "are called plus"),
        _of_hundred("eyes without it", found["plus_specificity"], "are not called plus"),
        _of_hundred("eyes with disease in zone I", found["zone_i_sensitivity"], "are called zone I"),
    ]
    return [line for line in lines if line]


def _fracture(found: dict[str, Any]) -> list[str]:
    lines = [
        _of_hundred("fractured wrists", found["normal_specificity"], "are called a fracture of either kind"),
        _of_hundred("normal wrists", found["normal_sensitivity"], "are called normal"),
        _of_hundred("distal radius fractures", found["distal_radius_sensitivity"], "are called so"),
    ]
    return [line for line in lines if line]


def _of_hundred(whom: str, figure: dict[str, Any], what: str) -> str:
    if figure["value"] is None:
        return f"Nothing can be said of {whom}: {figure.get('reason', 'undefined')}."
    spread = ""
    if figure["low"] is not None:
        spread = f" (95 % interval {figure['low'] * 100:.0f} to {figure['high'] * 100:.0f})"
    return f"Of 100 {whom}, {figure['value'] * 100:.0f} {what}{spread}."


def unread_words(found: dict[str, Any]) -> str:
    """How many images got no read, and why."""
    reasons: Sequence[tuple[str, int]] = sorted(found["no_read_reasons"].items(), key=lambda pair: -pair[1])
    if not reasons:
        return "Every image was read."
    count = found["n"] - found["n_read"]
    why = "; ".join(reason.rstrip(".") + (f" ({n})" if len(reasons) > 1 else "") for reason, n in reasons)
    share = per_cent(found["no_read_share"])
    return f"{count} of {found['n']} images ({share}) got no read and are in no other figure: {why}."
