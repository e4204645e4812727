"""The figures by which a run is watched and stopped, on the val split, scored as a read scores.

`score`, lower is better, the mean over what is there of: bone age MAE / 12; 1 - the mean accuracy of zone, stage and
plus; 1 - macro F1 of fracture; each once for the cases to learn from and once for those replayed, so that what is
forgotten counts as much as what is learnt. A month of MAE counts as much as eight points of accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch

from engine.findings.answers import Answer, Task
from engine.inference.answer_tree import AnswerTree, probabilities
from engine.radiology_metrics import RadiologyMetrics
from training.radiology_processor import Example

ROWS = 16


class Validation:
    def __init__(self, network, trees: dict[Task, AnswerTree], examples: Sequence[Example], tokens) -> None:
        self.network, self.trees, self.examples, self.tokens = network, trees, examples, tokens

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        self.network.eval()
        figures: dict[str, float] = {}
        losses = []
        for task, replay in product(Task, (False, True)):
            some = [e for e in self.examples if e.task is task and e.replay is replay]
            if some:
                loss, found = self._figures(task, some)
                figures |= {f"{'replay_' * replay}{name}": value for name, value in found.items()}
                losses.append(loss)
        return {"score": round(sum(losses) / len(losses), 6)} | {k: round(v, 4) for k, v in figures.items()}

    def _figures(self, task: Task, examples: list[Example]) -> tuple[float, dict[str, float]]:
        said = self._said(task, examples)
        truth = [e.answer for e in examples]
        if task is Task.BONE_AGE:
            months = [[a["bone_age_months"] for a in answers] for answers in (said, truth)]
            mae = RadiologyMetrics().bone_age_mae(*months)
            return mae / 12, {"mae_months": mae}
        if task is Task.FRACTURE:
            f1 = RadiologyMetrics().fracture_f1(*([a["fracture"] for a in answers] for answers in (said, truth)))
            return 1 - f1, {"macro_f1": f1}
        right = {
            f"{name}_accuracy": sum(s[name] == t[name] for s, t in zip(said, truth, strict=True)) / len(truth)
            for name in ("zone", "stage", "plus_disease")
        }
        return 1 - sum(right.values()) / 3, right

    def _said(self, task: Task, examples: list[Example]) -> list[Answer]:
        """The median month, else the likeliest answer."""
        tree, answers = self.trees[task], []
        for start in range(0, len(examples), ROWS):
            part = examples[start : start + ROWS]
            tokens = self.tokens.stack([e.image for e in part], [0] * len(part), self.network.device)
            p = probabilities(self.network, tree, [e.prompt for e in part], tokens).cpu()
            best = (p.cumsum(1) < 0.5).sum(1) if task is Task.BONE_AGE else p.argmax(1)
            answers += [tree.answers[i] for i in best.clamp(max=len(tree.answers) - 1).tolist()]
        return answers
