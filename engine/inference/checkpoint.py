"""Loading a model in 4 bits: the shipped phantom model, MedGemma from the hub, or a folder; with an adapter or without.

All go the same way: AutoProcessor, NF4 with double quantisation by bitsandbytes (on a CPU too, computing in float32),
then the PEFT adapter. A folder that is already 4-bit is loaded as it is (engine.inference.four_bit)."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil
import torch
from bitsandbytes.nn import Linear4bit
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import AutoProcessor, Gemma3Config, Gemma3ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from engine.errors import ModelUnavailable, ReaderLost
from engine.findings.answers import ALLOWED, Task, answer_json
from engine.inference import access, four_bit, gpu
from engine.inference.gate import FeatureGate
from engine.inference.model_folder import ReadingCard, adapted_name, fingerprint
from engine.inference.prompts import prompt_ids
from engine.inference.read import ReadContext
from engine.inference.reader import Reader
from engine.settings import model_dir

log = logging.getLogger(__name__)

PEFT_PREFIX = "base_model.model."
ONE_IMAGE_BYTES = 600_000_000  # beside the weights, with MedGemma-4B's shape: docs/read-speed.md


def load_reader(model: str, adapter: Path | None, *, gated: bool = True, in_four_bits: bool = True) -> Reader:
    """`model`: "phantom", a hub name, or a folder. `gated=False` is for fitting the gate itself; `in_four_bits=False`
    keeps the weights' own precision, for merging an adapter and for measuring what 4 bits cost.

    Raises ModelUnavailable with everything that is missing, ReaderLost where the GPU goes while it is loading."""
    transformers_logging.disable_progress_bar()
    folder = model_dir(model)
    source = str(folder) if folder.is_dir() else model
    if not folder.is_dir() and not access.is_hub_name(model):
        raise ModelUnavailable(f"There is no model folder {model}. Set PEDISCREEN_MODEL to a folder or a hub name.")
    card = ReadingCard.of(folder, model)
    _check_gpu(model, card)
    try:
        config = Gemma3Config.from_pretrained(source)
        _check_memory(model, config, in_four_bits)
        processor = AutoProcessor.from_pretrained(source, backend="pil")
        if getattr(config, "quantization_config", None) is not None and not folder.is_dir():
            folder = Path(snapshot_download(model, allow_patterns=["*.safetensors", "*.json"]))
        network = _network(source, folder, config, in_four_bits)
    except (OSError, ValueError, KeyError, SafetensorError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        if folder.is_dir():
            raise ModelUnavailable(f"The model in {folder} cannot be loaded: {error}") from error
        raise ModelUnavailable(access.explanation(model, cause=type(error).__name__)) from error
    except ImportError as missing:
        raise ModelUnavailable(f"{model} cannot be loaded: {missing}. Install again: make run") from missing
    except RuntimeError as error:
        reason = f"{model} cannot be loaded: {error}"
        raise (ReaderLost if gpu.is_gone(error) and not gpu.is_full(error) else ModelUnavailable)(reason) from error
    _keep_as_stored(network)
    version = f"{card.name} ({fingerprint(folder)})" if folder.is_dir() else card.name
    if adapter is not None:
        network, version = _with_adapter(network, adapter, version)
    try:
        gate = FeatureGate.load(folder) if gated and (card.is_phantom or FeatureGate.is_in(folder)) else None
    except (OSError, KeyError, SafetensorError) as error:
        raise ModelUnavailable(f"The gate of the model in {folder} cannot be loaded: {error}") from error
    try:
        _check_tokens(processor, network.config)
        return Reader(
            network.eval(),
            processor,
            model_version=version,
            is_phantom=card.is_phantom,
            gate=gate,
            knows_triage=card.knows_triage,
        )
    except ValueError as odd:
        raise ModelUnavailable(
            f"The tokenizer of {model} does not fit it: {odd}. Restore the folder's tokenizer files."
        ) from odd


def _check_gpu(model: str, card: ReadingCard) -> None:
    """Raises ModelUnavailable where there is a GPU that cannot be used: reading would go on, a hundred times slower.
    The phantom model is small enough for the processor."""
    trouble = gpu.trouble()
    if trouble is None:
        return
    if not card.is_phantom:
        raise ModelUnavailable(f"{model} is not loaded, as the GPU cannot be used: {trouble}. {gpu.REMEDY}")
    log.warning("reads are made on the processor, as the GPU cannot be used: %s. %s", trouble, gpu.REMEDY)


def _check_tokens(processor, config: Gemma3Config) -> None:
    """Raises ValueError where prompts and answers are not made of tokens as the network takes them."""
    ids = prompt_ids(processor, Task.BONE_AGE, ReadContext("F"))
    found, expected = ids.count(config.image_token_id), config.mm_tokens_per_image
    if found != expected:
        raise ValueError(f"a prompt holds {found} image tokens, the network takes {expected}")
    texts = [answer_json(answer) for answers in ALLOWED.values() for answer in answers]
    largest = max(ids + sum(processor.tokenizer(texts, add_special_tokens=False)["input_ids"], []))
    rows = config.get_text_config().vocab_size
    if largest >= rows:
        raise ValueError(f"it knows a token {largest}, the network only those below {rows}")


def _check_memory(model: str, config: Gemma3Config, in_four_bits: bool) -> None:
    """Raises ModelUnavailable before anything of a model is loaded that the GPU, or without one this machine, cannot
    hold and read with."""
    if not torch.cuda.is_available():
        weights, available = four_bit.cpu_bytes(config, in_four_bits), psutil.virtual_memory().available
        if weights > available:
            raise ModelUnavailable(
                f"{model} needs {weights / 1e9:.1f} GB of memory for its weights, as there is no GPU; "
                f"{available / 1e9:.1f} GB are available. End what else uses them, or read on another machine: "
                "docs/read-elsewhere.md."
            )
        return
    weights = four_bit.gpu_bytes(config, in_four_bits)
    free, total = torch.cuda.mem_get_info()
    if weights + ONE_IMAGE_BYTES > free:
        raise ModelUnavailable(
            f"{model} needs {(weights + ONE_IMAGE_BYTES) / 1e9:.1f} GB of GPU memory ({weights / 1e9:.1f} for its "
            f"weights, {ONE_IMAGE_BYTES / 1e9:.1f} to read one image); {torch.cuda.get_device_name()} has "
            f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free. End what else uses the GPU, or set "
            "CUDA_VISIBLE_DEVICES= to read on the processor."
        )


def _network(source: str, folder: Path, config: Gemma3Config, in_four_bits: bool) -> Gemma3ForConditionalGeneration:
    """In bf16 where a GPU has it, else in float32. Raises ValueError for a 4-bit folder asked for in full precision."""
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    device_map = {"": 0} if on_gpu else None
    if getattr(config, "quantization_config", None) is not None:
        if not in_four_bits:
            raise ValueError("it holds 4-bit weights, and the full-precision ones are needed")
        return four_bit.load(folder, config, dtype, device_map)
    quantised = {"quantization_config": four_bit.nf4_config(config, dtype)} if in_four_bits else {}
    return four_bit.complete(
        *Gemma3ForConditionalGeneration.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            device_map=device_map,
            output_loading_info=True,
            use_safetensors=True,  # never a pickle, which could run a program
            **quantised,
        )
    )


def _keep_as_stored(network: Gemma3ForConditionalGeneration) -> None:
    """On a CPU with AVX512-BF16 bitsandbytes has 4-bit layers repack themselves at the first read. It takes two thirds
    of the time, but they then round to bf16 there and not on other CPUs, pass no gradient on, and hold codes in another
    order than what multiplies them out expects."""
    for module in network.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _with_adapter(network, adapter: Path, version: str):
    from peft import PeftModel

    if not (adapter / "adapter_config.json").is_file():
        raise ModelUnavailable(
            f"LORA_ADAPTER_PATH names {adapter}, which holds no adapter_config.json. Point it at a lora/ folder that "
            "training wrote, or unset it."
        )
    if not (adapter / "adapter_model.safetensors").is_file():
        raise ModelUnavailable(
            f"The adapter {adapter} holds no adapter_model.safetensors; no other weights are loaded, as they could run "
            "a program."
        )
    try:
        network = PeftModel.from_pretrained(network, adapter)
        odd = sorted(adapted_layers(network) ^ layers_of_adapter(adapter))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelUnavailable(f"The adapter {adapter} does not fit this model: {error}") from error
    if odd:
        raise ModelUnavailable(
            f"The adapter {adapter} does not fit this model: {len(odd)} layers are in one of them only, the first "
            f"{odd[0]}."
        )
    return network, adapted_name(version, adapter)


def layers_of_adapter(adapter: Path) -> frozenset[str]:
    """Names of the layers that a LoRA folder has weights for, as in the model; PEFT skips those it cannot place."""
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as weights:
        names = list(weights.keys())
    return frozenset(name.removeprefix(PEFT_PREFIX).split(".lora_")[0] for name in names)


def adapted_layers(network) -> frozenset[str]:
    """Names of the layers of a PeftModel that carry LoRA weights, as in the model."""
    from peft.tuners.lora import LoraLayer

    return frozenset(
        n.removeprefix(PEFT_PREFIX) for n, module in network.named_modules() if isinstance(module, LoraLayer)
    )
