"""Checkpoints of a training run: adapter, optimiser, random state and the step's number, in safetensors and JSON.

OUTPUT_DIR/checkpoint-00000120/{adapter,optimizer}.safetensors, state.json. A checkpoint is written beside its final
name, flushed to disk and renamed, so after a kill at any moment the last one with a name is whole; older ones go only
then. Batches, views and drawn months follow from the seed and the step's number (training.radiology_processor), so
that number is the sampler's position."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

PREFIX = "checkpoint-"


def trained_parameters(network) -> dict[str, torch.nn.Parameter]:
    return {n: p for n, p in network.named_parameters() if p.requires_grad}


def adapter_parameters(network) -> dict[str, torch.nn.Parameter]:
    """LoRA's, those too that are set once and not trained (training.aimed_lora)."""
    return {n: p for n, p in network.named_parameters() if ".lora_" in n}


def save(output_dir: Path, step: int, network, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> Path:
    final = output_dir / f"{PREFIX}{step:08d}"
    unfinished = output_dir / f".{final.name}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    named = trained_parameters(network)
    save_file(
        {n: p.detach().cpu().contiguous() for n, p in adapter_parameters(network).items()},
        unfinished / "adapter.safetensors",
    )
    moments = {
        f"{name}/{key}": torch.as_tensor(value).detach().cpu().contiguous()
        for name, p in named.items()
        for key, value in optimizer.state.get(p, {}).items()
    }
    rng = {"rng/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        rng["rng/cuda"] = torch.cuda.get_rng_state()
    save_file(moments | rng, unfinished / "optimizer.safetensors")
    (unfinished / "state.json").write_text(json.dumps({"step": step, **state}, indent=1) + "\n", encoding="utf-8")
    for file in unfinished.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    if final.exists():
        shutil.rmtree(final)
    unfinished.rename(final)
    for older in sorted(output_dir.glob(f"{PREFIX}*"))[:-1]:
        shutil.rmtree(older)
    return final


def latest(output_dir: Path) -> Path | None:
    found = sorted(output_dir.glob(f"{PREFIX}*/state.json"))
    return found[-1].parent if found else None


def load(folder: Path, network, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts adapter, optimiser and random state back; returns the state that was saved with them."""
    named, adapter = trained_parameters(network), adapter_parameters(network)
    with torch.no_grad():
        for name, tensor in load_file(folder / "adapter.safetensors").items():
            adapter[name].copy_(tensor)
    moments = load_file(folder / "optimizer.safetensors")
    for name, p in named.items():
        keys = [k for k in moments if k.startswith(f"{name}/")]
        optimizer.state[p] = {
            k.rpartition("/")[2]: moments[k] if k.endswith("/step") and not p.is_cuda else moments[k].to(p.device)
            for k in keys
        }
    torch.set_rng_state(moments["rng/cpu"])
    if torch.cuda.is_available() and "rng/cuda" in moments:
        torch.cuda.set_rng_state(moments["rng/cuda"])
    return json.loads((folder / "state.json").read_text(encoding="utf-8"))
