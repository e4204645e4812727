"""A model for llama.cpp: the text part in Q4_K_M, the vision tower in f16, checked by reading images through it.

    python -m training.export_gguf --model D/bf16 --output_path D/gguf          (extra: pip install 'pediscreen[gguf]')

`--model`: full-precision weights with tokenizer.model (radiology_merge --keep_bf16 leaves them in D/bf16), or phantom.
Writes model-Q4_K_M.gguf, mmproj-f16.gguf, the processor, reading.json and gguf.json, the certificate: its labels
against those of the same weights in NF4 on held-out images. Nothing is left at output_path unless the bounds hold."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, HfArgumentParser

from engine.errors import PediScreenError
from engine.findings.answers import Task
from engine.inference.checkpoint import load_reader
from engine.inference.gguf import VISION_FILE, GgufReader
from engine.inference.model_folder import GGUF_FILE
from engine.settings import model_dir
from training import parity

TOOLS = ("convert_hf_to_gguf", "gguf", "xllamacpp")
FULL_ATTENTION_EVERY = 6  # llama.cpp's gemma3 assumes it; the file has no place for another pattern
MIN_FILM_AGREEMENT = 0.98  # films with every class equal
MIN_MONTHS_AGREEMENT = 0.95  # bone ages within a month
FILE_TYPE_Q4_K_M = 15  # llama.h, LLAMA_FTYPE_MOSTLY_Q4_K_M


class ExportRefused(PediScreenError):
    """Why no GGUF files were written."""


@dataclass(frozen=True)
class ExportConfig:
    model: str = field(metadata={"help": "phantom, or a folder of full-precision weights such as D/bf16"})
    output_path: Path = field(metadata={"help": "the folder to make; must not exist, or be empty"})
    data_dir: Path | None = field(
        default=None, metadata={"help": "images for the check (a pedirad-custom folder); default: phantoms"}
    )
    split: str = field(default="test", metadata={"help": "which split of data_dir"})
    images_per_task: int = field(default=100, metadata={"help": "how many images of each task to compare"})


def main(config: ExportConfig) -> dict:
    """Returns what gguf.json holds. Raises PediScreenError, with nothing left at output_path."""
    check_tools()
    folder = model_dir(config.model)
    data = parity.held_out(config.data_dir, config.split, config.images_per_task)
    return export(folder, config.output_path, four_bit_model=folder, data=data)


def check_tools() -> None:
    """Raises ExportRefused without the extra."""
    missing = [name for name in TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportRefused(f"{', '.join(missing)} not installed: pip install 'pediscreen[gguf]'")


def export(folder: Path, output_path: Path, *, four_bit_model: Path, data: dict[Task, parity.Images]) -> dict:
    """`four_bit_model`: the folder whose NF4 reads the export is held against. Returns the certificate."""
    check_source(folder)
    if output_path.exists() and (not output_path.is_dir() or any(output_path.iterdir())):
        raise ExportRefused(f"{output_path} exists already; choose another output_path or remove it.")
    check_disk(folder, output_path)
    output_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output_path.name}-", dir=output_path.parent) as work:
        source, f16, made = Path(work) / model_name(folder), Path(work) / "f16.gguf", Path(work) / "made"
        made.mkdir()
        four_bit = load_reader(str(four_bit_model), None, gated=False)
        as_converter_reads(folder, source, nf4_weights(four_bit.network.model.vision_tower, "vision_tower"))
        convert(source, f16)
        convert(source, made / VISION_FILE, "--mmproj")
        shutil.rmtree(source)
        quantise(f16, made / GGUF_FILE)
        f16.unlink()
        for file in folder.iterdir():
            if file.suffix in (".json", ".jinja") and not file.name.startswith(("config", "model", "training")):
                shutil.copyfile(file, made / file.name)

        try:
            read = parity.read_all(GgufReader(made), data)
        except ValueError as error:
            raise ExportRefused(f"llama.cpp does not read as training does: {error}") from error
        found = parity.difference(parity.read_all(four_bit, data), read)
        certificate = {
            "images_per_task": {task.value: len(items.images) for task, items in data.items()},
            "gguf_against_four_bit": found.as_json(),
            "bounds": {"film_agreement": MIN_FILM_AGREEMENT, "months_within_1": MIN_MONTHS_AGREEMENT},
            "bytes": sum(file.stat().st_size for file in made.iterdir()),
        }
        for name, bound in certificate["bounds"].items():
            share = certificate["gguf_against_four_bit"][name]
            if share is not None and share < bound:
                raise ExportRefused(f"GGUF against NF4: {name} is {share:.1%}, under the bound of {bound:.0%}.")
        (made / "gguf.json").write_text(json.dumps(certificate, indent=1) + "\n", encoding="utf-8")
        if output_path.exists():
            output_path.rmdir()
        os.rename(made, output_path)
    return certificate


def check_source(folder: Path) -> None:
    """Raises ExportRefused for what the converter would get wrong or stumble over."""
    for name in ("config.json", "reading.json"):
        if not (folder / name).is_file():
            raise ExportRefused(f"{folder} holds no {name}.")
    config = Gemma3Config.from_pretrained(folder)
    if getattr(config, "quantization_config", None) is not None:
        raise ExportRefused(
            f"{folder} holds 4-bit weights; llama.cpp has its own. Pass full-precision ones (radiology_merge "
            "--keep_bf16 leaves them in bf16/)."
        )
    if not (folder / "tokenizer.model").is_file():
        raise ExportRefused(
            f"{folder} holds no tokenizer.model, which the converter reads; copy it from the base model."
        )
    pattern = config.text_config.layer_types
    full = [i for i, kind in enumerate(pattern) if kind == "full_attention"]
    if full != list(range(FULL_ATTENTION_EVERY - 1, len(pattern), FULL_ATTENTION_EVERY)):
        raise ExportRefused(f"llama.cpp takes every sixth layer for full attention; here they are {full}.")


def model_name(folder: Path) -> str:
    """As a folder's name, which the converter puts into the files."""
    card = json.loads((folder / "reading.json").read_text(encoding="utf-8"))
    return re.sub(r"[^\w.]+", "-", card["name"]) or "model"


def check_disk(folder: Path, output_path: Path) -> None:
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    place = output_path.resolve()
    while not place.exists():
        place = place.parent
    need, free = int(weights * 2.6), shutil.disk_usage(place).free  # a copy, f16, Q4_K_M and the vision tower
    if free < need:
        raise ExportRefused(f"No space: {need / 1e9:.2f} GB are needed in {place}, {free / 1e9:.2f} GB are free.")


def nf4_weights(module: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    """What the 4-bit layers of `module` compute with, by name: empty for a vision tower that stays out of 4 bits.

    The adapter was trained on the features of this tower, and the reads are held against it; a rounding of the same
    weights to f16 sees other features."""
    return {
        f"{name}.{inner}.weight": dequantize_4bit(layer.weight.data, layer.weight.quant_state).half()
        for inner, layer in module.named_modules()
        if isinstance(layer, Linear4bit)
    }


def as_converter_reads(folder: Path, source: Path, instead: dict[str, torch.Tensor] | None = None) -> None:
    """A copy with the tensor names and the image settings that the converter knows, from before transformers 5.

    `instead`: tensors that take the place of those in `folder`."""
    source.mkdir()
    for file in folder.iterdir():
        if file.suffix in (".json", ".jinja", ".model") and not file.name.endswith(".index.json"):
            shutil.copyfile(file, source / file.name)
    tensors = {}
    for file in sorted(folder.glob("model*.safetensors")):
        for name, tensor in load_file(file).items():
            old_name = re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name)
            tensors[old_name] = instead.get(name.replace(".vision_model.", ".", 1), tensor) if instead else tensor
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    if not (source / "preprocessor_config.json").is_file():
        processor = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
        settings = processor["image_processor"] | {"image_seq_length": processor["image_seq_length"]}
        (source / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


def convert(source: Path, file: Path, *options: str) -> None:
    """llama.cpp's own converter, in a process of its own."""
    command = [sys.executable, "-m", "convert_hf_to_gguf", str(source), "--outtype", "f16", "--outfile", str(file)]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    if done.returncode or not file.is_file():
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ExportRefused(f"The converter failed on {source.name} {' '.join(options)}: {last}")


def quantise(f16: Path, file: Path) -> None:
    """Q4_K_M as llama-quantize mixes it, by ggml's own kernels (they are in xllamacpp; the tool itself is not).

    Embedding in Q6_K; attention values and the MLP's way down in Q6_K in the first and last eighth of the layers and
    every third between; other matrices in Q4_K; norms in float32. Rows of no multiple of 256 take Q5_0 and Q8_0."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    fallback = {kinds.Q4_K: kinds.Q5_0, kinds.Q6_K: kinds.Q8_0}
    ggml = _ggml()
    reader = gguf.GGUFReader(f16)
    architecture = reader.fields["general.architecture"].contents()
    layers = reader.fields[f"{architecture}.block_count"].contents()
    writer = gguf.GGUFWriter(file, architecture)
    for key, entry in reader.fields.items():
        if not key.startswith("GGUF.") and key not in ("general.architecture", "general.file_type"):
            nested = entry.types[-1] if entry.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, entry.contents(), entry.types[0], sub_type=nested)
    writer.add_file_type(FILE_TYPE_Q4_K_M)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim < 2 or "norm" in tensor.name:
            writer.add_tensor(tensor.name, values.astype(np.float32), raw_dtype=kinds.F32)
            continue
        kind = kinds.Q6_K if _takes_more_bits(tensor.name, layers) else kinds.Q4_K
        if values.shape[-1] % 256:
            kind = fallback[kind]
        writer.add_tensor(tensor.name, _quantised(ggml, values, int(kind)), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _takes_more_bits(name: str, layers: int) -> bool:
    if name in ("token_embd.weight", "output.weight"):
        return True
    layer = re.match(r"blk\.(\d+)\.(attn_v|ffn_down)\.", name)
    if layer is None:
        return False
    i, eighth = int(layer[1]), layers // 8
    return i < eighth or i >= 7 * layers // 8 or (i - eighth) % 3 == 2


def _ggml() -> ctypes.CDLL:
    library = ctypes.CDLL(importlib.util.find_spec("xllamacpp.xllamacpp").origin)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    library.ggml_row_size.restype = ctypes.c_size_t
    library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    return library


def _quantised(ggml: ctypes.CDLL, values: np.ndarray, kind: int) -> np.ndarray:
    """(..., cols) float to (..., bytes a row) uint8."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    cols = values.shape[-1]
    rows, row_bytes = values.size // cols, ggml.ggml_row_size(kind, cols)
    out = np.zeros(rows * row_bytes, np.uint8)
    written = ggml.ggml_quantize_chunk(kind, values.ctypes.data, out.ctypes.data, 0, rows, cols, None)
    if written != out.size:
        raise ExportRefused(f"ggml wrote {written} bytes where {out.size} were expected.")
    return out.reshape(*values.shape[:-1], row_bytes)


if __name__ == "__main__":
    (config,) = HfArgumentParser(ExportConfig).parse_args_into_dataclasses(look_for_args_file=False)
    try:
        print(json.dumps(main(config), indent=1))
    except PediScreenError as error:
        sys.exit(f"export_gguf: {error}")
