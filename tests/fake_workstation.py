"""The web process with a training set that is always enough: python -m tests.fake_workstation"""

from __future__ import annotations

from engine.findings.answers import Task
from engine.services import training_set
from engine.services.training_set import TaskCounts, TrainingSetPreview
from ui import serve

COUNTS = {
    Task.BONE_AGE: (150, {"0-4 y": 30, "5-9 y": 62, "10-14 y": 44, "15 y and older": 14}),
    Task.FRACTURE: (150, {"buckle": 58, "distal_radius": 49, "normal": 43}),
}


def preview(session, actor) -> TrainingSetPreview:
    tasks = [
        TaskCounts(task, corrected, 8, labels, {"Site B": corrected + 8}, {"F": 80, "M": 78},
                   {"train": 100, "val": 26, "test": 32}, True, None)
        for task, (corrected, labels) in COUNTS.items()
    ]  # fmt: skip
    replay = dict.fromkeys(Task, 75)
    return TrainingSetPreview(
        tasks, [], replay, [], not_reviewed=12, new_decisions=316, enough=True, why_not=None, estimate_minutes=1.0
    )


if __name__ == "__main__":
    training_set.preview = preview
    serve.main()
