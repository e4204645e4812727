"""Step 4 of 4: a model against annotated images.

    python -m training.evaluate_radiology --model ./models/medgemma-4b-radiology-prod --data_dir ./pedirad-custom

Reads a pedirad-custom or pedirad-8k folder; prints the JSON of `pediscreen evaluate` (with --no_json a table for
people). `--output_dir R` also writes R/evaluation.json and R/report.html, whole or not at all. Images the model gives
no read for are counted, and are in no other figure."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm
from transformers import HfArgumentParser

from engine import evaluation
from engine.annotations import ANSWER_FIELDS, SPLITS
from engine.errors import FileRefused, PediScreenError
from engine.evaluation_figures import Outcome
from engine.findings.answers import Task
from engine.imaging.load import MAX_PROCESSES, load_film
from engine.inference.checkpoint import load_reader
from engine.inference.reader import Reader
from training.evaluation_report import as_html
from training.pedirad_loader import LabelledImage, load_split, load_usable

EVALUATION, REPORT = "evaluation.json", "report.html"
UNFINISHED = ".evaluation-"  # a run that was killed leaves a folder of this name
NAMED_AT_ONCE = 10
SPACE = 20e6  # a report of three tasks has a fifth of a megabyte


class EvaluationRefused(PediScreenError):
    """Something that would make the evaluation fail or say nothing, found before the model is loaded."""


@dataclass(frozen=True)
class EvaluationConfig:
    data_dir: Path = field(metadata={"help": "a pedirad-custom or pedirad-8k folder"})
    model: str = field(default="phantom", metadata={"help": "phantom, a hub name or a folder"})
    adapter_path: Path | None = field(default=None, metadata={"help": "a lora/ folder for that model"})
    split: Literal["train", "val", "test"] = field(default="test", metadata={"help": "which images"})
    task: list[str] = field(
        default_factory=list, metadata={"help": "bone_age, rop, fracture; default: those the split has images of"}
    )
    output_dir: Path | None = field(default=None, metadata={"help": f"also write {EVALUATION} and {REPORT} here"})
    allow_absent_classes: bool = field(
        default=False, metadata={"help": "evaluate although the split lacks a class; figures that need it stay empty"}
    )
    json: bool = field(default=True, metadata={"help": "print JSON; --no_json prints a table"})


def main(config: EvaluationConfig) -> dict[str, Any]:
    """Raises EvaluationRefused, BadAnnotations for records that cannot be used, ModelUnavailable."""
    if config.output_dir is not None:
        check_output_dir(config.output_dir)
    images = chosen_images(config)
    notes = absent_classes(config.data_dir, config.split, images)
    if notes and not config.allow_absent_classes:
        raise EvaluationRefused(
            f"{config.data_dir}, split {config.split}: {'; '.join(notes)}. Figures would be missing: make another "
            "split, or pass --allow_absent_classes."
        )
    check_readable(images)
    reader = load_reader(config.model, config.adapter_path)
    outcomes = read(reader, images)
    result = evaluation.result_of(
        outcomes,
        reader.model_version,
        data=f"{config.data_dir} {config.split}",
        phantom=reader.is_phantom or any(image.annotation.provenance.get("phantom") for image in images),
    )
    result["notes"] = notes
    if config.output_dir is not None:
        write(config.output_dir, {EVALUATION: as_json(result), REPORT: as_html(result, outcomes)})
    return result


def read(reader: Reader, images: Sequence[LabelledImage]) -> dict[Task, list[Outcome]]:
    tasks = [task for task in Task if any(image.annotation.task is task for image in images)]
    with tqdm(total=len(images), desc="read", unit="image", disable=None) as bar:
        done: Counter[Task] = Counter()

        def progress(task: Task, of_task: int) -> None:
            done[task] = of_task
            bar.update(done.total() - bar.n)

        return evaluation.outcomes_of(reader, [(i.path, i.annotation) for i in images], tasks, progress)


# --- before the model is loaded ---


def check_output_dir(output_dir: Path) -> None:
    if output_dir.exists() and not output_dir.is_dir():
        raise EvaluationRefused(f"--output_dir {output_dir} is a file; name a folder.")
    ours = (EVALUATION, REPORT)
    others = sorted(p.name for p in output_dir.glob("*") if p.name not in ours and not p.name.startswith(UNFINISHED))
    if others:
        raise EvaluationRefused(
            f"--output_dir {output_dir} holds something other than an evaluation ({others[0]}); name an empty or a "
            "new folder."
        )
    place = next(folder for folder in (output_dir, *output_dir.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=place):
            pass
    except OSError as error:
        raise EvaluationRefused(f"--output_dir {output_dir} cannot be written to: {error.strerror}.") from error
    free = shutil.disk_usage(place).free
    if free < SPACE:
        raise EvaluationRefused(f"{place} has {free / 1e6:.0f} MB left; the report needs up to {SPACE / 1e6:.0f} MB.")


def chosen_images(config: EvaluationConfig) -> list[LabelledImage]:
    unknown = [task for task in config.task if task not in list(Task)]
    if unknown:
        raise EvaluationRefused(f"--task {unknown[0]!r} is not one of {', '.join(Task)}.")
    if not config.data_dir.is_dir():
        raise EvaluationRefused(f"There is no data folder {config.data_dir}.")
    images = load_split(config.data_dir, config.split, [Task(task) for task in config.task or Task])
    found = {image.annotation.task for image in images}
    missing = [task for task in config.task if task not in found]
    if missing or not images:
        of_tasks = f" of {', '.join(missing)}" if missing else ""
        raise EvaluationRefused(f"{config.data_dir} has no {config.split} images{of_tasks}.")
    return images


def absent_classes(data_dir: Path, split: str, images: Sequence[LabelledImage]) -> list[str]:
    """In words: classes that another split has and this one lacks, and fields whose label is the same throughout. Not
    for bone age, where neighbours stand in."""
    here, elsewhere = classes(images), {s: classes(load_usable(data_dir, s).images) for s in SPLITS if s != split}
    notes = []
    for (task, name), labels in here.items():
        field_ = name if name == task else f"{task} {name}"
        for other, found in elsewhere.items():
            notes += [
                f"{field_} {label} is in {other} only" for label in sorted(found.get((task, name), set()) - labels)
            ]
        if len(labels) == 1:
            notes.append(f"every image has {field_} {next(iter(labels))}")
    return list(dict.fromkeys(notes))


def classes(images: Sequence[LabelledImage]) -> dict[tuple[Task, str], set[str]]:
    found: dict[tuple[Task, str], set[str]] = {}
    for image in images:
        task = image.annotation.task
        for name in () if task is Task.BONE_AGE else ANSWER_FIELDS[task]:
            found.setdefault((task, name), set()).add(str(image.annotation.answer[name]))
    return found


def check_readable(images: Sequence[LabelledImage]) -> None:
    """Decodes every image: a damaged one should not end the run when half of them are read."""
    with ThreadPoolExecutor(MAX_PROCESSES) as pool:
        problems = list(
            tqdm(pool.map(problem_with, images), total=len(images), desc="check", unit="image", disable=None)
        )
    unreadable = [f"{image.path}: {problem}" for image, problem in zip(images, problems, strict=True) if problem]
    if unreadable:
        more = f" (and {len(unreadable) - NAMED_AT_ONCE} more)" if len(unreadable) > NAMED_AT_ONCE else ""
        raise EvaluationRefused(
            f"{len(unreadable)} of {len(images)} images cannot be read: {'; '.join(unreadable[:NAMED_AT_ONCE])}{more}"
        )


def problem_with(image: LabelledImage) -> str | None:
    try:
        load_film(image.path)
    except FileRefused as refused:
        return str(refused)
    return None


# --- afterwards ---


def as_json(result: dict[str, Any]) -> str:
    return json.dumps(result, indent=2, allow_nan=False) + "\n"


def write(output_dir: Path, texts: dict[str, str]) -> None:
    """Every file under another name first, so that none appears half-written."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=output_dir) as unfinished:
            for name, text in texts.items():
                (Path(unfinished) / name).write_text(text, encoding="utf-8")
            for name in texts:
                (Path(unfinished) / name).replace(output_dir / name)
    except OSError as error:
        raise EvaluationRefused(f"--output_dir {output_dir} cannot be written to: {error.strerror}.") from error


if __name__ == "__main__":
    (settings,) = HfArgumentParser(EvaluationConfig).parse_args_into_dataclasses(look_for_args_file=False)
    try:
        result = main(settings)
    except PediScreenError as error:
        print(f"evaluate_radiology: {error}", file=sys.stderr)
        sys.exit(1)
    sys.stdout.write(as_json(result) if settings.json else evaluation.as_text(result) + "\n")
