"""LoRA that looks only where the new films differ from the known ones.

A plain adapter sees everything a layer sees, so what it learns from a few hundred corrected films it also says of films
that were read well already. Here each LoRA layer's input is measured first, over the replayed films and over the new
ones. lora_A is then set to the directions in which the new films stand out the most, and stays as it is; lora_B alone
is trained. A film without anything new passes these directions by, and is read as before.

The directions are the generalised eigenvectors of the two second moments (Fukunaga and Koontz, 1970, "Application of
the Karhunen-Loeve expansion to feature selection and ordering"; with the ridge below it is what common spatial patterns
use). Their ratio is the mean square on new films over that on known ones: `least_ratio` keeps out those that stand out
by the chance of which films were drawn."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from training.input_moments import fed_as, input_moments
from training.radiology_processor import Batch

RIDGE = 0.01  # of the mean variance, added to the known films' moments: so few films leave directions empty by chance
LARGEST_INPUT = 4096  # layers with more inputs stay closed: their moments would outweigh the model


@torch.no_grad()
def aim(network, passes: Iterable[tuple[Batch, torch.Tensor]], *, least_ratio: float) -> int:
    """Aims and freezes lora_A of the language model's LoRA layers, whose lora_B must still be zero. `passes`: training
    batches, replayed and new films among them, with their image tokens. Returns how many directions were found in all;
    where it is 0, nothing was changed."""
    layers = {n: m for n, m in network.model.language_model.named_modules() if hasattr(m, "lora_A")}
    measured = {n: m for n, m in layers.items() if fed_as(n) == n and m.in_features <= LARGEST_INPUT}
    moments = input_moments(network, measured, passes, _known_and_new)
    found = {n: new_directions(*m, _rank(measured[n]), least_ratio) for n, m in moments.items()}
    count = sum(int(rows.any(1).sum()) for rows in found.values())
    if count:
        for name, layer in layers.items():
            weight = layer.lora_A[layer.active_adapters[0]].weight
            rows = found.get(fed_as(name))
            weight.copy_(torch.zeros_like(weight) if rows is None else rows)
            weight.requires_grad_(False)
    return count


def new_directions(known: torch.Tensor, new: torch.Tensor, rank: int, least_ratio: float) -> torch.Tensor:
    """(rank, features), zero rows where fewer stand out. `known`, `new`: second moments, (features, features).

    Rows are scaled to what the rows of a fresh LoRA layer would give if `new` filled `rank` directions alone."""
    known, new = known.double(), new.double()
    size = len(known)
    known = known + RIDGE * known.trace() / size * torch.eye(size, dtype=known.dtype, device=known.device)
    factor = torch.linalg.cholesky(known)
    whitened = torch.linalg.solve_triangular(factor, new, upper=False)
    whitened = torch.linalg.solve_triangular(factor, whitened.T, upper=False)
    ratios, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)  # ascending
    ratios, vectors = ratios.flip(0)[:rank], vectors.flip(1)[:, :rank]
    directions = torch.linalg.solve_triangular(factor.T, vectors, upper=True)
    energy = (directions * (new @ directions)).sum(0)
    rows = (directions * (new.trace() / (3 * rank) / energy).sqrt()).T
    rows = torch.where((ratios >= least_ratio)[:, None], rows, 0)
    return torch.cat([rows, rows.new_zeros(rank - len(rows), size)]).float()


def _known_and_new(batch: Batch) -> list[torch.Tensor]:
    replayed = torch.tensor([e.replay for e in batch.examples])[:, None]
    filled = batch.attention_mask.bool()
    return [filled & kind for kind in (replayed, ~replayed)]


def _rank(layer) -> int:
    return layer.r[layer.active_adapters[0]]
