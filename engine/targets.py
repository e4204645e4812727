"""What an evaluation's figures are held against: targets, and what has been published elsewhere.

A target whose origin has not been confirmed says "unverified" wherever it is shown. Names of figures are those of
engine.evaluation_figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.findings.answers import Task

UNVERIFIED = "unverified"
SPECIFICATION = (
    "Asked of the model when the project began, as its notes have it; the specification itself has not been compared"
)
PHANTOM_PROMISE = "README.md: promised of the shipped model on fresh phantoms of site A; says nothing about children"


@dataclass(frozen=True)
class Target:
    """`at_least` or `at_most` is given. `only_phantoms`: for the shipped phantom model, on phantoms."""

    task: Task
    figure: str
    source: str
    at_least: float | None = None
    at_most: float | None = None
    unverified: bool = False
    only_phantoms: bool = False

    def is_met_by(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= self.at_most

    def verdict(self, figure: dict[str, Any]) -> str:
        """`figure`: value, low, high."""
        if figure["value"] is None:
            return "not evaluated"
        met = self.is_met_by(figure["value"])
        ends = [end for end in (figure["low"], figure["high"]) if end is not None]
        if len(ends) == 2 and all(self.is_met_by(end) == met for end in ends):
            return "met" if met else "missed"
        return "met, not certain" if met else "missed, not certain"


TARGETS = (
    Target(Task.BONE_AGE, "mae_months", SPECIFICATION, at_most=2.8, unverified=True),
    Target(Task.ROP, "zone_auc", SPECIFICATION, at_least=0.94, unverified=True),
    Target(Task.ROP, "plus_auc", f"{SPECIFICATION}; notes give 0.92 and 0.94", at_least=0.92, unverified=True),
    Target(Task.ROP, "plus_auc", f"{SPECIFICATION}; notes give 0.92 and 0.94", at_least=0.94, unverified=True),
    Target(Task.FRACTURE, "macro_f1", SPECIFICATION, at_least=0.92, unverified=True),
    Target(Task.BONE_AGE, "mae_months", PHANTOM_PROMISE, at_most=2.8, only_phantoms=True),
    Target(Task.ROP, "zone_auc", PHANTOM_PROMISE, at_least=0.98, only_phantoms=True),
    Target(Task.ROP, "plus_auc", PHANTOM_PROMISE, at_least=0.98, only_phantoms=True),
    Target(Task.ROP, "zone_i_sensitivity", PHANTOM_PROMISE, at_least=0.97, only_phantoms=True),
    Target(Task.ROP, "stage_accuracy", PHANTOM_PROMISE, at_least=0.95, only_phantoms=True),
    Target(Task.FRACTURE, "macro_f1", PHANTOM_PROMISE, at_least=0.95, only_phantoms=True),
    Target(Task.FRACTURE, "distal_radius_sensitivity", PHANTOM_PROMISE, at_least=0.95, only_phantoms=True),
)


def targets_of(task: Task, figure: str, *, phantom: bool) -> list[Target]:
    return [t for t in TARGETS if (t.task, t.figure) == (task, figure) and (phantom or not t.only_phantoms)]


@dataclass(frozen=True)
class Published:
    """A figure of another system or of people, on other images: for orientation, not for comparison."""

    task: Task
    who: str
    figure: str
    images: str
    source: str
    unverified: bool = False


PUBLISHED = (
    Published(Task.BONE_AGE, "best entry of the RSNA 2017 challenge", "mean absolute difference 4.2 months",
              "200 hands", "Halabi et al., Radiology 2019;290:498-503"),
    Published(Task.BONE_AGE, "Deeplasia", "mean absolute difference 3.9 months", "RSNA 2017 test set",
              "Rassmann et al., Pediatr Radiol 2024 (PMC10776485)"),
    Published(Task.BONE_AGE, "Deeplasia", "mean absolute difference 5.8 months", "568 dysplastic hands",
              "Rassmann et al., Pediatr Radiol 2024 (PMC10776485)"),
    Published(Task.BONE_AGE, "BoneXpert 3", "RMS error 0.45 years (5.4 months)", "RSNA 2017 test set",
              "Martin et al., Sci Rep 2022;12:6388"),
    Published(Task.BONE_AGE, "people rating the same film", "SD 0.58 years (7.0 months)", "Greulich-Pyle",
              "quoted in Martin et al., Sci Rep 2022;12:6388"),
    Published(Task.ROP, "ROP screening platform", "AUC 0.983 to 0.998", "5 classifiers, stage and plus among them",
              "JAMA Netw Open 2021 (2779454)"),
    Published(Task.ROP, "ROP.AI", "plus AUC 0.993; elsewhere sensitivity 93.9 %, specificity 80.7 %",
              "hold-out; 90 external images", "Tan et al., Transl Vis Sci Technol 2019;8(6):23"),
    Published(Task.ROP, "12 studies together", "plus sensitivity 91.1 %, specificity 95.9 %", "review",
              "Bai et al., Saudi J Ophthalmol 2022;36:296"),
    Published(Task.ROP, "i-ROP DL", "plus AUC 0.98", "5,511 images", "Brown et al., JAMA Ophthalmol 2018;136:803-810",
              unverified=True),
    Published(Task.FRACTURE, "BoneView", "sensitivity 89 %, specificity 91 %", "826 children, upper limb",
              "Mollica et al., Eur Radiol 2025 (s00330-025-11947-w)"),
    Published(Task.FRACTURE, "Faster R-CNN", "AUC 0.96, sensitivity 90.8 %, specificity 88.7 %",
              "58,846 films, upper limb", "Pediatr Radiol 2023;53:2386-2397"),
    Published(Task.FRACTURE, "9 studies", "accuracy 88.8 to 97.9 %", "review",
              "Shelmerdine et al., Insights Imaging 2022"),
)  # fmt: skip
