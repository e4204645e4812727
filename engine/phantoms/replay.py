"""Phantoms of site A that go into a phantom model's training set, so that it does not forget the films it knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.annotations import TASK_FOLDERS, Annotation, Split
from engine.findings.answers import TASK_OF_VIEW, Task, View
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from engine.phantoms.write import FILM_SCALE, write_png

# So many that LoRA is aimed at what is new and not at which films were drawn: docs/train-a-model.md
COUNTS = {Task.BONE_AGE: 300, Task.ROP: 75, Task.FRACTURE: 150}
SITE = "A"
EVERY_VAL = 5  # one in so many watches the training instead


def numbers(counts: Mapping[Task, int]) -> list[tuple[View, int]]:
    """Those that `counts` asks for; `write` makes one of them."""
    return [(view, number) for view, task in TASK_OF_VIEW.items() for number in range(counts.get(task, 0))]


def write(folder: Path, view: View, number: int) -> tuple[Task, Split, Annotation]:
    """Draws it into the pedirad-custom `folder`, always the same one, and says what it is."""
    phantom = DRAW[view](seeds.REPLAY + number, site=SITE, film_scale=FILM_SCALE)
    task = TASK_OF_VIEW[view]
    split: Split = "val" if number % EVERY_VAL == 0 else "train"
    path = folder / TASK_FOLDERS[task] / split / f"replay-{number:04}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(phantom, path)
    provenance = {
        "patient": f"PH-{phantom.seed}",
        "laterality": phantom.laterality,
        "site": SITE,
        "phantom": True,
        "replay": True,
    }
    age_months = round(phantom.age_months, 2)
    return task, split, Annotation(f"{split}/{path.name}", phantom.answer, phantom.sex, age_months, provenance)
