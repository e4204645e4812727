"""Two models on the same cases, for the gate (engine.promotion_gate).

    python -m training.compare_models --model_in_use M --candidate C --data_dir DATASET --output_dir R

Reads the snapshot's locked test set, every other case a reader corrected, and, where the models are phantom models,
reference phantoms of site A. Writes R/comparison.json and R/worse/ (the pictures of cases that got worse), whole or not
at all; run again, it replaces them. Progress as JSON lines on standard output: {"done": 120, "of": 700}."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, groupby, islice, product
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import HfArgumentParser

from engine.annotations import SPLITS, Annotation
from engine.errors import PediScreenError, Refused
from engine.findings.answers import TASK_OF_VIEW, Task, View
from engine.imaging.preprocess import stored_model_image
from engine.inference.checkpoint import load_reader
from engine.inference.read import Read, ReadContext
from engine.inference.reader import IMAGES_AT_ONCE, Reader
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from engine.promotion_gate import error_of, got_worse
from engine.services.annotation_folder import whole_or_not_at_all, write_json
from engine.services.training_set import ABOUT_FILE
from training.pedirad_loader import load_split

COMPARISON_FILE, WORSE_FOLDER = "comparison.json", "worse"
FORMAT = {"format": "pediscreen-comparison", "format_version": 1}

# Enough of each that harm of the gate's margin is ruled out when there is none, and hardly ever let through when there
# is (tests/benchmarks/gate_power.py).
REFERENCE_COUNTS = {View.HAND: 150, View.FUNDUS: 150, View.WRIST: 100}
REFERENCE_SITE = "A"
TRIAGED = 20  # of each: both are also asked which view it is

BATCH = 16
PICTURE_SIDE_PX = 900  # of the kept pictures
LEAST_PROBABILITY = 1e-3  # smaller ones are left out of the file


@dataclass(frozen=True)
class ComparisonConfig:
    model_in_use: str = field(metadata={"help": "phantom, a hub name or a folder"})
    candidate: str = field(metadata={"help": "the same; or its base, with --candidate_adapter"})
    data_dir: Path = field(metadata={"help": "a snapshot of reviews (engine.services.training_set)"})
    output_dir: Path = field(metadata={"help": "where comparison.json and worse/ go"})
    in_use_adapter: Path | None = field(default=None, metadata={"help": "a lora/ folder for the model in use"})
    candidate_adapter: Path | None = field(default=None, metadata={"help": "a lora/ folder for the candidate"})


@dataclass(frozen=True)
class Case:
    """`picture` opens or draws what both models are shown."""

    case_id: str
    image_path: str | None  # within data_dir; None for a drawn phantom
    task: Task
    set: str  # locked_test, replay, reference
    corrected: bool
    trained_on: bool
    patient: str
    site: str | None
    label: Annotation
    picture: Callable[[], Image.Image]
    is_triaged: bool = False


def main(config: ComparisonConfig) -> dict[str, Any]:
    """Raises Refused, BadAnnotations, ModelUnavailable."""
    about = read_about(config.data_dir)
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    readers = (
        load_reader(config.model_in_use, config.in_use_adapter),
        load_reader(config.candidate, config.candidate_adapter),
    )
    cases = list(cases_of(config.data_dir))
    drawn = REFERENCE_COUNTS if all(reader.is_phantom for reader in readers) else {}
    total = len(cases) + sum(drawn.values())
    if not total:
        raise Refused("nothing_to_compare", f"{config.data_dir} has neither test cases nor corrections.")
    with whole_or_not_at_all(config.output_dir.absolute(), COMPARISON_FILE, FORMAT["format"]) as folder:
        records: list[dict[str, Any]] = []
        report(0, total)
        is_one_tower = None
        for batch, pictures in with_pictures(batches(chain(cases, reference_cases(drawn)))):
            images = [picture.convert("RGB") for picture in pictures]
            if is_one_tower is None:
                is_one_tower = see_alike(readers, images)
            both = read_by_both(readers, batch, images, is_one_tower)
            found = [record_of(folder, *each) for each in zip(batch, pictures, *both, strict=True)]
            records += with_views(readers, batch, images, found)
            report(len(records), total)
        result = {
            **FORMAT,
            "data_set_sha256": about["sha256"],
            "tasks": about["tasks"],
            "phantom": bool(about["phantom"] or any(reader.is_phantom for reader in readers)),
            "in_use": {"model_version": readers[0].model_version},
            "candidate": {"model_version": readers[1].model_version},
            "cases": records,
        }
        write_json(folder / COMPARISON_FILE, result)
    return result


def read_about(data_dir: Path) -> dict[str, Any]:
    try:
        about = json.loads((data_dir / ABOUT_FILE).read_text(encoding="utf-8"))
        return {name: about[name] for name in ("sha256", "tasks", "phantom")}
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(
            "not_a_snapshot", f"{data_dir} is no snapshot of reviews: it has no usable {ABOUT_FILE}."
        ) from None


def cases_of(data_dir: Path) -> Iterator[Case]:
    """The locked test set, and whatever else a reader corrected."""
    for split, task in product(SPLITS, Task):
        for item in load_split(data_dir, split, (task,)):
            label = item.annotation
            corrected = label.provenance.get("verdict") == "corrected"
            if split != "test" and not corrected:
                continue
            image_path = item.path.relative_to(data_dir.resolve()).as_posix()
            yield Case(
                case_id=image_path,
                image_path=image_path,
                task=label.task,
                set="locked_test" if split == "test" else "replay",
                corrected=corrected,
                trained_on=split != "test",
                patient=label.provenance.get("patient") or image_path,
                site=label.provenance.get("site"),
                label=label,
                picture=lambda path=item.path: open_picture(path),
            )


def reference_cases(counts: Mapping[View, int]) -> Iterator[Case]:
    """Drawn one by one as they are asked for: all of them together would fill the memory."""
    for view, count in counts.items():
        for seed in range(seeds.REFERENCE, seeds.REFERENCE + count):
            phantom = DRAW[view](seed, site=REFERENCE_SITE)
            yield Case(
                case_id=f"reference/{view}-{seed}",
                image_path=None,
                task=TASK_OF_VIEW[view],
                set="reference",
                corrected=False,
                trained_on=False,
                patient=f"PH-{view}-{seed}",
                site=REFERENCE_SITE,
                label=Annotation("", phantom.answer, phantom.sex, round(phantom.age_months, 2)),
                picture=lambda drawn=phantom: stored_model_image(drawn.film()),
                is_triaged=seed < seeds.REFERENCE + TRIAGED,
            )


def open_picture(path: Path) -> Image.Image:
    """A picture of the snapshot, which we wrote: no decoder in a process of its own is needed."""
    with Image.open(path) as picture:
        return picture.copy()


def batches(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """Of one task each, in order."""
    for _, of_task in groupby(cases, key=lambda case: case.task):
        while batch := list(islice(of_task, BATCH)):
            yield batch


def with_pictures(found: Iterator[list[Case]]) -> Iterator[tuple[list[Case], list[Image.Image]]]:
    """Each batch with what both models are shown; that is opened or drawn while the batch before it is read."""
    shown = ((batch, [case.picture() for case in batch]) for batch in found)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, shown, None)
        while (ready := coming.result()) is not None:
            coming = pool.submit(next, shown, None)
            yield ready


def see_alike(readers: tuple[Reader, Reader], images: Sequence[Image.Image]) -> bool:
    """Whether both have the same vision tower, to the last bit of what it says of `images`."""
    in_use, candidate = image_tokens(readers, [images, images])
    return in_use.shape == candidate.shape and torch.equal(in_use, candidate)


def read_by_both(
    readers: tuple[Reader, Reader], batch: Sequence[Case], images: Sequence[Image.Image], is_one_tower: bool
) -> tuple[list[Read], list[Read]]:
    """Each in a thread of its own: on two cores that is faster than one after the other. What one tower sees is
    computed once, half by either."""
    task = batch[0].task
    contexts = [ReadContext(case.label.sex, case.label.age_months) for case in batch]
    half = -(-len(images) // 2)
    tokens = torch.cat(image_tokens(readers, [images[:half], images[half:]])) if is_one_tower else None

    def read(reader: Reader) -> list[Read]:
        return reader.read(images, task, contexts) if tokens is None else reader.read_tokens(tokens, task, contexts)

    with ThreadPoolExecutor(2) as pool:
        in_use, candidate = pool.map(read, readers)
        return in_use, candidate


def with_views(
    readers: tuple[Reader, Reader], batch: Sequence[Case], images: Sequence[Image.Image], records: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """`records` with what each model says that the triaged cases show, where both were trained to tell."""
    triaged = [i for i, case in enumerate(batch) if case.is_triaged]
    if triaged and all(reader.knows_triage for reader in readers):
        for name, reader in zip(("in_use", "candidate"), readers, strict=True):
            for i, (view, _) in zip(triaged, reader.triage([images[i] for i in triaged]), strict=True):
                records[i][name]["view"] = view.value
    return records


def image_tokens(readers: tuple[Reader, Reader], parts: Sequence[Sequence[Image.Image]]) -> list[torch.Tensor]:
    """Of the first part by the first reader, of the second by the second; a part may be empty."""

    @torch.inference_mode()
    def tokens(reader: Reader, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        starts = range(0, len(images), IMAGES_AT_ONCE)
        return [reader.image_tokens(images[start : start + IMAGES_AT_ONCE]) for start in starts]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(tokens, readers, parts))
    return [torch.cat(part) for part in found if part]


def report(done: int, of: int) -> None:
    print(json.dumps({"done": done, "of": of}), flush=True)


def record_of(folder: Path, case: Case, picture: Image.Image, in_use: Read, candidate: Read) -> dict[str, Any]:
    """One case of comparison.json; keeps its picture in `folder` where it got worse."""
    errors = [error_of(case.label.answer, read.answer) for read in (in_use, candidate)]
    record: dict[str, Any] = {
        "id": case.case_id,
        "image_path": case.image_path,
        "task": case.task.value,
        "set": case.set,
        "corrected": case.corrected,
        "trained_on": case.trained_on,
        "patient": case.patient,
        "site": case.site,
        "sex": case.label.sex,
        "age_months": case.label.age_months,
        "truth": case.label.answer,
        "in_use": read_record(in_use, errors[0]),
        "candidate": read_record(candidate, errors[1]),
    }
    if got_worse(case.task, *errors):
        name = case.case_id.replace("/", "-").removesuffix(".png")
        picture.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX))
        (folder / WORSE_FOLDER).mkdir(exist_ok=True)
        picture.save(folder / WORSE_FOLDER / f"{name}.png")
        record["picture"] = f"{WORSE_FOLDER}/{name}.png"
    return record


def read_record(read: Read, error: float) -> dict[str, Any]:
    return {
        "answer": read.answer,
        "interval_months": read.interval_months,
        "probabilities": rounded(read.probabilities),
        "reason": read.reason,
        "error": round(error, 4),
    }


def rounded(probabilities: dict[str, Any]) -> dict[str, Any]:
    return {
        name: rounded(p) if isinstance(p, dict) else round(p, 4)
        for name, p in probabilities.items()
        if isinstance(p, dict) or p >= LEAST_PROBABILITY
    }


if __name__ == "__main__":
    (settings,) = HfArgumentParser(ComparisonConfig).parse_args_into_dataclasses(look_for_args_file=False)
    try:
        main(settings)
    except PediScreenError as error:
        print(f"compare_models: {error}", file=sys.stderr)
        sys.exit(1)
