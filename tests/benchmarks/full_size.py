"""Train, merge and read at MedGemma-4B's full size on one GPU: does every step run there, how fast, in what memory?

    python -m tests.benchmarks.full_size --tokenizer DIR --work_dir /tmp [--steps 60] [--tiny] [--json FILE]

DIR holds Gemma 3's tokenizer.json and tokenizer_config.json. The base has random weights: what it learns in so few
steps means nothing, but every step is the code that MedGemma goes through, and the certificate says how far 4 bits move
a trained model of this size. `--tiny` runs the same on a small model and a CPU."""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, Gemma3Config, Gemma3Processor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from engine.findings.answers import Task
from engine.inference.checkpoint import load_reader
from engine.phantoms.write import make_phantoms
from tests.benchmarks.deployable_folder import write_random_weights
from tests.engine.inference.test_four_bit import MEDGEMMA_4B
from training import parity, radiology_merge
from training.radiology_merge import save_processor

FILMS_A_TASK = 40


def shape(tiny: bool) -> Gemma3Config:
    config = copy.deepcopy(MEDGEMMA_4B)
    if tiny:
        text, vision = config.text_config, config.vision_config
        text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.head_dim = 128, 256, 2, 64
        text.layer_types = text.layer_types[:2]
        vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers, vision.num_attention_heads = (
            64,
            100,
            2,
            2,
        )
    return config


def write_base(folder: Path, tokenizer_dir: Path, config: Gemma3Config) -> None:
    """What a download of MedGemma puts on disk, with random weights."""
    write_random_weights(folder, config)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    images = Gemma3ImageProcessorPil(size={"height": 896, "width": 896}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    save_processor(
        Gemma3Processor(images, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=256), folder
    )


def timed(name: str, steps: dict[str, float], function, *arguments):
    start = time.perf_counter()
    found = function(*arguments)
    steps[name] = round(time.perf_counter() - start, 1)
    print(f"{name}: {steps[name]} s", flush=True)
    return found


def command(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", *map(str, arguments)], check=True)


def reads(folder: Path) -> dict[str, object]:
    """Milliseconds an image, eager, in batches of one and eight, and the GPU memory they take."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    reader = load_reader(str(folder), None, gated=False)
    found: dict[str, object] = {"load_seconds": round(time.perf_counter() - start, 1)}
    held = parity.held_out(None, "test", 8)
    for task in Task:
        for rows in (1, 8):
            images, contexts = held[task].images[:rows], held[task].contexts[:rows]
            reader.read(images, task, contexts)
            start = time.perf_counter()
            for _ in range(3):
                reader.read(images, task, contexts)
            found[f"{task.value}_batch_{rows}_ms_an_image"] = round((time.perf_counter() - start) / 3 / rows * 1000, 1)
    if torch.cuda.is_available():
        found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return found


def main(arguments: argparse.Namespace) -> None:
    work, steps = arguments.work_dir / "full_size", {}
    work.mkdir(parents=True)
    base, data, model, merged = work / "base", work / "films", work / "model", work / "merged"
    timed("base with random weights", steps, write_base, base, arguments.tokenizer, shape(arguments.tiny))
    films = 10 if arguments.tiny else FILMS_A_TASK
    for view in ("hand", "wrist", "fundus"):
        timed(f"{films} {view} films", steps, lambda v=view: make_phantoms(data, v, films, 61, format="pedirad-custom"))
    timed(
        "train", steps, command, "training.train_radiology", "--data_dir", data, "--output_dir", model, "--base_model",
        base, "--max_steps", arguments.steps, "--augmented_views", 1, "--epochs", 50, "--eval_every", arguments.steps,
        "--learning_rate", 2e-4, "--batch_size", 2 if arguments.tiny else 16, "--memory", arguments.memory,
    )  # fmt: skip
    radiology_merge.MERGED_BOUND = 0  # random weights are undecided between answers; the certificate says how much
    certificate = timed(
        "merge", steps, radiology_merge.main,
        radiology_merge.MergeConfig(
            model / "lora", merged, images_per_task=2 if arguments.tiny else 24, min_agreement=0, trained_on=data
        ),
    )  # fmt: skip
    read = timed("read", steps, reads, merged)
    log = [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]
    result = {
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", "seconds": steps, "read": read,
        "certificate": certificate, "metrics": log,
    }  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "metrics"}, indent=1))
    print(json.dumps(log[:2] + log[-2:], indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--work_dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--memory", default="small")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=Path)
    main(parser.parse_args())
