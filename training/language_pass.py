"""The language model's pass of a training step: image tokens in, hidden states where the answer is predicted out.

Same weights, same sums as Gemma3ForConditionalGeneration.forward, without what a training step need not pay for:
- No attention masks. Every row has its image block at the same place and is padded on the right, so attention is
  two dense calls (`image_block_attention`), each with a kernel that needs no mask.
- The language model's head runs only where a label is predicted.
- On a GPU: decoder layers compiled, LoRA without PEFT's casts and copies (`lean_lora`), and, where memory allows, NF4
  weights unpacked once for the whole run instead of twice a step (`unpack`); their values stay the 4-bit ones.

`differs_from_library` measures the pass against the library's own on the run's first batch."""

from __future__ import annotations

from functools import partial
from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from training.radiology_processor import Batch

IMAGE_BLOCK = "image_block"


@torch.compiler.disable  # compiled with the layer, its backward pass gave wrong gradients on an H100 (torch 2.11)
def image_block_attention(
    module, query, key, value, attention_mask, scaling=None, image_span=None, dropout=0.0, **ignored
) -> tuple[torch.Tensor, None]:
    """Causal attention in which the block image_span = (start, end) sees itself both ways. (batch, heads, length, dim)

    A plain causal call over everything, whose rows in the block are then replaced: they see all keys up to the
    block's end. No window: `language_hidden` refuses rows longer than the sliding window."""
    if image_span is None:  # a pass with masks of its own: validation, the library's
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **ignored)
    start, end = image_span
    whole = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
    block = F.scaled_dot_product_attention(
        query[:, :, start:end], key[:, :, :end], value[:, :, :end], scale=scaling, enable_gqa=True
    )
    return torch.cat([whole[:, :, :start], block, whole[:, :, end:]], dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(IMAGE_BLOCK, image_block_attention)
AttentionMaskInterface.register(IMAGE_BLOCK, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


def language_hidden(network, batch: Batch, image_features: torch.Tensor) -> torch.Tensor:
    """(rows, length, hidden), normalised. `image_features`: (rows, image tokens, hidden), projected."""
    config = network.config.get_text_config()
    if batch.input_ids.shape[1] > config.sliding_window:
        raise ValueError(f"rows of {batch.input_ids.shape[1]} tokens exceed the window of {config.sliding_window}")
    device = image_features.device
    start, end = batch.image_span
    input_ids = batch.input_ids.to(device)
    with torch.no_grad():
        embeds = network.get_input_embeddings()(input_ids.masked_fill(batch.token_type_ids.to(device) == 1, 0))
    features = image_features.to(embeds.dtype)
    embeds = torch.cat([embeds[:, :start], features, embeds[:, end:]], dim=1)
    if not embeds.requires_grad and network.training:
        embeds.requires_grad_()  # so that checkpointing keeps the layers' graph
    config._attn_implementation = IMAGE_BLOCK  # for good: checkpointing runs layers again in the backward pass
    return network.model.language_model(
        inputs_embeds=embeds,
        attention_mask={"full_attention": None, "sliding_attention": None},
        use_cache=False,
        image_span=batch.image_span,
    ).last_hidden_state


def answer_logits(network, batch: Batch, image_features: torch.Tensor) -> torch.Tensor:
    """(labels in the batch, vocabulary): the logits behind `batch.predictors`, in their order."""
    hidden = language_hidden(network, batch, image_features)
    row, place = (index.to(hidden.device) for index in batch.predictors)
    return network.lm_head(hidden[row, place])


@torch.no_grad()
def differs_from_library(network, batch: Batch, image_features: torch.Tensor) -> float:
    """Largest difference of an answer token's log-probability from the library's own forward pass and masks."""
    device = image_features.device
    ids = batch.input_ids.to(device)
    is_image = batch.token_type_ids.to(device) == 1
    embeds = network.get_input_embeddings()(ids.masked_fill(is_image, 0))
    embeds = embeds.masked_scatter(is_image[..., None], image_features.to(embeds.dtype))
    hidden = network.model(
        inputs_embeds=embeds,
        attention_mask=batch.attention_mask.to(device),
        token_type_ids=batch.token_type_ids.to(device),
        use_cache=False,
    ).last_hidden_state
    row, place = (index.to(device) for index in batch.predictors)
    theirs = network.lm_head(hidden[row, place]).float().log_softmax(-1)
    ours = answer_logits(network, batch, image_features).float().log_softmax(-1)
    said = ids[row, place + 1][:, None]
    return float((ours.gather(1, said) - theirs.gather(1, said)).abs().max())


def lora_layers(network) -> list[nn.Module]:
    """Of the language model; those of the vision tower keep PEFT's forward."""
    return [m for m in network.model.language_model.modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")]


def unpack(network) -> int:
    """Replace every 4-bit weight under a LoRA layer by the values it stands for; bytes of the copies."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    total = 0
    for layer in lora_layers(network):
        packed = layer.base_layer
        if isinstance(packed, Linear4bit):
            weight = dequantize_4bit(packed.weight.data, packed.weight.quant_state).to(packed.compute_dtype)
            plain = nn.Linear(packed.in_features, packed.out_features, bias=False, device="meta")
            plain.weight = nn.Parameter(weight, requires_grad=False)
            layer.base_layer = plain
            total += weight.nbytes
    return total


def lean_lora(network) -> None:
    """W x + scaling B A x in the input's precision, with the adapter's weights kept in float32.

    PEFT's forward for 4-bit layers casts the input to float32 and copies the result; torch.compile cannot see through
    bitsandbytes' own autograd function, but it can through its dequantisation."""
    for layer in lora_layers(network):
        layer.forward = MethodType(_lean_forward, layer)


def _lean_forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    name = self.active_adapters[0]
    a, b = self.lora_A[name].weight.to(x.dtype), self.lora_B[name].weight.to(x.dtype)
    return F.linear(x, _base_weight(self.base_layer, x.dtype)) + F.linear(F.linear(x, a), b * self.scaling[name])


def _base_weight(base: nn.Module, dtype: torch.dtype) -> torch.Tensor:
    """A layer's weight, unpacked where it is 4-bit: in plain operations, which torch.compile makes one kernel of."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        return base.weight.to(dtype)
    scale = state.absmax
    if state.nested:
        blocks = torch.arange(scale.numel(), device=scale.device) // state.state2.blocksize
        scale = state.state2.code[scale.int()] * state.state2.absmax[blocks] + state.offset
    packed = base.weight.detach().view(-1)
    codes = torch.stack([packed >> 4, packed & 15], dim=-1).view(-1, state.blocksize)
    return (state.code[codes.int()] * scale[:, None]).view(state.shape).to(dtype)


def prepare_layers(network, *, compiled: bool, checkpointed: bool) -> None:
    """`compiled`: one graph for all layers, and another for every length of row. `checkpointed`: keep only a layer's
    input for the backward pass and compute the rest again: a third more arithmetic, a tenth of the memory."""
    if compiled:
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for layer in network.model.language_model.layers:
        plain = MethodType(type(layer).forward, layer)  # so that a second call starts afresh
        run = torch.compile(plain, dynamic=False) if compiled else plain
        layer.forward = partial(checkpoint, run, use_reentrant=False) if checkpointed else run


def answer_gradients(network, batch: Batch, image_features: torch.Tensor) -> torch.Tensor:
    """The gradient of the answers' cross-entropy at every trained weight, in one row."""
    network.train()
    trained = [p for p in network.parameters() if p.requires_grad]
    logits = answer_logits(network, batch, image_features)
    row, place = (index.to(logits.device) for index in batch.predictors)
    said = batch.input_ids.to(logits.device)[row, place + 1]
    gradients = torch.autograd.grad(F.cross_entropy(logits.float(), said), trained, allow_unused=True)
    return torch.cat([torch.zeros(p.numel()) if g is None else g.float().reshape(-1).cpu()
                      for p, g in zip(trained, gradients, strict=True)])  # fmt: skip
