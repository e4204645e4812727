"""A small adapter for the phantom model: random, but not zero."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma3ForConditionalGeneration

from engine.settings import PHANTOM_MODEL, PHANTOM_MODEL_DIR
from training.adapter import record_base

TARGETS = r".*language_model.*(q_proj|v_proj|up_proj)"


def write_adapter(folder: Path, *, size: float = 0.01, targets=TARGETS, base: Path = PHANTOM_MODEL_DIR) -> Path:
    """`size`: standard deviation of lora_B; 0 leaves the adapter untrained."""
    network = Gemma3ForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(network, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
            elif "lora_A" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[1] ** -0.5)
    name = PHANTOM_MODEL if base == PHANTOM_MODEL_DIR else str(base)
    adapted.peft_config["default"].base_model_name_or_path = name
    adapted.save_pretrained(folder, save_embedding_layers=False)
    record_base(folder, name)
    return folder
