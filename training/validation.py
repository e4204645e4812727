"""The figures by which a run is watched and stopped, on the val split, scored as a read scores.

`score`, lower is better, is the cross-entropy of the label (bone age: the soft label) under a read's probabilities, in
nats a film; the mean over the tasks, each once for the cases to learn from and once for those replayed, so that what
is forgotten counts as much as what is learnt. Not MAE or F1, though they are reported beside it: of thirty held-out
hands two that jump decide the MAE, and the run was then stopped by chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch

from engine.findings.answers import Task
from engine.inference.answer_tree import probabilities
from engine.inference.reader import read_of
from engine.radiology_metrics import RadiologyMetrics
from training.answer_loss import AnswerLoss
from training.radiology_processor import Example

ROWS = 16
LEAST_PROBABILITY = 1e-6  # of an answer: one film cannot outweigh all others


class Validation:
    def __init__(self, network, loss: AnswerLoss, examples: Sequence[Example], tokens) -> None:
        self.network, self.loss, self.examples, self.tokens = network, loss, examples, tokens

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        self.network.eval()
        figures: dict[str, float] = {}
        scores = []
        for task, replay in product(Task, (False, True)):
            some = [e for e in self.examples if e.task is task and e.replay is replay]
            if some:
                p = self._probabilities(task, some)
                scores.append(self._cross_entropy(some, p))
                found = self._figures(task, some, p)
                figures |= {f"{'replay_' * replay}{name}": value for name, value in found.items()}
        return {"score": round(sum(scores) / len(scores), 6)} | {k: round(v, 4) for k, v in figures.items()}

    def _probabilities(self, task: Task, examples: Sequence[Example]) -> torch.Tensor:
        """(n, answers of the task)"""
        found = []
        for start in range(0, len(examples), ROWS):
            part = examples[start : start + ROWS]
            tokens = self.tokens.stack([e.image for e in part], [0] * len(part), self.network.device)
            found.append(probabilities(self.network, self.loss.trees[task], [e.prompt for e in part], tokens).cpu())
        return torch.cat(found)

    def _cross_entropy(self, examples: Sequence[Example], p: torch.Tensor) -> float:
        targets = torch.tensor(np.stack([self.loss.target(e) for e in examples]))
        return float(-(targets * p.double().clamp_min(LEAST_PROBABILITY).log()).sum(1).mean())

    def _figures(self, task: Task, examples: Sequence[Example], p: torch.Tensor) -> dict[str, float]:
        answers = self.loss.trees[task].answers
        said = [read_of(task, answers, row, "", 0.0).answer for row in p]
        truth = [e.answer for e in examples]
        if task is Task.BONE_AGE:
            months = [[a["bone_age_months"] for a in each] for each in (said, truth)]
            return {"mae_months": RadiologyMetrics().bone_age_mae(*months)}
        if task is Task.FRACTURE:
            labels = [[a["fracture"] for a in each] for each in (said, truth)]
            return {"macro_f1": RadiologyMetrics().fracture_f1(*labels)}
        return {
            f"{name}_accuracy": sum(s[name] == t[name] for s, t in zip(said, truth, strict=True)) / len(truth)
            for name in ("zone", "stage", "plus_disease")
        }
