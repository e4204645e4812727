"""4-bit codes of a merged model by what its layers say, not by each weight alone.

An adapter is trained beside a 4-bit base. Merged and rounded again to the nearest of NF4's sixteen values, each weight
is off by an error of its own, and the errors add up in a layer's output. Here the columns of a weight are rounded one
after the other, and what a column lost is made up for by those not yet rounded, as far as the layer's inputs let it:
GPTQ (Frantar et al., "GPTQ: Accurate post-training quantization for generative pre-trained transformers", ICLR 2023),
with the block scales that bitsandbytes gives. The codes are stored and read as any others. What they are to keep is the
output of base and adapter as they were trained, on films that they were trained on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from bitsandbytes.functional import dequantize_4bit, dequantize_blockwise
from torch import nn

from engine.inference.four_bit import NF4_BLOCK
from training.input_moments import fed_as, input_moments
from training.language_pass import lora_layers
from training.radiology_processor import Batch

DAMPING = 0.01  # of the mean input variance, as in the paper
COLUMNS_AT_ONCE = 128  # rounded before the columns behind them are corrected
MOMENTS_BYTES = 8e9  # in memory at a time; where all do not fit, the films are shown again for the next layers


def recode(merged, trained, passes: list[tuple[Batch, torch.Tensor]]) -> None:
    """Replaces the codes of `merged`, in 4 bits, where `trained`, the 4-bit base with its adapter, has LoRA layers in
    the language model. `passes`: batches of films with their image tokens."""
    text = merged.model.language_model
    adapted = set(lora_layers(trained))
    layers = {
        name: layer
        for name, layer in trained.model.language_model.named_modules()
        if layer in adapted and layer.in_features % NF4_BLOCK == 0
    }
    inputs: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        inputs.setdefault(fed_as(name), layer)
    for measured in _parts(inputs):
        moments = input_moments(trained, measured, passes, lambda batch: [batch.attention_mask.bool()])
        for name, layer in layers.items():
            if fed_as(name) in moments:
                weight = text.get_submodule(name).weight
                weight.data.copy_(packed(effective(layer), moments[fed_as(name)][0], weight.quant_state))


def _parts(layers: dict[str, nn.Module]) -> Iterator[dict[str, nn.Module]]:
    """As many at a time as memory is to be had for their moments."""
    part: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        held = sum(4 * other.in_features**2 for other in part.values())
        if part and held + 4 * layer.in_features**2 > MOMENTS_BYTES:
            yield part
            part = {}
        part[name] = layer
    yield part


@torch.no_grad()
def effective(layer) -> torch.Tensor:
    """(rows, cols) float32: what a LoRA layer multiplies by, base and adapter together."""
    base, (name,) = layer.base_layer.weight, layer.active_adapters
    return dequantize_4bit(base.data, base.quant_state).float() + layer.get_delta_weight(name).float()


@torch.no_grad()
def packed(weight: torch.Tensor, moment: torch.Tensor, state) -> torch.Tensor:
    """(rows * cols / 2, 1) uint8: the codes of `weight`, (rows, cols), for inputs with the second moment `moment`.
    `state`: bitsandbytes' QuantState, whose scales they are for."""
    scales = dequantize_blockwise(state.absmax, state.state2) + state.offset
    flat = rounded(weight.clone(), moment, scales.view(len(weight), -1), state.code).view(-1)
    return (flat[::2] << 4 | flat[1::2])[:, None]


def rounded(weight: torch.Tensor, moment: torch.Tensor, scales: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(rows, cols) uint8, indices into `values` (ascending); `scales`: (rows, cols / NF4_BLOCK). Uses `weight` up."""
    cols = weight.shape[1]
    spread = _spread(moment)
    edges = (values[1:] + values[:-1]) / 2
    codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
    scales = scales.clamp_min(1e-30)
    for start in range(0, cols, COLUMNS_AT_ONCE):
        end = min(start + COLUMNS_AT_ONCE, cols)
        lost = torch.empty(len(weight), end - start, device=weight.device)
        for col in range(start, end):
            scale = scales[:, col // NF4_BLOCK]
            code = torch.bucketize(weight[:, col] / scale, edges)
            codes[:, col] = code
            lost[:, col - start] = (weight[:, col] - values[code] * scale) / spread[col, col]
            weight[:, col:end] -= torch.outer(lost[:, col - start], spread[col, col:end])
        weight[:, end:] -= lost @ spread[start:end, end:]
    return codes


def _spread(moment: torch.Tensor) -> torch.Tensor:
    """The upper Cholesky factor of the damped moment's inverse: row i says how the error of column i is shared out."""
    damped = moment.to(torch.double, copy=True)
    damped.diagonal().add_(DAMPING * damped.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).float()
