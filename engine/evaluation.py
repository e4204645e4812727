"""The model in use against known answers: fresh phantoms, or a folder of annotated images.

`engine.evaluation_figures` makes the figures; here images are read and results put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from engine.annotations import Annotation
from engine.evaluation_figures import MIN_GROUP_PATIENTS, Outcome, figures, task_result
from engine.findings.answers import TASK_OF_VIEW, Answer, Task, View
from engine.imaging.preprocess import model_image_of, model_images_of
from engine.inference.read import ReadContext
from engine.inference.reader import VIEW_OF_TASK, Reader
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from engine.phantoms.write import FILM_SCALE, day_for, patient_for, write_dicom
from engine.radiology_metrics import CONFIDENCE, RESAMPLES
from engine.subgroups import AGE_BANDS, ROP_AGE_BANDS

__all__ = ["as_text", "evaluate_images", "evaluate_phantoms", "figures", "outcomes_of", "result_of"]

BATCH = 32
ALL_TASKS = tuple(TASK_OF_VIEW.values())
Progress = Callable[[Task, int], None]


@dataclass(frozen=True)
class Case:
    image: Image.Image
    context: ReadContext
    answer: Answer
    name: str = ""
    site: str | None = None
    patient: str | None = None


def evaluate_phantoms(
    reader: Reader,
    tasks: Sequence[Task],
    count: int,
    *,
    site: str = "A",
    first_seed: int = seeds.TEST,
    progress: Progress = lambda task, done: None,
) -> dict[str, Any]:
    """`count` phantoms a task from seeds no model was trained or chosen on, each written as DICOM and read back."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:

        def cases(task: Task) -> Iterator[Case]:
            for start in range(0, count, BATCH):  # by the batch: drawn ahead of the reads they would fill the memory
                seeds_ = range(first_seed + start, first_seed + min(start + BATCH, count))
                yield from pool.map(phantom_case, [(VIEW_OF_TASK[task].value, seed, site) for seed in seeds_])

        outcomes = {task: _read(reader, task, cases(task), progress) for task in tasks}
    return result_of(outcomes, reader.model_version, data=f"phantoms, site {site}", phantom=True)


def evaluate_images(
    reader: Reader,
    images: Sequence[tuple[Path, Annotation]],
    tasks: Sequence[Task],
    *,
    data: str,
    progress: Progress = lambda task, done: None,
) -> dict[str, Any]:
    """Image files with their annotations; `data` says in the result what they are.

    Raises FileRefused for an image that cannot be read."""
    outcomes = outcomes_of(reader, images, tasks, progress)
    phantom = reader.is_phantom or any(label.provenance.get("phantom") for _, label in images)
    return result_of(outcomes, reader.model_version, data=data, phantom=phantom)


def outcomes_of(
    reader: Reader,
    images: Sequence[tuple[Path, Annotation]],
    tasks: Sequence[Task],
    progress: Progress = lambda task, done: None,
) -> dict[Task, list[Outcome]]:
    found = {}
    for task in tasks:
        of_task = [(path, label) for path, label in images if label.task == task]
        cases = (
            Case(
                image,
                ReadContext(label.sex, label.age_months),
                label.answer,
                label.image_path,
                _key(label, "site"),
                _key(label, "patient"),
            )
            for image, (_, label) in zip(model_images_of([path for path, _ in of_task]), of_task, strict=True)
        )
        found[task] = _read(reader, task, cases, progress)
    return found


def result_of(
    outcomes: Mapping[Task, Sequence[Outcome]], model_version: str, *, data: str, phantom: bool
) -> dict[str, Any]:
    """The evaluation as JSON: each task's result, and how it came about. `phantom`: images or model are phantoms."""
    found = {
        task.value: task_result(task, seen) | {"milliseconds": _median([o.read.milliseconds for o in seen])}
        for task, seen in outcomes.items()
    }
    return found | {
        "model_version": model_version,
        "data": data,
        "phantom": phantom,
        "date": datetime.now(UTC).date().isoformat(),
        "method": {
            "confidence": CONFIDENCE,
            "bootstrap_samples": RESAMPLES,
            "drawn": {task.value: _drawn(seen) for task, seen in outcomes.items()},
            "least_patients_of_a_group": MIN_GROUP_PATIENTS,
            "age_bands_from_months": {
                "rop": {name: start for start, name in ROP_AGE_BANDS},
                "others": {name: start for start, name in AGE_BANDS},
            },
        },
    }


def as_text(results: dict[str, Any]) -> str:
    """The results for people: one line a figure."""
    lines = [f"{results['model_version']} on {results['data']}"]
    for task in ALL_TASKS:
        if task not in results:
            continue
        found = results[task]
        lines.append(f"{task}: {found['n_read']} of {found['n']} read, {found['milliseconds']} ms an image")
        for name, figure in found.items():
            if isinstance(figure, dict) and "value" in figure:
                value = "undefined" if figure["value"] is None else f"{figure['value']:.3f}"
                spread = "" if figure["low"] is None else f"  ({figure['low']:.3f} to {figure['high']:.3f})"
                lines.append(f"  {name:28} {value}{spread}")
    return "\n".join(lines)


def _read(reader: Reader, task: Task, cases: Iterable[Case], progress: Progress) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for batch in _batches(iter(cases), BATCH):
        reads = reader.read([case.image for case in batch], task, [case.context for case in batch])
        outcomes += [
            Outcome(c.answer, r, c.name, c.context.sex, c.context.age_months, c.site, c.patient)
            for c, r in zip(batch, reads, strict=True)
        ]
        progress(task, len(outcomes))
    return outcomes


def _key(label: Annotation, name: str) -> str | None:
    said = label.provenance.get(name)
    return None if said in (None, "") else str(said)


def _drawn(outcomes: Sequence[Outcome]) -> str:
    """What a bootstrap sample is drawn from, in words."""
    patients, without = len({o.patient for o in outcomes if o.patient}), sum(not o.patient for o in outcomes)
    if not patients:
        return "images; no annotation names a patient, so intervals are too narrow if children have several images"
    return f"patients ({patients})" + (f" and images without a patient ({without})" if without else "")


def phantom_case(job: tuple[str, int, str]) -> Case:
    """(view, seed, site): drawn, written as DICOM, loaded as ingest loads it."""
    view, seed, site = View(job[0]), job[1], job[2]
    phantom = DRAW[view](seed, site=site, film_scale=FILM_SCALE)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.dcm"
        write_dicom(phantom, path, patient=patient_for(phantom), acquired_on=day_for(phantom))
        image = model_image_of(path)
    context = ReadContext(phantom.sex, phantom.age_months)
    return Case(image, context, phantom.answer, f"{view}, seed {seed}", site, f"{view}-{seed}")


def _batches(items: Iterator[Case], size: int) -> Iterator[list[Case]]:
    while batch := list(islice(items, size)):
        yield batch


def _median(values: list[float]) -> float | None:
    return round(float(np.median(values)), 1) if values else None
