"""The read on a GPU: the same sums as the library's modules and engine.inference.answer_tree, arranged for speed.

- Image tokens and answers are CUDA graphs, one for every batch size (and task, and length of prompt): thousands of
  small kernels start without the processor. A shape is captured the second time it is met, so that a single read waits
  for neither compiler nor capture.
- The vision tower keeps its patches in memory row by row. The library's convolution leaves them column by column, and
  every later sum and norm then pays for it: a fifth of the tower's time.
- Norms, rotary embedding and gates are one compiled kernel each instead of up to eight (`Pieces`).
- cuDNN's attention first: faster than the flash kernels at the tower's 72 wide heads, and it takes the tree's mask.
- The language model's head runs behind the tree's nodes only, and over the vocabulary in parts: all logits of sixteen
  images would take 4 GB.

docs/read-speed.md has what each is worth."""

from __future__ import annotations

import logging
import os
import shutil
import sysconfig
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.inference.answer_tree import AnswerTree, answer_scores, embedded, padded, sequence_of
from engine.inference.four_bit import Int8Linear, Int8Rows, from_int8_rows

log = logging.getLogger(__name__)

BATCH_SIZES = (1, 2, 4, 8, 16)  # those that graphs exist for; what lies between is filled up to the next
TOWER_AT_ONCE = 4  # images: more is no faster, and the tower's inner layers are the largest thing in memory
PROMPT_MULTIPLE = 16  # lengths of rows: prompts that differ in a word or two share a graph
VOCABULARY_PART = 8_192  # rows of the head at once
BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Gemma 3's RMS norm over the last dimension, in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * (1.0 + weight.float())).type_as(x)


def add_norm(residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return residual + norm(x, weight, eps)


def rotated(x: torch.Tensor, weight: torch.Tensor, eps: float, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Queries or keys, (tokens, heads, head_dim), normalised and turned by `cos` and `sin`, (tokens, 1, head_dim)."""
    x = norm(x, weight, eps)
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return F.gelu(gate, approximate="tanh") * up


def log_sum_exp(logits: torch.Tensor) -> torch.Tensor:
    """(rows, n) to (rows,) in float32."""
    wide = logits.float()
    largest = wide.amax(-1, keepdim=True)
    return (wide - largest).exp().sum(-1).log() + largest[:, 0]


def unpacked(codes: torch.Tensor, scale: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Int8 rows multiplied out, in the type of `like`."""
    return from_int8_rows(codes, scale, like.dtype)


class Pieces(NamedTuple):
    """What PyTorch would launch several kernels for."""

    norm: Callable[..., torch.Tensor]
    add_norm: Callable[..., torch.Tensor]
    rotated: Callable[..., torch.Tensor]
    gated: Callable[..., torch.Tensor]
    log_sum_exp: Callable[..., torch.Tensor]
    unpacked: Callable[..., torch.Tensor]


PLAIN = Pieces(norm, add_norm, rotated, gated, log_sum_exp, unpacked)


@cache
def fused() -> Pieces:
    """Each piece as one kernel for any number of tokens; the first use of all takes some seconds.

    Triton builds them with a C compiler and Python's headers. Where one is missing they stay plain, and a read takes a
    third longer."""
    has_compiler = any(shutil.which(name) for name in (os.environ.get("CC", ""), "gcc", "clang"))
    if not has_compiler or not Path(sysconfig.get_path("include"), "Python.h").is_file():
        log.warning("reads take a third longer: torch.compile needs gcc and Python.h (Debian: gcc, python3-dev)")
        return PLAIN
    torch._dynamo.config.recompile_limit = max(32, torch._dynamo.config.recompile_limit)
    return Pieces(*(torch.compile(piece, dynamic=True) for piece in PLAIN))


def image_tokens(network, pixels: torch.Tensor) -> torch.Tensor:
    """(n, 3, side, side), normalised, to (n, image tokens, hidden): vision tower and projector."""
    tower = network.model.vision_tower
    embedding = tower.embeddings.patch_embedding
    size = embedding.kernel_size[0]
    grid = pixels.to(embedding.weight.dtype).unflatten(2, (-1, size)).unflatten(4, (-1, size))
    patches = grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (n, patches, 3 * size * size)
    hidden = F.linear(patches, embedding.weight.flatten(1), embedding.bias)
    hidden = hidden + tower.embeddings.position_embedding.weight
    with sdpa_kernel(BACKENDS, set_priority=True):
        for layer in tower.encoder.layers:
            hidden = hidden + layer.self_attn(layer.layer_norm1(hidden))[0]
            hidden = hidden + _vision_mlp(layer.mlp, layer.layer_norm2(hidden))
    return network.model.multi_modal_projector(tower.post_layernorm(hidden))


def _vision_mlp(mlp: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """GELU inside the matrix product where the layer is a plain one; 4-bit and adapted layers go their own way."""
    if type(mlp.fc1) not in (nn.Linear, Int8Linear) or not x.is_cuda:
        return mlp(x)
    inner = torch._addmm_activation(mlp.fc1.bias, x.flatten(0, 1), mlp.fc1.weight.t(), use_gelu=True)
    return mlp.fc2(inner).view_as(x)


def score(
    network, tree: AnswerTree, pieces: Pieces, input_ids: torch.Tensor, pads: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """(batch, n_answers), the log-probability of every answer given the head.

    `input_ids`, `pads` as `answer_tree.padded` makes them, `tokens` (batch, image tokens, hidden); all of them and the
    tree on the network's device."""
    config = network.config.get_text_config()
    sequence = sequence_of(tree, input_ids, pads, network.config.image_token_id, config.sliding_window)
    embeds = embedded(network, input_ids, tokens)
    masks = {
        f"{kind}_attention": torch.zeros_like(sequence[kind], dtype=embeds.dtype).masked_fill(
            ~sequence[kind], torch.finfo(embeds.dtype).min
        )
        for kind in ("full", "sliding")
    }
    hidden = _language(network.model.language_model, embeds, masks, sequence["position_ids"], pieces)
    asked = hidden[:, -len(tree.node_ids) - 1 :].flatten(0, 1)
    said = _said(network, tree, pieces, asked)
    return answer_scores(tree, said.view(len(input_ids), -1, said.shape[-1]))


def _language(
    text: nn.Module, embeds: torch.Tensor, masks: dict[str, torch.Tensor], positions: torch.Tensor, pieces: Pieces
) -> torch.Tensor:
    """The decoder layers: (batch, length, hidden) in and out."""
    batch, length, width = embeds.shape
    turns = {kind: [turn.flatten(0, 1)[:, None] for turn in text.rotary_emb(embeds, positions, kind)] for kind in masks}
    hidden = embeds.flatten(0, 1)  # (tokens, hidden)
    with sdpa_kernel(BACKENDS, set_priority=True):
        for layer, kind in zip(text.layers, text.config.layer_types, strict=True):
            attention, mlp = layer.self_attn, layer.mlp
            eps, dim, groups = layer.input_layernorm.eps, attention.head_dim, attention.num_key_value_groups
            x = pieces.norm(hidden, layer.input_layernorm.weight, eps)
            query, key, value = (
                project(x).unflatten(1, (-1, dim)) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            query = pieces.rotated(query, attention.q_norm.weight, eps, *turns[kind])
            key = pieces.rotated(key, attention.k_norm.weight, eps, *turns[kind])
            query, key, value = (  # (batch, heads, length, head_dim)
                t.view(batch, length, -1, dim).transpose(1, 2)
                for t in (query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))
            )
            seen = F.scaled_dot_product_attention(query, key, value, masks[kind], scale=attention.scaling)
            seen = attention.o_proj(seen.transpose(1, 2).reshape(batch * length, -1))
            hidden = pieces.add_norm(hidden, seen, layer.post_attention_layernorm.weight, eps)
            x = pieces.norm(hidden, layer.pre_feedforward_layernorm.weight, eps)
            x = mlp.down_proj(pieces.gated(mlp.gate_proj(x), mlp.up_proj(x)))
            hidden = pieces.add_norm(hidden, x, layer.post_feedforward_layernorm.weight, eps)
    return pieces.norm(hidden, text.norm.weight, text.norm.eps).view(batch, length, width)


def _said(network, tree: AnswerTree, pieces: Pieces, hidden: torch.Tensor) -> torch.Tensor:
    """(rows, hidden) to the log-probabilities of the tree's vocabulary, (rows, n_vocabulary)."""
    head = network.lm_head
    if isinstance(head, Int8Rows):
        rows = [
            (head.codes[k : k + VOCABULARY_PART], head.scale[k : k + VOCABULARY_PART])
            for k in range(0, len(head.codes), VOCABULARY_PART)
        ]
        parts = (pieces.unpacked(codes, scale, hidden) for codes, scale in rows)
        asked = pieces.unpacked(head.codes[tree.vocabulary], head.scale[tree.vocabulary], hidden)
    else:
        parts, asked = head.weight.split(VOCABULARY_PART), head.weight[tree.vocabulary]
    total = torch.stack([pieces.log_sum_exp(F.linear(hidden, part)) for part in parts]).logsumexp(0)
    return F.linear(hidden, asked).float() - total[:, None]


class FastPass:
    """Image tokens and answers of one network on its GPU, whose layers must stay what they are.

    Not for two threads at a time. Every call returns tensors of its own, on the device, without waiting for them."""

    def __init__(self, network, trees: dict[str, AnswerTree], mean: torch.Tensor, std: torch.Tensor) -> None:
        """`mean` and `std`, (3,): of the pixels as the image processor normalises them, on a scale of 0 to 255."""
        self.network = network
        self.trees = {task: tree.to(network.device) for task, tree in trees.items()}
        self.mean, self.std = (t.to(network.device)[:, None, None] for t in (mean, std))
        self._aside = torch.cuda.Stream()  # one for all captures: the libraries keep working memory for each stream
        self._pool = torch.cuda.graph_pool_handle()
        self._met: set[tuple] = set()
        self._graphs: dict[tuple, _Graph] = {}

    def image_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, side, side) uint8, n at most 16, to (n, image tokens, hidden)."""

        def tokens(_, pixels: torch.Tensor) -> torch.Tensor:
            parts = pixels.split(TOWER_AT_ONCE)
            return torch.cat([image_tokens(self.network, (part - self.mean) / self.std) for part in parts])

        return self._run(("vision",), tokens, pixels)

    def scores(self, task: str, prompts: list[list[int]], tokens: torch.Tensor) -> torch.Tensor:
        """(n, n_answers), log-probabilities given the head; n at most 16."""
        tree = self.trees[task]
        ids, pads = padded(tree, prompts, PROMPT_MULTIPLE)
        return self._run(
            (task, ids.shape[1]), lambda pieces, *inputs: score(self.network, tree, pieces, *inputs), ids, pads, tokens
        )

    def forget_graphs(self) -> None:
        """Frees what they hold; shapes are captured again as they are met."""
        self._graphs.clear()
        self._pool = torch.cuda.graph_pool_handle()
        torch.cuda.empty_cache()

    def _run(self, name: tuple, function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        rows = len(inputs[0])
        size = next(size for size in BATCH_SIZES if size >= rows)
        key = (*name, size)
        if key not in self._met:
            self._met.add(key)
            return function(PLAIN, *(value.to(self.network.device) for value in inputs))
        if key not in self._graphs:
            static = [
                torch.zeros(size, *value.shape[1:], dtype=value.dtype, device=self.network.device) for value in inputs
            ]
            self._graphs[key] = _Graph(lambda *values: function(fused(), *values), static, self._aside, self._pool)
        return self._graphs[key].run(*inputs)


_CAPTURING = threading.Lock()  # of all networks: a capture begins by waiting for the card, which would break another


class _Graph:
    """`function` captured over its inputs, which it keeps. Graphs of one pool share their working memory."""

    def __init__(self, function: Callable[..., torch.Tensor], inputs: list[torch.Tensor], aside, pool) -> None:
        self.inputs, self.graph = inputs, torch.cuda.CUDAGraph()
        with _CAPTURING:
            torch.cuda.empty_cache()  # what the first, plain run took; the capture does the same for the run here
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # compilers and libraries set themselves up, which a capture must not see
                function(*inputs)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(self.graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
                self.output = function(*inputs)

    def run(self, *values: torch.Tensor) -> torch.Tensor:
        for kept, value in zip(self.inputs, values, strict=True):
            kept[: len(value)].copy_(value, non_blocking=True)
        self.graph.replay()
        return self.output[: len(values[0])].clone()
