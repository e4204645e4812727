"""Whether a training step fits the memory, before the first one.

Counted, not tried: what the passes of training.language_pass keep, from the model's shape."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from training.language_pass import lora_layers

ROOM = 0.92  # of the free memory; the rest is for the allocator


@dataclass(frozen=True)
class Plan:
    text: str
    refusal: str | None
    checkpointed: bool
    unpacked: bool


def vision_bytes(network, rows: int) -> int:
    """What the backward pass keeps of the vision tower, layer by layer as PEFT and transformers run it."""
    vision = network.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    layer = 10 * vision.hidden_size + 3 * vision.intermediate_size
    return 2 * rows * vision.num_hidden_layers * patches * layer * network.dtype.itemsize


def step_bytes(network, rows: int, length: int, *, checkpointed: bool, unpacked: bool, eager: bool = False) -> int:
    """Beyond the loaded model: the optimiser, what the backward pass keeps, logits, unpacked weights."""
    text = network.config.get_text_config()
    size, tokens = network.dtype.itemsize, rows * length
    wide, narrow = text.intermediate_size, text.hidden_size
    attention = (2 * text.num_attention_heads + 2 * text.num_key_value_heads) * text.head_dim
    layer = tokens * size * (3 * wide + 6 * narrow + attention) * (3 if eager else 1)
    kept = text.num_hidden_layers * tokens * narrow * size + layer if checkpointed else text.num_hidden_layers * layer
    weights = [w.base_layer for w in lora_layers(network)]
    values = [w.in_features * w.out_features for w in weights]
    copies = sum(values) * size if unpacked else 8 * max(values, default=0) * size
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    logits = 3 * rows * 40 * text.vocab_size * size
    return trained * 16 + kept + copies + logits


def plan(network, rows: int, length: int, memory: str, *, vision: bool = False) -> Plan:
    """`memory`: "cpu", or what --memory says. auto takes the fastest way that fits. `vision`: the tower is trained."""
    if memory == "cpu":
        free, ways = psutil.virtual_memory().available, [(False, True), (False, False)]
    else:
        free = torch.cuda.mem_get_info()[0]
        ways = {"auto": [(False, True), (True, False)], "large": [(False, True)], "small": [(True, False)]}[memory]
    room = ROOM * free

    def needed(count: int, way: tuple[bool, bool]) -> int:
        tower = vision_bytes(network, count) if vision else 0
        return tower + step_bytes(network, count, length, checkpointed=way[0], unpacked=way[1], eager=memory == "cpu")

    for way in ways:
        if needed(rows, way) <= room:
            name = (
                "layers checkpointed, NF4"
                if way[0]
                else "nothing computed twice" + (", NF4 unpacked" if way[1] else "")
            )
            text = (
                f"A step of {rows} x {length} tokens takes about {needed(rows, way) / 1e9:.1f} GB of {free / 1e9:.1f}"
            )
            text += f" GB free ({name})."
            return Plan(text, None, *way)
    fits = next((n for n in range(rows - 1, 0, -1) if needed(n, ways[-1]) <= room), 0)
    advice = f"--batch_size {fits} would fit" if fits else "not even --batch_size 1 fits"
    refusal = (
        f"A step of {rows} images of {length} tokens needs about {needed(rows, ways[-1]) / 1e9:.1f} GB beside the "
        f"model; {free / 1e9:.1f} GB are free. {advice}."
    )
    return Plan("", refusal, *ways[-1])
