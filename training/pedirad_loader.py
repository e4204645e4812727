"""Read the annotations of a `pedirad-custom` or `pedirad-8k` folder.

Both layouts are understood, and mixtures of them:

    DIR/bone_age/train_annotations.json             or  DIR/bone_age/annotations/train_annotations.json
    DIR/rop_screening/train/zone_i_stage2/a.png     class folders name what a record leaves out
    DIR/annotations/train_annotations.json          one file for all tasks; images anywhere below DIR

A record that cannot be used is named with its file, its index and the field. `python -m training.pedirad_loader DIR`
counts what is there and prints what is wrong."""

from __future__ import annotations

import glob
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.annotations import ANSWER_FIELDS, SPLITS, TASK_FOLDERS, Annotation, annotations_file_name
from engine.errors import AnswerRefused, PediScreenError
from engine.findings.answers import ALLOWED, Answer, Task, check_answer

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")
MAX_AGE_MONTHS = 30 * 12

ROP_CLASS_FOLDER = re.compile(r"zone_(?P<zone>i{1,3})_stage_?(?P<stage>[0-5])(?:_(?P<plus>no_plus|preplus|plus))?")
CLASS_FOLDERS: dict[Task, dict[str, Answer]] = {
    Task.BONE_AGE: {},
    # the user's name for an eye without disease
    Task.ROP: {"normal_pupil": {"zone": "none", "stage": "0", "plus_disease": "none"}},
    Task.FRACTURE: {name: {"fracture": name} for name in ("distal_radius", "buckle", "normal")},
}


@dataclass(frozen=True)
class Problem:
    """Why a record cannot be used. `index` counts from 0; None when the file as a whole is meant."""

    file: Path
    index: int | None
    field: str
    message: str

    def __str__(self) -> str:
        record = "" if self.index is None else f", record {self.index}"
        return f"{self.file}{record}, field {self.field}: {self.message}"


class BadAnnotations(PediScreenError):
    """`problems` has every one of them; the message shows the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        shown = "\n".join(f"  {problem}" for problem in problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        super().__init__(f"{len(problems)} annotations cannot be used:\n{shown}{more}")
        self.problems = list(problems)


@dataclass(frozen=True)
class LabelledImage:
    """An annotation with the place of its image on this machine."""

    path: Path
    split: str
    annotation: Annotation


@dataclass(frozen=True)
class Loaded:
    images: list[LabelledImage]
    problems: list[Problem]


def load_split(data_dir: Path, split: str, tasks: Sequence[Task] = tuple(Task)) -> list[LabelledImage]:
    """Every labelled image of `split`, in the order of the files. Raises BadAnnotations when any record is unusable."""
    loaded = load_usable(data_dir, split, tasks)
    if loaded.problems:
        raise BadAnnotations(loaded.problems)
    return loaded.images


def load_usable(data_dir: Path, split: str, tasks: Sequence[Task] = tuple(Task)) -> Loaded:
    """Like `load_split`, but what cannot be used is returned beside what can."""
    data_dir = data_dir.resolve()
    if split not in SPLITS:
        raise BadAnnotations([Problem(data_dir, None, "split", f"must be one of {', '.join(SPLITS)}, found {split!r}")])
    images: list[LabelledImage] = []
    problems: list[Problem] = []
    seen: dict[Path, tuple[Path, int]] = {}
    sources = list(_sources(data_dir, split))
    if not sources:
        message = f"no {annotations_file_name(split)} in a task's folder or under annotations/, and no class folders"
        problems.append(Problem(data_dir, None, "-", message))
    for file, folder_task, records in sources:
        if isinstance(records, Problem):
            problems.append(records)
            continue
        for index, record in enumerate(records):
            try:
                image = _Record(data_dir, split, file, index, folder_task, record).read()
            except Unusable as unusable:
                problems.append(Problem(file, index, unusable.field, str(unusable)))
                continue
            if image.path in seen:
                first_file, first_index = seen[image.path]
                message = f"{image.path.name} was in {first_file}, record {first_index}, already"
                problems.append(Problem(file, index, "image_path", message))
                continue
            seen[image.path] = (file, index)
            if image.annotation.task in tasks:
                images.append(image)
    return Loaded(images, problems)


def _sources(data_dir: Path, split: str) -> Iterator[tuple[Path, Task | None, list[Any] | Problem]]:
    """(file, task it is for or None, its records) of every annotations file of the split; the records of class
    folders where a task has no file."""
    name = annotations_file_name(split)
    common = data_dir / "annotations" / name
    if common.is_file():
        yield common, None, _records(common)
    for task, folder in TASK_FOLDERS.items():
        candidates = [
            data_dir / folder / name,
            data_dir / folder / "annotations" / name,
            data_dir / "annotations" / folder / name,
        ]
        files = [file for file in candidates if file.is_file()]
        for file in files:
            yield file, task, _records(file)
        if not files and not common.is_file():
            records = _records_of_class_folders(data_dir / folder / split, task)
            if records:
                yield data_dir / folder / split, task, records


def _records(file: Path) -> list[Any] | Problem:
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return Problem(file, None, "-", f"cannot be read as JSON: {error}")
    if not isinstance(records, list):
        return Problem(file, None, "-", f"must hold a list of records, found {type(records).__name__}")
    return records


def _records_of_class_folders(folder: Path, task: Task) -> list[dict[str, Any]]:
    if not folder.is_dir():
        return []
    return [
        {"image_path": str(image.relative_to(folder))}
        for class_folder in sorted(folder.iterdir())
        if class_folder.is_dir() and class_label(task, class_folder.name)
        for image in sorted(class_folder.iterdir())
        if image.suffix.lower() in IMAGE_SUFFIXES
    ]


def class_label(task: Task, folder_name: str) -> Answer:
    """The answer's fields that a class folder's name says; none for a folder that is not a class."""
    name = folder_name.lower().replace("-", "_").replace(" ", "_")
    if task is Task.ROP and (match := ROP_CLASS_FOLDER.fullmatch(name)):
        label: Answer = {"zone": match["zone"].upper(), "stage": match["stage"]}
        if match["plus"]:
            label["plus_disease"] = "none" if match["plus"] == "no_plus" else match["plus"]
        return label
    return dict(CLASS_FOLDERS[task].get(name, {}))


class Unusable(ValueError):
    """What a record or a row says cannot be used; `field` is the one at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class _Record:
    data_dir: Path
    split: str
    file: Path
    index: int
    folder_task: Task | None
    record: Any

    def read(self) -> LabelledImage:
        if not isinstance(self.record, dict):
            raise Unusable("-", f"must be an object, found {type(self.record).__name__}")
        path = self.image()
        task = self.task(path)
        annotation = Annotation(
            image_path=self.record.get("image_path") or path.relative_to(self.data_dir).as_posix(),
            answer=self.answer(task, path),
            sex=sex_value(self.record.get("sex")),
            age_months=age_months_value(self.record.get("age_months")),
            provenance={
                name: value
                for name, value in self.record.items()
                if name not in ("image_path", "task", *ANSWER_FIELDS[task], "sex", "age_months")
            },
        )
        return LabelledImage(path, self.split, annotation)

    def image(self) -> Path:
        """The image's place, always inside the data folder."""
        field = "image_path" if self.record.get("image_path") else "image_id"
        name = self.record.get(field)
        if isinstance(name, int) and field == "image_id":
            name = str(name)
        if not isinstance(name, str) or not name:
            raise Unusable("image_path", "missing, and there is no image_id")
        names = [name] if field == "image_path" else [name, *(name + suffix for suffix in IMAGE_SUFFIXES)]
        for folder in self.image_folders():
            for candidate in names:
                path = (folder / candidate).resolve()
                if not path.is_relative_to(self.data_dir):
                    raise Unusable(field, f"{name!r} leads out of the data folder")
                if path.is_file():
                    return path
        if field == "image_id":
            for folder in self.image_folders():
                for suffix in IMAGE_SUFFIXES:
                    in_classes = sorted(folder.glob(f"*/{glob.escape(name)}{suffix}"))
                    if len(in_classes) == 1:
                        return in_classes[0]
        raise Unusable(field, f"there is no image {name!r}")

    def image_folders(self) -> list[Path]:
        folders = [TASK_FOLDERS[self.folder_task]] if self.folder_task else list(TASK_FOLDERS.values())
        candidates = [self.file if self.file.is_dir() else self.file.parent]
        for folder in folders:
            candidates += [self.data_dir / folder, self.data_dir / folder / self.split]
        return [*candidates, self.data_dir, self.data_dir / "images", self.data_dir / self.split]

    def task(self, path: Path) -> Task:
        """What the record says, else the task's folder the image lies in."""
        said = self.record.get("task")
        if said is not None:
            if said not in list(Task):
                raise Unusable("task", f"must be one of {', '.join(Task)}, found {said!r}")
            if self.folder_task is not None and said != self.folder_task:
                raise Unusable("task", f"is {said}, but the file is for {self.folder_task}")
            return Task(said)
        parts = path.relative_to(self.data_dir).parts
        task = self.folder_task or next((task for task, name in TASK_FOLDERS.items() if name in parts), None)
        if task is None:
            raise Unusable("task", "missing, and the image lies in no task's folder")
        return task

    def answer(self, task: Task, path: Path) -> Answer:
        """The record's label; fields it leaves out come from the class folder its image lies in."""
        folder = path.parent.name
        of_folder = class_label(task, folder)
        answer: Answer = {"task": task.value}
        for field in ANSWER_FIELDS[task]:
            said = self.record.get(field)
            value = of_folder.get(field) if said is None else answer_value(field, said)
            if value is None:
                hint = f"; the folder {folder} says only {', '.join(of_folder)}" if of_folder else ""
                raise Unusable(field, f"missing{hint}")
            if field in of_folder and value != of_folder[field]:
                raise Unusable(field, f"is {value!r}, but the image lies in the class folder {folder}")
            answer[field] = value
        try:
            return check_answer(answer)
        except AnswerRefused as refused:
            raise Unusable(field_at_fault(task, answer), str(refused)) from None


def answer_value(field: str, said: Any) -> str | int:
    """The value in the words of the answer set, as far as its meaning is beyond doubt."""
    if field == "bone_age_months":
        if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said) or said != int(said):
            raise Unusable(field, f"must be a whole number of months, found {said!r}")
        return int(said)
    if isinstance(said, bool) or not isinstance(said, str | int):
        raise Unusable(field, f"must be text, found {said!r}")
    text = str(said).strip()
    if field == "zone":
        return {"1": "I", "2": "II", "3": "III"}.get(text, "none" if text.lower() == "none" else text.upper())
    return {"pre_plus": "preplus"}.get(name := text.lower().replace("-", "_"), name)


def field_at_fault(task: Task, answer: Answer) -> str:
    """The first field whose value no allowed answer has; the last one when only the combination is wrong."""
    for field in ANSWER_FIELDS[task]:
        if answer[field] not in {allowed[field] for allowed in ALLOWED[task]}:
            return field
    return ANSWER_FIELDS[task][-1]


def sex_value(said: Any) -> Any:
    if said is None or said == "":
        return None
    sex = {"m": "M", "male": "M", "f": "F", "female": "F"}.get(said.strip().lower()) if isinstance(said, str) else None
    if sex is None:
        raise Unusable("sex", f"must be M, F or null (unknown), found {said!r}")
    return sex


def age_months_value(said: Any) -> float | None:
    if said is None:
        return None
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= MAX_AGE_MONTHS:
        raise Unusable("age_months", f"must be a number of months from 0 to {MAX_AGE_MONTHS} or null, found {said!r}")
    return said


def main(data_dir: Path) -> int:
    problems: list[Problem] = []
    for split in SPLITS:
        loaded = load_usable(data_dir, split)
        counts = Counter(image.annotation.task for image in loaded.images)
        print(f"{split}: " + (", ".join(f"{count} {task}" for task, count in sorted(counts.items())) or "nothing"))
        problems += loaded.problems
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
