"""How fast the shipped model reads on this machine's CPU: one film from file to answer, and a batch.

    python -m tests.benchmarks.read_speed [--count 40] [--threads 2] [--gguf FOLDER]

`--gguf`: what training.export_gguf made, through llama.cpp. Prints medians and the resident memory of a process that
has loaded and used the model as the worker does."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import psutil
import torch

from engine.findings.answers import Task
from engine.imaging.display import display_pixels
from engine.imaging.load import load_film
from engine.imaging.preprocess import model_image
from engine.inference.checkpoint import load_reader
from engine.inference.gguf import GgufReader
from engine.inference.read import ReadContext
from engine.phantoms.write import make_phantoms

TASKS = {"hand": Task.BONE_AGE, "fundus": Task.ROP, "wrist": Task.FRACTURE}


def main(count: int, threads: int, gguf: Path | None) -> None:
    torch.set_num_threads(threads)
    start = time.perf_counter()
    reader = load_reader("phantom", None) if gguf is None else GgufReader(gguf)
    print(f"{reader.model_version}, {threads} threads; model loaded in {time.perf_counter() - start:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        for view, task in TASKS.items():
            made = make_phantoms(Path(folder) / view, view, count, 1)

            def image_of(file):
                return model_image(display_pixels(load_film(file.path)))

            def context_of(file):
                return ReadContext(file.sex, file.age_months)

            reader.read([image_of(made[0])], task, [context_of(made[0])])  # warm
            single = []
            for file in made:
                start = time.perf_counter()
                reader.read([image_of(file)], task, [context_of(file)])
                single.append(time.perf_counter() - start)
            batch = (made * (32 // len(made) + 1))[:32]
            start = time.perf_counter()
            reader.read([image_of(f) for f in batch], task, [context_of(f) for f in batch])
            rate = len(batch) / (time.perf_counter() - start)
            ordered = sorted(single)
            print(
                f"{task.value:9} one read, file to answer: median {statistics.median(single) * 1000:.0f} ms, "
                f"95 % {ordered[int(0.95 * (len(ordered) - 1))] * 1000:.0f} ms; batch of 32: {rate:.1f} images/s"
            )
    print(f"resident: {psutil.Process().memory_info().rss / 1e9:.2f} GB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gguf", type=Path)
    arguments = parser.parse_args()
    main(arguments.count, arguments.threads, arguments.gguf)
