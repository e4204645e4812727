"""The deployable 4-bit folder, and every other folder that holds 4-bit weights already.

    model.safetensors   linear layers in NF4, as bitsandbytes stores them; norms, biases and other small tensors
    int8.safetensors    the embedding, and the vision tower where it stays out of 4 bits: rows of int8, with one
                        float32 scale a row under the tensor's name + ".row_scale"

bitsandbytes leaves the embedding as it is: 1.34 GB of bf16 in MedGemma-4B, half as much as all its NF4 layers. A row
of int8 is within 0.4 % of its largest value. On a CPU loading multiplies the rows out. On a GPU they stay as they are
stored, half the memory, and are multiplied out to the same values where they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from bitsandbytes.nn import Linear4bit
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BitsAndBytesConfig, Gemma3Config, Gemma3ForConditionalGeneration

INT8_FILE = "int8.safetensors"
ROW_SCALE = ".row_scale"
NF4_BLOCK = 64
NESTED_BLOCK = 256  # double quantisation: this many block scales share one float32
ROWS_AT_ONCE = 16_384  # of the head, multiplied out
FEW_ROWS = 64  # of the embedding, for transformers to load where `keep_rows` puts the whole


def nf4_config(config: Gemma3Config, dtype: torch.dtype) -> BitsAndBytesConfig:
    """NF4 with double quantisation of every linear layer but the head.

    The vision tower stays out where its inner width is no multiple of the block (SigLIP-So400m's 4304): there
    bitsandbytes takes its slow path."""
    skip = ["lm_head"]
    if config.vision_config.intermediate_size % NF4_BLOCK:
        skip += ["model.vision_tower", "model.multi_modal_projector"]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=skip,
    )


def to_int8_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, cols) float to int8 of the same shape and a float32 scale for each row."""
    scale = weight.float().abs().amax(1) / 127
    return (weight.float() / scale.clamp_min(1e-30)[:, None]).round().to(torch.int8), scale


def from_int8_rows(codes: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (codes * scale[..., None]).to(dtype)


def is_stored_as_int8(name: str, shape: tuple[int, ...]) -> bool:
    """Whether an unquantised weight of model.safetensors moves to int8.safetensors."""
    if len(shape) != 2 or not name.endswith(".weight") or name.endswith("position_embedding.weight"):
        return False
    return name.endswith("embed_tokens.weight") or name.removeprefix("model.").startswith("vision_tower.")


def write(source: Path, folder: Path, recode: Callable[[nn.Module], None] | None = None) -> None:
    """The weights of `source` (a full-precision model folder) as config.json, model.safetensors and int8.safetensors.

    `recode`: may replace 4-bit codes of the network, which are those of the nearest values, before it is saved.
    The largest things in memory are the model in NF4 and its embedding in bf16."""
    config = Gemma3Config.from_pretrained(source)
    network = Gemma3ForConditionalGeneration.from_pretrained(
        source, config=config, dtype=torch.bfloat16, quantization_config=nf4_config(config, torch.bfloat16)
    )
    if recode is not None:
        recode(network)
    network.save_pretrained(folder, max_shard_size="50GB")
    del network
    weights = folder / "model.safetensors"
    kept, rows = {}, {}
    for name, tensor in load_file(weights).items():
        if tensor.is_floating_point() and is_stored_as_int8(name, tuple(tensor.shape)):
            rows[name], rows[name + ROW_SCALE] = to_int8_rows(tensor)
        else:
            kept[name] = tensor
    weights.unlink()  # the tensors above are mapped from the deleted file, which goes with them
    save_file(kept, weights, metadata={"format": "pt"})
    save_file(rows, folder / INT8_FILE, metadata={"format": "pt"})


class Int8Rows(nn.Module):
    """The embedding as it is stored: `codes` (rows, cols) int8, `scale` (rows,) float32."""

    def __init__(self, codes: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.codes, self.scale, self.dtype = nn.Buffer(codes), nn.Buffer(scale), dtype


class Int8Linear(nn.Linear):
    """A layer of the vision tower as it is stored; whoever asks for its `weight` gets the rows multiplied out."""

    def __init__(self, layer: nn.Linear, codes: torch.Tensor, scale: torch.Tensor) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.dtype = layer.in_features, layer.out_features, layer.weight.dtype
        self.bias, self.codes, self.scale = layer.bias, nn.Buffer(codes), nn.Buffer(scale)

    @property
    def weight(self) -> torch.Tensor:
        return from_int8_rows(self.codes, self.scale, self.dtype)


class Int8Embedding(Int8Rows):
    """For Gemma3TextScaledWordEmbedding."""

    def __init__(self, codes: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype, embed_scale: float) -> None:
        super().__init__(codes, scale, dtype)
        self.embed_scale = torch.tensor(embed_scale, dtype=dtype).item()  # rounded, as the library does

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return from_int8_rows(self.codes[ids], self.scale[ids], self.dtype) * self.embed_scale


class Int8Head(Int8Rows):
    """For lm_head, tied to the embedding."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = zip(self.codes.split(ROWS_AT_ONCE), self.scale.split(ROWS_AT_ONCE), strict=True)
        return torch.cat([F.linear(hidden, from_int8_rows(*part, self.dtype)) for part in rows], dim=-1)


def load(folder: Path, config: Gemma3Config, dtype: torch.dtype, device_map: dict | None):
    """A Gemma3ForConditionalGeneration that computes in `dtype`, whatever the machine that made the folder had.

    `device_map`: {"": device}, where int8 rows stay as they are; None: the CPU, where they are multiplied out. Raises
    ValueError for a folder that lacks weights."""
    state, embedding, tower = {}, None, {}
    for file in sorted(folder.glob("model*.safetensors")):
        state |= {name: t.to(dtype) if t.dtype in _HALF else t for name, t in load_file(file).items()}
    if (folder / INT8_FILE).is_file():
        with safe_open(folder / INT8_FILE, framework="pt") as rows:
            for name in rows.keys():  # noqa: SIM118 - safe_open is no mapping
                if name.endswith(ROW_SCALE):
                    continue
                codes, scale = rows.get_tensor(name), rows.get_tensor(name + ROW_SCALE)
                if device_map and name.endswith("embed_tokens.weight"):
                    embedding, codes, scale = (codes, scale), codes[:FEW_ROWS], scale[:FEW_ROWS]
                elif device_map:
                    tower[name] = codes, scale
                state[name] = from_int8_rows(codes, scale, dtype)
    config.quantization_config["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
    if embedding is not None:
        config.get_text_config().vocab_size = FEW_ROWS
    network = complete(
        *Gemma3ForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=state, dtype=dtype, device_map=device_map, output_loading_info=True
        )
    )
    for module in network.modules():
        if isinstance(module, Linear4bit):
            module.weight.quant_state.dtype = dtype  # what the codes are multiplied out to
    if tower:
        keep_tower_rows(network, tower)
    if embedding is not None:
        keep_rows(network, *(t.to(network.device) for t in embedding), dtype)
    if device_map:
        torch.cuda.empty_cache()  # what loading took beside the weights
    return network


def keep_tower_rows(network: Gemma3ForConditionalGeneration, rows: dict[str, tuple[torch.Tensor, ...]]) -> None:
    """The vision tower's layers as int8 rows; `rows`: codes and scales by the stored name of a weight."""
    device = network.device
    for stored, (codes, scale) in rows.items():
        path = "model." + stored.removeprefix("model.").removesuffix(".weight").replace(".vision_model.", ".", 1)
        network.set_submodule(path, Int8Linear(network.get_submodule(path), codes, scale))
    torch.cuda.empty_cache()  # first, or the rows would lie scattered over the memory that the weights leave
    network.model.vision_tower.to(device)


def keep_rows(network: Gemma3ForConditionalGeneration, codes: torch.Tensor, scale: torch.Tensor, dtype) -> None:
    """The embedding and the head tied to it as int8 rows, in place of the few rows that `load` began with."""
    text = network.model.language_model
    text.embed_tokens = Int8Embedding(codes, scale, dtype, text.embed_tokens.scalar_embed_scale)
    network.lm_head = Int8Head(codes, scale, dtype)
    network.config.get_text_config().vocab_size = network.model.vocab_size = text.vocab_size = len(codes)


def complete(network: Gemma3ForConditionalGeneration, loading_info: dict) -> Gemma3ForConditionalGeneration:
    """`network`, unless weights were missing, which transformers would fill with random numbers. Raises ValueError."""
    missing = sorted(loading_info["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, among them {', '.join(missing[:2])}")
    return network


_HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class FolderSize:
    """Bytes of the deployable folder's weights, by kind of storage. `parameters`: how many numbers they stand for."""

    parameters: int
    nf4: int
    int8: int
    other: int

    @property
    def total(self) -> int:
        return self.nf4 + self.int8 + self.other


def size_of(config: Gemma3Config) -> FolderSize:
    """The weights' bytes by arithmetic, from a model on the meta device; the processor's files come on top."""
    with torch.device("meta"):
        network = Gemma3ForConditionalGeneration(config)
    skipped = nf4_config(config, torch.bfloat16).llm_int8_skip_modules
    parameters = nf4 = int8 = other = 0
    for name, module in network.named_modules():
        for kind, tensor in module.named_parameters(recurse=False):
            if name == "lm_head" and config.tie_word_embeddings:
                continue
            count = tensor.numel()
            parameters += count
            if isinstance(module, torch.nn.Linear) and kind == "weight" and not name.startswith(tuple(skipped)):
                blocks = -(-count // NF4_BLOCK)
                nf4 += -(-count // 2) + blocks + 4 * (-(-blocks // NESTED_BLOCK)) + 4 * (256 + 16)
            elif is_stored_as_int8(f"{name}.{kind}", tuple(tensor.shape)):
                int8 += count + 4 * tensor.shape[0]
            else:
                other += 2 * count
    return FolderSize(parameters, nf4, int8, other)


def gpu_bytes(config: Gemma3Config, in_four_bits: bool) -> int:
    """What the weights take on a GPU: a 4-bit folder's as `load` places them, or those of a folder in full precision,
    which are quantised on the way unless `in_four_bits` is False."""
    size = size_of(config)
    if not in_four_bits:
        return 2 * size.parameters
    is_folder = getattr(config, "quantization_config", None) is not None
    return size.nf4 + size.other + size.int8 * (1 if is_folder else 2)


def cpu_bytes(config: Gemma3Config, in_four_bits: bool) -> int:
    """What the weights take on a CPU, where all that is not NF4 is float32."""
    size = size_of(config)
    return size.nf4 + 2 * size.other + 4 * size.int8 if in_four_bits else 4 * size.parameters
