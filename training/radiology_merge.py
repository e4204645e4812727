"""Step 3 of 4: an adapter becomes part of its base, and both become one 4-bit folder.

    python -m training.radiology_merge --adapter_path R/lora --output_path D

Writes D: config.json, model.safetensors and int8.safetensors (engine.inference.four_bit), the processor, reading.json,
a gate, and parity.json: how far base + adapter, the merged weights in bf16 and the folder itself read alike on held-out
images. With `--trained_on`, 4-bit codes are chosen by what the layers say of the films there (training.calibrated_nf4)
instead of weight by weight. The gate is the base's, or fitted anew where the adapter moves the image features.
`--keep_bf16` adds D/bf16, which `training.export_gguf` reads; `--gguf` runs it. Nothing is left at D unless everything
went well: it is built beside D and renamed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoProcessor, HfArgumentParser

from engine.errors import PediScreenError
from engine.findings.answers import Task, View
from engine.imaging.preprocess import model_images_of
from engine.inference import four_bit
from engine.inference.checkpoint import ReadingCard, load_reader
from engine.inference.gate import FeatureGate, pooled
from engine.inference.reader import IMAGES_AT_ONCE, VIEW_OF_TASK, Reader
from engine.settings import model_dir
from training import calibrated_nf4, parity, phantom_gate
from training.adapter import Adapter, public_name
from training.pedirad_loader import LabelledImage, load_split
from training.radiology_processor import RadiologyProcessor, examples_of

DISK_MARGIN_BYTES = 200_000_000
CALIBRATION_FILMS = 64  # of each task
MERGED_BOUND = 0.98  # merging rounds once to bf16


class MergeRefused(PediScreenError):
    """Why no folder was written."""


@dataclass(frozen=True)
class MergeConfig:
    adapter_path: Path = field(metadata={"help": "the lora/ folder that training wrote"})
    output_path: Path = field(metadata={"help": "the folder to make; must not exist, or be empty"})
    base_model: str | None = field(
        default=None, metadata={"help": "phantom, a hub name or a folder; default: the one the adapter names"}
    )
    data_dir: Path | None = field(
        default=None, metadata={"help": "images for the certificate (a pedirad-custom folder); default: phantoms"}
    )
    split: str = field(default="test", metadata={"help": "which split of data_dir"})
    name: str | None = field(
        default=None, metadata={"help": "what its reads will call the model; default: the name of output_path"}
    )
    images_per_task: int = field(default=40, metadata={"help": "how many images of each task to compare"})
    min_agreement: float = field(
        default=0.9, metadata={"help": "share of labels that the 4-bit folder and the merged bf16 model must agree on"}
    )
    trained_on: Path | None = field(
        default=None,
        metadata={"help": "the folder the adapter was trained on: 4-bit codes are chosen by its train images; where "
                  "the adapter trains the vision tower and the base has a gate, that is fitted anew to them"},
    )  # fmt: skip
    keep_bf16: bool = field(default=False, metadata={"help": "also keep the merged bf16 weights, in output_path/bf16"})
    gguf: bool = field(default=False, metadata={"help": "also write output_path/gguf for llama.cpp (extra: gguf)"})


def main(config: MergeConfig) -> dict:
    """Returns what parity.json holds. Raises PediScreenError, with nothing left at output_path."""
    adapter = Adapter.read(config.adapter_path)
    base = config.base_model or adapter.base_model
    if not base:
        raise MergeRefused(f"The adapter in {adapter.folder} names no base model; pass --base_model.")
    adapter.check_base(base)
    if config.output_path.exists() and (not config.output_path.is_dir() or any(config.output_path.iterdir())):
        raise MergeRefused(f"{config.output_path} exists already; choose another output_path or remove it.")
    if config.gguf:
        from training import export_gguf

        export_gguf.check_tools()
    gate_images = images_of_views(config.trained_on) if loses_its_gate(adapter, base) else None
    films = films_trained_on(config.trained_on) if config.trained_on else []
    data = parity.held_out(config.data_dir, config.split, config.images_per_task)
    if not data:
        raise MergeRefused(f"There is no image in the {config.split} split of {config.data_dir}.")

    # as it was trained and as it is read without merging: 4-bit base, adapter beside it
    reader = load_reader(base, config.adapter_path, gated=False)
    size = four_bit.size_of(reader.network.config)
    check_disk(config.output_path, size, keep_bf16=config.keep_bf16)
    check_memory(size)
    trained = parity.read_all(reader, data)
    del reader
    reader = load_reader(base, None, gated=False, in_four_bits=False)
    before = parity.read_all(reader, data)
    adapted = adapter.put_on(reader.network)
    reader.layers_changed()
    unmerged = parity.read_all(reader, data)

    config.output_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{config.output_path.name}-", dir=config.output_path.parent) as work:
        folder = Path(work) / "model"
        bf16 = folder / "bf16"
        bf16.mkdir(parents=True)
        network = merge(adapted)
        network.to(torch.bfloat16).save_pretrained(bf16)
        name = config.name or config.output_path.name
        write_beside_weights(bf16, base, reader, name, with_gate=not adapter.changes_image_features)
        del network, adapted, reader
        merged = parity.read_all(load_reader(str(bf16), None, gated=False, in_four_bits=False), data)

        write_four_bit(bf16, folder, lambda network: recode(network, base, config.adapter_path, films))
        start = time.perf_counter()
        reader = load_reader(str(folder), None, gated=False)
        load_seconds = time.perf_counter() - start
        four_bits = parity.read_all(reader, data)
        if gate_images is not None:
            fit_gate(reader, gate_images).save(folder)
        certificate = {
            "base_model": public_name(base),
            "images": "phantoms" if config.data_dir is None else f"{config.split} split",
            "four_bit_codes": "by the outputs on train images" if films else "nearest",
            "images_per_task": {task.value: len(items.images) for task, items in data.items()},
            "adapter_effect": parity.difference(before, unmerged).as_json(),
            "merged_against_adapter": parity.difference(unmerged, merged).as_json(),
            "four_bit_against_merged": parity.difference(merged, four_bits).as_json(),
            "four_bit_against_four_bit_base_with_adapter": parity.difference(trained, four_bits).as_json(),
            "bounds": {"merged_against_adapter": MERGED_BOUND, "four_bit_against_merged": config.min_agreement},
            "bytes": bytes_of(folder),
            "load_seconds": round(load_seconds, 2),
            "peak_memory_bytes_of_this_run": peak_memory_bytes(),
            "gate": gate_words(folder, gate_images),
        }
        check_agreement(certificate)
        write_json(folder / "parity.json", certificate)
        if config.gguf:
            export_gguf.export(bf16, folder / "gguf", four_bit_model=folder, data=data)
        if not config.keep_bf16:
            shutil.rmtree(bf16)
        for file in folder.rglob("*.safetensors"):
            file.chmod(0o644)  # safetensors keeps them to its owner, but a service account has to read them
        if config.output_path.exists():
            config.output_path.rmdir()
        os.rename(folder, config.output_path)
    return certificate


def loses_its_gate(adapter: Adapter, base: str) -> bool:
    return adapter.changes_image_features and FeatureGate.is_in(model_dir(base))


def images_of_views(data_dir: Path | None) -> dict[View, list[Path]]:
    """The train and val images of `data_dir`. Raises MergeRefused where a view has too few to fit a gate to."""
    if data_dir is None:
        raise MergeRefused(
            "The adapter trains the vision tower, so the base's gate no longer holds; pass --trained_on with the "
            "folder it was trained on."
        )
    found = {
        view: [item.path for split in ("train", "val") for item in load_split(data_dir, split, (task,))]
        for task, view in VIEW_OF_TASK.items()
    }
    for view, paths in found.items():
        if len(paths) < phantom_gate.FEWEST:
            raise MergeRefused(
                f"{data_dir} has {len(paths)} {view} images; {phantom_gate.FEWEST} are needed to fit the gate to."
            )
    return found


@torch.inference_mode()
def fit_gate(reader: Reader, images: dict[View, list[Path]]) -> FeatureGate:
    features = {}
    for view, paths in images.items():
        shown, parts = model_images_of(paths), []
        while batch := list(islice(shown, IMAGES_AT_ONCE)):
            parts.append(pooled(reader.image_tokens(batch)).numpy())
        features[view] = np.concatenate(parts)
    return phantom_gate.refitted(features)


def gate_words(folder: Path, gate_images: dict[View, list[Path]] | None) -> str | None:
    if not FeatureGate.is_in(folder):
        return None
    if gate_images is None:
        return "the base's"
    return "fitted anew to " + ", ".join(f"{len(paths)} {view}" for view, paths in gate_images.items()) + " images"


def merge(adapted):
    """The base with the adapter's products added to its weights, in float32 and rounded once.

    Raises MergeRefused when not one weight changes: then the adapter was never trained, or not applied."""
    layers = {name: layer for name, layer in adapted.named_modules() if isinstance(layer, LoraLayer)}
    kept = {
        name: layer.get_base_layer().weight.detach().to(torch.bfloat16, copy=True) for name, layer in layers.items()
    }
    changed = 0
    merged = adapted.merge_and_unload()
    modules = dict(merged.named_modules())
    for name, weight in kept.items():
        after = modules[name.removeprefix("base_model.model.")].weight.detach()
        if not after.isfinite().all():
            raise MergeRefused(f"The adapter makes weights of {name} infinite or undefined.")
        changed += int(not torch.equal(after.to(torch.bfloat16), weight))
    if not changed:
        raise MergeRefused(
            f"Merged equals base in all {len(kept)} adapted layers: the adapter is untrained, or was not applied."
        )
    return merged


def films_trained_on(folder: Path) -> list[LabelledImage]:
    """At most CALIBRATION_FILMS of each task, from all over the train split. Raises MergeRefused if there is none."""
    found = []
    for task in Task:
        labelled = load_split(folder, "train", (task,))
        found += labelled[:: max(1, len(labelled) // CALIBRATION_FILMS)][:CALIBRATION_FILMS]
    if not found:
        raise MergeRefused(f"There is no train image in {folder}; pass the folder that the adapter was trained on.")
    return found


@torch.no_grad()
def recode(network, base: str, adapter: Path, films: list[LabelledImage]) -> None:
    """Chooses the 4-bit codes of `network` anew, for the outputs of base and adapter on `films`; without any the
    nearest stay. Base and adapter are loaded again: kept, they would have stood beside the unquantised weights."""
    if not films:
        return
    trained = load_reader(base, adapter, gated=False)
    processor = RadiologyProcessor(trained.processor)
    images, passes = model_images_of([film.path for film in films]), []
    for start in range(0, len(films), IMAGES_AT_ONCE):
        part = films[start : start + IMAGES_AT_ONCE]
        tokens = trained.image_tokens(list(islice(images, len(part))))
        passes.append((processor.collate(examples_of(processor, part)), tokens))
    calibrated_nf4.recode(network, trained.network, passes)


def write_four_bit(bf16: Path, folder: Path, recode: Callable[[nn.Module], None] | None = None) -> None:
    """The deployable folder from a complete bf16 one. `recode`: engine.inference.four_bit.write's."""
    four_bit.write(bf16, folder, recode)
    for file in bf16.iterdir():
        if file.suffix == ".json" and not file.name.startswith(("config", "model", "generation")):
            shutil.copyfile(file, folder / file.name)
    if FeatureGate.is_in(bf16):
        shutil.copyfile(bf16 / FeatureGate.FILE, folder / FeatureGate.FILE)


def write_beside_weights(folder: Path, base: str, reader: Reader, name: str, *, with_gate: bool) -> None:
    """Processor, reading.json, the tokenizer's own model for llama.cpp, and the gate where image features are kept."""
    save_processor(reader.processor, folder)
    card = ReadingCard(name=name, is_phantom=reader.is_phantom, knows_triage=reader.knows_triage)
    write_json(folder / "reading.json", asdict(card))
    source = model_dir(base)
    if source.is_dir():
        tokenizer = source / "tokenizer.model"
    else:
        tokenizer = None  # llama.cpp's converter will say that it lacks it
        with suppress(HfHubHTTPError, LocalEntryNotFoundError):
            tokenizer = Path(hf_hub_download(base, "tokenizer.model"))
    if tokenizer is not None and tokenizer.is_file():
        shutil.copyfile(tokenizer, folder / tokenizer.name)
    if with_gate and FeatureGate.is_in(source):
        shutil.copyfile(source / FeatureGate.FILE, folder / FeatureGate.FILE)


def save_processor(processor, folder: Path) -> None:
    """As JSON only: the chat template goes into the JSON files that the library reads too."""
    processor.save_pretrained(folder)
    template = folder / "chat_template.jinja"
    if template.is_file():
        text = template.read_text(encoding="utf-8")
        template.unlink()
        write_json(folder / "chat_template.json", {"chat_template": text})
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        write_json(folder / "tokenizer_config.json", settings | {"chat_template": text})
    loaded = AutoProcessor.from_pretrained(folder, backend="pil")
    if loaded.chat_template != processor.chat_template:
        raise MergeRefused("The chat template does not survive being saved with the processor.")


def check_disk(output_path: Path, size: four_bit.FolderSize, *, keep_bf16: bool) -> None:
    """Raises MergeRefused where the disk is too full for the bf16 weights and, twice over, the 4-bit folder."""
    bf16_bytes = 2 * size.parameters
    need = bf16_bytes + 2 * size.total + DISK_MARGIN_BYTES
    place = output_path.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < need:
        kept = (bf16_bytes if keep_bf16 else 0) + size.total
        raise MergeRefused(
            f"No space: merging needs {need / 1e9:.2f} GB in {place} while it runs (and keeps {kept / 1e9:.2f} GB); "
            f"{free / 1e9:.2f} GB are free."
        )


def check_memory(size: four_bit.FolderSize) -> None:
    """Raises MergeRefused where the whole model, float32 on a CPU and bf16 on a GPU, would not fit."""
    if torch.cuda.is_available():
        free, need, where = torch.cuda.mem_get_info()[0], 2 * size.parameters, "GPU memory"
    else:
        free, need, where = psutil.virtual_memory().available, 4 * size.parameters, "memory"
    if free < need:
        raise MergeRefused(
            f"Merging needs {need / 1e9:.1f} GB of {where} for the weights in full precision; {free / 1e9:.1f} GB are "
            "free."
        )


def check_agreement(certificate: dict) -> None:
    for name, bound in certificate["bounds"].items():
        found = certificate[name]["label_agreement"]
        if found < bound:
            raise MergeRefused(
                f"{name.replace('_', ' ')}: {found:.1%} of {certificate[name]['labels']} labels are equal, under the "
                f"bound of {bound:.1%}. No folder was written."
            )


def bytes_of(folder: Path) -> int:
    """Of the files directly in `folder`: what is deployed."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def peak_memory_bytes() -> int:
    """Of this process: GPU memory where there is one, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_json(file: Path, value: dict) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    (config,) = HfArgumentParser(MergeConfig).parse_args_into_dataclasses(look_for_args_file=False)
    try:
        print(json.dumps(main(config), indent=1))
    except PediScreenError as error:
        sys.exit(f"radiology_merge: {error}")
