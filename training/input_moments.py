"""What a language model's layers are fed with: second moments of their inputs over the tokens of chosen films."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import nn

from training.language_pass import language_hidden
from training.radiology_processor import Batch

SHARED_INPUT = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}  # layers fed with what another is fed
Places = Callable[[Batch], Sequence[torch.Tensor]]  # one (rows, length) bool for each kind of token measured


def fed_as(name: str) -> str:
    """The layer whose input `name` shares, itself included: only that one is measured."""
    parent, _, leaf = name.rpartition(".")
    return f"{parent}.{SHARED_INPUT.get(leaf, leaf)}"


@torch.no_grad()
def input_moments(
    network, layers: dict[str, nn.Module], passes: Iterable[tuple[Batch, torch.Tensor]], places: Places
) -> dict[str, list[torch.Tensor]]:
    """For each layer one (features, features) mean of x x^T for every kind of token that `places` tells apart.

    `layers`: of the language model, by names of the caller's; `passes`: batches with their image tokens."""
    sums: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    shown: list[torch.Tensor] = []

    def add(name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        rows = [inputs[0][place].float() for place in shown]
        products = [r.T @ r for r in rows]
        sums[name] = [a + b for a, b in zip(sums[name], products, strict=True)] if sums[name] else products

    hooks = [layer.register_forward_pre_hook(partial(add, name)) for name, layer in layers.items()]
    counts = None
    network.eval()
    for batch, image_tokens in passes:
        shown[:] = [place.to(network.device) for place in places(batch)]
        language_hidden(network, batch, image_tokens)
        tokens = [int(place.sum()) for place in shown]
        counts = tokens if counts is None else [a + b for a, b in zip(counts, tokens, strict=True)]
    for hook in hooks:
        hook.remove()
    return {name: [s / n for s, n in zip(kinds, counts, strict=True)] for name, kinds in sums.items()}
