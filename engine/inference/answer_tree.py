"""Scoring every allowed answer in one forward pass.

The answers of a task, as token ids, form a trie. Image, prompt, the answers' common beginning and all inner nodes of
the trie go through the model as one sequence: a node sees the prefix and its own ancestors, and its position is its
depth, so its logits are those of the sequence that ends there. The probability of an answer is the product along its
path, renormalised over the closed set: the same figure as scoring each whole sequence by itself."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

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
    depths: torch.Tensor  # (n_nodes,), 0: right after the head
    ancestry: torch.Tensor  # (n_nodes, n_nodes) bool: row i sees column j if j is i or an ancestor of i
    vocabulary: torch.Tensor  # (n_vocabulary,) every token of the head and the steps, once
    head_columns: torch.Tensor  # (n_head,) index into vocabulary
    step_answers: torch.Tensor  # (n_steps,) index into answers
    step_nodes: torch.Tensor  # (n_steps,) index into [head, *nodes]
    step_tokens: torch.Tensor  # (n_steps,)
    step_columns: torch.Tensor  # (n_steps,) index into vocabulary

    @classmethod
    def build(cls, answers: list[Answer], tokenizer) -> AnswerTree:
        """Raises ValueError for a tokenizer that does not keep what an answer says. With one that does, no two answers
        have the same tokens, and none is the beginning of another: each ends with its closing brace."""
        sequences = [tokenizer(answer_json(a), add_special_tokens=False)["input_ids"] for a in answers]
        for answer, ids in zip(answers, sequences, strict=True):
            kept = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            if kept != answer_json(answer):
                raise ValueError(f"the tokenizer makes {kept!r} of the answer {answer_json(answer)}")
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
        head_ids = torch.tensor(sequences[0][:head], dtype=torch.long)
        vocabulary = torch.cat([head_ids, step_tokens]).unique()
        return cls(
            answers=answers,
            head_ids=head_ids.tolist(),
            node_ids=node_ids,
            parents=parents,
            depths=torch.tensor(depths, dtype=torch.long),
            ancestry=_ancestry(parents),
            vocabulary=vocabulary,
            head_columns=torch.searchsorted(vocabulary, head_ids),
            step_answers=step_answers,
            step_nodes=step_nodes,
            step_tokens=step_tokens,
            step_columns=torch.searchsorted(vocabulary, step_tokens),
        )

    def to(self, device: torch.device) -> AnswerTree:
        """The same with its tensors there."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in values.items() if isinstance(v, torch.Tensor)})


def _ancestry(parents: list[int]) -> torch.Tensor:
    sees = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            sees[node] = sees[parent]
        sees[node, node] = True
    return sees


def padded(tree: AnswerTree, prompts: list[list[int]], multiple: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt, head and nodes of every row, padded on the left to a length that is a multiple of `multiple`.

    Returns input_ids (batch, length) and how many of a row's tokens are padding, (batch,). Attention kernels want
    multiples of 8."""
    longest = max(len(p) for p in prompts)
    longest += -(longest + len(tree.head_ids) + len(tree.node_ids)) % multiple
    pads = [longest - len(p) for p in prompts]
    rows = [[0] * pad + p + tree.head_ids + tree.node_ids for pad, p in zip(pads, prompts, strict=True)]
    return torch.tensor(rows), torch.tensor(pads)


def sequence_of(
    tree: AnswerTree, input_ids: torch.Tensor, pads: torch.Tensor, image_token_id: int, window: int
) -> dict[str, torch.Tensor]:
    """What the model needs beside `padded`'s rows, where they are; nothing waits for the device.

    Returns position_ids (batch, length), and the boolean masks `full` and `sliding` (batch, 1, length, length), True
    where a token is seen. Image tokens see each other both ways, as in Gemma 3."""
    device, length = input_ids.device, input_ids.shape[1]
    prefix = length - len(tree.node_ids)
    pad = pads[:, None]
    place = torch.cat([torch.arange(prefix, device=device), prefix + tree.depths])
    position = (place - pad).clamp(min=0)

    sees = torch.zeros(length, length, dtype=torch.bool, device=device)
    sees[:, :prefix] = place[:, None] >= place[:prefix]
    sees[prefix:, prefix:] = tree.ancestry
    image = input_ids == image_token_id
    both_image = image[:, :, None] & image[:, None, :]
    full = (sees & (torch.arange(length, device=device) >= pad)[:, None, :]) | both_image
    sliding = full & (position[:, :, None] - position[:, None, :] < window)
    itself = torch.eye(length, dtype=torch.bool, device=device)  # padding must see something, or softmax is undefined
    return {
        "position_ids": position,
        "full": (full | itself)[:, None],
        "sliding": (sliding | itself)[:, None],
    }


def embedded(model, input_ids: torch.Tensor, image_features: torch.Tensor) -> torch.Tensor:
    """(batch, length, hidden): the tokens' embeddings, each row's image tokens replaced by its features in order."""
    is_image = input_ids == model.config.image_token_id
    embeds = model.get_input_embeddings()(input_ids.masked_fill(is_image, 0))
    order = (is_image.cumsum(1) - 1).clamp(min=0)[..., None].expand(-1, -1, embeds.shape[-1])
    return torch.where(is_image[..., None], image_features.to(embeds.dtype).gather(1, order), embeds)


def answer_scores(tree: AnswerTree, said: torch.Tensor) -> torch.Tensor:
    """(batch, n_answers): the log-probability of every answer given the head.

    `said`: (batch, 1 + n_nodes, n_vocabulary), log-probabilities of the token after the head and after every node."""
    steps = said[:, tree.step_nodes, tree.step_columns]
    return said.new_zeros(len(said), len(tree.answers)).index_add(1, tree.step_answers, steps)


def log_probabilities(
    model, tree: AnswerTree, prompts: list[list[int]], image_features: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of every answer given the head, (batch, n_answers), and of the head's tokens, (batch, n_head).

    `model`: a Gemma3ForConditionalGeneration; `image_features`: (batch, image tokens, hidden), projected. An
    answer's whole sequence has the sum of both."""
    device = image_features.device
    tree = tree.to(device)
    input_ids, pads = (t.to(device) for t in padded(tree, prompts))
    window = model.config.get_text_config().sliding_window
    inputs = sequence_of(tree, input_ids, pads, model.config.image_token_id, window)
    hidden = model.model.language_model(
        inputs_embeds=embedded(model, input_ids, image_features),
        attention_mask={"full_attention": inputs["full"], "sliding_attention": inputs["sliding"]},
        position_ids=inputs["position_ids"],
        use_cache=False,
    ).last_hidden_state
    heads, nodes = len(tree.head_ids), len(tree.node_ids)
    asked = hidden[:, -nodes - heads - 1 :]
    said = torch.stack([model.lm_head(row).float().log_softmax(-1)[:, tree.vocabulary] for row in asked])
    head = said[:, torch.arange(heads, device=device), tree.head_columns]
    return answer_scores(tree, said[:, heads:]), head


def probabilities(model, tree: AnswerTree, prompts: list[list[int]], image_features: torch.Tensor) -> torch.Tensor:
    """(batch, n_answers) float64 over the closed set; each row sums to 1."""
    return log_probabilities(model, tree, prompts, image_features)[0].double().softmax(-1)
