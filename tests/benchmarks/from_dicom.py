"""From DICOM files on disk to answers: images a second, of a folder that the model in use reads in batches.

    python -m tests.benchmarks.from_dicom [--count 960]

Decoding and resizing go on in other processes and threads while the network reads, as for `pediscreen evaluate`. The
model is what PEDISCREEN_MODEL names, the phantom model by default. Prints one JSON document."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from engine.findings.answers import Task
from engine.imaging import load
from engine.imaging.preprocess import model_image_of, model_pixels
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
from engine.phantoms.write import make_phantoms
from engine.settings import settings

BATCH = 16
WARM_UP = 4 * BATCH  # not timed: processes start, and a GPU records its graphs


def main(count: int) -> dict:
    reader = load_reader(settings().model, settings().lora_adapter_path)
    with tempfile.TemporaryDirectory(prefix="pediscreen-dicom-") as scratch:
        made = make_phantoms(Path(scratch), "hand", 120, 4_200_000_000)
        paths = [file.path for file in made]
        megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
        queue = [paths[n % len(paths)] for n in range(count + WARM_UP)]

        def pixels_of(path: Path):
            return model_pixels([model_image_of(path)], reader.image_processor)

        started, done = time.perf_counter(), 0
        with ThreadPoolExecutor(2 * load.MAX_PROCESSES) as pool:
            ahead, parts = [pool.submit(pixels_of, path) for path in queue[: 4 * BATCH]], queue[4 * BATCH :]
            while ahead:
                now, ahead = ahead[:BATCH], ahead[BATCH:]
                ahead += [pool.submit(pixels_of, path) for path in parts[:BATCH]]
                parts = parts[BATCH:]
                batch = np.concatenate([future.result() for future in now])
                reader.read_pixels(batch, Task.BONE_AGE, [ReadContext("F")] * len(batch))
                done += len(batch)
                if done == WARM_UP:
                    started = time.perf_counter()
    seconds = time.perf_counter() - started
    return {
        "model": reader.model_version,
        "processors": os.cpu_count(),
        "decode_processes": load.MAX_PROCESSES,
        "megabytes_a_file": round(megabytes, 1),
        "images": count,
        "images_per_s": round(count / seconds, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=960)
    print(json.dumps(main(parser.parse_args().count), indent=2))
