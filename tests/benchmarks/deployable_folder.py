"""The 4-bit folder of a model of MedGemma-4B's shape: its size on disk, how long it loads, what memory that takes.

    python -m tests.benchmarks.deployable_folder --work_dir /var/tmp      (12 GB of disk, about 12 GB of memory)

The weights are random; sizes and times do not depend on them. Writing and loading are the code that
training.radiology_merge and engine.inference.checkpoint use."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from engine.inference import four_bit
from tests.engine.inference.test_four_bit import MEDGEMMA_4B

SHARD_BYTES = 1_000_000_000


def write_random_weights(folder: Path, config: Gemma3Config) -> int:
    """A bf16 checkpoint in shards, never more than one of them in memory. Returns its bytes."""
    folder.mkdir()
    with torch.device("meta"):
        network = Gemma3ForConditionalGeneration(config)
    shard, size, written, places = {}, 0, 0, {}
    shapes = [(name, p.shape) for name, p in network.named_parameters()]
    for name, shape in shapes:
        shard[name] = random_weight(name, shape)
        size += shard[name].nbytes
        if size > SHARD_BYTES or name == shapes[-1][0]:
            file = f"model-{written:05d}.safetensors"
            places |= dict.fromkeys(shard, file)
            save_file(shard, folder / file, metadata={"format": "pt"})
            shard, size, written = {}, 0, written + 1
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config.save_pretrained(folder)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def random_weight(name: str, shape: torch.Size) -> torch.Tensor:
    """On the CPU, bf16. Norms as a fresh model has them, so that numbers stay finite through all layers."""
    if len(shape) == 1:  # Gemma's norms multiply by 1 + weight, SigLIP's by the weight
        return torch.full(
            shape, float("vision_tower" in name and "norm" in name and name.endswith("weight")), dtype=torch.bfloat16
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return (torch.randn(shape, dtype=torch.bfloat16, device=device) * 0.02).cpu()


def measured(function, *arguments) -> dict[str, float]:
    """Seconds and peak resident gigabytes of `function` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (function, arguments))


def _measure(function, arguments) -> dict[str, float]:
    start = time.perf_counter()
    function(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(time.perf_counter() - start, 1), "peak_gb": round(peak / 1e9, 2)}


def load(folder: Path) -> None:
    config = Gemma3Config.from_pretrained(folder)
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    four_bit.load(folder, config, dtype, {"": 0} if on_gpu else None)


def main(work_dir: Path) -> None:
    with tempfile.TemporaryDirectory(dir=work_dir) as work:
        bf16, folder = Path(work) / "bf16", Path(work) / "four_bit"
        folder.mkdir()
        print(f"bf16            {write_random_weights(bf16, MEDGEMMA_4B) / 1e9:.3f} GB", flush=True)
        print(
            "write           {seconds} s, peak {peak_gb} GB".format(**measured(four_bit.write, bf16, folder)),
            flush=True,
        )
        total = sum(file.stat().st_size for file in folder.iterdir())
        print(f"4-bit folder    {total / 1e9:.3f} GB without the processor (arithmetic: "
              f"{four_bit.size_of(MEDGEMMA_4B).total / 1e9:.3f})", flush=True)  # fmt: skip
        print("load            {seconds} s, peak {peak_gb} GB".format(**measured(load, folder)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, default=Path(tempfile.gettempdir()))
    main(parser.parse_args().work_dir)
