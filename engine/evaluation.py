"""The model in use against known answers: fresh phantoms, or a folder of annotated images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from engine.annotations import Annotation
from engine.findings.answers import TASK_OF_VIEW, Answer, Fracture, Plus, Stage, Task, View, Zone
from engine.imaging.display import display_pixels
from engine.imaging.load import load_film
from engine.imaging.preprocess import model_image
from engine.inference.read import Read, ReadContext
from engine.inference.reader import VIEW_OF_TASK, Reader
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from engine.phantoms.write import FILM_SCALE, day_for, patient_for, write_dicom
from engine.radiology_metrics import RadiologyMetrics, binary_auc, bootstrap, macro_auc

BATCH = 32
METRICS = RadiologyMetrics()
ALL_TASKS = tuple(TASK_OF_VIEW.values())


@dataclass(frozen=True)
class Case:
    image: Image.Image
    context: ReadContext
    answer: Answer


def evaluate_phantoms(
    reader: Reader,
    tasks: Sequence[Task],
    count: int,
    *,
    site: str = "A",
    first_seed: int = seeds.TEST,
    progress: Callable[[Task, int], None] = lambda task, done: None,
) -> dict[str, Any]:
    """`count` phantoms a task from seeds no model was trained or chosen on, each written as DICOM and read back."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:

        def cases(task: Task) -> Iterator[Case]:
            for start in range(0, count, BATCH):  # by the batch: drawn ahead of the reads they would fill the memory
                seeds_ = range(first_seed + start, first_seed + min(start + BATCH, count))
                yield from pool.map(_phantom_case, [(VIEW_OF_TASK[task].value, seed, site) for seed in seeds_])

        results = {task: _evaluate(reader, task, cases(task), progress) for task in tasks}
    return results | {"model_version": reader.model_version, "data": f"phantoms, site {site}", "phantom": True}


def evaluate_images(
    reader: Reader, images: Sequence[tuple[Path, Annotation]], tasks: Sequence[Task], *, data: str
) -> dict[str, Any]:
    """Image files with their annotations; `data` says in the result what they are."""
    results = {}
    for task in tasks:
        cases = (
            Case(_model_image(path), ReadContext(label.sex, label.age_months), label.answer)
            for path, label in images
            if label.task == task
        )
        results[task] = _evaluate(reader, task, cases, lambda task, done: None)
    return results | {
        "model_version": reader.model_version,
        "data": data,
        "phantom": reader.is_phantom,
    }


def figures(task: Task, truth: Sequence[Answer], reads: Sequence[Read]) -> dict[str, Any]:
    """The task's figures over the images that got a read, each with its interval; `n` counts all images."""
    pairs = [(t, r) for t, r in zip(truth, reads, strict=True) if not r.abstained]
    summary: dict[str, Any] = {"n": len(truth), "n_read": len(pairs), "no_read_share": _share(len(truth), len(pairs))}
    by_task = {Task.BONE_AGE: _bone_age, Task.ROP: _rop, Task.FRACTURE: _fracture}
    found = by_task[task]([t for t, _ in pairs], [r for _, r in pairs])
    return summary | {name: bootstrap(figure, len(pairs)).as_json() for name, figure in found.items()}


def as_text(results: dict[str, Any]) -> str:
    """The results for people: one line a figure."""
    lines = [f"{results['model_version']} on {results['data']}"]
    for task in ALL_TASKS:
        if task not in results:
            continue
        found = results[task]
        lines.append(f"{task}: {found['n_read']} of {found['n']} read, {found['milliseconds']} ms an image")
        for name, figure in found.items():
            if isinstance(figure, dict):
                value = "undefined" if figure["value"] is None else f"{figure['value']:.3f}"
                spread = "" if figure["low"] is None else f"  ({figure['low']:.3f} to {figure['high']:.3f})"
                lines.append(f"  {name:28} {value}{spread}")
    return "\n".join(lines)


def _evaluate(reader: Reader, task: Task, cases: Iterable[Case], progress) -> dict[str, Any]:
    truth: list[Answer] = []
    reads: list[Read] = []
    for batch in _batches(iter(cases), BATCH):
        truth += [case.answer for case in batch]
        reads += reader.read([case.image for case in batch], task, [case.context for case in batch])
        progress(task, len(reads))
    return figures(task, truth, reads) | {"milliseconds": _median([r.milliseconds for r in reads])}


def _bone_age(truth: list[Answer], reads: list[Read]) -> dict[str, Callable]:
    label = np.array([t["bone_age_months"] for t in truth], float)
    said = np.array([r.median_months for r in reads], float)
    low, high = np.array([r.interval_months for r in reads], float).reshape(-1, 2).T
    intervals = np.stack([low, high], 1)

    def limit(side: int) -> Callable:
        return lambda i: METRICS.bone_age_limits_of_agreement(said[i], label[i])[side] if len(i) > 1 else None

    return {
        "mae_months": lambda i: METRICS.bone_age_mae(said[i], label[i]),
        "within_2_months": lambda i: METRICS.bone_age_within_months(said[i], label[i], 2.0),
        "bias_months": lambda i: METRICS.bone_age_bias(said[i], label[i]),
        "rmse_months": lambda i: METRICS.bone_age_rmse(said[i], label[i]),
        "within_6_months": lambda i: METRICS.bone_age_within_months(said[i], label[i], 6.0),
        "within_12_months": lambda i: METRICS.bone_age_within_months(said[i], label[i], 12.0),
        "lower_limit_of_agreement_months": limit(0),
        "upper_limit_of_agreement_months": limit(1),
        "interval_80_coverage": lambda i: METRICS.interval_coverage(intervals[i], label[i]),
    }


def _rop(truth: list[Answer], reads: list[Read]) -> dict[str, Callable]:
    label = {f: np.array([t[f] for t in truth]) for f in ("zone", "stage", "plus_disease")}
    said = {f: np.array([r.answer[f] for r in reads]) for f in label}
    p = {f: [r.probabilities[f] for r in reads] for f in label}
    plus = np.array([q[Plus.PLUS] for q in p["plus_disease"]])

    def accuracy(field: str) -> Callable:
        return lambda i: float((said[field][i] == label[field][i]).mean()) if len(i) else None

    def sensitivity(field: str, value: str) -> Callable:
        return lambda i: METRICS.sensitivity(said[field][i], label[field][i], value)

    def calibration(field: str) -> Callable:
        sure = np.array([q[value] for q, value in zip(p[field], said[field], strict=True)])
        right = said[field] == label[field]
        return lambda i: METRICS.calibration_error(sure[i], right[i])

    def auc(field: str, values) -> Callable:
        return lambda i: macro_auc(label[field][i], [p[field][k] for k in i], [v.value for v in values])

    return {
        "zone_auc": auc("zone", Zone),
        "stage_auc": auc("stage", Stage),
        "plus_auc": lambda i: binary_auc(label["plus_disease"][i] == Plus.PLUS, plus[i]),
        "plus_macro_auc": auc("plus_disease", Plus),
        "zone_i_sensitivity": sensitivity("zone", Zone.I),
        "plus_sensitivity": sensitivity("plus_disease", Plus.PLUS),
        "zone_accuracy": accuracy("zone"),
        "stage_accuracy": accuracy("stage"),
        "plus_accuracy": accuracy("plus_disease"),
        "zone_calibration_error": calibration("zone"),
        "stage_calibration_error": calibration("stage"),
        "plus_calibration_error": calibration("plus_disease"),
    }


def _fracture(truth: list[Answer], reads: list[Read]) -> dict[str, Callable]:
    label, said = (np.array([a["fracture"] for a in answers]) for answers in (truth, [r.answer for r in reads]))

    sure = np.array([r.probabilities[value] for r, value in zip(reads, said, strict=True)])

    def of_class(figure: Callable, kind: Fracture) -> Callable:
        return lambda i: figure(said[i], label[i], kind.value)

    by_class = {"sensitivity": METRICS.sensitivity, "specificity": METRICS.specificity, "f1": METRICS.f1}
    return {
        "macro_f1": lambda i: METRICS.fracture_f1(said[i], label[i]),
        **{f"{k.value}_{name}": of_class(figure, k) for name, figure in by_class.items() for k in Fracture},
        "accuracy": lambda i: METRICS.accuracy(said[i], label[i]),
        "calibration_error": lambda i: METRICS.calibration_error(sure[i], said[i] == label[i]),
    }


def _phantom_case(job: tuple[str, int, str]) -> Case:
    """Drawn, written as DICOM, loaded as ingest loads it."""
    view, seed, site = View(job[0]), job[1], job[2]
    phantom = DRAW[view](seed, site=site, film_scale=FILM_SCALE)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.dcm"
        write_dicom(phantom, path, patient=patient_for(phantom), acquired_on=day_for(phantom))
        image = _model_image(path)
    return Case(image, ReadContext(phantom.sex, phantom.age_months), phantom.answer)


def _model_image(path: Path) -> Image.Image:
    return model_image(display_pixels(load_film(path)))


def _batches(items: Iterator[Case], size: int) -> Iterator[list[Case]]:
    while batch := list(islice(items, size)):
        yield batch


def _share(total: int, part: int) -> float | None:
    return round(1 - part / total, 4) if total else None


def _median(values: list[float]) -> float | None:
    return round(float(np.median(values)), 1) if values else None
