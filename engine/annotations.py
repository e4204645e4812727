"""The annotation format: what an export writes, training reads and phantoms can be written as.

    FOLDER/bone_age/train_annotations.json          a list of records, one an image
          /bone_age/train/0f3a....png
          /rop_screening/...   /fractures/...       the same, and val and test beside train

A record has `image_path` (relative to its task's folder), `task`, the task's answer, `sex` and `age_months` (null when
unknown), and where the label comes from (`Annotation.provenance`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.findings.answers import Answer, Task

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
TASK_FOLDERS = {Task.BONE_AGE: "bone_age", Task.ROP: "rop_screening", Task.FRACTURE: "fractures"}
ANSWER_FIELDS = {
    Task.BONE_AGE: ("bone_age_months",),
    Task.ROP: ("zone", "stage", "plus_disease"),
    Task.FRACTURE: ("fracture",),
}


@dataclass(frozen=True)
class Annotation:
    """`answer` is a member of the task's closed set. `provenance` may hold: patient (key), laterality, site,
    image_sha256, pixel_sha256, reader (pseudonym), reviewed_at, verdict, comment, details, model_answer,
    model_version, phantom."""

    image_path: str
    answer: Answer
    sex: Literal["M", "F", None]
    age_months: float | None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        return Task(self.answer["task"])

    def as_record(self) -> dict[str, Any]:
        return {
            "image_path": self.image_path,
            **self.answer,
            "sex": self.sex,
            "age_months": self.age_months,
            **self.provenance,
        }


def class_of(answer: Answer) -> str:
    """What balancing counts: two-year bands of bone age; zone, stage and plus together; the fracture class."""
    if answer["task"] == Task.BONE_AGE:
        return f"{answer['bone_age_months'] // 24 * 2} years"
    return " ".join(str(v) for k, v in answer.items() if k != "task")


def annotations_file_name(split: str) -> str:
    return f"{split}_annotations.json"
