"""How far two forms of one model read alike: the certificate beside a merged or converted model.

Labels are compared one by one: a fracture is one, an ROP grading three (zone, stage, plus disease), a bone age one,
which counts as equal within a month. No read is a label of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from engine.annotations import ANSWER_FIELDS
from engine.findings.answers import Task
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image, model_image_of
from engine.inference.read import Read, ReadContext
from engine.inference.reader import VIEW_OF_TASK, Reader
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from training.pedirad_loader import load_split

HELD_OUT = seeds.VALIDATION + 300_000  # phantoms no model or gate was chosen by
PLAUSIBLE = 1e-3  # log-probabilities are compared where the reference gives an answer at least this much
IMPOSSIBLE = 1e-5  # less than this counts as this


@dataclass(frozen=True)
class Images:
    """The held-out images of one task."""

    images: list[Image.Image]
    contexts: list[ReadContext]


@dataclass(frozen=True)
class Difference:
    """Of one form of the model from another, over all tasks."""

    labels: int
    equal_labels: int
    class_labels: int
    equal_class_labels: int
    class_films: int
    equal_class_films: int
    months_labels: int
    months_within_1: int
    largest_log_probability_difference: float
    mean_log_probability_difference: float
    largest_probability_difference: float

    @property
    def label_agreement(self) -> float:
        return self.equal_labels / self.labels

    @property
    def class_agreement(self) -> float | None:
        return self.equal_class_labels / self.class_labels if self.class_labels else None

    @property
    def film_agreement(self) -> float | None:
        """Share of films, bone ages aside, with every class equal."""
        return self.equal_class_films / self.class_films if self.class_films else None

    @property
    def months_agreement(self) -> float | None:
        return self.months_within_1 / self.months_labels if self.months_labels else None

    def as_json(self) -> dict[str, Any]:
        return {
            "labels": self.labels,
            "label_agreement": round(self.label_agreement, 4),
            "class_agreement": _rounded(self.class_agreement),
            "film_agreement": _rounded(self.film_agreement),
            "months_within_1": _rounded(self.months_agreement),
            "largest_log_probability_difference": float(f"{self.largest_log_probability_difference:.4g}"),
            "mean_log_probability_difference": float(f"{self.mean_log_probability_difference:.4g}"),
            "largest_probability_difference": float(f"{self.largest_probability_difference:.4g}"),
        }


def held_out(data_dir: Path | None, split: str, per_task: int) -> dict[Task, Images]:
    """Images of `data_dir`'s split, at most `per_task` of each task; without a folder, phantoms of both sites.

    Raises BadAnnotations for a folder that cannot be used."""
    found: dict[Task, Images] = {}
    if data_dir is None:
        for task, view in VIEW_OF_TASK.items():
            phantoms = [DRAW[view](HELD_OUT + i, site="AB"[i % 2]) for i in range(per_task)]
            images = [model_image(display_pixels(phantom.film())) for phantom in phantoms]
            found[task] = Images(images, [ReadContext(phantom.sex, phantom.age_months) for phantom in phantoms])
        return found
    labelled = load_split(data_dir, split)
    for task in Task:
        items = [item for item in labelled if item.annotation.task is task][:per_task]
        if items:
            images = [model_image_of(item.path) for item in items]
            contexts = [ReadContext(item.annotation.sex, item.annotation.age_months) for item in items]
            found[task] = Images(images, contexts)
    return found


def read_all(reader: Reader, data: dict[Task, Images]) -> dict[Task, list[Read]]:
    return {task: reader.read(items.images, task, items.contexts) for task, items in data.items()}


def difference(reference: dict[Task, list[Read]], other: dict[Task, list[Read]]) -> Difference:
    """Both with the same images in the same order. Raises ValueError without any image."""
    films = equal_films = classes = equal_classes = months = equal_months = 0
    logs: list[float] = []
    largest = 0.0
    for task, reads in reference.items():
        for one, two in zip(reads, other[task], strict=True):
            if task is Task.BONE_AGE:
                months += 1
                equal_months += _months_alike(one, two)
            else:
                films += 1
                equal_films += one.answer == two.answer
                for field in ANSWER_FIELDS[task]:
                    classes += 1
                    equal_classes += (one.answer or {}).get(field) == (two.answer or {}).get(field)
            for p, q in _probability_pairs(one.probabilities, two.probabilities):
                largest = max(largest, abs(p - q))
                if p >= PLAUSIBLE:
                    logs.append(abs(math.log(p) - math.log(max(q, IMPOSSIBLE))))
    if not classes + months:
        raise ValueError("there is no image to compare")
    return Difference(
        labels=classes + months,
        equal_labels=equal_classes + equal_months,
        class_labels=classes,
        equal_class_labels=equal_classes,
        class_films=films,
        equal_class_films=equal_films,
        months_labels=months,
        months_within_1=equal_months,
        largest_log_probability_difference=max(logs, default=0.0),
        mean_log_probability_difference=sum(logs) / len(logs) if logs else 0.0,
        largest_probability_difference=largest,
    )


def _months_alike(one: Read, two: Read) -> bool:
    if one.median_months is None or two.median_months is None:
        return one.median_months is two.median_months
    return abs(one.median_months - two.median_months) <= 1


def _probability_pairs(one: dict[str, Any], two: dict[str, Any]) -> Sequence[tuple[float, float]]:
    """Of the same answers; nothing where one of the reads abstained."""
    if not one or not two:
        return []
    pairs = []
    for name, p in one.items():
        pairs += _probability_pairs(p, two[name]) if isinstance(p, dict) else [(p, two[name])]
    return pairs


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
