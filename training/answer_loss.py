"""The loss: cross-entropy of the answer's tokens against a distribution over answers.

For ROP and fracture the distribution is the label. Bone age is a number, so 125 is nearly as right as 126: its target
is a normal distribution over months around the label (SD `month_sd`, wider at the start of a run: answers are digits,
and a digit that no film taught is otherwise free to go anywhere: where no girl of sixty was between 128 and 154 months,
two held-out ones were read as 188). Three ways to train on it:

- `path` (default): one month is drawn from the target and its digits are fed to the model; at each digit the loss is
  the cross-entropy against the target's conditional distribution of that digit. A node of the digit tree is visited
  with the target's probability, so the expectation is the cross-entropy over all months, at the cost of one answer.
- `tree`: that cross-entropy itself, all months scored in one pass as a read scores them. Exact, but a pass holds 229
  more tokens: for small models.
- `hard`: the label's digits alone, as in plain fine-tuning.

A replay example's target is what the model said of it before training (learning without forgetting, Li and Hoiem,
2016): so it is held to the answers it gave, with their doubts, on films it knows. It weighs `replay_weight`.

Tokens that every answer of the task shares (`{"task":"bone_age",...`) and <end_of_turn> teach the form only and weigh
`FORM_WEIGHT`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from engine.findings.answers import ALLOWED, Task
from engine.inference.answer_tree import AnswerTree, log_probabilities
from training.language_pass import answer_logits
from training.radiology_processor import Batch, Example, RadiologyProcessor

MonthLoss = Literal["path", "tree", "hard"]
FORM_WEIGHT = 0.05


class AnswerLoss:
    def __init__(
        self, processor: RadiologyProcessor, *, month_loss: MonthLoss, month_sd: float, replay_weight: float = 1.0
    ) -> None:
        self.processor, self.month_loss, self.month_sd = processor, month_loss, month_sd
        self.replay_weight = replay_weight
        self.trees = {task: AnswerTree.build(ALLOWED[task], processor.tokenizer) for task in Task}
        self._parents = {task: _nodes_by_path(tree) for task, tree in self.trees.items()}

    def target(self, example: Example, month_sd: float | None = None) -> np.ndarray:
        """(n_answers,) probabilities over the task's closed set. `month_sd`: another than the loss's own."""
        if example.taught is not None:
            return example.taught
        answers = ALLOWED[example.task]
        if example.task is Task.BONE_AGE and self.month_loss != "hard":
            months = np.arange(len(answers))
            p = np.exp(-0.5 * ((months - example.answer["bone_age_months"]) / (month_sd or self.month_sd)) ** 2)
            return p / p.sum()
        p = np.zeros(len(answers))
        p[answers.index(example.answer)] = 1
        return p

    def draw(
        self, examples: list[Example], rng: np.random.Generator, month_sd: float | None = None
    ) -> tuple[list[Example], list[np.ndarray]]:
        """The examples as they are fed, each with an answer drawn from its target, and the targets."""
        targets = [self.target(e, month_sd) for e in examples]
        if self.month_loss == "tree":
            return examples, targets
        fed = []
        for e, p in zip(examples, targets, strict=True):
            answer = ALLOWED[e.task][rng.choice(len(p), p=p)]
            fed.append(replace(e, answer=answer, answer_ids=self.processor.answer_ids(answer)))
        return fed, targets

    def __call__(self, network, batch: Batch, targets: list[np.ndarray], image_features: torch.Tensor) -> torch.Tensor:
        """Mean over the batch's rows of each answer's cross-entropy in nats, replayed rows by their weight."""
        if self.month_loss == "tree":
            return self._by_tree(network, batch.examples, targets, image_features)
        logits = answer_logits(network, batch, image_features)
        soft = [
            (self._weight(e) * weight, tokens, p)
            for e, target in zip(batch.examples, targets, strict=True)
            for weight, tokens, p in self.soft_labels(e, target)
        ]
        return soft_cross_entropy(logits, soft) / len(batch.examples)

    def soft_labels(self, example: Example, target: np.ndarray) -> list[tuple[float, list[int], list[float]]]:
        """For every answer token: its weight, the tokens that may stand there, and their target probabilities."""
        tree, by_path = self.trees[example.task], self._parents[example.task]
        head = len(tree.head_ids)
        rows: list[tuple[float, list[int], list[float]]] = [
            (FORM_WEIGHT, [t], [1.0]) for t in example.answer_ids[:head]
        ]
        tail = tuple(example.answer_ids[head:-1])
        for depth in range(len(tail)):
            answers, tokens = by_path[tail[:depth]]
            mass = np.bincount(tokens, weights=target[answers])
            allowed = mass.nonzero()[0]
            rows.append((1.0, allowed.tolist(), (mass[allowed] / mass.sum()).tolist()))
        return [*rows, (FORM_WEIGHT, [example.answer_ids[-1]], [1.0])]

    def _by_tree(self, network, examples, targets, image_features) -> torch.Tensor:
        total = torch.zeros((), device=image_features.device)
        for task in dict.fromkeys(e.task for e in examples):
            rows = [i for i, e in enumerate(examples) if e.task is task]
            target = torch.tensor(np.stack([targets[i] for i in rows]), dtype=torch.float32, device=total.device)
            prompts = [examples[i].prompt for i in rows]
            answers, head = log_probabilities(network, self.trees[task], prompts, image_features[rows])
            counts = torch.tensor([self._weight(examples[i]) for i in rows], device=total.device)
            total = total - (counts * ((target * answers).sum(1) + FORM_WEIGHT * head.sum(1))).sum()
        return total / len(examples)

    def _weight(self, example: Example) -> float:
        return self.replay_weight if example.replay else 1.0


def soft_cross_entropy(logits: torch.Tensor, rows: list[tuple[float, list[int], list[float]]]) -> torch.Tensor:
    """Sum over rows of weight x cross-entropy. `logits`: (rows, vocabulary). The log-softmax is never stored: the loss
    of a row is its logsumexp less the target's mean logit."""
    width = max(len(tokens) for _, tokens, _ in rows)
    tokens = torch.tensor([t + [0] * (width - len(t)) for _, t, _ in rows], device=logits.device)
    p = torch.tensor([q + [0.0] * (width - len(q)) for _, _, q in rows], device=logits.device)
    weight = torch.tensor([w for w, _, _ in rows], device=logits.device)
    said = (p * logits.gather(1, tokens).float()).sum(1)
    return (weight * (_logsumexp(logits) - said)).sum()


class _LogSumExp(torch.autograd.Function):
    """logsumexp in float32 over rows of half-precision logits, a slice of rows at a time: for a vocabulary of 262,208
    the library's own would hold two float32 copies of all logits."""

    ROWS = 128

    @staticmethod
    def forward(ctx, logits: torch.Tensor) -> torch.Tensor:
        out = torch.cat([part.float().logsumexp(-1) for part in logits.split(_LogSumExp.ROWS)])
        ctx.save_for_backward(logits, out)
        return out

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        logits, out = ctx.saved_tensors
        result = torch.empty_like(logits)
        size = _LogSumExp.ROWS
        for start in range(0, len(logits), size):
            part = slice(start, start + size)
            result[part] = (logits[part].float() - out[part, None]).exp_().mul_(grad[part, None])
        return result


def _logsumexp(logits: torch.Tensor) -> torch.Tensor:
    return _LogSumExp.apply(logits)


def _nodes_by_path(tree: AnswerTree) -> dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]]:
    """For every inner node, named by its path of tokens: the answers below it and the token each goes on with."""
    paths: list[tuple[int, ...]] = [()]
    for token, parent in zip(tree.node_ids, tree.parents, strict=True):
        paths.append((*paths[parent + 1], token))
    node, answers, tokens = (t.numpy() for t in (tree.step_nodes, tree.step_answers, tree.step_tokens))
    return {path: (answers[node == i], tokens[node == i]) for i, path in enumerate(paths)}
