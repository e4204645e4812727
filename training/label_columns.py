"""What the columns of a label file mean, and one row of it as a label.

Three data sets are known by their headers; any other file by columns that carry this project's own field names, or by
`--columns`, which gives them those names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.annotations import ANSWER_FIELDS
from engine.errors import AnswerRefused
from engine.findings.answers import Answer, Fracture, Task, check_answer
from training.ao_codes import Unclear, fracture_class
from training.pedirad_loader import Unusable, age_months_value, answer_value, field_at_fault, sex_value

EMPTY = {"", "na", "n/a", "nan", "null", "none given"}
YES = {"1", "1.0", "true", "yes"}
NO = {"0", "0.0", "false", "no"}

ANSWERS = tuple(name for names in ANSWER_FIELDS.values() for name in names)
OWN_FIELDS = ("file", "task", *ANSWERS, "sex", "male", "age_months", "age_years", "patient", "laterality", "site")
OWN_SPELLINGS = {"image_path": "file", "image_id": "file", "filename": "file", "file_name": "file"}


@dataclass(frozen=True)
class Columns:
    """`of`: our field -> the file's column. Data sets are named as they are in annotations."""

    dataset: Literal["rsna_bone_age", "grazpedwri_dx", "own"]
    of: dict[str, str]


# The RSNA Pediatric Bone Age Challenge 2017 names its columns anew in each of its three files. `male` is True or False.
RSNA = (
    {"file": "id", "bone_age_months": "boneage", "male": "male"},
    {"file": "image id", "bone_age_months": "bone age (months)", "male": "male"},
    {"file": "case id", "bone_age_months": "ground truth bone age (months)", "sex": "sex"},
)
# Nagy et al., Sci Data 2022;9:222; `age` is in years with decimals, the flags are 1 or empty.
GRAZ = {
    "file": "filestem",
    "patient": "patient_id",
    "sex": "gender",
    "age_years": "age",
    "laterality": "laterality",
    **{name: name for name in ("ao_classification", "diagnosis_uncertain", "fracture_visible", "cast", "metal")},
}


@dataclass(frozen=True)
class Choices:
    """What the user says about labels that are unclear without it."""

    task: Task | None = None  # of rows that name none and whose columns leave it open
    columns: dict[str, str] = field(default_factory=dict)  # our field -> the user's column
    graz_incomplete_as: Fracture | None = None
    plus_where_unsaid: str | None = None


@dataclass(frozen=True)
class RawLabel:
    """What one row, or a class folder, says of one image. Without an `answer`, `code` and `reason` say why."""

    where: str  # "labels.csv, line 12", for people
    folder: Path  # images are looked for below it
    file: str  # a path, a file's name, or its stem
    dataset: str
    answer: Answer | None = None
    code: str = ""
    reason: str = ""
    patient: str | None = None
    sex: Literal["M", "F", None] = None
    age_months: float | None = None
    laterality: Literal["L", "R", None] = None
    site: str | None = None


def columns_of(header: Sequence[str], choices: Choices) -> Columns | None:
    """None where the header names no image or no answer that we know of."""
    by_name = {name.strip().lower(): name for name in header}
    if choices.columns and all(column.lower() in by_name for column in choices.columns.values()):
        return Columns("own", {ours: by_name[column.lower()] for ours, column in choices.columns.items()})
    if {"filestem", "ao_classification", "fracture_visible"} <= by_name.keys():
        return Columns("grazpedwri_dx", {ours: by_name[name] for ours, name in GRAZ.items() if name in by_name})
    for known in RSNA:
        if set(known.values()) <= by_name.keys():
            return Columns("rsna_bone_age", {ours: by_name[name] for ours, name in known.items()})
    own = {OWN_SPELLINGS.get(name, name): name for name in by_name}
    own = {ours: by_name[name] for ours, name in own.items() if ours in OWN_FIELDS}
    return Columns("own", own) if "file" in own and own.keys() & set(ANSWERS) else None


def label_of(
    row: Mapping[str, str], columns: Columns, choices: Choices, *, where: str, folder: Path
) -> RawLabel | None:
    """The row's label; None for a row without an image. Raises Unusable for a value that cannot be what its column
    says, or an answer outside its closed set."""
    said = {ours: (row.get(column) or "").strip() for ours, column in columns.of.items()}
    said = {ours: value for ours, value in said.items() if value.lower() not in EMPTY}
    if "file" not in said:
        return None
    answer, code, reason = _answer(said, columns.dataset, choices)
    site = said.get("site") or (None if columns.dataset == "own" else columns.dataset)
    return RawLabel(
        where=where,
        folder=folder,
        file=said["file"].replace("\\", "/"),
        dataset=columns.dataset,
        answer=answer,
        code=code,
        reason=reason,
        patient=said.get("patient"),
        sex=_sex(said),
        age_months=_age_months(said),
        laterality=_laterality(said.get("laterality")),
        site=site,
    )


def checked(task: Task, said: Mapping[str, str | int]) -> Answer:
    """The answer that these fields give. Raises Unusable where it is outside the closed set."""
    answer: Answer = {"task": task.value} | {name: answer_value(name, said[name]) for name in ANSWER_FIELDS[task]}
    try:
        return check_answer(answer)
    except AnswerRefused as refused:
        raise Unusable(field_at_fault(task, answer), str(refused)) from None


def _answer(said: Mapping[str, str], dataset: str, choices: Choices) -> tuple[Answer | None, str, str]:
    """The answer, or None with a code and the reason."""
    if dataset == "grazpedwri_dx":
        flags = {name: _flag(said, name) for name in ("fracture_visible", "diagnosis_uncertain", "cast", "metal")}
        try:
            found = fracture_class(
                said.get("ao_classification", ""),
                visible=flags["fracture_visible"],
                uncertain=flags["diagnosis_uncertain"],
                cast=flags["cast"],
                metal=flags["metal"],
                incomplete_as=choices.graz_incomplete_as,
            )
        except Unclear as unclear:
            return None, "unclear_label", str(unclear)
        return checked(Task.FRACTURE, {"fracture": found.value}), "", ""
    task = _task(said, choices)
    if task is None:
        return None, "no_label", "the row gives no answer"
    values: dict[str, str | int] = {name: said[name] for name in ANSWER_FIELDS[task] if name in said}
    if task is Task.ROP and choices.plus_where_unsaid:
        values.setdefault("plus_disease", choices.plus_where_unsaid)
    missing = [name for name in ANSWER_FIELDS[task] if name not in values]
    if missing == list(ANSWER_FIELDS[task]):
        return None, "no_label", f"the row gives no {', '.join(missing)}"
    if missing:
        hint = "; --plus_where_unsaid says which it is" if missing == ["plus_disease"] else ""
        return None, "unclear_label", f"the row gives no {', '.join(missing)}{hint}"
    if task is Task.BONE_AGE:  # the mean of several readers has decimals
        values = {"bone_age_months": math.floor(_number("bone_age_months", said) + 0.5)}
    return checked(task, values), "", ""


def _task(said: Mapping[str, str], choices: Choices) -> Task | None:
    """What the row names, else what its answer's fields belong to."""
    if "task" in said:
        if said["task"] not in list(Task):
            raise Unusable("task", f"must be one of {', '.join(Task)}, found {said['task']!r}")
        return Task(said["task"])
    tasks = [task for task, names in ANSWER_FIELDS.items() if said.keys() & set(names)]
    if len(tasks) == 1:
        return tasks[0]
    if choices.task is None and len(tasks) > 1:
        raise Unusable("task", f"missing, and the row answers {' and '.join(tasks)}: give --task")
    return choices.task


def _number(name: str, said: Mapping[str, str]) -> float:
    try:
        value = float(said[name].replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Unusable(name, f"must be a number, found {said[name]!r}")
    return value


def _flag(said: Mapping[str, str], name: str) -> bool:
    value = said.get(name, "0").lower()
    if value not in YES | NO:
        raise Unusable(name, f"must be 1, 0 or empty, found {said[name]!r}")
    return value in YES


def _sex(said: Mapping[str, str]) -> Literal["M", "F", None]:
    if "male" in said:
        return "M" if _flag(said, "male") else "F"
    return sex_value(said.get("sex"))


def _age_months(said: Mapping[str, str]) -> float | None:
    for name, months in (("age_months", 1), ("age_years", 12)):
        if name in said:
            try:
                return age_months_value(round(months * _number(name, said), 1))
            except Unusable as unusable:
                raise Unusable(name, str(unusable)) from None
    return None


def _laterality(said: str | None) -> Literal["L", "R", None]:
    sides: dict[str, Literal["L", "R"]] = {"l": "L", "left": "L", "os": "L", "r": "R", "right": "R", "od": "R"}
    if said is None:
        return None
    if said.lower() not in sides:
        raise Unusable("laterality", f"must be L or R, found {said!r}")
    return sides[said.lower()]
