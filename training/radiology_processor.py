"""Training examples: what the model sees, what it must write, and on which tokens it is judged.

    <bos><start_of_turn>user\n\n\n<start_of_image>IMAGE...<end_of_image>\n\nQuestion<end_of_turn>\n<start_of_turn>model\n
    {"task":"bone_age","bone_age_months":126}<end_of_turn>

The prompt is engine.inference.prompts', so training asks exactly what reading asks. Only the second line counts in the
loss. Rows of a batch have the image block at the same place (it stands at the beginning of the chat) and are padded on
the right, to the longest of the batch and no further; `epoch_batches` puts rows of like length together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from engine.annotations import class_of
from engine.errors import PediScreenError
from engine.findings.answers import ALLOWED, Answer, Task, answer_json
from engine.inference.prompts import chat, prompt_ids, prompt_text
from engine.inference.read import ReadContext
from training.pedirad_loader import LabelledImage

IGNORED = -100  # a label that does not count
END_OF_TURN = "<end_of_turn>"


class NotConformant(PediScreenError):
    """Tokenizer, processor and model disagree; a model trained so would read something else than it learned."""


@dataclass(frozen=True)
class Example:
    """One image with its question and answer as token ids; `image` is its index among the image tokens.

    A `replay` example is there so that the model does not forget: `taught`, (n_answers,) probabilities that the model
    had before training, stands in for the label. `features` are its image tokens then, where the tower is trained."""

    image: int
    task: Task
    context: ReadContext
    answer: Answer
    prompt: list[int]
    answer_ids: list[int]  # <end_of_turn> included
    replay: bool = False
    taught: np.ndarray | None = field(default=None, compare=False)
    features: torch.Tensor | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer_ids)


@dataclass(frozen=True)
class Batch:
    """(rows, length) tensors. `labels` are the input ids where they count and IGNORED elsewhere; the label at position
    i is predicted by the logits at i - 1."""

    examples: list[Example]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor  # 1 on image tokens
    labels: torch.Tensor
    image_span: tuple[int, int]  # the image block of every row

    @cached_property
    def predictors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(row, position) of every hidden state that predicts a label, row by row."""
        row, place = (self.labels != IGNORED).nonzero(as_tuple=True)
        return row, place - 1


class RadiologyProcessor:
    """`processor`: a Gemma3Processor."""

    def __init__(self, processor) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.image_token_id = processor.tokenizer.image_token_id
        self.image_tokens = processor.image_seq_length
        self.end_of_turn_id = self.tokenizer.convert_tokens_to_ids(END_OF_TURN)
        self._prompts: dict[tuple, list[int]] = {}

    def example(self, image: int, context: ReadContext, answer: Answer) -> Example:
        task = Task(answer["task"])
        key = (task, context.sex, None if context.age_months is None else round(context.age_months))
        if key not in self._prompts:
            self._prompts[key] = prompt_ids(self.processor, task, context)
        return Example(image, task, context, answer, self._prompts[key], self.answer_ids(answer))

    def answer_ids(self, answer: Answer) -> list[int]:
        return [*self.tokenizer(answer_json(answer), add_special_tokens=False)["input_ids"], self.end_of_turn_id]

    def collate(self, examples: Sequence[Example]) -> Batch:
        length = max(len(e) for e in examples)
        input_ids = torch.full((len(examples), length), self.tokenizer.pad_token_id)
        labels = torch.full((len(examples), length), IGNORED)
        mask = torch.zeros(len(examples), length, dtype=torch.long)
        for row, e in enumerate(examples):
            start = len(e.prompt)
            input_ids[row, :start], input_ids[row, start : len(e)] = torch.tensor(e.prompt), torch.tensor(e.answer_ids)
            labels[row, start : len(e)] = input_ids[row, start : len(e)]
            mask[row, : len(e)] = 1
        token_types = (input_ids == self.image_token_id).long()
        spans = {(int(types.nonzero()[0]), int(types.nonzero()[-1]) + 1) for types in token_types}
        if len(spans) != 1:
            raise NotConformant(f"the image block must stand at one place in every prompt, found {sorted(spans)}")
        return Batch(list(examples), input_ids, mask, token_types, labels, spans.pop())

    def conformance(self, examples: Sequence[Example]) -> str:
        """The first example, token by token, after checking one of each task. Raises NotConformant."""
        for digit in "0123456789":
            if len(ids := self.tokenizer(f"1{digit}7", add_special_tokens=False)["input_ids"]) != 3:
                raise NotConformant(f"1{digit}7 is {len(ids)} tokens; months are scored digit by digit")
        if self.end_of_turn_id in (None, self.tokenizer.unk_token_id):
            raise NotConformant(f"the tokenizer has no {END_OF_TURN}")
        for example in {e.task: e for e in reversed(examples)}.values():
            self._check(example)
        return self.table(examples[0])

    def _check(self, example: Example) -> None:
        batch = self.collate([example])
        ids, labels = batch.input_ids[0], batch.labels[0]
        found = int(batch.token_type_ids.sum())
        start, end = batch.image_span
        if found != self.image_tokens or end - start != found:
            raise NotConformant(
                f"the prompt holds {found} image tokens, the model expects one block of {self.image_tokens}"
            )
        text = self.processor.apply_chat_template(
            chat(prompt_text(example.task, example.context)), tokenize=False, add_generation_prompt=True
        ).removeprefix(self.tokenizer.bos_token)
        side = self.processor.image_processor.size["height"]
        blank = np.zeros((side, side, 3), np.uint8)
        theirs = self.processor(text=text, images=[blank], return_tensors="pt")
        if theirs["input_ids"][0].tolist() != example.prompt:
            raise NotConformant(f"prompt ids differ from the processor's own for {example.task}")
        if theirs["token_type_ids"][0].tolist() != batch.token_type_ids[0, : len(example.prompt)].tolist():
            raise NotConformant("token_type_ids differ from the processor's own")
        said = self.tokenizer.decode(labels[labels != IGNORED])
        if (
            said != answer_json(example.answer) + END_OF_TURN
            or json.loads(said.removesuffix(END_OF_TURN)) != example.answer
        ):
            raise NotConformant(f"the tokens under the loss decode to {said!r}, not to {example.answer}")
        counted = (labels != IGNORED).nonzero()[:, 0].tolist()
        if counted != list(range(len(example.prompt), len(ids))):
            raise NotConformant("the loss mask does not cover the answer and nothing else")
        if example.answer not in ALLOWED[example.task]:
            raise NotConformant(f"{example.answer} is not in the answer set")

    def table(self, example: Example) -> str:
        """Position, id, token, and whether it counts; the image block in one line."""
        batch = self.collate([example])
        start, end = batch.image_span
        lines = []
        for place, (token, label) in enumerate(zip(batch.input_ids[0].tolist(), batch.labels[0].tolist(), strict=True)):
            if place == start + 1 < end - 1:
                lines.append(f"   ...   {end - start} image tokens, which see each other both ways")
            if not start < place < end - 1:
                word = json.dumps(self.tokenizer.decode([token]), ensure_ascii=False)
                lines.append(f"{place:6d} {token:7d}  {word:24} {'loss' if label != IGNORED else '-'}")
        return "\n".join(lines)


def examples_of(processor: RadiologyProcessor, labelled: Sequence[LabelledImage]) -> list[Example]:
    """With the places in `labelled` as their images."""
    return [
        replace(
            processor.example(k, ReadContext(i.annotation.sex, i.annotation.age_months), i.annotation.answer),
            replay=i.annotation.provenance.get("replay") is True,
        )
        for k, i in enumerate(labelled)
    ]


def sampling_weights(examples: Sequence[Example], balance: float) -> np.ndarray:
    """(n,) summing to n: tasks in proportion to their images, within a task classes by count ** (1 - balance).
    0 leaves the data as they are, 1 shows every class equally often."""
    weights = np.zeros(len(examples))
    for task in {e.task for e in examples}:
        of_task = np.array([e.task == task for e in examples])
        names = np.array([class_of(e.answer) for e in examples])[of_task]
        counts = dict(zip(*np.unique(names, return_counts=True), strict=True))
        w = np.array([counts[n] ** -balance for n in names])
        weights[of_task] = w / w.sum() * of_task.sum()
    return weights


def epoch_batches(
    examples: Sequence[Example], batch_size: int, *, seed: int, epoch: int, balance: float
) -> list[list[int]]:
    """Indices of every batch of an epoch. A pure function of its arguments, so a run goes on from a step's number.

    The epoch draws `len(examples)` times by systematic sampling (each example floor or ceil of its weight times), cuts
    the shuffled draws into pools of 16 batches, sorts each pool by length, and shuffles the batches."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(examples))
    ends = sampling_weights([examples[i] for i in order], balance).cumsum()
    drawn = order[np.searchsorted(ends, np.arange(len(examples)) + rng.uniform(0, 1)).clip(max=len(examples) - 1)]
    rng.shuffle(drawn)
    batches = []
    for start in range(0, len(drawn), 16 * batch_size):
        pool = sorted(drawn[start : start + 16 * batch_size].tolist(), key=lambda i: len(examples[i]))
        batches += [pool[k : k + batch_size] for k in range(0, len(pool), batch_size)]
    rng.shuffle(batches := [b for b in batches if len(b) == batch_size] or batches)
    return batches
