"""Scoring every allowed answer in one forward pass.

The answers of a task, as token ids, form a trie. Image, prompt, the answers' common beginning and all inner nodes of
the trie go through the model as one sequence: a node sees the prefix and its own ancestors, and its position is its
depth, so its logits are those of the sequence that ends there. The probability of an answer is the product along its
path, renormalised over the closed set: the same figure as scoring each whole sequence by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.findings.answers import Answer, answer_json


@dataclass(frozen=True)
class AnswerTree:
    """The trie of one closed answer set under one tokenizer.

    Node i has token `node_ids[i]` and follows node `parents[i]` (-1: the common head). `steps` lists every
    (answer, parent node, token) whose log-probabilities add up to the answers' scores."""

    answers: list[Answer]
    head_ids: list[int]
    node_ids: list[int]
    parents: list[int]
    depths: list[int]
    step_answers: torch.Tensor  # (n_steps,) index into answers
    step_nodes: torch.Tensor  # (n_steps,) index into [head, *nodes]
    step_tokens: torch.Tensor  # (n_steps,)

    @classmethod
    def build(cls, answers: list[Answer], tokenizer) -> AnswerTree:
        """Raises ValueError if two answers share a tokenisation or one is the beginning of another."""
        sequences = [tokenizer(answer_json(a), add_special_tokens=False)["input_ids"] for a in answers]
        if any(s != t and t[: len(s)] == s for s in sequences for t in sequences) or len(
            {tuple(s) for s in sequences}
        ) < len(answers):
            raise ValueError("the tokenizer makes one answer the beginning of another; the answers cannot be scored")
        head = 0
        while len({s[head] for s in sequences if len(s) > head}) == 1 and all(len(s) > head + 1 for s in sequences):
            head += 1
        nodes: dict[tuple[int, ...], int] = {(): -1}
        node_ids, parents, depths, steps = [], [], [], []
        for index, sequence in enumerate(sequences):
            tail = tuple(sequence[head:])
            for depth, token in enumerate(tail):
                steps.append((index, nodes[tail[:depth]] + 1, token))
                path = tail[: depth + 1]
                if depth + 1 < len(tail) and path not in nodes:
                    parents.append(nodes[tail[:depth]])
                    nodes[path] = len(node_ids)
                    node_ids.append(token)
                    depths.append(depth)
        step_answers, step_nodes, step_tokens = (torch.tensor(column) for column in zip(*steps, strict=True))
        return cls(answers, sequences[0][:head], node_ids, parents, depths, step_answers, step_nodes, step_tokens)

    def ancestry(self) -> torch.Tensor:
        """(n_nodes, n_nodes) bool: row i sees column j if j is i or an ancestor of i."""
        sees = torch.zeros(len(self.node_ids), len(self.node_ids), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] = sees[parent]
            sees[node, node] = True
        return sees


def sequence_for(
    tree: AnswerTree, prompts: list[list[int]], image_token_id: int, window: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """The model's inputs for a batch of prompts, padded on the left.

    Returns input_ids (batch, length), position_ids (batch, length), and the boolean masks `full` and `sliding`
    (batch, 1, length, length), True where a token is seen. Image tokens see each other both ways, as in Gemma 3."""
    longest = max(len(p) for p in prompts)
    longest += -(longest + len(tree.head_ids) + len(tree.node_ids)) % 8  # attention kernels want multiples of 8
    prefix = longest + len(tree.head_ids)
    length = prefix + len(tree.node_ids)
    pads = [longest - len(p) for p in prompts]
    rows = [[0] * pad + p + tree.head_ids + tree.node_ids for pad, p in zip(pads, prompts, strict=True)]
    input_ids = torch.tensor(rows, device=device)
    pad = torch.tensor(pads, device=device)[:, None]
    place = torch.tensor([*range(prefix), *(prefix + d for d in tree.depths)], device=device)
    position = (place - pad).clamp(min=0)

    sees = torch.zeros(length, length, dtype=torch.bool, device=device)
    sees[:, :prefix] = place[:, None] >= place[:prefix]
    sees[prefix:, prefix:] = tree.ancestry().to(device)
    image = input_ids == image_token_id
    both_image = image[:, :, None] & image[:, None, :]
    full = (sees & (torch.arange(length, device=device) >= pad)[:, None, :]) | both_image
    sliding = full & (position[:, :, None] - position[:, None, :] < window)
    itself = torch.eye(length, dtype=torch.bool, device=device)  # padding must see something, or softmax is undefined
    return {
        "input_ids": input_ids,
        "position_ids": position,
        "full": (full | itself)[:, None],
        "sliding": (sliding | itself)[:, None],
    }


def log_probabilities(
    model, tree: AnswerTree, prompts: list[list[int]], image_features: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of every answer given the head, (batch, n_answers), and of the head's tokens, (batch, n_head).

    `model`: a Gemma3ForConditionalGeneration; `image_features`: (batch, image tokens, hidden), projected. An
    answer's whole sequence has the sum of both."""
    device = image_features.device
    image_token = model.config.image_token_id
    window = model.config.get_text_config().sliding_window
    inputs = sequence_for(tree, prompts, image_token, window, device)
    is_image = inputs["input_ids"] == image_token
    embeds = model.get_input_embeddings()(inputs["input_ids"].masked_fill(is_image, 0))
    embeds = embeds.masked_scatter(is_image[..., None], image_features.to(embeds.dtype))
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask={"full_attention": inputs["full"], "sliding_attention": inputs["sliding"]},
        position_ids=inputs["position_ids"],
        use_cache=False,
    ).last_hidden_state
    heads, nodes = len(tree.head_ids), len(tree.node_ids)
    logits = model.lm_head(hidden[:, -nodes - heads - 1 :]).float()
    said = logits.log_softmax(-1)  # (batch, head + 1 + nodes, vocabulary)
    head_ids = torch.tensor(tree.head_ids, device=device)
    head = said[:, torch.arange(heads, device=device), head_ids]
    steps = said[:, heads + tree.step_nodes.to(device), tree.step_tokens.to(device)]
    answers = torch.zeros(len(prompts), len(tree.answers), device=device)
    return answers.index_add(1, tree.step_answers.to(device), steps), head


def probabilities(model, tree: AnswerTree, prompts: list[list[int]], image_features: torch.Tensor) -> torch.Tensor:
    """(batch, n_answers) float64 over the closed set; each row sums to 1."""
    return log_probabilities(model, tree, prompts, image_features)[0].double().softmax(-1)
