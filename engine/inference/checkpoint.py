"""Loading a model in 4 bits: the shipped phantom model, MedGemma from the hub, or a folder; with an adapter or without.

All go the same way: AutoProcessor, NF4 with double quantisation by bitsandbytes (on a CPU too, computing in float32),
then the PEFT adapter. A folder that is already 4-bit is loaded as it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers import AutoProcessor, BitsAndBytesConfig, Gemma3Config, Gemma3ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from engine.errors import ModelUnavailable
from engine.inference import access
from engine.inference.gate import FeatureGate
from engine.inference.reader import Reader
from engine.settings import PHANTOM_MODEL, PHANTOM_MODEL_DIR

NF4_BLOCK = 64
FINGERPRINT_BYTES = 1 << 25  # of each weight file; the phantom model's whole


@dataclass(frozen=True)
class ReadingCard:
    """reading.json beside the weights: what this model may be used for. A model without one gets the defaults."""

    name: str
    is_phantom: bool = False
    knows_triage: bool = False  # trained to say which view an image shows


def load_reader(model: str, adapter: Path | None, *, gated: bool = True) -> Reader:
    """`model`: "phantom", a hub name, or a folder. `gated=False` is for fitting the gate itself.

    Raises ModelUnavailable with everything that is missing."""
    transformers_logging.disable_progress_bar()
    folder = PHANTOM_MODEL_DIR if model == PHANTOM_MODEL else Path(model)
    source = str(folder) if folder.is_dir() else model
    if not folder.is_dir() and not access.is_hub_name(model):
        raise ModelUnavailable(f"There is no model folder {model}. Set PEDISCREEN_MODEL to a folder or a hub name.")
    try:
        config = Gemma3Config.from_pretrained(source)
        processor = AutoProcessor.from_pretrained(source, backend="pil")
        network = Gemma3ForConditionalGeneration.from_pretrained(source, config=config, **_precision(config))
    except (OSError, ValueError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        if folder.is_dir():
            raise ModelUnavailable(f"The model in {folder} cannot be loaded: {error}") from error
        raise ModelUnavailable(access.explanation(model, cause=type(error).__name__)) from error
    card = _reading_card(folder, model)
    version = f"{card.name} ({_fingerprint(folder)})" if folder.is_dir() else card.name
    if adapter is not None:
        network, version = _with_adapter(network, adapter, version)
    return Reader(
        network.eval(),
        processor,
        model_version=version,
        is_phantom=card.is_phantom,
        gate=FeatureGate.load(folder) if gated and (card.is_phantom or FeatureGate.is_in(folder)) else None,
        knows_triage=card.knows_triage,
    )


def _precision(config: Gemma3Config) -> dict:
    """Arguments of from_pretrained: NF4 unless the folder is 4-bit already; bf16 beside it where the GPU has it."""
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    arguments = {"dtype": dtype, "device_map": {"": 0} if on_gpu else None}
    if getattr(config, "quantization_config", None) is not None:
        return arguments
    skip = ["lm_head"]
    if config.vision_config.intermediate_size % NF4_BLOCK:  # SigLIP-So400m's 4304 takes bitsandbytes' slow path
        skip += ["model.vision_tower", "model.multi_modal_projector"]
    return arguments | {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=skip,
        )
    }


def _with_adapter(network, adapter: Path, version: str):
    from peft import PeftModel

    if not (adapter / "adapter_config.json").is_file():
        raise ModelUnavailable(
            f"LORA_ADAPTER_PATH names {adapter}, which holds no adapter_config.json. Point it at a lora/ folder that "
            "training wrote, or unset it."
        )
    try:
        network = PeftModel.from_pretrained(network, adapter)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelUnavailable(f"The adapter {adapter} does not fit this model: {error}") from error
    return network, f"{version} + {adapter.parent.name or adapter.name} ({_fingerprint(adapter)})"


def _reading_card(folder: Path, model: str) -> ReadingCard:
    file = folder / "reading.json"
    if not file.is_file():
        return ReadingCard(name=folder.name if folder.is_dir() else model)
    return ReadingCard(**json.loads(file.read_text(encoding="utf-8")))


def _fingerprint(folder: Path) -> str:
    """Eight hex digits that change with the weights: names, sizes and beginnings of the safetensors files."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as weights:
            digest.update(weights.read(FINGERPRINT_BYTES))
    return digest.hexdigest()[:8]
